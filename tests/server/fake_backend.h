/* A backend that computes nothing: the request says what it answers.
 *
 * Where the content of the last message is a JSON object, it is a script:
 *   say             a text, of which each word is a token, or an array of tokens; "hello"
 *   queue_ms        until it begins
 *   prompt, cached  tokens of the prompt; 10, 0
 *   reads, read_ms  reports of reading the prompt, and the time before each; 0
 *   token_ms        before each token; 0: all come at once
 *   hold            "queue", "prompt" or "answer": there it stays for ever
 *   stop            "end", "length", "string", "context", "cancelled" or "error"
 *   code, cause     of the end; after all tokens
 *   miss            enum hearth_miss
 *   opens_reasoning
 *   refuse          a sentence: the ask itself fails with it, HEARTH_E_LIMIT
 * Any other content is said again, behind "You said: ". max_tokens cuts the answer
 * (HEARTH_STOP_LENGTH). The n-th token has the id n, counted from 1, and the logprob -n / 8; those
 * in its place have ids from 100 and logprobs below.
 *
 * Each input of an embedding gives {size of the text, its place, 0.25, -1}; one with the text
 * "fail" fails. A call replies {"name": …, "arguments": …}; one with an argument "fail" fails with
 * that sentence and HEARTH_E_STATE, one with an argument "hold" never replies; `release` of the
 * key "busy" fails with HEARTH_E_STATE, of the key "held" it never replies; `tokenize` has a token
 * for each byte, and `detokenize` takes them back. Conversations are remembered: `history` has the
 * messages of one that was asked, HEARTH_E_MISSING else, `sessions` all. */
#ifndef TESTS_FAKE_BACKEND_H
#define TESTS_FAKE_BACKEND_H

#include <jansson.h>

#include "server/backend.h"

struct event_base;

struct fake_backend_counts {
    unsigned asks, embeds, calls; /* that were begun */
    unsigned ended, abandoned;    /* jobs of all kinds */
    unsigned jobs;                /* that are at work */
    unsigned paused, resumed;
    unsigned said; /* tokens */
};

/* Ready at once. Counts are the caller's and outlive it. */
struct backend *fake_backend_create(struct event_base *base, struct fake_backend_counts *counts);
/* Ends what is at work with HEARTH_E_IO and this cause, as when a worker dies. */
void fake_backend_break(struct backend *backend, const char *cause);
/* What the last ask was, as JSON: {session, how, messages, variables, temperature, seed, …}. */
const json_t *fake_backend_last_ask(const struct backend *backend);

#endif
