/* Ollama's API: embeddings, /api/embed and what it was before, /api/embeddings. */

#include "server/ollama.h"

#include <math.h>
#include <stdlib.h>

#include "base/memory.h"

#define VECTORS_MAX ((size_t)256 << 20)
#define INPUTS_MAX 2048

struct fields {
    struct text model, prompt;
    const json_t *input, *options;
    bool truncate;
    int64_t dimensions;
};

#define AT(member) offsetof(struct fields, member)
const struct field ollama_embed_fields[] = {
    {"model", FIELD_TEXT, 0, 0, AT(model), 0, true, NULL, "The name of a model."},
    {"input", FIELD_ANY, 0, 0, AT(input), 0, false, NULL, "A text or several."},
    {"truncate", FIELD_BOOL, 0, 0, AT(truncate), 0, false, NULL,
     "Changes nothing: an input that is longer than the context is an error."},
    {"dimensions", FIELD_INT, 0, 1 << 20, AT(dimensions), 0, false, NULL,
     "Of the vectors, the first so many; 0: all."},
    {"options", FIELD_OBJECT, 0, 0, AT(options), 0, false, NULL, NULL},
    {"keep_alive", FIELD_IGNORED, 0, 0, 0, 0, false, NULL,
     "How long the model stays loaded: seconds, or a text like \"10m\"; negative: for good."},
};
const struct field ollama_embeddings_fields[] = {
    {"model", FIELD_TEXT, 0, 0, AT(model), 0, true, NULL, "The name of a model."},
    {"prompt", FIELD_TEXT, 0, 0, AT(prompt), 0, false, NULL, "The text."},
    {"options", FIELD_OBJECT, 0, 0, AT(options), 0, false, NULL, NULL},
    {"keep_alive", FIELD_IGNORED, 0, 0, 0, 0, false, NULL, NULL},
};

#define COUNT(table) (sizeof(table) / sizeof *(table))

struct embedding {
    struct http_exchange *exchange;
    struct model *model;
    json_t *object; /* the body */
    struct fields fields;
    bool one; /* /api/embeddings */
    bool ttl_given;
    uint64_t ttl_ns;
};

static void free_embedding(struct embedding *embedding)
{
    json_decref(embedding->object);
    mem_free(embedding);
}

/* ---- what is answered ---- */

/* The first `size` numbers as JSON, of length 1 again where they are not all. False where one is no
 * number. */
static bool put_vector(struct buffer *out, float *row, uint32_t size, bool cut)
{
    double sum = 0;
    for (uint32_t i = 0; i < size; i++)
        sum += (double)row[i] * (double)row[i];
    if (!isfinite(sum))
        return false;
    double scale = cut && sum > 0 ? 1 / sqrt(sum) : 1;
    buffer_append_char(out, '[');
    for (uint32_t i = 0; i < size; i++)
        buffer_format(out, "%s%.9g", i ? "," : "", (double)row[i] * scale);
    return buffer_append_char(out, ']');
}

static bool put_vectors(const struct embedding *embedding, const struct work_vectors *vectors,
                        struct message_reader *rows, struct buffer *out)
{
    uint32_t size = vectors->dimensions;
    bool cut = embedding->fields.dimensions > 0 && embedding->fields.dimensions < size;
    float *row = mem_alloc_array(size, sizeof *row);
    bool fine = row != NULL;
    if (cut)
        size = (uint32_t)embedding->fields.dimensions;
    for (uint32_t i = 0; fine && i < vectors->count; i++) {
        if (i > 0)
            buffer_append_char(out, ',');
        fine = work_vectors_row(rows, vectors->dimensions, row) && put_vector(out, row, size, cut);
    }
    mem_free(row);
    return fine;
}

static bool put_head(const struct embedding *embedding, struct buffer *out)
{
    json_t *name = json_object_get(embedding->object, "model");
    if (embedding->one)
        return buffer_append_text(out, TEXT("{\"embedding\":"));
    char *text = json_dumps(name, JSON_ENCODE_ANY);
    buffer_format(out, "{\"model\":%s,\"embeddings\":[", text ? text : "null");
    free(text);
    return !out->failed;
}

static void respond(struct embedding *embedding, const struct work_vectors *vectors,
                    struct message_reader *rows, uint64_t load_ns, uint64_t total_ns)
{
    struct buffer body;
    buffer_init(&body, VECTORS_MAX);
    bool fine = put_head(embedding, &body) && put_vectors(embedding, vectors, rows, &body);
    if (embedding->one)
        buffer_append_char(&body, '}');
    else
        buffer_format(
            &body, "],\"total_duration\":%llu,\"load_duration\":%llu,\"prompt_eval_count\":%llu}",
            (unsigned long long)total_ns, (unsigned long long)load_ns,
            (unsigned long long)vectors->tokens);
    if (!fine || body.failed)
        http_respond_error(embedding->exchange, 500, "the vectors could not be written");
    else
        http_respond_buffer(embedding->exchange, 200, "application/json", &body);
    buffer_finish(&body);
}

static void on_vectors(void *context, const struct work_vectors *vectors,
                       struct message_reader *rows, uint64_t load_ns, uint64_t total_ns,
                       const struct refusal *error)
{
    struct embedding *embedding = context;
    if (error)
        dialect_refuse(embedding->exchange, error);
    else
        respond(embedding, vectors, rows, load_ns, total_ns);
    free_embedding(embedding);
}

static void on_gone(void *context)
{
    free_embedding(context);
}

/* ---- what is asked ---- */

/* The inputs as an array of texts: one empty text, as no input, is none. NULL and a refusal. */
static json_t *inputs_of(const struct embedding *embedding, struct refusal *refusal)
{
    const struct fields *fields = &embedding->fields;
    struct text texts[INPUTS_MAX];
    uint32_t count = 0;
    if (embedding->one) {
        texts[0] = fields->prompt;
        count = 1;
    } else if (fields->input && !fields_texts(fields->input, texts, INPUTS_MAX, &count)) {
        refuse(refusal, 400, "input", "input must be a text or at most %d texts", INPUTS_MAX);
        return NULL;
    }
    if (count == 1 && texts[0].size == 0)
        count = 0;
    json_t *inputs = json_array();
    for (uint32_t i = 0; i < count; i++)
        json_array_append_new(inputs, json_stringn(texts[i].data, texts[i].size));
    if (json_array_size(inputs) < count || !inputs) {
        json_decref(inputs);
        refuse(refusal, 500, "", "no memory for the request");
        return NULL;
    }
    return inputs;
}

static void load_only(struct embedding *embedding)
{
    json_t *body = embedding->one
                       ? json_pack("{s:[]}", "embedding")
                       : json_pack("{s:O, s:[]}", "model",
                                   json_object_get(embedding->object, "model"), "embeddings");
    struct ollama_load load = {embedding->model, embedding->ttl_given, embedding->ttl_ns, body};
    ollama_load(embedding->exchange, &load);
    free_embedding(embedding);
}

static int read_body(struct embedding *embedding, json_t **inputs, struct refusal *refusal)
{
    const struct field *fields = embedding->one ? ollama_embeddings_fields : ollama_embed_fields;
    size_t count = embedding->one ? COUNT(ollama_embeddings_fields) : COUNT(ollama_embed_fields);
    if (ollama_read_keep_alive(embedding->object, &embedding->ttl_given, &embedding->ttl_ns,
                               refusal) ||
        fields_read(embedding->object, fields, count, &embedding->fields, refusal))
        return -1;
    *inputs = inputs_of(embedding, refusal);
    return *inputs ? 0 : -1;
}

static void embed(struct daemon *daemon, struct http_exchange *exchange, bool one)
{
    struct model *model = NULL;
    struct refusal refusal = {0};
    json_t *inputs = NULL, *object = ollama_parse(daemon, exchange, &model);
    struct embedding *embedding = object ? MEM_NEW(struct embedding) : NULL;
    if (!embedding) {
        if (object)
            http_respond_error(exchange, 500, "no memory for the request");
        json_decref(object);
        return;
    }
    *embedding =
        (struct embedding){.exchange = exchange, .model = model, .object = object, .one = one};
    if (read_body(embedding, &inputs, &refusal)) {
        dialect_refuse(exchange, &refusal);
        free_embedding(embedding);
    } else if (json_array_size(inputs) == 0) {
        json_decref(inputs);
        load_only(embedding);
    } else {
        struct generation_embed asked = {.model = model,
                                         .inputs = inputs,
                                         .ttl_given = embedding->ttl_given,
                                         .ttl_ns = embedding->ttl_ns,
                                         .on_vectors = on_vectors,
                                         .on_gone = on_gone,
                                         .context = embedding};
        generation_embed_start(daemon, exchange, &asked);
    }
}

void ollama_embed(void *context, struct http_exchange *exchange)
{
    embed(context, exchange, false);
}

void ollama_embeddings(void *context, struct http_exchange *exchange)
{
    embed(context, exchange, true);
}
