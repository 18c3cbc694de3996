//! Whole-network tests on real processes.
