//! What stands in for JSON Schemas in a build without the feature `schema`: there are none.

use crate::error::{Error, ErrorKind, Result};
use serde_json::Value;

/// Nothing is one.
#[derive(Debug)]
pub(super) enum Schema {}

impl Schema {
    pub(super) fn compile(_: &Value) -> Result<Self> {
        Err(Error::new(ErrorKind::Unsupported, "this build cannot check a topic's `schema`")
            .with_help("add the feature `schema` to `ductape` in Cargo.toml, or go by the topic's `sample`"))
    }

    pub(super) fn check(&self, _: &Value) -> Result<()> {
        match *self {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_is_refused_with_the_features_name() {
        let error = Schema::compile(&serde_json::json!({ "type": "string" })).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("the feature `schema`"), "{error}");
    }
}
