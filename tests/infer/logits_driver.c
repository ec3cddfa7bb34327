/* The logits behind each token of a list: golden_logits.c's counterpart, for scripts/accuracy.py.
 *
 *     logits_driver MODEL OUT PROMPT [f16|q8_0] < TOKENS
 *
 * The first PROMPT tokens are given at once, the others one by one; OUT becomes raw floats. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hearth/hearth.h"

#define TOKENS_MAX 8192

static int die(const char *what, const struct hearth_error *err)
{
    fprintf(stderr, "logits_driver: %s%s%s\n", what, err ? ": " : "", err ? err->text : "");
    return 1;
}

/* Computes tokens and writes their logits. */
static int compute(struct hearth_engine *engine, struct hearth_sequence *sequence,
                   const uint32_t *ids, size_t count, size_t vocabulary, FILE *out,
                   struct hearth_error *err)
{
    int status = hearth_sequence_extend(sequence, ids, count, HEARTH_LOGITS_ALL, err);
    while (!status && hearth_sequence_pending(sequence)) {
        status = hearth_engine_step(engine, NULL, err);
        if (!status)
            status = hearth_sequence_status(sequence, err);
        for (size_t row = 0; !status && row < hearth_sequence_logit_rows(sequence); row++) {
            const float *logits = hearth_sequence_logits(sequence, row);
            if (fwrite(logits, sizeof(float), vocabulary, out) != vocabulary)
                status = HEARTH_E_IO;
        }
    }
    return status;
}

int main(int argc, char **argv)
{
    static uint32_t ids[TOKENS_MAX];
    size_t count = 0, prompt = argc >= 4 ? strtoul(argv[3], NULL, 10) : 0;
    while (count < TOKENS_MAX && scanf("%u", &ids[count]) == 1)
        count++;
    if (prompt < 1 || prompt > count)
        return die("usage: logits_driver MODEL OUT PROMPT [f16|q8_0] < TOKENS", NULL);
    struct hearth_engine_options options = {
        .kv_type = argc > 4 && strcmp(argv[4], "q8_0") == 0 ? HEARTH_KV_Q8_0 : HEARTH_KV_F16};
    struct hearth_error err = {0};
    struct hearth_model *model = NULL;
    struct hearth_engine *engine = NULL;
    struct hearth_sequence *sequence = NULL;
    struct hearth_model_info info = {0};
    FILE *out = fopen(argv[2], "wb");
    int status = out ? hearth_model_open(argv[1], NULL, &model, &err) : HEARTH_E_IO;
    if (!status)
        status = hearth_engine_open(model, &options, &engine, &err);
    if (!status)
        status = hearth_sequence_open(engine, TOKENS_MAX, &sequence, &err);
    if (!status)
        hearth_model_info(model, &info);
    for (size_t first = 0, n = prompt; !status && first < count; first += n, n = 1)
        status = compute(engine, sequence, ids + first, n, info.vocabulary, out, &err);
    if (out && fclose(out) != 0 && !status)
        status = HEARTH_E_IO;
    hearth_sequence_close(sequence);
    hearth_engine_close(engine);
    hearth_model_close(model);
    return status ? die(hearth_status_text(status), &err) : 0;
}
