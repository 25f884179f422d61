//! The providers that a program runs on.

use crate::service::Service;
use ductape_testkit::servers::{self, Endpoint, Error, Kind};
use serde_json::{Value, json};
use std::path::Path;

/// A provider to run on.
#[derive(Debug)]
pub struct Subject {
    /// Its `type` in a catalogue.
    pub kind: &'static str,
    place: Place,
}

/// Where a provider's messages are, and its config for that.
#[derive(Debug)]
enum Place {
    Folder(fn(&Path) -> Value),
    Server(Kind, fn(&Endpoint) -> Value),
}

/// Every provider.
pub const SUBJECTS: &[Subject] = &[
    Subject::embedded("MEMORY", |folder| json!({ "name": folder.to_string_lossy() })),
    Subject::embedded("SQLITE", |folder| json!({ "path": folder.join("messages.db") })),
    Subject::served(
        "RABBITMQ",
        Kind::RabbitMq,
        |at| json!({ "host": at.host(), "port": at.port(), "username": at.username, "password": password(at) }),
    ),
    Subject::served(
        "REDIS",
        Kind::Redis,
        |at| json!({ "host": at.host(), "port": at.port(), "username": at.username, "password": password(at) }),
    ),
    Subject::served(
        "GOOGLE_PUBSUB",
        Kind::PubSub,
        |at| json!({ "projectId": "shop", "endpoint": format!("http://{}", at.address) }),
    ),
    Subject::served("AWS_SQS", Kind::Sqs, |at| {
        let endpoint = format!("http://{}", at.address);
        json!({ "region": "us-east-1", "accessKeyId": "any", "secretAccessKey": "any", "endpoint": endpoint })
    }),
    Subject::served("KAFKA", Kind::Kafka, |at| json!({ "brokers": [at.address], "partitions": 4 })),
];

fn password(endpoint: &Endpoint) -> Option<&str> {
    endpoint.password.as_ref().map(|password| password.expose())
}

impl Subject {
    const fn embedded(kind: &'static str, config: fn(&Path) -> Value) -> Self {
        Subject { kind, place: Place::Folder(config) }
    }

    const fn served(kind: &'static str, server: Kind, config: fn(&Endpoint) -> Value) -> Self {
        Subject { kind, place: Place::Server(server, config) }
    }

    /// Its config, given a folder for those that keep messages there. Servers are those that all tests share.
    ///
    /// # Errors
    /// Why there is no server.
    pub async fn config(&self, folder: &Path) -> Result<Value, Error> {
        match self.place {
            Place::Folder(config) => Ok(config(folder)),
            Place::Server(kind, config) => Ok(config(servers::shared(kind).await?.endpoint())),
        }
    }
}

/// Runs a program on every subject, one after another. A panic is told with the subject that it happened on and keeps
/// none of the others from their turn; a subject without a server is skipped, aloud, by the program's name.
///
/// # Panics
/// Where the program does, and where a server is there and does not work.
#[allow(clippy::print_stderr, reason = "the harness shows it beside the panic")]
pub async fn on_each<F>(name: &str, program: impl Fn(Service) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut failed = Vec::new();
    for subject in SUBJECTS {
        match Service::new(subject).await {
            Err(why) => why.skip(&format!("{name} on {}", subject.kind)),
            Ok(service) => {
                if tokio::spawn(program(service)).await.is_err() {
                    // Beside the panic, which does not know where it happened.
                    eprintln!("that was {name} on {}", subject.kind);
                    failed.push(subject.kind);
                }
            }
        }
    }
    assert!(failed.is_empty(), "{name} failed on {}: see above", failed.join(", "));
}
