//! What a run is: written into its folder by the conductor, read by every actor.

use crate::clock;
use crate::record::MessageRef;
use ductape::{Clock, ConnectOptions, Ductape, Provider};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

/// A group of subscribers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GroupPlan {
    /// Its name in reports.
    pub name: String,
    /// Its name at the provider; none for the default group.
    pub group: Option<String>,
    /// How many members it has.
    pub members: u8,
}

/// What a run is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// Where logs, catalogue and this plan are.
    pub folder: PathBuf,
    /// The provider, as a catalogue writes it.
    pub provider: String,
    /// The event.
    pub event: String,
    /// The groups.
    pub groups: Vec<GroupPlan>,
    /// How many publishers there are.
    pub publishers: u16,
    /// How many messages each of them publishes.
    pub messages: u32,
    /// What chance begins with.
    pub seed: u64,
    /// Messages a second that each publisher publishes at most; without it as fast as it can.
    pub rate: Option<f64>,
    /// How many messages one publish holds at most.
    pub batch: usize,
    /// Handlers that a subscriber may have under way.
    pub concurrency: usize,
    /// How long a delivery is a subscriber's without renewal.
    pub lease: Duration,
    /// How long one call to the provider may take.
    pub request_timeout: Duration,
    /// How long a handler may take.
    pub handler_timeout: Duration,
    /// How long a stop waits for handlers.
    pub drain_timeout: Duration,
    /// How often a handler gets a message.
    pub attempts: u32,
    /// How long every handler takes.
    pub handling: Duration,
    /// Whether the first group rejects flights that were cancelled.
    pub rejects: bool,
    /// Messages that kill the process which handles them.
    pub poison: Vec<(u16, u32)>,
    /// Whether all actors go by one clock, since they share one store in one process.
    pub one_clock: bool,
}

const FILE: &str = "plan.json";
const CATALOGUE: &str = "ductape.json";

impl Plan {
    /// Writes the plan into its folder.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn save(&self) -> std::io::Result<()> {
        let text = serde_json::to_vec_pretty(self)?;
        std::fs::write(self.folder.join(FILE), text)
    }

    /// Reads the plan of a folder.
    ///
    /// # Errors
    /// Where there is none.
    pub fn load(folder: &Path) -> std::io::Result<Self> {
        Ok(serde_json::from_slice(&std::fs::read(folder.join(FILE))?)?)
    }

    /// Writes the catalogue of a run with this config of its provider.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn save_catalogue(&self, config: &serde_json::Value, ordered: bool) -> std::io::Result<()> {
        let (broker, topic) = self.event.split_once(':').unwrap_or((&self.event, "departures"));
        let catalogue = serde_json::json!({
            "product": "airport",
            "brokers": [{
                "name": "Airport",
                "tag": broker,
                "envs": [{ "slug": "chaos", "type": self.provider, "config": config }],
                "topics": [{ "name": "Departures", "tag": topic, "ordered": ordered }],
            }],
        });
        std::fs::write(self.folder.join(CATALOGUE), catalogue.to_string())
    }

    /// A client of the run's catalogue.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn client(&self, clock: Clock, provider: Option<impl Provider>) -> ductape::Result<Ductape> {
        let options = ConnectOptions {
            client_name: "chaos".into(),
            request_timeout: self.request_timeout,
            base_dir: self.folder.clone(),
            clock,
            ..ConnectOptions::default()
        };
        let builder = Ductape::file(self.folder.join(CATALOGUE)).env("chaos").connect_options(options);
        match provider {
            Some(provider) => builder.provider(provider).build().await,
            None => builder.build().await,
        }
    }

    /// The clock of an actor of this run; `jumpy` is one that can be made to jump. Asked inside a runtime.
    pub(crate) fn clock(&self, jumpy: bool) -> Clock {
        static ONE: OnceLock<Clock> = OnceLock::new();
        match (self.one_clock, jumpy) {
            (true, _) => ONE.get_or_init(clock::ticking).clone(),
            (false, true) => clock::ticking(),
            (false, false) => Clock::system(),
        }
    }

    /// Whether this message kills the process that handles it.
    pub fn is_poison(&self, message: MessageRef) -> bool {
        self.poison.contains(&(message.publisher, message.number))
    }
}
