/* Words and objects that dialects share. */
#include <stdio.h>

#include "base/os.h"
#include "server/generation.h"

static int append(const char *bytes, size_t size, void *context)
{
    return buffer_append(context, bytes, size) ? 0 : -1;
}

void generation_write_json(struct buffer *out, const json_t *json)
{
    if (!json || json_dump_callback(json, append, out, JSON_COMPACT | JSON_ENCODE_ANY) != 0)
        out->failed = true;
}

const char *generation_stop_name(enum hearth_stop stop)
{
    return stop == HEARTH_STOP_LENGTH || stop == HEARTH_STOP_CONTEXT ? "length" : "stop";
}

const char *generation_miss_name(enum hearth_miss miss)
{
    static const char *const names[] = {
        [HEARTH_MISS_NOTHING] = "nothing", [HEARTH_MISS_NEW] = "new",
        [HEARTH_MISS_EDITED] = "edited",   [HEARTH_MISS_TEMPLATE] = "template",
        [HEARTH_MISS_EVICTED] = "evicted", [HEARTH_MISS_WINDOW] = "window",
        [HEARTH_MISS_MODEL] = "model",     [HEARTH_MISS_DAMAGED] = "damaged",
        [HEARTH_MISS_DROPPED] = "dropped",
    };
    return (size_t)miss < sizeof names / sizeof *names ? names[miss] : "unknown";
}

static double ms(uint64_t ns)
{
    return (double)ns / 1e6;
}

static double ratio(double a, double b)
{
    return b > 0 ? a / b : 0.0;
}

json_t *generation_timings(const struct work_end *end)
{
    double read = (double)end->prompt_tokens - (double)end->cached_tokens;
    double prompt_ms = ms(end->prompt_ns), answer_ms = ms(end->answer_ns);
    double decoded = (double)end->decode_tokens;
    json_t *timings = json_pack(
        "{s:I, s:I, s:f, s:f, s:f, s:I, s:f, s:f, s:f, s:f, s:s}", "cache_n",
        (json_int_t)end->cached_tokens, "prompt_n", (json_int_t)read, "prompt_ms", prompt_ms,
        "prompt_per_token_ms", ratio(prompt_ms, read), "prompt_per_second",
        ratio(1000 * read, prompt_ms), "predicted_n", (json_int_t)end->answer_tokens,
        "predicted_ms", answer_ms, "predicted_per_token_ms", ratio(answer_ms, decoded),
        "predicted_per_second", ratio(1000 * decoded, answer_ms), "queued_ms", ms(end->queued_ns),
        "cache_miss", generation_miss_name((enum hearth_miss)end->miss));
    if (timings && end->drafted > 0) {
        json_object_set_new(timings, "draft_n", json_integer((json_int_t)end->drafted));
        json_object_set_new(timings, "draft_n_accepted", json_integer((json_int_t)end->accepted));
    }
    return timings;
}

json_t *generation_usage(const struct generation_totals *totals)
{
    return json_pack(
        "{s:I, s:I, s:I, s:{s:I}, s:{s:I}}", "prompt_tokens", (json_int_t)totals->prompt_tokens,
        "completion_tokens", (json_int_t)totals->answer_tokens, "total_tokens",
        (json_int_t)(totals->prompt_tokens + totals->answer_tokens), "prompt_tokens_details",
        "cached_tokens", (json_int_t)totals->cached_tokens, "completion_tokens_details",
        "reasoning_tokens", (json_int_t)totals->reasoning_tokens);
}

void generation_id(const char *prefix, char id[64])
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    unsigned char bytes[24] = {0};
    char name[sizeof bytes + 1];
    os_random_bytes(bytes, sizeof bytes);
    for (size_t i = 0; i < sizeof bytes; i++)
        name[i] = letters[bytes[i] % (sizeof letters - 1)];
    name[sizeof bytes] = '\0';
    snprintf(id, 64, "%.32s%s", prefix, name);
}
