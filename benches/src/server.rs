//! The server of a provider, with empty data.

use crate::Result;
use ductape_contest::Endpoint;

/// A server that ends with its handle; nothing for the embedded providers.
#[derive(Debug)]
pub struct Server {
    #[cfg(feature = "servers")]
    server: Option<ductape_testkit::servers::Server>,
}

#[cfg(feature = "servers")]
impl Server {
    /// Starts one as in production: compiled as far as it goes, every write on disk. Only Redis' log is never rewritten:
    /// that is done by a process of its own, which would take a core in the middle of some rounds and not of others.
    ///
    /// # Errors
    /// Where it is not installed, or does not start.
    pub async fn start(provider: &str) -> Result<Self> {
        use ductape_testkit::servers::{Kind, Options, own};
        let Some(kind) = Kind::named(provider) else { return Ok(Server { server: None }) };
        let mut options = Options::default().with_full_speed();
        if kind == Kind::Redis {
            options = options.with_setting("auto-aof-rewrite-percentage", "0");
        }
        Ok(Server { server: Some(own(kind, options).await?) })
    }

    /// Where it listens, and how it lets in.
    pub fn endpoint(&self) -> Endpoint {
        let Some(server) = &self.server else { return Endpoint::default() };
        let at = server.endpoint();
        Endpoint {
            address: at.address.clone(),
            username: at.username.clone().unwrap_or_default(),
            password: at.password.as_ref().map_or_else(String::new, |password| password.expose().to_owned()),
        }
    }

    /// Which program it is, with its version where that is known.
    pub fn program(&self) -> Option<String> {
        self.server.as_ref().map(|server| server.origin().to_string())
    }
}

#[cfg(not(feature = "servers"))]
impl Server {
    /// There is nothing to start.
    ///
    /// # Errors
    /// None.
    pub async fn start(_provider: &str) -> Result<Self> {
        Ok(Server {})
    }

    /// Nowhere.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint::default()
    }

    /// None.
    pub fn program(&self) -> Option<String> {
        None
    }
}
