//! Topics and the subscriptions of groups: made, verified, inspected, deleted.

use crate::link::Link;
use crate::{error, names};
use ductape_core::broker::{GroupInspection, Inspection, Provision};
use ductape_core::{Destination, Error, ErrorKind, Result};
use google_cloud_gax::paginator::ItemPaginator;
use google_cloud_pubsub::model::{ExpirationPolicy, Subscription, Topic};

/// For how long a delivery is its consumer's where the consumer does not say: what Google's own clients ask for.
const ACK_DEADLINE_SECONDS: i32 = 60;
/// What Pub/Sub calls the topic of a subscription whose topic was deleted.
const DELETED_TOPIC: &str = "_deleted-topic_";

/// Makes or verifies the topic, and the subscription of the default group.
pub(crate) async fn ensure(link: &Link, destination: &Destination) -> Result<()> {
    names::check("topic", "topicName", &destination.name)?;
    ensure_group(link, destination, &destination.default_group).await
}

/// Makes or verifies the subscription of a group.
pub(crate) async fn ensure_group(link: &Link, destination: &Destination, group: &str) -> Result<()> {
    let name = names::of_group(destination, group, link.names_subscription);
    names::check("subscription", "subscriptionName", &name)?;
    let made = ensure_subscription(link, destination, group, &name).await;
    made.map_err(|error| {
        error.with_context("destination", &destination.name).with_context("subscription", &name)
    })
}

async fn ensure_subscription(link: &Link, destination: &Destination, group: &str, name: &str) -> Result<()> {
    if let Some(there) = subscription(link, name).await? {
        return check_settings(link, destination, &there);
    }
    let verify = destination.provision == Provision::Verify;
    if verify && group == &*destination.default_group {
        topic(link, destination).await?;
        return Err(missing(&format!("the subscription `{name}`")));
    }
    if !verify {
        create_topic(link, destination).await?;
    }
    match create(link, &wanted(link, destination, name)).await? {
        Some(made) => check_settings(link, destination, &made),
        // Somebody else made it in this moment.
        None => match subscription(link, name).await? {
            Some(there) => check_settings(link, destination, &there),
            None => Err(missing(&format!("the subscription `{name}`"))),
        },
    }
}

/// A subscription as we make it.
pub(crate) fn wanted(link: &Link, destination: &Destination, name: &str) -> Subscription {
    settings(destination, link.exactly_once)
        .set_name(names::subscription(&link.project, name))
        .set_topic(names::topic(&link.project, &destination.name))
}

/// It never expires: by default one that nobody reads for 31 days is deleted with all that waits for its group.
fn settings(destination: &Destination, exactly_once: bool) -> Subscription {
    Subscription::new()
        .set_ack_deadline_seconds(ACK_DEADLINE_SECONDS)
        .set_enable_message_ordering(destination.ordered)
        .set_enable_exactly_once_delivery(exactly_once)
        .set_expiration_policy(ExpirationPolicy::new())
}

async fn create_topic(link: &Link, destination: &Destination) -> Result<()> {
    let name = names::topic(&link.project, &destination.name);
    match link.admin(link.topics.create_topic().set_name(name).send()).await? {
        Ok(_) => Ok(()),
        Err(error) if error::exists(&error) => Ok(()),
        Err(error) => Err(link.located(error::rest(&error, &format!("the topic `{}`", destination.name)))),
    }
}

async fn create(link: &Link, wanted: &Subscription) -> Result<Option<Subscription>> {
    match link.admin(link.subscriptions.create_subscription().with_request(wanted.clone()).send()).await? {
        Ok(made) => Ok(Some(made)),
        Err(error) if error::exists(&error) => Ok(None),
        Err(error) => Err(link.located(error::rest(&error, &format!("the subscription `{}`", wanted.name)))),
    }
}

async fn subscription(link: &Link, name: &str) -> Result<Option<Subscription>> {
    let full = names::subscription(&link.project, name);
    match link.admin(link.subscriptions.get_subscription().set_subscription(full).send()).await? {
        Ok(there) => Ok(Some(there)),
        Err(error) if error::is_missing(&error) => {
            // The project may be what is missing.
            let told = error::rest(&error, &format!("the subscription `{name}`"));
            if told.kind() == ErrorKind::DestinationNotFound { Ok(None) } else { Err(link.located(told)) }
        }
        Err(error) => Err(link.located(error::rest(&error, &format!("the subscription `{name}`")))),
    }
}

async fn topic(link: &Link, destination: &Destination) -> Result<Topic> {
    let full = names::topic(&link.project, &destination.name);
    let looked = link.admin(link.topics.get_topic().set_topic(full).send()).await?;
    looked.map_err(|error| link.located(error::rest(&error, &format!("the topic `{}`", destination.name))))
}

/// Holds what is there against what the catalogue asks for. What is there beyond it does no harm.
fn check_settings(link: &Link, destination: &Destination, there: &Subscription) -> Result<()> {
    let topic = names::topic(&link.project, &destination.name);
    let (fault, help) = if there.topic == DELETED_TOPIC {
        (
            "its topic was deleted",
            "delete the subscription too, so that it is made anew; what waits in it is lost",
        )
    } else if there.topic != topic {
        (
            "it belongs to another topic",
            "give each topic a subscription: `subscriptionName: \"{topic}-readers\"`",
        )
    } else if destination.ordered && !there.enable_message_ordering {
        (
            "`enableMessageOrdering` is false, and the topic is `ordered`",
            "delete the subscription so that it is made anew: Pub/Sub cannot change this",
        )
    } else if link.exactly_once && !there.enable_exactly_once_delivery {
        (
            "`enableExactlyOnceDelivery` is false, and the config says `exactlyOnce`",
            "`gcloud pubsub subscriptions update NAME --enable-exactly-once-delivery`",
        )
    } else if there.push_config.as_ref().is_some_and(|push| !push.push_endpoint.is_empty()) {
        ("it pushes its messages elsewhere", "`gcloud pubsub subscriptions update NAME --push-endpoint=`")
    } else {
        return Ok(());
    };
    let text = format!("the subscription `{}` is there with other settings: {fault}", there.name);
    Err(Error::new(ErrorKind::DestinationMismatch, text).with_help(help))
}

/// Looks at the topic and all its subscriptions. Pub/Sub does not tell how much waits in them, nor what is in hand:
/// `in_flight` knows that of a subscription's consumers here.
pub(crate) async fn inspect(
    link: &Link,
    destination: &Destination,
    in_flight: impl Fn(&str) -> u64,
) -> Result<Inspection> {
    let full = topic(link, destination).await?.name;
    let mut listed = link.topics.list_topic_subscriptions().set_topic(full).by_item();
    let mut inspection = Inspection::default();
    loop {
        let next = link.admin(async { listed.next().await.transpose() }).await?;
        let next = next.map_err(|error| link.located(error::rest(&error, "the topic's subscriptions")))?;
        let Some(name) = next else { break };
        let name = name.rsplit_once('/').map_or(name.as_str(), |(_, name)| name);
        inspection.groups.push(GroupInspection {
            name: names::group_of(destination, name, link.names_subscription),
            lag: None,
            in_flight: in_flight(name),
            members: None,
        });
    }
    inspection.groups.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(inspection)
}

/// Deletes the subscription of a group.
pub(crate) async fn delete_group(link: &Link, destination: &Destination, group: &str) -> Result<()> {
    let name = names::of_group(destination, group, link.names_subscription);
    let full = names::subscription(&link.project, &name);
    let deleted = link.admin(link.subscriptions.delete_subscription().set_subscription(full).send()).await?;
    deleted.map_err(|error| {
        let told = if error::is_missing(&error) {
            Error::new(ErrorKind::GroupNotFound, format!("there is no group `{group}`"))
                .with_help("see the groups that there are with `ductape topic show`")
        } else {
            link.located(error::rest(&error, &format!("the delete of the group `{group}`")))
        };
        told.with_context("subscription", name).with_context("destination", &destination.name)
    })
}

/// One round trip: looks for the first topic of the project. Who may not look has been recognised all the same.
pub(crate) async fn ping(link: &Link) -> Result<()> {
    let project = format!("projects/{}", link.project);
    let listing = link.topics.list_topics().set_project(project).set_page_size(1);
    match link.admin(listing.send()).await? {
        Ok(_) => Ok(()),
        Err(error) if error::lacks_permission(&error) => Ok(()),
        Err(error) => Err(link.located(error::rest(&error, "the connection"))),
    }
}

fn missing(what: &str) -> Error {
    Error::new(ErrorKind::DestinationNotFound, format!("{what} is not there"))
        .with_help("make it, or let Ductape make it with `provision: create`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_what_would_be_made() {
        let mut orders = Destination::new("orders", "shop");
        let plain = settings(&orders, false);
        assert!(!plain.enable_message_ordering && !plain.enable_exactly_once_delivery);
        assert!(plain.expiration_policy.is_some_and(|policy| policy.ttl.is_none()), "it never expires");
        orders.ordered = true;
        let strict = settings(&orders, true);
        assert!(strict.enable_message_ordering && strict.enable_exactly_once_delivery);
    }
}
