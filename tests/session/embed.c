/* Embeddings: the pooled states that the engine gives for a text's tokens, bit for bit the same
 * whatever runs beside them; and near to what llama.cpp makes of real texts with real models whose
 * weights were expanded to F32 (scripts/golden.sh). */

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gguf/types.h"
#include "hearth/session.h"
#include "infer/tiny_model.h"
#include "room.h"

#define DIMENSIONS 64
#define TEXT_MAX 4096

struct vector {
    struct hearth_request *request;
    size_t ends, dimensions, tokens;
    float values[1024];
    struct hearth_error error; /* code 0: none */
};

static void take_vector(void *context, const float *values, size_t dimensions, size_t tokens,
                        const struct hearth_error *error)
{
    struct vector *vector = context;
    vector->ends++;
    vector->dimensions = dimensions;
    vector->tokens = tokens;
    assert_int_equal(values == NULL, error != NULL);
    assert_true(dimensions <= 1024);
    if (values)
        memcpy(vector->values, values, dimensions * sizeof *values);
    if (error)
        vector->error = *error;
}

static void embed(struct room *room, struct vector *vector, const char *text)
{
    struct hearth_error err;
    const struct hearth_embed what = {
        .text = text, .size = strlen(text), .on_end = take_vector, .context = vector};
    *vector = (struct vector){0};
    if (hearth_sessions_embed(room->sessions, &what, &vector->request, &err))
        fail_msg("%s", err.text);
}

/* Letters that the tiny models have tokens for. */
static void make_text(char *text, size_t number, size_t size)
{
    for (size_t i = 0; i < size; i++)
        text[i] = (char)('a' + (number * 11 + i * (number + 3) + i * i / 7) % 26);
    text[size] = '\0';
}

/* What the engine gives for a text token by token, pooled here. */
static void reference(const struct hearth_model *model, const char *text,
                      enum hearth_pooling pooling, float *vector)
{
    struct hearth_engine_options options = {.threads = 1, .kv_type = HEARTH_KV_Q8_0};
    struct hearth_engine *engine;
    struct hearth_sequence *sequence;
    double sum[DIMENSIONS] = {0}, squares = 0.0;
    uint32_t *ids;
    size_t count;
    assert_int_equal(
        hearth_tokenize(model, text, strlen(text), HEARTH_ADD_SPECIAL, &ids, &count, NULL), 0);
    assert_int_equal(hearth_engine_open(model, &options, &engine, NULL), 0);
    assert_int_equal(hearth_sequence_open(engine, 0, &sequence, NULL), 0);
    for (size_t i = 0; i < count; i++) {
        bool counts = pooling == HEARTH_POOLING_MEAN ||
                      (pooling == HEARTH_POOLING_FIRST ? i == 0 : i + 1 == count);
        assert_int_equal(hearth_sequence_extend(sequence, ids + i, 1, HEARTH_STATES_LAST, NULL), 0);
        assert_int_equal(hearth_engine_step(engine, NULL, NULL), 0);
        const float *state = hearth_sequence_state(sequence, 0);
        for (size_t d = 0; d < DIMENSIONS && counts; d++)
            sum[d] += (double)state[d];
    }
    for (size_t d = 0; d < DIMENSIONS; d++)
        squares += sum[d] * sum[d];
    for (size_t d = 0; d < DIMENSIONS; d++)
        vector[d] = (float)(sum[d] / sqrt(squares));
    hearth_free(ids);
    hearth_sequence_close(sequence);
    hearth_engine_close(engine);
}

static void assert_vector(const struct vector *vector, const float *expected)
{
    double squares = 0.0;
    if (vector->error.code)
        fail_msg("%s", vector->error.text);
    assert_int_equal(vector->ends, 1);
    assert_int_equal(vector->dimensions, DIMENSIONS);
    assert_memory_equal(vector->values, expected, DIMENSIONS * sizeof *expected);
    for (size_t d = 0; d < DIMENSIONS; d++)
        squares += (double)vector->values[d] * (double)vector->values[d];
    assert_true(fabs(squares - 1.0) < 1e-6);
}

/* ---- the same bits ---- */

static void a_vector_does_not_depend_on_chunks_threads_or_company(void **state)
{
    (void)state;
    static const struct {
        uint32_t chunk;
        unsigned threads;
        size_t company;
    } ways[] = {{0, 1, 0}, {1, 1, 0}, {3, 2, 0}, {48, 1, 0}, {0, 2, 3}, {16, 1, 3}, {64, 2, 12}};
    static const size_t sizes[] = {1, 2, 33, 300, 700};
    for (size_t m = 0; m < 2; m++) {
        for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
            static char text[TEXT_MAX];
            float expected[DIMENSIONS];
            make_text(text, s, sizes[s]);
            reference(models[m], text, HEARTH_POOLING_MEAN, expected);
            for (size_t w = 0; w < sizeof ways / sizeof ways[0]; w++) {
                struct room room = {0};
                struct hearth_engine_options engine = {.threads = ways[w].threads,
                                                       .kv_type = HEARTH_KV_Q8_0,
                                                       .chunk_tokens = ways[w].chunk};
                struct vector vector, twin;
                static struct reply replies[12];
                struct hearth_session *sessions[12];
                struct hearth_sessions_state now;
                open_room_with(&room, m, &engine, 0);
                for (size_t i = 0; i < ways[w].company; i++) {
                    char turn_text[64];
                    sessions[i] = open_session(&room, NULL);
                    text_of_turn(turn_text, i, 0);
                    say(sessions[i], turn_text);
                    ask(sessions[i], &replies[i]);
                }
                embed(&room, &vector, text);
                embed(&room, &twin, text);
                hearth_sessions_state(room.sessions, &now);
                assert_int_equal(now.sessions, ways[w].company);
                run(&room);
                assert_vector(&vector, expected);
                assert_vector(&twin, expected);
                assert_int_equal(vector.tokens, sizes[s]);
                for (size_t i = 0; i < ways[w].company; i++)
                    hearth_session_close(sessions[i]);
                close_room(&room);
            }
        }
    }
}

static void answers_beside_it_are_those_given_alone(void **state)
{
    (void)state;
    for (size_t m = 0; m < 2; m++) {
        struct room room = {0};
        struct vector vectors[3];
        char alone[1][512], text[64];
        static char long_text[TEXT_MAX];
        struct reply reply;
        answers_alone(m, 4, 1, alone);
        open_room(&room, m, 0, 0);
        struct hearth_session *session = open_session(&room, NULL);
        text_of_turn(text, 4, 0);
        say(session, text);
        make_text(long_text, 2, 900);
        embed(&room, &vectors[0], long_text);
        ask(session, &reply);
        /* what the text begins with as well is neither taken from it nor given to it */
        embed(&room, &vectors[1], long_text);
        embed(&room, &vectors[2], "x");
        run(&room);
        assert_string_equal(reply.text, alone[0]);
        assert_memory_equal(vectors[0].values, vectors[1].values, DIMENSIONS * sizeof(float));
        hearth_session_close(session);
        close_room(&room);
    }
}

static void pauses_and_want_of_room_change_no_bit(void **state)
{
    (void)state;
    for (size_t m = 0; m < 2; m++) {
        static char text[TEXT_MAX];
        float expected[DIMENSIONS];
        make_text(text, 5, 400);
        reference(models[m], text, HEARTH_POOLING_MEAN, expected);
        for (int way = 0; way < 2; way++) {
            struct room room = {0};
            struct vector vectors[4];
            struct hearth_sessions_state now;
            uint64_t wait;
            struct hearth_engine_options engine = {
                .threads = 1, .kv_type = HEARTH_KV_Q8_0, .chunk_tokens = 32};
            open_room_with(&room, m, &engine, 0);
            embed(&room, &vectors[0], text);
            for (int i = 0; i < 8; i++)
                hearth_sessions_step(room.sessions, &wait);
            hearth_sessions_state(room.sessions, &now);
            uint64_t of_one = now.memory.kv_bytes;
            hearth_request_pause(vectors[0].request, true);
            hearth_sessions_step(room.sessions, &wait);
            assert_true(wait > MINUTE_NS);
            hearth_sessions_state(room.sessions, &now);
            assert_int_equal(now.paused, 1);
            assert_int_equal(now.memory.kv_bytes, 0);
            hearth_request_pause(vectors[0].request, false);
            run(&room);
            assert_vector(&vectors[0], expected);
            close_room(&room);

            engine.kv_bytes_max = 3 * of_one;
            room = (struct room){0};
            open_room_with(&room, m, &engine, 0);
            for (size_t i = 0; i < 4; i++)
                embed(&room, &vectors[i], text);
            run(&room);
            for (size_t i = 0; i < 4; i++)
                assert_vector(&vectors[i], expected);
            close_room(&room);
        }
    }
}

static void nothing_stays_of_it(void **state)
{
    (void)state;
    struct room room = {0};
    struct vector vector;
    struct hearth_sessions_state now;
    static char text[TEXT_MAX];
    open_room(&room, 0, 0, 0);
    make_text(text, 1, 600);
    embed(&room, &vector, text);
    run(&room);
    hearth_sessions_state(room.sessions, &now);
    assert_int_equal(vector.ends, 1);
    assert_int_equal(now.memory.kv_bytes, 0);
    assert_int_equal(now.sessions, 0);
    close_room(&room);
}

/* ---- pooling ---- */

static struct hearth_model *make_pooled(uint32_t pooling)
{
    static const uint32_t types[] = {TYPE_Q8_0, TYPE_Q4_1, TYPE_F16};
    static const struct tiny_model shape = {"llama", VOCABULARY, DIMENSIONS, 2, 4, 2,   32,
                                            96,      0,          types,      3, 5, NULL};
    char path[TEST_PATH_MAX];
    struct hearth_model *model;
    tiny_model_write_pooled(&shape, pooling, path);
    assert_int_equal(hearth_model_open(path, NULL, &model, NULL), 0);
    remove(path);
    return model;
}

static void states_are_pooled_as_the_file_says(void **state)
{
    (void)state;
    static const enum hearth_pooling ways[] = {HEARTH_POOLING_MEAN, HEARTH_POOLING_MEAN,
                                               HEARTH_POOLING_FIRST, HEARTH_POOLING_LAST};
    struct hearth_model *kept = models[0];
    static char text[TEXT_MAX];
    make_text(text, 3, 200);
    for (uint32_t type = 0; type < 4; type++) {
        struct room room = {0};
        struct vector vector;
        float expected[DIMENSIONS];
        enum hearth_pooling pooling;
        struct hearth_engine_options engine = {
            .threads = 1, .kv_type = HEARTH_KV_Q8_0, .chunk_tokens = 32};
        models[0] = make_pooled(type);
        assert_int_equal(hearth_model_pooling(models[0], &pooling, NULL), 0);
        assert_int_equal(pooling, ways[type]);
        reference(models[0], text, pooling, expected);
        open_room_with(&room, 0, &engine, 0);
        embed(&room, &vector, text);
        run(&room);
        assert_vector(&vector, expected);
        assert_int_equal(vector.tokens, 200);
        close_room(&room);
        hearth_model_close(models[0]);
    }
    for (uint32_t type = 4; type < 6; type++) {
        struct room room = {0};
        struct hearth_error err;
        const struct hearth_embed what = {.text = "x", .size = 1};
        models[0] = make_pooled(type);
        open_room(&room, 0, 0, 0);
        assert_int_equal(hearth_sessions_embed(room.sessions, &what, NULL, &err),
                         HEARTH_E_UNSUPPORTED);
        assert_non_null(strstr(err.text, type == 4 ? "llama.pooling_type is 4, rank"
                                                   : "llama.pooling_type is 5;"));
        close_room(&room);
        hearth_model_close(models[0]);
    }
    models[0] = kept;
}

/* ---- what goes wrong ---- */

static void what_cannot_be_embedded_says_why(void **state)
{
    (void)state;
    struct room room = {0};
    struct vector vector;
    struct hearth_error err;
    struct hearth_embed what = {.text = "", .size = 0, .on_end = take_vector, .context = &vector};
    uint64_t wait;
    open_room(&room, 0, 0, 50);
    assert_int_equal(hearth_sessions_embed(room.sessions, &what, NULL, &err), HEARTH_E_ARGUMENT);
    assert_non_null(strstr(err.text, "empty"));
    static char text[TEXT_MAX];
    make_text(text, 1, 51);
    embed(&room, &vector, text);
    run(&room);
    assert_int_equal(vector.error.code, HEARTH_E_LIMIT);
    assert_non_null(strstr(vector.error.text, "51 tokens, the context holds 50"));
    make_text(text, 1, 50);
    embed(&room, &vector, text);
    run(&room);
    assert_int_equal(vector.error.code, 0);

    embed(&room, &vector, "cancelled");
    hearth_request_cancel(vector.request);
    hearth_sessions_step(room.sessions, &wait);
    assert_int_equal(vector.error.code, HEARTH_E_CANCELLED);
    what.text = "late";
    what.size = 4;
    what.deadline_ns = room.now + 1;
    vector = (struct vector){0};
    assert_int_equal(hearth_sessions_embed(room.sessions, &what, &vector.request, NULL), 0);
    hearth_sessions_step(room.sessions, &wait);
    assert_int_equal(vector.error.code, HEARTH_E_CANCELLED);
    what.on_end = NULL; /* nobody listens */
    assert_int_equal(hearth_sessions_embed(room.sessions, &what, NULL, NULL), 0);
    embed(&room, &vector, "left");
    close_room(&room);
    assert_int_equal(vector.ends, 1);
    assert_int_equal(vector.error.code, HEARTH_E_CANCELLED);
}

/* ---- real models ---- */

static double cosine(const float *a, const float *b, size_t size)
{
    double sum = 0.0;
    for (size_t i = 0; i < size; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

/* Each line of the golden texts, all at once; of each there are three golden vectors, the mean
 * first. */
static void compare(const char *file, const char *name)
{
    enum { LINES = 5 };
    const char *folder = getenv("HEARTH_MODELS");
    char path[1024];
    static char lines[LINES][TEXT_MAX];
    static struct vector vectors[LINES];
    struct hearth_model *kept = models[0];
    struct room room = {0};
    snprintf(path, sizeof path, "%s/%s", folder ? folder : ".", file);
    if (hearth_model_open(path, NULL, &models[0], NULL)) {
        print_message("HEARTH_MODELS names no folder with %s\n", file);
        models[0] = kept;
        return;
    }
    struct hearth_engine_options engine = {.threads = 2};
    open_room_with(&room, 0, &engine, 0);
    FILE *texts = fopen(HEARTH_GOLDEN_DIR "/embeddings/texts.txt", "r");
    assert_non_null(texts);
    for (size_t i = 0; i < LINES; i++) {
        assert_non_null(fgets(lines[i], TEXT_MAX, texts));
        lines[i][strcspn(lines[i], "\n")] = '\0';
        embed(&room, &vectors[i], lines[i]);
    }
    fclose(texts);
    run(&room);
    snprintf(path, sizeof path, HEARTH_GOLDEN_DIR "/embeddings/%s.f32", name);
    FILE *golden = fopen(path, "rb");
    assert_non_null(golden);
    for (size_t i = 0; i < LINES; i++) {
        float theirs[1024];
        size_t size = vectors[i].dimensions;
        assert_int_equal(vectors[i].error.code, 0);
        assert_int_equal(fread(theirs, sizeof *theirs, size, golden), size);
        assert_int_equal(fseek(golden, (long)(2 * size * sizeof *theirs), SEEK_CUR), 0);
        double near = cosine(vectors[i].values, theirs, size);
        print_message("%s, text %zu of %zu tokens: cosine %.6f\n", name, i, vectors[i].tokens,
                      near);
        assert_true(near > 0.999);
    }
    fclose(golden);
    close_room(&room);
    hearth_model_close(models[0]);
    models[0] = kept;
}

static void real_texts_have_nearly_the_true_vectors(void **state)
{
    (void)state;
    compare("SmolLM2-135M-Instruct.Q4_1.gguf", "smollm2");
    compare("gemma-3-270m-q4_k_m.gguf", "gemma3-270m");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_vector_does_not_depend_on_chunks_threads_or_company),
        cmocka_unit_test(answers_beside_it_are_those_given_alone),
        cmocka_unit_test(pauses_and_want_of_room_change_no_bit),
        cmocka_unit_test(nothing_stays_of_it),
        cmocka_unit_test(states_are_pooled_as_the_file_says),
        cmocka_unit_test(what_cannot_be_embedded_says_why),
        cmocka_unit_test(real_texts_have_nearly_the_true_vectors),
    };
    return cmocka_run_group_tests(tests, set_up_models, tear_down_models);
}
