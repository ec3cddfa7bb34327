/* Checksums. */

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/sum.h"

static void a_known_sum(void **state)
{
    (void)state;
    unsigned char sum[SUM_BYTES];
    char text[2 * SUM_BYTES + 1];
    sum_of("", 0, sum);
    sum_to_text(sum, text);
    /* of nothing, as xxhsum -H128 prints it */
    assert_string_equal(text, "99aa06d3014798d86001c324468d497f");
}

static void pieces_have_the_sum_of_the_whole(void **state)
{
    (void)state;
    unsigned char bytes[1000], whole[SUM_BYTES], pieces[SUM_BYTES];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (unsigned char)(i * 7);
    sum_of(bytes, sizeof bytes, whole);
    struct sum *sum = sum_create();
    assert_non_null(sum);
    for (size_t cut = 0; cut <= sizeof bytes; cut += 37) {
        sum_restart(sum);
        sum_add(sum, bytes, cut);
        sum_add(sum, bytes + cut, sizeof bytes - cut);
        sum_get(sum, pieces);
        assert_memory_equal(whole, pieces, SUM_BYTES);
    }
    bytes[500] ^= 1;
    sum_of(bytes, sizeof bytes, pieces);
    assert_memory_not_equal(whole, pieces, SUM_BYTES);
    sum_destroy(sum);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_known_sum),
        cmocka_unit_test(pieces_have_the_sum_of_the_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
