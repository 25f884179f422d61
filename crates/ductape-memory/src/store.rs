//! What connections of one name share: destinations, each a log and its groups behind one lock.

use crate::error;
use crate::group::Group;
use crate::log::{Limits, Log};
use ductape_core::{Clock, Result};
use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// Stores by the `name` of their config.
#[derive(Default)]
pub(crate) struct Registry(Mutex<HashMap<String, Arc<Store>>>);

/// The destinations of one name.
#[derive(Default)]
pub(crate) struct Store(Mutex<HashMap<Arc<str>, Arc<Place>>>);

/// A destination: its state, and those who wait for it.
pub(crate) struct Place {
    pub(crate) name: Arc<str>,
    state: Mutex<State>,
    /// Told when messages were appended.
    pub(crate) arrived: Notify,
    /// Told when there may be room again, while publishers wait. One of them listens: who has the turn.
    pub(crate) room: Notify,
    /// The turn of the publishers that wait, first come, first served.
    pub(crate) turn: tokio::sync::Mutex<()>,
}

/// What the lock of a destination guards.
pub(crate) struct State {
    pub(crate) log: Log,
    pub(crate) groups: Vec<Group>,
    /// Publishes that wait for room. While there are any, a new one goes behind them.
    pub(crate) publishers_waiting: usize,
    last_group: u64,
}

impl Registry {
    /// The store of this name, made where it is not there.
    pub(crate) fn open(&self, name: &str) -> Arc<Store> {
        Arc::clone(lock(&self.0).entry(name.to_owned()).or_default())
    }

    /// Forgets the store of this name.
    pub(crate) fn forget(&self, name: &str) {
        lock(&self.0).remove(name);
    }
}

impl Store {
    /// The destination of this name.
    pub(crate) fn get(&self, name: &str) -> Result<Arc<Place>> {
        lock(&self.0).get(name).cloned().ok_or_else(|| error::no_destination(name))
    }

    /// The destination of this name, made with these bounds where it is not there.
    pub(crate) fn get_or_make(&self, name: &Arc<str>, limits: &Limits) -> Arc<Place> {
        let mut places = lock(&self.0);
        let place = places.entry(Arc::clone(name)).or_insert_with(|| Place::new(name, limits));
        Arc::clone(place)
    }
}

impl Place {
    fn new(name: &Arc<str>, limits: &Limits) -> Arc<Self> {
        Arc::new(Place {
            name: Arc::clone(name),
            state: Mutex::new(State {
                log: Log::new(limits.clone()),
                groups: Vec::new(),
                publishers_waiting: 0,
                last_group: 0,
            }),
            arrived: Notify::new(),
            room: Notify::new(),
            turn: tokio::sync::Mutex::new(()),
        })
    }

    /// Its state, for a moment: never across an await.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Tells the publisher whose turn it is that there may be room.
    pub(crate) fn tell_room(&self, state: &State) {
        if state.publishers_waiting > 0 {
            self.room.notify_one();
        }
    }
}

impl State {
    /// The group of this name, made where it is not there.
    pub(crate) fn group_or_new(&mut self, name: &Arc<str>, from_earliest: bool) -> &mut Group {
        let index = match self.groups.iter().position(|group| group.name == *name) {
            Some(index) => index,
            None => {
                self.last_group += 1;
                let group = Group::new(self.last_group, Arc::clone(name), &mut self.log, from_earliest);
                self.groups.push(group);
                self.groups.len() - 1
            }
        };
        &mut self.groups[index]
    }

    /// The log, and the group of this id while it is there.
    pub(crate) fn group(&mut self, id: u64) -> (&mut Log, Option<&mut Group>) {
        (&mut self.log, self.groups.iter_mut().find(|group| group.id == id))
    }
}

/// Waits until so much time has passed, by the connection's clock or in fact: who waits for another may
/// not hang for ever, although nobody moves a manual clock.
pub(crate) async fn pass(clock: &Clock, duration: Duration) {
    if !clock.is_manual() {
        return tokio::time::sleep(duration).await;
    }
    let mut by_clock = clock.sleep(duration);
    let mut in_fact = pin!(tokio::time::sleep(duration));
    tokio::select! {
        () = &mut by_clock => {}
        () = &mut in_fact => {}
    }
}

/// A panic elsewhere leaves the state as consistent as it was between two of its own operations.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
