//! Where a server listens and how it lets in, as the environment says it to test programs.

use super::{Error, Kind};
use ductape_core::secret::Secret;
use std::path::PathBuf;

/// Where a server listens, and how it lets in. Addresses are `host:port`.
///
/// In the environment each field is a variable: the address has the kind's own ([`Kind::variable`]), the others that
/// name with an ending, such as `DUCTAPE_TEST_REDIS_TLS`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Endpoint {
    /// The listener without TLS.
    pub address: String,
    /// The listener with TLS: `…_TLS`.
    pub tls: Option<String>,
    /// Kafka's listener with SASL and without TLS: `…_SASL`.
    pub sasl: Option<String>,
    /// Kafka's listener with SASL and TLS: `…_SASL_TLS`.
    pub sasl_tls: Option<String>,
    /// RabbitMQ's management over HTTP: `…_MANAGEMENT`.
    pub management: Option<String>,
    /// The user: `…_USERNAME`.
    pub username: Option<String>,
    /// The user's password, and Redis' own without a user: `…_PASSWORD`.
    pub password: Option<Secret>,
    /// The PEM file of the authority that signed the server's certificate: `…_CA`.
    pub ca_file: Option<PathBuf>,
}

impl Endpoint {
    /// An endpoint with an address only.
    pub fn at(address: impl Into<String>) -> Self {
        Endpoint { address: address.into(), ..Endpoint::default() }
    }

    /// The host of [`address`](Self::address).
    pub fn host(&self) -> &str {
        self.address.rsplit_once(':').map_or(self.address.as_str(), |(host, _)| host)
    }

    /// The port of [`address`](Self::address); 0 where it has none.
    pub fn port(&self) -> u16 {
        port_of(&self.address)
    }

    /// The port of [`tls`](Self::tls); 0 where there is none.
    pub fn tls_port(&self) -> u16 {
        self.tls.as_deref().map_or(0, port_of)
    }

    /// The port of [`management`](Self::management); 0 where there is none.
    pub fn management_port(&self) -> u16 {
        self.management.as_deref().map_or(0, port_of)
    }

    /// What the environment says of this kind; none where its variable is not set or empty.
    ///
    /// # Errors
    /// [`Error::Broken`] where an address is no `host:port`.
    pub fn from_environment(kind: Kind) -> Result<Option<Self>, Error> {
        Self::from_variables(kind, |name| std::env::var(name).ok())
    }

    fn from_variables(kind: Kind, read: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, Error> {
        let own = kind.variable();
        let text = |ending: &str| read(&format!("{own}{ending}")).filter(|text| !text.is_empty());
        let address = |ending: &str| text(ending).map(|it| checked(kind, &own, ending, &it)).transpose();
        let Some(main) = address("")? else { return Ok(None) };
        Ok(Some(Endpoint {
            address: main,
            tls: address("_TLS")?,
            sasl: address("_SASL")?,
            sasl_tls: address("_SASL_TLS")?,
            management: address("_MANAGEMENT")?,
            username: text("_USERNAME"),
            password: text("_PASSWORD").map(Secret::new),
            ca_file: text("_CA").map(PathBuf::from),
        }))
    }

    /// The variables that tell a test program of this endpoint. They hold the password.
    pub fn variables(&self, kind: Kind) -> Vec<(String, String)> {
        let own = kind.variable();
        let ca = self.ca_file.as_ref().map(|file| file.to_string_lossy().into_owned());
        let password = self.password.as_ref().map(|secret| secret.expose().to_owned());
        [
            ("", Some(self.address.clone())),
            ("_TLS", self.tls.clone()),
            ("_SASL", self.sasl.clone()),
            ("_SASL_TLS", self.sasl_tls.clone()),
            ("_MANAGEMENT", self.management.clone()),
            ("_USERNAME", self.username.clone()),
            ("_PASSWORD", password),
            ("_CA", ca),
        ]
        .into_iter()
        .filter_map(|(ending, value)| Some((format!("{own}{ending}"), value?)))
        .collect()
    }
}

fn port_of(address: &str) -> u16 {
    address.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or(0)
}

/// An address as it is used: without a scheme, with a port.
fn checked(kind: Kind, own: &str, ending: &str, text: &str) -> Result<String, Error> {
    let address = text.split_once("://").map_or(text, |(_, rest)| rest).trim_end_matches('/');
    if port_of(address) != 0 {
        return Ok(address.to_owned());
    }
    Err(Error::broken(kind, format!("{own}{ending}={text} is no host:port")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn whole() -> Endpoint {
        Endpoint {
            address: "127.0.0.1:1".into(),
            tls: Some("127.0.0.1:2".into()),
            sasl: Some("127.0.0.1:3".into()),
            sasl_tls: Some("127.0.0.1:4".into()),
            management: Some("127.0.0.1:5".into()),
            username: Some("svc".into()),
            password: Some(Secret::from("hidden")),
            ca_file: Some("ca.pem".into()),
        }
    }

    fn read(variables: &[(String, String)]) -> Result<Option<Endpoint>, Error> {
        let variables: BTreeMap<_, _> = variables.iter().cloned().collect();
        Endpoint::from_variables(Kind::Redis, |name| variables.get(name).cloned())
    }

    #[test]
    fn what_is_said_to_test_programs_is_what_they_read() {
        for endpoint in [whole(), Endpoint::at("localhost:6379")] {
            assert_eq!(read(&endpoint.variables(Kind::Redis)).unwrap(), Some(endpoint));
        }
        assert_eq!(read(&[]).unwrap(), None);
        assert_eq!(read(&[("DUCTAPE_TEST_REDIS".into(), String::new())]).unwrap(), None);
    }

    #[test]
    fn an_address_is_taken_with_a_scheme_and_refused_without_a_port() {
        let said = |text: &str| read(&[("DUCTAPE_TEST_REDIS".into(), text.into())]);
        let endpoint = said("redis://10.0.0.1:6379/").unwrap().unwrap();
        assert_eq!((endpoint.host(), endpoint.port()), ("10.0.0.1", 6379));
        for wrong in ["10.0.0.1", "10.0.0.1:", "10.0.0.1:0", "10.0.0.1:99999"] {
            let said = said(wrong).unwrap_err().to_string();
            assert!(said.contains("DUCTAPE_TEST_REDIS") && said.contains("host:port"), "{said}");
        }
    }

    #[test]
    fn the_password_is_not_shown() {
        assert!(!format!("{:?}", whole()).contains("hidden"));
    }
}
