//! `validation: strict`: whether a payload fits its topic's sample, or an explicit JSON Schema.
//!
//! Of a sample only the types count, never the values:
//!
//! | in the sample | in the message |
//! |---|---|
//! | an object | an object with every field of the sample; **further fields are allowed**, so that a publisher may add one before its subscribers know it |
//! | an array | an array whose every element fits one of the sample's; an empty one is any array |
//! | a string, a boolean | another of its type |
//! | a number | any number, whole or not |
//! | `null` | anything, and as a field's value: the field may be missing |
//!
//! Who wants more (no further fields, ranges, patterns) writes a `schema`. Its draft is the one that `$schema`
//! names, 2020-12 by default; `format` asserts nothing in that draft, and a `$ref` never reaches the network or a
//! file.

#[cfg(feature = "schema")]
mod schema;
#[cfg(not(feature = "schema"))]
#[path = "sample/no_schema.rs"]
mod schema;
mod shape;

use crate::error::{Error, ErrorKind, Result};
use schema::Schema;
use serde_json::Value;
use shape::Shape;

/// What the payloads of one topic must be like. Compiled once, and checked at every publish.
///
/// ```
/// use ductape_core::sample::PayloadRule;
/// use serde_json::json;
///
/// let rule = PayloadRule::from_sample(&json!({ "orderId": "12345", "total": 99.99 }));
/// assert!(rule.check(&json!({ "orderId": "7", "total": 10, "status": "new" })).is_ok());
///
/// let refused = rule.check(&json!({ "orderId": 7, "total": 10 })).unwrap_err();
/// assert_eq!(
///     refused.message(),
///     "the message does not fit its topic's sample at `/orderId`: expected a string, found a number"
/// );
/// ```
#[derive(Debug)]
pub struct PayloadRule(Rule);

#[derive(Debug)]
enum Rule {
    Sample(Shape),
    Schema(Schema),
}

impl PayloadRule {
    /// The rule that a sample makes.
    pub fn from_sample(sample: &Value) -> Self {
        PayloadRule(Rule::Sample(Shape::of(sample)))
    }

    /// The rule that a JSON Schema is. Needs the feature `schema`, which is among the default ones.
    ///
    /// # Errors
    /// [`ErrorKind::CatalogueInvalid`] where it is not a JSON Schema, or refers to one outside of itself;
    /// [`ErrorKind::Unsupported`] in a build without the feature `schema`.
    pub fn from_schema(schema: &Value) -> Result<Self> {
        Schema::compile(schema).map(|schema| PayloadRule(Rule::Schema(schema)))
    }

    /// Checks a payload that is already decoded.
    ///
    /// # Errors
    /// [`ErrorKind::MessageInvalid`] with the JSON Pointer (RFC 6901) of the first misfit as context `pointer`, what
    /// was expected there, and the type of what was found. Never the value found.
    pub fn check(&self, payload: &Value) -> Result<()> {
        match &self.0 {
            Rule::Sample(shape) => shape.check(payload),
            Rule::Schema(schema) => schema.check(payload),
        }
    }

    /// Checks a payload as it is published.
    ///
    /// # Errors
    /// As [`PayloadRule::check`]; a payload that is not JSON fits no rule.
    pub fn check_bytes(&self, payload: &[u8]) -> Result<()> {
        let value = serde_json::from_slice(payload).map_err(|fault| {
            // serde's own words may quote the payload; where it stopped cannot.
            let place = format!("line {}, column {}", fault.line(), fault.column());
            Error::new(
                ErrorKind::MessageInvalid,
                format!("the message is not JSON: it breaks off at {place}"),
            )
            .with_help("publish JSON, or take `validation: strict` from the topic")
        })?;
        self.check(&value)
    }
}

/// The refusal of a payload. `what` is the "sample" or the "schema"; an empty pointer is the whole payload.
fn misfit(what: &str, pointer: &str, fault: &str) -> Error {
    let place = if pointer.is_empty() { String::new() } else { format!(" at `{pointer}`") };
    Error::new(
        ErrorKind::MessageInvalid,
        format!("the message does not fit its topic's {what}{place}: {fault}"),
    )
    .with_context("pointer", format_args!("\"{pointer}\""))
    .with_help(format!("mend the message, or the topic's `{what}` in the catalogue"))
}

/// A field's name as a step of a JSON Pointer (RFC 6901 §3).
fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// A value's type with its article.
const fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn bytes_that_are_not_json_are_refused_without_being_shown() {
        let rule = PayloadRule::from_sample(&json!(null));
        let error = rule.check_bytes(b"{\"name\": secret}").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::MessageInvalid);
        assert!(error.message().contains("line 1, column 10"), "{error}");
        assert!(!error.to_string().contains("secret"));
        assert!(rule.check_bytes(b"[1, 2]").is_ok());
    }

    #[test]
    fn a_misfit_says_where_in_words_and_as_context() {
        let rule = PayloadRule::from_sample(&json!({ "a/b": [{ "c": true }] }));
        let error = rule.check_bytes(br#"{ "a/b": [{ "c": true }, { "c": "yes" }] }"#).unwrap_err();
        assert_eq!(error.context("pointer"), Some("\"/a~1b/1/c\""));
        assert!(error.message().ends_with("at `/a~1b/1/c`: expected a boolean, found a string"), "{error}");
    }
}
