//! Where a run takes place: the server with a proxy before it, or a small disk of its own.

use crate::Fatal;
use crate::carrier::{Carrier, Home, Place};
use std::fmt;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The size of a small disk.
const DISK: &str = "512m";
/// How much is written at once to fill it.
const CHUNK: usize = 1 << 20;

/// Why a run cannot take place here: nothing is broken, something is not installed.
#[derive(Debug)]
pub struct Absent(pub String);

impl fmt::Display for Absent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Absent {}

/// Where a run takes place.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) place: Place,
    pub(crate) disk: Option<SmallDisk>,
    #[cfg(feature = "servers")]
    pub(crate) server: Option<Served>,
}

/// A server, and the network before it.
#[cfg(feature = "servers")]
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) server: ductape_testkit::servers::Server,
    pub(crate) proxy: ductape_testkit::servers::Proxy,
}

impl Stage {
    /// Sets the stage of a carrier. `settings` are lines of the server's configuration besides the carrier's own.
    pub(crate) async fn set(
        carrier: &Carrier,
        folder: &Path,
        settings: &[(&str, &str)],
    ) -> Result<Self, Fatal> {
        let name = format!("chaos-{:016x}", fastrand::u64(..));
        let disk = folder.join("disk");
        std::fs::create_dir(&disk)?;
        let mut stage = Stage {
            place: Place { disk: disk.clone(), name, ..Place::default() },
            disk: None,
            #[cfg(feature = "servers")]
            server: None,
        };
        match carrier.home {
            Home::Process => {}
            // Without the right to mount one, the run goes without its fault.
            Home::File => stage.disk = SmallDisk::mount(&disk).ok(),
            #[cfg(feature = "servers")]
            Home::Server(kind) => stage.serve(carrier, kind, settings).await?,
        }
        #[cfg(not(feature = "servers"))]
        let _ = settings;
        Ok(stage)
    }

    /// The process group of the server, where there is one that we started.
    #[cfg_attr(
        not(feature = "servers"),
        allow(clippy::unused_async, clippy::unused_self, reason = "it has no server")
    )]
    pub(crate) async fn server_group(&self) -> Option<u32> {
        #[cfg(feature = "servers")]
        if let Some(served) = &self.server {
            return served.server.process_group().await;
        }
        None
    }

    #[cfg(feature = "servers")]
    async fn serve(
        &mut self,
        carrier: &Carrier,
        kind: ductape_testkit::servers::Kind,
        settings: &[(&str, &str)],
    ) -> Result<(), Fatal> {
        use ductape_testkit::servers::{Error, Options, Proxy, own};
        let proxy = Proxy::reserve()?;
        let mut options = Options::default();
        for (name, value) in (carrier.settings)(proxy.port()) {
            options = options.with_setting(name, value);
        }
        for (name, value) in settings {
            options = options.with_setting(*name, *value);
        }
        let server = match own(kind, options).await {
            Err(error @ Error::Missing { .. }) => return Err(Absent(error.to_string()).into()),
            started => started?,
        };
        let endpoint = server.endpoint();
        proxy.set_upstream(&endpoint.address);
        self.place.port = proxy.port();
        self.place.username.clone_from(&endpoint.username);
        self.place.password = endpoint.password.as_ref().map(|password| password.expose().to_owned());
        self.server = Some(Served { server, proxy });
        Ok(())
    }
}

/// A file system in memory that can be filled. It is gone when this is dropped.
#[derive(Debug)]
pub(crate) struct SmallDisk {
    at: PathBuf,
}

impl SmallDisk {
    fn mount(at: &Path) -> Result<Self, Fatal> {
        let size = format!("size={DISK}");
        let status = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "chaos"]).arg(at).output()?;
        match status.status.success() {
            true => Ok(SmallDisk { at: at.to_owned() }),
            false => Err(String::from_utf8_lossy(&status.stderr).into_owned().into()),
        }
    }

    fn ballast(&self) -> PathBuf {
        self.at.join("ballast")
    }

    /// Writes until nothing fits any more.
    pub(crate) fn fill(&self) -> std::io::Result<()> {
        let mut ballast = File::create(self.ballast())?;
        let mut chunk = vec![0; CHUNK];
        while !chunk.is_empty() {
            if ballast.write_all(&chunk).is_err() {
                chunk.truncate(chunk.len() / 2);
            }
        }
        Ok(())
    }

    /// Gives the room back.
    pub(crate) fn free(&self) -> std::io::Result<()> {
        std::fs::remove_file(self.ballast())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Also while a file of it is open.
        let _ = Command::new("umount").arg("--lazy").arg(&self.at).output();
    }
}
