/* The shapes of real models, the types that presets give their matrices, and random blocks. */

#include <stddef.h>
#include <string.h>

#include "base/buffer.h"
#include "gguf/types.h"
#include "hearth/hearth.h"
#include "infer/synthetic.h"
#include "kernel/blocks.h"
#include "kernel/half.h"

/* As the models' own files say. "tiny" is for tests. */
static const struct synthetic_shape shapes[] = {
    {"tiny", "llama", 256, 2, 4, 2, 64, 512, 512, 1e4f, .tied = true},
    {"smol-135m", "llama", 576, 30, 9, 3, 64, 1536, 49152, 1e5f, .tied = true},
    {"gemma-3-270m", "gemma3", 640, 18, 4, 1, 256, 2048, 262144, 1e6f, .window = 512, .tied = true,
     .head_norms = true, .post_norms = true},
    {"llama-1b", "llama", 2048, 16, 32, 8, 64, 8192, 128256, 5e5f, .tied = true},
    {"llama-3b", "llama", 3072, 28, 24, 8, 128, 8192, 128256, 5e5f, .tied = true},
    {"llama-8b", "llama", 4096, 32, 32, 8, 128, 14336, 128256, 5e5f, .tied = false},
    {"qwen2-1.5b", "qwen2", 1536, 28, 12, 2, 128, 8960, 151936, 1e6f, .tied = true, .biases = true},
    {"qwen3-0.6b", "qwen3", 1024, 28, 16, 8, 128, 3072, 151936, 1e6f, .tied = true,
     .head_norms = true},
    {"qwen3-4b", "qwen3", 2560, 36, 32, 8, 128, 9728, 151936, 1e6f, .tied = true,
     .head_norms = true},
};
enum { SHAPES = sizeof shapes / sizeof shapes[0] };

static const struct preset {
    const char *name;
    struct synthetic_types types;
} presets[] = {
    {"Q4_K_M", {TYPE_Q4_K, TYPE_Q6_K, TYPE_Q6_K}},
    {"Q5_K_M", {TYPE_Q5_K, TYPE_Q6_K, TYPE_Q6_K}},
};
enum { PRESETS = sizeof presets / sizeof presets[0] };

static const uint32_t types_known[] = {
#define TYPE_NUMBER(name, number, elements, bytes) number,
    TENSOR_TYPES(TYPE_NUMBER)
#undef TYPE_NUMBER
};
enum { TYPES_KNOWN = sizeof types_known / sizeof types_known[0] };

/* ---- names ---- */

static int unknown(const char *what, struct hearth_error *err)
{
    struct buffer names;
    buffer_init(&names, 4096);
    for (int i = 0; i < SHAPES; i++)
        buffer_format(&names, "%s%s", i ? ", " : "", shapes[i].name);
    buffer_format(&names, "; types are");
    for (int i = 0; i < PRESETS; i++)
        buffer_format(&names, " %s,", presets[i].name);
    for (int i = 0; i < TYPES_KNOWN; i++)
        buffer_format(&names, "%s %s", i ? "," : "", tensor_type_traits(types_known[i])->name);
    int status = error_set(err, HEARTH_E_ARGUMENT, "'%.64s' is no SHAPE:TYPE; shapes are %s", what,
                           names.data ? names.data : "");
    buffer_finish(&names);
    return status;
}

static bool find_types(const char *name, struct synthetic_types *out)
{
    for (int i = 0; i < PRESETS; i++) {
        if (strcmp(presets[i].name, name) == 0) {
            *out = presets[i].types;
            return true;
        }
    }
    for (int i = 0; i < TYPES_KNOWN; i++) {
        if (strcmp(tensor_type_traits(types_known[i])->name, name) == 0) {
            *out = (struct synthetic_types){types_known[i], types_known[i], types_known[i]};
            return true;
        }
    }
    return false;
}

int synthetic_parse(const char *what, const struct synthetic_shape **shape,
                    struct synthetic_types *types, struct hearth_error *err)
{
    const char *colon = strchr(what, ':');
    size_t size = colon ? (size_t)(colon - what) : 0;
    for (int i = 0; i < SHAPES && colon; i++) {
        if (strncmp(shapes[i].name, what, size) == 0 && shapes[i].name[size] == '\0' &&
            find_types(colon + 1, types)) {
            *shape = &shapes[i];
            return 0;
        }
    }
    return unknown(what, err);
}

/* ---- blocks ---- */

/* The scales that a block has, as binary16 at these places; offset 0 twice where there is one. */
struct scales {
    uint32_t type;
    size_t at, at_2;
    float value, value_2;
};

#define ONE(TYPE, tag, scale)                                                                      \
    {                                                                                              \
        TYPE_##TYPE, offsetof(struct tag, d), offsetof(struct tag, d), scale, scale                \
    }
#define TWO(TYPE, tag, scale, second, offset)                                                      \
    {                                                                                              \
        TYPE_##TYPE, offsetof(struct tag, d), offsetof(struct tag, second), scale, offset          \
    }

static const struct scales scales[] = {
    ONE(Q4_0, block_q4_0, 4e-3f),
    TWO(Q4_1, block_q4_1, 4e-3f, m, -0.03f),
    ONE(Q5_0, block_q5_0, 2e-3f),
    TWO(Q5_1, block_q5_1, 2e-3f, m, -0.03f),
    ONE(Q8_0, block_q8_0, 3e-4f),
    TWO(Q2_K, block_q2_k, 2e-3f, dmin, 3e-3f),
    ONE(Q3_K, block_q3_k, 3e-4f),
    TWO(Q4_K, block_q4_k, 1.2e-4f, dmin, 9e-4f),
    TWO(Q5_K, block_q5_k, 6e-5f, dmin, 9e-4f),
    ONE(Q6_K, block_q6_k, 2e-5f),
    ONE(IQ4_NL, block_iq4_nl, 3e-4f),
    ONE(IQ4_XS, block_iq4_xs, 1e-5f),
};

#define MXFP4_EXPONENT 121 /* 2^-7 */

static void put_half(unsigned char *at, float value)
{
    uint16_t half = float_to_half(value);
    at[0] = (unsigned char)half;
    at[1] = (unsigned char)(half >> 8);
}

static void set_scales(uint32_t type, unsigned char *blocks, size_t bytes)
{
    size_t block = tensor_type_traits(type)->block_bytes;
    for (size_t at = 0; at < bytes && type == TYPE_MXFP4; at += block)
        blocks[at] = MXFP4_EXPONENT;
    for (size_t i = 0; i < sizeof scales / sizeof scales[0]; i++) {
        for (size_t at = 0; at < bytes && scales[i].type == type; at += block) {
            put_half(blocks + at + scales[i].at, scales[i].value);
            put_half(blocks + at + scales[i].at_2, scales[i].value_2);
        }
    }
}

static void fill_floats(struct random *random, uint32_t type, unsigned char *out, size_t bytes)
{
    size_t size = tensor_type_traits(type)->block_bytes;
    for (size_t at = 0; at < bytes; at += size) {
        float value = (float)(random_unit(random) - 0.5) * 0.07f;
        uint16_t half = type == TYPE_F16 ? float_to_half(value) : float_to_bf16(value);
        memcpy(out + at, type == TYPE_F32 ? (const void *)&value : (const void *)&half, size);
    }
}

void synthetic_fill(struct random *random, uint32_t type, unsigned char *blocks, size_t bytes)
{
    if (type == TYPE_F32 || type == TYPE_F16 || type == TYPE_BF16) {
        fill_floats(random, type, blocks, bytes);
        return;
    }
    for (size_t at = 0; at < bytes; at += sizeof(uint64_t)) {
        uint64_t word = random_u64(random);
        size_t left = bytes - at;
        memcpy(blocks + at, &word, left < sizeof word ? left : sizeof word);
    }
    set_scales(type, blocks, bytes);
}
