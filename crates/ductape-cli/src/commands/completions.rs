//! `ductape completions`: what a shell needs to complete commands and options.

use crate::failure::Outcome;
use crate::run::Context;
use crate::usage;
use clap::Args;
use clap_complete::Shell;

/// Print completions for a shell
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ductape completions bash > ~/.local/share/bash-completion/completions/ductape
  ductape completions zsh  > ~/.zfunc/_ductape
  ductape completions fish > ~/.config/fish/completions/ductape.fish")]
pub(crate) struct Arguments {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

pub(crate) fn run(context: &Context, arguments: &Arguments) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut usage::command(), "ductape", &mut script);
    context.output.text(&String::from_utf8_lossy(&script))
}
