#include "base/arena.h"

#include "base/check.h"

enum { ARENA_ALIGN = 16 };

void arena_init(struct arena *arena, void *block, size_t size) {
    check(block != NULL);
    arena->_base = (uint8_t *)block;
    arena->_cap = size;
    arena_reset(arena);
}

void arena_reset(struct arena *arena) {
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

struct span arena_dup(struct arena *arena, struct span bytes) {
    void *at = arena_take(arena, bytes.n);
    if (at == NULL) {
        return SPAN_NONE;
    }
    if (bytes.n != 0) {
        memcpy(at, bytes.p, bytes.n);
    }
    return span_of(at, bytes.n);
}

struct buf arena_open(struct arena *arena) {
    size_t left = arena->_cap - arena->_used;
    struct buf b = buf_of(arena->_base + arena->_used, left > ARENA_ALIGN ? left - ARENA_ALIGN : 0);
    b.full = arena->full;
    return b;
}

struct span arena_keep(struct arena *arena, const struct buf *b) {
    if (b->full) {
        arena->full = true;
        return SPAN_NONE;
    }
    check(b->p == arena->_base + arena->_used);
    void *at = arena_take(arena, b->n);
    return at != NULL ? span_of(at, b->n) : SPAN_NONE;
}
