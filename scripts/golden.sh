#!/bin/sh
# Makes tests/golden again: every golden file and the models that belong to them.
#   golden.sh LLAMA_CPP_BUILD [LLAMA_CPP_SOURCE]
# needs Python with numpy and gguf, and a build of llama.cpp with shared libraries; its source is
# where the build's CMakeCache.txt says it is, or the second argument.
set -eu
cd "$(dirname "$0")/.."
[ $# -ge 1 ] || { sed -n '2,5s/^# *//p' "$0" >&2; exit 2; }
build=$(cd "$1" && pwd)
source=${2:-$(sed -n 's/^CMAKE_HOME_DIRECTORY:INTERNAL=//p' "$build/CMakeCache.txt")}
golden=tests/golden/logits
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT INT TERM

scripts/kernel_golden.py tests/golden/kernel/dequantize.bin

"${CC:-cc}" -std=c11 -O1 -Wall -I"$source/include" -I"$source/ggml/include" \
    scripts/golden_logits.c -o "$tmp/golden_logits" \
    -L"$build/bin" -lllama -lggml -lggml-base -Wl,-rpath,"$build/bin"
mkdir -p "$golden"
rm -f "$golden"/*.gguf "$golden"/*.f32
scripts/golden_models.py logits "$golden"
for model in "$golden"/*.gguf; do
    "$tmp/golden_logits" "$model" "${model%.gguf}.f32" 64 < "$golden/tokens.txt"
done
du -sh "$golden"
