//! What `cargo xtask test` is asked for.

use crate::Failure;

/// The kinds of servers, as `ductape-servers` names them; each is also the end of its provider's package.
const KINDS: [&str; 5] = ["kafka", "pubsub", "rabbitmq", "redis", "sqs"];
/// Packages whose tests need no server, or start each of their own.
const WITHOUT: [&str; 5] = ["ductape-core", "ductape-memory", "ductape-sqlite", "ductape-testkit", "xtask"];

/// What `cargo xtask test` is asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    /// Without servers.
    pub(super) embedded: bool,
    /// With servers in Docker.
    pub(super) docker: bool,
    /// Whether every skip must be listed.
    pub(super) require_all: bool,
    /// What is left for cargo.
    pub(super) rest: Vec<String>,
}

impl Options {
    pub(super) fn parse(arguments: &[String]) -> Result<Self, Failure> {
        let mut options = Options::default();
        let mut rest = arguments;
        loop {
            rest = match rest {
                [embedded, rest @ ..] if embedded == "--embedded" => {
                    options.embedded = true;
                    rest
                }
                [docker, rest @ ..] if docker == "--docker" => {
                    options.docker = true;
                    rest
                }
                [require, all, rest @ ..] if require == "--require" && all == "all" => {
                    options.require_all = true;
                    rest
                }
                [require, ..] if require == "--require" => {
                    return Err(Failure::Usage("`--require` takes `all`".into()));
                }
                rest => {
                    options.rest = rest.to_vec();
                    return Ok(options);
                }
            };
        }
    }

    /// What cargo takes: the whole workspace, unless packages are named.
    pub(super) fn for_cargo(&self) -> Vec<&str> {
        let whole = self.packages().is_empty().then_some("--workspace");
        let docker = self.docker.then_some(["--features", "ductape-testkit/docker"]);
        let own = whole.into_iter().chain(docker.into_iter().flatten());
        own.chain(self.words().iter().map(String::as_str)).collect()
    }

    /// What the programs of tests take.
    pub(super) fn for_programs(&self) -> &[String] {
        self.rest.get(self.words().len() + 1..).unwrap_or_default()
    }

    /// Whether the documentation's examples are meant too, as cargo has it: not where a kind of program is named.
    pub(super) fn with_examples(&self) -> bool {
        !self.words().iter().any(|word| {
            ["--lib", "--bin", "--test", "--example", "--bench", "--all-targets"]
                .iter()
                .any(|kind| word.starts_with(kind))
        })
    }

    /// The words before `--`.
    fn words(&self) -> &[String] {
        self.rest.split(|word| word == "--").next().unwrap_or_default()
    }

    /// The servers that the tests need.
    pub(super) fn servers(&self) -> Vec<&'static str> {
        let packages = self.packages();
        let needs = |package: &str, kind: &str| {
            let others = KINDS.iter().any(|other| *other != kind && package == format!("ductape-{other}"));
            !others && !WITHOUT.contains(&package)
        };
        let needed = |kind: &&str| packages.is_empty() || packages.iter().any(|package| needs(package, kind));
        if self.embedded { Vec::new() } else { KINDS.into_iter().filter(needed).collect() }
    }

    /// How servers are started, where that is not left to the environment.
    pub(super) fn way(&self) -> Option<&'static str> {
        match (self.embedded, self.docker) {
            (true, _) => Some("none"),
            (false, true) => Some("docker"),
            (false, false) => None,
        }
    }

    fn packages(&self) -> Vec<&str> {
        let own = self.words();
        let mut packages = Vec::new();
        for (index, word) in own.iter().enumerate() {
            match word.as_str() {
                "-p" | "--package" => packages.extend(own.get(index + 1).map(String::as_str)),
                word => packages.extend(word.strip_prefix("--package=")),
            }
        }
        packages
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Options {
        let words: Vec<_> = text.split_whitespace().map(str::to_owned).collect();
        Options::parse(&words).unwrap()
    }

    #[test]
    fn what_is_not_ours_goes_to_cargo() {
        let options = parsed("--require all --embedded -p ductape-core -- --embedded");
        assert!(options.require_all && options.embedded);
        assert_eq!(options.for_cargo(), ["-p", "ductape-core"]);
        assert_eq!(options.for_programs(), ["--embedded"]);
        assert!(options.with_examples() && parsed("-p x").for_programs().is_empty());
        assert_eq!(parsed("--docker -p x").for_cargo(), ["--features", "ductape-testkit/docker", "-p", "x"]);
        let all = parsed("--test conformance");
        assert!(!all.require_all && !all.embedded);
        assert_eq!(all.for_cargo(), ["--workspace", "--test", "conformance"]);
        assert!(!all.with_examples());
        assert!(Options::parse(&["--require".into(), "some".into()]).is_err());
    }

    #[test]
    fn the_servers_are_those_of_the_packages() {
        assert_eq!(parsed("").servers(), KINDS);
        assert_eq!(parsed("-- -p").servers(), KINDS);
        assert_eq!(parsed("-p ductape-tests").servers(), KINDS);
        assert_eq!(parsed("-p ductape-redis --package=ductape-sqs").servers(), ["redis", "sqs"]);
        assert!(parsed("--package ductape-core -p xtask").servers().is_empty());
        assert!(parsed("--embedded").servers().is_empty());
    }
}
