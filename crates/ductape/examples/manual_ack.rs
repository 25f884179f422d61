//! Settling by hand: a stream of deliveries, each acknowledged, tried again, given back or rejected.
//!
//! `cargo run --example manual_ack`

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use ductape::{Ductape, NewMessage, Result, Subscribe};
use std::time::Duration;

const CATALOGUE: &str = "
product: shop
brokers:
  - name: Payments
    tag: payments
    envs: [{ slug: dev, type: MEMORY, config: {} }]
    topics: [{ name: Received, tag: received }]
";

#[tokio::main]
async fn main() -> Result<()> {
    let ductape = Ductape::yaml(CATALOGUE)?.build().await?;
    let amounts = ["10", "-1", "later", "25"].map(NewMessage::raw);
    for receipt in ductape.broker().publish_batch("payments:received", None, amounts).await? {
        receipt?;
    }

    let mut payments = ductape.broker().consume(Subscribe::new("payments:received").max_in_flight(2)).await?;
    let mut sum = 0;
    let mut open = 4;
    while open > 0
        && let Some(payment) = payments.next().await
    {
        let payment = payment?;
        let text = String::from_utf8_lossy(&payment.message.payload).into_owned();
        match text.parse::<i64>() {
            Ok(amount) if amount < 0 => payment.reject("a payment is not negative").await?,
            Ok(amount) => {
                payment.ack().await?;
                sum += amount;
            }
            Err(_) if payment.attempt == 1 => {
                payment.retry_after(Duration::from_millis(10)).await?;
                continue;
            }
            Err(error) => payment.reject(error).await?,
        }
        open -= 1;
    }
    payments.close().await;

    println!("Sum of the payments: {sum}");
    assert_eq!(sum, 35);
    for letter in ductape.broker().dead_letters("payments:received", None).await?.list(10).await? {
        let reason = letter.dead_letter().map(|dead| dead.reason.to_string()).unwrap_or_default();
        println!("Dead letter {:?}: {reason}", letter.payload);
    }
    ductape.close().await
}
