#!/bin/sh
# bench/compare: every engine is measured in every round, and what the table and the chart say is
# what the samples say. The peers are scripts here that print what a llama-bench prints.
. "$(dirname "$0")/common.sh"
need_python
compare=$here/../../bench/compare
XDG_CACHE_HOME=$scratch/cache
export XDG_CACHE_HOME
run 0 bench --synthetic tiny:Q4_K_M -o "$scratch/tiny.gguf" -p 2 -n 2 -r 1 --no-limits

mkdir "$scratch/llama" "$scratch/ik"
for peer in llama ik; do
    cat > "$scratch/$peer/llama-bench" <<END
#!/bin/sh
[ "\$1" = --help ] && echo '--repack <0|1>' && exit
echo "$peer \$*" >> "$scratch/log"
case "\$*" in
*' -d 8'* | *'-gp 8,'*) sleep 0.3 ;; # memory is looked at
esac
case "\$*" in
*' -p 8 -n 0'*) echo '[{"avg_ts": 1000.0, "n_threads": 2}]' ;;
*'--repack 0'*) echo '[{"avg_ts": 5.0, "n_threads": 2}]' ;;
*) echo '[{"avg_ts": 7.0, "n_threads": 2}, {"avg_ts": 10.0, "n_threads": 2}]' ;;
esac
END
    chmod +x "$scratch/$peer/llama-bench"
done
python3 "$compare" --hearth "$hearth" --llama "$scratch/llama" --ik "$scratch/ik" -p 8 -d 0,5 -n 3 \
    -r 2 -t 2 --kv q8_0 -o "$scratch/result" "$scratch/tiny.gguf" > "$scratch/out" 2> "$scratch/err" ||
    fail 'bench/compare failed'
cmp -s "$scratch/out" "$scratch/result.md" || fail 'the table is not what was printed'
[ "$(grep -c '^| tiny, ' "$scratch/out")" -eq 4 ] || fail 'the table has not three tests and memory'
out_has '| tiny, prompt of 8 | **'
out_has '| tiny, decode behind 5 | **'
out_has '| tiny, private memory with 11 tokens | **'
out_has '| llama.cpp, no repack |'
out_has 'medians of 2 rounds'

python3 - "$scratch" <<'END' || fail 'the results are not what was measured'
import json, statistics, sys
import xml.etree.ElementTree as tree
scratch = sys.argv[1]
data = json.load(open(scratch + "/result.json"))
engines = ["hearth", "llama.cpp", "llama.cpp, no repack", "ik_llama.cpp"]
assert data["engines"] == engines
seen = [(s["round"], s["test"], s["engine"]) for s in data["samples"]]
assert sorted(seen) == sorted((r, t, e) for r in (0, 1) for e in engines
                              for t in ("prompt of 8", "decode", "decode behind 5"))
assert [s["engine"] for s in data["samples"][:4]] == engines            # in turn
assert [s["engine"] for s in data["samples"][12:16]] == engines[1:] + engines[:1]
log = open(scratch + "/log").read().split("\n")
assert sum("llama " in l and "--repack 0" in l for l in log) == 7       # 2 rounds of 3, and memory
assert any(l.startswith("ik ") and "-gp 5,3" in l for l in log)
assert any(l.startswith("llama ") and "-p 0 -n 3 -d 5" in l for l in log)
assert all("-ctk q8_0 -ctv q8_0 -fa " in l and "-t 2" in l for l in log if l)
assert all(s["tokens_per_s"] == 10 for s in data["samples"]
           if s["engine"] == "ik_llama.cpp" and s["test"] != "prompt of 8")
own = [s for s in data["samples"] if s["engine"] == "hearth" and s["test"] == "decode"]
ratio = statistics.median(s["tokens_per_s"] for s in own) / 5
row = next(l for l in open(scratch + "/result.md") if l.startswith("| tiny, decode |"))
assert f"× {ratio:.2f} |" in row, (ratio, row)
# a tiny model may be done before it is looked at
assert all(m["private_mib"] > 0 for m in data["memory"] if m["engine"] != "hearth")
picture = tree.parse(scratch + "/result.svg").getroot()                  # well-formed
bars = [e for e in picture.iter("{http://www.w3.org/2000/svg}rect") if e.get("height") == "13"]
assert len(bars) == 12
END

python3 "$compare" --render "$scratch/result.json" > "$scratch/again" || fail '--render failed'
cmp -s "$scratch/again" "$scratch/out" || fail '--render shows something else'
finish
