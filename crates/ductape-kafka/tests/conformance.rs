//! The conformance suite on Kafka: plain, and with a user over TLS. The other ways to be let in are tried by
//! `authentication.rs`.

mod support;

use bytes::Bytes;
use ductape_core::Destination;
use ductape_core::config::{ProviderConfig, SaslMechanism};
use ductape_kafka::KafkaProvider;
use ductape_testkit::conformance::{self, Subject};
use ductape_testkit::servers::{self, Endpoint, Kind};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use std::error::Error;
use std::process::ExitCode;
use support::{Auth, PATIENCE, config, refused};

fn main() -> ExitCode {
    conformance::main(|| async {
        match servers::shared(Kind::Kafka).await {
            Ok(server) => {
                let user_over_tls = Auth { sasl: Some(SaslMechanism::ScramSha512), tls: true };
                [Auth::NONE, user_over_tls].map(|auth| subject(auth, server.endpoint())).into()
            }
            Err(why) => vec![why.subject()],
        }
    })
}

fn subject(auth: Auth, endpoint: &Endpoint) -> Subject {
    let secret = endpoint.password.as_ref().map_or_else(String::new, |password| password.expose().to_owned());
    let foreign = endpoint.address.clone();
    let subject = Subject::new(KafkaProvider, ProviderConfig::Kafka(config(auth, endpoint)))
        .with_label(auth.label())
        .with_lease(None)
        .with_patience(PATIENCE)
        .with_quiet(support::QUIET)
        .with_secret(secret)
        .with_foreign_publish(move |destination, body| publish(foreign.clone(), destination, body))
        .allow_skip(
            "settlement: a delayed retry",
            "Kafka delays nothing; the worker waits, which is tried there",
        )
        .allow_skip("settlement: a lease that ran out", "a partition is a member's without a lease")
        .allow_skip("settlement: a renewed lease", "a partition is a member's without a lease");
    let with = |subject: Subject, (config, kind)| subject.with_refused(ProviderConfig::Kafka(config), kind);
    refused(auth, endpoint).into_iter().fold(subject, with)
}

/// Publishes by the client library alone: a value, and nothing else.
async fn publish(
    address: String,
    destination: Destination,
    body: Bytes,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let published = tokio::task::spawn_blocking(move || {
        let mut config = rdkafka::ClientConfig::new();
        let producer: BaseProducer = config.set("bootstrap.servers", address).create()?;
        let record: BaseRecord<'_, (), [u8]> = BaseRecord::to(&destination.name).payload(&body);
        producer.send(record).map_err(|(error, _)| error)?;
        producer.flush(PATIENCE)
    });
    Ok(published.await??)
}
