//! `cargo xtask services`: servers for tests. The work is done by `ductape-servers` of the testkit, which knows the
//! versions and how each server is started; this builds it and runs it.

use crate::{Failure, Outcome, process, succeeded};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdin, Command, Stdio};

pub(crate) fn run(arguments: &[String]) -> Outcome {
    let Some((command, rest)) = arguments.split_first() else {
        return Err(Failure::Usage("services: install, status or start?".into()));
    };
    if !matches!(command.as_str(), "install" | "status" | "start") {
        return Err(Failure::Usage(format!("there is no command `services {command}`")));
    }
    let program = Program::build("servers")?;
    let mut command = program.command(command);
    command.args(rest);
    if arguments[0] == "start" { start(command) } else { succeeded(process::run(&mut command)?.success()) }
}

/// Runs servers until our standard input ends, or we do.
fn start(mut command: Command) -> Outcome {
    let mut child = process::spawn(command.stdin(Stdio::piped()))?;
    let input = child.stdin.take();
    std::thread::spawn(move || {
        let _owned = input;
        let mut own = std::io::stdin().lock();
        while matches!(own.read(&mut [0; 256]), Ok(read) if read > 0) {}
    });
    succeeded(process::wait(&mut child)?.success())
}

/// The program that does the work.
pub(crate) struct Program(String);

impl Program {
    /// Builds it with a feature of the testkit: `servers`, or `docker` as well. Of the whole workspace, so that the tests
    /// use what was compiled for it.
    pub(crate) fn build(feature: &str) -> Result<Self, Failure> {
        let feature = format!("ductape-testkit/{feature}");
        let arguments = ["build", "--workspace", "--features", &feature, "--bin", NAME];
        let mut cargo = process::cargo(&arguments);
        let mut path = None;
        let status = process::run_by_line(
            cargo.args(["--quiet", "--message-format", "json-render-diagnostics"]),
            |line| {
                path = crate::artifact::executable(line).map(|it| it.path).or(path.take());
            },
        )?;
        match path {
            Some(path) if status.success() => Ok(Program(path)),
            _ => Err(Failure::Failed(format!("{NAME} does not build"))),
        }
    }

    fn command(&self, word: &str) -> Command {
        let mut command = Command::new(&self.0);
        command.arg(word).stdin(Stdio::null());
        command
    }

    /// Installs what these kinds lack. What cannot be installed is told by the program itself, and is no failure: its
    /// tests are skipped.
    pub(crate) fn install(&self, kinds: &[&str]) -> Result<(), Failure> {
        if !process::run(self.command("install").args(kinds))?.success() {
            eprintln!("note: tests of what is missing are skipped");
        }
        Ok(())
    }

    /// Begins to start servers of these kinds, those that are installed, in this way.
    pub(crate) fn start(&self, kinds: &[&str], way: Option<&str>) -> Result<Servers, Failure> {
        let mut command = self.command("start");
        command.envs(way.map(|way| (WAY, way)));
        command.arg("--available").args(kinds).stdin(Stdio::piped()).stdout(Stdio::piped());
        // Not ended together with what runs beside it: it ends with its standard input, however we end.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.spawn().map_err(|fault| Failure::Failed(format!("{}: {fault}", self.0)))?;
        let input = child.stdin.take();
        Ok(Servers { child, input })
    }
}

const NAME: &str = "ductape-servers";
/// The variable that says how servers are started.
pub(crate) const WAY: &str = "DUCTAPE_TEST_SERVERS";

/// Servers that run, or are being started, until this is dropped.
pub(crate) struct Servers {
    child: Child,
    input: Option<ChildStdin>,
}

impl Servers {
    /// Waits until they are ready, and returns the variables that lead tests to them.
    pub(crate) fn variables(&mut self) -> Result<BTreeMap<String, String>, Failure> {
        let mut variables = BTreeMap::new();
        let output = self.child.stdout.take();
        let lines = output.into_iter().flat_map(|output| BufReader::new(output).lines());
        for line in lines.map_while(Result::ok) {
            if line.starts_with("# ready") {
                return Ok(variables);
            }
            variables.extend(export(&line));
        }
        Err(Failure::Failed("the servers for the tests did not start; see above".into()))
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}

/// `export NAME=VALUE`, with the shell's single quotes where the value needs them.
fn export(line: &str) -> Option<(String, String)> {
    let (name, value) = line.strip_prefix("export ")?.split_once('=')?;
    let bare = value.strip_prefix('\'').and_then(|value| value.strip_suffix('\''));
    Some((name.to_owned(), bare.map_or_else(|| value.to_owned(), |bare| bare.replace(r"'\''", "'"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_export_is_read_as_the_shell_reads_it() {
        let read = |line: &str| export(line).map(|(name, value)| format!("{name} is {value}"));
        assert_eq!(read("export A=127.0.0.1:1").as_deref(), Some("A is 127.0.0.1:1"));
        assert_eq!(read(r"export A='it'\''s = 1'").as_deref(), Some("A is it's = 1"));
        assert_eq!(read("# ready"), None);
    }

    #[test]
    #[cfg(unix)]
    fn servers_are_waited_for_and_end_with_their_owner() {
        let script = "echo export A=1; echo '# ready'; cat; echo gone >\"$1\"";
        let file = std::env::temp_dir().join(format!("xtask-servers-{}", std::process::id()));
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh"]).arg(&file).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let input = child.stdin.take();
        let mut servers = Servers { child, input };
        assert_eq!(servers.variables().unwrap()["A"], "1");
        drop(servers);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "gone\n");
        std::fs::remove_file(file).unwrap();
    }
}
