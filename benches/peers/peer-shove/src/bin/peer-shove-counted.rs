//! As `peer-shove`, with every allocation counted.

use ductape_contest::allocator::Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> ductape_contest::Result<()> {
    peer_shove::main()
}
