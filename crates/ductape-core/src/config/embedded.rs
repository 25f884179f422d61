//! The configs of the providers that need no server.

use super::{Fault, duration};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// `type: MEMORY`. Every field has a default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct MemoryConfig {
    /// Connections with the same name in one process share their messages. Default `default`.
    pub name: String,
    /// The most messages that a destination holds until all its groups have settled them; past it publish
    /// waits. Default 1,048,576.
    pub max_messages: usize,
    /// The most bytes likewise. Default 256 MiB.
    pub max_bytes: usize,
    /// How many settled messages a destination keeps for `start: earliest`. Default 0.
    pub retain_messages: usize,
}

impl Default for MemoryConfig {
    fn default() -> Self {
        MemoryConfig {
            name: "default".into(),
            max_messages: 1 << 20,
            max_bytes: 256 << 20,
            retain_messages: 0,
        }
    }
}

impl MemoryConfig {
    pub(super) fn check(&self) -> Result<(), Fault> {
        match (self.max_messages, self.max_bytes) {
            (0, _) => Err(Fault::new("maxMessages", "is at least 1")),
            (_, 0) => Err(Fault::new("maxBytes", "is at least 1")),
            _ => Ok(()),
        }
    }
}

/// `type: SQLITE`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SqliteConfig {
    /// The file; relative paths are relative to the catalogue's folder. Missing folders are made.
    pub path: PathBuf,
    /// What a taken message survives. Default `full`.
    #[serde(default)]
    pub durability: Durability,
    /// How long settled messages are kept for `start: earliest`, such as `7d`. Without it they go once every
    /// group has settled them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retain: Option<String>,
    /// The most bytes that messages may take in the file; past it publish is refused with `DESTINATION_FULL`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u64>,
}

impl SqliteConfig {
    pub(super) fn check(&self) -> Result<(), Fault> {
        if self.path.as_os_str().is_empty() {
            return Err(Fault::new("path", "is empty; name a file"));
        }
        if self.max_bytes == Some(0) {
            return Err(Fault::new("maxBytes", "is at least 1"));
        }
        duration("retain", self.retain.as_deref())
    }
}

/// What a message that SQLITE has taken survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Durability {
    /// The loss of power: one fsync a commit.
    #[default]
    Full,
    /// The death of every process; the loss of power may take the last moments.
    Normal,
}
