//! MEMORY under the name of a provider that needs a server.

use ductape::broker::{Broker, ConnectOptions, Provider};
use ductape::config::MemoryConfig;
use ductape::memory::MemoryProvider;
use ductape::{ProviderConfig, ProviderKind, Result};
use std::sync::Arc;

/// Takes the config of its kind, and carries the messages in this process.
pub(crate) struct StandIn {
    kind: ProviderKind,
    memory: MemoryProvider,
}

impl StandIn {
    pub(crate) fn new(kind: ProviderKind) -> Self {
        StandIn { kind, memory: MemoryProvider::isolated() }
    }
}

#[async_trait::async_trait]
impl Provider for StandIn {
    fn kind(&self) -> ProviderKind {
        self.kind
    }

    async fn connect(&self, config: &ProviderConfig, options: &ConnectOptions) -> Result<Arc<dyn Broker>> {
        assert_eq!(config.kind(), self.kind, "a provider is given the config of its kind");
        self.memory.connect(&ProviderConfig::Memory(MemoryConfig::default()), options).await
    }
}
