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
        self.in_time(async {
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
        })
        .await
    }

    /// A new connection for a reader to block on.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub(crate) async fn connect_blocking(&self) -> Result<Blocking> {
        let socket = self.in_time(async {
            match &self.place.address {
                Address::Server(client) => Ok(self.socket(client).await),
                Address::Sentinel(sentinel) => {
                    let client = sentinel.lock().await.async_get_client().await;
                    let client = client.map_err(|error| error::connect(&error, self.place()))?;
                    Ok(self.socket(&client).await)
                }
                Address::Cluster { .. } => Ok(None),
            }
        });
        match socket.await? {
            Some(socket) => Ok(Blocking::Socket(socket)),
            None => self.connect().await.map(Blocking::Crate),
        }
    }

    /// Nothing where this fails: the crate's own connection does, and tells why, or knows better.
    async fn socket(&self, client: &Client) -> Option<Socket> {
        let opened = Socket::open(client.get_connection_info(), &self.client_name).await;
        opened
            .inspect_err(|error| tracing::debug!(%error, "no socket of its own for a reader"))
            .ok()
            .flatten()
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
