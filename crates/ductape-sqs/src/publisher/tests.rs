//! The order of calls that wait for room.

use super::*;
use ductape_core::config::SqsConfig;
use ductape_core::message::{Attributes, IdSource};
use ductape_core::secret::Secret;
use ductape_core::{ConnectOptions, Timestamp};
use futures_util::poll;

async fn publisher(calls: mpsc::Sender<Vec<Waiting>>) -> SqsPublisher {
    let config = SqsConfig {
        region: "us-east-1".into(),
        access_key_id: Some("AKIDTEST".into()),
        secret_access_key: Some(Secret::from("of no server")),
        endpoint: Some("http://127.0.0.1:1".into()),
        ..SqsConfig::default()
    };
    let link = Arc::new(Link::new(&config, &ConnectOptions::default()).await);
    SqsPublisher { link, fifo: true, turns: Turns::default(), calls }
}

fn message(body: &'static str) -> Vec<Message> {
    let attributes = Attributes { source: "/s".into(), event: "a:b".into(), content_type: "x".into() };
    let time = Timestamp::from_micros(1);
    let mut message = Message::new(body, IdSource::new().next(time), time, Arc::new(attributes));
    message.key = Some("k".into());
    vec![message]
}

async fn next(queue: &mut mpsc::Receiver<Vec<Waiting>>) -> String {
    let waiting = queue.recv().await.unwrap().pop().unwrap();
    waiting.message.entry(0).unwrap().message_body
}

#[tokio::test]
async fn a_call_that_waits_for_room_is_not_overtaken_when_more_than_its_room_is_made() {
    let (calls, mut queue) = mpsc::channel(2);
    let publisher = publisher(calls).await;
    let publish = |body| Box::pin(publisher.publish(message(body)));
    let (mut first, mut second, mut a, mut b) = (publish("1"), publish("2"), publish("a"), publish("b"));
    for call in [&mut first, &mut second, &mut a] {
        assert!(poll!(call).is_pending());
    }
    assert_eq!(queue.len(), 2, "the third waits for room");
    assert_eq!((next(&mut queue).await, next(&mut queue).await), ("1".into(), "2".into()));
    assert!(poll!(&mut b).is_pending() && poll!(&mut a).is_pending() && poll!(&mut b).is_pending());
    assert_eq!((next(&mut queue).await, next(&mut queue).await), ("a".into(), "b".into()));
}
