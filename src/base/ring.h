/*
 * Single-producer single-consumer ring of u64 messages between two threads.
 *
 * Capacity is a power of two given at creation. push returns false when full, pop false when empty;
 * neither blocks nor allocates. The release store of `tail` pairs with the acquire load in pop, that
 * of `head` with the acquire load in push.
 */
#ifndef BH_BASE_RING_H
#define BH_BASE_RING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ring {
    _Alignas(64) _Atomic uint64_t _head; /* consumer writes */
    _Alignas(64) _Atomic uint64_t _tail; /* producer writes */
    uint64_t *_slots;
    uint64_t _mask;
};

/* `slots` has `count` entries, a power of two, and outlives the ring. */
void ring_init(struct ring *ring, uint64_t *slots, size_t count);
bool ring_push(struct ring *ring, uint64_t message);
bool ring_pop(struct ring *ring, uint64_t *ret_message);
bool ring_is_empty(struct ring *ring);

#endif
