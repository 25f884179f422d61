//! Every call of the client can be made from a spawned task.

use ductape_core::catalogue::{BrokerPatch, Catalogue, NewBroker, NewTopic, TopicPatch};
use ductape_core::client::{Client, LetterFilter, NewMessage, Publish, Subscribe};
use ductape_core::{Delivery, Result};

fn spawns<T>(_: impl Future<Output = T> + Send) {}

#[expect(dead_code, reason = "that it compiles is the test")]
fn everything(client: Client, broker: NewBroker, topic: NewTopic, catalogue: Catalogue) {
    let all = async move {
        client.broker().create(broker).await?;
        client.broker().update("a", BrokerPatch::default()).await?;
        client.broker().fetch("a").await?;
        client.broker().apply(&catalogue, true).await?;
        client.broker().topic().create(topic).await?;
        client.broker().topic().update("a:b", TopicPatch::default()).await?;
        client.broker().publish(Publish::new("a:b")).await?;
        client.broker().publish_batch("a:b", None, [NewMessage::raw("x")]).await?;
        client.broker().subscribe(Subscribe::new("a:b"), |_: Delivery| async {}).await?.stop().await?;
        client.broker().consume(Subscribe::new("a:b")).await?.close().await;
        client.inspect("a:b", None).await?;
        Result::<()>::Ok(())
    };
    spawns(all);
}

#[expect(dead_code, reason = "that it compiles is the test")]
fn dead_letters(client: Client) {
    let all = async move {
        let letters = client.broker().dead_letters("a:b", None).await?;
        letters.list(1).await?;
        letters.show("x").await?;
        letters.redrive(LetterFilter::All).await?;
        letters.purge(LetterFilter::All).await?;
        letters.count().await
    };
    spawns(all);
}
