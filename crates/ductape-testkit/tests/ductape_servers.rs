//! The program `ductape-servers`: what it says, and that no server outlives it, however it ends.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::explicit_write, reason = "the harness captures `println`, and a skip must be seen")]

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdin, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

/// How long something may take that has to happen.
const DEADLINE: Duration = Duration::from_secs(30);

fn program(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ductape-servers"));
    command.args(words).stdin(Stdio::null());
    // What an outer run has started is not what is tested.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("DUCTAPE_")) {
        command.env_remove(name);
    }
    command
}

fn said(words: &[&str]) -> Output {
    told(&mut program(words))
}

/// Runs to the end with a standard input that stays open.
fn told(command: &mut Command) -> Output {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let _input = child.stdin.take();
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A Redis that the program runs.
struct Running {
    child: Child,
    input: Option<ChildStdin>,
    address: String,
}

impl Running {
    /// None where Redis is not installed, said aloud.
    fn start(test: &str) -> Option<Running> {
        let mut command = program(&["start", "--available", "redis"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let input = child.stdin.take();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let lines: Vec<_> = lines.take_while(|line| !line.starts_with("# ready")).collect();
        let address = lines.iter().find_map(|line| line.strip_prefix("export DUCTAPE_TEST_REDIS="));
        let Some(address) = address.map(str::to_owned) else {
            let help = "no redis server; `cargo xtask services install redis` gets it";
            writeln!(std::io::stdout().lock(), "\nskip {test} ({help})").unwrap();
            drop(input);
            child.wait().unwrap();
            return None;
        };
        for ending in ["TLS=", "USERNAME=", "PASSWORD=", "CA="] {
            let export = format!("export DUCTAPE_TEST_REDIS_{ending}");
            assert!(lines.iter().any(|line| line.starts_with(&export)), "{export} is not in {lines:?}");
        }
        assert!(TcpStream::connect(&address).is_ok());
        Some(Running { child, input, address })
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    /// Ends its standard input.
    fn stops(mut self) -> ExitStatus {
        drop(self.input.take());
        self.ends()
    }

    /// Waits until the program has ended, and its server.
    fn ends(mut self) -> ExitStatus {
        let mut status = None;
        until("the program's end", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        until("the server's end", || TcpStream::connect(&self.address).is_err());
        status.unwrap()
    }
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::yield_now();
    }
}

#[test]
fn servers_end_with_standard_input() {
    let Some(running) = Running::start("servers_end_with_standard_input") else { return };
    assert!(running.stops().success());
}

#[test]
fn servers_end_with_a_signal() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let Some(running) = Running::start("servers_end_with_a_signal") else { return };
        running.signal(signal);
        assert!(running.ends().success(), "{signal}");
    }
}

#[test]
fn servers_end_with_the_program_that_is_killed() {
    let Some(running) = Running::start("servers_end_with_the_program_that_is_killed") else { return };
    running.signal(Signal::SIGKILL);
    assert!(!running.ends().success());
}

#[test]
fn what_is_named_is_handed_on_and_what_does_not_answer_is_a_fault() {
    let Some(running) = Running::start("what_is_named_is_handed_on_and_what_does_not_answer_is_a_fault")
    else {
        return;
    };
    let given = told(program(&["start", "redis"]).env("DUCTAPE_TEST_REDIS", &running.address));
    assert!(!given.status.success(), "it asks for a password");
    assert!(text(&given.stderr).contains("DUCTAPE_TEST_REDIS="), "{}", text(&given.stderr));
    assert!(running.stops().success());
}

#[test]
fn without_servers_all_is_missing_and_that_is_a_fault_unless_it_is_allowed() {
    let refused = told(program(&["start", "redis"]).env("DUCTAPE_TEST_SERVERS", "none"));
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("no redis server: DUCTAPE_TEST_SERVERS=none"));
    let mut command = program(&["start", "--available"]);
    command.env("DUCTAPE_TEST_SERVERS", "none").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut allowed = command.spawn().unwrap();
    let input = allowed.stdin.take();
    let mut line = String::new();
    BufReader::new(allowed.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("# ready"), "{line}");
    drop(input);
    assert!(allowed.wait().unwrap().success());
}

#[test]
fn status_tells_of_each_kind() {
    let told = text(&said(&["status"]).stdout);
    for kind in ["kafka", "pubsub", "rabbitmq", "redis", "sqs"] {
        assert!(told.lines().any(|line| line.starts_with(kind)), "{kind} is not in {told}");
    }
    assert_eq!(
        text(&said(&["status", "redis"]).stdout).lines().filter(|line| line.starts_with('s')).count(),
        0
    );
}

#[test]
fn status_says_how_to_get_what_is_missing() {
    let told = told(program(&["status", "kafka"]).env("XDG_CACHE_HOME", "no-such-folder"));
    assert_eq!(told.status.code(), Some(1));
    assert!(text(&told.stdout).contains("`cargo xtask services install kafka`"), "{}", text(&told.stdout));
}

#[test]
fn a_wrong_command_line_is_told() {
    for words in [&[][..], &["begin"], &["start", "postgres"], &["status", "--available"]] {
        let told = said(words);
        assert_eq!(told.status.code(), Some(2), "{words:?}");
        assert!(text(&told.stderr).contains("ductape-servers start"), "{words:?}");
    }
}
