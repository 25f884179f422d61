//! The examples as files, and a client whose catalogue is a file of the same format.

use crate::stand_in::StandIn;
use ductape::{Ductape, ProviderKind};
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// How an example is written.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Format {
    Json,
    Yaml,
}

impl Format {
    pub(crate) const BOTH: [Format; 2] = [Format::Json, Format::Yaml];

    fn ending(self) -> &'static str {
        match self {
            Format::Json => "json",
            Format::Yaml => "yaml",
        }
    }

    /// An example, read as what its call takes.
    pub(crate) fn read<T: DeserializeOwned>(self, name: &str) -> T {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/seed");
        let path = folder.join(name).with_extension(self.ending());
        let text = std::fs::read_to_string(&path).unwrap();
        match self {
            Format::Json => serde_json::from_str(&text).unwrap(),
            Format::Yaml => serde_saphyr::from_str(&text).unwrap(),
        }
    }
}

/// A service whose catalogue is a file without brokers, with stand-ins for the providers of the examples.
pub(crate) struct Service {
    pub(crate) ductape: Ductape,
    folder: TempDir,
    format: Format,
}

impl Service {
    pub(crate) async fn new(format: Format, sessions: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = catalogue(&folder, format);
        let text = match format {
            Format::Json => {
                format!(r#"{{ "product": "my-product", "brokers": [], "sessions": [{sessions}] }}"#)
            }
            Format::Yaml => format!("product: my-product\nbrokers: []\nsessions: [{sessions}]\n"),
        };
        std::fs::write(&path, text).unwrap();
        Service { ductape: open(&path).await, folder, format }
    }

    /// Another process's view of the same catalogue.
    pub(crate) async fn reopened(&self) -> Ductape {
        open(&catalogue(&self.folder, self.format)).await
    }
}

fn catalogue(folder: &TempDir, format: Format) -> PathBuf {
    folder.path().join("ductape").with_extension(format.ending())
}

async fn open(path: &Path) -> Ductape {
    let builder = Ductape::file(path).env("prd");
    let builder =
        builder.provider(StandIn::new(ProviderKind::Kafka)).provider(StandIn::new(ProviderKind::Redis));
    builder.build().await.unwrap()
}
