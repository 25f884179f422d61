//! Ports for servers.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::sync::Mutex;

/// Below what Linux, macOS and Windows give to clients. A port of that range can be taken by any connection while its
/// server is down, even by the client that tries to reach the server, which then speaks to itself.
const RANGE: Range<u16> = 20_000..32_000;
/// How many ports are tried before it counts as none free.
const ATTEMPTS: usize = 1_000;

/// What this process has given out, since a server takes some time until it listens.
static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// A port of 127.0.0.1 on which nothing listens, and that this process gets once only.
pub(super) fn free() -> io::Result<u16> {
    let mut given = GIVEN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    for _ in 0..ATTEMPTS {
        let port = fastrand::u16(RANGE);
        if !given.contains(&port) && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            given.insert(port);
            return Ok(port);
        }
    }
    Err(io::Error::new(io::ErrorKind::AddrInUse, format!("no free port among {ATTEMPTS} of {RANGE:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_given_twice_and_each_can_be_listened_on() {
        let ports: BTreeSet<_> = (0..100).map(|_| free().unwrap()).collect();
        assert_eq!(ports.len(), 100);
        assert!(ports.iter().all(|port| RANGE.contains(port)));
        assert!(TcpListener::bind((Ipv4Addr::LOCALHOST, *ports.first().unwrap())).is_ok());
    }
}
