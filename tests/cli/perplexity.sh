#!/bin/sh
# hearth perplexity: figures, the file of logits, and what it says to bad ones.
. "$(dirname "$0")/common.sh"
need_model
need_python

for i in 1 2 3 4 5 6 7 8 9 10 11 12; do
    echo "Chapter $i. The ship left the harbour at dawn, and $i sailors sang of the wind and the sea."
done > "$scratch/text"
base=$scratch/base.logits

json() { # EXPRESSION over `o`
    python3 - "$scratch/out" "$1" <<'END' || fail "of the JSON: $1"
import json, sys
o = json.load(open(sys.argv[1]))
sys.exit(0 if eval(sys.argv[2]) else 1)
END
}

run 0 perplexity "$model" "$scratch/text" -c 64 --chunks 2 --save-logits "$base" --json
err_empty
json 'o["tokens"] == 62 and o["chunks"] == 2 and 1 < o["perplexity"] < 100'
cp "$scratch/out" "$scratch/first"
run 0 perplexity "$model" "$scratch/text" -c 64 --chunks 2
out_has perplexity

# compared with itself: nothing but the 16 bits of the file lies between them
run 0 perplexity "$model" --kl "$base" --json
json 'abs(o["kl_divergence"]) < 1e-5 and o["top1_agreement"] > 0.98'
json "o['perplexity'] == json.load(open('$scratch/first'))['perplexity']"
json 'abs(o["base_perplexity"] / o["perplexity"] - 1) < 1e-3'
run 0 perplexity "$model" "$scratch/text" --kl "$base" --kv q8_0 --json
json '0 < o["kl_divergence"] < 0.1'

# a file that is not what it should be
bad() { # SENTENCE
    run 1 perplexity "$model" --kl "$scratch/bad"
    out_empty
    err_lines 1
    err_has "$1"
}
size=$(wc -c < "$base")
for keep in 0 7 19 20 500 $((size - 1)); do
    head -c "$keep" "$base" > "$scratch/bad"
    bad "$scratch/bad: "
done
(cat "$base" && echo) > "$scratch/bad"
bad 'is not as large as its header says'
patch() { # OFFSET BYTES: a copy with these bytes
    cp "$base" "$scratch/bad"
    printf "$2" | dd of="$scratch/bad" bs=1 seek="$1" conv=notrunc 2> /dev/null
}
patch 0 X
bad 'this is no file of logits'
patch 8 '\377\377\377\377'
bad 'chunks of'
patch 8 '\0\0\0\0'
bad 'chunks of'
patch 12 '\1\0\0\0'
bad 'vocabulary of 1 tokens'
patch 16 '\377\377\377\377'
bad 'is not as large'
patch 16 '\0\0\0\0'
bad '0 chunks'
patch 20 '\377\377\377\377'
bad 'outside the vocabulary'
patch 532 '\0\0\300\177'
bad 'no numbers'
run 1 perplexity "$model" --kl "$base" -c 32
err_has 'was computed with -c 64'
echo 'Another text altogether, which has little to do with the sea.' > "$scratch/other"
run 1 perplexity "$model" "$scratch/other" --kl "$base"
err_has 'was not computed from'
run 1 perplexity "$model" "$scratch/other"
err_has 'a chunk needs 512'
run 1 perplexity "$model" "$scratch/nothing"
err_has 'cannot be opened'
run 1 perplexity "$model" "$scratch/text" -c 64 --save-logits "$scratch/no/such/place"
err_has 'cannot be written'
finish
