#include "base/arena.h"

#include "base/check.h"

enum { ARENA_ALIGN = 16 };

void arena_init(struct arena *arena, void *block, size_t size) {
    check(block != NULL);
    arena->_base = (uint8_t *)block;
    arena->_cap = size;
    arena->_used = 0;
    arena->full = false;
}

void *arena_take(struct arena *arena, size_t size) {
    check(arena->_used <= arena->_cap);
    size_t left = arena->_cap - arena->_used;
    if (arena->full || size > left || left - size < (size_t)ARENA_ALIGN - 1) {
        arena->full = true;
        return NULL;
    }
    void *at = arena->_base + arena->_used;
    arena->_used += (size + (ARENA_ALIGN - 1)) & ~(size_t)(ARENA_ALIGN - 1);
    return at;
}
