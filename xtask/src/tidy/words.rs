//! What must not stand in the repository: unfinished code, one person's paths, tests that sleep.

use super::Finding;
use super::source::Source;

/// Macros of unfinished code.
const UNFINISHED: [&str; 3] = ["todo!(", "unimplemented!(", "dbg!("];
/// The beginnings of paths that exist on one machine only. In two parts, so that this file is no finding of its own.
const PRIVATE: [(&str, &str); 3] = [("/ho", "me/"), ("/ro", "ot/"), ("/Us", "ers/")];
/// Waiting by the clock.
const SLEEPS: [&str; 2] = ["thread::sleep", "time::sleep"];
/// A comment that allows one sleep, on its line or the one before, with the reason after it.
const ALLOW_SLEEP: &str = "// tidy: sleeps because ";

pub(super) fn check(sources: &[Source]) -> Vec<Finding> {
    sources
        .iter()
        .flat_map(|source| {
            let mut findings = unfinished(source);
            findings.extend(private_paths(source));
            findings.extend(sleeps(source));
            findings
        })
        .collect()
}

fn unfinished(source: &Source) -> Vec<Finding> {
    let found = source.numbered_code().filter_map(|(number, line)| {
        let word = UNFINISHED.iter().find(|word| line.contains(**word))?;
        Some(Finding::new(&source.path, number, format!("`{word}…)`"), "finish it, or return an error"))
    });
    found.collect()
}

fn private_paths(source: &Source) -> Vec<Finding> {
    let found = source.text.lines().enumerate().filter_map(|(index, line)| {
        let path = PRIVATE.iter().map(|(a, b)| format!("{a}{b}")).find(|path| starts_a_path(line, path))?;
        let fix = "write it relative to the repository, or read it from the environment";
        Some(Finding::new(&source.path, index + 1, format!("a path under `{path}`"), fix))
    });
    found.collect()
}

/// Whether `path` stands in the line at the beginning of a path, and not within one.
fn starts_a_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        !line[..at].ends_with(|before: char| before.is_alphanumeric() || "._-}>".contains(before))
    })
}

fn sleeps(source: &Source) -> Vec<Finding> {
    let found = source.test_code().filter_map(|(number, line)| {
        let word = SLEEPS.iter().find(|word| line.contains(**word))?;
        let allowed = [number, number - 1].iter().any(|near| source.line(*near).contains(ALLOW_SLEEP));
        let fix = format!("wait for a condition with a deadline, or say why not: `{ALLOW_SLEEP}…`");
        (!allowed).then(|| Finding::new(&source.path, number, format!("a test calls `{word}`"), fix))
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(path: &str, text: &str) -> Vec<(usize, String)> {
        check(&[Source::new(path, text)]).into_iter().map(|finding| (finding.line, finding.fault)).collect()
    }

    #[test]
    fn unfinished_code_is_found_and_talk_of_it_is_not() {
        for word in UNFINISHED {
            let found = faults("src/a.rs", &format!("fn f() {{\n    {word}1)\n}}\n"));
            assert_eq!(found, [(2, format!("`{word}…)`"))]);
        }
        assert!(faults("src/a.rs", "// todo!() is refused\nconst A: &str = \"dbg!(x)\";\n").is_empty());
    }

    #[test]
    fn a_private_path_is_found_in_any_file() {
        for (a, b) in PRIVATE {
            let text = format!("one\npath = \"{a}{b}ada/x\"\n");
            assert_eq!(faults("a.yaml", &text), [(2, format!("a path under `{a}{b}`"))]);
        }
        let (a, b) = PRIVATE[0];
        assert!(faults("a.md", &format!("https://example.com{a}{b}\n")).is_empty());
    }

    #[test]
    fn a_sleep_in_a_test_is_found_unless_it_gives_a_reason() {
        let code = "    std::thread::sleep(ONE);\n";
        let test = |before: &str| format!("#[cfg(test)]\nmod tests {{\n{before}{code}}}\n");
        assert_eq!(faults("src/a.rs", &test("")), [(3, "a test calls `thread::sleep`".to_owned())]);
        assert!(faults("src/a.rs", &test(&format!("{ALLOW_SLEEP}it measures time\n"))).is_empty());
        assert!(faults("src/a.rs", code).is_empty());
        assert_eq!(faults("crates/a/tests/b.rs", "tokio::time::sleep(x).await;\n").len(), 1);
    }
}
