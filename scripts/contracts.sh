#!/bin/sh
# Builds the contracts as wasm modules. Prints the path of each.
#
# The hash of a module is part of its package id, so the bytes must not depend on who builds: the place of cargo's
# registry, which panic messages quote, is replaced. A contract needs little stack; the rest would be cleared by the peer
# for every call.
set -eu
cd "$(dirname "$0")/.."
. scripts/env.sh
registry="${CARGO_HOME:-$HOME/.cargo}/registry/src"
export CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS="--remap-path-prefix=$registry=/registry -Clink-arg=-zstack-size=131072"
cargo build --quiet --profile contract --target wasm32-unknown-unknown \
    -p selvedge-chaincode-shipment -p selvedge-chaincode-rfq -p selvedge-chaincode-bench
for contract in shipment rfq bench; do
    echo "$CARGO_TARGET_DIR/wasm32-unknown-unknown/contract/selvedge_chaincode_$contract.wasm"
done
