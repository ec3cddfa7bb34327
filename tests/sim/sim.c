/* The simulator: from one seed, texts are embedded, and conversations are opened, asked, cancelled,
 * forked, edited and forgotten, paused, released, left idle, starved of memory, kept on a disk that
 * fails, and found again by another run of the program, by a clock of its own, on a tiny model.
 * Whatever happens, each answer is the one that its prompt gets alone, each history is what was
 * said (after failures: at some moment before), and all memory comes back.
 *
 *     sim [--verbose] FIRST [LAST]     the seeds from FIRST to LAST
 *
 * A seed that fails says its number; `sim --verbose SEED` shows what led there. */

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "alone.h"
#include "base/memory.h"
#include "base/os.h"
#include "base/random.h"
#include "gguf/types.h"
#include "infer/tiny_model.h"
#include "session/sessions.h"
#include "store/disk_store.h"
#include "support/folder.h"

#define TALKS 24
#define EMBEDDING 64
#define SAID_MAX 64
#define VERSIONS_MAX 512
#define STEPS_MAX 20000 /* more without an end: something hangs */

enum shape { SHAPE_PLAIN, SHAPE_WINDOW, SHAPE_REWRITES, SHAPES };

/* ---- what must be ---- */

struct said {
    bool by_model;
    char *text;
};

/* A conversation as it must be. */
struct talk {
    char key[32]; /* empty: anonymous */
    struct hearth_session *session;
    struct said said[SAID_MAX];
    size_t count;
    size_t asked;                 /* and not answered */
    char *versions[VERSIONS_MAX]; /* of the messages, as JSON; what a failing disk may still have */
    size_t version_count;
    bool leaving; /* anonymous, its handle closed while it answers */
    enum hearth_overflow overflow;
    size_t dropped; /* messages that the last answer was given without */
};

/* A request. */
struct asked {
    struct world *world;
    struct talk *talk;
    struct hearth_session *session; /* lives at least until the request has ended */
    struct hearth_request *request; /* NULL when it has ended */
    struct hearth_sampling sampling;
    uint32_t max_tokens;
    size_t cancel_after; /* bytes of text; SIZE_MAX: never */
    bool may_be_cancelled, paused;
    char streamed[4096]; /* not allocated while allocations fail */
    size_t streamed_size;
    struct asked *next;
};

/* A text that is embedded. */
struct embedded {
    struct world *world;
    struct hearth_request *request; /* NULL when it has ended */
    bool may_be_cancelled, paused;
    char text[512];
    struct embedded *next;
};

struct world {
    uint64_t seed;
    struct random random;
    bool verbose;
    struct alone *alone;
    enum shape shape;
    struct hearth_engine *engine;
    struct hearth_sessions *sessions;
    uint64_t now;
    uint32_t context_max;
    uint64_t kv_bytes_max;
    bool starved; /* allocations fail now and then */
    bool stored;  /* there is a store */
    bool worn;    /* its disk fails now and then */
    bool pauses;  /* readers are slow now and then */
    char folder[TEST_FOLDER_MAX];
    struct hearth_store *store;
    struct os_file_faults faults;

    struct hearth_engine_options engine_options;
    struct hearth_sessions_options options;
    struct talk talks[TALKS];
    struct asked *asked;
    struct embedded *embedded;
    size_t answers; /* that were compared */
};

static void say(const struct world *world, const char *format, ...)
{
    if (!world->verbose)
        return;
    va_list arguments;
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    putchar('\n');
    fflush(stdout);
}

static _Noreturn void wrong(const struct world *world, const char *format, ...)
{
    va_list arguments;
    mem_fail_nth(0);
    fprintf(stderr, "seed %llu: ", (unsigned long long)world->seed);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    abort();
}

static size_t below(struct world *world, size_t limit)
{
    return (size_t)(random_u64(&world->random) % limit);
}

static bool chance(struct world *world, unsigned percent)
{
    return below(world, 100) < percent;
}

/* ---- histories ---- */

static void talk_push(struct talk *talk, bool by_model, const char *text)
{
    char *copy = malloc(strlen(text) + 1);
    if (!copy || talk->count == SAID_MAX)
        abort();
    strcpy(copy, text);
    talk->said[talk->count++] = (struct said){by_model, copy};
}

static void talk_truncate(struct talk *talk, size_t count)
{
    while (talk->count > count)
        free(talk->said[--talk->count].text);
}

static void talk_forget(struct talk *talk)
{
    talk_truncate(talk, 0);
    while (talk->version_count > 0)
        free(talk->versions[--talk->version_count]);
    *talk = (struct talk){0};
}

/* Messages as JSON, from the `from`th on `count` of them. Freed by the caller. */
static char *messages_json(const struct talk *talk, size_t from, size_t count)
{
    json_t *all = json_array();
    for (size_t i = from; i < from + count; i++) {
        const struct said *said = &talk->said[i];
        json_array_append_new(all,
                              json_pack("{s:s, s:s}", "role", said->by_model ? "assistant" : "user",
                                        "content", said->text));
    }
    char *text = json_dumps(all, JSON_COMPACT);
    json_decref(all);
    return text;
}

/* A later run may find this state where the disk does not take what comes after it. */
static void note_version(struct talk *talk)
{
    if (talk->key[0] && talk->version_count < VERSIONS_MAX)
        talk->versions[talk->version_count++] = messages_json(talk, 0, talk->count);
}

static json_t *held_messages(const struct world *world, const struct talk *talk,
                             struct hearth_session *session)
{
    char *text;
    size_t size;
    if (hearth_session_messages(session, &text, &size, NULL))
        wrong(world, "the messages of \"%s\" cannot be read", talk->key);
    json_t *held = json_loads(text, 0, NULL);
    hearth_free(text);
    return held;
}

/* Compares what the product holds with what was said. */
static void check_history(const struct world *world, const struct talk *talk,
                          struct hearth_session *session)
{
    json_t *held = held_messages(world, talk, session);
    char *expected = messages_json(talk, 0, talk->count);
    json_t *must = json_loads(expected, 0, NULL);
    if (!json_equal(held, must))
        wrong(world, "the history of \"%s\" is\n%s\nand must be\n%s", talk->key,
              json_dumps(held, JSON_COMPACT), expected);
    json_decref(held);
    json_decref(must);
    free(expected);
}

/* What another run of the program finds where the disk fails is a state that there was. */
static void take_old_history(const struct world *world, struct talk *talk,
                             struct hearth_session *session)
{
    json_t *held = held_messages(world, talk, session), *message;
    size_t i;
    char *text = json_dumps(held, JSON_COMPACT);
    bool known = json_array_size(held) == 0;
    for (size_t v = 0; v < talk->version_count && !known; v++)
        known = strcmp(talk->versions[v], text) == 0;
    if (!known)
        wrong(world, "the history of \"%s\" has never been\n%s", talk->key, text);
    talk_truncate(talk, 0);
    json_array_foreach(held, i, message)
    {
        talk_push(talk, strcmp(json_string_value(json_object_get(message, "role")), "user") != 0,
                  json_string_value(json_object_get(message, "content")));
    }
    free(text);
    json_decref(held);
}

/* Words that often begin alike, so that much can be shared. */
static void make_text(struct world *world, char text[64])
{
    static const char *const beginnings[] = {"", "tellmeabout", "tellmeaboutthe", "whatis",
                                             "write"};
    strcpy(text, beginnings[below(world, sizeof beginnings / sizeof beginnings[0])]);
    size_t length = strlen(text), more = 1 + below(world, 24);
    for (size_t i = 0; i < more; i++)
        text[length++] = (char)('a' + below(world, 6));
    text[length] = '\0';
}

/* ---- answers ---- */

static void pause(struct asked *asked, bool paused)
{
    say(asked->world, "%s \"%s\"", paused ? "pause" : "go on with", asked->talk->key);
    asked->paused = paused;
    hearth_request_pause(asked->request, paused);
}

static void take_text(void *context, const char *text, size_t size)
{
    struct asked *asked = context;
    if (asked->paused)
        wrong(asked->world, "\"%s\" says something in a pause", asked->talk->key);
    if (asked->streamed_size + size > sizeof asked->streamed)
        wrong(asked->world, "the answer of \"%s\" does not end", asked->talk->key);
    memcpy(asked->streamed + asked->streamed_size, text, size);
    asked->streamed_size += size;
    if (asked->streamed_size >= asked->cancel_after) {
        asked->may_be_cancelled = true;
        hearth_request_cancel(asked->request);
    }
    if (asked->world->pauses && chance(asked->world, 2))
        pause(asked, true);
}

/* The prompt is the rendering of what was said, whatever ids it was kept as. */
static void check_prompt(const struct asked *asked, const struct hearth_result *result)
{
    const struct world *world = asked->world;
    size_t from = result->dropped_messages;
    char *messages = messages_json(asked->talk, from, asked->talk->count - from);
    char *rendered, *prompt;
    size_t rendered_size, prompt_size;
    struct buffer variables;
    struct hearth_error err;
    buffer_init(&variables, 1 << 20);
    buffer_format(&variables, "{\"messages\":%s,\"add_generation_prompt\":true}", messages);
    if (hearth_render_chat(world->alone->model, variables.data, variables.size, 0, &rendered,
                           &rendered_size, &err) ||
        hearth_detokenize(world->alone->model, result->ids, result->prompt_tokens, true, &prompt,
                          &prompt_size, &err))
        wrong(world, "%s", err.text);
    if (rendered_size != prompt_size || memcmp(rendered, prompt, prompt_size) != 0)
        wrong(world, "the prompt of \"%s\" is\n%s\nand must be\n%s", asked->talk->key, prompt,
              rendered);
    hearth_free(rendered);
    hearth_free(prompt);
    buffer_finish(&variables);
    free(messages);
}

static void check_answer(struct asked *asked, const struct hearth_result *result)
{
    struct world *world = asked->world;
    struct talk *talk = asked->talk;
    struct buffer text;
    buffer_init(&text, 1 << 20);
    check_prompt(asked, result);
    enum hearth_stop stop =
        alone_answer(world->alone, result->ids, result->prompt_tokens, &asked->sampling,
                     asked->max_tokens, world->context_max, &text);
    bool cut = result->stop == HEARTH_STOP_CANCELLED ||
               (result->stop == HEARTH_STOP_ERROR && world->starved);
    bool same = cut ? result->text_size <= text.size : result->text_size == text.size;
    if (!same || (result->text_size > 0 && memcmp(text.data, result->text, result->text_size) != 0))
        wrong(world, "\"%s\" was answered\n%s\nand alone\n%s", talk->key, result->text,
              text.size ? text.data : "");
    bool full = stop == HEARTH_STOP_CONTEXT && result->stop == HEARTH_STOP_ERROR;
    if (!cut && !full && stop != result->stop)
        wrong(world, "the answer of \"%s\" ended by %d, alone by %d", talk->key, (int)result->stop,
              (int)stop);
    buffer_finish(&text);
    world->answers++;
}

/* Failures that the world has caused. */
static bool is_allowed(const struct asked *asked, const struct hearth_result *result)
{
    const struct world *world = asked->world;
    if (result->stop == HEARTH_STOP_CANCELLED)
        return asked->may_be_cancelled;
    if (result->stop != HEARTH_STOP_ERROR)
        return true;
    if (world->starved &&
        (result->error.code == HEARTH_E_MEMORY || result->error.code == HEARTH_E_LIMIT))
        return true; /* buffers tell no difference between their limit and no memory */
    if (result->error.code != HEARTH_E_LIMIT)
        return false;
    return asked->talk->overflow == HEARTH_OVERFLOW_DROP ||
           asked->session->history.count > world->context_max;
}

static void take_end(void *context, const struct hearth_result *result)
{
    struct asked *asked = context;
    struct talk *talk = asked->talk;
    mem_fail_nth(0);
    say(asked->world, "  \"%s\" ends by %d: %s%s", talk->key, (int)result->stop, result->text,
        result->stop == HEARTH_STOP_ERROR ? result->error.text : "");
    if (!is_allowed(asked, result))
        wrong(asked->world, "the answer of \"%s\" ended by %d: %s", talk->key, (int)result->stop,
              result->error.text);
    if (result->text_size != asked->streamed_size ||
        memcmp(result->text, asked->streamed, result->text_size) != 0)
        wrong(asked->world, "what was streamed of \"%s\" is not its answer", talk->key);
    bool full = result->stop == HEARTH_STOP_ERROR && result->error.code == HEARTH_E_LIMIT;
    bool dropped = result->dropped_messages != talk->dropped; /* maybe in the middle */
    if (result->prompt_tokens > 0 && !dropped && (result->stop != HEARTH_STOP_ERROR || full))
        check_answer(asked, result);
    talk->dropped = result->dropped_messages;
    if (hearth_session_count(asked->session) > talk->count)
        talk_push(talk, true, result->text);
    note_version(talk);
    check_history(asked->world, talk, asked->session);
    asked->request = NULL;
    asked->paused = false;
    talk->asked--;
    if (talk->leaving && talk->asked == 0)
        talk_forget(talk);
}

/* ---- what happens ---- */

static uint64_t read_clock(void *context)
{
    struct world *world = context;
    return world->now += 1000;
}

/* From now on an allocation may fail, in a world where they do. */
static void starve(struct world *world)
{
    if (world->starved && chance(world, 30))
        mem_fail_nth(1 + below(world, 60));
}

/* Whether a call went well; where it did not, the world must have caused it. */
static bool went_well(struct world *world, int status, const struct hearth_error *err)
{
    mem_fail_nth(0);
    if (status && !(world->starved && status == HEARTH_E_MEMORY))
        wrong(world, "%s", err->text);
    return status == 0;
}

static void step(struct world *world)
{
    struct hearth_sessions_state state;
    uint64_t wait;
    starve(world);
    hearth_sessions_step(world->sessions, &wait);
    mem_fail_nth(0);
    world->now += below(world, 50) * 1000000;
    hearth_sessions_state(world->sessions, &state);
    if (state.memory.kv_bytes > world->kv_bytes_max)
        wrong(world, "the KV cache takes %llu bytes, %llu are allowed",
              (unsigned long long)state.memory.kv_bytes, (unsigned long long)world->kv_bytes_max);
}

static void configure(struct world *world, struct talk *talk)
{
    struct hearth_error err;
    enum hearth_overflow overflow = (enum hearth_overflow)below(world, 3);
    struct hearth_session_settings settings = {.overflow = overflow};
    if (went_well(world, hearth_session_configure(talk->session, &settings, &err), &err))
        talk->overflow = overflow;
}

static bool open_talk(struct world *world, struct talk *talk)
{
    struct hearth_error err;
    if (talk->session)
        return true;
    if (talk->leaving)
        return false;
    size_t number = (size_t)(talk - world->talks);
    if (talk->count == 0 && talk->key[0] == '\0' && number % 4 != 0)
        snprintf(talk->key, sizeof talk->key, "talk%zu", number);
    starve(world);
    int status =
        hearth_session_open(world->sessions, talk->key[0] ? talk->key : NULL, &talk->session, &err);
    if (!went_well(world, status, &err))
        return false;
    if (world->worn || world->starved)
        take_old_history(world, talk, talk->session);
    check_history(world, talk, talk->session);
    if (talk->asked == 0 && talk->count == 0)
        configure(world, talk);
    return true;
}

static void close_talk(struct world *world, struct talk *talk)
{
    if (!talk->session)
        return;
    say(world, "close \"%s\"", talk->key);
    hearth_session_close(talk->session);
    talk->session = NULL;
    if (talk->key[0])
        return;
    talk->leaving = talk->asked > 0;
    if (!talk->leaving)
        talk_forget(talk);
}

static void append(struct world *world, struct talk *talk)
{
    char text[64], message[128];
    struct hearth_error err;
    make_text(world, text);
    say(world, "say to \"%s\": %s", talk->key, text);
    snprintf(message, sizeof message, "{\"role\":\"user\",\"content\":\"%s\"}", text);
    starve(world);
    int status = hearth_session_append(talk->session, message, strlen(message), &err);
    if (talk->asked > 0) {
        mem_fail_nth(0);
        if (status != HEARTH_E_STATE)
            wrong(world, "a message was taken while \"%s\" answers", talk->key);
    } else if (went_well(world, status, &err)) {
        talk_push(talk, false, text);
        note_version(talk);
    }
}

static void ask(struct world *world, struct talk *talk)
{
    struct asked *asked = calloc(1, sizeof *asked);
    struct hearth_error err;
    if (!asked)
        abort();
    hearth_sampling_default(&asked->sampling);
    asked->sampling.temperature = chance(world, 50) ? 0.0f : 1.0f;
    asked->sampling.seed = random_u64(&world->random);
    asked->max_tokens = (uint32_t)below(world, 30);
    asked->cancel_after = chance(world, 10) ? below(world, 20) : SIZE_MAX;
    asked->may_be_cancelled = asked->cancel_after == 0;
    asked->world = world;
    asked->talk = talk;
    asked->session = talk->session;
    asked->next = world->asked;
    struct hearth_ask what = {
        .sampling = &asked->sampling,
        .max_tokens = asked->max_tokens,
        .background = chance(world, 30),
        .on_text = take_text,
        .on_end = take_end,
        .context = asked,
    };
    if (chance(world, 5)) {
        what.deadline_ns = world->now + 1 + below(world, 500) * 1000000;
        asked->may_be_cancelled = true;
    }
    say(world, "ask \"%s\"", talk->key);
    starve(world);
    int status = hearth_session_ask(talk->session, &what, &asked->request, &err);
    if (!went_well(world, status, &err)) {
        free(asked);
        return;
    }
    talk->asked++;
    world->asked = asked;
}

static void take_vector(void *context, const float *vector, size_t dimensions, size_t tokens,
                        const struct hearth_error *error)
{
    struct embedded *embedded = context;
    struct world *world = embedded->world;
    float expected[EMBEDDING];
    mem_fail_nth(0);
    embedded->request = NULL;
    say(world, "  a vector of %zu tokens: %s", tokens, error ? error->text : "");
    if (!error) {
        alone_embed(world->alone, embedded->text, strlen(embedded->text), expected);
        if (dimensions != EMBEDDING || memcmp(vector, expected, sizeof expected) != 0)
            wrong(world, "the vector of %s is another one than alone", embedded->text);
        return;
    }
    bool starved = error->code == HEARTH_E_MEMORY || error->code == HEARTH_E_LIMIT;
    if (!(world->starved && starved) &&
        !(error->code == HEARTH_E_CANCELLED && embedded->may_be_cancelled) &&
        !(error->code == HEARTH_E_LIMIT && tokens > world->context_max))
        wrong(world, "%s was not embedded: %s", embedded->text, error->text);
}

static void embed(struct world *world)
{
    struct embedded *embedded = calloc(1, sizeof *embedded);
    struct hearth_error err;
    if (!embedded)
        abort();
    for (size_t parts = 1 + below(world, 6); parts > 0; parts--)
        make_text(world, embedded->text + strlen(embedded->text));
    embedded->world = world;
    const struct hearth_embed what = {
        .text = embedded->text,
        .size = strlen(embedded->text),
        .background = chance(world, 30),
        .on_end = take_vector,
        .context = embedded,
    };
    say(world, "embed %s", embedded->text);
    starve(world);
    int status = hearth_sessions_embed(world->sessions, &what, &embedded->request, &err);
    if (!went_well(world, status, &err)) {
        free(embedded);
        return;
    }
    embedded->next = world->embedded;
    world->embedded = embedded;
}

static void disturb_embedding(struct world *world)
{
    for (struct embedded *embedded = world->embedded; embedded; embedded = embedded->next) {
        if (!embedded->request || !chance(world, 30))
            continue;
        if (world->pauses && chance(world, 80)) {
            embedded->paused = !embedded->paused;
            hearth_request_pause(embedded->request, embedded->paused);
            continue;
        }
        embedded->may_be_cancelled = true;
        hearth_request_cancel(embedded->request);
    }
}

static void cancel_one(struct world *world)
{
    for (struct asked *asked = world->asked; asked; asked = asked->next) {
        if (!asked->request || !chance(world, 30))
            continue;
        say(world, "cancel \"%s\"", asked->talk->key);
        asked->may_be_cancelled = true;
        hearth_request_cancel(asked->request);
        return;
    }
}

static void pause_some(struct world *world)
{
    for (struct asked *asked = world->asked; asked; asked = asked->next) {
        if (asked->request && chance(world, 30))
            pause(asked, !asked->paused);
    }
}

static void end_pauses(struct world *world)
{
    world->pauses = false;
    for (struct asked *asked = world->asked; asked; asked = asked->next) {
        if (asked->request)
            pause(asked, false);
    }
    for (struct embedded *embedded = world->embedded; embedded; embedded = embedded->next) {
        if (embedded->request)
            hearth_request_pause(embedded->request, false);
    }
}

/* Everything about it goes to the store, where another program could find it. */
static void release_talk(struct world *world, struct talk *talk)
{
    struct hearth_error err = {0};
    if (!talk->session)
        return;
    say(world, "release \"%s\"", talk->key);
    starve(world);
    int status = hearth_session_release(talk->session, &err);
    mem_fail_nth(0);
    if (!status)
        talk->session = NULL;
    bool refused = !world->stored || !talk->key[0] || talk->asked > 0;
    bool may_fail = world->starved || world->worn;
    if ((status == HEARTH_E_STATE) != refused || (status && !refused && !may_fail))
        wrong(world, "\"%s\" was released with %d: %s", talk->key, status, err.text);
}

static void truncate(struct world *world, struct talk *talk)
{
    struct hearth_error err;
    size_t count = below(world, talk->count + 1);
    say(world, "truncate \"%s\" to %zu", talk->key, count);
    starve(world);
    if (went_well(world, hearth_session_truncate(talk->session, count, &err), &err))
        talk_truncate(talk, count);
    talk->dropped = SIZE_MAX;
    note_version(talk);
}

/* Another text for one message; sometimes nothing behind it stays. */
static void edit(struct world *world, struct talk *talk)
{
    struct hearth_error err;
    struct talk edited = {0};
    char text[64];
    if (talk->count == 0)
        return;
    size_t at = below(world, talk->count);
    size_t count = chance(world, 50) ? talk->count : at + 1;
    make_text(world, text);
    for (size_t i = 0; i < count; i++)
        talk_push(&edited, talk->said[i].by_model, i == at ? text : talk->said[i].text);
    say(world, "edit message %zu of \"%s\"", at, talk->key);
    char *messages = messages_json(&edited, 0, count);
    starve(world);
    int status = hearth_session_set_messages(talk->session, messages, strlen(messages), &err);
    free(messages);
    if (went_well(world, status, &err)) {
        talk_truncate(talk, 0);
        memcpy(talk->said, edited.said, sizeof edited.said);
        talk->count = count;
        talk->dropped = SIZE_MAX;
        note_version(talk);
    } else {
        talk_truncate(&edited, 0);
    }
}

static void fork_talk(struct world *world, struct talk *talk)
{
    struct hearth_error err;
    struct talk *free_talk = &world->talks[below(world, TALKS)];
    if (free_talk->session || free_talk->leaving || free_talk->count > 0 || free_talk->asked > 0)
        return;
    size_t count = below(world, talk->count + 1), number = (size_t)(free_talk - world->talks);
    if (number % 4 != 0)
        snprintf(free_talk->key, sizeof free_talk->key, "talk%zu", number);
    struct hearth_session *known;
    if (free_talk->key[0] && !hearth_session_open(world->sessions, free_talk->key, &known, NULL)) {
        /* an empty conversation may be known by that key: it is forgotten first */
        if (hearth_session_remove(known, NULL))
            wrong(world, "\"%s\" cannot be removed", free_talk->key);
        hearth_session_close(known);
    }
    say(world, "fork \"%s\" at %zu as \"%s\"", talk->key, count, free_talk->key);
    starve(world);
    int status = hearth_session_fork(
        talk->session, count, free_talk->key[0] ? free_talk->key : NULL, &free_talk->session, &err);
    if (!went_well(world, status, &err)) {
        free_talk->key[0] = '\0';
        return;
    }
    for (size_t i = 0; i < count; i++)
        talk_push(free_talk, talk->said[i].by_model, talk->said[i].text);
    free_talk->overflow = talk->overflow;
    free_talk->dropped = SIZE_MAX;
    note_version(free_talk);
    check_history(world, free_talk, free_talk->session);
}

static void remove_talk(struct world *world, struct talk *talk)
{
    struct hearth_error err;
    say(world, "remove \"%s\"", talk->key);
    if (hearth_session_remove(talk->session, &err))
        wrong(world, "\"%s\" cannot be removed: %s", talk->key, err.text);
    hearth_session_close(talk->session);
    talk_forget(talk);
}

/* Something that needs a conversation at rest. */
static void change(struct world *world, struct talk *talk)
{
    if (talk->asked > 0)
        return;
    switch (below(world, 8)) {
    case 0:
    case 1:
        truncate(world, talk);
        break;
    case 2:
    case 3:
        edit(world, talk);
        break;
    case 4:
    case 5:
    case 6:
        fork_talk(world, talk);
        break;
    default:
        remove_talk(world, talk);
    }
}

static void talk_on(struct world *world, struct talk *talk)
{
    if (talk->count + 4 > SAID_MAX && talk->asked == 0)
        remove_talk(world, talk);
    if (!open_talk(world, talk) || talk->count + 2 * talk->asked + 4 > SAID_MAX)
        return;
    append(world, talk);
    ask(world, talk);
}

/* ---- a world ---- */

static enum os_file_fault fail_now_and_then(void *context, enum os_file_call call)
{
    struct world *world = context;
    (void)call;
    return chance(world, 4) ? (enum os_file_fault)below(world, OS_FAULT_DAMAGE + 1) : OS_FAULT_NONE;
}

/* The program begins, or begins again: all it knows is what the store has. */
static void start_program(struct world *world)
{
    struct hearth_error err;
    const struct hearth_model *model = world->alone->model;
    struct hearth_store_options store = {.directory = world->folder,
                                         .bytes_max = 1 + below(world, 2 << 20)};
    if (world->stored && disk_store_open_unthreaded(&store, &world->store, &err))
        wrong(world, "%s", err.text);
    world->options.store = world->store;
    if (hearth_engine_open(model, &world->engine_options, &world->engine, &err) ||
        hearth_sessions_open(model, world->engine, &world->options, &world->sessions, &err))
        wrong(world, "%s", err.text);
    world->faults = (struct os_file_faults){fail_now_and_then, world};
    if (world->worn)
        os_file_faults(&world->faults);
}

/* It ends, and leaves no memory behind. */
static void end_program(struct world *world)
{
    struct hearth_engine_memory memory;
    for (struct asked *asked = world->asked; asked; asked = asked->next)
        asked->may_be_cancelled = true;
    for (struct embedded *embedded = world->embedded; embedded; embedded = embedded->next)
        embedded->may_be_cancelled = true;
    hearth_sessions_close(world->sessions);
    hearth_engine_trim(world->engine, UINT64_MAX);
    hearth_engine_memory(world->engine, &memory);
    if (memory.kv_bytes > 0)
        wrong(world, "%llu bytes of KV cache were lost", (unsigned long long)memory.kv_bytes);
    hearth_engine_close(world->engine);
    hearth_store_close(world->store);
    world->store = NULL;
    os_file_faults(NULL);
    for (size_t i = 0; i < TALKS; i++) {
        world->talks[i].session = NULL;
        if (!world->stored || world->talks[i].key[0] == '\0')
            talk_forget(&world->talks[i]);
    }
}

static void begin(struct world *world)
{
    static const uint32_t contexts[] = {120, 200, 400};
    world->random = random_from_seed(world->seed);
    world->context_max = contexts[below(world, 3)];
    world->kv_bytes_max =
        alone_kv_bytes(world->alone, world->context_max) * (1 + below(world, 5)) + (64 << 10);
    world->starved = chance(world, 25);
    world->stored = chance(world, 60);
    world->worn = world->stored && chance(world, 40);
    world->pauses = chance(world, 50);
    world->engine_options = (struct hearth_engine_options){
        .threads = 1,
        .kv_type = HEARTH_KV_Q8_0,
        .chunk_tokens = chance(world, 50) ? 0 : 16 + (uint32_t)below(world, 50),
        .kv_bytes_max = world->kv_bytes_max,
    };
    world->options = (struct hearth_sessions_options){
        .now = read_clock,
        .clock_context = world,
        .unix_seconds = 1000000000,
        .context_max = world->context_max,
        .answers_max = 1 + (uint32_t)below(world, 8),
    };
    say(world, "context %u, KV cache of %llu bytes, %u at once, chunks of %u%s%s%s",
        world->context_max, (unsigned long long)world->kv_bytes_max, world->options.answers_max,
        world->engine_options.chunk_tokens, world->starved ? ", allocations fail" : "",
        world->stored ? ", a store" : "", world->worn ? " on a disk that fails" : "");
    if (world->stored)
        test_folder_make_in_memory(world->folder);
    start_program(world);
}

static void happen(struct world *world)
{
    if (world->stored && chance(world, 30))
        disk_store_step(world->store);
    struct talk *talk = &world->talks[below(world, TALKS)];
    size_t what = below(world, 100);
    if (what < 45) {
        for (size_t steps = 1 + below(world, 12); steps > 0; steps--)
            step(world);
    } else if (what < 72) {
        talk_on(world, talk);
    } else if (what < 74) {
        embed(world);
    } else if (what < 75) {
        disturb_embedding(world);
    } else if (what < 78) {
        cancel_one(world);
    } else if (what < 80) {
        pause_some(world);
    } else if (what < 90) {
        if (talk->session)
            change(world, talk);
    } else if (what < 92) {
        close_talk(world, talk);
    } else if (what < 94) {
        release_talk(world, talk);
    } else if (what < 97) {
        say(world, "time passes");
        world->now += below(world, 600) * UINT64_C(1000000000);
    } else if (what < 99) {
        say(world, "what is cached gives way");
        hearth_engine_trim(world->engine, below(world, 4) ? below(world, 1 << 20) : UINT64_MAX);
    } else if (world->stored) {
        say(world, "the program ends and begins again");
        end_program(world);
        start_program(world);
    }
}

static void run_to_rest(struct world *world)
{
    struct hearth_sessions_state state;
    size_t steps = 0;
    end_pauses(world);
    do {
        step(world);
        hearth_sessions_state(world->sessions, &state);
        if (++steps > STEPS_MAX)
            wrong(world, "%zu requests wait and %zu run without an end", state.waiting,
                  state.running);
    } while (state.waiting + state.running > 0);
}

static void finish(struct world *world)
{
    if (chance(world, 80))
        run_to_rest(world);
    for (size_t i = 0; i < TALKS; i++) {
        if (world->talks[i].session)
            check_history(world, &world->talks[i], world->talks[i].session);
    }
    end_program(world);
    if (world->stored)
        test_folder_remove(world->folder);
    for (size_t i = 0; i < TALKS; i++)
        talk_forget(&world->talks[i]);
    while (world->asked) {
        struct asked *asked = world->asked;
        world->asked = asked->next;
        free(asked);
    }
    while (world->embedded) {
        struct embedded *embedded = world->embedded;
        world->embedded = embedded->next;
        free(embedded);
    }
}

static size_t run_seed(uint64_t seed, struct alone alones[SHAPES], bool verbose)
{
    struct world world = {.seed = seed, .verbose = verbose, .shape = (enum shape)(seed % SHAPES)};
    world.alone = &alones[world.shape];
    begin(&world);
    for (size_t events = 60 + below(&world, 120); events > 0; events--)
        happen(&world);
    finish(&world);
    return world.answers;
}

/* ---- models ---- */

#define TEMPLATE(content)                                                                          \
    "w94{% for m in messages %}{{ m.role }}>{{ " content " }}w95{% endfor %}"                      \
    "{% if add_generation_prompt %}assistant>{% endif %}"

static struct hearth_model *make_model(enum shape shape)
{
    static const uint32_t types[] = {TYPE_Q8_0, TYPE_Q4_1, TYPE_F16};
    static const struct tiny_model shapes[SHAPES] = {
        {"llama", 96, EMBEDDING, 2, 4, 2, 32, 96, 0, types, 3, 5, TEMPLATE("m.content")},
        {"gemma3", 96, EMBEDDING, 4, 3, 1, 32, 96, 40, types, 3, 6, TEMPLATE("m.content")},
        /* only the last answer is shown whole */
        {"llama", 96, EMBEDDING, 2, 4, 2, 32, 96, 0, types, 3, 7,
         TEMPLATE("m.content[:4] if m.role == 'assistant' and not loop.last else m.content")},
    };
    char path[TEST_PATH_MAX];
    struct hearth_model *model;
    struct hearth_error err;
    tiny_model_write(&shapes[shape], path);
    if (hearth_model_open(path, NULL, &model, &err)) {
        fprintf(stderr, "%s\n", err.text);
        exit(1);
    }
    remove(path);
    return model;
}

int main(int argc, char **argv)
{
    bool verbose = argc > 1 && strcmp(argv[1], "--verbose") == 0;
    char **numbers = argv + 1 + verbose;
    if (argc < 2 + verbose) {
        fputs("usage: sim [--verbose] FIRST [LAST]\n", stderr);
        return 2;
    }
    uint64_t first = strtoull(numbers[0], NULL, 10);
    uint64_t last = numbers[1] ? strtoull(numbers[1], NULL, 10) : first;
    struct alone alones[SHAPES];
    size_t answers = 0;
    for (int shape = 0; shape < SHAPES; shape++)
        alone_open(&alones[shape], make_model((enum shape)shape));
    for (uint64_t seed = first; seed <= last; seed++)
        answers += run_seed(seed, alones, verbose);
    for (int shape = 0; shape < SHAPES; shape++) {
        const struct hearth_model *model = alones[shape].model;
        alone_close(&alones[shape]);
        hearth_model_close((struct hearth_model *)(uintptr_t)model);
    }
    printf("%llu seeds, %zu answers as each alone\n", (unsigned long long)(last - first + 1),
           answers);
    return 0;
}
