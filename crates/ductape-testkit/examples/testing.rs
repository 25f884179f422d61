//! Testing a service: its own catalogue and code on a broker to assert on, with a clock that the test moves.
//!
//! `cargo test -p ductape-testkit --example testing` runs the test below; with `run` the service itself, on SQLITE.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "an example shows what it does, and tests it")]

use ductape::{Builder, Ductape, Failure, Outcome, Publish, Result, Subscribe, Subscription};

const CATALOGUE: &str = "
product: shop
brokers:
  - name: Emails
    tag: emails
    envs: [{ slug: dev, type: SQLITE, config: { path: .ductape/emails.db } }]
    topics: [{ name: Welcome, tag: welcome }]
";

/// The service: it does not know what carries its messages.
async fn greet(ductape: &Ductape) -> Result<Subscription> {
    let handler = |address: String, delivery: ductape::Delivery| async move {
        match (address.contains('@'), delivery.attempt) {
            (false, _) => Err(Failure::reject("not an address")),
            (true, 1) => Err(Failure::retry("the mail server is busy")),
            (true, _) => Outcome::Ok(()),
        }
    };
    ductape.broker().subscribe(Subscribe::new("emails:welcome"), handler).await
}

async fn open(builder: Builder) -> Result<Ductape> {
    builder.env("dev").build().await
}

#[tokio::main]
async fn main() -> Result<()> {
    let ductape = open(Ductape::yaml(CATALOGUE)?).await?;
    let subscription = greet(&ductape).await?;
    let receipt =
        ductape.broker().publish(Publish::new("emails:welcome").message(&"ada@example.com")?).await?;
    println!("published {}; stopping", receipt.id);
    subscription.stop().await?;
    ductape.close().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use ductape::ProviderKind;
    use ductape_testkit::testing::TestBroker;
    use std::time::Duration;

    #[tokio::test]
    async fn a_busy_mail_server_is_tried_again_and_a_wrong_address_is_kept() {
        let test = TestBroker::in_place_of(ProviderKind::Sqlite);
        let builder = Ductape::yaml(CATALOGUE).unwrap().provider(test.provider());
        let ductape = open(builder.connect_options(test.connect_options())).await.unwrap();
        let subscription = greet(&ductape).await.unwrap();
        for address in ["ada@example.com", "nowhere"] {
            ductape
                .broker()
                .publish(Publish::new("emails:welcome").message(&address).unwrap())
                .await
                .unwrap();
        }

        let seen = test.until("a retry", |seen| seen.retried("emails:welcome").count() == 1).await;
        assert!(seen.acked("emails:welcome").next().is_none(), "nothing is done before its time");
        test.clock().advance(Duration::from_secs(2));
        let seen = test.until("an end", |seen| seen.acked("emails:welcome").count() == 1).await;

        assert_eq!(seen.acked("emails:welcome").next().unwrap().payload, r#""ada@example.com""#);
        let letters =
            test.until("a dead letter", |seen| seen.dead_lettered("emails:welcome").count() == 1).await;
        let letter = letters.dead_lettered("emails:welcome").next().unwrap();
        assert_eq!(&*letter.dead_letter().unwrap().reason, "not an address");
        subscription.stop().await.unwrap();
    }
}
