//! `ductape man`: the manual, for whoever packages the tool.

use crate::failure::{Failure, Outcome};
use crate::run::Context;
use crate::usage;
use clap::{Args, Command};
use clap_mangen::Man;
use std::path::{Path, PathBuf};

/// Print the manual page, or write one for each command
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ductape man | man -l -
  ductape man --dir target/man")]
pub(crate) struct Arguments {
    /// Write ductape.1, ductape-publish.1, … into this folder
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(crate) fn run(context: &Context, arguments: &Arguments) -> Outcome {
    let command = usage::command();
    match &arguments.dir {
        None => context.output.text(&page(command)?),
        Some(dir) => {
            std::fs::create_dir_all(dir).map_err(|error| unwritten(dir, error))?;
            clap_mangen::generate_to(command, dir).map_err(|error| unwritten(dir, error))
        }
    }
}

fn page(command: Command) -> Outcome<String> {
    let mut text = Vec::new();
    let rendered = Man::new(command).render(&mut text);
    rendered.map_err(|error| Failure::io("the page cannot be made", error, "report this as a bug"))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn unwritten(path: &Path, error: std::io::Error) -> Failure {
    let what = format!("{} cannot be written", path.display());
    Failure::io(what, error, "see that the folder may be written to")
}
