//! Every promise of the Broker contract, kept by MEMORY.

use ductape_core::config::MemoryConfig;
use ductape_core::{ErrorKind, ProviderConfig};
use ductape_memory::MemoryProvider;
use ductape_testkit::conformance::{self, Subject};

fn main() -> std::process::ExitCode {
    conformance::main(|| async {
        let config = ProviderConfig::Memory(MemoryConfig::default());
        let nothing_fits = ProviderConfig::Memory(MemoryConfig { max_bytes: 0, ..MemoryConfig::default() });
        let subject = Subject::new(MemoryProvider::isolated(), config)
            .with_refused(nothing_fits, ErrorKind::ConfigInvalid)
            .allow_skip(
                "delivery: a message that Ductape did not publish",
                "nobody else can reach its memory",
            );
        vec![subject]
    })
}
