//! Publishing and consuming beside the redis crate alone, in turns, on a server of its own.
//!
//! `cargo run --release -p ductape-redis --example measure_redis [MESSAGES] [ROUNDS]`
//!
//! *raw* sends and reads the very fields that we do, pipelined and with as many requests under way. *bare* does so with
//! one field, the payload, and so without id, time, type and source. Everything is confirmed (`appendfsync always`), everything
//! read is acknowledged.

use bytes::Bytes;
use ductape_core::config::{ProviderConfig, RedisConfig};
use ductape_core::message::{Attributes, IdSource};
use ductape_core::{
    Broker, Clock, ConnectOptions, ConsumerOptions, Destination, Message, Provider, Settlement, Start,
    Verdict,
};
use ductape_redis::RedisProvider;
use ductape_testkit::servers::{self, Kind, Options};
use futures_util::future::{join, try_join_all};
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{Pipeline, Value};
use std::error::Error;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

type Fault = Box<dyn Error + Send + Sync>;

const BATCH: usize = 500;
const UNDER_WAY: usize = 4;
const AT_ONCE: usize = 1000;
const GROUP: &str = "measure";

#[derive(Clone, Copy, PartialEq)]
enum Contestant {
    Ours,
    Raw,
    Bare,
}

const CONTESTANTS: [Contestant; 3] = [Contestant::Ours, Contestant::Raw, Contestant::Bare];

fn main() -> Result<(), Fault> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(run())
}

async fn run() -> Result<(), Fault> {
    let mut numbers = std::env::args().skip(1).map(|argument| argument.parse::<usize>());
    let messages = numbers.next().transpose()?.unwrap_or(200_000);
    let rounds = numbers.next().transpose()?.unwrap_or(7);
    let server = servers::own(Kind::Redis, Options::default()).await?;
    let rig = Rig::connect(server.endpoint(), messages).await?;
    for size in [64, 1024] {
        let mut rates = [[Vec::new(), Vec::new()], [Vec::new(), Vec::new()], [Vec::new(), Vec::new()]];
        for round in 0..rounds {
            for turn in 0..CONTESTANTS.len() {
                let index = (turn + round) % CONTESTANTS.len();
                let (published, consumed) = rig.race(CONTESTANTS[index], size).await?;
                rates[index][0].push(published);
                rates[index][1].push(consumed);
            }
        }
        report(size, &mut rates)?;
    }
    Ok(())
}

fn report(size: usize, rates: &mut [[Vec<f64>; 2]; 3]) -> Result<(), Fault> {
    let mut out = std::io::stdout().lock();
    for (what, name) in ["publish", "consume"].into_iter().enumerate() {
        let [ours, raw, bare] = [0, 1, 2].map(|contestant| median(&mut rates[contestant][what]));
        writeln!(
            out,
            "{name} {size} B: ours {ours:.0}/s, raw {raw:.0}/s ({:.2}), bare {bare:.0}/s ({:.2})",
            ours / raw,
            ours / bare
        )?;
    }
    Ok(())
}

fn median(rates: &mut [f64]) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

struct Rig {
    broker: Arc<dyn Broker>,
    publishing: MultiplexedConnection,
    reading: MultiplexedConnection,
    messages: usize,
}

impl Rig {
    async fn connect(endpoint: &servers::Endpoint, messages: usize) -> Result<Self, Fault> {
        let password = endpoint.password.as_ref().map_or("", |password| password.expose());
        let config = RedisConfig {
            host: Some(endpoint.host().into()),
            port: Some(endpoint.port()),
            password: endpoint.password.clone(),
            ..RedisConfig::default()
        };
        let options = ConnectOptions::default();
        let broker = RedisProvider.connect(&ProviderConfig::Redis(config), &options).await?;
        let client = redis::Client::open(format!("redis://:{password}@{}", endpoint.address))?;
        let config = redis::AsyncConnectionConfig::new()
            .set_response_timeout(Some(Duration::from_secs(30)))
            .set_write_backpressure_boundary(128 * 1024);
        let connect = || client.get_multiplexed_async_connection_with_config(&config);
        let (publishing, reading) = (connect().await?, connect().await?);
        Ok(Rig { broker, publishing, reading, messages })
    }

    /// Messages a second, published and consumed.
    async fn race(&self, contestant: Contestant, size: usize) -> Result<(f64, f64), Fault> {
        let destination = Destination::new(format!("measure-{:016x}", fastrand::u64(..)), GROUP);
        self.broker.ensure(&destination).await?;
        let start = Instant::now();
        match contestant {
            Contestant::Ours => self.publish(&destination, size).await?,
            other => self.publish_raw(&destination, size, other).await?,
        }
        let published = self.messages as f64 / start.elapsed().as_secs_f64();
        let start = Instant::now();
        match contestant {
            Contestant::Ours => self.consume(&destination).await?,
            _ => self.consume_raw(&destination).await?,
        }
        let consumed = self.messages as f64 / start.elapsed().as_secs_f64();
        let mut delete = redis::cmd("DEL");
        delete.arg(&*destination.name).query_async::<()>(&mut self.reading.clone()).await?;
        Ok((published, consumed))
    }

    async fn publish(&self, destination: &Destination, size: usize) -> Result<(), Fault> {
        let publisher = self.broker.publisher(destination).await?;
        let (payload, attributes) = (Bytes::from(vec![b'x'; size]), attributes());
        let lines = (0..UNDER_WAY).map(|_| async {
            for _ in 0..self.messages / BATCH / UNDER_WAY {
                for result in publisher.publish(batch(&payload, &attributes)).await {
                    result?;
                }
            }
            Ok::<_, Fault>(())
        });
        try_join_all(lines).await.map(drop)
    }

    async fn publish_raw(&self, destination: &Destination, size: usize, by: Contestant) -> Result<(), Fault> {
        let (payload, attributes) = (Bytes::from(vec![b'x'; size]), attributes());
        let lines = (0..UNDER_WAY).map(|_| async {
            let mut connection = self.publishing.clone();
            for _ in 0..self.messages / BATCH / UNDER_WAY {
                let mut commands = Pipeline::with_capacity(BATCH);
                for message in batch(&payload, &attributes) {
                    let add = commands.cmd("XADD").arg(&*destination.name).arg("*");
                    if by == Contestant::Raw {
                        add.arg("specversion").arg("1.0").arg("id").arg(message.id.to_string());
                        add.arg("source").arg(message.source()).arg("type").arg(message.event());
                        add.arg("time").arg(message.time.to_string());
                        add.arg("datacontenttype").arg(message.content_type());
                    }
                    add.arg("payload").arg(&message.payload[..]);
                }
                commands.query_async::<Vec<String>>(&mut connection).await?;
            }
            Ok::<_, Fault>(())
        });
        try_join_all(lines).await.map(drop)
    }

    async fn consume(&self, destination: &Destination) -> Result<(), Fault> {
        let mut options = ConsumerOptions::new(GROUP);
        (options.max_in_flight, options.start) = (4 * AT_ONCE, Start::Earliest);
        let consumer = self.broker.consumer(destination, &options).await?;
        let (mut left, mut done) = (self.messages / (BATCH * UNDER_WAY) * BATCH * UNDER_WAY, Vec::new());
        while left > 0 {
            let receive = consumer.receive(AT_ONCE, Duration::from_secs(10));
            let (received, settled) = join(receive, consumer.settle(std::mem::take(&mut done))).await;
            settled.into_iter().collect::<Result<Vec<_>, _>>()?;
            let received = received?;
            left -= received.len();
            let ack = |delivery: ductape_core::Delivery| Settlement {
                token: delivery.token,
                verdict: Verdict::Ack,
            };
            done.extend(received.into_iter().map(ack));
        }
        consumer.settle(done).await.into_iter().collect::<Result<Vec<_>, _>>()?;
        Ok(consumer.close().await?)
    }

    async fn consume_raw(&self, destination: &Destination) -> Result<(), Fault> {
        let (mut reading, mut acking) = (self.reading.clone(), self.publishing.clone());
        let mut read = redis::cmd("XREADGROUP");
        read.arg("GROUP").arg(GROUP).arg("raw").arg("COUNT").arg(AT_ONCE).arg("STREAMS");
        read.arg(&*destination.name).arg(">");
        let mut ids: Vec<Vec<u8>> = Vec::new();
        loop {
            let mut ack = redis::cmd("XACK");
            ack.arg(&*destination.name).arg(GROUP).arg(&ids);
            let acked = async {
                if ids.is_empty() { Ok(Value::Int(0)) } else { acking.req_packed_command(&ack).await }
            };
            let (answer, acked) = join(reading.req_packed_command(&read), acked).await;
            acked?;
            ids = ids_of(answer?);
            if ids.is_empty() {
                return Ok(());
            }
        }
    }
}

fn batch(payload: &Bytes, attributes: &Arc<Attributes>) -> Vec<Message> {
    let (mut ids, now) = (IdSource::new(), Clock::system().now());
    (0..BATCH).map(|_| Message::new(payload.clone(), ids.next(now), now, Arc::clone(attributes))).collect()
}

fn attributes() -> Arc<Attributes> {
    Arc::new(Attributes {
        source: "/measure".into(),
        event: "measure:messages".into(),
        content_type: "application/octet-stream".into(),
    })
}

fn ids_of(answer: Value) -> Vec<Vec<u8>> {
    let list = |value: Option<Value>| match value {
        Some(Value::Array(items)) => items,
        _ => Vec::new(),
    };
    let stream = list(list(Some(answer)).pop());
    let id = |entry| list(Some(entry)).into_iter().next();
    let entries = list(stream.into_iter().nth(1)).into_iter().filter_map(id);
    let bytes = |id| match id {
        Value::BulkString(bytes) => Some(bytes),
        _ => None,
    };
    entries.filter_map(bytes).collect()
}
