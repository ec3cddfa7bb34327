/* The parts of hearth.h that need a model but no engine: opening, metadata, text and tokens. */

#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "base/os.h"
#include "infer/engine.h"
#include "infer/metadata.h"
#include "infer/sampler.h"
#include "infer/stream.h"
#include "infer/vocabulary.h"

#define TEXT_MAX ((size_t)1 << 31) /* bytes of one rendered or detokenized text */

const char *hearth_version(void)
{
    return HEARTH_VERSION;
}

void hearth_free(void *allocated)
{
    mem_free(allocated);
}

/* ---- model ---- */

static const struct hearth_model_options defaults;

static bool report(const struct hearth_model_options *options, double fraction)
{
    return !options->progress || options->progress(options->progress_context, fraction);
}

static struct gguf_options file_options(const struct hearth_model_options *options)
{
    return (struct gguf_options){
        .copy = options->no_mmap,
        .lock = options->mlock,
        .progress = options->progress,
        .progress_context = options->progress_context,
    };
}

/* A path, or where that is NULL descriptors. */
struct origin {
    const char *path;
    const int *fds;
    size_t count;
};

static int open_file(const struct origin *origin, const struct gguf_options *options,
                     struct gguf **out, struct hearth_error *err)
{
    return origin->path ? gguf_open_with(origin->path, options, out, err)
                        : gguf_open_fds_with(origin->fds, origin->count, options, out, err);
}

/* Names the file, which errors of the file's reader do by themselves. */
static int blame(const struct origin *origin, int status, struct hearth_error *err)
{
    return status && origin->path ? error_prefix(err, status, "%s", origin->path) : status;
}

/* Whether a model works, before all of its file is read. */
static int check_file(const struct origin *origin, const struct hearth_model_options *options,
                      struct hearth_error *err)
{
    const struct gguf_options mapped = {0};
    const struct model_options own = {
        .vocabulary_only = options->vocabulary_only,
        .chat_template = options->chat_template,
    };
    struct gguf *gguf;
    struct model *model;
    int status = open_file(origin, &mapped, &gguf, err);
    if (status)
        return status;
    status = model_open(gguf, &own, &model, err);
    if (!status)
        model_close(model);
    return blame(origin, status, err);
}

static int finish_open(struct gguf *gguf, const struct hearth_model_options *options,
                       struct hearth_model **out, struct hearth_error *err)
{
    struct hearth_model *model = MEM_NEW(struct hearth_model);
    if (!model) {
        gguf_close(gguf);
        return error_set(err, HEARTH_E_MEMORY, "no memory for a model");
    }
    model->copied = options->no_mmap;
    struct model_options own = {
        .load = !options->vocabulary_only && !options->no_mmap,
        .vocabulary_only = options->vocabulary_only,
        .chat_template = options->chat_template,
        .progress = {options->progress, options->progress_context},
    };
    int status = model_open(gguf, &own, &model->model, err);
    bool go_on = !status && (model->model->loader ? loader_report(model->model->loader)
                                                  : report(options, 1.0));
    if (!status && !go_on)
        status = error_set(err, HEARTH_E_CANCELLED, "cancelled");
    if (status) {
        hearth_model_close(model);
        return status;
    }
    *out = model;
    return 0;
}

static int open_from(const struct origin *origin, const struct hearth_model_options *options,
                     struct hearth_model **out, struct hearth_error *err)
{
    struct gguf *gguf;
    options = options ? options : &defaults;
    const struct gguf_options file = file_options(options);
    if (!report(options, 0.0))
        return error_set(err, HEARTH_E_CANCELLED, "cancelled");
    int status = file.copy || file.lock ? check_file(origin, options, err) : 0;
    if (!status)
        status = open_file(origin, &file, &gguf, err);
    if (status)
        return status;
    return blame(origin, finish_open(gguf, options, out, err), err);
}

int hearth_model_open(const char *path, const struct hearth_model_options *options,
                      struct hearth_model **out, struct hearth_error *err)
{
    const struct origin origin = {.path = path};
    return open_from(&origin, options, out, err);
}

int hearth_model_open_fds(const int *fds, size_t count, const struct hearth_model_options *options,
                          struct hearth_model **out, struct hearth_error *err)
{
    const struct origin origin = {.fds = fds, .count = count};
    return open_from(&origin, options, out, err);
}

void hearth_model_close(struct hearth_model *model)
{
    if (!model)
        return;
    model_close(model->model);
    mem_free(model);
}

void hearth_model_rest(const struct hearth_model *model)
{
    gguf_rest(model->model->gguf);
}

void hearth_model_info(const struct hearth_model *model, struct hearth_model_info *out)
{
    const struct model *m = model->model;
    *out = (struct hearth_model_info){
        .file_bytes = gguf_file_size(m->gguf),
        .vocabulary = tokenizer_vocab_size(m->tokenizer),
        .context_length = m->shape.context_length,
        .embedding_length = m->shape.embedding_length,
        .layers = m->shape.layer_count,
        .bos = tokenizer_bos(m->tokenizer),
        .eos = tokenizer_eos(m->tokenizer),
        .has_template = m->chat_template != NULL,
    };
    for (uint32_t l = 0; l < m->shape.layer_count; l++) {
        uint32_t window = m->layers[l].window;
        if (window && (!out->window || window < out->window))
            out->window = window;
    }
    for (size_t i = 0; i < gguf_tensor_count(m->gguf); i++)
        out->parameters += gguf_tensor_elements(gguf_tensor_at(m->gguf, i));
}

int hearth_model_metadata(const struct hearth_model *model, const char *key, char **text,
                          size_t *size, struct hearth_error *err)
{
    const struct gguf_key *found = gguf_find(model->model->gguf, key);
    if (!found)
        return error_set(err, HEARTH_E_MISSING, "there is no key %s", key);
    struct buffer out;
    buffer_init(&out, TEXT_MAX);
    metadata_text(found, &out);
    *text = buffer_take(&out, size);
    return *text ? 0 : error_set(err, HEARTH_E_MEMORY, "no memory for key %s", key);
}

/* Numbers as GGUF's writers give them. */
int hearth_model_pooling(const struct hearth_model *model, enum hearth_pooling *out,
                         struct hearth_error *err)
{
    static const char *const names[] = {"none", "mean", "cls", "last", "rank"};
    enum { COUNT = sizeof names / sizeof names[0], NONE = 0, RANK = 4 };
    char key[128];
    uint32_t type = NONE;
    int status = model_check(model->model, err);
    if (status)
        return status;
    snprintf(key, sizeof key, "%s.pooling_type", model->model->architecture->name);
    status = gguf_find(model->model->gguf, key)
                 ? gguf_get_u32(model->model->gguf, key, 0, UINT32_MAX, &type, err)
                 : 0;
    if (status)
        return status;
    if (type >= COUNT || type == RANK)
        return error_set(err, HEARTH_E_UNSUPPORTED,
                         "%s is %u%s%s; 0 to 3 work: none (the mean then), mean, cls, last", key,
                         type, type < COUNT ? ", " : "", type < COUNT ? names[type] : "");
    *out = type == NONE ? HEARTH_POOLING_MEAN : (enum hearth_pooling)type;
    return 0;
}

/* ---- text and tokens ---- */

int hearth_tokenize(const struct hearth_model *model, const char *text, size_t size, unsigned flags,
                    uint32_t **ids, size_t *count, struct hearth_error *err)
{
    struct token_list list = {0};
    struct tokenize_options options = {
        .add_special = flags & HEARTH_ADD_SPECIAL,
        .parse_special = flags & HEARTH_PARSE_SPECIAL,
    };
    int status =
        tokenizer_encode(model->model->tokenizer, (struct text){text, size}, options, &list, err);
    if (status) {
        token_list_finish(&list);
        return status;
    }
    *ids = list.ids;
    *count = list.count;
    return 0;
}

int hearth_detokenize(const struct hearth_model *model, const uint32_t *ids, size_t count,
                      bool special, char **text, size_t *size, struct hearth_error *err)
{
    struct buffer out;
    buffer_init(&out, TEXT_MAX);
    int status = tokenizer_decode(model->model->tokenizer, ids, count, special, &out, err);
    if (status) {
        buffer_finish(&out);
        return status;
    }
    *text = buffer_take(&out, size);
    return *text ? 0 : error_set(err, HEARTH_E_MEMORY, "no memory for the text");
}

int hearth_token_bytes(const struct hearth_model *model, uint32_t id, char **bytes, size_t *size,
                       struct hearth_error *err)
{
    const struct tokenizer *tokenizer = model->model->tokenizer;
    struct buffer out;
    if (id >= tokenizer_vocab_size(tokenizer))
        return error_set(err, HEARTH_E_ARGUMENT, "token %u is outside the vocabulary of %u", id,
                         tokenizer_vocab_size(tokenizer));
    buffer_init(&out, TEXT_MAX);
    tokenizer_piece(tokenizer, id, true, false, &out);
    *bytes = buffer_take(&out, size);
    return *bytes ? 0 : error_set(err, HEARTH_E_MEMORY, "no memory for the bytes of a token");
}

bool hearth_is_end(const struct hearth_model *model, uint32_t id)
{
    return tokenizer_is_end(model->model->tokenizer, id);
}

/* The spelling of a special token; "" where the model has none, as Hugging Face gives None, which
 * templates test for truth. */
static int set_token(json_t *variables, const char *name, const struct tokenizer *tokenizer,
                     uint32_t id)
{
    struct text text = tokenizer_text(tokenizer, id);
    if (json_object_get(variables, name))
        return 0;
    return json_object_set_new(variables, name,
                               json_stringn(text.data ? text.data : "", text.size));
}

int hearth_render_chat(const struct hearth_model *model, const char *variables, size_t size,
                       int64_t unix_seconds, char **text, size_t *text_size,
                       struct hearth_error *err)
{
    const struct model *m = model->model;
    if (!m->chat_template)
        return error_set(err, HEARTH_E_MISSING, "the model has no chat template");
    json_error_t where;
    json_t *root = json_loadb(variables, size, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &where);
    if (!json_is_object(root)) {
        json_decref(root);
        return error_set(err, HEARTH_E_ARGUMENT, "the template's variables are no JSON object%s%s",
                         root ? "" : ": ", root ? "" : where.text);
    }
    struct buffer out;
    buffer_init(&out, TEXT_MAX);
    int status = 0;
    if (set_token(root, "bos_token", m->tokenizer, tokenizer_bos(m->tokenizer)) ||
        set_token(root, "eos_token", m->tokenizer, tokenizer_eos(m->tokenizer)))
        status = error_set(err, HEARTH_E_MEMORY, "no memory for the template's variables");
    if (!status)
        status = chat_template_render(m->chat_template, root, unix_seconds, NULL, &out, err);
    json_decref(root);
    if (status) {
        buffer_finish(&out);
        return status;
    }
    *text = buffer_take(&out, text_size);
    return *text ? 0 : error_set(err, HEARTH_E_MEMORY, "no memory for the rendered text");
}

int hearth_stream_open(const struct hearth_model *model,
                       const struct hearth_stream_options *options, struct hearth_stream **out,
                       struct hearth_error *err)
{
    struct vocabulary vocabulary = vocabulary_of(model->model->tokenizer);
    return stream_open(&vocabulary, options, out, err);
}

int hearth_sampler_open(const struct hearth_model *model, const struct hearth_sampling *sampling,
                        struct hearth_sampler **out, struct hearth_error *err)
{
    struct vocabulary vocabulary = vocabulary_of(model->model->tokenizer);
    return sampler_open(&vocabulary, sampling, out, err);
}

/* ---- memory of this process ---- */

int hearth_process_memory(struct hearth_memory *out)
{
    struct os_memory memory;
    if (!os_process_memory(&memory))
        return HEARTH_E_UNSUPPORTED;
    *out = (struct hearth_memory){
        .private_bytes = memory.private_bytes,
        .mapped_bytes = memory.mapped_bytes,
        .peak_bytes = memory.peak_bytes,
    };
    return 0;
}

int hearth_process_peak_reset(void)
{
    return os_process_peak_reset() ? 0 : HEARTH_E_UNSUPPORTED;
}
