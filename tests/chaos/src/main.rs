//! `cargo xtask chaos`: runs the fault harness from the command line, and hosts its actors.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool writes to its terminal")]

use clap::Parser;
use ductape_chaos::{ActorName, Command, Controls, Fatal, Fault, Options, Plan, Start};
use std::io::BufRead;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tokio::sync::mpsc;

/// Publishes and subscribes while everything around breaks, and checks what came of it.
#[derive(Parser)]
#[command(name = "chaos", version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Subcommand>,
    #[command(flatten)]
    run: RunArguments,
}

#[derive(clap::Subcommand)]
enum Subcommand {
    /// Is one actor of a run. For the harness itself.
    #[command(hide = true)]
    Actor { folder: PathBuf, name: String, jumpy: String },
    /// Publishes messages that kill the process which handles them, among many that do not.
    Poison {
        /// The provider, as a catalogue writes it.
        #[arg(long, default_value = "SQLITE")]
        provider: String,
    },
    /// Publishes faster than handlers handle, and tells what memory that takes.
    Overload {
        /// The provider, as a catalogue writes it.
        #[arg(long, default_value = "SQLITE")]
        provider: String,
        /// For how long.
        #[arg(long, default_value_t = 10.0)]
        minutes: f64,
        /// A field of the provider's config, as `maxBytes=1000000`.
        #[arg(long, value_parser = field)]
        config: Vec<(String, serde_json::Value)>,
        /// A line of the server's configuration, as `maxmemory=100mb`.
        #[arg(long, value_parser = line)]
        setting: Vec<(String, String)>,
    },
    /// Publishes at a steady rate, and tells whether memory or open files grow.
    Soak {
        /// The provider, as a catalogue writes it.
        #[arg(long, default_value = "SQLITE")]
        provider: String,
        /// For how long.
        #[arg(long, default_value_t = 60.0)]
        minutes: f64,
        /// Messages a second.
        #[arg(long, default_value_t = 500.0)]
        rate: f64,
    },
    /// Shows all that is written about a message, and about the one of its key before it, in the logs of a run.
    Trace { folder: PathBuf, message: String },
}

#[derive(clap::Args)]
struct RunArguments {
    /// The provider, as a catalogue writes it.
    #[arg(long, default_value = "SQLITE")]
    provider: String,
    /// How many messages are published in all.
    #[arg(long, default_value_t = 100_000)]
    messages: u64,
    /// How many times something is killed with -9.
    #[arg(long, default_value_t = 10)]
    kills: usize,
    /// How many other faults there are; as many as kills where it is not said.
    #[arg(long)]
    faults: Option<usize>,
    /// What chance begins with. The same seed makes the same faults at the same points of the work.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Spreads publishing over so many minutes.
    #[arg(long)]
    minutes: Option<f64>,
    /// Only this fault, by its name; may be said several times.
    #[arg(long, value_parser = fault)]
    only: Vec<Fault>,
    /// Where the picture goes.
    #[arg(long, default_value = "target/chaos")]
    out: PathBuf,
}

fn fault(text: &str) -> Result<Fault, String> {
    Fault::ALL.into_iter().find(|fault| fault.name() == text).ok_or_else(|| {
        let names: Vec<_> = Fault::ALL.iter().map(|fault| fault.name()).collect();
        format!("there are: {}", names.join(", "))
    })
}

fn field(text: &str) -> Result<(String, serde_json::Value), String> {
    let (name, value) = text.split_once('=').ok_or("write it as `maxBytes=1000000`")?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
    Ok((name.to_owned(), value))
}

fn line(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write it as `maxmemory=100mb`")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn main() -> ExitCode {
    match start(Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn start(arguments: Arguments) -> Result<bool, Fatal> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    match arguments.command {
        Some(Subcommand::Actor { folder, name, jumpy }) => {
            let name = ActorName::parse(&name).ok_or("no actor has this name")?;
            let start = Start { name, jumpy: jumpy == "true" };
            tracing_subscriber::fmt().with_writer(std::io::stderr).init();
            runtime.block_on(ductape_chaos::run_actor(Plan::load(&folder)?, start, listen()))?;
            Ok(true)
        }
        Some(Subcommand::Trace { folder, message }) => {
            print!("{}", ductape_chaos::trace(&folder, &message)?);
            Ok(true)
        }
        Some(Subcommand::Poison { provider }) => {
            let poison = vec![(0, 50), (1, 120)];
            runtime.block_on(play(Options { poison, ..options(provider, 2_000)? }))
        }
        Some(Subcommand::Overload { provider, minutes, config, setting: settings }) => {
            let limit = Some(Duration::from_secs_f64(minutes * 60.0));
            let slow = Duration::from_millis(20);
            let unbounded = options(provider, OVERLOAD)?;
            let overload = Options {
                limit,
                config,
                settings,
                handling: slow,
                window: Some(u64::MAX),
                // Nothing breaks here, and a machine that has too much to do is no fault of the provider.
                patience: Some(Duration::from_secs(30)),
                ..unbounded
            };
            runtime.block_on(play(overload))
        }
        Some(Subcommand::Soak { provider, minutes, rate }) => {
            let lasting = Duration::from_secs_f64(minutes * 60.0);
            let messages = (rate * lasting.as_secs_f64()) as u64;
            runtime.block_on(play(Options { lasting: Some(lasting), ..options(provider, messages)? }))
        }
        None => runtime.block_on(run(arguments.run)),
    }
}

/// More messages than can be published in the time that an overload takes.
const OVERLOAD: u64 = 200_000_000;

fn options(provider: String, messages: u64) -> Result<Options, Fatal> {
    Ok(Options::new(provider, messages, std::env::current_exe()?))
}

/// Hears commands on standard input. At its end nobody conducts any more, and the process has no reason to be.
fn listen() -> Controls {
    let (said, heard) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if let Some(command) = Command::parse(&line)
                && said.send(command).is_err()
            {
                return;
            }
        }
        std::process::exit(3);
    });
    heard
}

/// Handlers panic when they are told to. That is no news.
fn hide_ordered_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if panic.payload().downcast_ref::<&str>() != Some(&ductape_chaos::ORDERED_PANIC) {
            usual(panic);
        }
    }));
}

async fn run(arguments: RunArguments) -> Result<bool, Fatal> {
    let options = Options {
        kills: arguments.kills,
        faults: arguments.faults.unwrap_or(arguments.kills),
        seed: arguments.seed,
        only: arguments.only,
        lasting: arguments.minutes.map(|minutes| Duration::from_secs_f64(minutes * 60.0)),
        out: Some(arguments.out),
        ..Options::new(arguments.provider, arguments.messages, std::env::current_exe()?)
    };
    play(options).await
}

async fn play(options: Options) -> Result<bool, Fatal> {
    hide_ordered_panics();
    let ended = ductape_chaos::run(options).await?;
    for (what, why) in &ended.skipped {
        println!("skip {what} ({why})");
    }
    println!("{}", ended.report);
    for (name, used) in &ended.used {
        println!(
            "{name}: {:.1} MiB at most, {:+.1} MiB and {:+.1} open files an hour (of {:.0} s)",
            used.peak as f64 / 1048576.0,
            used.memory_an_hour / 1048576.0,
            used.files_an_hour,
            used.seconds
        );
    }
    println!("crashes: {}; took {:.1} s", ended.crashes, ended.took.as_secs_f64());
    if let Some(picture) = &ended.timeline {
        println!("picture: {}", picture.display());
    }
    if let Some(logs) = &ended.logs {
        println!("logs: {}", logs.display());
    }
    Ok(ended.is_clean())
}
