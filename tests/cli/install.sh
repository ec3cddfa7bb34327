#!/bin/sh
# install.sh HEARTH BUILD MODEL: make install into another root and prefix, and a program that links
# the library from there.
. "$(dirname "$0")/common.sh"
build=$2
model=$3
command -v pkg-config > /dev/null || skip 'pkg-config is missing'

root="$scratch/a root"
DESTDIR=$root cmake --install "$build" --prefix /opt/hearth > "$scratch/out" 2> "$scratch/err" ||
    fail 'cmake --install'
prefix=$root/opt/hearth
for file in bin/hearth share/man/man1/hearth-run.1 include/hearth/hearth.h; do
    [ -s "$prefix/$file" ] || fail "$file is not installed"
done
"$prefix/bin/hearth" --version > "$scratch/version" || fail 'the installed program'

# what names a path names the one that it will have
unit=$prefix/lib/systemd/user/hearth.service
[ ! -f "$unit" ] || grep -q '^ExecStart=/opt/hearth/bin/hearth serve' "$unit" ||
    fail "$(grep ExecStart "$unit")"

# a root with a space in its name is no place for pkg-config's words
mv "$root" "$scratch/root"
prefix=$scratch/root/opt/hearth
PKG_CONFIG_PATH=$(dirname "$(find "$prefix" -name libhearth.pc)")
export PKG_CONFIG_PATH
[ "hearth $(pkg-config --modversion libhearth)" = "$(cat "$scratch/version")" ] ||
    fail 'pkg-config has another version'

link() { # NAME WORDS...: links the program with these words of pkg-config, and runs it
    name=$1
    shift
    # shellcheck disable=SC2046
    ${CC:-cc} -std=c11 -Wall -Werror "$here/install.c" -o "$scratch/$name" \
        $(pkg-config "$@" --cflags --libs libhearth) > "$scratch/out" 2> "$scratch/err" ||
        fail "a program with pkg-config $* does not link"
    "$scratch/$name" "$model" > "$scratch/$name.out" 2> "$scratch/err" || fail "$name does not run"
}

link plain
link static --static
grep -q '^hearth [0-9.]* [0-9]*$' "$scratch/plain.out" || fail 'what the program says'
cmp -s "$scratch/plain.out" "$scratch/static.out" || fail 'the two programs differ'

# no name of the library's own gets in the way of a program's
if command -v nm > /dev/null; then
    names=$(nm -g --defined-only "$(find "$prefix" -name libhearth.a)" |
        awk 'NF == 3 && $3 !~ /^hearth_/ { print $3 }')
    [ -z "$names" ] || fail "libhearth.a has global names: $names"
fi

if command -v c++ > /dev/null; then
    printf '#include <hearth/session.h>\nint main() { return hearth_version() == nullptr; }\n' \
        > "$scratch/program.cc"
    c++ -std=c++11 -Wall -Wextra -Werror -fsyntax-only "$scratch/program.cc" \
        $(pkg-config --cflags libhearth) > "$scratch/out" 2> "$scratch/err" ||
        fail 'C++ does not take the headers'
fi
finish
