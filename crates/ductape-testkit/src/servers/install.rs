//! Getting what is not installed: from the system's package manager, and from Maven Central.

use super::artifacts::{self, Artifact};
use super::packages::{self, MAVEN, Manager, Package};
use super::{Kind, native};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tempfile::TempDir;
use tokio::process::Command;

/// How long a package manager may take, on a slow network.
const PATIENCE: Duration = Duration::from_secs(15 * 60);
/// Where Debian asks whether a package may start its service. 101 is no.
const POLICY: &str = "/usr/sbin/policy-rc.d";
/// What we put there. The comment tells it from one of the system's owner.
const NO_STARTS: &str =
    "#!/bin/sh\n# Of ductape-servers, while it installs: no package starts its service.\nexit 101\n";
/// The goal of Maven that copies an artifact with all that it depends on.
const COPY: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies";

/// What one kind lacks. Nothing where a server of it can be started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lack {
    /// Why no server can be started, if none can.
    pub server: Option<String>,
    /// Programs and libraries that are not there, though a server may run without: what its client is built with, and
    /// what its tests use.
    pub others: Vec<&'static str>,
}

/// What of a kind is not installed.
pub fn lack(kind: Kind) -> Lack {
    let others = missing_packages(kind).iter().map(Package::name).collect();
    Lack { server: native::missing(kind), others }
}

impl Lack {
    /// Whether nothing lacks.
    pub fn is_nothing(&self) -> bool {
        *self == Lack::default()
    }
}

/// Why something could not be installed.
#[derive(Debug)]
#[non_exhaustive]
pub enum InstallError {
    /// The user may not install packages. Holds the one command that whoever may can type.
    NotAllowed(String),
    /// Nobody here can get it.
    NoSource(String),
    /// A program that installs failed.
    Failed(String),
}

impl fmt::Display for InstallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InstallError::NotAllowed(command) => {
                write!(f, "it takes another user to install packages; type\n{command}")
            }
            InstallError::NoSource(fault) | InstallError::Failed(fault) => f.write_str(fault),
        }
    }
}

impl std::error::Error for InstallError {}

/// Installs what these kinds lack, and says what it does, a line each. Services are not started. What can be had is
/// installed though something else cannot.
///
/// # Errors
/// All that could not be installed, with what to do.
pub async fn install(kinds: &[Kind], say: impl Fn(&str)) -> Result<(), Vec<InstallError>> {
    let mut errors = Vec::new();
    errors.extend(install_packages(kinds, &say).await.err());
    for artifact in missing_artifacts(kinds) {
        say(&format!("getting {artifact} from Maven Central"));
        errors.extend(get(artifact).await.err());
    }
    if kinds.contains(&Kind::PubSub) {
        errors.extend(native::missing(Kind::PubSub).map(InstallError::NoSource));
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

fn missing_packages(kind: Kind) -> Vec<Package> {
    packages::of(kind).iter().filter(|package| !package.is_installed()).copied().collect()
}

fn missing_artifacts(kinds: &[Kind]) -> Vec<&'static Artifact> {
    let of = |kind: &Kind| match kind {
        Kind::Kafka => Some(&artifacts::KAFKA),
        Kind::Sqs => Some(&artifacts::ELASTICMQ),
        Kind::PubSub => Some(&artifacts::GRPC_API),
        Kind::RabbitMq | Kind::Redis => None,
    };
    kinds.iter().filter_map(of).filter(|artifact| !artifact.folder().is_dir()).collect()
}

async fn install_packages(kinds: &[Kind], say: &impl Fn(&str)) -> Result<(), InstallError> {
    let mut missing: Vec<_> = kinds.iter().flat_map(|kind| missing_packages(*kind)).collect();
    if !missing_artifacts(kinds).is_empty() && !MAVEN.is_installed() {
        missing.push(MAVEN);
    }
    if missing.is_empty() {
        return Ok(());
    }
    let Some(manager) = Manager::find() else {
        let names: Vec<_> = missing.iter().map(Package::name).collect();
        let fault = format!("neither apt-get nor brew is here; install {}", names.join(", "));
        return Err(InstallError::NoSource(fault));
    };
    if manager != Manager::Apt || !is_root() {
        return Err(InstallError::NotAllowed(manager.command(&missing)));
    }
    say(&format!("installing {}", manager.names(&missing).join(", ")));
    let _without_starts = Policy::put(Path::new(POLICY)).map_err(|error| failed(POLICY, &error))?;
    apt(&manager.names(&missing)).await
}

#[cfg(unix)]
fn is_root() -> bool {
    nix::unistd::Uid::effective().is_root()
}

#[cfg(not(unix))]
fn is_root() -> bool {
    false
}

/// With the lists of packages that are there, which is quick, and where that fails with fresh ones.
async fn apt(names: &[&str]) -> Result<(), InstallError> {
    let get = || {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").args(["--quiet", "--quiet"]);
        command
    };
    let install = || {
        let mut command = get();
        command.args(["--option=Dpkg::Use-Pty=0", "install", "--yes", "--no-install-recommends"]).args(names);
        command
    };
    if run(&mut install()).await.is_ok() {
        return Ok(());
    }
    run(get().arg("update")).await?;
    run(&mut install()).await
}

/// Keeps packages from starting services, as long as it lives, where nothing else does.
struct Policy(Option<PathBuf>);

impl Policy {
    fn put(file: &Path) -> io::Result<Self> {
        // One of ours is of a run that was killed.
        if file.exists() && std::fs::read_to_string(file)? != NO_STARTS {
            return Ok(Policy(None));
        }
        std::fs::write(file, NO_STARTS)?;
        let policy = Policy(Some(file.to_owned()));
        #[cfg(unix)]
        std::fs::set_permissions(file, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        Ok(policy)
    }
}

impl Drop for Policy {
    fn drop(&mut self) {
        if let Some(file) = &self.0 {
            let _ = std::fs::remove_file(file);
        }
    }
}

/// Copies an artifact and its dependencies beside their folder, and gives it its name when all are there.
async fn get(artifact: &Artifact) -> Result<(), InstallError> {
    let folder = artifact.folder();
    let parent = folder.parent().unwrap_or(Path::new("."));
    let place = prepare(artifact, parent).map_err(|error| failed(&parent.display().to_string(), &error))?;
    let archives = place.path().join("archives");
    let mut output = std::ffi::OsString::from("-DoutputDirectory=");
    output.push(&archives);
    let mut maven = Command::new("mvn");
    maven.args(["--quiet", "--batch-mode", "--file"]).arg(place.path().join("pom.xml"));
    run(maven.arg(COPY).arg("-DincludeScope=runtime").arg(output)).await?;
    match std::fs::rename(&archives, &folder) {
        // Another process was quicker.
        Err(_) if folder.is_dir() => Ok(()),
        Err(error) => Err(failed(&folder.display().to_string(), &error)),
        Ok(()) => Ok(()),
    }
}

/// A folder beside the artifact's, with a project for Maven.
fn prepare(artifact: &Artifact, parent: &Path) -> io::Result<TempDir> {
    std::fs::create_dir_all(parent)?;
    let place = tempfile::Builder::new().prefix(".getting-").tempdir_in(parent)?;
    std::fs::write(place.path().join("pom.xml"), pom(artifact))?;
    Ok(place)
}

/// A project that is nothing but its one dependency.
fn pom(artifact: &Artifact) -> String {
    let Artifact { group, name, version } = artifact;
    format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\">\n  <modelVersion>4.0.0</modelVersion>\n  \
         <groupId>ductape</groupId><artifactId>servers</artifactId><version>1</version>\n  <dependencies><dependency>\n    \
         <groupId>{group}</groupId><artifactId>{name}</artifactId><version>{version}</version>\n  \
         </dependency></dependencies>\n</project>\n"
    )
}

/// Runs to the end. What it prints goes to standard error: our standard output is for what is read by programs.
async fn run(command: &mut Command) -> Result<(), InstallError> {
    let shown = format!("{:?}", command.as_std());
    let mut child = command
        .stdin(Stdio::null())
        .stdout(io::stderr())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed(&shown, &error))?;
    match tokio::time::timeout(PATIENCE, child.wait()).await {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(failed(&shown, &status)),
        Ok(Err(error)) => Err(failed(&shown, &error)),
        Err(_) => Err(failed(&shown, &format!("it did not end in {PATIENCE:?}"))),
    }
}

fn failed(what: &str, why: &dyn fmt::Display) -> InstallError {
    InstallError::Failed(format!("{what}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_kept_from_starting_only_where_nobody_else_does_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("policy-rc.d");
        for _ in 0..2 {
            let policy = Policy::put(&file).unwrap();
            assert!(std::fs::read_to_string(&file).unwrap().ends_with("exit 101\n"));
            drop(policy);
            assert!(!file.exists());
            // As a run that was killed leaves it.
            std::fs::write(&file, NO_STARTS).unwrap();
        }
        std::fs::write(&file, "exit 0\n").unwrap();
        drop(Policy::put(&file).unwrap());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "exit 0\n");
    }

    #[test]
    fn the_project_for_maven_names_the_one_version() {
        let pom = pom(&artifacts::KAFKA);
        for part in ["org.apache.kafka", "kafka_2.13", artifacts::KAFKA.version] {
            assert!(pom.contains(&format!(">{part}</")), "{pom}");
        }
    }

    #[test]
    fn who_may_not_install_is_told_what_to_type() {
        let said = InstallError::NotAllowed(Manager::Apt.command(packages::of(Kind::RabbitMq))).to_string();
        assert!(said.ends_with("\nsudo apt-get install --yes rabbitmq-server"), "{said}");
    }

    #[tokio::test]
    async fn a_program_that_fails_is_told() {
        let said = run(Command::new("sh").args(["-c", "exit 3"])).await.unwrap_err().to_string();
        assert!(said.contains("exit 3") && said.contains("exit status: 3"), "{said}");
        assert!(run(&mut Command::new("no-program-has-this-name")).await.is_err());
    }
}
