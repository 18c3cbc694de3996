//! Channel configuration: genesis blocks, reading, updates.
