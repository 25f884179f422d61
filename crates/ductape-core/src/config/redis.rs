//! `type: REDIS`.

use super::{Fault, host_and_port, not_empty};
use crate::secret::Secret;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A Redis server, cluster or group watched by sentinels.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RedisConfig {
    /// The server's name or address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The server's port. Default 6379.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Who to be, where the server has users.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The proof.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// The whole address instead: `redis://user:password@host:port/db`, or `rediss://…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<Secret>,
    /// The database's number. Default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub db: Option<u16>,
    /// Whether to speak TLS. Default false.
    #[serde(default)]
    pub tls: bool,
    /// A file with the authorities to trust instead of the system's, in PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// The nodes of a cluster to begin with, `host:port` each, instead of `host`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cluster: Vec<String>,
    /// The sentinels that know the master, instead of `host`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sentinel: Option<SentinelConfig>,
    /// Streams, or fire-and-forget.
    #[serde(default)]
    pub mode: RedisMode,
    /// The most messages a stream keeps. Without it nothing is trimmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_len: Option<u64>,
    /// How long a stream keeps messages, such as `7d`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retain: Option<String>,
}

/// Sentinels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SentinelConfig {
    /// The name of the master that they watch.
    pub master: String,
    /// `host:port` each.
    pub nodes: Vec<String>,
    /// Who to be to the sentinels, where they have users of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The proof to the sentinels, where they ask for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
}

/// How Redis carries messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum RedisMode {
    /// Streams: at least once, groups, replay.
    #[default]
    Stream,
    /// Pub/sub: whoever listens now gets it, once or not at all.
    Pubsub,
}

impl RedisConfig {
    pub(super) fn check(&self) -> Result<(), Fault> {
        let places =
            [self.host.is_some(), self.url.is_some(), !self.cluster.is_empty(), self.sentinel.is_some()];
        match places.iter().filter(|there| **there).count() {
            0 => return Err(Fault::new("host", "is missing; name `host`, `url`, `cluster` or `sentinel`")),
            1 => {}
            _ => {
                return Err(Fault::new("host", "`host`, `url`, `cluster` and `sentinel` exclude each other"));
            }
        }
        self.check_url()?;
        not_empty("host", self.host.as_deref())?;
        self.cluster.iter().try_for_each(|node| host_and_port("cluster", node))?;
        if let Some(sentinel) = &self.sentinel {
            not_empty("sentinel.master", Some(&sentinel.master))?;
            if sentinel.nodes.is_empty() {
                return Err(Fault::new("sentinel.nodes", "is empty"));
            }
            sentinel.nodes.iter().try_for_each(|node| host_and_port("sentinel.nodes", node))?;
        }
        if !self.cluster.is_empty() && self.db.is_some_and(|db| db > 0) {
            return Err(Fault::new("db", "is 0 in a cluster"));
        }
        self.check_retention()
    }

    /// The address says all of this, and two answers would leave one unheard.
    fn check_url(&self) -> Result<(), Fault> {
        let beside = [
            ("port", self.port.is_some()),
            ("username", self.username.is_some()),
            ("password", self.password.is_some()),
            ("db", self.db.is_some()),
            ("tls", self.tls),
        ];
        match beside.into_iter().find(|(_, there)| *there) {
            Some((field, _)) if self.url.is_some() => {
                Err(Fault::new(field, "is for `url` to say, as `rediss://user:password@host:port/db`"))
            }
            _ => Ok(()),
        }
    }

    fn check_retention(&self) -> Result<(), Fault> {
        let bounded = self.max_len.is_some() || self.retain.is_some();
        if bounded && self.mode == RedisMode::Pubsub {
            return Err(Fault::new("mode", "`pubsub` keeps nothing: take `maxLen` and `retain` away"));
        }
        if self.max_len.is_some() && self.retain.is_some() {
            return Err(Fault::new("retain", "and `maxLen` exclude each other: Redis trims by one of them"));
        }
        if self.max_len == Some(0) {
            return Err(Fault::new("maxLen", "is 0, which keeps nothing"));
        }
        super::duration("retain", self.retain.as_deref())
    }
}
