//! The commands, one module each.

pub(crate) mod apply;
pub(crate) mod bridge;
pub(crate) mod broker;
mod capabilities;
pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod dead_letters;
pub(crate) mod doctor;
pub(crate) mod init;
mod input;
pub(crate) mod man;
pub(crate) mod providers;
pub(crate) mod publish;
pub(crate) mod schema;
pub(crate) mod subscribe;
pub(crate) mod topic;
