//! The example `departures` gives the same counts on every embedded provider, run after run.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[allow(dead_code)]
#[path = "../examples/departures/board.rs"]
mod board;
#[path = "../examples/departures/program.rs"]
mod program;

use board::{Board, Departure};
use std::path::Path;

async fn counts_are_those_of_the_file(env: &str, runs: usize) {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/departures");
    let folder = tempfile::tempdir().unwrap();
    let catalogue = folder.path().join("ductape.yaml");
    std::fs::copy(example.join("ductape.yaml"), &catalogue).unwrap();
    let file = std::fs::read_to_string(example.join("departures.ndjson")).unwrap();
    let flights: Vec<Departure> = file.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut expected = Board::default();
    flights.iter().filter(|flight| !flight.cancelled).for_each(|flight| expected.add(flight));

    for _ in 0..runs {
        let report = program::run(&catalogue, env).await.unwrap();
        assert_eq!(report.published, 6099);
        assert_eq!(report.audited, Some(6099));
        assert_eq!(report.board, expected, "{report}");
        assert_eq!(report.cancelled.len(), 35, "{report}");
        let unlucky = (500..=flights.len()).step_by(500).filter(|line| !flights[line - 1].cancelled).count();
        assert_eq!(report.retried, unlucky as u64, "every 500th flight fails once: {report}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_sqlite_run_after_run() {
    counts_are_those_of_the_file("dev", 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_memory() {
    counts_are_those_of_the_file("mem", 1).await;
}
