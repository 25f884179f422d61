//! The promises of `ductape_core::broker`, one test each, against MEMORY.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod groups;
mod leases;
mod lifecycle;
mod model;
mod order;
mod publish;
mod rig;
mod settle;
mod threads;
