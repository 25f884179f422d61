//! What may be shown of a catalogue's entries: everything but secrets.

use ductape::secret::is_secret_field;
use serde_json::Value;

/// A value with every secret in it hidden. References such as `${KAFKA_PASSWORD}` stay, since they name a secret
/// and hold none.
pub(crate) fn redacted(value: Value) -> Value {
    hide("", value)
}

fn hide(field: &str, value: Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .into_iter()
            .map(|(name, value)| {
                let shown = hide(&name, value);
                (name, shown)
            })
            .collect(),
        // The URL of an SQS queue is an address, and says nothing that lets one in.
        Value::Array(items) if field == "queueUrl" => Value::Array(items),
        Value::Array(items) => items.into_iter().map(|item| hide(field, item)).collect(),
        Value::String(text) if is_secret_field(field) => Value::String(reference(&text)),
        Value::Number(_) if is_secret_field(field) => Value::String("***".into()),
        other => other,
    }
}

/// A reference without its default; of anything else nothing.
fn reference(text: &str) -> String {
    let inner = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
    match inner.filter(|inner| !inner.contains(['{', '}'])) {
        Some(inner) => match inner.split_once(":-") {
            Some((name, _)) => format!("${{{name}:-***}}"),
            None => text.to_owned(),
        },
        None => "***".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn secrets_are_hidden_and_references_are_not() {
        let shown = redacted(json!({
            "host": "h", "password": "hunter2", "sasl": { "password": "${PW}" }, "secret": "${A:-hunter2}",
            "url": "amqp://u:hunter2@h", "secretAccessKey": "x${A}", "list": [{ "token": 12345 }],
        }));
        assert_eq!(
            shown,
            json!({
                "host": "h", "password": "***", "sasl": { "password": "${PW}" }, "secret": "${A:-***}",
                "url": "***", "secretAccessKey": "***", "list": [{ "token": "***" }],
            })
        );
    }
}
