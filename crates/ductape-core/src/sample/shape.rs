//! The shape of a sample: its types without its values.

use super::{escape, misfit, type_of};
use crate::error::Result;
use serde_json::Value;
use std::fmt::Write as _;

/// What a value must be like.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Shape {
    Anything,
    Boolean,
    Number,
    String,
    /// Each element fits one of these; no shapes at all allow any element.
    Array(Vec<Shape>),
    /// Each field is there and fits; other fields are not looked at.
    Object(Vec<(String, Shape)>),
}

/// The first value that does not fit.
struct Misfit {
    pointer: String,
    expected: String,
    found: &'static str,
}

impl Shape {
    pub(super) fn of(sample: &Value) -> Self {
        match sample {
            Value::Null => Shape::Anything,
            Value::Bool(_) => Shape::Boolean,
            Value::Number(_) => Shape::Number,
            Value::String(_) => Shape::String,
            Value::Array(elements) => Shape::Array(distinct(elements.iter().map(Shape::of))),
            Value::Object(fields) => {
                Shape::Object(fields.iter().map(|(name, value)| (name.clone(), Shape::of(value))).collect())
            }
        }
    }

    pub(super) fn check(&self, payload: &Value) -> Result<()> {
        self.fit(payload, &mut String::new()).map_err(|found| {
            let fault = format!("expected {}, found {}", found.expected, found.found);
            misfit("sample", &found.pointer, &fault)
        })
    }

    /// `at` is the pointer to `value`, and is left as it was where the value fits.
    fn fit(&self, value: &Value, at: &mut String) -> Result<(), Misfit> {
        match (self, value) {
            (Shape::Anything, _)
            | (Shape::Boolean, Value::Bool(_))
            | (Shape::Number, Value::Number(_))
            | (Shape::String, Value::String(_)) => Ok(()),
            (Shape::Array(shapes), Value::Array(elements)) => fit_elements(shapes, elements, at),
            (Shape::Object(shapes), Value::Object(fields)) => {
                shapes.iter().try_for_each(|(name, shape)| fit_field(shape, name, fields.get(name), at))
            }
            _ => Err(self.not(type_of(value), at)),
        }
    }

    fn not(&self, found: &'static str, at: &str) -> Misfit {
        Misfit { pointer: at.to_owned(), expected: self.name().to_owned(), found }
    }

    const fn name(&self) -> &'static str {
        match self {
            Shape::Anything => "anything",
            Shape::Boolean => "a boolean",
            Shape::Number => "a number",
            Shape::String => "a string",
            Shape::Array(_) => "an array",
            Shape::Object(_) => "an object",
        }
    }
}

fn distinct(shapes: impl Iterator<Item = Shape>) -> Vec<Shape> {
    let mut kept = Vec::new();
    for shape in shapes {
        if !kept.contains(&shape) {
            kept.push(shape);
        }
    }
    kept
}

fn fit_field(shape: &Shape, name: &str, value: Option<&Value>, at: &mut String) -> Result<(), Misfit> {
    inside(at, &escape(name), |at| match (shape, value) {
        (_, Some(value)) => shape.fit(value, at),
        (Shape::Anything, None) => Ok(()),
        (_, None) => Err(shape.not("no such field", at)),
    })
}

fn fit_elements(shapes: &[Shape], elements: &[Value], at: &mut String) -> Result<(), Misfit> {
    elements
        .iter()
        .enumerate()
        .try_for_each(|(index, element)| inside(at, &index.to_string(), |at| fit_any(shapes, element, at)))
}

/// Where only one shape could have been meant, says what is wrong with it, and else which there are.
fn fit_any(shapes: &[Shape], element: &Value, at: &mut String) -> Result<(), Misfit> {
    let meant: Vec<&Shape> = shapes
        .iter()
        .filter(|shape| matches!(shape, Shape::Anything) || shape.name() == type_of(element))
        .collect();
    match (shapes, meant.as_slice()) {
        ([], _) => Ok(()),
        ([only], _) => only.fit(element, at),
        (_, [only]) => only.fit(element, at),
        _ if meant.iter().any(|shape| shape.fit(element, &mut at.clone()).is_ok()) => Ok(()),
        _ => Err(Misfit { pointer: at.clone(), expected: alternatives(shapes), found: type_of(element) }),
    }
}

fn alternatives(shapes: &[Shape]) -> String {
    let mut names: Vec<&str> = shapes.iter().map(Shape::name).collect();
    names.sort_unstable();
    names.dedup();
    match names.as_slice() {
        [one] => format!("{one} like one of the sample's"),
        several => several.join(" or "),
    }
}

/// Runs `check` with `step` at the end of the pointer.
fn inside(
    at: &mut String,
    step: &str,
    check: impl FnOnce(&mut String) -> Result<(), Misfit>,
) -> Result<(), Misfit> {
    let len = at.len();
    // Writing to a String cannot fail.
    let _ = write!(at, "/{step}");
    let result = check(at);
    at.truncate(len);
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn fits(sample: &Value, payload: &Value) {
        Shape::of(sample).check(payload).unwrap();
    }

    #[track_caller]
    fn refused(sample: &Value, payload: &Value, words: &str) {
        let error = Shape::of(sample).check(payload).unwrap_err();
        assert!(error.message().ends_with(words), "{error}");
    }

    #[test]
    fn the_seeds_order_fits_its_sample_and_a_broken_one_does_not() {
        let sample = json!({ "orderId": "12345", "customerId": "cust_789", "total": 99.99 });
        fits(&sample, &json!({ "orderId": "1", "customerId": "c", "total": 5 }));
        fits(&sample, &json!({ "orderId": "1", "customerId": "c", "total": 5, "status": "pending" }));
        refused(
            &sample,
            &json!({ "orderId": "1", "customerId": "c" }),
            " at `/total`: expected a number, found no such field",
        );
        refused(
            &sample,
            &json!({ "orderId": "1", "customerId": null, "total": 5 }),
            " at `/customerId`: expected a string, found null",
        );
        refused(&sample, &json!([]), "its topic's sample: expected an object, found an array");
    }

    #[test]
    fn null_in_a_sample_is_anything_or_nothing() {
        let sample = json!({ "note": null });
        for payload in
            [json!({}), json!({ "note": 1 }), json!({ "note": { "deep": [] } }), json!({ "note": null })]
        {
            fits(&sample, &payload);
        }
    }

    #[test]
    fn every_element_fits_one_of_the_samples() {
        fits(&json!([]), &json!([1, "two", null]));
        fits(&json!([1, 2]), &json!([]));
        fits(&json!([1, "two"]), &json!(["a", 1.5, "b"]));
        refused(&json!([1, 2]), &json!([1, "2"]), " at `/1`: expected a number, found a string");
        refused(
            &json!([1, "two"]),
            &json!([true]),
            " at `/0`: expected a number or a string, found a boolean",
        );
        fits(&json!([null, 1]), &json!([true, {}]));
    }

    #[test]
    fn the_only_shape_of_an_elements_type_says_what_is_wrong_inside() {
        let sample = json!([{ "sku": "a", "tags": ["x"] }, 1]);
        refused(
            &sample,
            &json!([1, { "sku": "b", "tags": ["y", 3] }]),
            " at `/1/tags/1`: expected a string, found a number",
        );
    }

    #[test]
    fn objects_of_several_shapes_are_alternatives() {
        let sample = json!([{ "card": "visa" }, { "iban": "DE" }]);
        fits(&sample, &json!([{ "iban": "FR" }, { "card": "amex" }]));
        refused(
            &sample,
            &json!([{ "cash": true }]),
            " at `/0`: expected an object like one of the sample's, found an object",
        );
    }

    #[test]
    fn values_never_show() {
        let sample = json!({ "email": 1, "list": [1] });
        for payload in
            [json!({ "email": "ada@example.com" }), json!({ "email": 1, "list": ["ada@example.com"] })]
        {
            let error = Shape::of(&sample).check(&payload).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("ada"), "{error}");
        }
    }
}
