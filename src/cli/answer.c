#include "cli/answer.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "base/os.h"
#include "cli/console.h"
#include "cli/interrupt.h"
#include "cli/progress.h"

#define ANSWER_BYTES_MAX ((size_t)1 << 30)
#define GUESSES_MAX                                                                                \
    7 /* more rows at once would cost more than they save, in time and in logits                   \
       */

/* ---- timeline ---- */

int timeline_open(struct timeline *timeline, const struct loaded *loaded, uint32_t context,
                  struct hearth_error *err)
{
    *timeline = (struct timeline){
        .loaded = loaded,
        .context = context ? context : loaded->info.context_length,
    };
    int status = hearth_draft_open(NULL, &timeline->draft, err);
    if (status)
        return status;
    return hearth_sequence_open(loaded->engine, timeline->context, &timeline->sequence, err);
}

void timeline_close(struct timeline *timeline)
{
    interrupt_leave();
    hearth_sequence_close(timeline->sequence);
    hearth_draft_close(timeline->draft);
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
    struct hearth_draft *draft; /* NULL: one token a step */
    uint64_t begin_ns, prompt_end_ns;
    bool ended;
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

/* Keeps and shows a token; work->ended says that the answer ends with it. */
static int take_token(struct work *work, uint32_t id, struct hearth_error *err)
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
    work->ended = true;
    uint32_t max_tokens = work->options->max_tokens;
    if (stopped)
        answer->stop = ANSWER_STRING;
    else if (max_tokens && timeline->count - answer->prompt_count >= max_tokens)
        answer->stop = ANSWER_LENGTH;
    else if (timeline->count > timeline->context)
        answer->stop = ANSWER_CONTEXT;
    else
        work->ended = false;
    return 0;
}

/* Draws the token behind a row of logits and takes it. */
static int draw(struct work *work, size_t row, uint32_t *id, struct hearth_error *err)
{
    struct answer *answer = work->answer;
    const float *logits = hearth_sequence_logits(work->timeline->sequence, row);
    int status = hearth_sampler_sample(work->sampler, logits, id, err);
    if (status)
        return status;
    if (answer->first_token_ns == 0)
        answer->first_token_ns = os_monotonic_ns() - work->begin_ns;
    else
        answer->decode_count++;
    if (work->draft)
        hearth_draft_accept(work->draft, *id);
    if (!hearth_is_end(work->timeline->loaded->model, *id))
        return take_token(work, *id, err);
    work->ended = true;
    answer->stop = ANSWER_END;
    answer->end_id = *id;
    return 0;
}

/* The tokens to compute next: the one that was drawn last, and guesses of what follows. Computed
 * together they give the logits that they would give one by one. */
static int extend(struct work *work, uint32_t batch[GUESSES_MAX + 1], size_t *count,
                  struct hearth_error *err)
{
    struct timeline *timeline = work->timeline;
    size_t room = timeline->context - timeline->count;
    uint32_t max_tokens = work->options->max_tokens;
    if (max_tokens) { /* the last token need not be computed */
        size_t left = max_tokens - (timeline->count - work->answer->prompt_count) - 1;
        room = room < left ? room : left;
    }
    batch[0] = timeline->ids[timeline->count - 1];
    *count = 1;
    if (work->draft)
        *count +=
            hearth_draft_propose(work->draft, room < GUESSES_MAX ? room : GUESSES_MAX, batch + 1);
    return hearth_sequence_extend(timeline->sequence, batch, *count, HEARTH_LOGITS_ALL, err);
}

/* A step, and tokens from its logits as long as they are those that were guessed. */
static int compute_batch(struct work *work, const uint32_t *batch, size_t count,
                         struct hearth_error *err)
{
    struct hearth_sequence *sequence = work->timeline->sequence;
    bool guessed = true;
    size_t at = 0;
    while (guessed && !work->ended && at < count) {
        uint64_t begin_ns = os_monotonic_ns();
        int status = step(work, err);
        uint64_t end_ns = os_monotonic_ns();
        if (status)
            return status;
        work->answer->decode_ns = end_ns - work->prompt_end_ns;
        size_t rows = hearth_sequence_logit_rows(sequence);
        if (work->draft)
            hearth_draft_took(work->draft, rows, end_ns - begin_ns);
        for (size_t row = 0; row < rows && guessed && !work->ended; row++) {
            uint32_t id;
            status = draw(work, row, &id, err);
            if (status)
                return status;
            at++;
            guessed = at < count && batch[at] == id;
        }
    }
    return 0;
}

/* What is computed are the timeline's ids again, but for the last where nothing was computed behind
 * it: guesses that were wrong, or that stand behind the end of the answer, are dropped. */
static int drop_guesses(const struct work *work, struct hearth_error *err)
{
    const struct timeline *timeline = work->timeline;
    size_t held = work->ended ? timeline->count : timeline->count - 1;
    if (hearth_sequence_length(timeline->sequence) <= held &&
        hearth_sequence_pending(timeline->sequence) == 0)
        return 0;
    return hearth_sequence_truncate(timeline->sequence, held, err);
}

static int compute_tokens(struct work *work, struct hearth_error *err)
{
    uint32_t batch[GUESSES_MAX + 1], id;
    size_t count, rows = hearth_sequence_logit_rows(work->timeline->sequence);
    int status = draw(work, rows - 1, &id, err);
    while (!status && !work->ended) {
        status = extend(work, batch, &count, err);
        if (!status)
            status = compute_batch(work, batch, count, err);
        if (!status)
            status = drop_guesses(work, err);
    }
    return status;
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
    if (work->draft)
        hearth_draft_restart(work->draft);
    for (size_t i = 0; i < count && !status; i++) {
        status = hearth_sampler_accept(work->sampler, prompt[i], err);
        if (work->draft)
            hearth_draft_accept(work->draft, prompt[i]);
    }
    if (!status)
        status = queue_prompt(work->timeline, prompt, count, work->answer, err);
    return status;
}

static void count_guesses(struct work *work, const struct hearth_draft_counts *before)
{
    struct hearth_draft_counts after;
    if (!work->draft)
        return;
    hearth_draft_counts(work->draft, &after);
    work->answer->drafted = after.drafted - before->drafted;
    work->answer->accepted = after.accepted - before->accepted;
}

static int run_work(struct work *work, struct hearth_error *err)
{
    struct hearth_draft_counts before = {0};
    const char *text;
    size_t size;
    if (work->draft)
        hearth_draft_counts(work->draft, &before);
    int status = compute_prompt(work, err);
    if (!status)
        status = compute_tokens(work, err);
    count_guesses(work, &before);
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
        .draft = options->speculate ? timeline->draft : NULL,
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
    return json_pack(
        "{s:o, s:I, s:o, s:o, s:o, s:I, s:o, s:o, s:I, s:I}", "load_ms",
        json_rounded(ms_of(timeline->loaded->load_ns), 3), "prompt_tokens", (json_int_t)computed,
        "prompt_ms", json_rounded(ms_of(answer->prompt_ns), 3), "prompt_tokens_per_s",
        json_rounded(per_second(computed, answer->prompt_ns), 2), "first_token_ms",
        json_rounded(ms_of(answer->first_token_ns), 3), "tokens", (json_int_t)tokens, "decode_ms",
        json_rounded(ms_of(answer->decode_ns), 3), "tokens_per_s",
        json_rounded(per_second(answer->decode_count, answer->decode_ns), 2), "drafted",
        (json_int_t)answer->drafted, "accepted", (json_int_t)answer->accepted);
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
    if (answer->drafted > 0)
        console_say("guessed: %" PRIu64 " tokens, %" PRIu64 " of them right", answer->drafted,
                    answer->accepted);
    load_say_memory(timeline->loaded);
}
