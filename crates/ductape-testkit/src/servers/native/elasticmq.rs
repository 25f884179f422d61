//! ElasticMQ, as an SQS that enforces AWS' limits and loses nothing when it is killed.

use super::java::Installed;
use super::{Place, Plan};
use crate::servers::artifacts::ELASTICMQ;
use crate::servers::{Endpoint, Options, ports};
use std::ffi::OsString;
use std::fmt::Write;
use std::io;
use std::time::Duration;

pub(super) fn plan(java: &Installed, place: &Place<'_>, options: &Options) -> io::Result<Plan> {
    let endpoint = Endpoint::at(format!("127.0.0.1:{}", ports::free()?));
    let file = place.write("elasticmq.conf", &configuration(&endpoint, place, options))?;
    let mut property = OsString::from("-Dconfig.file=");
    property.push(file);
    Ok(Plan {
        program: format!("ElasticMQ {}", ELASTICMQ.version),
        run: java.run(options, [property], "org.elasticmq.server.Main", [] as [&str; 0]),
        first: None,
        endpoint,
        patience: Duration::from_secs(60),
    })
}

/// Without a write delay of 0 a kill would lose the last half second. What stands last holds, so the options come last.
fn configuration(endpoint: &Endpoint, place: &Place<'_>, options: &Options) -> String {
    let (port, data) = (endpoint.port(), place.data.display());
    let mut text = format!(
        "include classpath(\"application.conf\")\n\
         node-address {{ protocol = http, host = \"127.0.0.1\", port = {port}, context-path = \"\" }}\n\
         rest-sqs {{ enabled = true, bind-port = {port}, bind-hostname = \"127.0.0.1\", sqs-limits = strict }}\n\
         rest-stats {{ enabled = false }}\n\
         messages-storage {{ enabled = true, uri = \"jdbc:h2:{data}/db;WRITE_DELAY=0\" }}\n\
         queues-storage {{ enabled = true, path = \"{data}/queues.conf\" }}\n"
    );
    for (name, value) in options.settings() {
        let _ = writeln!(text, "{name} = {value}");
    }
    text
}
