//! Redis, as its users should run it: each write on disk before it is answered.

use super::{PASSWORD, Place, Plan, USER};
use crate::servers::process::Invocation;
use crate::servers::{Endpoint, Options, ports, programs};
use ductape_core::secret::Secret;
use std::fmt::Write;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(super) fn find() -> Result<PathBuf, String> {
    programs::find("redis-server").ok_or_else(|| "the program redis-server is not installed".into())
}

pub(super) fn plan(program: &Path, place: &Place<'_>, options: &Options) -> io::Result<Plan> {
    let endpoint = Endpoint {
        address: format!("127.0.0.1:{}", ports::free()?),
        tls: Some(format!("127.0.0.1:{}", ports::free()?)),
        username: Some(USER.into()),
        password: Some(Secret::from(PASSWORD)),
        ca_file: Some(place.certificates.ca.clone()),
        ..Endpoint::default()
    };
    let file = place.write("redis.conf", &configuration(&endpoint, place, options))?;
    Ok(Plan {
        program: program.display().to_string(),
        first: None,
        run: Invocation::new(program, [file]),
        endpoint,
        patience: Duration::from_secs(20),
    })
}

/// What stands last holds, so the options come last.
fn configuration(endpoint: &Endpoint, place: &Place<'_>, options: &Options) -> String {
    let tls = &place.certificates;
    let mut text = format!(
        "bind 127.0.0.1\nport {}\ntls-port {}\ndir \"{}\"\nsave \"\"\nappendonly yes\nappendfsync always\n\
         requirepass {PASSWORD}\nuser {USER} on >{PASSWORD} ~* &* +@all\ntls-auth-clients no\n\
         tls-cert-file \"{}\"\ntls-key-file \"{}\"\ntls-ca-cert-file \"{}\"\n",
        endpoint.port(),
        endpoint.tls_port(),
        place.data.display(),
        tls.certificate.display(),
        tls.key.display(),
        tls.ca.display(),
    );
    for (name, value) in options.settings() {
        let _ = writeln!(text, "{name} {value}");
    }
    text
}
