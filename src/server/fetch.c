#include "server/fetch.h"

#include <string.h>

#include <event2/event.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "server/libcurl.h"

#define HELD_MAX ((size_t)64 << 10)
#define SECOND UINT64_C(1000000000)

struct fetcher {
    struct event_base *base;
    struct libcurl curl;
    CURLM *multi;          /* NULL until there is the first fetch */
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
    fetch->fetcher->curl.multi_remove_handle(fetch->fetcher->multi, fetch->easy);
    fetch->fetcher->curl.easy_cleanup(fetch->easy);
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
    if (fetch->headers)
        fetcher->curl.slist_free_all(fetch->headers);
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
    const struct libcurl *curl = &fetch->fetcher->curl;
    long status = 0;
    curl_off_t after = 0;
    const char *type = NULL;
    curl->easy_getinfo(fetch->easy, CURLINFO_RESPONSE_CODE, &status);
    curl->easy_getinfo(fetch->easy, CURLINFO_RETRY_AFTER, &after);
    curl->easy_getinfo(fetch->easy, CURLINFO_CONTENT_TYPE, &type);
    static const char stream[] = "text/event-stream";
    fetch->answer.status = (int)status;
    fetch->answer.retry_after_s = after > 0 && after < UINT32_MAX ? (uint32_t)after : 0;
    fetch->answer.is_stream =
        type && evutil_ascii_strncasecmp(type, stream, sizeof stream - 1) == 0;
}

static void finish_by_code(struct fetch *fetch, CURLcode code)
{
    const struct libcurl *curl = &fetch->fetcher->curl;
    curl_off_t connected = 0;
    curl->easy_getinfo(fetch->easy, CURLINFO_PRETRANSFER_TIME_T, &connected);
    if (!fetch->begun) /* an answer without a body */
        note_answer(fetch);
    const char *cause = fetch->error[0] ? fetch->error : curl->easy_strerror(code);
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
    while ((message = fetcher->curl.multi_info_read(fetcher->multi, &left))) {
        struct fetch *fetch = NULL;
        if (message->msg == CURLMSG_DONE) {
            CURLcode code = message->data.result;
            fetcher->curl.easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&fetch);
            finish_by_code(fetch, code);
        }
    }
}

/* ---- libcurl on libevent ---- */

static void act(struct fetcher *fetcher, curl_socket_t fd, int events)
{
    int running;
    fetcher->curl.multi_socket_action(fetcher->multi, fd, events, &running);
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
            fetcher->curl.multi_assign(fetcher->multi, fd, NULL);
            return -1;
        }
    }
    fetcher->curl.multi_assign(fetcher->multi, fd, event);
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
        fetch->fetcher->curl.easy_pause(fetch->easy, CURLPAUSE_CONT); /* may fill `held` again */
    }
    if (fetch->finished && fetch->held.size == 0 && !fetch->paused)
        end(fetch);
}

static void destroy_now(struct fetcher *fetcher)
{
    while (fetcher->first)
        free_fetch(fetcher->first);
    if (fetcher->multi) {
        fetcher->curl.multi_cleanup(fetcher->multi);
        fetcher->curl.global_cleanup();
    }
    if (fetcher->timer)
        event_free(fetcher->timer);
    if (fetcher->deliver)
        event_free(fetcher->deliver);
    mem_free(fetcher);
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
    struct fetcher *fetcher = MEM_NEW(struct fetcher);
    if (!fetcher)
        return error_set(err, HEARTH_E_MEMORY, "no memory for connections to other servers");
    fetcher->base = base;
    fetcher->timer = evtimer_new(base, on_multi_timer, fetcher);
    fetcher->deliver = evtimer_new(base, on_deliver, fetcher);
    if (!fetcher->timer || !fetcher->deliver) {
        destroy_now(fetcher);
        return error_set(err, HEARTH_E_MEMORY, "no memory for connections to other servers");
    }
    *out = fetcher;
    return 0;
}

static int begin_multi(struct fetcher *fetcher, struct hearth_error *err)
{
    int status = fetcher->multi ? 0 : libcurl_open(&fetcher->curl, err);
    if (status || fetcher->multi)
        return status;
    const struct libcurl *curl = &fetcher->curl;
    fetcher->multi = curl->multi_init();
    if (!fetcher->multi) {
        curl->global_cleanup();
        return error_set(err, HEARTH_E_MEMORY, "no memory for connections to other servers");
    }
    curl->multi_setopt(fetcher->multi, CURLMOPT_SOCKETFUNCTION, watch_socket);
    curl->multi_setopt(fetcher->multi, CURLMOPT_SOCKETDATA, fetcher);
    curl->multi_setopt(fetcher->multi, CURLMOPT_TIMERFUNCTION, set_multi_timer);
    curl->multi_setopt(fetcher->multi, CURLMOPT_TIMERDATA, fetcher);
    curl->multi_setopt(fetcher->multi, CURLMOPT_MAXCONNECTS, 8L);
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

/* Leaves `rest` behind the bytes at its beginning that are letters, digits or one of `others`; how
 * many they were. */
static size_t skip(const char **rest, const char *others)
{
    const char *begin = *rest;
    for (; **rest; ++*rest) {
        char c = **rest, letter = (char)(c | 0x20);
        if (!(letter >= 'a' && letter <= 'z') && !(c >= '0' && c <= '9') && !strchr(others, c))
            break;
    }
    return (size_t)(*rest - begin);
}

static bool skip_host(const char **rest)
{
    if (**rest != '[')
        return skip(rest, "-._") > 0;
    ++*rest;
    return skip(rest, ":.") > 0 && *(*rest)++ == ']';
}

static bool skip_port(const char **rest)
{
    long port = 0;
    if (**rest != ':')
        return true;
    for (++*rest; **rest >= '0' && **rest <= '9' && port <= UINT16_MAX; ++*rest)
        port = 10 * port + (**rest - '0');
    return port > 0 && port <= UINT16_MAX;
}

/* Only what all who read addresses read alike. */
int fetch_check_url(const char *text, struct hearth_error *err)
{
    static const char path[] = "/-._~%!$&'()*+,;=:@";
    const char *rest = text;
    bool good = false;
    if (evutil_ascii_strncasecmp(text, "http://", 7) == 0)
        rest += 7;
    else if (evutil_ascii_strncasecmp(text, "https://", 8) == 0)
        rest += 8;
    if (rest > text && skip_host(&rest) && skip_port(&rest)) {
        good = *rest == '/' || *rest == '\0';
        skip(&rest, path);
    }
    return good && *rest == '\0'
               ? 0
               : error_set(err, HEARTH_E_ARGUMENT,
                           "a server's address is http:// or https://, a host, and perhaps a port "
                           "and a path, like http://host:8000/v1");
}

/* Headers, of which the key must not appear in anything that is written anywhere. */
static bool set_headers(struct fetch *fetch, const char *key)
{
    const struct libcurl *curl = &fetch->fetcher->curl;
    /* without the last one libcurl waits up to a second before it sends a large body */
    static const char *const lines[] = {"Content-Type: application/json",
                                        "Accept: text/event-stream, application/json", "Expect:"};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        struct curl_slist *more = curl->slist_append(fetch->headers, lines[i]);
        if (!more)
            return false;
        fetch->headers = more;
    }
    return curl->easy_setopt(fetch->easy, CURLOPT_HTTPHEADER, fetch->headers) == CURLE_OK &&
           (!key ||
            (curl->easy_setopt(fetch->easy, CURLOPT_HTTPAUTH, (long)CURLAUTH_BEARER) == CURLE_OK &&
             curl->easy_setopt(fetch->easy, CURLOPT_XOAUTH2_BEARER, key) == CURLE_OK));
}

static bool set_options(struct fetch *fetch, const struct fetch_options *options)
{
    const struct libcurl *curl = &fetch->fetcher->curl;
    CURL *easy = fetch->easy;
    bool good =
        curl->easy_setopt(easy, CURLOPT_URL, options->url) == CURLE_OK &&
        curl->easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https") == CURLE_OK &&
        curl->easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1) == CURLE_OK &&
        set_headers(fetch, options->key);
    if (good && options->body.data)
        good = curl->easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE,
                                 (curl_off_t)options->body.size) == CURLE_OK &&
               curl->easy_setopt(easy, CURLOPT_COPYPOSTFIELDS, options->body.data) == CURLE_OK;
    curl->easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L); /* a key goes where it was meant to go */
    curl->easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl->easy_setopt(easy, CURLOPT_NOPROXY, "localhost,127.0.0.1,::1");
    curl->easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl->easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)(options->connect_ns / 1000000));
    curl->easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    curl->easy_setopt(easy, CURLOPT_WRITEDATA, fetch);
    curl->easy_setopt(easy, CURLOPT_PRIVATE, fetch);
    curl->easy_setopt(easy, CURLOPT_ERRORBUFFER, fetch->error);
    return good;
}

int fetch_start(struct fetcher *fetcher, const struct fetch_options *options, struct fetch **out,
                struct hearth_error *err)
{
    int status = begin_multi(fetcher, err);
    if (status)
        return status;
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
    fetch->easy = fetch->limit ? fetcher->curl.easy_init() : NULL;
    if (!fetch->easy || !set_options(fetch, options) ||
        fetcher->curl.multi_add_handle(fetcher->multi, fetch->easy) != CURLM_OK) {
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
