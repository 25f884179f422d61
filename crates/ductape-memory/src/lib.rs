//! The in-process provider of Ductape (`type: MEMORY`): for tests and for programs of one process.
//!
//! It keeps every promise of [`ductape_core::broker`] but durability: many groups, order by key while members
//! compete, leases, counted attempts, delayed retries, bounds that make publishers wait. What it holds ends
//! with the process.
//!
//! ```text
//!             one Mutex a destination, taken once a batch, never held across an await
//!            ┌────────────────────────────────────────────────────────────────────────┐
//! publish ──▶│ log    [m1][m2][m3][m4][m5]…        each message once, until all groups │
//!            │ group a  ✓   held held ▲            have settled it                     │──▶ receive
//!            │ group b  held ▲                     ▲ cursor; what is before it and     │◀── settle
//!            └────────────────────────────────────────────────────────────────────────┘
//!                                                  unsettled has a slot: owner, attempt, time
//! ```
//!
//! - `ring` numbers what it stores and frees it in segments; the log and every group's slots are rings.
//! - `log` holds the messages and the bounds; `group` the cursor, the slots, the members and their leases.
//! - `lanes` keeps the order by key. A group with one member and nothing put back has no need of it, and then
//!   no key is looked at.
//!
//! ```
//! use ductape_core::config::{MemoryConfig, ProviderConfig};
//! use ductape_core::{ConnectOptions, Destination, Provider};
//! use ductape_memory::MemoryProvider;
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let config = ProviderConfig::Memory(MemoryConfig::default());
//! let broker = MemoryProvider::isolated().connect(&config, &ConnectOptions::default()).await?;
//! let orders = Destination::new("orders", "billing");
//! broker.ensure(&orders).await?;
//! assert_eq!(broker.inspect(&orders).await?.groups[0].name, "billing");
//! # Ok::<(), ductape_core::Error>(())
//! # }).unwrap();
//! ```

mod admin;
mod broker;
mod consumer;
mod error;
mod group;
mod lanes;
mod log;
mod message;
mod moment;
mod publisher;
mod ring;
mod store;

pub use broker::MemoryProvider;
pub use message::{MAX_DELAY, MAX_MESSAGE_BYTES};
