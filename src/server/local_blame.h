/* Whose fault crashes may be: conversations, or requests without one, that were running when a
 * worker crashed. Two crashes in a row set one aside. */
#ifndef SERVER_LOCAL_BLAME_H
#define SERVER_LOCAL_BLAME_H

#include <stdbool.h>
#include <stdint.h>

#include "base/sum.h"
#include "base/text.h"

#define LOCAL_BLAMED_MAX 128 /* the one that was blamed longest ago gives way */

struct local_suspect { /* what stands for a conversation, or for the very same request */
    unsigned char sum[SUM_BYTES];
};

struct local_blame { /* zeroed: nobody */
    struct {
        struct local_suspect suspect;
        unsigned crashes;
        uint64_t when;
    } entries[LOCAL_BLAMED_MAX];
    unsigned count;
    uint64_t crashes;
};

struct local_suspect local_suspect_of(struct text key);
void local_blame_crash(struct local_blame *blame, struct local_suspect suspect);
void local_blame_clear(struct local_blame *blame, struct local_suspect suspect);
bool local_blame_refuses(const struct local_blame *blame, struct local_suspect suspect);

#endif
