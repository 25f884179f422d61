//! What librdkafka says on its own accord: log lines and errors of no call in particular.

use rdkafka::config::RDKafkaLogLevel as Level;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The last that was said, for whoever has to tell why something does not work.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    last: Mutex<Option<Signal>>,
    /// How many callbacks came, of whatever kind: the client library does not tell an empty queue from one whose
    /// first event had a callback only.
    served: AtomicU64,
}

/// An error of no call in particular.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Signal {
    pub(crate) code: Code,
    pub(crate) reason: String,
    /// Whether no broker is left to try since.
    pub(crate) all_down: bool,
}

impl Signals {
    pub(crate) fn serve(&self) {
        self.served.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    /// Takes an error in. That all brokers are down says less than what was said before of any of them.
    pub(crate) fn error(&self, error: &KafkaError, reason: &str) {
        self.serve();
        let Some(code) = crate::error::code(error) else { return };
        tracing::debug!(target: "librdkafka", %code, reason, "the client reports an error");
        let mut last = self.last();
        match &mut *last {
            Some(before) if code == Code::AllBrokersDown => before.all_down = true,
            other => {
                let all_down = code == Code::AllBrokersDown;
                *other = Some(Signal { code, reason: reason.to_owned(), all_down });
            }
        }
    }

    pub(crate) fn last(&self) -> MutexGuard<'_, Option<Signal>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A log line. What is said of a lost connection is no more than a warning: it is connected anew.
    pub(crate) fn log(&self, level: Level, facility: &str, line: &str) {
        self.serve();
        match level {
            _ if facility == "CONFWARN" => tracing::trace!(target: "librdkafka", facility, "{line}"),
            Level::Emerg | Level::Alert | Level::Critical => {
                tracing::error!(target: "librdkafka", facility, "{line}");
            }
            Level::Error | Level::Warning => tracing::warn!(target: "librdkafka", facility, "{line}"),
            Level::Notice | Level::Info => tracing::info!(target: "librdkafka", facility, "{line}"),
            Level::Debug => tracing::debug!(target: "librdkafka", facility, "{line}"),
        }
    }
}

impl Signal {
    /// The kind of fault of connecting that it tells of.
    pub(crate) fn connect_error(&self, brokers: &str) -> ductape_core::Error {
        crate::error::connect(self.code, &self.reason, brokers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_of_a_broker_stays_when_all_brokers_are_down() {
        let signals = Signals::default();
        signals.error(&KafkaError::Global(Code::Resolve), "Failed to resolve 'x'");
        signals.error(&KafkaError::Global(Code::AllBrokersDown), "1/1 brokers are down");
        let expected = Signal { code: Code::Resolve, reason: "Failed to resolve 'x'".into(), all_down: true };
        assert_eq!(*signals.last(), Some(expected));
        assert_eq!(signals.served(), 2);
    }
}
