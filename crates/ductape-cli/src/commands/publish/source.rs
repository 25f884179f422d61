//! Where lines come from.

use super::Arguments;
use crate::failure::{Failure, Outcome};
use crate::output::is_replaced;
use std::fs::{File, Metadata};
use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};

/// Where lines come from.
#[derive(Debug)]
pub(super) enum Source {
    /// `--message`.
    Message(io::Cursor<Vec<u8>>),
    /// `--file`, with its length when it was opened where that can be told.
    File { file: File, path: PathBuf, length: Option<u64> },
    /// `-`.
    Stdin(io::Stdin),
}

impl Source {
    pub(super) fn open(arguments: &Arguments) -> Outcome<Self> {
        match (&arguments.message, &arguments.file) {
            (Some(message), _) => {
                // A message of several lines is still one message.
                let message = message.replace(['\n', '\r'], " ");
                Ok(Source::Message(io::Cursor::new(message.into_bytes())))
            }
            (None, Some(path)) if path != Path::new("-") => Source::file(path),
            (None, None) if arguments.stdin.is_none() && io::stdin().is_terminal() => Err(Failure::usage(
                "nothing to publish is named",
                "give `--message JSON`, `--file FILE`, or `-` for standard input",
            )),
            _ if is_replaced(io::stdin()) => {
                Err(Failure::usage("standard input is closed", "leave it open, or name a file with `--file`"))
            }
            _ => Ok(Source::Stdin(io::stdin())),
        }
    }

    fn file(path: &Path) -> Outcome<Self> {
        let open = || -> io::Result<(File, Metadata)> {
            let file = File::open(path)?;
            let metadata = file.metadata()?;
            match metadata.is_dir() {
                true => Err(io::Error::other("it is a folder")),
                false => Ok((file, metadata)),
            }
        };
        let (file, metadata) = open().map_err(|error| {
            let what = format!("{} cannot be read: {error}", path.display());
            Failure::usage(what, "name a file with one message a line")
        })?;
        let length = metadata.is_file().then_some(metadata.len());
        Ok(Source::File { file, path: path.to_owned(), length })
    }

    /// How many bytes there are, where that can be told.
    pub(super) fn length(&self) -> Option<u64> {
        match self {
            Source::File { length, .. } => *length,
            _ => None,
        }
    }

    /// Whether it is a single message, whose fault needs no line number.
    pub(super) fn is_single(&self) -> bool {
        matches!(self, Source::Message(_))
    }

    /// As people call it.
    pub(super) fn name(&self) -> String {
        match self {
            Source::Message(_) => "--message".into(),
            Source::File { path, .. } => path.display().to_string(),
            Source::Stdin(_) => "standard input".into(),
        }
    }

    /// How long the file is by now; none where that cannot be told.
    pub(super) fn length_now(&self) -> Option<u64> {
        match self {
            Source::File { file, length: Some(_), .. } => Some(file.metadata().ok()?.len()),
            _ => None,
        }
    }

    /// What tells whether two names lead to one file.
    pub(super) fn metadata(&self) -> Option<Metadata> {
        match self {
            Source::File { file, .. } => file.metadata().ok(),
            _ => None,
        }
    }
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Source::Message(message) => message.read(buffer),
            Source::File { file, .. } => file.read(buffer),
            Source::Stdin(stdin) => stdin.read(buffer),
        }
    }
}
