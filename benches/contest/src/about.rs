//! What a contestant says of itself.

use crate::{Result, Setup, run};
use serde::{Deserialize, Serialize};

/// What a contestant says of itself. A program of peers prints a list of these when it is called with `list
/// PROVIDER`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct About {
    /// Its name in tables and on the command line.
    pub name: String,
    /// Its version, where it is not ours.
    pub version: String,
    /// What one must know of its figures; empty where there is nothing.
    pub note: String,
    /// Whether a publish of it is confirmed by the server. One that is not stands apart.
    pub confirmed: bool,
}

/// The whole of a peer's program: tells what it has for a provider, or lets the contestant of a name do its task.
///
/// # Errors
/// Those of `play`; or where the command line is neither.
#[allow(clippy::print_stdout, reason = "its output is what its parent reads")]
pub fn peer(list: impl Fn(&str) -> Vec<About>, play: impl Fn(&str, &Setup) -> Result<()>) -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["list", provider] => {
            println!("{}", serde_json::to_string(&list(provider))?);
            Ok(())
        }
        [name] => play(name, &run::setup()?),
        _ => Err("`list PROVIDER`, or the name of a contestant".into()),
    }
}
