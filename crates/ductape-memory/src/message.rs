//! A message as the log keeps it. Nothing is translated: the log holds what the publisher gave.

use ductape_core::Message;
use std::time::Duration;

/// The largest message in bytes, as [`Message::size`] counts it: 64 MiB, or the config's `maxBytes` where that
/// is less.
pub const MAX_MESSAGE_BYTES: usize = 64 << 20;

/// The longest delay of a retry: one year.
pub const MAX_DELAY: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// A message in the log.
pub(crate) struct Entry {
    /// What was published.
    pub(crate) message: Message,
    /// How many groups have not settled it.
    pub(crate) owed: u32,
}
