//! A network between a client and its server that breaks on demand.
//!
//! ```text
//!  client ──▶ Proxy (127.0.0.1:port) ──▶ upstream
//!               cut · refuse · stall · half_open · drop_answers · delay · rate · resume
//! ```
//!
//! It needs no privileges, and serves every protocol over TCP: it does not look at what it carries.

mod relay;

use super::ports;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::watch;

/// How often another port is tried when somebody else was quicker on one.
const ATTEMPTS: usize = 10;

/// A TCP proxy on 127.0.0.1 that cuts, stalls and slows down what goes through it.
///
/// Faults hold for connections that are open and for those that come, until [`resume`](Self::resume), which ends all of
/// them; a further fault replaces the one before, except that [`refuse`](Self::refuse), [`delay`](Self::delay) and
/// [`rate`](Self::rate) go together with each other and with the rest. A fault holds for whatever is sent after its
/// call returned.
///
/// It runs on a thread of its own: a test may call it from anywhere, and may stop the clock of its own runtime. Dropping
/// it closes every connection and the port.
///
/// ```
/// # use ductape_testkit::servers::Proxy;
/// # fn main() -> std::io::Result<()> {
/// let proxy = Proxy::start("127.0.0.1:6379")?;
/// // Connect a client to `proxy.address()`, then take its network away for a while:
/// proxy.stall();
/// proxy.resume();
/// # Ok(()) }
/// ```
///
/// What is under way is bounded: at most 64 chunks of 16 KiB a direction wait for their time, and then the sender does.
pub struct Proxy {
    port: u16,
    address: String,
    state: Option<watch::Sender<State>>,
    counters: Arc<Counters>,
    thread: Option<JoinHandle<()>>,
}

/// What the network does.
#[derive(Clone, Debug, Default)]
struct State {
    upstream: Option<String>,
    refuses: bool,
    flow: Flow,
    delay: Duration,
    /// Bytes a second, a connection and direction.
    rate: Option<u64>,
    /// How often everything was cut. A connection ends when it is no more what it was at its beginning.
    cuts: u64,
}

/// Which bytes get through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Flow {
    #[default]
    Open,
    Stalled,
    AnswersKept,
    AnswersLost,
}

/// What went through, since the proxy's start.
#[derive(Debug, Default)]
struct Counters {
    connections: AtomicU64,
    refused: AtomicU64,
    up: AtomicU64,
    down: AtomicU64,
}

impl Proxy {
    /// A proxy to this `host:port`, on a port that stays the same over all its faults.
    ///
    /// # Errors
    /// Where no port is free.
    pub fn start(upstream: &str) -> io::Result<Proxy> {
        let proxy = Self::reserve()?;
        proxy.set_upstream(upstream);
        Ok(proxy)
    }

    /// A proxy whose port is known before its server is: for servers that tell clients where to find them, such as
    /// Kafka. Until [`set_upstream`](Self::set_upstream) it closes what connects.
    ///
    /// # Errors
    /// Where no port is free.
    pub fn reserve() -> io::Result<Proxy> {
        let (port, listener) = listen()?;
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let listener = {
            let _entered = runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        let (state, changes) = watch::channel(State::default());
        let counters = Arc::new(Counters::default());
        let serve = relay::serve(listener, changes, Arc::clone(&counters));
        // Its end drops the runtime, and with that every connection.
        let thread =
            std::thread::Builder::new().name("proxy".into()).spawn(move || runtime.block_on(serve))?;
        let address = format!("127.0.0.1:{port}");
        Ok(Proxy { port, address, state: Some(state), counters, thread: Some(thread) })
    }

    /// Sends the connections that come from now on to this `host:port`.
    pub fn set_upstream(&self, address: impl Into<String>) {
        let address = address.into();
        self.change(|state| state.upstream = Some(address));
    }

    /// Where clients connect: `127.0.0.1:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The port of [`address`](Self::address).
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Closes every connection that has been accepted, with a reset on both sides. New ones are served.
    pub fn cut(&self) {
        self.change(|state| state.cuts += 1);
    }

    /// Closes new connections at once, as a port does behind which nobody is. Those that are open go on.
    pub fn refuse(&self) {
        self.change(|state| state.refuses = true);
    }

    /// Lets no byte through, either way, and does not hand on an end either: connections stay open in silence. New ones
    /// are accepted, and reach the server at [`resume`](Self::resume), when all that was kept goes on.
    pub fn stall(&self) {
        self.change(|state| state.flow = Flow::Stalled);
    }

    /// Hands on what clients send and keeps back what the server answers, until [`resume`](Self::resume), which delivers
    /// it.
    pub fn half_open(&self) {
        self.change(|state| state.flow = Flow::AnswersKept);
    }

    /// Hands on what clients send and throws away what the server answers. Connections that lost something stay open in
    /// silence, and are cut at the next change of this, such as [`resume`](Self::resume): they can be of no use any more.
    pub fn drop_answers(&self) {
        self.change(|state| state.flow = Flow::AnswersLost);
    }

    /// Delivers each chunk this much later than it came, in order, each way. Connecting itself is not delayed.
    pub fn delay(&self, delay: Duration) {
        self.change(|state| state.delay = delay);
    }

    /// Lets so many bytes a second through, a connection and direction. 0 counts as 1.
    pub fn rate(&self, bytes_per_second: u64) {
        self.change(|state| state.rate = Some(bytes_per_second.max(1)));
    }

    /// Ends every fault.
    pub fn resume(&self) {
        self.change(|state| {
            *state = State { upstream: state.upstream.take(), cuts: state.cuts, ..State::default() };
        });
    }

    /// How many connections it has accepted and not refused, since its start.
    pub fn connections(&self) -> u64 {
        self.counters.connections.load(Ordering::Acquire)
    }

    /// How many connections it has refused, since its start.
    pub fn refused(&self) -> u64 {
        self.counters.refused.load(Ordering::Acquire)
    }

    /// How many bytes it has handed to the server, since its start.
    pub fn bytes_up(&self) -> u64 {
        self.counters.up.load(Ordering::Acquire)
    }

    /// How many bytes it has handed to clients, since its start.
    pub fn bytes_down(&self) -> u64 {
        self.counters.down.load(Ordering::Acquire)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        if let Some(state) = &self.state {
            state.send_modify(change);
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Its end is what the thread waits for.
        drop(self.state.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.as_ref().map(|state| state.borrow().clone());
        f.debug_struct("Proxy").field("address", &self.address).field("state", &state).finish_non_exhaustive()
    }
}

fn listen() -> io::Result<(u16, TcpListener)> {
    let mut attempt = 1;
    loop {
        let port = ports::free()?;
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(listener) => return Ok((port, listener)),
            Err(error) if attempt == ATTEMPTS => return Err(error),
            Err(_) => attempt += 1,
        }
    }
}
