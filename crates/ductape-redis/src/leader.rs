//! Order across members: one of them is elected and alone hands out and settles.
//!
//! ```text
//!  SET leader's key: token, if nobody's, for a lease ─▶ elected ─▶ take over all that is pending ─▶ read what is new
//!        ▲  no                                             │ every third of a lease: renew
//!        └── wait a moment ◀── the lease ran out ◀─────────┘
//! ```
//!
//! The token is new with each election. Reading, taking over and settling are scripts that look at the key first, so a
//! member that stood still while another was elected gets nothing and settles nothing. What it had is taken
//! over in the stream's order before anything new is read.

use crate::admin;
use crate::consumer::Term;
use crate::entry::{self, StreamId};
use crate::error;
use crate::reader::{Reader, TURN};
use crate::scripts;
use ductape_core::Result;
use redis::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often a member that is not elected tries to be.
const CANDIDATE: Duration = Duration::from_millis(200);
/// The most that is taken over at once: a script holds the server up.
const PAGE: usize = 500;
/// The most that is read at once, for the same reason.
const MOST_AT_ONCE: usize = 1000;

/// Where an elected member stands.
struct Progress {
    /// From where on pending entries are to be taken over yet.
    take_over: Option<String>,
    /// The last entry that the group has been given.
    last: String,
}

impl Reader {
    /// The work of a member of a group in which one is elected.
    pub(crate) async fn lead(&mut self) -> Result<()> {
        let mut progress: Option<Progress> = None;
        while !self.core.is_closing() {
            if !self.is_elected().await? {
                progress = None;
                if !self.stand().await? {
                    self.pause(CANDIDATE.min(self.core.member.lease / 4)).await;
                    continue;
                }
            }
            let at = match &mut progress {
                Some(at) => at,
                none => none.insert(self.begin().await?),
            };
            let wanted = self.core.hand().wanted();
            match wanted {
                0 => self.wait().await,
                count => self.fetch(at, count).await?,
            }
        }
        Ok(())
    }

    /// Whether this member is still elected; renews where it is time.
    async fn is_elected(&self) -> Result<bool> {
        let Some(term) = self.core.term() else { return Ok(false) };
        let (now, lease) = (Instant::now(), self.core.member.lease);
        // Whoever takes nothing, or does not renew what it took, may hang: others must get their turn.
        if !self.core.is_alive(now) || self.core.hand().has_expired(now) {
            let lasts = term.until > now;
            if !lasts {
                self.core.depose(&term.token, "its deliveries were not renewed");
            }
            return Ok(lasts);
        }
        if term.until > now + lease.mul_f32(2.0 / 3.0) {
            return Ok(true);
        }
        Ok(self.core.renew(&term).await?.is_some())
    }

    /// Tries to be elected.
    async fn stand(&self) -> Result<bool> {
        if !self.core.is_alive(Instant::now()) {
            return Ok(false);
        }
        let member = &self.core.member;
        let token: Arc<str> = format!("{}/{:016x}", member.consumer, fastrand::u64(..)).into();
        let mut set = redis::cmd("SET");
        set.arg(member.leader_key()).arg(&*token).arg("NX").arg("PX").arg(millis(member.lease));
        let asked = Instant::now();
        let answer = member.link.call(&set, "the election").await.map_err(|error| member.located(error))?;
        let is_elected = answer == Value::Okay;
        if is_elected {
            tracing::debug!(stream = &*member.stream, group = &*member.group, "this member is elected");
            self.core.elect(Term { token, until: asked + member.lease });
        }
        Ok(is_elected)
    }

    async fn begin(&self) -> Result<Progress> {
        let member = &self.core.member;
        let last = match admin::last_delivered(&member.link, &member.stream, &member.group).await {
            Ok(Some(last)) => last,
            Ok(None) => {
                self.recover().await?;
                admin::FIRST.to_owned()
            }
            Err(error) if error.kind() == ductape_core::ErrorKind::DestinationNotFound => {
                self.recover().await?;
                admin::FIRST.to_owned()
            }
            Err(error) => return Err(error),
        };
        Ok(Progress { take_over: Some("-".into()), last })
    }

    /// Waits until more is wanted or the lease is to be renewed.
    async fn wait(&self) {
        let renewal = self.core.member.lease / 6;
        // Its end is seen by the loop.
        let _ = tokio::time::timeout(renewal, self.core.wanted.notified()).await;
    }

    async fn fetch(&mut self, at: &mut Progress, count: usize) -> Result<()> {
        let Some(term) = self.core.term() else { return Ok(()) };
        if let Some(from) = &at.take_over {
            let from = from.clone();
            return self.take_over(at, &term, from, count.min(PAGE)).await;
        }
        if self.read_as(&term, at, count.min(MOST_AT_ONCE)).await? == 0 {
            self.listen(at).await?;
        }
        Ok(())
    }

    async fn take_over(&mut self, at: &mut Progress, term: &Term, from: String, count: usize) -> Result<()> {
        let taken = self.core.member.script::<Value>(&scripts::TAKE_OVER, "taking over", |invocation| {
            invocation.arg(&*term.token).arg(from).arg(count);
        });
        let Value::Array(parts) = self.or_recover(taken.await).await? else {
            self.deposed(term);
            return Ok(());
        };
        if parts.is_empty() {
            return Ok(());
        }
        let malformed = || error::unforeseen("XPENDING");
        let mut parts = parts.into_iter();
        let last = parts.next().as_ref().and_then(entry::text).ok_or_else(malformed)?;
        let counts = parts.next().and_then(|counts| counts_of(&counts)).ok_or_else(malformed)?;
        let entries = parts.next().and_then(entry::entries).ok_or_else(malformed)?;
        at.take_over = (!last.is_empty()).then(|| format!("({last}"));
        let attempt = |id: StreamId| counts.get(&id).copied().unwrap_or(1);
        let fetched =
            entries.into_iter().map(|entry| (attempt(entry.id), entry)).map(|(n, entry)| (entry, n));
        self.hand_on_entries(fetched, term.until).await
    }

    /// Reads what is new; how many that is.
    async fn read_as(&mut self, term: &Term, at: &mut Progress, count: usize) -> Result<usize> {
        let read = self.core.member.script::<Value>(&scripts::LEADERS_READ, "the read", |invocation| {
            invocation.arg(&*term.token).arg(count);
        });
        let answer = match self.or_recover(read.await).await? {
            Value::Nil => {
                self.deposed(term);
                return Ok(0);
            }
            answer => answer,
        };
        let entries = entry::entries(answer).ok_or_else(|| error::unforeseen("XREADGROUP"))?;
        if let Some(last) = entries.last() {
            at.last = last.id.to_string();
        }
        let count = entries.len();
        self.hand_on_entries(entries.into_iter().map(|entry| (entry, 1)), term.until).await?;
        Ok(count)
    }

    /// Waits until there is something new, which the next read takes. Reading without a group changes nothing, so this
    /// may be done by a member that is not elected any more.
    async fn listen(&mut self, at: &Progress) -> Result<()> {
        let longest = TURN.min(self.core.member.lease / 6).max(Duration::from_millis(1));
        let mut read = redis::cmd("XREAD");
        read.arg("COUNT").arg(1).arg("BLOCK").arg(millis(longest)).arg("STREAMS");
        read.arg(&*self.core.member.stream).arg(&at.last);
        match self.blocking(&read).await {
            Ok(_) => Ok(()),
            Err(error) => Err(self.core.member.connection_lost(&error)),
        }
    }

    async fn or_recover(&self, answer: Result<Value>) -> Result<Value> {
        match answer {
            Err(error) if Self::is_gone(&error) => {
                self.recover().await?;
                Ok(Value::Array(Vec::new()))
            }
            answer => answer,
        }
    }

    fn deposed(&self, term: &Term) {
        self.core.depose(&term.token, "another member is elected");
    }
}

impl crate::consumer::Core {
    /// Renews the election, and says until when; nothing where this member is not elected any more.
    pub(crate) async fn renew(&self, term: &Term) -> Result<Option<Instant>> {
        let (asked, lease) = (Instant::now(), self.member.lease);
        let renewed =
            self.member.script::<Option<u8>>(&scripts::RENEW, "the renewal of the election", |invocation| {
                invocation.arg(&*term.token).arg(millis(lease));
            });
        if renewed.await? != Some(1) {
            self.depose(&term.token, "its lease ran out and another may be elected");
            return Ok(None);
        }
        let until = asked + lease;
        self.prolong(&term.token, until);
        Ok(Some(until))
    }
}

fn counts_of(value: &Value) -> Option<BTreeMap<StreamId, u32>> {
    let pairs = entry::list(value)?.chunks_exact(2);
    pairs
        .map(|pair| {
            Some((StreamId::of(&pair[0])?, u32::try_from(entry::number(&pair[1])?).unwrap_or(u32::MAX)))
        })
        .collect()
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)
}
