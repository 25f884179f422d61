//! The conformance suite: what every provider promises, one property each, named as a sentence.
//!
//! A provider crate runs it from `tests/conformance.rs`, with `harness = false` for that test in its `Cargo.toml`:
//!
//! ```no_run
//! # mod ductape_fax {
//! #     use ductape_core::{Broker, ConnectOptions, Provider, ProviderConfig, ProviderKind, Result};
//! #     pub struct FaxProvider;
//! #     #[async_trait::async_trait]
//! #     impl Provider for FaxProvider {
//! #         fn kind(&self) -> ProviderKind { ProviderKind::Memory }
//! #         async fn connect(&self, _: &ProviderConfig, _: &ConnectOptions) -> Result<std::sync::Arc<dyn Broker>> {
//! #             Err(ductape_core::Error::closed("the office"))
//! #         }
//! #     }
//! # }
//! # use ductape_core::{ProviderConfig, config::MemoryConfig};
//! # use ductape_fax::FaxProvider;
//! use ductape_testkit::conformance::{self, Subject};
//!
//! fn main() -> std::process::ExitCode {
//!     conformance::main(|| async {
//!         let config = ProviderConfig::Memory(MemoryConfig::default());
//!         vec![Subject::new(FaxProvider, config).allow_skip("secrets:", "the config holds no secret")]
//!     })
//! }
//! ```
//!
//! Then `cargo test --test conformance` prints one line a property, and takes words to choose by, as in
//! `cargo test --test conformance -- "dead letters"`. `-- --list` names them all.
//!
//! What holds:
//! - Each property has destinations and groups of its own with fresh names, so a run can be repeated on one server,
//!   and a connection and a deadline of its own, so a broker that hangs fails one property and not the run.
//! - Properties look at [`Capabilities`](ductape_core::Capabilities) and try both sides of each line: what is
//!   promised works, and what is not is refused as `UNSUPPORTED`.
//! - A property that cannot be tried is skipped with its reason. With `DUCTAPE_REQUIRE=all` in the environment a skip
//!   that [`Subject::allow_skip`] does not list fails.

mod capability;
mod capture;
mod delivery;
mod failure;
mod fixture;
mod lifecycle;
mod order;
mod outcome;
mod property;
mod report;
mod runner;
mod secrets;
mod service;
mod settlement;
mod stress;
mod subject;

pub use property::Section;
pub use report::{PropertyReport, Report, Status};
pub use runner::{Selection, Suite, main};
pub use subject::Subject;
