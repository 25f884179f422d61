//! The conformance suite on Redis: by password, as a user of its own with the least rights, over TLS, in a cluster,
//! and in the mode that keeps nothing.

use bytes::Bytes;
use ductape_core::config::{ProviderConfig, RedisConfig, RedisMode};
use ductape_core::{Destination, ErrorKind};
use ductape_redis::RedisProvider;
use ductape_testkit::conformance::{self, Subject};
use ductape_testkit::servers::{self, Endpoint, Kind, Options, Server};
use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;

type Fault = Box<dyn Error + Send + Sync>;

/// What the README says that a user needs, and nothing else.
const LEAST: &str =
    "on >Lq8sTn4wYb2c ~* &* -@all +@stream +@connection +@scripting +set +get +del +exists +pexpire";
const LEAST_NAME: &str = "least";
const LEAST_PASSWORD: &str = "Lq8sTn4wYb2c";

fn main() -> ExitCode {
    conformance::main(|| async {
        let server = match servers::shared(Kind::Redis).await {
            Ok(server) => server,
            Err(why) => return vec![why.subject()],
        };
        let endpoint = server.endpoint();
        let mut subjects = vec![
            subject("redis", by_password(endpoint), endpoint),
            least(endpoint).await,
            subject("redis-tls", by_tls(endpoint), endpoint),
            fire_and_forget(endpoint),
        ];
        subjects.push(cluster().await);
        subjects
    })
}

fn by_password(endpoint: &Endpoint) -> RedisConfig {
    RedisConfig {
        host: Some(endpoint.host().to_owned()),
        port: Some(endpoint.port()),
        password: endpoint.password.clone(),
        ..RedisConfig::default()
    }
}

fn by_tls(endpoint: &Endpoint) -> RedisConfig {
    RedisConfig {
        port: Some(endpoint.tls_port()),
        username: endpoint.username.clone(),
        tls: true,
        ca_file: endpoint.ca_file.clone(),
        ..by_password(endpoint)
    }
}

fn subject(label: &str, config: RedisConfig, endpoint: &Endpoint) -> Subject {
    let secret = config.password.as_ref().map_or_else(String::new, |password| password.expose().to_owned());
    let wrong = RedisConfig { password: Some("wrong".into()), ..config.clone() };
    let endpoint = endpoint.clone();
    Subject::new(RedisProvider, ProviderConfig::Redis(config))
        .with_label(label)
        .with_secret(secret)
        .with_refused(ProviderConfig::Redis(wrong), ErrorKind::AuthenticationFailed)
        .with_foreign_publish(move |destination, body| foreign(endpoint.clone(), destination, body))
        .allow_skip(
            "settlement: a delayed retry",
            "Redis delays nothing; the worker waits, which is tried there",
        )
}

/// A user with the least rights, made on the shared server.
async fn least(endpoint: &Endpoint) -> Subject {
    let made = async {
        let mut connection = client(endpoint)?.get_multiplexed_async_connection().await?;
        let mut set = redis::cmd("ACL");
        set.arg("SETUSER").arg(LEAST_NAME).arg(LEAST.split(' ').collect::<Vec<_>>());
        set.query_async::<()>(&mut connection).await?;
        Ok::<_, Fault>(())
    };
    if let Err(error) = made.await {
        return Subject::absent("redis-acl", format!("the server lets nobody make a user: {error}"));
    }
    let config = RedisConfig {
        username: Some(LEAST_NAME.into()),
        password: Some(LEAST_PASSWORD.into()),
        ..by_password(endpoint)
    };
    subject("redis-acl", config, endpoint)
}

fn fire_and_forget(endpoint: &Endpoint) -> Subject {
    let config = RedisConfig { mode: RedisMode::Pubsub, ..by_password(endpoint) };
    subject("redis-pubsub", config, endpoint)
        .with_lease(None)
        .allow_skip("", "what is fire and forget keeps nothing that could be settled, ordered or redriven")
}

/// One node that has all slots is a cluster to whoever asks it.
async fn cluster() -> Subject {
    let options = Options::default().with_setting("cluster-enabled", "yes");
    let server = match servers::own(Kind::Redis, options).await {
        Ok(server) => Arc::new(server),
        Err(why) => return why.subject(),
    };
    if let Err(error) = take_all_slots(&server).await {
        panic!("the node did not become a cluster: {error}");
    }
    let endpoint = server.endpoint().clone();
    let config = RedisConfig {
        host: None,
        port: None,
        cluster: vec![endpoint.address.clone()],
        ..by_password(&endpoint)
    };
    // The server ends with the subject.
    subject("redis-cluster", config, &endpoint).with_destinations(move |name| {
        let _alive = &server;
        Destination::new(name, format!("{name}-readers"))
    })
}

async fn take_all_slots(server: &Server) -> Result<(), Fault> {
    let mut connection = client(server.endpoint())?.get_multiplexed_async_connection().await?;
    let mut add = redis::cmd("CLUSTER");
    add.arg("ADDSLOTSRANGE").arg(0).arg(16383);
    add.query_async::<()>(&mut connection).await?;
    let mut info = redis::cmd("CLUSTER");
    info.arg("INFO");
    let is_up = async {
        while !info.query_async::<String>(&mut connection).await?.contains("cluster_state:ok") {
            tokio::task::yield_now().await;
        }
        Ok::<_, Fault>(())
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), is_up).await?
}

fn client(endpoint: &Endpoint) -> Result<redis::Client, Fault> {
    let password = endpoint.password.as_ref().map_or("", |password| password.expose());
    Ok(redis::Client::open(format!("redis://:{password}@{}", endpoint.address))?)
}

/// Publishes by the redis crate alone, with one field.
async fn foreign(endpoint: Endpoint, destination: Destination, body: Bytes) -> Result<(), Fault> {
    let mut connection = client(&endpoint)?.get_multiplexed_async_connection().await?;
    let mut add = redis::cmd("XADD");
    add.arg(&*destination.name).arg("*").arg("reading").arg(&body[..]);
    add.query_async::<String>(&mut connection).await?;
    Ok(())
}
