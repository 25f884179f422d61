//! Answers of the server where they lie, without a value made of each part.
//!
//! Of the protocol's second version (RESP2), which a connection speaks that asks for no other: `+` text, `-` refusal,
//! `:` number, `$` bytes behind their length, `*` values behind their count.

/// What a value begins with: all of it but for bytes and values, whose length or count it tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Head {
    /// Text, a number or a refusal.
    Line,
    Refusal,
    Bytes(usize),
    Values(usize),
    Nil,
}

/// What no server says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// The longest line: those of refusals, which name what was asked for.
const LONGEST_LINE: usize = 64 * 1024;

/// The first value's head and its length. Nothing where it has not come as a whole.
pub(crate) fn head(bytes: &[u8]) -> Result<Option<(Head, usize)>, Malformed> {
    let Some((kind, rest)) = bytes.split_first() else { return Ok(None) };
    let Some(line) = line(rest)? else { return Ok(None) };
    let head = match kind {
        b'$' => length(line)?.map_or(Head::Nil, Head::Bytes),
        b'*' => length(line)?.map_or(Head::Nil, Head::Values),
        b'+' | b':' => Head::Line,
        b'-' => Head::Refusal,
        _ => return Err(Malformed),
    };
    Ok(Some((head, 1 + line.len() + CRLF)))
}

const CRLF: usize = 2;

fn line(bytes: &[u8]) -> Result<Option<&[u8]>, Malformed> {
    match bytes.iter().position(|byte| *byte == b'\r') {
        Some(end) if bytes.get(end + 1).is_none_or(|byte| *byte == b'\n') => {
            Ok(bytes.get(end + 1).map(|_| &bytes[..end]))
        }
        None if bytes.len() <= LONGEST_LINE => Ok(None),
        _ => Err(Malformed),
    }
}

/// Nothing stands as -1.
fn length(line: &[u8]) -> Result<Option<usize>, Malformed> {
    if line == b"-1" {
        return Ok(None);
    }
    if line.is_empty() {
        return Err(Malformed);
    }
    let digit = |number: usize, byte: &u8| match byte {
        b'0'..=b'9' => number.checked_mul(10)?.checked_add(usize::from(byte - b'0')),
        _ => None,
    };
    line.iter().try_fold(0, digit).map(Some).ok_or(Malformed)
}

/// Looks for the end of a value that comes in pieces, each part of it once.
pub(crate) struct Scan {
    at: usize,
    left: usize,
}

impl Scan {
    pub(crate) fn new() -> Self {
        Scan { at: 0, left: 1 }
    }

    /// How long the value at the beginning is. Nothing where more is to come, behind the same bytes.
    pub(crate) fn end(&mut self, bytes: &[u8]) -> Result<Option<usize>, Malformed> {
        while self.left > 0 {
            let Some((head, length)) = head(&bytes[self.at..])? else { return Ok(None) };
            let (body, more) = match head {
                Head::Bytes(length) => (length.checked_add(CRLF).ok_or(Malformed)?, 0),
                Head::Values(count) => (0, count),
                Head::Line | Head::Refusal | Head::Nil => (0, 0),
            };
            if bytes.len() - self.at - length < body {
                return Ok(None);
            }
            self.at += length + body;
            self.left = (self.left - 1).checked_add(more).ok_or(Malformed)?;
        }
        Ok(Some(self.at))
    }
}

/// Values one after the other, all of which are there.
#[derive(Clone, Debug)]
pub(crate) struct Values<'b> {
    rest: &'b [u8],
}

impl<'b> Values<'b> {
    pub(crate) fn new(bytes: &'b [u8]) -> Self {
        Values { rest: bytes }
    }

    /// The next one's head; what it holds comes next. Nothing at the end.
    pub(crate) fn head(&mut self) -> Option<Head> {
        let (head, length) = head(self.rest).ok().flatten()?;
        self.rest = &self.rest[length..];
        Some(head)
    }

    /// Whether so many come next, and each is bytes.
    pub(crate) fn are_bytes(&self, count: usize) -> bool {
        let mut values = self.clone();
        (0..count).all(|_| values.bytes().is_some())
    }

    /// The next one, which must be bytes.
    pub(crate) fn bytes(&mut self) -> Option<&'b [u8]> {
        let Head::Bytes(length) = self.head()? else { return None };
        let (bytes, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest.get(CRLF..)?;
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use redis::Value;

    /// A value as a server writes it.
    fn written(value: &Value, to: &mut Vec<u8>) {
        match value {
            Value::Nil => to.extend(b"$-1\r\n"),
            Value::Int(number) => to.extend(format!(":{number}\r\n").bytes()),
            Value::SimpleString(text) => to.extend(format!("+{text}\r\n").bytes()),
            Value::BulkString(bytes) => {
                to.extend(format!("${}\r\n", bytes.len()).bytes());
                to.extend(bytes);
                to.extend(b"\r\n");
            }
            Value::Array(values) => {
                to.extend(format!("*{}\r\n", values.len()).bytes());
                values.iter().for_each(|value| written(value, to));
            }
            other => panic!("{other:?} is not of RESP2"),
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        let one = prop_oneof![
            Just(Value::Nil),
            any::<i64>().prop_map(Value::Int),
            "[a-z ]{0,9}".prop_map(Value::SimpleString),
            vec(any::<u8>(), 0..40).prop_map(Value::BulkString),
        ];
        one.prop_recursive(4, 64, 8, |inner| vec(inner, 0..8).prop_map(Value::Array))
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_end_of_a_value_is_found_however_it_comes_in_pieces(
            value in value(),
            behind in vec(any::<u8>(), 0..9),
            step in 1..50_usize,
        ) {
            let mut bytes = Vec::new();
            written(&value, &mut bytes);
            let length = bytes.len();
            bytes.extend(behind);
            let mut scan = Scan::new();
            for end in (0..length).step_by(step) {
                prop_assert_eq!(scan.end(&bytes[..end]), Ok(None));
            }
            prop_assert_eq!(scan.end(&bytes), Ok(Some(length)));
        }

        #[test]
        fn whatever_comes_is_looked_at_without_a_panic(bytes in vec(any::<u8>(), 0..64)) {
            let (mut scan, mut values) = (Scan::new(), Values::new(&bytes));
            if let Ok(Some(end)) = scan.end(&bytes) {
                prop_assert!(end <= bytes.len());
            }
            while values.bytes().is_some() {}
            prop_assert!(values.rest.len() <= bytes.len());
        }
    }

    #[test]
    fn heads_are_read_and_what_no_server_says_is_told() {
        let whole = |bytes: &[u8]| head(bytes).unwrap().unwrap();
        assert_eq!(whole(b"$12\r\n"), (Head::Bytes(12), 5));
        assert_eq!(whole(b"*0\r\n"), (Head::Values(0), 4));
        assert_eq!(whole(b"*-1\r\n"), (Head::Nil, 5));
        assert_eq!(whole(b"-ERR no\r\n+"), (Head::Refusal, 9));
        for part in [&b""[..], b"$", b"$1", b"$12\r", b"-ERR no"] {
            assert_eq!(head(part), Ok(None), "{part:?}");
        }
        for wrong in [&b"%1\r\n"[..], b"$x\r\n", b"$\r\n", b"$-2\r\n", b"$1\rx", b"$99999999999999999999\r\n"]
        {
            assert_eq!(head(wrong), Err(Malformed), "{wrong:?}");
        }
        let endless = vec![b'-'; LONGEST_LINE + 2];
        assert_eq!(head(&endless), Err(Malformed));
    }

    #[test]
    fn parts_are_had_where_they_lie() {
        let mut values = Values::new(b"*2\r\n$1\r\na\r\n$2\r\n\r\n\r\n:5\r\n");
        assert_eq!(values.head(), Some(Head::Values(2)));
        assert_eq!((values.bytes(), values.bytes()), (Some(&b"a"[..]), Some(&b"\r\n"[..])));
        assert_eq!(values.bytes(), None);
    }
}
