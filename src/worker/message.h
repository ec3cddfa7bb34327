/* Messages between the daemon and a worker: a header of 24 bytes, then fields one behind the other,
 * all little-endian.
 *
 *   u32 magic   u16 version   u16 type   u32 bytes of the payload   u32 descriptors   u64 request
 *
 * Neither side trusts the other: every length is checked against what is there before it is used.
 */
#ifndef WORKER_MESSAGE_H
#define WORKER_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/text.h"

#define MESSAGE_MAGIC UINT32_C(0x676d7768) /* "hwmg" */
#define MESSAGE_VERSION 1
#define MESSAGE_HEADER_SIZE 24
#define MESSAGE_DESCRIPTORS_MAX 4

struct message {
    uint16_t type;
    uint64_t request; /* what the message is about; 0: the worker itself */
    struct text payload;
    uint32_t descriptor_count; /* that travel with it */
};

/* ---- writing ----
 * message_begin, then the fields, then message_end. What fails on the way shows at the end. */

size_t message_begin(struct buffer *out, uint16_t type, uint64_t request,
                     uint32_t descriptor_count);
void message_put_u32(struct buffer *out, uint32_t value);
void message_put_u64(struct buffer *out, uint64_t value);
void message_put_f64(struct buffer *out, double value);
void message_put_text(struct buffer *out, struct text text);
/* `begin` is what message_begin returned. False, with the message taken out again, where it is
 * larger than `payload_max` or there was no memory. */
bool message_end(struct buffer *out, size_t begin, size_t payload_max);

/* ---- reading ---- */

/* The message at the beginning of some bytes: its size, 0 where it is not yet complete, or an error
 * (FORMAT, UNSUPPORTED for another version, LIMIT), which is known as soon as its header is. */
ptrdiff_t message_decode(const void *bytes, size_t size, size_t payload_max, struct message *out,
                         struct hearth_error *err);

/* Takes field by field. Behind the end of the payload everything is 0 and the reader failed. */
struct message_reader {
    struct text rest;
    bool failed;
};

struct message_reader message_read(const struct message *message);
uint32_t message_get_u32(struct message_reader *reader);
uint64_t message_get_u64(struct message_reader *reader);
double message_get_f64(struct message_reader *reader);
struct text message_get_text(struct message_reader *reader); /* points into the payload */
/* A number of items of at least `item_size` bytes each that follow: no more than can be there. */
uint32_t message_get_count(struct message_reader *reader, size_t item_size);
/* Whether all was there, and nothing more. */
bool message_was_whole(const struct message_reader *reader);

#endif
