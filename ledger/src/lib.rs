//! Block files, world state, history, indexes.
