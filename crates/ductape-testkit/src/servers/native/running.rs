//! A server that runs, as a process or in a container.

#[cfg(feature = "docker")]
use super::docker::{self, Container, Image};
use super::{Error, Installed, Invocation, Kind, Signal};
use crate::servers::process::Process;
use std::io;
use std::path::Path;
use std::time::Duration;

/// Where servers run.
#[derive(Clone, Copy, Debug)]
pub(in crate::servers) enum Runner {
    /// On this machine.
    Here,
    /// In Docker, whose daemon has answered, in a container of this image.
    #[cfg(feature = "docker")]
    Docker(Image),
}

/// A server that runs, or has ended by itself. Dropping it ends it.
#[derive(Debug)]
pub(super) enum Running {
    Process(Process),
    #[cfg(feature = "docker")]
    Container(Box<Container>),
}

impl Runner {
    /// Docker.
    ///
    /// # Errors
    /// [`Error::Missing`] where no daemon answers, or where this is compiled without.
    pub(in crate::servers) async fn docker(kind: Kind) -> Result<Self, Error> {
        #[cfg(feature = "docker")]
        return match docker::answers().await {
            Ok(()) => Ok(Runner::Docker(docker::image(kind))),
            Err(why) => Err(Error::missing(kind, format!("no Docker daemon answers: {why}"))),
        };
        #[cfg(not(feature = "docker"))]
        Err(Error::missing(kind, "the testkit is compiled without its feature `docker`"))
    }

    /// What of a kind is installed where it runs.
    pub(super) fn find(self, kind: Kind) -> Result<Installed, Error> {
        match self {
            Runner::Here => super::find(kind),
            #[cfg(feature = "docker")]
            Runner::Docker(_) => Ok(docker::installed(kind)),
        }
    }

    /// What runs, as a user would call it.
    pub(super) fn describe(self, program: String) -> String {
        match self {
            Runner::Here => program,
            #[cfg(feature = "docker")]
            Runner::Docker(image) => format!("{image} in Docker"),
        }
    }

    /// Starts something in a folder. What it prints goes to the end of `log`, a file of that folder.
    pub(super) async fn start(
        self,
        invocation: &Invocation,
        folder: &Path,
        log: &Path,
    ) -> io::Result<Running> {
        match self {
            Runner::Here => Process::start(invocation, folder, log).map(Running::Process),
            #[cfg(feature = "docker")]
            Runner::Docker(image) => {
                let container = Container::start(image, invocation, folder, log).await?;
                Ok(Running::Container(Box::new(container)))
            }
        }
    }
}

impl Running {
    pub(super) async fn has_ended(&mut self) -> io::Result<bool> {
        match self {
            Running::Process(process) => process.has_ended(),
            #[cfg(feature = "docker")]
            Running::Container(container) => container.has_ended().await,
        }
    }

    /// As [`Process::group`]; what runs in a container is not ours to look at.
    pub(super) fn process_group(&self) -> Option<u32> {
        match self {
            Running::Process(process) => Some(process.group()),
            #[cfg(feature = "docker")]
            Running::Container(_) => None,
        }
    }

    /// As [`Process::signal`].
    pub(super) async fn signal(&mut self, signal: Signal) -> io::Result<()> {
        match self {
            Running::Process(process) => process.signal(signal),
            #[cfg(feature = "docker")]
            Running::Container(container) => container.signal(signal).await,
        }
    }

    /// As [`Process::kill`].
    pub(super) async fn kill(self) -> io::Result<()> {
        match self {
            Running::Process(process) => process.kill().await,
            #[cfg(feature = "docker")]
            Running::Container(container) => container.kill().await,
        }
    }

    /// As [`Process::end`].
    pub(super) async fn end(self, patience: Duration) -> io::Result<()> {
        match self {
            Running::Process(process) => process.end(patience).await,
            #[cfg(feature = "docker")]
            Running::Container(container) => container.end(patience).await,
        }
    }

    /// As [`Process::wait`].
    pub(super) async fn wait(&mut self, patience: Duration) -> io::Result<()> {
        match self {
            Running::Process(process) => process.wait(patience).await,
            #[cfg(feature = "docker")]
            Running::Container(container) => container.wait(patience).await,
        }
    }
}
