# What the scripts share: where things are, and how what is missing is installed. Sourced, not run.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

target=${CARGO_TARGET_DIR:-target}
tools=$target/tools
venv=$target/venv
oidc=$target/oidc
export PATH="$PWD/$tools/bin:$tools/bin:$PATH"

say() { printf '%s\n' "$*" >&2; }

fail() {
    say "${0##*/}: $*"
    exit 1
}

# Runs one named check. Its output is kept from nobody; the last line of a failure names it.
check() {
    local name=$1
    shift
    say "== $name"
    "$@" || fail "$name failed: $*"
}

# need COMMAND PACKAGE...: a command that Debian's packages bring.
need() {
    local command=$1
    shift
    command -v "$command" >/dev/null 2>&1 && return
    install_packages "$@" || fail "missing: $command; install it (Debian: apt-get install $*)"
}

install_packages() {
    command -v apt-get >/dev/null 2>&1 || return 1
    local as_root=()
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null || return 1
        as_root=(sudo -n)
    fi
    say "installing: $*"
    "${as_root[@]}" apt-get update -qq >&2 &&
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2
}

# What the build needs beyond Rust: SQLCipher is compiled from its C sources against OpenSSL's libcrypto.
need_build_tools() {
    command -v cargo >/dev/null 2>&1 || fail "missing: cargo; install Rust 1.95 or newer from https://rustup.rs"
    need cc gcc libc6-dev
    need perl perl
    need pkg-config pkg-config
    pkg-config --exists openssl || install_packages libssl-dev ||
        fail "missing: OpenSSL's headers; install them (Debian: apt-get install libssl-dev)"
}
