#!/bin/sh
# The house keeps its order: which room may include which, where system headers may stand, how long
# a file may be. Run from anywhere; prints each breach and fails.
set -u
cd "$(dirname "$0")/.."
breaches=$(mktemp)
trap 'rm -f "$breaches"' EXIT

# room: the rooms whose headers it may include, besides its own and include/hearth
allowed() {
    case $1 in
    base) echo '' ;;
    gguf) echo 'base' ;;
    kernel) echo 'base gguf' ;;
    model) echo 'base gguf' ;;
    kv) echo 'base kernel' ;;
    infer) echo 'base gguf kernel model kv' ;;
    session) echo 'base' ;; # the engine through hearth.h alone
    store) echo 'base session' ;; # of session the interface store.h
    worker) echo 'base session' ;; # the engine through hearth.h, conversations through session.h,
                                   # of session the interface store.h
    server) echo 'base session worker' ;; # of session store.h, of worker what is said to workers;
                                          # never the engine
    cli) echo 'base worker server' ;;
    *) echo 'unknown room' ;;
    esac
}

for room in src/*/; do
    room=$(basename "$room")
    for file in src/"$room"/*.[ch]; do
        sed -n 's/^ *# *include *"\([^"]*\)".*/\1/p' "$file" | while read -r header; do
            target=${header%%/*}
            case " $room hearth $(allowed "$room") " in
            *" $target "*) ;;
            *) echo "$file: room $room may not include \"$header\"" >> "$breaches" ;;
            esac
        done
    done
done

# systems differ in base/os_*.c only
grep -nE '^ *# *include *<(unistd|fcntl|pthread|sched|signal|dirent|poll|termios|syslog|pwd|spawn|dlfcn|sys/|linux/|arpa/|netinet/)' \
    $(git ls-files 'src/*.c' 'src/*.h' 'include/*.h' 2>/dev/null || find src include -name '*.[ch]') |
    grep -v '^src/base/os_' >> "$breaches"

for file in $(find src include -name '*.[ch]'); do
    lines=$(wc -l < "$file")
    [ "$lines" -le 1200 ] || echo "$file: $lines lines, more than 1,200" >> "$breaches"
done

if [ -s "$breaches" ]; then
    cat "$breaches"
    exit 1
fi
echo 'the house is in order'
