//! What is published: departures of New York's airports, keyed by tail number, again and again.
//!
//! A key belongs to one publisher, so that the order of its messages is that publisher's own.

use crate::record::MessageRef;
use serde::Deserialize;
use std::collections::HashMap;

const LINES: &str = include_str!("../../../crates/ductape/examples/departures/departures.ndjson");

/// The header that tells which message it is: `PUBLISHER:NUMBER`.
pub(crate) const IDENTITY: &str = "chaos";

/// A departure.
#[derive(Debug)]
pub struct Departure {
    /// As it is published.
    pub json: &'static str,
    /// Its aircraft; few have none.
    pub tail_number: Option<Box<str>>,
    /// A number for the aircraft.
    pub key: Option<u32>,
    /// Whether it never left: such are rejected by the first group's handlers.
    pub cancelled: bool,
}

/// The departures of each publisher.
#[derive(Debug)]
pub struct Load {
    departures: Vec<Departure>,
    /// For each publisher the departures that are its own.
    shares: Vec<Vec<u32>>,
    keys: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    tail_number: Option<Box<str>>,
    cancelled: bool,
}

impl Load {
    /// The departures, shared out among so many publishers.
    ///
    /// # Panics
    /// Where the file of departures is not what it should be.
    pub fn new(publishers: u16) -> Self {
        let (mut departures, mut keys) = (Vec::new(), HashMap::new());
        let mut shares = vec![Vec::new(); usize::from(publishers.max(1))];
        for (index, json) in LINES.lines().enumerate() {
            let line: Line = serde_json::from_str(json).expect("a line of the departures");
            let known = keys.len() as u32;
            let key = line.tail_number.clone().map(|tail| *keys.entry(tail).or_insert(known));
            let share = key.unwrap_or(index as u32) as usize % shares.len();
            shares[share].push(index as u32);
            departures.push(Departure {
                json,
                tail_number: line.tail_number,
                key,
                cancelled: line.cancelled,
            });
        }
        Load { departures, shares, keys: keys.len() as u32 }
    }

    /// What a publisher's message holds; `None` of a publisher that is not there.
    pub fn departure(&self, message: MessageRef) -> Option<&Departure> {
        let share = self.shares.get(usize::from(message.publisher))?;
        self.departures.get(share[message.number as usize % share.len()] as usize)
    }

    /// How many keys there are.
    pub fn keys(&self) -> u32 {
        self.keys
    }

    /// One of the tail numbers, chosen by `chance`.
    pub fn tail_number(&self, chance: u64) -> &str {
        let index = chance as usize % self.departures.len();
        let from_there = self.departures[index..].iter().chain(&self.departures[..index]);
        from_there.into_iter().find_map(|departure| departure.tail_number.as_deref()).unwrap_or("")
    }
}

/// The text of [`IDENTITY`].
pub(crate) fn identity(message: MessageRef) -> String {
    format!("{}:{}", message.publisher, message.number)
}

/// Reads [`IDENTITY`].
pub(crate) fn read_identity(text: &str) -> Option<MessageRef> {
    let (publisher, number) = text.split_once(':')?;
    Some(MessageRef { publisher: publisher.parse().ok()?, number: number.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn a_key_belongs_to_one_publisher() {
        let load = Load::new(3);
        let keys = |publisher: u16| -> HashSet<u32> {
            let message = |number| load.departure(MessageRef { publisher, number }).unwrap();
            (0..6099).filter_map(|number| message(number).key).collect()
        };
        let all: Vec<_> = (0..3).map(keys).collect();
        assert!(all[0].is_disjoint(&all[1]) && all[1].is_disjoint(&all[2]) && all[0].is_disjoint(&all[2]));
        assert_eq!(all.iter().map(HashSet::len).sum::<usize>(), load.keys() as usize);
        assert!(load.departure(MessageRef { publisher: 3, number: 0 }).is_none());
    }

    #[test]
    fn an_identity_is_read_as_it_was_written() {
        let message = MessageRef { publisher: 2, number: 12_345 };
        assert_eq!(read_identity(&identity(message)), Some(message));
        assert_eq!(read_identity("2"), None);
        assert_eq!(read_identity("2:x"), None);
    }
}
