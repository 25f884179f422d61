//! `--rejects`: refused lines, as they were, to be mended and published again.

use super::source::Source;
use crate::failure::{Failure, Outcome};
use std::fs::{File, Metadata};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// The file of refused lines.
#[derive(Debug)]
pub(super) struct Rejects {
    file: BufWriter<File>,
    path: PathBuf,
}

impl Rejects {
    /// Makes the file, or empties the one that is there: what an earlier run refused is not to be taken for this
    /// one's.
    pub(super) fn create(path: &Path, source: &Source) -> Outcome<Self> {
        if let (Some(read), Ok(there)) = (source.metadata(), std::fs::metadata(path))
            && is_same(&read, &there)
        {
            return Err(Failure::usage(
                format!("`--rejects {}` is the file that is published", path.display()),
                "name another file",
            ));
        }
        let file = File::create(path).map_err(|error| failed(path, error))?;
        Ok(Rejects { file: BufWriter::new(file), path: path.to_owned() })
    }

    /// Writes a line, or the end of one whose parts were written before.
    pub(super) fn line(&mut self, bytes: &[u8]) -> Outcome {
        let written = self.file.write_all(bytes).and_then(|()| self.file.write_all(b"\n"));
        written.map_err(|error| failed(&self.path, error))
    }

    /// Writes a part of a line that is too long to be kept.
    pub(super) fn part(&mut self, bytes: &[u8]) -> Outcome {
        self.file.write_all(bytes).map_err(|error| failed(&self.path, error))
    }

    pub(super) fn flush(&mut self) -> Outcome {
        self.file.flush().map_err(|error| failed(&self.path, error))
    }
}

fn failed(path: &Path, error: io::Error) -> Failure {
    let what = format!("{} cannot be written", path.display());
    Failure::io(what, error, "name a file that may be written, on a disk with room")
}

#[cfg(unix)]
fn is_same(one: &Metadata, other: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

#[cfg(not(unix))]
fn is_same(one: &Metadata, other: &Metadata) -> bool {
    one.created().ok().zip(other.created().ok()).is_some_and(|(one, other)| one == other)
        && one.len() == other.len()
}
