//! lapin by hand: a quorum queue bound to a durable topic exchange, as several groups need it, persistent and mandatory
//! messages, confirms in a window, acks that stand for many.

use super::metadata::{CONSTANT, ID, Ids};
use crate::Result;
use bytes::Bytes;
use ductape_contest::{Contestant, Messages, Seen, Setup, Windows};
use futures_util::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};
use lapin::uri::AMQPUri;
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, ExchangeKind, PublisherConfirm,
};
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::Mutex;

const PERSISTENT: u8 = 2;
const EXCHANGE: &str = "bench-by-hand";

/// `METADATA` is whether messages carry more than their payload.
pub(super) struct Contender<const METADATA: bool> {
    connection: Connection,
    publishes: Channel,
    queue: ShortString,
    ids: Mutex<Ids>,
    windows: Windows,
}

impl<const METADATA: bool> Contestant for Contender<METADATA> {
    async fn open(setup: &Setup) -> Result<Self> {
        let at = &setup.endpoint;
        let mut address: AMQPUri = format!("amqp://{}/%2f", at.address).parse()?;
        address.authority.userinfo.username.clone_from(&at.username);
        address.authority.userinfo.password.clone_from(&at.password);
        let connection = Connection::connect_uri(address, ConnectionProperties::default()).await?;
        let publishes = connection.create_channel().await?;
        publishes.confirm_select(ConfirmSelectOptions::default()).await?;
        let queue = ShortString::from(setup.name.as_str());
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        publishes.queue_declare(queue.clone(), durable, arguments).await?;
        let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let none = FieldTable::default();
        publishes.exchange_declare(EXCHANGE.into(), ExchangeKind::Topic, durable, none.clone()).await?;
        let bind = QueueBindOptions::default();
        publishes.queue_bind(queue.clone(), EXCHANGE.into(), queue.clone(), bind, none).await?;
        let (ids, windows) = (Mutex::new(Ids::new()), Windows::of(setup.corpus));
        Ok(Contender { connection, publishes, queue, ids, windows })
    }

    async fn publish(self: Arc<Self>, messages: Messages) -> Result<()> {
        let (mut ids, mut confirms) = (Ids::new(), VecDeque::with_capacity(self.windows.messages()));
        for payload in messages {
            if confirms.len() == self.windows.messages()
                && let Some(confirm) = confirms.pop_front()
            {
                confirmed(confirm.await?)?;
            }
            confirms.push_back(self.send(&payload, properties::<METADATA>(&mut ids)).await?);
        }
        for confirm in confirms {
            confirmed(confirm.await?)?;
        }
        Ok(())
    }

    async fn publish_one(self: Arc<Self>, message: Bytes) -> Result<()> {
        let properties = properties::<METADATA>(&mut *self.ids.lock().await);
        confirmed(self.send(&message, properties).await?.await?)
    }

    async fn consume(self: Arc<Self>, seen: Seen) -> Result<()> {
        let channel = self.connection.create_channel().await?;
        channel.basic_qos(self.windows.deliveries as u16, BasicQosOptions::default()).await?;
        let (options, table) = (BasicConsumeOptions::default(), FieldTable::default());
        let consumer = channel.basic_consume(self.queue.clone(), "member".into(), options, table).await?;
        let mut ready = consumer.ready_chunks(self.windows.deliveries);
        while !seen.is_complete() {
            let deliveries = ready.next().await.ok_or("the consumer was cancelled")?;
            let mut last = None;
            for delivery in deliveries {
                let delivery = delivery?;
                seen.take(&delivery.data);
                last = Some(delivery.delivery_tag);
            }
            if let Some(tag) = last {
                channel.basic_ack(tag, BasicAckOptions { multiple: true }).await?;
            }
        }
        // The server answers in order: it has seen the acks when it has answered this.
        channel.close(200, "OK".into()).await?;
        Ok(())
    }

    async fn left(&self) -> Result<Option<u64>> {
        let channel = self.connection.create_channel().await?;
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let queue = channel.queue_declare(self.queue.clone(), passive, FieldTable::default()).await?;
        Ok(Some(u64::from(queue.message_count())))
    }
}

impl<const METADATA: bool> Contender<METADATA> {
    async fn send(&self, payload: &[u8], properties: BasicProperties) -> Result<PublisherConfirm> {
        let mandatory = BasicPublishOptions { mandatory: true, immediate: false };
        Ok(self
            .publishes
            .basic_publish(EXCHANGE.into(), self.queue.clone(), mandatory, payload, properties)
            .await?)
    }
}

fn confirmed(confirmation: Confirmation) -> Result<()> {
    match confirmation {
        Confirmation::Ack(None) => Ok(()),
        other => Err(format!("not confirmed: {other:?}").into()),
    }
}

fn properties<const METADATA: bool>(ids: &mut Ids) -> BasicProperties {
    let persistent = BasicProperties::default().with_delivery_mode(PERSISTENT);
    if !METADATA {
        return persistent;
    }
    let mut headers = FieldTable::default();
    let mut put = |name: &str, value: &str| {
        let name = ShortString::from(format!("cloudEvents:{name}"));
        headers.insert(name, AMQPValue::LongString(LongString::from(value)));
    };
    CONSTANT[..4].iter().for_each(|(name, value)| put(name, value));
    let id = ids.next();
    put(ID, id);
    persistent.with_message_id(id.into()).with_content_type(CONSTANT[4].1.into()).with_headers(headers)
}
