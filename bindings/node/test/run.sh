#!/bin/sh
# run.sh HEARTH TEST...: runs tests of the npm package with an executable and the real model.
# 77, for CTest a skip, where something is missing.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
scripts=$here/../../../scripts
HEARTH_BINARY=$1
shift
HEARTH_TEST_MODEL=${HEARTH_MODELS:-$("$scripts/models.sh" --dir)}/SmolLM2-135M-Instruct.Q4_1.gguf
HEARTH_TEST_PACKAGES=$("$scripts/clients.sh" --dir)/package
export HEARTH_BINARY HEARTH_TEST_MODEL HEARTH_TEST_PACKAGES

skip() {
    echo "skipped: $1" >&2
    exit 77
}

command -v node > /dev/null || skip "node is not installed"
[ -s "$HEARTH_TEST_MODEL" ] || skip "scripts/models.sh smollm2 has not run"
cd "$here"
exec node --test --test-reporter=spec --test-concurrency=1 --test-timeout=120000 "$@"
