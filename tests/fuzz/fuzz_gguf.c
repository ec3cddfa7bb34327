/* Any bytes as a GGUF file: either an error in words or a view whose every byte can be read. The
 * first byte says whether the rest is one file or two parts; each gets memory of its exact size. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "gguf/gguf.h"

static unsigned read_all(const void *data, uint64_t size)
{
    const unsigned char *bytes = data;
    unsigned sum = 0;
    for (uint64_t i = 0; i < size; i++)
        sum += bytes[i];
    return sum;
}

static unsigned read_key(const struct gguf *gguf, const struct gguf_key *key)
{
    char name[64];
    unsigned sum = read_all(key->name.data, key->name.size) + read_all(key->data, key->size);
    if (key->type == GGUF_ARRAY && key->element == GGUF_STRING) {
        uint64_t cursor = 0, count = 0;
        struct text value;
        for (; gguf_array_next_text(key, &cursor, &value); count++)
            sum += read_all(value.data, value.size);
        if (count != key->count)
            abort();
    }
    if (key->name.size >= sizeof name || memchr(key->name.data, 0, key->name.size))
        return sum;
    memcpy(name, key->name.data, key->name.size);
    name[key->name.size] = '\0';
    if (gguf_find(gguf, name) != key)
        abort();
    struct hearth_error err;
    uint64_t wide;
    float value;
    gguf_get_u64(gguf, name, 1, 1000, &wide, &err);
    gguf_get_f32(gguf, name, 0, 1, &value, &err);
    return sum;
}

static unsigned read_view(const struct gguf *gguf)
{
    unsigned sum = 0;
    for (size_t i = 0; i < gguf_key_count(gguf); i++)
        sum += read_key(gguf, gguf_key_at(gguf, i));
    for (size_t i = 0; i < gguf_tensor_count(gguf); i++) {
        const struct gguf_tensor *tensor = gguf_tensor_at(gguf, i);
        struct text bytes = gguf_part_bytes(gguf, tensor->part);
        if (tensor->size > bytes.size || tensor->file_offset > bytes.size - tensor->size)
            abort();
        sum += read_all(tensor->name.data, tensor->name.size);
        sum += read_all(tensor->data, tensor->size);
    }
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    size_t count = data[0] & 1 ? 2 : 1;
    size_t first = count == 1 ? size - 1 : (size - 1) / 2;
    size_t sizes[2] = {first, size - 1 - first};
    char *copies[2] = {malloc(sizes[0]), malloc(sizes[1])};
    if (!copies[0] || !copies[1])
        abort();
    memcpy(copies[0], data + 1, sizes[0]);
    memcpy(copies[1], data + 1 + first, sizes[1]);
    struct text parts[2] = {{copies[0], sizes[0]}, {copies[1], sizes[1]}};
    struct gguf *gguf = NULL;
    struct hearth_error err = {0};
    int status = gguf_open_memory(parts, count, &gguf, &err);
    if ((status == 0) != (gguf != NULL) || (status != 0 && err.text[0] == '\0'))
        abort();
    volatile unsigned sink = gguf ? read_view(gguf) : 0;
    (void)sink;
    gguf_close(gguf);
    free(copies[0]);
    free(copies[1]);
    return 0;
}
