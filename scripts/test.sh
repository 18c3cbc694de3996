#!/bin/sh
# All tests: of every crate, of whole networks, and with the official npm clients.
set -eu
cd "$(dirname "$0")/.."
scripts/setup.sh tests
. scripts/env.sh
if ! [ -d "$CARGO_TARGET_DIR/release" ]; then
    echo "building: about 30 to 40 minutes on two cores the first time (RocksDB alone takes 15), less later on"
fi
echo "building the contracts"
scripts/contracts.sh
# Programs and tests in one go: built apart, they would choose other features of their dependencies and compile most twice.
echo "building programs and tests"
cargo build --release --locked --workspace --bins --tests
echo "running the tests"
exec cargo test --release --locked --workspace --no-fail-fast
