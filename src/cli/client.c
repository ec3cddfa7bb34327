#include "cli/client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/os.h"
#include "cli/client_http.h"

#define REPLY_MAX ((size_t)256 << 20)
#define EVENT_MAX ((size_t)64 << 20)
#define GONE_LOOK_NS 20000000 /* between two looks whether the daemon has ended */

struct client {
    bool (*interrupted)(void); /* may be NULL */
    char socket[STATE_PATH_BYTES];
};

/* What comes back: a whole body, or events one by one. */
struct reading {
    struct client *client;
    struct buffer body, name; /* of the reply, or of the event that is being read */
    bool events;              /* it answers with events, not with one body */
    bool (*on_event)(void *context, const char *name, const json_t *data);
    bool (*on_text)(void *context, struct text bytes); /* of an answer that is no JSON */
    void *context;
    struct buffer line;
};

int client_socket_path(const struct client_settings *settings, char path[STATE_PATH_BYTES],
                       struct hearth_error *err)
{
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    int size;
    if (settings->socket) {
        size = snprintf(path, STATE_PATH_BYTES, "%s", settings->socket);
        return size < STATE_PATH_BYTES
                   ? 0
                   : error_set(err, HEARTH_E_LIMIT, "the path of the socket is too long");
    }
    if (runtime && runtime[0] == '/') {
        size = snprintf(path, STATE_PATH_BYTES, "%s/hearth", runtime);
        if (size < STATE_PATH_BYTES - 16 && os_make_private_directories(path)) {
            snprintf(path + size, STATE_PATH_BYTES - (size_t)size, "/hearth.sock");
            return 0;
        }
    }
    if (state_path("hearth.sock", path))
        return 0;
    return error_set(err, HEARTH_E_IO,
                     "there is no directory for the daemon's socket: --socket "
                     "names one");
}

int client_open(const struct client_settings *settings, struct client **out,
                struct hearth_error *err)
{
    struct client *client = mem_zalloc_array(1, sizeof *client);
    if (!client)
        return error_set(err, HEARTH_E_MEMORY, "no memory for a connection");
    int status = client_socket_path(settings, client->socket, err);
    json_t *reply = NULL;
    if (!status) /* who listens is asked, so that a dead socket counts as none */
        status = client_call(client, "GET", "/hearth/v1/status", NULL, &reply, err);
    json_decref(reply);
    if (status)
        client_close(client);
    else
        *out = client;
    return status;
}

void client_close(struct client *client)
{
    mem_free(client);
}

void client_on_interrupt(struct client *client, bool (*interrupted)(void))
{
    client->interrupted = interrupted;
}

bool client_append_segment(struct buffer *path, const char *segment)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_~";
    for (; *segment; segment++) {
        if (strchr(plain, *segment))
            buffer_append_char(path, *segment);
        else
            buffer_format(path, "%%%02X", (unsigned)(unsigned char)*segment);
    }
    return !path->failed;
}

/* ---- events ---- */

static bool end_event(struct reading *reading)
{
    bool go_on = true;
    if (reading->body.size == 0)
        return true;
    json_t *data = json_loadb(reading->body.data, reading->body.size, JSON_DECODE_ANY, NULL);
    if (data)
        go_on =
            reading->on_event(reading->context, reading->name.data ? reading->name.data : "", data);
    json_decref(data);
    buffer_finish(&reading->body);
    buffer_finish(&reading->name);
    return go_on;
}

static void read_field(struct buffer *out, struct text line, struct text name)
{
    struct text value = {line.data + name.size, line.size - name.size};
    if (text_starts_with(value, TEXT(" ")))
        value = (struct text){value.data + 1, value.size - 1};
    buffer_append_text(out, value);
}

static bool end_line(struct reading *reading)
{
    struct text line = buffer_text(&reading->line);
    bool go_on = true;
    if (line.size > 0 && line.data[line.size - 1] == '\r')
        line.size--;
    if (line.size == 0)
        go_on = end_event(reading);
    else if (text_starts_with(line, TEXT("data:")))
        read_field(&reading->body, line, TEXT("data:"));
    else if (text_starts_with(line, TEXT("event:")))
        read_field(&reading->name, line, TEXT("event:"));
    buffer_finish(&reading->line);
    return go_on;
}

static bool read_events(struct reading *reading, struct text bytes)
{
    while (bytes.size > 0) {
        const char *end = memchr(bytes.data, '\n', bytes.size);
        size_t size = end ? (size_t)(end - bytes.data) : bytes.size;
        if (!buffer_append(&reading->line, bytes.data, size))
            return false;
        if (!end)
            return true;
        if (!end_line(reading))
            return false;
        bytes = (struct text){end + 1, bytes.size - size - 1};
    }
    return true;
}

static bool on_bytes(void *context, const struct client_answer *answer, struct text bytes)
{
    static const char events[] = "text/event-stream";
    struct reading *reading = context;
    reading->events = reading->on_event && strncmp(answer->type, events, sizeof events - 1) == 0;
    if (reading->events)
        return read_events(reading, bytes);
    if (!reading->on_text || answer->status >= 300)
        return buffer_append_text(&reading->body, bytes);
    return reading->on_text(reading->context, bytes);
}

/* ---- a request ---- */

static const char *sentence_of(const json_t *reply)
{
    const json_t *error = json_object_get(reply, "error");
    const char *sentence = json_string_value(error);
    return sentence ? sentence : json_string_value(json_object_get(error, "message"));
}

static int code_of(int status)
{
    return status == 404   ? HEARTH_E_MISSING
           : status == 409 ? HEARTH_E_STATE
           : status == 507 ? HEARTH_E_LIMIT
           : status >= 500 ? HEARTH_E_IO
                           : HEARTH_E_ARGUMENT;
}

/* Why there is no whole answer. */
static int explain(const struct reading *reading, int status, struct hearth_error *err)
{
    if (status == HEARTH_E_MISSING)
        return error_set(err, HEARTH_E_MISSING,
                         "no daemon is running (hearth serve starts one; --socket says where it "
                         "listens)");
    if (reading->body.failed || reading->name.failed || reading->line.failed)
        return error_set(err, HEARTH_E_LIMIT, "the daemon's answer is too long");
    return status == HEARTH_E_CANCELLED ? status
                                        : error_prefix(err, status, "the daemon did not answer");
}

static int conclude(const struct reading *reading, const struct client_answer *answer,
                    json_t **reply, struct hearth_error *err)
{
    if (reading->events || (reading->on_text && answer->status < 300))
        return 0;
    json_t *object = reading->body.size > 0 ? json_loadb(reading->body.data, reading->body.size,
                                                         JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL)
                                            : json_null();
    int result = 0;
    if (answer->status >= 300)
        result = error_set(err, code_of(answer->status), "%s",
                           sentence_of(object) ? sentence_of(object) : "the daemon refused");
    else if (!object)
        result = error_set(err, HEARTH_E_FORMAT, "the daemon's answer is not JSON");
    if (!result && reply)
        *reply = json_incref(object);
    json_decref(object);
    return result;
}

static int perform(struct reading *reading, const char *method, const char *path,
                   const json_t *body, json_t **reply, struct hearth_error *err)
{
    char *json = body ? json_dumps(body, JSON_COMPACT) : NULL;
    if (body && !json)
        return error_set(err, HEARTH_E_MEMORY, "no memory for a request");
    const struct client_question question = {
        .socket = reading->client->socket,
        .method = method,
        .path = path,
        .body = json ? text_of(json) : (struct text){NULL, 0},
        .interrupted = reading->client->interrupted,
        .on_bytes = on_bytes,
        .context = reading,
    };
    struct client_answer answer;
    buffer_init(&reading->body, reading->on_event ? EVENT_MAX : REPLY_MAX);
    buffer_init(&reading->name, 256);
    buffer_init(&reading->line, EVENT_MAX);
    int status = client_ask(&question, &answer, err);
    status = status ? explain(reading, status, err) : conclude(reading, &answer, reply, err);
    free(json);
    buffer_finish(&reading->line);
    buffer_finish(&reading->name);
    buffer_finish(&reading->body);
    return status;
}

int client_call(struct client *client, const char *method, const char *path, const json_t *body,
                json_t **reply, struct hearth_error *err)
{
    struct reading reading = {.client = client};
    return perform(&reading, method, path, body, reply, err);
}

int client_stream(struct client *client, const char *method, const char *path, const json_t *body,
                  bool (*on_event)(void *context, const char *name, const json_t *data),
                  void *context, struct hearth_error *err)
{
    struct reading reading = {.client = client, .on_event = on_event, .context = context};
    return perform(&reading, method, path, body, NULL, err);
}

int client_text(struct client *client, const char *path,
                bool (*on_text)(void *context, struct text bytes), void *context,
                struct hearth_error *err)
{
    struct reading reading = {.client = client, .on_text = on_text, .context = context};
    return perform(&reading, "GET", path, NULL, NULL, err);
}

bool client_keeps_conversations(struct client *client)
{
    json_t *status = NULL;
    client_call(client, "GET", "/hearth/v1/status", NULL, &status, NULL);
    bool keeps = json_is_true(json_object_get(status, "store"));
    json_decref(status);
    return keeps;
}

static bool lives(int pid)
{
    struct os_memory memory;
    return os_process_memory_of(pid, &memory) && memory.private_bytes + memory.mapped_bytes > 0;
}

int client_stop(struct client *client, unsigned seconds, struct hearth_error *err)
{
    uint64_t end = os_monotonic_ns() + (uint64_t)seconds * 1000000000u;
    _Atomic uint32_t never = 0;
    json_t *reply = NULL;
    int status = client_call(client, "GET", "/hearth/v1/status", NULL, &reply, err);
    int pid = (int)json_integer_value(json_object_get(reply, "pid"));
    bool seen = !status && lives(pid); /* else it is in another world of process numbers */
    json_decref(reply);
    if (!status)
        status = client_call(client, "POST", "/hearth/v1/stop", NULL, NULL, err);
    while (!status && os_monotonic_ns() < end) {
        if (seen ? !lives(pid)
                 : client_call(client, "GET", "/hearth/v1/status", NULL, NULL, NULL) ==
                       HEARTH_E_MISSING)
            return 0;
        os_wait_for(&never, 0, GONE_LOOK_NS);
    }
    return status ? status
                  : error_set(err, HEARTH_E_STATE, "the daemon is still there after %u s", seconds);
}
