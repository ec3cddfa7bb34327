#!/bin/sh
# Installs the clients that the daemon is tested with into the user's cache, from their lock files.
#   clients.sh --dir    where they are kept
#   clients.sh npm      those of tests/clients/package-lock.json
#   clients.sh package  what the npm package is tested with: bindings/node/test/package-lock.json
#   clients.sh pip      those of tests/clients/requirements.txt
# HEARTH_CLIENTS names another folder.
set -eu
tests=$(cd "$(dirname "$0")/../tests/clients" && pwd)
package=$(cd "$(dirname "$0")/../bindings/node/test" && pwd)
dir=${HEARTH_CLIENTS:-${XDG_CACHE_HOME:-$HOME/.cache}/hearth/clients}

install_lock() { # FROM TO: what a folder's lock file names
    command -v npm > /dev/null || { echo "npm is not installed" >&2; return 1; }
    cmp -s "$1/package-lock.json" "$2/installed" && return
    echo "Installing npm packages into $2 …" >&2
    mkdir -p "$2"
    cp "$1/package.json" "$1/package-lock.json" "$2"
    (cd "$2" && npm ci --silent --no-audit --no-fund --ignore-scripts) >&2
    cp "$1/package-lock.json" "$2/installed"
}

install_npm() {
    install_lock "$tests" "$dir/npm"
}

install_package() {
    install_lock "$package" "$dir/package"
}

install_pip() {
    cmp -s "$tests/requirements.txt" "$dir/pip/installed" && return
    echo "Installing the Python clients …" >&2
    rm -rf "$dir/pip"
    python3 -m pip install -q --disable-pip-version-check --target "$dir/pip" \
        -r "$tests/requirements.txt" >&2
    cp "$tests/requirements.txt" "$dir/pip/installed"
}

[ "${1:-}" = --dir ] && { echo "$dir"; exit; }
for kind in "$@"; do
    case $kind in
    npm | package | pip) "install_$kind" ;;
    *) echo "clients.sh: npm, package or pip, not $kind" >&2; exit 2 ;;
    esac
done
