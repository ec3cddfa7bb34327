/* What daemon and worker say: every field comes back as it was put, and of torn, long and changed
 * bytes what is accepted has one meaning alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <math.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/random.h"
#include "echo.h"
#include "session/store.h"

static const struct hearth_logit_bias biases[] = {{3, -INFINITY}, {UINT32_MAX, 1.5f}, {0, 0}};
static const char *const breakers[] = {"\n", "", "ab"};

static struct work_start sample_start(void)
{
    return (struct work_start){.no_mmap = true,
                               .chat_template = TEXT("{{ messages }}"),
                               .tier = TEXT("avx2"),
                               .engine = {.threads = 3,
                                          .chunk_tokens = 128,
                                          .kv_type = HEARTH_KV_Q8_0_Q4_0,
                                          .kv_bytes_max = UINT64_MAX,
                                          .memory_max = 5,
                                          .context = 4096,
                                          .fit = HEARTH_FIT_SHRINK},
                               .idle_ns = 77,
                               .answers_max = 8,
                               .time_zone = TEXT("Europe/Berlin"),
                               .store = true};
}

static struct work_ask sample_ask(void)
{
    return (struct work_ask){.session = TEXT("k\xc3\xa4se"),
                             .how = WORK_MESSAGES_APPEND,
                             .behind = 7,
                             .messages = TEXT("[{\"role\": \"user\", \"content\": \"a\\u0000\"}]"),
                             .system = TEXT("Be brief."),
                             .variables = TEXT("{}"),
                             .settings = {HEARTH_KEEP_NEVER, true, HEARTH_OVERFLOW_DROP},
                             .settings_given = true,
                             .sampling = {.seed = UINT64_MAX,
                                          .temperature = 0.7f,
                                          .top_k = -1,
                                          .top_p = 0.1f,
                                          .min_p = 0.2f,
                                          .typical_p = 0.3f,
                                          .top_n_sigma = -1,
                                          .xtc_probability = 0.4f,
                                          .xtc_threshold = 0.5f,
                                          .dry_multiplier = 0.6f,
                                          .dry_base = 1.75f,
                                          .dry_allowed_length = INT32_MIN,
                                          .dry_penalty_last_n = -1,
                                          .dry_breakers = breakers,
                                          .dry_breaker_count = 3,
                                          .penalty_last_n = INT32_MAX,
                                          .repeat_penalty = 1.1f,
                                          .frequency_penalty = -2,
                                          .presence_penalty = 2,
                                          .mirostat = 2,
                                          .mirostat_tau = 5,
                                          .mirostat_eta = 0.1f,
                                          .min_keep = 9,
                                          .bias = biases,
                                          .bias_count = 3},
                             .stops = {TEXT("stop"), TEXT("a\0b")},
                             .stop_count = 2,
                             .max_tokens = UINT32_MAX,
                             .top_tokens = HEARTH_TOP_TOKENS_MAX,
                             .logprobs = true,
                             .ignore_end = true,
                             .token_ids = true,
                             .timeout_ns = 1};
}

static struct work_end sample_end(void)
{
    return (struct work_end){.session = TEXT("key"),
                             .stop = HEARTH_STOP_ERROR,
                             .code = HEARTH_E_LIMIT,
                             .cause = TEXT("too long"),
                             .stop_string = TEXT("</s>"),
                             .prompt_tokens = 1,
                             .cached_tokens = 2,
                             .answer_tokens = 3,
                             .dropped_messages = 4,
                             .miss = HEARTH_MISS_DROPPED,
                             .unsaved = true,
                             .queued_ns = 5,
                             .prompt_ns = 6,
                             .first_token_ns = 7,
                             .answer_ns = 8,
                             .decode_tokens = 9,
                             .drafted = 10,
                             .accepted = 11};
}

static struct store_spill sample_spill(void)
{
    return (struct store_spill){"0123456789abcdef0123456789abcdef", 12, 13, {0, 1, 2, 255}};
}

static void put_sample_text(struct buffer *out)
{
    struct work_token token = {7, -0.5, TEXT("\xff")}, top[2] = {{8, -INFINITY, TEXT("")}, token};
    struct work_text text = {TEXT("words"), 9, 2};
    size_t begin = work_text_begin(out, 12, &text);
    work_text_put_token(out, &token, top, 2);
    work_text_put_token(out, &top[0], NULL, 0);
    assert_true(work_text_end(out, begin));
}

static void put_store_samples(struct buffer *out)
{
    struct store_summary summary = {"0123456789abcdef0123456789abcdef", "Name", 3, 4, 1700000000};
    struct store_spill spill = sample_spill();
    assert_true(work_put_text(out, WORK_STORE_GET, 2, TEXT("key")));
    assert_true(work_put_reply(out, WORK_STORE_GET, 3, 0, TEXT("rec\0ord")));
    assert_true(work_put_reply(out, WORK_STORE_GET, 3, HEARTH_E_MISSING, TEXT("no such")));
    assert_true(work_put_store_record(out, 4, TEXT("key"), TEXT("\x01\x02"), &summary));
    summary.model_name = NULL;
    assert_true(work_put_store_record(out, 4, TEXT("key"), TEXT(""), &summary));
    assert_true(work_put_text(out, WORK_STORE_REMOVE, 6, TEXT("key")));
    assert_true(work_put_u64(out, WORK_STORE_SPILL_CREATE, 8, 1 << 20));
    assert_true(work_put_store_file(out, WORK_STORE_SPILL_CREATE, 9, NULL));
    assert_true(work_put_store_spill(out, 10, TEXT("key"), &spill));
    assert_true(work_put_text(out, WORK_STORE_SPILL_OPEN, 12, TEXT("key")));
    assert_true(work_put_store_file(out, WORK_STORE_SPILL_OPEN, 13, &spill));
    assert_true(work_put_text(out, WORK_STORE_SPILL_DROP, 14, TEXT("key")));
}

/* One of each kind, one behind the other. */
static void put_samples(struct buffer *out)
{
    struct work_start start = sample_start();
    struct work_state state = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    struct work_ask ask = sample_ask(), plain = {.sampling = {.top_p = 1}};
    struct work_begin begin = {1, 2, 3, true};
    struct work_end end = sample_end();
    float values[6] = {1, -2, 3.5f, 0, 1e-30f, 6};
    assert_true(work_put_empty(out, WORK_MODEL, 0, 4));
    assert_true(work_put_start(out, &start));
    assert_true(work_put_u32(out, WORK_THREADS, 0, 2));
    assert_true(work_put_u64(out, WORK_PING, 0, UINT64_MAX));
    assert_true(work_put_empty(out, WORK_DRAIN, 0, 0));
    assert_true(work_put_ask(out, 1, &ask));
    assert_true(work_put_ask(out, 2, &plain));
    assert_true(work_put_empty(out, WORK_CANCEL, 1, 0));
    assert_true(work_put_embed(out, 3, &(struct work_embed){TEXT("[\"a\"]"), true}));
    assert_true(work_put_call(out, 4, &(struct work_call){TEXT("render"), TEXT("{}")}));
    assert_true(work_put_f64(out, WORK_LOADING, 0, 0.25));
    assert_true(work_put_text(out, WORK_READY, 0, TEXT("{}")));
    assert_true(work_put_reply(out, WORK_FAILED, 0, HEARTH_E_FORMAT, TEXT("damaged")));
    assert_true(work_put_state(out, WORK_PONG, 5, &state));
    assert_true(work_put_begin(out, 6, &begin));
    assert_true(work_put_reading(out, 6, 3, 4));
    put_sample_text(out);
    assert_true(work_put_end(out, 6, &end));
    assert_true(work_put_reply(out, WORK_REPLY, 8, 0, TEXT("{\"tokens\": []}")));
    assert_true(work_put_vectors(out, 7, &(struct work_vectors){2, 3, 9}, values));
    put_store_samples(out);
}

static void what_is_put_is_got(void **state)
{
    struct buffer bytes, again;
    struct message message;
    size_t at = 0, count = 0;
    (void)state;
    buffer_init(&bytes, 1 << 20);
    buffer_init(&again, 1 << 20);
    put_samples(&bytes);
    for (; at < bytes.size; count++) {
        ptrdiff_t size =
            message_decode(bytes.data + at, bytes.size - at, WORK_PAYLOAD_MAX, &message, NULL);
        assert_true(size > 0);
        assert_true(echo_message(&message, &again));
        at += (size_t)size;
        assert_int_equal(again.size, at);
        assert_memory_equal(again.data, bytes.data, at);
    }
    assert_int_equal(count, 32);
    buffer_finish(&bytes);
    buffer_finish(&again);
}

static void decode_first(const struct buffer *bytes, struct message *message)
{
    assert_true(message_decode(bytes->data, bytes->size, WORK_PAYLOAD_MAX, message, NULL) > 0);
}

static bool same_sampling(const struct hearth_sampling *a, const struct hearth_sampling *b)
{
    bool same = a->bias_count == b->bias_count && a->dry_breaker_count == b->dry_breaker_count;
    for (size_t i = 0; same && i < a->bias_count; i++)
        same = a->bias[i].id == b->bias[i].id && a->bias[i].bias == b->bias[i].bias;
    for (size_t i = 0; same && i < a->dry_breaker_count; i++)
        same = strcmp(a->dry_breakers[i], b->dry_breakers[i]) == 0;
    return same && a->seed == b->seed && a->temperature == b->temperature && a->top_k == b->top_k &&
           a->dry_allowed_length == b->dry_allowed_length && a->min_keep == b->min_keep &&
           a->mirostat_eta == b->mirostat_eta && a->penalty_last_n == b->penalty_last_n;
}

static void fields_keep_their_places(void **state)
{
    struct work_ask ask = sample_ask(), got;
    struct work_end end = sample_end(), got_end;
    struct buffer bytes;
    struct message message;
    (void)state;
    buffer_init(&bytes, 10000);
    assert_true(work_put_ask(&bytes, 9, &ask));
    decode_first(&bytes, &message);
    assert_true(work_get_ask(&message, &got));
    assert_true(text_equal(got.session, ask.session) && text_equal(got.messages, ask.messages));
    assert_true(text_equal(got.system, ask.system));
    assert_true(text_equal(got.variables, ask.variables) && got.how == ask.how);
    assert_int_equal(got.behind, 7);
    assert_true(got.settings.keep == HEARTH_KEEP_NEVER && got.settings.plain);
    assert_true(got.settings.overflow == HEARTH_OVERFLOW_DROP && got.settings_given);
    assert_true(same_sampling(&ask.sampling, &got.sampling));
    assert_true(got.stop_count == 2 && text_equal(got.stops[1], TEXT("a\0b")));
    assert_true(got.max_tokens == UINT32_MAX && got.top_tokens == HEARTH_TOP_TOKENS_MAX);
    assert_true(got.logprobs && got.ignore_end && got.token_ids && got.timeout_ns == 1);
    assert_false(got.background || got.no_speculation || got.progress);
    work_ask_finish(&got);
    bytes.size = 0;
    assert_true(work_put_end(&bytes, 9, &end));
    decode_first(&bytes, &message);
    assert_true(work_get_end(&message, &got_end));
    assert_true(got_end.code == HEARTH_E_LIMIT && got_end.stop == HEARTH_STOP_ERROR);
    assert_true(got_end.accepted == 11 && got_end.miss == HEARTH_MISS_DROPPED);
    assert_true(text_equal(got_end.cause, end.cause) && got_end.answer_ns == 8);
    buffer_finish(&bytes);
}

/* A list that is empty is not one that is missing. */
static void no_breakers_are_not_the_default_ones(void **state)
{
    static const char *const none[] = {NULL};
    struct work_ask ask = {.sampling = {.dry_breakers = none}}, got;
    struct buffer bytes;
    struct message message;
    (void)state;
    buffer_init(&bytes, 10000);
    assert_true(work_put_ask(&bytes, 9, &ask));
    decode_first(&bytes, &message);
    assert_true(work_get_ask(&message, &got));
    assert_non_null(got.sampling.dry_breakers);
    assert_int_equal(got.sampling.dry_breaker_count, 0);
    work_ask_finish(&got);
    bytes.size = 0;
    ask.sampling.dry_breakers = NULL;
    assert_true(work_put_ask(&bytes, 9, &ask));
    decode_first(&bytes, &message);
    assert_true(work_get_ask(&message, &got));
    assert_null(got.sampling.dry_breakers);
    work_ask_finish(&got);
    buffer_finish(&bytes);
}

/* Each message cut short, and longer by a byte, in memory of its own. */
static void torn_and_long_payloads_are_refused(void **state)
{
    struct buffer bytes, again;
    struct message message;
    (void)state;
    buffer_init(&bytes, 1 << 20);
    buffer_init(&again, 1 << 20);
    put_samples(&bytes);
    for (size_t at = 0; at < bytes.size;) {
        ptrdiff_t size =
            message_decode(bytes.data + at, bytes.size - at, WORK_PAYLOAD_MAX, &message, NULL);
        assert_true(size > 0);
        at += (size_t)size;
        struct text whole = message.payload;
        for (size_t cut = 0; cut <= whole.size + 1; cut++) {
            char *piece = calloc(1, cut ? cut : 1);
            memcpy(piece, whole.data, cut < whole.size ? cut : whole.size);
            message.payload = (struct text){piece, cut};
            again.size = 0;
            assert_int_equal(echo_message(&message, &again), cut == whole.size);
            free(piece);
        }
    }
    buffer_finish(&bytes);
    buffer_finish(&again);
}

/* Whatever is accepted is what would be written: no two texts mean the same. */
static void changed_bytes_have_one_meaning_or_none(void **state)
{
    struct random random = random_from_seed(5);
    struct buffer bytes, again;
    struct message message;
    unsigned accepted = 0, refused = 0;
    (void)state;
    buffer_init(&bytes, 1 << 20);
    buffer_init(&again, 1 << 20);
    put_samples(&bytes);
    for (unsigned round = 0; round < 3000; round++) {
        for (size_t at = 0; at < bytes.size;) {
            ptrdiff_t size =
                message_decode(bytes.data + at, bytes.size - at, WORK_PAYLOAD_MAX, &message, NULL);
            assert_true(size > 0);
            char *own = malloc((size_t)size);
            memcpy(own, bytes.data + at, (size_t)size);
            at += (size_t)size;
            for (unsigned i = 0; i < 2 && size > MESSAGE_HEADER_SIZE; i++)
                own[MESSAGE_HEADER_SIZE + random_u64(&random) % message.payload.size] =
                    (char)(random_u64(&random) >> (random_u64(&random) % 60));
            message.payload.data = own + MESSAGE_HEADER_SIZE;
            again.size = 0;
            if (echo_message(&message, &again)) {
                assert_int_equal(again.size, size);
                assert_memory_equal(again.data, own, (size_t)size);
                accepted++;
            } else {
                refused++;
            }
            free(own);
        }
    }
    assert_true(accepted > 1000 && refused > 1000);
    buffer_finish(&bytes);
    buffer_finish(&again);
}

static void what_the_other_side_would_refuse_is_not_put(void **state)
{
    struct work_ask ask = sample_ask();
    struct buffer bytes;
    (void)state;
    buffer_init(&bytes, 10000);
    ask.session = TEXT("a\0b");
    assert_false(work_put_ask(&bytes, 1, &ask));
    ask.session = TEXT("\xff");
    assert_false(work_put_ask(&bytes, 1, &ask));
    ask.session = TEXT("");
    ask.stop_count = WORK_STOPS_MAX + 1;
    assert_false(work_put_ask(&bytes, 1, &ask));
    ask.stop_count = 0;
    ask.top_tokens = HEARTH_TOP_TOKENS_MAX + 1;
    assert_false(work_put_ask(&bytes, 1, &ask));
    ask.top_tokens = 0;
    ask.sampling.bias_count = WORK_BIAS_MAX + 1;
    assert_false(work_put_ask(&bytes, 1, &ask));
    ask.sampling.bias_count = 3;
    assert_true(work_put_ask(&bytes, 1, &ask));
    size_t one = bytes.size;
    bytes.max = one + 10;
    assert_false(work_put_ask(&bytes, 2, &ask));
    assert_int_equal(bytes.size, one);
    buffer_finish(&bytes);
}

static void keys_are_utf8_of_1_to_256_bytes(void **state)
{
    char key[WORK_KEY_SIZE], wide[300];
    (void)state;
    memset(wide, 'a', sizeof wide);
    assert_false(work_copy_key(TEXT(""), key));
    assert_false(work_copy_key(TEXT("\xc3"), key));
    assert_false(work_copy_key(TEXT("a\0"), key));
    assert_false(work_copy_key((struct text){wide, 257}, key));
    assert_true(work_copy_key((struct text){wide, 256}, key));
    assert_int_equal(strlen(key), 256);
}

static void reading_a_list_without_memory_fails(void **state)
{
    struct work_ask ask = sample_ask(), got = {.max_tokens = 5};
    struct buffer bytes;
    struct message message;
    (void)state;
    buffer_init(&bytes, 10000);
    assert_true(work_put_ask(&bytes, 9, &ask));
    decode_first(&bytes, &message);
    for (unsigned long n = 1; n <= 2; n++) {
        mem_fail_nth(n);
        assert_false(work_get_ask(&message, &got));
        mem_fail_nth(0);
        assert_int_equal(got.max_tokens, 5);
    }
    assert_true(work_get_ask(&message, &got));
    work_ask_finish(&got);
    buffer_finish(&bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_put_is_got),
        cmocka_unit_test(fields_keep_their_places),
        cmocka_unit_test(no_breakers_are_not_the_default_ones),
        cmocka_unit_test(torn_and_long_payloads_are_refused),
        cmocka_unit_test(changed_bytes_have_one_meaning_or_none),
        cmocka_unit_test(what_the_other_side_would_refuse_is_not_put),
        cmocka_unit_test(keys_are_utf8_of_1_to_256_bytes),
        cmocka_unit_test(reading_a_list_without_memory_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
