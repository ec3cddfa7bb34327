/* Drafts from the text itself. Of each text so far there are tables that say, for its runs of 2, 3,
 * 5 and 8 tokens, where the token behind the last such run stands: one entry a slot, the newest
 * wins. The longest run that the text ends in is looked up; what stood behind it is the guess.
 *
 * Costs are counted in steps of one row. A further row costs `row_cost`; a guess that was right
 * saves a whole step. So a guess is worth its row while the probability that it and all before it
 * are right is above the row's cost. How often guesses were right is counted by the length of the
 * run that they were found by, also for guesses that were not worth a row: to learn costs nothing.
 *
 * Whatever the text does, the loss is bounded: wasted rows are paid from a balance that grows by a
 * fixed share of each token, and by what right guesses saved, up to a limit. */
#include <assert.h>

#include "base/error.h"
#include "base/memory.h"
#include "hearth/hearth.h"

#define GUESSES_DEFAULT 7
#define GUESSES_MAX 31
#define RUN_MAX 32 /* tokens of a run that are compared */

#define TOKENS_MIN 1024 /* remembered, at first and at most; powers of two */
#define TOKENS_MAX 65536

#define STEP_SHARE 0.01 /* steps that may be lost with each: half of what is promised */
#define BALANCE_FIRST 0.5
#define BALANCE_MAX 1.5

/* Measured, a further row costs 0.08 to 0.3 steps. A cost taken for smaller than it is would break
 * the bound, so small ones are not believed. */
#define ROW_COST_FIRST 0.2
#define ROW_COST_MIN 0.06
#define ROW_COST_MAX 1.5
#define LEARNING_RATE 0.125
#define FORGETTING_RATE                                                                            \
    0.002 /* of a high cost, with each step of one row, so that it is tried again */

/* The runs that are looked up, by length. */
static const uint32_t run_lengths[] = {2, 3, 5, 8};
#define RUNS (sizeof run_lengths / sizeof run_lengths[0])

/* How often a guess was right, by the length of its run: up to `length`, and the first belief,
 * which counts like PRIOR_WEIGHT guesses. */
static const struct {
    uint32_t length;
    float belief;
} classes[] = {{2, 0.3f}, {3, 0.4f},  {4, 0.5f},   {6, 0.6f},
               {8, 0.7f}, {12, 0.8f}, {20, 0.85f}, {UINT32_MAX, 0.9f}};
#define CLASSES (sizeof classes / sizeof classes[0])
#define PRIOR_WEIGHT 3.0f
#define TRIES_MAX 40.0f /* then both counts are halved: the text changes */

struct rate {
    float tries, right;
};

struct hearth_draft {
    uint32_t guesses_max;
    bool fixed_cost;
    bool begun; /* there was a round without guesses, to compare others with */
    /* the text: a ring of the last `capacity` tokens; positions count on, modulo 2^32 */
    uint32_t *ids;
    uint32_t capacity;     /* a power of two */
    uint32_t count;        /* tokens so far: the position of the next */
    uint32_t held;         /* min(count, capacity) */
    uint32_t *places;      /* [run][2 capacity]: the position behind a run; 0: none */
    uint32_t hashes[RUNS]; /* of the runs that the text ends in */
    /* the last proposal; guesses beyond `drafted` are only watched */
    uint32_t guesses[GUESSES_MAX + 1];
    uint32_t guess_count, drafted, checked;
    uint32_t run; /* tokens that the text had in common with the place of the guess */
    bool open;    /* no guess was wrong so far */
    /* what was learned */
    struct rate rates[CLASSES];
    double row_cost, step_ns, balance;
    struct hearth_draft_counts counts;
};

/* ---- the text ---- */

static uint32_t id_at(const struct hearth_draft *draft, uint32_t position)
{
    return draft->ids[position & (draft->capacity - 1)];
}

static uint32_t *place_of(const struct hearth_draft *draft, size_t run)
{
    uint32_t slots = 2 * draft->capacity;
    uint32_t hash = draft->hashes[run];
    return &draft->places[run * slots + ((hash ^ hash >> 15) & (slots - 1))];
}

static void hash_runs(struct hearth_draft *draft)
{
    uint32_t hash = 0, length = 0;
    for (size_t run = 0; run < RUNS && run_lengths[run] <= draft->held; run++) {
        for (; length < run_lengths[run]; length++)
            hash = (hash ^ id_at(draft, draft->count - 1 - length)) * 0x9e3779b1u + length;
        draft->hashes[run] = hash;
    }
}

static void append(struct hearth_draft *draft, uint32_t id)
{
    for (size_t run = 0; run < RUNS && run_lengths[run] <= draft->held; run++)
        *place_of(draft, run) = draft->count;
    draft->ids[draft->count & (draft->capacity - 1)] = id;
    draft->count++;
    draft->held += draft->held < draft->capacity;
    hash_runs(draft);
}

static size_t places_bytes(uint32_t capacity)
{
    return RUNS * 2 * (size_t)capacity * sizeof(uint32_t);
}

static void release(struct hearth_draft *draft)
{
    mem_free(draft->ids);
    if (draft->places)
        mem_pages_free(draft->places, places_bytes(draft->capacity));
}

static int allocate(struct hearth_draft *draft, uint32_t capacity)
{
    uint32_t *ids = mem_alloc_array(capacity, sizeof *ids);
    uint32_t *places = ids ? mem_pages_alloc(places_bytes(capacity)) : NULL;
    if (!places) {
        mem_free(ids);
        return HEARTH_E_MEMORY;
    }
    draft->ids = ids;
    draft->places = places;
    draft->capacity = capacity;
    draft->count = draft->held = 0;
    return 0;
}

/* Without memory the oldest tokens are forgotten instead. */
static void grow(struct hearth_draft *draft)
{
    struct hearth_draft old = *draft;
    if (allocate(draft, 2 * old.capacity))
        return;
    for (uint32_t age = old.held; age > 0; age--)
        append(draft, id_at(&old, old.count - age));
    release(&old);
}

/* How many tokens before `place` are those that the text ends in. */
static uint32_t common_run(const struct hearth_draft *draft, uint32_t place)
{
    uint32_t age = draft->count - place, length = 0;
    if (age == 0 || age >= draft->held)
        return 0;
    uint32_t limit = draft->held - age < RUN_MAX ? draft->held - age : RUN_MAX;
    while (length < limit &&
           id_at(draft, place - 1 - length) == id_at(draft, draft->count - 1 - length))
        length++;
    return length;
}

/* The place of the longest run that is known, or 0. */
static uint32_t find_run(struct hearth_draft *draft)
{
    for (size_t run = RUNS; run-- > 0;) {
        if (run_lengths[run] > draft->held)
            continue;
        uint32_t place = *place_of(draft, run);
        uint32_t length = place ? common_run(draft, place) : 0;
        if (length >= run_lengths[run]) {
            draft->run = length;
            return place;
        }
    }
    return 0;
}

/* ---- what was learned ---- */

static struct rate *rate_of(struct hearth_draft *draft, uint32_t length, float *belief)
{
    size_t c = 0;
    while (length > classes[c].length)
        c++;
    *belief = classes[c].belief;
    return &draft->rates[c];
}

/* The probability that a guess is right which is found by a run of this length. */
static double probability(struct hearth_draft *draft, uint32_t length)
{
    float belief;
    const struct rate *rate = rate_of(draft, length, &belief);
    return (rate->right + PRIOR_WEIGHT * belief) / (rate->tries + PRIOR_WEIGHT);
}

static void learn(struct hearth_draft *draft, uint32_t length, bool right)
{
    float belief;
    struct rate *rate = rate_of(draft, length, &belief);
    rate->tries += 1.0f;
    rate->right += right ? 1.0f : 0.0f;
    if (rate->tries >= TRIES_MAX) {
        rate->tries /= 2.0f;
        rate->right /= 2.0f;
    }
}

static void pay(struct hearth_draft *draft, double steps)
{
    draft->balance += steps;
    if (draft->balance > BALANCE_MAX)
        draft->balance = BALANCE_MAX;
}

static uint32_t right_guesses(const struct hearth_draft *draft)
{
    return draft->checked < draft->drafted ? draft->checked : draft->drafted;
}

/* Ends a proposal: the rows behind the last right guess were wasted. */
static void settle(struct hearth_draft *draft)
{
    uint32_t right = right_guesses(draft), wasted = draft->drafted - right;
    draft->counts.drafted += draft->drafted;
    draft->counts.accepted += right;
    pay(draft, right * (1.0 - draft->row_cost) - wasted * draft->row_cost);
    draft->guess_count = draft->drafted = draft->checked = 0;
    draft->open = false;
}

/* ---- the interface ---- */

int hearth_draft_open(const struct hearth_draft_options *options, struct hearth_draft **out,
                      struct hearth_error *err)
{
    static const struct hearth_draft_options defaults = {0};
    options = options ? options : &defaults;
    if (options->guesses_max > GUESSES_MAX)
        return error_set(err, HEARTH_E_ARGUMENT, "guesses_max is %u, at most %d are made at once",
                         options->guesses_max, GUESSES_MAX);
    if (!(options->row_cost >= 0.0f && options->row_cost <= 1.0f))
        return error_set(err, HEARTH_E_ARGUMENT, "row_cost is %g; it must be from 0 to 1",
                         (double)options->row_cost);
    struct hearth_draft *draft = MEM_NEW(struct hearth_draft);
    if (!draft || allocate(draft, TOKENS_MIN)) {
        mem_free(draft);
        return error_set(err, HEARTH_E_MEMORY, "no memory for drafts");
    }
    draft->guesses_max = options->guesses_max ? options->guesses_max : GUESSES_DEFAULT;
    draft->fixed_cost = options->row_cost > 0.0f;
    draft->row_cost = draft->fixed_cost ? (double)options->row_cost : ROW_COST_FIRST;
    draft->begun = draft->fixed_cost;
    draft->balance = BALANCE_FIRST;
    *out = draft;
    return 0;
}

void hearth_draft_close(struct hearth_draft *draft)
{
    if (!draft)
        return;
    release(draft);
    mem_free(draft);
}

void hearth_draft_restart(struct hearth_draft *draft)
{
    settle(draft);
    draft->count = draft->held = 0;
    mem_pages_discard(draft->places, places_bytes(draft->capacity));
}

void hearth_draft_accept(struct hearth_draft *draft, uint32_t id)
{
    if (draft->open) {
        bool right = draft->guesses[draft->checked] == id;
        learn(draft, draft->run + draft->checked, right);
        draft->checked += right;
        draft->open = right && draft->checked < draft->guess_count;
    }
    if (draft->held == draft->capacity && draft->capacity < TOKENS_MAX)
        grow(draft);
    append(draft, id);
}

size_t hearth_draft_propose(struct hearth_draft *draft, size_t max, uint32_t *ids)
{
    settle(draft);
    pay(draft, STEP_SHARE);
    if (!draft->begun)
        max = 0;
    draft->begun = true;
    uint32_t place = find_run(draft);
    if (!place)
        return 0;
    if (max > draft->guesses_max)
        max = draft->guesses_max;
    uint32_t period = draft->count - place;
    double together = 1.0;
    bool worth = true;
    for (uint32_t i = 0; i <= max; i++) {
        /* where the text ends it goes on as it did since the place: it repeats itself */
        draft->guesses[i] = i < period ? id_at(draft, place + i) : draft->guesses[i - period];
        together *= probability(draft, draft->run + i);
        worth = worth && i < max && together > draft->row_cost &&
                (i + 1) * draft->row_cost <= draft->balance;
        draft->guess_count++;
        if (!worth)
            break;
        ids[draft->drafted++] = draft->guesses[i];
    }
    draft->open = true;
    return draft->drafted;
}

void hearth_draft_took(struct hearth_draft *draft, size_t rows, uint64_t ns)
{
    double time = (double)ns;
    if (draft->fixed_cost || rows == 0 || ns == 0)
        return;
    if (rows == 1) {
        draft->step_ns += draft->step_ns > 0.0 ? (time - draft->step_ns) * LEARNING_RATE : time;
        if (draft->row_cost > ROW_COST_FIRST)
            draft->row_cost += (ROW_COST_FIRST - draft->row_cost) * FORGETTING_RATE;
    } else if (draft->step_ns > 0.0) {
        double cost = (time / draft->step_ns - 1.0) / (double)(rows - 1);
        cost = cost < ROW_COST_MIN ? ROW_COST_MIN : cost > ROW_COST_MAX ? ROW_COST_MAX : cost;
        draft->row_cost += (cost - draft->row_cost) * LEARNING_RATE;
    }
}

void hearth_draft_counts(const struct hearth_draft *draft, struct hearth_draft_counts *out)
{
    *out = draft->counts;
    out->drafted += draft->drafted;
    out->accepted += right_guesses(draft);
}
