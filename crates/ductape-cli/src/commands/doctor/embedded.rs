//! Providers without a server: a file that may not be there yet, and is not made by looking.

use ductape::ProviderConfig;
use std::path::{Path, PathBuf};

/// What is known of a provider's file before it is opened.
pub(super) enum File {
    /// There is no file to this provider.
    None,
    /// It is there.
    There(PathBuf),
    /// It is not there yet; its folder, or the nearest above that is there, may be written to or not.
    Missing { path: PathBuf, writable: bool },
}

pub(super) fn file(config: &ProviderConfig, base_dir: &Path) -> File {
    let ProviderConfig::Sqlite(config) = config else { return File::None };
    let joined = base_dir.join(&config.path);
    // Shown as people would type it.
    let path = joined.strip_prefix(".").map(Path::to_owned).unwrap_or(joined);
    if path.exists() {
        return File::There(path);
    }
    let full = std::path::absolute(&path).unwrap_or_else(|_| path.clone());
    let folder = full.ancestors().skip(1).find(|folder| folder.exists());
    let writable = folder.is_some_and(is_writable);
    File::Missing { path, writable }
}

fn is_writable(folder: &Path) -> bool {
    // Asking the system is surer than reading modes: access lists and read-only mounts count too.
    #[cfg(unix)]
    return nix::unistd::access(folder, nix::unistd::AccessFlags::W_OK).is_ok() && folder.is_dir();
    #[cfg(not(unix))]
    return folder.metadata().is_ok_and(|metadata| metadata.is_dir() && !metadata.permissions().readonly());
}
