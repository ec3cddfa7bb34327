/* What `hearth run` shares between a single answer and a conversation. */
#ifndef CLI_RUN_H
#define CLI_RUN_H

#include <jansson.h>
#include <stdint.h>

#include "cli/answer.h"
#include "cli/client.h"
#include "cli/command.h"
#include "cli/dialogue.h"
#include "cli/state.h"

enum spec_type { SPEC_NGRAM, SPEC_NONE };

struct run_settings {
    const char *model, *prompt;
    uint32_t max_tokens, context, threads;
    struct load_settings load;
    int64_t seed; /* negative: a random one */
    const char *system;
    int kv_type, spec_type, mirostat; /* indices of their choices */
    const char *session;              /* the name of a conversation that is kept; may be NULL */
    struct state_settings state;
    uint64_t idle_ns;
    int overflow; /* enum hearth_overflow; negative: as the conversation has it */
    struct client_settings client;
    bool raw, no_store, no_daemon, json, verbose;
    struct text_list stop, logit_bias, dry_breakers;
    struct hearth_sampling sampling;
};

struct run {
    const struct run_settings *settings;
    struct loaded loaded;
    struct hearth_store *store; /* may be NULL */
    struct client *client;      /* NULL: works alone */
    struct dialogue *dialogue;
    struct hearth_sampling sampling; /* with the seed that was drawn, and the lists in it */
    struct hearth_logit_bias *bias;
    bool plain; /* no template: the model goes on with the text as it is */
};

/* Says on standard error, once, that a model without a template completes text. */
void run_say_plain(const struct run *run);
struct answer_options run_answer_options(const struct run *run);
/* What must be known of an answer besides its text, whether or not anybody asked. */
void run_say_ending(const struct run *run, const struct answer *answer);

/* {"role": role, "content": text}, with U+FFFD for bytes that are no UTF-8; NULL without memory. */
json_t *run_message(const char *role, struct text text);
/* Such a message at the end of a conversation. */
int run_append(struct dialogue *dialogue, const char *role, struct text text,
               struct hearth_error *err);
bool run_has_role(const json_t *message, const char *role);
/* The text of the system message that begins them; NULL where there is none. */
const char *run_system_text(const json_t *messages);
/* Puts such a message, and no other system message, at their beginning. */
void run_set_system(json_t *messages, const char *text);

/* A conversation on the terminal, until the user leaves. */
enum exit_code chat_run(struct run *run);

#endif
