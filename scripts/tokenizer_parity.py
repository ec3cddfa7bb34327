#!/usr/bin/env python3
"""Compares hearth's tokens with those of llama.cpp's llama-tokenize on generated text.

    scripts/tokenizer_parity.py --llama LLAMA_TOKENIZE --hearth TOKENIZER_DRIVER MODEL...
        [--bytes 1100000] [--seed 1] [--pre NAME...]

Each model is tokenized with and without special tokens and BOS. With --pre, each model is also
tokenized under each of the named pre-tokenizers: copies of the (vocabulary-only, byte-level) file
that only differ in tokenizer.ggml.pre. The text is the same for the same seed: twenty scripts, code,
emoji, runs of white space, NUL bytes, invalid UTF-8 (nothing above U+10FFFF, where llama.cpp aborts),
digits of many scripts, combining marks, contractions, line ends, texts of special tokens, and code
points from everywhere. Exit code 1 if anything differs.
"""
import argparse
import os
import random
import re
import struct
import subprocess
import sys
import tempfile

SAMPLES = [
    "The quick brown fox jumps over the lazy dog, doesn't it? I'm sure they've seen WORSE.",
    "Съешь же ещё этих мягких французских булок, да выпей чаю.",
    "Η γρήγορη καφέ αλεπού πηδάει πάνω από το τεμπέλικο σκυλί.",
    "我能吞下玻璃而不伤身体。天地玄黄，宇宙洪荒；日月盈昃！",
    "いろはにほへと ちりぬるを。アイウエオ、ｶﾀｶﾅ「日本語」",
    "다람쥐 헌 쳇바퀴에 타고파. 키스의 고유조건은 ㄱㄴㄷ",
    "نص حكيم له سر قاطع وذو شأن عظيم، مكتوب على ثوب أخضر؟",
    "דג סקרן שט בים מאוכזב ולפתע מצא לו חברה",
    "ऋषियों को सताने वाले दुष्ट राक्षसों के राजा रावण का सर्वनाश।",
    "আমি কাচ খেতে পারি, তাতে আমার কোনো ক্ষতি হয় না।",
    "நான் கண்ணாடி சாப்பிடுவேன், அதனால் எனக்கு ஒரு கேடும் வராது.",
    "నేను గాజు తినగలను మరియు అలా చేసినా నాకు ఏమి ఇబ్బంది లేదు",
    "ฉันกินกระจกได้ แต่มันไม่ทำให้ฉันเจ็บ ๑๒๓",
    "ຂ້ອຍກິນແກ້ວໄດ້ ໂດຍທີ່ມັນບໍ່ໄດ້ເຮັດໃຫ້ຂ້ອຍເຈັບ",
    "កាន់តែពិសេសអាចខលចេញ ខ្ញុំអាចញុំកញ្ចក់បាន",
    "ကျွန်တော် ကျွန်မ မှန်စားနိုင်တယ်။",
    "მინას ვჭამ და არა მტკივა. ᲛᲘᲜᲐᲡ",
    "Կրնամ ապակի ուտել և ինծի անհանգիստ չըներ։",
    "ሰማይ አይታረስ ንጉሥ አይከሰስ።",
    "ᏣᎳᎩ ᎦᏬᏂᎯᏍᏗ ꭰꭱꭲ 𐐷𐐴 𞤀𞤣𞤤",
    "Tiếng Việt rất khó: ươ ợ ẫ; Łódź, naïve façade, Straße, İstanbul ıI ŉ ſs Kelvin: K",
    "šťastný ďábel, žluťoučký kůň úpěl ĎÁBELSKÉ ódy",
]
CODE = [
    "for (int i = 0; i < n; ++i) {\n\tsum += a[i] * b[i];  // dot\n}\n",
    "def f(x, *, y=3):\n    return {k: v**2 for k, v in x.items()} or None\n",
    "<div class=\"a-b\">&nbsp;<br/></div>\r\n<!-- x --><table><tr><td>1</td></tr></table>\r\n",
    "SELECT * FROM t WHERE a != 'it''s' AND b >= 1e-9;\n", "#include <stdio.h>\n\n\n",
    "https://example.com/a?b=c&d=%20#e", "{\"a\": [1, 2.5, null], \"b\": \"\\u00e9\"}",
    "x = a->b.c::d<e>(f)||!g&&h^~i|j@k$l`m`\\n\\t", "$$\\sum_{i=1}^{n} x_i^2$$ (a+b)^{-1}",
    "IMGIMGABCZ <sentinel:12> IMGIMGIIIIZ",
]
EMOJI = ["😀", "👩‍👩‍👧‍👦", "🏳️‍🌈", "👍🏽", "🇩🇪🇫🇷", "😶‍🌫️", "✅", "☃️", "1️⃣", "🦙", "🧑🏿‍🚀", "❤️‍🔥"]
SPACES = [" ", "  ", "   ", "\t", "\n", "\r\n", "\n\n", "\r", "\v", "\f", "\u00a0", "\u3000",
          "\u2009", "\u2028", "\u0085", "\u1680", "\u202f", " \n", "\n ", "\t\t", "\u200b", "\ufeff"]
CONTRACTIONS = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'T", "'Re", "'vE", "'M", "'LL",
                "'D", "’s", "'ſ", "''", "' ", "'", "'x", "'l", "'r", "'v"]
DIGITS = "0123456789٠١٢٣٤۵۶०१२৩৪๕๖０１２３Ⅷⅻ½¾²³①⑩一二𝟘𝟙𞥐"
SPECIAL = ["<s>", "</s>", "<unk>", "<pad>", "<bos>", "<eos>", "<|endoftext|>", "<|im_start|>",
           "<|im_end|>", "<|begin_of_text|>", "<|eot_id|>", "<start_of_turn>", "<end_of_turn>",
           "<|user|>", "<|assistant|>", "<|end|>", "<|system|>", "<fim_prefix>", "<fim-middle>",
           "<reponame>", "<|channel>", "<turn|>", "<|tool_response>", "<unused1>", "<mask>",
           "[PAD]", "[INST]", "<|START_OF_TURN_TOKEN|>", "<｜begin▁of▁sentence｜>",
           "<｜fim▁hole｜>", "<0x0A>", "<|reserved_special_token_7|>", "<table>", "▁", "▁▁▁", "Ġ",
           "<|placeholder1|>", ">>TITLE<<", "<|im_", "end|>", "<|", "|>", "<h1>", "<file_sep>",
           "<|fim_pad|>", "<extra_id_3>", "[EMPTY_5]"]
INVALID = [b"\xff", b"\xfe\xff", b"\x80", b"\xbf\xbf", b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98",
           b"\xc0\x80", b"\xc1\xbf", b"\xe0\x80\xaf", b"\xed\xa0\x80", b"\xed\xbf\xbf",
           b"\xf0\x80\x80\x80", b"\xc3(", b"\xe2(\xa1", b"\xf0(\x8c\xbc", b"\xe2\x96",
           b"\xf0 ", b"\xc2 ", b"\xf8\x88\x80\x80\x80", b"\xfc", b"\x00", b"\x00\x00\x00", b"\x01",
           b"\x7f", b"\x1b[0m", b"\xe0\x81\x81", b"\xc1\xb3"]
# What must not come together by chance: a lead of more than U+10FFFF with three continuations.
TOO_HIGH = re.compile(rb"(\xf4[\x90-\xbf]|[\xf5-\xf7][\x80-\xbf])(?=[\x80-\xbf]{2})")


def any_code_point(rng):
    top = rng.choice([0x100, 0x800, 0x3000, 0x10000, 0x10000, 0x20000, 0x32000, 0x110000])
    point = rng.randrange(0x80, top)
    return "" if 0xD800 <= point < 0xE000 else chr(point)


def word(rng):
    sample = rng.choice(SAMPLES)
    begin = rng.randrange(len(sample))
    return sample[begin:begin + rng.randrange(1, 12)]


def item(rng):
    kind = rng.randrange(16)
    if kind == 0:
        return rng.choice(SAMPLES).encode()
    if kind == 1:
        return rng.choice(CODE).encode()
    if kind == 2:
        return "".join(rng.choices(EMOJI, k=rng.randrange(1, 4))).encode()
    if kind == 3:
        return "".join(rng.choices(SPACES, k=rng.randrange(1, 6))).encode()
    if kind == 4:
        return (rng.choice(" \n\t\r") * rng.randrange(1, rng.choice([4, 40, 600]))).encode()
    if kind == 5:
        return (word(rng) + rng.choice(CONTRACTIONS) + rng.choice(["", " ", word(rng)])).encode()
    if kind == 6:
        return "".join(rng.choices(DIGITS, k=rng.randrange(1, 14))).encode()
    if kind == 7:
        return str(rng.randrange(10 ** rng.randrange(1, 18))).encode()
    if kind == 8:
        return b"".join(rng.choices(INVALID, k=rng.randrange(1, 4)))
    if kind == 9:
        return "".join(rng.choices(SPECIAL, k=rng.randrange(1, 4))).encode()
    if kind == 10:
        return "".join(any_code_point(rng) for _ in range(rng.randrange(1, 8))).encode()
    if kind == 11:
        return "".join(c + rng.choice(["", "\u0301", "\u0308\u0323", "\u20dd", "\u0903"])
                       for c in word(rng)).encode()
    if kind == 12:
        return bytes(rng.randrange(32, 127) for _ in range(rng.randrange(1, 10)))
    if kind == 13:
        return (rng.choice("aAzéß.,!-=#_1 語") * rng.randrange(1, 70)).encode()
    if kind == 14:
        return rng.choice([str.upper, str.title, str.lower])(word(rng)).encode()
    return rng.choice(["?", "!", " .", ",", "…", "。", "，", "!?", "...", "--", "\u2014", "«", "»"]).encode()


def make_text(seed, size):
    rng = random.Random(seed)
    text = bytearray()
    while len(text) < size:
        text += item(rng)
        if rng.random() < 0.4:
            text += b" "
        if rng.random() < 0.02:
            text += b"\n"
    return TOO_HIGH.sub(b"?", bytes(text))


def with_pre(path, name, folder):
    """A copy of a vocabulary-only file with another tokenizer.ggml.pre."""
    data = open(path, "rb").read()
    if struct.unpack_from("<Q", data, 8)[0] != 0:
        sys.exit(f"{path}: --pre needs a file without tensors")
    found = re.search(re.escape(struct.pack("<Q", 18) + b"tokenizer.ggml.pre\x08\0\0\0"), data)
    size = struct.unpack_from("<Q", data, found.end())[0]
    changed = (data[:found.end()] + struct.pack("<Q", len(name)) + name.encode() +
               data[found.end() + 8 + size:] + b"\0" * 32)
    copy = os.path.join(folder, name + ".gguf")
    open(copy, "wb").write(changed)
    return copy


def run(command, stdin=None):
    done = subprocess.run(command, input=stdin, capture_output=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: exit code {done.returncode}\n" +
                 done.stderr.decode(errors="replace")[-2000:])
    return [int(x) for x in re.findall(rb"\d+", done.stdout)]


def compare(options, path, label, text, text_file):
    failed = False
    for flags in ([], ["special"], ["bos"], ["special", "bos"]):
        llama = [options.llama, "-m", path, "-f", text_file, "--ids", "--no-escape",
                 "--log-disable"]
        hearth = [options.hearth, path]
        for flag in flags:
            llama.append("--no-parse-special" if flag == "special" else "--no-bos")
            hearth.append("--no-" + flag)
        theirs, ours = run(llama), run(hearth, text)
        equal = theirs == ours
        failed |= not equal
        print(f"{label:36} {'no-' + '/'.join(flags) if flags else 'all':16} "
              f"{len(theirs):8} tokens  {'equal' if equal else 'DIFFERENT'}", flush=True)
        if not equal:
            at = next((i for i, (a, b) in enumerate(zip(theirs, ours)) if a != b),
                      min(len(theirs), len(ours)))
            print(f"  at {at}: theirs {theirs[max(0, at - 3):at + 6]}, "
                  f"ours {ours[max(0, at - 3):at + 6]}")
    return failed


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--llama", required=True, help="llama-tokenize")
    parser.add_argument("--hearth", required=True, help="tokenizer_driver")
    parser.add_argument("--bytes", type=int, default=1100000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pre", nargs="*", default=[])
    parser.add_argument("models", nargs="+")
    options = parser.parse_intermixed_args()
    text = make_text(options.seed, options.bytes)
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        text_file = os.path.join(folder, "text")
        open(text_file, "wb").write(text)
        for path in options.models:
            label = os.path.basename(path)
            if not options.pre:
                failed |= compare(options, path, label, text, text_file)
            for name in options.pre:
                failed |= compare(options, with_pre(path, name, folder), label + " " + name, text,
                                  text_file)
    sys.exit(1 if failed else 0)


main()
