//! Running programs of tests side by side: most of their time is waiting, for leases to end and for servers to start.

use super::summary::Summary;
use super::times::Times;
use crate::artifact::Executable;
use crate::{Failure, process};
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, mpsc};
use std::time::{Duration, Instant};

/// What takes minutes begins first, so that all lanes end at about the same time.
const LONGEST: [&str; 10] = [
    "ductape-chaos every_provider",
    "ductape-pubsub conformance",
    "ductape-kafka conformance",
    "ductape-rabbitmq faults",
    "ductape-redis faults",
    "ductape-rabbitmq conformance",
    "ductape-kafka faults",
    "ductape-sqs conformance",
    "ductape-redis conformance",
    "ductape-pubsub faults",
];
/// The most lines of a failed program that are shown again at the end.
const MOST_CAUSES: usize = 20;
/// The last lines of one that ended without telling why, by a signal.
const LAST_WORDS: usize = 5;
/// No program of tests needs longer; what does hangs, and is ended.
const LIMIT: Duration = Duration::from_secs(600);

/// Runs all of them, each with these variables and words; prints the output of each as a whole when it ends.
pub(super) fn run(
    programs: Vec<Executable>,
    variables: &BTreeMap<String, String>,
    words: &[String],
) -> (Summary, Times) {
    let lanes = std::thread::available_parallelism().map_or(2, |cores| cores.get().clamp(2, 4));
    let queue = Mutex::new(in_turn(programs));
    let results = Mutex::new((Summary::default(), Times::default()));
    std::thread::scope(|scope| {
        for _ in 0..lanes {
            scope.spawn(|| {
                while let Some(program) = next(&queue) {
                    let mut command = Command::new(&program.path);
                    command.args(words).envs(variables).current_dir(&program.folder).stdin(Stdio::null());
                    // Handlers that panic on purpose would fill the output with their calls.
                    command.env("RUST_BACKTRACE", "0");
                    // As cargo sets it for tests that it runs.
                    command.env("CARGO_MANIFEST_DIR", program.folder.trim_end_matches(['/', '\\']));
                    let (name, start) = (name(&program), Instant::now());
                    let (lines, fault) = output(command);
                    let mut results = lock(&results);
                    println!("\n== {name}, {:.1} s", start.elapsed().as_secs_f64());
                    lines.iter().for_each(|line| println!("{line}"));
                    let (summary, times) = &mut *results;
                    lines.iter().for_each(|line| summary.read(line));
                    if let Some(fault) = fault {
                        println!("error: {name} failed: {fault}");
                        let causes = causes(&lines).join("\n    ");
                        summary.faults.push(format!("{name}: {fault}\n    {causes}").trim_end().to_owned());
                    }
                    times.add(name, start.elapsed());
                }
            });
        }
    });
    results.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// The lines that tell what failed and how, in the standard harness's words and the testkit's, each once: handlers
/// that are meant to panic say the same again and again. The last lines where none does.
fn causes(lines: &[String]) -> Vec<&str> {
    let tells = |line: &str| {
        line.starts_with("FAILED ")
            || line.ends_with(" ... FAILED")
            || line.starts_with("    expected: ")
            || line.starts_with("    seen: ")
    };
    let after_panic = |index: usize| index > 0 && lines[index - 1].contains(" panicked at ");
    let telling = lines.iter().enumerate().filter(|(index, line)| tells(line) || after_panic(*index));
    let mut told = HashSet::new();
    let causes = telling.map(|(_, line)| line.as_str()).filter(|line| told.insert(*line));
    let causes: Vec<&str> = causes.take(MOST_CAUSES).collect();
    if !causes.is_empty() {
        return causes;
    }
    lines[lines.len().saturating_sub(LAST_WORDS)..].iter().map(String::as_str).collect()
}

fn name(program: &Executable) -> String {
    format!("{} {}", program.package, program.target)
}

fn in_turn(mut programs: Vec<Executable>) -> VecDeque<Executable> {
    let turn = |program: &Executable| LONGEST.iter().position(|it| *it == name(program));
    programs.sort_by_key(|program| turn(program).unwrap_or(LONGEST.len()));
    programs.into()
}

fn next(queue: &Mutex<VecDeque<Executable>>) -> Option<Executable> {
    lock(queue).pop_front()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// What a program printed, and why it failed where it did.
fn output(command: Command) -> (Vec<String>, Option<String>) {
    let mut lines = Vec::new();
    let (ended, end) = mpsc::channel::<()>();
    let watch = |leader| {
        std::thread::spawn(move || {
            if end.recv_timeout(LIMIT) == Err(mpsc::RecvTimeoutError::Timeout) {
                process::end_group(leader);
            }
        });
    };
    let status = process::run_by_line_of_both(command, watch, |line| lines.push(line.to_owned()));
    drop(ended);
    let fault = match status {
        Ok(status) if status.success() => None,
        Ok(status) => Some(status.to_string()),
        Err(Failure::Failed(fault) | Failure::Usage(fault)) => Some(fault),
    };
    (lines, fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(package: &str, target: &str) -> Executable {
        let (package, target) = (package.to_owned(), target.to_owned());
        Executable { path: "true".into(), package, target, folder: "/".into(), tests: true }
    }

    #[test]
    fn what_takes_longest_begins_first_and_the_rest_keep_their_order() {
        let turns = in_turn(vec![
            program("b", "faults"),
            program("a", "faults"),
            program("ductape-rabbitmq", "faults"),
            program("ductape-chaos", "every_provider"),
        ]);
        let names: Vec<_> = turns.iter().map(name).collect();
        assert_eq!(
            names,
            ["ductape-chaos every_provider", "ductape-rabbitmq faults", "b faults", "a faults"]
        );
    }

    #[test]
    #[cfg(unix)]
    fn a_program_that_fails_is_told_with_all_that_it_printed() {
        let shell = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            output(command)
        };
        assert_eq!(shell("echo a; echo b >&2"), (vec!["a".into(), "b".into()], None));
        let (lines, fault) = shell("echo a; exit 3");
        assert_eq!(lines, ["a"]);
        assert!(fault.unwrap().contains('3'));
    }

    #[test]
    fn what_failed_is_told_without_what_passed() {
        let output = "test a ... ok\ntest b ... FAILED\nthread 'b' panicked at x.rs:1:2:\nleft is not right\nnote: run\n\
                      thread 'c' panicked at x.rs:1:2:\nleft is not right\n\
                      ok sqs one (1 ms)\nFAILED sqs two (2 ms)\n    expected: three\n    seen: four";
        let lines: Vec<_> = output.lines().map(str::to_owned).collect();
        assert_eq!(
            causes(&lines),
            [
                "test b ... FAILED",
                "left is not right",
                "FAILED sqs two (2 ms)",
                "    expected: three",
                "    seen: four"
            ]
        );
    }

    #[test]
    fn what_ended_without_a_word_is_told_with_its_last_lines() {
        let lines: Vec<_> = (1..=9).map(|number| format!("ok kafka {number}")).collect();
        assert_eq!(causes(&lines), &lines[4..]);
        assert_eq!(causes(&lines[..1]), ["ok kafka 1"]);
        assert!(causes(&[]).is_empty());
    }
}
