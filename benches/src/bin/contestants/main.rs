//! One contestant in a process of its own: `contestants NAME`, with its setup as JSON on standard input.

use ductape_benches::{Result, contestants};

fn main() -> Result<()> {
    let name = std::env::args().nth(1).ok_or("contestants NAME")?;
    contestants::run(&name, &ductape_contest::run::setup()?)
}
