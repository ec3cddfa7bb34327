/* What a step computes: a token, and maybe guesses, for each answer that runs, and rows of prompts.
 *
 * Prompts share the rows of a step alike: small ones are soon done, whatever came before them, and
 * those that arrive together end together, so that none of them is slowed down by the answer to
 * another. While answers run a step takes at most about twice as long as without prompts: they keep
 * half of their pace. What steps take is measured. Answers in the background hold nobody up. */
#ifndef SESSION_PLAN_H
#define SESSION_PLAN_H

#include <stddef.h>
#include <stdint.h>

struct hearth_sessions;

#define PACE_ANSWERS 16 /* more running answers count as so many */

struct pace {
    uint64_t step_ns[PACE_ANSWERS + 1]; /* a step of so many answers and nothing else; 0: unknown */
    uint64_t row_ns;                    /* a row of a prompt beside them; 0: unknown */
    unsigned mixed;                     /* steps with both since the last without prompts */
};

struct plan {
    size_t answering; /* answers that go on */
    size_t guesses;
    size_t prompt_rows;
};

/* Queues what the step shall compute; may end requests. */
struct plan plan_step(struct hearth_sessions *sessions);
/* The step is done. */
void plan_took(struct hearth_sessions *sessions, const struct plan *plan, uint64_t ns);

#endif
