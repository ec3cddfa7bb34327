#include "server/fetch.h"

#include <string.h>

#include <curl/curl.h>
#include <event2/event.h>

#include "base/buffer.h"
#include "base/memory.h"

#define HELD_MAX ((size_t)64 << 10)
#define SECOND UINT64_C(1000000000)

struct fetcher {
    struct event_base *base;
    CURLM *multi;
    struct event *timer;   /* libcurl's */
    struct event *deliver; /* calls back */
    struct fetch *first;
    bool delivering, destroyed;
};

struct fetch {
    struct fetcher *fetcher;
    struct fetch *previous, *next;
    struct fetch_options options; /* without url, key and body */
    CURL *easy;
    struct curl_slist *headers;
    struct event *limit; /* the next thing that must happen */
    struct fetch_answer answer;
    struct buffer held;
    char error[CURL_ERROR_SIZE];
    enum fetch_outcome outcome;
    const char *cause;
    bool paused, stopped; /* by who asked; libcurl by us, as `held` is full */
    bool begun, finished, stirred, in_use, cancelled;
};

static void set_timer(struct event *timer, uint64_t ns)
{
    struct timeval after = {.tv_sec = (time_t)(ns / SECOND),
                            .tv_usec = (suseconds_t)(ns % SECOND / 1000)};
    event_add(timer, &after);
}

static void stir(struct fetch *fetch)
{
    fetch->stirred = true;
    event_active(fetch->fetcher->deliver, EV_TIMEOUT, 0);
}

/* ---- ends ---- */

static void leave_multi(struct fetch *fetch)
{
    if (!fetch->easy)
        return;
    curl_multi_remove_handle(fetch->fetcher->multi, fetch->easy);
    curl_easy_cleanup(fetch->easy);
    fetch->easy = NULL;
    event_del(fetch->limit);
}

static void free_fetch(struct fetch *fetch)
{
    struct fetcher *fetcher = fetch->fetcher;
    leave_multi(fetch);
    if (fetch->previous)
        fetch->previous->next = fetch->next;
    else if (fetcher->first == fetch)
        fetcher->first = fetch->next;
    if (fetch->next)
        fetch->next->previous = fetch->previous;
    if (fetch->limit)
        event_free(fetch->limit);
    curl_slist_free_all(fetch->headers);
    buffer_finish(&fetch->held);
    mem_free(fetch);
}

static void finish(struct fetch *fetch, enum fetch_outcome outcome, const char *cause)
{
    fetch->finished = true;
    fetch->outcome = outcome;
    fetch->cause = cause;
    leave_multi(fetch);
    stir(fetch);
}

static void on_limit(evutil_socket_t fd, short what, void *context)
{
    struct fetch *fetch = context;
    (void)fd;
    (void)what;
    finish(fetch, FETCH_TIMED_OUT,
           fetch->begun ? "it stopped in the middle of its answer" : "it does not answer");
}

static void note_answer(struct fetch *fetch)
{
    long status = 0;
    curl_off_t after = 0;
    const char *type = NULL;
    curl_easy_getinfo(fetch->easy, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(fetch->easy, CURLINFO_RETRY_AFTER, &after);
    curl_easy_getinfo(fetch->easy, CURLINFO_CONTENT_TYPE, &type);
    static const char stream[] = "text/event-stream";
    fetch->answer.status = (int)status;
    fetch->answer.retry_after_s = after > 0 && after < UINT32_MAX ? (uint32_t)after : 0;
    fetch->answer.is_stream =
        type && evutil_ascii_strncasecmp(type, stream, sizeof stream - 1) == 0;
}

static void finish_by_code(struct fetch *fetch, CURLcode code)
{
    curl_off_t connected = 0;
    curl_easy_getinfo(fetch->easy, CURLINFO_PRETRANSFER_TIME_T, &connected);
    if (!fetch->begun) /* an answer without a body */
        note_answer(fetch);
    const char *cause = fetch->error[0] ? fetch->error : curl_easy_strerror(code);
    if (code == CURLE_OK)
        finish(fetch, FETCH_WHOLE, "");
    else if (connected == 0) /* no byte of the request has been sent */
        finish(fetch, FETCH_NOT_CONNECTED, cause);
    else
        finish(fetch, FETCH_BROKEN, cause);
}

static void take_messages(struct fetcher *fetcher)
{
    CURLMsg *message;
    int left;
    while ((message = curl_multi_info_read(fetcher->multi, &left))) {
        struct fetch *fetch = NULL;
        if (message->msg == CURLMSG_DONE) {
            CURLcode code = message->data.result;
            curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&fetch);
            finish_by_code(fetch, code);
        }
    }
}

/* ---- libcurl on libevent ---- */

static void act(struct fetcher *fetcher, curl_socket_t fd, int events)
{
    int running;
    curl_multi_socket_action(fetcher->multi, fd, events, &running);
    take_messages(fetcher);
}

static void on_socket_event(evutil_socket_t fd, short what, void *context)
{
    act(context, fd,
        (what & EV_READ ? CURL_CSELECT_IN : 0) | (what & EV_WRITE ? CURL_CSELECT_OUT : 0));
}

static void on_multi_timer(evutil_socket_t fd, short what, void *context)
{
    (void)fd;
    (void)what;
    act(context, CURL_SOCKET_TIMEOUT, 0);
}

static int watch_socket(CURL *easy, curl_socket_t fd, int what, void *context, void *known)
{
    struct fetcher *fetcher = context;
    struct event *event = known;
    (void)easy;
    if (event)
        event_free(event);
    event = NULL;
    if (what != CURL_POLL_REMOVE) {
        short wanted = (short)((what & CURL_POLL_IN ? EV_READ : 0) |
                               (what & CURL_POLL_OUT ? EV_WRITE : 0) | EV_PERSIST);
        event = event_new(fetcher->base, fd, wanted, on_socket_event, fetcher);
        if (!event || event_add(event, NULL) != 0) {
            if (event)
                event_free(event);
            curl_multi_assign(fetcher->multi, fd, NULL);
            return -1;
        }
    }
    curl_multi_assign(fetcher->multi, fd, event);
    return 0;
}

static int set_multi_timer(CURLM *multi, long ms, void *context)
{
    struct fetcher *fetcher = context;
    (void)multi;
    if (ms < 0)
        event_del(fetcher->timer);
    else
        set_timer(fetcher->timer, (uint64_t)ms * 1000000);
    return 0;
}

/* ---- answers ---- */

static size_t on_body(char *bytes, size_t one, size_t size, void *context)
{
    struct fetch *fetch = context;
    (void)one;
    if (fetch->held.size >= HELD_MAX) {
        fetch->stopped = true;
        event_del(fetch->limit);
        return CURL_WRITEFUNC_PAUSE;
    }
    if (!fetch->begun)
        note_answer(fetch);
    fetch->begun = true;
    if (!buffer_append(&fetch->held, bytes, size))
        return CURL_WRITEFUNC_ERROR;
    if (!fetch->paused)
        set_timer(fetch->limit, fetch->options.idle_ns);
    stir(fetch);
    return size;
}

/* Gives what was held to who asked; it may cancel the fetch meanwhile. */
static void give(struct fetch *fetch)
{
    struct buffer held = fetch->held;
    buffer_init(&fetch->held, HELD_MAX + CURL_MAX_WRITE_SIZE);
    fetch->in_use = true;
    fetch->options.on_bytes(fetch->options.context, &fetch->answer, buffer_text(&held));
    fetch->in_use = false;
    buffer_finish(&held);
}

static void end(struct fetch *fetch)
{
    char cause[CURL_ERROR_SIZE];
    struct fetch_options options = fetch->options;
    struct fetch_answer answer = fetch->answer;
    enum fetch_outcome outcome = fetch->outcome;
    strncpy(cause, fetch->cause, sizeof cause - 1);
    cause[sizeof cause - 1] = '\0';
    free_fetch(fetch);
    options.on_end(options.context, outcome, &answer, cause);
}

static void deliver_one(struct fetch *fetch)
{
    fetch->stirred = false;
    if (fetch->paused)
        return;
    if (fetch->held.size > 0)
        give(fetch);
    if (fetch->cancelled) {
        free_fetch(fetch);
        return;
    }
    if (fetch->stopped && !fetch->paused && fetch->easy) {
        fetch->stopped = false;
        set_timer(fetch->limit, fetch->options.idle_ns);
        curl_easy_pause(fetch->easy, CURLPAUSE_CONT); /* may fill `held` again */
    }
    if (fetch->finished && fetch->held.size == 0 && !fetch->paused)
        end(fetch);
}

static void destroy_now(struct fetcher *fetcher)
{
    while (fetcher->first)
        free_fetch(fetcher->first);
    if (fetcher->multi)
        curl_multi_cleanup(fetcher->multi);
    if (fetcher->timer)
        event_free(fetcher->timer);
    if (fetcher->deliver)
        event_free(fetcher->deliver);
    mem_free(fetcher);
    curl_global_cleanup();
}

static void on_deliver(evutil_socket_t fd, short what, void *context)
{
    struct fetcher *fetcher = context;
    (void)fd;
    (void)what;
    fetcher->delivering = true;
    for (struct fetch *fetch = fetcher->first; fetch && !fetcher->destroyed;) {
        if (fetch->stirred) {
            deliver_one(fetch);
            fetch = fetcher->first; /* any of them may be gone */
        } else {
            fetch = fetch->next;
        }
    }
    fetcher->delivering = false;
    if (fetcher->destroyed)
        destroy_now(fetcher);
}

/* ---- the interface ---- */

int fetcher_create(struct event_base *base, struct fetcher **out, struct hearth_error *err)
{
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != 0)
        return error_set(err, HEARTH_E_UNSUPPORTED, "libcurl cannot be used");
    struct fetcher *fetcher = MEM_NEW(struct fetcher);
    if (!fetcher) {
        curl_global_cleanup();
        return error_set(err, HEARTH_E_MEMORY, "no memory for connections to other servers");
    }
    fetcher->base = base;
    fetcher->multi = curl_multi_init();
    fetcher->timer = evtimer_new(base, on_multi_timer, fetcher);
    fetcher->deliver = evtimer_new(base, on_deliver, fetcher);
    if (!fetcher->multi || !fetcher->timer || !fetcher->deliver) {
        destroy_now(fetcher);
        return error_set(err, HEARTH_E_MEMORY, "no memory for connections to other servers");
    }
    curl_multi_setopt(fetcher->multi, CURLMOPT_SOCKETFUNCTION, watch_socket);
    curl_multi_setopt(fetcher->multi, CURLMOPT_SOCKETDATA, fetcher);
    curl_multi_setopt(fetcher->multi, CURLMOPT_TIMERFUNCTION, set_multi_timer);
    curl_multi_setopt(fetcher->multi, CURLMOPT_TIMERDATA, fetcher);
    curl_multi_setopt(fetcher->multi, CURLMOPT_MAXCONNECTS, 8L);
    *out = fetcher;
    return 0;
}

void fetcher_destroy(struct fetcher *fetcher)
{
    if (!fetcher)
        return;
    if (fetcher->delivering)
        fetcher->destroyed = true;
    else
        destroy_now(fetcher);
}

static bool part_is(CURLU *url, CURLUPart part, const char *a, const char *b)
{
    char *value = NULL;
    bool is = curl_url_get(url, part, &value, 0) == CURLUE_OK
                  ? (a && strcmp(value, a) == 0) || (b && strcmp(value, b) == 0)
                  : !a;
    curl_free(value);
    return is;
}

int fetch_check_url(const char *text, struct hearth_error *err)
{
    CURLU *url = curl_url();
    bool good =
        url && curl_url_set(url, CURLUPART_URL, text, 0) == CURLUE_OK &&
        part_is(url, CURLUPART_SCHEME, "http", "https") &&
        part_is(url, CURLUPART_USER, NULL, NULL) && part_is(url, CURLUPART_PASSWORD, NULL, NULL) &&
        part_is(url, CURLUPART_QUERY, NULL, NULL) && part_is(url, CURLUPART_FRAGMENT, NULL, NULL);
    curl_url_cleanup(url);
    return good ? 0
                : error_set(err, HEARTH_E_ARGUMENT,
                            "a server's address is http:// or https://, a host, and perhaps a port "
                            "and a path, like http://host:8000/v1");
}

/* Headers, of which the key must not appear in anything that is written anywhere. */
static bool set_headers(struct fetch *fetch, const char *key)
{
    /* without the last one libcurl waits up to a second before it sends a large body */
    static const char *const lines[] = {"Content-Type: application/json",
                                        "Accept: text/event-stream, application/json", "Expect:"};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        struct curl_slist *more = curl_slist_append(fetch->headers, lines[i]);
        if (!more)
            return false;
        fetch->headers = more;
    }
    return curl_easy_setopt(fetch->easy, CURLOPT_HTTPHEADER, fetch->headers) == CURLE_OK &&
           (!key || (curl_easy_setopt(fetch->easy, CURLOPT_HTTPAUTH, CURLAUTH_BEARER) == CURLE_OK &&
                     curl_easy_setopt(fetch->easy, CURLOPT_XOAUTH2_BEARER, key) == CURLE_OK));
}

static bool set_options(struct fetch *fetch, const struct fetch_options *options)
{
    CURL *easy = fetch->easy;
    bool good = curl_easy_setopt(easy, CURLOPT_URL, options->url) == CURLE_OK &&
                curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https") == CURLE_OK &&
                curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1) == CURLE_OK &&
                set_headers(fetch, options->key);
    if (good && options->body.data)
        good = curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE,
                                (curl_off_t)options->body.size) == CURLE_OK &&
               curl_easy_setopt(easy, CURLOPT_COPYPOSTFIELDS, options->body.data) == CURLE_OK;
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L); /* a key goes where it was meant to go */
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_NOPROXY, "localhost,127.0.0.1,::1");
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)(options->connect_ns / 1000000));
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, fetch);
    curl_easy_setopt(easy, CURLOPT_PRIVATE, fetch);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, fetch->error);
    return good;
}

int fetch_start(struct fetcher *fetcher, const struct fetch_options *options, struct fetch **out,
                struct hearth_error *err)
{
    struct fetch *fetch = MEM_NEW(struct fetch);
    if (!fetch)
        return error_set(err, HEARTH_E_MEMORY, "no memory for a request to another server");
    fetch->fetcher = fetcher;
    fetch->options = *options;
    fetch->options.url = fetch->options.key = NULL;
    fetch->options.body = (struct text){NULL, 0};
    buffer_init(&fetch->held, HELD_MAX + CURL_MAX_WRITE_SIZE);
    fetch->next = fetcher->first;
    if (fetcher->first)
        fetcher->first->previous = fetch;
    fetcher->first = fetch;
    fetch->limit = evtimer_new(fetcher->base, on_limit, fetch);
    fetch->easy = fetch->limit ? curl_easy_init() : NULL;
    if (!fetch->easy || !set_options(fetch, options) ||
        curl_multi_add_handle(fetcher->multi, fetch->easy) != CURLM_OK) {
        free_fetch(fetch);
        return error_set(err, HEARTH_E_MEMORY, "no memory for a request to another server");
    }
    set_timer(fetch->limit, options->connect_ns + options->first_byte_ns);
    *out = fetch;
    return 0;
}

void fetch_pause(struct fetch *fetch, bool pause)
{
    fetch->paused = pause;
    if (pause && fetch->begun && fetch->easy)
        event_del(fetch->limit);
    else if (!pause && fetch->begun && fetch->easy)
        set_timer(fetch->limit, fetch->options.idle_ns);
    if (!pause)
        stir(fetch);
}

void fetch_cancel(struct fetch *fetch)
{
    if (!fetch->in_use) {
        free_fetch(fetch);
        return;
    }
    fetch->cancelled = true;
    leave_multi(fetch);
}
