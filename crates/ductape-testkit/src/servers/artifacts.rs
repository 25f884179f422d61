//! The versions of the servers that come as Java archives from Maven Central, and where they are kept.

use std::fmt;
use std::path::PathBuf;

/// A server that Maven Central has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Artifact {
    pub(super) group: &'static str,
    pub(super) name: &'static str,
    pub(super) version: &'static str,
}

/// Apache Kafka, which needs Java 17 or later.
pub(super) const KAFKA: Artifact =
    Artifact { group: "org.apache.kafka", name: "kafka_2.13", version: "4.1.1" };
/// ElasticMQ, an SQS.
pub(super) const ELASTICMQ: Artifact =
    Artifact { group: "org.elasticmq", name: "elasticmq-server_2.13", version: "1.7.1" };

/// What Google's emulator 0.8.20 mixes up: with it before its own archive it learns that a stream was reset.
pub(super) const GRPC_API: Artifact = Artifact { group: "io.grpc", name: "grpc-api", version: "1.68.1" };

impl fmt::Display for Artifact {
    /// As Maven calls it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.group, self.name, self.version)
    }
}

impl Artifact {
    /// Its own archive in that folder.
    pub(super) fn archive(&self) -> PathBuf {
        self.folder().join(format!("{}-{}.jar", self.name, self.version))
    }

    /// The folder with its archives and all that it depends on, there or not: `ductape/servers/NAME-VERSION` in the
    /// user's cache. It appears under this name only when it is whole.
    pub(super) fn folder(&self) -> PathBuf {
        cache().join("ductape/servers").join(format!("{}-{}", self.name, self.version))
    }
}

/// `$XDG_CACHE_HOME`, or what it stands for by default.
fn cache() -> PathBuf {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("XDG_CACHE_HOME")
        .or_else(|| set("HOME").map(|home| home.join(".cache")))
        .unwrap_or_else(std::env::temp_dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_has_another_folder() {
        assert!(KAFKA.folder().ends_with("ductape/servers/kafka_2.13-4.1.1"));
        assert_ne!(KAFKA.folder(), Artifact { version: "4.2.0", ..KAFKA }.folder());
    }
}
