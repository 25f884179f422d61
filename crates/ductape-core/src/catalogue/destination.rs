//! Names of destinations that every provider takes.

use crate::config::ProviderKind;
use crate::destination::{DEAD_LETTER_GROUP, Destination};
use crate::tag::Event;

/// The ending of a dead-letter destination's name.
const DEAD_LETTERS: &str = "dead-letters";

/// The name that follows from the tags alone, legal for the provider.
pub(super) fn default_name(kind: ProviderKind, event: &Event, ordered: bool) -> String {
    let (broker, topic) = (event.broker().as_str(), event.topic());
    match kind {
        ProviderKind::Memory | ProviderKind::Sqlite | ProviderKind::Redis => event.as_str().to_owned(),
        ProviderKind::Kafka | ProviderKind::RabbitMq => {
            fit(kind, &format!("{broker}.{}", topic.replace([':', '/'], ".")))
        }
        ProviderKind::GooglePubSub => {
            let name = format!("{broker}.{}", topic.replace([':', '/'], "."));
            let legal = name.starts_with(|c: char| c.is_ascii_alphabetic()) && !name.starts_with("goog");
            fit(kind, &if legal { name } else { format!("t-{name}") })
        }
        ProviderKind::AwsSqs => {
            let name = format!("{broker}-{topic}").replace([':', '/', '.'], "-");
            fit(kind, &if ordered { format!("{name}.fifo") } else { name })
        }
    }
}

/// Fills `{broker}` and `{topic}` into a name from a config.
pub(super) fn fill(kind: ProviderKind, template: &str, event: &Event) -> String {
    let topic = match kind {
        ProviderKind::Memory | ProviderKind::Sqlite | ProviderKind::Redis => event.topic().to_owned(),
        _ => event.topic().replace([':', '/'], "."),
    };
    template.replace("{broker}", event.broker().as_str()).replace("{topic}", &topic)
}

/// The longest name that a provider takes, in bytes: Kafka's and AMQP's limits are its own, Pub/Sub's is that of
/// resource names, SQS's that of queue names.
fn longest(kind: ProviderKind) -> usize {
    match kind {
        ProviderKind::Kafka => 249,
        ProviderKind::AwsSqs => 80,
        _ => 255,
    }
}

/// Cuts a name that is too long and puts a digest of all of it at the end, so that two long names stay two.
fn fit(kind: ProviderKind, name: &str) -> String {
    let longest = longest(kind);
    if name.len() <= longest {
        return name.to_owned();
    }
    let (stem, ending) = match name.strip_suffix(".fifo") {
        Some(stem) => (stem, ".fifo"),
        None => (name, ""),
    };
    let digest = format!("-{:016x}", digest(name));
    // Names are ASCII where they follow from tags; one from a config may not be.
    let mut end = longest - digest.len() - ending.len();
    while !stem.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{digest}{ending}", &stem[..end])
}

/// FNV-1a, 64 bits: stable across versions, since names of queues depend on it.
fn digest(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

/// Where the dead letters of a destination go.
pub(super) fn dead_letters(kind: ProviderKind, of: &Destination) -> Destination {
    let name = match kind {
        ProviderKind::AwsSqs => dead_queue(&of.name),
        ProviderKind::GooglePubSub | ProviderKind::Kafka | ProviderKind::RabbitMq => {
            fit(kind, &format!("{}.{DEAD_LETTERS}", of.name))
        }
        _ => format!("{}:{DEAD_LETTERS}", of.name),
    };
    // Queues and subscriptions have one name space: there the group is called as the destination is.
    let group = match kind {
        ProviderKind::RabbitMq | ProviderKind::GooglePubSub => name.clone(),
        _ => DEAD_LETTER_GROUP.to_owned(),
    };
    Destination {
        routing_key: of.routing_key.is_some().then(|| name.as_str().into()),
        name: name.into(),
        default_group: group.into(),
        ordered: of.ordered && kind != ProviderKind::AwsSqs,
        provision: of.provision,
    }
}

/// A queue's name or URL with the ending on its last part. Dead letters are in a standard queue, also those of a FIFO one:
/// a FIFO queue shows no second message of a key while the first is looked at.
fn dead_queue(queue: &str) -> String {
    let (place, name) = match queue.rsplit_once('/') {
        Some((place, name)) => (format!("{place}/"), name),
        None => (String::new(), queue),
    };
    let name = format!("{}-{DEAD_LETTERS}", name.strip_suffix(".fifo").unwrap_or(name));
    format!("{place}{}", fit(ProviderKind::AwsSqs, &name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(kind: ProviderKind, event: &str, ordered: bool) -> String {
        default_name(kind, &event.parse().unwrap(), ordered)
    }

    #[test]
    fn default_names_are_legal_for_their_provider() {
        let event = "order-events:eu/new.orders";
        assert_eq!(name(ProviderKind::Kafka, event, false), "order-events.eu.new.orders");
        assert_eq!(name(ProviderKind::AwsSqs, event, false), "order-events-eu-new-orders");
        assert_eq!(name(ProviderKind::AwsSqs, event, true), "order-events-eu-new-orders.fifo");
        assert_eq!(name(ProviderKind::Redis, event, false), event);
        assert_eq!(name(ProviderKind::GooglePubSub, "9:x", false), "t-9.x");
        assert_eq!(name(ProviderKind::GooglePubSub, "google:x", false), "t-google.x");
    }

    #[test]
    fn a_long_name_is_cut_and_stays_its_own() {
        let (a, b) = (format!("b:{}a", "x".repeat(90)), format!("b:{}b", "x".repeat(90)));
        let (a, b) = (name(ProviderKind::AwsSqs, &a, true), name(ProviderKind::AwsSqs, &b, true));
        assert_eq!((a.len(), b.len()), (80, 80));
        assert!(a != b && a.ends_with(".fifo"));
    }

    #[test]
    fn dead_letters_have_a_place_of_their_own() {
        let place = |kind, name: &str| dead_letters(kind, &Destination::new(name, "g")).name.to_string();
        assert_eq!(place(ProviderKind::Kafka, "orders"), "orders.dead-letters");
        assert_eq!(place(ProviderKind::Sqlite, "a:b"), "a:b:dead-letters");
        let url = "https://sqs.us-east-1.amazonaws.com/123/orders.fifo";
        assert_eq!(
            place(ProviderKind::AwsSqs, url),
            "https://sqs.us-east-1.amazonaws.com/123/orders-dead-letters"
        );
    }
}
