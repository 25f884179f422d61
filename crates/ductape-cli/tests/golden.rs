//! Sessions as a user has them: every command and every error, with what is printed and the exit code.
//!
//! `TRYCMD=overwrite cargo test -p ductape-cli --test golden` writes what is printed now into the sessions; put `[..]` where
//! ids, times and durations stand.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::{Path, PathBuf};

/// What the recipes are about, with a second SQLITE in the place of a server.
const CATALOGUE: &str = "
product: my-product
brokers:
  - name: Order Events
    tag: order-events
    envs:
      - { slug: dev, type: SQLITE, config: { path: .ductape/dev.db } }
      - { slug: prd, type: SQLITE, config: { path: .ductape/prd.db } }
    topics:
      - { name: New Orders, tag: new-orders }
";

const CHANGE: &str = "
product: my-product
brokers:
  - { name: Order Events, tag: order-events, description: All that happens to orders }
";

/// The folder of the binary, in front of the others, so that pipes in `sh -c '…'` find it.
fn search_path() -> String {
    let binary = PathBuf::from(env!("CARGO_BIN_EXE_ductape"));
    let folder = binary.parent().map(|folder| folder.display().to_string()).unwrap_or_default();
    format!("{folder}:{}", std::env::var("PATH").unwrap_or_default())
}

fn run(sessions: &str) {
    let cases = trycmd::TestCases::new();
    cases
        .register_bin("ductape", Path::new(env!("CARGO_BIN_EXE_ductape")))
        .register_bin("sh", Path::new("/bin/sh"))
        .env("PATH", search_path())
        .env("DUCTAPE_ENV", "")
        .env("DUCTAPE_CATALOGUE", "")
        .env("COLUMNS", "110")
        .env("KAFKA_BROKERS", "127.0.0.1:1")
        .case(sessions);
}

#[test]
fn sessions() {
    run("tests/cmd/*.md");
}

#[test]
fn the_page_of_recipes_is_what_happens() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("recipes.in");
    std::fs::create_dir(&place).unwrap();
    std::fs::write(place.join("ductape.yaml"), CATALOGUE).unwrap();
    std::fs::write(place.join("change.yaml"), CHANGE).unwrap();
    // With a folder of what is expected, the sessions run in one folder of their own.
    let expected = folder.path().join("recipes.out");
    std::fs::create_dir(&expected).unwrap();
    std::fs::write(expected.join("change.yaml"), CHANGE).unwrap();
    let page = folder.path().join("recipes.md");
    std::fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("RECIPES.md"), &page).unwrap();
    run(&page.display().to_string());
}
