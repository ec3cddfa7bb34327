/* The prefix cache: a tree of token ids whose nodes hold the KV blocks of what was computed, so
 * that sequences with the same beginning (system prompts, forks, retries, edited histories) share
 * it.
 *
 * A node stands for up to 32 tokens, those of one block; only whole ones have children. Groups with
 * a window have blocks only near the places where a table was put in: these are the snapshots from
 * which a later sequence can start. What the tree holds and no table does is a cache, evicted by
 * least recent use.
 *
 * Not thread-safe: it belongs to the thread of its pool. */
#ifndef KV_PREFIX_H
#define KV_PREFIX_H

#include "kv/kv.h"

struct kv_prefix;

/* The pool must outlive it. NULL without memory. */
struct kv_prefix *kv_prefix_create(struct kv_pool *pool);
void kv_prefix_destroy(struct kv_prefix *prefix);

/* Puts in the `tokens` tokens that a table holds, whose ids are given. Ends early, without an
 * error, where memory ends: it is a cache. */
void kv_prefix_insert(struct kv_prefix *prefix, const uint32_t *ids, uint32_t tokens,
                      const struct kv_table *table);

/* The longest beginning of `ids` from which a sequence can go on: gives its blocks to an empty
 * table and returns its length in tokens, 0 where there is none (or no memory). */
uint32_t kv_prefix_match(struct kv_prefix *prefix, const uint32_t *ids, uint32_t count,
                         struct kv_table *table);

/* Of `ids` it has nodes for so many, with their blocks or without those of a window that has
 * passed. `bytes` (may be NULL) becomes what their blocks take. */
uint32_t kv_prefix_known(const struct kv_prefix *prefix, const uint32_t *ids, uint32_t count,
                         uint64_t *bytes);

/* Gives back what it holds for these ids and for no longer or other text, but for the blocks that
 * the first `kept` tokens lie in; returns how many bytes that freed. */
uint64_t kv_prefix_forget(struct kv_prefix *prefix, const uint32_t *ids, uint32_t kept,
                          uint32_t count);

/* Bytes of blocks that only the tree holds. */
uint64_t kv_prefix_bytes(const struct kv_prefix *prefix);
/* Gives back at least `bytes` of them, or all; returns how many. */
uint64_t kv_prefix_evict(struct kv_prefix *prefix, uint64_t bytes);

#endif
