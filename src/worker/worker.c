#include "worker/worker.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/os.h"

#define MESSAGE_KEPT ((size_t)1 << 20) /* of the buffer that messages are put into */

_Noreturn void worker_die(const char *cause)
{
    os_write_error("hearth worker: ");
    os_write_error(cause);
    os_write_error("\n");
    _Exit(1);
}

void worker_send(struct worker *worker, bool put)
{
    struct buffer *message = &worker->message;
    struct hearth_error err;
    if (!put)
        worker_die("no memory for a message");
    int status = channel_send(worker->out, buffer_text(message), NULL, &err);
    if (status == HEARTH_E_MISSING)
        _Exit(0);
    if (status)
        worker_die(err.text);
    if (message->capacity > MESSAGE_KEPT)
        buffer_finish(message);
    message->size = 0;
}

void worker_reply(struct worker *worker, uint64_t number, int code, struct text text)
{
    if (text.size > WORK_PAYLOAD_MAX - 8) {
        code = HEARTH_E_LIMIT;
        text = TEXT("the answer is too large for a message");
    }
    worker_send(worker, work_put_reply(&worker->message, WORK_REPLY, number, code, text));
}

void worker_reply_json(struct worker *worker, uint64_t number, json_t *json)
{
    char *text = json ? json_dumps(json, JSON_COMPACT | JSON_PRESERVE_ORDER) : NULL;
    json_decref(json);
    if (text)
        worker_reply(worker, number, 0, text_of(text));
    else
        worker_reply(worker, number, HEARTH_E_MEMORY, TEXT("no memory for an answer"));
    free(text);
}

void worker_reply_error(struct worker *worker, uint64_t number, const struct hearth_error *error)
{
    worker_reply(worker, number, error->code, text_of(error->text));
}

struct work_state worker_state(const struct worker *worker)
{
    struct work_state state = worker->sums;
    struct hearth_sessions_state sessions;
    struct os_memory memory;
    if (os_process_memory(&memory)) {
        state.private_bytes = memory.private_bytes;
        state.mapped_bytes = memory.mapped_bytes;
        state.peak_bytes = memory.peak_bytes;
    }
    if (!worker->sessions)
        return state;
    hearth_sessions_state(worker->sessions, &sessions);
    state.kv_bytes = sessions.memory.kv_bytes;
    state.cached_bytes = sessions.memory.cached_bytes;
    state.scratch_bytes = sessions.memory.scratch_bytes;
    state.sessions = (uint32_t)sessions.sessions;
    state.waiting = (uint32_t)sessions.waiting;
    state.running = (uint32_t)sessions.running;
    state.paused = (uint32_t)sessions.paused;
    state.pressure = sessions.pressure;
    return state;
}

void worker_tell_state(struct worker *worker)
{
    worker->told = worker_state(worker);
    worker->told_ns = os_monotonic_ns();
    worker->stirred = false;
    worker_send(worker, work_put_state(&worker->message, WORK_STATE, 0, &worker->told));
}

int worker_copy_string(struct text text, const char *what, char **out, struct hearth_error *err)
{
    if (text.size && memchr(text.data, 0, text.size))
        return error_set(err, HEARTH_E_ARGUMENT, "%s has a NUL character", what);
    char *copy = mem_alloc(text.size + 1);
    if (!copy)
        return error_set(err, HEARTH_E_MEMORY, "no memory for %s", what);
    if (text.size)
        memcpy(copy, text.data, text.size);
    copy[text.size] = '\0';
    *out = copy;
    return 0;
}

bool worker_opens_reasoning(struct text prompt)
{
    static const struct text tag = {"<think>", 7};
    while (prompt.size > 0 && strchr(" \t\r\n", prompt.data[prompt.size - 1]))
        prompt.size--;
    return prompt.size >= tag.size &&
           memcmp(prompt.data + prompt.size - tag.size, tag.data, tag.size) == 0;
}

json_t *worker_parse(struct text json, const char *what, struct hearth_error *err)
{
    json_error_t where;
    json_t *value = json_loadb(json.data ? json.data : "", json.size,
                               JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_ANY, &where);
    if (!value)
        error_set(err, HEARTH_E_FORMAT, "%s: %s", what, where.text);
    return value;
}

json_t *worker_messages(const struct hearth_session *session, struct hearth_error *err)
{
    char *text;
    size_t size;
    if (hearth_session_messages(session, &text, &size, err))
        return NULL;
    json_t *messages = json_loadb(text, size, JSON_ALLOW_NUL, NULL);
    hearth_free(text);
    if (!messages)
        error_set(err, HEARTH_E_MEMORY, "no memory for the messages");
    return messages;
}

int worker_set_messages(struct hearth_session *session, const json_t *messages,
                        struct hearth_error *err)
{
    char *text = json_dumps(messages, JSON_COMPACT | JSON_PRESERVE_ORDER);
    if (!text)
        return error_set(err, HEARTH_E_MEMORY, "no memory for the messages");
    int status = hearth_session_set_messages(session, text, strlen(text), err);
    free(text);
    return status;
}
