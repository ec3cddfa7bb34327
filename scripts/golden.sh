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

for name in golden_logits golden_embeddings; do
    "${CC:-cc}" -std=c11 -O1 -Wall -I"$source/include" -I"$source/ggml/include" \
        scripts/$name.c -o "$tmp/$name" \
        -L"$build/bin" -lllama -lggml -lggml-base -lm -Wl,-rpath,"$build/bin"
done
mkdir -p "$golden"
rm -f "$golden"/*.gguf "$golden"/*.f32
scripts/golden_models.py logits "$golden"
for model in "$golden"/*.gguf; do
    "$tmp/golden_logits" "$model" "${model%.gguf}.f32" 64 < "$golden/tokens.txt"
done
du -sh "$golden"

embeddings=tests/golden/embeddings
rm -f "$embeddings"/*.f32
for model in "$golden"/*.gguf; do
    name=$(basename "$model" .gguf)
    "$tmp/golden_embeddings" "$model" "$embeddings/$name.f32" ids < "$golden/tokens.txt"
done
models=$(scripts/models.sh --dir)
scripts/models.sh smollm2 gemma3
for pair in smollm2=SmolLM2-135M-Instruct.Q4_1 gemma3-270m=gemma-3-270m-q4_k_m; do
    # without what llama.cpp's products lose by rounding activations
    "$build/bin/llama-quantize" --allow-requantize "$models/${pair#*=}.gguf" "$tmp/f32.gguf" F32
    "$tmp/golden_embeddings" "$tmp/f32.gguf" "$embeddings/${pair%%=*}.f32" lines \
        < "$embeddings/texts.txt"
    rm "$tmp/f32.gguf"
done
du -sh "$embeddings"
