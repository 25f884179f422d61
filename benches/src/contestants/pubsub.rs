//! Google's own client by hand: its batching publisher, a window of futures, one stream whose acks it sends itself.

use super::metadata::{CONSTANT, ID, Ids};
use crate::Result;
use bytes::Bytes;
use ductape_contest::{Contestant, Messages, Seen, Setup, Windows};
use google_cloud_auth::credentials::{Credentials, anonymous};
use google_cloud_pubsub::client::{Publisher, Subscriber, SubscriptionAdmin, TopicAdmin};
use google_cloud_pubsub::model::Message;
use google_cloud_pubsub::publisher::PublishFuture;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

const PROJECT: &str = "projects/bench";
/// How long the client waits for a batch to fill.
const DELAY: Duration = Duration::from_millis(1);

/// `METADATA` is whether messages carry more than their payload.
pub(super) struct Contender<const METADATA: bool> {
    publisher: Publisher,
    subscriber: Subscriber,
    subscription: String,
    ids: Mutex<Ids>,
    windows: Windows,
}

impl<const METADATA: bool> Contestant for Contender<METADATA> {
    async fn open(setup: &Setup) -> Result<Self> {
        // The client asks for it even where nothing speaks TLS.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (endpoint, nobody) =
            (format!("http://{}", setup.endpoint.address), anonymous::Builder::new().build());
        let windows = Windows::of(setup.corpus);
        let topic = format!("{PROJECT}/topics/{}", setup.name);
        let subscription = format!("{PROJECT}/subscriptions/{}", setup.name);
        make(&endpoint, &nobody, &topic, &subscription).await?;
        let publisher = Publisher::builder(&topic).with_endpoint(&endpoint).with_credentials(nobody.clone());
        let publisher =
            publisher.set_message_count_threshold(windows.batch as u32).set_delay_threshold(DELAY);
        let subscriber = Subscriber::builder().with_endpoint(&endpoint).with_credentials(nobody);
        Ok(Contender {
            publisher: publisher.build().await?,
            subscriber: subscriber.build().await?,
            subscription,
            ids: Mutex::new(Ids::new()),
            windows,
        })
    }

    async fn publish(self: Arc<Self>, messages: Messages) -> Result<()> {
        let mut waiting = VecDeque::with_capacity(self.windows.messages());
        for payload in messages {
            if waiting.len() == self.windows.messages()
                && let Some(published) = waiting.pop_front()
            {
                published.await?;
            }
            waiting.push_back(self.send(payload));
        }
        for published in waiting {
            published.await?;
        }
        Ok(())
    }

    async fn publish_one(self: Arc<Self>, message: Bytes) -> Result<()> {
        self.send(message).await?;
        Ok(())
    }

    async fn consume(self: Arc<Self>, seen: Seen) -> Result<()> {
        let stream = self.subscriber.subscribe(&self.subscription);
        let mut stream = stream.set_max_outstanding_messages(self.windows.deliveries as i64).build();
        while !seen.is_complete() {
            let (message, handler) = stream.next().await.ok_or("the stream ended")??;
            seen.take(&message.data);
            handler.ack();
        }
        // It returns when every ack has been answered.
        stream.shutdown_token().shutdown().await;
        Ok(())
    }
}

impl<const METADATA: bool> Contender<METADATA> {
    fn send(&self, payload: Bytes) -> PublishFuture {
        let mut message = Message::new().set_data(payload);
        if METADATA {
            let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
            let pairs = CONSTANT.into_iter().chain([(ID, ids.next())]);
            message =
                message.set_attributes(pairs.map(|(name, value)| (format!("ce-{name}"), value.to_owned())));
        }
        self.publisher.publish(message)
    }
}

async fn make(endpoint: &str, nobody: &Credentials, topic: &str, subscription: &str) -> Result<()> {
    let topics =
        TopicAdmin::builder().with_endpoint(endpoint).with_credentials(nobody.clone()).build().await?;
    topics.create_topic().set_name(topic).send().await?;
    let subscriptions = SubscriptionAdmin::builder().with_endpoint(endpoint).with_credentials(nobody.clone());
    subscriptions.build().await?.create_subscription().set_name(subscription).set_topic(topic).send().await?;
    Ok(())
}
