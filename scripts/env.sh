# Build environment, sourced by the other scripts and by anyone who builds by hand:  . scripts/env.sh
#
# Compiled dependencies live outside the clone, so that a second clone (or CI) does not build RocksDB again.
selvedge_cache="${XDG_CACHE_HOME:-$HOME/.cache}/selvedge"
if mkdir -p "$selvedge_cache" 2>/dev/null && [ -w "$selvedge_cache" ]; then
    export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$selvedge_cache/target}"
    export CCACHE_DIR="${CCACHE_DIR:-$selvedge_cache/ccache}"
else
    export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}"
fi
# Cargo goes by times: a file of this clone that is older than what another clone built would pass for built. So what was
# built of another clone's packages is built again; their dependencies stay.
if [ "$(cat "$CARGO_TARGET_DIR/clone" 2>/dev/null)" != "$PWD" ] && mkdir -p "$CARGO_TARGET_DIR"; then
    rm -rf "$CARGO_TARGET_DIR"/*/.fingerprint/selvedge* "$CARGO_TARGET_DIR"/*/*/.fingerprint/selvedge*
    echo "$PWD" >"$CARGO_TARGET_DIR/clone"
fi
if command -v ccache >/dev/null 2>&1; then
    export CC="${CC:-ccache gcc}" CXX="${CXX:-ccache g++}"
fi
# Where setup.sh put a newer Node.js than the distribution's.
if [ -x "$selvedge_cache/node/node_modules/node/bin/node" ]; then
    PATH="$selvedge_cache/node/node_modules/node/bin:$PATH"
fi
if [ -f "$HOME/.cargo/env" ]; then
    . "$HOME/.cargo/env"
fi
