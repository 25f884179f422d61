//! The connection on which a reader blocks, and the entries that come by it.
//!
//! A consumer spends most of its time on what is read here. The redis crate makes a value of each of the seventeen parts
//! of an entry, each an allocation of its own; so to one server without TLS a reader speaks by a socket of its
//! own, reads the parts where they lie, and copies what a message keeps. To all others it speaks by the crate.

use crate::entry::{self, Fields, StreamId};
use crate::link::{Connection, checked};
use crate::resp::{Head, Malformed, Scan};
use bytes::{Buf, BufMut, BytesMut};
use futures_util::future::select_ok;
use redis::aio::ConnectionLike;
use redis::{Cmd, ConnectionAddr, ConnectionInfo, Pipeline, RedisError, RedisResult, Value};
use std::io;
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How much is read at once.
const READ_BYTES: usize = 128 * 1024;
/// The longest value whose room is kept for what comes next.
const KEPT_BYTES: usize = 4 * READ_BYTES;

/// A connection that one reader has for itself. Whoever gives up an answer half way gives up the connection.
pub(crate) enum Blocking {
    Socket(Socket),
    Crate(Connection),
}

impl Blocking {
    /// What the server calls it, so that its blocking can be ended. In a cluster each node has an id of its own for it.
    pub(crate) async fn id(&mut self) -> Option<i64> {
        match self {
            Blocking::Socket(socket) => socket.id,
            Blocking::Crate(Connection::Server(connection)) => {
                connection.req_packed_command(&client_id()).await.ok().as_ref().and_then(integer)
            }
            Blocking::Crate(Connection::Cluster(_)) => None,
        }
    }

    /// One answer.
    pub(crate) async fn ask(&mut self, command: &Cmd) -> RedisResult<Value> {
        match self {
            Blocking::Socket(socket) => {
                socket.send(&command.get_packed_command()).await?;
                socket.value().await.and_then(checked)
            }
            Blocking::Crate(connection) => connection.req_packed_command(command).await.and_then(checked),
        }
    }

    /// Hands each entry to `take` that `XREADGROUP` answers of one stream: none where nothing came in time. Says when the
    /// answer began to come: the server reckons leases from before that.
    pub(crate) async fn entries(
        &mut self,
        command: &Cmd,
        mut take: impl FnMut(StreamId, Option<Fields<'_>>),
    ) -> RedisResult<Instant> {
        match self {
            Blocking::Socket(socket) => {
                socket.send(&command.get_packed_command()).await?;
                socket.entries(take).await
            }
            Blocking::Crate(connection) => {
                let answer = connection.req_packed_command(command).await.and_then(checked)?;
                let came = Instant::now();
                // Each goes once it is read: together they may be large.
                let entries = entry::read(answer).ok_or_else(unforeseen)?;
                entries.into_iter().for_each(|entry| take(entry.id, entry.fields()));
                Ok(came)
            }
        }
    }
}

/// A plain connection to one server.
pub(crate) struct Socket {
    stream: TcpStream,
    /// What came and is not read yet.
    came: BytesMut,
    /// What the server calls it.
    id: Option<i64>,
}

impl Socket {
    /// Connects and logs in. Nothing where the server is reached otherwise.
    pub(crate) async fn open(info: &ConnectionInfo, name: &str) -> RedisResult<Option<Self>> {
        let ConnectionAddr::Tcp(host, port) = info.addr() else { return Ok(None) };
        let stream = dial(host, *port).await?;
        stream.set_nodelay(true)?;
        let mut socket = Socket { stream, came: BytesMut::new(), id: None };
        let (login, greeting) = (login(info), greeting(info, name));
        for commands in [&login, &greeting] {
            socket.send(&commands.get_packed_pipeline()).await?;
        }
        socket.send(&client_id().get_packed_command()).await?;
        for _ in 0..login.len() {
            socket.value().await.and_then(checked)?;
        }
        // The names are for people; a user who may not set them does without. So does one who may not ask for the id: its
        // reads end by themselves.
        for _ in 0..greeting.len() {
            socket.value().await?;
        }
        socket.id = integer(&socket.value().await?);
        Ok(Some(socket))
    }

    async fn send(&mut self, packed: &[u8]) -> io::Result<()> {
        self.stream.write_all(packed).await
    }

    async fn entries(&mut self, mut take: impl FnMut(StreamId, Option<Fields<'_>>)) -> RedisResult<Instant> {
        let head = self.head().await?;
        let came = Instant::now();
        match head {
            Head::Nil => return Ok(came),
            Head::Values(1) => {}
            _ => return Err(unforeseen()),
        }
        // The stream's name, and its entries.
        let Head::Values(2) = self.head().await? else { return Err(unforeseen()) };
        self.skip().await?;
        let Head::Values(count) = self.head().await? else { return Err(unforeseen()) };
        for _ in 0..count {
            let length = self.whole().await?;
            if let Some((id, fields)) = entry::raw(&self.came[..length])? {
                take(id, fields);
            }
            self.pass(length);
        }
        Ok(came)
    }

    /// The next value's head. A refusal is an error.
    async fn head(&mut self) -> RedisResult<Head> {
        loop {
            match crate::resp::head(&self.came)? {
                Some((Head::Refusal, _)) => {
                    self.value().await.and_then(checked)?;
                }
                Some((head, length)) => {
                    self.pass(length);
                    return Ok(head);
                }
                None => self.more().await?,
            }
        }
    }

    async fn value(&mut self) -> RedisResult<Value> {
        let length = self.whole().await?;
        let value = redis::parse_redis_value(&self.came[..length]);
        self.pass(length);
        value
    }

    async fn skip(&mut self) -> RedisResult<()> {
        let length = self.whole().await?;
        self.pass(length);
        Ok(())
    }

    /// Waits until the next value is there as a whole, and says how long it is.
    async fn whole(&mut self) -> RedisResult<usize> {
        let mut scan = Scan::new();
        loop {
            match scan.end(&self.came)? {
                Some(length) => return Ok(length),
                None => self.more().await?,
            }
        }
    }

    /// Lets go of what was read, and of the room for it where that is much.
    fn pass(&mut self, length: usize) {
        match length {
            0..=KEPT_BYTES => self.came.advance(length),
            _ => self.came = BytesMut::from(&self.came[length..]),
        }
    }

    async fn more(&mut self) -> io::Result<()> {
        self.came.reserve(READ_BYTES);
        // No more than that: what is read ahead of a large value would keep as much room as it takes.
        match self.stream.read_buf(&mut (&mut self.came).limit(READ_BYTES)).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

/// Connects to whichever of a name's addresses answers first, as the crate does: one of them may swallow what it gets.
async fn dial(host: &str, port: u16) -> io::Result<TcpStream> {
    let addresses = tokio::net::lookup_host((host, port)).await?;
    let attempts: Vec<_> = addresses.map(|address| Box::pin(TcpStream::connect(address))).collect();
    if attempts.is_empty() {
        return Err(io::ErrorKind::NotFound.into());
    }
    select_ok(attempts).await.map(|(stream, _)| stream)
}

/// What must be answered well.
fn login(info: &ConnectionInfo) -> Pipeline {
    let (mut login, settings) = (Pipeline::new(), info.redis_settings());
    if let Some(password) = settings.password() {
        login.cmd("AUTH").arg(settings.username()).arg(password);
    }
    if settings.db() != 0 {
        login.cmd("SELECT").arg(settings.db());
    }
    // Else a server that wants a password none was given for would be found out by the first read.
    login.cmd("PING");
    login
}

fn greeting(info: &ConnectionInfo, name: &str) -> Pipeline {
    let (mut greeting, settings) = (Pipeline::new(), info.redis_settings());
    greeting.cmd("CLIENT").arg("SETNAME").arg(name);
    let library = [("LIB-NAME", settings.lib_name()), ("LIB-VER", settings.lib_ver())];
    for (what, name) in library.into_iter().filter_map(|(what, name)| Some((what, name?))) {
        greeting.cmd("CLIENT").arg("SETINFO").arg(what).arg(name);
    }
    greeting
}

fn client_id() -> Cmd {
    let mut ask = redis::cmd("CLIENT");
    ask.arg("ID");
    ask
}

fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Int(number) => Some(*number),
        _ => None,
    }
}

fn unforeseen() -> RedisError {
    RedisError::from((redis::ErrorKind::Parse, "the server's answer reads otherwise than Redis' own"))
}

impl From<Malformed> for RedisError {
    fn from(_: Malformed) -> Self {
        unforeseen()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

    use super::*;
    use redis::IntoConnectionInfo;
    use std::time::Duration;
    use tokio::net::TcpListener;

    /// A server that takes so many commands of the login, and answers what comes next with this, so many bytes at once.
    async fn server(
        url: &str,
        logins: usize,
        answer: Vec<u8>,
        step: usize,
    ) -> (Socket, tokio::task::JoinHandle<Vec<u8>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = url.replace("HOST", &listener.local_addr().unwrap().to_string());
        let serving = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let mut asked = vec![0; 4096];
            stream.write_all(&b"+OK\r\n".repeat(logins)).await.unwrap();
            stream.write_all(b":42\r\n").await.unwrap();
            // The answers were waited for, so what comes behind the login is the question.
            let mut all = Vec::new();
            while !all.ends_with(b"?\r\n") {
                let count = stream.read(&mut asked).await.unwrap();
                all.extend_from_slice(&asked[..count]);
            }
            for part in answer.chunks(step) {
                stream.write_all(part).await.unwrap();
                stream.flush().await.unwrap();
                tokio::task::yield_now().await;
            }
            all
        });
        let info = url.into_connection_info().unwrap();
        (Socket::open(&info, "me").await.unwrap().unwrap(), serving)
    }

    fn question() -> Vec<u8> {
        redis::cmd("?").get_packed_command()
    }

    const ENTRIES: &[u8] = b"*1\r\n*2\r\n$1\r\ns\r\n*4\r\n*-1\r\n\
        *2\r\n$3\r\n1-0\r\n*4\r\n$1\r\na\r\n$2\r\n\r\n\r\n$0\r\n\r\n$1\r\nd\r\n\
        *2\r\n$3\r\n1-1\r\n*-1\r\n\
        *2\r\n$3\r\n2-7\r\n*2\r\n$7\r\npayload\r\n$3\r\n\xff\x00\r\r\n";

    #[tokio::test]
    async fn entries_are_read_however_the_network_cuts_them() {
        for step in [1, 2, 7, 64, 4096] {
            let answer = [ENTRIES, b"*-1\r\n", b":5\r\n"].concat();
            let (mut socket, serving) = server("redis://HOST", 2, answer, step).await;
            socket.send(&question()).await.unwrap();
            let mut read = Vec::new();
            let mut take = |id: StreamId, fields: Option<Fields<'_>>| {
                let pair = |(name, value): (&[u8], &[u8])| (name.to_vec(), value.to_vec());
                read.push((id.to_string(), fields.map(|fields| fields.map(pair).collect::<Vec<_>>())));
            };
            socket.entries(&mut take).await.unwrap();
            // Nothing in time, and another answer.
            socket.entries(&mut take).await.unwrap();
            assert_eq!(socket.value().await.unwrap(), Value::Int(5));
            let pair = |name: &[u8], value: &[u8]| (name.to_vec(), value.to_vec());
            let expected = [
                ("1-0".to_owned(), Some(vec![pair(b"a", b"\r\n"), pair(b"", b"d")])),
                ("1-1".to_owned(), None),
                ("2-7".to_owned(), Some(vec![pair(b"payload", b"\xff\x00\r")])),
            ];
            assert_eq!(read, expected, "{step}");
            serving.await.unwrap();
        }
    }

    #[tokio::test]
    async fn it_logs_in_as_the_config_says() {
        let (mut socket, serving) = server("redis://u:p@HOST/3", 4, b"+PONG\r\n".to_vec(), 64).await;
        socket.send(&question()).await.unwrap();
        assert_eq!(socket.value().await.unwrap(), Value::SimpleString("PONG".into()));
        assert_eq!(socket.id, Some(42));
        let sent = serving.await.unwrap();
        let login = b"*3\r\n$4\r\nAUTH\r\n$1\r\nu\r\n$1\r\np\r\n*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\n";
        assert!(sent.starts_with(login), "{}", String::from_utf8_lossy(&sent));
    }

    #[tokio::test]
    async fn a_refusal_is_an_error_and_the_next_answer_is_read() {
        let (mut socket, serving) = server("redis://HOST", 2, b"-NOGROUP none\r\n*-1\r\n".to_vec(), 3).await;
        socket.send(&question()).await.unwrap();
        let refused = socket.entries(|_, _| panic!("an entry")).await.unwrap_err();
        assert_eq!(refused.code(), Some("NOGROUP"));
        socket.entries(|_, _| panic!("an entry")).await.unwrap();
        serving.await.unwrap();
    }

    #[tokio::test]
    async fn what_no_server_says_and_what_ends_early_are_errors() {
        let wrong = [
            &b"%1\r\n"[..],
            b"+OK\r\n",
            b"*2\r\n*2\r\n",
            b"*1\r\n*2\r\n$1\r\ns\r\n$1\r\n",
            b"*1\r\n*2\r\n$1\r\ns\r\n*1\r\n*2\r\n$1\r\nx\r\n*0\r\n",
            b"*1\r\n*2\r\n$1\r\ns\r\n*1\r\n*2\r\n$3\r\n1-0\r\n*2\r\n$1\r\na\r\n:1\r\n",
            &ENTRIES[..ENTRIES.len() - 1],
        ];
        for answer in wrong {
            let (mut socket, serving) = server("redis://HOST", 2, answer.to_vec(), 64).await;
            socket.send(&question()).await.unwrap();
            let read = tokio::time::timeout(Duration::from_secs(5), socket.entries(|_, _| {}));
            assert!(read.await.unwrap().is_err(), "{}", String::from_utf8_lossy(answer));
            serving.await.unwrap();
        }
    }

    #[tokio::test]
    async fn room_for_a_large_answer_is_let_go() {
        let bytes = vec![b'x'; 4 * KEPT_BYTES];
        let answer = [format!("${}\r\n", bytes.len()).as_bytes(), &bytes, b"\r\n+OK\r\n"].concat();
        let (mut socket, serving) = server("redis://HOST", 2, answer, 1 << 20).await;
        socket.send(&question()).await.unwrap();
        assert_eq!(socket.value().await.unwrap(), Value::BulkString(bytes));
        assert_eq!(socket.value().await.unwrap(), Value::Okay);
        assert!(socket.came.capacity() <= KEPT_BYTES, "{}", socket.came.capacity());
        serving.await.unwrap();
    }
}
