//! Channels that nobody publishes on any more, though lapin may still have publishes to write on them.
//!
//! Lapin closes a channel with the last of its owners, and writes the close before the publishes that wait to be written.
//! The server ends the whole connection at the first of those, and with it what all others have in flight. So a channel
//! is kept until its last message is confirmed.

use lapin::Channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

/// The channels that are kept, until they are done or this is dropped.
#[derive(Default)]
pub(crate) struct Farewells(Mutex<JoinSet<()>>);

impl Farewells {
    /// Keeps a channel until its messages are confirmed, no longer than this. Outside a runtime it ends at once.
    pub(crate) fn see_off(&self, channel: Arc<Channel>, limit: Duration) {
        let Ok(runtime) = Handle::try_current() else { return };
        self.with(|kept| {
            while kept.try_join_next().is_some() {}
            let confirmed =
                async move { tokio::time::timeout(limit, channel.wait_for_confirms()).await.map(drop) };
            kept.spawn_on(async move { drop(confirmed.await) }, &runtime);
        });
    }

    /// Keeps none any more: their connection is closed.
    pub(crate) fn end(&self) {
        self.with(JoinSet::abort_all);
    }

    fn with(&self, work: impl FnOnce(&mut JoinSet<()>)) {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
