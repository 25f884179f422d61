//! The client library's callbacks.

use crate::link::lock;
use crate::signals::Signals;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::statistics::Statistics;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, TopicPartitionList};
use std::sync::Mutex;

/// What the client library's callbacks note down for the thread.
#[derive(Debug, Default)]
pub(crate) struct MemberContext {
    pub(super) signals: Signals,
    pub(super) rebalance: Mutex<Option<Rebalance>>,
}

#[derive(Clone, Debug)]
pub(super) enum Rebalance {
    Assign(Vec<i32>),
    Revoke(Vec<i32>),
}

impl ClientContext for MemberContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.signals.log(level, facility, line);
    }

    fn stats(&self, _: Statistics) {}

    fn stats_raw(&self, _: &[u8]) {
        self.signals.serve();
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.signals.error(&error, reason);
    }
}

impl ConsumerContext for MemberContext {
    fn rebalance(&self, _: &BaseConsumer<Self>, what: RDKafkaRespErr, list: &mut TopicPartitionList) {
        self.signals.serve();
        let numbers = list.elements().iter().map(|element| element.partition()).collect();
        let rebalance = match what {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => Rebalance::Assign(numbers),
            _ => Rebalance::Revoke(numbers),
        };
        *lock(&self.rebalance) = Some(rebalance);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statistic_is_an_event_behind_which_others_may_wait() {
        let context = MemberContext::default();
        context.stats_raw(b"{}");
        assert_eq!(context.signals.served(), 1);
    }
}
