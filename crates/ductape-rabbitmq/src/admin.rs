//! The exchange, the queues of groups and their bindings: made, verified, inspected, deleted.

use crate::link::Link;
use ductape_core::broker::{GroupInspection, Inspection, Provision};
use ductape_core::{Destination, Error, ErrorKind, Result};
use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, ExchangeKind, Queue};
use std::sync::Arc;
use std::time::Duration;

/// The longest name of a queue or a routing key: AMQP's short string.
const MAX_NAME_LEN: usize = 255;
const OK: u16 = 200;
/// After how many deliveries the server itself drops a message: in practice never, since the worker dead-letters.
/// RabbitMQ 4 would take 20 where nothing is said, and 3.x knows no word for none.
const DELIVERY_LIMIT: i64 = i32::MAX as i64;
/// How long a new queue is kept from its first message. The server writes down the name of a quorum queue only once it
/// was left alone for up to two periods of 500 ms (`auto_save` of `names.dets` in Ra's `ra_directory`). Killed before
/// that, it comes back with a queue that has no leader and none of its messages, confirmed ones included
/// (rabbitmq-server issue 15725), and nothing that a client may ask tells when it is done.
const WRITTEN_DOWN: Duration = Duration::from_millis(1_200);

/// The queue of a group. The default group's is named by the config where it does; a dead-letter destination's is
/// the destination's own; every other is named by both, since one group may read many topics.
pub(crate) fn queue(link: &Link, destination: &Destination, group: &str) -> String {
    let is_default = group == &*destination.default_group;
    if is_default && (link.names_queue || *group == *destination.name) {
        group.to_owned()
    } else {
        format!("{}.{group}", destination.name)
    }
}

/// What messages of a destination are routed by.
pub(crate) fn routing_key(destination: &Destination) -> &Arc<str> {
    destination.routing_key.as_ref().unwrap_or(&destination.name)
}

/// Makes or verifies the exchange and the queue of the default group.
pub(crate) async fn ensure(link: &Link, destination: &Destination) -> Result<()> {
    check_name("routing key", routing_key(destination))?;
    let name = &destination.default_group;
    let is_new = destination.provision == Provision::Create && is_missing(link, destination, name).await;
    on_a_channel(link, destination, async |channel| {
        exchange(link, channel, destination.provision).await?;
        group(link, channel, destination, name).await
    })
    .await?;
    until_written_down(is_new).await;
    link.know(&destination.name, name);
    Ok(())
}

/// Makes or verifies the queue of a group, and binds it.
pub(crate) async fn ensure_group(link: &Link, destination: &Destination, name: &Arc<str>) -> Result<()> {
    let is_new = is_missing(link, destination, name).await;
    on_a_channel(link, destination, async |channel| group(link, channel, destination, name).await).await?;
    until_written_down(is_new).await;
    link.know(&destination.name, name);
    Ok(())
}

/// Whether the group's queue is known not to be there. Any other fault is told by the declaration that follows.
async fn is_missing(link: &Link, destination: &Destination, group: &str) -> bool {
    let looked = look(link, destination, &queue(link, destination, group)).await;
    looked.is_err_and(|error| error.kind() == ErrorKind::DestinationNotFound)
}

async fn until_written_down(is_new: bool) {
    if is_new {
        // tidy: sleeps because the server does not tell when it has written the new queue down.
        tokio::time::sleep(WRITTEN_DOWN).await;
    }
}

async fn exchange(link: &Link, channel: &Channel, provision: Provision) -> Result<()> {
    let options = ExchangeDeclareOptions {
        passive: provision == Provision::Verify,
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    let name = link.exchange.as_str();
    let declare = channel.exchange_declare(name.into(), ExchangeKind::Topic, options, FieldTable::default());
    link.within(&format!("the exchange `{name}`"), false, declare).await
}

async fn group(link: &Link, channel: &Channel, destination: &Destination, group: &str) -> Result<()> {
    let name = queue(link, destination, group);
    check_name("queue", &name)?;
    if destination.provision == Provision::Verify && group == &*destination.default_group {
        return passive(link, channel, &name).await.map(drop);
    }
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    let declare = channel.queue_declare(name.as_str().into(), options, arguments(destination));
    link.within(&format!("the queue `{name}`"), false, declare).await?;
    let (exchange, key) = (link.exchange.as_str().into(), (&**routing_key(destination)).into());
    let (options, none) = (QueueBindOptions::default(), FieldTable::default());
    let bind = channel.queue_bind(name.as_str().into(), exchange, key, options, none);
    link.within(&format!("the binding of the queue `{name}`"), false, bind).await
}

/// What a queue of ours is declared with.
fn arguments(destination: &Destination) -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(DELIVERY_LIMIT));
    if destination.ordered {
        arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
    }
    arguments
}

/// Looks at a queue, on a channel of its own: the server closes it where the queue is not there.
async fn look(link: &Link, destination: &Destination, name: &str) -> Result<Queue> {
    on_a_channel(link, destination, async |channel| passive(link, channel, name).await).await
}

async fn passive(link: &Link, channel: &Channel, name: &str) -> Result<Queue> {
    let options = QueueDeclareOptions { passive: true, durable: true, ..QueueDeclareOptions::default() };
    let declare = channel.queue_declare(name.into(), options, FieldTable::default());
    link.within(&format!("the queue `{name}`"), false, declare).await
}

/// Looks at the queues of the default group and of those opened on this connection.
pub(crate) async fn inspect(link: &Link, destination: &Destination) -> Result<Inspection> {
    let mut groups = link.known(&destination.name);
    if !groups.contains(&destination.default_group) {
        groups.insert(0, Arc::clone(&destination.default_group));
    }
    let mut inspection = Inspection::default();
    for group in groups {
        let name = queue(link, destination, &group);
        match look(link, destination, &name).await {
            Ok(queue) => inspection.groups.push(group_inspection(link, &group, &name, &queue)),
            Err(error) if error.kind() == ErrorKind::DestinationNotFound => {
                if group == destination.default_group {
                    return Err(error);
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(inspection)
}

fn group_inspection(link: &Link, group: &str, name: &str, queue: &Queue) -> GroupInspection {
    let in_flight = link.in_flight(name);
    GroupInspection {
        name: group.to_owned(),
        lag: Some(u64::from(queue.message_count()) + in_flight),
        in_flight,
        members: Some(u64::from(queue.consumer_count())),
    }
}

/// Deletes the queue of a group.
pub(crate) async fn delete_group(link: &Link, destination: &Destination, group: &str) -> Result<()> {
    let name = queue(link, destination, group);
    let deleted = on_a_channel(link, destination, async |channel| {
        // The server deletes a queue that is not there without a word.
        passive(link, channel, &name).await?;
        let delete = channel.queue_delete(name.as_str().into(), QueueDeleteOptions::default());
        link.within(&format!("the delete of the queue `{name}`"), true, delete).await
    });
    match deleted.await {
        Err(error) if error.kind() == ErrorKind::DestinationNotFound => {
            Err(Error::new(ErrorKind::GroupNotFound, format!("there is no group `{group}`: {error}"))
                .with_context("queue", name)
                .with_help("see the groups that there are with `ductape topic show`"))
        }
        Err(error) => Err(error),
        Ok(_) => {
            link.forget(&destination.name, group);
            Ok(())
        }
    }
}

/// Works on a channel of its own, since the server closes a channel at every fault.
async fn on_a_channel<T>(
    link: &Link,
    destination: &Destination,
    work: impl AsyncFnOnce(&Channel) -> Result<T>,
) -> Result<T> {
    let channel = link.channel().await?;
    let done = work(&channel).await;
    if channel.status().connected() {
        // What was asked is done; a channel that does not close goes with its connection.
        let _ = tokio::time::timeout(link.limit, channel.close(OK, "OK".into())).await;
    }
    done.map_err(|error| error.with_context("destination", &destination.name))
}

/// One round trip to the server.
pub(crate) async fn ping(link: &Link) -> Result<()> {
    let channel = link.channel().await?;
    link.within("the ping", false, channel.close(OK, "OK".into())).await
}

fn check_name(what: &str, name: &str) -> Result<()> {
    let wild = name.contains(['*', '#']);
    if name.len() <= MAX_NAME_LEN && !(wild && what == "routing key") {
        return Ok(());
    }
    let fault =
        if wild { "holds `*` or `#`, which match other topics' messages" } else { "is over 255 bytes" };
    Err(Error::new(ErrorKind::ConfigInvalid, format!("the {what} `{name}` {fault}"))
        .with_help("give the topic a destination of its own"))
}
