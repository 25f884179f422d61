//! The product's documented calls, pasted as JSON and as YAML and used as they are written: brokers, topics,
//! publishing and subscribing. MEMORY stands in for the servers, so that the configs stay untouched.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod catalogue;
mod fixture;
mod messages;
mod stand_in;
