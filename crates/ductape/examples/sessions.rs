//! Publishing on behalf of a user: the token is verified at publish, and the subject travels with the message.
//!
//! `cargo run --example sessions`

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use ductape::{Ductape, ErrorKind, Publish, Result, Subscribe};
use jsonwebtoken::{EncodingKey, Header};
use serde_json::json;

/// In a real catalogue: `secret: "${SESSION_SECRET}"`.
const CATALOGUE: &str = "
product: shop
brokers:
  - name: Order Events
    tag: order-events
    envs: [{ slug: dev, type: MEMORY, config: {} }]
    topics: [{ name: New Orders, tag: new-orders }]
sessions:
  - { tag: user-session, algorithm: HS256, secret: an-example-of-thirty-two-bytes!!, subject: userId }
";
const SECRET: &[u8] = b"an-example-of-thirty-two-bytes!!";

/// What a login service would have given the user.
fn token(expires: u64) -> String {
    let claims = json!({ "userId": "user-42", "exp": expires });
    // Only this example signs; Ductape verifies.
    let provider = &jsonwebtoken::crypto::rust_crypto::DEFAULT_PROVIDER;
    let _ = provider.install_default();
    jsonwebtoken::encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET)).unwrap_or_default()
}

#[tokio::main]
async fn main() -> Result<()> {
    let ductape = Ductape::yaml(CATALOGUE)?.build().await?;
    let mut orders = ductape.broker().consume(Subscribe::new("order-events:new-orders")).await?;
    let publish = |token: String| {
        let order = json!({ "orderId": "12345", "action": "created" });
        Ok(Publish::new("order-events:new-orders").message(&order)?.session("user-session", token))
    };

    ductape.broker().publish(publish(token(4_102_444_800))?).await?;
    if let Some(order) = orders.next().await {
        let order = order?;
        println!("Session of the order: {:?}", order.message.session());
        assert_eq!(order.message.session().map(|session| &*session.subject), Some("user-42"));
        order.ack().await?;
    }

    let Err(error) = ductape.broker().publish(publish(token(1_000_000_000))?).await else {
        panic!("an expired token was taken");
    };
    println!("Refused: {error}");
    assert_eq!(error.kind(), ErrorKind::SessionInvalid);
    orders.close().await;
    ductape.close().await
}
