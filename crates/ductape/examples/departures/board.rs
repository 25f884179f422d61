//! What the two groups make of the departures, and the report at the end.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// One line of the file, as far as the example reads it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Departure {
    pub(crate) flight_id: String,
    pub(crate) tail_number: Option<String>,
    pub(crate) origin: String,
    pub(crate) departure_delay_minutes: Option<i64>,
    pub(crate) cancelled: bool,
}

/// Delays by origin.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Board(pub(crate) BTreeMap<String, Delays>);

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Delays {
    pub(crate) departures: u64,
    pub(crate) minutes: i64,
}

impl Board {
    pub(crate) fn add(&mut self, departure: &Departure) {
        let delays = self.0.entry(departure.origin.clone()).or_default();
        delays.departures += 1;
        delays.minutes += departure.departure_delay_minutes.unwrap_or(0);
    }

    pub(crate) fn departures(&self) -> u64 {
        self.0.values().map(|delays| delays.departures).sum()
    }
}

/// A cancelled flight, as its dead letter tells of it.
#[derive(Debug)]
pub(crate) struct Cancelled {
    pub(crate) flight_id: String,
    pub(crate) reason: String,
}

#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) env: String,
    pub(crate) provider: String,
    pub(crate) published: u64,
    pub(crate) publishing: Duration,
    pub(crate) handling: Duration,
    pub(crate) board: Board,
    /// None where the provider has one group only.
    pub(crate) audited: Option<u64>,
    pub(crate) retried: u64,
    pub(crate) cancelled: Vec<Cancelled>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "group delay-board    departures   mean delay")?;
        for (origin, delays) in &self.board.0 {
            let mean = delays.minutes as f64 / delays.departures.max(1) as f64;
            writeln!(f, "  {origin:<18} {:>10}   {mean:>6.1} min", delays.departures)?;
        }
        writeln!(f, "  {:<18} {:>10}", "all", self.board.departures())?;
        match self.audited {
            Some(audited) => writeln!(f, "group audit          {audited:>10}")?,
            None => {
                writeln!(f, "group audit                   -   a queue of {} has one group", self.provider)?
            }
        }
        writeln!(f, "retried              {:>10}", self.retried)?;
        writeln!(f, "dead letters         {:>10}   such as", self.cancelled.len())?;
        for cancelled in self.cancelled.iter().take(3) {
            writeln!(f, "  {} ({})", cancelled.flight_id, cancelled.reason)?;
        }
        let rate = |time: Duration| self.published as f64 / time.as_secs_f64().max(f64::EPSILON);
        write!(
            f,
            "published {} to {} ({}) at {:.0}/s; all handled at {:.0}/s",
            self.published,
            self.env,
            self.provider,
            rate(self.publishing),
            rate(self.handling),
        )
    }
}
