#!/bin/sh
# run.sh HEARTH TEST: runs TEST.mjs or TEST.py against a daemon of its own with the real model.
# The clients are those that scripts/clients.sh has installed; 77, for CTest a skip, without them.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
hearth=$1
test=$2
model=${HEARTH_MODELS:-$("$here/../../scripts/models.sh" --dir)}/SmolLM2-135M-Instruct.Q4_1.gguf
clients=$("$here/../../scripts/clients.sh" --dir)

skip() {
    echo "skipped: $1" >&2
    exit 77
}

[ -s "$model" ] || skip "scripts/models.sh smollm2 has not run"
case $test in
*.mjs)
    command -v node > /dev/null || skip "node is not installed"
    [ -e "$clients/npm/installed" ] || skip "scripts/clients.sh npm has not run"
    # modules are looked for beside the file that imports them
    cp "$here/$test" "$clients/npm/$test"
    set -- node "$clients/npm/$test"
    ;;
*.py)
    [ -e "$clients/pip/installed" ] || skip "scripts/clients.sh pip has not run"
    PYTHONPATH=$clients/pip
    export PYTHONPATH
    set -- python3 "$here/$test"
    ;;
esac

folder=$(mktemp -d)
daemon=
end() {
    [ -z "$daemon" ] || { kill "$daemon" && wait "$daemon"; } 2> /dev/null || true
    rm -rf "$folder"
}
trap end EXIT
trap 'exit 130' INT TERM
"$hearth" serve --model "$model" --port 0 --socket "$folder/socket" --store "$folder/store" \
    > "$folder/port" 2> "$folder/log" &
daemon=$!
while [ ! -s "$folder/port" ]; do
    kill -0 "$daemon" 2> /dev/null || { cat "$folder/log" >&2; exit 1; }
    sleep 0.05
done
HEARTH_URL=http://127.0.0.1:$(head -n 1 "$folder/port")
HEARTH_MODEL=$(basename "$model" .gguf)
export HEARTH_URL HEARTH_MODEL
status=0
"$@" || status=$?
[ "$status" = 0 ] || { echo "the daemon's log ends with:"; tail -n 40 "$folder/log"; } >&2
exit "$status"
