//! Finding the catalogue, and opening it.

use crate::cli::Global;
use crate::failure::{Failure, Outcome};
use ductape::catalogue::{BrokerEntry, EnvEntry};
use ductape::{Catalogue, Ductape, Error, ErrorKind};
use std::path::{Path, PathBuf};

/// The catalogue's file: the one that was named, else the nearest upward from here.
pub(crate) fn path(global: &Global) -> Outcome<PathBuf> {
    match &global.catalogue {
        Some(path) => Ok(path.clone()),
        None => {
            let found = ductape::catalogue::find(Path::new("."))?;
            // Shown as people would type it, where it is in this very folder.
            let here = std::env::current_dir().unwrap_or_default();
            Ok(found.strip_prefix(&here).map(Path::to_owned).unwrap_or(found))
        }
    }
}

/// What relative paths in a catalogue are relative to.
pub(crate) fn folder(catalogue: &Path) -> PathBuf {
    catalogue.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned()
}

/// A client of the catalogue. Nothing is connected yet.
pub(crate) async fn client(global: &Global) -> Outcome<Ductape> {
    client_of(global, &path(global)?).await
}

/// A client of this catalogue.
pub(crate) async fn client_of(global: &Global, path: &Path) -> Outcome<Ductape> {
    let builder = Ductape::file(path);
    let builder = match env(global) {
        Some(env) => builder.env(env),
        None => builder,
    };
    Ok(builder.build().await?)
}

/// The env that was asked for, by option or variable.
pub(crate) fn env(global: &Global) -> Option<&str> {
    global.env.as_deref()
}

/// The env of a command on one event: the one asked for, else `dev` where its broker has it.
pub(crate) async fn env_of(global: &Global, client: &Ductape, event: &str) -> Outcome<String> {
    if let Some(env) = env(global) {
        return Ok(env.to_owned());
    }
    let event: ductape::Event = event.parse()?;
    let catalogue = client.catalogue().await?;
    let broker = catalogue.broker(event.broker().as_str())?;
    if broker.envs.iter().any(|entry| entry.slug.as_str() == "dev") {
        return Ok("dev".into());
    }
    let slugs: Vec<_> = broker.envs.iter().map(|entry| entry.slug.as_str()).collect();
    Err(Failure::usage(
        format!("the broker `{}` has no env `dev`, and no other is named", broker.tag),
        format!("give `--env`, or set DUCTAPE_ENV, to one of: {}", slugs.join(", ")),
    ))
}

/// Every broker's envs, or with `--env` that one of each that has it.
pub(crate) fn envs<'c>(
    global: &Global,
    catalogue: &'c Catalogue,
) -> Outcome<Vec<(&'c BrokerEntry, &'c EnvEntry)>> {
    let all =
        catalogue.brokers.iter().flat_map(|broker| broker.envs.iter().map(move |entry| (broker, entry)));
    let Some(slug) = env(global) else { return Ok(all.collect()) };
    let found: Vec<_> = all.filter(|(_, entry)| entry.slug.as_str() == slug).collect();
    match (found.is_empty(), catalogue.brokers.as_slice()) {
        (false, _) => Ok(found),
        // The broker's own refusal names its envs and the nearest.
        (true, [broker]) => Err(broker.env(slug).map(|_| Failure::Said).unwrap_or_else(Failure::from)),
        (true, brokers) => Err(no_env(slug, brokers).into()),
    }
}

fn no_env(slug: &str, brokers: &[BrokerEntry]) -> Error {
    let mut slugs: Vec<_> =
        brokers.iter().flat_map(|broker| broker.envs.iter().map(|env| env.slug.as_str())).collect();
    slugs.sort_unstable();
    slugs.dedup();
    let help = match slugs.is_empty() {
        true => "give a broker an env in the catalogue".to_owned(),
        false => format!("the envs are `{}`", slugs.join("`, `")),
    };
    let shown = slug.escape_debug();
    Error::new(ErrorKind::BrokerEnvNotFound, format!("no broker has the env `{shown}`")).with_help(help)
}
