//! The connection to the service: one HTTP/2 channel for messages, Google's client for topics and subscriptions, and
//! the credentials of both.

use crate::credentials::{self, Address};
use crate::error::{self, Effect};
use ductape_core::config::PubSubConfig;
use ductape_core::{Clock, ConnectOptions, Error, ErrorKind, Result};
use google_cloud_auth::credentials::{CacheableResource, Credentials};
use google_cloud_gax::retry_policy::NeverRetry;
use google_cloud_pubsub::client::{SubscriptionAdmin, TopicAdmin};
use http::uri::PathAndQuery;
use std::future::Future;
use std::time::Duration;
use tokio::sync::watch;
use tonic::client::Grpc;
use tonic::codec::Streaming;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

/// How often a connection on which a call waits is asked whether it is still there. Servers of gRPC hang up on those who
/// ask more often than every five minutes.
const KEEP_ALIVE: Duration = Duration::from_secs(301);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// The largest answer: a batch of the largest messages.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// What everything opened on one connection shares.
pub(crate) struct Link {
    pub(crate) project: String,
    pub(crate) topics: TopicAdmin,
    pub(crate) subscriptions: SubscriptionAdmin,
    /// Whether the config names the default group's subscription.
    pub(crate) names_subscription: bool,
    pub(crate) exactly_once: bool,
    pub(crate) clock: Clock,
    /// How long one call may take.
    pub(crate) limit: Duration,
    address: Address,
    /// None towards a server that could not keep a token to itself.
    credentials: Option<Credentials>,
    endpoint: Endpoint,
    /// Made anew where a call had no answer, since nobody else notices a network that swallows everything.
    channel: watch::Sender<Numbered>,
    closed: watch::Sender<bool>,
}

/// A channel, and its number among those of its link: what had no answer on one says nothing of the next.
#[derive(Clone)]
pub(crate) struct Numbered {
    pub(crate) number: u64,
    channel: Channel,
}

impl Link {
    /// A link by this config, whose credentials were tried and whose server was not.
    ///
    /// # Errors
    /// `SECRET_MISSING`, `CONFIG_INVALID`, `AUTHENTICATION_FAILED`, `CONNECT_FAILED`.
    pub(crate) async fn new(config: &PubSubConfig, options: &ConnectOptions) -> Result<Self> {
        install_ring();
        let address = Address::of(config, std::env::var(credentials::EMULATOR).ok());
        let credentials = credentials::open(config, &address, &options.base_dir)?;
        let endpoint = endpoint(&address, options)?;
        let channel = watch::Sender::new(Numbered { number: 0, channel: endpoint.connect_lazy() });
        let topics = TopicAdmin::builder()
            .with_endpoint(address.url.clone())
            .with_credentials(credentials.clone())
            .with_retry_policy(NeverRetry);
        let subscriptions = SubscriptionAdmin::builder()
            .with_endpoint(address.url.clone())
            .with_credentials(credentials.clone())
            .with_retry_policy(NeverRetry);
        Ok(Link {
            project: config.project_id.clone(),
            topics: topics.build().await.map_err(|error| unusable(&address, &error))?,
            subscriptions: subscriptions.build().await.map_err(|error| unusable(&address, &error))?,
            names_subscription: config.subscription_name.is_some(),
            exactly_once: config.exactly_once,
            clock: options.clock.clone(),
            limit: options.request_timeout,
            credentials: (!address.is_plain()).then_some(credentials),
            address,
            endpoint,
            channel,
            closed: watch::Sender::new(false),
        })
    }

    /// Whether the credentials give a token.
    ///
    /// # Errors
    /// `AUTHENTICATION_FAILED`.
    pub(crate) async fn authenticate(&self, within: Duration) -> Result<()> {
        match tokio::time::timeout(within, self.metadata()).await {
            Ok(metadata) => metadata.map(drop),
            Err(_) => Err(error::no_credentials(&format!("nothing within {within:?}"))),
        }
    }

    /// One call of the data plane. `resource` is what it is about, as Google's servers route it: `topic=…`.
    ///
    /// # Errors
    /// Those of the server; [`ErrorKind::Timeout`]; and the status that it was, where there was one.
    pub(crate) async fn call<Q, A>(
        &self,
        (method, what, effect): (&'static str, &str, Effect),
        resource: (&str, &str),
        request: Q,
    ) -> Result<A, (Error, Option<Status>)>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        self.check_open("the connection").map_err(|error| (error, None))?;
        let Numbered { number, channel } = self.channel.borrow().clone();
        let calling = async {
            let request = self.request(request, resource).await.map_err(|error| (error, None))?;
            let mut grpc = client(channel);
            let told = |status: Status| (error::rpc(&status, what, effect), Some(status));
            // A failure to get ready is one to connect.
            grpc.ready().await.map_err(|error| told(Status::from_error(error.into())))?;
            let codec = ProstCodec::<Q, A>::default();
            let answer = grpc.unary(request, PathAndQuery::from_static(method), codec).await;
            answer.map(tonic::Response::into_inner).map_err(told)
        };
        match tokio::time::timeout(self.limit, calling).await {
            Ok(answer) => answer,
            Err(_) => {
                self.renew(number);
                Err((error::timed_out(what, effect), None))
            }
        }
        .map_err(|(error, status)| (self.located(error), status))
    }

    /// Opens a stream of answers to a stream of requests, on this channel. Waits for the server's first answer, however
    /// long.
    ///
    /// # Errors
    /// As [`call`](Self::call), without a time limit.
    pub(crate) async fn stream<Q, A>(
        &self,
        channel: Numbered,
        (method, what): (&'static str, &str),
        resource: (&str, &str),
        requests: impl futures_util::Stream<Item = Q> + Send + 'static,
    ) -> Result<Streaming<A>>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        let request = self.request(requests, resource).await?;
        let mut grpc = client(channel.channel);
        let told = |status: &Status| self.located(error::rpc(status, what, Effect::Same));
        grpc.ready().await.map_err(|error| told(&Status::from_error(error.into())))?;
        let codec = ProstCodec::<Q, A>::default();
        let stream = grpc.streaming(request, PathAndQuery::from_static(method), codec).await;
        stream.map(tonic::Response::into_inner).map_err(|status| told(&status))
    }

    async fn request<Q>(&self, message: Q, (name, value): (&str, &str)) -> Result<Request<Q>> {
        let mut request = Request::new(message);
        *request.metadata_mut() = self.metadata().await?;
        let routed = format!("{name}={}", value.replace('/', "%2F"));
        if let Ok(routed) = MetadataValue::try_from(routed) {
            request.metadata_mut().insert("x-goog-request-params", routed);
        }
        Ok(request)
    }

    /// What says who we are. The credentials keep their token until it has to be renewed.
    async fn metadata(&self) -> Result<MetadataMap> {
        let Some(credentials) = &self.credentials else { return Ok(MetadataMap::new()) };
        match credentials.headers(http::Extensions::new()).await {
            Ok(CacheableResource::New { data, .. }) => Ok(MetadataMap::from_headers(data)),
            // Only told to who names what he has.
            Ok(CacheableResource::NotModified) => Ok(MetadataMap::new()),
            Err(error) => Err(error::no_credentials(&error.to_string())),
        }
    }

    /// A call over REST, within the time that a call has.
    pub(crate) async fn admin<T>(
        &self,
        call: impl Future<Output = google_cloud_pubsub::Result<T>>,
    ) -> Result<google_cloud_pubsub::Result<T>> {
        self.check_open("the connection")?;
        match tokio::time::timeout(self.limit, call).await {
            Ok(answer) => Ok(answer),
            Err(_) => Err(self.located(error::timed_out("the call", Effect::Same))),
        }
    }

    /// Says where an error happened.
    pub(crate) fn located(&self, error: Error) -> Error {
        error.with_context("endpoint", &self.address.url).with_context("project", &self.project)
    }

    /// Begins a new channel after this one, on which something had no answer, unless another did so already: many may
    /// wait on one that is dead. What is under way on the old one ends there.
    pub(crate) fn renew(&self, silent: u64) {
        let renewed = self.channel.send_if_modified(|current| {
            let is_current = current.number == silent;
            if is_current {
                *current = Numbered { number: silent + 1, channel: self.endpoint.connect_lazy() };
            }
            is_current
        });
        if renewed {
            tracing::warn!(endpoint = self.address.url, "no answer came in time; connecting anew");
        }
    }

    /// Told when the channel is another.
    pub(crate) fn channel_changes(&self) -> watch::Receiver<Numbered> {
        self.channel.subscribe()
    }

    /// Told when the connection is closed.
    pub(crate) fn closing(&self) -> watch::Receiver<bool> {
        self.closed.subscribe()
    }

    /// # Errors
    /// `CLOSED`.
    pub(crate) fn check_open(&self, what: &str) -> Result<()> {
        if *self.closed.borrow() { Err(Error::closed(what)) } else { Ok(()) }
    }

    pub(crate) fn close(&self) {
        self.closed.send_replace(true);
    }
}

/// Everything here speaks TLS by rustls with ring. Another part of the program may have chosen already.
fn install_ring() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

fn client(channel: Channel) -> Grpc<Channel> {
    Grpc::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES)
}

fn endpoint(address: &Address, options: &ConnectOptions) -> Result<Endpoint> {
    let bad = |error: tonic::transport::Error| {
        Error::new(
            ErrorKind::ConfigInvalid,
            format!("`endpoint` does not read as an address: {}", address.url),
        )
        .with_help("write `host:port`, or a URL with http:// or https://")
        .with_source(error)
    };
    let endpoint = Endpoint::from_shared(address.url.clone())
        .map_err(bad)?
        .connect_timeout(options.connect_timeout)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
    // A name that no header can hold is left out.
    let agent = format!("{} ductape/{}", options.client_name, env!("CARGO_PKG_VERSION"));
    let endpoint = endpoint.clone().user_agent(agent).unwrap_or(endpoint);
    if address.is_plain() {
        return Ok(endpoint);
    }
    endpoint.tls_config(ClientTlsConfig::new().with_native_roots()).map_err(bad)
}

fn unusable(address: &Address, error: &google_cloud_gax::client_builder::Error) -> Error {
    Error::new(ErrorKind::ConfigInvalid, format!("no client for {}: {error}", address.url))
        .with_help("see `endpoint` and `keyFilename`")
}
