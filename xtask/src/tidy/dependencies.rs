//! A provider's client library stays in its own feature's tree, some crates stay out altogether, and all that is built
//! into what is published has a licence that `deny.toml` allows.

use super::Finding;
use super::source::Source;
use crate::{Failure, process};
use std::collections::BTreeSet;
use std::path::Path;

/// The features of the umbrella that bring a client library, or another that takes long to compile, and the libraries.
const CLIENTS: [(&str, &[&str]); 7] = [
    ("kafka", &["rdkafka", "rdkafka-sys"]),
    ("rabbitmq", &["lapin"]),
    ("redis", &["redis"]),
    ("sqs", &["aws-sdk-sqs"]),
    ("pubsub", &["google-cloud-pubsub", "gcloud-pubsub"]),
    ("schema", &["jsonschema"]),
    ("sessions", &["jsonwebtoken"]),
];
/// Those of them that are in the umbrella's default features.
const DEFAULT: [&str; 2] = ["jsonschema", "jsonwebtoken"];

/// Crates that must not be locked at all: name, reason.
const BANNED: [(&str, &str); 1] =
    [("aws-lc-sys", "TLS is rustls with ring: choose the `ring` feature of whatever brings it")];

/// Where the allowed licences are listed.
const LICENCES: &str = "deny.toml";
const UMBRELLA: &str = "crates/ductape/Cargo.toml";

pub(super) fn check(root: &Path, sources: &[Source]) -> Result<Vec<Finding>, Failure> {
    let mut findings = Vec::new();
    if let Some(lock) = sources.iter().find(|source| source.path == "Cargo.lock") {
        findings.extend(banned(lock));
    }
    let Some(umbrella) = sources.iter().find(|source| source.path == UMBRELLA) else {
        return Ok(findings);
    };
    if let Some(list) = sources.iter().find(|source| source.path == LICENCES) {
        findings.extend(unlicensed(&licences(root)?, &list.text));
    }
    findings.extend(strangers(&tree(root, &[])?, "default", &DEFAULT));
    for (feature, own) in CLIENTS {
        if declares(&umbrella.text, feature) {
            let tree = tree(root, &["--no-default-features", "--features", feature])?;
            findings.extend(strangers(&tree, feature, own));
        }
    }
    Ok(findings)
}

fn banned(lock: &Source) -> Vec<Finding> {
    let found = lock.text.lines().enumerate().filter_map(|(index, line)| {
        let (name, fix) = BANNED.iter().find(|(name, _)| line == format!("name = \"{name}\""))?;
        Some(Finding::new(&lock.path, index + 1, format!("`{name}` is in the tree"), *fix))
    });
    found.collect()
}

/// Whether a manifest's `[features]` have this one.
fn declares(manifest: &str, feature: &str) -> bool {
    let features = manifest.split_once("[features]").map_or("", |(_, rest)| rest);
    let own = features.split("\n[").next().unwrap_or_default();
    own.lines().any(|line| line.split(['=', ' ']).next() == Some(feature))
}

/// What the umbrella is built of, a `name version` a line.
fn tree(root: &Path, features: &[&str]) -> Result<String, Failure> {
    let mut command = process::cargo(&[
        "tree",
        "--locked",
        "--package",
        "ductape",
        "--edges",
        "normal",
        "--prefix",
        "none",
    ]);
    process::output_of(command.args(features).current_dir(root))
}

/// All that the umbrella and the tool may be built of, a `name version|licence` a line.
fn licences(root: &Path) -> Result<String, Failure> {
    let mut command = process::cargo(&["tree", "--locked", "--all-features", "--edges", "normal,build"]);
    command.args(["--package", "ductape", "--package", "ductape-cli", "--prefix", "none"]);
    process::output_of(command.args(["--no-dedupe", "--format", "{p}|{l}"]).current_dir(root))
}

fn unlicensed(tree: &str, list: &str) -> Vec<Finding> {
    let allowed: BTreeSet<&str> = list
        .split_once("allow = [")
        .and_then(|(_, rest)| rest.split_once(']'))
        .map_or("", |(names, _)| names)
        .split('"')
        .skip(1)
        .step_by(2)
        .collect();
    let crates: BTreeSet<&str> = tree.lines().collect();
    let refused = crates.into_iter().filter_map(|line| {
        let (name, licence) = line.split_once('|')?;
        (!is_allowed(licence, &allowed)).then(|| {
            let fault = format!("`{name}` has the licence `{licence}`");
            Finding::new(LICENCES, 1, fault, "do without it, or allow the licence where that may be")
        })
    });
    refused.collect()
}

/// Whether an SPDX expression, of the shapes that there are, leaves a choice that is allowed.
fn is_allowed(expression: &str, allowed: &BTreeSet<&str>) -> bool {
    let expression = expression.replace('/', " OR ");
    let is = |name: &str| allowed.contains(name.trim_matches(['(', ')', ' ']));
    if expression.contains('(') {
        return expression.split(" AND ").all(|part| part.split(" OR ").any(is));
    }
    expression.split(" OR ").any(|part| part.split(" AND ").all(is))
}

/// The client libraries in a feature's tree that are not its own.
fn strangers(tree: &str, feature: &str, own: &[&str]) -> Vec<Finding> {
    let built: Vec<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    let clients = CLIENTS.iter().flat_map(|(_, clients)| clients.iter());
    clients
        .filter(|client| built.contains(client) && !own.contains(client))
        .map(|client| {
            let fix = format!("run `cargo tree -p ductape -i {client}` and make that dependency optional");
            Finding::new(UMBRELLA, 1, format!("`{client}` is in the tree of feature `{feature}`"), fix)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_banned_crate_is_found_in_the_lock() {
        let lock =
            Source::new("Cargo.lock", "[[package]]\nname = \"aws-lc-sys\"\n\n[[package]]\nname = \"ring\"\n");
        let found = banned(&lock);
        assert_eq!((found.len(), found[0].line), (1, 2));
    }

    #[test]
    fn a_client_library_in_another_features_tree_is_found() {
        let tree = "ductape v0.1.0 (crates/ductape)\nrdkafka v0.37.0\nredis v1.0.0\nrediscover v1.0.0\n";
        let faults = |feature, own: &[&str]| -> Vec<String> {
            strangers(tree, feature, own).into_iter().map(|finding| finding.fault).collect()
        };
        assert_eq!(faults("redis", &["redis"]), ["`rdkafka` is in the tree of feature `redis`"]);
        assert_eq!(faults("default", &[]).len(), 2);
        assert!(strangers("ductape v0.1.0\nserde v1.0.0\n", "default", &[]).is_empty());
    }

    #[test]
    fn a_licence_that_is_not_listed_is_found_and_one_of_a_choice_is_enough() {
        let list = "[licenses]\nallow = [\n    \"MIT\",\n    \"Unicode-3.0\",\n]\ndeny = [\"GPL-3.0\"]";
        let tree = "a v1|MIT\nb v1|GPL-3.0 OR MIT\nc v1|GPL-3.0\nd v1|(GPL-3.0 OR MIT) AND Unicode-3.0\n\
                    e v1|MIT AND GPL-3.0\nf v1|Apache-2.0/MIT\ng v1|";
        let faults: Vec<_> = unlicensed(tree, list).into_iter().map(|finding| finding.fault).collect();
        assert_eq!(
            faults,
            [
                "`c v1` has the licence `GPL-3.0`",
                "`e v1` has the licence `MIT AND GPL-3.0`",
                "`g v1` has the licence ``"
            ]
        );
    }

    #[test]
    fn a_feature_is_declared_in_its_own_table_only() {
        let manifest =
            "[dependencies]\nkafka = \"1\"\n\n[features]\nredis = [\"dep:x\"]\n\n[lints]\nsqs = 1\n";
        assert!(declares(manifest, "redis"));
        assert!(!declares(manifest, "kafka") && !declares(manifest, "sqs"));
    }
}
