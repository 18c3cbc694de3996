//! Organisations for tests.
