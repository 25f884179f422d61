//! `peer-sea-streamer list PROVIDER`, or `peer-sea-streamer NAME` with a setup on standard input.

fn main() -> ductape_contest::Result<()> {
    peer_sea_streamer::main()
}
