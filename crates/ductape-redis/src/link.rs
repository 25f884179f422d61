//! The connections to the server: made at need, shared by everything that is opened on one broker, made anew
//! after a loss.
//!
//! ```text
//!  publishers ──▶ [publishes]  multiplexed connections: what many callers send leaves together
//!  settle, extend, claims, looks ──▶ [commands]  another, so that no large publish is in a verdict's way
//!  each consumer's reader ──▶ one of its own, since it blocks
//! ```

mod opening;

use crate::address::Place;
use crate::error;
use crate::names::Names;
use ductape_core::error::Retry;
use ductape_core::{Clock, ConnectOptions, Error, ErrorKind, Result};
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster_async::ClusterConnection;
use redis::{Cmd, Pipeline, RedisFuture, RedisResult, Value};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How many bytes collect before the connection writes while more is waiting: several publishes in one write.
const WRITE_BYTES: usize = 128 * 1024;
/// Calls that may wait for the connection's task; past them callers wait in their order.
const QUEUED_CALLS: usize = 1024;

/// Connections that publishes go by. A server takes at most 16 KiB of each in one go, and all that it took has one
/// sync of its file: so it takes about a third more of two than of one, and hardly more of four.
pub(crate) const LINES: usize = 2;

/// What everything opened on one broker shares. It has no `Debug`: its address holds the password.
pub(crate) struct Link {
    place: Place,
    client_name: String,
    pub(crate) clock: Clock,
    /// How long one call may take.
    pub(crate) limit: Duration,
    connect_limit: Duration,
    publishes: [Shared; LINES],
    commands: Shared,
    closed: watch::Sender<bool>,
    pub(crate) names: Arc<Names>,
}

/// A connection: of one server, or of a cluster's nodes.
#[derive(Clone)]
pub(crate) enum Connection {
    Server(MultiplexedConnection),
    Cluster(ClusterConnection),
}

/// A connection that many use, and the attempts at one.
#[derive(Default)]
struct Shared {
    /// Read on every call, so apart from the attempts, which take long.
    current: Mutex<Option<Current>>,
    /// Those who still use the last one that was lost.
    left: Mutex<Option<watch::Sender<()>>>,
    attempts: tokio::sync::Mutex<Attempts>,
}

struct Current {
    number: u64,
    connection: Connection,
    /// Tells when nobody uses it any more.
    users: watch::Sender<()>,
}

impl Current {
    fn lend(&self, what: Use) -> Lent {
        let (connection, number) = (self.connection.clone(), self.number);
        Lent { connection, what, number, _user: self.users.subscribe() }
    }
}

#[derive(Default)]
struct Attempts {
    /// Connections made so far: tells a lost one from the one that took its place.
    made: u64,
    /// Attempts that failed in a row, and when the next may be made.
    failed: u32,
    not_before: Option<Instant>,
}

/// Which of the shared connections.
#[derive(Clone, Copy)]
pub(crate) enum Use {
    /// Publishes, on the line of this number: one of [`LINES`].
    Publishes(usize),
    Commands,
}

/// A shared connection in use, and which one it is.
pub(crate) struct Lent {
    pub(crate) connection: Connection,
    what: Use,
    number: u64,
    _user: watch::Receiver<()>,
}

impl Link {
    pub(crate) fn new(place: Place, options: &ConnectOptions) -> Self {
        Link {
            place,
            client_name: options.client_name.replace(char::is_whitespace, "-"),
            clock: options.clock.clone(),
            limit: options.request_timeout,
            connect_limit: options.connect_timeout,
            publishes: Default::default(),
            commands: Shared::default(),
            closed: watch::Sender::new(false),
            names: Arc::default(),
        }
    }

    /// A shared connection, made anew where it is lost.
    ///
    /// # Errors
    /// `CLOSED`; those of connecting.
    pub(crate) async fn lend(&self, what: Use) -> Result<Lent> {
        self.check_open("the connection")?;
        if let Some(lent) = self.current(what) {
            return Ok(lent);
        }
        // Apart: it is seldom, and what connecting needs would make the future of every call a large one.
        Box::pin(self.lend_anew(what)).await
    }

    async fn lend_anew(&self, what: Use) -> Result<Lent> {
        let shared = self.shared(what);
        let mut attempts = shared.attempts.lock().await;
        if let Some(lent) = self.current(what) {
            return Ok(lent);
        }
        self.wait_its_turn(&attempts)?;
        self.end_of_lost(shared).await;
        match self.connect().await {
            Ok(connection) => {
                let number = attempts.made + 1;
                *attempts = Attempts { made: number, ..Attempts::default() };
                let made = Current { number, connection, users: watch::Sender::new(()) };
                let lent = made.lend(what);
                *lock(&shared.current) = Some(made);
                // A close that came meanwhile has not seen this one.
                self.check_open("the connection").inspect_err(|_| drop(lock(&shared.current).take()))?;
                Ok(lent)
            }
            Err(error) => {
                attempts.failed = attempts.failed.saturating_add(1);
                attempts.not_before = Some(Instant::now() + backoff(attempts.failed));
                Err(error)
            }
        }
    }

    fn current(&self, what: Use) -> Option<Lent> {
        lock(&self.shared(what).current).as_ref().map(|current| current.lend(what))
    }

    /// Waits until what went by the connection before has its end, within the time of a call: the server may take it
    /// after what goes by the next, and those of one key would change their order.
    async fn end_of_lost(&self, shared: &Shared) {
        let left = lock(&shared.left).clone();
        if let Some(left) = left {
            // Past that time each has had its end.
            let _ = tokio::time::timeout(self.limit, left.closed()).await;
            *lock(&shared.left) = None;
        }
    }

    fn shared(&self, what: Use) -> &Shared {
        match what {
            Use::Publishes(line) => &self.publishes[line % LINES],
            Use::Commands => &self.commands,
        }
    }

    /// Tries no sooner than the backoff allows, however many ask.
    fn wait_its_turn(&self, attempts: &Attempts) -> Result<()> {
        let left = attempts.not_before.map(|time| time.saturating_duration_since(Instant::now()));
        match left.filter(|left| !left.is_zero()) {
            None => Ok(()),
            Some(left) => Err(Error::new(ErrorKind::ConnectionLost, "the server is not there")
                .with_retry(Retry::After(left))
                .with_context("server", self.place())
                .with_help("it is tried again by itself; see that the server is up")),
        }
    }

    /// Lets a lost connection go, unless another has taken its place. Returns what is to be told of the error.
    pub(crate) fn failed(&self, lent: &Lent, error: &redis::RedisError, what: &str, sent: bool) -> Error {
        if error::is_lost(error) || error.is_timeout() {
            self.drop_lost(lent);
        } else if error.code() == Some("READONLY") {
            // Behind the same name another server may be the master by now.
            self.drop_lost(lent);
        }
        if *self.closed.borrow() {
            let error = Error::closed("the connection");
            return if sent { error.with_retry(Retry::Uncertain) } else { error };
        }
        error::call(error, what, sent).with_context("server", self.place())
    }

    fn drop_lost(&self, lent: &Lent) {
        let shared = self.shared(lent.what);
        let lost = lock(&shared.current).take_if(|current| current.number == lent.number);
        // Only publishes have an order.
        if let (Use::Publishes(_), Some(lost)) = (lent.what, lost) {
            *lock(&shared.left) = Some(lost.users);
        }
    }

    /// One command on the shared connection for commands.
    pub(crate) async fn call(&self, command: &Cmd, what: &str) -> Result<Value> {
        let mut lent = self.lend(Use::Commands).await?;
        let answer = lent.connection.req_packed_command(command).await;
        answer.and_then(checked).map_err(|error| self.failed(&lent, &error, what, true))
    }

    /// Several commands in one write: each its own answer, which may be the server's refusal.
    pub(crate) async fn calls(&self, commands: &Pipeline, what: &str) -> Result<Vec<Value>> {
        let mut lent = self.lend(Use::Commands).await?;
        let answers = lent.connection.req_packed_commands(commands, 0, commands.len()).await;
        answers.map_err(|error| self.failed(&lent, &error, what, true))
    }

    /// What the server refused, in place of its own answer.
    pub(crate) fn refused(&self, error: &redis::RedisError, what: &str) -> Error {
        error::call(error, what, true).with_context("server", self.place())
    }

    /// How errors and logs name the server.
    pub(crate) fn place(&self) -> &str {
        &self.place.name
    }

    /// # Errors
    /// `CLOSED`.
    pub(crate) fn check_open(&self, what: &str) -> Result<()> {
        if *self.closed.borrow() { Err(Error::closed(what)) } else { Ok(()) }
    }

    /// Tells when the broker is closed.
    pub(crate) fn closing(&self) -> watch::Receiver<bool> {
        self.closed.subscribe()
    }

    /// Marks it closed, and lets its connections go, each of which ends when what is under way on it has ended.
    pub(crate) fn close(&self) {
        self.closed.send_replace(true);
        for shared in self.publishes.iter().chain([&self.commands]) {
            *lock(&shared.current) = None;
        }
    }
}

/// An answer that is no refusal.
pub(crate) fn checked(answer: Value) -> RedisResult<Value> {
    match answer {
        Value::ServerError(error) => Err(error.into()),
        answer => Ok(answer),
    }
}

/// How long to leave a server alone that could not be reached so many times: 50 ms, doubling up to 3.2 s.
fn backoff(failed: u32) -> Duration {
    Duration::from_millis(25 << failed.min(7))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Connection::Server(connection) => connection.req_packed_command(command),
            Connection::Cluster(connection) => connection.req_packed_command(command),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        commands: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Connection::Server(connection) => connection.req_packed_commands(commands, offset, count),
            Connection::Cluster(connection) => connection.req_packed_commands(commands, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Connection::Server(connection) => connection.get_db(),
            Connection::Cluster(connection) => connection.get_db(),
        }
    }
}
