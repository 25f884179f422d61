//! Every way in which connecting and calling can fail has an error of its own kind, in time, and without a secret.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use ductape_core::config::{ProviderConfig, RabbitMqConfig};
use ductape_core::{
    Broker, ConnectOptions, Consumer, ConsumerOptions, Destination, Error, ErrorKind, Provider,
};
use ductape_rabbitmq::RabbitMqProvider;
use ductape_testkit::servers::{self, Certificates, Endpoint, Kind, Options};
use lapin::options::{ExchangeDeclareOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::uri::AMQPUri;
use lapin::{Connection, ConnectionProperties, ExchangeKind};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::{acks, connect, destination, message, text};

const IN_TIME: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(20);
const SECRET: &str = "kept-by-this-test-0001";

/// The error of connecting with this config, in time, with help, without its password.
async fn refused(config: RabbitMqConfig, kind: ErrorKind) -> Error {
    let start = Instant::now();
    let options = ConnectOptions { connect_timeout: IN_TIME, ..ConnectOptions::default() };
    let given = ProviderConfig::RabbitMq(config.clone());
    let error = RabbitMqProvider.connect(&given, &options).await.err().expect("no connection");
    let took = start.elapsed();
    assert_eq!(error.kind(), kind, "{error}");
    assert!(took < IN_TIME + Duration::from_secs(2), "{error} after {took:?}");
    assert!(error.help().is_some(), "{error}");
    let password = config.password.as_ref().map_or(SECRET, |password| password.expose());
    assert!(!format!("{error} {error:?}").contains(password), "{error}");
    error
}

fn with_secret(endpoint: &Endpoint) -> RabbitMqConfig {
    RabbitMqConfig { password: Some(SECRET.into()), ..support::config(endpoint) }
}

fn by_tls(endpoint: &Endpoint) -> RabbitMqConfig {
    RabbitMqConfig {
        port: Some(endpoint.tls_port()),
        tls: true,
        ca_file: endpoint.ca_file.clone(),
        ..support::config(endpoint)
    }
}

#[tokio::test]
async fn a_wrong_password_user_or_vhost_is_told_apart() {
    let server = match servers::shared(Kind::RabbitMq).await {
        Ok(server) => server,
        Err(why) => return why.skip("a wrong password, user or vhost is told apart"),
    };
    let endpoint = server.endpoint();
    refused(with_secret(endpoint), ErrorKind::AuthenticationFailed).await;
    let nobody = RabbitMqConfig { username: Some("nobody".into()), ..support::config(endpoint) };
    refused(nobody, ErrorKind::AuthenticationFailed).await;
    let url = RabbitMqConfig {
        url: Some(format!("amqp://nobody:{SECRET}@{}/%2f", endpoint.address).as_str().into()),
        ..RabbitMqConfig::default()
    };
    refused(url, ErrorKind::AuthenticationFailed).await;
    let nowhere = RabbitMqConfig { vhost: Some("nowhere".into()), ..support::config(endpoint) };
    let error = refused(nowhere, ErrorKind::PermissionDenied).await;
    assert!(error.to_string().contains("nowhere"), "{error}");
}

#[tokio::test]
async fn a_certificate_that_cannot_be_trusted_is_tls_that_failed() {
    let server = match servers::shared(Kind::RabbitMq).await {
        Ok(server) => server,
        Err(why) => return why.skip("a certificate that cannot be trusted is tls that failed"),
    };
    let endpoint = server.endpoint();
    connect(&by_tls(endpoint), PATIENCE).await.unwrap().close().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let others = Certificates::generate(folder.path()).unwrap();
    let unknown = RabbitMqConfig { ca_file: Some(others.ca), ..by_tls(endpoint) };
    refused(unknown, ErrorKind::TlsFailed).await;
    let (host, port) = elsewhere(endpoint.tls.clone().unwrap()).await;
    let elsewhere = RabbitMqConfig { host: Some(host), port: Some(port), ..by_tls(endpoint) };
    let error = refused(elsewhere, ErrorKind::TlsFailed).await;
    assert!(error.to_string().contains("127.0.0.2"), "{error}");
    let plain_port = RabbitMqConfig { port: Some(endpoint.port()), ..by_tls(endpoint) };
    refused(plain_port, ErrorKind::TlsFailed).await;
    let tls_port = RabbitMqConfig { port: Some(endpoint.tls_port()), ..support::config(endpoint) };
    let error = refused(tls_port, ErrorKind::ConnectFailed).await;
    assert!(error.help().unwrap().contains("tls"), "{error} {:?}", error.help());
}

/// The server at an address that its certificate, of 127.0.0.1 and localhost, does not name.
async fn elsewhere(address: String) -> (String, u16) {
    let listener = tokio::net::TcpListener::bind("127.0.0.2:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut server = tokio::net::TcpStream::connect(&address).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
        }
    });
    ("127.0.0.2".into(), port)
}

#[tokio::test]
async fn a_place_where_no_server_is_says_so() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = Endpoint::at(listener.local_addr().unwrap().to_string());
    let error = refused(with_secret(&silent), ErrorKind::Timeout).await;
    assert!(error.to_string().contains(&silent.address), "{error}");
    let tls = RabbitMqConfig { tls: true, ..with_secret(&silent) };
    refused(tls, ErrorKind::Timeout).await;
    drop(listener);
    let error = refused(with_secret(&silent), ErrorKind::ConnectFailed).await;
    assert!(error.to_string().contains(&silent.address), "{error}");
    let error =
        refused(with_secret(&Endpoint::at("no-such-host.invalid:5672")), ErrorKind::ConnectFailed).await;
    assert!(error.to_string().contains("no-such-host.invalid"), "{error}");
}

#[tokio::test]
async fn a_queue_or_exchange_of_another_make_is_a_mismatch_that_names_what_differs_and_the_fix() {
    let server = match servers::shared(Kind::RabbitMq).await {
        Ok(server) => server,
        Err(why) => return why.skip("a queue of another make is a mismatch that names what differs"),
    };
    let endpoint = server.endpoint();
    let (destination, exchange) = (destination("taken"), format!("fanout-{:016x}", fastrand::u64(..)));
    let queue = format!("{}.readers", destination.name);
    declare_by_others(endpoint, &queue, &exchange).await;
    let broker = connect(&support::config(endpoint), PATIENCE).await.unwrap();
    let error = broker.ensure(&destination).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DestinationMismatch, "{error}");
    for word in ["x-queue-type", &queue, "quorum"] {
        assert!(error.to_string().contains(word), "{word}: {error}");
    }
    assert!(error.help().unwrap().contains("delete the queue"), "{:?}", error.help());
    let fanout = RabbitMqConfig { exchange: Some(exchange.clone()), ..support::config(endpoint) };
    let broker = connect(&fanout, PATIENCE).await.unwrap();
    let error = broker.ensure(&support::destination("fanout")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DestinationMismatch, "{error}");
    assert!(error.to_string().contains("type") && error.to_string().contains(&exchange), "{error}");
}

/// A classic queue and a fanout exchange of these names.
async fn declare_by_others(endpoint: &Endpoint, queue: &str, exchange: &str) {
    let mut address: AMQPUri = format!("amqp://{}/%2f", endpoint.address).parse().unwrap();
    address.authority.userinfo.username = endpoint.username.clone().unwrap();
    address.authority.userinfo.password = endpoint.password.as_ref().unwrap().expose().to_owned();
    let connection = Connection::connect_uri(address, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue.into(), durable, FieldTable::default()).await.unwrap();
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let fanout = ExchangeKind::Fanout;
    channel.exchange_declare(exchange.into(), fanout, durable, FieldTable::default()).await.unwrap();
    connection.close(200, "OK".into()).await.unwrap();
}

#[tokio::test]
async fn a_message_over_the_servers_limit_is_too_large_and_takes_no_other_with_it() {
    let options = Options::default().with_setting("max_message_size", "100000");
    let server = match servers::own(Kind::RabbitMq, options).await {
        Ok(server) => server,
        Err(why) => return why.skip("a message over the server's limit is too large"),
    };
    let broker = connect(&support::config(server.endpoint()), PATIENCE).await.unwrap();
    let destination = destination("large");
    broker.ensure(&destination).await.unwrap();
    let publisher = broker.publisher(&destination).await.unwrap();
    let batch = || vec![message("small"), message(vec![b'x'; 200_000]), message("smaller")];
    let results = publisher.publish(batch()).await;
    let error = results[1].as_ref().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::MessageTooLarge, "{error}");
    assert!(!error.is_retryable() && error.to_string().contains("100000"), "{error}");
    assert!(error.help().unwrap().contains("max_message_size"), "{:?}", error.help());
    for other in [&results[0], &results[2]] {
        assert!(
            other.as_ref().is_ok_and(|_| true) || other.as_ref().is_err_and(Error::is_uncertain),
            "{other:?}"
        );
    }
    // From then on it is refused before it is sent, and the others go.
    let results = publisher.publish(batch()).await;
    assert!(results[0].is_ok() && results[2].is_ok(), "{results:?}");
    assert_eq!(results[1].as_ref().unwrap_err().kind(), ErrorKind::MessageTooLarge);
    let options = ConsumerOptions::new("readers");
    let consumer = broker.consumer(&destination, &options).await.unwrap();
    let deliveries = consumer.receive(10, PATIENCE).await.unwrap();
    assert!(deliveries.iter().all(|delivery| text(delivery).starts_with("small")));
    consumer.settle(acks(&deliveries)).await.into_iter().for_each(|result| result.unwrap());
}

/// The server works verdicts off behind those who tell them, and those of a connection that ends it may drop.
#[tokio::test(flavor = "multi_thread")]
async fn verdicts_that_are_taken_hold_though_the_consumer_closes_at_once() {
    let server = match servers::shared(Kind::RabbitMq).await {
        Ok(server) => server,
        Err(why) => return why.skip("verdicts that are taken hold though the consumer closes at once"),
    };
    let broker = connect(&support::config(server.endpoint()), PATIENCE).await.unwrap();
    let destination = destination("hasty");
    let consumer = settled_consumer(&broker, &destination).await;
    consumer.close().await.unwrap();
    assert_nothing_is_left(&broker, &destination).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn verdicts_that_are_taken_hold_though_the_connection_closes_at_once() {
    let server = match servers::shared(Kind::RabbitMq).await {
        Ok(server) => server,
        Err(why) => return why.skip("verdicts that are taken hold though the connection closes at once"),
    };
    let config = support::config(server.endpoint());
    let broker = connect(&config, PATIENCE).await.unwrap();
    let destination = destination("hasty");
    let _consumer = settled_consumer(&broker, &destination).await;
    broker.close().await.unwrap();
    broker.close().await.unwrap();
    let broker = connect(&config, PATIENCE).await.unwrap();
    assert_nothing_is_left(&broker, &destination).await;
}

/// A consumer that has just acknowledged all of a backlog.
async fn settled_consumer(broker: &Arc<dyn Broker>, destination: &Destination) -> Arc<dyn Consumer> {
    broker.ensure(destination).await.unwrap();
    let publisher = broker.publisher(destination).await.unwrap();
    let batch = (0..8_000).map(|n| message(format!("{n}"))).collect();
    publisher.publish(batch).await.into_iter().for_each(|result| drop(result.unwrap()));
    let options = ConsumerOptions { max_in_flight: 1024, ..ConsumerOptions::new("readers") };
    let consumer = broker.consumer(destination, &options).await.unwrap();
    let mut taken = 0;
    while taken < 8_000 {
        let mut deliveries = consumer.receive(1024, PATIENCE).await.unwrap();
        taken += deliveries.len();
        // Backwards, so that none stands for another.
        deliveries.reverse();
        for delivery in deliveries {
            consumer.settle(acks(&[delivery])).await.pop().unwrap().unwrap();
        }
    }
    consumer
}

async fn assert_nothing_is_left(broker: &Arc<dyn Broker>, destination: &Destination) {
    let options = ConsumerOptions { max_in_flight: 1024, ..ConsumerOptions::new("readers") };
    let consumer = broker.consumer(destination, &options).await.unwrap();
    let again = consumer.receive(1024, Duration::from_secs(2)).await.unwrap();
    assert_eq!(
        again.iter().map(text).collect::<Vec<_>>(),
        Vec::<String>::new(),
        "acknowledged, and here again"
    );
}
