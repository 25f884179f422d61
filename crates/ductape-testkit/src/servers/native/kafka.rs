//! Apache Kafka: one node that is broker and controller, with a listener for each way to authenticate.

use super::java::Installed;
use super::{PASSWORD, Place, Plan, USER};
use crate::servers::artifacts::KAFKA;
use crate::servers::{Endpoint, Options, ports};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ductape_core::secret::Secret;
use std::ffi::OsString;
use std::fmt::Write;
use std::io;
use std::path::Path;
use std::time::Duration;

/// What is the same for every node. Internal topics are small and need no other broker; groups do not wait for members
/// that may come yet, and may notice a dead one as soon as a test wants.
const COMMON: &str = "\
process.roles=broker,controller
node.id=1
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL,SSL:SSL,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
ssl.keystore.type=PEM
ssl.truststore.type=PEM
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
min.insync.replicas=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
auto.create.topics.enable=false
";

pub(super) fn plan(java: &Installed, place: &Place<'_>, options: &Options) -> io::Result<Plan> {
    let address = || ports::free().map(|port| format!("127.0.0.1:{port}"));
    let endpoint = Endpoint {
        address: address()?,
        tls: Some(address()?),
        sasl: Some(address()?),
        sasl_tls: Some(address()?),
        username: Some(USER.into()),
        password: Some(Secret::from(PASSWORD)),
        ca_file: Some(place.certificates.ca.clone()),
        ..Endpoint::default()
    };
    let properties = properties(&endpoint, &address()?, place, options);
    let file = place.write("server.properties", &properties)?;
    let format = java.run(options, [], "kafka.tools.StorageTool", format_arguments(&file));
    Ok(Plan {
        program: format!("Apache Kafka {}", KAFKA.version),
        run: java.run(options, [], "kafka.Kafka", [file]),
        first: Some((format, place.data.join("meta.properties"))),
        endpoint,
        patience: Duration::from_secs(90),
    })
}

/// Gives the data a cluster id and the users of SCRAM.
fn format_arguments(properties: &Path) -> Vec<OsString> {
    let id: [u8; 16] = std::array::from_fn(|_| fastrand::u8(..));
    let mut arguments: Vec<OsString> = vec!["format".into(), "-c".into(), properties.into()];
    // Together, since an id that begins with a dash would be taken for an option.
    arguments.push(format!("--cluster-id={}", URL_SAFE_NO_PAD.encode(id)).into());
    for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
        arguments.push("--add-scram".into());
        arguments.push(format!("{mechanism}=[name={USER},password={PASSWORD}]").into());
    }
    arguments
}

/// What stands last holds, so the options come last.
fn properties(endpoint: &Endpoint, controller: &str, place: &Place<'_>, options: &Options) -> String {
    let of = |address: &Option<String>| address.clone().unwrap_or_default();
    let listeners = format!(
        "PLAINTEXT://{},SSL://{},SASL_PLAINTEXT://{},SASL_SSL://{}",
        endpoint.address,
        of(&endpoint.tls),
        of(&endpoint.sasl),
        of(&endpoint.sasl_tls)
    );
    let mut text = format!(
        "{COMMON}controller.quorum.voters=1@{controller}\n\
         listeners={listeners},CONTROLLER://{controller}\nadvertised.listeners={listeners}\n\
         log.dirs={}\nssl.keystore.location={}\nssl.truststore.location={}\n",
        place.data.display(),
        place.certificates.keystore.display(),
        place.certificates.ca.display(),
    );
    for listener in ["sasl_plaintext", "sasl_ssl"] {
        text += &logins(listener);
    }
    for (name, value) in options.settings() {
        let _ = writeln!(text, "{name}={value}");
    }
    text
}

/// How a listener checks passwords. Those of SCRAM lie in the cluster's data.
fn logins(listener: &str) -> String {
    let module = |mechanism: &str, class: &str, users: &str| {
        let package = "org.apache.kafka.common.security";
        format!("listener.name.{listener}.{mechanism}.sasl.jaas.config={package}.{class} required{users};\n")
    };
    let user = format!(" user_{USER}=\"{PASSWORD}\"");
    module("plain", "plain.PlainLoginModule", &user)
        + &module("scram-sha-256", "scram.ScramLoginModule", "")
        + &module("scram-sha-512", "scram.ScramLoginModule", "")
}
