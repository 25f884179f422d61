//! A broker that fails on demand: it wraps any other, and does what rules say.
//!
//! ```text
//!  caller ─▶ FaultyBroker ─▶ Faults: which rules strike this call? ─▶ before ─▶ the broker inside ─▶ after ─▶ caller
//! ```
//!
//! ```
//! use ductape_core::client::{Client, Publish};
//! use ductape_core::catalogue::Catalogue;
//! use ductape_core::{Error, ErrorKind};
//! use ductape_memory::MemoryProvider;
//! use ductape_testkit::fault::{Calls, Fault, Faults, FaultyProvider, Operation, Rule};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let faults = Faults::new();
//! let provider = FaultyProvider::new(MemoryProvider::isolated(), faults.clone());
//! let catalogue = Catalogue::from_yaml("
//!     product: shop
//!     brokers:
//!       - name: Orders
//!         tag: orders
//!         envs: [{ slug: dev, type: MEMORY, config: {} }]
//!         topics: [{ name: New, tag: new }]
//! ")?;
//! let client = Client::memory(catalogue).provider(provider).env("dev").build().await?;
//!
//! let full = Error::new(ErrorKind::DestinationFull, "no room");
//! faults.add(Rule::new(Operation::Publish, Fault::fail(full)).calls(Calls::Nth(2)));
//! let brokers = client.broker();
//! let publish = || brokers.publish(Publish::new("orders:new").payload("x"));
//! publish().await?;
//! assert_eq!(publish().await.unwrap_err().kind(), ErrorKind::DestinationFull);
//! publish().await?;
//! # Ok::<(), Error>(())
//! # }).unwrap();
//! ```
//!
//! What holds:
//! - Rules are asked in the order they were added, and each counts the calls that it could have struck.
//! - With one seed and one order of calls the same calls are struck: [`Calls::Chance`] and [`Fault::Reorder`] draw from one
//!   seeded generator.
//! - A fault that an operation cannot have, such as [`Fault::Reorder`] of a ping, does nothing.

mod faulty;
mod plan;

pub use faulty::{FaultyBroker, FaultyProvider};

use ductape_core::{ConsumerOptions, Delivery, Destination, Error, Message, Settlement};
use plan::Plan;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// The operations of the Broker contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// [`ductape_core::Provider::connect`].
    Connect,
    /// [`ductape_core::Broker::ensure`].
    Ensure,
    /// [`ductape_core::Broker::inspect`].
    Inspect,
    /// [`ductape_core::Broker::publisher`].
    OpenPublisher,
    /// [`ductape_core::Broker::consumer`].
    OpenConsumer,
    /// [`ductape_core::Broker::delete_group`].
    DeleteGroup,
    /// [`ductape_core::Broker::ping`].
    Ping,
    /// [`ductape_core::Broker::close`].
    CloseBroker,
    /// [`ductape_core::Publisher::publish`].
    Publish,
    /// [`ductape_core::Consumer::receive`].
    Receive,
    /// [`ductape_core::Consumer::settle`].
    Settle,
    /// [`ductape_core::Consumer::extend`].
    Extend,
    /// [`ductape_core::Consumer::close`].
    CloseConsumer,
}

/// Which of the calls that fit a rule it strikes, counted from 1 when the rule is added.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Calls {
    /// Every one.
    All,
    /// This one alone.
    Nth(u64),
    /// The first so many.
    First(u64),
    /// All but the first so many.
    After(u64),
    /// Every so many-th: with 3 the third, the sixth and so on.
    Every(u64),
    /// Each with this probability, 0 to 1.
    Chance(f64),
}

type Edit<T> = Arc<dyn Fn(&mut T) + Send + Sync>;

/// What goes wrong.
#[derive(Clone)]
#[non_exhaustive]
pub enum Fault {
    /// The call fails, and nothing is done. [`Fault::fail`] makes one.
    Fail(Arc<Error>),
    /// The call is done this much later.
    Delay(Duration),
    /// The call is done at once, and answered this much later: who gives it up does not know.
    DelayAnswer(Duration),
    /// The call never ends, and nothing is done.
    Hang,
    /// The call blocks its thread for so long, as code does that knows nothing of async, and is then done.
    Block(Duration),
    /// The call is answered with success, and nothing is done: a publish is lost, an ack is dropped, a close leaves
    /// all open. Of operations that answer something to work with, nothing.
    Pretend,
    /// The call is done, and answered with a `TIMEOUT` whose retry is uncertain.
    Uncertain,
    /// The call fails with `CONNECTION_LOST`. A consumer that says so is finished, and its unsettled come back.
    LoseConnection,
    /// Publish: each message is taken twice. Receive: each delivery is handed out twice.
    Duplicate,
    /// Publish: the batch is taken in another order. Receive: deliveries are handed out in another order.
    Reorder,
    /// Publish: changes the batch on its way in. Results are those of the changed one, in its order; what was
    /// dropped from its end counts as taken, and what was added there has no result.
    EditMessages(Edit<Vec<Message>>),
    /// Receive: changes what is handed out.
    EditDeliveries(Edit<Vec<Delivery>>),
    /// Settle: changes what is said. Results are as those of [`Fault::EditMessages`].
    EditSettlements(Edit<Vec<Settlement>>),
    /// Everything on a destination: it goes to another.
    EditDestination(Edit<Destination>),
    /// Opening a consumer: it is opened otherwise.
    EditOptions(Edit<ConsumerOptions>),
}

impl Fault {
    /// The call fails with an error that says the same as this one.
    pub fn fail(error: Error) -> Self {
        Fault::Fail(Arc::new(error))
    }

    /// A publish whose batch is changed so.
    pub fn edit_messages(edit: impl Fn(&mut Vec<Message>) + Send + Sync + 'static) -> Self {
        Fault::EditMessages(Arc::new(edit))
    }

    /// A receive whose deliveries are changed so.
    pub fn edit_deliveries(edit: impl Fn(&mut Vec<Delivery>) + Send + Sync + 'static) -> Self {
        Fault::EditDeliveries(Arc::new(edit))
    }

    /// A settle whose verdicts are changed so.
    pub fn edit_settlements(edit: impl Fn(&mut Vec<Settlement>) + Send + Sync + 'static) -> Self {
        Fault::EditSettlements(Arc::new(edit))
    }

    /// Operations whose destination is changed so.
    pub fn edit_destination(edit: impl Fn(&mut Destination) + Send + Sync + 'static) -> Self {
        Fault::EditDestination(Arc::new(edit))
    }

    /// An opening of a consumer whose options are changed so.
    pub fn edit_options(edit: impl Fn(&mut ConsumerOptions) + Send + Sync + 'static) -> Self {
        Fault::EditOptions(Arc::new(edit))
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fault::Fail(error) => return write!(f, "Fail({})", error.kind()),
            Fault::Delay(by) => return write!(f, "Delay({by:?})"),
            Fault::DelayAnswer(by) => return write!(f, "DelayAnswer({by:?})"),
            Fault::Block(by) => return write!(f, "Block({by:?})"),
            Fault::Hang => "Hang",
            Fault::Pretend => "Pretend",
            Fault::Uncertain => "Uncertain",
            Fault::LoseConnection => "LoseConnection",
            Fault::Duplicate => "Duplicate",
            Fault::Reorder => "Reorder",
            Fault::EditMessages(_) => "EditMessages",
            Fault::EditDeliveries(_) => "EditDeliveries",
            Fault::EditSettlements(_) => "EditSettlements",
            Fault::EditDestination(_) => "EditDestination",
            Fault::EditOptions(_) => "EditOptions",
        })
    }
}

type Names = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// When what goes wrong.
#[derive(Clone)]
pub struct Rule {
    operation: Operation,
    calls: Calls,
    fault: Fault,
    destinations: Option<Names>,
}

impl Rule {
    /// Every call of this operation has this fault.
    pub fn new(operation: Operation, fault: Fault) -> Self {
        Rule { operation, calls: Calls::All, fault, destinations: None }
    }

    /// Only these calls of those that fit otherwise.
    #[must_use]
    pub fn calls(mut self, calls: Calls) -> Self {
        self.calls = calls;
        self
    }

    /// Only on destinations whose names are such. Operations without one, as a ping, do not fit then.
    #[must_use]
    pub fn on(mut self, destinations: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        self.destinations = Some(Arc::new(destinations));
        self
    }

    fn fits(&self, operation: Operation, destination: Option<&str>) -> bool {
        let there = |name: &dyn Fn(&str) -> bool| destination.is_some_and(name);
        self.operation == operation && self.destinations.as_ref().is_none_or(|name| there(&**name))
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} of {:?}: {:?}", self.calls, self.operation, self.fault)
    }
}

/// The rules of everything that is connected through one [`FaultyProvider`]. Clones share them.
#[derive(Clone)]
pub struct Faults(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    called: Notify,
}

struct State {
    /// Each with the number of calls that fitted it.
    rules: Vec<(Rule, u64)>,
    calls: HashMap<Operation, u64>,
    struck: u64,
    random: fastrand::Rng,
}

impl Faults {
    /// No rules yet, and a fixed seed.
    pub fn new() -> Self {
        Self::seeded(0)
    }

    /// No rules yet, and this seed for everything that is left to chance.
    pub fn seeded(seed: u64) -> Self {
        let random = fastrand::Rng::with_seed(seed);
        let state = State { rules: Vec::new(), calls: HashMap::new(), struck: 0, random };
        Faults(Arc::new(Shared { state: Mutex::new(state), called: Notify::new() }))
    }

    /// Adds a rule, from the next call on.
    pub fn add(&self, rule: Rule) {
        self.lock().rules.push((rule, 0));
    }

    /// Takes all rules away, from the next call on. Calls that hang go on hanging.
    pub fn clear(&self) {
        self.lock().rules.clear();
    }

    /// How many calls of an operation there were, struck or not.
    pub fn calls(&self, operation: Operation) -> u64 {
        self.lock().calls.get(&operation).copied().unwrap_or(0)
    }

    /// How many calls were struck.
    pub fn struck(&self) -> u64 {
        self.lock().struck
    }

    /// Waits until there were so many calls of an operation. Put a deadline around it.
    pub async fn wait_for_calls(&self, operation: Operation, calls: u64) {
        loop {
            let mut called = std::pin::pin!(self.0.called.notified());
            // Registered before the count is read, so that a call in between is not missed.
            called.as_mut().enable();
            if self.calls(operation) >= calls {
                return;
            }
            called.await;
        }
    }

    /// Counts a call, and says what is to happen to it.
    fn plan(&self, operation: Operation, destination: Option<&str>) -> Plan {
        let mut state = self.lock();
        let State { rules, calls, struck, random } = &mut *state;
        *calls.entry(operation).or_default() += 1;
        let mut faults = Vec::new();
        for (rule, count) in rules.iter_mut().filter(|(rule, _)| rule.fits(operation, destination)) {
            *count += 1;
            if strikes(rule.calls, *count, random) {
                faults.push(rule.fault.clone());
            }
        }
        *struck += u64::from(!faults.is_empty());
        let seed = random.u64(..);
        drop(state);
        self.0.called.notify_waiters();
        Plan::new(faults, seed)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn strikes(calls: Calls, count: u64, random: &mut fastrand::Rng) -> bool {
    match calls {
        Calls::All => true,
        Calls::Nth(n) => count == n,
        Calls::First(n) => count <= n,
        Calls::After(n) => count > n,
        Calls::Every(n) => n > 0 && count.is_multiple_of(n),
        Calls::Chance(probability) => random.f64() < probability,
    }
}

impl Default for Faults {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_list().entries(state.rules.iter().map(|(rule, _)| rule)).finish()
    }
}
