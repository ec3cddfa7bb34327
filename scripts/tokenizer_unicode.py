#!/usr/bin/env python3
r"""Writes src/model/pretokenizer_unicode.c: the kind of every code point from the Unicode Character
Database 15.1.0, the version that llama.cpp's tokenizers use (so equal tokens need this one, not
the newest).

    pip install unicodedata2==15.1.0
    scripts/tokenizer_unicode.py | clang-format --style=file --assume-filename=src/model/x.c \
        > src/model/pretokenizer_unicode.c
"""
import sys

import unicodedata2

KINDS = {"N": 1, "L": 2, "P": 3, "M": 4, "S": 5}
# PropList.txt, White_Space
SPACES = {*range(9, 14), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B),
          0x2028, 0x2029, 0x202F, 0x205F, 0x3000}

if unicodedata2.unidata_version != "15.1.0":
    sys.exit("unicodedata2 15.1.0 is needed, this is " + unicodedata2.unidata_version)


def kind(point):
    return 6 if point in SPACES else KINDS.get(unicodedata2.category(chr(point))[0], 0)


rows = []
for point in range(0x110000):
    if not rows or rows[-1] & 7 != kind(point):
        rows.append(point << 3 | kind(point))

print("""/* Made by scripts/tokenizer_unicode.py from the Unicode Character Database 15.1.0. */
#include "model/pretokenizer_internal.h"

/* Each row begins a range: its first code point << 3 | kind. */
static const uint32_t ranges[] = {""")
line = "   "
for row in rows:
    text = f" {row:#x},"
    if len(line) + len(text) > 100:
        print(line)
        line = "   "
    line += text
print(line)
print("""};

enum code_point_kind code_point_kind(uint32_t code_point)
{
    size_t low = 0, high = sizeof ranges / sizeof *ranges;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (ranges[middle] >> 3 <= code_point)
            low = middle;
        else
            high = middle;
    }
    return (enum code_point_kind)(ranges[low] & 7);
}""")
