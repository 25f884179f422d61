//! The one place that holds a message or a subscription against a provider's capabilities, before any
//! provider's code runs. What a provider cannot do is refused here, never ignored.

use crate::broker::{Destination, Start};
use crate::capability::{Capabilities, Groups, HeaderNames, HeaderValues, Ordering, Replay};
use crate::config::ProviderKind;
use crate::error::{Error, ErrorKind, Result};
use crate::message::{Headers, Key, MAX_HEADER_NAME_LEN, MAX_KEY_LEN, Message};
use crate::wire::{RESERVED_NAMES, RESERVED_PREFIXES};
use std::collections::HashSet;

/// The rules of one destination.
#[derive(Clone, Debug)]
pub struct Guard {
    kind: ProviderKind,
    capabilities: Capabilities,
}

impl Guard {
    /// The rules that follow from these capabilities.
    pub fn new(kind: ProviderKind, capabilities: Capabilities) -> Self {
        Guard { kind, capabilities }
    }

    /// What the rules follow from.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// Checks a message that a user wants to publish.
    ///
    /// # Errors
    /// `MESSAGE_TOO_LARGE` with limit and size; `MESSAGE_INVALID` naming the header or key.
    #[inline]
    pub fn message(&self, message: &Message) -> Result<()> {
        self.size(message)?;
        if let Some(key) = &message.key {
            check_key(key)?;
        }
        if message.headers.is_empty() { Ok(()) } else { self.headers(&message.headers) }
    }

    /// Checks the size alone: of a dead letter, whose headers the provider has already carried once.
    ///
    /// # Errors
    /// `MESSAGE_TOO_LARGE`.
    #[inline]
    pub fn size(&self, message: &Message) -> Result<()> {
        let size = message.size();
        if size <= self.capabilities.max_message_bytes { Ok(()) } else { Err(self.too_large(size)) }
    }

    #[cold]
    fn too_large(&self, size: usize) -> Error {
        let limit = self.capabilities.max_message_bytes;
        Error::new(
            ErrorKind::MessageTooLarge,
            format!("the message has {size} bytes with its key and headers, and {} takes {limit}", self.kind),
        )
        .with_help("publish less, or store the payload elsewhere and publish where it is")
    }

    fn headers(&self, headers: &Headers) -> Result<()> {
        if let Some(max) = self.capabilities.max_headers
            && headers.len() > max
        {
            return Err(invalid(format!("{} headers, and {} takes {max}", headers.len(), self.kind)));
        }
        for (name, value) in headers.iter() {
            check_header_name(name)?;
            if self.capabilities.header_values == HeaderValues::Text && value.as_str().is_none() {
                return Err(invalid(format!("the header `{name}` is not UTF-8, as {} asks", self.kind)));
            }
        }
        if self.capabilities.header_names == HeaderNames::Unique
            && let Some(name) = repeated(headers)
        {
            return Err(invalid(format!("the header `{name}` stands twice, and {} takes one", self.kind)));
        }
        Ok(())
    }

    /// Checks what a subscription asks for.
    ///
    /// # Errors
    /// `UNSUPPORTED`, with what to do instead.
    pub fn subscription(&self, destination: &Destination, group: &str, start: Start) -> Result<()> {
        let capabilities = &self.capabilities;
        if capabilities.groups == Groups::One && group != &*destination.default_group {
            return Err(Error::unsupported(self.kind, format!("a second group, `{group}`"))
                .with_help(format!("subscribe as the group `{}`", destination.default_group)));
        }
        if capabilities.replay == Replay::None && start == Start::Earliest {
            return Err(Error::unsupported(self.kind, "start: earliest")
                .with_help("start at the latest; what is published from then on is delivered"));
        }
        self.ordering(destination)
    }

    /// Checks that a destination which asks for order gets it.
    ///
    /// # Errors
    /// `UNSUPPORTED`.
    pub fn ordering(&self, destination: &Destination) -> Result<()> {
        if destination.ordered && self.capabilities.ordering == Ordering::None {
            return Err(Error::unsupported(self.kind, "ordered: true on this destination")
                .with_context("destination", &destination.name)
                .with_help("choose a destination that keeps order, or take `ordered` away"));
        }
        Ok(())
    }
}

fn check_key(key: &Key) -> Result<()> {
    let len = key.as_bytes().len();
    if len == 0 || len > MAX_KEY_LEN {
        return Err(invalid(format!("the key has {len} bytes; a key has 1 to {MAX_KEY_LEN}")));
    }
    match key.as_str() {
        Some(_) => Ok(()),
        None => Err(invalid("the key is not UTF-8".into())),
    }
}

/// A name that stands more than once. Beyond a few, comparing each with each is what makes a crowd of headers costly.
fn repeated(headers: &Headers) -> Option<&str> {
    const FEW: usize = 16;
    let mut names = headers.iter().map(|(name, _)| name);
    if headers.len() <= FEW {
        let earlier = |i: usize, name: &str| headers.iter().take(i).any(|(earlier, _)| earlier == name);
        return names.enumerate().find(|(i, name)| earlier(*i, name)).map(|(_, name)| name);
    }
    let mut seen = HashSet::with_capacity(headers.len());
    names.find(|name| !seen.insert(*name))
}

fn check_header_name(name: &str) -> Result<()> {
    if name.is_empty() || name.len() > MAX_HEADER_NAME_LEN {
        return Err(invalid(format!(
            "a header's name has {} bytes; it has 1 to {MAX_HEADER_NAME_LEN}",
            name.len()
        )));
    }
    if let Some(odd) = name.chars().find(|c| !c.is_ascii_graphic()) {
        return Err(invalid(format!("the header `{}` holds {odd:?}", name.escape_debug())));
    }
    let reserved = |prefix: &&str| name.starts_with(*prefix);
    if RESERVED_NAMES.contains(&name) || RESERVED_PREFIXES.iter().any(reserved) {
        return Err(invalid(format!("the header `{name}` is reserved for metadata")));
    }
    Ok(())
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::MessageInvalid, message)
        .with_help("mend the message; the others of its batch are not affected")
}
