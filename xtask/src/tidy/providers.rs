//! Every provider crate has the same files, imports the contract and nothing above it, and knows no other provider.

use super::Finding;
use super::imports::{CONTRACT, exports, uses};
use super::source::Source;
use std::collections::BTreeMap;

/// The provider crates, by the end of their names.
pub(crate) const PROVIDERS: [&str; 7] = ["memory", "sqlite", "kafka", "rabbitmq", "redis", "sqs", "pubsub"];

/// What each has, besides what it needs of its own.
const FILES: [&str; 9] = [
    "src/lib.rs",
    "src/broker.rs",
    "src/publisher.rs",
    "src/consumer.rs",
    "src/message.rs",
    "src/error.rs",
    "src/admin.rs",
    "README.md",
    "tests/conformance.rs",
];

/// Files that a provider has no use for: crate, file, reason.
const WITHOUT: [(&str, &str, &str); 0] = [];

pub(super) fn check(sources: &[Source]) -> Vec<Finding> {
    let exports = sources
        .iter()
        .find(|source| source.path == "crates/ductape-core/src/lib.rs")
        .map(exports)
        .unwrap_or_default();
    PROVIDERS
        .iter()
        .filter(|name| has(sources, &manifest(name)))
        .flat_map(|name| {
            let mut findings = missing_files(sources, name);
            findings.extend(own_sources(sources, name).flat_map(|source| upward(source, &exports)));
            findings.extend(other_providers(sources, name));
            findings
        })
        .collect()
}

fn manifest(name: &str) -> String {
    format!("crates/ductape-{name}/Cargo.toml")
}

fn has(sources: &[Source], path: &str) -> bool {
    sources.iter().any(|source| source.path == path)
}

fn own_sources<'s>(sources: &'s [Source], name: &str) -> impl Iterator<Item = &'s Source> {
    let folder = format!("crates/ductape-{name}/src/");
    sources.iter().filter(move |source| source.path.starts_with(&folder) && source.path.ends_with(".rs"))
}

fn missing_files(sources: &[Source], name: &str) -> Vec<Finding> {
    let excused = |file: &str| WITHOUT.iter().any(|(known, without, _)| *known == name && *without == file);
    FILES
        .iter()
        .filter(|file| !excused(file) && !has(sources, &format!("crates/ductape-{name}/{file}")))
        .map(|file| {
            let fix = "add it, so that who knows one provider crate knows all";
            Finding::new(&manifest(name), 1, format!("the crate has no {file}"), fix)
        })
        .collect()
}

/// Uses of what stands above the contract in the core.
fn upward(source: &Source, exports: &BTreeMap<String, String>) -> Vec<Finding> {
    uses(source, "ductape_core::")
        .into_iter()
        .filter_map(|(line, name)| {
            let module = exports.get(&name).map_or(name.as_str(), String::as_str);
            let allowed = module == "broker" || CONTRACT.contains(&module);
            (!allowed).then(|| {
                let fault = format!("a provider uses `ductape_core::{module}`, which is above the contract");
                Finding::new(&source.path, line, fault, "leave it to the core, or move it into the contract")
            })
        })
        .collect()
}

fn other_providers(sources: &[Source], name: &str) -> Vec<Finding> {
    let fix = "share through ductape-core; a provider stands alone";
    let others = PROVIDERS.iter().filter(|other| **other != name);
    let mut findings = Vec::new();
    for other in others {
        for source in own_sources(sources, name) {
            for (line, _) in uses(source, &format!("ductape_{other}::")) {
                findings.push(Finding::new(&source.path, line, format!("uses provider `{other}`"), fix));
            }
        }
        let Some(manifest) = sources.iter().find(|source| source.path == manifest(name)) else { continue };
        for (index, line) in manifest.text.lines().enumerate() {
            if line.split(['.', '=', ' ']).next() == Some(&format!("ductape-{other}")) {
                findings.push(Finding::new(&manifest.path, index + 1, format!("depends on `{other}`"), fix));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A provider that is as it should be, and then some files more.
    fn crate_with(extra: &[(&str, &str)]) -> Vec<Source> {
        let lib = "pub use worker::Subscription;\npub use broker::Broker;\n";
        let mut sources = vec![
            Source::new("crates/ductape-core/src/lib.rs", lib),
            Source::new("crates/ductape-redis/Cargo.toml", "[dependencies]\nductape-core.workspace = true\n"),
        ];
        let files = FILES.map(|file| Source::new(&format!("crates/ductape-redis/{file}"), "//! Docs.\n"));
        sources.extend(files);
        for (path, text) in extra {
            sources.retain(|source| source.path != *path);
            sources.push(Source::new(path, text));
        }
        sources
    }

    fn faults(sources: &[Source]) -> Vec<String> {
        check(sources).iter().map(|finding| format!("{}: {}", finding.line, finding.fault)).collect()
    }

    #[test]
    fn a_crate_that_is_as_it_should_be_passes() {
        let text = "use ductape_core::{Broker, message::Message};\nuse ductape_core::capability::Delay;\n";
        assert!(faults(&crate_with(&[("crates/ductape-redis/src/broker.rs", text)])).is_empty());
    }

    #[test]
    fn a_missing_file_is_found() {
        let mut sources = crate_with(&[]);
        sources.retain(|source| !source.path.ends_with("/admin.rs"));
        assert_eq!(faults(&sources), ["1: the crate has no src/admin.rs"]);
    }

    #[test]
    fn a_call_upward_is_found_by_module_and_by_reexport() {
        let text = "//! Docs.\nuse ductape_core::worker::Lane;\nfn f(s: ductape_core::Subscription) {}\n";
        let found = faults(&crate_with(&[("crates/ductape-redis/src/consumer.rs", text)]));
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("2: a provider uses `ductape_core::worker`"), "{found:?}");
        assert!(found[1].starts_with("3: a provider uses `ductape_core::worker`"), "{found:?}");
    }

    #[test]
    fn another_provider_is_found_in_code_and_in_the_manifest() {
        let found = faults(&crate_with(&[
            ("crates/ductape-redis/src/message.rs", "use ductape_sqs::batch;\n"),
            ("crates/ductape-redis/Cargo.toml", "[dependencies]\nductape-kafka.workspace = true\n"),
        ]));
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found.contains(&"1: uses provider `sqs`".to_owned()));
        assert!(found.contains(&"2: depends on `kafka`".to_owned()));
    }
}
