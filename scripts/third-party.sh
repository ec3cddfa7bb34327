#!/bin/sh
# third-party.sh LINKED [ROOT]: the licences of what is linked into the portable executable, from the
# copyright files of the Debian packages that its archives are of. LINKED is portable/linked of a
# build; ROOT is where packages of another architecture were unpacked.
set -eu
linked=$1
root=${2:-}

# The packages are those of this system: of another architecture they are the same ones.
package_of() { # FILE
    dpkg -S "$1" 2> /dev/null || dpkg -S "*/$(basename "$1")" || {
        echo "third-party.sh: $1 is of no Debian package: its licence is not known" >&2
        exit 1
    }
}

packages=$(while read -r file; do
    package_of "$file" | head -n 1 | sed 's/[:,].*//'
done < "$linked" | sort -u)

cat <<END
hearth is linked statically with the libraries below, in the versions of Debian's packages that are
named. What follows each name is the copyright file of its package, which also speaks of parts
that are not linked, such as tests and the packaging itself. The sources of all of them are at
https://sources.debian.org and https://snapshot.debian.org, those of hearth's own part are published
too: so whoever wants to can build it with other versions of these libraries.
END
common=
for package in $packages; do
    copyright=$root/usr/share/doc/$package/copyright
    [ -e "$copyright" ] || copyright=/usr/share/doc/$package/copyright
    printf '\n\n======== %s ========\n\n' \
        "$(dpkg-query -W -f '${Package}, of ${source:Package} ${source:Version}' "$package")"
    cat "$copyright"
    common="$common $(grep -oh '/usr/share/common-licenses/LGPL-[0-9.]*[0-9]' "$copyright" || true)"
done
# the others that they point to are of parts that are not linked
for text in $(printf '%s\n' $common | sort -u); do
    printf '\n\n======== %s ========\n\n' "$(basename "$text")"
    cat "$text"
done
