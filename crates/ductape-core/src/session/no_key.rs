//! What stands in for the keys of sessions in a build without the feature `sessions`: there are none.

use super::{SessionAlgorithm, SessionSpec};
use crate::error::{Error, ErrorKind, Result};

/// Nothing is one.
pub(super) enum SessionKey {}

impl SessionKey {
    pub(super) fn read(_: &SessionSpec) -> Result<Self> {
        Err(Error::new(ErrorKind::Unsupported, "this build cannot verify the tokens of sessions")
            .with_help("add the feature `sessions` to `ductape` in Cargo.toml"))
    }

    pub(super) fn check_signature(&self, _: SessionAlgorithm, _: &[u8], _: Vec<u8>) -> Result<()> {
        match *self {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::{SessionAlgorithm, SessionSpec, SessionVerifier};
    use crate::error::ErrorKind;
    use crate::tag::Tag;

    #[test]
    fn a_session_is_refused_with_the_features_name() {
        let spec = SessionSpec::new(Tag::new("user-session").unwrap(), SessionAlgorithm::Hs256, "a secret");
        let error = SessionVerifier::new(spec).unwrap_err();
        assert_eq!((error.kind(), error.context("session")), (ErrorKind::Unsupported, Some("user-session")));
        assert!(error.to_string().contains("the feature `sessions`"), "{error}");
    }
}
