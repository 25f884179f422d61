//! Choosing, running and printing properties.

use super::fixture::Fixture;
use super::outcome::{Stop, fault};
use super::property::{self, Property};
use super::report::{PropertyReport, Report, Status};
use super::subject::Subject;
use futures_util::stream::{self, StreamExt};
use std::future::Future;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinError;

/// How many times its patience a property may take in all, beside [`LONGEST_STOP`].
const DEADLINE_IN_PATIENCES: u32 = 6;
/// How long what a property tries may rightly take: the worker's own grace at a stop, and some more.
const LONGEST_STOP: Duration = Duration::from_secs(20);
/// The environment's word for: every skip must be allowed.
const REQUIRE: &str = "DUCTAPE_REQUIRE";

/// Which properties are run. [`Default`] is all of them.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Properties whose name holds one of these; all where there are none.
    pub words: Vec<String>,
    /// Whether a word must be the whole name.
    pub exact: bool,
    /// Whether a skip that the subject does not allow fails. [`main`] takes it from `DUCTAPE_REQUIRE=all`.
    pub require_all: bool,
}

impl Selection {
    /// Properties whose name holds this.
    pub fn word(word: impl Into<String>) -> Self {
        Selection { words: vec![word.into()], ..Self::default() }
    }

    fn chooses(&self, name: &str) -> bool {
        let fits = |word: &String| if self.exact { name == word } else { name.contains(word.as_str()) };
        self.words.is_empty() || self.words.iter().any(fits)
    }
}

/// The suite, for one subject.
#[derive(Debug)]
pub struct Suite {
    subject: Arc<Subject>,
}

impl Suite {
    /// The suite for this subject.
    pub fn new(subject: Subject) -> Self {
        Suite { subject: Arc::new(subject) }
    }

    /// The sentences of all properties, in the order of the suite.
    pub fn sentences() -> Vec<&'static str> {
        property::all().iter().map(|property| property.sentence).collect()
    }

    /// Runs the chosen properties on the current tokio runtime, which should have more than one thread, so that a
    /// broker that blocks its thread is found out.
    pub async fn run(&self, selection: &Selection) -> Report {
        self.run_each(selection, |_| {}).await
    }

    async fn run_each(&self, selection: &Selection, tell: impl Fn(&PropertyReport)) -> Report {
        let start = Instant::now();
        let all = property::all();
        let total = all.len();
        let chosen: Vec<_> = all.into_iter().filter(|p| selection.chooses(&self.full_name(p))).collect();
        let filtered_out = total - chosen.len();
        let mut properties: Vec<_> = stream::iter(chosen)
            .map(|property| self.run_one(property, selection.require_all))
            .buffered(self.subject.concurrency)
            .inspect(&tell)
            .collect()
            .await;
        if let Some(unknown) = self.unknown_skip() {
            tell(&unknown);
            properties.push(unknown);
        }
        Report { properties, filtered_out, took: start.elapsed() }
    }

    async fn run_one(&self, property: &Property, require_all: bool) -> PropertyReport {
        let start = Instant::now();
        let tried = match self.subject.skips(&property.name()) {
            Some(reason) => Err(Stop::Skip(reason.to_owned())),
            None => try_property(&self.subject, property).await,
        };
        let status = match tried {
            Ok(()) => Status::Passed,
            Err(Stop::Fault { expected, seen }) => Status::Failed { expected, seen },
            Err(Stop::Skip(reason)) if require_all && !self.subject.allows_skip(&property.name()) => {
                Status::Failed {
                    expected: format!("every property tried, since {REQUIRE}=all"),
                    seen: format!("a skip that is not allowed: {reason}"),
                }
            }
            Err(Stop::Skip(reason)) => Status::Skipped { reason },
        };
        self.report(property, status, start.elapsed())
    }

    fn report(&self, property: &Property, status: Status, took: Duration) -> PropertyReport {
        PropertyReport {
            label: self.subject.label.clone(),
            section: property.section,
            sentence: property.sentence,
            status,
            took,
        }
    }

    /// The failure of an allowed skip that allows nothing.
    fn unknown_skip(&self) -> Option<PropertyReport> {
        let all = property::all();
        let unknown = self.subject.allowed_skips.iter().find(|(beginning, _)| {
            !all.iter().any(|property| property.name().starts_with(beginning.as_str()))
        })?;
        let sentence = "every allowed skip names a property";
        let property = Property::new(property::Section::Lifecycle, sentence, |_| Box::pin(async { Ok(()) }));
        let status = Status::Failed {
            expected: format!("a property that begins with `{}`", unknown.0),
            seen: "none".into(),
        };
        Some(self.report(&property, status, Duration::ZERO))
    }

    fn full_name(&self, property: &Property) -> String {
        format!("{} {}", self.subject.label, property.name())
    }
}

/// Runs a property on a task of its own, so that a panic or a blocked thread ends it alone.
async fn try_property(subject: &Arc<Subject>, property: &Property) -> Result<(), Stop> {
    let target = subject.target.clone().map_err(Stop::Skip)?;
    let (subject, run, keeps_nothing) = (Arc::clone(subject), property.run, property.without_keeping);
    let deadline = subject.patience * DEADLINE_IN_PATIENCES + LONGEST_STOP;
    let mut task = tokio::spawn(async move {
        let fixture = Fixture::open(subject, target).await?;
        fixture.check_keeping(keeps_nothing)?;
        let broker = Arc::clone(&fixture.broker);
        let outcome = run(fixture).await;
        // How well it closes is for the properties of the lifecycle to say.
        let _ = tokio::time::timeout(Duration::from_secs(1), broker.close()).await;
        outcome
    });
    match tokio::time::timeout(deadline, &mut task).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(panic)) => Err(fault("no panic", words_of(panic))),
        Err(_) => {
            task.abort();
            Err(fault(format!("an end within {deadline:?}"), "it still runs"))
        }
    }
}

fn words_of(panic: JoinError) -> String {
    match panic.try_into_panic() {
        Ok(payload) => match payload.downcast::<String>() {
            Ok(text) => *text,
            Err(payload) => payload.downcast::<&str>().map_or("a panic".into(), |text| (*text).to_owned()),
        },
        Err(cancelled) => cancelled.to_string(),
    }
}

/// Runs the suite as a test program: reads the arguments that `cargo test` passes on, prints a line a property and
/// the counts in cargo's form, and fails if one property does. See [the module](super).
///
/// Arguments: words, of which a name must hold one; `--exact`; `--list`; `--test-threads N`. Others of the standard
/// harness are accepted and change nothing.
pub fn main<F, Fut, S>(subjects: F) -> ExitCode
where
    F: FnOnce() -> Fut,
    Fut: Future<Output = S>,
    S: IntoIterator<Item = Subject>,
{
    let arguments = Arguments::parse(std::env::args().skip(1));
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            print(format_args!("no runtime for the tests: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let ok = runtime.block_on(async { run_all(subjects().await, arguments).await });
    // What a broken broker left blocked must not keep the program from ending.
    runtime.shutdown_timeout(Duration::from_secs(1));
    if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn run_all(subjects: impl IntoIterator<Item = Subject>, arguments: Arguments) -> bool {
    let mut ok = true;
    for mut subject in subjects {
        subject.concurrency = arguments.threads.unwrap_or(subject.concurrency).max(1);
        let suite = Suite::new(subject);
        if arguments.list {
            list(&suite, &arguments.selection);
            continue;
        }
        let report = suite.run_each(&arguments.selection, |property| print(format_args!("{property}"))).await;
        print(format_args!("\n{report}\n"));
        ok &= report.is_ok();
    }
    ok
}

fn list(suite: &Suite, selection: &Selection) {
    let names = property::all().into_iter().map(|property| suite.full_name(property));
    names.filter(|name| selection.chooses(name)).for_each(|name| print(format_args!("{name}: test")));
}

/// A line on standard output. Where nobody reads it any more the exit code still tells.
fn print(line: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

#[derive(Debug, Default)]
struct Arguments {
    selection: Selection,
    list: bool,
    threads: Option<usize>,
}

impl Arguments {
    fn parse(arguments: impl Iterator<Item = String>) -> Self {
        let mut parsed = Arguments::default();
        parsed.selection.require_all = std::env::var_os(REQUIRE).is_some_and(|value| value == "all");
        let mut arguments = arguments;
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--list" => parsed.list = true,
                "--exact" => parsed.selection.exact = true,
                "--test-threads" => parsed.threads = arguments.next().and_then(|n| n.parse().ok()),
                "--format" | "--color" | "--skip" | "--logfile" | "-Z" => drop(arguments.next()),
                flag if flag.starts_with('-') => {
                    if let Some(threads) = flag.strip_prefix("--test-threads=") {
                        parsed.threads = threads.parse().ok();
                    }
                }
                _ => parsed.selection.words.push(argument),
            }
        }
        parsed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Arguments {
        Arguments::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn words_choose_and_flags_of_the_standard_harness_do_no_harm() {
        let arguments = parse("--nocapture letters -q --test-threads=2 --format terse order");
        assert_eq!(arguments.selection.words, ["letters", "order"]);
        assert_eq!((arguments.threads, arguments.list), (Some(2), false));
        assert!(arguments.selection.chooses("memory failure: dead letters"));
        assert!(!arguments.selection.chooses("memory delivery: bodies"));
        assert!(!parse("--exact letters").selection.chooses("memory failure: dead letters"));
        assert!(parse("--list").selection.chooses("anything"));
    }

    #[test]
    fn no_two_properties_have_one_name_and_none_hides_its_skip() {
        let mut names: Vec<_> = property::all().into_iter().map(Property::name).collect();
        // A skip is printed as `skip NAME (REASON)`, and read up to the first bracket.
        assert!(names.iter().all(|name| !name.contains('(')), "{names:?}");
        names.sort();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[tokio::test]
    async fn a_subject_that_is_absent_is_skipped_with_its_reason_and_refused_where_all_are_required() {
        let absent = || Subject::absent("kafka", "no server").allow_skip("delivery:", "none here");
        let report = Suite::new(absent()).run(&Selection::default()).await;
        let skipped = Status::Skipped { reason: "no server".into() };
        assert!(report.is_ok() && report.properties.iter().all(|p| p.status == skipped));
        let strict = Selection { require_all: true, ..Selection::default() };
        let report = Suite::new(absent()).run(&strict).await;
        let refused = |p: &&PropertyReport| p.status != skipped;
        assert!(report.properties.iter().filter(refused).all(|p| p.section != property::Section::Delivery));
        assert!(report.properties.iter().filter(refused).count() > 0);
    }

    #[tokio::test]
    async fn an_allowed_skip_that_allows_nothing_fails_the_run() {
        let subject = Subject::absent("kafka", "no server").allow_skip("delivry:", "a slip");
        let report = Suite::new(subject).run(&Selection::word("no such property")).await;
        assert_eq!(report.failed(), ["every allowed skip names a property"]);
    }
}
