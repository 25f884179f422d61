//! `cargo xtask tidy`: the habits of this repository, checked. Runs as a test too.
//!
//! ```text
//!  git ls-files ─▶ Source (text · code without comments and strings · which lines are tests)
//!                    └▶ imports · providers · form · words ─▶ Finding (fails) or note (is only listed)
//!  Cargo.lock, cargo tree ─▶ dependencies ─▶ Finding
//! ```

mod dependencies;
mod form;
mod imports;
mod providers;
mod source;
mod words;

use crate::{Failure, Outcome, no_arguments, process, root};
pub(crate) use providers::PROVIDERS;
use source::Source;
use std::fmt;
use std::path::Path;

/// Something to mend.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    /// From the workspace's folder on.
    path: String,
    /// From 1 on.
    line: usize,
    /// What is wrong.
    fault: String,
    /// What to do, as an imperative sentence.
    fix: String,
}

impl Finding {
    fn new(path: &str, line: usize, fault: impl Into<String>, fix: impl Into<String>) -> Self {
        Finding { path: path.to_owned(), line, fault: fault.into(), fix: fix.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}; {}", self.path, self.line, self.fault, self.fix)
    }
}

pub(crate) fn run(arguments: &[String]) -> Outcome {
    no_arguments(arguments)?;
    let root = root();
    for note in form::notes(&rust(&sources(&root)?)) {
        println!("note: {note}");
    }
    let findings = check(&root)?;
    for finding in &findings {
        eprintln!("{finding}");
    }
    match findings.len() {
        0 => {
            println!("tidy");
            Ok(())
        }
        several => Err(Failure::Failed(format!("{several} to mend"))),
    }
}

/// Everything that fails, sorted by place.
fn check(root: &Path) -> Result<Vec<Finding>, Failure> {
    let all = sources(root)?;
    let rust = rust(&all);
    let mut findings = imports::check(&rust);
    findings.extend(providers::check(&all));
    findings.extend(form::check(&rust));
    findings.extend(words::check(&all));
    findings.extend(dependencies::check(root, &all)?);
    findings.sort();
    Ok(findings)
}

fn rust(sources: &[Source]) -> Vec<&Source> {
    sources.iter().filter(|source| source.path.ends_with(".rs")).collect()
}

/// Every text file that git knows or would take, by path.
fn sources(root: &Path) -> Result<Vec<Source>, Failure> {
    let mut git = std::process::Command::new("git");
    git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).current_dir(root);
    let listed = process::output_of(&mut git)?;
    let mut sources: Vec<_> = listed
        .split('\0')
        .filter(|path| !path.is_empty())
        // A file that is deleted and not yet committed is listed, and one that is not text has no habits.
        .filter_map(|path| Some(Source::new(path, &std::fs::read_to_string(root.join(path)).ok()?)))
        .collect();
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    sources.dedup_by(|a, b| a.path == b.path);
    Ok(sources)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_repository_is_tidy() {
        let findings = check(&root()).unwrap();
        let lines: Vec<_> = findings.iter().map(Finding::to_string).collect();
        assert!(lines.is_empty(), "cargo xtask tidy\n{}", lines.join("\n"));
    }

    #[test]
    fn a_finding_says_where_what_and_what_to_do() {
        let finding = Finding::new("src/a.rs", 7, "no docs", "write some");
        assert_eq!(finding.to_string(), "src/a.rs:7: no docs; write some");
    }
}
