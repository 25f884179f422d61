//! An explicit JSON Schema.

use super::{escape, misfit, type_of};
use crate::error::{Error, ErrorKind, Result};
use jsonschema::error::{TypeKind, ValidationErrorKind};
use jsonschema::{ValidationError, Validator};
use serde_json::Value;

pub(super) struct Schema(Validator);

impl Schema {
    pub(super) fn compile(schema: &Value) -> Result<Self> {
        jsonschema::validator_for(schema).map(Schema).map_err(|fault| {
            let place = fault.instance_path().as_str().to_owned();
            Error::new(
                ErrorKind::CatalogueInvalid,
                format!("the topic's `schema` is not a JSON Schema: {fault}"),
            )
            .with_context("pointer", format_args!("\"{place}\""))
            .with_help("mend the `schema`; it must stand on its own, with every `$ref` inside it")
        })
    }

    pub(super) fn check(&self, payload: &Value) -> Result<()> {
        self.0.validate(payload).map_err(|fault| misfit("schema", &pointer(&fault), &describe(&fault)))
    }
}

impl std::fmt::Debug for Schema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Schema")
    }
}

/// Where the fault is; of a missing field, where the field would be.
fn pointer(fault: &ValidationError<'_>) -> String {
    let parent = fault.instance_path().as_str();
    match fault.kind() {
        ValidationErrorKind::Required { property: Value::String(name) } => {
            format!("{parent}/{}", escape(name))
        }
        _ => parent.to_owned(),
    }
}

/// The fault in words that hold the schema's values and none of the payload's.
fn describe(fault: &ValidationError<'_>) -> String {
    let found = type_of(fault.instance());
    match fault.kind() {
        ValidationErrorKind::Type { kind: TypeKind::Single(expected) } => {
            format!("expected the type `{expected}`, found {found}")
        }
        ValidationErrorKind::Type { kind: TypeKind::Multiple(expected) } => {
            let names: Vec<_> = expected.iter().map(|one| format!("`{one}`")).collect();
            format!("expected one of the types {}, found {found}", names.join(", "))
        }
        ValidationErrorKind::Required { .. } => "the schema requires it, found no such field".into(),
        ValidationErrorKind::FalseSchema => format!("the schema allows nothing here, found {found}"),
        ValidationErrorKind::Constant { expected_value } => {
            format!("expected {expected_value}, found another value ({found})")
        }
        ValidationErrorKind::Contains => "no element is as `contains` asks".into(),
        ValidationErrorKind::Not { .. } => format!("`not` forbids it, found {found}"),
        // The words of these three quote what was found even when it is masked.
        ValidationErrorKind::UnevaluatedItems { .. } => "it has more items than the schema allows".into(),
        ValidationErrorKind::PropertyNames { .. } => {
            "a field has a name that the schema does not allow".into()
        }
        ValidationErrorKind::FromUtf8 { .. } => "its encoded content is not UTF-8".into(),
        ValidationErrorKind::AdditionalProperties { .. }
        | ValidationErrorKind::UnevaluatedProperties { .. } => fault.to_string(),
        _ => format!("found {}", fault.masked_with(format!("{found} that"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn words(schema: &Value, payload: &Value) -> String {
        let error = Schema::compile(schema).unwrap().check(payload).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::MessageInvalid);
        assert!(!format!("{error} {error:?}").contains("ada@"), "the payload's value shows: {error}");
        error.message().trim_start_matches("the message does not fit its topic's schema").to_owned()
    }

    #[test]
    fn a_fault_says_where_what_is_expected_and_which_type_was_found() {
        let ada = json!("ada@example.com");
        for (schema, payload, expected) in [
            (json!({ "type": "string" }), json!(1), ": expected the type `string`, found a number"),
            (
                json!({ "type": ["string", "null"] }),
                json!(1),
                ": expected one of the types `null`, `string`, found a number",
            ),
            (
                json!({ "properties": { "a/b": { "required": ["c"] } } }),
                json!({ "a/b": {} }),
                " at `/a~1b/c`: the schema requires it, found no such field",
            ),
            (json!({ "maxLength": 3 }), ada.clone(), ": found a string that is longer than 3 characters"),
            (json!({ "pattern": "^x" }), ada.clone(), ": found a string that does not match \"^x\""),
            (json!({ "enum": ["x"] }), ada.clone(), ": found a string that is not one of \"x\""),
            (json!({ "const": "x" }), ada.clone(), ": expected \"x\", found another value (a string)"),
            (json!({ "not": {} }), ada.clone(), ": `not` forbids it, found a string"),
            (json!(false), ada.clone(), ": the schema allows nothing here, found a string"),
            (json!({ "minimum": 5 }), json!(3), ": found a number that is less than the minimum of 5"),
        ] {
            assert_eq!(words(&schema, &payload), expected);
        }
    }

    #[test]
    fn no_keyword_lets_the_payloads_values_out() {
        let ada = json!("ada@example.com");
        for (schema, payload) in [
            (json!({ "prefixItems": [true], "unevaluatedItems": false }), json!([1, ada])),
            (json!({ "prefixItems": [true], "items": false }), json!([1, ada])),
            (json!({ "items": { "not": { "type": "string" } } }), json!([ada])),
            (json!({ "anyOf": [{ "type": "number" }, { "type": "null" }] }), ada.clone()),
            (json!({ "oneOf": [{ "type": "number" }, { "type": "null" }] }), ada.clone()),
            (json!({ "oneOf": [{ "type": "string" }, { "maxLength": 100 }] }), ada.clone()),
            (json!({ "propertyNames": { "maxLength": 2 } }), json!({ "ada@example.com": 1 })),
            (json!({ "uniqueItems": true }), json!([ada, ada])),
            (json!({ "contains": { "type": "number" } }), json!([ada])),
            (json!({ "additionalProperties": false }), json!({ "extra": ada })),
            (json!({ "additionalProperties": { "type": "number" } }), json!({ "extra": ada })),
            (json!({ "unevaluatedProperties": false }), json!({ "extra": ada })),
            (json!({ "maxProperties": 0 }), json!({ "extra": ada })),
            (json!({ "dependentRequired": { "extra": ["b"] } }), json!({ "extra": ada })),
            (json!({ "if": { "type": "string" }, "then": { "maxLength": 1 } }), ada.clone()),
        ] {
            // `words` fails where one shows.
            assert!(!words(&schema, &payload).is_empty());
        }
    }

    #[test]
    fn what_is_not_a_schema_of_its_own_is_refused_when_it_is_read() {
        for (schema, fault, pointer) in [
            (json!({ "properties": { "a": { "type": "strin" } } }), "\"strin\"", "\"/properties/a/type\""),
            (json!({ "pattern": "(" }), "\"(\"", "\"/pattern\""),
            (json!({ "$ref": "#/nowhere" }), "/nowhere", "\"\""),
            (json!({ "$ref": "https://example.com/x.json" }), "example.com", "\"\""),
            (json!({ "$ref": "file:///etc/hosts" }), "/etc/hosts", "\"\""),
        ] {
            let error = Schema::compile(&schema).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::CatalogueInvalid);
            assert!(error.message().contains(fault), "{error}");
            assert_eq!(error.context("pointer"), Some(pointer));
        }
    }
}
