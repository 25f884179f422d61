//! `peer-mq-bridge list PROVIDER`, or `peer-mq-bridge NAME` with a setup on standard input.

fn main() -> ductape_contest::Result<()> {
    peer_mq_bridge::main()
}
