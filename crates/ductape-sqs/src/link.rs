//! The connection: the SDK's client with its credentials, the time limits, and what it knows of queues.

use crate::consumer::Member;
use crate::error;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::timeout::TimeoutConfig;
use aws_sdk_sqs::config::{SharedHttpClient, StalledStreamProtectionConfig};
use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_http_client::tls::{self, rustls_provider::CryptoMode};
use aws_smithy_types::retry::RetryConfig;
use ductape_core::config::SqsConfig;
use ductape_core::{Clock, ConnectOptions, Error, Result};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::watch;

/// A connection to SQS. The SDK pools the sockets.
pub(crate) struct Link {
    pub(crate) client: Client,
    pub(crate) region: String,
    pub(crate) endpoint: Option<String>,
    /// How long one call may take.
    pub(crate) limit: Duration,
    pub(crate) clock: Clock,
    /// URLs of queues, by the destination's name.
    urls: Mutex<HashMap<Arc<str>, Arc<str>>>,
    consumers: Mutex<Vec<Weak<Member>>>,
    closed: watch::Sender<bool>,
}

impl Link {
    /// Builds the client; nothing is asked of the server yet.
    pub(crate) async fn new(config: &SqsConfig, options: &ConnectOptions) -> Self {
        let sdk = sdk_config(config, options).await;
        Link {
            client: Client::new(&sdk),
            region: config.region.clone(),
            endpoint: config.endpoint.clone(),
            limit: options.request_timeout,
            clock: options.clock.clone(),
            urls: Mutex::default(),
            consumers: Mutex::default(),
            closed: watch::Sender::new(false),
        }
    }

    /// The result of a call within the time limit. `acts` is whether doing it twice is worse than once.
    pub(crate) async fn within<T, E>(
        &self,
        what: &str,
        acts: bool,
        call: impl Future<Output = Result<T, SdkError<E>>>,
    ) -> Result<T>
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        match tokio::time::timeout(self.limit, call).await {
            Ok(result) => result.map_err(|failed| error::call(&failed, what, acts)),
            Err(_) => Err(error::timeout(what, acts)),
        }
    }

    /// Refuses whatever comes after the close.
    pub(crate) fn check_open(&self, what: &str) -> Result<()> {
        if *self.closed.borrow() { Err(Error::closed(what)) } else { Ok(()) }
    }

    pub(crate) fn url(&self, name: &str) -> Option<Arc<str>> {
        lock(&self.urls).get(name).cloned()
    }

    pub(crate) fn know(&self, name: &Arc<str>, url: &str) -> Arc<str> {
        let url: Arc<str> = url.into();
        lock(&self.urls).insert(Arc::clone(name), Arc::clone(&url));
        url
    }

    /// Closes this consumer with the connection.
    pub(crate) fn own(&self, consumer: &Arc<Member>) {
        let mut consumers = lock(&self.consumers);
        consumers.retain(|other| other.strong_count() > 0);
        consumers.push(Arc::downgrade(consumer));
    }

    /// Closes, and says which consumers are to be closed with it.
    pub(crate) fn close(&self) -> Vec<Arc<Member>> {
        self.closed.send_replace(true);
        std::mem::take(&mut *lock(&self.consumers)).iter().filter_map(Weak::upgrade).collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The SDK does not retry: whether a publish may be sent twice is for the publisher to know. Its time limits are ours,
/// a call at a time, but for connecting.
async fn sdk_config(config: &SqsConfig, options: &ConnectOptions) -> SdkConfig {
    let timeouts = TimeoutConfig::builder().connect_timeout(options.connect_timeout).build();
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new(config.region.clone()))
        .http_client(http_client(config))
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts)
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
    if let Some(endpoint) = &config.endpoint {
        loader = loader.endpoint_url(endpoint);
    }
    if let (Some(id), Some(key)) = (&config.access_key_id, &config.secret_access_key) {
        let token = config.session_token.as_ref().map(|token| token.expose().to_owned());
        loader = loader.credentials_provider(Credentials::new(id, key.expose(), token, None, "ductape"));
    } else if let Some(profile) = &config.profile {
        loader = loader.profile_name(profile);
    }
    loader.load().await
}

/// Reading the machine's authorities takes time that an emulator without TLS need not cost. Without keys the chain of
/// credentials may have to ask a server with TLS.
fn http_client(config: &SqsConfig) -> SharedHttpClient {
    let builder = aws_smithy_http_client::Builder::new();
    match &config.endpoint {
        Some(endpoint) if endpoint.starts_with("http://") && config.access_key_id.is_some() => {
            builder.build_http()
        }
        _ => builder.tls_provider(tls::Provider::Rustls(CryptoMode::Ring)).build_https(),
    }
}
