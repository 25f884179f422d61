//! What servers, and the clients that speak to them, need of the system's package manager.

use super::{Kind, programs};
use std::process::{Command, Stdio};

/// Something that a package manager has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Package {
    /// How it is found out whether it is there.
    check: Check,
    apt: &'static str,
    brew: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Check {
    /// A program of this name.
    Program(&'static str),
    /// A library, with its headers, that `pkg-config` knows by this name.
    Library(&'static str),
}

const JAVA: Package = Package::program("java", "default-jre-headless", "openjdk");
/// Gets what Maven Central has.
pub(super) const MAVEN: Package = Package::program("mvn", "maven", "maven");

/// What a kind needs, without what only [`MAVEN`] is for.
///
/// Kafka's client is compiled from C and linked with the system's libraries; kcat is the other client of its tests.
pub(super) fn of(kind: Kind) -> &'static [Package] {
    const KAFKA: [Package; 5] = [
        JAVA,
        Package::program("kcat", "kcat", "kcat"),
        Package::program("pkg-config", "pkg-config", "pkgconf"),
        Package::library("openssl", "libssl-dev", "openssl@3"),
        Package::library("zlib", "zlib1g-dev", "zlib"),
    ];
    const RABBITMQ: [Package; 1] = [Package::program("rabbitmq-server", "rabbitmq-server", "rabbitmq")];
    const REDIS: [Package; 2] = [
        Package::program("redis-server", "redis-server", "redis"),
        Package::program("redis-cli", "redis-tools", "redis"),
    ];
    match kind {
        Kind::Kafka => &KAFKA,
        Kind::RabbitMq => &RABBITMQ,
        Kind::Redis => &REDIS,
        Kind::PubSub | Kind::Sqs => &[JAVA],
    }
}

impl Package {
    const fn program(name: &'static str, apt: &'static str, brew: &'static str) -> Self {
        Package { check: Check::Program(name), apt, brew }
    }

    const fn library(name: &'static str, apt: &'static str, brew: &'static str) -> Self {
        Package { check: Check::Library(name), apt, brew }
    }

    /// What it is looked for by.
    pub(super) fn name(&self) -> &'static str {
        match self.check {
            Check::Program(name) | Check::Library(name) => name,
        }
    }

    pub(super) fn is_installed(&self) -> bool {
        match self.check {
            Check::Program(name) => programs::find(name).is_some(),
            Check::Library(name) => Command::new("pkg-config")
                .args(["--exists", name])
                .stdin(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success()),
        }
    }
}

/// A package manager that this system has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manager {
    Apt,
    Brew,
}

impl Manager {
    pub(super) fn find() -> Option<Self> {
        let candidates = [("apt-get", Manager::Apt), ("brew", Manager::Brew)];
        candidates.into_iter().find(|(program, _)| programs::find(program).is_some()).map(|(_, it)| it)
    }

    /// The names of packages, each once.
    pub(super) fn names(self, packages: &[Package]) -> Vec<&'static str> {
        let name = |package: &Package| match self {
            Manager::Apt => package.apt,
            Manager::Brew => package.brew,
        };
        let mut names: Vec<_> = packages.iter().map(name).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The one command that a user who may install types.
    pub(super) fn command(self, packages: &[Package]) -> String {
        let names = self.names(packages).join(" ");
        match self {
            Manager::Apt => format!("sudo apt-get install --yes {names}"),
            Manager::Brew => format!("brew install {names}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(unix)]
    fn what_is_there_is_found_and_what_is_not_is_not() {
        assert!(Package::program("sh", "", "").is_installed());
        assert!(!Package::program("no-program-has-this-name", "", "").is_installed());
        assert!(!Package::library("no-library-has-this-name", "", "").is_installed());
    }

    #[test]
    fn the_command_names_each_package_once() {
        let packages = [of(Kind::Redis), of(Kind::Sqs), of(Kind::PubSub)].concat();
        assert_eq!(
            Manager::Apt.command(&packages),
            "sudo apt-get install --yes default-jre-headless redis-server redis-tools"
        );
        assert_eq!(Manager::Brew.command(&packages), "brew install openjdk redis");
    }
}
