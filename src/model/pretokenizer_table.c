/* The pre-tokenizers by name: facts of the models' tokenizer.json files, in the reading that
 * llama.cpp (src/llama-vocab.cpp) gives them.
 *
 * Regular expressions are over the alphabet of classes (pretokenizer_internal.h): \xd1 is a number,
 * \xd2 a letter, \xd3 punctuation, \xd4 a mark, \xd5 a symbol beyond ASCII. Each is linear: what
 * overlaps with what follows it is a single-character repeat. */
#include "model/pretokenizer_internal.h"

#define N "0-9\\xd1"
#define L "A-Za-z\\xd2"
#define P "!-#%-*,-/:;?@\\[-\\]_{}\\xd3"
#define M "\\xd4"
#define S "$+<->^`|~\\xd5"
#define UPPER "A-Z\\xd2" /* and letters without case that is known here */
#define LOWER "a-z\\xd2"

#define CONTRACTION "'(?:[sStTmMdD]|[rR][eE]|[vV][eE]|[lL][lL])"
#define PREFIX "[^\\r\\n" L N "]?"
#define WORD PREFIX "[" L "]+"
#define OTHERS " ?[^\\s" L N "]+"
#define SPACES "\\s+(?!\\S)|\\s+"
#define NEWLINES "\\s*[\\r\\n]+|" SPACES
/* Words that begin with capitals, words that are capitals; `more` is a class that may be in both.
 */
#define CASED(more, suffix)                                                                        \
    PREFIX "[" UPPER more "]*[" LOWER more "]+" suffix "|" PREFIX "[" UPPER more "]+[" LOWER more  \
           "]*" suffix "|"
#define ACRONYMS "[!-/:-@\\[-`{-~][A-Za-z]+|[^\\r\\n" L P S "]?[" L M "]+| ?[" P S "]+"

#define RANGES(table) table, sizeof(table) / sizeof *(table)

static const uint32_t ascii_digit[][2] = {{'0', '9'}};
static const uint32_t newline[][2] = {{'\n', '\n'}};
static const uint32_t newlines[][2] = {{'\n', '\n'}, {'\r', '\r'}};
static const uint32_t falcon_symbols[][2] = {{'$', '$'}, {'+', '+'}, {'<', '>'}, {'^', '^'},
                                             {'`', '`'}, {'|', '|'}, {'~', '~'}};
static const uint32_t default_symbols[][2] = {{'$', '$'}, {'+', '+'}, {'<', '>'},
                                              {'^', '^'}, {'|', '|'}, {'~', '~'}};
static const uint32_t bloom_marks[][2] = {{'!', '!'},       {'(', ')'},       {',', ','},
                                          {'.', '.'},       {'?', '?'},       {'|', '|'},
                                          {0x60c, 0x60c},   {0x6d4, 0x6d4},   {0x964, 0x964},
                                          {0x2026, 0x2026}, {0x3001, 0x3002}, {0xff0c, 0xff0c}};
static const uint32_t ideographs_kana[][2] = {{0x3040, 0x30ff}, {0x4e00, 0x9fa5}};
static const uint32_t deepseek_ideographs[][2] = {{0x800, 0x9fa5}, {0xac00, 0xd7ff}};
static const uint32_t deepseek_punctuation[][2] = {
    {'!', '/'}, {':', '~'}, {0x2018, 0x201f}, {0x3000, 0x3002}, {0xff01, 0xff0f}, {0xff1a, 0xff5e}};
static const uint32_t hangul[][2] = {{0x3131, 0x318e}, {0xac00, 0xd7a3}};
static const uint32_t bopomofo[][2] = {{0x3105, 0x312f}};
static const uint32_t chinese_punctuation[][2] = {
    {0x2014, 0x2014}, {0x2018, 0x2019}, {0x201c, 0x201d}, {0x2026, 0x2026}, {0x3001, 0x303f},
    {0xfe30, 0xfe4f}, {0xff01, 0xff01}, {0xff0c, 0xff0c}, {0xff1a, 0xff1b}};
static const uint32_t afmoe_scripts[][2] = {
    {0xe40, 0xe7f},   {0xe80, 0xeff},   {0x1000, 0x109f}, {0x1100, 0x11ff}, {0x1780, 0x17ff},
    {0x2f00, 0x2fdf}, {0x3040, 0x30ff}, {0x3400, 0x4dbf}, {0x4e00, 0xfaff}, {0xff65, 0xff9f}};
/* The letters that have case, of an old Unicode. */
static const uint32_t deepseek_letters[][2] = {
    {'A', 'Z'},         {'a', 'z'},         {0xb5, 0xb5},       {0xc0, 0xd6},
    {0xd8, 0xf6},       {0xf8, 0x1ba},      {0x1bc, 0x1bf},     {0x1c4, 0x293},
    {0x295, 0x2af},     {0x370, 0x373},     {0x376, 0x377},     {0x37b, 0x37d},
    {0x37f, 0x37f},     {0x386, 0x386},     {0x388, 0x38a},     {0x38c, 0x38c},
    {0x38e, 0x3a1},     {0x3a3, 0x3f5},     {0x3f7, 0x481},     {0x48a, 0x52f},
    {0x531, 0x556},     {0x10a0, 0x10c5},   {0x13a0, 0x13f5},   {0x13f8, 0x13fd},
    {0x1c90, 0x1cba},   {0x1cbd, 0x1cbf},   {0x1d00, 0x1d2b},   {0x1d6b, 0x1d77},
    {0x1d79, 0x1d9a},   {0x1e00, 0x1f15},   {0x1f18, 0x1f1d},   {0x1f20, 0x1f45},
    {0x1f48, 0x1f4d},   {0x1f50, 0x1f57},   {0x1f59, 0x1f59},   {0x1f5b, 0x1f5b},
    {0x1f5d, 0x1f5d},   {0x1f5f, 0x1f7d},   {0x1f80, 0x1fb4},   {0x1fb6, 0x1fbc},
    {0x1fbe, 0x1fbe},   {0x1fc2, 0x1fc4},   {0x1fc6, 0x1fcc},   {0x1fd0, 0x1fd3},
    {0x1fd6, 0x1fdb},   {0x1fe0, 0x1fec},   {0x1ff2, 0x1ff4},   {0x1ff6, 0x1ffc},
    {0x2102, 0x2102},   {0x2107, 0x2107},   {0x210a, 0x2113},   {0x2115, 0x2115},
    {0x2119, 0x211d},   {0x2124, 0x2124},   {0x2126, 0x2126},   {0x2128, 0x2128},
    {0x212a, 0x212d},   {0x212f, 0x2134},   {0x2139, 0x2139},   {0x213c, 0x213f},
    {0x2145, 0x2149},   {0x214e, 0x214e},   {0x2183, 0x2184},   {0x2c00, 0x2c7b},
    {0x2c7e, 0x2ce4},   {0x2ceb, 0x2cee},   {0x2cf2, 0x2cf3},   {0xa640, 0xa66d},
    {0xa680, 0xa69b},   {0xa722, 0xa76f},   {0xa771, 0xa787},   {0xa78b, 0xa78e},
    {0xab70, 0xabbf},   {0xfb00, 0xfb06},   {0xfb13, 0xfb17},   {0xff21, 0xff3a},
    {0xff41, 0xff5a},   {0x10400, 0x1044f}, {0x104b0, 0x104d3}, {0x104d8, 0x104fb},
    {0x10c80, 0x10cb2}, {0x10cc0, 0x10cf2}, {0x118a0, 0x118df}, {0x1e900, 0x1e943}};

#define RUN(name, ...) static const struct run name = {.sets = {__VA_ARGS__}, .set_count = 1}
#define RUN_MAX(name, most, ...)                                                                   \
    static const struct run name = {.sets = {__VA_ARGS__}, .set_count = 1, .max = (most)}
#define RUN_AFTER(name, what, ...)                                                                 \
    static const struct run name = {.sets = {__VA_ARGS__}, .set_count = 1, .prefix = (what)}

RUN(run_numbers, {IS_NUMBER, NULL, 0, false});
RUN_MAX(run_number, 1, {IS_NUMBER, NULL, 0, false});
RUN_MAX(run_numbers3, 3, {IS_NUMBER, NULL, 0, false});
RUN(run_newlines, {0, RANGES(newline), false});
RUN_MAX(run_newline, 1, {0, RANGES(newlines), false});
RUN(run_falcon, {IS_PUNCTUATION, RANGES(falcon_symbols), false});
RUN(run_default, {IS_PUNCTUATION, RANGES(default_symbols), false});
RUN(run_ideographs_kana, {0, RANGES(ideographs_kana), false});
RUN(run_deepseek_ideographs, {0, RANGES(deepseek_ideographs), false});
RUN(run_afmoe, {0, RANGES(afmoe_scripts), false});
RUN_AFTER(run_deepseek_letters, 's', {0, RANGES(deepseek_letters), false});
RUN_AFTER(run_deepseek_punctuation, 's', {0, RANGES(deepseek_punctuation), false});
RUN_AFTER(run_letters_after_space, 's', {IS_LETTER, NULL, 0, false});
RUN_AFTER(run_punctuation_after_space, 's', {IS_PUNCTUATION, NULL, 0, false});
RUN_AFTER(run_bloom, ' ', {IS_SPACE, RANGES(bloom_marks), true});
static const struct run run_three_digits = {
    .sets = {{0, RANGES(ascii_digit), false}}, .set_count = 1, .max = 3, .exact = true};
static const struct run run_youtu = {.sets = {{0, RANGES(hangul), false},
                                              {0, RANGES(chinese_punctuation), false},
                                              {0, RANGES(bopomofo), false},
                                              {0, RANGES(ideographs_kana), false}},
                                     .set_count = 4};

#define SCAN(kind)                                                                                 \
    {                                                                                              \
        CUT_##kind, NULL, NULL                                                                     \
    }
#define RUNS(run)                                                                                  \
    {                                                                                              \
        CUT_RUN, &(run), NULL                                                                      \
    }
#define REGEX(pattern)                                                                             \
    {                                                                                              \
        CUT_REGEX, NULL, pattern                                                                   \
    }
#define ACRONYM_CUTS                                                                               \
    RUNS(run_numbers3), RUNS(run_ideographs_kana), REGEX(ACRONYMS "[\\r\\n]*|" NEWLINES)

const struct pretokenizer_row pretokenizer_rows[] = {
    {"default",
     {.clean_spaces = true},
     {RUNS(run_default), SCAN(GPT2), RUNS(run_numbers), RUNS(run_three_digits)}},
    {"llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano",
     {.clean_spaces = true, .ignore_merges = true, .add_bos = true},
     {SCAN(LLAMA3)}},
    {"dbrx smaug-bpe", {.clean_spaces = true}, {SCAN(LLAMA3)}},
    {"chatglm-bpe", {.clean_spaces = true, .no_default_bos = true}, {SCAN(LLAMA3)}},
    {"glm4 glm5",
     {.clean_spaces = true, .no_default_bos = true, .ignore_merges = true},
     {SCAN(LLAMA3)}},
    {"gpt-2 phi-2 jina-es jina-de gigachat jina-v2-es jina-v2-de a.x-4.0 mellum modern-bert "
     "jina-v1-en jina-v2-code roberta-bpe exaone4 mpt olmo jais",
     {.clean_spaces = true},
     {SCAN(GPT2)}},
    {"trillion granite-docling", {.clean_spaces = false}, {SCAN(GPT2)}},
    {"starcoder refact codeshell exaone minerva-7b mellum2",
     {.clean_spaces = true},
     {RUNS(run_number), SCAN(GPT2)}},
    {"smollm command-r", {.clean_spaces = false}, {RUNS(run_number), SCAN(GPT2)}},
    {"falcon", {.clean_spaces = true}, {RUNS(run_falcon), SCAN(GPT2), RUNS(run_three_digits)}},
    {"stablelm2 megrez", {.clean_spaces = true}, {SCAN(QWEN2)}},
    {"qwen2 deepseek-r1-qwen kormo f2llmv2 hunyuan grok-2 solar-open",
     {.clean_spaces = false},
     {SCAN(QWEN2)}},
    {"qwen35", {.clean_spaces = false}, {SCAN(QWEN35)}},
    {"laguna", {.clean_spaces = false}, {RUNS(run_newlines), SCAN(QWEN2)}},
    {"ufakzeka", {.clean_spaces = false}, {REGEX(WORD "|[" N "]|" OTHERS "[\\r\\n]*|" NEWLINES)}},
    {"deepseek-llm",
     {.clean_spaces = false},
     {RUNS(run_newline), RUNS(run_deepseek_letters), RUNS(run_deepseek_punctuation),
      SCAN(TRAILING_SPACE), RUNS(run_deepseek_ideographs), RUNS(run_numbers)}},
    {"deepseek-coder",
     {.clean_spaces = false},
     {RUNS(run_newline), RUNS(run_letters_after_space), RUNS(run_punctuation_after_space),
      RUNS(run_deepseek_ideographs), RUNS(run_number)}},
    {"deepseek-v3 hunyuan-dense hy_v4 joyai-llm", {.clean_spaces = false}, {ACRONYM_CUTS}},
    {"spark2_5",
     {.clean_spaces = false},
     {RUNS(run_numbers3), RUNS(run_ideographs_kana), REGEX(ACRONYMS "|[\\r\\n]|" SPACES),
      RUNS(run_number)}},
    {"afmoe",
     {.clean_spaces = false},
     {SCAN(DIGITS_FROM_RIGHT), RUNS(run_afmoe), REGEX(ACRONYMS "[\\r\\n]*|" NEWLINES)}},
    {"youtu",
     {.clean_spaces = false, .ignore_merges = true},
     {RUNS(run_youtu),
      REGEX(PREFIX "[" L M "]+(?:" CONTRACTION ")?|[" N "]|" OTHERS "[\\r\\n/]*|" NEWLINES)}},
    {"tiny_aya cohere2moe",
     {.clean_spaces = false},
     {SCAN(DIGITS_FROM_RIGHT),
      REGEX(PREFIX "[" L M "]+(?:" CONTRACTION ")?|[" N "]{1,3}|" OTHERS "[\\r\\n/]*|" NEWLINES)}},
    {"tekken",
     {.clean_spaces = false, .ignore_merges = true, .add_bos = true},
     {REGEX(CASED("", "") "[" N "]|" OTHERS "[\\r\\n/]*|" NEWLINES)}},
    {"gpt-4o llama4 kanana2 talkie minimax-m2",
     {.clean_spaces = false},
     {REGEX(CASED("", "(?:" CONTRACTION ")?") "[" N "]{1,3}|" OTHERS "[\\r\\n/]*|" NEWLINES)}},
    {"granite-embed-multi-97m",
     {.clean_spaces = false, .ignore_merges = true},
     {REGEX(CASED(M, "(?:" CONTRACTION ")?") "[" N "]{1,3}|" OTHERS "[\\r\\n/]*|" NEWLINES)}},
    {"kimi-k2", {.clean_spaces = false}, {SCAN(KIMI)}},
    {"jais-2", {.clean_spaces = true}, {SCAN(JAIS2)}},
    {"superbpe", {.clean_spaces = false}, {RUNS(run_numbers), SCAN(ASCII_DIGITS_FROM_RIGHT)}},
    {"bailingmoe bailingmoe2 llada-moe",
     {.clean_spaces = false},
     {REGEX(CONTRACTION "|" WORD "|[" N "]|" OTHERS "[\\r\\n]*|\\s*[\\r\\n]|" SPACES)}},
    {"seed-coder",
     {.clean_spaces = false},
     {REGEX(CONTRACTION "|" WORD "|[" N "]| ?[^\\s" L N "\\r\\n]+|" NEWLINES)}},
    {"exaone-moe",
     {.clean_spaces = true},
     {REGEX(CONTRACTION "|" PREFIX "[" L "](?>[" L M "]++| [" L "])*+|[" N "]|" OTHERS
                        "[\\r\\n/]?|\\s*[\\r\\n]|" SPACES)}},
    {"minicpm5",
     {.clean_spaces = true, .ignore_merges = true},
     {RUNS(run_numbers3), REGEX(CONTRACTION "|" WORD "|[" N "]+|" OTHERS "[\\r\\n]*|" NEWLINES)}},
    {"poro-chat", {.clean_spaces = false}, {RUNS(run_bloom)}},
    {"bloom gpt3-finnish", {.clean_spaces = true}, {RUNS(run_bloom)}},
    {"viking", {.clean_spaces = false}, {RUNS(run_bloom), RUNS(run_number)}},
    {"chameleon",
     {.clean_spaces = false, .add_bos = true},
     {REGEX("<sentinel:[0-9]+>"), REGEX("IMGIMG[A-I]{1,4}Z"), REGEX("[\\t\\n]|    |  "),
      RUNS(run_number), REGEX("[" P "!-/:-@\\[-`{-~]"), SCAN(GPT2)}},
    {"gemma4 granite-embed-multi-311m",
     {.clean_spaces = true, .raw = true, .whole_newlines = true, .force_bos = true},
     {RUNS(run_newlines)}},
    {"sarvam-moe", {.clean_spaces = false, .raw = true}, {RUNS(run_newlines)}},
};

const size_t pretokenizer_row_count = sizeof pretokenizer_rows / sizeof *pretokenizer_rows;
