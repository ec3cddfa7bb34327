#!/bin/sh
# Unpacks what an arm64 build links (C library, cmocka and the other libraries, as Debian has them)
# into build-arm64/root. apt resolves and verifies the packages, but with a state of its own: the
# system is not told of a second architecture, and nobody needs to be root.
set -eu
cd "$(dirname "$0")/.."
root=build-arm64/root
wanted='libc6-dev libcmocka-dev libpcre2-dev libjansson-dev libutf8proc-dev libedit-dev'

[ "$(cat $root/complete 2>/dev/null)" = "$wanted" ] && exit 0
state=$PWD/build-arm64/apt
rm -rf "$root" "$state"
mkdir -p "$root" "$state/lists/partial" "$state/archives/partial"

for_arm64() {
    apt-get -qq -o APT::Architecture=arm64 -o APT::Architectures=arm64 \
        -o Dir::State="$state" -o Dir::State::lists="$state/lists" \
        -o Dir::State::status=/dev/null -o Dir::Cache="$state" \
        -o Dir::Cache::archives="$state/archives" -o Debug::NoLocking=true \
        -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false \
        -o Acquire::IndexTargets::deb::Translations::DefaultEnabled=false \
        -o APT::Sandbox::User= "$@"
}
for_arm64 update
for_arm64 install -y --no-install-recommends --download-only $wanted > /dev/null
for package in "$state"/archives/*.deb; do
    dpkg-deb -x "$package" "$root"
done
rm -rf "$state"
echo "$wanted" > $root/complete
