//! The conformance suite on Google's emulator, and on the cloud where the environment names a project.

use bytes::Bytes;
use ductape_core::config::{ProviderConfig, PubSubConfig};
use ductape_core::{Destination, ErrorKind};
use ductape_pubsub::PubSubProvider;
use ductape_testkit::conformance::{self, Subject};
use ductape_testkit::servers::{self, Kind};
use google_cloud_auth::credentials::anonymous;
use google_cloud_pubsub::client::Publisher;
use google_cloud_pubsub::model::Message;
use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

/// The project of the cloud in which the suite makes its topics. Credentials are the application's default ones.
const PROJECT: &str = "DUCTAPE_TEST_PUBSUB_PROJECT";
const LABELS: [&str; 3] = ["pubsub", "pubsub-ordered", "pubsub-exactly-once"];
/// The shortest lease that Pub/Sub keeps.
const SHORTEST_LEASE: Duration = Duration::from_secs(10);

/// A bare gRPC client sees the same: with 0 to 9 of a key in hand, 10 to 19 published and its stream ended, another stream
/// gets 10 to 19 at once, and then 0 to 9 when these are given back or their lease ends.
const OVERTAKEN: &str = "Google's emulator sends what is new of a key to another member while earlier ones are with a \
                         member that has left, and puts what is given back behind it";

fn main() -> ExitCode {
    conformance::main(|| async {
        let mut subjects = match servers::shared(Kind::PubSub).await {
            Ok(server) => {
                let endpoint = server.endpoint().address.clone();
                LABELS.map(|label| on_emulator(label, &endpoint)).into()
            }
            // It comes with the Cloud SDK alone, so it may be missing also where everything is required.
            Err(why) => vec![why.subject().allow_skip("", "Google's emulator is part of the Cloud SDK")],
        };
        subjects.extend(on_cloud());
        subjects
    })
}

fn on_emulator(label: &str, endpoint: &str) -> Subject {
    let config = PubSubConfig {
        project_id: "ductape-test".into(),
        endpoint: Some(endpoint.into()),
        exactly_once: label.ends_with("exactly-once"),
        ..PubSubConfig::default()
    };
    let nobody = PubSubConfig { endpoint: Some("127.0.0.1:1".into()), ..config.clone() };
    let keyless = PubSubConfig { key_filename: Some("/missing/key.json".into()), ..config.clone() };
    subject(label, config)
        .with_refused(ProviderConfig::GooglePubSub(nobody), ErrorKind::ConnectFailed)
        .with_refused(ProviderConfig::GooglePubSub(keyless), ErrorKind::SecretMissing)
        .with_quiet(Duration::from_secs(1))
        .with_skip("order: a key keeps its order through retries and members that leave", OVERTAKEN)
}

fn on_cloud() -> Vec<Subject> {
    let Ok(project) = std::env::var(PROJECT) else {
        let why = format!("{PROJECT} names no project");
        let absent = |label| Subject::absent(format!("cloud-{label}"), &*why).allow_skip("", &*why);
        return LABELS.map(absent).into();
    };
    let on_cloud = |label: &str| {
        let exactly_once = label.ends_with("exactly-once");
        let config = PubSubConfig { project_id: project.clone(), exactly_once, ..PubSubConfig::default() };
        subject(&format!("cloud-{label}"), config)
            .with_patience(Duration::from_secs(60))
            .with_quiet(Duration::from_secs(3))
    };
    LABELS.map(on_cloud).into()
}

fn subject(label: &str, config: PubSubConfig) -> Subject {
    let (ordered, foreign) = (label.contains("ordered"), config.clone());
    Subject::new(PubSubProvider, ProviderConfig::GooglePubSub(config))
        .with_label(label)
        .with_lease(Some(SHORTEST_LEASE))
        .with_patience(SHORTEST_LEASE * 3)
        .with_destinations(move |name| {
            let mut destination = Destination::new(format!("t-{name}"), format!("{name}-readers"));
            destination.ordered = ordered;
            destination
        })
        .with_foreign_publish(move |destination, body| publish_foreign(foreign.clone(), destination, body))
        .allow_skip("settlement: a delayed retry", "Pub/Sub delays no message; the worker does")
        .allow_skip("failure: the attempt number survives", "Pub/Sub counts only with a dead-letter policy")
        .allow_skip(
            "lifecycle: looking at a destination",
            "Pub/Sub tells no lag but through Cloud Monitoring",
        )
}

/// Publishes by Google's own client alone, without an attribute.
async fn publish_foreign(
    config: PubSubConfig,
    destination: Destination,
    body: Bytes,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let topic = format!("projects/{}/topics/{}", config.project_id, destination.name);
    let publisher = match &config.endpoint {
        Some(endpoint) => Publisher::builder(topic)
            .with_endpoint(format!("http://{endpoint}"))
            .with_credentials(anonymous::Builder::new().build()),
        None => Publisher::builder(topic),
    };
    publisher.build().await?.publish(Message::new().set_data(body)).await?;
    Ok(())
}
