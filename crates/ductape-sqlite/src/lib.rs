//! The embedded durable provider of Ductape (`type: SQLITE`): topics in one file, shared by processes.
//!
//! ```text
//!  process A                                   the file                              process B
//!  publish ─┐                    ┌───────────────────────────────────────┐
//!  receive ─┼▶ queue ▶ writer ──▶│ message   [1][2][3][4][5]…  one row each│◀── writer ◀ queue ◀ …
//!  settle  ─┘   (a thread, one   │ claim     2–4 in hand of consumer 7    │
//!               transaction for  │ parked    1 to be retried at 12:04     │
//!               all that wait)   │ group     head 5                       │
//!                                └───────────────────────────────────────┘
//!                    after the commit: wake own consumers ─ ring B's bell ──▶ watched file
//! ```
//!
//! - One thread a file and process writes (`writer`): everything that waits shares one transaction, and one
//!   fsync. Processes take turns (`turn`).
//! - A publish is one row however many groups there are (`log`). Handing out a batch is one row, settling it is
//!   deleting that row (`pick`, `claims`, `settle`); only what is retried or passed over is kept by the
//!   message (`parked`). The tables are told in `schema`.
//! - What a process has just published its own consumers have without reading the file, up to 4 MiB (`recent`).
//! - Nobody polls: `wakes` within the process, `peers` between processes.
//! - What a process that died had in hand goes to others at once (`members`).
//!
//! ```
//! use ductape_core::config::{Durability, ProviderConfig, SqliteConfig};
//! use ductape_core::{ConnectOptions, Destination, Provider};
//! use ductape_sqlite::SqliteProvider;
//!
//! # let folder = tempfile::tempdir().unwrap();
//! # let options = ConnectOptions { base_dir: folder.path().into(), ..ConnectOptions::default() };
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! let path = ".ductape/dev.db".into();
//! let config = SqliteConfig { path, durability: Durability::Full, retain: None, max_bytes: None };
//! let broker = SqliteProvider.connect(&ProviderConfig::Sqlite(config), &options).await?;
//! let orders = Destination::new("orders", "billing");
//! broker.ensure(&orders).await?;
//! assert_eq!(broker.inspect(&orders).await?.groups[0].name, "billing");
//! broker.close().await?;
//! # Ok::<(), ductape_core::Error>(())
//! # }).unwrap();
//! ```

mod admin;
mod attributes;
mod beside;
mod broker;
mod checkpoint;
mod claims;
mod consumer;
mod entries;
mod error;
mod file;
mod ids;
mod log;
mod members;
mod message;
mod opening;
mod parked;
mod peers;
mod pick;
mod publisher;
mod queue;
mod recent;
mod request;
mod room;
mod schema;
mod settle;
mod store;
mod sweep;
mod turn;
mod wakes;
mod writer;

pub use broker::SqliteProvider;
pub use message::{MAX_DELAY, MAX_MESSAGE_BYTES};
