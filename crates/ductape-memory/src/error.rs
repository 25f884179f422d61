//! The faults of this provider, each with what a person may do.

use crate::log::Limits;
use ductape_core::error::Retry;
use ductape_core::{Error, ErrorKind, ProviderKind};

fn fault(kind: ErrorKind, destination: &str, message: String) -> Error {
    Error::new(kind, message)
        .with_context("provider", ProviderKind::Memory)
        .with_context("destination", destination)
}

/// A bound of the destination was reached and nobody made room in time.
pub(crate) fn full(destination: &str, limits: &Limits, slowest: Option<(&str, u64)>) -> Error {
    let message = format!(
        "the destination holds its most, {} messages or {} bytes",
        limits.max_messages, limits.max_bytes
    );
    let error = fault(ErrorKind::DestinationFull, destination, message).with_retry(Retry::Safe);
    match slowest {
        Some((group, lag)) => error.with_context("group", group).with_help(format!(
            "the group `{group}` has {lag} messages to settle: start or speed up its subscribers, delete the \
             group if nobody needs it, or raise `maxMessages` or `maxBytes`"
        )),
        None => error.with_help("raise `maxMessages` or `maxBytes`"),
    }
}

/// A message that could never fit.
pub(crate) fn too_large(destination: &str, size: usize, limit: usize) -> Error {
    let message = format!("the message has {size} bytes, {limit} at most");
    fault(ErrorKind::MessageTooLarge, destination, message)
        .with_help("publish less at once, or raise `maxBytes`")
}

/// A destination that is not there and may not be made.
pub(crate) fn no_destination(destination: &str) -> Error {
    fault(ErrorKind::DestinationNotFound, destination, "there is no such destination".into())
        .with_help("publish to it first, or allow it to be made with `provision: create`")
}

/// A destination that another connection made with another bound.
pub(crate) fn mismatch(destination: &str, setting: &'static str, has: usize, wants: usize) -> Error {
    let message = format!("the destination was made with {setting} {has}, and the config says {wants}");
    fault(ErrorKind::DestinationMismatch, destination, message)
        .with_help("give all connections of this `name` the same bounds, or this one a `name` of its own")
}

/// A group that is not there, or no longer.
pub(crate) fn no_group(destination: &str, group: &str) -> Error {
    fault(ErrorKind::GroupNotFound, destination, "there is no such group".into())
        .with_context("group", group)
        .with_help("open a subscription of the group to make it")
}

/// A delivery that is no longer this consumer's.
pub(crate) fn lease_lost(destination: &str, group: &str) -> Error {
    fault(ErrorKind::LeaseLost, destination, "the delivery is no longer this consumer's".into())
        .with_context("group", group)
        .with_help("settle within the lease, or extend it")
}

/// A config of another provider, or a bound that nothing fits.
pub(crate) fn config(message: impl Into<String>, help: &str) -> Error {
    Error::new(ErrorKind::ConfigInvalid, message)
        .with_context("provider", ProviderKind::Memory)
        .with_help(help)
}

/// Something used after its close.
pub(crate) fn closed(what: &str, destination: &str) -> Error {
    Error::closed(what)
        .with_context("provider", ProviderKind::Memory)
        .with_context("destination", destination)
}
