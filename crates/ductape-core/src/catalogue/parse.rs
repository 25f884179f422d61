//! From text to a checked catalogue. A fault is told with its file, line and column, and the nearest known name.

use super::model::Catalogue;
use crate::error::{Error, ErrorKind, Result};
use crate::rewrite::{self, Document, Segment};
use crate::tag::nearest_help;
use serde_json::Value;
use std::path::Path;

/// How a catalogue is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// YAML 1.2.
    Yaml,
    /// JSON.
    Json,
    /// TOML 1.0.
    Toml,
}

impl Format {
    /// By the ending of a file's name; YAML where it says nothing.
    pub fn of(path: &Path) -> Self {
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("json") => Format::Json,
            Some("toml") => Format::Toml,
            _ => Format::Yaml,
        }
    }

    pub(super) fn inner(self) -> rewrite::Format {
        match self {
            Format::Yaml => rewrite::Format::Yaml,
            Format::Json => rewrite::Format::Json,
            Format::Toml => rewrite::Format::Toml,
        }
    }
}

impl Catalogue {
    /// Reads and checks a catalogue written in YAML.
    ///
    /// # Errors
    /// `CATALOGUE_INVALID` with line and column; those of [`Catalogue::check`].
    pub fn from_yaml(text: &str) -> Result<Self> {
        Self::parse(text, Format::Yaml)
    }

    /// Reads and checks a catalogue written in JSON.
    ///
    /// # Errors
    /// As [`Catalogue::from_yaml`].
    pub fn from_json(text: &str) -> Result<Self> {
        Self::parse(text, Format::Json)
    }

    /// Reads and checks a catalogue written in TOML.
    ///
    /// # Errors
    /// As [`Catalogue::from_yaml`].
    pub fn from_toml(text: &str) -> Result<Self> {
        Self::parse(text, Format::Toml)
    }

    /// Reads and checks a catalogue.
    ///
    /// # Errors
    /// As [`Catalogue::from_yaml`].
    pub fn parse(text: &str, format: Format) -> Result<Self> {
        read(text, format).map(|(catalogue, _)| catalogue)
    }
}

/// The catalogue, and the document that it was read from.
pub(super) fn read(text: &str, format: Format) -> Result<(Catalogue, Value)> {
    let document = rewrite::read(text, format.inner()).map_err(|fault| {
        at(Error::new(ErrorKind::CatalogueInvalid, fault.message), (fault.line, fault.column))
    })?;
    if document.value().is_null() {
        return Err(Error::new(ErrorKind::CatalogueInvalid, "the catalogue is empty")
            .with_help("begin with `product: …`, or let `ductape init` write one"));
    }
    let catalogue = deserialize(document.value(), Some(&document))?;
    catalogue.check()?;
    Ok((catalogue, document.value().clone()))
}

/// The catalogue of a document whose text is not at hand.
pub(super) fn typed(value: &Value) -> Result<Catalogue> {
    let catalogue = deserialize(value, None)?;
    catalogue.check()?;
    Ok(catalogue)
}

fn deserialize(value: &Value, document: Option<&Document>) -> Result<Catalogue> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let mut path = segments(error.path());
        let words = error.into_inner().to_string();
        let words = deepen(&mut path, &words);
        let error = Error::new(ErrorKind::CatalogueInvalid, format!("{}{}", place(&path), unquoted(words)));
        let error = match unknown_name(words) {
            Some((name, known)) => {
                let help = nearest_help("names known here", &name, known.iter().map(String::as_str));
                error.with_help(help)
            }
            None => error,
        };
        match document {
            Some(document) => at(error, document.locate(&path)),
            None => error,
        }
    })
}

fn at(error: Error, (line, column): (usize, usize)) -> Error {
    error.with_context("line", line).with_context("column", column)
}

fn segments(path: &serde_path_to_error::Path) -> Vec<Segment> {
    use serde_path_to_error::Segment as S;
    path.iter()
        .filter_map(|segment| match segment {
            S::Seq { index } => Some(Segment::Index(*index)),
            S::Map { key } => Some(Segment::Key(key.clone())),
            _ => None,
        })
        .collect()
}

/// A provider's config is read apart from the rest, and says in front of its words where in it the fault is.
fn deepen<'w>(path: &mut Vec<Segment>, words: &'w str) -> &'w str {
    let Some((inside, rest)) = words.split_once(": ").filter(|(inside, _)| inside.starts_with("config"))
    else {
        return words;
    };
    for part in inside.split('.') {
        let (name, indices) = part.split_once('[').map_or((part, None), |(name, rest)| (name, Some(rest)));
        path.push(Segment::Key(name.to_owned()));
        let indices = indices.into_iter().flat_map(|rest| rest.split('['));
        path.extend(indices.filter_map(|index| index.trim_end_matches(']').parse().ok().map(Segment::Index)));
    }
    rest
}

/// serde's words without the value that is of the wrong type, which may be a secret at any place.
fn unquoted(words: &str) -> String {
    let wrong = ["invalid type: ", "invalid value: "].into_iter().find(|wrong| words.starts_with(wrong));
    let parts = wrong.and_then(|wrong| Some((wrong, words[wrong.len()..].rsplit_once(", expected ")?)));
    match parts {
        Some((wrong, (value, expected))) => {
            let kind = value.split(['`', '"']).next().unwrap_or_default().trim();
            format!("{wrong}{kind}, expected {expected}")
        }
        None => words.to_owned(),
    }
}

fn place(path: &[Segment]) -> String {
    let mut place = String::new();
    for segment in path {
        match segment {
            Segment::Key(key) if place.is_empty() => place.push_str(key),
            Segment::Key(key) => {
                place.push('.');
                place.push_str(key);
            }
            Segment::Index(index) => place.push_str(&format!("[{index}]")),
        }
    }
    if place.is_empty() { place } else { format!("`{place}`: ") }
}

/// The name that serde did not know, and those that it expected.
fn unknown_name(words: &str) -> Option<(String, Vec<String>)> {
    let rest = words.strip_prefix("unknown field `").or_else(|| words.strip_prefix("unknown variant `"))?;
    let (name, expected) = rest.split_once('`')?;
    let known = expected.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    Some((name.to_owned(), known))
}
