#!/usr/bin/env python3
"""How far hearth's logits are from the truth, next to how far llama.cpp's are. By hand, not a test:
it needs a build of llama.cpp, and minutes.

    accuracy.py types --driver build/tests/infer/logits_driver --llama LLAMA_CPP_BUILD
        Random models with all matrices of one type. The truth is the same weights as F32 in
        llama.cpp; the figure is the distance of a row of logits from it, relative to its length,
        root mean square over all positions.

    accuracy.py kl --model MODEL --text FILE --hearth build/hearth --llama LLAMA_CPP_BUILD
                   [--type TYPE]...
        A real model and a text. The truth is the model expanded to F32, in llama.cpp with an F16 KV
        cache; the figures are the mean KL divergence from it and the perplexity. With --type the
        model is requantized first, each --type a row; `ffn_down=TYPE` does so with these matrices
        alone (the others become Q8_0), for types that the other matrices' rows do not fit.

Both want hearth to be at most 1.1 times as far away as llama.cpp; kl also wants a perplexity that
differs by less than 0.5 % from the truth's, and shows how much it differs from llama.cpp's of the
same file. A row that misses says so, and the exit code is 1."""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

RATIO_MAX = 1.1
PERPLEXITY_MAX = 0.005


def run(*command, stdin=None):
    result = subprocess.run(command, input=stdin, text=True, capture_output=True)
    if result.returncode != 0:
        tail = (result.stdout + result.stderr)[-2000:]
        sys.exit(f"{' '.join(command)}\nfailed with {result.returncode}:\n{tail}")
    return result.stdout + result.stderr


# ---- types ----


def build_golden_logits(args, folder):
    source = args.llama_source
    if not source:
        with open(os.path.join(args.llama, "CMakeCache.txt")) as cache:
            source = re.search(r"^CMAKE_HOME_DIRECTORY:INTERNAL=(.*)$", cache.read(), re.M)[1]
    libraries = os.path.join(os.path.abspath(args.llama), "bin")
    program = os.path.join(folder, "golden_logits")
    run(os.environ.get("CC", "cc"), "-std=c11", "-O1", f"-I{source}/include",
        f"-I{source}/ggml/include", os.path.join(HERE, "golden_logits.c"), "-o", program,
        f"-L{libraries}", "-lllama", "-lggml", "-lggml-base", f"-Wl,-rpath,{libraries}")
    return program


def logits(program, model, folder, prompt, tokens):
    out = os.path.join(folder, "logits")
    run(program, model, out, str(prompt), stdin=tokens)
    return np.fromfile(out, "<f4").reshape(len(tokens.split()), -1).astype(np.float64)


def distances(got, truth):
    return np.linalg.norm(got - truth, axis=1) / np.linalg.norm(truth, axis=1)


def compare_types(args):
    import golden_models

    fine = True
    print(f"{'type':8s} {'llama.cpp':>10s} {'hearth':>10s} {'ratio':>7s}")
    with tempfile.TemporaryDirectory() as folder:
        golden = build_golden_logits(args, folder)
        for name in golden_models.TYPES:
            theirs, ours = [], []
            for seed in range(1, args.seeds + 1):
                golden_models.write_type_model(folder, name, seed)
                golden_models.write_tokens(os.path.join(folder, "tokens"), seed, 256, 80)
                with open(os.path.join(folder, "tokens")) as file:
                    tokens = file.read()
                model = os.path.join(folder, f"{name}-{seed}")
                truth = logits(golden, model + "-f32.gguf", folder, 64, tokens)
                theirs.append(distances(logits(golden, model + ".gguf", folder, 64, tokens), truth))
                got = logits(args.driver, model + ".gguf", folder, 64, tokens)
                ours.append(distances(got, truth))
                os.remove(model + ".gguf")
                os.remove(model + "-f32.gguf")
            a, b = (float(np.sqrt(np.mean(np.square(x)))) for x in (theirs, ours))
            # F32 and the like: llama.cpp against itself is no distance at all
            ratio = b / a if a > 0 else float("nan")
            bad = ratio > RATIO_MAX
            fine &= not bad
            print(f"{name:8s} {a:10.3e} {b:10.3e} {ratio:7.3f}{'  too far' if bad else ''}",
                  flush=True)
    return fine


# ---- real models ----


def number(pattern, text):
    found = re.search(pattern, text)
    if not found:
        sys.exit(f"llama-perplexity printed nothing like {pattern}")
    return float(found[1])


def requantize(quantize, model, wanted, folder):
    """The model in another type, and the name of the row."""
    out = os.path.join(folder, "requantized.gguf")
    if "=" in wanted:
        run(quantize, "--allow-requantize", "--pure", "--tensor-type", wanted, model, out, "Q8_0")
    else:
        run(quantize, "--allow-requantize", "--pure", model, out, wanted)
    return out


def compare_model(args, tool, model, name, folder):
    base, expanded = os.path.join(folder, "base"), os.path.join(folder, "f32.gguf")
    run(tool("quantize"), "--allow-requantize", model, expanded, "F32")
    # -nr: the weights as they are in the file; kernels for repacked ones do not work everywhere
    common = ["-f", args.text, "-c", str(args.context), "-t", str(args.threads), "-nr"]
    run(tool("perplexity"), "-m", expanded, *common, "--kl-divergence-base", base)
    os.remove(expanded)
    text = run(tool("perplexity"), "-m", model, *common, "--kl-divergence-base", base,
               "--kl-divergence")
    kl = number(r"Mean\s+KLD:\s+(-?[0-9.]+)", text)
    perplexity = number(r"Mean PPL\(Q\)\s+:\s+([0-9.]+)", text)
    truth = number(r"Mean PPL\(base\)\s+:\s+([0-9.]+)", text)
    print(f"{name:18s} {truth:9.4f} {perplexity:9.4f} {kl:10.6f}", end="", flush=True)
    if not args.hearth:
        print(flush=True)
        return True
    command = [args.hearth, "perplexity", model, args.text, "-c", str(args.context), "--kl", base]
    ours = json.loads(subprocess.run([*command, "--json"], stdout=subprocess.PIPE, check=True,
                                     text=True).stdout)
    ratio = ours["kl_divergence"] / kl if kl else float("nan")
    change = ours["perplexity"] / truth - 1
    bad = ratio > RATIO_MAX or not abs(change) < PERPLEXITY_MAX
    print(f" {ours['perplexity']:9.4f} {ours['kl_divergence']:10.6f} {ratio:7.3f}"
          f" {ours['perplexity'] / perplexity - 1:+8.3%} {change:+8.3%}{'  too far' if bad else ''}", flush=True)
    return not bad


def compare_kl(args):
    def tool(name):
        return os.path.join(args.llama, "bin", "llama-" + name)

    fine = True
    print(f"{'':18s} {'F32':>9s} {'llama.cpp':>20s} {'hearth':>20s} {'KL':>7s} {'ppl from':>8s}")
    print(f"{'type':18s} {'ppl':>9s} {'ppl':>9s} {'KL':>10s} {'ppl':>9s} {'KL':>10s} {'ratio':>7s} "
          f"{'theirs':>8s} {'truth':>8s}")
    with tempfile.TemporaryDirectory(dir=args.scratch) as folder:
        if not args.type:
            return compare_model(args, tool, args.model, "as it is", folder)
        expanded = os.path.join(folder, "source.gguf")
        run(tool("quantize"), "--allow-requantize", args.model, expanded, "F32")
        for wanted in args.type:
            model = requantize(tool("quantize"), expanded, wanted, folder)
            fine &= compare_model(args, tool, model, wanted, folder)
    return fine


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    types = commands.add_parser("types")
    types.add_argument("--driver", required=True, help="the program logits_driver of the tests")
    types.add_argument("--llama", required=True, help="a build of llama.cpp")
    types.add_argument("--llama-source", help="its source, where it is not where it was built from")
    types.add_argument("--seeds", type=int, default=3, help="models of each type")
    kl = commands.add_parser("kl")
    kl.add_argument("--model", required=True)
    kl.add_argument("--text", required=True, help="about 20 KB of plain text")
    kl.add_argument("--llama", required=True, help="a build of llama.cpp")
    kl.add_argument("--hearth", help="the program; without it only llama.cpp is measured")
    kl.add_argument("--type", action="append", help="requantize into it first")
    kl.add_argument("--context", type=int, default=512)
    kl.add_argument("--threads", type=int, default=os.cpu_count())
    kl.add_argument("--scratch", help="a folder for files of a few times the model's size")
    args = parser.parse_args()
    sys.exit(0 if (compare_types if args.command == "types" else compare_kl)(args) else 1)


if __name__ == "__main__":
    main()
