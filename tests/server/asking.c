#include "asking.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

void ask_raw(const struct served *served, const char *method, const char *path, const char *body,
             int status, struct answer *answer)
{
    char head[2048];
    size_t size = body ? strlen(body) : 0;
    int fd = dial(served);
    snprintf(head, sizeof head,
             "%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
             "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
             method, path, size);
    say(fd, head);
    if (size > 0)
        say_bytes(fd, body, size);
    hear(fd, false, answer);
    hang_up(&fd);
    if (answer->status != status)
        fail_msg("%s %s answered %d, not %d: %s", method, path, answer->status, status,
                 answer->body);
}

static json_t *json_of(const struct answer *answer, const char *path)
{
    json_error_t error;
    json_t *json = json_loadb(answer->body, answer->body_size, JSON_DECODE_ANY, &error);
    if (!json)
        fail_msg("%s answered no JSON (%s): %s", path, error.text, answer->body);
    return json;
}

json_t *ask_json(const struct served *served, const char *method, const char *path,
                 const char *body, int status)
{
    struct answer answer;
    ask_raw(served, method, path, body, status, &answer);
    assert_non_null(strstr(answer.head, "\r\nContent-Type: application/json\r\n"));
    json_t *json = json_of(&answer, path);
    answer_free(&answer);
    return json;
}

void ask_refused(const struct served *served, const char *method, const char *path,
                 const char *body, int status, const char *words)
{
    json_t *json = ask_json(served, method, path, body, status);
    const json_t *error = json_object_get(json, "error");
    const char *sentence =
        json_string_value(json_is_string(error) ? error : json_object_get(error, "message"));
    if (!sentence || !strstr(sentence, words))
        fail_msg("%s %s says \"%s\", not \"%s\"", method, path, sentence ? sentence : "(nothing)",
                 words);
    json_decref(json);
}

json_t *ask_events(const struct served *served, const char *method, const char *path,
                   const char *body)
{
    struct answer answer;
    json_t *events = json_array();
    char name[128] = "";
    ask_raw(served, method, path, body, 200, &answer);
    assert_non_null(strstr(answer.head, "\r\nContent-Type: text/event-stream\r\n"));
    for (char *line = strtok(answer.body, "\n"); line; line = strtok(NULL, "\n")) {
        if (strncmp(line, "event: ", 7) == 0)
            snprintf(name, sizeof name, "%s", line + 7);
        if (strncmp(line, "data: ", 6) != 0)
            continue;
        json_t *data = json_loads(line + 6, JSON_DECODE_ANY, NULL);
        if (!data)
            data = json_string(line + 6);
        json_array_append_new(events, json_pack("{s:s, s:o}", "event", name, "data", data));
        name[0] = '\0';
    }
    answer_free(&answer);
    return events;
}

void hear_until(int fd, const char *bytes)
{
    char heard[16384] = "";
    size_t size = 0;
    for (uint64_t end = now_ms() + 10000; now_ms() < end;) {
        if (size + 1024 > sizeof heard)
            break;
        size += hear_for(fd, 20, heard + size, sizeof heard - size);
        if (strstr(heard, bytes))
            return;
    }
    fail_msg("\"%s\" did not come, but: %s", bytes, heard);
}

json_t *at(const json_t *json, const char *path)
{
    char key[128];
    const json_t *value = json;
    for (const char *rest = path; *rest;) {
        size_t size = strcspn(rest, ".");
        snprintf(key, sizeof key, "%.*s", (int)size, rest);
        value = json_is_array(value) ? json_array_get(value, strtoul(key, NULL, 10))
                                     : json_object_get(value, key);
        rest += size + (rest[size] == '.');
    }
    if (!value) {
        char *whole = json_dumps(json, JSON_ENCODE_ANY);
        fail_msg("there is no %s in %s", path, whole ? whole : "(nothing)");
    }
    return (json_t *)(uintptr_t)value;
}

const char *text_at(const json_t *json, const char *path)
{
    const char *text = json_string_value(at(json, path));
    if (!text)
        fail_msg("%s is no text", path);
    return text;
}

json_int_t number_at(const json_t *json, const char *path)
{
    const json_t *number = at(json, path);
    if (!json_is_integer(number))
        fail_msg("%s is no whole number", path);
    return json_integer_value(number);
}
