#define _GNU_SOURCE
#include "workshop.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/os.h"
#include "hearth/session.h"
#include "server/metrics.h"
#include "support/process.h"

/* ---- what is called back ---- */

static struct workshop *current;

static void on_state(void *context, enum backend_state state, const struct hearth_error *error)
{
    struct workshop *f = context;
    assert_false(f->inside);
    f->states++;
    f->state = state;
    snprintf(f->error, sizeof f->error, "%s", error ? error->text : "");
}

static void on_loading(void *context, double fraction)
{
    struct workshop *f = context;
    assert_true(fraction >= 0 && fraction <= 1);
    f->loadings++;
}

static void on_use(void *context)
{
    struct workshop *f = context;
    f->uses++;
}

static void on_begin(void *context, const struct work_begin *begin)
{
    struct heard *heard = context;
    assert_false(current->inside);
    heard->begun++;
    heard->prompt_tokens = begin->prompt_tokens;
    heard->cached_tokens = begin->cached_tokens;
}

static void on_reading(void *context, uint64_t done, uint64_t total)
{
    struct heard *heard = context;
    assert_int_equal(heard->begun, 1);
    assert_true(done <= total);
}

static void on_text(void *context, const struct work_text *text, struct text reasoning,
                    struct message_reader *tokens)
{
    struct heard *heard = context;
    struct work_token token, top[HEARTH_TOP_TOKENS_MAX];
    uint32_t top_count;
    assert_false(current->inside);
    assert_int_equal(heard->ended, 0);
    assert_int_equal(reasoning.size, 0);
    size_t size = strlen(heard->text);
    snprintf(heard->text + size, sizeof heard->text - size, "%.*s", TEXT_ARGS(text->text));
    heard->texts++;
    for (uint32_t i = 0; i < text->count; i++) {
        assert_true(work_text_token(tokens, &token, top, &top_count));
        heard->tokens++;
    }
    if (heard->abandon_at_text)
        heard->abandon_at_text->calls->abandon(heard->abandon_at_text, heard->job);
    if (heard->destroy_at_text)
        heard->destroy_at_text->calls->destroy(heard->destroy_at_text);
    assert_true(text->text.size == 0 || text->text.data[0] != '\0'); /* still there */
}

static void on_end(void *context, const struct work_end *end)
{
    struct heard *heard = context;
    assert_false(current->inside);
    heard->ended++;
    heard->code = end->code;
    snprintf(heard->cause, sizeof heard->cause, "%.*s", TEXT_ARGS(end->cause));
    if (heard->abandon_at_end)
        heard->abandon_at_end->calls->abandon(heard->abandon_at_end, heard->job);
}

static void on_reply(void *context, int code, struct text cause, struct message_reader *reply)
{
    struct heard *heard = context;
    struct work_vectors vectors;
    assert_false(current->inside);
    heard->ended++;
    heard->code = code;
    snprintf(heard->cause, sizeof heard->cause, "%.*s", TEXT_ARGS(cause));
    assert_true((code == 0) == (reply != NULL));
    if (!reply)
        return;
    struct message_reader again = *reply;
    if (work_get_vectors(&again, &vectors)) {
        assert_int_equal(vectors.count, 2);
        for (int i = 0; i < 2; i++)
            assert_true(work_vectors_row(&again, 2, heard->vector + 2 * i));
        return;
    }
    struct text text = message_get_text(reply);
    assert_true(message_was_whole(reply));
    snprintf(heard->reply, sizeof heard->reply, "%.*s", TEXT_ARGS(text));
}

struct backend_listener listen_to(struct heard *heard)
{
    return (struct backend_listener){on_begin, on_reading, on_text, on_end, on_reply, heard};
}

/* ---- the loop ---- */

bool has_ended(void *context)
{
    return ((struct heard *)context)->ended > 0;
}

bool has_begun(void *context)
{
    return ((struct heard *)context)->begun > 0;
}

bool is_ready(void *context)
{
    return ((struct workshop *)context)->state == BACKEND_READY;
}

bool is_over(void *context)
{
    return ((struct workshop *)context)->state == BACKEND_FAILED ||
           ((struct workshop *)context)->state == BACKEND_ENDED;
}

void run_once(struct workshop *f)
{
    struct timeval soon = {.tv_usec = 5000};
    event_base_loopexit(f->base, &soon);
    assert_int_not_equal(event_base_loop(f->base, EVLOOP_ONCE), -1);
}

bool run_for(struct workshop *f, bool (*until)(void *context), void *context, uint64_t ns)
{
    uint64_t end = os_monotonic_ns() + ns;
    while (!until(context)) {
        if (os_monotonic_ns() > end)
            return false;
        run_once(f);
    }
    return true;
}

void run_until(struct workshop *f, bool (*until)(void *context), void *context)
{
    assert_true(run_for(f, until, context, PATIENCE_NS));
}

bool never(void *context)
{
    (void)context;
    return false;
}

bool is_gone(void *context)
{
    char path[64], name[64] = "", what = 'Z';
    snprintf(path, sizeof path, "/proc/%d/stat", *(int *)context);
    FILE *file = fopen(path, "re");
    if (!file)
        return true;
    if (fscanf(file, "%*d %63s %c", name, &what) != 2)
        what = 'Z';
    fclose(file);
    return what == 'Z'; /* nobody may be there to wait for it in a container */
}

/* ---- starting and asking ---- */

struct local_options workshop_options(struct workshop *f, const char *program)
{
    return (struct local_options){
        .program = program,
        .name = "fake",
        .fds = &f->model,
        .fd_count = 1,
        .metrics = f->metrics,
        .store = f->store,
        .owner = {on_state, on_loading, on_use, f},
    };
}

void start_with(struct workshop *f, const struct local_options *options)
{
    struct hearth_error err;
    f->inside = true;
    assert_int_equal(local_start(f->base, options, &f->backend, &err), 0);
    f->inside = false;
}

int try_ask(struct workshop *f, struct heard *heard, const struct work_ask *ask,
            struct hearth_error *err)
{
    const struct backend_listener listener = listen_to(heard);
    *heard = (struct heard){0};
    f->inside = true;
    int status = f->backend->calls->ask(f->backend, ask, &listener, &heard->job, err);
    f->inside = false;
    return status;
}

void call(struct workshop *f, struct heard *heard, const char *name, const char *arguments)
{
    struct hearth_error err;
    const struct work_call work = {text_of(name), text_of(arguments)};
    const struct backend_listener listener = listen_to(heard);
    *heard = (struct heard){0};
    f->inside = true;
    if (f->backend->calls->call(f->backend, &work, &listener, &heard->job, &err))
        fail_msg("%s", err.text);
    f->inside = false;
}

void destroy(struct workshop *f)
{
    f->inside = true;
    if (f->backend)
        f->backend->calls->destroy(f->backend);
    f->inside = false;
    f->backend = NULL;
}

int workshop_open(void **state)
{
    char path[TEST_FOLDER_MAX + 16];
    struct workshop *f = calloc(1, sizeof *f);
    if (!f)
        return -1;
    f->descriptors = open_descriptors();
    f->base = event_base_new();
    f->metrics = metrics_create();
    test_folder_make_in_memory(f->folder);
    snprintf(path, sizeof path, "%s/model", f->folder);
    f->model = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    current = f;
    *state = f;
    return f->base && f->model >= 0 ? 0 : -1;
}

/* A child that is waited for here would be a zombie in the daemon: there must be none to wait for
 * once the loop has had its time. */
bool is_alone(void *context)
{
    siginfo_t info = {0};
    (void)context;
    return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 && errno == ECHILD;
}

int workshop_close(void **state)
{
    struct workshop *f = *state;
    destroy(f);
    bool alone = run_for(f, is_alone, NULL, PATIENCE_NS);
    run_once(f);
    event_base_free(f->base);
    hearth_store_close(f->store);
    metrics_destroy(f->metrics);
    close(f->model);
    test_folder_remove(f->folder);
    bool closed = open_descriptors() == f->descriptors;
    free(f);
    if (!alone)
        print_error("a process stayed behind\n");
    if (!closed)
        print_error("a descriptor stayed open\n");
    return alone && closed ? 0 : -1;
}

void assert_cause(const struct heard *heard, int code, const char *part)
{
    assert_int_equal(heard->ended, 1);
    if (heard->code != code || !strstr(heard->cause, part))
        fail_msg("%d \"%s\" in place of %d \"%s\"", heard->code, heard->cause, code, part);
}

void workshop_store(struct workshop *f)
{
    char path[TEST_FOLDER_MAX + 16];
    const struct hearth_store_options options = {.directory = path};
    struct hearth_error err;
    snprintf(path, sizeof path, "%s/store", f->folder);
    if (hearth_store_open(&options, &f->store, &err))
        fail_msg("%s", err.text);
}
