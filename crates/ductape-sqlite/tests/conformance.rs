//! The conformance suite on SQLITE, once with each durability.

use ductape_core::ErrorKind;
use ductape_core::config::{Durability, ProviderConfig, SqliteConfig};
use ductape_sqlite::SqliteProvider;
use ductape_testkit::conformance::{self, Subject};
use std::path::PathBuf;
use std::process::ExitCode;

#[allow(clippy::print_stderr, reason = "there is no harness to tell")]
fn main() -> ExitCode {
    let folder = match tempfile::tempdir() {
        Ok(folder) => folder,
        Err(error) => {
            eprintln!("error: no temporary folder: {error}");
            return ExitCode::FAILURE;
        }
    };
    let foreign = folder.path().join("notes.txt");
    if let Err(error) =
        std::fs::write(&foreign, "not a database, and longer than the header of one ".repeat(10))
    {
        eprintln!("error: {}: {error}", foreign.display());
        return ExitCode::FAILURE;
    }
    let config = |path: PathBuf, durability| {
        ProviderConfig::Sqlite(SqliteConfig { path, durability, retain: None, max_bytes: None })
    };
    let subject = |label: &str, durability| {
        Subject::new(SqliteProvider, config(folder.path().join(label), durability))
            .with_label(label)
            .with_refused(config(foreign.clone(), durability), ErrorKind::StorageDamaged)
            .with_refused(config(folder.path().to_owned(), durability), ErrorKind::StorageFailed)
            .allow_skip(
                "delivery: a message that Ductape did not publish",
                "nobody else writes the file's format",
            )
    };
    let subjects =
        vec![subject("sqlite-full", Durability::Full), subject("sqlite-normal", Durability::Normal)];
    conformance::main(|| async { subjects })
}
