//! `client.broker()` and `client.broker().topic()`: the calls as the product's users know them.

use super::dead_letters::DeadLetters;
use super::incoming::IncomingStream;
use super::new_message::NewMessage;
use super::publisher::{EventPublisher, Receipt};
use super::{Client, Publish, Subscribe};
use crate::catalogue::{
    BrokerEntry, BrokerPatch, Catalogue, Diff, Editor, NewBroker, NewTopic, TopicEntry, TopicPatch,
};
use crate::error::Result;
use crate::worker::{IntoHandler, Subscription};
use std::sync::Arc;

/// The brokers of a client's product.
#[derive(Clone, Copy, Debug)]
pub struct Brokers<'c>(pub(super) &'c Client);

/// The topics of a client's product.
#[derive(Clone, Copy, Debug)]
pub struct Topics<'c>(pub(super) &'c Client);

impl<'c> Brokers<'c> {
    /// The topics.
    pub fn topic(&self) -> Topics<'c> {
        Topics(self.0)
    }

    /// Adds a broker to the catalogue.
    ///
    /// # Errors
    /// `BROKER_EXISTS`, `CONFIG_INVALID`, `DESTINATION_CONFLICT`, `CATALOGUE_CONFLICT`.
    pub async fn create(&self, broker: NewBroker) -> Result<()> {
        self.0.edit(async |editor: &Editor| editor.create_broker(broker).await).await
    }

    /// Changes what the patch names of a broker.
    ///
    /// # Errors
    /// `BROKER_NOT_FOUND`, `CONFIG_INVALID`, `DESTINATION_CONFLICT`, `CATALOGUE_CONFLICT`.
    pub async fn update(&self, tag: &str, patch: BrokerPatch) -> Result<()> {
        self.0.edit(async |editor: &Editor| editor.update_broker(tag, patch).await).await
    }

    /// A broker by its tag.
    ///
    /// # Errors
    /// `BROKER_NOT_FOUND`, with the tags that exist.
    pub async fn fetch(&self, tag: &str) -> Result<Arc<BrokerEntry>> {
        Ok(Arc::new(self.0.catalogue().await?.broker(tag)?.clone()))
    }

    /// All brokers, in the catalogue's order.
    ///
    /// # Errors
    /// Those of reading the catalogue.
    pub async fn fetch_all(&self) -> Result<Vec<BrokerEntry>> {
        Ok(self.0.catalogue().await?.brokers.clone())
    }

    /// Takes a broker and its topics out of the catalogue. Its destinations and what is in them stay.
    ///
    /// # Errors
    /// `BROKER_NOT_FOUND`, `CATALOGUE_CONFLICT`.
    pub async fn delete(&self, tag: &str) -> Result<()> {
        self.0.edit(async |editor: &Editor| editor.delete_broker(tag).await).await
    }

    /// Adds and updates everything that another catalogue holds; takes nothing away. With `dry_run` it only says
    /// what would change.
    ///
    /// # Errors
    /// `CONFIG_INVALID`, `DESTINATION_CONFLICT`, `CATALOGUE_CONFLICT`, `PRODUCT_NOT_FOUND`.
    pub async fn apply(&self, catalogue: &Catalogue, dry_run: bool) -> Result<Diff> {
        self.0.edit(async |editor: &Editor| editor.apply(catalogue, dry_run).await).await
    }

    /// Publishes one message, and returns when the provider has taken it for good.
    ///
    /// # Errors
    /// Those of [`Client::route`], of connecting, and of [`EventPublisher::publish`].
    pub async fn publish(&self, publish: Publish) -> Result<Receipt> {
        let Publish { event, env, product, message } = publish;
        let publisher = self.0.publisher(product.as_deref(), &event, env.as_deref()).await?;
        publisher.publish(message).await
    }

    /// Publishes many messages to one event: one result a message, in order.
    ///
    /// # Errors
    /// Those of [`Client::route`] and of connecting; each message's own as [`EventPublisher::publish_batch`].
    pub async fn publish_batch(
        &self,
        event: &str,
        env: Option<&str>,
        messages: impl IntoIterator<Item = NewMessage>,
    ) -> Result<Vec<Result<Receipt>>> {
        Ok(self.0.publisher(None, event, env).await?.publish_batch(messages).await)
    }

    /// A publisher of one event, resolved once, for hot loops.
    ///
    /// # Errors
    /// Those of [`Client::route`] and of connecting.
    pub async fn publisher(&self, event: &str, env: Option<&str>) -> Result<EventPublisher> {
        self.0.publisher(None, event, env).await
    }

    /// Subscribes a handler: a closure of the payload, of the payload and the delivery, or of the delivery.
    ///
    /// # Errors
    /// Those of [`Client::route`] and of connecting; `UNSUPPORTED`, `CONFIG_INVALID`.
    pub async fn subscribe<M, H: IntoHandler<M>>(
        &self,
        subscribe: Subscribe,
        handler: H,
    ) -> Result<Subscription> {
        subscribe.with_worker(self.0, handler).await
    }

    /// Subscribes by hand: a stream of deliveries, each to be settled by its methods.
    ///
    /// # Errors
    /// As [`Brokers::subscribe`].
    pub async fn consume(&self, subscribe: Subscribe) -> Result<IncomingStream> {
        subscribe.by_hand(self.0).await
    }

    /// The dead letters of an event.
    ///
    /// # Errors
    /// Those of [`Client::route`] and of connecting.
    pub async fn dead_letters(&self, event: &str, env: Option<&str>) -> Result<DeadLetters> {
        DeadLetters::open(self.0, event, env).await
    }
}

impl Topics<'_> {
    /// Adds a topic to its broker.
    ///
    /// # Errors
    /// `BROKER_NOT_FOUND`, `TOPIC_EXISTS`, `DESTINATION_CONFLICT`, `CATALOGUE_CONFLICT`.
    pub async fn create(&self, topic: NewTopic) -> Result<()> {
        self.0.edit(async |editor: &Editor| editor.create_topic(topic).await).await
    }

    /// Changes what the patch names of a topic.
    ///
    /// # Errors
    /// `TOPIC_NOT_FOUND`, `DESTINATION_CONFLICT`, `CATALOGUE_CONFLICT`.
    pub async fn update(&self, event: &str, patch: TopicPatch) -> Result<()> {
        self.0.edit(async |editor: &Editor| editor.update_topic(event, patch).await).await
    }

    /// A topic by its event.
    ///
    /// # Errors
    /// `BROKER_NOT_FOUND`, `TOPIC_NOT_FOUND`, with the tags that exist.
    pub async fn fetch(&self, event: &str) -> Result<TopicEntry> {
        Ok(self.0.catalogue().await?.topic(&event.parse()?)?.clone())
    }

    /// All topics of a broker, in the catalogue's order.
    ///
    /// # Errors
    /// `BROKER_NOT_FOUND`.
    pub async fn fetch_all(&self, broker: &str) -> Result<Vec<TopicEntry>> {
        Ok(self.0.catalogue().await?.broker(broker)?.topics.clone())
    }

    /// Takes a topic out of the catalogue. Its destination and what is in it stay.
    ///
    /// # Errors
    /// `TOPIC_NOT_FOUND`, `CATALOGUE_CONFLICT`.
    pub async fn delete(&self, event: &str) -> Result<()> {
        self.0.edit(async |editor: &Editor| editor.delete_topic(event).await).await
    }
}
