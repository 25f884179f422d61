//! Every way in which connecting and calling can fail has an error of its own kind, in time, and without a secret.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use ductape_core::config::{ProviderConfig, RedisConfig};
use ductape_core::error::Retry;
use ductape_core::message::{Attributes, IdSource};
use ductape_core::{Broker, Clock, ConnectOptions, Destination, Error, ErrorKind, Message, Provider, Result};
use ductape_redis::RedisProvider;
use ductape_testkit::servers::{self, Certificates, Endpoint, Kind, Options};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

const IN_TIME: Duration = Duration::from_secs(3);
const SECRET: &str = "kept-by-this-test-0001";

async fn connect(config: &RedisConfig) -> Result<Arc<dyn Broker>> {
    let options = ConnectOptions { connect_timeout: IN_TIME, ..ConnectOptions::default() };
    RedisProvider.connect(&ProviderConfig::Redis(config.clone()), &options).await
}

/// The error of connecting with this config, in time, with help, without its password.
async fn refused(config: RedisConfig, kind: ErrorKind) -> Error {
    let start = Instant::now();
    let error = connect(&config).await.err().expect("no connection");
    let took = start.elapsed();
    assert_eq!(error.kind(), kind, "{error}");
    assert!(took < IN_TIME + Duration::from_secs(2), "{error} after {took:?}");
    assert!(error.help().is_some(), "{error}");
    let password = config.password.as_ref().map_or(SECRET, |password| password.expose());
    assert!(!format!("{error} {error:?}").contains(password), "{error}");
    error
}

fn with_secret(endpoint: &Endpoint) -> RedisConfig {
    RedisConfig { username: None, password: Some(SECRET.into()), ..support::config(endpoint) }
}

fn by_tls(endpoint: &Endpoint) -> RedisConfig {
    RedisConfig {
        port: Some(endpoint.tls_port()),
        tls: true,
        ca_file: endpoint.ca_file.clone(),
        ..support::config(endpoint)
    }
}

#[tokio::test]
async fn a_wrong_or_missing_password_is_an_authentication_that_failed() {
    let server = match servers::shared(Kind::Redis).await {
        Ok(server) => server,
        Err(why) => return why.skip("a wrong password is an authentication that failed"),
    };
    refused(with_secret(server.endpoint()), ErrorKind::AuthenticationFailed).await;
    let user = Some("nobody-of-this-name".into());
    let config = RedisConfig { username: user, ..with_secret(server.endpoint()) };
    refused(config, ErrorKind::AuthenticationFailed).await;
    let none = RedisConfig { username: None, password: None, ..support::config(server.endpoint()) };
    refused(none, ErrorKind::AuthenticationFailed).await;
}

#[tokio::test]
async fn a_certificate_that_cannot_be_trusted_is_tls_that_failed() {
    let options = Options::default().with_setting("bind", "127.0.0.1 127.0.0.2");
    let server = match servers::own(Kind::Redis, options).await {
        Ok(server) => server,
        Err(why) => return why.skip("a certificate that cannot be trusted is tls that failed"),
    };
    let endpoint = server.endpoint();
    connect(&by_tls(endpoint)).await.unwrap().close().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let others = Certificates::generate(folder.path()).unwrap();
    let unknown = RedisConfig { ca_file: Some(others.ca), ..by_tls(endpoint) };
    assert!(refused(unknown, ErrorKind::TlsFailed).await.to_string().contains("invalid peer certificate"));
    // The certificate is of 127.0.0.1 and localhost.
    let elsewhere = RedisConfig { host: Some("127.0.0.2".into()), ..by_tls(endpoint) };
    assert!(refused(elsewhere, ErrorKind::TlsFailed).await.to_string().contains("not valid for name"));
    let plain_port = RedisConfig { port: Some(endpoint.port()), ..by_tls(endpoint) };
    // Redis takes the greeting for the beginning of a command, and waits for its end.
    assert!(refused(plain_port, ErrorKind::Timeout).await.help().unwrap().contains("TLS"));
    let tls_port = RedisConfig { port: Some(endpoint.tls_port()), ..support::config(endpoint) };
    refused(tls_port, ErrorKind::ConnectFailed).await;
}

#[tokio::test]
async fn a_place_where_no_server_is_says_so() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = Endpoint::at(listener.local_addr().unwrap().to_string());
    refused(with_secret(&silent), ErrorKind::Timeout).await;
    drop(listener);
    refused(with_secret(&silent), ErrorKind::ConnectFailed).await;
    refused(with_secret(&Endpoint::at("no-such-host.invalid:6379")), ErrorKind::ConnectFailed).await;
}

#[tokio::test]
async fn a_cluster_and_sentinels_that_are_not_there_say_so() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = listener.local_addr().unwrap().to_string();
    drop(listener);
    let cluster = RedisConfig {
        cluster: vec![nobody.clone()],
        password: Some(SECRET.into()),
        ..RedisConfig::default()
    };
    refused(cluster, ErrorKind::ConnectFailed).await;
    let sentinel =
        serde_json::json!({ "sentinel": { "master": "m", "nodes": [nobody] }, "password": SECRET });
    refused(serde_json::from_value(sentinel).unwrap(), ErrorKind::ConnectFailed).await;
}

fn message(bytes: usize) -> Message {
    let now = Clock::system().now();
    let attributes = Attributes { source: "/t".into(), event: "t".into(), content_type: "t".into() };
    Message::new(vec![b'x'; bytes], IdSource::new().next(now), now, Arc::new(attributes))
}

#[tokio::test]
async fn a_server_without_memory_refuses_and_names_its_setting() {
    let options =
        Options::default().with_setting("maxmemory", "8mb").with_setting("maxmemory-policy", "noeviction");
    let server = match servers::own(Kind::Redis, options).await {
        Ok(server) => server,
        Err(why) => return why.skip("a server without memory refuses and names its setting"),
    };
    let broker = connect(&support::config(server.endpoint())).await.unwrap();
    let destination = Destination::new("full", "g");
    broker.ensure(&destination).await.unwrap();
    let publisher = broker.publisher(&destination).await.unwrap();
    let results = publisher.publish((0..20).map(|_| message(1024 * 1024)).collect()).await;
    let refused: Vec<_> = results.iter().filter_map(|result| result.as_ref().err()).collect();
    assert!(results[0].is_ok() && !refused.is_empty());
    for error in refused {
        assert_eq!((error.kind(), error.retry()), (ErrorKind::DestinationFull, Retry::Safe), "{error}");
        assert!(error.to_string().contains("maxmemory"), "{error}");
    }
    assert!(results.into_iter().skip_while(Result::is_ok).all(|result| result.is_err()));
}

#[tokio::test]
async fn a_name_that_is_taken_by_another_kind_of_value_is_a_mismatch() {
    let server = match servers::own(Kind::Redis, Options::default()).await {
        Ok(server) => server,
        Err(why) => return why.skip("a name that is taken by another kind of value is a mismatch"),
    };
    let password = server.endpoint().password.as_ref().unwrap().expose();
    let client = redis::Client::open(format!("redis://:{password}@{}", server.endpoint().address)).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    redis::cmd("SET").arg("taken").arg("1").exec_async(&mut connection).await.unwrap();
    let broker = connect(&support::config(server.endpoint())).await.unwrap();
    let error = broker.ensure(&Destination::new("taken", "g")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DestinationMismatch, "{error}");
}
