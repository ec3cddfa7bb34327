#!/bin/sh
# hearth run and hearth inspect with a real model, as scripts use them.
. "$(dirname "$0")/common.sh"
need_model
need_python

json() { # EXPRESSION over `o`, what was printed last
    python3 - "$scratch/out" "$1" <<'END' || fail "of the JSON: $1"
import json, sys
o = json.load(open(sys.argv[1]))
sys.exit(0 if eval(sys.argv[2]) else 1)
END
}

run 0 run "$model" 'Name a colour.' --temp 0 -n 8
err_empty
cp "$scratch/out" "$scratch/plain"

# one object with everything in it, and the same text
run 0 run "$model" 'Name a colour.' --temp 0 -n 8 --json
err_empty
json 'list(o) == ["text", "stop", "prompt_ids", "ids", "miss",
    "dropped_messages", "seed", "timings", "memory"]'
json 'sorted(o["timings"]) == sorted(["load_ms", "cached_tokens", "prompt_tokens", "prompt_ms",
    "prompt_tokens_per_s", "first_token_ms", "tokens", "decode_ms", "tokens_per_s", "drafted",
    "accepted"])'
json 'sorted(o["memory"]) == ["kv_mib", "mapped_mib", "peak_mib", "private_mib"]'
json 'o["timings"]["tokens"] == len(o["ids"]) and o["timings"]["prompt_tokens"] == len(o["prompt_ids"])'
json 'o["miss"] == "new" and o["timings"]["cached_tokens"] == 0'
json 'o["stop"] == "end" or len(o["ids"]) == 8'
json '0 < o["memory"]["kv_mib"] < o["memory"]["private_mib"]'
json "o['text'] + '\n' == open('$scratch/plain').read()"

# a prompt that is piped in is the same prompt; with a PROMPT it stands behind it
printf 'Name a colour.\n' | "$hearth" run "$model" --temp 0 -n 8 > "$scratch/piped"
cmp -s "$scratch/piped" "$scratch/plain" || fail 'a piped prompt gives another answer'
printf 'two\n' | "$hearth" run "$model" one -n 1 --json > "$scratch/out" 2> "$scratch/err"
cp "$scratch/out" "$scratch/both"
run 0 run "$model" "$(printf 'one\n\ntwo')" -n 1 --json
json "o['prompt_ids'] == json.load(open('$scratch/both'))['prompt_ids']"

# the same seed gives the same text, threads and KV storage are taken, the seed is told
run 0 run "$model" 'Tell me a story.' -n 12 --seed 7 --json
cp "$scratch/out" "$scratch/first"
run 0 run "$model" 'Tell me a story.' -n 12 --seed 7 --json -t 1
json "o['text'] == json.load(open('$scratch/first'))['text'] and o['seed'] == 7"
run 0 run "$model" 'Tell me a story.' -n 12 --json
json 'o["seed"] >= 0'
run 0 run "$model" 'Tell me a story.' -n 2 --kv q8_0 -v
err_has 'private'
err_has 'mapped'
err_has 'tokens/s'

# what ends an answer
run 0 run "$model" --raw 'one two three four five six seven' -n 3 --temp 0 --json
json 'o["stop"] == "length" and len(o["ids"]) == 3'
run 0 run "$model" --raw '1, 2, 3, 4, 5, 6,' -n 30 --temp 0 --stop 9 --json
json 'o["stop"] == "stop_string" and "9" not in o["text"] and "8" in o["text"]'
for overflow in error stop; do # both keep and show the text, and say the numbers
    run $([ $overflow = stop ]; echo $?) run "$model" --raw '1, 2, 3, 4,' --temp 0 -c 16 --json \
        --overflow $overflow
    json 'o["stop"] == "context" and len(o["ids"]) + len(o["prompt_ids"]) == 17'
    err_has 'fill the context of 16'
done
run 0 run "$model" --raw '1, 2,' -n 1 --temp 0 --logit-bias 3-inf --logit-bias 42+1000 --json
json 'o["ids"] == [42]'
run 1 run "$model" 'This prompt, with the template around it, is longer than that.' -c 16
out_empty
err_lines 1
err_has 'the context holds 16'
run 1 run "$model" --raw ''
err_has 'the prompt is empty'

# guesses change nothing but the time, wherever the answer ends; lists are what is guessed well
list='one, two, three, four, five, six, seven, eight, nine, ten. '
same() { # OPTIONS...
    run 0 run "$model" --raw "$list$list${list}one, two," --json --spec-type none "$@"
    json 'o["timings"]["drafted"] == 0 and o["timings"]["accepted"] == 0'
    cp "$scratch/out" "$scratch/alone"
    run 0 run "$model" --raw "$list$list${list}one, two," --json --spec-type ngram "$@"
    json "all(o[k] == json.load(open('$scratch/alone'))[k] for k in ('text', 'ids', 'stop'))"
}
same --temp 0 -n 60
same --temp 0 -n 20
json '8 < o["timings"]["accepted"] <= o["timings"]["drafted"] and o["stop"] == "length"'
for count in 1 2 3 9 10 11 12 13; do
    same --temp 0 -n $count
    json "o['stop'] == 'length' and len(o['ids']) == $count"
done
same --temp 0 -n 60 --stop 'seven, ei'
json 'o["stop"] == "stop_string" and o["text"].endswith("six, ")'
for context in 69 70 71 72 75; do
    same --temp 0 -c $context --overflow stop
    json "o['stop'] == 'context' and len(o['ids']) + len(o['prompt_ids']) == $context + 1"
done
same --temp 1.2 --seed 4 -n 60
same --temp 0.8 --seed 5 -n 60 --repeat-penalty 1.1 --kv q8_0

# text that is no UTF-8, NUL bytes and control characters harm nothing
printf 'a\377b\000c\033[2J' | "$hearth" run "$model" -n 2 > "$scratch/out" 2> "$scratch/err" ||
    fail 'odd bytes in a prompt'
printf 'a\377b\000c' | "$hearth" run "$model" --raw -n 2 > "$scratch/out" 2> "$scratch/err" ||
    fail 'odd bytes in a raw prompt'

# nothing to answer is an error, whatever it is that is missing
run 1 run "$model"
out_empty
err_lines 1
err_has 'the prompt is empty'
run 1 run "$model" ''
err_has 'the prompt is empty'

# standard files that are closed: an input at its end, an output that cannot be written; and none
# becomes a file that is opened later
"$hearth" run "$model" 'Name a colour.' --temp 0 -n 8 <&- > "$scratch/out" 2> "$scratch/err" ||
    fail 'a closed standard input'
cmp -s "$scratch/out" "$scratch/plain" || fail 'a closed standard input gives another answer'
"$hearth" run "$model" 'Name a colour.' --temp 0 -n 8 --session closed > /dev/null 2>&1 < /dev/null
"$hearth" run "$model" 'Another one.' --temp 0 -n 8 --session closed < /dev/null >&- 2> "$scratch/err"
[ $? -eq 1 ] || fail 'a closed standard output is no error'
err_has 'standard output cannot be written'
"$hearth" run "$model" 'Name a colour.' --temp 0 -n 8 < /dev/null > "$scratch/out" 2>&- ||
    fail 'a closed standard error'
cmp -s "$scratch/out" "$scratch/plain" || fail 'a closed standard error gives another answer'
run 0 sessions show closed --json
json 'len(o["messages"]) == 4'
run 0 run "$model" 'A third one.' --temp 0 -n 2 --session closed --json
json 'o["miss"] == "nothing" and o["timings"]["cached_tokens"] > 50'

# inspect
run 0 inspect "$model" --json
err_empty
json 'o["architecture"] == "llama" and o["parameters"] == 134515008 and len(o["memory"]) == 2'
json 'sum(o["types"].values()) < o["bytes"] and len(o["tensors"]) == 272'
run 0 inspect "$model" --keys --tensors
out_has 'token_embd.weight'
out_has 'tokenizer.ggml.model'
out_has '134,515,008'
finish
