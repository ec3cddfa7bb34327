/* Measures what living with many conversations costs, through the public interface alone:
 *
 *     bench_conversations MODEL [FOLDER]
 *
 * the first token of a second turn, of a conversation that is read back from its spill, of eight
 * that begin at once and of each when it is returned to; the private memory of two hundred under a
 * budget of the weights and 200 MB, and after the idle clean-up. FOLDER (the current one) is where
 * a store is made and removed again. */

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "hearth/session.h"

#define TEXT_MAX 65536
#define MANY 200
#define BUDGET_PRIVATE UINT64_C(200000000)

struct bench {
    struct hearth_model *model;
    struct hearth_engine *engine;
    struct hearth_store *store;
    struct hearth_sessions *sessions;
    uint64_t ahead_ns; /* the clock of the conversations is so far ahead of the real one */
    uint64_t private_most;
};

struct turn {
    const struct bench *bench;
    uint64_t asked_ns, first_ns, end_ns;
    struct hearth_result result;
    bool ended;
};

static uint64_t real_ns(void)
{
    struct timespec now;
    timespec_get(&now, TIME_UTC);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static uint64_t ahead_ns(void *context)
{
    return real_ns() + ((const struct bench *)context)->ahead_ns;
}

/* The bench ends where something fails. */
static void check(int status, const struct hearth_error *err)
{
    if (!status)
        return;
    fprintf(stderr, "bench_conversations: %s\n", err->text);
    exit(1);
}

static double seconds(uint64_t ns)
{
    return (double)ns * 1e-9;
}

/* ---- turns ---- */

static void take_text(void *context, const char *text, size_t size)
{
    struct turn *turn = context;
    (void)text;
    (void)size;
    if (turn->first_ns == 0)
        turn->first_ns = real_ns();
}

static void take_end(void *context, const struct hearth_result *result)
{
    struct turn *turn = context;
    turn->result = *result;
    turn->end_ns = real_ns();
    turn->ended = true;
    if (result->stop == HEARTH_STOP_ERROR)
        check(result->error.code, &result->error);
}

static uint64_t private_bytes(void)
{
    struct hearth_memory memory;
    hearth_process_memory(&memory);
    return memory.private_bytes;
}

/* Returns how long there is nothing to do, in nanoseconds. */
static uint64_t step(struct bench *bench)
{
    uint64_t wait;
    hearth_sessions_step(bench->sessions, &wait);
    uint64_t now = private_bytes();
    bench->private_most = now > bench->private_most ? now : bench->private_most;
    return wait;
}

/* A text of about so many tokens, another one for each number. */
static void make_text(const struct bench *bench, unsigned number, size_t tokens, char *text)
{
    static const char *const words[] = {"river", "stone", "lamp",  "garden", "paper", "window",
                                        "cloud", "bread", "train", "letter", "field", "music"};
    size_t size = 0, count = 0;
    for (unsigned i = 0; count < tokens && size + 16 < TEXT_MAX; i++) {
        uint32_t *ids;
        size += (size_t)snprintf(text + size, TEXT_MAX - size, "%s%s", i ? " " : "",
                                 words[(number * 7 + i * (number % 5 + 1) + i / 12) % 12]);
        if (i % 16 != 0)
            continue;
        check(hearth_tokenize(bench->model, text, size, 0, &ids, &count, NULL), NULL);
        hearth_free(ids);
    }
}

static void ask(struct bench *bench, struct hearth_session *session, const char *text,
                uint32_t answer, struct turn *turn)
{
    static char message[TEXT_MAX + 64];
    struct hearth_error err;
    struct hearth_sampling sampling;
    /* a random model ends when it likes: its end is forbidden, so that each answers as long */
    struct hearth_model_info info;
    hearth_model_info(bench->model, &info);
    struct hearth_logit_bias no_end = {info.eos, -1e9f};
    hearth_sampling_default(&sampling);
    sampling.temperature = 0.0f;
    sampling.bias = &no_end;
    sampling.bias_count = info.eos == HEARTH_TOKEN_NONE ? 0 : 1;
    *turn = (struct turn){.bench = bench, .asked_ns = real_ns()};
    const struct hearth_ask what = {.sampling = &sampling,
                                    .max_tokens = answer,
                                    .no_speculation = true,
                                    .on_text = take_text,
                                    .on_end = take_end,
                                    .context = turn};
    int size = snprintf(message, sizeof message, "{\"role\":\"user\",\"content\":\"%s\"}", text);
    check(hearth_session_append(session, message, (size_t)size, &err), &err);
    check(hearth_session_ask(session, &what, NULL, &err), &err);
}

static struct turn take_turn(struct bench *bench, struct hearth_session *session, const char *text,
                             uint32_t answer)
{
    struct turn turn;
    ask(bench, session, text, answer, &turn);
    while (!turn.ended)
        step(bench);
    return turn;
}

static double first_token(const struct turn *turn)
{
    return seconds((turn->first_ns ? turn->first_ns : turn->end_ns) - turn->asked_ns);
}

/* ---- the set ---- */

static void open_set(struct bench *bench, uint64_t memory_max)
{
    const struct hearth_engine_options engine = {
        .kv_type = HEARTH_KV_Q8_0, .memory_max = memory_max, .fit = HEARTH_FIT_SHRINK};
    const struct hearth_sessions_options options = {
        .store = bench->store, .now = ahead_ns, .clock_context = bench};
    struct hearth_error err;
    check(hearth_engine_open(bench->model, &engine, &bench->engine, &err), &err);
    check(hearth_sessions_open(bench->model, bench->engine, &options, &bench->sessions, &err),
          &err);
    bench->private_most = 0;
}

static void close_set(struct bench *bench)
{
    hearth_sessions_close(bench->sessions);
    hearth_engine_close(bench->engine);
}

static struct hearth_session *open_one(struct bench *bench, const char *kind, unsigned number)
{
    struct hearth_session *session;
    struct hearth_error err;
    char key[32];
    snprintf(key, sizeof key, "%s %u", kind, number);
    check(hearth_session_open(bench->sessions, key, &session, &err), &err);
    return session;
}

/* Five minutes without use. */
static void idle(struct bench *bench)
{
    bench->ahead_ns += UINT64_C(301) * 1000000000;
    while (step(bench) == 0)
        continue;
}

/* ---- what is measured ---- */

static void second_turn(struct bench *bench)
{
    static char text[TEXT_MAX];
    struct hearth_session *session = open_one(bench, "chat", 0);
    make_text(bench, 0, 740, text);
    struct turn first = take_turn(bench, session, text, 16);
    make_text(bench, 1, 8, text);
    struct turn second = take_turn(bench, session, text, 16);
    printf("first turn of %zu tokens, first token:          %6.3f s\n", first.result.prompt_tokens,
           first_token(&first));
    printf("second turn (%zu of %zu tokens known), first token: %6.3f s\n",
           second.result.cached_tokens, second.result.prompt_tokens, first_token(&second));
    hearth_session_close(session);
}

static void restoring(struct bench *bench)
{
    static char text[TEXT_MAX], more[TEXT_MAX];
    struct hearth_session *session = open_one(bench, "long", 0);
    make_text(bench, 2, 1980, text);
    make_text(bench, 3, 8, more);
    struct turn computed = take_turn(bench, session, text, 8);
    struct turn known = take_turn(bench, session, more, 8);
    uint64_t before = private_bytes();
    uint64_t begin = real_ns();
    idle(bench);
    uint64_t spilled = real_ns();
    printf("%zu tokens: computed in %.2f s, spilled in %.3f s\n", computed.result.prompt_tokens,
           first_token(&computed), seconds(spilled - begin));
    printf("private memory before and after the idle clean-up: %.0f MB, %.0f MB\n",
           (double)before * 1e-6, (double)private_bytes() * 1e-6);
    struct turn back = take_turn(bench, session, more, 8);
    printf("next turn: first token %.3f s (%zu of %zu tokens known), from memory %.3f s: "
           "read back in %.3f s\n",
           first_token(&back), back.result.cached_tokens, back.result.prompt_tokens,
           first_token(&known), first_token(&back) - first_token(&known));
    hearth_session_close(session);
}

static void eight_at_once(struct bench *bench)
{
    static char text[TEXT_MAX];
    struct hearth_session *sessions[8];
    struct turn turns[8];
    uint64_t begin = real_ns();
    double slowest = 0;
    for (unsigned i = 0; i < 8; i++) {
        sessions[i] = open_one(bench, "eight", i);
        make_text(bench, 10 + i, 190, text);
        ask(bench, sessions[i], text, 24, &turns[i]);
    }
    for (unsigned i = 0; i < 8; i++) {
        while (!turns[i].ended)
            step(bench);
    }
    printf("eight of %zu tokens at once, 24 tokens each:    %6.2f s\n",
           turns[0].result.prompt_tokens, seconds(real_ns() - begin));
    make_text(bench, 30, 8, text);
    for (unsigned i = 0; i < 8; i++) {
        struct turn turn = take_turn(bench, sessions[i], text, 4);
        slowest = first_token(&turn) > slowest ? first_token(&turn) : slowest;
        hearth_session_close(sessions[i]);
    }
    printf("returning to each, first token, the slowest:   %6.3f s\n", slowest);
}

static void two_hundred(struct bench *bench)
{
    static char text[TEXT_MAX];
    double slowest = 0, sum = 0;
    for (unsigned i = 0; i < MANY; i++) {
        struct hearth_session *session = open_one(bench, "many", i);
        make_text(bench, 100 + i, 80, text);
        take_turn(bench, session, text, 4);
        hearth_session_close(session);
    }
    make_text(bench, 30, 8, text);
    for (unsigned i = 0; i < MANY; i += 9) {
        struct hearth_session *session = open_one(bench, "many", i);
        struct turn turn = take_turn(bench, session, text, 4);
        sum += first_token(&turn);
        slowest = first_token(&turn) > slowest ? first_token(&turn) : slowest;
        hearth_session_close(session);
    }
    printf("%d conversations under the weights + %.0f MB: private memory at most %.0f MB; "
           "returning to one takes %.3f s, at most %.3f s\n",
           MANY, (double)BUDGET_PRIVATE * 1e-6, (double)bench->private_most * 1e-6,
           sum / ((MANY + 8) / 9), slowest);
    idle(bench);
    printf("after the idle clean-up: %.0f MB\n", (double)private_bytes() * 1e-6);
}

int main(int argc, char **argv)
{
    struct bench bench = {0};
    struct hearth_error err;
    struct hearth_model_info info;
    char folder[512];
    if (argc < 2) {
        fputs("usage: bench_conversations MODEL [FOLDER]\n", stderr);
        return 2;
    }
    snprintf(folder, sizeof folder, "%s/conversations.bench", argc > 2 ? argv[2] : ".");
    const struct hearth_store_options store = {.directory = folder};
    check(hearth_model_open(argv[1], NULL, &bench.model, &err), &err);
    hearth_model_info(bench.model, &info);
    check(hearth_store_open(&store, &bench.store, &err), &err);
    open_set(&bench, HEARTH_MEMORY_UNLIMITED);
    second_turn(&bench);
    restoring(&bench);
    eight_at_once(&bench);
    close_set(&bench);
    open_set(&bench, info.file_bytes + BUDGET_PRIVATE);
    two_hundred(&bench);
    close_set(&bench);
    hearth_store_close(bench.store);
    hearth_model_close(bench.model);
    return 0;
}
