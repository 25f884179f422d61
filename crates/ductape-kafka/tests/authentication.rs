//! Each way to be let in: what it lets through, and how it says no.

mod support;

use ductape_core::config::{ProviderConfig, SaslMechanism};
use ductape_core::{ConnectOptions, Provider};
use ductape_kafka::KafkaProvider;
use ductape_testkit::conformance::{Selection, Subject, Suite};
use ductape_testkit::servers::{self, Endpoint, Kind};
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::{Auth, CONNECT, config, refused};

/// Of each part of the suite what a way to be let in could break.
const PROPERTIES: [&str; 7] = [
    "payload, key, headers",
    "members of a group share",
    "an acknowledged message never comes back",
    "messages of one key come in the order",
    "goes to the dead letters with its bytes intact",
    "looking at a destination",
    "secrets:",
];

fn ways() -> impl Iterator<Item = Auth> {
    let mechanisms = [SaslMechanism::Plain, SaslMechanism::ScramSha256, SaslMechanism::ScramSha512];
    let sasl = [None].into_iter().chain(mechanisms.map(Some));
    sasl.flat_map(|sasl| [false, true].map(|tls| Auth { sasl, tls }))
}

async fn endpoint(test: &str) -> Option<Endpoint> {
    match servers::shared(Kind::Kafka).await {
        Ok(server) => Some(server.endpoint().clone()),
        Err(why) => {
            why.skip(test);
            None
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_to_be_let_in_lets_everything_through() {
    let Some(endpoint) = endpoint("every way to be let in lets everything through").await else { return };
    for auth in ways() {
        let secret = endpoint.password.as_ref().map_or("", |password| password.expose()).to_owned();
        let subject = Subject::new(KafkaProvider, ProviderConfig::Kafka(config(auth, &endpoint)))
            .with_label(auth.label())
            .with_patience(Duration::from_secs(30))
            .with_quiet(support::QUIET)
            .with_lease(None)
            .with_secret(secret);
        let words = PROPERTIES.map(str::to_owned).into();
        let report = Suite::new(subject).run(&Selection { words, ..Selection::default() }).await;
        for property in &report.properties {
            writeln!(std::io::stdout().lock(), "{property}").unwrap();
        }
        assert!(report.is_ok() && report.properties.len() >= PROPERTIES.len(), "{}: {report}", auth.label());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_work_is_refused_by_its_kind_in_its_time_and_without_a_secret() {
    let Some(endpoint) = endpoint("what cannot work is refused by its kind in its time").await else {
        return;
    };
    let options = ConnectOptions { connect_timeout: CONNECT, ..ConnectOptions::default() };
    let provider = Arc::new(KafkaProvider);
    for auth in ways() {
        for (config, kind) in refused(auth, &endpoint) {
            let (start, place) = (Instant::now(), format!("{} at {:?}", auth.label(), config.brokers));
            let secrets = config.sasl.clone().map(|sasl| sasl.password.expose().to_owned());
            let error = provider.connect(&ProviderConfig::Kafka(config), &options).await.err().expect(&place);
            assert_eq!(error.kind(), kind, "{place}: {error}");
            assert!(start.elapsed() < CONNECT + Duration::from_secs(2), "{place}: {:?}", start.elapsed());
            assert!(error.help().is_some() && error.context("server").is_some(), "{place}: {error:?}");
            let shown = format!("{error} {error:?}");
            assert!(secrets.iter().all(|secret| !shown.contains(secret.as_str())), "{place}: {shown}");
        }
    }
}
