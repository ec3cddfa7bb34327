/* Checksums that tell damage from what was written (no protection against an attacker): XXH3 with
 * 128 bits, in its canonical order of bytes. About as fast as memory is read. */
#ifndef BASE_SUM_H
#define BASE_SUM_H

#include <stdbool.h>
#include <stddef.h>

#define SUM_BYTES 16

struct sum;

struct sum *sum_create(void); /* NULL without memory */
void sum_destroy(struct sum *sum);
void sum_restart(struct sum *sum);
void sum_add(struct sum *sum, const void *data, size_t size);
/* Of all that was added; more may be added afterwards. */
void sum_get(const struct sum *sum, unsigned char out[SUM_BYTES]);

/* The same of bytes that lie together. */
void sum_of(const void *data, size_t size, unsigned char out[SUM_BYTES]);
/* As hexadecimal, NUL-terminated. */
void sum_to_text(const unsigned char sum[SUM_BYTES], char text[2 * SUM_BYTES + 1]);

#endif
