//! Who we are: a key file, what the environment says, or nobody towards an emulator.

use crate::error;
use ductape_core::config::PubSubConfig;
use ductape_core::{Error, ErrorKind, Result};
use google_cloud_auth::build_errors;
use google_cloud_auth::credentials::{
    self, Credentials, anonymous, external_account, impersonated, service_account, user_account,
};
use serde_json::Value;
use std::path::Path;

/// What we connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    /// With its scheme.
    pub(crate) url: String,
}

/// The cloud.
const CLOUD: &str = "https://pubsub.googleapis.com";
/// The variable by which Google's tools name an emulator.
pub(crate) const EMULATOR: &str = "PUBSUB_EMULATOR_HOST";

impl Address {
    /// What the config names, else what the environment does, else the cloud.
    pub(crate) fn of(config: &PubSubConfig, emulator: Option<String>) -> Self {
        let named = config.endpoint.clone().or(emulator).filter(|named| !named.is_empty());
        let Some(named) = named else { return Address { url: CLOUD.into() } };
        if named.contains("://") {
            return Address { url: named.trim_end_matches('/').to_owned() };
        }
        // Emulators have a port of their own, and no TLS.
        let port = named.rsplit_once(':').map(|(_, port)| port);
        let scheme = if port.is_none_or(|port| port == "443") { "https" } else { "http" };
        Address { url: format!("{scheme}://{named}") }
    }

    /// Whether what is said there can be read on the way: no token is ever sent to it.
    pub(crate) fn is_plain(&self) -> bool {
        self.url.starts_with("http://")
    }
}

/// The credentials that the config asks for.
///
/// # Errors
/// `SECRET_MISSING` where the key file is not there, `CONFIG_INVALID` where it is no key, `AUTHENTICATION_FAILED` where the environment
/// names credentials that cannot be had.
pub(crate) fn open(config: &PubSubConfig, address: &Address, base_dir: &Path) -> Result<Credentials> {
    match &config.key_filename {
        Some(file) => {
            let path = base_dir.join(file);
            let credentials = from_file(&path).map_err(|error| error.with_context("file", path.display()))?;
            Ok(if address.is_plain() { nobody() } else { credentials })
        }
        None if address.is_plain() => Ok(nobody()),
        None => {
            credentials::Builder::default().build().map_err(|error| error::no_credentials(&error.to_string()))
        }
    }
}

fn nobody() -> Credentials {
    anonymous::Builder::new().build()
}

fn from_file(path: &Path) -> Result<Credentials> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Error::new(ErrorKind::SecretMissing, "the key file of `keyFilename` cannot be read")
            .with_help(
                "name the JSON key of a service account; relative paths begin at the catalogue's folder",
            )
            .with_source(error)
    })?;
    // The parser's words may quote the key.
    let key: Value = serde_json::from_str(&text).map_err(|error| {
        malformed(&format!("is no JSON: {:?} in line {}", error.classify(), error.line()))
    })?;
    let kind = key.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
    let built = match &*kind {
        "service_account" => {
            check_service_account(&key)?;
            service_account::Builder::new(key).build()
        }
        "authorized_user" => user_account::Builder::new(key).build(),
        "external_account" => external_account::Builder::new(key).build(),
        "impersonated_service_account" => impersonated::Builder::new(key).build(),
        "" => return Err(malformed("says no `type`")),
        // What stands there may be anything.
        _ => return Err(malformed("is of a `type` that is not known")),
    };
    built.map_err(|error| malformed(unfit(&error)))
}

/// What a service account's key must hold, checked by name since the library's errors may quote it.
fn check_service_account(key: &Value) -> Result<()> {
    for field in ["client_email", "private_key", "private_key_id", "project_id"] {
        let value = key.get(field).and_then(Value::as_str).unwrap_or_default();
        if value.is_empty() {
            return Err(malformed(&format!("has no `{field}`")));
        }
        if field == "private_key" && !value.contains("-----BEGIN") {
            return Err(malformed("has a `private_key` that is no PEM"));
        }
    }
    Ok(())
}

/// What does not fit, without the library's words.
fn unfit(error: &build_errors::Error) -> &'static str {
    if error.is_missing_field() {
        "lacks a field"
    } else if error.is_parsing() {
        "has a field that does not read"
    } else {
        "cannot be used"
    }
}

fn malformed(what: &str) -> Error {
    Error::new(ErrorKind::ConfigInvalid, format!("the key file of `keyFilename` {what}")).with_help(
        "make a new key: `gcloud iam service-accounts keys create key.json --iam-account NAME@PROJECT.iam.gserviceaccount.com`",
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

    use super::*;

    fn address(endpoint: Option<&str>, emulator: Option<&str>) -> String {
        let config = PubSubConfig { endpoint: endpoint.map(Into::into), ..PubSubConfig::default() };
        Address::of(&config, emulator.map(Into::into)).url
    }

    #[test]
    fn the_config_is_asked_before_the_environment_and_that_before_the_cloud() {
        assert_eq!(address(None, None), CLOUD);
        assert_eq!(address(None, Some("")), CLOUD);
        assert_eq!(address(None, Some("localhost:8085")), "http://localhost:8085");
        assert_eq!(address(Some("h:1"), Some("localhost:8085")), "http://h:1");
    }

    #[test]
    fn an_endpoint_of_the_cloud_speaks_tls() {
        let regional = "us-east1-pubsub.googleapis.com";
        assert_eq!(address(Some(&format!("{regional}:443")), None), format!("https://{regional}:443"));
        assert_eq!(address(Some(regional), None), format!("https://{regional}"));
        assert_eq!(address(Some("http://h:1/"), None), "http://h:1");
    }

    fn fault(text: Option<&str>) -> Error {
        let folder = tempfile::tempdir().unwrap();
        if let Some(text) = text {
            std::fs::write(folder.path().join("key.json"), text).unwrap();
        }
        let config = PubSubConfig { key_filename: Some("key.json".into()), ..PubSubConfig::default() };
        let address = Address::of(&config, None);
        open(&config, &address, folder.path()).unwrap_err()
    }

    #[test]
    fn a_missing_key_file_is_a_missing_secret_with_its_path() {
        let error = fault(None);
        assert_eq!(error.kind(), ErrorKind::SecretMissing);
        assert!(error.context("file").unwrap().ends_with("key.json") && error.help().is_some());
    }

    #[test]
    fn a_malformed_key_file_is_refused_without_its_words() {
        let account = |key: &str| {
            format!(
                r#"{{"type":"service_account","client_email":"a@b","private_key_id":"1","project_id":"p","private_key":"{key}"}}"#
            )
        };
        for (text, wanted) in [
            ("{\"s3cret".to_owned(), "JSON"),
            ("{}".to_owned(), "type"),
            (r#"{"type":"s3cret"}"#.to_owned(), "not known"),
            (r#"{"type":"service_account","private_key":"s3cret"}"#.to_owned(), "client_email"),
            (account("s3cret"), "PEM"),
            (r#"{"type":"authorized_user","client_secret":"s3cret"}"#.to_owned(), "field"),
        ] {
            let error = fault(Some(&text));
            assert_eq!(error.kind(), ErrorKind::ConfigInvalid, "{error}");
            assert!(error.message().contains(wanted), "{error}");
            assert!(!format!("{error} {error:?}").contains("s3cret"), "{error}");
        }
    }
}
