//! Outages under traffic: departures are published and handled by their keys while a server or the network goes away
//! and comes back, and in the end each was handled, in its key's order.
//!
//! ```no_run
//! use ductape_testkit::outage::{self, Traffic};
//! use ductape_testkit::servers::{Kind, Options, own};
//! # async fn test(provider: impl ductape_core::Provider, config: serde_json::Value, file: &str) {
//! let server = own(Kind::Redis, Options::default()).await.unwrap();
//! let client = outage::service(provider, "REDIS", config, std::time::Duration::from_secs(10)).await;
//! Traffic::new(client, outage::departures(file, 20_000)).outlives_kills_while_published(&server).await;
//! # }
//! ```
//!
//! What does not hold ends in a panic, as in any test.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use crate::servers::{Proxy, Server};
use ductape_core::client::{Client, NewMessage, Subscribe};
use ductape_core::{ConnectOptions, Delivery, Provider, RetryPolicy, Subscription};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

const EVENT: &str = "airport:departures";
/// The most messages of one publish.
const BATCH: usize = 256;
/// By then what is waited for has come, or something is wrong.
const DEADLINE: Duration = Duration::from_secs(180);
/// Tells a process that it is the member to be killed; its value leads it to the server.
const MEMBER: &str = "DUCTAPE_TEST_MEMBER_OF";

/// The texts of each key, in their order: `KEY NUMBER`.
pub type Departures = BTreeMap<String, VecDeque<String>>;

/// So many departures by tail number, of a file with one departure a line, over and over.
pub fn departures(file: &str, count: usize) -> Departures {
    let tail = |line: &str| {
        let flight: Value = serde_json::from_str(line).unwrap();
        flight["tailNumber"].as_str().unwrap_or("none").to_owned()
    };
    let tails: Vec<String> = file.lines().map(tail).collect();
    let mut departures = Departures::new();
    for tail in tails.iter().cycle().take(count) {
        let of_tail = departures.entry(tail.clone()).or_default();
        of_tail.push_back(format!("{tail} {}", of_tail.len()));
    }
    departures
}

/// A client with one ordered topic on this provider, whose calls end within this time.
pub async fn service(
    provider: impl Provider,
    kind: &str,
    config: Value,
    request_timeout: Duration,
) -> Client {
    let catalogue = json!({
        "product": "delay-board",
        "brokers": [{
            "name": "Airport",
            "tag": "airport",
            "envs": [{ "slug": "test", "type": kind, "config": config }],
            "topics": [{ "name": "Departures", "tag": "departures", "ordered": true }],
        }],
    });
    let options = ConnectOptions { request_timeout, ..ConnectOptions::default() };
    let client = Client::memory(serde_json::from_value(catalogue).unwrap()).provider(provider);
    client.connect_options(options).env("test").build().await.unwrap()
}

/// Departures on their way through a service.
pub struct Traffic {
    client: Client,
    all: Departures,
    book: Book,
    /// How many the server took.
    taken: watch::Sender<usize>,
    /// The last error of a publish, with what it may say of the cause where they do not go on.
    refused: watch::Sender<Option<String>>,
}

impl Traffic {
    /// These departures, none of them published yet.
    pub fn new(client: Client, all: Departures) -> Self {
        let (taken, refused) = (watch::Sender::new(0), watch::Sender::new(None));
        Traffic { client, all, book: Book::default(), taken, refused }
    }

    fn count(&self) -> usize {
        self.all.values().map(VecDeque::len).sum()
    }

    /// The server is killed twice while they are published and handled.
    pub async fn outlives_kills_while_published(&self, server: &Server) {
        let breaking = async {
            for third in [1, 2] {
                self.until_taken(self.count() * third / 3, || server.log()).await;
                server.kill().await.unwrap();
                server.restart().await.unwrap();
            }
        };
        self.outlives(breaking).await;
    }

    /// The server is killed twice while they are handled, all of them published before.
    pub async fn outlives_kills_while_handled(&self, server: &Server) {
        self.publish().await;
        let subscription = handle_into(&self.client, &self.book).await;
        for third in [1, 2] {
            self.book.wait_for(self.count() * third / 3).await;
            server.kill().await.unwrap();
            server.restart().await.unwrap();
        }
        self.end(subscription).await;
    }

    /// Connections are cut five times.
    pub async fn outlives_cuts(&self, proxy: &Proxy) {
        let breaking = async {
            for tenth in [1, 3, 5, 7, 9] {
                self.until_taken(self.count() * tenth / 10, String::new).await;
                proxy.cut();
            }
        };
        self.outlives(breaking).await;
    }

    /// The network says nothing for a while, and later loses the answers of the server for as long, without that a
    /// connection is closed. `silence` is longer than any call may take, and than a lease or session lasts.
    pub async fn outlives_stalls(&self, proxy: &Proxy, silence: Duration) {
        let breaking = async {
            self.until_taken(self.count() / 3, String::new).await;
            proxy.stall();
            // tidy: sleeps because the network is to be away for just so long.
            tokio::time::sleep(silence).await;
            proxy.resume();
            self.until_taken(self.count() * 2 / 3, String::new).await;
            proxy.drop_answers();
            // tidy: sleeps because answers are to be lost for just so long.
            tokio::time::sleep(silence).await;
            proxy.resume();
            // What came with a gap is no connection any more.
            proxy.cut();
        };
        self.outlives(breaking).await;
    }

    /// A process that handles them is killed in the middle of its work, and another goes on. The process is this
    /// program's test `member`, which calls [`be_the_member`]; `told` leads it to the server.
    pub async fn outlives_a_member(&self, member: &'static str, told: String) {
        self.publish().await;
        let third = self.count() / 3;
        let handled = tokio::task::spawn_blocking(move || handled_by_a_member(member, &told, third));
        let handled = handled.await.unwrap();
        assert!(
            (third..self.count()).contains(&handled.len()),
            "{} handled by the member before its end",
            handled.len()
        );
        handled.into_iter().for_each(|text| self.book.write(text));
        let subscription = handle_into(&self.client, &self.book).await;
        self.end(subscription).await;
    }

    async fn outlives(&self, breaking: impl Future<Output = ()>) {
        let subscription = handle_into(&self.client, &self.book).await;
        tokio::join!(self.publish(), breaking);
        self.end(subscription).await;
    }

    /// Waits until all are handled, and looks at what was.
    async fn end(&self, subscription: Subscription) {
        self.book.wait_for(self.count()).await;
        subscription.stop().await.unwrap();
        self.book.check(&self.all);
    }

    /// Waits until so many are taken; what the server said is told where they are not.
    async fn until_taken(&self, count: usize, server: impl Fn() -> String) {
        let mut taken = self.taken.subscribe();
        let enough = tokio::time::timeout(DEADLINE, taken.wait_for(|taken| *taken >= count)).await.is_ok();
        let (now, refused) = (*self.taken.borrow(), self.refused.borrow().clone());
        assert!(
            enough,
            "{count} departures published; after {DEADLINE:?} it is {now}; last error: {refused:?}\n{}",
            server()
        );
    }

    /// Publishes all of them, each until it is taken, and one of a key only after the one before it.
    async fn publish(&self) {
        let mut left = self.all.clone();
        while !left.is_empty() {
            let keys: Vec<_> = left.keys().take(BATCH).cloned().collect();
            let messages = keys.iter().map(|key| NewMessage::raw(left[key][0].clone()).key(key.clone()));
            let results = match self.client.broker().publisher(EVENT, None).await {
                Ok(publisher) => publisher.publish_batch(messages.collect::<Vec<_>>()).await,
                Err(error) => vec![Err(error)],
            };
            for (key, _) in keys.iter().zip(&results).filter(|(_, result)| result.is_ok()) {
                let of_key = left.get_mut(key).unwrap();
                of_key.pop_front();
                if of_key.is_empty() {
                    left.remove(key);
                }
                self.taken.send_modify(|taken| *taken += 1);
            }
            let errors: Vec<_> = results.iter().filter_map(|result| result.as_ref().err()).collect();
            for error in &errors {
                assert!(error.is_retryable() || error.is_uncertain(), "an outage is no refusal: {error}");
            }
            if let Some(first) = errors.first() {
                self.refused.send_replace(Some(format!("{first}, of {} in a batch", errors.len())));
                // tidy: sleeps because a service that is refused waits a little before it tries again.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

/// Handles departures, and writes each down.
async fn handle_into(client: &Client, book: &Book) -> Subscription {
    let book = book.clone();
    subscribe(client, move |text| book.write(text)).await
}

async fn subscribe(client: &Client, handle: impl Fn(String) + Send + Sync + 'static) -> Subscription {
    let apart = Duration::from_millis(20);
    let quick = RetryPolicy { attempts: 50, initial: apart, factor: 1.0, max: apart, jitter: 0.0 };
    let subscribe = Subscribe::new(EVENT).retry(quick).max_in_flight(1000);
    let handler = move |delivery: Delivery| {
        handle(String::from_utf8_lossy(&delivery.message.payload).into_owned());
        async {}
    };
    client.broker().subscribe(subscribe, handler).await.unwrap()
}

/// Runs this program as a member, kills it in the middle of its work, and returns what it said that it handled.
fn handled_by_a_member(test: &str, told: &str, count: usize) -> Vec<String> {
    let mut member = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env(MEMBER, told)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(member.stdout.take().unwrap()).lines();
    let mut handled = Vec::new();
    for line in lines.map_while(Result::ok) {
        handled.extend(line.strip_prefix("handled ").map(str::to_owned));
        if handled.len() == count {
            // SIGKILL. What it said until then is read yet.
            member.kill().unwrap();
        }
    }
    member.wait().unwrap();
    handled
}

/// What leads this process to the server, where it is the member that [`Traffic::outlives_a_member`] kills.
pub fn member_of() -> Option<String> {
    std::env::var(MEMBER).ok()
}

/// Handles departures and says so, until this process is killed.
pub async fn be_the_member(client: &Client) {
    // Said in the handler, and so before it is acknowledged: what was acknowledged and not said would be missed.
    let say = |text| writeln!(std::io::stdout().lock(), "handled {text}").unwrap();
    let _subscription = subscribe(client, say).await;
    std::future::pending().await
}

/// What was handled, in the order it was.
#[derive(Clone, Default)]
struct Book(Arc<watch::Sender<Vec<String>>>);

impl Book {
    fn write(&self, text: String) {
        self.0.send_modify(|handled| handled.push(text));
    }

    fn entries(&self) -> Vec<String> {
        self.0.borrow().clone()
    }

    /// Waits until so many different ones were handled.
    async fn wait_for(&self, count: usize) {
        let mut handled = self.0.subscribe();
        let different = |handled: &[String]| handled.iter().collect::<HashSet<_>>().len();
        // Counting them all is dear, so only where there may be enough.
        let enough = handled.wait_for(|handled| handled.len() >= count && different(handled) >= count);
        let ended = tokio::time::timeout(DEADLINE, enough).await.is_ok();
        assert!(ended, "{count} departures handled; after {DEADLINE:?} it is {}", different(&self.entries()));
    }

    /// Every departure was handled, and none before the one before it of its key.
    fn check(&self, departures: &Departures) {
        let mut next: BTreeMap<String, usize> = BTreeMap::new();
        for text in self.entries() {
            let (key, number) = text.rsplit_once(' ').unwrap();
            let (number, next) = (number.parse::<usize>().unwrap(), next.entry(key.to_owned()).or_default());
            assert!(number <= *next, "{text} came before {key} {next}");
            *next = (*next).max(number + 1);
        }
        for (key, texts) in departures {
            assert_eq!(next.get(key), Some(&texts.len()), "departures handled of {key}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> Departures {
        departures("{\"tailNumber\":\"N1\"}\n{\"tailNumber\":null}", 3)
    }

    fn handled(texts: &[&str]) -> Book {
        let book = Book::default();
        texts.iter().for_each(|text| book.write((*text).to_owned()));
        book
    }

    #[test]
    fn departures_are_numbered_by_their_key() {
        assert_eq!(three()["N1"], ["N1 0", "N1 1"]);
        assert_eq!(three()["none"], ["none 0"]);
    }

    #[test]
    fn what_came_again_is_no_fault() {
        handled(&["N1 0", "none 0", "N1 1", "N1 0", "N1 1"]).check(&three());
    }

    #[test]
    #[should_panic = "N1 1 came before N1 0"]
    fn a_departure_before_an_earlier_one_of_its_key_is_found() {
        handled(&["N1 1", "N1 0", "none 0"]).check(&three());
    }

    #[test]
    #[should_panic = "departures handled of N1"]
    fn a_departure_that_is_lost_is_found() {
        handled(&["N1 0", "none 0"]).check(&three());
    }
}
