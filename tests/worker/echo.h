/* Reads a message by the function of its type and writes what was read. */
#ifndef TESTS_WORKER_ECHO_H
#define TESTS_WORKER_ECHO_H

#include "worker/protocol.h"

/* False where it is malformed. What is written is what was read: one text has one meaning. */
bool echo_message(const struct message *message, struct buffer *out);

#endif
