//! Measures the provider beside a hand-written `rusqlite` loop, in one run:
//! `cargo run --release -p ductape-sqlite --example measure_sqlite`.
//!
//! Both insert messages of one size in transactions of one size, read them and delete them, on files of their own
//! in the current folder. The hand-written loop has one table, and no groups, leases, order by key or wake-ups. A
//! word after `--` chooses cases, such as `Full,64,256`.

#![allow(clippy::print_stdout, reason = "the table goes to the terminal")]

use ductape_core::config::{Durability, SqliteConfig};
use ductape_core::message::{Attributes, IdSource};
use ductape_core::{
    Broker, Clock, ConnectOptions, Consumer, ConsumerOptions, Destination, Message, Provider, ProviderConfig,
    Publisher, Settlement, Verdict,
};
use ductape_sqlite::SqliteProvider;
use rusqlite::{Connection, params};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// One line of the table.
#[derive(Clone, Copy)]
struct Case {
    durability: Durability,
    bytes: usize,
    batch: usize,
    messages: usize,
}

fn main() -> Outcome<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    println!("durability  bytes  batch   raw msg/s  ours msg/s  ratio");
    let only = std::env::args().nth(1).unwrap_or_default();
    for durability in [Durability::Full, Durability::Normal] {
        for bytes in [64, 1024] {
            for batch in [1, 16, 256] {
                if !format!("{durability:?},{bytes},{batch}").contains(&only) {
                    continue;
                }
                let messages = match (durability, batch) {
                    (_, 1) => 5_120,
                    _ => 102_400,
                };
                compare(&runtime, Case { durability, bytes, batch, messages })?;
            }
        }
    }
    runtime.block_on(concurrent())
}

fn compare(runtime: &tokio::runtime::Runtime, case: Case) -> Outcome<()> {
    let folder = tempfile::tempdir_in(".")?;
    let (mut raw, mut ours) = (f64::MAX, f64::MAX);
    for round in 0..3 {
        raw = raw.min(raw_loop(&folder.path().join(format!("raw{round}")), case)?.as_secs_f64());
        let path = folder.path().join(format!("ours{round}"));
        ours = ours.min(runtime.block_on(our_loop(&path, case))?.as_secs_f64());
    }
    let (raw, ours) = (case.messages as f64 / raw, case.messages as f64 / ours);
    let durability = format!("{:?}", case.durability).to_lowercase();
    println!(
        "{durability:<10} {:>6} {:>6} {raw:>11.0} {ours:>11.0}  {:>5.2}",
        case.bytes,
        case.batch,
        ours / raw
    );
    Ok(())
}

/// Inserts a batch in one transaction, reads and deletes it in another, and so on.
fn raw_loop(path: &Path, case: Case) -> Outcome<Duration> {
    let mut connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.execute_batch(
        "CREATE TABLE message (id INTEGER PRIMARY KEY, attributes ANY NOT NULL, time INTEGER NOT NULL, \
             uid ANY NOT NULL, finish INTEGER NOT NULL, key BLOB, headers BLOB, extensions BLOB, \
             payload BLOB NOT NULL) STRICT",
    )?;
    let synchronous = if case.durability == Durability::Full { "full" } else { "normal" };
    let payload = vec![b'x'; case.bytes];
    let start = Instant::now();
    for round in 0..case.messages / case.batch {
        let ids = (round * case.batch) as i64..((round + 1) * case.batch) as i64;
        connection.pragma_update(None, "synchronous", synchronous)?;
        let transaction = connection.transaction()?;
        let sql =
            "INSERT INTO message (id, attributes, time, uid, finish, payload) VALUES (?, ?, ?, ?, ?, ?)";
        for id in ids.clone() {
            let mut insert = transaction.prepare_cached(sql)?;
            insert.execute(params![id, 1, 1_700_000_000_000_000_i64, [7_u8; 16], id * 64, payload])?;
        }
        transaction.commit()?;
        connection.pragma_update(None, "synchronous", "normal")?;
        let transaction = connection.transaction()?;
        let mut select = transaction.prepare_cached("SELECT * FROM message WHERE id >= ? AND id < ?")?;
        let mut rows = select.query([ids.start, ids.end])?;
        while let Some(row) = rows.next()? {
            std::hint::black_box(row.get::<_, Vec<u8>>(8)?);
        }
        drop(rows);
        drop(select);
        let sql = "DELETE FROM message WHERE id >= ? AND id < ?";
        transaction.prepare_cached(sql)?.execute([ids.start, ids.end])?;
        transaction.commit()?;
    }
    Ok(start.elapsed())
}

async fn open(
    path: &Path,
    durability: Durability,
) -> Outcome<(Arc<dyn Broker>, Arc<dyn Publisher>, Arc<dyn Consumer>)> {
    let config = SqliteConfig { path: std::path::absolute(path)?, durability, retain: None, max_bytes: None };
    let broker = SqliteProvider.connect(&ProviderConfig::Sqlite(config), &ConnectOptions::default()).await?;
    let destination = Destination::new("orders", "billing");
    broker.ensure(&destination).await?;
    let publisher = broker.publisher(&destination).await?;
    let consumer = broker.consumer(&destination, &ConsumerOptions::new("billing")).await?;
    Ok((broker, publisher, consumer))
}

fn attributes() -> Arc<Attributes> {
    Arc::new(Attributes { source: "/shop".into(), event: "a:b".into(), content_type: "text/plain".into() })
}

/// Publishes in batches in one task, receives and settles in another.
async fn our_loop(path: &Path, case: Case) -> Outcome<Duration> {
    let (broker, publisher, consumer) = open(path, case.durability).await?;
    let start = Instant::now();
    let publishing = tokio::spawn(publish(publisher, case.bytes, case.batch, case.messages / case.batch));
    let mut settled = 0;
    while settled < case.messages {
        let deliveries = consumer.receive(256, Duration::from_secs(10)).await?;
        settled += deliveries.len();
        let batch =
            deliveries.into_iter().map(|d| Settlement { token: d.token, verdict: Verdict::Ack }).collect();
        for result in consumer.settle(batch).await {
            result?;
        }
    }
    let elapsed = start.elapsed();
    publishing.await??;
    broker.close().await?;
    Ok(elapsed)
}

/// One publisher's rate and that of 64, one message at a time.
async fn concurrent() -> Outcome<()> {
    let mut rates = Vec::new();
    for publishers in [1, 64] {
        let folder = tempfile::tempdir_in(".")?;
        let (broker, publisher, _) = open(&folder.path().join("ours"), Durability::Full).await?;
        let each = if publishers == 1 { 5_000 } else { 2_000 };
        let start = Instant::now();
        let tasks: Vec<_> =
            (0..publishers).map(|_| tokio::spawn(publish(Arc::clone(&publisher), 64, 1, each))).collect();
        for task in tasks {
            task.await??;
        }
        rates.push((publishers * each) as f64 / start.elapsed().as_secs_f64());
        broker.close().await?;
    }
    println!(
        "full, one at a time: {:.0} msg/s by 1, {:.0} by 64: {:.1} times",
        rates[0],
        rates[1],
        rates[1] / rates[0]
    );
    Ok(())
}

async fn publish(publisher: Arc<dyn Publisher>, bytes: usize, batch: usize, batches: usize) -> Outcome<()> {
    let (attributes, mut ids) = (attributes(), IdSource::new());
    let payload = bytes::Bytes::from(vec![b'x'; bytes]);
    for _ in 0..batches {
        let time = Clock::system().now();
        let message = |_| Message::new(payload.clone(), ids.next(time), time, Arc::clone(&attributes));
        for result in publisher.publish((0..batch).map(message).collect()).await {
            result?;
        }
    }
    Ok(())
}
