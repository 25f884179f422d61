//! As `contestants`, with every allocation counted.

use ductape_benches::{Result, contestants};
use ductape_contest::allocator::Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> Result<()> {
    let name = std::env::args().nth(1).ok_or("contestants-counted NAME")?;
    contestants::run(&name, &ductape_contest::run::setup()?)
}
