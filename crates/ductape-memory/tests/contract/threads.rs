//! Many publishers and consumers at once, on several threads.

use crate::rig::*;
use ductape_core::config::MemoryConfig;
use ductape_core::{Consumer, Delivery, Settlement, Start, Verdict};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const KEYS: usize = 7;
const PUBLISHERS: usize = 4;
const EACH: usize = 2500;
const ALL: usize = PUBLISHERS * EACH;

/// What was acknowledged: how many, and how many of each key.
#[derive(Default)]
struct Ledger {
    count: usize,
    keys: HashMap<String, usize>,
}

/// Members that retry, release and leave in the middle, on two threads, past a bound that makes publishers
/// wait: nothing is lost, nothing comes again after its ack, and no key leaves its order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_threads_lose_nothing_and_keep_the_order_of_every_key() {
    let rig = Arc::new(Rig::with(MemoryConfig { max_messages: 300, ..MemoryConfig::default() }).await);
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let members: Vec<_> =
        (0..3).map(|seed| tokio::spawn(consume(rig.clone(), ledger.clone(), seed))).collect();
    let publishers: Vec<_> = (0..PUBLISHERS).map(|p| tokio::spawn(publish(rig.clone(), p))).collect();
    for task in publishers.into_iter().chain(members) {
        within(task).await.unwrap();
    }
    assert_eq!(ledger.lock().unwrap().count, ALL);
    let inspection = rig.broker.inspect(&rig.destination).await.unwrap();
    assert_eq!(
        (inspection.messages, inspection.bytes, inspection.groups[0].lag),
        (Some(0), Some(0), Some(0))
    );
}

/// The n-th message of a key says n.
async fn publish(rig: Arc<Rig>, publisher: usize) {
    let handle = rig.publisher().await;
    for chunk in (0..EACH).collect::<Vec<_>>().chunks(50) {
        let one = |n: &usize| message(&format!("{publisher}.{}={}", n % KEYS, n / KEYS));
        let results = within(handle.publish(chunk.iter().map(one).collect())).await;
        assert!(results.iter().all(Result::is_ok), "{results:?}");
    }
}

async fn consume(rig: Arc<Rig>, ledger: Arc<Mutex<Ledger>>, seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut consumer = rig.member("billing", Start::Latest, 16).await;
    while ledger.lock().unwrap().count < ALL {
        let got = consumer.receive(16, Duration::from_millis(20)).await.unwrap();
        let settlements = handle(&got, &mut rng, &mut ledger.lock().unwrap());
        assert!(consumer.settle(settlements).await.iter().all(Result::is_ok));
        if rng.u8(..) < 5 {
            leave_with_deliveries(consumer).await;
            consumer = rig.member("billing", Start::Latest, 16).await;
        }
    }
}

async fn leave_with_deliveries(consumer: Arc<dyn Consumer>) {
    now(&consumer).await;
    drop(consumer);
}

/// Acknowledges in order until one of a key is put back; the later ones of that key then are too.
fn handle(got: &[Delivery], rng: &mut fastrand::Rng, ledger: &mut Ledger) -> Vec<Settlement> {
    let mut put_back = HashSet::new();
    let mut settlements: Vec<_> = got
        .iter()
        .map(|delivery| {
            let text = text(delivery);
            let (key, number) = text.split_once('=').unwrap();
            let verdict = match rng.u8(..10) {
                _ if put_back.contains(key) => Verdict::Release,
                0 => Verdict::Retry(Duration::ZERO),
                1 => Verdict::Release,
                _ => Verdict::Ack,
            };
            if verdict == Verdict::Ack {
                let next = ledger.keys.entry(key.to_owned()).or_default();
                assert_eq!(number, next.to_string(), "of the key {key}");
                *next += 1;
                ledger.count += 1;
            } else {
                put_back.insert(key.to_owned());
            }
            Settlement { token: delivery.token.clone(), verdict }
        })
        .collect();
    rng.shuffle(&mut settlements);
    settlements
}
