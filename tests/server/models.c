/* Which models there are, when they are loaded and when they go, over workers
 * that are nothing but numbers. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/os.h"
#include "models_world.h"
#include "server/events.h"

static struct world world;

static int begin(void **state)
{
    (void)state;
    world_init(&world);
    return 0;
}

static int end(void **state)
{
    (void)state;
    world_finish(&world);
    return 0;
}

/* Four models of 3.6 GB each under a limit of 10 GB: two fit. */
static void open_four(void)
{
    world_gguf(&world, "a.gguf");
    world_gguf(&world, "b.gguf");
    world_gguf(&world, "c.gguf");
    world_gguf(&world, "d.gguf");
    world_open(&world);
}

static void release_in_time(struct asker *asker)
{
    WORLD_UNTIL(&world, asker->answered);
    if (!asker->lease)
        fail_msg("%s", asker->error.text);
    asker_release(asker);
}

/* ---- loading ---- */

static void all_who_wait_share_one_load(void **state)
{
    (void)state;
    static struct asker askers[100];
    world.hold = true;
    open_four();
    for (int i = 0; i < 100; i++)
        asker_ask(&askers[i], world_model(&world, "a"));
    WORLD_UNTIL(&world, world_worker(&world, "a"));
    struct fake_worker *worker = world_worker(&world, "a");
    assert_int_equal(world_info(&world, "a").presence, MODEL_LOADING);
    worker->owner.on_loading(worker->owner.context, 0.25);
    worker->owner.on_loading(worker->owner.context, 0.5);
    worker->owner.on_loading(worker->owner.context, 0.1); /* never back */
    for (int i = 0; i < 50; i++)
        models_forget(askers[i].wait); /* clients leave */
    fake_ready(worker);
    WORLD_UNTIL(&world, askers[99].answered);
    assert_int_equal(world.worker_count, 1);
    assert_int_equal(world.probe_count, 0);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(askers[i].answered, i >= 50);
        assert_int_equal(askers[i].loadings, 2);
        assert_true(i < 50 || (askers[i].lease && askers[i].loaded));
    }
    assert_int_equal(world_info(&world, "a").leases, 50);
    assert_int_equal(world_info(&world, "a").context, 2048);
    struct asker late = {0};
    asker_ask(&late, world_model(&world, "a"));
    WORLD_UNTIL(&world, late.answered);
    assert_true(late.lease && !late.loaded);
    assert_ptr_equal(model_lease_backend(late.lease), &worker->base);
    assert_ptr_equal(model_lease_model(late.lease), world_model(&world, "a"));
    asker_release(&late);
    for (int i = 50; i < 100; i++)
        asker_release(&askers[i]);
    assert_int_equal(world_info(&world, "a").leases, 0);
}

static void on_loading_leave(void *context, double fraction)
{
    struct model_wait **waits = context;
    (void)fraction;
    for (int i = 0; i < 3; i++) {
        if (waits[i])
            models_forget(waits[i]);
        waits[i] = NULL;
    }
}

static void never(void *context, struct model_lease *lease, bool loaded,
                  const struct hearth_error *err)
{
    (void)context, (void)lease, (void)loaded, (void)err;
    fail_msg("somebody who left was called back");
}

static void who_is_told_of_progress_may_let_all_go(void **state)
{
    (void)state;
    struct model_wait *waits[3];
    world.hold = true;
    open_four();
    for (int i = 0; i < 3; i++) {
        const struct model_acquire acquire = {
            .on_loading = on_loading_leave, .on_ready = never, .context = waits};
        assert_int_equal(model_acquire(world_model(&world, "a"), &acquire, &waits[i], NULL), 0);
    }
    WORLD_UNTIL(&world, world_worker(&world, "a"));
    struct fake_worker *worker = world_worker(&world, "a");
    worker->owner.on_loading(worker->owner.context, 0.5);
    assert_null(waits[0]);
    fake_ready(worker); /* it is loaded although nobody waits: who left comes back */
    WORLD_UNTIL(&world, world_info(&world, "a").presence == MODEL_LOADED);
    assert_int_equal(world_info(&world, "a").leases, 0);
}

static void failures_are_told_to_all_and_tried_again(void **state)
{
    (void)state;
    struct asker askers[3] = {0};
    open_four();
    world.fail_loads = 1;
    for (int i = 0; i < 3; i++)
        asker_ask(&askers[i], world_model(&world, "a"));
    WORLD_UNTIL(&world, askers[2].answered);
    for (int i = 0; i < 3; i++) {
        assert_null(askers[i].lease);
        assert_int_equal(askers[i].error.code, HEARTH_E_FORMAT);
        assert_string_equal(askers[i].error.text, "a: a tensor lies outside the file");
    }
    assert_int_equal(world_info(&world, "a").presence, MODEL_UNLOADED);
    world.fail_starts = 1;
    asker_ask(&askers[0], world_model(&world, "a"));
    WORLD_UNTIL(&world, askers[0].answered);
    assert_string_equal(askers[0].error.text, "a: no more processes");
    world_use(&world, "a");
    assert_int_equal(world_alive(&world), 1);
    world.fail_probes = 1;
    asker_ask(&askers[0], world_model(&world, "b"));
    WORLD_UNTIL(&world, askers[0].answered);
    assert_string_equal(askers[0].error.text, "b: is damaged");
    world_use(&world, "b");
    assert_non_null(strstr(world.told, "model.failed a\nmodel.loading a\nmodel.failed a\n"));
}

static void who_leaves_before_anything_began_stops_it(void **state)
{
    (void)state;
    struct asker asker = {0};
    open_four();
    world_use(&world, "b");
    world.hold_probes = true;
    asker_ask(&asker, world_model(&world, "a"));
    assert_int_equal(world_info(&world, "a").presence, MODEL_LOADING);
    models_forget(asker.wait);
    assert_int_equal(world_info(&world, "a").presence, MODEL_UNLOADED);
    world.hold_probes = false;
    world_wait(&world, 20);
    assert_int_equal(world.worker_count, 1);
    world_use(&world, "a"); /* and the probe was not in vain */
    assert_int_equal(world.probe_count, 1);
}

static void a_file_that_changes_is_loaded_anew(void **state)
{
    (void)state;
    open_four();
    world_use(&world, "a");
    const struct fake_worker *old = world_worker(&world, "a");
    world_file(&world, "a.gguf", "GGUF, and other bytes");
    struct asker asker = {0};
    asker_ask(&asker, world_model(&world, "a"));
    WORLD_UNTIL(&world, asker.answered);
    assert_non_null(asker.lease);
    assert_ptr_not_equal(world_worker(&world, "a"), old);
    /* one that is in use goes on */
    old = world_worker(&world, "a");
    world_file(&world, "a.gguf", "GGUF, and once more other bytes");
    struct asker other = {0};
    asker_ask(&other, world_model(&world, "a"));
    WORLD_UNTIL(&world, other.answered);
    assert_ptr_equal(world_worker(&world, "a"), old);
    asker_release(&asker);
    asker_release(&other);
}

static void a_file_that_is_replaced_while_it_is_probed_is_probed_again(void **state)
{
    (void)state;
    struct asker asker = {0};
    open_four();
    world_use(&world, "b");
    world.hold_probes = true;
    asker_ask(&asker, world_model(&world, "a"));
    WORLD_UNTIL(&world, world.probe_count == 1);
    world_file(&world, "a.gguf", "GGUF, a newer one");
    world.hold_probes = false;
    WORLD_UNTIL(&world, asker.answered);
    assert_non_null(asker.lease);
    assert_int_equal(world.probe_count, 2);
    asker_release(&asker);
}

static void the_first_load_needs_no_probe(void **state)
{
    (void)state;
    struct asker a = {0}, b = {0}, c = {0};
    world.hold = true;
    open_four();
    asker_ask(&a, world_model(&world, "a"));
    assert_int_equal(world.worker_count, 1);
    assert_int_equal(world.probe_count, 0);
    /* it has all that there is, and nobody knows what it will leave: others wait
     */
    assert_true(world_worker(&world, "a")->memory > 99 * GB / 10);
    asker_ask(&b, world_model(&world, "b"));
    asker_ask(&c, world_model(&world, "c"));
    WORLD_UNTIL(&world, world.probe_count == 2 && world.probes_running == 0);
    world_wait(&world, 20);
    assert_int_equal(world.worker_count, 1);
    assert_false(b.answered || c.answered);
    world.hold = false;
    fake_ready(world_worker(&world, "a"));
    WORLD_UNTIL(&world, a.answered && b.answered && c.answered);
    assert_true(a.lease && b.lease && !c.lease); /* two fit */
    world_wait(&world, 150);
    assert_true(world_worker(&world, "a")->memory + world_worker(&world, "b")->memory <= 10 * GB);
    asker_release(&a);
    asker_release(&b);
    /* nor does one that fails leave the others waiting */
    assert_int_equal(model_unload(world_model(&world, "a"), false, NULL), 0);
    assert_int_equal(model_unload(world_model(&world, "b"), false, NULL), 0);
    WORLD_UNTIL(&world, world_alive(&world) == 0);
    world_file(&world, "d.gguf", "GGUF, not known yet");
    world.fail_loads = 1;
    asker_ask(&a, world_model(&world, "d"));
    asker_ask(&b, world_model(&world, "b"));
    WORLD_UNTIL(&world, a.answered && b.answered);
    assert_true(!a.lease && b.lease);
    asker_release(&b);
    /* one that is too large is refused by its worker */
    world.weights = 20 * GB;
    assert_int_equal(model_unload(world_model(&world, "b"), false, NULL), 0);
    WORLD_UNTIL(&world, world_alive(&world) == 0);
    asker_ask(&a, world_model(&world, "d"));
    WORLD_UNTIL(&world, a.answered);
    assert_string_equal(a.error.text, "d: takes too much");
}

/* ---- time to live ---- */

static void a_model_goes_when_its_time_is_over(void **state)
{
    (void)state;
    world.options.defaults.ttl_ns = 50 * MS;
    open_four();
    world_use(&world, "a");
    uint64_t now = os_monotonic_ns();
    struct model_info info = world_info(&world, "a");
    assert_true(info.expires_ns > now && info.expires_ns <= now + 50 * MS);
    struct asker asker = {0};
    asker_ask(&asker, world_model(&world, "a"));
    world_wait(&world, 120); /* a lease that was not even handed over yet counts */
    assert_non_null(asker.lease);
    assert_int_equal(world_alive(&world), 1);
    asker_release(&asker);
    world_wait(&world, 20);
    world_use(&world, "a"); /* begins anew */
    world_wait(&world, 35);
    assert_int_equal(world_alive(&world), 1);
    WORLD_UNTIL(&world, world_alive(&world) == 0);
    assert_int_equal(world.worker_count, 1);
    assert_non_null(strstr(world.told, "model.unloaded a ttl\n"));
}

static void a_time_to_live_may_be_given(void **state)
{
    (void)state;
    const uint64_t at_once = 0, never_ns = MODELS_TTL_NEVER, short_ns = 20 * MS;
    struct asker asker = {0};
    world.options.defaults.ttl_ns = 10 * MS;
    open_four();
    assert_int_equal(asker_ask_with(&asker, world_model(&world, "a"), NULL, &never_ns, NULL), 0);
    release_in_time(&asker);
    assert_true(world_info(&world, "a").expires_ns == MODELS_TTL_NEVER);
    world_wait(&world, 60);
    world_use(&world, "a"); /* who says nothing changes nothing */
    assert_true(world_info(&world, "a").expires_ns == MODELS_TTL_NEVER);
    world_wait(&world, 60);
    assert_int_equal(world_alive(&world), 1);
    assert_int_equal(asker_ask_with(&asker, world_model(&world, "a"), NULL, &at_once, NULL), 0);
    WORLD_UNTIL(&world, asker.answered);
    struct asker other = {0};
    asker_ask(&other, world_model(&world, "a"));
    asker_release(&asker); /* somebody else still needs it */
    world_wait(&world, 20);
    assert_int_equal(world_alive(&world), 1);
    asker_release(&other);
    WORLD_UNTIL(&world, world_alive(&world) == 0);
    /* the next load knows nothing of it */
    assert_int_equal(asker_ask_with(&asker, world_model(&world, "a"), NULL, &short_ns, NULL), 0);
    release_in_time(&asker);
    world_wait(&world, 5);
    assert_int_equal(world_alive(&world), 1);
    WORLD_UNTIL(&world, world_alive(&world) == 0);
}

static void between_the_end_of_time_and_a_request_the_request_wins(void **state)
{
    (void)state;
    struct asker asker = {0};
    world.options.defaults.ttl_ns = 0;
    open_four();
    for (int i = 0; i < 200; i++) {
        asker.release_at_once = i % 3 == 0;
        asker_ask(&asker, world_model(&world, "a"));
        WORLD_UNTIL(&world, asker.answered);
        if (asker.lease) {
            assert_non_null(model_lease_backend(asker.lease));
            assert_false(world_worker(&world, "a")->draining);
            asker_release(&asker);
        }
        for (int turns = i % 4; turns > 0; turns--)
            world_turn(&world);
    }
    WORLD_UNTIL(&world, world_alive(&world) == 0);
}

/* ---- memory ---- */

static void the_least_recently_used_goes_first(void **state)
{
    (void)state;
    open_four();
    world_use(&world, "a");
    world_use(&world, "b");
    world_use(&world, "a");
    world_use(&world, "c");
    WORLD_UNTIL(&world, world_alive(&world) == 2);
    assert_null(world_worker(&world, "b"));
    world_use(&world, "d");
    WORLD_UNTIL(&world, world_alive(&world) == 2);
    assert_non_null(world_worker(&world, "c"));
    assert_non_null(world_worker(&world, "d"));
    assert_non_null(strstr(world.told, "model.unloaded b evicted\n"));
    assert_non_null(strstr(world.told, "model.unloaded a evicted\n"));
}

static void nothing_starts_before_there_is_room_for_it(void **state)
{
    (void)state;
    struct asker asker = {0};
    open_four();
    world_use(&world, "a");
    world_use(&world, "b");
    world.hold_drains = true;
    fake_use(world_worker(&world, "a"), GB, 0, 0);
    asker_ask(&asker, world_model(&world, "c"));
    world_wait(&world, 30);
    assert_true(world_worker(&world, "a")->draining);
    assert_null(world_worker(&world, "c"));
    assert_false(asker.answered);
    assert_int_equal(world_info(&world, "c").presence, MODEL_LOADING);
    /* who wants the model that has to go waits, too, and then finds no room */
    struct asker back = {0};
    asker_ask(&back, world_model(&world, "a"));
    fake_say(world_worker(&world, "a"), BACKEND_ENDED, 0, "");
    WORLD_UNTIL(&world, asker.answered);
    assert_non_null(asker.lease);
    world.hold_drains = false;
    WORLD_UNTIL(&world, world_worker(&world, "b") && world_worker(&world, "b")->draining);
    fake_say(world_worker(&world, "b"), BACKEND_ENDED, 0, "");
    WORLD_UNTIL(&world, back.answered);
    assert_non_null(back.lease); /* b had to go for it */
    asker_release(&asker);
    asker_release(&back);
}

/* What is left depends on what this process takes: its last digits are not
 * looked at. */
static void expect_sentence(const struct asker *asker, const char *beginning, const char *ending)
{
    const char *text = asker->error.text;
    size_t size = strlen(text), tail = strlen(ending);
    if (strncmp(text, beginning, strlen(beginning)) != 0 || size < tail ||
        strcmp(text + size - tail, ending) != 0)
        fail_msg("%s", text);
}

static void what_is_leased_is_never_evicted(void **state)
{
    (void)state;
    struct asker a = {0}, b = {0}, c = {0};
    open_four();
    asker_ask(&a, world_model(&world, "a"));
    asker_ask(&b, world_model(&world, "b"));
    WORLD_UNTIL(&world, a.answered && b.answered);
    asker_ask(&c, world_model(&world, "c"));
    WORLD_UNTIL(&world, c.answered);
    assert_null(c.lease);
    assert_int_equal(c.error.code, HEARTH_E_MEMORY);
    expect_sentence(&c,
                    "c needs 3.61 GB (3.00 of weights, 0.50 for a context of "
                    "2048 tokens, 0.11 "
                    "besides); of the limit of 10.00 GB there are 2.7",
                    " left, because a, b are at work");
    assert_int_equal(world_alive(&world), 2);
    asker_release(&a);
    asker_ask(&c, world_model(&world, "c"));
    WORLD_UNTIL(&world, c.answered);
    assert_non_null(c.lease);
    assert_null(world_worker(&world, "a"));
    asker_release(&b);
    asker_release(&c);
}

static void what_can_never_fit_evicts_nobody(void **state)
{
    (void)state;
    struct asker asker = {0};
    open_four();
    world_use(&world, "a");
    world.weights = 11 * GB;
    asker_ask(&asker, world_model(&world, "b"));
    WORLD_UNTIL(&world, asker.answered);
    expect_sentence(&asker,
                    "b needs 11.61 GB (11.00 of weights, 0.50 for a context of 2048 tokens, "
                    "0.11 besides), more than the limit of 10.00 GB leaves: 9.9",
                    "");
    assert_int_equal(world_alive(&world), 1);
}

static void a_context_shrinks_where_that_is_wanted(void **state)
{
    (void)state;
    struct asker asker = {0};
    struct model_settings settings;
    open_four();
    settings = *world_info(&world, "a").settings;
    settings.context = 32768; /* 8 GB of KV cache */
    struct hearth_error err;
    assert_int_equal(asker_ask_with(&asker, world_model(&world, "a"), &settings, NULL, &err), 0);
    WORLD_UNTIL(&world, asker.answered);
    assert_int_equal(asker.error.code, HEARTH_E_MEMORY);
    settings.fit = HEARTH_FIT_SHRINK;
    assert_int_equal(asker_ask_with(&asker, world_model(&world, "a"), &settings, NULL, &err), 0);
    WORLD_UNTIL(&world, asker.answered);
    assert_non_null(asker.lease);
    const struct fake_worker *worker = world_worker(&world, "a");
    assert_int_equal(worker->start.engine.fit, HEARTH_FIT_SHRINK);
    assert_int_equal(worker->start.engine.context, 32768);
    assert_true(worker->memory <= 10 * GB && worker->memory > 98 * GB / 10);
    asker_release(&asker);
}

static uint64_t told_together(void)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < world.worker_count; i++)
        sum += world.workers[i].alive ? world.workers[i].memory : 0;
    return sum;
}

static void ceilings_never_add_up_to_more_than_the_limit(void **state)
{
    (void)state;
    struct asker a = {0}, b = {0};
    open_four();
    asker_ask(&a, world_model(&world, "a"));
    WORLD_UNTIL(&world, a.answered);
    struct fake_worker *one = world_worker(&world, "a");
    /* alone it has everything */
    assert_true(one->memory > 99 * GB / 10 && one->memory <= 10 * GB);
    fake_use(one, 5 * GB, GB, 1);
    asker_ask(&b, world_model(&world, "b"));
    WORLD_UNTIL(&world, b.answered);
    assert_null(b.lease); /* what conversations of a hold cannot be taken: 7.1 GB of 10 */
    fake_use(one, 2 * GB, GB, 1);
    asker_ask(&b, world_model(&world, "b"));
    WORLD_UNTIL(&world, b.answered);
    assert_non_null(b.lease);
    struct fake_worker *other = world_worker(&world, "b");
    world_wait(&world, 150);
    assert_true(told_together() <= 10 * GB);
    assert_true(one->memory >= 3 * GB + 2 * GB); /* what it holds is left to it */
    assert_true(other->memory >= 36 * GB / 10);
    /* one grows: it takes what is free */
    uint64_t before = other->memory;
    fake_use(one, 28 * GB / 10, 0, 1);
    world_wait(&world, 150);
    assert_true(told_together() <= 10 * GB);
    assert_true(other->memory < before && other->memory >= 36 * GB / 10);
    /* nobody uses b any more: what is free is a's */
    asker_release(&b);
    world_wait(&world, 150);
    assert_true(told_together() <= 10 * GB && told_together() > 97 * GB / 10);
    assert_true(other->memory < 362 * GB / 100);
    /* b rests on more than its floor, and a lacks it: both have the same in the
     * end */
    fake_use(other, 2 * GB, 2 * GB, 0);
    world_wait(&world, 150);
    assert_true(told_together() <= 10 * GB);
    assert_true(one->sheds + other->sheds > 0);
    asker_release(&a);
}

static void memory_is_counted(void **state)
{
    (void)state;
    struct models_memory memory;
    open_four();
    models_memory(world.models, &memory);
    assert_true(memory.limit == 10 * GB && memory.weights == 0 && memory.private_workers == 0);
    assert_true(memory.private_daemon > 0);
    world_use(&world, "a");
    fake_use(world_worker(&world, "a"), GB, 0, 0);
    models_memory(world.models, &memory);
    assert_true(memory.weights == 3 * GB && memory.private_workers == 11 * GB / 10);
}

struct known_call {
    struct model_wait *wait;
    bool answered;
    json_t *json;
    struct hearth_error error;
};

static void on_known(void *context, const json_t *json, const struct hearth_error *err)
{
    struct known_call *call = context;
    assert_false(call->answered);
    call->answered = true;
    call->json = json_deep_copy(json);
    if (err)
        call->error = *err;
}

static json_int_t number(const struct known_call *call, const char *name)
{
    return json_integer_value(json_object_get(call->json, name));
}

static void estimates_say_what_a_load_would_do(void **state)
{
    (void)state;
    struct known_call call = {0};
    struct asker b = {0};
    open_four();
    world_use(&world, "a");
    asker_ask(&b, world_model(&world, "b"));
    WORLD_UNTIL(&world, b.answered);
    assert_int_equal(
        model_estimate(world_model(&world, "c"), NULL, on_known, &call, &call.wait, NULL), 0);
    assert_false(call.answered);
    WORLD_UNTIL(&world, call.answered);
    assert_true(number(&call, "total_bytes") == (json_int_t)(36 * GB / 10));
    assert_true(number(&call, "limit_bytes") == (json_int_t)(10 * GB));
    assert_int_equal(number(&call, "context"), 2048);
    assert_true(json_is_true(json_object_get(call.json, "fits")));
    const json_t *evict = json_object_get(call.json, "evict");
    assert_int_equal(json_array_size(evict), 1);
    assert_string_equal(json_string_value(json_array_get(evict, 0)), "a");
    json_decref(call.json);
    assert_int_equal(world_alive(&world), 2); /* it is only said */
    struct model_settings settings = *world_info(&world, "c").settings;
    settings.context = 4 * 2048;
    settings.kv_type = HEARTH_KV_Q8_0;
    call = (struct known_call){0};
    assert_int_equal(
        model_estimate(world_model(&world, "c"), &settings, on_known, &call, &call.wait, NULL), 0);
    WORLD_UNTIL(&world, call.answered);
    assert_true(number(&call, "kv_bytes") == (json_int_t)GB);
    assert_string_equal(json_string_value(json_object_get(call.json, "kv_type")), "q8_0");
    json_decref(call.json);
    settings.context = 40 * 2048;
    call = (struct known_call){0};
    assert_int_equal(
        model_estimate(world_model(&world, "c"), &settings, on_known, &call, &call.wait, NULL), 0);
    WORLD_UNTIL(&world, call.answered);
    assert_true(json_is_false(json_object_get(call.json, "fits")));
    assert_non_null(strstr(json_string_value(json_object_get(call.json, "reason")), "c needs 13"));
    json_decref(call.json);
    asker_release(&b);
}

/* ---- probes ---- */

static bool count_known(void *context, struct model *model)
{
    struct model_info info;
    model_info(model, &info);
    *(unsigned *)context += info.ready != NULL;
    return true;
}

static unsigned known_models(void)
{
    unsigned known = 0;
    models_visit(world.models, count_known, &known);
    return known;
}

static void lists_wait_for_no_probe(void **state)
{
    (void)state;
    char name[32];
    for (int i = 0; i < 50; i++) {
        snprintf(name, sizeof name, "m%02d.gguf", i);
        world_gguf(&world, name);
    }
    world.hold_probes = true;
    world_open(&world);
    assert_int_equal(known_models(), 0);
    /* who asks for one is served before the others */
    struct known_call call = {0};
    assert_int_equal(model_probe(world_model(&world, "m49"), on_known, &call, &call.wait, NULL), 0);
    world_wait(&world, 10);
    assert_int_equal(world.probes_running, 2);
    world.hold_probes = false;
    WORLD_UNTIL(&world, call.answered);
    assert_true(world.probe_count <= 6);
    assert_string_equal(json_string_value(json_object_get(call.json, "architecture")), "llama");
    json_decref(call.json);
    WORLD_UNTIL(&world, known_models() == 50);
    assert_int_equal(world.probe_count, 50);
    assert_int_equal(world.probes_running_max, 2);
    /* and a file that is none is not asked about again and again */
    world_gguf(&world, "new.gguf");
    world.fail_probes = 1;
    WORLD_UNTIL(&world, known_models() == 50 && world.probe_count == 51);
    world_wait(&world, 20);
    assert_int_equal(known_models(), 50);
    world_wait(&world, 20);
    assert_int_equal(world.probe_count, 51);
    call = (struct known_call){0};
    assert_int_equal(model_probe(world_model(&world, "new"), on_known, &call, &call.wait, NULL), 0);
    WORLD_UNTIL(&world, call.answered); /* but when somebody asks */
    assert_non_null(call.json);
    json_decref(call.json);
}

static void one_probe_is_for_all_who_ask(void **state)
{
    (void)state;
    struct known_call calls[10] = {0};
    open_four();
    for (int i = 0; i < 10; i++)
        assert_int_equal(
            model_probe(world_model(&world, "a"), on_known, &calls[i], &calls[i].wait, NULL), 0);
    models_forget(calls[3].wait);
    WORLD_UNTIL(&world, calls[9].answered);
    assert_int_equal(world.probe_count, 1);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(calls[i].answered, i != 3);
        json_decref(calls[i].json);
    }
    calls[0] = (struct known_call){0};
    assert_int_equal(
        model_probe(world_model(&world, "a"), on_known, &calls[0], &calls[0].wait, NULL), 0);
    WORLD_UNTIL(&world, calls[0].answered);
    assert_int_equal(world.probe_count, 1); /* it is known */
    json_decref(calls[0].json);
    world_file(&world, "a.gguf", "GGUF but another");
    world.fail_probes = 1;
    calls[0] = (struct known_call){0};
    assert_int_equal(
        model_probe(world_model(&world, "a"), on_known, &calls[0], &calls[0].wait, NULL), 0);
    WORLD_UNTIL(&world, calls[0].answered);
    assert_string_equal(calls[0].error.text, "a: is damaged");
}

/* ---- unloading ---- */

static void unloading_asks_first(void **state)
{
    (void)state;
    struct asker asker = {0}, other = {0};
    struct hearth_error err;
    open_four();
    struct model *a = world_model(&world, "a");
    assert_int_equal(model_unload(a, false, &err), HEARTH_E_MISSING);
    assert_string_equal(err.text, "a is not loaded");
    asker_ask(&asker, a);
    assert_int_equal(model_unload(a, false, &err), HEARTH_E_STATE);
    assert_string_equal(err.text, "a is being loaded");
    WORLD_UNTIL(&world, asker.answered);
    assert_int_equal(model_unload(a, false, &err), HEARTH_E_STATE);
    assert_string_equal(err.text, "a is in use by 1 request");
    asker_release(&asker);
    assert_int_equal(model_unload(a, false, NULL), 0);
    assert_int_equal(model_unload(a, false, &err), HEARTH_E_MISSING);
    assert_int_equal(world_info(&world, "a").presence, MODEL_UNLOADED);
    asker_ask(&asker, a); /* right behind it: loaded again when the worker has ended */
    WORLD_UNTIL(&world, asker.answered);
    assert_true(asker.lease && asker.loaded);
    assert_int_equal(world.worker_count, 2);
    /* by force, also what was promised but not handed over yet */
    asker_ask(&other, a);
    assert_int_equal(model_unload(a, true, NULL), 0);
    assert_null(model_lease_backend(asker.lease));
    WORLD_UNTIL(&world, other.answered);
    assert_null(other.lease);
    assert_string_equal(other.error.text, "a was unloaded");
    WORLD_UNTIL(&world, world_alive(&world) == 0);
    /* a lease that was lost does not count for the next worker */
    world_use(&world, "a");
    assert_int_equal(world_info(&world, "a").leases, 0);
    asker_release(&asker);
    assert_int_equal(world_info(&world, "a").leases, 0);
    assert_non_null(strstr(world.told, "model.unloaded a asked\n"));
}

static void a_load_can_be_stopped_by_force(void **state)
{
    (void)state;
    struct asker asker = {0}, again = {0};
    world.hold = true;
    open_four();
    asker_ask(&asker, world_model(&world, "a"));
    WORLD_UNTIL(&world, world_worker(&world, "a"));
    assert_int_equal(model_unload(world_model(&world, "a"), true, NULL), 0);
    world.hold = false;
    asker_ask(&again, world_model(&world, "a")); /* before the old worker is destroyed */
    WORLD_UNTIL(&world, asker.answered && again.answered);
    assert_int_equal(asker.error.code, HEARTH_E_CANCELLED);
    assert_non_null(again.lease);
    assert_int_equal(world_alive(&world), 1);
    asker_release(&again);
}

static void workers_that_end_or_fail_take_their_leases_with_them(void **state)
{
    (void)state;
    struct asker asker = {0};
    open_four();
    asker_ask(&asker, world_model(&world, "a"));
    WORLD_UNTIL(&world, asker.answered);
    struct fake_worker *worker = world_worker(&world, "a");
    models_session_held(world.models, TEXT("talk"), world_model(&world, "a"));
    fake_say(worker, BACKEND_RESTARTING, HEARTH_E_IO, "it was killed");
    WORLD_UNTIL(&world, strstr(world.told, "worker.restarted a\n"));
    assert_null(models_session_holder(world.models, TEXT("talk")));
    assert_int_equal(world_info(&world, "a").presence, MODEL_LOADED);
    assert_non_null(model_lease_backend(asker.lease)); /* requests wait in it */
    fake_ready(worker);
    world_wait(&world, 10);
    fake_say(worker, BACKEND_FAILED, HEARTH_E_IO, "the model file changed");
    WORLD_UNTIL(&world, world_alive(&world) == 0);
    assert_null(model_lease_backend(asker.lease));
    asker_release(&asker);
    assert_non_null(strstr(world.told, "model.failed a\nmodel.unloaded a failed\n"));
    world_use(&world, "a");
    assert_int_equal(world_alive(&world), 1);
}

static void a_worker_that_does_not_end_is_ended_anyway(void **state)
{
    (void)state;
    open_four();
    world_use(&world, "a");
    world.hold_drains = true;
    assert_int_equal(model_unload(world_model(&world, "a"), false, NULL), 0);
    struct fake_worker *worker = world_worker(&world, "a");
    assert_true(worker->draining);
    fake_say(worker, BACKEND_RESTARTING, HEARTH_E_IO, "it crashed as it drained");
    WORLD_UNTIL(&world, world_alive(&world) == 0);
}

/* ---- settings of a load ---- */

static void a_load_may_have_settings_of_its_own(void **state)
{
    (void)state;
    struct asker asker = {0}, other = {0};
    struct hearth_error err;
    open_four();
    struct model *a = world_model(&world, "a");
    struct model_settings settings = *world_info(&world, "a").settings;
    char chat_template[] = "{{ messages }}";
    settings.context = 4096;
    settings.chat_template = chat_template;
    settings.idle_ns = 0;
    assert_int_equal(asker_ask_with(&asker, a, &settings, NULL, &err), 0);
    memset(chat_template, 'x', sizeof chat_template - 1); /* it was copied */
    WORLD_UNTIL(&world, asker.answered);
    assert_non_null(asker.lease);
    const struct fake_worker *worker = world_worker(&world, "a");
    assert_int_equal(worker->start.engine.context, 4096);
    assert_string_equal(worker->chat_template, "{{ messages }}");
    assert_true(worker->start.idle_ns == HEARTH_IDLE_AT_ONCE);
    assert_int_equal(world_info(&world, "a").settings->context, 4096);
    /* others are refused while it is in use */
    settings.context = 1024;
    assert_int_equal(asker_ask_with(&other, a, &settings, NULL, &err), HEARTH_E_STATE);
    assert_string_equal(err.text, "a is in use with other settings");
    /* who has no wishes is content */
    asker_ask(&other, a);
    WORLD_UNTIL(&world, other.answered);
    assert_false(other.loaded);
    asker_release(&other);
    asker_release(&asker);
    /* what the worker does not know of changes without another load */
    settings = *world_info(&world, "a").settings;
    settings.system = "Be brief.";
    assert_int_equal(asker_ask_with(&other, a, &settings, NULL, &err), 0);
    release_in_time(&other);
    assert_string_equal(world_info(&world, "a").settings->system, "Be brief.");
    assert_int_equal(world.worker_count, 1);
    /* when nobody uses it, it is loaded anew */
    settings = *world_info(&world, "a").settings;
    settings.context = 1024;
    assert_int_equal(asker_ask_with(&other, a, &settings, NULL, &err), 0);
    assert_int_equal(asker_ask_with(&asker, a, &settings, NULL, &err), 0);
    settings = *world_info(&world, "a").settings;
    settings.context = 512;
    struct asker third = {0};
    assert_int_equal(asker_ask_with(&third, a, &settings, NULL, &err), HEARTH_E_STATE);
    WORLD_UNTIL(&world, other.answered && asker.answered);
    assert_true(other.loaded && asker.loaded);
    assert_int_equal(world.worker_count, 2);
    assert_int_equal(world_worker(&world, "a")->start.engine.context, 1024);
    asker_release(&other);
    asker_release(&asker);
    /* and after it was unloaded all is as it was */
    assert_int_equal(model_unload(a, false, NULL), 0);
    world_use(&world, "a");
    assert_int_equal(world_worker(&world, "a")->start.engine.context, 0);
}

/* ---- cores and pressure ---- */

static void workers_at_work_share_the_cores(void **state)
{
    (void)state;
    unsigned cores = os_default_threads();
    open_four();
    world_use(&world, "a");
    world_use(&world, "b");
    struct fake_worker *a = world_worker(&world, "a"), *b = world_worker(&world, "b");
    assert_int_equal(a->start.engine.threads, cores);
    fake_use(a, 0, 0, 1);
    assert_int_equal(a->threads, cores);
    fake_use(b, 0, 0, 1);
    unsigned half = cores > 1 ? cores / 2 : 1;
    assert_int_equal(a->threads, half);
    assert_int_equal(b->threads, half);
    fake_use(b, 0, 0, 0);
    assert_int_equal(a->threads, half); /* not at once */
    WORLD_UNTIL(&world, a->threads == cores);
}

static void write_pressure(const char *full, const char *available)
{
    char text[512];
    snprintf(text, sizeof text,
             "some avg10=%s avg60=0.00 avg300=0.00 total=0\nfull avg10=%s "
             "avg60=0.00 avg300=0.00 "
             "total=0\n",
             full, full);
    world_file(&world, "root/proc/pressure/memory", text);
    snprintf(text, sizeof text, "MemTotal: 16000000 kB\nMemFree: 1000 kB\nMemAvailable: %s kB\n",
             available);
    world_file(&world, "root/proc/meminfo", text);
}

static void short_memory_is_given_back(void **state)
{
    (void)state;
    char root[512];
    struct asker asker = {0};
    world_folder(&world, "root");
    world_folder(&world, "root/proc");
    world_folder(&world, "root/proc/pressure");
    world_path(&world, "root", root);
    world.options.pressure_root = root;
    write_pressure("0.00", "12000000");
    open_four();
    world_use(&world, "a");
    asker_ask(&asker, world_model(&world, "b"));
    WORLD_UNTIL(&world, asker.answered);
    struct fake_worker *a = world_worker(&world, "a"), *b = world_worker(&world, "b");
    fake_use(a, GB / 4, GB / 8, 0);
    fake_use(b, GB / 4, GB / 8, 1);
    world_wait(&world, 1100);
    assert_int_equal(a->sheds + b->sheds, 0);
    write_pressure("12.00", "12000000"); /* all stalled for an eighth of the time */
    WORLD_UNTIL(&world, strstr(world.told, "memory.pressure much\n"));
    assert_true(a->sheds > 0 && a->shed_bytes == GB / 4);
    assert_true(b->sheds > 0 && b->shed_bytes == GB / 8); /* what runs is left alone */
    WORLD_UNTIL(&world, strstr(world.told, "model.unloaded a pressure\n"));
    world_wait(&world, 50);
    assert_non_null(world_worker(&world, "b"));
    asker_release(&asker);
}

/* ---- upstreams ---- */

static void silence(struct backend *backend)
{
    (void)backend;
}

static void upstreams_are_models_that_are_always_there(void **state)
{
    (void)state;
    static const struct backend_calls calls = {.destroy = silence};
    static struct backend upstream = {.calls = &calls, .state = BACKEND_READY};
    struct hearth_error err;
    struct asker asker = {0};
    open_four();
    assert_int_equal(models_add_upstream(world.models, "A", &upstream, &err), HEARTH_E_STATE);
    assert_int_equal(models_add_upstream(world.models, "cloud", &upstream, &err), 0);
    assert_int_equal(models_add_upstream(world.models, "cloud", &upstream, &err), HEARTH_E_STATE);
    struct model_info info = world_info(&world, "Cloud:latest");
    assert_true(info.upstream && info.presence == MODEL_LOADED);
    asker_ask(&asker, world_model(&world, "cloud"));
    WORLD_UNTIL(&world, asker.answered);
    assert_ptr_equal(model_lease_backend(asker.lease), &upstream);
    assert_int_equal(model_unload(world_model(&world, "cloud"), true, &err), HEARTH_E_STATE);
    asker_release(&asker);
    /* a file of that name that comes later is left out */
    world_gguf(&world, "cloud.gguf");
    world_model(&world, "a");
    assert_null(models_find(world.models, TEXT("nothing"), NULL));
    assert_true(world_info(&world, "cloud").upstream);
    world_use(&world, "a");
    world_use(&world, "b");
    assert_int_equal(world_alive(&world), 2); /* it takes no memory */
}

/* ---- conversations ---- */

static void it_is_known_who_holds_a_conversation(void **state)
{
    (void)state;
    char key[32];
    open_four();
    struct model *a = world_model(&world, "a"), *b = world_model(&world, "b");
    world_use(&world, "a");
    assert_null(models_session_holder(world.models, TEXT("one")));
    models_session_held(world.models, TEXT("one"), a);
    models_session_held(world.models, TEXT("two"), b);
    assert_ptr_equal(models_session_holder(world.models, TEXT("one")), a);
    models_session_held(world.models, TEXT("one"), b);
    assert_ptr_equal(models_session_holder(world.models, TEXT("one")), b);
    models_session_held(world.models, TEXT("two"), NULL);
    models_session_held(world.models, TEXT("two"), NULL);
    assert_null(models_session_holder(world.models, TEXT("two")));
    for (int i = 0; i < 40000; i++) {
        snprintf(key, sizeof key, "talk %d", i);
        models_session_held(world.models, text_of(key), a);
    }
    assert_null(models_session_holder(world.models, TEXT("talk 0")));
    assert_ptr_equal(models_session_holder(world.models, TEXT("talk 39999")), a);
    assert_int_equal(model_unload(a, false, NULL), 0);
    WORLD_UNTIL(&world, world_alive(&world) == 0);
    assert_null(models_session_holder(world.models, TEXT("talk 39999")));
}

/* ---- the end ---- */

static void on_drained(void *context)
{
    (*(int *)context)++;
}

static void draining_takes_nothing_more_and_ends_all(void **state)
{
    (void)state;
    struct asker a = {0}, b = {0}, c = {0};
    struct hearth_error err;
    int drained = 0;
    open_four();
    asker_ask(&a, world_model(&world, "a"));
    WORLD_UNTIL(&world, a.answered);
    world_use(&world, "b");
    world.hold_probes = true;
    asker_ask(&c, world_model(&world, "c"));
    world.hold_drains = true;
    models_drain(world.models, 5 * GB, on_drained, &drained);
    assert_int_equal(asker_ask_with(&b, world_model(&world, "b"), NULL, NULL, &err),
                     HEARTH_E_STATE);
    assert_string_equal(err.text, "the server is about to end");
    WORLD_UNTIL(&world, c.answered);
    assert_int_equal(c.error.code, HEARTH_E_STATE);
    assert_int_equal(drained, 0);
    assert_non_null(model_lease_backend(a.lease)); /* its answer goes on */
    fake_say(world_worker(&world, "b"), BACKEND_ENDED, 0, "");
    world_wait(&world, 20);
    assert_int_equal(drained, 0);
    asker_release(&a);
    fake_say(world_worker(&world, "a"), BACKEND_ENDED, 0, "");
    WORLD_UNTIL(&world, drained);
    assert_int_equal(world_alive(&world), 0);
    world_wait(&world, 20);
    assert_int_equal(drained, 1);
}

static void draining_does_not_take_for_ever(void **state)
{
    (void)state;
    struct asker a = {0};
    int drained = 0;
    open_four();
    asker_ask(&a, world_model(&world, "a"));
    WORLD_UNTIL(&world, a.answered);
    world.hold_drains = true;
    models_drain(world.models, 50 * MS, on_drained, &drained);
    WORLD_UNTIL(&world, drained);
    assert_int_equal(world_alive(&world), 0);
    asker_release(&a);
}

static void it_can_be_destroyed_at_any_moment(void **state)
{
    (void)state;
    struct asker a = {0}, b = {0}, c = {0};
    struct known_call call = {0};
    open_four();
    asker_ask(&a, world_model(&world, "a"));
    WORLD_UNTIL(&world, a.answered);
    world.hold_probes = true;
    asker_ask(&b, world_model(&world, "a")); /* granted, not handed over */
    asker_ask(&c, world_model(&world, "c")); /* waits for a probe */
    assert_int_equal(model_probe(world_model(&world, "d"), on_known, &call, &call.wait, NULL), 0);
    world_turn(&world);
    world_model(&world, "b");
    assert_int_equal(known_models(), 1);
}

/* ---- anything ---- */

#define ASKERS 12

static uint64_t random_state;

static unsigned pick(unsigned below)
{
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (unsigned)(random_state >> 33) % below;
}

static void ask_somehow(struct asker *asker, struct model *model)
{
    static const uint64_t ttls[] = {0, MS, 5 * MS, MODELS_TTL_NEVER};
    struct model_info info;
    struct hearth_error err;
    model_info(model, &info);
    struct model_settings settings = *info.settings;
    settings.context = 1024 * (1 + pick(4));
    settings.fit = pick(2) ? HEARTH_FIT_SHRINK : HEARTH_FIT_REFUSE;
    if (asker_ask_with(asker, model, pick(6) ? NULL : &settings, pick(3) ? NULL : &ttls[pick(4)],
                       &err) != 0)
        assert_int_equal(err.code, HEARTH_E_STATE);
}

static void do_something(struct asker askers[ASKERS])
{
    static const char *const names[] = {"a", "b", "c", "d"};
    struct asker *asker = &askers[pick(ASKERS)];
    struct model *model = world_model(&world, names[pick(4)]);
    struct fake_worker *worker = world_worker(&world, names[pick(4)]);
    unsigned what = pick(20);
    if (what < 8 && !asker->wait && !asker->lease) {
        ask_somehow(asker, model);
    } else if (what < 12 && asker->lease) {
        asker_release(asker);
    } else if (what == 12 && asker->wait) {
        models_forget(asker->wait);
        asker->wait = NULL;
    } else if (what == 13) {
        model_unload(model, pick(3) == 0, NULL);
    } else if (what == 14 && worker) {
        fake_say(worker, pick(2) ? BACKEND_FAILED : BACKEND_RESTARTING, HEARTH_E_IO, "crashed");
    } else if (what == 15 && pick(4) == 0) {
        world_file(&world, "a.gguf", pick(2) ? "GGUF one" : "GGUF another");
    } else if (what == 16) {
        world.fail_loads = pick(2);
        world.fail_probes = pick(2);
    } else if (what == 17 && worker && !worker->draining) {
        fake_use(worker, pick(3) * GB, pick(2) * GB, pick(2));
    } else {
        world_turn(&world);
    }
}

/* Who has a lease has a worker that goes on, or knows that it lost it; ceilings
 * keep the limit. */
static void check_all(const struct asker askers[ASKERS])
{
    uint64_t told = 0;
    for (int i = 0; i < ASKERS; i++) {
        const struct backend *backend =
            askers[i].lease ? model_lease_backend(askers[i].lease) : NULL;
        if (!backend)
            continue;
        const struct fake_worker *worker = (const struct fake_worker *)backend;
        assert_true(worker->alive && !worker->draining);
    }
    for (unsigned i = 0; i < world.worker_count; i++) {
        const struct fake_worker *worker = &world.workers[i];
        if (worker->alive && !worker->draining &&
            world_info(&world, worker->name).process == worker->base.process)
            told += worker->memory;
    }
    assert_true(told <= 10 * GB);
}

static void whatever_happens_leases_hold_and_limits_too(void **state)
{
    (void)state;
    struct asker askers[ASKERS] = {0};
    world.options.defaults.ttl_ns = 3 * MS;
    open_four();
    const char *seed = getenv("HEARTH_SEED"); /* to replay another one */
    random_state = seed ? strtoull(seed, NULL, 10) : 1;
    while (world.worker_count < 150) {
        do_something(askers);
        check_all(askers);
    }
    for (int i = 0; i < ASKERS; i++) {
        if (askers[i].wait)
            models_forget(askers[i].wait);
        if (askers[i].lease)
            asker_release(&askers[i]);
    }
    /* nothing is left hanging */
    world.fail_loads = world.fail_probes = 0;
    world_wait(&world, 50);
    for (int i = 0; i < 4; i++) {
        const uint64_t at_once = 0;
        struct asker asker = {0};
        char name[2] = {(char)('a' + i), '\0'};
        assert_int_equal(asker_ask_with(&asker, world_model(&world, name), NULL, &at_once, NULL),
                         0);
        release_in_time(&asker);
    }
    WORLD_UNTIL(&world, world_alive(&world) == 0);
}

/* ---- events ---- */

struct listener {
    struct events *events;
    struct events_listener *self, *other, *nested;
    unsigned heard;
};

static void count_event(void *context, const char *type, struct text json)
{
    (void)type;
    assert_null(memchr(json.data, '\n', json.size));
    ((struct listener *)context)->heard++;
}

static void leave_in_the_middle(void *context, const char *type, struct text json)
{
    struct listener *listener = context;
    (void)json;
    listener->heard++;
    if (strcmp(type, "first") != 0)
        return;
    events_leave(listener->other);
    listener->nested = events_listen(listener->events, count_event, listener);
    events_tell(listener->events, "second", json_pack("{s:s}", "text", "two\nlines"));
    events_leave(listener->self);
}

static void listeners_come_and_go_while_they_are_told(void **state)
{
    (void)state;
    struct events *events = events_create();
    struct listener one = {.events = events}, other = {0};
    one.self = events_listen(events, leave_in_the_middle, &one);
    one.other = events_listen(events, count_event, &other);
    events_tell(events, "first", json_object());
    assert_int_equal(one.heard, 3);   /* first, and second twice */
    assert_int_equal(other.heard, 0); /* it was gone before its turn */
    events_tell(events, "third", json_object());
    assert_int_equal(one.heard, 4);
    events_leave(one.nested);
    events_tell(events, "fourth", json_object());
    assert_int_equal(one.heard, 4);
    events_tell(NULL, "nobody", json_object());
    assert_null(events_listen(NULL, count_event, NULL));
    events_leave(NULL);
    events_destroy(NULL);
    events_destroy(events);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(all_who_wait_share_one_load),
        TEST(who_is_told_of_progress_may_let_all_go),
        TEST(failures_are_told_to_all_and_tried_again),
        TEST(who_leaves_before_anything_began_stops_it),
        TEST(a_file_that_changes_is_loaded_anew),
        TEST(a_file_that_is_replaced_while_it_is_probed_is_probed_again),
        TEST(the_first_load_needs_no_probe),
        TEST(a_model_goes_when_its_time_is_over),
        TEST(a_time_to_live_may_be_given),
        TEST(between_the_end_of_time_and_a_request_the_request_wins),
        TEST(the_least_recently_used_goes_first),
        TEST(nothing_starts_before_there_is_room_for_it),
        TEST(what_is_leased_is_never_evicted),
        TEST(what_can_never_fit_evicts_nobody),
        TEST(a_context_shrinks_where_that_is_wanted),
        TEST(ceilings_never_add_up_to_more_than_the_limit),
        TEST(memory_is_counted),
        TEST(estimates_say_what_a_load_would_do),
        TEST(lists_wait_for_no_probe),
        TEST(one_probe_is_for_all_who_ask),
        TEST(unloading_asks_first),
        TEST(a_load_can_be_stopped_by_force),
        TEST(workers_that_end_or_fail_take_their_leases_with_them),
        TEST(a_worker_that_does_not_end_is_ended_anyway),
        TEST(a_load_may_have_settings_of_its_own),
        TEST(workers_at_work_share_the_cores),
        TEST(short_memory_is_given_back),
        TEST(upstreams_are_models_that_are_always_there),
        TEST(it_is_known_who_holds_a_conversation),
        TEST(draining_takes_nothing_more_and_ends_all),
        TEST(draining_does_not_take_for_ever),
        TEST(it_can_be_destroyed_at_any_moment),
        TEST(whatever_happens_leases_hold_and_limits_too),
        cmocka_unit_test(listeners_come_and_go_while_they_are_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
