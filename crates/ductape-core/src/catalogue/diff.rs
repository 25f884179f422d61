//! What differs between two catalogues, fit to be shown: secrets are `***`.

use crate::secret::is_secret_field;
use serde::Serialize;
use serde_json::Value;
use std::fmt;

/// What would change, or has changed.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Diff {
    /// Each difference, in the order of the new catalogue; what is gone comes last.
    pub changes: Vec<Change>,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// Where: tags and field names with dots between.
    pub path: String,
    /// What was there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// What is there now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
}

impl Diff {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    pub(super) fn between(before: &Value, after: &Value) -> Self {
        let mut diff = Diff::default();
        diff.compare(String::new(), before, after);
        diff
    }

    fn compare(&mut self, path: String, before: &Value, after: &Value) {
        match (before, after) {
            (before, after) if before == after => {}
            (Value::Object(old), Value::Object(new)) => {
                for (name, value) in new {
                    self.entry(join(&path, name), old.get(name), Some(value));
                }
                for (name, value) in old.iter().filter(|(name, _)| !new.contains_key(*name)) {
                    self.entry(join(&path, name), Some(value), None);
                }
            }
            (Value::Array(old), Value::Array(new)) if !old.is_empty() && old.iter().chain(new).all(named) => {
                let find =
                    |items: &[Value], name: &str| items.iter().find(|i| name_of(i) == Some(name)).cloned();
                for (name, value) in new.iter().filter_map(|value| Some((name_of(value)?, value))) {
                    self.entry(join(&path, name), find(old, name).as_ref(), Some(value));
                }
                let gone = old.iter().filter_map(|value| Some((name_of(value)?, value)));
                for (name, value) in gone.filter(|(name, _)| find(new, name).is_none()) {
                    self.entry(join(&path, name), Some(value), None);
                }
            }
            _ => self.entry_changed(path, Some(before), Some(after)),
        }
    }

    fn entry(&mut self, path: String, before: Option<&Value>, after: Option<&Value>) {
        match (before, after) {
            (Some(before), Some(after)) => self.compare(path, before, after),
            _ => self.entry_changed(path, before, after),
        }
    }

    fn entry_changed(&mut self, path: String, before: Option<&Value>, after: Option<&Value>) {
        let field = path.rsplit('.').next().unwrap_or_default();
        let shown = |value: &Value| redacted(field, value);
        self.changes.push(Change { before: before.map(shown), after: after.map(shown), path });
    }
}

/// What entries of a list are known by.
fn name_of(value: &Value) -> Option<&str> {
    ["tag", "slug", "env_slug"].iter().find_map(|field| value.get(field)?.as_str())
}

fn named(value: &Value) -> bool {
    name_of(value).is_some()
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// A value with every secret in it hidden.
fn redacted(field: &str, value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| (name.clone(), redacted(name, value))).collect()
        }
        Value::Array(items) => items.iter().map(|item| redacted(field, item)).collect(),
        Value::String(_) if is_secret_field(field) => Value::String("***".into()),
        other => other.clone(),
    }
}

impl fmt::Display for Diff {
    /// A line a change: `+` added, `-` gone, `~` changed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for change in &self.changes {
            match (&change.before, &change.after) {
                (Some(before), Some(after)) => writeln!(f, "~ {}: {before} -> {after}", change.path)?,
                (None, Some(after)) => writeln!(f, "+ {}: {after}", change.path)?,
                (before, None) => {
                    writeln!(f, "- {}: {}", change.path, before.as_ref().unwrap_or(&Value::Null))?;
                }
            }
        }
        Ok(())
    }
}
