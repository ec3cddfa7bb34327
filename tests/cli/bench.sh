#!/bin/sh
# hearth bench: the form of its results, lists, models that are made up, and mistakes. Speeds are
# not judged, only that they agree with each other.
. "$(dirname "$0")/common.sh"
need_python
XDG_CACHE_HOME=$scratch/cache
export XDG_CACHE_HOME

json() { # EXPRESSION over `o`
    python3 - "$scratch/out" "$1" <<'END' || fail "of the JSON: $1"
import json, sys
o = json.load(open(sys.argv[1]))
sys.exit(0 if eval(sys.argv[2]) else 1)
END
}

run 0 bench --synthetic tiny:Q4_K_M -p 3,40 -n 5 -d 0,33 -b 1,3 -r 2 -t 2 --kv q8_0 --json
err_empty
json '[p["tokens"] for p in o["prefill"]] == [3, 40]'
json '[(d["depth"], d["batch"]) for d in o["decode"]] == [(0, 1), (0, 3), (33, 1), (33, 3)]'
json 'all(r["tokens_per_s"] > 0 and r["limit_tokens_per_s"] > 0 for r in o["prefill"] + o["decode"])'
json 'o["load_ms"] > 0 and o["kv"] == "q8_0" and o["threads"] == 2 and o["rounds"] == 2'
json 'o["limits"]["read_gb_per_s"] > 0 and o["limits"]["int8_tops"] > 0'
json 'o["limits"]["f32_tflops"] > 0 and "bf16_tflops" in o["limits"]'
json '0 < o["memory"]["private_mib"] < o["memory"]["peak_mib"] and o["memory"]["mapped_mib"] > 0'
json 'o["memory"]["peak_mib"] < 400'    # the memory that measuring limits takes is no part of it
[ -z "$(ls -A "$scratch/cache/hearth")" ] || fail 'a model that nobody kept is still there'

# of one round each ratio is that of the medians, which are rounded to three digits
run 0 bench --synthetic tiny:F16 -p 20 -n 3 -r 1 --json
json 'all(abs(r["tokens_per_s"] / r["limit_tokens_per_s"] - r["limit_fraction"]) < 1e-3
          for r in o["prefill"] + o["decode"])'

# nothing is measured that is not asked for
run 0 bench --synthetic tiny:Q8_0 -p 0 -n 2 -r 1 --json
json 'o["prefill"] == [] and len(o["decode"]) == 1'
run 0 bench --synthetic tiny:Q8_0 -p 2 -n 0 -d 7,8 -r 1 --json
json 'o["decode"] == [] and len(o["prefill"]) == 1'

run 0 bench --synthetic tiny:Q8_0 -p 2 -n 2 -r 1 --no-limits --json
json 'o["limits"]["read_gb_per_s"] is None and o["decode"][0]["limit_fraction"] is None'

# a model that is kept, for a second look and as a table; one that is there stays as it is
run 0 bench --synthetic tiny:Q6_K -o "$scratch/kept.gguf" -p 2 -n 2 -r 1
out_has 'tiny:Q6_K: '
cksum < "$scratch/kept.gguf" > "$scratch/before"
run 1 bench --synthetic tiny:Q8_0 -o "$scratch/kept.gguf"
out_empty
err_lines 1
err_has "$scratch/kept.gguf: File exists"
cksum < "$scratch/kept.gguf" | cmp -s - "$scratch/before" || fail 'a file that was there has changed'
run 0 bench "$scratch/kept.gguf" -p 2,3 -n 4 -d 5 -b 2 -r 1
out_has 'prompt of 3 '
out_has '4 tokens behind 5, 2 together'
out_has 'limits: memory is read at'
out_has ' private, '
run 0 inspect "$scratch/kept.gguf" --json
json 'set(o["types"]) == {"Q6_K", "F32"} and o["parameters"] == 1312000'

# mistakes
run 2 bench
err_has 'needs either a MODEL or --synthetic'
run 2 bench model --synthetic tiny:Q8_0
err_has 'needs either a MODEL or --synthetic'
run 2 bench model --out file
err_has '--out keeps the model that --synthetic makes up'
run 1 bench "$scratch/missing.gguf"
err_has "hearth: $scratch/missing.gguf"
for what in '' tiny 'tiny:' ':Q8_0' tiny:Q9 huge:Q8_0 tiny:q8_0; do
    run 1 bench "--synthetic=$what"
    out_empty
    err_lines 1
    err_has "hearth: '$what' is no SHAPE:TYPE; shapes are tiny, "
done
for value in '' , 1, ,1 1,,2 x 1x -1 16777217 99999999999999999999; do
    run 2 bench model -p "$value"
    err_has 'hearth: --prompt takes whole numbers from 0 to 16777216, with commas between them'
done
run 2 bench model -b 0
err_has 'hearth: --batch takes whole numbers from 1 to 1024'
run 2 bench model -d 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31,32,33
err_has 'hearth: --depth takes at most 32 numbers'
mkdir "$scratch/plain" && : > "$scratch/plain/hearth"
XDG_CACHE_HOME=$scratch/plain
run 1 bench --synthetic tiny:Q8_0
err_has 'no file can be made in '
XDG_CACHE_HOME=$scratch/cache

# Ctrl-C: at once, in the measurement and while a file is written, which is then taken away
interrupt() { # WORDS...
    python3 - "$hearth" "$@" <<'END'
import signal, subprocess, sys, time
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
time.sleep(1)
start = time.monotonic()
process.send_signal(signal.SIGINT)
code = process.wait()
sys.exit(0 if code == 130 and time.monotonic() - start < 2 else 1)
END
}
interrupt bench "$scratch/kept.gguf" -p 0 -n 1000000 || fail 'Ctrl-C did not end a measurement'
interrupt bench --synthetic llama-8b:F32 -o "$scratch/large.gguf" || fail 'Ctrl-C did not end writing'
[ ! -e "$scratch/large.gguf" ] || fail 'half a file was left'

finish
