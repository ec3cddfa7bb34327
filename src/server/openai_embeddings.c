/* POST /v1/embeddings. Numbers are written as they are read, because a thousand vectors as JSON
 * objects in memory would take more than the daemon is allowed. */
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "server/openai.h"

#define INPUTS_MAX 2048
#define BODY_MAX ((size_t)64 << 20)
#define MODEL_NAME_MAX 256

struct values {
    const json_t *input, *ttl; /* first, so that no flag has the offset 0 */
    struct text model;
    int encoding;
};
enum encoding { ENCODING_FLOAT, ENCODING_BASE64 };
static const char *const encodings[] = {"float", "base64", NULL};

#define AT(member) offsetof(struct values, member)
const struct field openai_embedding_fields[] = {
    {"input", FIELD_ANY, 0, 0, AT(input), 0, true, NULL,
     "A text, or an array of up to 2048 texts."},
    {"model", FIELD_TEXT, 0, 256, AT(model), 0, false, NULL,
     "Its name; none: the only one there is, or the only one that is loaded."},
    {"encoding_format", FIELD_CHOICE, 0, 0, AT(encoding), 0, false, encodings,
     "\"base64\": of little-endian floats of four bytes."},
    {"ttl", FIELD_ANY, 0, 0, AT(ttl), 0, false, NULL, OPENAI_TTL_HELP},
    {"dimensions", FIELD_REFUSED, 0, 0, 0, 0, false, NULL, "Not supported."},
    {"user", FIELD_IGNORED, 0, 0, 0, 0, false, NULL, "Accepted, of no meaning."},
};

struct embeddings {
    struct http_exchange *exchange;
    enum encoding encoding;
    char model[MODEL_NAME_MAX];
};

/* ---- vectors ---- */

static void write_floats(struct buffer *out, const float *row, uint32_t count)
{
    char number[32];
    buffer_append_char(out, '[');
    for (uint32_t i = 0; i < count; i++) {
        int size = snprintf(number, sizeof number, i ? ",%.9g" : "%.9g", (double)row[i]);
        buffer_append(out, number, (size_t)size);
    }
    buffer_append_char(out, ']');
}

static void write_base64(struct buffer *out, const unsigned char *bytes, size_t size)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    buffer_append_char(out, '"');
    for (size_t i = 0; i < size; i += 3) {
        size_t left = size - i;
        uint32_t group = (uint32_t)bytes[i] << 16 | (left > 1 ? (uint32_t)bytes[i + 1] << 8 : 0) |
                         (left > 2 ? bytes[i + 2] : 0);
        char four[4] = {digits[group >> 18], digits[group >> 12 & 63],
                        left > 1 ? digits[group >> 6 & 63] : '=',
                        left > 2 ? digits[group & 63] : '='};
        buffer_append(out, four, sizeof four);
    }
    buffer_append_char(out, '"');
}

/* `bytes` has room for a row of little-endian floats. */
static void write_row(struct buffer *out, enum encoding encoding, const float *row,
                      unsigned char *bytes, uint32_t count)
{
    if (encoding == ENCODING_FLOAT) {
        write_floats(out, row, count);
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &row[i], sizeof bits);
        for (unsigned byte = 0; byte < 4; byte++)
            bytes[4 * i + byte] = (unsigned char)(bits >> 8 * byte);
    }
    write_base64(out, bytes, 4 * (size_t)count);
}

static bool write_rows(struct buffer *out, const struct work_vectors *vectors,
                       struct message_reader *rows, enum encoding encoding)
{
    float *row = mem_alloc_array(vectors->dimensions, 2 * sizeof *row);
    bool read = row != NULL;
    for (uint32_t i = 0; read && i < vectors->count && !out->failed; i++) {
        read = work_vectors_row(rows, vectors->dimensions, row);
        buffer_format(out, "%s{\"object\":\"embedding\",\"index\":%u,\"embedding\":", i ? "," : "",
                      (unsigned)i);
        if (read)
            write_row(out, encoding, row, (unsigned char *)(row + vectors->dimensions),
                      vectors->dimensions);
        buffer_append_char(out, '}');
    }
    mem_free(row);
    return read && !out->failed;
}

/* ---- what is called back ---- */

static void respond(struct embeddings *embeddings, const struct work_vectors *vectors,
                    struct message_reader *rows)
{
    struct buffer body;
    buffer_init(&body, BODY_MAX);
    buffer_append_text(&body, TEXT("{\"object\":\"list\",\"data\":["));
    bool written = write_rows(&body, vectors, rows, embeddings->encoding);
    json_t *model = openai_text(text_of(embeddings->model));
    buffer_append_text(&body, TEXT("],\"model\":"));
    generation_write_json(&body, model);
    buffer_format(&body, ",\"usage\":{\"prompt_tokens\":%llu,\"total_tokens\":%llu}}",
                  (unsigned long long)vectors->tokens, (unsigned long long)vectors->tokens);
    if (written && !body.failed)
        http_respond_buffer(embeddings->exchange, 200, "application/json", &body);
    else
        http_respond_error(embeddings->exchange, 507,
                           "the vectors take too much memory: ask for fewer at once");
    json_decref(model);
    buffer_finish(&body);
}

static void on_vectors(void *context, const struct work_vectors *vectors,
                       struct message_reader *rows, uint64_t load_ns, uint64_t total_ns,
                       const struct refusal *error)
{
    struct embeddings *embeddings = context;
    (void)load_ns, (void)total_ns;
    if (error)
        dialect_refuse(embeddings->exchange, error);
    else
        respond(embeddings, vectors, rows);
    mem_free(embeddings);
}

static void on_gone(void *context)
{
    mem_free(context);
}

/* ---- the request ---- */

/* An array of texts, the caller's. */
static json_t *read_inputs(const json_t *input, struct refusal *refusal)
{
    json_t *inputs = json_is_array(input) ? json_incref((json_t *)(uintptr_t)input)
                                          : json_pack("[O]", (json_t *)(uintptr_t)input);
    size_t count = json_array_size(inputs);
    bool valid = count >= 1 && count <= INPUTS_MAX;
    for (size_t i = 0; valid && i < count; i++) {
        const json_t *item = json_array_get(inputs, i);
        valid = json_is_string(item) && json_string_length(item) > 0;
        if (json_is_number(item) || json_is_array(item)) {
            refuse(refusal, 400, "input", "input of token ids is not supported, only texts");
            json_decref(inputs);
            return NULL;
        }
    }
    if (valid)
        return inputs;
    json_decref(inputs);
    refuse(refusal, 400, "input", "input must be a text or an array of 1 to %d texts, none empty",
           INPUTS_MAX);
    return NULL;
}

static struct embeddings *create(struct http_exchange *exchange, struct model *model, int encoding)
{
    struct embeddings *embeddings = MEM_NEW(struct embeddings);
    struct model_info info;
    if (!embeddings)
        return NULL;
    embeddings->exchange = exchange;
    embeddings->encoding = (enum encoding)encoding;
    model_info(model, &info);
    snprintf(embeddings->model, sizeof embeddings->model, "%s", info.name);
    return embeddings;
}

static void start(struct daemon *daemon, struct http_exchange *exchange, struct model *model,
                  const json_t *object)
{
    struct values values = {.encoding = ENCODING_FLOAT};
    struct generation_embed embed = {.model = model, .on_vectors = on_vectors, .on_gone = on_gone};
    struct refusal refusal = {0};
    if (fields_read(object, openai_embedding_fields, OPENAI_EMBEDDING_FIELDS, &values, &refusal) ||
        openai_read_ttl(object, &embed.ttl_given, &embed.ttl_ns, &refusal) ||
        (embed.inputs = read_inputs(values.input, &refusal)) == NULL) {
        dialect_refuse(exchange, &refusal);
        return;
    }
    embed.context = create(exchange, model, values.encoding);
    if (embed.context) {
        generation_embed_start(daemon, exchange, &embed);
    } else {
        json_decref(embed.inputs);
        http_respond_error(exchange, 507, "no memory for the request");
    }
}

void openai_embeddings(void *context, struct http_exchange *exchange)
{
    struct daemon *daemon = context;
    struct refusal refusal = {0};
    struct model *model = NULL;
    json_t *object = fields_parse(http_exchange_request(exchange)->body, &refusal);
    if (object)
        model = generation_find_model(daemon, object, "model", &refusal);
    if (model)
        start(daemon, exchange, model, object);
    else
        dialect_refuse(exchange, &refusal);
    json_decref(object);
}
