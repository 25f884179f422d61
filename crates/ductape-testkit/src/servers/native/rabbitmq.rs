//! RabbitMQ, one node with its own name server, with the management plugin.

use super::{PASSWORD, Place, Plan, USER};
use crate::servers::process::Invocation;
use crate::servers::{Endpoint, Options, ports, programs};
use ductape_core::secret::Secret;
use std::fmt::Write;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Debian's wrapper in the path changes the user, and finds its files by a fixed home.
const UNWRAPPED: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";

/// Erlang's name server would go into the background and outlive the server: started here it stays in the group, and the
/// server, which then finds it, starts none. `$1` is its program, `$2` its port, `$3` the server, which stays this process.
const SCRIPT: &str = r#""$1" -port "$2" -address 127.0.0.1 & exec "$3" -noinput"#;

/// The two programs that a node consists of.
pub(super) struct Programs {
    server: PathBuf,
    names: PathBuf,
}

impl Programs {
    /// Those of a container, in its path.
    #[cfg(feature = "docker")]
    pub(super) fn in_image() -> Self {
        Programs { server: "rabbitmq-server".into(), names: "epmd".into() }
    }
}

pub(super) fn find() -> Result<Programs, String> {
    let unwrapped = Path::new(UNWRAPPED);
    let server = if unwrapped.exists() { Some(unwrapped.into()) } else { programs::find("rabbitmq-server") };
    match (server, programs::find("epmd")) {
        (Some(server), Some(names)) => Ok(Programs { server, names }),
        (None, _) => Err("the program rabbitmq-server is not installed".into()),
        (_, None) => Err("Erlang's program epmd is not in the path".into()),
    }
}

pub(super) fn plan(programs: &Programs, place: &Place<'_>, options: &Options) -> io::Result<Plan> {
    let address = || ports::free().map(|port| format!("127.0.0.1:{port}"));
    let endpoint = Endpoint {
        address: address()?,
        tls: Some(address()?),
        management: Some(address()?),
        username: Some(USER.into()),
        password: Some(Secret::from(PASSWORD)),
        ca_file: Some(place.certificates.ca.clone()),
        ..Endpoint::default()
    };
    let configuration = place.write("rabbitmq.conf", &configuration(&endpoint, place, options))?;
    let plugins = place.write("enabled_plugins", "[rabbitmq_management].\n")?;
    let names_port = ports::free()?.to_string();
    let run = Invocation::new(
        "sh",
        [
            "-c".as_ref(),
            SCRIPT.as_ref(),
            "sh".as_ref(),
            programs.names.as_os_str(),
            names_port.as_ref(),
            programs.server.as_os_str(),
        ],
    )
    // Lets the script become the server, so that a signal reaches it; `-noinput` takes back what else it means.
    .with_variable("RABBITMQ_ALLOW_INPUT", "true")
    .with_variable("HOME", place.folder)
    .with_variable("RABBITMQ_CONF_ENV_FILE", place.write("rabbitmq-env.conf", "")?)
    .with_variable("RABBITMQ_CONFIG_FILE", configuration)
    .with_variable("RABBITMQ_ENABLED_PLUGINS_FILE", plugins)
    .with_variable("RABBITMQ_MNESIA_BASE", &place.data)
    .with_variable("RABBITMQ_LOG_BASE", place.folder)
    .with_variable("RABBITMQ_PID_FILE", place.folder.join("pid"))
    .with_variable("RABBITMQ_NODENAME", "ductape@localhost")
    .with_variable("RABBITMQ_DIST_PORT", ports::free()?.to_string())
    .with_variable("ERL_EPMD_PORT", names_port)
    .with_variable("ERL_EPMD_ADDRESS", "127.0.0.1");
    let program = programs.server.display().to_string();
    Ok(Plan { program, run, first: None, endpoint, patience: Duration::from_secs(90) })
}

fn configuration(endpoint: &Endpoint, place: &Place<'_>, options: &Options) -> String {
    let tls = &place.certificates;
    let mut text = format!(
        "listeners.tcp.1 = {}\nlisteners.ssl.1 = {}\nmanagement.tcp.ip = 127.0.0.1\n\
         management.tcp.port = {}\nssl_options.cacertfile = {}\nssl_options.certfile = {}\n\
         ssl_options.keyfile = {}\nssl_options.verify = verify_none\nssl_options.fail_if_no_peer_cert = false\n\
         default_user = {USER}\ndefault_pass = {PASSWORD}\nloopback_users = none\n\
         log.console = true\nlog.console.level = info\nlog.file = false\n",
        endpoint.address,
        endpoint.tls.as_deref().unwrap_or_default(),
        endpoint.management_port(),
        tls.ca.display(),
        tls.certificate.display(),
        tls.key.display(),
    );
    for (name, value) in options.settings() {
        let _ = writeln!(text, "{name} = {value}");
    }
    text
}
