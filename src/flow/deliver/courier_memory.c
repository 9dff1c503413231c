/*
 * The shared pool of big buffers. Every courier maps buffers for whole windows; what is bounded here is how many may touch theirs at a time, for pages that
 * nobody touched, or that were given back, cost nothing. A courier without a permit works in small windows instead of waiting, so that vendors that hang
 * with a permit in hand starve nobody.
 */
#include "flow/deliver/deliver_int.h"

enum { PERMITS = 5 }; /* of items, plain and packed body, 3.2 MiB at most: 16 MiB */

static _Atomic int permits = PERMITS;

bool memory_permit_take(void) {
    /* A plain counter: what it guards is the kernel's memory, no data of ours. */
    if (atomic_fetch_sub_explicit(&permits, 1, memory_order_relaxed) > 0) {
        return true;
    }
    atomic_fetch_add_explicit(&permits, 1, memory_order_relaxed);
    return false;
}

void memory_permit_give(void) {
    atomic_fetch_add_explicit(&permits, 1, memory_order_relaxed);
}
