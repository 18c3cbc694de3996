#!/bin/sh
# The main story end to end. DATA names a container's journey as CSV; a small one that ships with the project otherwise.
# KEEP=1 leaves the network running at the end, with the page of each company open.
set -eu
data="${DATA:-}"
if [ -n "$data" ]; then
    data="$(realpath "$data")"
fi
cd "$(dirname "$0")/.."
scripts/setup.sh
. scripts/env.sh
scripts/build.sh
exec "$CARGO_TARGET_DIR/release/selvedge" demo \
    --file network-configs/consortium.yaml ${KEEP:+--keep} \
    --data "${data:-network-configs/journeys/small.csv}"
