//! The command line: the options that every command takes, and the commands.

use crate::commands::{
    apply, bridge, broker, check, completions, dead_letters, doctor, init, man, providers, publish, schema,
    subscribe, topic,
};
use crate::terminal::ColorWhen;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Declare message brokers once, with a provider for each environment; publish and subscribe by tag.
///
/// Data goes to standard output, everything else to standard error. Exit codes: 0 done, 1 failed, 2 bad usage or
/// bad catalogue.
#[derive(Debug, Parser)]
#[command(
    name = "ductape",
    version,
    arg_required_else_help = true,
    subcommand_required = true,
    disable_help_subcommand = true,
    max_term_width = 110,
    after_help = EXAMPLES
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  ductape init                                               make a catalogue that works at once
  ductape publish order-events:new-orders --message '{\"orderId\":\"12345\"}'
  ductape subscribe order-events:new-orders --payload        print what arrives
  ductape doctor                                             say what is broken, and how to mend it
  ductape publish --help                                     more on one command";

/// What every command takes.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Global {
    /// The catalogue; else DUCTAPE_CATALOGUE, else ductape.{yaml,yml,json,toml} in this folder or above it
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) catalogue: Option<PathBuf>,
    /// The environment; else DUCTAPE_ENV, else `dev` where there is one
    #[arg(long, global = true, value_name = "SLUG")]
    pub(crate) env: Option<String>,
    /// Say more of what happens; twice for all of it
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// JSON for programs: one object, or one a line; errors likewise
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// When to use colours
    #[arg(long, global = true, value_name = "WHEN", value_enum, default_value_t = ColorWhen::Auto)]
    pub(crate) color: ColorWhen,
}

impl Global {
    /// What is not named, taken from the environment. An empty variable counts as none: a deployment that forgot its
    /// value sets it so.
    pub(crate) fn or_environment(mut self) -> Self {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        self.catalogue = self.catalogue.or_else(|| variable("DUCTAPE_CATALOGUE").map(PathBuf::from));
        let env = self.env.filter(|env| !env.is_empty());
        self.env = env.or_else(|| variable("DUCTAPE_ENV").map(|env| env.to_string_lossy().into_owned()));
        self
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Init(init::Arguments),
    Check(check::Arguments),
    Apply(apply::Arguments),
    #[command(subcommand)]
    Broker(broker::Command),
    #[command(subcommand)]
    Topic(topic::Command),
    Publish(publish::Arguments),
    Subscribe(subscribe::Arguments),
    Doctor(doctor::Arguments),
    #[command(subcommand)]
    DeadLetters(dead_letters::Command),
    Bridge(bridge::Arguments),
    Providers(providers::Arguments),
    Schema(schema::Arguments),
    Completions(completions::Arguments),
    #[command(hide = true)]
    Man(man::Arguments),
}
