//! Tests for whoever writes a provider, and for whoever uses one.
//!
//! - [`conformance`]: the promises of the Broker contract, one property each, which a provider crate runs with a
//!   few lines.
//! - [`fault`]: a broker that wraps any other and fails, delays, duplicates, reorders or loses as rules say.
//! - `testing`: a broker to assert on, with a clock that a test moves, for the tests of services (feature `memory`).
//! - `outage`: traffic through a server that dies and a network that breaks (feature `servers`).
//! - `servers`: real servers for tests, started as processes or taken from the environment (feature `servers`).
//!
//! None of this belongs into a program that runs in production: depend on it under `[dev-dependencies]`.

pub mod conformance;
pub mod fault;
#[cfg(feature = "servers")]
pub mod outage;
#[cfg(feature = "servers")]
pub mod servers;
#[cfg(feature = "memory")]
pub mod testing;
