#!/bin/sh
# Installs the Debian packages that building and testing need, where it may; otherwise prints the
# one command that does. Does nothing, fast, when all are there.
# With --arm64: what cross-building for ARM and running the result need instead.
# With --desktop: what tests of pages and of the example app need instead.
set -eu
needed='gcc g++ make cmake ninja-build pkg-config clang clang-format libclang-rt-14-dev
libpcre2-dev libjansson-dev libutf8proc-dev libedit-dev libbsd-dev libmd-dev libncurses-dev libxxhash-dev libsqlite3-dev libcmocka-dev
libevent-dev node-llhttp libcurl4-openssl-dev libseccomp-dev
python3 python3-pip ca-certificates'
[ "${1:-}" != --arm64 ] || needed='gcc-aarch64-linux-gnu qemu-user'
[ "${1:-}" != --desktop ] || needed='chromium xvfb'

command -v dpkg-query >/dev/null 2>&1 || {
    echo "This is no Debian system: please see to it that the equivalents of these are installed:" >&2
    echo $needed >&2
    exit 0
}
missing=
for package in $needed; do
    status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || missing="$missing $package"
done
# python3 and its pip may come from elsewhere than Debian
python3 -m pip --version >/dev/null 2>&1 && missing=$(echo "$missing " | sed 's/ python3-pip / /; s/ python3 / /')
missing=$(echo $missing)
[ -n "$missing" ] || exit 0

# gcc-aarch64-linux-gnu conflicts with gcc-multilib: better without than in place of it
command="apt-get install -y --no-install-recommends --no-remove $missing"
if [ "$(id -u)" = 0 ]; then
    run=
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
    run='sudo -n'
else
    echo "Some packages are missing. Please run: sudo apt-get update && sudo $command" >&2
    exit 1
fi
echo "Installing: $missing" >&2
export DEBIAN_FRONTEND=noninteractive
$run apt-get update -q >/dev/null
$run $command >/dev/null
