//! The seed of it all: a broker, a topic, a subscriber, a message.
//!
//! `cargo run --example quickstart`

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use ductape::{Ductape, Publish, Result, Subscribe};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Order {
    order_id: String,
    customer_id: String,
    total: f64,
}

const CATALOGUE: &str = "
product: my-product
brokers:
  - name: Order Events
    tag: order-events
    description: Handles all order-related messages
    envs:
      - { slug: dev, type: MEMORY, config: {} }
    topics:
      - name: New Orders
        tag: order-events:new-orders
        sample: { orderId: '12345', customerId: cust_789, total: 99.99 }
";

#[tokio::main]
async fn main() -> Result<()> {
    let ductape = Ductape::yaml(CATALOGUE)?.build().await?;

    let (done, mut handled) = mpsc::channel(1);
    let subscribe = Subscribe::new("order-events:new-orders").concurrency(4);
    let handler = move |order: Order| {
        let done = done.clone();
        async move {
            println!("Received order: {order:?}");
            done.send(order.order_id).await
        }
    };
    let subscription = ductape.broker().subscribe(subscribe, handler).await?;

    let order = Order { order_id: "12345".into(), customer_id: "cust_789".into(), total: 99.99 };
    let publish = Publish::new("order-events:new-orders").message(&order)?.key(&order.customer_id);
    let receipt = ductape.broker().publish(publish).await?;
    println!("Published {} at position {}", receipt.id, receipt.position);

    assert_eq!(handled.recv().await.as_deref(), Some("12345"));
    let stats = subscription.stop().await?;
    println!("Handled {} and stopped", stats.acked);
    ductape.close().await
}
