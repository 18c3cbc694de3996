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
contracts="shipment rfq certify process ideas reputation bench"
# One package at a time would be one link after the other; together they share the cores.
packages=""
for contract in $contracts; do packages="$packages -p selvedge-chaincode-$contract"; done
# shellcheck disable=SC2086 # a list of words is meant
cargo build --quiet --profile contract --target wasm32-unknown-unknown $packages
for contract in $contracts; do
    echo "$CARGO_TARGET_DIR/wasm32-unknown-unknown/contract/selvedge_chaincode_$contract.wasm"
done
