//! Changes to a catalogue, made on its document so that what they do not touch stays as it was written.

use super::diff::Diff;
use super::model::{BrokerPatch, Catalogue, NewBroker, NewTopic, TopicPatch};
use super::store::{Snapshot, Store};
use crate::error::{Error, ErrorKind, Result};
use crate::tag::{Event, Tag};
use serde::Serialize;
use serde_json::{Map, Value};
use std::sync::Arc;

/// Changes one catalogue. Each call reads it, changes it, and writes it where nobody else did in the meantime.
#[derive(Clone)]
pub struct Editor {
    store: Arc<dyn Store>,
}

impl Editor {
    /// An editor of what this store keeps.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Editor { store }
    }

    /// Adds a broker.
    ///
    /// # Errors
    /// `BROKER_EXISTS`; those of [`Store::commit`].
    pub async fn create_broker(&self, broker: NewBroker) -> Result<()> {
        self.change(|snapshot, document| {
            if snapshot.catalogue.brokers.iter().any(|other| other.tag == broker.tag) {
                let what = format!("the broker `{}` is already there", broker.tag);
                return Err(
                    Error::new(ErrorKind::BrokerExists, what).with_help("update it, or choose another tag")
                );
            }
            list(document, "brokers").push(value(&broker)?);
            Ok(())
        })
        .await
    }

    /// Changes what the patch names of a broker.
    ///
    /// # Errors
    /// `BROKER_NOT_FOUND`; those of [`Store::commit`].
    pub async fn update_broker(&self, tag: &str, patch: BrokerPatch) -> Result<()> {
        self.change(|snapshot, document| {
            snapshot.catalogue.broker(tag)?;
            merge(entry(list(document, "brokers"), &|item| text(item, "tag") == Some(tag)), value(&patch)?);
            Ok(())
        })
        .await
    }

    /// Takes a broker away.
    ///
    /// # Errors
    /// `BROKER_NOT_FOUND`; those of [`Store::commit`].
    pub async fn delete_broker(&self, tag: &str) -> Result<()> {
        self.change(|snapshot, document| {
            snapshot.catalogue.broker(tag)?;
            list(document, "brokers").retain(|item| text(item, "tag") != Some(tag));
            Ok(())
        })
        .await
    }

    /// Adds a topic to the broker that it names, by `message_broker_tag` or in front of its tag.
    ///
    /// # Errors
    /// `BROKER_NOT_FOUND`, `TOPIC_EXISTS`; those of [`Store::commit`].
    pub async fn create_topic(&self, topic: NewTopic) -> Result<()> {
        let broker = broker_of(&topic)?;
        let event = topic.event(&broker)?;
        self.change(|snapshot, document| {
            if snapshot.catalogue.broker(broker.as_str())?.events().iter().any(|(other, _)| *other == event) {
                let what = format!("the topic `{event}` is already there");
                return Err(
                    Error::new(ErrorKind::TopicExists, what).with_help("update it, or choose another tag")
                );
            }
            topics(document, broker.as_str()).push(value(&topic)?);
            Ok(())
        })
        .await
    }

    /// Changes what the patch names of a topic.
    ///
    /// # Errors
    /// `TOPIC_NOT_FOUND`; those of [`Store::commit`].
    pub async fn update_topic(&self, event: &str, patch: TopicPatch) -> Result<()> {
        let event: Event = event.parse()?;
        self.change(|snapshot, document| {
            snapshot.catalogue.topic(&event)?;
            let topics = topics(document, event.broker().as_str());
            merge(entry(topics, &|item| is_topic(item, &event)), value(&patch)?);
            Ok(())
        })
        .await
    }

    /// Takes a topic away.
    ///
    /// # Errors
    /// `TOPIC_NOT_FOUND`; those of [`Store::commit`].
    pub async fn delete_topic(&self, event: &str) -> Result<()> {
        let event: Event = event.parse()?;
        self.change(|snapshot, document| {
            snapshot.catalogue.topic(&event)?;
            topics(document, event.broker().as_str()).retain(|item| !is_topic(item, &event));
            Ok(())
        })
        .await
    }

    /// Adds and updates everything that another catalogue of the product holds, and takes nothing away.
    ///
    /// # Errors
    /// `PRODUCT_NOT_FOUND` where it is another product's; those of [`Store::commit`].
    pub async fn apply(&self, other: &Catalogue, dry_run: bool) -> Result<Diff> {
        let snapshot = self.store.load().await?;
        snapshot.catalogue.check_product(other.product.as_str())?;
        let mut document = snapshot.document.clone();
        upsert(&mut document, value(other)?);
        let changed = super::parse::typed(&document)?;
        let diff = Diff::between(&value(&*snapshot.catalogue)?, &value(&changed)?);
        if !dry_run && !diff.is_empty() {
            self.store.commit(&snapshot.revision, &document).await?;
        }
        Ok(diff)
    }

    async fn change(&self, change: impl FnOnce(&Snapshot, &mut Value) -> Result<()>) -> Result<()> {
        let snapshot = self.store.load().await?;
        let mut document = snapshot.document.clone();
        change(&snapshot, &mut document)?;
        self.store.commit(&snapshot.revision, &document).await.map(drop)
    }
}

fn broker_of(topic: &NewTopic) -> Result<Tag> {
    match (&topic.message_broker_tag, topic.tag.split_once(':')) {
        (Some(broker), _) => Ok(broker.clone()),
        (None, Some((broker, _))) => Tag::new(broker),
        (None, None) => Err(Error::new(
            ErrorKind::TagInvalid,
            format!("the topic `{}` does not say which broker it belongs to", topic.tag.escape_debug()),
        )
        .with_help("give `messageBrokerTag`, or write the tag as `broker:topic`")),
    }
}

fn value(entry: &impl Serialize) -> Result<Value> {
    serde_json::to_value(entry).map_err(|error| {
        Error::new(ErrorKind::CatalogueInvalid, "an entry cannot be written").with_source(error)
    })
}

fn text<'v>(item: &'v Value, field: &str) -> Option<&'v str> {
    item.get(field)?.as_str()
}

/// Whether an item of a broker's `topics` is the one of this event, with or without its broker in its tag.
fn is_topic(item: &Value, event: &Event) -> bool {
    let event_of = |tag| Event::new(event.broker(), tag).ok();
    text(item, "tag").and_then(event_of).is_some_and(|other| other == *event)
}

/// A list of the document, made where it is not there.
fn list<'v>(parent: &'v mut Value, field: &str) -> &'v mut Vec<Value> {
    let place = object(parent).entry(field).or_insert_with(|| Value::Array(Vec::new()));
    if !place.is_array() {
        *place = Value::Array(Vec::new());
    }
    match place {
        Value::Array(items) => items,
        _ => unreachable!("made an array just now"),
    }
}

fn object(place: &mut Value) -> &mut Map<String, Value> {
    if !place.is_object() {
        *place = Value::Object(Map::new());
    }
    match place {
        Value::Object(fields) => fields,
        _ => unreachable!("made an object just now"),
    }
}

/// The first item that fits, appended empty where none does.
fn entry<'v>(items: &'v mut Vec<Value>, fits: &dyn Fn(&Value) -> bool) -> &'v mut Value {
    let index = items.iter().position(fits).unwrap_or_else(|| {
        items.push(Value::Object(Map::new()));
        items.len() - 1
    });
    &mut items[index]
}

fn topics<'v>(document: &'v mut Value, broker: &str) -> &'v mut Vec<Value> {
    let broker = entry(list(document, "brokers"), &|item| text(item, "tag") == Some(broker));
    list(broker, "topics")
}

/// Puts each field of the patch in the place of the entry's.
fn merge(entry: &mut Value, patch: Value) {
    if let Value::Object(fields) = patch {
        object(entry).extend(fields);
    }
}

/// Brings entries of another document in: lists of tagged entries item by item, everything else as a whole.
fn upsert(into: &mut Value, from: Value) {
    let Value::Object(fields) = from else { return };
    for (name, new) in fields {
        match new {
            Value::Array(items) if matches!(name.as_str(), "brokers" | "topics" | "sessions" | "envs") => {
                let there = list(into, &name);
                for item in items {
                    let key = known_by(&item);
                    let place = entry(there, &|other| known_by(other) == key);
                    upsert(place, item);
                }
            }
            new => {
                object(into).insert(name, new);
            }
        }
    }
}

/// What an entry is known by: its slug, or the last part of its tag, since a topic's may carry its broker's.
fn known_by(item: &Value) -> Option<String> {
    let tag = text(item, "slug").or_else(|| text(item, "tag"))?;
    Some(tag.split_once(':').map_or(tag, |(_, topic)| topic).to_owned())
}

impl std::fmt::Debug for Editor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Editor")
    }
}
