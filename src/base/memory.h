/* Memory: the one thin layer over malloc, so that a test can make the n-th allocation fail. */
#ifndef BASE_MEMORY_H
#define BASE_MEMORY_H

#include <stddef.h>

/* All return NULL when there is no memory (or the product overflows); count or size may be 0. */
void *mem_alloc(size_t size);
void *mem_alloc_array(size_t count, size_t size);
void *mem_zalloc_array(size_t count, size_t size); /* zeroed */
void *mem_realloc_array(void *old, size_t count, size_t size);
void mem_free(void *memory);          /* NULL is fine */
char *mem_string(const char *string); /* a copy */

/* A zeroed object of the pointer's type. */
#define MEM_NEW(type) ((type *)mem_zalloc_array(1, sizeof(type)))

/* Memory for vector kernels: zeroed, 64-byte aligned, from whole pages that the system commits when
 * they are first written and takes back when they are freed. `size` must be given again to free. */
void *mem_pages_alloc(size_t size);
void mem_pages_free(void *memory, size_t size);
/* Gives the pages that lie wholly inside back to the system; they read as zeros afterwards. */
void mem_pages_discard(void *memory, size_t size);

/* For tests: from now on the n-th allocation of this thread (1 = the next) fails, and all after
 * it succeed again; 0 switches it off. */
void mem_fail_nth(unsigned long n);

#endif
