//! The conformance suite on RabbitMQ, plain and over TLS.

use bytes::Bytes;
use ductape_core::config::{ProviderConfig, RabbitMqConfig};
use ductape_core::secret::Secret;
use ductape_core::{Destination, ErrorKind};
use ductape_rabbitmq::RabbitMqProvider;
use ductape_testkit::conformance::{self, Subject};
use ductape_testkit::servers::{self, Endpoint, Kind};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::uri::AMQPUri;
use lapin::{BasicProperties, Connection, ConnectionProperties};
use std::error::Error;
use std::process::ExitCode;

fn main() -> ExitCode {
    conformance::main(|| async {
        match servers::shared(Kind::RabbitMq).await {
            Ok(server) => {
                ["rabbitmq", "rabbitmq-tls"].map(|label| subject(label, server.endpoint().clone())).into()
            }
            Err(why) => vec![why.subject()],
        }
    })
}

fn subject(label: &str, endpoint: Endpoint) -> Subject {
    let config = config(&endpoint, label.ends_with("tls"));
    let secret = endpoint.password.as_ref().map_or_else(String::new, |password| password.expose().to_owned());
    let wrong = RabbitMqConfig { password: Some("wrong".into()), ..config.clone() };
    let nowhere = RabbitMqConfig { vhost: Some("nowhere".into()), ..config.clone() };
    Subject::new(RabbitMqProvider, ProviderConfig::RabbitMq(config))
        .with_refused(ProviderConfig::RabbitMq(wrong), ErrorKind::AuthenticationFailed)
        .with_refused(ProviderConfig::RabbitMq(nowhere), ErrorKind::PermissionDenied)
        .with_label(label)
        .with_lease(None)
        .allow_skip(
            "settlement: a delayed retry",
            "RabbitMQ delays nothing; the worker waits, which is tried there",
        )
        .allow_skip("settlement: a lease that ran out", "a delivery is its channel's, without a lease")
        .allow_skip("settlement: a renewed lease", "a delivery is its channel's, without a lease")
        .with_secret(secret)
        .with_foreign_publish(move |destination, body| foreign(endpoint.clone(), destination, body))
}

fn config(endpoint: &Endpoint, tls: bool) -> RabbitMqConfig {
    RabbitMqConfig {
        host: Some(endpoint.host().to_owned()),
        port: Some(if tls { endpoint.tls_port() } else { endpoint.port() }),
        username: endpoint.username.clone(),
        password: endpoint.password.clone(),
        tls,
        ca_file: endpoint.ca_file.clone(),
        ..RabbitMqConfig::default()
    }
}

/// Publishes by lapin alone, without a property.
async fn foreign(
    endpoint: Endpoint,
    destination: Destination,
    body: Bytes,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut address: AMQPUri = format!("amqp://{}/%2f", endpoint.address).parse()?;
    address.authority.userinfo.username = endpoint.username.unwrap_or_else(|| "guest".into());
    address.authority.userinfo.password =
        endpoint.password.as_ref().map_or("guest", Secret::expose).to_owned();
    let connection = Connection::connect_uri(address, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let (key, options) = ((&*destination.name).into(), BasicPublishOptions::default());
    let confirm = channel
        .basic_publish("ductape".into(), key, options, &body, BasicProperties::default())
        .await?
        .await?;
    connection.close(200, "OK".into()).await?;
    if confirm.is_ack() { Ok(()) } else { Err("the server did not confirm".into()) }
}
