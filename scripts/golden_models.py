#!/usr/bin/env python3
"""Writes small models with random weights, with the Python packages numpy and gguf.

    scripts/golden_models.py logits DIR        the models of tests/golden/logits, and tokens.txt
    scripts/golden_models.py types DIR [SEED]  a model of each tensor type and its F32 twin

The same seed writes the same bytes. A vocabulary is byte-level BPE of printable characters, so that
every reader can open the files; what the models say means nothing. Weights are as large as make
activations keep their size and attention look at some tokens much more than at others, and norms
and biases are no ones and zeros, so that a part that is left out shows in the logits."""

import argparse
import os
from dataclasses import dataclass, field

import gguf
import numpy as np

PROMPT, DECODE = 64, 16
VOCABULARY = 48


@dataclass
class Case:
    name: str
    architecture: str = "llama"
    embedding: int = 32
    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    head_size: int = 8
    ff: int = 40
    vocabulary: int = VOCABULARY
    tied: bool = True
    biases: tuple = ()  # matrices of a layer that have one; "output" for the last matrix
    keys: dict = field(default_factory=dict)  # behind the architecture's name
    rope_freqs: bool = False
    gain: float = 1.1  # of queries and keys: how uneven attention is

    @property
    def gemma(self):
        return self.architecture == "gemma3"


QKV = ("attn_q", "attn_k", "attn_v")
ALL = QKV + ("attn_output", "ffn_gate", "ffn_up", "ffn_down")

CASES = [
    Case("llama", ff=40),
    Case("llama-untied-mqa", embedding=24, kv_heads=1, head_size=16, ff=33, tied=False),
    Case("llama-biases", embedding=16, ff=80, biases=ALL),
    Case("llama-rope-freqs", heads=3, kv_heads=3, head_size=16, ff=24, embedding=24,
         rope_freqs=True, keys={"rope.freq_base": 500000.0}),
    Case("llama-linear", heads=4, kv_heads=4, ff=24,
         keys={"rope.scaling.type": "linear", "rope.scaling.factor": 4.0}),
    Case("llama-yarn", embedding=24, heads=2, kv_heads=1, head_size=32, ff=24,
         keys={"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0,
               "rope.scaling.original_context_length": 512}),
    Case("mistral", embedding=40, kv_heads=1, head_size=16, ff=28, tied=False,
         keys={"rope.freq_base": 1000000.0}),
    Case("qwen2", "qwen2", biases=QKV, keys={"rope.freq_base": 1000000.0}),
    Case("qwen2-output-bias", "qwen2", embedding=24, heads=3, kv_heads=1, ff=48, tied=False,
         biases=QKV + ("output",)),
    Case("qwen3", "qwen3", embedding=24, head_size=16, ff=36, keys={"rope.freq_base": 1000000.0}),
    Case("qwen3-yarn", "qwen3", embedding=16, head_size=16, heads=4, kv_heads=4, ff=24, tied=False,
         keys={"rope.scaling.type": "yarn", "rope.scaling.factor": 2.0,
               "rope.scaling.original_context_length": 256}),
    Case("gemma3", "gemma3", embedding=16, layers=7, heads=2, kv_heads=1, head_size=16, ff=24,
         gain=0.9,
         keys={"attention.sliding_window": 16, "rope.freq_base": 1000000.0}),
    Case("gemma3-pattern", "gemma3", embedding=24, layers=4, heads=3, kv_heads=3, head_size=8,
         ff=40,
         keys={"attention.sliding_window": 16, "rope.freq_base": 1000000.0,
               "rope.freq_base_swa": 20000.0, "rope.scaling.type": "linear",
               "rope.scaling.factor": 8.0, "final_logit_softcapping": 4.0,
               "attention.sliding_window_pattern": [False, True, True, False]}),
    Case("gemma3-partial-rope", "gemma3", embedding=16, layers=3, heads=4, kv_heads=2, head_size=16,
         ff=32, keys={"rope.dimension_count": 8}),
]

CONTEXT = 2048

TYPES = "F32 F16 BF16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_NL IQ4_XS MXFP4".split()

# Where a block keeps its binary16 scales, and how large they are to each other: offsets of a
# block's minimum against its step are such that weights are about zero on average.
SCALES = {
    "Q4_0": {0: 1}, "Q4_1": {0: 1, 2: -7.5}, "Q5_0": {0: 1}, "Q5_1": {0: 1, 2: -15.5},
    "Q8_0": {0: 1}, "Q2_K": {80: 1, 82: 1.5}, "Q3_K": {108: 1}, "Q4_K": {0: 1, 2: 7.5},
    "Q5_K": {0: 1, 2: 15.5}, "Q6_K": {208: 1}, "IQ4_NL": {0: 1}, "IQ4_XS": {0: 1},
}

# ---- tensors ----


def vector(rng, size, mean):
    return (mean * (1.0 + 0.25 * rng.standard_normal(size))).astype(np.float32)


def matrix(rng, rows, columns, gain=1.0):
    return (rng.standard_normal((rows, columns)) * gain / np.sqrt(columns)).astype(np.float32)


def layer_tensors(rng, case, prefix):
    """Name, values and gain of one layer's tensors, in the order of the file."""
    q, kv = case.heads * case.head_size, case.kv_heads * case.head_size
    shapes = {
        "attn_q": (q, case.embedding), "attn_k": (kv, case.embedding), "attn_v": (kv, case.embedding),
        "attn_output": (case.embedding, q), "ffn_gate": (case.ff, case.embedding),
        "ffn_up": (case.ff, case.embedding), "ffn_down": (case.embedding, case.ff),
    }
    norms = {"attn_norm": case.embedding, "ffn_norm": case.embedding}
    if case.architecture in ("qwen3", "gemma3"):
        norms |= {"attn_q_norm": case.head_size, "attn_k_norm": case.head_size}
    if case.gemma:
        norms |= {"post_attention_norm": case.embedding, "post_ffw_norm": case.embedding}
    for name, size in norms.items():
        # where queries and keys are normed, the norms and not the matrices make attention uneven;
        # a norm behind a block says how much the block adds
        mean = case.gain if name in ("attn_q_norm", "attn_k_norm") else 1.0
        mean = 0.25 if name.startswith("post_") else mean
        yield f"{prefix}{name}.weight", vector(rng, size, mean)
    for name, (rows, columns) in shapes.items():
        gain = case.gain if name in ("attn_q", "attn_k") else 1.0
        yield f"{prefix}{name}.weight", matrix(rng, rows, columns, gain)
        if name in case.biases:
            yield f"{prefix}{name}.bias", matrix(rng, 1, rows, 0.5 * np.sqrt(rows))[0]


def tensors(rng, case):
    # Embeddings of about the size of what a layer adds, so that rounding is not amplified from
    # layer to layer; the last norm brings the logits of a tied matrix to a deviation of about 2.
    size = 1.0 if case.gemma else np.sqrt(case.embedding)
    yield "token_embd.weight", matrix(rng, case.vocabulary, case.embedding, size)
    mean = 2.0 / size if case.tied else 1.0
    yield "output_norm.weight", vector(rng, case.embedding, mean)
    if not case.tied:
        yield "output.weight", matrix(rng, case.vocabulary, case.embedding, 2.0)
    if "output" in case.biases:
        yield "output.bias", matrix(rng, 1, case.vocabulary, 0.5 * np.sqrt(case.vocabulary))[0]
    if case.rope_freqs:
        # as Llama 3.1 has them: ones, then a ramp, then the factor
        yield "rope_freqs.weight", np.interp(np.arange(case.head_size // 2), [1, 5], [1, 8]).astype(
            np.float32)
    for layer in range(case.layers):
        yield from layer_tensors(rng, case, f"blk.{layer}.")


# ---- files ----


def add_tokenizer(writer, vocabulary):
    characters = [chr(c) for c in range(ord("!"), ord("~") + 1)]
    tokens = characters[ord("A") - ord("!"):][: vocabulary - 3]
    tokens += [f"w{i}" for i in range(vocabulary - 3 - len(tokens))] + ["AB", "<bos>", "<eos>"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_merges(["A B"])
    writer.add_token_types([gguf.TokenType.NORMAL] * (vocabulary - 2) + [gguf.TokenType.CONTROL] * 2)
    writer.add_bos_token_id(vocabulary - 2)
    writer.add_eos_token_id(vocabulary - 1)


def add_key(writer, name, value):
    if isinstance(value, str):
        writer.add_string(name, value)
    elif isinstance(value, list):
        writer.add_array(name, value)
    elif isinstance(value, float):
        writer.add_float32(name, value)
    else:
        writer.add_uint32(name, value)


def open_writer(path, case):
    writer = gguf.GGUFWriter(path, case.architecture)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(case.embedding)
    writer.add_block_count(case.layers)
    writer.add_feed_forward_length(case.ff)
    writer.add_head_count(case.heads)
    writer.add_head_count_kv(case.kv_heads)
    if case.head_size * case.heads != case.embedding or case.architecture in ("qwen3", "gemma3"):
        writer.add_key_length(case.head_size)
        writer.add_value_length(case.head_size)
    writer.add_layer_norm_rms_eps(1e-5)
    for name, value in case.keys.items():
        add_key(writer, f"{case.architecture}.{name}", value)
    add_tokenizer(writer, case.vocabulary)
    return writer


def close_writer(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_tokens(path, seed, vocabulary, count):
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, vocabulary, count)
    # some repetitions, that attention finds what it has seen
    ids[count // 2 : count // 2 + 8] = ids[3:11]
    with open(path, "w") as out:
        out.write(" ".join(map(str, ids)) + "\n")


def write_logits_models(folder):
    for number, case in enumerate(CASES):
        rng = np.random.default_rng(1000 + number)
        writer = open_writer(os.path.join(folder, case.name + ".gguf"), case)
        for name, values in tensors(rng, case):
            writer.add_tensor(name, values)
        close_writer(writer)
    write_tokens(os.path.join(folder, "tokens.txt"), 1, VOCABULARY, PROMPT + DECODE)


# ---- a model of each type ----


def put_scales(rng, name, blocks, size):
    """Sets the scales of blocks to about `size`, a third up or down, of either sign: the integers of
    many types are not zero on average."""
    spread = size * np.exp(rng.normal(0.0, 0.3, len(blocks)))
    if name == "MXFP4":
        blocks[:, 0] = np.clip(np.round(np.log2(spread)) + 128, 1, 250).astype(np.uint8)
    spread *= rng.choice([-1.0, 1.0], len(blocks))
    for at, part in SCALES.get(name, {}).items():
        blocks[:, at : at + 2] = (spread * part).astype("<f2").view(np.uint8).reshape(-1, 2)


def quantized_like(rng, name, values):
    """Random blocks of a type with the shape and the standard deviation of `values`."""
    kind = gguf.GGMLQuantizationType[name]
    if name in ("F32", "F16", "BF16"):
        return gguf.quants.quantize(values, kind)
    block_elements, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    blocks = rng.integers(0, 256, (values.size // block_elements, block_bytes), dtype=np.uint8)
    state = rng.bit_generator.state
    put_scales(rng, name, blocks, 1.0)
    deviation = gguf.quants.dequantize(blocks, kind).std()
    rng.bit_generator.state = state
    put_scales(rng, name, blocks, values.std() / deviation)
    return blocks.reshape(values.shape[0], -1)


def write_type_model(folder, name, seed):
    case = Case(name, embedding=256, layers=4, heads=4, kv_heads=2, head_size=64, ff=512,
                vocabulary=256, tied=False, gain=1.3)
    kind = gguf.GGMLQuantizationType[name]
    rng = np.random.default_rng(seed)
    model = open_writer(os.path.join(folder, f"{name}-{seed}.gguf"), case)
    twin = open_writer(os.path.join(folder, f"{name}-{seed}-f32.gguf"), case)
    for tensor, values in tensors(rng, case):
        if values.ndim == 1:
            model.add_tensor(tensor, values)
            twin.add_tensor(tensor, values)
            continue
        data = quantized_like(rng, name, values)
        model.add_tensor(tensor, data, raw_dtype=None if name in ("F32", "F16") else kind)
        twin.add_tensor(tensor, gguf.quants.dequantize(data, kind).astype(np.float32))
    close_writer(model)
    close_writer(twin)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["logits", "types"])
    parser.add_argument("folder")
    parser.add_argument("seed", nargs="?", type=int, default=1)
    args = parser.parse_args()
    os.makedirs(args.folder, exist_ok=True)
    if args.what == "logits":
        write_logits_models(args.folder)
        return
    for name in TYPES:
        write_type_model(args.folder, name, args.seed)
    write_tokens(os.path.join(args.folder, "tokens.txt"), args.seed, 256, PROMPT + DECODE)


if __name__ == "__main__":
    main()
