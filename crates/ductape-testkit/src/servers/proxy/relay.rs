//! One connection through the proxy.
//!
//! ```text
//!             ┌─ read ─▶ queue, bounded ─▶ write ─┐   up
//!  client ◀──▶┤                                   ├◀──▶ server
//!             └─ write ◀─ queue, bounded ◀─ read ─┘   down
//! ```
//!
//! Reading stops where nothing may pass, so that what is kept back is bounded; what becomes of a chunk is decided when it
//! is written, by the state of that moment.

use super::{Counters, Flow, State};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// The most that is read at once.
const CHUNK: usize = 16 * 1024;
/// How many chunks may wait for their time.
const QUEUE: usize = 64;
/// How long the server may take to accept.
const CONNECTING: Duration = Duration::from_secs(10);
/// Into how many pieces a slow network divides a second.
const PIECES_PER_SECOND: u64 = 50;

type Changes = watch::Receiver<State>;

/// Accepts until the owner of the state is gone.
pub(super) async fn serve(listener: TcpListener, mut changes: Changes, counters: Arc<Counters>) {
    let mut owner = changes.clone();
    let mut gone = pin!(async move { owner.wait_for(|_| false).await.is_err() });
    loop {
        let accepted = tokio::select! {
            _ = &mut gone => return,
            accepted = listener.accept() => accepted,
        };
        // What a client did to a connection before it was accepted is no fault of the listener.
        let Ok((client, _)) = accepted else { continue };
        let (refused, cuts) = {
            let state = changes.borrow_and_update();
            (state.refuses || state.upstream.is_none(), state.cuts)
        };
        if refused {
            counters.refused.fetch_add(1, Ordering::Release);
            reset(&client);
        } else {
            counters.connections.fetch_add(1, Ordering::Release);
            tokio::spawn(connection(client, changes.clone(), cuts, Arc::clone(&counters)));
        }
    }
}

/// Serves a client until both sides have ended, one of them breaks, or everything is cut.
async fn connection(mut client: TcpStream, changes: Changes, cuts: u64, counters: Arc<Counters>) {
    let mut cut = changes.clone();
    let mut cut = pin!(async move { drop(cut.wait_for(|state| state.cuts != cuts).await) });
    let connected = tokio::select! {
        () = &mut cut => None,
        connected = connect(changes.clone()) => connected.ok(),
    };
    let Some(mut server) = connected else { return reset(&client) };
    let ended = tokio::select! {
        () = &mut cut => false,
        result = relay(&mut client, &mut server, &changes, &counters) => result.is_ok(),
    };
    if !ended {
        reset(&client);
        reset(&server);
    }
}

/// Lets a socket end with a reset when it is dropped.
fn reset(stream: &TcpStream) {
    // It can only fail on a socket that has ended.
    let _ = stream.set_zero_linger();
}

async fn connect(mut changes: Changes) -> io::Result<TcpStream> {
    let upstream = {
        let state = changes.wait_for(|state| state.flow != Flow::Stalled).await.map_err(broken)?;
        state.upstream.clone().unwrap_or_default()
    };
    tokio::time::timeout(CONNECTING, TcpStream::connect(upstream)).await.map_err(io::Error::from)?
}

async fn relay(
    client: &mut TcpStream,
    server: &mut TcpStream,
    changes: &Changes,
    counters: &Counters,
) -> io::Result<()> {
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
    let up = pass(Direction::Up, from_client, to_server, changes, &counters.up);
    let down = pass(Direction::Down, from_server, to_client, changes, &counters.down);
    tokio::try_join!(up, down).map(drop)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Up,
    Down,
}

/// What happens to bytes of a direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Passes,
    IsKept,
    IsLost,
}

impl Flow {
    fn fate(self, direction: Direction) -> Fate {
        match (self, direction) {
            (Flow::Stalled, _) | (Flow::AnswersKept, Direction::Down) => Fate::IsKept,
            (Flow::AnswersLost, Direction::Down) => Fate::IsLost,
            (Flow::Open | Flow::AnswersKept | Flow::AnswersLost, _) => Fate::Passes,
        }
    }
}

/// One direction of a connection, to its end.
async fn pass(
    direction: Direction,
    reader: ReadHalf<'_>,
    writer: WriteHalf<'_>,
    changes: &Changes,
    counter: &AtomicU64,
) -> io::Result<()> {
    let (sender, queue) = mpsc::channel(QUEUE);
    let write = Write { direction, writer, changes: changes.clone(), counter };
    tokio::try_join!(read(direction, reader, changes.clone(), sender), write.all(queue)).map(drop)
}

/// A chunk, and when it came.
type Chunk = (Instant, Vec<u8>);

async fn read(
    direction: Direction,
    mut reader: ReadHalf<'_>,
    mut changes: Changes,
    sender: mpsc::Sender<Chunk>,
) -> io::Result<()> {
    loop {
        drop(changes.wait_for(|state| state.flow.fate(direction) != Fate::IsKept).await.map_err(broken)?);
        let mut chunk = Vec::with_capacity(CHUNK);
        if reader.read_buf(&mut chunk).await? == 0 || sender.send((Instant::now(), chunk)).await.is_err() {
            return Ok(());
        }
    }
}

struct Write<'p> {
    direction: Direction,
    writer: WriteHalf<'p>,
    changes: Changes,
    counter: &'p AtomicU64,
}

impl Write<'_> {
    async fn all(mut self, mut queue: mpsc::Receiver<Chunk>) -> io::Result<()> {
        while let Some((since, chunk)) = queue.recv().await {
            if !self.chunk(since, &chunk).await? {
                return self.lose(queue).await;
            }
        }
        match self.fate(Instant::now()).await? {
            Fate::IsLost => self.lose(queue).await,
            Fate::Passes | Fate::IsKept => self.writer.shutdown().await,
        }
    }

    /// Writes a chunk, as fast as the network is. False where it is lost.
    async fn chunk(&mut self, since: Instant, chunk: &[u8]) -> io::Result<bool> {
        let mut rest = chunk;
        while !rest.is_empty() {
            if self.fate(since).await? == Fate::IsLost {
                return Ok(false);
            }
            let rate = self.changes.borrow().rate;
            let whole = rest.len() as u64;
            let size = rate.map_or(whole, |rate| (rate / PIECES_PER_SECOND).clamp(1, whole));
            let (piece, later) = rest.split_at(size as usize);
            // Before, so that whoever has received something finds it counted.
            self.counter.fetch_add(size, Ordering::Release);
            self.writer.write_all(piece).await?;
            if let Some(rate) = rate {
                tokio::time::sleep(Duration::from_secs_f64(size as f64 / rate as f64)).await;
            }
            rest = later;
        }
        Ok(true)
    }

    /// Waits until something that came at `since` passes or is lost, whatever changes meanwhile.
    async fn fate(&mut self, since: Instant) -> io::Result<Fate> {
        loop {
            let (fate, due) = {
                let state = self.changes.borrow_and_update();
                (state.flow.fate(self.direction), since + state.delay)
            };
            let wait = fate == Fate::IsKept;
            if !wait && due <= Instant::now() {
                return Ok(fate);
            }
            tokio::select! {
                changed = self.changes.changed() => changed.map_err(broken)?,
                () = tokio::time::sleep_until(due), if !wait => {}
            }
        }
    }

    /// Throws away the rest. Once answers pass again the stream has a hole, and is broken.
    async fn lose(mut self, mut queue: mpsc::Receiver<Chunk>) -> io::Result<()> {
        let throw_away = async {
            while queue.recv().await.is_some() {}
            std::future::pending::<()>().await
        };
        tokio::select! {
            () = throw_away => {}
            _ = self.changes.wait_for(|state| state.flow != Flow::AnswersLost) => {}
        }
        Err(io::ErrorKind::ConnectionReset.into())
    }
}

/// The proxy's owner is gone.
fn broken(_: watch::error::RecvError) -> io::Error {
    io::ErrorKind::BrokenPipe.into()
}
