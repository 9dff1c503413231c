/*
 * Memo: sets of ids of which nothing is left to do, so that a browser's every event costs one look
 * here instead of being parsed, its ids hashed, and their rows and edges looked up.
 *
 *   key = event.ids mixed with the source      bucket = 8 entries of 8 B, one cache line
 *   entry = 48 bits of the key | 12: of which open id | 4: how often ids of that kind had turned
 *
 * An entry stands for an event m after which resolving any later event n of the same source with
 * the same ids would change nothing. It does so because
 *  M1 equal keys mean that protocol, kind, source and the ids in their places are equal, so n would
 *     be read as m was. Ids are fingerprinted under a secret key (63 of its bits decide here), and
 *     only those of this process are used: another version may have read ids elsewhere.
 *  M2 every id of m had its row, and rows stay. A set with an id beyond its source's quota is not
 *     kept: the id may get its row in the next hour.
 *  M3 what m showed as users' ids is marked so, which never turns back.
 *  M4 the links that follow from kind, ids and who is a user are stored or, a device having joined,
 *     are not wanted; edges stay, and a device that has joined never joins again. All of this is so
 *     for the source's trust and space as they are: a reload clears the table.
 *  M5 only that an id which m had as a device's (an open one) later turns out to be a user's can
 *     change the links. Each such turn is counted, for a 4095th of all ids at once, and an entry is
 *     good only while its count stands. A set with two open ids is not kept. Before a count of 4 bits
 *     comes round the table is cleared.
 *  M6 what an aborted batch did is not there: the table is cleared with it.
 * A miss costs what an event cost without the table, so entries may be lost at will.
 *
 * The resolver's thread only.
 */
#include "base/check.h"
#include "flow/resolve/resolve_int.h"

enum {
    MEMO_WAYS = 8,
    MEMO_BUCKETS = MEMO_ENTRIES / MEMO_WAYS,
    TAG_SHIFT = 16,
    TURNS_BITS = 4,
    TURNS_MASK = (1 << TURNS_BITS) - 1,
    KINDS = 1 << (TAG_SHIFT - TURNS_BITS), /* 0: of a set without an open id, never turns */
};

_Static_assert((MEMO_BUCKETS & (MEMO_BUCKETS - 1)) == 0, "a power of two");
_Static_assert(MEMO_BUCKETS <= 1 << TAG_SHIFT, "the bucket comes from the bits below the tag");

struct memo {
    uint64_t *entries; /* 0 = free */
    uint32_t victim;   /* which way of a full bucket goes next */
    uint8_t turns[KINDS];
};

struct memo *memo_new(void) {
    struct memo *memo = (struct memo *)os_memory_map(sizeof(*memo));
    if (memo == NULL) {
        return NULL;
    }
    memo->entries = (uint64_t *)os_memory_map(sizeof(uint64_t) * MEMO_ENTRIES);
    if (memo->entries == NULL) {
        os_memory_unmap(memo, sizeof(*memo));
        return NULL;
    }
    return memo;
}

void memo_free(struct memo *memo) {
    if (memo != NULL) {
        os_memory_unmap(memo->entries, sizeof(uint64_t) * MEMO_ENTRIES);
        os_memory_unmap(memo, sizeof(*memo));
    }
}

void memo_clear(struct memo *memo) {
    memset(memo->entries, 0, sizeof(uint64_t) * MEMO_ENTRIES);
}

/* A bijection of the fingerprint for each source; what its bits are is nobody's choice (M1). */
uint64_t memo_key(uint64_t ids, uint16_t source) {
    return ids ^ source * UINT64_C(0x9e3779b97f4a7c15);
}

static uint64_t *bucket_of(const struct memo *memo, uint64_t key) {
    return memo->entries + (key & (MEMO_BUCKETS - 1)) * MEMO_WAYS;
}

void memo_prefetch(const struct memo *memo, uint64_t key) {
    __builtin_prefetch(bucket_of(memo, key));
}

static bool is_of(uint64_t entry, uint64_t key) {
    return entry >> TAG_SHIFT == key >> TAG_SHIFT;
}

bool memo_has(const struct memo *memo, uint64_t key) {
    const uint64_t *bucket = bucket_of(memo, key);
    for (int way = 0; way < MEMO_WAYS; way++) {
        uint64_t entry = bucket[way];
        if (entry != 0 && is_of(entry, key)) {
            return memo->turns[entry >> TURNS_BITS & (KINDS - 1)] == (entry & TURNS_MASK);
        }
    }
    return false;
}

static unsigned kind_of(const struct aid *aid) {
    return 1 + get_u32(aid->b + 8) % (KINDS - 1);
}

void memo_put(struct memo *memo, uint64_t key, const struct aid *open) {
    uint64_t tag = key >> TAG_SHIFT;
    if (tag == 0) {
        return; /* it would look like a free entry */
    }
    uint64_t *bucket = bucket_of(memo, key);
    uint64_t *place = NULL;
    for (int way = 0; way < MEMO_WAYS; way++) {
        if (is_of(bucket[way], key)) {
            place = bucket + way;
            break;
        }
        if (bucket[way] == 0 && place == NULL) {
            place = bucket + way;
        }
    }
    if (place == NULL) {
        place = bucket + memo->victim++ % MEMO_WAYS;
    }
    unsigned kind = open != NULL ? kind_of(open) : 0;
    *place = tag << TAG_SHIFT | (uint64_t)kind << TURNS_BITS | memo->turns[kind];
}

void memo_turn(struct memo *memo, const struct aid *aid) {
    unsigned kind = kind_of(aid);
    memo->turns[kind] = (memo->turns[kind] + 1) & TURNS_MASK;
    if (memo->turns[kind] == 0) {
        memo_clear(memo);
    }
}
