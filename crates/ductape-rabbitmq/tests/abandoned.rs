//! A caller may go away while its messages are still to be written: nobody else's are lost, held up or overtaken by it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use ductape_core::config::RabbitMqConfig;
use ductape_core::{Broker, ConsumerOptions, Destination, Message, Publisher};
use ductape_testkit::servers::{Proxy, Server};
use futures_util::poll;
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::{acks, connect, destination, message, text};

const PATIENCE: Duration = Duration::from_secs(30);
const MIB: usize = 1024 * 1024;
/// How fast the network is while publishes are given up.
const RATE: u64 = 24 * MIB as u64;

/// A server, and a network before it that has more to carry than it can at once.
struct Rig {
    server: Arc<Server>,
    proxy: Proxy,
    broker: Arc<dyn Broker>,
}

impl Rig {
    /// Nothing where the test is skipped, which is said.
    async fn new(test: &str) -> Option<Rig> {
        let server = support::shared(test).await?;
        let proxy = Proxy::start(&server.endpoint().address).unwrap();
        let config = RabbitMqConfig { port: Some(proxy.port()), ..support::config(server.endpoint()) };
        let broker = connect(&config, PATIENCE).await.unwrap();
        Some(Rig { server, proxy, broker })
    }

    /// A publisher that has published.
    async fn publisher(&self, destination: &Destination) -> Arc<dyn Publisher> {
        self.broker.ensure(destination).await.unwrap();
        let publisher = self.broker.publisher(destination).await.unwrap();
        publish(&publisher, "first").await;
        publisher
    }

    /// Publishes more than can be written at once, and goes away.
    async fn give_up_on(&self, publisher: &Arc<dyn Publisher>) {
        self.proxy.rate(RATE);
        let mut given_up = publisher.publish(many());
        assert!(poll!(&mut given_up).is_pending());
    }
}

async fn publish(publisher: &Arc<dyn Publisher>, payload: &'static str) {
    let result = publisher.publish(vec![message(payload)]).await.pop().unwrap();
    result.unwrap_or_else(|error| panic!("{payload}: {error:?}"));
}

/// More than what all buffers on the way to the server hold.
fn many() -> Vec<Message> {
    (0..24).map(|_| message(vec![b'x'; 2 * MIB])).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publish_that_is_given_up_disturbs_no_other() {
    let Some(rig) = Rig::new("a publish that is given up disturbs no other").await else { return };
    let publisher = rig.publisher(&destination("abandoned")).await;
    let beside = rig.publisher(&destination("beside")).await;
    let connections = rig.proxy.connections();
    rig.give_up_on(&publisher).await;
    tokio::join!(publish(&beside, "beside"), publish(&publisher, "later"));
    tokio::join!(publish(&beside, "beside again"), publish(&publisher, "later again"));
    assert_eq!(rig.proxy.connections(), connections, "it was connected anew");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_follows_a_publish_that_is_given_up_overtakes_nothing() {
    let Some(rig) = Rig::new("what follows a publish that is given up overtakes nothing").await else {
        return;
    };
    let destination = destination("abandoned");
    let publisher = rig.publisher(&destination).await;
    let connections = rig.proxy.connections();
    rig.proxy.rate(RATE);
    let mut given_up = publisher.publish(many());
    assert!(poll!(&mut given_up).is_pending());
    let mut earlier = Box::pin(publish(&publisher, "earlier"));
    assert!(poll!(&mut earlier).is_pending());
    drop(given_up);
    tokio::join!(earlier, publish(&publisher, "later"));
    assert_eq!(rig.proxy.connections(), connections, "it was connected anew");

    let direct = connect(&support::config(rig.server.endpoint()), PATIENCE).await.unwrap();
    let consumer = direct.consumer(&destination, &ConsumerOptions::new("readers")).await.unwrap();
    let (start, mut got) = (Instant::now(), Vec::new());
    while got.len() < 3 {
        assert!(start.elapsed() < PATIENCE, "{got:?}");
        let deliveries = consumer.receive(32, Duration::from_secs(1)).await.unwrap();
        got.extend(deliveries.iter().map(text).filter(|text| text.len() < MIB));
        consumer.settle(acks(&deliveries)).await.into_iter().for_each(|result| result.unwrap());
    }
    assert_eq!(got, ["first", "earlier", "later"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_that_goes_away_with_its_publish_leaves_the_others_their_connection() {
    let test = "a publisher that goes away with its publish leaves the others their connection";
    let Some(rig) = Rig::new(test).await else { return };
    let beside = rig.publisher(&destination("beside")).await;
    let publisher = rig.publisher(&destination("abandoned")).await;
    let connections = rig.proxy.connections();
    rig.give_up_on(&publisher).await;
    drop(publisher);
    // Behind all of it, so that what the server makes of the rest is known by then.
    publish(&beside, "beside").await;
    publish(&beside, "beside again").await;
    assert_eq!(rig.proxy.connections(), connections, "it was connected anew");
}
