/* The logits that llama.cpp computes for a list of tokens, through its public interface: the truth
 * of tests/golden/logits. scripts/golden.sh compiles it against a build of llama.cpp.
 *
 *     golden_logits MODEL OUT PROMPT < TOKENS
 *
 * TOKENS are ids separated by white space; the first PROMPT of them are given at once, the others
 * one by one. OUT becomes the logits behind every token, raw little-endian floats. The KV cache is
 * F16, flash attention is off. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "llama.h"

#define TOKENS_MAX 8192

static void quiet(enum ggml_log_level level, const char *text, void *context)
{
    (void)context;
    if (level >= GGML_LOG_LEVEL_WARN && level != GGML_LOG_LEVEL_CONT)
        fputs(text, stderr);
}

static int die(const char *what, const char *which)
{
    fprintf(stderr, "golden_logits: %s %s\n", what, which);
    return 1;
}

static struct llama_context *open_context(struct llama_model *model, int prompt)
{
    struct llama_context_params params = llama_context_default_params();
    params.n_ctx = TOKENS_MAX;
    params.n_batch = params.n_ubatch = (uint32_t)prompt;
    params.n_threads = params.n_threads_batch = 1;
    params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
    params.type_k = params.type_v = GGML_TYPE_F16;
    return llama_init_from_model(model, params);
}

static bool compute(struct llama_context *context, const llama_token *ids, int first, int count)
{
    struct llama_batch batch = llama_batch_init(count, 0, 1);
    for (int i = 0; i < count; i++) {
        batch.token[i] = ids[first + i];
        batch.pos[i] = first + i;
        batch.n_seq_id[i] = 1;
        batch.seq_id[i][0] = 0;
        batch.logits[i] = 1;
    }
    batch.n_tokens = count;
    bool fine = llama_decode(context, batch) == 0;
    llama_batch_free(batch);
    return fine;
}

static bool write_all(struct llama_context *context, const llama_token *ids, int count, int prompt,
                      size_t vocabulary, FILE *out)
{
    for (int first = 0, step = prompt; first < count; first += step, step = 1) {
        if (!compute(context, ids, first, step))
            return false;
        for (int i = 0; i < step; i++) {
            if (fwrite(llama_get_logits_ith(context, i), sizeof(float), vocabulary, out) !=
                vocabulary)
                return false;
        }
    }
    return true;
}

int main(int argc, char **argv)
{
    static llama_token ids[TOKENS_MAX];
    int count = 0, prompt = argc == 4 ? atoi(argv[3]) : 0;
    while (count < TOKENS_MAX && scanf("%d", &ids[count]) == 1)
        count++;
    if (prompt < 1 || prompt > count)
        return die("usage:", "golden_logits MODEL OUT PROMPT < TOKENS");
    llama_log_set(quiet, NULL);
    llama_backend_init();
    struct llama_model_params params = llama_model_default_params();
    params.use_extra_bufts = false; /* kernels for repacked weights do not work everywhere */
    struct llama_model *model = llama_model_load_from_file(argv[1], params);
    struct llama_context *context = model ? open_context(model, prompt) : NULL;
    if (!context)
        return die("cannot open", argv[1]);
    FILE *out = fopen(argv[2], "wb");
    size_t vocabulary = (size_t)llama_vocab_n_tokens(llama_model_get_vocab(model));
    bool fine = out && write_all(context, ids, count, prompt, vocabulary, out);
    if (out && fclose(out) != 0)
        fine = false;
    llama_free(context);
    llama_model_free(model);
    return fine ? 0 : die("cannot compute or write", argv[2]);
}
