//! The example `departures` gives the same counts on every server as on one file.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[allow(dead_code)]
#[path = "../../crates/ductape/examples/departures/board.rs"]
mod board;
#[path = "../../crates/ductape/examples/departures/program.rs"]
mod program;

use board::Report;
use ductape_testkit::servers::{self, Endpoint, Kind};
use std::path::Path;
use tempfile::TempDir;

/// The example's catalogue in a folder of its own, with what the environment would say of this server.
fn catalogue(server: Option<(Kind, &Endpoint)>) -> TempDir {
    let example =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/ductape/examples/departures/ductape.yaml");
    let mut text = std::fs::read_to_string(example).unwrap();
    for (name, value) in server.into_iter().flat_map(|(kind, endpoint)| endpoint.variables(kind)) {
        text = with_variable(&text, &name, &value);
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("ductape.yaml"), text).unwrap();
    folder
}

/// Replaces the references to a variable, with their defaults, by its value.
fn with_variable(text: &str, name: &str, value: &str) -> String {
    let reference = format!("${{{name}:-");
    let mut parts = text.split(&reference);
    let mut replaced = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        replaced += value;
        replaced += part.split_once('}').unwrap().1;
    }
    replaced
}

async fn report(folder: &TempDir, env: &str) -> Report {
    program::run(&folder.path().join("ductape.yaml"), env).await.unwrap()
}

/// Twice, since the second run meets what the first has left on the server.
async fn counts_are_those_of_sqlite(kind: Kind) {
    let server = match servers::shared(kind).await {
        Ok(server) => server,
        Err(why) => return why.skip(&format!("departures on {kind}")),
    };
    let expected = report(&catalogue(None), "dev").await;
    let folder = catalogue(Some((kind, server.endpoint())));
    for _ in 0..2 {
        let seen = report(&folder, kind.name()).await;
        assert_eq!(seen.published, expected.published, "{seen}");
        // A queue of SQS has no second group.
        let audited = expected.audited.filter(|_| kind != Kind::Sqs);
        assert_eq!(seen.audited, audited, "{seen}");
        assert_eq!(seen.board, expected.board, "{seen}");
        assert_eq!(seen.cancelled.len(), expected.cancelled.len(), "{seen}");
        assert_eq!(seen.retried, expected.retried, "{seen}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_rabbitmq() {
    counts_are_those_of_sqlite(Kind::RabbitMq).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_redis() {
    counts_are_those_of_sqlite(Kind::Redis).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_pubsub() {
    counts_are_those_of_sqlite(Kind::PubSub).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_sqs() {
    counts_are_those_of_sqlite(Kind::Sqs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_kafka() {
    counts_are_those_of_sqlite(Kind::Kafka).await;
}
