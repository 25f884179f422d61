//! Why a message was delivered again.

use crate::fault::Fault;
use std::fmt;

/// Why a message was delivered again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// Who had it was killed.
    Killed,
    /// Who had it ended by itself.
    Crashed,
    /// Who had it stopped.
    Stopped,
    /// Who had it lost its consumer.
    ConsumerLost,
    /// The provider did not take its verdict.
    VerdictRefused,
    /// A fault took it from who had it.
    Moved(Fault),
    /// It stands in its destination twice.
    StoredTwice,
    /// Its publish was uncertain.
    Uncertain,
    /// A fault came so soon after its acknowledgement that the provider had not kept it.
    AckAtRisk,
    /// Its acknowledgement was taken, and nothing excuses this.
    AckIgnored,
    /// None is known.
    Unexplained,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Killed => f.write_str("subscriber killed"),
            Cause::Crashed => f.write_str("subscriber crashed"),
            Cause::Stopped => f.write_str("subscriber stopped"),
            Cause::ConsumerLost => f.write_str("consumer lost"),
            Cause::VerdictRefused => f.write_str("verdict not taken"),
            Cause::Moved(fault) => write!(f, "moved by {fault}"),
            Cause::StoredTwice => f.write_str("stored twice"),
            Cause::Uncertain => f.write_str("publish uncertain"),
            Cause::AckAtRisk => f.write_str("ack lost by a fault after it"),
            Cause::AckIgnored => f.write_str("ACK IGNORED"),
            Cause::Unexplained => f.write_str("UNEXPLAINED"),
        }
    }
}
