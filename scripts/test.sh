#!/bin/sh
# make test: build, fetch the models that tests use, run the tests.
# make test-all (--all): everything with the sanitizers too, the other compiler, and the long
# comparisons.
set -eu
cd "$(dirname "$0")/.."
all=${1:-}
HEARTH_MODELS=$(scripts/models.sh --dir)
HEARTH_VOCABS=$HEARTH_MODELS/vocabs
export HEARTH_MODELS HEARTH_VOCABS

for model in smollm2 gemma3 vocabs; do
    scripts/models.sh $model || echo "could not fetch $model: tests that need it are skipped" >&2
done

scripts/clients.sh package || echo "could not install npm packages: some tests of ours are skipped" >&2
scripts/clients.sh npm || echo "could not install npm clients: their tests are skipped" >&2
scripts/packages.sh --desktop || echo "no Chromium: tests of the example app are skipped" >&2
scripts/electron.sh || echo "could not fetch Electron: the example app runs over a shim" >&2
[ "$all" != --all ] || scripts/clients.sh pip ||
    echo "could not install the Python clients: their tests are skipped" >&2

check() { # PRESET [ctest arguments]: builds and tests
    preset=$1
    shift
    cmake --preset "$preset" > /dev/null
    cmake --build --preset "$preset"
    ctest --test-dir "$(build_of "$preset")" \
        --output-on-failure "$@"
}

build_of() {
    [ "$1" = release ] && echo build || echo "build-$1"
}

# The NEON kernels in an emulator; a processor that has them ran them in `check release`.
check_arm64() { # TARGET [ctest arguments]
    [ "$(uname -m)" != aarch64 ] || return 0
    scripts/packages.sh --arm64 && scripts/arm64.sh || {
        echo "skipped: the tests of the ARM kernels (no cross compiler, emulator or arm64 packages)" >&2
        return 0
    }
    cmake --preset arm64 > /dev/null
    cmake --build --preset arm64 --target "$1"
    shift
    ctest --test-dir build-arm64 --output-on-failure "$@"
}

# Every template that was fetched, times a list of conversations, against Python's jinja2.
compare_templates() {
    python3 -m pip install -q --disable-pip-version-check --target build/python jinja2 2> /dev/null
    export PYTHONPATH="$PWD/build/python"
    python3 scripts/template_parity.py build/tests/model/template_driver "$HEARTH_VOCABS/templates"
    python3 scripts/template_golden.py --check build/tests/model/template_driver
}

if [ "$all" = --all ]; then
    check release
    check asan
    check tsan -L 'base|kv|infer|store'
    CC=clang cmake -S . -B build-clang -G Ninja > /dev/null
    cmake --build build-clang
    # without what takes minutes in an emulator and tests no kernel by itself
    check_arm64 all -L 'base|gguf|kernel|kv|infer|package' -E 'same_bits|bad_models'
    compare_templates
else
    check release -LE long
    # what parses bytes from outside runs under the sanitizers in every change
    # (real models take minutes there, and are in the stage before)
    check asan -LE long -L 'base|gguf|model|kv|session|store|worker|server|bad-files' \
        -E '^store/real_models$'
    check_arm64 tests/kernel/all -L kernel
fi
