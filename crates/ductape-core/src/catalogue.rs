//! The catalogue: a product's brokers with their envs and topics, and its sessions. One product a file.
//!
//! ```text
//!  ductape.yaml ─ read ─▶ document ─ typed ─▶ Catalogue ─ route(event, env) ─▶ provider, config, destination
//!       ▲                    │ edit
//!       └── Store::commit ───┘   (revision, lock, atomic replace; comments stay)
//! ```
//!
//! Reading, checking and routing need no provider compiled in. Names of fields are camelCase; unknown ones are
//! refused with their line and the nearest known name.

mod destination;
mod diff;
mod edit;
mod file;
mod model;
mod parse;
mod route;
mod store;

pub use diff::{Change, Diff};
pub use edit::Editor;
pub use file::{FileStore, find};
pub use model::{
    BrokerEntry, BrokerPatch, Catalogue, EnvEntry, NamedDestination, NewBroker, NewTopic, QueueUrl,
    SessionEntry, TopicEntry, TopicPatch, Validation,
};
pub use parse::Format;
pub use route::Route;
pub use store::{MemoryStore, Snapshot, Store};

/// The JSON Schema (draft 2020-12) of a catalogue, for editors.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(Catalogue).to_value()
}
