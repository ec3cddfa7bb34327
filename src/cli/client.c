#include "cli/client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <curl/curl.h>

#include "base/memory.h"
#include "base/os.h"

#define REPLY_MAX ((size_t)256 << 20)
#define EVENT_MAX ((size_t)64 << 20)
#define CONNECT_MS 5000L
#define GONE_LOOK_NS 20000000 /* between two looks whether the daemon has ended */
#define LOOK_MS 100           /* between two looks for Ctrl-C */

struct client {
    CURL *curl;
    CURLM *multi;
    bool (*interrupted)(void); /* may be NULL */
    char socket[STATE_PATH_BYTES];
};

/* What comes back: a whole body, or events one by one. */
struct reading {
    struct client *client;
    struct buffer body, name; /* of the reply, or of the event that is being read */
    bool events;              /* it answers with events, not with one body */
    bool asked, left;
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
    client->curl = status ? NULL : curl_easy_init();
    client->multi = status ? NULL : curl_multi_init();
    if (!status && (!client->curl || !client->multi))
        status = error_set(err, HEARTH_E_MEMORY, "no memory for a connection");
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
    if (!client)
        return;
    if (client->curl)
        curl_easy_cleanup(client->curl);
    if (client->multi)
        curl_multi_cleanup(client->multi);
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
        if (!end_line(reading)) {
            reading->left = true;
            return false;
        }
        bytes = (struct text){end + 1, bytes.size - size - 1};
    }
    return true;
}

static bool is_type(const struct reading *reading, const char *wanted)
{
    const char *type = NULL;
    curl_easy_getinfo(reading->client->curl, CURLINFO_CONTENT_TYPE, &type);
    return type && strncmp(type, wanted, strlen(wanted)) == 0;
}

static size_t on_bytes(char *bytes, size_t one, size_t count, void *context)
{
    struct reading *reading = context;
    struct text text = {bytes, one * count};
    if (!reading->asked) {
        reading->asked = true;
        reading->events = reading->on_event && is_type(reading, "text/event-stream");
    }
    bool fine =
        reading->events ? read_events(reading, text) : buffer_append_text(&reading->body, text);
    return fine ? text.size : 0;
}

/* ---- a request ---- */

static const char *sentence_of(const json_t *reply)
{
    const json_t *error = json_object_get(reply, "error");
    const char *sentence = json_string_value(error);
    return sentence ? sentence : json_string_value(json_object_get(error, "message"));
}

static int code_of(long status)
{
    return status == 404   ? HEARTH_E_MISSING
           : status == 409 ? HEARTH_E_STATE
           : status == 507 ? HEARTH_E_LIMIT
           : status >= 500 ? HEARTH_E_IO
                           : HEARTH_E_ARGUMENT;
}

static int conclude(struct reading *reading, CURLcode code, json_t **reply,
                    struct hearth_error *err)
{
    long status = 0;
    struct client *client = reading->client;
    curl_easy_getinfo(client->curl, CURLINFO_RESPONSE_CODE, &status);
    if (reading->left)
        return error_set(err, HEARTH_E_CANCELLED, "interrupted");
    if (code == CURLE_COULDNT_CONNECT)
        return error_set(err, HEARTH_E_MISSING,
                         "no daemon is running (hearth serve starts one; --socket says where it "
                         "listens)");
    if (code != CURLE_OK)
        return error_set(err, HEARTH_E_IO, "the daemon did not answer: %s",
                         curl_easy_strerror(code));
    if (reading->events)
        return 0;
    json_t *object = reading->body.size > 0 ? json_loadb(reading->body.data, reading->body.size,
                                                         JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL)
                                            : json_null();
    int result = 0;
    if (status >= 300)
        result = error_set(err, code_of(status), "%s",
                           sentence_of(object) ? sentence_of(object) : "the daemon refused");
    else if (!object)
        result = error_set(err, HEARTH_E_FORMAT, "the daemon's answer is not JSON");
    if (!result && reply)
        *reply = json_incref(object);
    json_decref(object);
    return result;
}

/* curl_easy_perform that can be interrupted. */
static CURLcode transfer(struct reading *reading)
{
    struct client *client = reading->client;
    CURLcode code = CURLE_RECV_ERROR;
    int running = 1, left;
    if (curl_multi_add_handle(client->multi, client->curl) != CURLM_OK)
        return CURLE_OUT_OF_MEMORY;
    while (running && !reading->left) {
        if (curl_multi_perform(client->multi, &running) != CURLM_OK)
            break;
        if (client->interrupted && client->interrupted())
            reading->left = true;
        else if (running)
            curl_multi_poll(client->multi, NULL, 0, LOOK_MS, NULL);
    }
    for (CURLMsg *said; (said = curl_multi_info_read(client->multi, &left)) != NULL;) {
        if (said->msg == CURLMSG_DONE)
            code = said->data.result;
    }
    curl_multi_remove_handle(client->multi, client->curl);
    return code;
}

static int perform(struct reading *reading, const char *method, const char *path,
                   const json_t *body, json_t **reply, struct hearth_error *err)
{
    CURL *curl = reading->client->curl;
    struct curl_slist *headers = NULL;
    struct buffer url;
    char *json = body ? json_dumps(body, JSON_COMPACT) : NULL;
    buffer_init(&url, 1 << 16);
    buffer_init(&reading->body, reading->on_event ? EVENT_MAX : REPLY_MAX);
    buffer_init(&reading->name, 256);
    buffer_init(&reading->line, EVENT_MAX);
    buffer_format(&url, "http://localhost%s", path);
    headers = curl_slist_append(headers, "Content-Type: application/json");
    int status = 0;
    if (url.failed || !headers || (body && !json)) {
        status = error_set(err, HEARTH_E_MEMORY, "no memory for a request");
    } else {
        curl_easy_reset(curl);
        curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, reading->client->socket);
        curl_easy_setopt(curl, CURLOPT_URL, url.data);
        curl_easy_setopt(curl, CURLOPT_PROXY, "");
        curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
        curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MS);
        curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_bytes);
        curl_easy_setopt(curl, CURLOPT_WRITEDATA, reading);
        if (json) {
            curl_easy_setopt(curl, CURLOPT_POSTFIELDS, json);
            curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
        }
        curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
        status = conclude(reading, transfer(reading), reply, err);
    }
    curl_slist_free_all(headers);
    free(json);
    buffer_finish(&reading->line);
    buffer_finish(&reading->name);
    buffer_finish(&reading->body);
    buffer_finish(&url);
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

bool client_wait_gone(struct client *client, unsigned seconds)
{
    uint64_t end = os_monotonic_ns() + (uint64_t)seconds * 1000000000u;
    _Atomic uint32_t never = 0;
    while (os_monotonic_ns() < end) {
        if (client_call(client, "GET", "/hearth/v1/status", NULL, NULL, NULL) == HEARTH_E_MISSING)
            return true;
        os_wait_for(&never, 0, GONE_LOOK_NS);
    }
    return false;
}
