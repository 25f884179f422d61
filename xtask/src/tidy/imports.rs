//! Imports in the core run one way: a module uses modules of its own rank and of those before.

use super::Finding;
use super::source::{Source, is_word};
use std::collections::BTreeMap;

const CORE: &str = "crates/ductape-core/src/";

/// The modules of the core, from what everything stands on to what stands on everything.
const RANKS: [&[&str]; 6] = [
    &["tag", "secret", "time", "duration", "message", "error", "wire", "turns", "rewrite", "destination"],
    &["config", "catalogue", "capability", "delivery", "session", "sample"],
    &["broker"],
    &["guard", "retry", "dead_letter"],
    &["worker"],
    &["client"],
];

/// What a provider may use of the core: the contract and what it is made of.
pub(super) const CONTRACT: [&str; 11] = [
    "tag",
    "secret",
    "time",
    "duration",
    "message",
    "error",
    "wire",
    "turns",
    "config",
    "capability",
    "delivery",
];

pub(super) fn check(sources: &[&Source]) -> Vec<Finding> {
    let Some(lib) = sources.iter().find(|source| source.path == format!("{CORE}lib.rs")) else {
        return Vec::new();
    };
    let exports = exports(lib);
    sources.iter().flat_map(|source| check_file(source, &exports)).collect()
}

fn check_file(source: &Source, exports: &BTreeMap<String, String>) -> Vec<Finding> {
    let Some(module) = module_of(&source.path) else { return Vec::new() };
    let Some(own) = rank(module) else {
        let fix = "add it to RANKS in xtask/src/tidy/imports.rs, at the first rank that it can have";
        return vec![Finding::new(&source.path, 1, format!("module `{module}` has no rank"), fix)];
    };
    uses(source, "crate::")
        .into_iter()
        .filter_map(|(line, name)| {
            let used = exports.get(&name).map_or(name.as_str(), String::as_str);
            let upward = rank(used).is_some_and(|other| other > own);
            upward.then(|| {
                let fault = format!("`{module}` uses `{used}`, which stands above it");
                Finding::new(&source.path, line, fault, format!("move what both need below `{module}`"))
            })
        })
        .collect()
}

fn rank(module: &str) -> Option<usize> {
    RANKS.iter().position(|modules| modules.contains(&module))
}

/// The core's top-level module that a file belongs to; none of `lib.rs` and of other crates.
fn module_of(path: &str) -> Option<&str> {
    let first = path.strip_prefix(CORE)?.split('/').next()?;
    let module = first.strip_suffix(".rs").unwrap_or(first);
    (module != "lib").then_some(module)
}

/// What the crate's root hands on, by name, with the module that it comes from.
pub(super) fn exports(lib: &Source) -> BTreeMap<String, String> {
    let mut exports = BTreeMap::new();
    for statement in lib.code.split(';') {
        let Some((_, path)) = statement.split_once("pub use ") else { continue };
        if let Some((module, names)) = path.split_once("::") {
            for name in names.split(|c| !is_word(c)).filter(|name| !name.is_empty()) {
                exports.insert(name.to_owned(), module.trim().to_owned());
            }
        }
    }
    exports
}

/// The names that stand right after `prefix` outside of tests, alone or in braces, with their lines.
pub(super) fn uses(source: &Source, prefix: &str) -> Vec<(usize, String)> {
    let code: String = source
        .numbered_code()
        .zip(mask(source))
        .map(|((_, line), keep)| if keep { format!("{line}\n") } else { "\n".to_owned() })
        .collect();
    code.match_indices(prefix)
        .filter(|(at, _)| !code[..*at].ends_with(|c| is_word(c) || c == ':'))
        .flat_map(|(at, _)| names_at(&code, at + prefix.len()))
        .collect()
}

fn mask(source: &Source) -> Vec<bool> {
    let mut keep = vec![false; source.code.lines().count()];
    for (number, _) in source.production_code() {
        keep[number - 1] = true;
    }
    keep
}

/// `a::b` names `a`; `{a::{b, c}, d}` names `a` and `d`.
fn names_at(code: &str, at: usize) -> Vec<(usize, String)> {
    let line = |at: usize| code[..at].matches('\n').count() + 1;
    let word = |at: usize| code[at..].chars().take_while(|c| is_word(*c)).collect::<String>();
    if !code[at..].starts_with('{') {
        return vec![(line(at), word(at))];
    }
    let (mut names, mut depth, mut fresh) = (Vec::new(), 0, true);
    for (offset, c) in code[at..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 1 => break,
            '}' => depth -= 1,
            ',' => fresh = depth == 1,
            c if is_word(c) && fresh => {
                names.push((line(at + offset), word(at + offset)));
                fresh = false;
            }
            _ => {}
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIB: &str = "pub use broker::{Broker, Consumer as Taker};\npub use error::Result;\n";

    fn findings(path: &str, text: &str) -> Vec<String> {
        let lib = Source::new("crates/ductape-core/src/lib.rs", LIB);
        let file = Source::new(path, text);
        check(&[&lib, &file]).iter().map(Finding::to_string).collect()
    }

    #[test]
    fn an_upward_import_is_found_however_it_is_written() {
        for text in [
            "use crate::broker::Broker;",
            "use crate::{error::{Result, x}, broker};",
            "fn f() -> crate::Broker {}",
            "use crate::Taker;",
            "pub use crate::broker;",
        ] {
            let found = findings("crates/ductape-core/src/delivery.rs", &format!("//! Docs.\n{text}\n"));
            assert_eq!(found.len(), 1, "{text}: {found:?}");
            assert!(found[0].starts_with("crates/ductape-core/src/delivery.rs:2: `delivery` uses `broker`"));
        }
        assert_eq!(
            findings("crates/ductape-core/src/worker/lane.rs", "use crate::client::Ductape;").len(),
            1
        );
    }

    #[test]
    fn imports_of_the_same_rank_or_before_are_fine() {
        let text = "use crate::{error::Result, tag, capability::{Ordering, Groups}};\n\
                    /// See [`crate::broker`].\nfn f(x: crate::Result) { \"crate::client\"; }\n\
                    #[cfg(test)]\nmod tests { use crate::worker::Lane; }\n";
        assert!(findings("crates/ductape-core/src/delivery.rs", text).is_empty());
        assert!(findings("crates/ductape-core/src/lib.rs", "use crate::client;").is_empty());
        assert!(findings("crates/ductape-memory/src/broker.rs", "use crate::client;").is_empty());
    }

    #[test]
    fn a_module_without_a_rank_is_found() {
        let found = findings("crates/ductape-core/src/brand_new.rs", "//! Docs.");
        assert!(found[0].contains("module `brand_new` has no rank"), "{found:?}");
    }
}
