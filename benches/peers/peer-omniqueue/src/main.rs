//! `peer-omniqueue list PROVIDER`, or `peer-omniqueue NAME` with a setup on standard input.

fn main() -> ductape_contest::Result<()> {
    peer_omniqueue::main()
}
