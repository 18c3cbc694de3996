#!/bin/sh
# Builds selvedge-edge for Raspberry Pis: scripts/edge-arm.sh [aarch64] [armv7]   (both without arguments)
#
# Installs what a cross build needs, builds with the profile `dist` (optimised, stripped), and prints each binary with its
# size. aarch64: Raspberry Pi 3 and later with a 64-bit system; armv7: Pi 2 and later with a 32-bit one. Both need
# glibc 2.34 or later (Raspberry Pi OS 12, Debian 12, Ubuntu 22.04).
set -eu
cd "$(dirname "$0")/.."
scripts/setup.sh arm
. scripts/env.sh

if [ $# = 0 ]; then set -- aarch64 armv7; fi
for name in "$@"; do
    case "$name" in
    aarch64) target=aarch64-unknown-linux-gnu gcc=aarch64-linux-gnu-gcc ;;
    armv7) target=armv7-unknown-linux-gnueabihf gcc=arm-linux-gnueabihf-gcc ;;
    *)
        echo "there is no build for '$name'; name aarch64 or armv7" >&2
        exit 2
        ;;
    esac
    echo "building selvedge-edge for $name: about 10 minutes on two cores the first time"
    upper="$(echo "$target" | tr 'a-z-' 'A-Z_')"
    lower="$(echo "$target" | tr - _)"
    # C code (ring) is compiled by gcc for the target; the compiler cache of env.sh is for this machine's.
    # Optimised as a whole it is an eighth smaller: a Pi's memory card is slow, and its memory small.
    env "CARGO_TARGET_${upper}_LINKER=$gcc" "CC_$lower=$gcc" CARGO_PROFILE_DIST_LTO=fat \
        cargo build --profile dist --locked -p selvedge-edge --bin selvedge-edge --target "$target"
    binary="$CARGO_TARGET_DIR/$target/dist/selvedge-edge"
    "${gcc%gcc}strip" "$binary"
    echo "$binary: $(stat -c %s "$binary") bytes"
done
