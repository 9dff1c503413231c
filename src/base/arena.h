/*
 * Arena: pieces of one block, which live and die together with it.
 *
 * The caller owns the block. Overflow is sticky: arena_take returns NULL from then on, and `full` is
 * set. Alignment is 16 bytes; the memory is as the block had it.
 * Owner only.
 */
#ifndef BH_BASE_ARENA_H
#define BH_BASE_ARENA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct arena {
    uint8_t *_base;
    size_t _used;
    size_t _cap;
    bool full;
};

void arena_init(struct arena *arena, void *block, size_t size);
void *arena_take(struct arena *arena, size_t size);

#endif
