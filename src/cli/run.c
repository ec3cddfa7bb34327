/* hearth run: one answer, or a conversation (chat.c). */

#include "cli/run.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/os.h"
#include "base/random.h"
#include "cli/client.h"
#include "cli/console.h"
#include "cli/interrupt.h"

#define INPUT_BYTES_MAX ((size_t)1 << 30)
#define IDLE_NS_DEFAULT (UINT64_C(300) * 1000000000)
#define PLAIN_TOKENS_DEFAULT                                                                       \
    256u /* a model that ends no turns would go on until its context is full */

/* ---- the prompt ---- */

json_t *run_message(const char *role, struct text text)
{
    struct buffer valid;
    buffer_init(&valid, 4 * INPUT_BYTES_MAX);
    json_t *message = NULL;
    if (buffer_append_valid_utf8(&valid, text))
        message = json_pack("{s:s, s:s#}", "role", role, "content", valid.data ? valid.data : "",
                            valid.size);
    buffer_finish(&valid);
    return message;
}

int run_append(struct dialogue *dialogue, const char *role, struct text text,
               struct hearth_error *err)
{
    json_t *message = run_message(role, text);
    int status = message ? dialogue->calls->append(dialogue, message, err)
                         : error_set(err, HEARTH_E_MEMORY, "no memory for a message");
    json_decref(message);
    return status;
}

bool run_has_role(const json_t *message, const char *role)
{
    const char *its = json_string_value(json_object_get(message, "role"));
    return its && strcmp(its, role) == 0;
}

const char *run_system_text(const json_t *messages)
{
    const json_t *first = json_array_get(messages, 0);
    return run_has_role(first, "system") ? json_string_value(json_object_get(first, "content"))
                                         : NULL;
}

void run_set_system(json_t *messages, const char *text)
{
    if (run_system_text(messages))
        json_array_remove(messages, 0);
    json_array_insert_new(messages, 0, run_message("system", text_of(text)));
}

/* The operand and what is piped in, an empty line between them where there is both. A final newline
 * of what is piped in is the shell's, not the user's. */
static int gather_prompt(const struct run_settings *settings, struct buffer *out,
                         struct hearth_error *err)
{
    struct buffer piped;
    int status = 0;
    buffer_init(&piped, INPUT_BYTES_MAX);
    if (!os_is_terminal(CONSOLE_STDIN))
        status = console_read_all(stdin, "standard input", &piped, err);
    if (piped.size > 0 && piped.data[piped.size - 1] == '\n')
        piped.size--;
    if (settings->prompt)
        buffer_append_text(out, text_of(settings->prompt));
    if (settings->prompt && piped.size > 0)
        buffer_append(out, "\n\n", 2);
    buffer_append_text(out, buffer_text(&piped));
    buffer_finish(&piped);
    if (!status && out->failed)
        status = error_set(err, HEARTH_E_LIMIT, "the prompt is too long for the memory");
    return status;
}

/* ---- one answer ---- */

struct answer_options run_answer_options(const struct run *run)
{
    const struct run_settings *settings = run->settings;
    uint32_t max_tokens = settings->max_tokens;
    return (struct answer_options){
        .sampling = &run->sampling,
        .stop = settings->stop.items,
        .stop_count = settings->stop.count,
        .max_tokens = max_tokens || !run->plain ? max_tokens : PLAIN_TOKENS_DEFAULT,
        .speculate = settings->spec_type == SPEC_NGRAM,
        .quiet = settings->json,
    };
}

void run_say_plain(const struct run *run)
{
    if (run->settings->raw)
        return;
    console_say("%s: it goes on with the text as it is%s",
                run->loaded.info.has_template ? "this conversation was begun with --raw"
                                              : "this model has no chat template",
                run->settings->max_tokens ? "" : ", for at most 256 tokens (-n sets it)");
}

static json_t *ids_json(const uint32_t *ids, size_t count)
{
    json_t *array = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(array, json_integer((json_int_t)ids[i]));
    return array;
}

static enum exit_code print_answer(const struct run *run, const struct answer *answer)
{
    const struct hearth_result *result = &answer->result;
    if (run->settings->json)
        return console_json(json_pack(
            "{s:s%, s:s, s:o, s:o, s:s, s:I, s:I, s:o, s:o}", "text",
            result->text ? result->text : "", result->text_size, "stop",
            answer_stop_name(result->stop), "prompt_ids",
            ids_json(result->ids, result->prompt_tokens), "ids",
            ids_json(result->ids + result->prompt_tokens, result->answer_tokens), "miss",
            answer_miss_name(result->miss), "dropped_messages",
            (json_int_t)result->dropped_messages, "seed", (json_int_t)run->sampling.seed, "timings",
            answer_timings_json(answer, &run->loaded), "memory", load_memory_json(&run->loaded)));
    if (result->text_size == 0 || result->text[result->text_size - 1] != '\n')
        putchar('\n');
    return console_finish();
}

void run_say_ending(const struct run *run, const struct answer *answer)
{
    const struct hearth_result *result = &answer->result;
    struct hearth_error err = {0};
    if (result->dropped_messages > 0)
        console_say("the oldest %zu messages were left out, the context holds %u tokens",
                    result->dropped_messages, run->dialogue->context);
    answer_say_loss(answer);
    if (result->unsaved && run->dialogue->calls->save(run->dialogue, &err))
        console_say("the conversation could not be written to the store: %s", err.text);
    if (run->settings->verbose)
        run->dialogue->calls->say_timings(run->dialogue, answer);
}

static enum exit_code end_once(const struct run *run, const struct answer *answer)
{
    const struct hearth_result *result = &answer->result;
    enum exit_code code = print_answer(run, answer);
    run_say_ending(run, answer);
    bool full = result->stop == HEARTH_STOP_ERROR || result->stop == HEARTH_STOP_CONTEXT;
    if (full)
        console_say("%s; -c makes it larger", result->error.text);
    if (code != EXIT_CODE_OK)
        return code;
    return result->stop == HEARTH_STOP_ERROR       ? EXIT_CODE_ERROR
           : result->stop == HEARTH_STOP_CANCELLED ? interrupt_code()
                                                   : EXIT_CODE_OK;
}

/* A prompt without an answer would be in the way of the next one: it goes. */
static enum exit_code run_once(struct run *run)
{
    struct hearth_error err = {0};
    struct buffer prompt;
    struct answer answer = {0};
    struct dialogue *dialogue = run->dialogue;
    size_t before = dialogue->calls->count(dialogue);
    buffer_init(&prompt, 2 * INPUT_BYTES_MAX);
    int status = gather_prompt(run->settings, &prompt, &err);
    if (!status && prompt.size == 0)
        status =
            error_set(&err, HEARTH_E_ARGUMENT, "the prompt is empty: there is nothing to answer");
    if (!status)
        status = run_append(dialogue, "user", buffer_text(&prompt), &err);
    struct answer_options options = run_answer_options(run);
    if (!status)
        status = dialogue->calls->answer(dialogue, &options, &answer, &err);
    bool cancelled = !status && answer.result.stop == HEARTH_STOP_CANCELLED;
    if (status || (cancelled && answer.result.text_size == 0))
        dialogue->calls->truncate(dialogue, before, NULL);
    enum exit_code code = status ? console_fail(&err) : end_once(run, &answer);
    answer_finish(&answer);
    buffer_finish(&prompt);
    return code;
}

/* ---- settings that need more than a table ---- */

/* "ID+BIAS" or "ID-BIAS", where BIAS may be inf. */
static int parse_bias(const char *text, struct hearth_logit_bias *out, struct hearth_error *err)
{
    char *sign, *end;
    unsigned long id = strtoul(text, &sign, 10);
    if (text[0] >= '0' && text[0] <= '9' && id < HEARTH_TOKEN_NONE &&
        (*sign == '+' || *sign == '-')) {
        double bias = strtod(sign, &end);
        if (end > sign + 1 && *end == '\0' && bias == bias) {
            *out = (struct hearth_logit_bias){(uint32_t)id, (float)bias};
            return 0;
        }
    }
    return error_set(err, HEARTH_E_ARGUMENT,
                     "--logit-bias takes a token's id and a number, as in 42+1.5 or 42-inf, not "
                     "'%s'",
                     text);
}

static int prepare_sampling(struct run *run, struct hearth_error *err)
{
    const struct run_settings *settings = run->settings;
    struct hearth_sampling *sampling = &run->sampling;
    *sampling = settings->sampling;
    sampling->mirostat = settings->mirostat ? 2 : 0;
    /* Random enough for a seed that is told to the user: two clocks, mixed; 32 bits are easily
     * typed. */
    uint64_t moment = os_monotonic_ns() ^ (uint64_t)os_unix_seconds() << 32;
    sampling->seed =
        settings->seed >= 0 ? (uint64_t)settings->seed : random_splitmix(&moment) >> 32;
    if (settings->dry_breakers.count > 0) {
        bool none = strcmp(settings->dry_breakers.items[0], "none") == 0;
        sampling->dry_breakers = settings->dry_breakers.items;
        sampling->dry_breaker_count = none ? 0 : settings->dry_breakers.count;
    }
    run->bias = mem_zalloc_array(settings->logit_bias.count + 1, sizeof *run->bias);
    if (!run->bias)
        return error_set(err, HEARTH_E_MEMORY, "no memory for --logit-bias");
    for (size_t i = 0; i < settings->logit_bias.count; i++) {
        int status = parse_bias(settings->logit_bias.items[i], &run->bias[i], err);
        if (status)
            return status;
    }
    sampling->bias = run->bias;
    sampling->bias_count = settings->logit_bias.count;
    return 0;
}

static enum exit_code check_settings(const struct run_settings *settings, bool conversation)
{
    const char *cause = NULL;
    if (settings->raw && settings->system)
        cause = "--raw and --system exclude each other: without the template there is no system "
                "message";
    else if (settings->no_store && (settings->session || settings->state.store))
        cause = "--no-store excludes --session and --store";
    else if (conversation && settings->json)
        cause = "--json gives one answer: it needs a PROMPT, or a text piped in";
    for (size_t i = 0; i < settings->stop.count && !cause; i++)
        cause = settings->stop.items[i][0] == '\0' ? "--stop takes a text that is not empty" : NULL;
    if (!cause)
        return EXIT_CODE_OK;
    console_say("%s", cause);
    return EXIT_CODE_USAGE;
}

/* A conversation that has a name needs its store; one without goes on in memory alone. */
static int open_store(struct run *run, bool conversation, struct hearth_error *err)
{
    const struct run_settings *settings = run->settings;
    if (settings->no_store || !(settings->session || conversation))
        return 0;
    int status = state_open_store(&settings->state, &run->store, err);
    if (status && settings->session)
        return status;
    if (status)
        console_say("%s; the conversation goes on without the store", err->text);
    else if (err->text[0])
        console_say("%s", err->text);
    err->text[0] = '\0';
    return 0;
}

/* A text that got no answer, because the process ended before, would be in the way of the next. */
static int drop_unanswered(struct dialogue *dialogue, struct hearth_error *err)
{
    json_t *messages = dialogue->calls->messages(dialogue, err);
    size_t count = json_array_size(messages);
    if (!messages)
        return err->code;
    while (count > 0 && run_has_role(json_array_get(messages, count - 1), "user"))
        count--;
    bool unanswered = count < json_array_size(messages);
    json_decref(messages);
    if (!unanswered)
        return 0;
    console_say("the last text had no answer, it is dropped");
    return dialogue->calls->truncate(dialogue, count, err);
}

static int set_system(struct dialogue *dialogue, const char *text, struct hearth_error *err)
{
    json_t *messages = dialogue->calls->messages(dialogue, err);
    if (!messages)
        return err->code;
    const char *before = run_system_text(messages);
    int status = 0;
    if (!before || strcmp(before, text) != 0) {
        run_set_system(messages, text);
        status = dialogue->calls->set_messages(dialogue, messages, err);
    }
    json_decref(messages);
    return status;
}

/* What the command line says of a conversation that is open. */
static int begin_dialogue(struct run *run, struct hearth_error *err)
{
    const struct run_settings *settings = run->settings;
    if (run->plain && settings->system)
        return error_set(err, HEARTH_E_MISSING, "without a chat template --system cannot be used");
    int status = 0;
    if (settings->session && !run->plain)
        status = drop_unanswered(run->dialogue, err);
    if (!status && settings->system)
        status = set_system(run->dialogue, settings->system, err);
    return status;
}

static int open_local(struct run *run, struct hearth_error *err)
{
    const struct run_settings *settings = run->settings;
    struct dialogue_local_options options = {
        .loaded = &run->loaded,
        .store = run->store,
        .idle_ns = settings->idle_ns,
        .key = settings->session,
        .plain = settings->raw,
        .overflow = settings->overflow,
    };
    int status = dialogue_local_open(&options, &run->dialogue, &run->plain, err);
    return status ? status : begin_dialogue(run, err);
}

static int open_run(struct run *run, struct hearth_error *err)
{
    const struct run_settings *settings = run->settings;
    struct hearth_engine_options options = {
        .threads = settings->threads,
        .kv_type = (enum hearth_kv_type)settings->kv_type,
        .context = settings->context,
    };
    const struct load_source source = {.path = settings->model, .engine = &options};
    int status = load_model(&run->loaded, &source, &settings->load, err);
    if (status)
        return status;
    status = load_engine(&run->loaded, &options, err);
    if (!status)
        status = open_local(run, err);
    if (!status && settings->context > run->loaded.info.context_length)
        console_say("-c %u is more than the %u tokens that the model was trained for",
                    settings->context, run->loaded.info.context_length);
    if (!status && run->dialogue->context < settings->context)
        console_say("the memory has room for a context of %u tokens, not of %u",
                    run->dialogue->context, settings->context);
    return status;
}

/* What a daemon cannot be asked for, because it concerns the engine or this process. */
static bool works_alone(const struct run_settings *settings)
{
    const struct load_settings *load = &settings->load;
    return settings->no_daemon || settings->raw || settings->json || settings->no_store ||
           settings->state.store || settings->context || settings->threads || settings->kv_type ||
           settings->spec_type != SPEC_NGRAM || settings->logit_bias.count > 0 || load->no_mmap ||
           load->mlock || load->memory || load->fit || settings->overflow >= 0;
}

/* True where a daemon runs that knows the model: then it computes, and the conversation is with it.
 */
static bool open_remote(struct run *run, struct hearth_error *err)
{
    const struct run_settings *settings = run->settings;
    if (works_alone(settings) || client_open(&settings->client, &run->client, NULL))
        return false;
    client_on_interrupt(run->client, interrupt_came);
    char *model = dialogue_daemon_model(run->client, settings->model);
    struct dialogue_daemon_options options = {
        .client = run->client,
        .model = model,
        .key = settings->session,
        .has_store = client_keeps_conversations(run->client),
    };
    bool known = model != NULL;
    run->plain = known && dialogue_daemon_is_plain(run->client, model);
    if (known && settings->session && !options.has_store)
        error_set(err, HEARTH_E_STATE,
                  "the daemon keeps no conversations (it was started with --no-store): --no-daemon "
                  "does without it");
    else if (known && dialogue_daemon_open(&options, &run->dialogue, err) == 0)
        begin_dialogue(run, err);
    mem_free(model);
    return known;
}

static int open_alone(struct run *run, bool conversation, struct hearth_error *err)
{
    int status = open_store(run, conversation, err);
    return status ? status : open_run(run, err);
}

static enum exit_code run_run(const struct program *program, const void *given)
{
    struct run run = {.settings = given};
    struct hearth_error err = {0};
    bool conversation = !run.settings->prompt && os_is_terminal(CONSOLE_STDIN);
    (void)program;
    enum exit_code code = check_settings(run.settings, conversation);
    if (code != EXIT_CODE_OK)
        return code;
    int status = prepare_sampling(&run, &err);
    if (status) {
        console_say("%s", err.text);
        code = err.code == HEARTH_E_ARGUMENT ? EXIT_CODE_USAGE : EXIT_CODE_ERROR;
    } else {
        status = open_remote(&run, &err) ? err.code : open_alone(&run, conversation, &err);
        if (status)
            code = console_fail(&err);
    }
    if (!status) {
        if (run.plain)
            run_say_plain(&run);
        code = conversation ? chat_run(&run) : run_once(&run);
    }
    if (run.dialogue)
        run.dialogue->calls->close(run.dialogue);
    client_close(run.client);
    load_finish(&run.loaded);
    hearth_store_close(run.store);
    mem_free(run.bias);
    return code;
}

/* ---- the table ---- */

static void run_defaults(void *settings)
{
    struct run_settings *run = settings;
    hearth_sampling_default(&run->sampling);
    run->seed = -1;
    run->overflow = -1;
    run->idle_ns = IDLE_NS_DEFAULT;
}

static const char *const mirostat_versions[] = {"0", "2", NULL};

/* By enum spec_type; the first is the default. */
static const char *const spec_types[] = {"ngram", "none", NULL};

/* By enum hearth_overflow. */
static const char *const overflows[] = {"error", "stop", "drop", NULL};

#define AT(field) offsetof(struct run_settings, field)
#define SAMPLING(field) offsetof(struct run_settings, sampling.field)

static const struct option run_options[] = {
    {"max-tokens", 'n', OPTION_UINT, "N", 1, 2e9, NULL, AT(max_tokens), "Answer",
     "until the model ends it; 256 without a template",
     "End the answer after N tokens, if the model has not ended it before."},
    {"system", 's', OPTION_TEXT, "TEXT", 0, 0, NULL, AT(system), "Answer", NULL,
     "What the model is told of its task before the conversation begins (the system message)."},
    {"stop", '\0', OPTION_TEXTS, "TEXT", 0, 0, NULL, AT(stop), "Answer", NULL,
     "End the answer where it would say TEXT, which is not shown."},
    {"raw", '\0', OPTION_FLAG, NULL, 0, 0, NULL, AT(raw), "Answer", NULL,
     "Without the model's chat template: it goes on with the prompt as it is."},
    {"seed", '\0', OPTION_SEED, "N", 0, 9007199254740991.0, NULL, AT(seed), "Answer", "random",
     "Where the random numbers begin: the same seed, prompt and settings give the same answer."},

    {"session", '\0', OPTION_SESSION, "NAME", 0, 0, NULL, AT(session), "Conversation", NULL,
     "Go on with the conversation of this name, or begin it. It is kept until hearth sessions "
     "remove "
     "NAME: what was said, and what was computed of it."},
    {"no-daemon", '\0', OPTION_FLAG, NULL, 0, 0, NULL, AT(no_daemon), "Conversation", NULL,
     "Compute here, also where a daemon (hearth serve) runs that knows the model. --json, --raw "
     "and "
     "all settings of the engine and of the store do so as well."},
    CLIENT_SOCKET_OPTION(AT(client)),
    STATE_OPTION(AT(state)),
    {"no-store", '\0', OPTION_FLAG, NULL, 0, 0, NULL, AT(no_store), "Conversation", NULL,
     "Write nothing of a conversation to the disk: when it was idle, all of it is computed again."},
    {"idle", '\0', OPTION_DURATION, "TIME", 0, 0, NULL, AT(idle_ns), "Conversation", NULL,
     "When a conversation was not used for so long (500ms, 90s, 5m, 1.5h; 0: at once; or never), "
     "its "
     "memory is given back; it goes on from the disk."},
    {"overflow", '\0', OPTION_CHOICE, "HOW", 0, 0, overflows, AT(overflow), "Conversation",
     "error, or as the conversation was begun",
     "What happens when the context is full: an error, the end of the answer, or the oldest turns "
     "are left out of what the model sees, but not the system message."},

    {"temp", '\0', OPTION_REAL, "T", 0, 100, NULL, SAMPLING(temperature), "Sampling", NULL,
     "How bold the choice of words is. 0 always takes the most probable token."},
    {"top-k", '\0', OPTION_INT, "K", 0, 2147483647, NULL, SAMPLING(top_k), "Sampling", NULL,
     "Choose among the K most probable tokens; 0: among all."},
    {"top-p", '\0', OPTION_REAL, "P", 0, 1, NULL, SAMPLING(top_p), "Sampling", NULL,
     "Choose among the most probable tokens that have the probability P together; 1: off."},
    {"min-p", '\0', OPTION_REAL, "P", 0, 1, NULL, SAMPLING(min_p), "Sampling", NULL,
     "Drop tokens less probable than P times the most probable one; 0: off."},
    {"typical", '\0', OPTION_REAL, "P", 0, 1, NULL, SAMPLING(typical_p), "Sampling", NULL,
     "Locally typical sampling: prefer tokens that surprise as much as expected, up to the "
     "probability P together; 1: off."},
    {"top-n-sigma", '\0', OPTION_REAL, "N", -1, 1000, NULL, SAMPLING(top_n_sigma), "Sampling", NULL,
     "Drop tokens whose logit is more than N standard deviations below the highest; -1: off."},
    {"xtc-probability", '\0', OPTION_REAL, "P", 0, 1, NULL, SAMPLING(xtc_probability), "Sampling",
     NULL,
     "Exclude top choices: how often the most probable tokens but the last are dropped; 0: "
     "off."},
    {"xtc-threshold", '\0', OPTION_REAL, "P", 0, 1, NULL, SAMPLING(xtc_threshold), "Sampling", NULL,
     "Tokens of at least this probability are those that --xtc-probability drops."},
    {"mirostat", '\0', OPTION_CHOICE, "VERSION", 0, 0, mirostat_versions, AT(mirostat), "Sampling",
     NULL,
     "Hold the surprise of the text constant (Mirostat 2), in place of top-n-sigma, top-k, "
     "typical, top-p, min-p and XTC; 0: off."},
    {"mirostat-tau", '\0', OPTION_REAL, "T", 0, 100, NULL, SAMPLING(mirostat_tau), "Sampling", NULL,
     "The surprise in bits that Mirostat aims for."},
    {"mirostat-eta", '\0', OPTION_REAL, "E", 0, 1, NULL, SAMPLING(mirostat_eta), "Sampling", NULL,
     "How fast Mirostat learns."},
    {"min-keep", '\0', OPTION_UINT, "N", 0, 1e9, NULL, SAMPLING(min_keep), "Sampling", NULL,
     "Tokens that typical, top-p, min-p and XTC leave at least."},
    {"logit-bias", '\0', OPTION_TEXTS, "ID+BIAS", 0, 0, NULL, AT(logit_bias), "Sampling", NULL,
     "Make a token more (42+1.5) or less (42-1.5) probable; 42-inf forbids it."},

    {"repeat-penalty", '\0', OPTION_REAL, "X", 0.0001, 1000, NULL, SAMPLING(repeat_penalty),
     "Repetition", NULL, "Divide the logits of recent tokens by X; 1: off."},
    {"presence-penalty", '\0', OPTION_REAL, "X", -1000, 1000, NULL, SAMPLING(presence_penalty),
     "Repetition", NULL,
     "Take X from the logits of tokens that occur among the recent ones; 0: off."},
    {"frequency-penalty", '\0', OPTION_REAL, "X", -1000, 1000, NULL, SAMPLING(frequency_penalty),
     "Repetition", NULL,
     "Take X from a logit for each time that its token occurs among the recent "
     "ones; 0: off."},
    {"repeat-last-n", '\0', OPTION_INT, "N", -1, 2147483647, NULL, SAMPLING(penalty_last_n),
     "Repetition", NULL, "How many tokens count as recent for these penalties; 0: none, -1: all."},
    {"dry-multiplier", '\0', OPTION_REAL, "X", 0, 1000, NULL, SAMPLING(dry_multiplier),
     "Repetition", NULL, "Strength of the DRY penalty on repeated sequences; 0: off."},
    {"dry-base", '\0', OPTION_REAL, "X", 0, 1000, NULL, SAMPLING(dry_base), "Repetition", NULL,
     "DRY grows by this factor with each token of a repeated sequence."},
    {"dry-allowed-length", '\0', OPTION_INT, "N", 0, 2147483647, NULL, SAMPLING(dry_allowed_length),
     "Repetition", NULL, "Sequences up to this length may be repeated freely."},
    {"dry-penalty-last-n", '\0', OPTION_INT, "N", -1, 2147483647, NULL,
     SAMPLING(dry_penalty_last_n), "Repetition", NULL,
     "How many tokens back DRY looks; 0: none, -1: all."},
    {"dry-sequence-breaker", '\0', OPTION_TEXTS, "TEXT", 0, 0, NULL, AT(dry_breakers), "Repetition",
     "newline, colon, quote, asterisk",
     "A text that ends a sequence for DRY; 'none' for no such text."},

    {"context", 'c', OPTION_UINT, "N", 8, 16777216, NULL, AT(context), "Engine", "the model's own",
     "How many tokens the conversation may have. Memory is taken only for those that it has."},
    {"threads", 't', OPTION_UINT, "N", 1, 1024, NULL, AT(threads), "Engine",
     "as many as there are cores to use", "Compute with N threads."},
    {"kv", '\0', OPTION_CHOICE, "TYPE", 0, 0, load_kv_types, AT(kv_type), "Engine", NULL,
     "How the KV cache is stored. q8_0 takes about half of the memory of f16 and rounds a little; "
     "q4_0 takes a quarter and rounds more; q8_0:q4_0 stores keys as q8_0, values as q4_0."},
    LOAD_OPTIONS(AT(load)),

    {"spec-type", '\0', OPTION_CHOICE, "TYPE", 0, 0, spec_types, AT(spec_type), "Engine", NULL,
     "Speculative decoding: ngram computes guesses of the next tokens, taken from the text so far, "
     "together, where that pays; none computes one token at a time. The answer is the same."},

    {"json", '\0', OPTION_FLAG, NULL, 0, 0, NULL, AT(json), "Output", NULL,
     "Print one JSON object at the end: text, stop (end, length, stop_string, context or "
     "cancelled), prompt_ids, ids, miss (why not more was known), dropped_messages, seed, timings, "
     "memory."},
    {"verbose", 'v', OPTION_FLAG, NULL, 0, 0, NULL, AT(verbose), "Output", NULL,
     "Say times and memory on standard error after each answer."},
};

static const struct operand run_operands[] = {
    {"MODEL", OPERAND_MODEL, true, AT(model),
     "a GGUF file, of a split model the first part; or the name of a model that a daemon has",
     NULL},
    {"PROMPT", OPERAND_TEXT, false, AT(prompt),
     "what the model is asked; a text piped in is put behind it, after an empty line", NULL},
};

static const struct example run_examples[] = {
    {"hearth run MODEL.gguf", "A conversation; /help in it says what else it can do."},
    {"hearth run MODEL.gguf \"Why is the sky blue?\"", "One answer."},
    {"hearth run MODEL.gguf --session plans",
     "A conversation that is kept, and goes on where it was the next time."},
    {"git diff | hearth run MODEL.gguf \"Write a commit message for this:\"",
     "One answer to a prompt and a text."},
    {"hearth run MODEL.gguf --temp 0 -n 64 --json \"Name three rivers.\" | jq -r .text",
     "The same answer every time, for a script."},
    {"hearth run MODEL.gguf --raw \"Once upon a time\"", "Goes on with a text."},
};

const struct command command_run = {
    .name = "run",
    .summary = "Answer a prompt, or hold a conversation",
    .description =
        "Answers PROMPT and leaves. Without a PROMPT, on a terminal, it holds a conversation, with "
        "line editing and a history. The answer is shown as it comes.\n\n"
        "With --session NAME a conversation is kept, and goes on where it was: the next prompt "
        "costs only its own tokens. hearth sessions lists, shows and removes them.\n\n"
        "Where a daemon (hearth serve) runs that has the model, it computes the answer and keeps "
        "the "
        "conversation: the model may be loaded already, and is shared with other programs.\n\n"
        "Ctrl-C stops the answer; a second one leaves. A text that is piped in belongs to the "
        "prompt and is read to its end before the answer begins; a program that leaves standard "
        "input open should give </dev/null.",
    .options = run_options,
    .option_count = sizeof run_options / sizeof run_options[0],
    .operands = run_operands,
    .operand_count = sizeof run_operands / sizeof run_operands[0],
    .examples = run_examples,
    .example_count = sizeof run_examples / sizeof run_examples[0],
    .settings_size = sizeof(struct run_settings),
    .defaults = run_defaults,
    .run = run_run,
};
