#!/bin/sh
# Installs the clients that the daemon is tested with into the user's cache, from their lock files.
#   clients.sh --dir    where they are kept
#   clients.sh npm      those of tests/clients/package-lock.json
#   clients.sh pip      those of tests/clients/requirements.txt
# HEARTH_CLIENTS names another folder.
set -eu
tests=$(cd "$(dirname "$0")/../tests/clients" && pwd)
dir=${HEARTH_CLIENTS:-${XDG_CACHE_HOME:-$HOME/.cache}/hearth/clients}

install_npm() {
    command -v npm > /dev/null || { echo "npm is not installed" >&2; return 1; }
    cmp -s "$tests/package-lock.json" "$dir/npm/installed" && return
    echo "Installing the npm clients …" >&2
    mkdir -p "$dir/npm"
    cp "$tests/package.json" "$tests/package-lock.json" "$dir/npm"
    (cd "$dir/npm" && npm ci --silent --no-audit --no-fund --ignore-scripts) >&2
    cp "$tests/package-lock.json" "$dir/npm/installed"
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
    npm | pip) "install_$kind" ;;
    *) echo "clients.sh: npm or pip, not $kind" >&2; exit 2 ;;
    esac
done
