#define _DEFAULT_SOURCE

#include "support/guarded.h"

#include <sys/mman.h>
#include <unistd.h>

bool guarded_alloc(struct guarded *out, size_t size)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t readable = (size + page - 1) / page * page;
    unsigned char *mapping =
        mmap(NULL, readable + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapping == MAP_FAILED)
        return false;
    if (mprotect(mapping + readable, page, PROT_NONE) != 0) {
        munmap(mapping, readable + page);
        return false;
    }
    *out = (struct guarded){mapping + readable - size, mapping, size, readable + page};
    return true;
}

void guarded_free(struct guarded *guarded)
{
    munmap(guarded->mapping, guarded->mapped);
    *guarded = (struct guarded){0};
}
