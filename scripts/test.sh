#!/bin/sh
# All tests: of every crate, of whole networks, and with the official npm client.
set -eu
cd "$(dirname "$0")/.."
scripts/setup.sh tests
. scripts/env.sh
scripts/build.sh
echo "running the tests"
exec cargo test --release --locked --workspace --no-fail-fast
