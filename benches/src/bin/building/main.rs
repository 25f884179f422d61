//! `cargo xtask bench build [--quick] [--write]`: how long a program takes to build and how large it gets, by feature.
//!
//! For each feature a program of a few lines is built from nothing in release mode, in a target folder that goes away.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the report goes to the terminal")]

use ductape_benches::report::{Report, Target};
use ductape_benches::results::{Made, Section, Table};
use ductape_benches::spread::short;
use ductape_benches::{Result, child, usage};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;
use tempfile::TempDir;

const FEATURES: [&str; 8] = ["memory", "sqlite", "kafka", "rabbitmq", "redis", "sqs", "pubsub", "full"];
const PROGRAM: &str = "\
use ductape::{Ductape, Publish};

#[tokio::main]
async fn main() -> ductape::Result<()> {
    let ductape = Ductape::open(\"ductape.yaml\").await?;
    ductape.broker().publish(Publish::new(\"orders:new\").payload(\"{}\")).await?;
    Ok(())
}
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    if let Some(unknown) =
        arguments.iter().find(|argument| !["--quick", "--write"].contains(&argument.as_str()))
    {
        eprintln!("error: `{unknown}` is not known; there are --quick and --write");
        return ExitCode::from(2);
    }
    match run(has("--quick"), has("--write")) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What a build took and gave.
struct Built {
    feature: &'static str,
    seconds: f64,
    mib: f64,
    crates: usize,
}

fn run(quick: bool, write: bool) -> Result<()> {
    let made = Made::now("build", &[(quick, "--quick"), (write, "--write")]);
    if let Some(load) = usage::load() {
        println!("load of the machine before: {load:.2} (other work makes every number worse)");
    }
    let features: Vec<_> =
        FEATURES.into_iter().filter(|feature| !quick || ["redis", "full"].contains(feature)).collect();
    let mut built = Vec::new();
    for feature in features {
        let one = build(feature)?;
        println!("  {feature:<10} {:.0} s, {:.1} MiB, {} crates", one.seconds, one.mib, one.crates);
        built.push(one);
    }
    let mut report = Report::default();
    judge(&mut report, &built);
    report.end();
    // A quick look is no result.
    if !quick || write {
        section(&report, made, &built).write()?;
    }
    Ok(())
}

fn build(feature: &'static str) -> Result<Built> {
    let folder = TempDir::with_prefix("ductape-bench-")?;
    write_program(folder.path(), feature)?;
    // The versions that the workspace has.
    std::fs::copy(workspace().join("Cargo.lock"), folder.path().join("Cargo.lock"))?;
    child::output(cargo(folder.path()).arg("fetch"))?;
    let (tree, _) = child::output(cargo(folder.path()).args([
        "tree",
        "--prefix",
        "none",
        "--no-dedupe",
        "--edges",
        "normal",
    ]))?;
    let mut crates: Vec<&str> = tree.lines().map(|line| line.trim_end_matches(" (*)")).collect();
    crates.sort_unstable();
    crates.dedup();
    let start = Instant::now();
    child::output(cargo(folder.path()).args(["build", "--release", "--quiet"]))?;
    let seconds = start.elapsed().as_secs_f64();
    let program = folder.path().join("target/release/sized");
    let mib = std::fs::metadata(program)?.len() as f64 / 1_048_576.0;
    Ok(Built { feature, seconds, mib, crates: crates.len() })
}

fn cargo(folder: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(folder).env("CARGO_TARGET_DIR", folder.join("target"));
    command
}

fn write_program(folder: &Path, feature: &str) -> Result<()> {
    let ductape = workspace().join("crates/ductape");
    let manifest = format!(
        "[package]\nname = \"sized\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[workspace]\n\n[dependencies]\n\
         ductape = {{ path = {ductape:?}, default-features = false, features = [{feature:?}] }}\n\
         tokio = {{ version = \"1.54\", features = [\"rt-multi-thread\", \"macros\"] }}\n\n\
         [profile.release]\nstrip = true\n"
    );
    std::fs::create_dir_all(folder.join("src"))?;
    std::fs::write(folder.join("Cargo.toml"), manifest)?;
    Ok(std::fs::write(folder.join("src/main.rs"), PROGRAM)?)
}

fn workspace() -> PathBuf {
    let home = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    home.parent().map_or_else(|| home.clone(), PathBuf::from)
}

fn judge(report: &mut Report, built: &[Built]) {
    let Some(full) = built.iter().find(|one| one.feature == "full") else { return };
    for one in built.iter().filter(|one| one.feature != "full") {
        let detail = format!("{:.0} s beside {:.0} s", one.seconds, full.seconds);
        let name = format!("time to build `{}`, of `full`", one.feature);
        report.line(&name, one.seconds / full.seconds, "x", Target::AtMost(1.0 / 3.0), &detail);
        let detail = format!("{:.1} MiB beside {:.1} MiB", one.mib, full.mib);
        let name = format!("size of `{}`, of `full`", one.feature);
        report.line(&name, one.mib / full.mib, "x", Target::AtMost(0.5), &detail);
    }
}

fn section(report: &Report, made: Made, built: &[Built]) -> Section {
    let rows = built.iter().map(|one| {
        vec![one.feature.into(), short(one.seconds), format!("{:.1}", one.mib), one.crates.to_string()]
    });
    let table = Table {
        title: "From nothing, in release mode".into(),
        header: ["", "seconds", "MiB, stripped", "crates"].map(String::from).into(),
        rows: rows.collect(),
    };
    Section {
        name: "build".into(),
        title: "Building".into(),
        order: 60,
        made,
        about: vec![
            "A program that opens a catalogue and publishes once, with one feature of `ductape`.".into(),
        ],
        targets: report.lines().to_vec(),
        tables: vec![table],
        chart: None,
        missing: not_built(built),
    }
}

fn not_built(built: &[Built]) -> Vec<String> {
    let left_out = FEATURES.into_iter().filter(|feature| built.iter().all(|one| one.feature != *feature));
    left_out.map(|feature| format!("`{feature}`: left out of a quick run")).collect()
}
