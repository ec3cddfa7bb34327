/* Any bytes as a chat template: it renders or fails in words, within its limits. The variables are
 * those of a small conversation. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "model/template.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char variables_text[] =
    "{\"messages\": [{\"role\": \"system\", \"content\": \"Be brief.\"}, {\"role\": \"user\","
    " \"content\": \"H\\u00e9 {{ \\ud83d\\ude42\\n\"}, {\"role\": \"assistant\", \"content\": null,"
    " \"tool_calls\": [{\"function\": {\"name\": \"f\", \"arguments\": {\"a\": [1, 2.5, "
    "true]}}}]}],"
    " \"tools\": [{\"name\": \"f\", \"parameters\": {\"x\": {\"type\": \"string\"}}}], \"n\": 7,"
    " \"s\": \"Hello, World\", \"d\": {\"b\": 2, \"a\": 1}, \"numbers\": [3, 1, 2],"
    " \"add_generation_prompt\": true, \"bos_token\": \"<s>\", \"none_value\": null, \"f\": 2.5}";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct chat_template_limits limits = {
        .steps = 400000, .memory = 4 << 20, .output = 1 << 18, .depth = 100};
    struct chat_template *tpl;
    struct hearth_error err = {0};
    int status = chat_template_parse((struct text){(const char *)data, size}, &tpl, &err);
    if (status < 0) {
        if (err.code != status || err.text[0] == '\0')
            abort();
        return 0;
    }
    struct buffer out;
    json_t *variables = json_loads(variables_text, 0, NULL);
    buffer_init(&out, 1 << 19);
    err = (struct hearth_error){0};
    status = chat_template_render(tpl, variables, 1763900000, &limits, &out, &err);
    if (status < 0 ? err.code != status || err.text[0] == '\0' || out.size != 0
                   : out.size > limits.output)
        abort();
    buffer_finish(&out);
    json_decref(variables);
    chat_template_free(tpl);
    return 0;
}
