//! The conformance suite on SQS: standard and FIFO queues, on an emulator and, where it is asked for, on the cloud.

use aws_sdk_sqs::config::{BehaviorVersion, Credentials, Region, retry::RetryConfig};
use aws_sdk_sqs::types::MessageAttributeValue;
use base64::Engine;
use bytes::Bytes;
use ductape_core::config::{ProviderConfig, SqsConfig};
use ductape_core::secret::Secret;
use ductape_core::{Destination, ErrorKind};
use ductape_sqs::SqsProvider;
use ductape_testkit::conformance::{self, Subject};
use ductape_testkit::servers::{self, Endpoint, Kind};
use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

/// Names the region of a real SQS to run on, with credentials of the environment.
const CLOUD: &str = "DUCTAPE_TEST_SQS_REGION";
const SECRET: &str = "Zq7-the-secret-access-key-of-this-test";

/// Measured with boto3 alone: with 4,000 messages of as many groups a receive takes it 0.8 s, in which it sends nothing.
const SLOW: &str =
    "ElasticMQ's receive from a FIFO queue slows down with the number of message groups that wait";

fn main() -> ExitCode {
    conformance::main(|| async {
        let mut subjects: Vec<Subject> = match servers::shared(Kind::Sqs).await {
            Ok(server) => ["sqs", "sqs-fifo"].map(|label| emulated(label, server.endpoint())).into(),
            Err(why) => vec![why.subject()],
        };
        subjects.extend(["sqs-cloud", "sqs-cloud-fifo"].map(on_the_cloud));
        subjects
    })
}

fn emulated(label: &str, endpoint: &Endpoint) -> Subject {
    let config = SqsConfig {
        region: "us-east-1".into(),
        access_key_id: Some("test".into()),
        secret_access_key: Some(Secret::from(SECRET)),
        endpoint: Some(format!("http://{}", endpoint.address)),
        ..SqsConfig::default()
    };
    let closed = SqsConfig { endpoint: Some("http://127.0.0.1:1".into()), ..config.clone() };
    let malformed = SqsConfig { endpoint: Some("not a url".into()), ..config.clone() };
    let nowhere = SqsConfig { endpoint: Some("http://not a host".into()), ..config.clone() };
    let subject = subject(label, config)
        .with_secret(SECRET)
        // It writes each receive to its file, and lets go of a message group only at the next look of a receive.
        .with_quiet(Duration::from_secs(1))
        .with_lease(Some(Duration::from_secs(3)))
        .with_patience(Duration::from_secs(30));
    let subject = match label {
        "sqs-fifo" => subject.with_skip("delivery: 10,000 messages of parallel publishers", SLOW),
        _ => subject,
    };
    subject
        .with_refused(ProviderConfig::AwsSqs(closed), ErrorKind::ConnectFailed)
        .with_refused(ProviderConfig::AwsSqs(malformed), ErrorKind::ConfigInvalid)
        .with_refused(ProviderConfig::AwsSqs(nowhere), ErrorKind::ConfigInvalid)
}

fn on_the_cloud(label: &'static str) -> Subject {
    let Some(region) = std::env::var(CLOUD).ok().filter(|region| !region.is_empty()) else {
        let how = format!("{CLOUD} is not set: set it to a region, with credentials in the environment");
        return Subject::absent(label, how).allow_skip("", "the cloud is tried where credentials are");
    };
    subject(label, SqsConfig { region, ..SqsConfig::default() })
        .with_patience(Duration::from_secs(30))
        .with_quiet(Duration::from_secs(2))
        .allow_skip("secrets: ", "its config holds no secret: the environment does")
        .allow_skip("lifecycle: a config that cannot work", "tried on the emulator and the stand-in")
}

fn subject(label: &str, config: SqsConfig) -> Subject {
    let fifo = label.ends_with("fifo");
    let ending = if fifo { ".fifo" } else { "" };
    Subject::new(SqsProvider, ProviderConfig::AwsSqs(config.clone()))
        .with_label(label)
        .with_destinations(move |name| Destination::new(format!("{name}{ending}"), format!("{name}-readers")))
        .with_foreign_publish(move |destination, body| foreign(config.clone(), destination, body))
}

/// Publishes by the SDK alone. A body that is not UTF-8 cannot stand in an SQS message, so it goes as whoever knows
/// the README would send it.
async fn foreign(
    config: SqsConfig,
    destination: Destination,
    body: Bytes,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let client = raw_client(&config).await;
    let url = client.get_queue_url().queue_name(&*destination.name).send().await?;
    let marker = MessageAttributeValue::builder().data_type("String").string_value("base64").build()?;
    let fifo = destination.name.ends_with(".fifo");
    client
        .send_message()
        .set_queue_url(url.queue_url)
        .message_body(base64::engine::general_purpose::STANDARD.encode(&body))
        .message_attributes("ductape-body", marker)
        .set_message_group_id(fifo.then(|| "g".into()))
        .set_message_deduplication_id(fifo.then(|| "d".into()))
        .send()
        .await?;
    Ok(())
}

async fn raw_client(config: &SqsConfig) -> aws_sdk_sqs::Client {
    let http = aws_smithy_http_client::Builder::new()
        .tls_provider(aws_smithy_http_client::tls::Provider::Rustls(
            aws_smithy_http_client::tls::rustls_provider::CryptoMode::Ring,
        ))
        .build_https();
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new(config.region.clone()))
        .retry_config(RetryConfig::standard())
        .http_client(http);
    if let Some(endpoint) = &config.endpoint {
        loader = loader
            .endpoint_url(endpoint)
            .credentials_provider(Credentials::new("test", SECRET, None, None, "test"));
    }
    aws_sdk_sqs::Client::new(&loader.load().await)
}
