//! What the suite is run against.

use bytes::Bytes;
use ductape_core::{ConnectOptions, Destination, ErrorKind, Provider, ProviderConfig};
use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

type Foreign = dyn Fn(
        Destination,
        Bytes,
    ) -> Pin<Box<dyn Future<Output = Result<(), Box<dyn StdError + Send + Sync>>> + Send>>
    + Send
    + Sync;

/// A provider with a config, and what the suite must be told of it. Build it with [`Subject::new`] and `with_*`.
pub struct Subject {
    pub(super) label: String,
    pub(super) target: Result<Target, String>,
    pub(super) destinations: Box<dyn Fn(&str) -> Destination + Send + Sync>,
    pub(super) foreign: Option<Box<Foreign>>,
    pub(super) secrets: Vec<String>,
    pub(super) refused: Vec<(ProviderConfig, ErrorKind)>,
    pub(super) lease: Option<Duration>,
    pub(super) patience: Duration,
    pub(super) quiet: Duration,
    pub(super) concurrency: usize,
    pub(super) allowed_skips: Vec<(String, String)>,
    pub(super) skips: Vec<(String, String)>,
}

/// What connections are made to.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) provider: Arc<dyn Provider>,
    pub(super) config: ProviderConfig,
    pub(super) options: ConnectOptions,
}

impl Subject {
    /// This provider with this config. Its label is the provider's feature, as `memory`.
    pub fn new(provider: impl Provider, config: ProviderConfig) -> Self {
        let label = provider.kind().feature();
        let options = ConnectOptions { client_name: "ductape-testkit".into(), ..ConnectOptions::default() };
        Self::with_target(label, Ok(Target { provider: Arc::new(provider), config, options }))
    }

    /// A subject that is not there, such as a server that is not configured: every property is skipped with this
    /// reason.
    pub fn absent(label: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::with_target(label, Err(reason.into()))
    }

    fn with_target(label: impl Into<String>, target: Result<Target, String>) -> Self {
        Subject {
            label: label.into(),
            target,
            destinations: Box::new(|name| Destination::new(name, format!("{name}-readers"))),
            foreign: None,
            secrets: Vec::new(),
            refused: Vec::new(),
            lease: Some(Duration::from_secs(1)),
            patience: Duration::from_secs(10),
            quiet: Duration::from_millis(150),
            concurrency: 8,
            allowed_skips: Vec::new(),
            skips: Vec::new(),
        }
    }

    /// What reports call it, where one provider is tried in several modes: `sqlite-normal`.
    #[must_use]
    pub fn with_label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// How connections are made.
    #[must_use]
    pub fn with_connect_options(mut self, options: ConnectOptions) -> Self {
        if let Ok(target) = &mut self.target {
            target.options = options;
        }
        self
    }

    /// Makes a destination of a name that is fresh and holds `a-z`, `0-9` and `-` only, at most 60 of them. The
    /// destination must not be there yet and must be one that may be made. Default: that name, and the group
    /// `NAME-readers`.
    #[must_use]
    pub fn with_destinations(mut self, make: impl Fn(&str) -> Destination + Send + Sync + 'static) -> Self {
        self.destinations = Box::new(make);
        self
    }

    /// Publishes a body without Ductape, by the provider's own client. Without it the property is skipped.
    #[must_use]
    pub fn with_foreign_publish<F, Fut>(mut self, publish: F) -> Self
    where
        F: Fn(Destination, Bytes) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Box<dyn StdError + Send + Sync>>> + Send + 'static,
    {
        self.foreign = Some(Box::new(move |destination, body| Box::pin(publish(destination, body))));
        self
    }

    /// A secret of the config, which must never be seen. Choose a value that stands nowhere else.
    #[must_use]
    pub fn with_secret(mut self, secret: impl Into<String>) -> Self {
        self.secrets.push(secret.into());
        self
    }

    /// A config that cannot work, such as one with a wrong password or a closed port, and the kind of the error that
    /// connecting with it gives. Without any the property is skipped.
    #[must_use]
    pub fn with_refused(mut self, config: ProviderConfig, kind: ErrorKind) -> Self {
        self.refused.push((config, kind));
        self
    }

    /// The shortest lease that the provider keeps, or `None` where it has no leases. Default 1 s.
    #[must_use]
    pub fn with_lease(mut self, shortest: Option<Duration>) -> Self {
        self.lease = shortest;
        self
    }

    /// How long to wait for what should come before it counts as missing. Default 10 s.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// How long nothing must come until it counts as not coming: longer than a message takes from publish to
    /// receive. Default 150 ms.
    #[must_use]
    pub fn with_quiet(mut self, quiet: Duration) -> Self {
        self.quiet = quiet;
        self
    }

    /// How many properties run at once. At least 1. Default 8.
    #[must_use]
    pub fn with_concurrency(mut self, properties: usize) -> Self {
        self.concurrency = properties.max(1);
        self
    }

    /// Allows the properties whose names (`section: sentence`) begin so to be skipped, for this reason, when
    /// `DUCTAPE_REQUIRE=all` asks for every one. A beginning that no property has fails the run.
    #[must_use]
    pub fn allow_skip(mut self, beginning: impl Into<String>, reason: impl Into<String>) -> Self {
        self.allowed_skips.push((beginning.into(), reason.into()));
        self
    }

    /// Skips the properties whose names begin so, and says this reason aloud: for what the server under test cannot do
    /// though the provider could, such as an emulator's gap. Allowed also when `DUCTAPE_REQUIRE=all`.
    #[must_use]
    pub fn with_skip(mut self, beginning: impl Into<String>, reason: impl Into<String>) -> Self {
        let skip = (beginning.into(), reason.into());
        self.allowed_skips.push(skip.clone());
        self.skips.push(skip);
        self
    }

    /// Why this property is skipped.
    pub(super) fn skips(&self, name: &str) -> Option<&str> {
        self.skips
            .iter()
            .find(|(beginning, _)| name.starts_with(beginning.as_str()))
            .map(|(_, why)| why.as_str())
    }

    /// Whether this property may be skipped under `DUCTAPE_REQUIRE=all`.
    pub(super) fn allows_skip(&self, name: &str) -> bool {
        self.allowed_skips.iter().any(|(beginning, _)| name.starts_with(beginning.as_str()))
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject").field("label", &self.label).finish_non_exhaustive()
    }
}
