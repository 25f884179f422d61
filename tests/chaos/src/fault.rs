//! What the harness does to the world.

use std::fmt;

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[repr(u8)]
pub enum Fault {
    /// The server is killed with -9 and started again.
    ServerKill,
    /// The server stands still for a while.
    ServerStall,
    /// Every connection is reset.
    Cut,
    /// No byte gets through, and connections stay open.
    NetworkStall,
    /// What clients send arrives, and answers come late.
    HalfOpen,
    /// What clients send arrives, and answers are lost.
    AnswersLost,
    /// Every byte is late, and few a second get through.
    Slow,
    /// A publisher is killed with -9 and started again.
    PublisherKill,
    /// A subscriber is killed with -9 and started again.
    SubscriberKill,
    /// A publisher's process stands still for a while.
    PublisherStall,
    /// A subscriber's process stands still for longer than its lease.
    SubscriberStall,
    /// A subscriber is told to stop, and started again.
    SubscriberStop,
    /// All but one member of each group stop and come back, several times over.
    Rebalance,
    /// A subscriber's clock jumps forward.
    ClockJump,
    /// The disk is full for a while.
    DiskFull,
    /// Handlers panic.
    Panic,
    /// A handler hangs until its time is over.
    Hang,
    /// The handlers of one key are slow for a while.
    SlowKey,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 18] = [
        Fault::ServerKill,
        Fault::ServerStall,
        Fault::Cut,
        Fault::NetworkStall,
        Fault::HalfOpen,
        Fault::AnswersLost,
        Fault::Slow,
        Fault::PublisherKill,
        Fault::SubscriberKill,
        Fault::PublisherStall,
        Fault::SubscriberStall,
        Fault::SubscriberStop,
        Fault::Rebalance,
        Fault::ClockJump,
        Fault::DiskFull,
        Fault::Panic,
        Fault::Hang,
        Fault::SlowKey,
    ];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Fault::ServerKill => "server kill",
            Fault::ServerStall => "server stall",
            Fault::Cut => "connection cut",
            Fault::NetworkStall => "connection stall",
            Fault::HalfOpen => "half-open connection",
            Fault::AnswersLost => "answers lost",
            Fault::Slow => "slow network",
            Fault::PublisherKill => "publisher kill",
            Fault::SubscriberKill => "subscriber kill",
            Fault::PublisherStall => "publisher stall",
            Fault::SubscriberStall => "subscriber stall",
            Fault::SubscriberStop => "subscriber stop",
            Fault::Rebalance => "rebalance storm",
            Fault::ClockJump => "clock jump",
            Fault::DiskFull => "disk full",
            Fault::Panic => "handler panic",
            Fault::Hang => "handler hang",
            Fault::SlowKey => "slow key",
        }
    }

    /// Whether something is killed.
    pub fn is_kill(self) -> bool {
        matches!(self, Fault::ServerKill | Fault::PublisherKill | Fault::SubscriberKill)
    }

    /// Whether it can take a delivery from a subscriber that lives: by a lease that runs out, a partition that moves,
    /// a connection that breaks. The others are nobody's excuse for a duplicate.
    pub fn moves_deliveries(self) -> bool {
        !matches!(
            self,
            Fault::PublisherKill | Fault::PublisherStall | Fault::Panic | Fault::Hang | Fault::SlowKey
        )
    }

    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        Fault::ALL.get(usize::from(byte)).copied()
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_read_from_its_byte() {
        for fault in Fault::ALL {
            assert_eq!(Fault::from_byte(fault as u8), Some(fault));
        }
        assert_eq!(Fault::from_byte(Fault::ALL.len() as u8), None);
    }
}
