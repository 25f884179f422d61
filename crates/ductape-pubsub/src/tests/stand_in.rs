//! A server of gRPC that says what a test tells it to: an emulator refuses nobody, loses nothing and is never late.

use crate::link::Link;
use bytes::{BufMut, Bytes, BytesMut};
use ductape_core::ConnectOptions;
use ductape_core::config::PubSubConfig;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Request, Response};
use prost::Message;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tonic::Code;

/// How long a call has.
pub(super) const LIMIT: Duration = Duration::from_secs(30);
/// The bytes before a message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// The calls of its clients, in the order in which they came. What is not answered waits.
pub(super) struct StandIn(mpsc::UnboundedReceiver<Call>);

/// A call that waits for its answer. One that is dropped is reset.
pub(super) struct Call {
    /// The number of its connection.
    pub(super) connection: usize,
    method: String,
    /// Its first message.
    request: Bytes,
    /// Keeps our side open to more.
    _rest: RecvStream,
    answer: SendResponse<Bytes>,
}

/// An answer of many messages.
pub(super) struct Answers {
    stream: h2::SendStream<Bytes>,
    _rest: RecvStream,
}

impl StandIn {
    /// A server, and a link to it.
    pub(super) async fn start() -> (Self, Arc<Link>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = Some(listener.local_addr().unwrap().to_string());
        let (calls, received) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            for number in 0.. {
                let (connection, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(number, connection, calls.clone()));
            }
        });
        let config = PubSubConfig { project_id: "p".into(), endpoint, ..PubSubConfig::default() };
        let options = ConnectOptions { request_timeout: LIMIT, ..ConnectOptions::default() };
        (StandIn(received), Arc::new(Link::new(&config, &options).await.unwrap()))
    }

    /// The next call, of this method.
    pub(super) async fn next(&mut self, method: &str) -> Call {
        let call = tokio::time::timeout(LIMIT, self.0.recv()).await.expect("a call").unwrap();
        assert_eq!(call.method, method);
        call
    }
}

async fn serve(number: usize, connection: TcpStream, calls: mpsc::UnboundedSender<Call>) {
    let Ok(mut connection) = h2::server::handshake(connection).await else { return };
    while let Some(Ok((request, answer))) = connection.accept().await {
        tokio::spawn(read(number, request, answer, calls.clone()));
    }
}

async fn read(
    connection: usize,
    request: Request<RecvStream>,
    answer: SendResponse<Bytes>,
    calls: mpsc::UnboundedSender<Call>,
) {
    let method = request.uri().path().to_owned();
    let (mut rest, mut read) = (request.into_body(), BytesMut::new());
    while !is_whole(&read) {
        let Some(Ok(data)) = rest.data().await else { return };
        rest.flow_control().release_capacity(data.len()).unwrap();
        read.extend_from_slice(&data);
    }
    let request = read.freeze().slice(PREFIX..);
    let _ = calls.send(Call { connection, method, request, _rest: rest, answer });
}

/// Whether a message is here with all its bytes.
fn is_whole(read: &[u8]) -> bool {
    read.get(1..PREFIX).is_some_and(|length| {
        let length = u32::from_be_bytes(length.try_into().unwrap());
        read.len() >= PREFIX + length as usize
    })
}

impl Call {
    pub(super) fn read<M: Message + Default>(&self) -> M {
        M::decode(self.request.clone()).unwrap()
    }

    pub(super) fn answer(self, message: &impl Message) {
        let mut answers = self.open();
        answers.send(message);
        let mut ok = HeaderMap::new();
        ok.insert("grpc-status", HeaderValue::from_static("0"));
        answers.stream.send_trailers(ok).unwrap();
    }

    pub(super) fn refuse(mut self, code: Code) {
        let head = Response::builder()
            .header("content-type", "application/grpc")
            .header("grpc-status", i32::from(code))
            .header("grpc-message", "refused");
        self.answer.send_response(head.body(()).unwrap(), true).unwrap();
    }

    /// Begins an answer of many messages.
    pub(super) fn open(mut self) -> Answers {
        let head = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
        Answers { stream: self.answer.send_response(head, false).unwrap(), _rest: self._rest }
    }
}

impl Answers {
    pub(super) fn send(&mut self, message: &impl Message) {
        let mut frame = BytesMut::new();
        frame.put_u8(0);
        frame.put_u32(u32::try_from(message.encoded_len()).unwrap());
        message.encode(&mut frame).unwrap();
        self.stream.send_data(frame.freeze(), false).unwrap();
    }
}
