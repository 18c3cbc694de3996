#!/bin/sh
# Builds the contracts, the `selvedge` binary, and `selvedge-edge`, the edge gateway alone.
set -eu
cd "$(dirname "$0")/.."
. scripts/env.sh
if ! [ -d "$CARGO_TARGET_DIR/release" ]; then
    echo "building: about 20 to 30 minutes on two cores the first time (RocksDB alone takes 15), seconds later on"
fi
echo "building the contracts"
scripts/contracts.sh
echo "building selvedge and selvedge-edge"
cargo build --release --locked -p selvedge -p selvedge-edge
