//! A folder with a catalogue, and the tool run in it as a user runs it.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long a test waits for anything.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);
/// The topic of [`CATALOGUE`].
pub(crate) const EVENT: &str = "order-events:new-orders";

/// SQLITE in two envs, and an env of a provider that is refused at once.
pub(crate) const CATALOGUE: &str = "
product: shop
brokers:
  - name: Order Events
    tag: order-events
    envs:
      - { slug: dev, type: SQLITE, config: { path: dev.db } }
      - { slug: stg, type: SQLITE, config: { path: stg.db } }
    topics:
      - { name: New Orders, tag: new-orders }
";

/// A folder that goes away.
pub(crate) struct Place(TempDir);

impl Place {
    /// With [`CATALOGUE`] in it.
    pub(crate) fn new() -> Self {
        let place = Place(tempfile::tempdir().unwrap());
        place.write("ductape.yaml", CATALOGUE);
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    /// Numbers from 1 on, one a line.
    pub(crate) fn write_numbers(&self, name: &str, count: usize) {
        let lines: String = (1..=count).map(|number| format!("{number}\n")).collect();
        self.write(name, &lines);
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ductape"));
        command.args(arguments).current_dir(self.0.path()).stdin(Stdio::null());
        command.env_remove("DUCTAPE_ENV").env_remove("DUCTAPE_CATALOGUE").env_remove("NO_COLOR");
        command
    }

    /// Runs to the end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        Ran::from(self.command(arguments).output().unwrap())
    }

    /// Starts with its outputs piped.
    pub(crate) fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Messages that a group has not settled.
    pub(crate) fn lag(&self, env: &str, group: &str) -> u64 {
        self.of_group(env, group, "lag")
    }

    /// Messages that members of a group have in hand.
    pub(crate) fn in_hand(&self, env: &str, group: &str) -> u64 {
        self.of_group(env, group, "inFlight")
    }

    /// What the default group has not had yet, payload by payload.
    pub(crate) fn drained(&self, env: &str) -> Vec<String> {
        let ran = self.run(&["subscribe", EVENT, "--env", env, "--payload", "--timeout", "300ms"]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        ran.out.lines().map(str::to_owned).collect()
    }

    fn of_group(&self, env: &str, group: &str, field: &str) -> u64 {
        let shown = self.run(&["topic", "show", EVENT, "--env", env, "--json"]);
        let shown: serde_json::Value = serde_json::from_str(&shown.out).unwrap();
        let groups = shown["groups"].as_array().unwrap();
        let group = groups.iter().find(|other| other["name"] == group);
        group.map_or(0, |group| group[field].as_u64().unwrap())
    }
}

/// What a run left.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

impl Ran {
    /// A number of the count that ends a run.
    pub(crate) fn count(&self, name: &str) -> u64 {
        let last = self.out.lines().last().unwrap_or_default();
        let count: serde_json::Value =
            serde_json::from_str(last).unwrap_or_else(|_| panic!("no count: {self:?}"));
        count[name].as_u64().unwrap_or_else(|| panic!("no `{name}`: {self:?}"))
    }
}

/// Asks a child to stop, as a supervisor does.
pub(crate) fn terminate(child: &Child) {
    signal(child, nix::sys::signal::Signal::SIGTERM);
}

pub(crate) fn signal(child: &Child, signal: nix::sys::signal::Signal) {
    let id = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(id, signal).unwrap();
}

/// Waits for a condition.
pub(crate) fn until(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < DEADLINE, "not in time: {what}");
        std::thread::yield_now();
    }
}

/// Waits for the first line of a child's output, and gives all of it at the end.
pub(crate) fn after_first_line(mut child: Child, then: impl FnOnce(&Child)) -> Ran {
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut text = String::new();
    out.read_line(&mut text).unwrap();
    then(&child);
    out.read_to_string(&mut text).unwrap();
    let mut ran = Ran::from(child.wait_with_output().unwrap());
    ran.out = text;
    ran
}
