#!/bin/sh
# hearth tokenize: any bytes in, ids or a table or JSON out.
. "$(dirname "$0")/common.sh"
need_model
need_python

tokenize() { # WORDS...: of $scratch/text
    "$hearth" tokenize "$model" "$@" < "$scratch/text" > "$scratch/out" 2> "$scratch/err" ||
        fail "tokenize $*"
    err_empty
}

printf 'Hello world<|im_end|>\n' > "$scratch/text"
tokenize --ids
[ "$(cat "$scratch/out")" = '19556 905 2 198' ] || fail 'the ids of a known text'
tokenize --ids --no-special
[ "$(wc -w < "$scratch/out")" -gt 4 ] || fail 'a special token was parsed with --no-special'
tokenize
out_has "'<|im_end|>'"
out_has "'\\n'"
[ "$(wc -l < "$scratch/out")" -eq 4 ] || fail 'a line for each token'

# the texts of the tokens are the text
printf 'caf\303\251 \360\237\221\215 x y\000z\t\\ end' > "$scratch/text"
tokenize
python3 - "$scratch/out" "$scratch/text" <<'END' || fail 'the texts of the table are not the text'
import re, sys
seen = b''
for line in open(sys.argv[1], 'rb'):
    escaped = re.fullmatch(rb" *\d+  '(.*)'\n", line).group(1)
    one = {b'n': b'\n', b't': b'\t', b'\\': b'\\'}
    seen += re.sub(rb'\\(n|t|\\|x..)',
                   lambda m: one.get(m[1]) or bytes([int(m[1][1:], 16)]), escaped)
sys.exit(seen != open(sys.argv[2], 'rb').read())
END
tokenize --json
python3 -c 'import json, sys; o = json.load(open(sys.argv[1]))
sys.exit(o["count"] != len(o["tokens"]) or set(o["tokens"][0]) != {"id", "text"})' "$scratch/out" ||
    fail 'the JSON of tokenize'

: > "$scratch/text"
tokenize --ids
[ "$(wc -w < "$scratch/out")" -eq 0 ] || fail 'an empty text has tokens'
# a file with nothing but a vocabulary, of an architecture that hearth cannot run
vocabulary=${HEARTH_VOCABS:-}/ggml-vocab-phi-3.gguf
if [ -s "$vocabulary" ]; then
    model=$vocabulary
    printf 'Hello world' > "$scratch/text"
    tokenize --ids --no-bos
    [ "$(cat "$scratch/out")" = '15043 3186' ] || fail 'the ids of a vocabulary'
    run 1 run "$vocabulary" Hello
    err_has 'architecture "phi3" is not supported'
fi
finish
