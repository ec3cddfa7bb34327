#include "worker/visitors.h"

#include <string.h>

#include "base/memory.h"
#include "worker/alike.h"
#include "worker/worker.h"

/* A message as it is looked for: by checksums, so that the messages themselves lie in the
 * conversation alone. */
struct said {
    struct alike_sums sums; /* plain: of the text, both the same */
    size_t size;            /* plain: of the text */
};

struct saying {
    struct said *items;
    size_t count;
};

struct visitor {
    struct visitor *next; /* by use, the latest first */
    struct hearth_session *session;
    struct hearth_session_settings settings;
    struct saying saying;
    bool plain, busy;
};

struct visitors {
    struct hearth_sessions *sessions;
    bool plain_only;
    struct visitor *first;
    size_t count;
};

int visitors_open(struct hearth_sessions *sessions, bool plain_only, struct visitors **out,
                  struct hearth_error *err)
{
    struct visitors *visitors = MEM_NEW(struct visitors);
    if (!visitors)
        return error_set(err, HEARTH_E_MEMORY, "no memory for conversations");
    visitors->sessions = sessions;
    visitors->plain_only = plain_only;
    *out = visitors;
    return 0;
}

static void visitor_free(struct visitor *visitor)
{
    hearth_session_close(visitor->session);
    mem_free(visitor->saying.items);
    mem_free(visitor);
}

void visitors_close(struct visitors *visitors)
{
    if (!visitors)
        return;
    while (visitors->first) {
        struct visitor *first = visitors->first;
        visitors->first = first->next;
        visitor_free(first);
    }
    mem_free(visitors);
}

struct hearth_session *visitor_session(const struct visitor *visitor)
{
    return visitor->session;
}

static void unlink_visitor(struct visitors *visitors, struct visitor *visitor)
{
    struct visitor **at = &visitors->first;
    while (*at != visitor)
        at = &(*at)->next;
    *at = visitor->next;
    visitors->count--;
}

static void link_visitor(struct visitors *visitors, struct visitor *visitor)
{
    visitor->next = visitors->first;
    visitors->first = visitor;
    visitors->count++;
}

static void drop(struct visitors *visitors, struct visitor *visitor)
{
    unlink_visitor(visitors, visitor);
    visitor_free(visitor);
}

/* The least recently used ones go where there are too many; those that answer stay. */
static void limit(struct visitors *visitors)
{
    while (visitors->count > VISITORS_MAX) {
        struct visitor *last = NULL;
        for (struct visitor *v = visitors->first; v; v = v->next)
            last = v->busy ? last : v;
        if (!last)
            return;
        drop(visitors, last);
    }
}

/* ---- what was said ---- */

static struct text content_of(const json_t *message)
{
    const json_t *content = json_object_get(message, "content");
    return (struct text){json_string_value(content), json_string_length(content)};
}

static bool add_said(struct saying *saying, bool plain, const json_t *message)
{
    struct said said = {.size = content_of(message).size};
    struct said *items = mem_realloc_array(saying->items, saying->count + 1, sizeof *items);
    if (!items)
        return false;
    saying->items = items;
    if (plain) {
        sum_of(content_of(message).data, said.size, said.sums.whole);
        memcpy(said.sums.visible, said.sums.whole, SUM_BYTES);
    } else if (!alike_sums(message, &said.sums)) {
        return false;
    }
    saying->items[saying->count++] = said;
    return true;
}

static bool note_messages(struct saying *saying, bool plain, const json_t *messages)
{
    saying->count = 0;
    for (size_t i = 0; i < json_array_size(messages); i++) {
        if (!add_said(saying, plain, json_array_get(messages, i)))
            return false;
    }
    return true;
}

/* ---- plain texts: what is said has no bounds between messages ---- */

/* All texts together; fails where a message has none. */
static bool join(const json_t *messages, struct buffer *out)
{
    for (size_t i = 0; i < json_array_size(messages); i++) {
        const json_t *message = json_array_get(messages, i);
        if (!json_is_string(json_object_get(message, "content")))
            return false;
        buffer_append_text(out, content_of(message));
    }
    return !out->failed;
}

static size_t match_text(const struct saying *saying, struct text text)
{
    size_t n = 0;
    unsigned char sum[SUM_BYTES];
    for (; n < saying->count && saying->items[n].size <= text.size; n++) {
        const struct said *said = &saying->items[n];
        sum_of(text.data, said->size, sum);
        if (memcmp(sum, said->sums.whole, SUM_BYTES) != 0)
            break;
        text = (struct text){text.data + said->size, text.size - said->size};
    }
    return n;
}

/* As many of the held messages as the text really begins with, and one of what follows. */
static json_t *merge_text(const json_t *held, size_t count, struct text text)
{
    json_t *merged = json_array();
    bool good = merged != NULL;
    for (size_t i = 0; good && i < count; i++) {
        const json_t *message = json_array_get(held, i);
        struct text said = content_of(message);
        if (!text_starts_with(text, said))
            break;
        text = (struct text){text.data + said.size, text.size - said.size};
        good = json_array_append(merged, (json_t *)message) == 0;
    }
    if (good && (text.size > 0 || json_array_size(merged) == 0))
        good = json_array_append_new(merged, json_pack("{s:s, s:s%}", "role", "user", "content",
                                                       text.data, text.size)) == 0;
    if (good)
        return merged;
    json_decref(merged);
    return NULL;
}

/* ---- who it is ---- */

/* What comes, in the forms in which it is compared. */
struct arrival {
    const json_t *messages;
    struct hearth_session_settings settings;
    bool plain;
    struct buffer text;   /* plain */
    struct saying saying; /* else */
    size_t system;        /* messages of the system at the beginning */
};

static size_t count_system(const json_t *messages)
{
    size_t n = 0;
    for (; n < json_array_size(messages); n++) {
        const char *role = json_string_value(json_object_get(json_array_get(messages, n), "role"));
        if (!role || (strcmp(role, "system") != 0 && strcmp(role, "developer") != 0))
            break;
    }
    return n;
}

static size_t match(const struct visitor *visitor, const struct arrival *arrival)
{
    const struct saying *held = &visitor->saying, *sent = &arrival->saying;
    const struct hearth_session_settings *a = &visitor->settings, *b = &arrival->settings;
    size_t n = 0;
    if (visitor->busy || visitor->plain != arrival->plain || a->keep != b->keep ||
        a->overflow != b->overflow)
        return 0;
    if (arrival->plain)
        return match_text(held, buffer_text(&arrival->text));
    while (n < held->count && n < sent->count &&
           alike_by_sums(&held->items[n].sums, &sent->items[n].sums))
        n++;
    return n > arrival->system ? n : 0;
}

/* Whether it can go on with what it has, and nothing is lost but its last turn. */
static bool goes_on(const struct visitor *visitor, size_t matched)
{
    return matched + 2 >= visitor->saying.count;
}

/* The one that says the longest beginning, one that goes on before one that is forked; else the
 * latest. */
static struct visitor *find(const struct visitors *visitors, const struct arrival *arrival,
                            size_t *matched)
{
    struct visitor *best = NULL;
    *matched = 0;
    for (struct visitor *v = visitors->first; v; v = v->next) {
        size_t n = match(v, arrival);
        if (n > *matched || (n > 0 && n == *matched && goes_on(v, n) && !goes_on(best, n))) {
            best = v;
            *matched = n;
        }
    }
    return best;
}

/* One more; takes the handle over, also on failure. */
static int add(struct visitors *visitors, const struct arrival *arrival,
               struct hearth_session *session, struct visitor **out, struct hearth_error *err)
{
    struct visitor *visitor = MEM_NEW(struct visitor);
    if (!visitor) {
        hearth_session_close(session);
        return error_set(err, HEARTH_E_MEMORY, "no memory for a conversation");
    }
    visitor->session = session;
    visitor->settings = arrival->settings;
    visitor->plain = arrival->plain;
    link_visitor(visitors, visitor);
    *out = visitor;
    return 0;
}

static int open_new(struct visitors *visitors, const struct arrival *arrival, struct visitor **out,
                    struct hearth_error *err)
{
    struct hearth_session *session;
    int status = hearth_session_open(visitors->sessions, NULL, &session, err);
    if (status)
        return status;
    status = hearth_session_configure(session, &arrival->settings, err);
    if (status) {
        hearth_session_close(session);
        return status;
    }
    return add(visitors, arrival, session, out, err);
}

/* Who says it, and how many of its messages. */
static int choose(struct visitors *visitors, const struct arrival *arrival, struct visitor **out,
                  size_t *matched, struct hearth_error *err)
{
    struct visitor *best = find(visitors, arrival, matched);
    struct hearth_session *session;
    if (best && goes_on(best, *matched)) {
        unlink_visitor(visitors, best);
        link_visitor(visitors, best);
        *out = best;
        return 0;
    }
    if (best && !hearth_session_fork(best->session, *matched, NULL, &session, NULL))
        return add(visitors, arrival, session, out, err);
    *matched = 0;
    return open_new(visitors, arrival, out, err);
}

/* Gives it the messages that came, those that it holds as they are. */
static int say(struct visitor *visitor, const struct arrival *arrival, size_t matched,
               struct hearth_error *err)
{
    json_t *held = matched ? worker_messages(visitor->session, err) : json_array();
    if (!held)
        return matched ? err->code : error_set(err, HEARTH_E_MEMORY, "no memory for messages");
    json_t *merged;
    if (arrival->plain && arrival->text.data) {
        merged = merge_text(held, matched, buffer_text(&arrival->text));
    } else {
        size_t same = matched ? alike_count(held, arrival->messages) : 0;
        merged = alike_merge(held, same, arrival->messages);
    }
    json_decref(held);
    int status = merged ? worker_set_messages(visitor->session, merged, err)
                        : error_set(err, HEARTH_E_MEMORY, "no memory for messages");
    if (!status && !note_messages(&visitor->saying, arrival->plain, merged))
        status = error_set(err, HEARTH_E_MEMORY, "no memory for messages");
    json_decref(merged);
    return status;
}

/* A message that is no object is refused when it is said. */
static int look_at(struct arrival *arrival, const json_t *messages, struct hearth_error *err)
{
    arrival->messages = messages;
    arrival->system = count_system(messages);
    if (arrival->plain) {
        if (!join(messages, &arrival->text))
            buffer_finish(&arrival->text);
        return 0;
    }
    return note_messages(&arrival->saying, false, messages)
               ? 0
               : error_set(err, HEARTH_E_MEMORY, "no memory for messages");
}

int visitors_take(struct visitors *visitors, const struct hearth_session_settings *settings,
                  const json_t *messages, struct visitor **out, struct hearth_error *err)
{
    struct arrival arrival = {.settings = *settings};
    struct visitor *visitor = NULL;
    size_t matched;
    arrival.plain = settings->plain || visitors->plain_only;
    buffer_init(&arrival.text, WORK_PAYLOAD_MAX);
    int status = look_at(&arrival, messages, err);
    if (!status)
        status = choose(visitors, &arrival, &visitor, &matched, err);
    if (!status)
        status = say(visitor, &arrival, matched, err);
    buffer_finish(&arrival.text);
    mem_free(arrival.saying.items);
    if (status) {
        if (visitor)
            drop(visitors, visitor);
        return status;
    }
    visitor->busy = true;
    limit(visitors);
    *out = visitor;
    return 0;
}

void visitors_give(struct visitors *visitors, struct visitor *visitor, struct text answer)
{
    size_t count = hearth_session_count(visitor->session), known = visitor->saying.count;
    json_t *message = json_pack("{s:s, s:s%}", "role", "assistant", "content",
                                answer.data ? answer.data : "", answer.size);
    bool whole =
        message && (count == known ||
                    (count == known + 1 && add_said(&visitor->saying, visitor->plain, message)));
    json_decref(message);
    visitor->busy = false;
    if (!whole)
        drop(visitors, visitor); /* it would be taken for another one */
    else
        limit(visitors);
}
