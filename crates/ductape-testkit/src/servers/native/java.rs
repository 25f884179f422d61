//! Servers on the JVM.

use crate::servers::artifacts::Artifact;
use crate::servers::process::Invocation;
use crate::servers::{Options, programs};
use std::ffi::OsString;
use std::path::PathBuf;

/// A Java runtime and what it runs.
pub(super) struct Installed {
    java: PathBuf,
    /// A folder of archives and `*`, or one archive.
    pub(super) classes: PathBuf,
}

/// The runtime, and an artifact of Maven Central.
pub(super) fn find(artifact: &Artifact) -> Result<Installed, String> {
    let folder = artifact.folder();
    if !folder.is_dir() {
        return Err(format!("{artifact} of Maven Central is not in {}", folder.display()));
    }
    find_with(folder.join("*"))
}

/// The runtime, for these archives.
pub(super) fn find_with(classes: PathBuf) -> Result<Installed, String> {
    let java = programs::find("java").ok_or("a Java runtime is not installed")?;
    Ok(Installed { java, classes })
}

impl Installed {
    /// The runtime of a container, in its path.
    #[cfg(feature = "docker")]
    pub(super) fn in_image(classes: PathBuf) -> Self {
        Installed { java: "java".into(), classes }
    }

    /// Runs the program of this main class. A JVM that lives for a test only is quicker without its second compiler, and
    /// smaller with the plainest collector.
    pub(super) fn run<A: Into<OsString>>(
        &self,
        options: &Options,
        properties: impl IntoIterator<Item = OsString>,
        main: &str,
        arguments: impl IntoIterator<Item = A>,
    ) -> Invocation {
        let mut all: Vec<OsString> = vec!["-Xms128m".into(), "-Xmx512m".into(), "-XX:+UseSerialGC".into()];
        if !options.full_speed() {
            all.push("-XX:TieredStopAtLevel=1".into());
        }
        all.extend(properties);
        all.extend(["-cp".into(), self.classes.clone().into(), main.into()]);
        all.extend(arguments.into_iter().map(Into::into));
        Invocation::new(&self.java, all)
    }
}
