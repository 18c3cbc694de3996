//! Benchmarks of whole networks.
fn main() {}
