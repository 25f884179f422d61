//! Who lives on one connection by which name, and what those left behind that could not give it back.
//!
//! A consumer that is lost is replaced by another of its name while handlers still have deliveries of the old one. The
//! server knows nothing but the name, so what the old one gave back at its end would be the new one's. What it had is
//! given back when the new one opens; of one name only the newest gives back anything later.

use crate::entry::StreamId;
use crate::group::Membership;
use ductape_core::Result;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The consumers of one connection, by name.
#[derive(Default)]
pub(crate) struct Names {
    state: Mutex<State>,
    /// Held while something is given back. Whoever has a name that is being given back waits, before it has anything.
    giving_back: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    /// Of each name the living, the newest last.
    living: BTreeMap<Name, Vec<u64>>,
    entered: u64,
    abandoned: Vec<Arc<Abandoned>>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    stream: Arc<str>,
    group: Arc<str>,
    consumer: String,
}

/// What a consumer had that could not give it back, since its server was not there.
struct Abandoned {
    name: Name,
    counts: Vec<(StreamId, u32)>,
}

/// One consumer of a name, from before it has anything until its end.
pub(crate) struct Instance {
    names: Arc<Names>,
    name: Name,
    number: u64,
}

impl Names {
    /// From now on no older one of this name gives back.
    pub(crate) fn enter(self: &Arc<Self>, member: &Membership) -> Instance {
        let name = Name {
            stream: Arc::clone(&member.stream),
            group: Arc::clone(&member.group),
            consumer: member.consumer.clone(),
        };
        let mut state = self.state();
        state.entered += 1;
        let number = state.entered;
        state.living.entry(name.clone()).or_default().push(number);
        drop(state);
        Instance { names: Arc::clone(self), name, number }
    }

    /// Gives back what consumers of the same group had to leave behind.
    pub(crate) async fn take_back(&self, member: &Membership) -> Result<()> {
        if self.left_to(member).is_none() {
            return Ok(());
        }
        let _turn = self.giving_back.lock().await;
        while let Some(left) = self.left_to(member) {
            member.give_back_of(&left.name.consumer, &left.counts).await?;
            // Only now: this may fail, or end in the middle.
            self.state().abandoned.retain(|it| !Arc::ptr_eq(it, &left));
        }
        Ok(())
    }

    fn left_to(&self, member: &Membership) -> Option<Arc<Abandoned>> {
        let is_its = |it: &&Arc<Abandoned>| it.name.stream == member.stream && it.name.group == member.group;
        self.state().abandoned.iter().find(is_its).cloned()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_newest(&self, instance: &Instance) -> bool {
        let living = self.living.get(&instance.name);
        living.and_then(|numbers| numbers.last()) == Some(&instance.number)
    }
}

impl Instance {
    /// Whether what the server knows by its name is its own.
    pub(crate) fn is_newest(&self) -> bool {
        self.names.state().is_newest(self)
    }

    /// Leaves to the next consumer of the group what could not be given back.
    pub(crate) fn abandon(&self, counts: Vec<(StreamId, u32)>) {
        let mut state = self.names.state();
        if state.is_newest(self) {
            state.abandoned.push(Arc::new(Abandoned { name: self.name.clone(), counts }));
        }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let mut state = self.names.state();
        if let Some(living) = state.living.get_mut(&self.name) {
            living.retain(|number| *number != self.number);
            if living.is_empty() {
                state.living.remove(&self.name);
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::address;
    use crate::link::Link;
    use ductape_core::config::RedisConfig;
    use ductape_core::{ConnectOptions, ConsumerOptions, Destination};

    /// A member whose server is not there.
    pub(crate) fn member(link: &Arc<Link>, name: &str) -> Membership {
        let options = ConsumerOptions { member: name.into(), ..ConsumerOptions::new("g") };
        Membership::new(Arc::clone(link), &Destination::new("s", "g"), &options)
    }

    pub(crate) fn link() -> Arc<Link> {
        // Nobody listens on this port.
        let config = RedisConfig { host: Some("127.0.0.1".into()), port: Some(1), ..RedisConfig::default() };
        let options = ConnectOptions::default();
        Arc::new(Link::new(address::read(&config, &options).unwrap(), &options))
    }

    fn left(names: &Names) -> Vec<String> {
        names.state().abandoned.iter().map(|it| it.name.consumer.clone()).collect()
    }

    #[test]
    fn of_one_name_only_the_newest_leaves_something_behind() {
        let link = link();
        let member = member(&link, "m");
        let (old, new) = (link.names.enter(&member), link.names.enter(&member));
        old.abandon(Vec::new());
        assert_eq!((old.is_newest(), left(&link.names).len()), (false, 0));
        // As one whose opening failed.
        drop(new);
        old.abandon(Vec::new());
        assert_eq!((old.is_newest(), left(&link.names)), (true, vec![member.consumer.clone()]));
        drop(old);
        assert!(link.names.state().living.is_empty());
    }

    #[tokio::test]
    async fn what_could_not_be_given_back_is_not_forgotten() {
        let link = link();
        let members = ["one", "two"].map(|name| member(&link, name));
        for member in &members {
            link.names.enter(member).abandon(Vec::new());
        }
        link.names.take_back(&members[0]).await.unwrap_err();
        assert_eq!(left(&link.names), members.map(|member| member.consumer));
    }
}
