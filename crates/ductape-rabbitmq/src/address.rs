//! What a config says of the server's address and of whom to trust.

use ductape_core::config::RabbitMqConfig;
use ductape_core::{Error, ErrorKind, Result};
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo};
use std::path::Path;

/// A peer that is silent for twice this long, in seconds, is gone.
const HEARTBEAT: u16 = 10;

/// Where and as whom to connect.
///
/// # Errors
/// `CONFIG_INVALID`, without a word of the `url`.
pub(crate) fn address(config: &RabbitMqConfig) -> Result<AMQPUri> {
    let mut address = match &config.url {
        // The parser's error may hold what it read, and so the password.
        Some(url) => url.expose().parse().map_err(|_| {
            Error::new(ErrorKind::ConfigInvalid, "`url` does not read as one").with_help(
                "write `amqp://user:password@host:port/vhost`, with `%2f` for the virtual host `/`",
            )
        })?,
        None => from_parts(config),
    };
    if let Some(vhost) = &config.vhost {
        address.vhost.clone_from(vhost);
    }
    address.query.heartbeat.get_or_insert(HEARTBEAT);
    Ok(address)
}

fn from_parts(config: &RabbitMqConfig) -> AMQPUri {
    let (scheme, port) = if config.tls { (AMQPScheme::AMQPS, 5671) } else { (AMQPScheme::AMQP, 5672) };
    AMQPUri {
        scheme,
        authority: AMQPAuthority {
            userinfo: AMQPUserInfo {
                username: config.username.clone().unwrap_or_else(|| "guest".into()),
                password: config.password.as_ref().map_or("guest", |password| password.expose()).into(),
            },
            host: config.host.clone().unwrap_or_default(),
            port: config.port.unwrap_or(port),
        },
        vhost: "/".into(),
        query: AMQPQueryString::default(),
    }
}

/// The certificates of `caFile`.
///
/// # Errors
/// `CONFIG_INVALID`.
pub(crate) fn authorities(config: &RabbitMqConfig, base_dir: &Path) -> Result<Option<String>> {
    let Some(file) = &config.ca_file else { return Ok(None) };
    let path = base_dir.join(file);
    std::fs::read_to_string(&path).map(Some).map_err(|error| {
        Error::new(ErrorKind::ConfigInvalid, "`caFile` cannot be read")
            .with_context("file", path.display())
            .with_help("name a file with certificates in PEM")
            .with_source(error)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

    use super::*;

    fn config(json: &str) -> RabbitMqConfig {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn parts_and_url_lead_to_the_same_address() {
        let parts = config(r#"{"host":"h","port":1,"username":"u","password":"p@/","vhost":"v"}"#);
        let url = config(r#"{"url":"amqp://u:p%40%2F@h:1/v"}"#);
        assert!(address(&parts).unwrap() == address(&url).unwrap());
        assert!(address(&config(r#"{"host":"h","tls":true}"#)).unwrap().authority.port == 5671);
    }

    #[test]
    fn a_bad_url_is_refused_without_its_words() {
        let error = address(&config(r#"{"url":"http://u:s3cret@h"}"#)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
        assert!(!format!("{error:?} {error}").contains("s3cret"));
    }
}
