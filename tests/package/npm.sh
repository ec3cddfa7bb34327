#!/bin/sh
# What scripts/npm-packages.sh packs for this platform is installed as npm installs it, without a network, and
# the executable is found in it. 77, for CTest a skip, where there is no npm.
set -eu
cd "$(dirname "$0")/../.."
command -v npm > /dev/null || { echo "skipped: npm is not installed" >&2; exit 77; }
case $(uname -s)-$(uname -m) in
Linux-x86_64) cpu=x64 ;;
Linux-aarch64) cpu=arm64 ;;
*) echo "skipped: there is no package for this system" >&2; exit 77 ;;
esac
failures=0
fail() {
    echo "FAILED: $1"
    failures=$((failures + 1))
}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
scripts/npm-packages.sh --out "$scratch/packed" linux-$cpu
version=$(node -p 'require("./bindings/node/package.json").version')
mkdir "$scratch/app"
cat > "$scratch/app/package.json" <<END
{
    "private": true,
    "dependencies": { "hearth": "file:../packed/hearth-$version.tgz" },
    "optionalDependencies": {
        "@hearth/linux-$cpu": "file:../packed/hearth-linux-$cpu-$version.tgz",
        "@hearth/other": "file:../other"
    }
}
END
# the same package for another processor must stay out
mkdir "$scratch/other"
sed "s/\"name\": .*/\"name\": \"@hearth\/other\",/; s/\"$cpu\"/\"s390x\"/" \
    "$scratch/packed/linux-$cpu/package.json" > "$scratch/other/package.json"
grep -q s390x "$scratch/other/package.json" || fail 'no package of another processor was made'
cd "$scratch/app"
npm install --offline --no-audit --no-fund --cache "$scratch/cache" > "$scratch/said" 2>&1 ||
    { cat "$scratch/said"; fail 'npm installs it'; }

package=node_modules/@hearth/linux-$cpu
[ ! -e node_modules/@hearth/other ] || fail 'npm heeds the processor'
[ "$("$package/bin/hearth" --version)" = "hearth $version" ] || fail 'the executable starts'
[ "$(stat -c %a "$package/bin/hearth")" = 755 ] || fail 'anybody may start it'
for word in LGPL-2.1 jansson libedit libevent libseccomp llhttp pcre2 sqlite3 utf8proc xxhash; do
    grep -q "$word" "$package/THIRD-PARTY" || fail "THIRD-PARTY says something of $word"
done
grep -q 'Apache License' "$package/LICENSE" || fail 'the licence is there'
size=$(du -sb --apparent-size node_modules | cut -f 1)
[ "$size" -lt 10000000 ] || fail "it takes $size bytes, not less than 10 MB"

cat > find.mjs <<'END'
import { existsSync, realpathSync } from 'node:fs';
import { createRequire } from 'node:module';
const [, , name, version] = process.argv;
const main = createRequire(import.meta.url).resolve('hearth/package.json');
const { optionalDependencies } = createRequire(main)(main);
const path = createRequire(main).resolve(`${name}/bin/hearth`);
if (JSON.stringify(optionalDependencies) !== JSON.stringify({ [name]: version }))
    throw new Error(`the main package wants ${JSON.stringify(optionalDependencies)}`);
if (existsSync('node_modules/hearth/index.js')) {
    const { findBinary } = await import('hearth');
    const found = findBinary({ env: {} });
    if (found.from !== 'package' || realpathSync(found.path) !== realpathSync(path))
        throw new Error(`it finds ${JSON.stringify(found)}, not ${path}`);
}
END
node find.mjs "@hearth/linux-$cpu" "$version" || fail 'the main package finds the executable'

echo "installed: $size bytes; packed: $(cat "$scratch"/packed/*.tgz | wc -c)"
[ $failures -eq 0 ]
