#!/bin/sh
# Installs what a build needs and a fresh Debian or Ubuntu lacks: a C++ compiler, libclang (for RocksDB's bindings),
# ccache, Rust with the wasm target. With the argument `tests`, also what the tests talk to: SoftHSM2, slapd, Node.js 20 or
# later for the official clients, Python with venv for clients from PyPI, Chromium for the web page, and schemathesis (from
# PyPI, in a folder of its own) for the REST interface; with `arm`, also what builds for aarch64 and armv7 and runs those
# builds here.
set -eu
cd "$(dirname "$0")/.."

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

wanted=" $* "
wants() { # extra
    case "$wanted" in *" $1 "*) true ;; *) false ;; esac
}
missing=""
need() { # command package
    command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}
need g++ g++
need make make
need ccache ccache
need curl curl
need git git
# The names that bindgen looks for; libclang-cpp.so, which comes with other packages, is another library.
find /usr/lib /usr/local/lib \( -name 'libclang.so*' -o -name 'libclang-[0-9]*.so*' \) 2>/dev/null | grep -q . ||
    missing="$missing libclang-dev"
if wants tests; then
    # What the tests of the certificate authority talk to: a token in software, a directory.
    need openssl openssl
    need softhsm2-util softhsm2
    [ -x /usr/sbin/slapd ] || missing="$missing slapd"
    need node nodejs
    need npm npm
    command -v chromium >/dev/null 2>&1 || command -v chromium-browser >/dev/null 2>&1 ||
        command -v google-chrome >/dev/null 2>&1 || missing="$missing chromium"
    python3 -c 'import venv, ensurepip' >/dev/null 2>&1 || missing="$missing python3-venv"
fi
if wants arm; then
    need aarch64-linux-gnu-gcc "gcc-aarch64-linux-gnu libc6-dev-arm64-cross"
    need arm-linux-gnueabihf-gcc "gcc-arm-linux-gnueabihf libc6-dev-armhf-cross"
    need qemu-aarch64 qemu-user
fi
if [ -n "$missing" ]; then
    echo "installing:$missing"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq
    # shellcheck disable=SC2086 # a list of words is meant
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing ca-certificates >/dev/null
fi

. scripts/env.sh
if wants tests && [ "$(node -p 'process.versions.node.split(".")[0]')" -lt 20 ]; then
    # The official clients need Node.js 20; npm's own package of it serves where the distribution has an older one.
    echo "installing: Node.js 20"
    npm install --silent --no-fund --no-audit --prefix "$selvedge_cache/node" node@20
    . scripts/env.sh
fi

if wants tests && ! [ -x "$selvedge_cache/schemathesis/bin/schemathesis" ]; then
    echo "installing: schemathesis"
    python3 -m venv "$selvedge_cache/schemathesis"
    "$selvedge_cache/schemathesis/bin/pip" install --quiet --disable-pip-version-check schemathesis==4.32.5
fi

if ! command -v rustup >/dev/null 2>&1; then
    echo "installing: Rust"
    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal --default-toolchain none
    . "$HOME/.cargo/env"
fi
# The toolchain and its components are named in rust-toolchain.toml; asking for the version installs them.
rustc --version >/dev/null
rustup target list --installed | grep -q wasm32-unknown-unknown || rustup target add wasm32-unknown-unknown
if wants arm; then
    for target in aarch64-unknown-linux-gnu armv7-unknown-linux-gnueabihf; do
        rustup target list --installed | grep -q "$target" || rustup target add "$target"
    done
fi
for component in rustfmt clippy; do
    rustup component list --installed | grep -q "^$component" || rustup component add "$component"
done
