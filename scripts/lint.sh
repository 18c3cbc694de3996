#!/bin/sh
# Formatting and clippy, with warnings as errors. Changes nothing.
set -eu
cd "$(dirname "$0")/.."
scripts/setup.sh
. scripts/env.sh
cargo fmt --all --check
exec cargo clippy --release --locked --workspace --all-targets -- -D warnings
