/* hearth perplexity: how well a model predicts a text. The method is llama-perplexity's: the text
 * is cut into chunks of as many tokens as the context, each computed by itself with BOS in place of
 * its first token (where the model wants one); what the second half of a chunk says counts. */

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "base/os.h"
#include "cli/command.h"
#include "cli/console.h"
#include "cli/load.h"
#include "cli/logits_file.h"
#include "cli/progress.h"
#include "cli/scoring.h"

#define CHUNK_TOKENS_DEFAULT 512u
#define FILE_BYTES_MAX ((size_t)1 << 32)

struct perplexity_settings {
    const char *model, *file;
    uint32_t context, chunks, threads;
    struct load_settings load;
    int kv_type;
    bool json;
    const char *kl, *save;
};

struct measurement {
    const struct perplexity_settings *settings;
    struct loaded loaded;
    struct hearth_sequence *sequence;
    uint32_t *ids; /* chunks * chunk_tokens of them, or more */
    size_t id_count;
    uint32_t chunk_tokens, chunks;
    uint32_t *chunk; /* the ids of one chunk, as they are computed */
    uint32_t bos;    /* in place of a chunk's first token; HEARTH_TOKEN_NONE: that stays */
    struct sums surprises;
    bool comparing, saving;
    struct logits_file base;
    struct divergence divergence;
    struct logits_writer writer;
    struct progress progress;
};

/* ---- the text ---- */

/* Whether texts begin with BOS: seen at what the tokenizer adds to an empty one. */
static int find_bos(struct measurement *m, struct hearth_error *err)
{
    uint32_t *ids;
    size_t count;
    int status = hearth_tokenize(m->loaded.model, "", 0, HEARTH_ADD_SPECIAL, &ids, &count, err);
    if (status)
        return status;
    m->bos = count > 0 && ids[0] == m->loaded.info.bos ? ids[0] : HEARTH_TOKEN_NONE;
    hearth_free(ids);
    return 0;
}

static int read_text(const char *path, struct buffer *out, struct hearth_error *err)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        return error_set(err, HEARTH_E_IO, "%s cannot be opened: %s", path, strerror(errno));
    int status = console_read_all(file, path, out, err);
    fclose(file);
    /* The peer drops a final newline of the file. */
    if (!status && out->size > 0 && out->data[out->size - 1] == '\n')
        out->size--;
    return status;
}

static int tokenize_text(struct measurement *m, struct hearth_error *err)
{
    struct buffer text;
    uint32_t *ids = NULL;
    size_t count = 0, first = m->bos != HEARTH_TOKEN_NONE;
    buffer_init(&text, FILE_BYTES_MAX);
    int status = read_text(m->settings->file, &text, err);
    if (!status)
        status = hearth_tokenize(m->loaded.model, text.data ? text.data : "", text.size, 0, &ids,
                                 &count, err);
    buffer_finish(&text);
    if (status)
        return status;
    m->ids = mem_alloc_array(count + 1, sizeof *m->ids);
    if (m->ids) {
        m->ids[0] = m->bos;
        if (count)
            memcpy(m->ids + first, ids, count * sizeof *ids);
        m->id_count = count + first;
    }
    hearth_free(ids);
    return m->ids ? 0 : error_set(err, HEARTH_E_MEMORY, "no memory for %zu tokens", count);
}

/* The base's tokens are the text; one that was given as well must be the same. */
static int take_base_tokens(struct measurement *m, struct hearth_error *err)
{
    size_t count = (size_t)m->base.chunks * m->base.chunk_tokens;
    if (m->settings->file) {
        bool same = m->id_count >= count;
        for (size_t i = 0; i < count && same; i++)
            same = m->ids[i] == logits_file_token(&m->base, i);
        return same ? 0
                    : error_set(err, HEARTH_E_ARGUMENT, "%s was not computed from %s",
                                m->settings->kl, m->settings->file);
    }
    m->ids = mem_alloc_array(count, sizeof *m->ids);
    if (!m->ids)
        return error_set(err, HEARTH_E_MEMORY, "no memory for %zu tokens", count);
    for (size_t i = 0; i < count; i++)
        m->ids[i] = logits_file_token(&m->base, i);
    m->id_count = count;
    return 0;
}

static int open_base(struct measurement *m, struct hearth_error *err)
{
    const struct perplexity_settings *settings = m->settings;
    int status = logits_file_open(&m->base, settings->kl, m->loaded.info.vocabulary, err);
    if (status)
        return status;
    if (settings->context && settings->context != m->base.chunk_tokens)
        return error_set(err, HEARTH_E_ARGUMENT, "%s was computed with -c %u, not %u", settings->kl,
                         m->base.chunk_tokens, settings->context);
    m->chunk_tokens = m->base.chunk_tokens;
    status = take_base_tokens(m, err);
    m->comparing = true;
    return status;
}

static int plan_chunks(struct measurement *m, struct hearth_error *err)
{
    size_t chunks = m->comparing ? m->base.chunks : m->id_count / m->chunk_tokens;
    if (chunks == 0)
        return error_set(
            err, HEARTH_E_ARGUMENT,
            "the text has %zu tokens, a chunk needs %u: give a longer one or a smaller "
            "-c",
            m->id_count, m->chunk_tokens);
    if (m->settings->chunks && m->settings->chunks < chunks)
        chunks = m->settings->chunks;
    if (chunks > UINT32_MAX)
        return error_set(err, HEARTH_E_LIMIT, "the text has %zu chunks, too many", chunks);
    m->chunks = (uint32_t)chunks;
    m->chunk = mem_alloc_array(m->chunk_tokens, sizeof *m->chunk);
    if (m->comparing)
        m->divergence.values =
            mem_alloc_array(chunks * scored_rows(m->chunk_tokens), sizeof(float));
    if (!m->chunk || (m->comparing && !m->divergence.values))
        return error_set(err, HEARTH_E_MEMORY, "no memory for the measurement");
    return 0;
}

static int prepare(struct measurement *m, struct hearth_error *err)
{
    const struct perplexity_settings *settings = m->settings;
    struct hearth_engine_options options = {
        .threads = settings->threads,
        .kv_type = (enum hearth_kv_type)settings->kv_type,
    };
    m->chunk_tokens = settings->context ? settings->context : CHUNK_TOKENS_DEFAULT;
    const struct load_source source = {.path = settings->model, .engine = &options};
    int status = load_model(&m->loaded, &source, &settings->load, err);
    if (!status)
        status = find_bos(m, err);
    if (!status && settings->file)
        status = tokenize_text(m, err);
    if (!status && settings->kl)
        status = open_base(m, err);
    if (!status)
        status = plan_chunks(m, err);
    if (!status)
        status = load_engine(&m->loaded, &options, err);
    if (!status)
        status = hearth_sequence_open(m->loaded.engine, m->chunk_tokens, &m->sequence, err);
    if (!status && settings->save) {
        struct logits_file header = {.chunk_tokens = m->chunk_tokens,
                                     .vocabulary = m->loaded.info.vocabulary,
                                     .chunks = m->chunks};
        status = logits_writer_open(&m->writer, settings->save, &header, m->ids, err);
        m->saving = !status;
    }
    return status;
}

/* ---- the measurement ---- */

static int score_row(struct measurement *m, uint32_t chunk, uint32_t row, const float *logits,
                     struct hearth_error *err)
{
    struct row_score score;
    uint32_t next = m->chunk[m->chunk_tokens / 2 + row + 1];
    int status = row_score(logits, m->loaded.info.vocabulary, &score, err);
    if (!status && m->saving)
        status = logits_writer_add(&m->writer, &score, err);
    if (!status && m->comparing) {
        struct base_row base = logits_file_row(&m->base, chunk, row);
        status = divergence_add(&m->divergence, &score, &base, next, err);
    }
    if (!status)
        sums_add(&m->surprises, row_surprise(&score, next));
    return status;
}

static void show_progress(struct measurement *m, uint32_t chunk, uint32_t done)
{
    char note[64] = "";
    double whole = (double)chunk + (double)done / (double)m->chunk_tokens;
    if (m->surprises.count > 0)
        snprintf(note, sizeof note, "perplexity %.4f", perplexity_estimate(&m->surprises).mean);
    progress_update(&m->progress, whole / (double)m->chunks, note);
}

static int step(struct measurement *m, struct hearth_error *err)
{
    int status = hearth_engine_step(m->loaded.engine, NULL, err);
    return status ? status : hearth_sequence_status(m->sequence, err);
}

/* The first half of a chunk is only read; of the second, each token but the last, which predicts
 * nothing that is in the chunk, is scored by the token behind it. */
static int measure_chunk(struct measurement *m, uint32_t chunk, struct hearth_error *err)
{
    uint32_t half = m->chunk_tokens / 2, rows = scored_rows(m->chunk_tokens), row = 0;
    memcpy(m->chunk, m->ids + (size_t)chunk * m->chunk_tokens, m->chunk_tokens * sizeof *m->chunk);
    if (m->bos != HEARTH_TOKEN_NONE)
        m->chunk[0] = m->bos;
    int status = hearth_sequence_truncate(m->sequence, 0, err);
    if (!status)
        status = hearth_sequence_extend(m->sequence, m->chunk, half, HEARTH_LOGITS_LAST, err);
    while (!status && hearth_sequence_pending(m->sequence) > 0) {
        status = step(m, err);
        show_progress(m, chunk, (uint32_t)hearth_sequence_length(m->sequence));
    }
    if (!status)
        status = hearth_sequence_extend(m->sequence, m->chunk + half, rows, HEARTH_LOGITS_ALL, err);
    while (!status && hearth_sequence_pending(m->sequence) > 0) {
        status = step(m, err);
        size_t count = status ? 0 : hearth_sequence_logit_rows(m->sequence);
        for (size_t i = 0; i < count && !status; i++)
            status = score_row(m, chunk, row++, hearth_sequence_logits(m->sequence, i), err);
        show_progress(m, chunk, half + row);
    }
    return status;
}

static int measure(struct measurement *m, struct hearth_error *err)
{
    int status = 0;
    progress_begin(&m->progress, "measuring");
    for (uint32_t chunk = 0; chunk < m->chunks && !status; chunk++)
        status = measure_chunk(m, chunk, err);
    progress_end(&m->progress);
    if (m->saving) {
        int closed = logits_writer_close(&m->writer, status ? NULL : err);
        status = status ? status : closed;
    }
    return status;
}

/* ---- the result ---- */

struct comparison {
    struct estimate kl, base_perplexity;
    double log_ratio, median, percentile_99, highest, probability_rms, same_best;
};

static struct comparison compare(struct divergence *d)
{
    size_t count = d->kl.count;
    double rows = (double)count;
    sort_values(d->values, count);
    return (struct comparison){
        .kl = sums_estimate(&d->kl),
        .base_perplexity = perplexity_estimate(&d->base),
        .log_ratio = (d->model.sum - d->base.sum) / rows,
        .median = quantile(d->values, count, 0.5),
        .percentile_99 = quantile(d->values, count, 0.99),
        .highest = (double)d->values[count - 1],
        .probability_rms = sqrt(d->probability_squares / rows),
        .same_best = (double)d->same_best / rows,
    };
}

static json_t *number(double value)
{
    return json_rounded(value, 9);
}

static enum exit_code print_json(struct measurement *m)
{
    struct estimate result = perplexity_estimate(&m->surprises);
    json_t *root = json_pack("{s:o, s:o, s:I, s:I, s:I}", "perplexity", number(result.mean),
                             "perplexity_error", number(result.error), "tokens",
                             (json_int_t)m->surprises.count, "chunks", (json_int_t)m->chunks,
                             "context", (json_int_t)m->chunk_tokens);
    if (root && m->comparing) {
        struct comparison c = compare(&m->divergence);
        json_object_set_new(root, "kl_divergence", number(c.kl.mean));
        json_object_set_new(root, "kl_divergence_error", number(c.kl.error));
        json_object_set_new(root, "kl_median", number(c.median));
        json_object_set_new(root, "kl_99", number(c.percentile_99));
        json_object_set_new(root, "kl_max", number(c.highest));
        json_object_set_new(root, "top1_agreement", number(c.same_best));
        json_object_set_new(root, "probability_rms", number(c.probability_rms));
        json_object_set_new(root, "base_perplexity", number(c.base_perplexity.mean));
        json_object_set_new(root, "log_perplexity_ratio", number(c.log_ratio));
    }
    return console_json(root);
}

static enum exit_code print_lines(struct measurement *m)
{
    struct estimate result = perplexity_estimate(&m->surprises);
    printf("perplexity          %.4f ± %.4f\n", result.mean, result.error);
    printf("tokens              %zu scored, in %u chunk%s of %u\n", m->surprises.count, m->chunks,
           m->chunks == 1 ? "" : "s", m->chunk_tokens);
    if (m->comparing) {
        struct comparison c = compare(&m->divergence);
        printf("KL divergence       %.6f ± %.6f\n", c.kl.mean, c.kl.error);
        printf("  median            %.6f\n", c.median);
        printf("  99 %% below        %.6f\n", c.percentile_99);
        printf("  highest           %.6f\n", c.highest);
        printf("same best token     %.3f %%\n", 100.0 * c.same_best);
        printf("probability, RMS Δ  %.3f %%\n", 100.0 * c.probability_rms);
        printf("base perplexity     %.4f ± %.4f\n", c.base_perplexity.mean,
               c.base_perplexity.error);
        printf("ln of their ratio   %.6f\n", c.log_ratio);
    }
    return console_finish();
}

static enum exit_code run_perplexity(const struct program *program, const void *given)
{
    struct measurement m = {.settings = given};
    struct hearth_error err = {0};
    (void)program;
    if (!m.settings->file && !m.settings->kl) {
        console_say("hearth perplexity needs a FILE with the text, or --kl BASE");
        return EXIT_CODE_USAGE;
    }
    int status = prepare(&m, &err);
    if (!status)
        status = measure(&m, &err);
    enum exit_code code = status             ? console_fail(&err)
                          : m.settings->json ? print_json(&m)
                                             : print_lines(&m);
    logits_writer_close(&m.writer, NULL);
    logits_file_close(&m.base);
    hearth_sequence_close(m.sequence);
    load_finish(&m.loaded);
    mem_free(m.divergence.values);
    mem_free(m.chunk);
    mem_free(m.ids);
    return code;
}

/* ---- the table ---- */

#define AT(field) offsetof(struct perplexity_settings, field)

static const struct option perplexity_options[] = {
    {"context", 'c', OPTION_UINT, "N", 4, 16777216, NULL, AT(context), "Measurement",
     "512, or what BASE has", "Tokens in a chunk; the second half of each is scored."},
    {"chunks", '\0', OPTION_UINT, "N", 1, 4e9, NULL, AT(chunks), "Measurement", "all",
     "Measure only the first N chunks."},
    {"kl", '\0', OPTION_FILE, "BASE", 0, 0, NULL, AT(kl), "Measurement", NULL,
     "Also compare with the logits in the file BASE, which --save-logits or llama-perplexity "
     "wrote; "
     "FILE may be left out then."},
    {"save-logits", '\0', OPTION_FILE, "FILE", 0, 0, NULL, AT(save), "Measurement", NULL,
     "Write the logits to FILE, for --kl here or in llama-perplexity. Two bytes for each token of "
     "the vocabulary and each position: this becomes large."},
    {"threads", 't', OPTION_UINT, "N", 1, 1024, NULL, AT(threads), "Engine",
     "as many as there are cores to use", "Compute with N threads."},
    {"kv", '\0', OPTION_CHOICE, "TYPE", 0, 0, load_kv_types, AT(kv_type), "Engine", NULL,
     "How the KV cache is stored."},
    LOAD_OPTIONS(AT(load)),
    {"json", '\0', OPTION_FLAG, NULL, 0, 0, NULL, AT(json), "Output", NULL,
     "Print one JSON object: perplexity, perplexity_error, tokens, chunks, context; with --kl also "
     "kl_divergence, kl_divergence_error, kl_median, kl_99, kl_max, top1_agreement, "
     "probability_rms, base_perplexity, log_perplexity_ratio."},
};

static const struct operand perplexity_operands[] = {
    {"MODEL", OPERAND_MODEL, true, AT(model), "a GGUF file; of a split model the first part", NULL},
    {"FILE", OPERAND_FILE, false, AT(file), "a text; a final newline of it does not count", NULL},
};

static const struct example perplexity_examples[] = {
    {"hearth perplexity MODEL.gguf wiki.test.raw", "The perplexity of a model on a text."},
    {"hearth perplexity F32.gguf text.txt --save-logits base.logits",
     "First half of a comparison: the model as it was trained."},
    {"hearth perplexity Q4.gguf --kl base.logits", "Second half: what quantization has changed."},
};

const struct command command_perplexity = {
    .name = "perplexity",
    .summary = "Measure how well a model predicts a text",
    .description =
        "Cuts a text into chunks, computes each by itself, and shows the perplexity of what its "
        "second half says: the lower, the better. The method is llama-perplexity's, so that "
        "figures can be compared.\n\n"
        "With --kl it also shows the Kullback-Leibler divergence from another model's logits: how "
        "far this model's probabilities are from that one's, 0 when they are the same.",
    .options = perplexity_options,
    .option_count = sizeof perplexity_options / sizeof perplexity_options[0],
    .operands = perplexity_operands,
    .operand_count = sizeof perplexity_operands / sizeof perplexity_operands[0],
    .examples = perplexity_examples,
    .example_count = sizeof perplexity_examples / sizeof perplexity_examples[0],
    .settings_size = sizeof(struct perplexity_settings),
    .run = run_perplexity,
};
