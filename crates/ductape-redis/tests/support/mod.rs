//! What the tests share: a server of their own, and the config that leads to one.

#![allow(dead_code, reason = "each test program uses a part")]

pub(crate) mod rig;

use ductape_core::config::RedisConfig;
use ductape_testkit::servers::Endpoint;

/// The config that leads to an endpoint.
pub(crate) fn config(endpoint: &Endpoint) -> RedisConfig {
    RedisConfig {
        host: Some(endpoint.host().to_owned()),
        port: Some(endpoint.port()),
        username: endpoint.username.clone(),
        password: endpoint.password.clone(),
        ..RedisConfig::default()
    }
}
