/* A store in memory, with files without names for spills, that does what a test says: refuses,
 * forgets, damages. */
#ifndef TESTS_SESSION_FAKE_STORE_H
#define TESTS_SESSION_FAKE_STORE_H

#include "session/store.h"

#define FAKE_ENTRIES 64

struct fake_entry {
    char key[300]; /* empty: none */
    struct buffer record;
    int fd; /* -1: no spill */
    struct store_spill spill;
};

struct fake_store {
    struct hearth_store base; /* first */
    struct fake_entry entries[FAKE_ENTRIES];
    struct hearth_store *store; /* itself */
    bool refuse_put, refuse_spill, lose_spill;
    bool forget_records; /* puts succeed and keep nothing */
    size_t puts, spills, opened, dropped;
};

void fake_store_init(struct fake_store *fake);
void fake_store_finish(struct fake_store *fake);
struct fake_entry *fake_store_find(struct fake_store *fake, const char *key); /* NULL: none */
/* The bytes of a spill (allocated), and others in their place; `sum`: with the sum that fits. */
unsigned char *fake_store_bytes(const struct fake_entry *entry);
void fake_store_replace(struct fake_entry *entry, const void *bytes, size_t size, bool sum);

#endif
