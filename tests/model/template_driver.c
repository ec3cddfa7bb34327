/* Renders templates for the scripts that compare with Python's jinja2: one JSON object per line on
 * standard input, {"template": …, "variables": …, "now": seconds}, one per line on standard output,
 * {"ok": text} or {"error": cause}. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "model/template.h"

static int render(const json_t *request, struct buffer *out, struct hearth_error *err)
{
    const json_t *source = json_object_get(request, "template");
    struct chat_template *chat_template;
    if (!json_is_string(source))
        return error_set(err, HEARTH_E_ARGUMENT, "no template");
    int status = chat_template_parse(
        (struct text){json_string_value(source), json_string_length(source)}, &chat_template, err);
    if (status < 0)
        return status;
    status =
        chat_template_render(chat_template, json_object_get(request, "variables"),
                             json_integer_value(json_object_get(request, "now")), NULL, out, err);
    chat_template_free(chat_template);
    return status;
}

static void answer(const char *line)
{
    struct hearth_error err = {0};
    struct buffer out;
    buffer_init(&out, (size_t)1 << 30);
    json_t *request = json_loads(line, JSON_ALLOW_NUL, NULL);
    int status = request ? render(request, &out, &err)
                         : error_set(&err, HEARTH_E_FORMAT, "the request is no JSON");
    json_t *result = status == 0 ? json_pack("{s:s%}", "ok", out.data ? out.data : "", out.size)
                                 : json_pack("{s:s,s:i}", "error", err.text, "code", status);
    json_dumpf(result, stdout, JSON_COMPACT);
    putchar('\n');
    fflush(stdout);
    json_decref(result);
    json_decref(request);
    buffer_finish(&out);
}

int main(void)
{
    size_t capacity = 0, size = 0;
    char *line = NULL;
    int byte;
    while ((byte = getchar()) != EOF) {
        if (size + 1 >= capacity) {
            capacity = capacity * 2 + 4096;
            line = mem_realloc_array(line, capacity, 1);
            if (!line)
                return EXIT_FAILURE;
        }
        if (byte == '\n') {
            line[size] = '\0';
            answer(line);
            size = 0;
        } else {
            line[size++] = (char)byte;
        }
    }
    mem_free(line);
    return EXIT_SUCCESS;
}
