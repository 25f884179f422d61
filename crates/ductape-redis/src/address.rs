//! From the config to clients of the redis crate: one server, a cluster, or a master that sentinels know.

use ductape_core::config::{RedisConfig, SentinelConfig};
use ductape_core::secret::Secret;
use ductape_core::{ConnectOptions, Error, ErrorKind, Result};
use redis::cluster::ClusterClient;
use redis::io::tcp::TcpSettings;
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{
    Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo, TlsCertificates, TlsMode,
};
use std::path::Path;

const DEFAULT_PORT: u16 = 6379;

/// What connections are made to. It has no `Debug`: it holds the password.
pub(crate) enum Address {
    Server(Box<Client>),
    /// The nodes by themselves as well: a client of one node tells what is wrong with it, the cluster's does not.
    Cluster {
        client: Box<ClusterClient>,
        nodes: Vec<Client>,
    },
    Sentinel(Box<tokio::sync::Mutex<SentinelClient>>),
}

/// An address, and how errors name it.
pub(crate) struct Place {
    pub(crate) address: Address,
    pub(crate) name: String,
}

/// # Errors
/// `CONFIG_INVALID`.
pub(crate) fn read(config: &RedisConfig, options: &ConnectOptions) -> Result<Place> {
    let certificates = authorities(config, &options.base_dir)?;
    match (&config.url, &config.sentinel) {
        (Some(url), _) => by_url(url, certificates),
        (_, Some(sentinel)) => by_sentinel(config, sentinel, certificates),
        _ if !config.cluster.is_empty() => by_nodes(config, options, certificates),
        _ => {
            let host = config.host.clone().unwrap_or_default();
            let port = config.port.unwrap_or(DEFAULT_PORT);
            let name = format!("{host}:{port}");
            let client = client(info(config, host, port)?, certificates)?;
            Ok(Place { address: Address::Server(Box::new(client)), name })
        }
    }
}

fn by_url(url: &Secret, certificates: Option<TlsCertificates>) -> Result<Place> {
    // The crate's errors may hold what it read, and so the password.
    let bad = || {
        Error::new(ErrorKind::ConfigInvalid, "`url` does not read as one")
            .with_help("write `redis://user:password@host:port/db`, or `rediss://…` for TLS")
    };
    // `#insecure` would accept any certificate: what looks like TLS would be none.
    if url.expose().contains('#') {
        return Err(Error::new(ErrorKind::ConfigInvalid, "`url` has a fragment, and none is taken")
            .with_help("name your own authority with `caFile` in the place of `#insecure`"));
    }
    let info = url.expose().into_connection_info().map_err(|_| bad())?;
    let name = match info.addr() {
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
            format!("{host}:{port}")
        }
        _ => return Err(bad()),
    };
    let info = settled(info);
    Ok(Place { address: Address::Server(Box::new(client(info, certificates)?)), name })
}

fn by_nodes(
    config: &RedisConfig,
    options: &ConnectOptions,
    certificates: Option<TlsCertificates>,
) -> Result<Place> {
    let infos = config.cluster.iter().map(|node| {
        let (host, port) = host_and_port(node, "cluster")?;
        info(config, host, port)
    });
    let infos = infos.collect::<Result<Vec<_>>>()?;
    let nodes = infos.iter().map(|info| client(info.clone(), certificates.clone()));
    let nodes = nodes.collect::<Result<Vec<_>>>()?;
    // What was sent and not answered is told, and never sent again behind our back: it may have been done.
    let mut builder = ClusterClient::builder(infos)
        .retries(0)
        .connection_timeout(options.connect_timeout)
        .response_timeout(options.request_timeout)
        .tcp_settings(tcp());
    if let Some(username) = &config.username {
        builder = builder.username(username);
    }
    if let Some(password) = password(config) {
        builder = builder.password(password);
    }
    if config.tls {
        builder = builder.tls(TlsMode::Secure);
        if let Some(certificates) = certificates {
            builder = builder.certs(certificates);
        }
    }
    let client = Box::new(builder.build().map_err(|_| unusable("`cluster`"))?);
    Ok(Place { address: Address::Cluster { client, nodes }, name: config.cluster.join(", ") })
}

fn by_sentinel(
    config: &RedisConfig,
    sentinel: &SentinelConfig,
    certificates: Option<TlsCertificates>,
) -> Result<Place> {
    let sentinels = sentinel.nodes.iter().map(|node| {
        let (host, port) = host_and_port(node, "sentinel.nodes")?;
        Ok(address(config.tls, host, port))
    });
    let sentinels = sentinels.collect::<Result<Vec<_>>>()?;
    let faulty = |_| unusable("`sentinel`");
    let mut builder = SentinelClientBuilder::new(sentinels, &sentinel.master, SentinelServerType::Master)
        .map_err(faulty)?
        .set_client_to_redis_db(i64::from(config.db.unwrap_or(0)))
        .set_client_to_redis_tcp_settings(tcp())
        .set_client_to_sentinel_tcp_settings(tcp());
    if let Some(username) = &config.username {
        builder = builder.set_client_to_redis_username(username);
    }
    if let Some(password) = password(config) {
        builder = builder.set_client_to_redis_password(password);
    }
    if let Some(username) = &sentinel.username {
        builder = builder.set_client_to_sentinel_username(username);
    }
    if let Some(password) = &sentinel.password {
        builder = builder.set_client_to_sentinel_password(password.expose());
    }
    if config.tls {
        builder = builder.set_client_to_redis_tls_mode(TlsMode::Secure);
        if let Some(certificates) = certificates {
            builder = builder
                .set_client_to_redis_certificates(certificates.clone())
                .set_client_to_sentinel_certificates(certificates);
        }
    }
    let client = Box::new(tokio::sync::Mutex::new(builder.build().map_err(faulty)?));
    let name = format!("{} by {}", sentinel.master, sentinel.nodes.join(", "));
    Ok(Place { address: Address::Sentinel(client), name })
}

fn info(config: &RedisConfig, host: String, port: u16) -> Result<ConnectionInfo> {
    let mut settings = RedisConnectionInfo::default().set_db(i64::from(config.db.unwrap_or(0)));
    if let Some(username) = &config.username {
        settings = settings.set_username(username);
    }
    if let Some(password) = password(config) {
        settings = settings.set_password(password);
    }
    let info = address(config.tls, host, port).into_connection_info();
    Ok(settled(info.map_err(|_| unusable("`host`"))?.set_redis_settings(settings)))
}

/// An empty one is none: `${PASSWORD:-}` where nothing is set.
fn password(config: &RedisConfig) -> Option<&str> {
    config.password.as_ref().map(Secret::expose).filter(|password| !password.is_empty())
}

/// With what every connection of ours has.
fn settled(info: ConnectionInfo) -> ConnectionInfo {
    let said = info.redis_settings();
    let mut settings =
        RedisConnectionInfo::default().set_db(said.db()).set_lib_name("ductape", env!("CARGO_PKG_VERSION"));
    if let Some(username) = said.username() {
        settings = settings.set_username(username);
    }
    if let Some(password) = said.password().filter(|password| !password.is_empty()) {
        settings = settings.set_password(password);
    }
    info.set_redis_settings(settings).set_tcp_settings(tcp())
}

fn tcp() -> TcpSettings {
    TcpSettings::default().set_nodelay(true)
}

fn address(tls: bool, host: String, port: u16) -> ConnectionAddr {
    if tls {
        ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
    } else {
        ConnectionAddr::Tcp(host, port)
    }
}

fn client(info: ConnectionInfo, certificates: Option<TlsCertificates>) -> Result<Client> {
    let client = match (info.addr(), certificates) {
        (ConnectionAddr::TcpTls { .. }, Some(certificates)) => Client::build_with_tls(info, certificates),
        _ => Client::open(info),
    };
    client.map_err(|_| unusable("`caFile`"))
}

fn host_and_port(text: &str, field: &str) -> Result<(String, u16)> {
    let parts = text.rsplit_once(':').and_then(|(host, port)| Some((host.to_owned(), port.parse().ok()?)));
    parts.ok_or_else(|| {
        Error::new(ErrorKind::ConfigInvalid, format!("`{field}` holds `{text}`"))
            .with_help("write `host:port`")
    })
}

fn unusable(field: &str) -> Error {
    Error::new(ErrorKind::ConfigInvalid, format!("{field} cannot be used"))
        .with_help("see that the names are names of hosts, and that `caFile` holds certificates in PEM")
}

fn authorities(config: &RedisConfig, base_dir: &Path) -> Result<Option<TlsCertificates>> {
    let Some(file) = &config.ca_file else { return Ok(None) };
    let path = base_dir.join(file);
    let root_cert = std::fs::read(&path).map_err(|error| {
        Error::new(ErrorKind::ConfigInvalid, "`caFile` cannot be read")
            .with_context("file", path.display())
            .with_help("name a file with certificates in PEM")
            .with_source(error)
    })?;
    Ok(Some(TlsCertificates { client_tls: None, root_cert: Some(root_cert) }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

    use super::*;

    fn read_json(json: &str) -> Result<Place> {
        read(&serde_json::from_str(json).unwrap(), &ConnectOptions::default())
    }

    fn info_of(json: &str) -> ConnectionInfo {
        match read_json(json).unwrap().address {
            Address::Server(client) => client.get_connection_info().clone(),
            _ => panic!("not one server"),
        }
    }

    #[test]
    fn parts_and_url_lead_to_the_same_address() {
        let parts = info_of(r#"{"host":"h","port":1,"username":"u","password":"p@/","db":3,"tls":true}"#);
        let url = info_of(r#"{"url":"rediss://u:p%40%2F@h:1/3"}"#);
        assert!(parts.addr() == url.addr());
        for info in [&parts, &url] {
            let settings = info.redis_settings();
            let said = (settings.username(), settings.password(), settings.db());
            assert!(said == (Some("u"), Some("p@/"), 3));
        }
        for nobody in [r#"{"url":"redis://:@h"}"#, r#"{"host":"h","password":""}"#] {
            assert!(info_of(nobody).redis_settings().password().is_none(), "{nobody}");
        }
        assert!(*info_of(r#"{"host":"h"}"#).addr() == ConnectionAddr::Tcp("h".into(), 6379));
    }

    #[test]
    fn a_bad_url_is_refused_without_its_words() {
        let insecure = "rediss://u:s3cret@h/0#insecure";
        for url in ["http://u:s3cret@h", "redis://u:s3cret@h/x", "unix:///s3cret", insecure] {
            let error = read_json(&format!(r#"{{"url":"{url}"}}"#)).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::ConfigInvalid, "{url}");
            assert!(!format!("{error:?} {error}").contains("s3cret"), "{url}");
        }
    }

    #[test]
    fn a_cluster_and_sentinels_are_known_by_their_nodes() {
        let cluster = read_json(r#"{"cluster":["a:1","b:2"],"password":"p"}"#).unwrap();
        assert!(matches!(&cluster.address, Address::Cluster { nodes, .. } if nodes.len() == 2));
        let sentinel = r#"{"sentinel":{"master":"m","nodes":["s:26379"]},"password":"p"}"#;
        assert_eq!(read_json(sentinel).unwrap().name, "m by s:26379");
    }

    #[test]
    fn a_file_of_authorities_that_is_not_there_is_named() {
        let error = read_json(r#"{"host":"h","tls":true,"caFile":"none.pem"}"#).err().unwrap();
        assert!(error.to_string().contains("none.pem"), "{error}");
    }
}
