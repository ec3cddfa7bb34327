#!/bin/sh
# schemathesis.sh HEARTH MODEL PYTHON_DIR EXAMPLES: generated requests, right and wrong ones, to all
# that the daemon's OpenAPI document names. Fails where an answer is a server's error, or is not
# what the document says. Exits with 77 where schemathesis cannot be had.
set -eu
hearth=$1 model=$2 python=$3 examples=$4
version=4.32.5
[ -f "$model" ] || exit 77
[ -f "$python/$version" ] || {
    python3 -m pip install -q --disable-pip-version-check --target "$python" \
        "schemathesis==$version" 2> /dev/null || exit 77
    touch "$python/$version"
}
folder=$(mktemp -d)
daemon=
end() {
    [ -z "$daemon" ] || kill "$daemon" 2> /dev/null || true
    wait
    rm -rf "$folder"
}
trap end EXIT

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
for i in $(seq 100); do
    [ ! -s "$folder/port" ] || break
    sleep 0.1
done

# What never ends, and what ends the daemon, is left out.
status=0
PYTHONPATH=$python python3 -m schemathesis.cli --config-file "$folder/schemathesis.toml" run \
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
