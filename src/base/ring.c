#include "base/ring.h"

#include "base/check.h"

void ring_init(struct ring *ring, uint64_t *slots, size_t count) {
    check(count != 0 && (count & (count - 1)) == 0);
    ring->_slots = slots;
    ring->_mask = count - 1;
    atomic_init(&ring->_head, 0);
    atomic_init(&ring->_tail, 0);
}

bool ring_push(struct ring *ring, uint64_t message) {
    uint64_t tail = atomic_load_explicit(&ring->_tail, memory_order_relaxed);
    uint64_t head = atomic_load_explicit(&ring->_head, memory_order_acquire);
    if (tail - head > ring->_mask) {
        return false;
    }
    ring->_slots[tail & ring->_mask] = message;
    atomic_store_explicit(&ring->_tail, tail + 1, memory_order_release);
    return true;
}

bool ring_pop(struct ring *ring, uint64_t *ret_message) {
    uint64_t head = atomic_load_explicit(&ring->_head, memory_order_relaxed);
    uint64_t tail = atomic_load_explicit(&ring->_tail, memory_order_acquire);
    if (head == tail) {
        return false;
    }
    *ret_message = ring->_slots[head & ring->_mask];
    atomic_store_explicit(&ring->_head, head + 1, memory_order_release);
    return true;
}

bool ring_is_empty(struct ring *ring) {
    return atomic_load_explicit(&ring->_head, memory_order_acquire) ==
           atomic_load_explicit(&ring->_tail, memory_order_acquire);
}
