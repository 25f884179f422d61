//! Interim.
#![allow(missing_docs, unused)]
use serde_json::Value;
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Yaml,
    Json,
    Toml,
}
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) message: String,
    pub(crate) line: usize,
    pub(crate) column: usize,
}
#[derive(Debug)]
pub(crate) struct Document {
    value: Value,
}
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Segment {
    Key(String),
    Index(usize),
}
impl Document {
    pub(crate) fn value(&self) -> &Value {
        &self.value
    }
    pub(crate) fn locate(&self, path: &[Segment]) -> (usize, usize) {
        (1, 1)
    }
}
pub(crate) fn read(text: &str, format: Format) -> Result<Document, Fault> {
    let fault = |m: String| Fault { message: m, line: 1, column: 1 };
    let value = match format {
        Format::Yaml | Format::Json => serde_saphyr::from_str(text).map_err(|e| fault(e.to_string()))?,
        Format::Toml => toml_edit::de::from_str(text).map_err(|e| fault(e.to_string()))?,
    };
    Ok(Document { value })
}
pub(crate) fn rewrite(text: &str, format: Format, target: &Value) -> Result<String, Fault> {
    Ok(serde_json::to_string_pretty(target).unwrap_or_default())
}
