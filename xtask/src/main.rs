//! The miner workbench.
fn main() {}
