//! What becomes of publishes that a server has and does not answer: told apart from what it never had, and never taken
//! after what came later.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use ductape_core::config::{ProviderConfig, RedisConfig};
use ductape_core::error::Retry;
use ductape_core::message::{Attributes, IdSource};
use ductape_core::{
    Broker, Clock, ConnectOptions, Destination, ErrorKind, Message, Position, Provider, Publisher, Result,
};
use ductape_redis::RedisProvider;
use futures_util::join;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};

const LIMIT: Duration = Duration::from_millis(400);
const DEADLINE: Duration = Duration::from_secs(20);

/// A server that answers an `XADD` only where its payload ends in `!`, and tells of each. Its connections end with it.
struct Server {
    port: u16,
    told: mpsc::UnboundedReceiver<String>,
    _running: JoinSet<()>,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (tell, told) = mpsc::unbounded_channel();
        let mut running = JoinSet::new();
        running.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, tell.clone()));
            }
        });
        Server { port, told, _running: running }
    }

    async fn has(&mut self, payload: &str) {
        let told = tokio::time::timeout(DEADLINE, self.told.recv()).await.expect("it comes");
        assert_eq!(told.as_deref(), Some(payload));
    }

    async fn broker(&self) -> Arc<dyn Broker> {
        let config =
            RedisConfig { host: Some("127.0.0.1".into()), port: Some(self.port), ..RedisConfig::default() };
        let options = ConnectOptions { request_timeout: LIMIT, ..ConnectOptions::default() };
        RedisProvider.connect(&ProviderConfig::Redis(config), &options).await.unwrap()
    }
}

/// Answers what a client asks at its beginning, and publishes as they are.
async fn serve(stream: TcpStream, tell: mpsc::UnboundedSender<String>) {
    let (from, mut to) = stream.into_split();
    let mut from = BufReader::new(from);
    while let Some(command) = read(&mut from).await {
        let payload = command.last().cloned().unwrap_or_default();
        let answer = match command.first().map(String::as_str) {
            Some("XADD") => {
                // The test may have ended.
                let _ = tell.send(payload.clone());
                if payload.ends_with('!') { "$3\r\n1-1\r\n" } else { "" }
            }
            Some("PING") => "+PONG\r\n",
            Some("CONFIG") => "*0\r\n",
            _ => "+OK\r\n",
        };
        if to.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// A command: an array of strings. None at the end.
async fn read(from: &mut (impl AsyncBufReadExt + Unpin)) -> Option<Vec<String>> {
    let mut command = Vec::new();
    for _ in 0..length(from).await? {
        let mut text = vec![0; length(from).await? + 2];
        from.read_exact(&mut text).await.ok()?;
        text.truncate(text.len() - 2);
        command.push(String::from_utf8_lossy(&text).into_owned());
    }
    Some(command)
}

async fn length(from: &mut (impl AsyncBufReadExt + Unpin)) -> Option<usize> {
    let mut line = String::new();
    from.read_line(&mut line).await.ok()?;
    line.get(1..)?.trim().parse().ok()
}

fn message(payload: &str) -> Vec<Message> {
    let attributes = Attributes { source: "/t".into(), event: "a:b".into(), content_type: "x".into() };
    let now = Clock::system().now();
    let mut message = Message::new(payload.to_owned(), IdSource::new().next(now), now, Arc::new(attributes));
    message.key = Some("k".into());
    vec![message]
}

async fn publisher(broker: &Arc<dyn Broker>) -> Arc<dyn Publisher> {
    broker.publisher(&Destination::new("orders", "billing")).await.unwrap()
}

/// Publishes on a task of its own.
fn sent(publisher: &Arc<dyn Publisher>, payload: &'static str) -> JoinHandle<Result<Position>> {
    let publisher = Arc::clone(publisher);
    tokio::spawn(async move { publisher.publish(message(payload)).await.remove(0) })
}

#[tokio::test]
async fn what_comes_after_a_publish_without_answer_goes_once_nothing_before_it_is_under_way() {
    let mut server = Server::start().await;
    let broker = server.broker().await;
    let publisher = publisher(&broker).await;
    let first = sent(&publisher, "a");
    server.has("a").await;
    // tidy: sleeps because the second is to be given up later than the first, by the clock.
    tokio::time::sleep(LIMIT / 2).await;
    let second_ended = AtomicBool::new(false);
    let second = async {
        let result = publisher.publish(message("b")).await.remove(0);
        second_ended.store(true, Ordering::SeqCst);
        result.unwrap_err()
    };
    let third = async {
        let error = first.await.unwrap().unwrap_err();
        assert_eq!((error.kind(), error.retry()), (ErrorKind::Timeout, Retry::Uncertain), "{error}");
        assert!(!second_ended.load(Ordering::SeqCst), "it is still under way");
        publisher.publish(message("c!")).await.remove(0)
    };
    let seen = async {
        server.has("b").await;
        server.has("c!").await;
        assert!(second_ended.load(Ordering::SeqCst), "the server may take what it has not answered later");
    };
    let (second, third, ()) = join!(second, third, seen);
    assert!(second.is_uncertain(), "{second}");
    third.unwrap();
}

#[tokio::test]
async fn what_a_server_has_when_the_broker_closes_is_uncertain() {
    let mut server = Server::start().await;
    let broker = server.broker().await;
    let publisher = publisher(&broker).await;
    let sent = sent(&publisher, "a");
    server.has("a").await;
    broker.close().await.unwrap();
    drop(server);
    let error = sent.await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.retry()), (ErrorKind::Closed, Retry::Uncertain), "{error}");
    let late = publisher.publish(message("b")).await.remove(0).unwrap_err();
    assert_eq!((late.kind(), late.retry()), (ErrorKind::Closed, Retry::Never), "{late}");
}
