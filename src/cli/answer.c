#include "cli/answer.h"

#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "base/os.h"
#include "cli/console.h"
#include "cli/interrupt.h"
#include "cli/progress.h"

#define ANSWER_BYTES_MAX ((size_t)1 << 30)

/* ---- timeline ---- */

int timeline_open(struct timeline *timeline, const struct loaded *loaded, uint32_t context,
                  struct hearth_error *err)
{
    *timeline = (struct timeline){
        .loaded = loaded,
        .context = context ? context : loaded->info.context_length,
    };
    return hearth_sequence_open(loaded->engine, timeline->context, &timeline->sequence, err);
}

void timeline_close(struct timeline *timeline)
{
    interrupt_leave();
    hearth_sequence_close(timeline->sequence);
    mem_free(timeline->ids);
    *timeline = (struct timeline){0};
}

static int timeline_reserve(struct timeline *timeline, size_t count, struct hearth_error *err)
{
    if (count <= timeline->capacity)
        return 0;
    size_t capacity = count + count / 2 + 64;
    uint32_t *ids = mem_realloc_array(timeline->ids, capacity, sizeof *ids);
    if (!ids)
        return error_set(err, HEARTH_E_MEMORY, "no memory for %zu tokens", capacity);
    timeline->ids = ids;
    timeline->capacity = capacity;
    return 0;
}

int timeline_push(struct timeline *timeline, uint32_t id, struct hearth_error *err)
{
    int status = timeline_reserve(timeline, timeline->count + 1, err);
    if (!status)
        timeline->ids[timeline->count++] = id;
    return status;
}

/* Leaves in the sequence what it shares with a prompt, but not its last token: the logits after
 * that one are what an answer begins with. */
static int keep_common(struct timeline *timeline, const uint32_t *prompt, size_t count,
                       size_t *kept, struct hearth_error *err)
{
    size_t computed = hearth_sequence_length(timeline->sequence), common = 0;
    while (common < computed && common + 1 < count && timeline->ids[common] == prompt[common])
        common++;
    int status = hearth_sequence_truncate(timeline->sequence, common, err);
    if (status == HEARTH_E_STATE) { /* a window has moved on: everything again */
        common = 0;
        status = hearth_sequence_truncate(timeline->sequence, 0, err);
    }
    *kept = common;
    return status;
}

static int queue_prompt(struct timeline *timeline, const uint32_t *prompt, size_t count,
                        struct answer *answer, struct hearth_error *err)
{
    if (count == 0)
        return error_set(err, HEARTH_E_ARGUMENT, "the prompt is empty");
    if (count > timeline->context)
        return error_set(err, HEARTH_E_LIMIT,
                         "the prompt has %zu tokens, the context holds %u (-c sets it)", count,
                         timeline->context);
    int status = timeline_reserve(timeline, count, err);
    if (!status)
        status = keep_common(timeline, prompt, count, &answer->reused_count, err);
    if (status)
        return status;
    memcpy(timeline->ids, prompt, count * sizeof *prompt);
    timeline->count = answer->prompt_count = count;
    return hearth_sequence_extend(timeline->sequence, prompt + answer->reused_count,
                                  count - answer->reused_count, HEARTH_LOGITS_LAST, err);
}

/* ---- the computation ---- */

struct work {
    struct timeline *timeline;
    const struct answer_options *options;
    struct answer *answer;
    struct hearth_sampler *sampler;
    struct hearth_stream *stream;
    uint64_t begin_ns, prompt_end_ns;
};

/* One step, also for a Ctrl-C that came since the last: extending cleared its mark on the sequence.
 * HEARTH_E_CANCELLED when the answer is to end. */
static int step(struct work *work, struct hearth_error *err)
{
    if (interrupt_came())
        return HEARTH_E_CANCELLED;
    int status = hearth_engine_step(work->timeline->loaded->engine, NULL, err);
    return status ? status : hearth_sequence_status(work->timeline->sequence, err);
}

static int compute_prompt(struct work *work, struct hearth_error *err)
{
    struct progress progress;
    struct hearth_sequence *sequence = work->timeline->sequence;
    size_t total = hearth_sequence_pending(sequence);
    int status = 0;
    progress_begin(&progress, "reading the prompt");
    while (!status && hearth_sequence_pending(sequence) > 0) {
        status = step(work, err);
        size_t done = total - hearth_sequence_pending(sequence);
        progress_update(&progress, (double)done / (double)total, NULL);
    }
    progress_end(&progress);
    work->prompt_end_ns = os_monotonic_ns();
    work->answer->prompt_ns = work->prompt_end_ns - work->begin_ns;
    return status;
}

static int show(struct work *work, const char *text, size_t size, struct hearth_error *err)
{
    if (!buffer_append(&work->answer->text, text, size))
        return error_set(err, HEARTH_E_LIMIT, "the answer is too long for the memory");
    if (!work->options->quiet)
        console_show((struct text){text, size});
    return 0;
}

/* Keeps and shows a token; *ended says that the answer ends with it. */
static int take_token(struct work *work, uint32_t id, bool *ended, struct hearth_error *err)
{
    struct timeline *timeline = work->timeline;
    struct answer *answer = work->answer;
    const char *text;
    size_t size;
    bool stopped;
    int status = hearth_stream_push(work->stream, id, &text, &size, &stopped, err);
    if (!status)
        status = show(work, text, size, err);
    if (!status)
        status = timeline_push(timeline, id, err);
    if (status)
        return status;
    *ended = true;
    uint32_t max_tokens = work->options->max_tokens;
    if (stopped)
        answer->stop = ANSWER_STRING;
    else if (max_tokens && timeline->count - answer->prompt_count >= max_tokens)
        answer->stop = ANSWER_LENGTH;
    else if (hearth_sequence_length(timeline->sequence) >= timeline->context)
        answer->stop = ANSWER_CONTEXT;
    else
        *ended = false;
    return 0;
}

static int draw(struct work *work, uint32_t *id, struct hearth_error *err)
{
    size_t rows = hearth_sequence_logit_rows(work->timeline->sequence);
    const float *logits = hearth_sequence_logits(work->timeline->sequence, rows - 1);
    return hearth_sampler_sample(work->sampler, logits, id, err);
}

static int compute_tokens(struct work *work, struct hearth_error *err)
{
    struct answer *answer = work->answer;
    const struct loaded *loaded = work->timeline->loaded;
    for (;;) {
        uint32_t id;
        bool ended;
        int status = draw(work, &id, err);
        if (status)
            return status;
        if (answer->first_token_ns == 0)
            answer->first_token_ns = os_monotonic_ns() - work->begin_ns;
        if (hearth_is_end(loaded->model, id)) {
            answer->stop = ANSWER_END;
            answer->end_id = id;
            return 0;
        }
        status = take_token(work, id, &ended, err);
        if (status || ended)
            return status;
        status = hearth_sequence_extend(work->timeline->sequence, &id, 1, HEARTH_LOGITS_LAST, err);
        if (!status)
            status = step(work, err);
        if (status)
            return status;
        answer->decode_count++;
        answer->decode_ns = os_monotonic_ns() - work->prompt_end_ns;
    }
}

static int open_work(struct work *work, const uint32_t *prompt, size_t count,
                     struct hearth_error *err)
{
    const struct answer_options *options = work->options;
    const struct hearth_model *model = work->timeline->loaded->model;
    struct hearth_stream_options stream = {
        .stop = options->stop,
        .stop_count = options->stop_count,
        .continues = options->continues,
    };
    int status = hearth_stream_open(model, &stream, &work->stream, err);
    if (!status)
        status = hearth_sampler_open(model, options->sampling, &work->sampler, err);
    for (size_t i = 0; i < count && !status; i++)
        status = hearth_sampler_accept(work->sampler, prompt[i], err);
    if (!status)
        status = queue_prompt(work->timeline, prompt, count, work->answer, err);
    return status;
}

static int run_work(struct work *work, struct hearth_error *err)
{
    const char *text;
    size_t size;
    int status = compute_prompt(work, err);
    if (!status)
        status = compute_tokens(work, err);
    if (status == HEARTH_E_CANCELLED) {
        work->answer->stop = ANSWER_CANCELLED;
        status = 0;
    }
    if (!status && work->answer->stop != ANSWER_STRING) {
        status = hearth_stream_flush(work->stream, &text, &size, err);
        if (!status)
            status = show(work, text, size, err);
    }
    return status;
}

int answer_compute(struct timeline *timeline, const uint32_t *prompt, size_t count,
                   const struct answer_options *options, struct answer *answer,
                   struct hearth_error *err)
{
    struct work work = {
        .timeline = timeline,
        .options = options,
        .answer = answer,
        .begin_ns = os_monotonic_ns(),
    };
    *answer = (struct answer){.end_id = HEARTH_TOKEN_NONE};
    buffer_init(&answer->text, ANSWER_BYTES_MAX);
    interrupt_cancel(timeline->sequence);
    int status = open_work(&work, prompt, count, err);
    if (!status)
        status = run_work(&work, err);
    interrupt_leave();
    hearth_sampler_close(work.sampler);
    hearth_stream_close(work.stream);
    if (status)
        answer_finish(answer);
    return status;
}

void answer_finish(struct answer *answer)
{
    buffer_finish(&answer->text);
}

/* ---- what is told of it ---- */

const char *answer_stop_name(enum answer_stop stop)
{
    static const char *const names[] = {
        [ANSWER_END] = "end",
        [ANSWER_LENGTH] = "length",
        [ANSWER_STRING] = "stop_string",
        [ANSWER_CONTEXT] = "context",
        [ANSWER_CANCELLED] = "cancelled",
    };
    return names[stop];
}

json_t *answer_timings_json(const struct answer *answer, const struct timeline *timeline)
{
    size_t computed = answer->prompt_count - answer->reused_count;
    size_t tokens = timeline->count - answer->prompt_count;
    return json_pack("{s:o, s:I, s:o, s:o, s:o, s:I, s:o, s:o}", "load_ms",
                     json_rounded(ms_of(timeline->loaded->load_ns), 3), "prompt_tokens",
                     (json_int_t)computed, "prompt_ms", json_rounded(ms_of(answer->prompt_ns), 3),
                     "prompt_tokens_per_s",
                     json_rounded(per_second(computed, answer->prompt_ns), 2), "first_token_ms",
                     json_rounded(ms_of(answer->first_token_ns), 3), "tokens", (json_int_t)tokens,
                     "decode_ms", json_rounded(ms_of(answer->decode_ns), 3), "tokens_per_s",
                     json_rounded(per_second(answer->decode_count, answer->decode_ns), 2));
}

void answer_say_timings(const struct answer *answer, const struct timeline *timeline)
{
    size_t computed = answer->prompt_count - answer->reused_count;
    char load[SIZE_TEXT_MAX], prompt[SIZE_TEXT_MAX], first[SIZE_TEXT_MAX], decode[SIZE_TEXT_MAX];
    char kept[64] = "";
    if (answer->reused_count > 0)
        snprintf(kept, sizeof kept, " (%zu of them kept from before)", answer->reused_count);
    console_say("prompt: %zu tokens%s in %s, %.1f tokens/s", answer->prompt_count, kept,
                duration_text(answer->prompt_ns, prompt), per_second(computed, answer->prompt_ns));
    console_say("answer: %zu tokens in %s, %.1f tokens/s; the first after %s, the model was loaded "
                "in %s; ended by: %s",
                timeline->count - answer->prompt_count, duration_text(answer->decode_ns, decode),
                per_second(answer->decode_count, answer->decode_ns),
                duration_text(answer->first_token_ns, first),
                duration_text(timeline->loaded->load_ns, load), answer_stop_name(answer->stop));
    load_say_memory(timeline->loaded);
}
