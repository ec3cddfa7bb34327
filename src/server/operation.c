/* What the operator asks of the daemon itself: its log, and its end. */

#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include "base/memory.h"
#include "server/openapi.h"

#define FOLLOW_US 200000 /* between two looks for new lines */

/* ---- GET /hearth/v1/logs: the last lines as text, with ?follow=true the next ones as well ---- */

struct follower {
    struct daemon *daemon;
    struct http_exchange *exchange;
    struct event *timer;
    uint64_t at; /* of the log */
    bool paused;
};

static void end_follower(struct follower *follower)
{
    if (follower->timer)
        event_free(follower->timer);
    mem_free(follower);
}

static void on_gone(void *context)
{
    end_follower(context);
}

static void on_resume(void *context)
{
    struct follower *follower = context;
    follower->paused = false;
}

static void follow(evutil_socket_t fd, short what, void *context)
{
    struct follower *follower = context;
    struct buffer lines;
    (void)fd;
    (void)what;
    if (!follower->paused) {
        buffer_init(&lines, LOG_TAIL_BYTES);
        follower->at = log_tail(follower->daemon->log, follower->at, &lines);
        if (lines.size > 0)
            follower->paused = !http_stream_write(follower->exchange, buffer_text(&lines));
        buffer_finish(&lines);
    }
    if (follower->daemon->draining) {
        http_stream_end(follower->exchange);
        end_follower(follower);
    }
}

static void begin_following(struct daemon *daemon, struct http_exchange *exchange)
{
    struct timeval pause = {0, FOLLOW_US};
    struct follower *follower = mem_zalloc_array(1, sizeof *follower);
    if (follower)
        follower->timer = event_new(daemon->base, -1, EV_PERSIST, follow, follower);
    if (!follower || !follower->timer || event_add(follower->timer, &pause) != 0) {
        if (follower)
            end_follower(follower);
        http_respond_error(exchange, 500, "no memory to follow the log");
        return;
    }
    follower->daemon = daemon;
    follower->exchange = exchange;
    http_exchange_watch(exchange, (struct http_watch){on_gone, on_resume, follower});
    http_stream_begin(exchange, 200, "text/plain; charset=utf-8");
    follow(-1, 0, follower);
}

static void get_logs(void *context, struct http_exchange *exchange)
{
    struct daemon *daemon = context;
    struct text query = http_exchange_request(exchange)->query;
    if (text_equal(query, TEXT("follow=true"))) {
        begin_following(daemon, exchange);
        return;
    }
    struct buffer lines;
    buffer_init(&lines, LOG_TAIL_BYTES);
    log_tail(daemon->log, 0, &lines);
    http_respond_buffer(exchange, 200, "text/plain; charset=utf-8", &lines);
    buffer_finish(&lines);
}

/* ---- POST /hearth/v1/stop ---- */

static void stop(evutil_socket_t fd, short what, void *context)
{
    (void)fd;
    (void)what;
    daemon_stop(context);
}

/* The answer goes out before the listeners close. */
static void post_stop(void *context, struct http_exchange *exchange)
{
    struct daemon *daemon = context;
    struct timeval at_once = {0, 0};
    if (event_base_once(daemon->base, -1, EV_TIMEOUT, stop, daemon, &at_once) == 0)
        dialect_respond_json(exchange, 202, json_pack("{s:s}", "status", "stopping"));
    else
        http_respond_error(exchange, 500, "no memory to stop");
}

struct api_operations operation_operations(void)
{
    static const struct api_operation operations[] = {
        {HTTP_METHOD_GET, "/hearth/v1/logs", .summary = "The last lines of the log",
         .type = "text/plain", .query = "follow:boolean"},
        {HTTP_METHOD_POST, "/hearth/v1/stop", .summary = "End the daemon, once answers have ended",
         .flags = API_ACCEPTED, .answer = "status:string"},
    };
    return (struct api_operations){operations, sizeof operations / sizeof operations[0]};
}

struct http_routes operation_routes(void)
{
    static const struct http_route routes[] = {
        {.method = HTTP_METHOD_GET, .path = "/hearth/v1/logs", .handle = get_logs},
        {.method = HTTP_METHOD_POST, .path = "/hearth/v1/stop", .handle = post_stop},
    };
    return (struct http_routes){routes, sizeof routes / sizeof routes[0]};
}
