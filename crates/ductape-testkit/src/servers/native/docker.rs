//! Servers in containers: the same configuration, folder and ports as a process has.
//!
//! ```text
//!  this process ──pipe in the folder──▶ sh (the container's first process)
//!        │                                ├─ the server        its end ends the container
//!        └── the daemon ────────────────▶ └─ sh: reads the pipe    its end (we are gone) kills the server
//! ```
//!
//! A container shares the host's network, so that servers listen on 127.0.0.1 alone and tell clients addresses that hold
//! outside (Docker Desktop has this under its settings), and the folder, under the same path and as the same user. So
//! nothing is configured in another way, and a kill and a new container keep the data.
//!
//! A container removes itself when it ends, and ends with the pipe however this process ends.

use super::Installed;
use super::java;
use super::rabbitmq::Programs;
use crate::servers::process::{Invocation, Signal};
use crate::servers::{Kind, artifacts};
use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use testcontainers::core::Mount;
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerAsync, GenericImage, ImageExt, TestcontainersError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// `$1` is the pipe, `$2` the log, what follows is the command.
///
/// A first process gets no signal that it does not ask for, so it hands on the one that ends it.
const FIRST: &str = r#"
exec 3<"$1" >>"$2" 2>&1; shift 2
"$@" 3<&- &
server=$!
trap 'kill -TERM "$server"' TERM
{ read -r line; kill -KILL "$server"; } <&3 &
exec 3<&-
while kill -0 "$server"; do wait "$server"; done 2>/dev/null
"#;

/// How long a daemon may take to answer.
const ANSWER: Duration = Duration::from_secs(2);
/// How long a start may take, with the image to be got.
const START: Duration = Duration::from_secs(300);
/// How often a container is asked whether it has ended.
const POLL: Duration = Duration::from_millis(50);

/// What a container is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::servers) struct Image {
    name: &'static str,
    tag: &'static str,
}

/// The one table of images and their versions.
pub(super) const fn image(kind: Kind) -> Image {
    let (name, tag) = match kind {
        Kind::Kafka => ("apache/kafka", artifacts::KAFKA.version),
        Kind::PubSub => ("gcr.io/google.com/cloudsdktool/google-cloud-cli", "548.0.0-emulators"),
        Kind::RabbitMq => ("rabbitmq", "4.1.4"),
        Kind::Redis => ("redis", "8.2.2"),
        Kind::Sqs => ("softwaremill/elasticmq", artifacts::ELASTICMQ.version),
    };
    Image { name, tag }
}

/// Where the programs are in these images.
pub(super) fn installed(kind: Kind) -> Installed {
    let java = |classes: &str| java::Installed::in_image(PathBuf::from(classes));
    match kind {
        Kind::Kafka => Installed::Kafka(java("/opt/kafka/libs/*")),
        Kind::PubSub => Installed::PubSub(java("/google-cloud-sdk/platform/pubsub-emulator/lib/*")),
        Kind::RabbitMq => Installed::RabbitMq(Programs::in_image()),
        Kind::Redis => Installed::Redis("redis-server".into()),
        Kind::Sqs => Installed::ElasticMq(java("/opt/docker/lib/*")),
    }
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, self.tag)
    }
}

/// Whether the daemon answers that `DOCKER_HOST` names, or the usual one of this machine. One that is reached over TLS is
/// not asked: servers in it would not listen here.
pub(super) async fn answers() -> io::Result<()> {
    let host = std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".into());
    let Some(path) = host.strip_prefix("unix://") else {
        return Err(io::Error::other(format!("DOCKER_HOST={host} is no socket of this machine")));
    };
    let ask = async {
        let mut stream = tokio::net::UnixStream::connect(path).await?;
        stream.write_all(b"GET /_ping HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n").await?;
        let mut answer = Vec::new();
        stream.take(1024).read_to_end(&mut answer).await?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        if answer.starts_with("HTTP/1.1 200") { Ok(()) } else { Err(io::Error::other(answer)) }
    };
    let late = || io::Error::new(io::ErrorKind::TimedOut, format!("no answer in {ANSWER:?}"));
    tokio::time::timeout(ANSWER, ask)
        .await
        .unwrap_or_else(|_| Err(late()))
        .map_err(|error| io::Error::new(error.kind(), format!("{host}: {error}")))
}

/// A container that runs, or has ended by itself. Dropping it kills its server.
pub(super) struct Container {
    inner: ContainerAsync<GenericImage>,
    /// Its closing tells the container that nobody owns the server any more.
    _owner: File,
}

impl Container {
    pub(super) async fn start(
        image: Image,
        invocation: &Invocation,
        folder: &Path,
        log: &Path,
    ) -> io::Result<Self> {
        let pipe = folder.join(format!("owner-{:08x}", fastrand::u32(..)));
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU)?;
        // For both, since opening it for one waits for somebody to open it for the other.
        let owner = File::options().read(true).write(true).open(&pipe)?;
        let mut command = vec!["-c".to_owned(), FIRST.to_owned(), "sh".to_owned()];
        command.extend([
            text(pipe.as_os_str())?,
            text(log.as_os_str())?,
            text(invocation.program.as_os_str())?,
        ]);
        for argument in &invocation.arguments {
            command.push(text(argument)?);
        }
        let place = text(folder.as_os_str())?;
        let mut request = GenericImage::new(image.name, image.tag)
            .with_entrypoint("sh")
            .with_cmd(command)
            .with_network("host")
            .with_user(format!("{}:{}", nix::unistd::getuid(), nix::unistd::getgid()))
            .with_mount(Mount::bind_mount(place.clone(), place.clone()))
            .with_working_dir(place)
            .with_startup_timeout(START)
            .with_host_config_modifier(|host| host.auto_remove = Some(true));
        for (name, value) in &invocation.variables {
            request = request.with_env_var(*name, text(value)?);
        }
        let started = tokio::time::timeout(START, request.start()).await;
        let inner = started.map_err(io::Error::from)?.map_err(|error| failed(&error))?;
        Ok(Container { inner, _owner: owner })
    }

    pub(super) async fn has_ended(&self) -> io::Result<bool> {
        // One that has ended has removed itself.
        Ok(!self.inner.is_running().await.unwrap_or(false))
    }

    pub(super) async fn signal(&self, signal: Signal) -> io::Result<()> {
        match signal {
            Signal::Stall => self.inner.pause().await,
            Signal::Resume => self.inner.unpause().await,
            Signal::Kill | Signal::End => self.inner.stop_with_timeout(Some(0)).await,
        }
        .map_err(|error| failed(&error))
    }

    /// Removes it by force, which kills it.
    pub(super) async fn kill(self) -> io::Result<()> {
        // It removes itself at the same moment, so one of the two comes too late.
        let _ = self.inner.rm().await;
        Ok(())
    }

    pub(super) async fn end(self, patience: Duration) -> io::Result<()> {
        let _ = self.inner.unpause().await;
        let seconds = i32::try_from(patience.as_secs()).unwrap_or(i32::MAX);
        self.inner.stop_with_timeout(Some(seconds)).await.map_err(|error| failed(&error))?;
        self.kill().await
    }

    pub(super) async fn wait(&self, patience: Duration) -> io::Result<()> {
        let deadline = Instant::now() + patience;
        while !self.has_ended().await? {
            if Instant::now() >= deadline {
                let fault = format!("it did not end in {patience:?}");
                return Err(io::Error::new(io::ErrorKind::TimedOut, fault));
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }
}

impl fmt::Debug for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Container").field("id", &self.inner.id()).finish_non_exhaustive()
    }
}

fn failed(error: &TestcontainersError) -> io::Error {
    io::Error::other(format!("Docker: {error}"))
}

/// The daemon takes text alone.
fn text(word: &OsStr) -> io::Result<String> {
    word.to_str()
        .map(str::to_owned)
        .ok_or_else(|| io::Error::other(format!("{} is not UTF-8", word.display())))
}
