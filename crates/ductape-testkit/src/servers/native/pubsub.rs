//! Google's Pub/Sub emulator, where the Google Cloud SDK is installed: it has no other source. It keeps nothing.

use super::Plan;
use super::java::{self, Installed};
use crate::servers::artifacts::GRPC_API;
use crate::servers::{Endpoint, Options, ports, programs};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where packages install the SDK.
const USUAL: [&str; 4] = [
    "/usr/lib/google-cloud-sdk",
    "/usr/share/google-cloud-sdk",
    "/opt/google-cloud-sdk",
    "/opt/homebrew/share/google-cloud-sdk",
];
/// The class that the emulator's archive names as its program.
const MAIN: &str = "com.google.cloud.pubsub.testing.v1.Main";
/// The version whose archive holds two versions of gRPC.
const MIXED: &str = "-0.8.20-";
/// The emulator within it.
const EMULATOR: &str = "platform/pubsub-emulator/lib";

pub(super) fn find() -> Result<Installed, String> {
    let archive = sdks().iter().find_map(|sdk| archive_in(&sdk.join(EMULATOR)));
    let archive = archive.ok_or("the Google Cloud SDK with its pubsub-emulator is not installed")?;
    java::find_with(class_path(archive))
}

/// The archive; of the version that never learns of a stream's reset, behind what mends that, where this was installed.
fn class_path(archive: PathBuf) -> PathBuf {
    let mend = GRPC_API.archive();
    let is_mixed = archive.file_name().is_some_and(|name| name.to_string_lossy().contains(MIXED));
    if !is_mixed || !mend.is_file() {
        return archive;
    }
    std::env::join_paths([&mend, &archive]).map_or(archive, PathBuf::from)
}

/// The SDK of the `gcloud` in the path, and the usual ones.
fn sdks() -> Vec<PathBuf> {
    let program = programs::find("gcloud").and_then(|it| it.canonicalize().ok());
    let own = program.as_deref().and_then(Path::parent).and_then(Path::parent).map(Path::to_owned);
    own.into_iter().chain(USUAL.map(PathBuf::from)).collect()
}

fn archive_in(folder: &Path) -> Option<PathBuf> {
    let files = std::fs::read_dir(folder).ok()?.filter_map(|file| Some(file.ok()?.path()));
    files.into_iter().find(|file| {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.starts_with("cloud-pubsub-emulator-") && name.ends_with(".jar")
    })
}

pub(super) fn plan(java: &Installed, options: &Options) -> io::Result<Plan> {
    let port = ports::free()?;
    let arguments = ["--host=127.0.0.1".to_owned(), format!("--port={port}")];
    let name = java.classes.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Plan {
        program: name,
        run: java.run(options, [], MAIN, arguments),
        first: None,
        endpoint: Endpoint::at(format!("127.0.0.1:{port}")),
        patience: Duration::from_secs(60),
    })
}
