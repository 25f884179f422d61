//! Where a provider's servers are, and whether they are there: by name, and by a bare connection.

use super::finding::Finding;
use ductape::ProviderConfig;
use std::fmt;
use std::time::Duration;
use tokio::net::{TcpStream, lookup_host};

/// How long a name or a connection may take.
const LIMIT: Duration = Duration::from_secs(3);

/// A server's name and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    host: String,
    port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// The servers of a config whose references are replaced; none of those that need none.
pub(super) fn of(config: &ProviderConfig) -> Vec<Endpoint> {
    let named = |texts: &[String]| texts.iter().filter_map(|text| parse(text, 0)).collect();
    match config {
        ProviderConfig::Kafka(config) => named(&config.brokers),
        ProviderConfig::RabbitMq(config) => {
            let port = if config.tls { 5671 } else { 5672 };
            server(
                config.url.as_ref().map(|url| url.expose()),
                config.host.as_deref(),
                config.port.unwrap_or(port),
            )
        }
        ProviderConfig::Redis(config) if !config.cluster.is_empty() => named(&config.cluster),
        ProviderConfig::Redis(config) => match &config.sentinel {
            Some(sentinel) => named(&sentinel.nodes),
            None => {
                let url = config.url.as_ref().map(|url| url.expose());
                server(url, config.host.as_deref(), config.port.unwrap_or(6379))
            }
        },
        ProviderConfig::AwsSqs(config) => {
            let cloud = format!("sqs.{}.amazonaws.com", config.region);
            server(config.endpoint.as_deref(), Some(&cloud), 443)
        }
        ProviderConfig::GooglePubSub(config) => {
            server(config.endpoint.as_deref(), Some("pubsub.googleapis.com"), 443)
        }
        _ => Vec::new(),
    }
}

fn server(url: Option<&str>, host: Option<&str>, port: u16) -> Vec<Endpoint> {
    let endpoint = match (url, host) {
        (Some(url), _) => parse(url, port),
        (None, Some(host)) => Some(Endpoint { host: host.to_owned(), port }),
        (None, None) => None,
    };
    endpoint.into_iter().collect()
}

/// The server of `host:port`, or of a URL, of which nothing else is kept: it may hold a password.
fn parse(text: &str, otherwise: u16) -> Option<Endpoint> {
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    let authority = rest.split(['/', '?', '#']).next()?;
    let place = authority.rsplit_once('@').map_or(authority, |(_, place)| place);
    let port = match scheme {
        "http" => 80,
        "https" => 443,
        "amqps" => 5671,
        _ => otherwise,
    };
    let (host, port) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => (host, rest.strip_prefix(':').map_or(Some(port), |text| text.parse().ok())?),
        None => match place.rsplit_once(':') {
            Some((host, text)) => (host, text.parse().ok()?),
            None => (place, port),
        },
    };
    (!host.is_empty()).then(|| Endpoint { host: host.to_owned(), port })
}

impl Endpoint {
    /// Looks the name up and connects, and tells of both. `finding` makes one of a check.
    pub(super) async fn examine(&self, finding: impl Fn(&'static str) -> Finding) -> [Finding; 2] {
        let resolved = tokio::time::timeout(LIMIT, lookup_host((self.host.as_str(), self.port))).await;
        let addresses: Vec<_> = match resolved {
            Ok(Ok(addresses)) => addresses.collect(),
            Ok(Err(error)) => {
                let fix = "mend the host's name in the config, or the name server of this machine";
                return [
                    finding("resolve").fault(format!("`{}` has no address: {error}", self.host), fix),
                    finding("connect").skipped("the name has no address"),
                ];
            }
            Err(_) => {
                let fix = "see that the name server of this machine answers";
                return [
                    finding("resolve")
                        .fault(format!("no answer about `{}` within {LIMIT:?}", self.host), fix),
                    finding("connect").skipped("the name has no address"),
                ];
            }
        };
        let shown = addresses.iter().map(|address| address.ip().to_string()).collect::<Vec<_>>().join(", ");
        let resolved = finding("resolve").good(shown);
        let connected = tokio::time::timeout(LIMIT, TcpStream::connect(addresses.as_slice())).await;
        let connected = match connected {
            Ok(Ok(_)) => finding("connect").good("answers"),
            Ok(Err(error)) => finding("connect").fault(
                format!("{error}"),
                "start the server, mend the port, or open the way to it from here",
            ),
            Err(_) => finding("connect").fault(
                format!("no answer within {LIMIT:?}"),
                "see that the server is up, and that no firewall swallows the connection",
            ),
        };
        [resolved, connected]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_taken_from_a_host_or_a_url_and_nothing_else_with_it() {
        for (text, host, port) in [
            ("kafka:9092", "kafka", 9092),
            ("[::1]:9092", "::1", 9092),
            ("redis://:p%40ss@h:1/0", "h", 1),
            ("amqps://u:p@h/vhost", "h", 5671),
            ("https://sqs.example/x", "sqs.example", 443),
            ("localhost", "localhost", 7),
        ] {
            assert_eq!(parse(text, 7), Some(Endpoint { host: host.into(), port }), "{text}");
        }
        assert_eq!(parse("h:port", 7), None);
        assert_eq!(parse("redis://", 7), None);
    }
}
