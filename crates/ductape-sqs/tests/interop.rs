//! Messages written and read by boto3, on a server of its own.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a failure here is the test's, and a skip is told"
)]

mod support;

use ductape_core::message::SessionRef;
use ductape_testkit::servers::{self, Kind};
use serde_json::Value;
use std::io::Write;
use std::process::Command;
use std::time::Duration;
use support::{SOON, Topic, ack, connect, message, text};

const LEASE: Duration = Duration::from_secs(30);

/// Runs Python with a client `sqs` and the queue's `url`; what it prints. `None` where there is no boto3.
fn python(address: &str, queue: &str, program: &str) -> Option<String> {
    let boto3 = Command::new("python3").args(["-c", "import boto3"]).output();
    if !boto3.is_ok_and(|done| done.status.success()) {
        // On a line of its own, past the harness.
        let _ = writeln!(
            std::io::stdout().lock(),
            "\nskip boto3 and ductape read what the other wrote (boto3 is not installed; get it with `pip install boto3`)"
        );
        return None;
    }
    let client = format!(
        "import boto3, json\n\
         sqs = boto3.client('sqs', region_name='us-east-1', endpoint_url='http://{address}',\n\
             aws_access_key_id='test', aws_secret_access_key='test')\n\
         url = sqs.get_queue_url(QueueName='{queue}')['QueueUrl']\n{program}"
    );
    let done = Command::new("python3").args(["-c", &client]).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    Some(String::from_utf8(done.stdout).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn boto3_and_ductape_read_what_the_other_wrote() {
    let server = match servers::shared(Kind::Sqs).await {
        Ok(server) => server,
        Err(why) => return why.skip("boto3 and ductape read what the other wrote"),
    };
    let address = &server.endpoint().address;
    let name = format!("interop-{:08x}", fastrand::u32(..));
    for queue in [name.clone(), format!("{name}.fifo")] {
        let topic = Topic::open(connect(address).await, &queue).await;
        ours_is_read(&topic, address, &queue).await;
        theirs_is_read(&topic, address, &queue).await;
    }
}

async fn ours_is_read(topic: &Topic, address: &str, queue: &str) {
    let mut ours = message(Some("customer-1"), r#"{"total":99.99}"#);
    ours.headers = [("source-ip", "192.0.2.7")].into_iter().collect();
    ours.extensions_mut().session = Some(SessionRef { tag: "user".into(), subject: "42".into() });
    let id = ours.id.to_string();
    topic.publish(vec![ours]).await;
    let program = "got = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=20, MessageAttributeNames=['All'])\n\
                   message = got['Messages'][0]\n\
                   sqs.delete_message(QueueUrl=url, ReceiptHandle=message['ReceiptHandle'])\n\
                   print(json.dumps({'body': message['Body'], 'attributes':\n\
                       {k: v['StringValue'] for k, v in message['MessageAttributes'].items()}}))\n";
    let Some(printed) = python(address, queue, program) else { return };
    let read: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(read["body"], r#"{"total":99.99}"#);
    let attributes = &read["attributes"];
    for (name, value) in [
        ("id", id.as_str()),
        ("type", "orders:new"),
        ("source", "/shop"),
        ("partitionkey", "customer-1"),
        ("source-ip", "192.0.2.7"),
        ("ductape-subject", "42"),
    ] {
        assert_eq!(attributes[name], value, "{attributes}");
    }
}

async fn theirs_is_read(topic: &Topic, address: &str, queue: &str) {
    let fifo = if queue.ends_with(".fifo") {
        ", MessageGroupId='customer-2', MessageDeduplicationId='1'"
    } else {
        ""
    };
    let program = format!(
        "sqs.send_message(QueueUrl=url, MessageBody='h\u{e9}llo', MessageAttributes={{\n\
             'shop': {{'DataType': 'String', 'StringValue': 'north'}},\n\
             'count': {{'DataType': 'Number', 'StringValue': '7'}},\n\
             'raw': {{'DataType': 'Binary', 'BinaryValue': b'\\xff\\x00'}}}}{fifo})\n"
    );
    if python(address, queue, &program).is_none() {
        return;
    }
    let consumer = topic.consumer(LEASE).await;
    let delivery = consumer.receive(1, SOON).await.unwrap().pop().unwrap();
    assert_eq!(text(&delivery), "h\u{e9}llo");
    let header = |name: &str| delivery.message.headers.get(name).unwrap().as_bytes().to_vec();
    assert_eq!((header("shop"), header("count")), (b"north".to_vec(), b"7".to_vec()));
    assert_eq!(header("raw"), [0xff, 0]);
    let key = delivery.message.key.as_ref().map(ToString::to_string);
    assert_eq!(key.as_deref(), queue.ends_with(".fifo").then_some("customer-2"));
    for result in consumer.settle(vec![ack(&delivery)]).await {
        result.unwrap();
    }
}
