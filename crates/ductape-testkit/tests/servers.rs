//! Each server that is installed here: started, asked, killed, started again on its data, stalled.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use ductape_testkit::servers::{self, Kind, Options, Server};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A server for one test; none, said aloud, where it is not installed.
async fn server(kind: Kind, test: &str) -> Option<Server> {
    match servers::own(kind, Options::default()).await {
        Ok(server) => Some(server),
        Err(why) => {
            why.skip(test);
            None
        }
    }
}

/// What Redis answers to inline commands, up to `end`.
async fn redis(server: &Server, commands: &str, end: &str) -> std::io::Result<String> {
    let endpoint = server.endpoint();
    let mut stream = TcpStream::connect(&endpoint.address).await?;
    let (user, password) = (endpoint.username.as_ref().unwrap(), endpoint.password.as_ref().unwrap());
    stream.write_all(format!("AUTH {user} {}\r\n{commands}\r\n", password.expose()).as_bytes()).await?;
    let mut answer = Vec::new();
    while !String::from_utf8_lossy(&answer).contains(end) {
        if stream.read_buf(&mut answer).await? == 0 {
            break;
        }
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[tokio::test]
async fn redis_keeps_what_it_took_when_it_is_killed() {
    let Some(server) = server(Kind::Redis, "redis_keeps_what_it_took_when_it_is_killed").await else {
        return;
    };
    assert_eq!(redis(&server, "SET key kept", "OK\r\n+OK").await.unwrap(), "+OK\r\n+OK\r\n");
    server.kill().await.unwrap();
    assert!(redis(&server, "PING", "PONG").await.is_err(), "it is gone");
    server.restart().await.unwrap();
    assert_eq!(redis(&server, "GET key", "kept\r\n").await.unwrap(), "+OK\r\n$4\r\nkept\r\n");
}

#[tokio::test]
async fn redis_stalls_and_goes_on() {
    let Some(server) = server(Kind::Redis, "redis_stalls_and_goes_on").await else { return };
    server.stall().await.unwrap();
    let ping = redis(&server, "PING", "PONG");
    tokio::pin!(ping);
    let silent = tokio::time::timeout(Duration::from_millis(200), &mut ping).await;
    assert!(silent.is_err(), "it answered: {silent:?}");
    server.resume().await.unwrap();
    assert_eq!(ping.await.unwrap(), "+OK\r\n+PONG\r\n");
    server.stop().await.unwrap();
    assert!(server.stall().await.is_err(), "it does not run");
}

/// One request by HTTP/1.1 and its answer. `more` is further header lines, each with its end.
async fn request(address: &str, line: &str, more: &str, body: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let size = body.len();
    let head = format!("{line} HTTP/1.1\r\nHost: {address}\r\n{more}Content-Length: {size}\r\n\r\n");
    stream.write_all((head + body).as_bytes()).await?;
    let mut answer = Vec::new();
    while !is_whole(&String::from_utf8_lossy(&answer)) {
        let read = tokio::time::timeout(Duration::from_secs(20), stream.read_buf(&mut answer)).await??;
        if read == 0 {
            break;
        }
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Whether an answer has as many bytes as it says.
fn is_whole(answer: &str) -> bool {
    let Some((head, body)) = answer.split_once("\r\n\r\n") else { return false };
    let head = head.to_ascii_lowercase();
    let size = head.split_once("content-length:").and_then(|(_, rest)| rest.lines().next());
    size.is_some_and(|size| body.len() >= size.trim().parse().unwrap())
}

async fn manage(server: &Server, line: &str, body: &str) -> String {
    let address = server.endpoint().management.as_ref().unwrap();
    // The user and the password of every server that we start, in Base64.
    let login = "Authorization: Basic c3ZjOlhxN3ZSdDJtS3o5dw==\r\nContent-Type: application/json\r\n";
    request(address, line, login, body).await.unwrap()
}

#[tokio::test]
async fn rabbitmq_keeps_its_queues_when_it_is_killed() {
    let Some(server) = server(Kind::RabbitMq, "rabbitmq_keeps_its_queues_when_it_is_killed").await else {
        return;
    };
    let made = manage(&server, "PUT /api/queues/%2F/kept", r#"{"durable":true}"#).await;
    assert!(made.starts_with("HTTP/1.1 201"), "{made}");
    // Erlang's log keeps up to 64 KiB of what was declared in memory, for up to 2 s: more than that pushes it out.
    let filler = format!(r#"{{"value":"{}"}}"#, "x".repeat(100_000));
    let pushed = manage(&server, "PUT /api/global-parameters/filler", &filler).await;
    assert!(pushed.starts_with("HTTP/1.1 20"), "{pushed}");
    server.kill().await.unwrap();
    assert!(TcpStream::connect(&server.endpoint().address).await.is_err(), "it is gone");
    server.restart().await.unwrap();
    let kept = manage(&server, "GET /api/queues/%2F/kept", "").await;
    assert!(kept.starts_with("HTTP/1.1 200"), "{kept}");
}

async fn sqs(server: &Server, path: &str, form: &str) -> std::io::Result<String> {
    let kind = "Content-Type: application/x-www-form-urlencoded\r\n";
    request(&server.endpoint().address, &format!("POST {path}"), kind, form).await
}

#[tokio::test]
async fn sqs_keeps_what_it_took_when_it_is_killed() {
    let Some(server) = server(Kind::Sqs, "sqs_keeps_what_it_took_when_it_is_killed").await else { return };
    let made = sqs(&server, "/", "Action=CreateQueue&QueueName=kept").await.unwrap();
    assert!(made.contains("000000000000/kept"), "{made}");
    let url = "/000000000000/kept";
    let sent = sqs(&server, url, "Action=SendMessage&MessageBody=in+the+log").await.unwrap();
    assert!(sent.contains("MessageId"), "{sent}");
    server.kill().await.unwrap();
    assert!(sqs(&server, url, "").await.is_err(), "it is gone");
    server.restart().await.unwrap();
    let received = sqs(&server, url, "Action=ReceiveMessage").await.unwrap();
    assert!(received.contains("in the log"), "{received}");
}

#[tokio::test]
async fn pubsub_is_empty_after_a_restart() {
    let Some(server) = server(Kind::PubSub, "pubsub_is_empty_after_a_restart").await else { return };
    let (address, json) = (&server.endpoint().address, "Content-Type: application/json\r\n");
    let made = request(address, "PUT /v1/projects/p/topics/gone", json, "{}").await.unwrap();
    assert!(made.contains("projects/p/topics/gone"), "{made}");
    server.restart().await.unwrap();
    let topics = request(address, "GET /v1/projects/p/topics", "", "").await.unwrap();
    assert!(topics.starts_with("HTTP/1.1 200") && !topics.contains("gone"), "{topics}");
}

/// A Kafka request of version 1 without a client id, and the answer behind its correlation id.
async fn kafka(server: &Server, key: u8, version: u8, body: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(&server.endpoint().address).await.unwrap();
    let size = u8::try_from(body.len() + 10).unwrap();
    let mut request = vec![0, 0, 0, size, 0, key, 0, version, 0, 0, 0, 7, 0xff, 0xff];
    request.extend(body);
    stream.write_all(&request).await.unwrap();
    let size = stream.read_u32().await.unwrap();
    let mut answer = vec![0; size as usize];
    stream.read_exact(&mut answer).await.unwrap();
    answer.split_off(4)
}

#[tokio::test]
async fn kafka_keeps_its_topics_when_it_is_killed() {
    let Some(server) = server(Kind::Kafka, "kafka_keeps_its_topics_when_it_is_killed").await else { return };
    // CreateTopics 2: one topic `kept`, one partition, one replica, nothing assigned or configured, 10 s, for real.
    let body = b"\0\0\0\x01\0\x04kept\0\0\0\x01\0\x01\0\0\0\0\0\0\0\0\0\0\x27\x10\0";
    let made = kafka(&server, 19, 2, body).await;
    // No throttling, one topic, its name, no error, no message.
    assert_eq!(made, b"\0\0\0\0\0\0\0\x01\0\x04kept\0\0\xff\xff");
    server.kill().await.unwrap();
    assert!(TcpStream::connect(&server.endpoint().address).await.is_err(), "it is gone");
    server.restart().await.unwrap();
    // Metadata 1 of that topic.
    let metadata = kafka(&server, 3, 1, b"\0\0\0\x01\0\x04kept").await;
    assert!(metadata.windows(8).any(|part| part == b"\0\0\0\x04kept"), "{metadata:?}");
}
