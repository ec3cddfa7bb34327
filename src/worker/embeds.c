#include "worker/embeds.h"

#include <string.h>

#include "base/memory.h"

#define INPUTS_MAX 16384u

struct embedding;

/* One text that is being computed. */
struct embedding_part {
    struct embedding *embedding;
    unsigned place; /* among the job's requests */
    size_t input;
};

struct embedding {
    struct job job;
    struct worker *worker;
    json_t *inputs;
    bool background;
    size_t begun, ended;
    unsigned running;
    struct embedding_part parts[JOB_REQUESTS_MAX];
    float *rows; /* [inputs][dimensions] */
    size_t dimensions;
    uint64_t tokens;
    struct hearth_error error; /* the first; its code is 0 where all went well */
};

static void embedding_free(struct embedding *embedding)
{
    json_decref(embedding->inputs);
    mem_free(embedding->rows);
    mem_free(embedding);
}

static void fail(struct embedding *embedding, const struct hearth_error *error)
{
    if (embedding->error.code == 0)
        embedding->error = *error;
    jobs_cancel(&embedding->worker->jobs, embedding->job.number);
}

static void end(struct embedding *embedding)
{
    struct worker *worker = embedding->worker;
    const struct work_vectors vectors = {.count = (uint32_t)json_array_size(embedding->inputs),
                                         .dimensions = (uint32_t)embedding->dimensions,
                                         .tokens = embedding->tokens};
    uint64_t number = embedding->job.number;
    if (embedding->error.code)
        worker_reply_error(worker, number, &embedding->error);
    else
        worker_send(worker, work_put_vectors(&worker->message, number, &vectors, embedding->rows));
    jobs_remove(&worker->jobs, &embedding->job);
    embedding_free(embedding);
}

/* The first vector says how long all are. */
static int make_rows(struct embedding *embedding, size_t dimensions, struct hearth_error *err)
{
    size_t count = json_array_size(embedding->inputs);
    if (embedding->rows)
        return 0;
    if (dimensions == 0 || count > (WORK_PAYLOAD_MAX - 64) / sizeof(float) / dimensions)
        return error_set(err, HEARTH_E_LIMIT,
                         "%zu vectors of %zu numbers are too many for one request", count,
                         dimensions);
    embedding->rows = mem_zalloc_array(count * dimensions, sizeof *embedding->rows);
    embedding->dimensions = dimensions;
    return embedding->rows ? 0 : error_set(err, HEARTH_E_MEMORY, "no memory for vectors");
}

static void begin_more(struct embedding *embedding);

static void on_vector(void *context, const float *vector, size_t dimensions, size_t tokens,
                      const struct hearth_error *error)
{
    struct embedding_part *part = context;
    struct embedding *embedding = part->embedding;
    struct hearth_error err = {0};
    jobs_set_request(&embedding->worker->jobs, &embedding->job, part->place, NULL);
    embedding->running--;
    embedding->ended++;
    embedding->tokens += tokens;
    part->embedding = NULL;
    if (!vector)
        fail(embedding, error);
    else if (make_rows(embedding, dimensions, &err))
        fail(embedding, &err);
    else
        memcpy(embedding->rows + part->input * dimensions, vector, dimensions * sizeof *vector);
    begin_more(embedding);
}

static int begin_one(struct embedding *embedding, struct hearth_error *err)
{
    struct worker *worker = embedding->worker;
    const json_t *input = json_array_get(embedding->inputs, embedding->begun);
    struct hearth_request *request;
    unsigned place = 0;
    while (embedding->parts[place].embedding)
        place++;
    struct embedding_part *part = &embedding->parts[place];
    const struct hearth_embed embed = {
        .text = json_string_value(input),
        .size = json_string_length(input),
        .background = embedding->background,
        .on_end = on_vector,
        .context = part,
    };
    int status = hearth_sessions_embed(worker->sessions, &embed, &request, err);
    if (status)
        return status;
    *part = (struct embedding_part){embedding, place, embedding->begun};
    embedding->begun++;
    embedding->running++;
    jobs_set_request(&worker->jobs, &embedding->job, place, request);
    return 0;
}

/* A few at a time: others have their turns between them. Ends it where nothing is left. */
static void begin_more(struct embedding *embedding)
{
    struct hearth_error err;
    while (!embedding->error.code && embedding->running < JOB_REQUESTS_MAX &&
           embedding->begun < json_array_size(embedding->inputs)) {
        if (begin_one(embedding, &err))
            fail(embedding, &err);
    }
    if (embedding->running == 0)
        end(embedding);
}

static int read_inputs(struct embedding *embedding, struct text text, struct hearth_error *err)
{
    size_t i;
    const json_t *input;
    embedding->inputs = worker_parse(text, "inputs", err);
    if (!embedding->inputs)
        return HEARTH_E_FORMAT;
    if (!json_is_array(embedding->inputs) || json_array_size(embedding->inputs) > INPUTS_MAX)
        return error_set(err, HEARTH_E_FORMAT, "the inputs are an array of at most %u texts",
                         INPUTS_MAX);
    json_array_foreach(embedding->inputs, i, input)
    {
        if (!json_is_string(input))
            return error_set(err, HEARTH_E_FORMAT, "input %zu is no text", i);
    }
    return 0;
}

void embeds_start(struct worker *worker, const struct letter *letter)
{
    struct hearth_error err = {0};
    struct work_embed embed;
    struct embedding *embedding = MEM_NEW(struct embedding);
    int status = 0;
    if (!embedding)
        status = error_set(&err, HEARTH_E_MEMORY, "no memory for a request");
    else if (!work_get_embed(&letter->message, &embed))
        status = error_set(&err, HEARTH_E_FORMAT, "the request cannot be understood");
    else
        status = read_inputs(embedding, embed.inputs, &err);
    if (status) {
        worker_reply_error(worker, letter->message.request, &err);
        if (embedding)
            embedding_free(embedding);
        return;
    }
    embedding->worker = worker;
    embedding->job.number = letter->message.request;
    embedding->background = embed.background;
    if (!jobs_add(&worker->jobs, &embedding->job))
        worker_die("two requests of one number");
    begin_more(embedding);
}
