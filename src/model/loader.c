#include "model/loader.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "base/memory.h"
#include "base/os.h"

/* Brought in by one call, which cannot be stopped, and which holds up whoever changes the address
 * space meanwhile, as malloc does: 10 µs where the file is cached in small pages. */
#define PIECE_BYTES ((uintptr_t)256 << 10)

struct range {
    uint32_t stage;
    const struct gguf_tensor *tensor;
};

struct loader {
    struct range *ranges; /* in the order of loading */
    size_t count;
    uint64_t bytes; /* of all ranges */
    struct loader_progress progress;
    struct os_thread *thread;
    atomic_bool stopping;
    _Atomic uint64_t bytes_done;
    _Atomic uint32_t stages_done; /* waiters sleep on it */
};

/* The layer in a name like "blk.12.attn_q.weight"; `otherwise` where there is none. */
static uint32_t layer_of(struct text name, uint32_t layers, uint32_t otherwise)
{
    const struct text prefix = TEXT("blk.");
    uint64_t layer = 0;
    size_t i = prefix.size;
    if (!text_starts_with(name, prefix))
        return otherwise;
    for (; i < name.size && name.data[i] >= '0' && name.data[i] <= '9' && layer < layers; i++)
        layer = layer * 10 + (uint64_t)(name.data[i] - '0');
    return i > prefix.size && layer < layers ? (uint32_t)layer : otherwise;
}

static uint32_t stage_of(const struct gguf_tensor *tensor, uint32_t layers)
{
    if (text_equal(tensor->name, TEXT("token_embd.weight")))
        return 0;
    return layer_of(tensor->name, layers, layers);
}

static int compare_ranges(const void *a, const void *b)
{
    const struct range *left = a, *right = b;
    if (left->stage != right->stage)
        return left->stage < right->stage ? -1 : 1;
    if (left->tensor->part != right->tensor->part)
        return left->tensor->part < right->tensor->part ? -1 : 1;
    if (left->tensor->file_offset != right->tensor->file_offset)
        return left->tensor->file_offset < right->tensor->file_offset ? -1 : 1;
    return 0;
}

static bool load_range(struct loader *loader, const struct gguf_tensor *tensor)
{
    uintptr_t at = (uintptr_t)tensor->data, end = at + tensor->size;
    while (at < end) {
        uintptr_t next = (at / PIECE_BYTES + 1) * PIECE_BYTES;
        size_t size = (next < end ? next : end) - at;
        if (atomic_load_explicit(&loader->stopping, memory_order_relaxed) ||
            !os_pages_populate((const void *)at, size))
            return false;
        atomic_fetch_add_explicit(&loader->bytes_done, size, memory_order_relaxed);
        at += size;
    }
    return true;
}

static void publish(struct loader *loader, uint32_t stages)
{
    atomic_store_explicit(&loader->stages_done, stages, memory_order_release);
    os_wake(&loader->stages_done, UINT32_MAX);
}

/* Where something goes wrong the rest is left to the passes. */
static void load(void *context)
{
    struct loader *loader = context;
    uint32_t stage = 0;
    for (size_t i = 0; i < loader->count; i++) {
        if (loader->ranges[i].stage != stage) {
            stage = loader->ranges[i].stage;
            publish(loader, stage);
        }
        if (!load_range(loader, loader->ranges[i].tensor))
            break;
    }
    publish(loader, UINT32_MAX);
}

static bool plan(struct loader *loader, const struct gguf *gguf, uint32_t layers)
{
    loader->count = gguf_tensor_count(gguf);
    loader->ranges = mem_alloc_array(loader->count, sizeof *loader->ranges);
    if (!loader->ranges)
        return false;
    for (size_t i = 0; i < loader->count; i++) {
        const struct gguf_tensor *tensor = gguf_tensor_at(gguf, i);
        loader->ranges[i] = (struct range){stage_of(tensor, layers), tensor};
        loader->bytes += tensor->size;
    }
    qsort(loader->ranges, loader->count, sizeof *loader->ranges, compare_ranges);
    return true;
}

struct loader *loader_start(const struct gguf *gguf, uint32_t layers,
                            const struct loader_progress *progress)
{
    struct loader *loader = MEM_NEW(struct loader);
    if (!loader)
        return NULL;
    if (progress)
        loader->progress = *progress;
    if (plan(loader, gguf, layers) && loader->bytes <= os_available_memory())
        loader->thread = os_thread_start(load, loader);
    if (!loader->thread) {
        loader_stop(loader);
        return NULL;
    }
    return loader;
}

void loader_stop(struct loader *loader)
{
    if (!loader)
        return;
    atomic_store(&loader->stopping, true);
    if (loader->thread)
        os_thread_join(loader->thread);
    mem_free(loader->ranges);
    mem_free(loader);
}

bool loader_wait(const struct loader *loader, uint32_t stage, uint64_t ns)
{
    if (!loader)
        return true;
    uint32_t done = atomic_load_explicit(&loader->stages_done, memory_order_acquire);
    if (done > stage)
        return true;
    os_wait_for(&loader->stages_done, done, ns);
    return atomic_load_explicit(&loader->stages_done, memory_order_acquire) > stage;
}

bool loader_report(const struct loader *loader)
{
    if (!loader || !loader->progress.report)
        return true;
    uint64_t done = atomic_load_explicit(&loader->bytes_done, memory_order_relaxed);
    double fraction = loader->bytes ? (double)done / (double)loader->bytes : 1.0;
    return loader->progress.report(loader->progress.context, fraction);
}
