/* A model's chat template: a pure interpreter of the Jinja that such templates use.
 *
 * What it gives is, byte for byte, what Python's jinja2 gives in the environment that Hugging
 * Face's apply_chat_template sets up (ImmutableSandboxedEnvironment, trim_blocks, lstrip_blocks,
 * loop controls, tojson without escaping, raise_exception, strftime_now, the generation tag).
 * There is no I/O and no reflection; steps, depth, memory and output are bounded, so that a
 * hostile template costs a bounded time and ends with one clear error.
 *
 * A parsed template is immutable and may be rendered from several threads at once. */
#ifndef MODEL_TEMPLATE_H
#define MODEL_TEMPLATE_H

#include <jansson.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/text.h"

struct chat_template;

/* Parses; `source` is copied. HEARTH_E_TEMPLATE with the line and what was found there;
 * HEARTH_E_LIMIT, HEARTH_E_MEMORY. */
int chat_template_parse(struct text source, struct chat_template **out, struct hearth_error *err);
void chat_template_free(struct chat_template *chat_template);
size_t chat_template_bytes(const struct chat_template *chat_template);

struct chat_template_limits {
    uint64_t steps;  /* copied and compared bytes; an evaluated node counts as 16 */
    uint64_t memory; /* bytes of values alive and dead in one rendering */
    uint64_t output; /* bytes */
    unsigned depth;  /* nesting of calls and values */
};
extern const struct chat_template_limits chat_template_default_limits;

/* Appends the rendering to `out`. `variables` is a JSON object, the template's global names
 * (messages, tools, add_generation_prompt, bos_token, …); it is not changed. `unix_seconds` is the
 * moment that strftime_now prints, in local time. `limits` NULL: the defaults. HEARTH_E_TEMPLATE
 * (an error that jinja2 would raise too, raise_exception's message included), HEARTH_E_LIMIT,
 * HEARTH_E_MEMORY; `out` is as it was on failure. */
int chat_template_render(const struct chat_template *chat_template, json_t *variables,
                         int64_t unix_seconds, const struct chat_template_limits *limits,
                         struct buffer *out, struct hearth_error *err);

#endif
