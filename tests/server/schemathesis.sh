#!/bin/sh
# schemathesis.sh HEARTH EXAMPLES: generated requests, right and wrong ones, to all that the daemon's
# OpenAPI document names, so many to each besides those at the boundaries. Fails where an answer is
# an error of the server, or is not what the document says.
set -eu
scripts=$(cd "$(dirname "$0")/../../scripts" && pwd)
hearth=$1 examples=$2
model=${HEARTH_MODELS:-$("$scripts/models.sh" --dir)}/SmolLM2-135M-Instruct.Q4_1.gguf
clients=$("$scripts/clients.sh" --dir)/pip

skip() {
    echo "skipped: $1" >&2
    exit 77 # for CTest
}
[ -s "$model" ] || skip "scripts/models.sh smollm2 has not run"
[ -e "$clients/installed" ] || skip "scripts/clients.sh pip has not run"

folder=$(mktemp -d)
daemon=
end() {
    [ -z "$daemon" ] || { kill "$daemon" && wait "$daemon"; } 2> /dev/null || true
    rm -rf "$folder"
}
trap end EXIT
trap 'exit 130' INT TERM

# Answers of any length may be asked for: a short context ends them.
cat > "$folder/settings.json" <<SETTINGS
{"defaults": {"max_tokens": 4, "context": 128}}
SETTINGS
# TRACE is not implemented (501), as RFC 9110 has it for methods that no path takes.
cat > "$folder/schemathesis.toml" <<CONFIG
[phases.coverage]
unexpected-methods = ["DELETE", "PUT", "PATCH"]
CONFIG
"$hearth" serve --port 0 --no-socket --model "$model" --store "$folder/store" \
    --settings "$folder/settings.json" > "$folder/port" 2> "$folder/log" &
daemon=$!
while [ ! -s "$folder/port" ]; do
    kill -0 "$daemon" 2> /dev/null || { cat "$folder/log" >&2; exit 1; }
    sleep 0.05
done

# What never ends, and what ends the daemon, is left out.
status=0
PYTHONPATH=$clients python3 -m schemathesis.cli --config-file "$folder/schemathesis.toml" run \
    "http://127.0.0.1:$(cat "$folder/port")/openapi.json" \
    --checks not_a_server_error,status_code_conformance,content_type_conformance \
    --checks response_schema_conformance,response_headers_conformance \
    --phases coverage,fuzzing --max-examples "$examples" --seed 1 --no-shrink --warnings off \
    --exclude-path /hearth/v1/events --exclude-path /hearth/v1/logs \
    --exclude-path /hearth/v1/stop --exclude-path /api/v1/models/download \
    --continue-on-failure --request-timeout 60 > "$folder/report" 2>&1 || status=$?
kill -0 "$daemon" || status=1
[ "$status" = 0 ] || {
    sed -n '/ ERRORS \|= FAILURES/,$p' "$folder/report"
    tail -n 20 "$folder/log"
    exit 1
}
tail -n 4 "$folder/report"
