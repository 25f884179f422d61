//! What cargo says it has built, of `--message-format json`.
//!
//! Its lines are searched rather than parsed: a parser would be compiled before anything can be checked.

/// A program that cargo has built.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Executable {
    pub(crate) path: String,
    /// The package's name.
    pub(crate) package: String,
    /// The target's name: of an integration test, of a binary, or of the package's library.
    pub(crate) target: String,
    /// The package's folder.
    pub(crate) folder: String,
    /// Whether it is a program of tests, and not one that tests run.
    pub(crate) tests: bool,
}

/// The program that a line tells of; none of another line, and of an artifact that is no program.
pub(crate) fn executable(line: &str) -> Option<Executable> {
    if !line.contains(r#""reason":"compiler-artifact""#) {
        return None;
    }
    let path = text(line, r#""executable":""#)?;
    let target = text(line.split_once(r#""target":{"#)?.1, r#""name":""#)?;
    // `path+file:///folder#name@version`, or without the name where it is the folder's.
    let (folder, name) =
        text(line, r#""package_id":""#)?.split_once('#').map(|(a, b)| (a.to_owned(), b.to_owned()))?;
    let package = match name.split_once('@') {
        Some((name, _)) => name.to_owned(),
        None => folder.rsplit('/').next()?.to_owned(),
    };
    let manifest = text(line, r#""manifest_path":""#)?;
    let folder = manifest.strip_suffix("Cargo.toml")?.to_owned();
    let profile = line.split_once(r#""profile":{"#)?.1;
    let tests = profile.split_once('}')?.0.contains(r#""test":true"#);
    Some(Executable { path, package, target, folder, tests })
}

/// The string that begins after `key`, without its escapes.
fn text(line: &str, key: &str) -> Option<String> {
    let mut characters = line.split_once(key)?.1.chars();
    let mut text = String::new();
    loop {
        match characters.next()? {
            '"' => return Some(text),
            '\\' => text.push(characters.next()?),
            other => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_with_its_package() {
        let line = |id: &str, executable: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","package_id":"path+file:///x/{id}","manifest_path":"/x/Cargo.toml","target":{{"kind":["test"],"name":"conformance","src_path":"/x","test":true}},"profile":{{"opt_level":"0","test":false}},"executable":{executable},"fresh":true}}"#
            )
        };
        let found = executable(&line("ductape-redis#0.1.0", r#""C:\\t\\conformance-1""#)).unwrap();
        assert_eq!((found.package.as_str(), found.target.as_str()), ("ductape-redis", "conformance"));
        assert_eq!((found.path.as_str(), found.folder.as_str()), (r"C:\t\conformance-1", "/x/"));
        assert!(!found.tests);
        let tests = line("a#0.1.0", r#""/t/x""#).replace(r#""test":false"#, r#""test":true"#);
        assert!(executable(&tests).unwrap().tests);
        assert_eq!(
            executable(&line("tests#ductape-tests@0.1.0", r#""/t/x""#)).unwrap().package,
            "ductape-tests"
        );
        assert_eq!(executable(&line("a#0.1.0", "null")), None);
        assert_eq!(executable(r#"{"reason":"build-finished","success":true}"#), None);
    }
}
