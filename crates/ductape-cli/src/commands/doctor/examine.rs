//! The checks of one broker in one env.

use super::embedded::{self, File};
use super::endpoint;
use super::finding::Finding;
use crate::commands::check::not_compiled_in;
use ductape::broker::{ConnectOptions, GroupInspection, Provision};
use ductape::catalogue::{BrokerEntry, EnvEntry, MemoryStore};
use ductape::client::EventInspection;
use ductape::{Catalogue, Ductape, Error, ErrorKind, ProviderConfig};
use futures_util::future::join_all;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long connecting and one call may take. Connecting and the two calls of a look at a destination stay below the
/// deadline of all, so that each fault is told by its own name.
const CONNECT: Duration = Duration::from_secs(3);
const REQUEST: Duration = Duration::from_secs(2);

/// Takes findings as they come.
type Tell<'t> = &'t dyn Fn(Finding);

/// One broker in one env, to be examined in a thread of its own.
pub(super) struct Patient {
    /// The broker with this env alone.
    catalogue: Catalogue,
    broker: String,
    entry: EnvEntry,
    events: Vec<String>,
    base_dir: PathBuf,
}

impl Patient {
    pub(super) fn new(
        catalogue: &Catalogue,
        broker: &BrokerEntry,
        entry: &EnvEntry,
        base_dir: &Path,
    ) -> Self {
        let alone = BrokerEntry { envs: vec![entry.clone()], ..broker.clone() };
        let product = catalogue.product.clone();
        Patient {
            catalogue: Catalogue { product, brokers: vec![alone], sessions: Vec::new() },
            broker: broker.tag.to_string(),
            entry: entry.clone(),
            events: broker.events().iter().map(|(event, _)| event.to_string()).collect(),
            base_dir: base_dir.to_owned(),
        }
    }

    fn finding(&self, check: &'static str) -> Finding {
        Finding::new(&self.broker, self.entry.slug.as_str(), check, "")
    }

    fn finding_of(&self, check: &'static str, event: &str) -> Finding {
        Finding::new(&self.broker, self.entry.slug.as_str(), check, event)
    }

    /// What is told where the examination does not end in time.
    pub(super) fn hanging(&self, deadline: Duration) -> Finding {
        let fix = "see that the server is up and not stuck; what is told above has answered";
        self.finding("deadline").fault(format!("no answer to the other checks within {deadline:?}"), fix)
    }

    /// Examines, and tells each finding as soon as it is there.
    pub(super) fn examine(&self, tell: Tell<'_>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        match runtime {
            Ok(runtime) => {
                runtime.block_on(self.examine_all(tell));
                // What hangs is not waited for.
                runtime.shutdown_background();
            }
            Err(error) => {
                let fix = "see how many threads this user may have";
                tell(self.finding("connect").fault(error.to_string(), fix));
            }
        }
    }

    async fn examine_all(&self, tell: Tell<'_>) {
        let client = self.client().await;
        let compiled_in = client.as_ref().is_ok_and(|client| client.providers().contains(&self.entry.kind));
        tell(match compiled_in {
            true => self.finding("compiled in").good(self.entry.kind.as_str()),
            false => self.finding("compiled in").fault_of(&not_compiled_in(&self.entry)),
        });
        let config = match self.entry.config.resolve(&self.base_dir) {
            Ok(config) => config,
            Err(error) => {
                tell(self.finding("secrets").fault_of(&error));
                return tell(self.finding("connect").skipped("a secret is missing"));
            }
        };
        tell(self.finding("secrets").good("there"));
        let servers = self.servers(&config, tell);
        match client {
            Ok(client) if compiled_in => {
                tokio::join!(servers, self.provider(&client, &config, tell));
            }
            _ => servers.await,
        }
    }

    async fn client(&self) -> Result<Ductape, Error> {
        let options = ConnectOptions {
            client_name: "ductape-doctor".into(),
            connect_timeout: CONNECT,
            request_timeout: REQUEST,
            base_dir: self.base_dir.clone(),
            ..ConnectOptions::default()
        };
        let store = MemoryStore::new(self.catalogue.clone());
        Ductape::store(store).connect_options(options).env(self.entry.slug.as_str()).build().await
    }

    /// Whether names resolve and ports answer, by our own means.
    async fn servers(&self, config: &ProviderConfig, tell: Tell<'_>) {
        let endpoints = endpoint::of(config);
        let examined = endpoints.iter().map(|endpoint| {
            let shown = if endpoints.len() > 1 { endpoint.to_string() } else { String::new() };
            async move {
                endpoint.examine(|check| self.finding_of(check, &shown)).await.into_iter().for_each(tell)
            }
        });
        join_all(examined).await;
    }

    /// What only the provider itself can tell.
    async fn provider(&self, client: &Ductape, config: &ProviderConfig, tell: Tell<'_>) {
        let (file, missing) = self.file(config);
        file.into_iter().for_each(tell);
        if missing {
            return;
        }
        let Some(event) = self.events.first() else {
            let fix = format!("make one with `ductape topic create {}:…`", self.broker);
            return tell(self.finding("destination").warning("the broker has no topics", fix));
        };
        if let Err(error) = client.capabilities(event, None).await {
            return tell(self.finding("authenticate").fault_of(&error));
        }
        tell(self.finding("authenticate").good("taken"));
        let events = join_all(self.events.iter().map(|event| self.event(client, event, tell)));
        tokio::join!(async { tell(self.ping(client, event).await) }, events);
        // Closing is no check, and what hangs here is taken along by the end of the thread.
        drop(tokio::time::timeout(REQUEST, client.close()).await);
    }

    /// What is to be told of the provider's file, and whether there is none to look into.
    fn file(&self, config: &ProviderConfig) -> (Option<Finding>, bool) {
        let connect = self.finding("connect");
        match embedded::file(config, &self.base_dir) {
            File::None => (None, false),
            File::There(path) => (Some(connect.good(format!("{} is there", path.display()))), false),
            File::Missing { path, writable: true } => {
                let found = format!("{} is not there yet; the first publish makes it", path.display());
                (Some(connect.good(found)), true)
            }
            File::Missing { path, writable: false } => {
                let found = format!("{} is not there and cannot be made", path.display());
                (Some(connect.fault(found, "let this user write to its folder, or mend `path`")), true)
            }
        }
    }

    async fn ping(&self, client: &Ductape, event: &str) -> Finding {
        let begun = Instant::now();
        match client.ping(event, None).await {
            Ok(()) => {
                self.finding("round trip").good(format!("{:.1} ms", begun.elapsed().as_secs_f64() * 1e3))
            }
            Err(error) => self.finding("round trip").fault_of(&error),
        }
    }

    async fn event(&self, client: &Ductape, event: &str, tell: Tell<'_>) {
        let finding = |check| self.finding_of(check, event);
        match client.inspect(event, None).await {
            Ok(seen) => self.seen(event, &seen).into_iter().for_each(tell),
            Err(error) if error.kind() == ErrorKind::DestinationNotFound => {
                tell(match self.entry.provision {
                    Provision::Create => {
                        finding("destination").good("not there yet; the first publish makes it")
                    }
                    Provision::Verify => finding("destination").fault(
                        "not there, and `provision: verify` forbids to make it",
                        "make it at the provider, or take `provision` away",
                    ),
                })
            }
            Err(error) => tell(finding("destination").fault_of(&error)),
        }
    }

    fn seen(&self, event: &str, seen: &EventInspection) -> Vec<Finding> {
        let finding = |check| self.finding_of(check, event);
        let kept = match seen.destination.messages {
            None => String::new(),
            Some(1) => ", keeps 1 message".to_owned(),
            Some(kept) => format!(", keeps {kept} messages"),
        };
        let groups = &seen.destination.groups;
        let lag: Vec<_> = groups.iter().map(shown).collect();
        let unread: Vec<_> = groups
            .iter()
            .filter(|group| group.lag.is_some_and(|lag| lag > 0) && group.members == Some(0))
            .map(|g| &*g.name)
            .collect();
        let groups = match (lag.is_empty(), unread.is_empty()) {
            (true, _) => finding("groups").good("none yet"),
            (false, true) => finding("groups").good(lag.join("; ")),
            (false, false) => finding("groups").warning(
                lag.join("; "),
                format!("nobody reads as `{}`: start its subscriber", unread.join("`, `")),
            ),
        };
        let dead_letters = match seen.dead_letters {
            Some(0) => finding("dead letters").good("none"),
            None => finding("dead letters").good("the provider cannot tell how many"),
            Some(waiting) => finding("dead letters").warning(
                format!("{waiting} wait"),
                format!("see why with `ductape dead-letters list {event} --env {}`", self.entry.slug),
            ),
        };
        let notes: String = seen.destination.notes.iter().map(|note| format!("; {note}")).collect();
        vec![finding("destination").good(format!("there{kept}{notes}")), groups, dead_letters]
    }
}

fn shown(group: &GroupInspection) -> String {
    let members = group.members.map(|members| format!(", {members} members")).unwrap_or_default();
    let lag = group.lag.map_or_else(|| "unknown".to_owned(), |lag| lag.to_string());
    format!("{}: lag {lag}, {} in hand{members}", group.name, group.in_flight)
}
