//! Queues: made, verified, looked at.

use crate::link::Link;
use crate::queue::{self, is_fifo, is_url, own_name};
use aws_sdk_sqs::types::QueueAttributeName as Attribute;
use ductape_core::broker::{GroupInspection, Inspection, Provision};
use ductape_core::{Destination, Error, ErrorKind, Result};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;

type QueueAttributes = HashMap<Attribute, String>;

/// Fourteen days, the longest that SQS keeps a message: whoever looks after dead letters may be away for a while, and
/// nothing that waits for a service that is down should be lost to the default of four.
const RETENTION_SECONDS: &str = "1209600";
/// How often a worker tries unless it is told otherwise, which a queue's own redrive policy may undercut.
const USUAL_ATTEMPTS: u64 = 5;

/// One round trip. Credentials that may not list queues are good all the same.
pub(crate) async fn ping(link: &Link) -> Result<()> {
    link.check_open("the connection")?;
    let list = link.client.list_queues().max_results(1);
    match link.within("the ping", false, list.send()).await {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(()),
        result => result.map(drop),
    }
}

/// Makes or verifies the queue, and learns its URL.
pub(crate) async fn ensure(link: &Link, destination: &Destination) -> Result<()> {
    link.check_open("the connection")?;
    let located = |error: Error| error.with_context("destination", &destination.name);
    queue::check(&destination.name, &link.region, link.endpoint.as_deref()).map_err(located)?;
    let attributes = match verify(link, destination).await {
        Err(error) if may_make(&error, destination) => make(link, destination).await.map_err(located)?,
        result => result.map_err(located)?,
    };
    warn_of_redrive(destination, &attributes);
    Ok(())
}

fn may_make(error: &Error, destination: &Destination) -> bool {
    error.kind() == ErrorKind::DestinationNotFound && destination.provision == Provision::Create
}

/// Looks for the queue, and keeps its URL.
async fn verify(link: &Link, destination: &Destination) -> Result<QueueAttributes> {
    let url = if is_url(&destination.name) {
        link.know(&destination.name, &destination.name)
    } else {
        look_up(link, &destination.name).await?
    };
    attributes(link, &url, Attribute::RedrivePolicy).await
}

/// The URL of a queue that is named.
async fn look_up(link: &Link, name: &Arc<str>) -> Result<Arc<str>> {
    let get = link.client.get_queue_url().queue_name(&**name);
    let found = link.within("the look-up of the queue", false, get.send()).await?;
    let url = found.queue_url.ok_or_else(|| {
        Error::new(ErrorKind::ProviderFailed, "the server knows the queue and does not tell its URL")
            .with_help("see that the endpoint is an SQS")
    })?;
    Ok(link.know(name, &url))
}

/// The URL of a queue that was ensured.
pub(crate) async fn url(link: &Link, destination: &Destination) -> Result<Arc<str>> {
    match link.url(&destination.name) {
        Some(url) => Ok(url),
        None if is_url(&destination.name) => Ok(link.know(&destination.name, &destination.name)),
        None => look_up(link, &destination.name)
            .await
            .map_err(|error| error.with_context("destination", &destination.name)),
    }
}

async fn attributes(link: &Link, url: &str, which: Attribute) -> Result<QueueAttributes> {
    let get = link.client.get_queue_attributes().queue_url(url).attribute_names(which);
    let got = link.within("the look at the queue", false, get.send()).await?;
    Ok(got.attributes.unwrap_or_default())
}

/// Makes the queue. Where a URL is given it must be the one that is then there.
async fn make(link: &Link, destination: &Destination) -> Result<QueueAttributes> {
    let name = own_name(&destination.name);
    let create = link
        .client
        .create_queue()
        .queue_name(name)
        .attributes(Attribute::MessageRetentionPeriod, RETENTION_SECONDS);
    let create = if is_fifo(name) { create.attributes(Attribute::FifoQueue, "true") } else { create };
    let made = link.within("the making of the queue", false, create.send()).await?;
    let url = made.queue_url.unwrap_or_default();
    if is_url(&destination.name) && queue::path(&url) != queue::path(&destination.name) {
        return Err(Error::new(ErrorKind::ConfigInvalid, format!("the queue made as `{name}` is `{url}`"))
            .with_help(
                "mend the `queueUrl`: its account is not that of the credentials, or not its endpoint",
            ));
    }
    tracing::info!(%url, "made the queue");
    if !is_url(&destination.name) {
        link.know(&destination.name, &url);
    }
    Ok(QueueAttributes::new())
}

/// A redrive policy of the queue's own is respected, and moves messages away before a worker gives them up where it
/// allows fewer receives than the worker has attempts.
fn warn_of_redrive(destination: &Destination, attributes: &QueueAttributes) {
    let queue = &destination.name;
    match RedrivePolicy::of(attributes) {
        None => {}
        Some(policy) if policy.undercuts() => tracing::warn!(%queue, "{}", policy.told()),
        Some(policy) => tracing::info!(%queue, "{}", policy.told()),
    }
}

/// After how many receives SQS itself moves a message, and where to.
#[derive(Debug, PartialEq, Eq)]
struct RedrivePolicy {
    target: String,
    most: u64,
}

impl RedrivePolicy {
    fn of(attributes: &QueueAttributes) -> Option<Self> {
        RedrivePolicy::read(attributes.get(&Attribute::RedrivePolicy)?)
    }

    /// Whether it moves messages away before a worker has made its attempts.
    fn undercuts(&self) -> bool {
        self.most <= USUAL_ATTEMPTS
    }

    /// In a sentence for whoever operates the queue.
    fn told(&self) -> String {
        let RedrivePolicy { target, most } = self;
        let rule = format!("the queue's own RedrivePolicy moves a message to {target} after {most} receives");
        if !self.undercuts() {
            return rule;
        }
        format!(
            "{rule}: before a worker's {USUAL_ATTEMPTS} attempts are over, and not to Ductape's dead letters; raise \
             maxReceiveCount above the attempts"
        )
    }

    /// Of the JSON of the attribute, in which AWS writes the number as a number or as text.
    fn read(text: &str) -> Option<Self> {
        let policy: Value = serde_json::from_str(text).ok()?;
        let most = &policy["maxReceiveCount"];
        Some(RedrivePolicy {
            target: policy["deadLetterTargetArn"].as_str()?.to_owned(),
            most: most.as_u64().or_else(|| most.as_str()?.parse().ok())?,
        })
    }
}

/// Counts what the queue holds, as SQS knows it: approximately.
pub(crate) async fn inspect(link: &Link, destination: &Destination) -> Result<Inspection> {
    link.check_open("the connection")?;
    let located = |error: Error| error.with_context("destination", &destination.name);
    let url = url(link, destination).await.map_err(located)?;
    let attributes = attributes(link, &url, Attribute::All).await.map_err(located)?;
    let count = |name| attributes.get(&name).and_then(|text| text.parse::<u64>().ok());
    let in_flight = count(Attribute::ApproximateNumberOfMessagesNotVisible);
    let waiting = count(Attribute::ApproximateNumberOfMessages);
    let delayed = count(Attribute::ApproximateNumberOfMessagesDelayed).unwrap_or(0);
    let all = waiting.map(|waiting| waiting + delayed + in_flight.unwrap_or(0));
    let group = GroupInspection {
        name: destination.default_group.to_string(),
        lag: all,
        in_flight: in_flight.unwrap_or(0),
        members: None,
    };
    let notes = RedrivePolicy::of(&attributes).map(|policy| policy.told()).into_iter().collect();
    Ok(Inspection { messages: all, groups: vec![group], notes, ..Inspection::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redrive_policy_is_read_in_both_forms() {
        for text in [
            r#"{"deadLetterTargetArn":"arn:aws:sqs:r:1:dead","maxReceiveCount":3}"#,
            r#"{"deadLetterTargetArn":"arn:aws:sqs:r:1:dead","maxReceiveCount":"3"}"#,
        ] {
            let policy = RedrivePolicy::read(text).unwrap();
            assert_eq!(policy, RedrivePolicy { target: "arn:aws:sqs:r:1:dead".into(), most: 3 });
        }
        assert_eq!(RedrivePolicy::read("{}"), None);
    }
}
