//! AWS' own SDK by hand: sends of ten, many under way; receives side by side, each of which deletes what it got.

use super::metadata::{CONSTANT, ID, Ids};
use crate::Result;
use aws_config::{BehaviorVersion, Region};
use aws_credential_types::Credentials;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::{
    DeleteMessageBatchRequestEntry, Message, MessageAttributeValue, QueueAttributeName,
    SendMessageBatchRequestEntry,
};
use bytes::Bytes;
use ductape_contest::{Contestant, Messages, Seen, Setup};
use futures_util::{StreamExt, TryStreamExt};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinSet;

/// Entries of a batch, by SQS' own limit.
const ENTRIES: usize = 10;
/// Bytes of a batch, by the same.
const BATCH_BYTES: usize = 1 << 20;
/// Requests under way that send, and such that receive.
const SENDS: usize = 32;
const RECEIVES: usize = 8;
/// The longest poll that SQS knows, in seconds; and a short one for the end.
const LONG_POLL: i32 = 1;

/// `METADATA` is whether messages carry more than their payload.
pub(super) struct Contender<const METADATA: bool> {
    client: Client,
    url: String,
    /// Messages of one send.
    entries: usize,
    single: mpsc::Sender<Single>,
    ids: Arc<Mutex<Ids>>,
}

type Single = (Bytes, oneshot::Sender<()>);

impl<const METADATA: bool> Contestant for Contender<METADATA> {
    async fn open(setup: &Setup) -> Result<Self> {
        let config = aws_config::defaults(BehaviorVersion::latest())
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .credentials_provider(Credentials::new("bench", "bench", None, None, "bench"))
            .region(Region::new("us-east-1"))
            .endpoint_url(format!("http://{}", setup.endpoint.address))
            .load()
            .await;
        let client = Client::new(&config);
        let made = client.create_queue().queue_name(&setup.name).send().await?;
        let url = made.queue_url.ok_or("a queue without a URL")?;
        let entries = (BATCH_BYTES / (setup.corpus.bytes() + 1024)).clamp(1, ENTRIES);
        let (single, singles) = mpsc::channel(ENTRIES * SENDS);
        let ids = Arc::new(Mutex::new(Ids::new()));
        tokio::spawn(send_singles::<METADATA>(
            singles,
            client.clone(),
            url.clone(),
            entries,
            Arc::clone(&ids),
        ));
        Ok(Contender { client, url, entries, single, ids })
    }

    async fn publish(self: Arc<Self>, mut messages: Messages) -> Result<()> {
        let mut ids = self.ids.lock().await;
        let batches =
            std::iter::from_fn(|| Some(messages.batch(self.entries)).filter(|batch| batch.left() > 0));
        futures_util::stream::iter(batches)
            .map(|batch: Messages| {
                let entries = batch.map(|payload| entry::<METADATA>(&payload, &mut ids)).collect();
                send_one_of(self.client.clone(), self.url.clone(), entries)
            })
            .buffer_unordered(SENDS)
            .try_collect()
            .await
    }

    async fn publish_one(self: Arc<Self>, message: Bytes) -> Result<()> {
        let (done, sent) = oneshot::channel();
        self.single.send((message, done)).await?;
        Ok(sent.await?)
    }

    async fn consume(self: Arc<Self>, seen: Seen) -> Result<()> {
        let mut receivers = JoinSet::new();
        for _ in 0..RECEIVES {
            receivers.spawn(receive(self.client.clone(), self.url.clone(), seen.clone()));
        }
        while let Some(ended) = receivers.join_next().await {
            ended??;
        }
        Ok(())
    }

    async fn left(&self) -> Result<Option<u64>> {
        let names = [
            QueueAttributeName::ApproximateNumberOfMessages,
            QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
        ];
        let asked =
            self.client.get_queue_attributes().queue_url(&self.url).set_attribute_names(Some(names.into()));
        let counts = asked.send().await?.attributes.unwrap_or_default();
        let count = |text: String| -> Result<u64> { Ok(text.parse()?) };
        counts.into_values().map(count).sum::<Result<u64>>().map(Some)
    }
}

async fn send_one_of(
    client: Client,
    url: String,
    batch: Result<Vec<SendMessageBatchRequestEntry>>,
) -> Result<()> {
    send(&client, &url, batch?).await
}

async fn send(client: &Client, url: &str, batch: Vec<SendMessageBatchRequestEntry>) -> Result<()> {
    // Ids are of a batch: its entries' places.
    let batch = batch.into_iter().zip(0..).map(|(mut entry, place)| {
        entry.id = i32::to_string(&place);
        entry
    });
    let sent = client.send_message_batch().queue_url(url).set_entries(Some(batch.collect())).send().await?;
    match sent.failed.first() {
        None => Ok(()),
        Some(failed) => Err(format!("not taken: {failed:?}").into()),
    }
}

/// What waits when a send can begin goes with it.
async fn send_singles<const METADATA: bool>(
    mut singles: mpsc::Receiver<Single>,
    client: Client,
    url: String,
    entries: usize,
    ids: Arc<Mutex<Ids>>,
) {
    let mut sends = JoinSet::new();
    loop {
        while sends.len() >= SENDS {
            sends.join_next().await;
        }
        let mut waiting = Vec::with_capacity(entries);
        if singles.recv_many(&mut waiting, entries).await == 0 {
            return;
        }
        let (client, url, ids) = (client.clone(), url.clone(), Arc::clone(&ids));
        sends.spawn(async move {
            let (payloads, done): (Vec<_>, Vec<_>) = waiting.into_iter().unzip();
            let batch: Result<Vec<_>> = {
                let mut ids = ids.lock().await;
                payloads.iter().map(|payload| entry::<METADATA>(payload, &mut ids)).collect()
            };
            // Whoever waits sees that the answer does not come.
            if let Ok(batch) = batch
                && send(&client, &url, batch).await.is_ok()
            {
                done.into_iter().for_each(|done| _ = done.send(()));
            }
        });
        while sends.try_join_next().is_some() {}
    }
}

async fn receive(client: Client, url: String, seen: Seen) -> Result<()> {
    let mut deletes = JoinSet::new();
    while !seen.is_complete() {
        let request = client.receive_message().queue_url(&url).max_number_of_messages(ENTRIES as i32);
        let request = request.wait_time_seconds(LONG_POLL).message_attribute_names("All");
        let messages = request.send().await?.messages.unwrap_or_default();
        if messages.is_empty() {
            continue;
        }
        messages.iter().for_each(|message| _ = seen.take(message.body().unwrap_or_default().as_bytes()));
        deletes.spawn(delete(client.clone(), url.clone(), messages));
        while let Some(ended) = deletes.try_join_next() {
            ended??;
        }
    }
    while let Some(ended) = deletes.join_next().await {
        ended??;
    }
    Ok(())
}

async fn delete(client: Client, url: String, messages: Vec<Message>) -> Result<()> {
    let entries = messages.into_iter().zip(0..).map(|(message, place)| {
        let receipt = message.receipt_handle.unwrap_or_default();
        Ok(DeleteMessageBatchRequestEntry::builder()
            .id(i32::to_string(&place))
            .receipt_handle(receipt)
            .build()?)
    });
    let entries = entries.collect::<Result<Vec<_>>>()?;
    let deleted = client.delete_message_batch().queue_url(url).set_entries(Some(entries)).send().await?;
    match deleted.failed.first() {
        None => Ok(()),
        Some(failed) => Err(format!("not deleted: {failed:?}").into()),
    }
}

fn entry<const METADATA: bool>(payload: &[u8], ids: &mut Ids) -> Result<SendMessageBatchRequestEntry> {
    let body = String::from_utf8(payload.to_vec())?;
    let attributes = if METADATA { Some(attributes(ids.next())?) } else { None };
    let entry = SendMessageBatchRequestEntry::builder().id("0").message_body(body);
    Ok(entry.set_message_attributes(attributes).build()?)
}

fn attributes(id: &str) -> Result<HashMap<String, MessageAttributeValue>> {
    let pairs = CONSTANT.into_iter().chain([(ID, id)]);
    pairs
        .map(|(name, value)| {
            let value = MessageAttributeValue::builder().data_type("String").string_value(value).build()?;
            Ok((name.to_owned(), value))
        })
        .collect()
}
