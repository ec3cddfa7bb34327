# For the scripts beside it: `. common.sh` with the program's path in $1. A check that fails prints
# what was seen; the script then ends with 1.
set -u
hearth=$1
here=$(dirname "$0")
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
XDG_STATE_HOME=$scratch/state
XDG_RUNTIME_DIR=$scratch/run # a daemon of the user's is left alone
export XDG_STATE_HOME XDG_RUNTIME_DIR
failures=0

fail() { # MESSAGE
    echo "FAILED: $1"
    echo "  standard output: $(head -c 600 "$scratch/out" 2>/dev/null)"
    echo "  standard error:  $(head -c 600 "$scratch/err" 2>/dev/null)"
    failures=$((failures + 1))
}

# run CODE WORDS...: runs hearth with nothing on standard input and checks its exit code
run() {
    expected=$1
    shift
    "$hearth" "$@" < /dev/null > "$scratch/out" 2> "$scratch/err"
    code=$?
    [ $code -eq "$expected" ] || fail "hearth $* gave $code, not $expected"
}

out_has() { grep -qF -e "$1" "$scratch/out" || fail "standard output lacks: $1"; }
err_has() { grep -qF -e "$1" "$scratch/err" || fail "standard error lacks: $1"; }
out_empty() { [ ! -s "$scratch/out" ] || fail "standard output is not empty"; }
err_empty() { [ ! -s "$scratch/err" ] || fail "standard error is not empty"; }
err_lines() { [ "$(wc -l < "$scratch/err")" -eq "$1" ] || fail "standard error has not $1 lines"; }

skip() { # MESSAGE
    echo "skipped: $1"
    exit 77
}

need_model() { # sets $model
    model=${HEARTH_MODELS:-}/SmolLM2-135M-Instruct.Q4_1.gguf
    [ -s "$model" ] || skip "$model is missing (scripts/models.sh smollm2 fetches it)"
}

need_python() {
    command -v python3 > /dev/null || skip 'python3 is missing'
}

finish() {
    [ $failures -eq 0 ] && echo 'all is well'
    [ $failures -eq 0 ]
    exit
}
