//! From arguments to an exit code.

use crate::cli::{Cli, Command, Global};
use crate::commands::{
    apply, bridge, broker, check, completions, dead_letters, doctor, init, man, providers, publish, schema,
    subscribe, topic,
};
use crate::failure::{Failure, Outcome};
use crate::output::{self, Format, Output};
use crate::terminal::ColorWhen;
use crate::usage;
use clap::FromArgMatches;
use std::ffi::OsString;
use std::future::Future;
use std::process::ExitCode;
use std::time::Duration;

/// How long tasks that hang may hold up the end of the process.
const SHUTDOWN: Duration = Duration::from_millis(200);

/// What every command is given.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    pub(crate) global: Global,
    pub(crate) output: Output,
}

impl Context {
    pub(crate) fn format(&self) -> Format {
        self.output.format()
    }
}

pub(crate) fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let color = ColorWhen::of(&arguments);
    let command = usage::command().color(color.clap());
    let parsed = command.try_get_matches_from(&arguments).and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => return usage::report(&error, &arguments, color),
    };
    cli.global.color.apply();
    let format = if cli.global.json { Format::Json } else { Format::Human };
    let context = Context { global: cli.global.or_environment(), output: Output(format) };
    match run(context, cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(format),
    }
}

fn run(context: Context, command: Command) -> Outcome {
    log(&context);
    output::check_open()?;
    match command {
        Command::Init(arguments) => init::run(&context, &arguments),
        Command::Completions(arguments) => completions::run(&context, &arguments),
        Command::Man(arguments) => man::run(&context, &arguments),
        Command::Schema(arguments) => schema::run(&context, &arguments),
        Command::Check(arguments) => block_on(check::run(&context, &arguments)),
        Command::Apply(arguments) => block_on(apply::run(&context, &arguments)),
        Command::Broker(command) => block_on(broker::run(&context, &command)),
        Command::Topic(command) => block_on(topic::run(&context, &command)),
        Command::Publish(arguments) => block_on(publish::run(&context, &arguments)),
        Command::Subscribe(arguments) => block_on(subscribe::run(&context, &arguments)),
        Command::Doctor(arguments) => block_on(doctor::run(&context, &arguments)),
        Command::DeadLetters(command) => block_on(dead_letters::run(&context, &command)),
        Command::Bridge(arguments) => block_on(bridge::run(&context, &arguments)),
        Command::Providers(arguments) => block_on(providers::run(&context, &arguments)),
    }
}

/// Runs on a runtime, made only for commands that need one: `--help` shall be there at once.
fn block_on(command: impl Future<Output = Outcome>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|error| {
        Failure::io(
            "the program cannot start its threads",
            error,
            "see how many threads and files this user may have",
        )
    })?;
    let outcome = runtime.block_on(command);
    // What hangs, such as a look-up of a name, is not waited for.
    runtime.shutdown_timeout(SHUTDOWN);
    outcome
}

/// What the library logs goes to standard error: warnings always, more with `-v`.
fn log(context: &Context) {
    use tracing_subscriber::filter::LevelFilter;
    let level = match context.global.verbose {
        0 => LevelFilter::WARN,
        1 => LevelFilter::INFO,
        2 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    let colours = anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never;
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(colours);
    // A second subscriber cannot be: this is the only place that sets one.
    let _ = subscriber.try_init();
}
