//! A service with one topic on one provider.

use crate::subject::Subject;
use ductape::Ductape;
use ductape_testkit::servers::Error;
use serde_json::json;
use std::path::PathBuf;
use tempfile::TempDir;

/// A client of a catalogue in a file of its own, with one ordered topic. Its names are fresh, so that a server may
/// be used again and again.
pub struct Service {
    /// The client.
    pub ductape: Ductape,
    /// The topic's event.
    pub event: String,
    /// Its provider, as a catalogue writes it.
    pub kind: &'static str,
    /// The catalogue's file.
    pub catalogue: PathBuf,
    _folder: TempDir,
}

impl Service {
    /// A service on this provider.
    ///
    /// # Errors
    /// Why there is no server.
    ///
    /// # Panics
    /// Where the catalogue is refused.
    pub async fn new(subject: &Subject) -> Result<Self, Error> {
        let folder = tempfile::tempdir().unwrap();
        let config = subject.config(folder.path()).await?;
        let broker = format!("orders-{:016x}", fastrand::u64(..));
        let catalogue = json!({
            "product": "shop",
            "brokers": [{
                "name": "Orders",
                "tag": broker,
                "envs": [{ "slug": "dev", "type": subject.kind, "config": config }],
                "topics": [{ "name": "New", "tag": "new", "ordered": true }],
            }],
        });
        let path = folder.path().join("ductape.json");
        std::fs::write(&path, catalogue.to_string()).unwrap();
        let ductape = Ductape::file(&path).env("dev").build().await.unwrap();
        let event = format!("{broker}:new");
        Ok(Service { ductape, event, kind: subject.kind, catalogue: path, _folder: folder })
    }

    /// Another client of the same catalogue, with connections of its own.
    ///
    /// # Panics
    /// Where the catalogue is refused.
    pub async fn another(&self) -> Ductape {
        Ductape::file(&self.catalogue).env("dev").build().await.unwrap()
    }
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("event", &self.event).finish_non_exhaustive()
    }
}
