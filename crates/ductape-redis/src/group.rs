//! A member of a group, as the server knows it: the keys, the names, and the commands that name them.

use crate::entry::StreamId;
use crate::error;
use crate::hand::{LONGEST, Orders};
use crate::link::{Link, Use};
use crate::scripts;
use ductape_core::error::Retry;
use ductape_core::{ConsumerOptions, Destination, Error, ErrorKind, Result};
use redis::{Cmd, FromRedisValue, Pipeline, Script, Value};
use std::sync::Arc;
use std::time::Duration;

/// With whom entries are pending that a member gave back. Nobody is called so: anybody may take them.
pub(crate) const RELEASED: &str = "ductape-released";
/// What parts a member's name from its lease.
const LEASE: char = '@';

/// How many leases are renewed at once: a script holds the server up.
const EXTENDED_AT_ONCE: usize = 5000;

/// One member of one group of one stream.
pub(crate) struct Membership {
    pub(crate) link: Arc<Link>,
    pub(crate) stream: Arc<str>,
    pub(crate) group: Arc<str>,
    /// What the server calls it: its name and its lease, so that others know when it is overdue.
    pub(crate) consumer: String,
    pub(crate) lease: Duration,
    leader: String,
}

impl Membership {
    pub(crate) fn new(link: Arc<Link>, destination: &Destination, options: &ConsumerOptions) -> Self {
        let lease = options.lease.clamp(Duration::from_millis(1), LONGEST);
        Membership {
            link,
            stream: Arc::clone(&destination.name),
            group: Arc::clone(&options.group),
            consumer: format!("{}{LEASE}{}ms", options.member, lease.as_millis()),
            lease,
            leader: leader_key(&destination.name, &options.group),
        }
    }

    /// The key whose value elects a member.
    pub(crate) fn leader_key(&self) -> &str {
        &self.leader
    }

    /// A command on the stream and the group.
    pub(crate) fn command(&self, name: &[&str]) -> Cmd {
        let mut command = Cmd::new();
        command.arg(name).arg(&*self.stream).arg(&*self.group);
        command
    }

    /// Runs a script with the usual keys and the first arguments.
    pub(crate) async fn script<T: FromRedisValue>(
        &self,
        script: &Script,
        what: &str,
        arguments: impl FnOnce(&mut redis::ScriptInvocation<'_>),
    ) -> Result<T> {
        self.script_of(script, what, &self.consumer, arguments).await
    }

    /// Runs a script about another consumer of the group.
    pub(crate) async fn script_as<T: FromRedisValue>(
        &self,
        script: &Script,
        what: &str,
        consumer: &str,
    ) -> Result<T> {
        self.script_of(script, what, consumer, |_| {}).await
    }

    async fn script_of<T: FromRedisValue>(
        &self,
        script: &Script,
        what: &str,
        consumer: &str,
        arguments: impl FnOnce(&mut redis::ScriptInvocation<'_>),
    ) -> Result<T> {
        let mut lent = self.link.lend(Use::Commands).await?;
        let mut invocation = script.prepare_invoke();
        invocation.key(&*self.stream).key(&self.leader).arg(&*self.group).arg(consumer);
        arguments(&mut invocation);
        let answer = invocation.invoke_async(&mut lent.connection).await;
        answer.map_err(|error| self.located(self.link.failed(&lent, &error, what, true)))
    }

    /// Makes those young again that are pending with this member, and says which. Both in the stream's order.
    pub(crate) async fn extend(&self, ids: &[StreamId]) -> Result<Vec<StreamId>> {
        let mut extended = Vec::with_capacity(ids.len());
        for ids in ids.chunks(EXTENDED_AT_ONCE) {
            let owned: Vec<Vec<u8>> = self
                .script(&scripts::EXTEND, "the renewal of leases", |invocation| {
                    invocation.arg(ids);
                })
                .await?;
            extended.extend(owned.iter().filter_map(|id| StreamId::parse(id)));
        }
        Ok(extended)
    }

    /// Settles what is surely this member's.
    pub(crate) async fn settle_owned(&self, orders: &Orders) -> Result<()> {
        let mut commands = Pipeline::new();
        if !orders.acks.is_empty() {
            let mut acknowledge = self.command(&["XACK"]);
            for (id, _) in &orders.acks {
                acknowledge.arg(id);
            }
            commands.add_command(acknowledge);
        }
        for (count, ids) in &orders.counts {
            let mut claim = self.command(&["XCLAIM"]);
            claim.arg(&self.consumer).arg(0).arg(ids).arg("RETRYCOUNT").arg(count).arg("JUSTID");
            commands.add_command(claim);
        }
        if commands.is_empty() {
            return Ok(());
        }
        for answer in self.link.calls(&commands, "the verdicts").await.map_err(|error| self.located(error))? {
            if let Value::ServerError(refusal) = answer {
                return Err(self.located(self.link.refused(&refusal.into(), "the verdicts")));
            }
        }
        Ok(())
    }

    /// Settles what the server says is this member's: an elected one's by its token. Says what is not, or nothing
    /// where another member is elected.
    pub(crate) async fn settle_checked(&self, orders: &Orders, token: &str) -> Result<Option<Vec<StreamId>>> {
        let lost: Option<Vec<Vec<u8>>> = self
            .script(&scripts::SETTLE, "the verdicts", |invocation| {
                invocation.arg(token).arg(orders.acks.len());
                for (id, _) in &orders.acks {
                    invocation.arg(id);
                }
                for (count, id) in orders.counts.iter().flat_map(|(n, ids)| ids.iter().map(move |id| (n, id)))
                {
                    invocation.arg(id).arg(count);
                }
            })
            .await?;
        Ok(lost.map(|ids| ids.iter().filter_map(|id| StreamId::parse(id)).collect()))
    }

    /// Gives back what is pending with this member, and leaves the group. What is not in `counts` was fetched and not
    /// handed out.
    pub(crate) async fn leave(&self, counts: &[(StreamId, u32)], token: &str) -> Result<()> {
        self.give_back(&self.consumer, counts, token, 1).await
    }

    /// Gives back what another consumer had, which is no more.
    pub(crate) async fn give_back_of(&self, consumer: &str, counts: &[(StreamId, u32)]) -> Result<()> {
        self.give_back(consumer, counts, "", 1).await
    }

    /// Gives back what a consumer of this name had that ended without a word. All of it may have been handed out.
    pub(crate) async fn give_back_stale(&self) -> Result<()> {
        self.give_back(&self.consumer, &[], "", 0).await
    }

    async fn give_back(
        &self,
        consumer: &str,
        counts: &[(StreamId, u32)],
        token: &str,
        excess: u8,
    ) -> Result<()> {
        let left: Result<u64> = self
            .script_of(&scripts::LEAVE, "leaving the group", consumer, |invocation| {
                invocation.arg(RELEASED).arg(token).arg(excess);
                for (id, count) in counts {
                    invocation.arg(id).arg(count);
                }
            })
            .await;
        match left {
            // A group that is gone has nobody in it.
            Err(error) if error.kind() == ErrorKind::GroupNotFound || says_no_group(&error) => Ok(()),
            other => other.map(drop),
        }
    }

    pub(crate) fn located(&self, error: Error) -> Error {
        error.with_context("destination", &self.stream).with_context("group", &self.group)
    }

    pub(crate) fn lease_lost(&self) -> Error {
        self.located(Error::new(ErrorKind::LeaseLost, "the delivery is not this consumer's"))
    }

    /// What a consumer says whose connection is gone: open another.
    pub(crate) fn connection_lost(&self, error: &redis::RedisError) -> Error {
        let told = error::call(error, "the consumer's connection", false);
        let kind = match told.kind() {
            ErrorKind::Timeout | ErrorKind::ProviderFailed => ErrorKind::ConnectionLost,
            kind => kind,
        };
        let error = Error::new(kind, format!("the consumer's connection: {error}")).with_retry(Retry::Safe);
        self.located(error)
            .with_context("server", self.link.place())
            .with_help(told.help().unwrap_or_default())
    }
}

/// Older servers wrap what a script's command said.
pub(crate) fn says_no_group(error: &Error) -> bool {
    error.message().contains("NOGROUP")
}

/// How long a consumer of this name may leave an entry alone, where its name tells.
pub(crate) fn lease_of(consumer: &str) -> Option<Duration> {
    let (_, lease) = consumer.rsplit_once(LEASE)?;
    lease.strip_suffix("ms")?.parse().ok().map(Duration::from_millis)
}

/// In a cluster the key must be where the stream is: what is in braces decides, or else the whole name.
fn leader_key(stream: &str, group: &str) -> String {
    let has_tag = stream
        .split_once('{')
        .and_then(|(_, rest)| rest.split_once('}'))
        .is_some_and(|(tag, _)| !tag.is_empty());
    if has_tag {
        format!("{stream}:ductape-leader:{group}")
    } else {
        format!("{{{stream}}}:ductape-leader:{group}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_its_lease_and_a_foreign_one_does_not() {
        assert_eq!(lease_of("member-1@1500ms"), Some(Duration::from_millis(1500)));
        assert_eq!(lease_of("a@b@30000ms"), Some(Duration::from_secs(30)));
        for foreign in ["consumer-1", "a@b", "a@ms", RELEASED] {
            assert_eq!(lease_of(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn the_leaders_key_is_hashed_as_the_stream_is() {
        assert_eq!(leader_key("orders", "g"), "{orders}:ductape-leader:g");
        assert_eq!(leader_key("a.{b}.c", "g"), "a.{b}.c:ductape-leader:g");
    }
}
