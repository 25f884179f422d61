//! A server that is short of memory takes no publishes, says why, and everything else goes on.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use ductape_core::{ConsumerOptions, ErrorKind};
use ductape_testkit::servers::{self, Kind, Options, Server};
use std::io::Write;
use std::time::{Duration, Instant};
use support::{connect, message, take};

const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn a_server_short_of_memory_says_so_to_publishers_and_still_takes_verdicts() {
    let server = match servers::own(Kind::RabbitMq, Options::default()).await {
        Ok(server) => server,
        Err(why) => {
            return why.skip("a server short of memory says so to publishers and still takes verdicts");
        }
    };
    let config = support::config(server.endpoint());
    let limit = Duration::from_secs(5);
    let destination = support::destination("short");
    let broker = connect(&config, PATIENCE).await.unwrap();
    broker.ensure(&destination).await.unwrap();
    let publisher = broker.publisher(&destination).await.unwrap();
    let batch = (0..50).map(|n| message(format!("{n}"))).collect();
    publisher.publish(batch).await.into_iter().for_each(|result| drop(result.unwrap()));
    broker.close().await.unwrap();
    restart_short_of_memory(&server).await;

    let broker = connect(&config, limit).await.unwrap();
    let publisher = broker.publisher(&destination).await.unwrap();
    let first = publisher.publish(vec![message("first")]).await.pop().unwrap().unwrap_err();
    assert_eq!(first.kind(), ErrorKind::DestinationFull, "{first}");
    assert!(first.is_uncertain() && first.to_string().contains("memory"), "{first}");
    let start = Instant::now();
    let second = publisher.publish(vec![message("second"), message("third")]).await;
    let took = start.elapsed();
    assert!(took >= limit && took < limit * 2, "{took:?}");
    for error in second.into_iter().map(Result::unwrap_err) {
        assert_eq!(error.kind(), ErrorKind::DestinationFull, "{error}");
        assert!(error.is_retryable() && !error.is_uncertain(), "nothing of it was sent: {error}");
        assert!(error.to_string().contains("memory"), "{error}");
    }
    // Reading goes on, on the same broker.
    broker.ping().await.unwrap();
    let consumer = broker.consumer(&destination, &ConsumerOptions::new("readers")).await;
    let consumer = consumer.unwrap_or_else(|error| panic!("{error}\n{}", server.log()));
    assert!(take(&consumer, 50).await.len() >= 50);
    assert_eq!(broker.inspect(&destination).await.unwrap().groups[0].lag, Some(0));
    broker.close().await.unwrap();
}

/// Adds to the server's configuration, which the launcher writes into the folder that holds its `tls`, and starts it anew.
async fn restart_short_of_memory(server: &Server) {
    let ca = server.endpoint().ca_file.clone().unwrap();
    let file = ca.ancestors().nth(2).unwrap().join("rabbitmq.conf");
    let mut file = std::fs::OpenOptions::new().append(true).open(&file).unwrap();
    writeln!(file, "vm_memory_high_watermark.absolute = 1MB").unwrap();
    // In good order: a server that is killed within moments of a queue's making may forget the queue's messages.
    server.stop().await.unwrap();
    server.restart().await.unwrap();
}
