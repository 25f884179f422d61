//! The handle of a server.

use super::native::Native;
use super::process::Signal;
use super::{Endpoint, Error, Kind};
use std::fmt;

/// A server to which tests connect. One that we started ends when its handle is dropped.
#[derive(Debug)]
pub struct Server {
    kind: Kind,
    inner: Inner,
}

#[derive(Debug)]
enum Inner {
    Environment(Endpoint),
    Native(Box<Native>),
}

/// Where a server comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// The environment names it. It cannot be killed, stalled or started.
    Environment,
    /// A process that we started, of this program.
    Native(String),
}

impl Server {
    pub(super) fn from_environment(kind: Kind, endpoint: Endpoint) -> Self {
        Server { kind, inner: Inner::Environment(endpoint) }
    }

    pub(super) fn native(kind: Kind, native: Native) -> Self {
        Server { kind, inner: Inner::Native(Box::new(native)) }
    }

    /// Which server it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Where it listens and how it lets in: the same over all restarts.
    pub fn endpoint(&self) -> &Endpoint {
        match &self.inner {
            Inner::Environment(endpoint) => endpoint,
            Inner::Native(native) => native.endpoint(),
        }
    }

    /// Where it comes from.
    pub fn origin(&self) -> Origin {
        match &self.inner {
            Inner::Environment(_) => Origin::Environment,
            Inner::Native(native) => Origin::Native(native.program().to_owned()),
        }
    }

    /// The process group that it runs in, with whatever it starts for itself; `None` where it is no process of this
    /// machine that we started, or does not run.
    pub async fn process_group(&self) -> Option<u32> {
        match &self.inner {
            Inner::Environment(_) => None,
            Inner::Native(native) => native.process_group().await,
        }
    }

    /// The last lines that it printed, over all its starts. Empty for one from the environment.
    pub fn log(&self) -> String {
        match &self.inner {
            Inner::Environment(_) => String::new(),
            Inner::Native(native) => native.log(),
        }
    }

    /// Kills it (SIGKILL) and returns when its ports are closed. Nothing where it does not run.
    ///
    /// # Errors
    /// [`Error::NotOurs`] for one from the environment; [`Error::Broken`] where it does not end within 10 s.
    pub async fn kill(&self) -> Result<(), Error> {
        self.native_only()?.kill().await
    }

    /// Ends it in good order (SIGTERM); one that takes longer than 20 s is killed. Nothing where it does not run.
    ///
    /// # Errors
    /// As [`kill`](Self::kill).
    pub async fn stop(&self) -> Result<(), Error> {
        self.native_only()?.stop().await
    }

    /// Starts it on the same data and the same ports, and returns when it is ready. One that runs is killed before.
    ///
    /// # Errors
    /// [`Error::NotOurs`]; [`Error::Broken`] with the end of its log where it ends or does not get ready in time.
    pub async fn restart(&self) -> Result<(), Error> {
        self.native_only()?.restart().await
    }

    /// Lets it stand still (SIGSTOP): connections stay open, are even accepted by the system, and nothing answers.
    ///
    /// # Errors
    /// [`Error::NotOurs`]; [`Error::Broken`] where it does not run.
    pub async fn stall(&self) -> Result<(), Error> {
        self.native_only()?.signal(Signal::Stall).await
    }

    /// Lets it go on (SIGCONT) after [`stall`](Self::stall).
    ///
    /// # Errors
    /// As [`stall`](Self::stall).
    pub async fn resume(&self) -> Result<(), Error> {
        self.native_only()?.signal(Signal::Resume).await
    }

    fn native_only(&self) -> Result<&Native, Error> {
        match &self.inner {
            Inner::Environment(_) => Err(Error::NotOurs { kind: self.kind }),
            Inner::Native(native) => Ok(native),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Environment => f.write_str("from the environment"),
            Origin::Native(program) => f.write_str(program),
        }
    }
}
