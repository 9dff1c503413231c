/*
 * Filter: what is surely in no run. Most events are new, and one look here spares them the runs.
 *
 *   2^17 blocks of 512 bits, a cache line each; 4 bits an entry, all in one block
 *
 * Bits are only ever set, so it must be made anew when much of what set them has left the store. Of
 * more entries than it is good for it says nothing, and every run is asked.
 */
#include <string.h>

#include "flow/resolve/repeat_int.h"

enum {
    WORDS = REPEAT_FILTER_SIZE / 8,
    BLOCK = 8, /* words */
    BITS = 4,
    MOST = 20000000, /* entries: 3.4 bits of memory each, one new key in five is perhaps known */
};

/* Tables are sorted by a key's high bits; its low ones choose here. */
static uint64_t *block_of(const struct repeat_filter *filter, uint64_t key) {
    return filter->bits + (key & (WORDS / BLOCK - 1)) * BLOCK;
}

static unsigned bit_of(uint64_t key, unsigned i) {
    return (unsigned)(key >> (20 + 9 * i)) & 511;
}

bool repeat_filter_has(const struct repeat_filter *filter, uint64_t key) {
    const uint64_t *block = block_of(filter, key);
    uint64_t found = 1;
    for (unsigned i = 0; i < BITS; i++) {
        unsigned bit = bit_of(key, i);
        found &= block[bit >> 6] >> (bit & 63);
    }
    return found != 0;
}

void repeat_filter_prefetch(const struct repeat_filter *filter, uint64_t key) {
    __builtin_prefetch(block_of(filter, key));
}

void repeat_filter_add(struct repeat_filter *filter, uint64_t key) {
    uint64_t *block = block_of(filter, key);
    for (unsigned i = 0; i < BITS; i++) {
        unsigned bit = bit_of(key, i);
        block[bit >> 6] |= (uint64_t)1 << (bit & 63);
    }
    filter->entered++;
}

uint64_t repeat_runs_entries(const struct repeat_run *runs, uint32_t count) {
    uint64_t entries = 0;
    for (uint32_t i = 0; i < count; i++) {
        entries += runs[i].entries;
    }
    return entries;
}

void repeat_filter_build(struct repeat_filter *filter, const struct repeat_run *runs,
                         uint32_t count) {
    filter->is_on = repeat_runs_entries(runs, count) <= MOST;
    filter->entered = 0;
    memset(filter->bits, 0, REPEAT_FILTER_SIZE);
    for (uint32_t i = 0; filter->is_on && i < count; i++) {
        for (uint64_t place = 0; place < runs[i].places; place++) {
            struct repeat_entry entry = repeat_run_at(&runs[i], place);
            if (entry.second != 0) {
                repeat_filter_add(filter, entry.key);
            }
        }
    }
}

void repeat_filter_tend(struct repeat_filter *filter, const struct repeat_run *runs,
                        uint32_t count) {
    bool is_worn = filter->is_on && filter->entered > MOST;
    bool would_do = !filter->is_on && repeat_runs_entries(runs, count) <= MOST / 2;
    if (is_worn || would_do) {
        repeat_filter_build(filter, runs, count);
    }
}
