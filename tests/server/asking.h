/* Requests with JSON to a served daemon, and their answers as JSON; each on a connection of its
 * own. What is not as expected fails the test. */
#ifndef TESTS_ASKING_H
#define TESTS_ASKING_H

#include <jansson.h>

#include "raw_http.h"

/* Sends a request and checks the status; the body may be NULL. The answer is the caller's. */
void ask_raw(const struct served *served, const char *method, const char *path, const char *body,
             int status, struct answer *answer);
/* The same where the answer is JSON: the caller's. */
json_t *ask_json(const struct served *served, const char *method, const char *path,
                 const char *body, int status);
/* Where it is an error: that its sentence has these words. */
void ask_refused(const struct served *served, const char *method, const char *path,
                 const char *body, int status, const char *words);
/* Where it is a stream of events: an array of {"event": …, "data": …}; data that is no JSON is a
 * text. */
json_t *ask_events(const struct served *served, const char *method, const char *path,
                   const char *body);

/* Waits until these bytes have come on a connection, however slow the machine is; fails the test
 * when they do not. */
void hear_until(int fd, const char *bytes);

/* A member by its path, "a.0.b"; fails where it is not there. */
json_t *at(const json_t *json, const char *path);
const char *text_at(const json_t *json, const char *path);
json_int_t number_at(const json_t *json, const char *path);

#endif
