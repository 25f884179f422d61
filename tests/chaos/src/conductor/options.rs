//! What a run is asked to be.

use crate::carrier::{Carrier, Home};
use crate::fault::Fault;
use crate::plan::{GroupPlan, Plan};
use serde_json::Value;
use std::path::PathBuf;
use std::time::Duration;

/// What a run is asked to be.
#[derive(Clone, Debug)]
pub struct Options {
    /// The provider, as a catalogue writes it.
    pub provider: String,
    /// How many messages are published in all.
    pub messages: u64,
    /// How many kills there are, of the server, of publishers and of subscribers.
    pub kills: usize,
    /// How many other faults there are.
    pub faults: usize,
    /// What chance begins with.
    pub seed: u64,
    /// Only these faults, where there are any.
    pub only: Vec<Fault>,
    /// How long publishing takes, where it is not to be as fast as it can.
    pub lasting: Option<Duration>,
    /// After how long publishing ends, however much was to be published.
    pub limit: Option<Duration>,
    /// How many publishers there are.
    pub publishers: u16,
    /// How many members each group has. At least 2, so that there is somebody to take over.
    pub members: u8,
    /// How far publishers may be ahead of the slowest group, where not as far as the provider's line says.
    pub window: Option<u64>,
    /// How long every handler takes.
    pub handling: Duration,
    /// How long leases and handlers may last, where not as short as faults ask for.
    pub patience: Option<Duration>,
    /// Messages that kill the process which handles them: publisher and number.
    pub poison: Vec<(u16, u32)>,
    /// The program that hosts actors.
    pub program: PathBuf,
    /// Where the picture goes.
    pub out: Option<PathBuf>,
    /// Lines of the server's configuration.
    pub settings: Vec<(String, String)>,
    /// Fields of the provider's config.
    pub config: Vec<(String, Value)>,
}

impl Options {
    /// A run of so many messages with this program hosting its actors.
    pub fn new(provider: impl Into<String>, messages: u64, program: impl Into<PathBuf>) -> Self {
        Options {
            provider: provider.into(),
            messages,
            kills: 0,
            faults: 0,
            seed: 1,
            only: Vec::new(),
            lasting: None,
            limit: None,
            publishers: 2,
            members: 2,
            window: None,
            handling: Duration::ZERO,
            patience: None,
            poison: Vec::new(),
            program: program.into(),
            out: None,
            settings: Vec::new(),
            config: Vec::new(),
        }
    }

    pub(super) fn plan(&self, carrier: &Carrier, folder: PathBuf) -> Plan {
        let groups = ["board", "audit"].into_iter().take(usize::from(carrier.groups)).enumerate();
        // The first is the default group, whose name is the config's or the product's.
        let group = |(index, name): (usize, &str)| GroupPlan {
            name: name.to_owned(),
            group: (index > 0).then(|| name.to_owned()),
            members: self.members,
        };
        let each = self.messages.div_ceil(u64::from(self.publishers.max(1)));
        Plan {
            folder,
            provider: carrier.kind.to_owned(),
            event: format!("airport-{:08x}:departures", fastrand::u32(..)),
            groups: groups.map(group).collect(),
            publishers: self.publishers,
            messages: u32::try_from(each).unwrap_or(u32::MAX),
            seed: self.seed,
            rate: self.lasting.map(|lasting| each as f64 / lasting.as_secs_f64().max(0.001)),
            batch: 128,
            concurrency: 16,
            lease: self.patience.unwrap_or(carrier.lease),
            request_timeout: carrier.lease.max(Duration::from_secs(5)),
            handler_timeout: self.patience.unwrap_or(Duration::from_secs(2)),
            drain_timeout: Duration::from_secs(5),
            attempts: 5,
            handling: self.handling,
            rejects: self.poison.is_empty(),
            poison: self.poison.clone(),
            one_clock: carrier.home == Home::Process,
        }
    }

    /// Sets what is asked for in a provider's config.
    pub(super) fn amend(&self, config: &mut Value) {
        for (field, value) in &self.config {
            config[field.as_str()] = value.clone();
        }
    }
}
