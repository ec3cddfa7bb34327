/* The daemon, which has no engine, says the same defaults as the engine. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "server/generation.h"

static void defaults_are_the_engines(void **state)
{
    struct hearth_sampling engine;
    const struct hearth_sampling *server = &generation_sampling_default;
    (void)state;
    hearth_sampling_default(&engine);
#define SAME(member) assert_true(engine.member == server->member)
    SAME(seed);
    SAME(temperature);
    SAME(top_k);
    SAME(top_p);
    SAME(min_p);
    SAME(typical_p);
    SAME(top_n_sigma);
    SAME(xtc_probability);
    SAME(xtc_threshold);
    SAME(dry_multiplier);
    SAME(dry_base);
    SAME(dry_allowed_length);
    SAME(dry_penalty_last_n);
    SAME(dry_breakers);
    SAME(dry_breaker_count);
    SAME(penalty_last_n);
    SAME(repeat_penalty);
    SAME(frequency_penalty);
    SAME(presence_penalty);
    SAME(mirostat);
    SAME(mirostat_tau);
    SAME(mirostat_eta);
    SAME(min_keep);
    SAME(bias);
    SAME(bias_count);
#undef SAME
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(defaults_are_the_engines)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
