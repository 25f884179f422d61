//! New connections: to a server, the master that sentinels know, or a cluster.

use super::{Connection, Link, QUEUED_CALLS, WRITE_BYTES, checked};
use crate::address::Address;
use crate::blocking::{Blocking, Socket};
use crate::error;
use ductape_core::error::Retry;
use ductape_core::{Error, ErrorKind, Result};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Value};
use std::future::Future;

impl Link {
    /// A new connection, within the time that connecting may take.
    ///
    /// # Errors
    /// `CONNECT_FAILED`, `AUTHENTICATION_FAILED`, `TLS_FAILED`, `TIMEOUT`.
    pub(crate) async fn connect(&self) -> Result<Connection> {
        self.in_time(self.connection()).await
    }

    async fn connection(&self) -> Result<Connection> {
        let config = self.config();
        match &self.place.address {
            Address::Server(client) => self.open(client, &config).await,
            Address::Sentinel(sentinel) => {
                let client = sentinel.lock().await.async_get_client().await;
                self.open(&client.map_err(|error| error::connect(&error, self.place()))?, &config).await
            }
            Address::Cluster { client, nodes } => {
                self.probe(nodes, &config).await?;
                let connection = client.get_async_connection().await;
                connection.map(Connection::Cluster).map_err(|error| error::connect(&error, self.place()))
            }
        }
    }

    /// A new connection for a reader to block on.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub(crate) async fn connect_blocking(&self) -> Result<Blocking> {
        self.in_time(async {
            match self.socket().await {
                Some(socket) => Ok(Blocking::Socket(socket)),
                None => self.connection().await.map(Blocking::Crate),
            }
        })
        .await
    }

    /// Nothing where this fails: the crate's own connection does, and tells why, or knows better.
    async fn socket(&self) -> Option<Socket> {
        let found;
        let client = match &self.place.address {
            Address::Server(client) => client,
            Address::Sentinel(sentinel) => {
                found = sentinel.lock().await.async_get_client().await.ok()?;
                &found
            }
            Address::Cluster { .. } => return None,
        };
        let opened = Socket::open(client.get_connection_info(), &self.client_name).await;
        // Not what the server said: it may be what it was asked, and so the password.
        let told = |error: &redis::RedisError| {
            tracing::debug!(kind = ?error.kind(), code = error.code(), "no socket of its own for a reader");
        };
        opened.inspect_err(told).ok().flatten()
    }

    /// A connection on which the server pushes what is published. The sender gets it.
    pub(crate) async fn listen(
        &self,
        sender: impl Fn(redis::PushInfo) -> Result<(), ()> + Send + Sync + 'static,
    ) -> Result<MultiplexedConnection> {
        self.in_time(async {
            let client = match &self.place.address {
                Address::Server(client) => (**client).clone(),
                // Every node of a cluster hears what is published on any.
                Address::Cluster { nodes, .. } => self.probe(nodes, &self.config()).await?,
                Address::Sentinel(sentinel) => {
                    let client = sentinel.lock().await.async_get_client().await;
                    client.map_err(|error| error::connect(&error, self.place()))?
                }
            };
            let info = client.get_connection_info().clone();
            let settings = info.redis_settings().clone().set_protocol(redis::ProtocolVersion::RESP3);
            let client = Client::open(info.set_redis_settings(settings))
                .map_err(|error| error::connect(&error, self.place()))?;
            match self.open(&client, &self.config().set_push_sender(sender)).await? {
                Connection::Server(connection) => Ok(connection),
                Connection::Cluster(_) => Err(error::unforeseen("the connection")),
            }
        })
        .await
    }

    fn config(&self) -> AsyncConnectionConfig {
        AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(Some(self.limit))
            .set_pipeline_buffer_size(QUEUED_CALLS)
            .set_write_backpressure_boundary(WRITE_BYTES)
    }

    async fn open(&self, client: &Client, config: &AsyncConnectionConfig) -> Result<Connection> {
        let failed = |error| error::connect(&error, self.place());
        let mut connection =
            client.get_multiplexed_async_connection_with_config(config).await.map_err(failed)?;
        let mut greeting = redis::pipe();
        greeting.cmd("PING");
        greeting.cmd("CLIENT").arg("SETNAME").arg(&self.client_name);
        let answers = connection.send_packed_commands(&greeting, 0, 2).await.map_err(failed)?;
        // The name is for people; a user who may not set one does without.
        answers.into_iter().next().map_or(Ok(Value::Nil), checked).map_err(failed)?;
        Ok(Connection::Server(connection))
    }

    /// The first node that lets us in; where none does, the fault of the last.
    async fn probe(&self, nodes: &[Client], config: &AsyncConnectionConfig) -> Result<Client> {
        let mut last = None;
        for node in nodes {
            match self.open(node, config).await {
                Ok(_) => return Ok(node.clone()),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| Error::new(ErrorKind::ConfigInvalid, "`cluster` names no node")))
    }

    async fn in_time<T>(&self, connecting: impl Future<Output = Result<T>>) -> Result<T> {
        match tokio::time::timeout(self.connect_limit, connecting).await {
            Ok(connected) => connected,
            Err(_) => Err(Error::new(
                ErrorKind::Timeout,
                format!("cannot connect to Redis: no answer within {:?}", self.connect_limit),
            )
            .with_retry(Retry::Safe)
            .with_context("server", self.place())
            .with_help("see that this is a Redis server and its port, whether it speaks TLS, and that the network is up")),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

    use super::*;
    use ductape_core::ConnectOptions;
    use std::time::Duration;
    use tokio::io::AsyncWriteExt;

    #[tokio::test]
    async fn a_server_that_leaves_a_question_of_the_login_open_is_given_up_in_time() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        // The names are set, and nobody says the connection's id.
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(&b"+OK\r\n".repeat(4)).await.unwrap();
            std::future::pending::<()>().await;
        });
        let config = serde_json::from_str(&format!(r#"{{"host":"127.0.0.1","port":{port}}}"#)).unwrap();
        let options =
            ConnectOptions { connect_timeout: Duration::from_millis(100), ..ConnectOptions::default() };
        let link = Link::new(crate::address::read(&config, &options).unwrap(), &options);
        let connected = tokio::time::timeout(Duration::from_secs(20), link.connect_blocking()).await;
        assert_eq!(connected.unwrap().err().unwrap().kind(), ErrorKind::Timeout);
    }
}
