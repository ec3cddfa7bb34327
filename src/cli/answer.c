#include "cli/answer.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "cli/console.h"
#include "cli/interrupt.h"
#include "cli/progress.h"

#define ANSWER_BYTES_MAX ((size_t)1 << 30)

/* ---- the computation ---- */

struct work {
    const struct answer_options *options;
    struct answer *answer;
    struct progress progress; /* of the prompt */
    bool ended;
};

static void on_progress(void *context, size_t done, size_t total)
{
    struct work *work = context;
    progress_update(&work->progress, (double)done / (double)total, NULL);
    if (done == total)
        progress_end(&work->progress);
}

static void on_text(void *context, const char *text, size_t size)
{
    const struct work *work = context;
    if (!work->options->quiet)
        console_show((struct text){text, size});
}

/* Takes copies of what ends with the request, which Ctrl-C cannot reach any more. */
static void on_end(void *context, const struct hearth_result *result)
{
    struct work *work = context;
    struct answer *answer = work->answer;
    interrupt_leave();
    progress_end(&work->progress);
    work->ended = true;
    answer->result = *result;
    buffer_append(&answer->text, result->text, result->text_size);
    answer->ids = mem_alloc_array(result->id_count + 1, sizeof *answer->ids);
    if (!answer->ids || answer->text.failed) {
        answer->result.stop = HEARTH_STOP_ERROR;
        error_set(&answer->result.error, HEARTH_E_MEMORY, "no memory for the answer");
        return;
    }
    if (result->id_count > 0)
        memcpy(answer->ids, result->ids, result->id_count * sizeof *answer->ids);
    answer->result.text = answer->text.data;
    answer->result.ids = answer->ids;
}

int answer_compute(struct hearth_sessions *sessions, struct hearth_session *session,
                   const struct answer_options *options, struct answer *answer,
                   struct hearth_error *err)
{
    struct work work = {.options = options, .answer = answer};
    struct hearth_ask ask = {
        .sampling = options->sampling,
        .stop = options->stop,
        .stop_count = options->stop_count,
        .max_tokens = options->max_tokens,
        .no_speculation = !options->speculate,
        .on_progress = on_progress,
        .on_text = on_text,
        .on_end = on_end,
        .context = &work,
    };
    struct hearth_request *request;
    uint64_t wait_ns;
    int status = hearth_session_ask(session, &ask, &request, err);
    if (status)
        return status;
    *answer = (struct answer){0};
    buffer_init(&answer->text, ANSWER_BYTES_MAX);
    progress_begin(&work.progress, "reading the prompt");
    interrupt_cancel_request(request);
    while (!work.ended)
        hearth_sessions_step(sessions, &wait_ns);
    const struct hearth_result *result = &answer->result;
    bool kept = result->error.code == HEARTH_E_LIMIT && result->text_size > 0;
    if (result->stop != HEARTH_STOP_ERROR || kept)
        return 0;
    if (err)
        *err = answer->result.error;
    status = answer->result.error.code;
    answer_finish(answer);
    return status;
}

void answer_finish(struct answer *answer)
{
    buffer_finish(&answer->text);
    mem_free(answer->ids);
    *answer = (struct answer){0};
}

/* ---- what is told of it ---- */

const char *answer_stop_name(enum hearth_stop stop)
{
    static const char *const names[] = {
        [HEARTH_STOP_END] = "end",
        [HEARTH_STOP_LENGTH] = "length",
        [HEARTH_STOP_STRING] = "stop_string",
        [HEARTH_STOP_CONTEXT] = "context",
        [HEARTH_STOP_CANCELLED] = "cancelled",
        [HEARTH_STOP_ERROR] = "context", /* with a text: see answer_compute */
    };
    return names[stop];
}

static const struct {
    const char *name, *reason; /* NULL where there is nothing to explain */
} misses[] = {
    [HEARTH_MISS_NOTHING] = {"nothing", NULL},
    [HEARTH_MISS_NEW] = {"new", NULL},
    [HEARTH_MISS_EDITED] = {"edited", "earlier messages are others than before"},
    [HEARTH_MISS_TEMPLATE] = {"template",
                              "the model's template writes earlier messages differently"},
    [HEARTH_MISS_EVICTED] = {"evicted", "what was computed had given way to something else"},
    [HEARTH_MISS_WINDOW] = {"window", "the model's attention window does not reach back so far"},
    [HEARTH_MISS_MODEL] = {"model", "it was computed by another model, or with another --kv"},
    [HEARTH_MISS_DAMAGED] = {"damaged", "what was kept on the disk is damaged"},
    [HEARTH_MISS_DROPPED] = {"dropped", "turns were dropped"},
};

const char *answer_miss_name(enum hearth_miss miss)
{
    return misses[miss].name;
}

void answer_say_loss(const struct answer *answer)
{
    enum hearth_miss miss = answer->result.miss;
    if (miss == HEARTH_MISS_MODEL || miss == HEARTH_MISS_DAMAGED)
        console_say("the conversation was computed again: %s", misses[miss].reason);
}

json_t *answer_timings_json(const struct answer *answer, const struct loaded *loaded)
{
    const struct hearth_result *r = &answer->result;
    size_t computed = r->prompt_tokens - r->cached_tokens;
    return json_pack(
        "{s:o, s:I, s:I, s:o, s:o, s:o, s:I, s:o, s:o, s:I, s:I}", "load_ms",
        json_rounded(ms_of(loaded->load_ns), 3), "cached_tokens", (json_int_t)r->cached_tokens,
        "prompt_tokens", (json_int_t)computed, "prompt_ms", json_rounded(ms_of(r->prompt_ns), 3),
        "prompt_tokens_per_s", json_rounded(per_second(computed, r->prompt_ns), 2),
        "first_token_ms", json_rounded(ms_of(r->first_token_ns), 3), "tokens",
        (json_int_t)r->answer_tokens, "decode_ms", json_rounded(ms_of(r->answer_ns), 3),
        "tokens_per_s", json_rounded(per_second(r->decode_tokens, r->answer_ns), 2), "drafted",
        (json_int_t)r->drafted, "accepted", (json_int_t)r->accepted);
}

void answer_say_timings(const struct answer *answer, uint64_t load_ns)
{
    const struct hearth_result *r = &answer->result;
    size_t computed = r->prompt_tokens - r->cached_tokens;
    char loaded[64] = "", load[SIZE_TEXT_MAX], prompt[SIZE_TEXT_MAX], first[SIZE_TEXT_MAX],
         decode[SIZE_TEXT_MAX];
    char kept[64] = "";
    if (r->cached_tokens > 0)
        snprintf(kept, sizeof kept, " (%zu of them kept from before)", r->cached_tokens);
    console_say("prompt: %zu tokens%s in %s, %.1f tokens/s", r->prompt_tokens, kept,
                duration_text(r->prompt_ns, prompt), per_second(computed, r->prompt_ns));
    if (misses[r->miss].reason)
        console_say("not more were kept: %s", misses[r->miss].reason);
    if (load_ns)
        snprintf(loaded, sizeof loaded, ", the model was loaded in %s",
                 duration_text(load_ns, load));
    console_say("answer: %zu tokens in %s, %.1f tokens/s; the first after %s%s; ended by: %s",
                r->answer_tokens, duration_text(r->answer_ns, decode),
                per_second(r->decode_tokens, r->answer_ns), duration_text(r->first_token_ns, first),
                loaded, answer_stop_name(r->stop));
    if (r->drafted > 0)
        console_say("guessed: %" PRIu64 " tokens, %" PRIu64 " of them right", r->drafted,
                    r->accepted);
}
