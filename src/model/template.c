/* The public calls, the arena, errors and limits. */
#include "model/template.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "base/utf8.h"
#include "model/template_run.h"

#define SOURCE_MAX ((size_t)1 << 20)
#define TREE_BYTES_MAX ((uint64_t)256 << 20)

/* The depth is bounded by C stack: measured over everything that recurs, 200 levels take at most
 * 72 KB in a release build and 200 KB with sanitizers, of the 256 KB that a thread may have. */
const struct chat_template_limits chat_template_default_limits = {
    .steps = (uint64_t)1 << 28,
    .memory = (uint64_t)256 << 20,
    .output = (uint64_t)64 << 20,
    .depth = 200,
};

/* ---- arena ---- */

#define CHUNK_MIN ((size_t)16 << 10)
#define CHUNK_MAX ((size_t)1 << 20)

struct tpl_chunk {
    struct tpl_chunk *next;
    size_t size;
    max_align_t data[];
};

void tpl_arena_init(struct tpl_arena *arena, uint64_t limit)
{
    *arena = (struct tpl_arena){.limit = limit};
}

void tpl_arena_finish(struct tpl_arena *arena)
{
    for (struct tpl_chunk *chunk = arena->chunks; chunk;) {
        struct tpl_chunk *next = chunk->next;
        mem_free(chunk);
        chunk = next;
    }
    tpl_arena_init(arena, arena->limit);
}

static bool add_chunk(struct tpl_arena *arena, size_t size)
{
    size_t grown = arena->chunks ? arena->chunks->size * 2 : CHUNK_MIN;
    grown = grown > CHUNK_MAX ? CHUNK_MAX : grown;
    size = size > grown ? size : grown;
    if (size > arena->limit - arena->used) {
        arena->exhausted = true;
        return false;
    }
    struct tpl_chunk *chunk = mem_alloc(sizeof *chunk + size);
    if (!chunk)
        return false;
    chunk->next = arena->chunks;
    chunk->size = size;
    arena->chunks = chunk;
    arena->at = (char *)chunk->data;
    arena->left = size;
    arena->used += size;
    return true;
}

static bool round_up(size_t *size)
{
    const size_t step = 16;
    if (*size > SIZE_MAX / 2)
        return false;
    *size = (*size + step - 1) & ~(step - 1);
    return true;
}

void *tpl_arena_alloc(struct tpl_arena *arena, size_t size)
{
    if (!round_up(&size)) {
        arena->exhausted = true;
        return NULL;
    }
    if ((!arena->at || size > arena->left) && !add_chunk(arena, size))
        return NULL;
    void *piece = arena->at;
    arena->at += size;
    arena->left -= size;
    memset(piece, 0, size);
    return piece;
}

void *tpl_arena_grow(struct tpl_arena *arena, void *old, size_t old_size, size_t size)
{
    size_t rounded = size, old_rounded = old_size;
    if (!round_up(&rounded) || !round_up(&old_rounded)) {
        arena->exhausted = true;
        return NULL;
    }
    if (old && rounded <= old_rounded)
        return old;
    if (old && (char *)old + old_rounded == arena->at && rounded - old_rounded <= arena->left) {
        arena->at += rounded - old_rounded;
        arena->left -= rounded - old_rounded;
        return old;
    }
    if ((!arena->at || rounded > arena->left) && !add_chunk(arena, rounded))
        return NULL;
    void *piece = arena->at;
    arena->at += rounded;
    arena->left -= rounded;
    if (old_size)
        memcpy(piece, old, old_size);
    return piece;
}

/* ---- parsing ---- */

int chat_template_parse(struct text source, struct chat_template **out, struct hearth_error *err)
{
    if (source.size > SOURCE_MAX)
        return error_set(err, HEARTH_E_LIMIT, "the template has %zu bytes, more than %zu",
                         source.size, SOURCE_MAX);
    if (!utf8_valid(source.data, source.size))
        return error_set(err, HEARTH_E_TEMPLATE, "the template is not UTF-8");
    struct chat_template *tpl = MEM_NEW(struct chat_template);
    if (!tpl)
        return error_set(err, HEARTH_E_MEMORY, "out of memory while parsing a template");
    tpl_arena_init(&tpl->arena, TREE_BYTES_MAX);
    int status = tpl_parse(tpl, source, err);
    if (status == 0)
        status = tpl_resolve(tpl, err);
    if (status < 0) {
        chat_template_free(tpl);
        return status;
    }
    *out = tpl;
    return 0;
}

void chat_template_free(struct chat_template *chat_template)
{
    if (!chat_template)
        return;
    tpl_arena_finish(&chat_template->arena);
    mem_free(chat_template);
}

size_t chat_template_bytes(const struct chat_template *chat_template)
{
    return sizeof *chat_template + (size_t)chat_template->arena.used;
}

/* ---- errors and limits of a run ---- */

bool tpl_fail(struct tpl_run *run, int code, const char *format, ...)
{
    char what[sizeof((struct hearth_error *)NULL)->text];
    if (run->code != 0)
        return false;
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    run->code = error_set(run->err, code, "template line %u: %s", run->line, what);
    return false;
}

bool tpl_raise(struct tpl_run *run, const char *format, ...)
{
    char what[sizeof((struct hearth_error *)NULL)->text];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    return tpl_fail(run, HEARTH_E_TEMPLATE, "%s", what);
}

bool tpl_raise_undefined(struct tpl_run *run, struct tpl_value undefined)
{
    const struct tpl_undefined *why = undefined.as.undefined;
    if (!why)
        return tpl_raise(run, "an undefined value is used");
    if (why->hint)
        return tpl_raise(run, "%s", why->hint);
    char number[TPL_NUMBER_MAX] = "?";
    struct text name = {number, 1};
    if (tpl_is_string(why->name))
        name = tpl_text(why->name);
    else if (tpl_is_integer(why->name))
        name.size = tpl_format_int(tpl_integer(why->name), number);
    if (why->of == TPL_MISSING)
        return tpl_raise(run, "'%.*s' is undefined", TEXT_ARGS(name));
    if (why->unsafe)
        return tpl_raise(run, "access to attribute '%.*s' of a %s object is unsafe",
                         TEXT_ARGS(name), tpl_type_name(why->of));
    return tpl_raise(run, "a %s object has no element or attribute '%.*s'", tpl_type_name(why->of),
                     TEXT_ARGS(name));
}

bool tpl_charge(struct tpl_run *run, uint64_t steps)
{
    if (steps <= run->limits.steps - run->steps) {
        run->steps += steps;
        return true;
    }
    run->steps = run->limits.steps;
    return tpl_fail(run, HEARTH_E_LIMIT, "the template takes more than %llu steps",
                    (unsigned long long)run->limits.steps);
}

static void *check_memory(struct tpl_run *run, void *memory)
{
    if (memory)
        return memory;
    if (run->arena.exhausted)
        tpl_fail(run, HEARTH_E_LIMIT, "the template takes more than %llu bytes of memory",
                 (unsigned long long)run->limits.memory);
    else
        tpl_fail(run, HEARTH_E_MEMORY, "out of memory");
    return NULL;
}

void *tpl_alloc(struct tpl_run *run, size_t size)
{
    return check_memory(run, tpl_arena_alloc(&run->arena, size));
}

void *tpl_alloc_array(struct tpl_run *run, size_t count, size_t size)
{
    size_t total = size && count > SIZE_MAX / 2 / size ? SIZE_MAX : count * size;
    return tpl_alloc(run, total);
}

void *tpl_grow(struct tpl_run *run, void *old, size_t old_size, size_t size)
{
    return check_memory(run, tpl_arena_grow(&run->arena, old, old_size, size));
}

bool tpl_enter(struct tpl_run *run)
{
    if (run->depth < run->limits.depth) {
        run->depth++;
        return true;
    }
    return tpl_fail(run, HEARTH_E_LIMIT, "calls or values are nested deeper than %u",
                    run->limits.depth);
}

/* ---- rendering ---- */

static int render(struct tpl_run *run, struct buffer *out)
{
    size_t names = run->tpl->name_count;
    run->globals = tpl_alloc_array(run, names, sizeof *run->globals);
    if (!run->globals || !tpl_push_frame(run, &run->tpl->scope) ||
        tpl_exec(run, run->tpl->body) == TPL_FLOW_FAIL)
        return run->code;
    struct buffer old = *out;
    if (buffer_append_text(out, buffer_text(&run->output)))
        return 0;
    out->failed = old.failed;
    return error_set(run->err, HEARTH_E_LIMIT, "the rendered template has %zu bytes, too many",
                     run->output.size);
}

int chat_template_render(const struct chat_template *chat_template, json_t *variables,
                         int64_t unix_seconds, const struct chat_template_limits *limits,
                         struct buffer *out, struct hearth_error *err)
{
    struct tpl_run run = {
        .tpl = chat_template,
        .variables = variables,
        .unix_seconds = unix_seconds,
        .limits = limits ? *limits : chat_template_default_limits,
        .err = err,
    };
    if (!json_is_object(variables))
        return error_set(err, HEARTH_E_ARGUMENT, "a template's variables are a JSON object");
    tpl_arena_init(&run.arena, run.limits.memory);
    buffer_init(&run.output,
                run.limits.memory > SIZE_MAX / 2 ? SIZE_MAX / 2 : (size_t)run.limits.memory);
    int status = render(&run, out);
    buffer_finish(&run.output);
    tpl_arena_finish(&run.arena);
    return status;
}
