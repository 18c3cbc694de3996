//! The one binary: runs every role, administers every part.
fn main() {}
