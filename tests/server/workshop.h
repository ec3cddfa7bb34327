/* What tests of worker processes share: a backend, what its owner is told, what became of requests,
 * and a check at the end that no process and no descriptor stayed behind. */
#ifndef TESTS_SERVER_WORKSHOP_H
#define TESTS_SERVER_WORKSHOP_H

#include <stdbool.h>
#include <stdint.h>

#include "server/local.h"
#include "support/folder.h"

#define SECOND UINT64_C(1000000000)
#define PATIENCE_NS (20 * SECOND)

/* What became of one request. */
struct heard {
    struct backend_job *job;
    unsigned begun, texts, ended;
    uint64_t prompt_tokens, cached_tokens;
    char text[4096];
    int code;
    char cause[HEARTH_ERROR_TEXT_MAX];
    char reply[1024];
    float vector[4];
    unsigned tokens; /* that were named */
    /* What is done from inside: in on_text with this request, or with the backend; in on_end. */
    struct backend *abandon_at_text, *destroy_at_text, *abandon_at_end;
};

struct workshop {
    struct event_base *base;
    struct backend *backend;
    struct metrics *metrics;
    struct hearth_store *store; /* NULL until workshop_store */
    char folder[TEST_FOLDER_MAX];
    int model;            /* a file in it, open for writing too */
    unsigned descriptors; /* open before the test */
    /* what the owner was told */
    unsigned states, loadings, uses;
    enum backend_state state;
    char error[HEARTH_ERROR_TEXT_MAX];
    bool inside; /* a call is being made: nobody may be called back */
};

/* For each test its own, in *state. What it started is gone when it is closed, or the test fails.
 */
int workshop_open(void **state);
int workshop_close(void **state);
#define WITH(test) cmocka_unit_test_setup_teardown(test, workshop_open, workshop_close)
void workshop_store(struct workshop *f);

/* ---- the loop ---- */
void run_once(struct workshop *f);
bool run_for(struct workshop *f, bool (*until)(void *context), void *context, uint64_t ns);
void run_until(struct workshop *f, bool (*until)(void *context), void *context);
bool never(void *context);
bool has_ended(void *heard);
bool has_begun(void *heard);
bool is_ready(void *workshop);
bool is_over(void *workshop); /* failed or ended */
bool is_alone(void *unused);  /* there is no child, not even a dead one */
bool is_gone(void *number);   /* no such process */

/* ---- starting and asking ---- */
struct local_options workshop_options(struct workshop *f, const char *program);
void start_with(struct workshop *f, const struct local_options *options);
int try_ask(struct workshop *f, struct heard *heard, const struct work_ask *ask,
            struct hearth_error *err);
void call(struct workshop *f, struct heard *heard, const char *name, const char *arguments);
struct backend_listener listen_to(struct heard *heard);
void destroy(struct workshop *f);
void assert_cause(const struct heard *heard, int code, const char *part);

#endif
