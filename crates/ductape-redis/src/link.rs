//! The connections to the server: made at need, shared by everything that is opened on one broker, made anew
//! after a loss.
//!
//! ```text
//!  publishers ──▶ [publishes]  multiplexed connections: what many callers send leaves together
//!  settle, extend, claims, looks ──▶ [commands]  another, so that no large publish is in a verdict's way
//!  each consumer's reader ──▶ one of its own, since it blocks
//! ```

use crate::address::{Address, Place};
use crate::entry::StreamId;
use crate::error;
use crate::group::Membership;
use ductape_core::error::Retry;
use ductape_core::{Clock, ConnectOptions, Error, ErrorKind, Result};
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster_async::ClusterConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, Pipeline, RedisFuture, RedisResult, Value};
use std::future::Future;
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
    abandoned: Mutex<Vec<Abandoned>>,
}

/// A consumer that could not give back what it had, since its server was not there.
struct Abandoned {
    stream: Arc<str>,
    group: Arc<str>,
    consumer: String,
    counts: Vec<(StreamId, u32)>,
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
    current: Mutex<Option<(u64, Connection)>>,
    attempts: tokio::sync::Mutex<Attempts>,
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
            abandoned: Mutex::default(),
        }
    }

    /// Remembers what a consumer had, for the next of its group on this connection.
    pub(crate) fn abandon(&self, member: &Membership, counts: Vec<(StreamId, u32)>) {
        lock(&self.abandoned).push(Abandoned {
            stream: Arc::clone(&member.stream),
            group: Arc::clone(&member.group),
            consumer: member.consumer.clone(),
            counts,
        });
    }

    /// Gives back what consumers of the same group had to leave behind.
    pub(crate) async fn take_back(&self, member: &Membership) -> Result<()> {
        let left = |it: &mut Abandoned| it.stream == member.stream && it.group == member.group;
        let left: Vec<_> = lock(&self.abandoned).extract_if(.., left).collect();
        for abandoned in left {
            if let Err(error) = member.give_back_of(&abandoned.consumer, &abandoned.counts).await {
                lock(&self.abandoned).push(abandoned);
                return Err(error);
            }
        }
        Ok(())
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
        match self.connect().await {
            Ok(connection) => {
                let number = attempts.made + 1;
                *attempts = Attempts { made: number, ..Attempts::default() };
                *lock(&shared.current) = Some((number, connection.clone()));
                // A close that came meanwhile has not seen this one.
                self.check_open("the connection").inspect_err(|_| drop(lock(&shared.current).take()))?;
                Ok(Lent { connection, what, number })
            }
            Err(error) => {
                attempts.failed = attempts.failed.saturating_add(1);
                attempts.not_before = Some(Instant::now() + backoff(attempts.failed));
                Err(error)
            }
        }
    }

    fn current(&self, what: Use) -> Option<Lent> {
        let current = lock(&self.shared(what).current);
        let (number, connection) = current.as_ref()?;
        Some(Lent { connection: connection.clone(), what, number: *number })
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
            return Error::closed("the connection");
        }
        error::call(error, what, sent).with_context("server", self.place())
    }

    fn drop_lost(&self, lent: &Lent) {
        let mut current = lock(&self.shared(lent.what).current);
        if current.as_ref().is_some_and(|(number, _)| *number == lent.number) {
            *current = None;
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

    /// A new connection, within the time that connecting may take.
    ///
    /// # Errors
    /// `CONNECT_FAILED`, `AUTHENTICATION_FAILED`, `TLS_FAILED`, `TIMEOUT`.
    pub(crate) async fn connect(&self) -> Result<Connection> {
        self.in_time(async {
            let config = self.config();
            match &self.place.address {
                Address::Server(client) => self.open(client, &config).await,
                Address::Sentinel(sentinel) => {
                    let client = sentinel.lock().await.async_get_client().await;
                    self.open(&client.map_err(|error| error::connect(&error, self.place()))?, &config).await
                }
                Address::Cluster { client, nodes } => {
                    self.probe(nodes, &config).await?;
                    let connection = client.get_async_connection().await;
                    connection.map(Connection::Cluster).map_err(|error| error::connect(&error, self.place()))
                }
            }
        })
        .await
    }

    /// A connection on which the server pushes what is published. The sender gets it.
    pub(crate) async fn listen(
        &self,
        sender: impl Fn(redis::PushInfo) -> Result<(), ()> + Send + Sync + 'static,
    ) -> Result<MultiplexedConnection> {
        self.in_time(async {
            let client = match &self.place.address {
                Address::Server(client) => (**client).clone(),
                // Every node of a cluster hears what is published on any.
                Address::Cluster { nodes, .. } => self.probe(nodes, &self.config()).await?,
                Address::Sentinel(sentinel) => {
                    let client = sentinel.lock().await.async_get_client().await;
                    client.map_err(|error| error::connect(&error, self.place()))?
                }
            };
            let info = client.get_connection_info().clone();
            let settings = info.redis_settings().clone().set_protocol(redis::ProtocolVersion::RESP3);
            let client = Client::open(info.set_redis_settings(settings))
                .map_err(|error| error::connect(&error, self.place()))?;
            match self.open(&client, &self.config().set_push_sender(sender)).await? {
                Connection::Server(connection) => Ok(connection),
                Connection::Cluster(_) => Err(error::unforeseen("the connection")),
            }
        })
        .await
    }

    fn config(&self) -> AsyncConnectionConfig {
        AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(Some(self.limit))
            .set_pipeline_buffer_size(QUEUED_CALLS)
            .set_write_backpressure_boundary(WRITE_BYTES)
    }

    async fn open(&self, client: &Client, config: &AsyncConnectionConfig) -> Result<Connection> {
        let failed = |error| error::connect(&error, self.place());
        let mut connection =
            client.get_multiplexed_async_connection_with_config(config).await.map_err(failed)?;
        let mut greeting = redis::pipe();
        greeting.cmd("PING");
        greeting.cmd("CLIENT").arg("SETNAME").arg(&self.client_name);
        let answers = connection.send_packed_commands(&greeting, 0, 2).await.map_err(failed)?;
        // The name is for people; a user who may not set one does without.
        answers.into_iter().next().map_or(Ok(Value::Nil), checked).map_err(failed)?;
        Ok(Connection::Server(connection))
    }

    /// The first node that lets us in; where none does, the fault of the last.
    async fn probe(&self, nodes: &[Client], config: &AsyncConnectionConfig) -> Result<Client> {
        let mut last = None;
        for node in nodes {
            match self.open(node, config).await {
                Ok(_) => return Ok(node.clone()),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| Error::new(ErrorKind::ConfigInvalid, "`cluster` names no node")))
    }

    async fn in_time<T>(&self, connecting: impl Future<Output = Result<T>>) -> Result<T> {
        match tokio::time::timeout(self.connect_limit, connecting).await {
            Ok(connected) => connected,
            Err(_) => Err(Error::new(
                ErrorKind::Timeout,
                format!("cannot connect to Redis: no answer within {:?}", self.connect_limit),
            )
            .with_retry(Retry::Safe)
            .with_context("server", self.place())
            .with_help("see that this is a Redis server and its port, whether it speaks TLS, and that the network is up")),
        }
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

    /// Marks it closed, and lets its connections go. What is under way on them ends as `CLOSED`.
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
