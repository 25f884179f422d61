//! A server that speaks SQS' JSON protocol as far as this crate asks, counts what it is asked, and answers what a test
//! wants: emulators take every key and throttle nobody.

use super::SOON;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

/// What a test says about a request.
pub enum Reply {
    /// It is answered as by a queue that works.
    Usual,
    /// The queue does what is asked, and the connection ends without an answer.
    Lost,
    /// A refusal: the JSON protocol's type, and the query protocol's code.
    Refused(u16, &'static str, &'static str),
    /// This answer.
    Answer(Value),
    /// Nothing happens before this is true; then it is answered so.
    Held(watch::Receiver<bool>, Box<Reply>),
}

type Script = dyn Fn(&str, &Value) -> Reply + Send + Sync;

pub struct StandIn {
    pub address: String,
    state: Arc<State>,
    serving: JoinHandle<()>,
}

struct State {
    script: Box<Script>,
    queue: Mutex<VecDeque<Value>>,
    requests: Mutex<Vec<(String, Value)>>,
    /// The last change of visibility of each receipt that was answered.
    hidden: Mutex<BTreeMap<String, u64>>,
    /// How many messages were handed out.
    received: AtomicUsize,
    changed: Notify,
}

impl StandIn {
    pub async fn start(script: impl Fn(&str, &Value) -> Reply + Send + Sync + 'static) -> StandIn {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = Arc::new(State {
            script: Box::new(script),
            queue: Mutex::default(),
            requests: Mutex::default(),
            hidden: Mutex::default(),
            received: AtomicUsize::new(0),
            changed: Notify::new(),
        });
        let served = Arc::clone(&state);
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&served);
                tokio::spawn(async move { state.serve(stream).await });
            }
        });
        StandIn { address, state, serving }
    }

    /// How often each operation was asked for.
    pub fn counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for (operation, _) in self.state.requests.lock().unwrap().iter() {
            *counts.entry(operation.clone()).or_default() += 1;
        }
        counts
    }

    /// The bodies of the requests for an operation.
    pub fn requests(&self, operation: &str) -> Vec<Value> {
        let requests = self.state.requests.lock().unwrap();
        requests.iter().filter(|(name, _)| name == operation).map(|(_, body)| body.clone()).collect()
    }

    /// For how many seconds each receipt was hidden last.
    pub fn hidden(&self) -> BTreeMap<String, u64> {
        self.state.hidden.lock().unwrap().clone()
    }

    /// Waits until an operation was asked for so often.
    pub async fn asked(&self, operation: &str, count: usize) {
        let start = Instant::now();
        while self.requests(operation).len() < count {
            assert!(start.elapsed() < SOON, "{operation} {count} times: {:?}", self.counts());
            // tidy: sleeps because the condition is looked at anew after it.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// How many messages the queue holds.
    pub fn len(&self) -> usize {
        self.state.queue.lock().unwrap().len()
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl State {
    async fn serve(&self, stream: TcpStream) {
        let mut stream = BufReader::new(stream);
        while let Some((operation, body)) = request(&mut stream).await {
            self.requests.lock().unwrap().push((operation.clone(), body.clone()));
            let mut reply = (self.script)(&operation, &body);
            if let Reply::Held(mut until, then) = reply {
                until.wait_for(|open| *open).await.unwrap();
                reply = *then;
            }
            let (status, query, answer) = match reply {
                Reply::Usual => (200, "", self.usual(&operation, &body).await),
                Reply::Lost => {
                    self.usual(&operation, &body).await;
                    return;
                }
                Reply::Answer(answer) => (200, "", answer),
                Reply::Held(..) => panic!("held twice"),
                Reply::Refused(status, json, query) => {
                    let words = "x-amz-security-token:FwoGZX-the-session-token-of-this-test";
                    (
                        status,
                        query,
                        json!({ "__type": format!("com.amazonaws.sqs#{json}"), "message": words }),
                    )
                }
            };
            let answer = answer.to_string();
            let head = format!(
                "HTTP/1.1 {status} X\r\nContent-Type: application/x-amz-json-1.0\r\n\
                 x-amzn-query-error: {query};Sender\r\nContent-Length: {}\r\n\r\n",
                answer.len()
            );
            let head =
                if query.is_empty() { head.replace("x-amzn-query-error: ;Sender\r\n", "") } else { head };
            if stream.write_all(format!("{head}{answer}").as_bytes()).await.is_err() {
                return;
            }
        }
    }

    async fn usual(&self, operation: &str, body: &Value) -> Value {
        let entries = body["Entries"].as_array().cloned().unwrap_or_default();
        match operation {
            "ListQueues" => json!({}),
            "GetQueueUrl" | "CreateQueue" => {
                json!({ "QueueUrl": format!("http://localhost/000000000000/{}", body["QueueName"].as_str().unwrap()) })
            }
            "GetQueueAttributes" => json!({ "Attributes": {} }),
            "SendMessageBatch" => {
                self.queue.lock().unwrap().extend(entries.iter().cloned());
                self.changed.notify_waiters();
                let done = |entry: &Value| json!({ "Id": entry["Id"], "MessageId": entry["Id"], "MD5OfMessageBody": "" });
                json!({ "Successful": entries.iter().map(done).collect::<Vec<_>>(), "Failed": [] })
            }
            "ReceiveMessage" => self.receive(body).await,
            _ => {
                for entry in entries.iter().filter(|entry| entry["VisibilityTimeout"].is_u64()) {
                    let receipt = entry["ReceiptHandle"].as_str().unwrap().to_owned();
                    let seconds = entry["VisibilityTimeout"].as_u64().unwrap();
                    self.hidden.lock().unwrap().insert(receipt, seconds);
                }
                let done = |entry: &Value| json!({ "Id": entry["Id"] });
                json!({ "Successful": entries.iter().map(done).collect::<Vec<_>>(), "Failed": [] })
            }
        }
    }

    async fn receive(&self, body: &Value) -> Value {
        let most = body["MaxNumberOfMessages"].as_u64().unwrap() as usize;
        let wait = Duration::from_secs(body["WaitTimeSeconds"].as_u64().unwrap());
        let more = self.changed.notified();
        tokio::pin!(more);
        more.as_mut().enable();
        if self.queue.lock().unwrap().is_empty() {
            let _ = tokio::time::timeout(wait, more).await;
        }
        let mut queue = self.queue.lock().unwrap();
        let count = most.min(queue.len());
        let message = |entry: Value| {
            let n = self.received.fetch_add(1, Ordering::SeqCst);
            json!({
                "MessageId": format!("m-{n}"), "ReceiptHandle": format!("r-{n}"), "Body": entry["MessageBody"],
                "MessageAttributes": entry["MessageAttributes"],
                "Attributes": { "ApproximateReceiveCount": "1", "SentTimestamp": "1700000000000" },
            })
        };
        json!({ "Messages": queue.drain(..count).map(message).collect::<Vec<_>>() })
    }
}

/// The operation and the body of the next request; `None` at the end of the connection.
async fn request(stream: &mut BufReader<TcpStream>) -> Option<(String, Value)> {
    let (mut operation, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(": ") {
            match name.to_ascii_lowercase().as_str() {
                "x-amz-target" => operation = value.trim_start_matches("AmazonSQS.").to_owned(),
                "content-length" => length = value.parse().unwrap(),
                _ => {}
            }
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some((operation, serde_json::from_slice(&body).unwrap_or_default()))
}
