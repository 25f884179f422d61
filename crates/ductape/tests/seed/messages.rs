//! Publishing, with and without a session, and subscribing.

use crate::fixture::{Format, Service};
use ductape::{Delivery, Ductape, ErrorKind, Publish};
use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::sync::mpsc;

const DEADLINE: Duration = Duration::from_secs(10);
const SECRET: &str = "a-secret-of-the-issuer-32-bytes!";

/// Written so that it is JSON and YAML.
fn session() -> String {
    format!(r#"{{ "tag": "user-session", "algorithm": "HS256", "secret": "{SECRET}", "subject": "userId" }}"#)
}

/// What a login service gives its user.
fn token() -> String {
    // One of the two tests was first.
    let _ = jsonwebtoken::crypto::rust_crypto::DEFAULT_PROVIDER.install_default();
    let claims = json!({ "userId": "user-42", "exp": 4_102_444_800_u64 });
    jsonwebtoken::encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap()
}

async fn service(format: Format) -> Service {
    let service = Service::new(format, &session()).await;
    service.ductape.broker().create(format.read("broker-create")).await.unwrap();
    service.ductape.broker().topic().create(format.read("topic-create")).await.unwrap();
    service
}

/// Subscribes as the example does; what is handled comes out of the channel.
async fn subscribed(
    ductape: &Ductape,
    format: Format,
) -> (ductape::Subscription, mpsc::Receiver<(Value, Delivery)>) {
    let (done, handled) = mpsc::channel(16);
    let callback = move |message: Value, delivery: Delivery| {
        let done = done.clone();
        async move { done.send((message, delivery)).await }
    };
    (ductape.broker().subscribe(format.read("subscribe"), callback).await.unwrap(), handled)
}

async fn next<T>(handled: &mut mpsc::Receiver<T>) -> T {
    tokio::time::timeout(DEADLINE, handled.recv()).await.expect("in time").expect("a message")
}

#[tokio::test]
async fn what_is_published_as_written_is_received_as_written() {
    for format in Format::BOTH {
        let service = service(format).await;
        let (subscription, mut handled) = subscribed(&service.ductape, format).await;
        let receipt = service.ductape.broker().publish(format.read("publish")).await.unwrap();

        let (message, delivery) = next(&mut handled).await;
        let expected = json!({
            "orderId": "12345", "customerId": "cust_789", "total": 99.99, "createdAt": "2024-01-15T10:30:00.000Z",
        });
        assert_eq!(message, expected, "{format:?}");
        assert_eq!(
            &delivery.message.payload[..],
            expected.to_string().as_bytes(),
            "plain JSON, in the order written"
        );
        assert_eq!(delivery.message.id, receipt.id);
        let message = &delivery.message;
        assert_eq!((message.event(), message.source()), ("order-events:new-orders", "/my-product"));
        assert_eq!(subscription.stop().await.unwrap().acked, 1);
    }
}

#[tokio::test]
async fn the_config_names_the_destination_and_the_group() {
    let service = service(Format::Json).await;
    let (subscription, _handled) = subscribed(&service.ductape, Format::Json).await;
    let route =
        service.ductape.route(Some("my-product"), "order-events:new-orders", Some("prd")).await.unwrap();
    assert_eq!(&*route.destination.name, "orders");
    let seen = service.ductape.inspect("order-events:new-orders", Some("prd")).await.unwrap();
    let groups: Vec<_> = seen.destination.groups.iter().map(|group| group.name.as_str()).collect();
    assert_eq!(groups, ["order-consumers"]);
    subscription.stop().await.unwrap();
}

#[tokio::test]
async fn the_same_calls_in_another_env_reach_another_provider() {
    let service = service(Format::Yaml).await;
    let (prd, mut in_prd) = subscribed(&service.ductape, Format::Yaml).await;
    let publish: Publish = Format::Yaml.read("publish");
    service.ductape.broker().publish(publish.clone().env("dev")).await.unwrap();
    let receipt = service.ductape.broker().publish(publish).await.unwrap();
    assert_eq!(next(&mut in_prd).await.1.message.id, receipt.id, "what went to `dev` is not in `prd`");
    prd.stop().await.unwrap();
    let dev = service.ductape.inspect("order-events:new-orders", Some("dev")).await.unwrap();
    assert_eq!(dev.destination.groups[0].lag, Some(1), "it waits in `dev` for who subscribes there");
}

#[tokio::test]
async fn a_session_is_verified_and_its_subject_travels() {
    for format in Format::BOTH {
        let service = service(format).await;
        let (subscription, mut handled) = subscribed(&service.ductape, format).await;
        let mut publish: Value = format.read("publish-session");
        publish["session"]["token"] = token().into();
        let publish: Publish = serde_json::from_value(publish).unwrap();
        service.ductape.broker().publish(publish).await.unwrap();

        let (message, delivery) = next(&mut handled).await;
        assert_eq!(message, json!({ "orderId": "12345", "action": "created" }));
        let session = delivery.message.session().unwrap();
        assert_eq!((&*session.tag, &*session.subject), ("user-session", "user-42"));
        assert!(!format!("{delivery:?}").contains(&token()), "the token does not travel");
        subscription.stop().await.unwrap();
    }
}

#[tokio::test]
async fn the_examples_own_token_is_cut_short_and_refused() {
    for format in Format::BOTH {
        let service = service(format).await;
        let error = service.ductape.broker().publish(format.read("publish-session")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::SessionInvalid);
        assert_eq!(error.message(), "the session token is malformed: it has not three parts");
        let seen = service.ductape.inspect("order-events:new-orders", Some("prd")).await.unwrap();
        assert_eq!(seen.destination.groups[0].lag, Some(0), "nothing was published");
    }
}
