/* A daemon for tests of dialects: the real HTTP layer, over fake models.
 *
 * Besides the dialects' own paths it has, without a key,
 *   GET /stats           numbers: "leases=0 waits=0 jobs=0 asks=0 abandoned=0 …"
 *   GET /last-ask?NAME   what the backend of that model was asked last, as JSON
 *   POST /break?NAME     ends what that model has at work, as when its worker dies
 *   POST /fail?n=N       the n-th allocation from here fails
 *   POST /keep?KEY       puts a conversation of two messages into the store
 *   POST /tell?TYPE      an event of that type
 *
 * A test makes a program of it, whose main calls fake_daemon_run with the routes it tests, and
 * starts that with raw_http.h's serve_with. Arguments: where to listen (tcp=127.0.0.1 or
 * unix=PATH), then stream_pause=BYTES, stream_resume=BYTES, ping_ms=N, key=KEY, store=DIR,
 * paths= (clients may name files by their path). */
#ifndef TESTS_FAKE_DAEMON_H
#define TESTS_FAKE_DAEMON_H

#include "server/daemon.h"

/* The status to exit with. */
int fake_daemon_run(int argc, char **argv, const struct http_routes *routes, size_t count);

#endif
