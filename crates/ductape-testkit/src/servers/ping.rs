//! Whether a server answers, in its own protocol's first words.

use super::{Endpoint, Kind};
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long one try may take: longer than any of them needs once it is ready.
const TRY: Duration = Duration::from_secs(2);
/// The longest answer that is read.
const LONGEST: usize = 16 * 1024;

/// Asks once.
///
/// # Errors
/// What kept it from answering; `InvalidData` where it answers with something else than a ready server does.
pub(super) async fn ping(kind: Kind, endpoint: &Endpoint) -> io::Result<()> {
    let ask = async {
        match kind {
            Kind::Kafka => kafka(endpoint).await,
            Kind::PubSub => http(endpoint, "/v1/projects/ductape/topics").await,
            Kind::RabbitMq => rabbitmq(endpoint).await,
            Kind::Redis => redis(endpoint).await,
            Kind::Sqs => http(endpoint, "/?Action=ListQueues").await,
        }
    };
    tokio::time::timeout(TRY, ask).await.unwrap_or_else(|_| Err(silent()))
}

fn silent() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("no answer in {TRY:?}"))
}

/// ApiVersions (key 18), version 0, with correlation id 7 and no client id. A broker answers when it may serve: with the
/// same id and the error code 0.
async fn kafka(endpoint: &Endpoint) -> io::Result<()> {
    let question = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 0xff, 0xff];
    let answer = converse(&endpoint.address, &question, |answer| answer.len() >= 10).await?;
    accept(&answer, answer.len() >= 10 && answer[4..10] == [0, 0, 0, 7, 0, 0])
}

/// Asks for a path by HTTP/1.1 and takes the status 200.
async fn http(endpoint: &Endpoint, path: &str) -> io::Result<()> {
    let host = &endpoint.address;
    let question = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let answer = converse(host, question.as_bytes(), |answer| contains(answer, b"\r\n")).await?;
    accept(&answer, answer.starts_with(b"HTTP/1.1 200"))
}

/// Authenticates where there is a password, then `PING`. The server that reads its log file yet answers `-LOADING`.
async fn redis(endpoint: &Endpoint) -> io::Result<()> {
    let user = endpoint.username.as_deref().unwrap_or_default();
    let login = endpoint.password.as_ref().map(|password| format!("AUTH {user} {}\r\n", password.expose()));
    let question = login.unwrap_or_default() + "PING\r\n";
    let answer = converse(&endpoint.address, question.as_bytes(), |answer| {
        answer.ends_with(b"\r\n") && (answer.contains(&b'-') || contains(answer, b"+PONG"))
    })
    .await?;
    accept(&answer, contains(&answer, b"+PONG"))
}

/// The header of AMQP 0-9-1 (its section 2.2.4), answered by a frame with the method `connection.start`. The node
/// opens its listeners when it has started everything else.
async fn rabbitmq(endpoint: &Endpoint) -> io::Result<()> {
    // Frame type 1, channel 0, a size of four bytes, class 10, method 10.
    let is_start = |answer: &[u8]| answer.starts_with(&[1, 0, 0]) && answer[7..11] == [0, 10, 0, 10];
    let answer = converse(&endpoint.address, b"AMQP\0\0\x09\x01", |answer| answer.len() >= 11).await?;
    accept(&answer, answer.len() >= 11 && is_start(&answer))
}

/// Sends the question and reads until the answer is whole or the server closes.
async fn converse(address: &str, question: &[u8], is_whole: impl Fn(&[u8]) -> bool) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(question).await?;
    let mut answer = Vec::new();
    while !is_whole(&answer) && answer.len() < LONGEST {
        if stream.read_buf(&mut answer).await? == 0 {
            break;
        }
    }
    Ok(answer)
}

fn accept(answer: &[u8], good: bool) -> io::Result<()> {
    if good {
        return Ok(());
    }
    let shown = String::from_utf8_lossy(&answer[..answer.len().min(200)]).trim().replace(['\r', '\n'], " ");
    Err(io::Error::new(io::ErrorKind::InvalidData, format!("it answered `{shown}`")))
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ductape_core::secret::Secret;
    use tokio::net::TcpListener;

    /// A server that reads something, answers once and closes; returns what it read.
    async fn answering(answer: &'static [u8]) -> (Endpoint, tokio::task::JoinHandle<Vec<u8>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = Endpoint::at(listener.local_addr().unwrap().to_string());
        let served = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut question = vec![0; 1024];
            let read = stream.read(&mut question).await.unwrap();
            question.truncate(read);
            stream.write_all(answer).await.unwrap();
            question
        });
        (endpoint, served)
    }

    async fn said(kind: Kind, answer: &'static [u8]) -> io::Result<()> {
        ping(kind, &answering(answer).await.0).await
    }

    #[tokio::test]
    async fn redis_is_ready_when_it_pongs() {
        said(Kind::Redis, b"+PONG\r\n").await.unwrap();
        let loading = said(Kind::Redis, b"-LOADING Redis is loading\r\n").await.unwrap_err();
        assert_eq!(loading.to_string(), "it answered `-LOADING Redis is loading`");
        let (mut endpoint, served) = answering(b"+OK\r\n+PONG\r\n").await;
        endpoint.password = Some(Secret::from("pw"));
        ping(Kind::Redis, &endpoint).await.unwrap();
        assert_eq!(served.await.unwrap(), b"AUTH  pw\r\nPING\r\n");
    }

    #[tokio::test]
    async fn rabbitmq_is_ready_when_it_starts_the_connection() {
        said(Kind::RabbitMq, b"\x01\0\0\0\0\x01\xf0\0\x0a\0\x0a\0\x09").await.unwrap();
        let other = said(Kind::RabbitMq, b"AMQP\0\0\x09\x01").await.unwrap_err();
        assert_eq!(other.kind(), io::ErrorKind::InvalidData);
        assert!(said(Kind::RabbitMq, b"HTTP/1.1 400 Bad Request").await.is_err());
    }

    #[tokio::test]
    async fn kafka_is_ready_when_it_tells_its_versions() {
        said(Kind::Kafka, b"\0\0\0\x40\0\0\0\x07\0\0\0\0\0\x01").await.unwrap();
        let unsupported = said(Kind::Kafka, b"\0\0\0\x40\0\0\0\x07\0\x23\0\0\0\x01").await;
        assert_eq!(unsupported.unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert!(said(Kind::Kafka, b"\0\0").await.is_err());
    }

    #[tokio::test]
    async fn what_speaks_http_is_ready_when_it_answers_200() {
        for kind in [Kind::Sqs, Kind::PubSub] {
            said(kind, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
            let error = said(kind, b"HTTP/1.1 503 Service Unavailable\r\n\r\n").await.unwrap_err();
            assert_eq!(error.to_string(), "it answered `HTTP/1.1 503 Service Unavailable`");
        }
    }

    #[tokio::test]
    async fn nobody_there_is_an_error() {
        let port = super::super::ports::free().unwrap();
        let error = ping(Kind::Redis, &Endpoint::at(format!("127.0.0.1:{port}"))).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
}
