//! Each fault of the proxy, as a client and a server see it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use ductape_testkit::servers::Proxy;
use std::io::ErrorKind;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// How long something may take that has to happen.
const DEADLINE: Duration = Duration::from_secs(20);
/// How long is watched that something does not happen.
const SILENCE: Duration = Duration::from_millis(100);

/// A server that the test plays itself, behind a proxy.
struct Rig {
    proxy: Proxy,
    listener: TcpListener,
}

/// Both ends of one connection.
struct Pair {
    client: TcpStream,
    server: TcpStream,
}

impl Rig {
    async fn new() -> Rig {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy::start(&listener.local_addr().unwrap().to_string()).unwrap();
        Rig { proxy, listener }
    }

    async fn client(&self) -> TcpStream {
        in_time(TcpStream::connect(self.proxy.address())).await.unwrap()
    }

    async fn accept(&self) -> TcpStream {
        in_time(self.listener.accept()).await.unwrap().0
    }

    /// A connection through which bytes have gone both ways.
    async fn pair(&self) -> Pair {
        let (client, server) = (self.client().await, self.accept().await);
        let mut pair = Pair { client, server };
        carries(&mut pair).await;
        pair
    }
}

async fn in_time<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(DEADLINE, future).await.expect("it did not happen in time")
}

async fn send(stream: &mut TcpStream, text: &str) {
    in_time(stream.write_all(text.as_bytes())).await.unwrap();
}

async fn gets(stream: &mut TcpStream, text: &str) {
    let mut read = vec![0; text.len()];
    in_time(stream.read_exact(&mut read)).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&read), text);
}

async fn carries(pair: &mut Pair) {
    send(&mut pair.client, "ask").await;
    gets(&mut pair.server, "ask").await;
    send(&mut pair.server, "answer").await;
    gets(&mut pair.client, "answer").await;
}

/// Neither bytes nor an end come.
async fn is_silent(stream: &mut TcpStream) {
    let read = tokio::time::timeout(SILENCE, stream.read_u8()).await;
    assert!(read.is_err(), "it is not silent: {read:?}");
}

async fn is_reset(stream: &mut TcpStream) {
    assert_eq!(in_time(stream.read_u8()).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

/// A connection is closed at once: while it is made, or right after.
async fn is_refused(address: &str) {
    match in_time(TcpStream::connect(address)).await {
        Ok(mut stream) => is_reset(&mut stream).await,
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    assert!(tokio::time::timeout(DEADLINE, wait).await.is_ok(), "not in time: {what}");
}

#[tokio::test]
async fn bytes_and_ends_go_through_and_are_counted() {
    let rig = Rig::new().await;
    let mut pair = rig.pair().await;
    pair.client.shutdown().await.unwrap();
    assert_eq!(in_time(pair.server.read_u8()).await.unwrap_err().kind(), ErrorKind::UnexpectedEof);
    send(&mut pair.server, "late").await;
    gets(&mut pair.client, "late").await;
    drop(pair.server);
    assert_eq!(in_time(pair.client.read_u8()).await.unwrap_err().kind(), ErrorKind::UnexpectedEof);
    let proxy = &rig.proxy;
    assert_eq!((proxy.connections(), proxy.refused()), (1, 0));
    assert_eq!((proxy.bytes_up(), proxy.bytes_down()), (3, 10));
}

#[tokio::test]
async fn more_than_its_buffers_hold_arrives_whole() {
    let rig = Rig::new().await;
    let Pair { mut client, mut server } = rig.pair().await;
    let sent: Vec<u8> = (0..8_000_000_u32).map(|number| (number % 251) as u8).collect();
    let expected = sent.clone();
    let sender = tokio::spawn(async move {
        client.write_all(&sent).await.unwrap();
        client.shutdown().await.unwrap();
        client
    });
    let mut received = Vec::new();
    in_time(server.read_to_end(&mut received)).await.unwrap();
    assert!(received == expected, "{} of {} bytes came", received.len(), expected.len());
    drop(sender.await.unwrap());
}

#[tokio::test]
async fn a_cut_resets_both_sides_and_new_connections_are_served() {
    let rig = Rig::new().await;
    let (mut one, mut two) = (rig.pair().await, rig.pair().await);
    rig.proxy.cut();
    for pair in [&mut one, &mut two] {
        is_reset(&mut pair.client).await;
        is_reset(&mut pair.server).await;
    }
    rig.pair().await;
    assert_eq!(rig.proxy.connections(), 3);
}

#[tokio::test]
async fn refused_connections_are_closed_at_once_and_open_ones_go_on() {
    let rig = Rig::new().await;
    let mut open = rig.pair().await;
    rig.proxy.refuse();
    is_refused(rig.proxy.address()).await;
    carries(&mut open).await;
    assert_eq!((rig.proxy.connections(), rig.proxy.refused()), (1, 1));
    rig.proxy.resume();
    rig.pair().await;
}

#[tokio::test]
async fn a_stall_keeps_bytes_ends_and_new_connections_until_it_is_over() {
    let rig = Rig::new().await;
    let mut pair = rig.pair().await;
    rig.proxy.stall();
    send(&mut pair.client, "ask").await;
    send(&mut pair.server, "answer").await;
    pair.server.shutdown().await.unwrap();
    is_silent(&mut pair.client).await;
    is_silent(&mut pair.server).await;
    let mut new = rig.client().await;
    send(&mut new, "hello").await;
    assert!(tokio::time::timeout(SILENCE, rig.listener.accept()).await.is_err(), "it reached the server");
    rig.proxy.resume();
    gets(&mut pair.server, "ask").await;
    gets(&mut pair.client, "answer").await;
    assert_eq!(in_time(pair.client.read_u8()).await.unwrap_err().kind(), ErrorKind::UnexpectedEof);
    gets(&mut rig.accept().await, "hello").await;
}

#[tokio::test]
async fn a_stalled_connection_can_be_cut() {
    let rig = Rig::new().await;
    let mut pair = rig.pair().await;
    rig.proxy.stall();
    let mut waiting = rig.client().await;
    until("its acceptance", || rig.proxy.connections() == 2).await;
    rig.proxy.cut();
    is_reset(&mut pair.client).await;
    is_reset(&mut waiting).await;
}

#[tokio::test]
async fn half_open_keeps_back_the_answers_alone() {
    let rig = Rig::new().await;
    let mut pair = rig.pair().await;
    rig.proxy.half_open();
    send(&mut pair.client, "ask").await;
    gets(&mut pair.server, "ask").await;
    send(&mut pair.server, "answer").await;
    is_silent(&mut pair.client).await;
    rig.proxy.resume();
    gets(&mut pair.client, "answer").await;
    carries(&mut pair).await;
}

#[tokio::test]
async fn dropped_answers_never_come_and_their_connections_end_with_the_fault() {
    let rig = Rig::new().await;
    let (mut one, mut unhurt) = (rig.pair().await, rig.pair().await);
    let down = rig.proxy.bytes_down();
    rig.proxy.drop_answers();
    send(&mut one.client, "ask").await;
    gets(&mut one.server, "ask").await;
    send(&mut one.server, "answer").await;
    is_silent(&mut one.client).await;
    send(&mut one.client, "again").await;
    gets(&mut one.server, "again").await;
    assert_eq!(rig.proxy.bytes_down(), down);
    rig.proxy.resume();
    is_reset(&mut one.client).await;
    carries(&mut unhurt).await;
}

#[tokio::test]
async fn delayed_bytes_come_later_and_in_order() {
    let rig = Rig::new().await;
    let mut pair = rig.pair().await;
    let delay = Duration::from_millis(150);
    rig.proxy.delay(delay);
    let start = Instant::now();
    for word in ["one ", "two ", "three"] {
        send(&mut pair.client, word).await;
    }
    gets(&mut pair.server, "one two three").await;
    assert!(start.elapsed() >= delay, "it took {:?}", start.elapsed());
}

#[tokio::test]
async fn the_end_of_a_delay_releases_what_waits() {
    let rig = Rig::new().await;
    let mut pair = rig.pair().await;
    rig.proxy.delay(DEADLINE * 10);
    send(&mut pair.client, "ask").await;
    is_silent(&mut pair.server).await;
    rig.proxy.resume();
    gets(&mut pair.server, "ask").await;
}

#[tokio::test]
async fn a_slow_network_takes_its_time() {
    let rig = Rig::new().await;
    let mut pair = rig.pair().await;
    rig.proxy.rate(10_000);
    let start = Instant::now();
    let text = "x".repeat(3_000);
    send(&mut pair.client, &text).await;
    gets(&mut pair.server, &text).await;
    // The last piece, of a fiftieth of a second, is not waited for after it came.
    assert!(start.elapsed() >= Duration::from_millis(250), "it took {:?}", start.elapsed());
}

#[tokio::test]
async fn a_port_can_be_had_before_its_upstream() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::reserve().unwrap();
    assert!(proxy.address().ends_with(&format!(":{}", proxy.port())));
    is_refused(proxy.address()).await;
    proxy.set_upstream(listener.local_addr().unwrap().to_string());
    let rig = Rig { proxy, listener };
    rig.pair().await;
}

#[tokio::test]
async fn a_server_that_is_gone_ends_its_connections_and_refuses_new_ones() {
    let rig = Rig::new().await;
    let mut pair = rig.pair().await;
    drop((rig.listener, pair.server));
    assert_eq!(in_time(pair.client.read_u8()).await.unwrap_err().kind(), ErrorKind::UnexpectedEof);
    is_refused(rig.proxy.address()).await;
}

#[tokio::test]
async fn nothing_outlives_the_handle() {
    let rig = Rig::new().await;
    let mut pair = rig.pair().await;
    rig.proxy.stall();
    let address = rig.proxy.address().to_owned();
    drop(rig.proxy);
    assert!(in_time(pair.client.read_u8()).await.is_err());
    assert!(in_time(pair.server.read_u8()).await.is_err());
    assert!(TcpStream::connect(address).await.is_err());
}
