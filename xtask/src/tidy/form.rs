//! Module docs, and the sizes of files and functions.

use super::Finding;
use super::source::Source;

/// Past this many lines a file is listed, and past this many without its tests it fails.
const LISTED_FILE: usize = 400;
const LONGEST_FILE: usize = 500;
/// Past this many lines a function is listed.
const LISTED_FUNCTION: usize = 60;

/// Files that may be longer: path, reason.
const LONG_FILES: [(&str, &str); 0] = [];

pub(super) fn check(sources: &[&Source]) -> Vec<Finding> {
    sources.iter().flat_map(|source| module_docs(source).into_iter().chain(too_long(source))).collect()
}

/// What is worth a look and fails nothing.
pub(super) fn notes(sources: &[&Source]) -> Vec<Finding> {
    sources.iter().flat_map(|source| long_file(source).into_iter().chain(long_functions(source))).collect()
}

fn module_docs(source: &Source) -> Option<Finding> {
    let starts = source.text.starts_with("//!");
    let fix = "begin the file with `//!` and a sentence on what the module is for";
    (!starts).then(|| Finding::new(&source.path, 1, "the module has no docs", fix))
}

fn too_long(source: &Source) -> Option<Finding> {
    let lines = source.production_code().count();
    let excused = LONG_FILES.iter().any(|(path, _)| *path == source.path);
    (lines > LONGEST_FILE && !excused).then(|| {
        let fault = format!("the file has {lines} lines without its tests, {LONGEST_FILE} at most");
        let fix = "split it by concern, or list it with a reason in xtask/src/tidy/form.rs";
        Finding::new(&source.path, 1, fault, fix)
    })
}

fn long_file(source: &Source) -> Option<Finding> {
    let lines = source.text.lines().count();
    let fix = "see whether it holds two concerns";
    (lines > LISTED_FILE).then(|| Finding::new(&source.path, 1, format!("the file has {lines} lines"), fix))
}

fn long_functions(source: &Source) -> Vec<Finding> {
    let long = source.functions().into_iter().filter(|function| function.lines > LISTED_FUNCTION);
    long.map(|function| {
        let fault = format!("`{}` has {} lines", function.name, function.lines);
        Finding::new(&source.path, function.line, fault, "see whether it does two things")
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source::new("src/a.rs", text)
    }

    #[test]
    fn a_module_without_docs_is_found() {
        assert_eq!(check(&[&source("use std::fmt;\n")])[0].fault, "the module has no docs");
        assert!(check(&[&source("//! Docs.\nuse std::fmt;\n")]).is_empty());
    }

    #[test]
    fn a_file_that_is_too_long_without_its_tests_is_found() {
        let code = format!("//! Docs.\n{}", "fn f() {}\n".repeat(LONGEST_FILE));
        assert!(check(&[&source(&code)])[0].fault.starts_with("the file has 501 lines"));
        let tests = format!("//! Docs.\n#[cfg(test)]\nmod tests {{\n{}}}\n", "fn f() {}\n".repeat(600));
        assert!(check(&[&source(&tests)]).is_empty());
        assert_eq!(notes(&[&source(&tests)])[0].fault, "the file has 604 lines");
    }

    #[test]
    fn a_long_function_is_listed() {
        let text = format!("//! Docs.\nfn long() {{\n{}}}\nfn short() {{}}\n", "    x;\n".repeat(59));
        let notes = notes(&[&source(&text)]);
        assert_eq!((notes.len(), notes[0].line, notes[0].fault.as_str()), (1, 2, "`long` has 61 lines"));
    }
}
