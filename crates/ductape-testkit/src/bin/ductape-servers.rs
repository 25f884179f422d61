//! Servers for tests, from the command line. `cargo xtask services` builds and runs this.
//!
//! ```text
//! ductape-servers install [KIND...]                   installs what is missing; starts nothing
//! ductape-servers status [KIND...]                    what is here, and how to get what is not
//! ductape-servers start [--available] [KIND...]       runs servers until Ctrl-C, or the end of standard input
//! ```
//!
//! KIND is kafka, pubsub, rabbitmq, redis or sqs; without any it is all of them. `start` prints a line
//! `export NAME=VALUE` for each variable that leads tests to its servers, and then `# ready`. With `--available` a server
//! that is not installed is no fault: it is left out, aloud. The code is 0 where all went well, 1 where something failed,
//! 2 for a wrong command line.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool writes to its terminal")]

use ductape_testkit::servers::{self, Error, Kind, Server};
use futures_util::future::join_all;
use std::io::Read;
use std::pin::pin;
use std::process::ExitCode;

const HELP: &str = "\
ductape-servers install [KIND...]               install what is missing; nothing is started
ductape-servers status [KIND...]                what is here, and how to get what is not
ductape-servers start [--available] [KIND...]   run servers until Ctrl-C or the end of standard input
                                                --available: leave out what is not installed
KIND: kafka, pubsub, rabbitmq, redis, sqs; all of them where none is named";

#[tokio::main]
async fn main() -> ExitCode {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    let command = if words.is_empty() { String::new() } else { words.remove(0) };
    let available = command == "start" && words.first().is_some_and(|word| word == "--available");
    if available {
        words.remove(0);
    }
    let kinds = match kinds(&words) {
        Ok(kinds) => kinds,
        Err(word) => return usage(&format!("there is no server `{word}`")),
    };
    match command.as_str() {
        "install" => install(&kinds).await,
        "status" => status(&kinds),
        "start" => start(&kinds, available).await,
        "help" | "--help" | "-h" => {
            println!("{HELP}");
            ExitCode::SUCCESS
        }
        "" => usage("which command?"),
        other => usage(&format!("there is no command `{other}`")),
    }
}

fn usage(fault: &str) -> ExitCode {
    eprintln!("error: {fault}\n\n{HELP}");
    ExitCode::from(2)
}

/// The named kinds, or all; the word that is none.
fn kinds(words: &[String]) -> Result<Vec<Kind>, String> {
    if words.is_empty() {
        return Ok(Kind::ALL.to_vec());
    }
    words.iter().map(|word| Kind::named(word).ok_or_else(|| word.clone())).collect()
}

async fn install(kinds: &[Kind]) -> ExitCode {
    // From here on a signal does not end this process: the package manager gets it as well, ends in good order, and what
    // was put in place for it is taken away again.
    let mut stop = pin!(stopped());
    let mut done = pin!(servers::install(kinds, |line| eprintln!("servers: {line}")));
    let result = tokio::select! {
        result = &mut done => result,
        () = &mut stop => done.await,
    };
    let Err(errors) = result else { return ExitCode::SUCCESS };
    for error in errors {
        eprintln!("error: {error}");
    }
    ExitCode::FAILURE
}

fn status(kinds: &[Kind]) -> ExitCode {
    for kind in kinds {
        let lack = servers::lack(*kind);
        let state = match &lack.server {
            None => "can be started".to_owned(),
            Some(reason) => format!("missing: {reason}"),
        };
        println!("{:<9} {state}", kind.name());
        if !lack.others.is_empty() {
            println!("          not here: {}", lack.others.join(", "));
        }
    }
    let whole = kinds.iter().all(|kind| servers::lack(*kind).is_nothing());
    if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn start(kinds: &[Kind], available: bool) -> ExitCode {
    let mut stop = pin!(stopped());
    let servers = tokio::select! {
        started = join_all(kinds.iter().map(|kind| servers::find_or_start(*kind))) => started,
        () = &mut stop => {
            eprintln!("error: told to end before the servers were ready");
            return ExitCode::FAILURE;
        }
    };
    let (mut running, mut failed) = (Vec::new(), false);
    for started in servers {
        match started {
            Ok(server) => running.push(server),
            Err(why @ Error::Missing { .. }) if available => eprintln!("servers: {why}"),
            Err(why) => {
                eprintln!("error: {why}");
                failed = true;
            }
        }
    }
    if failed {
        return ExitCode::FAILURE;
    }
    tell(&running);
    stop.await;
    ExitCode::SUCCESS
}

fn tell(servers: &[Server]) {
    for server in servers {
        for (name, value) in server.endpoint().variables(server.kind()) {
            println!("export {name}={}", quoted(&value));
        }
    }
    println!("# ready; they end with Ctrl-C, or with the end of standard input");
}

/// A word of the shell. What our servers have needs no quotes; an address or a password of the environment may.
fn quoted(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+,".contains(c);
    if value.chars().all(plain) { value.to_owned() } else { format!("'{}'", value.replace('\'', r"'\''")) }
}

/// Returns when somebody wants an end: Ctrl-C, SIGTERM, or the end of standard input.
async fn stopped() {
    tokio::select! {
        () = input_ended() => {}
        _ = tokio::signal::ctrl_c() => {}
        () = terminated() => {}
    }
}

#[cfg(unix)]
async fn terminated() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut signal) => drop(signal.recv().await),
        Err(_) => std::future::pending().await,
    }
}

#[cfg(not(unix))]
async fn terminated() {
    std::future::pending().await
}

/// On a thread of its own, since a runtime waits for a read that it runs itself.
async fn input_ended() {
    let (ended, wait) = tokio::sync::oneshot::channel::<()>();
    std::thread::spawn(move || {
        let _ended = ended;
        let mut input = std::io::stdin().lock();
        while matches!(input.read(&mut [0; 256]), Ok(read) if read > 0) {}
    });
    let _ = wait.await;
}
