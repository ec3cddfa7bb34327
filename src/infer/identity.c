/* Names for what was computed: a model by its content, an engine by all that its KV blocks depend
 * on. Both are sums that tell accidents apart, no protection against forgery. */

#include <stdio.h>
#include <string.h>

#include "base/sum.h"
#include "infer/engine.h"
#include "kv/image.h"

/* Weights are sampled: reading all of a large file would take longer than opening it. A fine-tuned
 * model differs from its base nearly everywhere. */
#define SAMPLES 64
#define SAMPLE_BYTES 256

_Static_assert(HEARTH_IDENTITY_SIZE == 2 * SUM_BYTES + 1, "an identity is a sum as text");

static void add_number(struct sum *sum, uint64_t number)
{
    unsigned char bytes[8];
    for (int i = 0; i < 8; i++)
        bytes[i] = (unsigned char)(number >> 8 * i);
    sum_add(sum, bytes, sizeof bytes);
}

/* With its length, so that what follows cannot be taken for a part of it. */
static void add_bytes(struct sum *sum, const void *data, uint64_t size)
{
    add_number(sum, size);
    sum_add(sum, data, (size_t)size);
}

static void add_key(struct sum *sum, const struct gguf_key *key)
{
    add_bytes(sum, key->name.data, key->name.size);
    add_number(sum, key->type);
    add_number(sum, key->element);
    add_number(sum, key->count);
    add_bytes(sum, key->data, key->size);
}

static void add_tensor(struct sum *sum, const struct gguf_tensor *tensor)
{
    add_bytes(sum, tensor->name.data, tensor->name.size);
    add_number(sum, tensor->type);
    for (int d = 0; d < GGUF_DIMS_MAX; d++)
        add_number(sum, tensor->ne[d]);
    add_number(sum, tensor->size);
}

/* Bytes at places that lie evenly in all weights, taken one behind the other. */
static void add_samples(struct sum *sum, const struct gguf *gguf)
{
    uint64_t total = 0, before = 0, next = 0;
    size_t count = gguf_tensor_count(gguf);
    for (size_t i = 0; i < count; i++)
        total += gguf_tensor_at(gguf, i)->size;
    uint64_t stride = total / SAMPLES > SAMPLE_BYTES ? total / SAMPLES : SAMPLE_BYTES;
    for (size_t i = 0; i < count; i++) {
        const struct gguf_tensor *tensor = gguf_tensor_at(gguf, i);
        while (next < before + tensor->size) {
            uint64_t at = next - before, left = tensor->size - at;
            sum_add(sum, (const char *)tensor->data + at,
                    (size_t)(left < SAMPLE_BYTES ? left : SAMPLE_BYTES));
            next += stride;
        }
        before += tensor->size;
    }
}

int hearth_model_identity(const struct hearth_model *model, char identity[HEARTH_IDENTITY_SIZE],
                          struct hearth_error *err)
{
    const struct gguf *gguf = model->model->gguf;
    unsigned char digest[SUM_BYTES];
    struct sum *sum = sum_create();
    if (!sum)
        return error_set(err, HEARTH_E_MEMORY, "no memory for a checksum");
    add_number(sum, gguf_key_count(gguf));
    for (size_t i = 0; i < gguf_key_count(gguf); i++)
        add_key(sum, gguf_key_at(gguf, i));
    add_number(sum, gguf_tensor_count(gguf));
    for (size_t i = 0; i < gguf_tensor_count(gguf); i++)
        add_tensor(sum, gguf_tensor_at(gguf, i));
    add_samples(sum, gguf);
    sum_get(sum, digest);
    sum_destroy(sum);
    sum_to_text(digest, identity);
    return 0;
}

/* Kernel tiers are left out: they share one arithmetic and one layout of blocks. The program's
 * version is in, because another one may compute the last bits differently. */
int hearth_engine_identity(const struct hearth_engine *engine, char identity[HEARTH_IDENTITY_SIZE],
                           struct hearth_error *err)
{
    const struct hearth_model model = {.model = (struct model *)(uintptr_t)engine->model};
    const uint32_t order = 0x01020304;
    unsigned char first_byte, digest[SUM_BYTES];
    char named[HEARTH_IDENTITY_SIZE], text[160];
    int status = hearth_model_identity(&model, named, err);
    if (status)
        return status;
    memcpy(&first_byte, &order, 1);
    int size = snprintf(text, sizeof text, "%s kv %d %d image %d order %d version %s", named,
                        (int)kv_pool_key_type(engine->kv), (int)kv_pool_value_type(engine->kv),
                        KV_IMAGE_VERSION, (int)first_byte, hearth_version());
    sum_of(text, (size_t)size, digest);
    sum_to_text(digest, identity);
    return 0;
}
