//! The catalogue's sessions, each made ready at its first use.

use crate::catalogue::{Catalogue, SessionEntry};
use crate::error::{Error, ErrorKind, Result};
use crate::message::SessionRef;
use crate::session::SessionVerifier;
use crate::tag::{Tag, nearest_help};
use crate::time::Timestamp;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// `{"` in Base64, with which every token's header begins.
const TOKEN_BEGINS: &str = "eyJ";

/// Verifies tokens against the sessions of one catalogue.
pub(super) struct Sessions {
    entries: Vec<SessionEntry>,
    base_dir: PathBuf,
    ready: Mutex<HashMap<String, Arc<SessionVerifier>>>,
}

impl Sessions {
    pub(super) fn new(catalogue: &Catalogue, base_dir: PathBuf) -> Self {
        Sessions { entries: catalogue.sessions.clone(), base_dir, ready: Mutex::default() }
    }

    pub(super) fn verify(&self, tag: &str, token: &str, now: Timestamp) -> Result<SessionRef> {
        self.verifier(tag)?.verify(token, now)
    }

    fn verifier(&self, tag: &str) -> Result<Arc<SessionVerifier>> {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(verifier) = ready.get(tag) {
            return Ok(Arc::clone(verifier));
        }
        let entry = self.entries.iter().find(|entry| entry.tag.as_str() == tag);
        let entry = entry.ok_or_else(|| self.not_found(tag))?;
        let verifier = Arc::new(SessionVerifier::new(entry.spec(&self.base_dir)?)?);
        ready.insert(tag.to_owned(), Arc::clone(&verifier));
        Ok(verifier)
    }

    fn not_found(&self, tag: &str) -> Error {
        let tags = self.entries.iter().map(|entry| entry.tag.as_str());
        // Who mistook the one for the other has given a token here, which is not to be shown.
        let (shown, tag) = match Tag::new(tag) {
            Ok(_) if !tag.starts_with(TOKEN_BEGINS) => (format!("`{tag}`"), tag),
            _ => ("of what was given as its tag, which is none".into(), ""),
        };
        Error::new(ErrorKind::SessionNotFound, format!("the catalogue has no session {shown}"))
            .with_help(nearest_help("sessions", tag, tags))
    }
}
