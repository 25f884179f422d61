//! `cargo xtask bench`: builds the benchmark's binaries in release mode and lets them do the work.

use crate::{Failure, Outcome, process, root};
use std::path::PathBuf;

/// What is measured with a contestant for each side. The networks' names are features of the package too, so that a
/// bench of one compiles only its client.
const EMBEDDED: [&str; 2] = ["memory", "sqlite"];
const NETWORKS: [&str; 5] = ["kafka", "pubsub", "rabbitmq", "redis", "sqs"];
/// What has a binary of its own, and that one's name.
const OTHERS: [(&str, &str); 4] =
    [("embedded", "embedded"), ("scaling", "scaling"), ("cli", "cli"), ("build", "building")];

const PACKAGE: &str = "ductape-benches";

pub(crate) fn run(arguments: &[String]) -> Outcome {
    let Some((name, rest)) = arguments.split_first() else {
        return Err(Failure::Usage(format!("which benchmark? There is: {}", names())));
    };
    let mut rest = rest.to_vec();
    let name = name.as_str();
    if let Some((_, binary)) = OTHERS.iter().find(|(known, _)| *known == name) {
        if name == "cli" {
            build(&["--package", "ductape-cli", "--bins"])?;
        }
        let servers =
            (name == "scaling" && rest.iter().any(|flag| flag == "--servers")).then(|| NETWORKS.join(","));
        return run_binary(binary, servers.as_deref(), &rest);
    }
    let feature = NETWORKS.contains(&name).then_some(name);
    if feature.is_none() && !EMBEDDED.contains(&name) {
        return Err(Failure::Usage(format!("there is no benchmark `{name}`, only: {}", names())));
    }
    if let Some(place) = rest.iter().position(|argument| argument == "--peers") {
        let folder = build_peers(name)?;
        rest.splice(place..=place, ["--peers-in".into(), folder.to_string_lossy().into_owned()]);
    }
    rest.insert(0, name.to_owned());
    run_binary("providers", feature, &rest)
}

/// All of the package's binaries are built: some measure others of them as processes of their own.
fn run_binary(binary: &str, features: Option<&str>, arguments: &[String]) -> Outcome {
    let mut package = vec!["--package", PACKAGE];
    package.extend(features.iter().flat_map(|features| ["--features", *features]));
    build(&[&package[..], &["--bins"]].concat())?;
    let run = [&["run", "--quiet", "--release"], &package[..], &["--bin", binary, "--"]].concat();
    let status = process::run(process::cargo(&run).args(arguments))?;
    status.success().then_some(()).ok_or(Failure::Failed(String::new()))
}

fn build(what: &[&str]) -> Outcome {
    let built = process::run(&mut process::cargo(&[&["build", "--release"], what].concat()))?;
    built.success().then_some(()).ok_or(Failure::Failed("the benchmarks do not build".into()))
}

/// Builds the peers that carry a provider, each by itself: one that does not build leaves the others in. Returns the
/// folder of their programs.
fn build_peers(provider: &str) -> Result<PathBuf, Failure> {
    let (home, target) = (root().join("benches/peers"), root().join("target/peers"));
    let programs = target.join("bench").join(provider);
    std::fs::create_dir_all(&programs).map_err(|fault| Failure::Failed(format!("{programs:?}: {fault}")))?;
    for peer in peers(&home)? {
        let mut cargo =
            process::cargo(&["build", "--release", "--no-default-features", "--features", provider]);
        cargo.arg("--package").arg(&peer).arg("--target-dir").arg(&target).current_dir(&home);
        // A package that does not know the feature does not carry the provider.
        if !carries(&home.join(&peer).join("Cargo.toml"), provider) {
            continue;
        }
        if !process::run(&mut cargo)?.success() {
            println!("{peer} does not build, and is left out");
            continue;
        }
        for program in [peer.clone(), format!("{peer}-counted")] {
            let built = target.join("release").join(&program);
            std::fs::copy(&built, programs.join(&program))
                .map_err(|fault| Failure::Failed(format!("{built:?}: {fault}")))?;
        }
    }
    Ok(programs)
}

fn peers(home: &std::path::Path) -> Result<Vec<String>, Failure> {
    let folder = std::fs::read_dir(home).map_err(|fault| Failure::Failed(format!("{home:?}: {fault}")))?;
    let names = folder.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut peers: Vec<_> = names.filter(|name| name.starts_with("peer-")).collect();
    peers.sort();
    Ok(peers)
}

fn carries(manifest: &std::path::Path, provider: &str) -> bool {
    let text = std::fs::read_to_string(manifest).unwrap_or_default();
    text.lines().any(|line| line.starts_with(&format!("{provider} = [")))
}

fn names() -> String {
    [&EMBEDDED[..], &NETWORKS, &OTHERS.map(|(name, _)| name)].concat().join(", ")
}
