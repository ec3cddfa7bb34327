#!/bin/sh
# Runs each fuzz target for FUZZ_SECONDS (60), under AddressSanitizer and UndefinedBehaviorSanitizer.
# What it finds stays in build-fuzz/findings, what it learned in build-fuzz/corpus.
set -eu
cd "$(dirname "$0")/.."
seconds=${FUZZ_SECONDS:-60}
CC=clang cmake -S . -B build-fuzz -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo -DHEARTH_FUZZ=ON \
    -DHEARTH_SANITIZE=address,undefined,fuzzer-no-link > /dev/null
cmake --build build-fuzz
for target in build-fuzz/tests/fuzz/fuzz_*; do
    [ -f "$target" ] && [ -x "$target" ] || continue
    name=$(basename "$target")
    mkdir -p "build-fuzz/corpus/$name" build-fuzz/findings
    echo "$name for $seconds s"
    "$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=0 \
        -artifact_prefix="build-fuzz/findings/$name-" "build-fuzz/corpus/$name"
done
