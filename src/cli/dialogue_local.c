/* A conversation computed in this process: a set of one, on an engine of its own. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "cli/console.h"
#include "cli/dialogue.h"

struct local {
    struct dialogue dialogue;
    const struct loaded *loaded;
    struct hearth_sessions *sessions;
    struct hearth_session *session;
};

static struct local *local_of(const struct dialogue *dialogue)
{
    return (struct local *)dialogue; /* its first member */
}

static size_t count(const struct dialogue *dialogue)
{
    return hearth_session_count(local_of(dialogue)->session);
}

static json_t *messages(const struct dialogue *dialogue, struct hearth_error *err)
{
    char *text;
    size_t size;
    if (hearth_session_messages(local_of(dialogue)->session, &text, &size, err))
        return NULL;
    json_t *array = json_loadb(text, size, JSON_ALLOW_NUL, NULL);
    hearth_free(text);
    if (!array)
        error_set(err, HEARTH_E_MEMORY, "no memory for the messages");
    return array;
}

static int set_messages(struct dialogue *dialogue, const json_t *array, struct hearth_error *err)
{
    char *text = json_dumps(array, JSON_COMPACT | JSON_PRESERVE_ORDER);
    int status =
        text ? hearth_session_set_messages(local_of(dialogue)->session, text, strlen(text), err)
             : error_set(err, HEARTH_E_MEMORY, "no memory for the conversation");
    free(text);
    return status;
}

static int append(struct dialogue *dialogue, const json_t *message, struct hearth_error *err)
{
    char *text = json_dumps(message, JSON_COMPACT);
    int status = text ? hearth_session_append(local_of(dialogue)->session, text, strlen(text), err)
                      : error_set(err, HEARTH_E_MEMORY, "no memory for a message");
    free(text);
    return status;
}

static int truncate_to(struct dialogue *dialogue, size_t size, struct hearth_error *err)
{
    return hearth_session_truncate(local_of(dialogue)->session, size, err);
}

static int keep(struct dialogue *dialogue, const char *name, struct hearth_error *err)
{
    struct local *local = local_of(dialogue);
    struct hearth_session *session;
    int status = hearth_session_fork(local->session, hearth_session_count(local->session), name,
                                     &session, err);
    if (status)
        return status;
    hearth_session_close(local->session);
    local->session = session;
    return 0;
}

static int info(struct dialogue *dialogue, struct dialogue_info *out, struct hearth_error *err)
{
    struct hearth_session_info its;
    (void)err;
    hearth_session_info(local_of(dialogue)->session, &its);
    *out = (struct dialogue_info){
        .messages = its.messages,
        .tokens = its.tokens,
        .kv_bytes = its.kv_bytes,
        .spill_bytes = its.spill_bytes,
    };
    snprintf(out->key, sizeof out->key, "%s", its.key ? its.key : "");
    return 0;
}

static int answer(struct dialogue *dialogue, const struct answer_options *options,
                  struct answer *out, struct hearth_error *err)
{
    struct local *local = local_of(dialogue);
    return answer_compute(local->sessions, local->session, options, out, err);
}

static int save(struct dialogue *dialogue, struct hearth_error *err)
{
    return hearth_session_save(local_of(dialogue)->session, err);
}

/* Conversations that are not used give their memory back. */
static uint64_t idle(struct dialogue *dialogue)
{
    uint64_t wait_ns;
    hearth_sessions_step(local_of(dialogue)->sessions, &wait_ns);
    return wait_ns;
}

static void say_timings(const struct dialogue *dialogue, const struct answer *its)
{
    const struct loaded *loaded = local_of(dialogue)->loaded;
    answer_say_timings(its, loaded->load_ns);
    load_say_memory(loaded);
}

static void close_local(struct dialogue *dialogue)
{
    struct local *local = local_of(dialogue);
    if (local->session && hearth_session_count(local->session) == 0)
        hearth_session_remove(local->session, NULL);
    if (local->session)
        hearth_session_close(local->session);
    if (local->sessions)
        hearth_sessions_close(local->sessions);
    mem_free(local);
}

static const struct dialogue_calls calls = {
    .count = count,
    .messages = messages,
    .set_messages = set_messages,
    .append = append,
    .truncate = truncate_to,
    .keep = keep,
    .info = info,
    .answer = answer,
    .save = save,
    .idle = idle,
    .say_timings = say_timings,
    .close = close_local,
};

/* What is not said on the command line stays as the conversation has it. */
static int configure(struct local *local, const struct dialogue_local_options *options, bool *plain,
                     struct hearth_error *err)
{
    struct hearth_session_info its;
    hearth_session_info(local->session, &its);
    struct hearth_session_settings settings = its.settings;
    settings.plain = settings.plain || options->plain;
    if (options->overflow >= 0)
        settings.overflow = (enum hearth_overflow)options->overflow;
    *plain = settings.plain || !local->loaded->info.has_template;
    return hearth_session_configure(local->session, &settings, err);
}

int dialogue_local_open(const struct dialogue_local_options *options, struct dialogue **out,
                        bool *plain, struct hearth_error *err)
{
    const struct loaded *loaded = options->loaded;
    struct hearth_sessions_options its = {
        .store = options->store,
        .idle_ns = options->idle_ns ? options->idle_ns : HEARTH_IDLE_AT_ONCE,
        .watch_pressure = true,
    };
    struct local *local = mem_zalloc_array(1, sizeof *local);
    if (!local)
        return error_set(err, HEARTH_E_MEMORY, "no memory for a conversation");
    local->dialogue = (struct dialogue){
        .calls = &calls,
        .context = hearth_engine_context(loaded->engine),
        .has_store = options->store != NULL,
    };
    local->loaded = loaded;
    int status = hearth_sessions_open(loaded->model, loaded->engine, &its, &local->sessions, err);
    if (!status)
        status = hearth_session_open(local->sessions, options->key, &local->session, err);
    if (!status)
        status = configure(local, options, plain, err);
    if (status)
        close_local(&local->dialogue);
    else
        *out = &local->dialogue;
    return status;
}
