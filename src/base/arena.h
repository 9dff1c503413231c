/*
 * Arena: memory for the life of one request or batch, reset and never freed piece by piece.
 *
 * The caller owns the block. Overflow is sticky: arena_take returns NULL from then on and `full` is
 * tested once at the stage border, where it becomes 413 or 503. Alignment is 16 bytes.
 * Owner only.
 */
#ifndef BH_BASE_ARENA_H
#define BH_BASE_ARENA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"

struct arena {
    uint8_t *_base;
    size_t _used;
    size_t _cap;
    bool full;
};

void arena_init(struct arena *arena, void *block, size_t size);
void arena_reset(struct arena *arena);
void *arena_take(struct arena *arena, size_t size);
/* A copy of the bytes in the arena, or SPAN_NONE when full. */
struct span arena_dup(struct arena *arena, struct span bytes);
/* A writer over all that is left; arena_keep then takes what it wrote. One at a time. */
struct buf arena_open(struct arena *arena);
struct span arena_keep(struct arena *arena, const struct buf *b);

#endif
