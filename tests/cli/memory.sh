#!/bin/sh
# What a command may take of the memory. Needs no real model.
. "$(dirname "$0")/common.sh"
golden=$here/../golden/logits/llama.gguf

run 0 run --raw -n 4 --temp 0 --seed 1 --memory 1G "$golden" abc
cp "$scratch/out" "$scratch/expected"
run 1 run --raw -n 4 --memory 1M "$golden" abc
out_empty
err_has 'more than the limit of 1.0 MB (--memory sets it; with --fit shrink the context is what fits)'
err_has 'weights '
err_has 'KV cache of '
for command in perplexity bench; do
    run 0 $command --help
    out_has '--memory SIZE'
    out_has '--fit WAY'
done

# a context that does not fit: refused, or what fits
run 1 run --raw -n 4 --memory 100M -c 16000000 "$golden" abc
err_has 'KV cache of 16000000 tokens'
run 0 run --raw -n 4 --temp 0 --seed 1 --memory 100M -c 16000000 --fit shrink "$golden" abc
err_has 'the memory has room for a context of '
err_has ' tokens, not of 16000000'
cmp -s "$scratch/expected" "$scratch/out" || fail 'another answer within a limit'

# what does not fit is refused before a copy of it is made: here of a gigabyte that is not there
if command -v python3 > /dev/null; then
    cp "$golden" "$scratch/large.gguf"
    truncate -s 1G "$scratch/large.gguf"
    python3 - "$hearth" "$scratch/large.gguf" > "$scratch/out" 2> "$scratch/err" <<'END' ||
import resource, subprocess, sys
words = ["run", "--raw", "-n", "4", "--memory", "100M", "--no-mmap", sys.argv[2], "abc"]
code = subprocess.run([sys.argv[1], *words], stdin=subprocess.DEVNULL).returncode
kib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
sys.exit(f"exit code {code}, {kib} KiB" if code != 1 or kib > 200000 else 0)
END
        fail 'a copy that does not fit'
    err_has 'more than the limit of 100.0 MB'
fi

run 2 run --memory 2.6X "$golden" abc
err_has '--memory takes a size, as 500M or 2.6G'
run 2 run --fit never "$golden" abc
err_has '--fit takes one of refuse, shrink'

finish
