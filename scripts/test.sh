#!/bin/sh
# All tests: of every crate, of whole networks, with the official npm clients, and of the edge gateway's ARM build.
# SELVEDGE_ARM says which of those: aarch64 (if absent), armv7, all or none.
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
case "${SELVEDGE_ARM:-aarch64}" in
none) ;;
all) scripts/edge-arm.sh ;;
*) scripts/edge-arm.sh "${SELVEDGE_ARM:-aarch64}" ;;
esac
echo "running the tests"
exec cargo test --release --locked --workspace --no-fail-fast
