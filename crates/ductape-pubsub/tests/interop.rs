//! Messages written and read by Google's REST interface, with nothing of ours or of Google's client in between.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod rig;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ductape_core::message::HeaderValue;
use rig::{PATIENCE, PROJECT, acks, connect, consumer, message, orders, server};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// One call of HTTP/1.1 on a connection of its own.
async fn post(server: &str, path: &str, body: &Value) -> Value {
    let (path, body) = (format!("/v1/projects/{PROJECT}/{path}"), body.to_string());
    let mut connection = TcpStream::connect(server).await.unwrap();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: {server}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    connection.write_all(request.as_bytes()).await.unwrap();
    let (mut answer, mut part) = (Vec::new(), [0; 4096]);
    loop {
        let reading = tokio::time::timeout(PATIENCE, connection.read(&mut part));
        let read = reading.await.unwrap().unwrap();
        answer.extend_from_slice(&part[..read]);
        let text = std::str::from_utf8(&answer).unwrap();
        assert!(text.is_empty() || text.starts_with("HTTP/1.1 200"), "{path}: {text}");
        // The emulator keeps the connection; the answer is there when its one object is.
        if let Some(object) = object(text) {
            return object;
        }
        assert!(read > 0, "{path}: {text}");
    }
}

/// The one object of an answer, around which stand headers, and perhaps the sizes of chunks.
fn object(answer: &str) -> Option<Value> {
    let (_, body) = answer.split_once("\r\n\r\n")?;
    serde_json::from_str(body.get(body.find('{')?..=body.rfind('}')?)?).ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_by_rest_is_read() {
    let Some(server) = server("written by REST").await else { return };
    let address = &server.endpoint().address;
    let broker = connect(address, PATIENCE).await.unwrap();
    broker.ensure(&orders(true)).await.unwrap();
    let bytes = [0, 255, 128, 7];
    let written = json!({ "messages": [{
        "data": STANDARD.encode(bytes),
        "orderingKey": "k",
        "attributes": { "a": "\u{1f525}", "ce-id": "42", "ce-type": "it.happened", "content-type": "image/x" },
    }] });
    let answer = post(address, "topics/orders:publish", &written).await;
    let receiving = consumer(&broker, &orders(true)).await;
    let read = receiving.receive(1, PATIENCE).await.unwrap().pop().unwrap();
    assert_eq!(&*read.message.payload, bytes);
    assert_eq!(read.message.key.as_ref().and_then(|key| key.as_str()), Some("k"));
    assert_eq!(read.message.headers.get("a").and_then(HeaderValue::as_str), Some("\u{1f525}"));
    assert_eq!((read.message.id.to_string().as_str(), read.message.event()), ("42", "it.happened"));
    assert_eq!(read.message.content_type(), "image/x");
    assert_eq!(Some(read.position.to_string().as_str()), answer["messageIds"][0].as_str());
    receiving.settle(acks(&[read])).await.pop().unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_is_read_and_acknowledged_by_rest() {
    let Some(server) = server("read by REST").await else { return };
    let address = &server.endpoint().address;
    let broker = connect(address, PATIENCE).await.unwrap();
    broker.ensure(&orders(true)).await.unwrap();
    let publisher = broker.publisher(&orders(true)).await.unwrap();
    let mut written = message("{\"total\":1}", Some("k"));
    written.headers.insert("a", "1");
    publisher.publish(vec![written.clone()]).await.pop().unwrap().unwrap();
    let (start, subscription) = (Instant::now(), "subscriptions/orders.shop");
    let received = loop {
        assert!(start.elapsed() < PATIENCE, "nothing came");
        let pulled = post(address, &format!("{subscription}:pull"), &json!({ "maxMessages": 1 })).await;
        if let Some(received) = pulled["receivedMessages"].get(0) {
            break received.clone();
        }
    };
    let read = &received["message"];
    assert_eq!(STANDARD.decode(read["data"].as_str().unwrap()).unwrap(), &*written.payload);
    assert_eq!((&read["orderingKey"], &read["attributes"]["a"]), (&json!("k"), &json!("1")));
    assert_eq!(read["attributes"]["ce-id"], json!(written.id.to_string()));
    assert_eq!(read["attributes"]["ce-datacontenttype"], json!("text/plain"));
    post(address, &format!("{subscription}:acknowledge"), &json!({ "ackIds": [received["ackId"]] })).await;
    let receiving = consumer(&broker, &orders(true)).await;
    assert!(receiving.receive(1, Duration::from_secs(1)).await.unwrap().is_empty(), "it is acknowledged");
}
