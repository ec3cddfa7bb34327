/* The vectors that llama.cpp makes of texts, through its public interface: the truth of
 * tests/golden/embeddings. scripts/golden.sh compiles it against a build of llama.cpp.
 *
 *     golden_embeddings MODEL OUT ids < TOKENS     TOKENS are ids separated by white space
 *     golden_embeddings MODEL OUT lines < TEXTS    each line is a text
 *
 * OUT becomes, of the ids, or of each text, the pooled vectors of length 1, as raw little-endian
 * floats: the mean, the first (cls), the last. Texts get the special tokens that the model's file
 * asks for. The KV cache is F16, flash attention is off. */
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "llama.h"

#define TOKENS_MAX 2048

static void quiet(enum ggml_log_level level, const char *text, void *context)
{
    (void)context;
    if (level >= GGML_LOG_LEVEL_ERROR && level != GGML_LOG_LEVEL_CONT)
        fputs(text, stderr);
}

static int die(const char *what, const char *which)
{
    fprintf(stderr, "golden_embeddings: %s %s\n", what, which);
    return 1;
}

static struct llama_context *open_context(struct llama_model *model, enum llama_pooling_type type)
{
    struct llama_context_params params = llama_context_default_params();
    params.n_ctx = params.n_batch = params.n_ubatch = TOKENS_MAX;
    params.n_threads = params.n_threads_batch = 1;
    params.embeddings = true;
    params.pooling_type = type;
    params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
    params.type_k = params.type_v = GGML_TYPE_F16;
    return llama_init_from_model(model, params);
}

static bool compute(struct llama_context *context, const llama_token *ids, int count)
{
    struct llama_batch batch = llama_batch_init(count, 0, 1);
    for (int i = 0; i < count; i++) {
        batch.token[i] = ids[i];
        batch.pos[i] = i;
        batch.n_seq_id[i] = 1;
        batch.seq_id[i][0] = 0;
        batch.logits[i] = 1;
    }
    batch.n_tokens = count;
    bool fine = llama_decode(context, batch) == 0;
    llama_batch_free(batch);
    return fine;
}

static bool write_vector(const float *vector, int size, FILE *out)
{
    double squares = 0.0;
    for (int i = 0; vector && i < size; i++)
        squares += (double)vector[i] * vector[i];
    for (int i = 0; vector && i < size; i++) {
        float value = (float)(vector[i] / sqrt(squares));
        if (fwrite(&value, sizeof value, 1, out) != 1)
            return false;
    }
    return vector != NULL;
}

static bool write_pooled(struct llama_model *model, const llama_token *ids, int count, FILE *out)
{
    static const enum llama_pooling_type types[] = {LLAMA_POOLING_TYPE_MEAN, LLAMA_POOLING_TYPE_CLS,
                                                    LLAMA_POOLING_TYPE_LAST};
    bool fine = count > 0;
    for (int t = 0; t < 3 && fine; t++) {
        struct llama_context *context = open_context(model, types[t]);
        fine = context && compute(context, ids, count) &&
               write_vector(llama_get_embeddings_seq(context, 0), llama_model_n_embd(model), out);
        llama_free(context);
    }
    return fine;
}

static bool write_lines(struct llama_model *model, FILE *out)
{
    static llama_token ids[TOKENS_MAX];
    static char line[65536];
    while (fgets(line, sizeof line, stdin)) {
        int size = (int)strcspn(line, "\n");
        int count =
            llama_tokenize(llama_model_get_vocab(model), line, size, ids, TOKENS_MAX, true, false);
        if (!write_pooled(model, ids, count, out))
            return false;
    }
    return true;
}

static bool write_ids(struct llama_model *model, FILE *out)
{
    static llama_token ids[TOKENS_MAX];
    int count = 0;
    while (count < TOKENS_MAX && scanf("%d", &ids[count]) == 1)
        count++;
    return write_pooled(model, ids, count, out);
}

int main(int argc, char **argv)
{
    bool lines = argc == 4 && strcmp(argv[3], "lines") == 0;
    if (!lines && !(argc == 4 && strcmp(argv[3], "ids") == 0))
        return die("usage:", "golden_embeddings MODEL OUT ids|lines < INPUT");
    llama_log_set(quiet, NULL);
    llama_backend_init();
    struct llama_model *model = llama_model_load_from_file(argv[1], llama_model_default_params());
    if (!model)
        return die("cannot open", argv[1]);
    FILE *out = fopen(argv[2], "wb");
    bool fine = out && (lines ? write_lines(model, out) : write_ids(model, out));
    if (out && fclose(out) != 0)
        fine = false;
    llama_model_free(model);
    return fine ? 0 : die("cannot compute or write", argv[2]);
}
