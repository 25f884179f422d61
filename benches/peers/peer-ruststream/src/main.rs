//! `peer-ruststream list PROVIDER`, or `peer-ruststream NAME` with a setup on standard input.

fn main() -> ductape_contest::Result<()> {
    peer_ruststream::main()
}
