#include "base/memory.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/os.h"

/* The only state of this layer: a test's countdown, of its own thread. */
static _Thread_local unsigned long fail_countdown;

void mem_fail_nth(unsigned long n)
{
    fail_countdown = n;
}

static bool made_to_fail(void)
{
    return fail_countdown != 0 && --fail_countdown == 0;
}

void *mem_alloc(size_t size)
{
    return made_to_fail() ? NULL : malloc(size ? size : 1);
}

void *mem_alloc_array(size_t count, size_t size)
{
    size_t total;
    return checked_mul_size(count, size, &total) ? mem_alloc(total) : NULL;
}

void *mem_zalloc_array(size_t count, size_t size)
{
    size_t total;
    if (made_to_fail() || !checked_mul_size(count, size, &total))
        return NULL;
    return calloc(total ? total : 1, 1);
}

void *mem_realloc_array(void *old, size_t count, size_t size)
{
    size_t total;
    if (made_to_fail() || !checked_mul_size(count, size, &total))
        return NULL;
    return realloc(old, total ? total : 1);
}

void mem_free(void *memory)
{
    free(memory);
}

char *mem_string(const char *string)
{
    size_t size = strlen(string) + 1;
    char *copy = mem_alloc(size);
    if (copy)
        memcpy(copy, string, size);
    return copy;
}

void *mem_pages_alloc(size_t size)
{
    return made_to_fail() ? NULL : os_pages_alloc(size ? size : 1);
}

void mem_pages_free(void *memory, size_t size)
{
    if (memory)
        os_pages_free(memory, size ? size : 1);
}

void mem_pages_discard(void *memory, size_t size)
{
    os_pages_discard(memory, size);
}
