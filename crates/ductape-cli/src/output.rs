//! Standard output: data alone, for people on a terminal, tab-separated or JSON for everybody else.

use crate::failure::{Failure, Outcome};
use crate::table::Table;
use crate::terminal;
use serde::Serialize;
use std::io::{ErrorKind, Write};

/// What programs and people get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Text.
    Human,
    /// One JSON object, or one a line (`--json`).
    Json,
}

/// Standard output, in the format that was asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output(pub(crate) Format);

impl Output {
    pub(crate) fn format(self) -> Format {
        self.0
    }

    pub(crate) fn is_json(self) -> bool {
        self.0 == Format::Json
    }

    /// Writes a value as one line of JSON.
    pub(crate) fn json(self, value: &impl Serialize) -> Outcome {
        let mut line = serde_json::to_vec(value).map_err(std::io::Error::from).map_err(written)?;
        line.push(b'\n');
        self.bytes(&line)
    }

    /// Writes text as it is, with its styles where there is a terminal.
    pub(crate) fn text(self, text: &str) -> Outcome {
        let mut out = anstream::stdout().lock();
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(written)
    }

    /// Writes one line of text.
    pub(crate) fn line(self, text: &str) -> Outcome {
        self.text(&format!("{text}\n"))
    }

    /// Writes a table: aligned and with a heading on a terminal, else one row a line with tabs between.
    pub(crate) fn table(self, table: &Table) -> Outcome {
        self.text(&if terminal::stdout_is_one() { table.aligned() } else { table.tabbed() })
    }

    /// Writes bytes as they are.
    pub(crate) fn bytes(self, bytes: &[u8]) -> Outcome {
        let mut out = std::io::stdout().lock();
        out.write_all(bytes).and_then(|()| out.flush()).map_err(written)
    }
}

/// Refuses a standard output that was closed before the program began: what is written would be gone, and what is
/// acknowledged after that with it.
///
/// Rust opens `/dev/null` for reading and writing in its place. Nobody redirects an output so.
#[cfg(unix)]
pub(crate) fn check_open() -> Outcome {
    match is_replaced(std::io::stdout()) {
        true => Err(Failure::usage("standard output is closed", "leave it open, or send it to /dev/null")),
        false => Ok(()),
    }
}

#[cfg(not(unix))]
pub(crate) fn check_open() -> Outcome {
    Ok(())
}

/// Whether a stream was closed before the program began.
#[cfg(unix)]
pub(crate) fn is_replaced(stream: impl std::os::fd::AsFd) -> bool {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    use nix::sys::stat::{fstat, stat};
    let null = stat("/dev/null").map(|null| null.st_rdev);
    let is_null = fstat(&stream).map(|there| there.st_rdev) == null && null.is_ok_and(|device| device != 0);
    let flags = fcntl(&stream, FcntlArg::F_GETFL).map(OFlag::from_bits_truncate);
    is_null && flags.is_ok_and(|flags| flags & OFlag::O_ACCMODE == OFlag::O_RDWR)
}

#[cfg(not(unix))]
pub(crate) fn is_replaced<T>(_: T) -> bool {
    false
}

/// What a failed write to standard output means.
pub(crate) fn written(error: std::io::Error) -> Failure {
    match error.kind() {
        ErrorKind::BrokenPipe => Failure::ReaderGone,
        _ => Failure::io(
            "standard output cannot be written",
            error,
            "see that its file or device has room and is open",
        ),
    }
}
