//! Real servers for tests: Kafka, RabbitMQ, Redis, an SQS and a Pub/Sub.
//!
//! ```text
//!  shared(kind), own(kind, options)
//!      1. DUCTAPE_TEST_REDIS=host:port …   an endpoint from the environment   (shared only)
//!      2. a container                      feature `docker`, where a daemon answers
//!      3. a process of this machine        free ports, a temporary folder
//!            └▶ Server { endpoint, kill, stop, stall, resume, restart }
//! ```
//!
//! `DUCTAPE_TEST_SERVERS` chooses: `docker`, `native`, or `none` for no server at all.
//!
//! A provider's `tests/conformance.rs` gets its server in a few lines, and is skipped, with how to get one, where there
//! is none:
//!
//! ```no_run
//! use ductape_testkit::conformance::{self, Subject};
//! use ductape_testkit::servers::{self, Kind};
//!
//! # async fn subject(endpoint: &servers::Endpoint) -> Subject { Subject::absent("redis", endpoint.address.clone()) }
//! fn main() -> std::process::ExitCode {
//!     conformance::main(|| async {
//!         match servers::shared(Kind::Redis).await {
//!             Ok(server) => vec![subject(server.endpoint()).await],
//!             Err(why) => vec![why.subject()],
//!         }
//!     })
//! }
//! ```
//!
//! A test that breaks its server starts one of its own, which ends with the handle:
//!
//! ```no_run
//! # use ductape_testkit::servers::{self, Kind, Options};
//! # async fn test() -> Result<(), servers::Error> {
//! let server = match servers::own(Kind::Redis, Options::default()).await {
//!     Ok(server) => server,
//!     Err(why) => return Ok(why.skip("nothing is lost when redis is killed")),
//! };
//! server.kill().await?; // kill -9
//! server.restart().await?; // on the same data and ports
//! # Ok(()) }
//! ```
//!
//! `cargo xtask services` installs servers, tells what is missing, and starts them for use by hand; it is the program
//! `ductape-servers` of this package.
//!
//! # What is guaranteed
//! - Servers listen on 127.0.0.1 only, on ports outside the range from which the system gives ports to clients, so that
//!   a port stays free while its server is down.
//! - No server outlives its handle, and none outlives this process, however it ends: each runs beside a shell that reads
//!   a pipe of ours, and at its end kills the server and removes its folder.
//! - Every wait has a deadline. A server that does not get ready is told with the end of its log.

mod artifacts;
mod certificates;
mod endpoint;
mod error;
mod install;
mod kind;
mod launch;
mod native;
mod packages;
mod ping;
mod ports;
mod process;
mod programs;
mod proxy;
mod server;
mod way;

pub use certificates::Certificates;
pub use endpoint::Endpoint;
pub use error::Error;
pub use install::{InstallError, Lack, install, lack};
pub use kind::Kind;
pub use launch::{Options, find_or_start, own, shared};
pub use proxy::Proxy;
pub use server::{Origin, Server};
