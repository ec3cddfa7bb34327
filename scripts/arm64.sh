#!/bin/sh
# Unpacks what an arm64 build links (C library, cmocka and the other libraries, as Debian has them)
# into build-arm64/root. apt resolves and verifies the packages, but with a state of its own: the
# system is not told of a second architecture, and nobody needs to be root.
set -eu
cd "$(dirname "$0")/.."
root=build-arm64/root
wanted='libc6-dev libcmocka-dev libpcre2-dev libjansson-dev libutf8proc-dev libedit-dev libxxhash-dev libsqlite3-dev libseccomp-dev libevent-dev libcurl4-openssl-dev'

made=$(cksum < scripts/arm64.sh)
[ "$(cat $root/complete 2>/dev/null)" = "$made" ] && exit 0
state=$PWD/build-arm64/apt
rm -rf build-arm64 # what was built with another root goes with it
mkdir -p "$root" "$state/lists/partial" "$state/archives/partial"
# the system's hooks (#clear) would touch the system's own cache
cat > "$state/apt.conf" <<END
APT::Architecture "arm64";
APT::Architectures "arm64";
APT::Install-Recommends "false";
APT::Sandbox::User "";
Dir::State "$state";
Dir::State::lists "$state/lists";
Dir::State::status "/dev/null";
Dir::Cache "$state";
Dir::Cache::archives "$state/archives";
Debug::NoLocking "true";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Acquire::IndexTargets::deb::Translations::DefaultEnabled "false";
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Post-Invoke;
END

apt-get -qq -c "$state/apt.conf" update
apt-get -qq -c "$state/apt.conf" install -y --download-only $wanted > /dev/null
for package in "$state"/archives/*.deb; do
    dpkg-deb -x "$package" "$root"
done
# libm.so and others point to /lib, where the linker would look past them and take libm.a
find "$root" -type l -lname '/*' | while read -r link; do
    ln -sfr "$root$(readlink "$link")" "$link"
done
rm -rf "$state"
echo "$made" > $root/complete
