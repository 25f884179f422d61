//! What the tests of this package share: the providers to run on, and a record of what handlers saw.
//!
//! A test here is a program as a user writes it, against [`ductape::Ductape`] and nothing below it. It is written
//! once and runs on every [`Subject`].

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod record;
mod service;
mod subject;

pub use record::{DEADLINE, Record};
pub use service::Service;
pub use subject::{SUBJECTS, Subject, on_each};
