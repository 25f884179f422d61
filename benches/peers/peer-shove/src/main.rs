//! `peer-shove list PROVIDER`, or `peer-shove NAME` with a setup on standard input.

fn main() -> ductape_contest::Result<()> {
    peer_shove::main()
}
