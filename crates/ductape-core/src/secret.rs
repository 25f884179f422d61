//! Secrets, and the references by which a catalogue names them without holding them.
//!
//! `${NAME}` is a variable of the environment, `${NAME:-default}` likewise with something in its stead,
//! `${file:PATH}` the contents of a file. They may stand in every text of a provider's config and of a session, alone
//! or within other text, and are read when a connection opens. What they stand for is never stored.

use crate::error::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

/// The largest file that `${file:PATH}` reads, in bytes.
pub const MAX_SECRET_FILE_BYTES: u64 = 64 * 1024;

/// A text that is never shown: `Debug` writes `***`. In a catalogue it is a reference or, where one must, the
/// secret itself; it is written back as it was read.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// A secret, or a reference to one.
    pub fn new(text: impl Into<String>) -> Self {
        Secret(text.into())
    }

    /// The text itself. For whoever hands it to a client library, and nobody else.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What its references stand for, `place` being where it is used, such as `sessions.user-session.secret`.
    ///
    /// # Errors
    /// `SECRET_MISSING` naming the variable or file and the place, never a value.
    pub fn resolve(&self, base_dir: &Path, place: &str) -> Result<Secret> {
        resolve(&self.0, base_dir, place).map(Secret)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Secret::new(text)
    }
}

/// Whether a field of this name holds a secret, wherever it stands: one of a config, or of a client library's own
/// settings such as Kafka's `ssl.key.pem`.
pub fn is_secret_field(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name == "url" || ["password", "secret", "token", "key.pem"].iter().any(|part| name.contains(part))
}

/// Replaces every reference in a text.
///
/// # Errors
/// `SECRET_MISSING`, `CONFIG_INVALID` for a reference that is not written as one; both with `place`.
pub fn resolve(text: &str, base_dir: &Path, place: &str) -> Result<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        out.push_str(&rest[..start]);
        let inner = &rest[start + 2..];
        let end = inner.find('}').ok_or_else(|| {
            Error::new(
                ErrorKind::ConfigInvalid,
                format!("`{place}` opens a reference with `${{` and does not close it"),
            )
            .with_help("write `${NAME}`, `${NAME:-default}` or `${file:PATH}`")
        })?;
        out.push_str(&look_up(&inner[..end], base_dir, place)?);
        rest = &inner[end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

fn look_up(reference: &str, base_dir: &Path, place: &str) -> Result<String> {
    if let Some(path) = reference.strip_prefix("file:") {
        return read_file(path, base_dir, place);
    }
    let (name, default) = match reference.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (reference, None),
    };
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || !name.chars().all(legal) {
        return Err(Error::new(
            ErrorKind::ConfigInvalid,
            format!("`{place}` refers to what is not the name of a variable"),
        )
        .with_help("write `${NAME}`, `${NAME:-default}` or `${file:PATH}`"));
    }
    // An empty variable counts as missing: a deployment that forgot its value sets it so.
    match (std::env::var(name).ok().filter(|value| !value.is_empty()), default) {
        (Some(value), _) => Ok(value),
        (None, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(missing(format!("the variable {name} is not set, and `{place}` needs it"))
            .with_help(format!("set {name}, or give a default with `${{{name}:-…}}`"))),
    }
}

/// Absolute paths are the operator's own business (`/run/secrets/…`); a relative one stays below the catalogue.
fn read_file(path: &str, base_dir: &Path, place: &str) -> Result<String> {
    let path = PathBuf::from(path);
    if path.is_relative() && path.components().any(|part| part == Component::ParentDir) {
        return Err(Error::new(
            ErrorKind::ConfigInvalid,
            format!("`{place}` leads out of the catalogue's folder"),
        )
        .with_help("name an absolute path, or one below the folder of the catalogue"));
    }
    let full = base_dir.join(&path);
    // Counted while it is read: a device has no size, and no end.
    let read = || -> std::io::Result<String> {
        let mut text = String::new();
        std::fs::File::open(&full)?.take(MAX_SECRET_FILE_BYTES + 1).read_to_string(&mut text)?;
        match text.len() as u64 > MAX_SECRET_FILE_BYTES {
            true => Err(std::io::Error::other(format!("it has more than {MAX_SECRET_FILE_BYTES} bytes"))),
            false => Ok(text),
        }
    };
    let mut text = read().map_err(|error| {
        missing(format!("the file {} cannot be read, and `{place}` needs it", full.display()))
            .with_source(error)
            .with_help("see that the file is there and may be read")
    })?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}

fn missing(message: String) -> Error {
    Error::new(ErrorKind::SecretMissing, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(text: &str) -> Result<String> {
        resolve(text, Path::new("/nowhere"), "config.password")
    }

    #[test]
    fn references_are_read_from_the_environment_with_defaults() {
        let path = std::env::var("PATH").unwrap();
        assert_eq!(resolved("a${PATH}b").unwrap(), format!("a{path}b"));
        assert_eq!(resolved("${DUCTAPE_NOT_SET:-x}-${DUCTAPE_NOT_SET:-}").unwrap(), "x-");
        assert_eq!(resolved("no reference").unwrap(), "no reference");
    }

    #[test]
    fn what_is_missing_is_named_with_its_place() {
        let error = resolved("${DUCTAPE_NOT_SET}").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::SecretMissing);
        assert_eq!(
            error.message(),
            "the variable DUCTAPE_NOT_SET is not set, and `config.password` needs it"
        );
        assert_eq!(resolved("${file:none}").unwrap_err().kind(), ErrorKind::SecretMissing);
    }

    #[test]
    fn what_is_not_a_reference_is_refused() {
        for text in ["${", "${}", "${A B}", "${file:../../etc/passwd}", "${file:a/../../b}"] {
            assert_eq!(resolved(text).unwrap_err().kind(), ErrorKind::ConfigInvalid, "{text}");
        }
    }

    #[test]
    fn a_file_is_read_without_its_last_line_break() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("key"), "line\nsecret\r\n").unwrap();
        assert_eq!(resolve("${file:key}", dir.path(), "x").unwrap(), "line\nsecret");
    }

    #[test]
    fn a_file_without_an_end_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let full = "x".repeat(MAX_SECRET_FILE_BYTES as usize);
        std::fs::write(dir.path().join("full"), &full).unwrap();
        assert_eq!(resolve("${file:full}", dir.path(), "x").unwrap(), full);
        std::fs::write(dir.path().join("over"), full + "x").unwrap();
        let mut endless = vec!["${file:over}"];
        if cfg!(unix) {
            endless.push("${file:/dev/zero}");
        }
        for text in endless {
            let error = resolve(text, dir.path(), "x").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::SecretMissing);
            assert!(error.to_string().contains("more than 65536 bytes"), "{error}");
        }
    }

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "***");
    }
}
