//! The subnet in a box.
fn main() {}
