//! A file as the checks see it.

/// A file's text, and of Rust its code alone and which of its lines are tests.
#[derive(Debug)]
pub(super) struct Source {
    /// From the workspace's folder on, with `/`.
    pub(super) path: String,
    pub(super) text: String,
    /// The text with comments, strings and characters blanked, line for line and character for character.
    pub(super) code: String,
    test_lines: Vec<bool>,
}

/// A function of a file.
#[derive(Debug, PartialEq)]
pub(super) struct Function {
    pub(super) name: String,
    /// Its first line, from 1 on.
    pub(super) line: usize,
    pub(super) lines: usize,
}

impl Source {
    pub(super) fn new(path: &str, text: &str) -> Self {
        let code = if path.ends_with(".rs") { blank(text) } else { String::new() };
        let test_lines = test_lines(path, &code);
        Source { path: path.to_owned(), text: text.to_owned(), code, test_lines }
    }

    /// Lines of code outside of tests, numbered from 1 on.
    pub(super) fn production_code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.numbered_code().filter(|(number, _)| !self.is_test(*number))
    }

    /// Lines of code inside of tests, numbered from 1 on.
    pub(super) fn test_code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.numbered_code().filter(|(number, _)| self.is_test(*number))
    }

    pub(super) fn numbered_code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code.lines().enumerate().map(|(index, line)| (index + 1, line))
    }

    /// The line as it is written, by its number.
    pub(super) fn line(&self, number: usize) -> &str {
        number.checked_sub(1).and_then(|index| self.text.lines().nth(index)).unwrap_or_default()
    }

    fn is_test(&self, number: usize) -> bool {
        self.test_lines.get(number - 1).copied().unwrap_or(false)
    }

    /// Every function with a body, in the order of their beginnings.
    pub(super) fn functions(&self) -> Vec<Function> {
        let code: Vec<char> = self.code.chars().collect();
        words(&code).filter(|(_, word)| word == "fn").filter_map(|(at, _)| function(&code, at)).collect()
    }
}

/// The function whose `fn` stands at `at`; none where it is a type or has no body.
fn function(code: &[char], at: usize) -> Option<Function> {
    let (offset, name) = words(&code[at..]).nth(1)?;
    if !code[at + "fn".len()..at + offset].iter().all(|c| c.is_whitespace()) {
        return None;
    }
    let body = body(code, at)?;
    let end = closing(code, body)?;
    let line = line_of(code, at);
    Some(Function { name, line, lines: line_of(code, end) - line + 1 })
}

/// Where the body opens; none where a `;` comes first. Brackets are skipped: `[u8; 4]` ends nothing.
fn body(code: &[char], from: usize) -> Option<usize> {
    let mut depth = 0_i32;
    for (at, c) in code.iter().enumerate().skip(from) {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            '{' if depth <= 0 => return Some(at),
            ';' if depth <= 0 => return None,
            _ => {}
        }
    }
    None
}

/// Where the brace that opens at `open` closes.
pub(super) fn closing(code: &[char], open: usize) -> Option<usize> {
    let mut depth = 0_i32;
    for (at, c) in code.iter().enumerate().skip(open) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => continue,
        }
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

fn line_of(code: &[char], at: usize) -> usize {
    code[..at].iter().filter(|c| **c == '\n').count() + 1
}

/// Identifiers and keywords, with where they begin.
pub(super) fn words(code: &[char]) -> impl Iterator<Item = (usize, String)> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        while at < code.len() && !is_word(code[at]) {
            at += 1;
        }
        let start = at;
        while at < code.len() && is_word(code[at]) {
            at += 1;
        }
        (start < at).then(|| (start, code[start..at].iter().collect()))
    })
}

pub(super) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Which lines are tests: all of a file that is one by its place, else what `#[cfg(test)]` covers.
fn test_lines(path: &str, code: &str) -> Vec<bool> {
    let mut lines = vec![is_test_file(path); code.lines().count()];
    let chars: Vec<char> = code.chars().collect();
    for (byte, mark) in code.match_indices("#[cfg(test)]") {
        let start = code[..byte].chars().count();
        let after = start + mark.len();
        let end = body(&chars, after).and_then(|open| closing(&chars, open)).unwrap_or(after);
        for line in line_of(&chars, start)..=line_of(&chars, end) {
            lines[line - 1] = true;
        }
    }
    lines
}

fn is_test_file(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.starts_with("tests/") || path.contains("/tests/")
}

/// Blanks comments, strings and character literals, and keeps every line and column where it was.
fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        match literal_end(&chars, at) {
            Some(end) => {
                code.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
                at = end;
            }
            None => {
                code.push(chars[at]);
                at += 1;
            }
        }
    }
    code
}

/// The end of the comment, string or character literal that begins at `at`, where one does.
fn literal_end(chars: &[char], at: usize) -> Option<usize> {
    let next = chars.get(at + 1).copied();
    match chars[at] {
        '/' if next == Some('/') => Some(find(chars, at, |rest| rest[0] == '\n')),
        '/' if next == Some('*') => Some(block_comment_end(chars, at)),
        '"' => Some(string_end(chars, at + 1)),
        'r' if !at
            .checked_sub(1)
            .is_some_and(|before| is_word(chars[before]) && !"bc".contains(chars[before])) =>
        {
            raw_string_end(chars, at)
        }
        '\'' if next == Some('\\') => Some(find(chars, at + 3, |rest| rest[0] == '\'') + 1),
        '\'' if chars.get(at + 2) == Some(&'\'') => Some(at + 3),
        _ => None,
    }
}

/// The first place from `from` on of which `is` holds; the end where there is none.
fn find(chars: &[char], from: usize, is: impl Fn(&[char]) -> bool) -> usize {
    (from..chars.len()).find(|at| is(&chars[*at..])).unwrap_or(chars.len())
}

fn block_comment_end(chars: &[char], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0);
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    chars.len()
}

fn string_end(chars: &[char], mut at: usize) -> usize {
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

/// The end of `r"…"` or `r#"…"#`; none where the `r` begins something else.
fn raw_string_end(chars: &[char], at: usize) -> Option<usize> {
    let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
    let open = at + 1 + hashes;
    if chars.get(open) != Some(&'"') {
        return None;
    }
    let close: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
    Some((find(chars, open + 1, |rest| rest.starts_with(&close)) + close.len()).min(chars.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blanked_in_place() {
        for (text, code) in [
            ("a // b\nc", "a     \nc"),
            ("a /* b /* c */ d */ e", "a                   e"),
            (r#"f("x\"y", z)"#, "f(      , z)"),
            (r##"r#"a"b"# + br"c" + var"##, "         + b     + var"),
            (r"'a' '\'' '\u{1f}' &'a str", "                  &'a str"),
            ("b'x' 'static", "b    'static"),
            ("\"open", "     "),
        ] {
            assert_eq!(blank(text), code, "{text}");
            assert_eq!(blank(text).lines().count(), text.lines().count());
        }
    }

    #[test]
    fn functions_are_measured_by_their_braces() {
        let text =
            "fn a(x: [u8; 2]) -> fn() {\n    \"}\";\n}\ntrait T { fn none(&self);\n async fn b() {} }\n";
        let functions = Source::new("a.rs", text).functions();
        let expected = [("a", 1, 3), ("b", 5, 1)];
        assert_eq!(
            functions,
            expected.map(|(name, line, lines)| Function { name: name.into(), line, lines })
        );
    }

    #[test]
    fn what_cfg_test_covers_is_test_and_nothing_else() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n  fn b() {}\n}\nfn c() {}\n#[cfg(test)]\nmod more;\nfn d() {}\n";
        let source = Source::new("src/a.rs", text);
        let production: Vec<_> = source.production_code().map(|(number, _)| number).collect();
        assert_eq!(production, [1, 6, 8, 9]);
        assert_eq!(Source::new("src/a/tests.rs", text).production_code().count(), 0);
        assert_eq!(Source::new("crates/a/tests/x.rs", text).production_code().count(), 0);
    }
}
