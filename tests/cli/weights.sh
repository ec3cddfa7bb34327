#!/bin/sh
# How a model gets into memory, and what happens when its file goes away. Needs no real model.
. "$(dirname "$0")/common.sh"
golden=$here/../golden/logits/llama.gguf

run 0 run --raw -n 4 --temp 0 --seed 1 "$golden" abc
cp "$scratch/out" "$scratch/expected"
for way in --no-mmap --mlock; do
    # locking may be forbidden, a copy never is
    "$hearth" run --raw -n 4 --temp 0 --seed 1 $way "$golden" abc < /dev/null \
        > "$scratch/out" 2> "$scratch/err"
    if [ $? -ne 0 ]; then
        [ $way = --mlock ] || fail "$way failed"
        err_has RLIMIT_MEMLOCK
    else
        cmp -s "$scratch/expected" "$scratch/out" || fail "$way gives another answer"
    fi
done

# A file that is cut short while it is in use: a sentence and 1, not a crash. The pipe keeps hearth
# waiting for its prompt, with the model mapped.
[ -r /proc/self/maps ] || skip 'there is no /proc/PID/maps'
cp "$golden" "$scratch/model.gguf"
mkfifo "$scratch/prompt"
"$hearth" run --raw -n 4 "$scratch/model.gguf" < "$scratch/prompt" > "$scratch/out" 2> "$scratch/err" &
pid=$!
exec 3> "$scratch/prompt"
for try in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    grep -qF "$scratch/model.gguf" /proc/$pid/maps 2> /dev/null && break
    sleep 0.1
done
: > "$scratch/model.gguf"
echo abc >&3
exec 3>&-
wait $pid
code=$?
[ $code -eq 1 ] || fail "a model cut short gave $code, not 1"
err_has 'can no longer be read'

finish
