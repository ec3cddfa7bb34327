#include "worker/alike.h"

#include <stdlib.h>
#include <string.h>

#include "base/text.h"

#define SPACES " \t\r\n\v\f"

static struct text trim(struct text text)
{
    while (text.size > 0 && strchr(SPACES, text.data[text.size - 1]) && text.data[text.size - 1])
        text.size--;
    while (text.size > 0 && strchr(SPACES, *text.data) && *text.data) {
        text.data++;
        text.size--;
    }
    return text;
}

/* What an answer says behind what it thought. */
static struct text behind_reasoning(struct text text)
{
    static const struct text tag = {"</think>", 8};
    for (size_t at = text.size; at >= tag.size; at--) {
        if (memcmp(text.data + at - tag.size, tag.data, tag.size) == 0)
            return (struct text){text.data + at, text.size - at};
    }
    return text;
}

static bool is_reasoning(const char *key)
{
    return strcmp(key, "reasoning_content") == 0 || strcmp(key, "reasoning") == 0 ||
           strcmp(key, "thinking") == 0;
}

static bool says_nothing(const json_t *value)
{
    return json_is_null(value) || (json_is_array(value) && json_array_size(value) == 0) ||
           (json_is_string(value) && json_string_length(value) == 0);
}

/* What matters of a message, written in one way only; to be freed. */
static char *normal_form(const json_t *message, bool visible)
{
    const char *role = json_string_value(json_object_get(message, "role")), *key;
    bool answer = role && strcmp(role, "assistant") == 0;
    json_t *normal = json_object(), *value;
    bool good = normal != NULL;
    json_object_foreach((json_t *)message, key, value)
    {
        json_t *kept = json_incref(value);
        if (answer && strcmp(key, "content") == 0 && json_is_string(value)) {
            struct text text = {json_string_value(value), json_string_length(value)};
            text = trim(visible ? behind_reasoning(text) : text);
            json_decref(kept);
            kept = json_stringn(text.data, text.size);
        }
        if (says_nothing(kept) || (answer && is_reasoning(key)))
            json_decref(kept);
        else
            good = good && json_object_set_new(normal, key, kept) == 0;
    }
    char *text = good ? json_dumps(normal, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
    json_decref(normal);
    return text;
}

static bool same_form(const json_t *held, bool visible, const char *sent)
{
    char *form = normal_form(held, visible);
    bool same = form && sent && strcmp(form, sent) == 0;
    free(form);
    return same;
}

bool alike(const json_t *held, const json_t *sent)
{
    char *form = normal_form(sent, false);
    bool same = same_form(held, false, form) || same_form(held, true, form);
    free(form);
    return same;
}

size_t alike_count(const json_t *held, const json_t *sent)
{
    size_t n = 0;
    while (n < json_array_size(held) && n < json_array_size(sent) &&
           alike(json_array_get(held, n), json_array_get(sent, n)))
        n++;
    return n;
}

json_t *alike_merge(const json_t *held, size_t count, const json_t *sent)
{
    json_t *merged = json_array();
    bool good = merged != NULL;
    for (size_t i = 0; good && i < json_array_size(sent); i++)
        good = json_array_append(merged, json_array_get(i < count ? held : sent, i)) == 0;
    if (good)
        return merged;
    json_decref(merged);
    return NULL;
}

static bool sum_form(const json_t *message, bool visible, unsigned char out[SUM_BYTES])
{
    char *form = normal_form(message, visible);
    if (form)
        sum_of(form, strlen(form), out);
    free(form);
    return form != NULL;
}

bool alike_sums(const json_t *message, struct alike_sums *out)
{
    return sum_form(message, false, out->whole) && sum_form(message, true, out->visible);
}

bool alike_by_sums(const struct alike_sums *held, const struct alike_sums *sent)
{
    return memcmp(held->whole, sent->whole, SUM_BYTES) == 0 ||
           memcmp(held->visible, sent->whole, SUM_BYTES) == 0;
}
