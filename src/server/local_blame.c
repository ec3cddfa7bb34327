#include "server/local_blame.h"

#include <string.h>

#define CRASHES_MAX 2

struct local_suspect local_suspect_of(struct text key)
{
    struct local_suspect suspect;
    sum_of(key.data, key.size, suspect.sum);
    return suspect;
}

/* Its place, or `count`. */
static unsigned find(const struct local_blame *blame, const struct local_suspect *suspect)
{
    unsigned at = 0;
    while (at < blame->count &&
           memcmp(blame->entries[at].suspect.sum, suspect->sum, SUM_BYTES) != 0)
        at++;
    return at;
}

static unsigned oldest(const struct local_blame *blame)
{
    unsigned found = 0;
    for (unsigned i = 1; i < blame->count; i++) {
        if (blame->entries[i].when < blame->entries[found].when)
            found = i;
    }
    return found;
}

void local_blame_crash(struct local_blame *blame, struct local_suspect suspect)
{
    unsigned at = find(blame, &suspect);
    if (at == blame->count) {
        if (blame->count < LOCAL_BLAMED_MAX)
            blame->count++;
        else
            at = oldest(blame);
        blame->entries[at].suspect = suspect;
        blame->entries[at].crashes = 0;
    }
    blame->entries[at].crashes++;
    blame->entries[at].when = ++blame->crashes;
}

void local_blame_clear(struct local_blame *blame, struct local_suspect suspect)
{
    unsigned at = find(blame, &suspect);
    if (at < blame->count)
        blame->entries[at] = blame->entries[--blame->count];
}

bool local_blame_refuses(const struct local_blame *blame, struct local_suspect suspect)
{
    unsigned at = find(blame, &suspect);
    return at < blame->count && blame->entries[at].crashes >= CRASHES_MAX;
}
