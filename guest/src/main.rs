//! The `mvm` program.
fn main() {}
