#!/bin/sh
# Packs the npm packages into build-npm/: one for each platform (bindings/node/npm) with its executable,
# and the main one (bindings/node), which names those as optional dependencies of its own version.
#   npm-packages.sh                 all that can be built here
#   npm-packages.sh PLATFORM...     these, and the main one; PLATFORM is linux-x64 or linux-arm64
# --out FOLDER, in front, names another folder, which must not exist.
set -eu
out=
if [ "${1:-}" = --out ]; then
    mkdir "$2"
    out=$(cd "$2" && pwd)
    shift 2
fi
cd "$(dirname "$0")/.."
templates=$PWD/bindings/node/npm

fail() {
    echo "npm-packages.sh: $1" >&2
    exit 1
}

field() { # PACKAGE.JSON NAME
    node -p 'require(process.argv[1])[process.argv[2]]' "$1" "$2"
}

case $(uname -s)-$(uname -m) in
Linux-x86_64) here=linux-x64 ;;
Linux-aarch64) here=linux-arm64 ;;
*) fail "no executable can be built on this system" ;;
esac

# Whether it can; sets $build and $root, where Debian's packages for it are.
can_build() { # PLATFORM
    build=build root=
    [ "$1" != $here ] || return 0
    build=build-arm64 root=build-arm64/root
    [ "$1" = linux-arm64 ] && scripts/packages.sh --arm64 && scripts/arm64.sh
}

build_executable() { # PLATFORM
    if [ "$1" = $here ]; then
        configure=release preset=package
    else
        configure=arm64 preset=package-arm64
    fi
    cmake --preset $configure > /dev/null
    cmake --build --preset $preset > /dev/null
}

# Puts a package.json into a folder, with the version and the platforms' packages.
write_manifest() { # TEMPLATE FOLDER [NAME...]
    node - "$version" "$@" <<'END'
const [version, template, folder, ...platforms] = process.argv.slice(2);
const { writeFileSync } = require('node:fs');
const manifest = { ...require(template), version };
if (platforms.length > 0)
    manifest.optionalDependencies = Object.fromEntries(platforms.map((name) => [name, version]));
writeFileSync(`${folder}/package.json`, JSON.stringify(manifest, null, 2) + '\n');
END
}

pack() { # FOLDER
    cp LICENSE "$1"
    (cd "$1" && npm pack --silent --pack-destination "$out")
}

pack_platform() { # PLATFORM
    build_executable "$1"
    folder=$out/$1
    rm -rf "$folder"
    mkdir -p "$folder/bin"
    write_manifest "$templates/$1/package.json" "$folder"
    cp "$build/portable/hearth" "$folder/bin/hearth"
    scripts/third-party.sh "$build/portable/linked" "$root" > "$folder/THIRD-PARTY"
    pack "$folder"
}

# The platforms' packages are named here and not in the repository: what may not be published yet must
# not be asked for by a name under which anybody could have published something else.
pack_main() { # NAME...
    folder=$out/main
    rm -rf "$folder"
    mkdir -p "$folder"
    tar -C bindings/node -c --exclude=./npm --exclude=./node_modules . | tar -C "$folder" -x
    write_manifest "$PWD/bindings/node/package.json" "$folder" "$@"
    pack "$folder"
}

command -v npm > /dev/null || fail "npm is not installed"
version=$(field "$PWD/bindings/node/package.json" version)
grep -q " VERSION $version " CMakeLists.txt ||
    fail "bindings/node/package.json has version $version, and CMakeLists.txt another one"
if [ -z "$out" ]; then
    out=$PWD/build-npm
    rm -rf "$out"
    mkdir "$out"
fi
names=
for platform in ${*:-$(ls "$templates" | grep -v README)}; do
    [ -e "$templates/$platform" ] || fail "there is no platform $platform"
    if can_build "$platform"; then
        pack_platform "$platform"
        names="$names $(field "$templates/$platform/package.json" name)"
    elif [ $# -gt 0 ]; then
        fail "$platform cannot be built here"
    else
        echo "npm-packages.sh: $platform cannot be built here: left out" >&2
    fi
done
pack_main $names
