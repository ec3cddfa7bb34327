/* The file of upstreams: {"upstreams": [{"name", "url", "model", "key_file"}…]}. */
#include "server/upstream.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/os.h"
#include "base/utf8.h"
#include "server/fetch.h"

#define FILE_BYTES_MAX ((size_t)1 << 20)

static char *copy_text(const char *text)
{
    size_t size = strlen(text) + 1;
    char *copy = mem_alloc(size);
    return copy ? memcpy(copy, text, size) : NULL;
}

static void finish_entry(const struct upstream_entry *entry)
{
    const char *const texts[] = {entry->name, entry->url, entry->model, entry->key_file};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        mem_free((void *)(uintptr_t)texts[i]);
}

void upstream_list_finish(struct upstream_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        finish_entry(&list->items[i]);
    mem_free(list->items);
    *list = (struct upstream_list){NULL, 0};
}

static size_t place_of(const struct upstream_list *list, const char *name)
{
    size_t i = 0;
    while (i < list->count && strcmp(list->items[i].name, name) != 0)
        i++;
    return i;
}

static bool is_name(const char *name)
{
    size_t size = strlen(name);
    bool good = size > 0 && size <= UPSTREAM_NAME_MAX;
    for (size_t i = 0; good && i < size; i++)
        good = (unsigned char)name[i] > ' ' && name[i] != 0x7f;
    return good;
}

static int check_entry(const struct upstream_list *list, const struct upstream_entry *entry,
                       struct hearth_error *err)
{
    if (!is_name(entry->name))
        return error_set(err, HEARTH_E_ARGUMENT, "a name has 1 to %d bytes, and no spaces",
                         UPSTREAM_NAME_MAX);
    if (place_of(list, entry->name) < list->count)
        return error_set(err, HEARTH_E_STATE, "there is an upstream '%s' already", entry->name);
    if (list->count >= UPSTREAM_COUNT_MAX)
        return error_set(err, HEARTH_E_LIMIT, "there are %d upstreams already", UPSTREAM_COUNT_MAX);
    return fetch_check_url(entry->url, err);
}

int upstream_list_add(struct upstream_list *list, const struct upstream_entry *entry,
                      struct hearth_error *err)
{
    int status = check_entry(list, entry, err);
    if (status)
        return status;
    struct upstream_entry copy = {copy_text(entry->name), copy_text(entry->url),
                                  entry->model ? copy_text(entry->model) : NULL,
                                  entry->key_file ? copy_text(entry->key_file) : NULL};
    struct upstream_entry *items = NULL;
    if (copy.name && copy.url && (copy.model || !entry->model) &&
        (copy.key_file || !entry->key_file))
        items = mem_realloc_array(list->items, list->count + 1, sizeof *items);
    if (!items) {
        finish_entry(&copy);
        return error_set(err, HEARTH_E_MEMORY, "no memory for another server");
    }
    list->items = items;
    list->items[list->count++] = copy;
    return 0;
}

int upstream_list_remove(struct upstream_list *list, const char *name, struct hearth_error *err)
{
    size_t place = place_of(list, name);
    if (place == list->count)
        return error_set(err, HEARTH_E_MISSING, "there is no upstream '%s'", name);
    finish_entry(&list->items[place]);
    memmove(&list->items[place], &list->items[place + 1],
            (--list->count - place) * sizeof *list->items);
    return 0;
}

/* ---- the file ---- */

static int read_entry(struct upstream_list *list, const json_t *item, struct hearth_error *err)
{
    /* what is no text would otherwise be taken for what is not there */
    static const char *const names[] = {"name", "url", "model", "key_file"};
    const char *texts[4];
    for (size_t i = 0; i < 4; i++) {
        const json_t *value = json_object_get(item, names[i]);
        texts[i] = json_string_value(value);
        if (!texts[i] && (i < 2 || (value && !json_is_null(value))))
            return error_set(err, HEARTH_E_FORMAT, "\"%s\" of an upstream is no text", names[i]);
    }
    const struct upstream_entry entry = {texts[0], texts[1], texts[2], texts[3]};
    return upstream_list_add(list, &entry, err);
}

static int read_list(struct upstream_list *list, struct text text, struct hearth_error *err)
{
    json_error_t where;
    json_t *object =
        json_loadb(text.data ? text.data : "", text.size, JSON_REJECT_DUPLICATES, &where);
    const json_t *items = json_object_get(object, "upstreams"), *item;
    int status = 0;
    size_t i;
    if (!object)
        status = error_set(err, HEARTH_E_FORMAT, "line %d: %s", where.line, where.text);
    else if (!json_is_array(items))
        status = error_set(err, HEARTH_E_FORMAT, "there is no array \"upstreams\"");
    json_array_foreach(items, i, item)
    {
        if (!status)
            status = read_entry(list, item, err);
    }
    json_decref(object);
    return status;
}

int upstream_list_read(const char *path, struct upstream_list *out, struct hearth_error *err)
{
    struct upstream_list list = {NULL, 0};
    struct buffer text;
    buffer_init(&text, FILE_BYTES_MAX);
    int status = os_read_private_file(path, &text, err);
    if (status == HEARTH_E_MISSING)
        status = 0;
    else if (!status)
        status = read_list(&list, buffer_text(&text), err);
    buffer_finish(&text);
    if (status)
        upstream_list_finish(&list);
    else
        *out = list;
    return status;
}

int upstream_list_write(const char *path, const struct upstream_list *list,
                        struct hearth_error *err)
{
    json_t *items = json_array();
    for (size_t i = 0; i < list->count; i++) {
        const struct upstream_entry *entry = &list->items[i];
        json_array_append_new(items, json_pack("{s:s, s:s, s:s*, s:s*}", "name", entry->name, "url",
                                               entry->url, "model", entry->model, "key_file",
                                               entry->key_file));
    }
    json_t *object =
        json_array_size(items) == list->count ? json_pack("{s:O}", "upstreams", items) : NULL;
    char *text = object ? json_dumps(object, JSON_INDENT(2)) : NULL;
    int status = text ? os_write_private_file(path, text, strlen(text), err)
                      : error_set(err, HEARTH_E_MEMORY, "no memory for the list of upstreams");
    free(text);
    json_decref(object);
    json_decref(items);
    return status;
}
