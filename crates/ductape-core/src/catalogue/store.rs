//! Where a catalogue is kept: a file, or this process.

use super::model::Catalogue;
use super::parse::typed;
use crate::error::{Error, ErrorKind, Result};
use async_trait::async_trait;
use serde_json::Value;
use std::sync::{Arc, Mutex, PoisonError};

/// A catalogue as it was at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The catalogue, checked.
    pub catalogue: Arc<Catalogue>,
    /// The same as it was written, for changes that keep what they do not touch.
    pub document: Value,
    /// Which version it is; a change names the one it was made on.
    pub revision: String,
}

/// Keeps one catalogue.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Reads and checks it.
    ///
    /// # Errors
    /// `CATALOGUE_NOT_FOUND`; `CATALOGUE_INVALID` with where and what; those of [`Catalogue::check`].
    async fn load(&self) -> Result<Snapshot>;

    /// Puts a changed document in its place, all of it or nothing.
    ///
    /// # Errors
    /// `CATALOGUE_CONFLICT` where it is no longer `revision` that is there: nothing was written. Those of
    /// [`Store::load`] where the document is not a sound catalogue.
    async fn commit(&self, revision: &str, document: &Value) -> Result<Snapshot>;
}

/// Keeps a catalogue in this process.
#[derive(Debug)]
pub struct MemoryStore(Mutex<(u64, Arc<Catalogue>, Value)>);

impl MemoryStore {
    /// A store of this catalogue.
    pub fn new(catalogue: Catalogue) -> Self {
        // A catalogue of plain data can always be written as such.
        let document = serde_json::to_value(&catalogue).unwrap_or_default();
        MemoryStore(Mutex::new((1, Arc::new(catalogue), document)))
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn load(&self) -> Result<Snapshot> {
        let (revision, catalogue, document) = &*self.0.lock().unwrap_or_else(PoisonError::into_inner);
        catalogue.check()?;
        let (catalogue, document) = (Arc::clone(catalogue), document.clone());
        Ok(Snapshot { catalogue, document, revision: revision.to_string() })
    }

    async fn commit(&self, revision: &str, document: &Value) -> Result<Snapshot> {
        let catalogue = Arc::new(typed(document)?);
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.0.to_string() != revision {
            return Err(conflict("the catalogue"));
        }
        *state = (state.0 + 1, Arc::clone(&catalogue), document.clone());
        Ok(Snapshot { catalogue, document: document.clone(), revision: state.0.to_string() })
    }
}

pub(super) fn conflict(what: &str) -> Error {
    Error::new(ErrorKind::CatalogueConflict, format!("somebody else changed {what} in the meantime"))
        .with_retry(crate::error::Retry::Safe)
        .with_help("nothing was written; read it again and repeat the change")
}
