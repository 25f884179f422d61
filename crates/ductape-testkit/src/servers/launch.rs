//! Getting a server: the ways, in their order, said aloud.

use super::native::{Native, Runner};
use super::server::Server;
use super::way::{WAY, Way};
use super::{Endpoint, Error, Kind, ping};
use std::io::Write;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::OnceCell;

/// How a server of one's own differs from the usual one. [`Default`] is the usual one.
#[derive(Clone, Debug, Default)]
pub struct Options {
    settings: Vec<(String, String)>,
    full_speed: bool,
}

impl Options {
    /// A line of the server's own configuration: of server.properties, rabbitmq.conf, redis.conf or ElasticMQ's
    /// elasticmq.conf. It overrides ours.
    #[must_use]
    pub fn with_setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }

    /// Lets a server on the JVM compile as in production, for measurements. By default it compiles less, and starts
    /// sooner.
    #[must_use]
    pub fn with_full_speed(mut self) -> Self {
        self.full_speed = true;
        self
    }

    /// Those of one that nobody kills. What ElasticMQ keeps in a file is read while a queue changes it: "mutation
    /// occurred during iteration", after which the request has no answer but an internal error (seen with 1.7.1).
    fn of_a_shared_one(kind: Kind) -> Self {
        match kind {
            Kind::Sqs => Options::default().with_setting("messages-storage.enabled", "false"),
            _ => Options::default(),
        }
    }

    pub(super) fn full_speed(&self) -> bool {
        self.full_speed
    }

    pub(super) fn settings(&self) -> impl Iterator<Item = (&str, &str)> {
        self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

/// What this process shares, in the order of [`Kind::ALL`]. A server that stands here ends with the process.
static SHARED: [OnceCell<Result<Arc<Server>, Error>>; Kind::ALL.len()] =
    [const { OnceCell::const_new() }; Kind::ALL.len()];

/// The server of this kind that all tests of a program share: the one that the environment names, else one that is
/// started at the first call. Nobody may kill, stall or stop it; tests that do so start [one of their own](own).
///
/// # Errors
/// [`Error::Missing`] where nothing is installed to start. [`Error::Broken`] where the one that the environment names
/// does not answer, and where one does not get ready.
pub async fn shared(kind: Kind) -> Result<Arc<Server>, Error> {
    let index = Kind::ALL.iter().position(|each| *each == kind).unwrap_or_default();
    SHARED[index].get_or_init(|| async { find_or_start(kind).await.map(Arc::new) }).await.clone()
}

/// The server that the environment names, else one that ends with its handle.
///
/// # Errors
/// As [`shared`].
pub async fn find_or_start(kind: Kind) -> Result<Server, Error> {
    refuse_if_off(kind)?;
    match Endpoint::from_environment(kind)? {
        Some(endpoint) => given(kind, endpoint).await,
        None => own(kind, Options::of_a_shared_one(kind)).await,
    }
}

/// The server that the environment names, which must answer: to go on without it would hide a mistake.
async fn given(kind: Kind, endpoint: Endpoint) -> Result<Server, Error> {
    ping::ping(kind, &endpoint)
        .await
        .map_err(|error| Error::broken(kind, format!("{}={}: {error}", kind.variable(), endpoint.address)))?;
    say(format_args!("{kind}: at {}, {}", endpoint.address, kind.variable()));
    Ok(Server::from_environment(kind, endpoint))
}

/// A server for the caller alone, with empty data, that may be killed and stalled.
///
/// # Errors
/// As [`shared`].
pub async fn own(kind: Kind, options: Options) -> Result<Server, Error> {
    refuse_if_off(kind)?;
    let start = Instant::now();
    let server = Server::native(kind, start_first(kind, &options).await?);
    let took = start.elapsed().as_secs_f64();
    say(format_args!("{kind}: started {} at {} in {took:.1} s", server.origin(), server.endpoint().address));
    Ok(server)
}

/// Starts it in the first way that the environment allows and that is to be had.
async fn start_first(kind: Kind, options: &Options) -> Result<Native, Error> {
    let way = Way::from_environment(kind)?;
    if way == Way::Native {
        return Native::start(kind, options, Runner::Here).await;
    }
    let in_docker = match Runner::docker(kind).await {
        Ok(docker) => Native::start(kind, options, docker).await,
        Err(why) => Err(why),
    };
    match in_docker {
        Err(why) if way == Way::First => {
            // Where nobody asked for Docker, that there is none is nothing to tell.
            if matches!(why, Error::Broken { .. }) {
                say(format_args!("{kind}: not in Docker: {why}"));
            }
            Native::start(kind, options, Runner::Here).await
        }
        other => other,
    }
}

fn refuse_if_off(kind: Kind) -> Result<(), Error> {
    match Way::from_environment(kind)? {
        Way::None => Err(Error::missing(kind, format!("{WAY}=none"))),
        Way::Docker | Way::First | Way::Native => Ok(()),
    }
}

/// A line on standard error, which the standard harness does not capture.
fn say(line: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr().lock(), "servers: {line}");
}
