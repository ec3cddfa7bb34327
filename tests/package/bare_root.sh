#!/bin/sh
# bare_root.sh ROOT COMMAND...: runs a command in another root directory, as root of a user namespace of its
# own, with no environment. Where ROOT has the folders proc and dev they get what every system has.
set -eu
root=$1
shift
[ ! -d "$root/proc" ] || mount --rbind /proc "$root/proc"
[ ! -d "$root/dev" ] || mount --bind /dev/null "$root/dev/null"
exec env -i HOME=/tmp TERM="${TERM:-}" "$(command -v chroot || echo /usr/sbin/chroot)" "$root" "$@"
