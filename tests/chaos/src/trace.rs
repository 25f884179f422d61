//! The story of one message, for whoever looks into a finding.

use crate::Fatal;
use crate::actor_name::{ActorName, logs_in};
use crate::fault::Fault;
use crate::journal::Reader;
use crate::load::{Load, read_identity};
use crate::plan::Plan;
use crate::record::{Kind, MessageRef, Record};
use std::fmt::Write;
use std::path::Path;

/// All that is written in the logs of a run about a message (`PUBLISHER:NUMBER`) and about the one of its key that was
/// published before it, with the faults meanwhile and the losses of those who had it. In the order of time.
///
/// # Errors
/// Where the logs cannot be read, or the message is not written as one.
pub fn trace(folder: &Path, message: &str) -> Result<String, Fatal> {
    let message = read_identity(message).ok_or("write the message as PUBLISHER:NUMBER")?;
    let load = Load::new(Plan::load(folder)?.publishers);
    let key = |message| load.departure(message).and_then(|departure| departure.key);
    let before = (0..message.number).rev().map(|number| MessageRef { number, ..message });
    let before = before.into_iter().find(|other| key(*other) == key(message));
    let shown: Vec<MessageRef> = before.into_iter().chain([message]).collect();
    let mut story: Vec<(ActorName, Record)> = Vec::new();
    for name in logs_in(folder)? {
        let log = Reader::open(&name.log(folder))?;
        story.extend(log.filter(|record| concerns(record, &shown)).map(|record| (name, record)));
    }
    story.sort_by_key(|(_, record)| record.time);
    let begin = story.first().map_or(0, |(_, record)| record.time);
    let mut text = String::new();
    for (name, record) in story {
        let time = (record.time - begin) as f64 / 1e6;
        let about = if is_about_no_message(record.kind) {
            format!("{} {}", Fault::from_byte(record.detail).map_or("", Fault::name), record.extra)
        } else {
            let MessageRef { publisher, number } = record.message;
            format!(
                "{publisher}:{number} attempt {} detail {} extra {:08x}",
                record.attempt, record.detail, record.extra
            )
        };
        writeln!(text, "{time:>12.3} ms  {name:<18} {:?} {about}", record.kind)?;
    }
    Ok(text)
}

fn is_about_no_message(kind: Kind) -> bool {
    matches!(kind, Kind::Begins | Kind::Over | Kind::Ready | Kind::Lost | Kind::Stopping | Kind::Stopped)
}

fn concerns(record: &Record, shown: &[MessageRef]) -> bool {
    let runs = matches!(record.kind, Kind::Intent | Kind::Taken);
    let covers = |message: &&MessageRef| {
        let count = if runs { record.extra.max(1) } else { 1 };
        record.message.publisher == message.publisher
            && (record.message.number..record.message.number + count).contains(&message.number)
    };
    match record.kind {
        Kind::Ended | Kind::Redriven => false,
        kind if is_about_no_message(kind) => true,
        _ => shown.iter().any(|message| covers(&message)),
    }
}
