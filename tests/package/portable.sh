#!/bin/sh
# portable.sh PORTABLE HEARTH: portable.py with the real model; 77, for CTest a skip, without it.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
model=${HEARTH_MODELS:-$("$here/../../scripts/models.sh" --dir)}/SmolLM2-135M-Instruct.Q4_1.gguf
[ -s "$model" ] || { echo "skipped: scripts/models.sh smollm2 has not run" >&2; exit 77; }
exec python3 "$here/portable.py" "$1" "$model" "$2"
