/* The upstreams of the list, each with its key, as the daemon has them. */
#include "server/upstream.h"

#include <string.h>

#include "base/os.h"
#include "server/log.h"
#include "server/models.h"

/* The first line of a file. */
static int read_key(const char *path, struct buffer *key, struct hearth_error *err)
{
    int status = os_read_private_file(path, key, err);
    if (status)
        return error_prefix(err, status, "the key");
    while (key->size > 0 && strchr(" \t\r\n", key->data[key->size - 1]))
        key->data[--key->size] = '\0';
    return key->size > 0 ? 0 : error_set(err, HEARTH_E_FORMAT, "the key: the file is empty");
}

static int load_entry(struct event_base *base, const struct upstream_entry *entry,
                      struct models *models, struct log *log, struct hearth_error *err)
{
    const struct backend_owner nobody = {0};
    struct backend *backend;
    struct buffer key;
    buffer_init(&key, UPSTREAM_KEY_MAX + 2);
    int status = entry->key_file ? read_key(entry->key_file, &key, err) : 0;
    const struct upstream_options options = {
        .name = entry->name, .url = entry->url, .model = entry->model, .key = key.data, .log = log};
    if (!status)
        status = upstream_create(base, &options, nobody, &backend, err);
    if (key.data)
        memset(key.data, 0, key.size);
    buffer_finish(&key);
    if (status)
        return status;
    status = models_add_upstream(models, entry->name, backend, err);
    if (status)
        backend->calls->destroy(backend);
    return status;
}

int upstreams_load(struct event_base *base, const char *path, struct models *models,
                   struct log *log, struct hearth_error *err)
{
    struct upstream_list list;
    int status = upstream_list_read(path, &list, err);
    if (status)
        return error_prefix(err, status, "the list of upstreams");
    for (size_t i = 0; i < list.count; i++) {
        struct hearth_error cause;
        char name[LOG_VALUE_SIZE], why[LOG_VALUE_SIZE];
        if (load_entry(base, &list.items[i], models, log, &cause))
            log_line(log, LOG_WARNING, 0, "upstream left out", "model=%s cause=%s",
                     log_value(name, text_of(list.items[i].name)),
                     log_value(why, text_of(cause.text)));
    }
    upstream_list_finish(&list);
    return 0;
}
