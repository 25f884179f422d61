//! What an actor writes down, in 24 bytes.
//!
//! ```text
//!  0     1       2          4        8       12       14     16
//!  kind  detail  publisher  number   extra   attempt  0  0   time in ns, monotonic
//! ```
//!
//! All little-endian. A record that was cut short by the death of its process is no record.

/// The length of a record in bytes.
pub(crate) const LEN: usize = 24;

/// Which message: the number-th of a publisher.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageRef {
    /// The publisher's index.
    pub publisher: u16,
    /// From 0 on, in the order of its publishes.
    pub number: u32,
}

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// An actor is ready to act.
    Ready = 1,
    /// A publisher is about to publish `extra` messages, from this one on.
    Intent,
    /// `extra` messages, from this one on, were taken for good.
    Taken,
    /// The message was refused; `detail` is the error's place in [`ductape::ErrorKind::ALL`].
    Refused,
    /// It was sent and no answer came; `detail` as above.
    Uncertain,
    /// A handler got the message for this attempt; `extra` is a digest of its position, `detail` 1 where it was redriven.
    Delivered,
    /// The handler handled it.
    Handled,
    /// The handler did not; `detail` is a [`Failing`].
    Failed,
    /// The provider took the acknowledgement.
    Settled,
    /// The provider did not take it; `detail` is the error's kind.
    Unsettled,
    /// The subscriber has no consumer any more, or a new one.
    Lost,
    /// A handler got a message that nobody is known to have sent.
    Foreign,
    /// A handler got a message with other bytes, key or headers than were sent.
    Altered,
    /// An actor was told to stop.
    Stopping,
    /// It has stopped; `extra` is how long that took, in milliseconds.
    Stopped,
    /// The conductor begins a fault: `extra` is its number in the run, `detail` its [`crate::Fault`].
    Begins,
    /// The fault is over.
    Over,
    /// An actor's process has ended: `number` is the actor's place in the run, `detail` an [`Ending`].
    Ended,
    /// The message is among the dead letters; `detail` is the group's index, `attempt` the attempts that it tells of.
    Dead,
    /// The dead letters were redriven.
    Redriven,
    /// The message is still among the dead letters after they were redriven; `detail` is the group's index.
    Leftover,
    /// A consumer received the message, for this attempt. It may lie there for a while before a handler gets it.
    Received,
}

/// How a handler failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Failing {
    /// It rejected the message for good.
    Reject,
    /// It panicked.
    Panic,
    /// It hung until its time was over.
    Hang,
    /// It killed its process.
    Abort,
}

/// How an actor's process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Ending {
    /// It was told to stop, and did.
    Stopped,
    /// It was killed.
    Killed,
    /// It ended by itself: nobody had told it to.
    Crashed,
}

/// One thing that an actor wrote down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// What it says.
    pub kind: Kind,
    /// More of it, as its kind tells.
    pub detail: u8,
    /// Which message it is about.
    pub message: MessageRef,
    /// More of it, as its kind tells.
    pub extra: u32,
    /// Which attempt it is about.
    pub attempt: u16,
    /// When, in nanoseconds on a clock that all processes of this machine share.
    pub time: u64,
}

impl Record {
    /// A record that says this and nothing more.
    pub fn new(kind: Kind) -> Self {
        Record { kind, detail: 0, message: MessageRef::default(), extra: 0, attempt: 0, time: 0 }
    }

    /// A record about a message.
    pub fn of(kind: Kind, message: MessageRef) -> Self {
        Record { message, ..Record::new(kind) }
    }

    /// With this detail.
    #[must_use]
    pub fn detail(self, detail: u8) -> Self {
        Record { detail, ..self }
    }

    /// With this extra.
    #[must_use]
    pub fn extra(self, extra: u32) -> Self {
        Record { extra, ..self }
    }

    /// With this attempt; what does not fit is the highest that does.
    #[must_use]
    pub fn attempt(self, attempt: u32) -> Self {
        Record { attempt: u16::try_from(attempt).unwrap_or(u16::MAX), ..self }
    }

    /// As bytes.
    pub fn encode(&self) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        bytes[0] = self.kind as u8;
        bytes[1] = self.detail;
        bytes[2..4].copy_from_slice(&self.message.publisher.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.message.number.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.extra.to_le_bytes());
        bytes[12..14].copy_from_slice(&self.attempt.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.time.to_le_bytes());
        bytes
    }

    /// From bytes; `None` where they are no record.
    pub fn decode(bytes: &[u8; LEN]) -> Option<Self> {
        let two = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let four = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        Some(Record {
            kind: Kind::from_byte(bytes[0])?,
            detail: bytes[1],
            message: MessageRef { publisher: two(2), number: four(4) },
            extra: four(8),
            attempt: two(12),
            time: u64::from(four(16)) | u64::from(four(20)) << 32,
        })
    }
}

impl Kind {
    const ALL: [Kind; 22] = [
        Kind::Ready,
        Kind::Intent,
        Kind::Taken,
        Kind::Refused,
        Kind::Uncertain,
        Kind::Delivered,
        Kind::Handled,
        Kind::Failed,
        Kind::Settled,
        Kind::Unsettled,
        Kind::Lost,
        Kind::Foreign,
        Kind::Altered,
        Kind::Stopping,
        Kind::Stopped,
        Kind::Begins,
        Kind::Over,
        Kind::Ended,
        Kind::Dead,
        Kind::Redriven,
        Kind::Leftover,
        Kind::Received,
    ];

    fn from_byte(byte: u8) -> Option<Self> {
        Kind::ALL.get(usize::from(byte).checked_sub(1)?).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        for kind in Kind::ALL {
            let record = Record {
                kind,
                detail: 7,
                message: MessageRef { publisher: 515, number: 0x0102_0304 },
                extra: u32::MAX - 1,
                attempt: 9,
                time: 0x1122_3344_5566_7788,
            };
            assert_eq!(Record::decode(&record.encode()), Some(record));
        }
    }

    #[test]
    fn what_is_no_record_is_not_read() {
        assert_eq!(Record::decode(&[0; LEN]), None);
        assert_eq!(Record::decode(&[255; LEN]), None);
    }
}
