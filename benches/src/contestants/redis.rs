//! The redis client by hand: pipelines of XADD, several under way, on two connections in turn, of which a server takes more
//! than of one; one XREADGROUP after the other on a connection of
//! its own, and one XACK for all that it brought, whose answer is not waited for before the next read.

use super::metadata::{CONSTANT, ID, Ids};
use crate::Result;
use bytes::Bytes;
use ductape_contest::{Contestant, Messages, Seen, Setup, Windows};
use futures_util::{StreamExt, TryStreamExt};
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, IntoConnectionInfo, Pipeline, RedisConnectionInfo,
    Value,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

const GROUP: &str = "bench";
const PAYLOAD: &str = "data";
/// How long a read waits for messages.
const BLOCK_MILLIS: usize = 1000;

/// `METADATA` is whether messages carry more than their payload.
pub(super) struct Contender<const METADATA: bool> {
    client: Client,
    connection: MultiplexedConnection,
    /// By which messages are published, in turn.
    lines: [MultiplexedConnection; 2],
    published: AtomicUsize,
    stream: String,
    ids: Mutex<Ids>,
    windows: Windows,
}

impl<const METADATA: bool> Contestant for Contender<METADATA> {
    async fn open(setup: &Setup) -> Result<Self> {
        let at = &setup.endpoint;
        let login = RedisConnectionInfo::default().set_username(&at.username).set_password(&at.password);
        let address = ConnectionAddr::Tcp(at.host().to_owned(), at.port());
        let client = Client::open(address.into_connection_info()?.set_redis_settings(login))?;
        let mut connection = connect(&client).await?;
        redis::cmd("XGROUP")
            .arg("CREATE")
            .arg(&setup.name)
            .arg(GROUP)
            .arg("$")
            .arg("MKSTREAM")
            .exec_async(&mut connection)
            .await?;
        let lines = [connect(&client).await?, connect(&client).await?];
        Ok(Contender {
            client,
            connection,
            lines,
            published: AtomicUsize::new(0),
            stream: setup.name.clone(),
            ids: Mutex::new(Ids::new()),
            windows: Windows::of(setup.corpus),
        })
    }

    async fn publish(self: Arc<Self>, mut messages: Messages) -> Result<()> {
        let mut ids = Ids::new();
        let pipelines = std::iter::from_fn(|| {
            let batch = Some(messages.batch(self.windows.batch)).filter(|batch| batch.left() > 0)?;
            let mut pipeline = Pipeline::with_capacity(batch.len());
            batch.for_each(|payload| _ = pipeline.add_command(self.add(&payload, &mut ids)).ignore());
            Some(pipeline)
        });
        futures_util::stream::iter(pipelines)
            .map(|pipeline| {
                let mut connection = self.line();
                async move { pipeline.exec_async(&mut connection).await }
            })
            .buffer_unordered(self.windows.batches)
            .try_collect::<()>()
            .await?;
        Ok(())
    }

    async fn publish_one(self: Arc<Self>, message: Bytes) -> Result<()> {
        let add = self.add(&message, &mut *self.ids.lock().await);
        Ok(add.exec_async(&mut self.line()).await?)
    }

    async fn consume(self: Arc<Self>, seen: Seen) -> Result<()> {
        let (mut reader, mut acks) = (connect(&self.client).await?, JoinSet::new());
        while !seen.is_complete() {
            let Some(entries) = entries(self.read().query_async(&mut reader).await?) else { continue };
            let mut ack = redis::cmd("XACK");
            ack.arg(&self.stream).arg(GROUP);
            for (id, payload) in &entries {
                seen.take(payload);
                ack.arg(id);
            }
            let mut connection = self.connection.clone();
            acks.spawn(async move { ack.exec_async(&mut connection).await });
            while acks.len() > self.windows.batches {
                acks.join_next().await.transpose()?.transpose()?;
            }
        }
        while let Some(acked) = acks.join_next().await {
            acked??;
        }
        Ok(())
    }

    async fn left(&self) -> Result<Option<u64>> {
        let mut pending = redis::cmd("XPENDING");
        let answer: Value =
            pending.arg(&self.stream).arg(GROUP).query_async(&mut self.connection.clone()).await?;
        match answer {
            Value::Array(parts) => match parts.first() {
                Some(Value::Int(pending)) => Ok(Some(*pending as u64)),
                other => Err(format!("XPENDING answers {other:?}").into()),
            },
            other => Err(format!("XPENDING answers {other:?}").into()),
        }
    }
}

impl<const METADATA: bool> Contender<METADATA> {
    fn line(&self) -> MultiplexedConnection {
        self.lines[self.published.fetch_add(1, Ordering::Relaxed) % self.lines.len()].clone()
    }

    fn add(&self, payload: &[u8], ids: &mut Ids) -> Cmd {
        let mut add = Cmd::with_capacity(16, 320 + payload.len());
        add.arg("XADD").arg(&self.stream).arg("*");
        if METADATA {
            CONSTANT.iter().for_each(|(name, value)| _ = add.arg(name).arg(value));
            add.arg(ID).arg(ids.next());
        }
        add.arg(PAYLOAD).arg(payload);
        add
    }

    fn read(&self) -> Cmd {
        let mut read = redis::cmd("XREADGROUP");
        read.arg("GROUP").arg(GROUP).arg("member").arg("COUNT").arg(self.windows.deliveries);
        read.arg("BLOCK").arg(BLOCK_MILLIS).arg("STREAMS").arg(&self.stream).arg(">");
        read
    }
}

async fn connect(client: &Client) -> Result<MultiplexedConnection> {
    // A read that blocks takes longer than the usual answer.
    let config = AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_secs(30)));
    Ok(client.get_multiplexed_async_connection_with_config(&config).await?)
}

/// The ids and payloads in an answer to XREADGROUP for one stream; none where nothing came in time.
fn entries(answer: Value) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
    let Value::Array(streams) = answer else { return None };
    let Value::Array(stream) = streams.into_iter().next()? else { return None };
    let Value::Array(entries) = stream.into_iter().nth(1)? else { return None };
    Some(entries.into_iter().filter_map(entry).collect())
}

fn entry(entry: Value) -> Option<(Vec<u8>, Vec<u8>)> {
    let Value::Array(parts) = entry else { return None };
    let mut parts = parts.into_iter();
    let (Value::BulkString(id), Value::Array(fields)) = (parts.next()?, parts.next()?) else { return None };
    // The payload stands last.
    let Value::BulkString(payload) = fields.into_iter().next_back()? else { return None };
    Some((id, payload))
}
