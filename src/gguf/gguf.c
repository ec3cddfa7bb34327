#include "gguf/gguf.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "base/os.h"
#include "gguf/parse.h"

#define PATH_BYTES_MAX 65536

struct part {
    struct os_mapping mapping;
    bool mapped; /* or copied, by us; else the bytes are the caller's */
    bool copied;
    struct gguf_reader in;
    struct gguf_header header;
    uint32_t alignment;
};

struct gguf {
    struct part *parts;
    size_t part_count;
    struct gguf_key_table keys; /* the first part's */
    struct gguf_tensor *tensors;
    size_t tensor_count;
    struct gguf_index tensor_index;
};

/* Where the parts come from: exactly one of path, fds and memory is set. */
struct source {
    const char *path;    /* as given: of any part */
    struct buffer names; /* the path of the part that is being opened */
    const int *fds;
    const struct text *memory;
    size_t count; /* parts; for a path, 1 until the file says more */
    struct gguf_options options;
};

/* "-NNNNN-of-MMMMM.gguf" at the end of a path. */
struct split_name {
    size_t prefix;
    uint64_t number, count; /* number from 1 */
};

/* ---- names of parts ---- */

/* A decimal number of five digits that ends before `*end`; moves *end before it. */
static bool number_before(const char *path, size_t *end, uint64_t *number)
{
    if (*end < 5)
        return false;
    *number = 0;
    for (size_t i = *end - 5; i < *end; i++) {
        if (path[i] < '0' || path[i] > '9')
            return false;
        *number = *number * 10 + (uint64_t)(path[i] - '0');
    }
    *end -= 5;
    return true;
}

static bool literal_before(const char *path, size_t *end, const char *literal)
{
    size_t size = strlen(literal);
    if (*end < size || memcmp(path + *end - size, literal, size) != 0)
        return false;
    *end -= size;
    return true;
}

static bool parse_split_name(const char *path, struct split_name *name)
{
    size_t end = strlen(path);
    if (!literal_before(path, &end, ".gguf") || !number_before(path, &end, &name->count) ||
        !literal_before(path, &end, "-of-") || !number_before(path, &end, &name->number) ||
        !literal_before(path, &end, "-"))
        return false;
    name->prefix = end;
    return true;
}

/* The path of part `index`, NUL-terminated in source->names; NULL without memory. */
static const char *part_path(struct source *source, size_t index)
{
    struct split_name name;
    source->names.size = 0;
    bool written;
    if (source->count > 1 && parse_split_name(source->path, &name)) {
        struct text prefix = {source->path, name.prefix};
        written = buffer_append_text(&source->names, prefix) &&
                  buffer_format(&source->names, "-%05zu-of-%05zu.gguf", index + 1, source->count);
    } else {
        written = buffer_append_text(&source->names, text_of(source->path));
    }
    return written ? source->names.data : NULL;
}

/* Says in which part the error is. A long path is cut at its front, for the cause to have room. */
static int name_part(struct source *source, size_t index, int code, struct hearth_error *err)
{
    if (source->path) {
        const char *path = part_path(source, index);
        if (!path)
            path = source->path;
        size_t size = strlen(path);
        bool cut = size > 200;
        return error_prefix(err, code, "%s%s", cut ? "..." : "", cut ? path + size - 200 : path);
    }
    if (source->count > 1)
        return error_prefix(err, code, "part %zu of %zu", index + 1, source->count);
    return code;
}

/* ---- one part ---- */

static int out_of_memory(struct hearth_error *err)
{
    return error_set(err, HEARTH_E_MEMORY, "out of memory");
}

struct part_progress {
    const struct source *source;
    size_t index;
};

static bool go_on(void *context, double fraction)
{
    const struct part_progress *part = context;
    const struct gguf_options *options = &part->source->options;
    double parts = (double)part->source->count;
    return !options->progress ||
           options->progress(options->progress_context, ((double)part->index + fraction) / parts);
}

static int map_fd(struct source *source, size_t index, int fd, struct part *part,
                  struct hearth_error *err)
{
    struct part_progress progress = {source, index};
    struct os_reading reading = {go_on, &progress};
    int status = source->options.copy ? os_copy_fd(fd, &reading, &part->mapping, err)
                                      : os_map_fd(fd, &part->mapping, err);
    part->mapped = status == 0;
    part->copied = source->options.copy;
    if (!status && source->options.lock)
        status = os_pages_lock(part->mapping.data, part->mapping.size, err);
    return status;
}

static int map_part(struct source *source, size_t index, struct part *part,
                    struct hearth_error *err)
{
    if (source->memory) {
        part->mapping = (struct os_mapping){source->memory[index].data, source->memory[index].size};
        return 0;
    }
    if (source->fds)
        return map_fd(source, index, source->fds[index], part, err);
    const char *path = part_path(source, index);
    int fd = -1;
    int status = path ? os_open_path(path, &fd, err) : out_of_memory(err);
    if (status)
        return status;
    status = map_fd(source, index, fd, part, err);
    os_file_close(fd);
    return status;
}

static void part_finish(struct part *part)
{
    if (part->mapped)
        os_unmap(part->mapping);
    *part = (struct part){0};
}

static int read_alignment(struct part *part, const struct gguf_key_table *keys,
                          struct hearth_error *err)
{
    static const char name[] = "general.alignment";
    const struct gguf_key *key = gguf_key_table_find(keys, name);
    uint64_t alignment = GGUF_ALIGNMENT_DEFAULT;
    if (key) {
        int status =
            gguf_key_u64(key, name, GGUF_ALIGNMENT_MIN, GGUF_ALIGNMENT_MAX, &alignment, err);
        if (status)
            return status;
    }
    if ((alignment & (alignment - 1)) != 0)
        return error_set(err, HEARTH_E_FORMAT, "the key '%s' is %" PRIu64 ", no power of two", name,
                         alignment);
    part->alignment = (uint32_t)alignment;
    return 0;
}

/* Maps a part and reads it up to its tensors. On failure neither `part` nor `keys` is held. */
static int open_part(struct source *source, size_t index, struct part *part,
                     struct gguf_key_table *keys, struct hearth_error *err)
{
    struct part made = {0};
    struct gguf_key_table table = {0};
    int status = map_part(source, index, &made, err);
    if (!status) {
        made.in = (struct gguf_reader){made.mapping.data, made.mapping.size, 0};
        status = gguf_parse_header(&made.in, &made.header, err);
    }
    if (!status)
        status = gguf_parse_keys(&made.in, made.header.key_count, &table, err);
    if (!status)
        status = read_alignment(&made, &table, err);
    if (!status)
        status = gguf_check_tensor_count(&made.in, made.header.tensor_count, err);
    if (status) {
        gguf_key_table_finish(&table);
        part_finish(&made);
        return name_part(source, index, status, err);
    }
    *part = made;
    *keys = table;
    return 0;
}

/* ---- split files ---- */

/* What a part says of itself: *count is 1 for a file that is not split. */
static int read_split(const struct gguf_key_table *keys, size_t *number, size_t *count,
                      struct hearth_error *err)
{
    const struct gguf_key *key = gguf_key_table_find(keys, "split.count");
    uint64_t parts = 0, own = 0;
    if (key) {
        int status = gguf_key_u64(key, "split.count", 0, GGUF_PARTS_MAX, &parts, err);
        if (status)
            return status;
    }
    if (parts > 1) {
        key = gguf_key_table_find(keys, "split.no");
        int status = gguf_key_u64(key, "split.no", 0, parts - 1, &own, err);
        if (status)
            return status;
    }
    *number = (size_t)own;
    *count = parts > 1 ? (size_t)parts : 1;
    return 0;
}

static int check_split_name(const struct source *source, size_t number, size_t count,
                            struct hearth_error *err)
{
    struct split_name name;
    if (!parse_split_name(source->path, &name))
        return error_set(err, HEARTH_E_FORMAT,
                         "this is part %zu of %zu, but its name does not end in "
                         "-%05zu-of-%05zu.gguf, so the other parts cannot be found",
                         number + 1, count, number + 1, count);
    if (name.number != number + 1 || name.count != count)
        return error_set(err, HEARTH_E_FORMAT,
                         "by its name this is part %" PRIu64 " of %" PRIu64
                         ", but by its keys part %zu of %zu",
                         name.number, name.count, number + 1, count);
    return 0;
}

/* Holds what part `index` says of itself against its place. */
static int check_part_number(const struct gguf_key_table *keys, size_t index, size_t count,
                             struct hearth_error *err)
{
    size_t own_number, own_count;
    int status = read_split(keys, &own_number, &own_count, err);
    if (status)
        return status;
    if (own_count != count || own_number != index)
        return error_set(err, HEARTH_E_FORMAT,
                         "by its keys this is part %zu of %zu, but part %zu of %zu is needed here",
                         own_number + 1, own_count, index + 1, count);
    return 0;
}

/* Learns from the part that was opened first which one it is and how many there are. */
static int identify_part(struct source *source, const struct gguf_key_table *keys, size_t *number,
                         struct hearth_error *err)
{
    size_t count;
    int status = read_split(keys, number, &count, err);
    if (status)
        return status;
    if (!source->path)
        return check_part_number(keys, 0, source->count, err);
    if (count > 1)
        status = check_split_name(source, *number, count, err);
    if (!status)
        source->count = count;
    return status;
}

/* Opens the first part, whichever the path names. On failure nothing is held. */
static int open_first(struct source *source, struct part *first, struct gguf_key_table *keys,
                      struct hearth_error *err)
{
    size_t number = 0;
    int status = open_part(source, 0, first, keys, err);
    if (status)
        return status;
    status = identify_part(source, keys, &number, err);
    if (!status && number != 0) {
        gguf_key_table_finish(keys);
        part_finish(first);
        status = open_part(source, 0, first, keys, err);
        if (status)
            return status;
        status = check_part_number(keys, 0, source->count, err);
    }
    if (status) {
        status = name_part(source, 0, status, err);
        gguf_key_table_finish(keys);
        part_finish(first);
    }
    return status;
}

/* All parts, each up to its tensors. The view owns what was opened, also on failure. */
static int open_parts(struct gguf *gguf, struct source *source, struct hearth_error *err)
{
    struct part first = {0};
    int status = open_first(source, &first, &gguf->keys, err);
    if (status)
        return status;
    gguf->parts = mem_zalloc_array(source->count, sizeof *gguf->parts);
    if (!gguf->parts) {
        part_finish(&first);
        return out_of_memory(err);
    }
    gguf->parts[0] = first;
    gguf->part_count = source->count;
    for (size_t i = 1; i < source->count; i++) {
        struct gguf_key_table keys = {0};
        status = open_part(source, i, &gguf->parts[i], &keys, err);
        if (status)
            return status;
        status = check_part_number(&keys, i, source->count, err);
        gguf_key_table_finish(&keys);
        if (status)
            return name_part(source, i, status, err);
    }
    return 0;
}

/* ---- tensors of all parts ---- */

/* Adds the parts' counts, and holds the sum against the budget and against the first part's key. */
static int count_tensors(struct gguf *gguf, struct hearth_error *err)
{
    size_t max = GGUF_TABLE_BYTES_MAX / (sizeof(struct gguf_tensor) + sizeof(struct text *));
    size_t total = 0;
    for (size_t i = 0; i < gguf->part_count; i++)
        total += (size_t)gguf->parts[i].header.tensor_count; /* each at most `max` */
    if (total > max)
        return error_set(err, HEARTH_E_LIMIT,
                         "the parts have %zu tensors; at most %zu are supported", total, max);
    gguf->tensor_count = total;
    if (gguf->part_count == 1)
        return 0;
    uint64_t expected = 0;
    int status = gguf_get_u64(gguf, "split.tensors.count", 0, UINT64_MAX, &expected, err);
    if (!status && expected != total)
        return error_set(err, HEARTH_E_FORMAT,
                         "the key 'split.tensors.count' is %" PRIu64
                         ", but the %zu parts have %zu tensors",
                         expected, gguf->part_count, total);
    return status;
}

static int parse_all_tensors(struct gguf *gguf, struct source *source, struct hearth_error *err)
{
    struct gguf_tensor *at = gguf->tensors;
    for (size_t i = 0; i < gguf->part_count; i++) {
        struct part *part = &gguf->parts[i];
        struct gguf_place place = {(uint32_t)i, part->alignment};
        size_t count = (size_t)part->header.tensor_count;
        int status = gguf_parse_tensors(&part->in, place, count, at, err);
        if (status)
            return name_part(source, i, status, err);
        at += count;
    }
    return 0;
}

static int compare_places(const void *a, const void *b)
{
    const struct gguf_tensor *const *left = a, *const *right = b;
    if ((*left)->part != (*right)->part)
        return (*left)->part < (*right)->part ? -1 : 1;
    if ((*left)->file_offset != (*right)->file_offset)
        return (*left)->file_offset < (*right)->file_offset ? -1 : 1;
    return 0;
}

static int check_overlap(const struct gguf *gguf, struct source *source, struct hearth_error *err)
{
    size_t count = gguf->tensor_count;
    const struct gguf_tensor **order = mem_alloc_array(count, sizeof *order);
    if (!order)
        return out_of_memory(err);
    for (size_t i = 0; i < count; i++)
        order[i] = &gguf->tensors[i];
    qsort(order, count, sizeof *order, compare_places);
    int status = 0;
    for (size_t i = 1; i < count && !status; i++) {
        const struct gguf_tensor *before = order[i - 1], *after = order[i];
        if (before->part != after->part || after->file_offset - before->file_offset >= before->size)
            continue;
        status = error_set(err, HEARTH_E_FORMAT, "the tensors '%.*s' and '%.*s' overlap",
                           TEXT_ARGS(before->name), TEXT_ARGS(after->name));
        name_part(source, after->part, status, err);
    }
    mem_free(order);
    return status;
}

static int index_tensors(struct gguf *gguf, struct source *source, struct hearth_error *err)
{
    const struct text *twice = NULL;
    int status = gguf_index_build(&gguf->tensor_index, gguf->tensors, gguf->tensor_count,
                                  sizeof *gguf->tensors, &twice, err);
    if (!twice)
        return status;
    const struct gguf_tensor *tensor = (const void *)twice;
    error_set(err, status, "the tensor '%.*s' appears twice", TEXT_ARGS(*twice));
    return name_part(source, tensor->part, status, err);
}

static int open_tensors(struct gguf *gguf, struct source *source, struct hearth_error *err)
{
    int status = count_tensors(gguf, err);
    if (status)
        return name_part(source, 0, status, err);
    gguf->tensors = mem_zalloc_array(gguf->tensor_count, sizeof *gguf->tensors);
    if (!gguf->tensors)
        return out_of_memory(err);
    status = parse_all_tensors(gguf, source, err);
    if (!status)
        status = check_overlap(gguf, source, err);
    if (!status)
        status = index_tensors(gguf, source, err);
    return status;
}

/* ---- opening and closing ---- */

static int open_source(struct source *source, struct gguf **out, struct hearth_error *err)
{
    struct gguf *gguf = MEM_NEW(struct gguf);
    if (!gguf)
        return out_of_memory(err);
    buffer_init(&source->names, PATH_BYTES_MAX);
    int status = open_parts(gguf, source, err);
    if (!status)
        status = open_tensors(gguf, source, err);
    buffer_finish(&source->names);
    if (status)
        gguf_close(gguf);
    else
        *out = gguf;
    return status;
}

static const struct gguf_options defaults;

int gguf_open(const char *path, struct gguf **out, struct hearth_error *err)
{
    return gguf_open_with(path, &defaults, out, err);
}

int gguf_open_with(const char *path, const struct gguf_options *options, struct gguf **out,
                   struct hearth_error *err)
{
    struct source source = {.path = path, .count = 1, .options = *options};
    return open_source(&source, out, err);
}

static int check_part_count(size_t count, struct hearth_error *err)
{
    if (count >= 1 && count <= GGUF_PARTS_MAX)
        return 0;
    return error_set(err, HEARTH_E_ARGUMENT, "%zu parts were given; 1 to %d are allowed", count,
                     GGUF_PARTS_MAX);
}

int gguf_open_fds(const int *fds, size_t count, struct gguf **out, struct hearth_error *err)
{
    return gguf_open_fds_with(fds, count, &defaults, out, err);
}

int gguf_open_fds_with(const int *fds, size_t count, const struct gguf_options *options,
                       struct gguf **out, struct hearth_error *err)
{
    struct source source = {.fds = fds, .count = count, .options = *options};
    int status = check_part_count(count, err);
    return status ? status : open_source(&source, out, err);
}

int gguf_open_memory(const struct text *parts, size_t count, struct gguf **out,
                     struct hearth_error *err)
{
    struct source source = {.memory = parts, .count = count};
    int status = check_part_count(count, err);
    return status ? status : open_source(&source, out, err);
}

void gguf_close(struct gguf *gguf)
{
    if (!gguf)
        return;
    gguf_index_finish(&gguf->tensor_index);
    mem_free(gguf->tensors);
    gguf_key_table_finish(&gguf->keys);
    for (size_t i = 0; i < gguf->part_count; i++)
        part_finish(&gguf->parts[i]);
    mem_free(gguf->parts);
    mem_free(gguf);
}

/* ---- the view ---- */

uint32_t gguf_version(const struct gguf *gguf)
{
    return gguf->parts[0].header.version;
}

size_t gguf_part_count(const struct gguf *gguf)
{
    return gguf->part_count;
}

uint64_t gguf_file_size(const struct gguf *gguf)
{
    uint64_t size = 0;
    for (size_t i = 0; i < gguf->part_count; i++)
        size += gguf->parts[i].mapping.size;
    return size;
}

struct text gguf_part_bytes(const struct gguf *gguf, size_t part)
{
    assert(part < gguf->part_count);
    return (struct text){gguf->parts[part].mapping.data, gguf->parts[part].mapping.size};
}

void gguf_rest(const struct gguf *gguf)
{
    for (size_t i = 0; i < gguf->part_count; i++) {
        const struct part *part = &gguf->parts[i];
        if (part->mapped && !part->copied)
            os_pages_rest(part->mapping.data, part->mapping.size);
    }
}

size_t gguf_key_count(const struct gguf *gguf)
{
    return gguf->keys.count;
}

const struct gguf_key *gguf_key_at(const struct gguf *gguf, size_t index)
{
    assert(index < gguf->keys.count);
    return &gguf->keys.keys[index];
}

const struct gguf_key *gguf_find(const struct gguf *gguf, const char *name)
{
    return gguf_key_table_find(&gguf->keys, name);
}

size_t gguf_tensor_count(const struct gguf *gguf)
{
    return gguf->tensor_count;
}

const struct gguf_tensor *gguf_tensor_at(const struct gguf *gguf, size_t index)
{
    assert(index < gguf->tensor_count);
    return &gguf->tensors[index];
}

const struct gguf_tensor *gguf_find_tensor(const struct gguf *gguf, const char *name)
{
    return gguf_index_find(&gguf->tensor_index, name);
}
