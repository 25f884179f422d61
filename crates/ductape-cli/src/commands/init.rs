//! `ductape init`: a catalogue that works at once, and whose comments teach.

use crate::failure::{Failure, Outcome, note};
use crate::run::Context;
use clap::Args;
use ductape::Error;
use serde_json::json;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

/// The catalogue that it writes.
const TEMPLATE: &str = include_str!("init/ductape.yaml");
/// Catalogues that would be found in the new one's stead, or beside it.
const NAMES: [&str; 4] = ["ductape.yaml", "ductape.yml", "ductape.json", "ductape.toml"];

/// Make a commented catalogue that works at once
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ductape init                here
  ductape init services/shop  in a folder, made where it is not there")]
pub(crate) struct Arguments {
    /// The folder; this one unless named
    #[arg(value_name = "DIR", default_value = ".", hide_default_value = true)]
    dir: PathBuf,
}

pub(crate) fn run(context: &Context, arguments: &Arguments) -> Outcome {
    let dir = &arguments.dir;
    if let Some(path) = NAMES.map(|name| dir.join(name)).iter().find(|path| path.exists()) {
        return Err(there(shown(path)));
    }
    let path = dir.join(NAMES[0]);
    write(dir, &path)?;
    let shown = shown(&path);
    match context.output.is_json() {
        true => context.output.json(&json!({ "created": shown }))?,
        false => context.output.line(&format!("created {}", shown.display()))?,
    }
    note(context.format(), "try it:");
    let steps = "  ductape publish order-events:new-orders --message '{\"orderId\":\"12345\"}'\n  \
                 ductape subscribe order-events:new-orders --count 1";
    if !context.output.is_json() {
        // Where standard error is gone there is nobody to tell.
        let _ = writeln!(anstream::stderr(), "{steps}");
    }
    Ok(())
}

fn write(dir: &Path, path: &Path) -> Outcome {
    let failed = |error: std::io::Error| match error.kind() {
        ErrorKind::AlreadyExists => there(path),
        _ => Failure::io(
            format!("{} cannot be written", path.display()),
            error,
            "name a folder that may be written to",
        ),
    };
    std::fs::create_dir_all(dir).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => Failure::usage(
            format!("{} is not a folder", dir.display()),
            "name a folder, or none for this one",
        ),
        _ => failed(error),
    })?;
    // Never over a file that somebody made in the meantime.
    let mut file = OpenOptions::new().write(true).create_new(true).open(path).map_err(failed)?;
    file.write_all(TEMPLATE.as_bytes()).map_err(failed)
}

/// As people would type it.
fn shown(path: &Path) -> &Path {
    path.strip_prefix(".").unwrap_or(path)
}

fn there(path: &Path) -> Failure {
    let error = Error::new(ductape::ErrorKind::StorageFailed, format!("{} is already there", path.display()));
    error.with_help("edit it, or name another folder; nothing was written").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_is_a_sound_catalogue_with_the_envs_that_it_explains() {
        let catalogue = ductape::Catalogue::from_yaml(TEMPLATE).unwrap();
        let envs: Vec<_> =
            catalogue.brokers[0].envs.iter().map(|env| (env.slug.as_str(), env.kind.as_str())).collect();
        assert_eq!(envs, [("dev", "SQLITE"), ("prd", "KAFKA")]);
    }
}
