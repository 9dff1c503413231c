/*
 * Hot aids: rows of people who were seen lately, for the resolver and all couriers.
 *
 *   64 B entry = aid 16 | lid 16 | r 16 | first_seq 6, source 2 | ord 4, version 3, flags 1
 *
 * One writer, many readers, no lock. An entry's last word is its guard: its version is odd while
 * the entry is being written. The writer stores the odd guard, then the words, then the even guard,
 * each with release; a reader loads guard, words, guard, the first ones with acquire, and believes
 * what it saw only if both guards are equal and even. Aids are keyed hashes, so their own bits
 * choose the bucket and nobody can aim at one.
 */
#include "base/check.h"
#include "flow/resolve/resolve_int.h"

enum {
    WORD_AID = 0,
    WORD_LID = 2,
    WORD_R = 4,
    WORD_SEEN = 6,
    WORD_GUARD = 7,
    WORDS = 8,
    VERSION_SHIFT = 8,
};

#define VERSION_ONE  ((uint64_t)1 << VERSION_SHIFT)
#define VERSION_MASK ((uint64_t)0xffffff << VERSION_SHIFT)

struct hot_entry {
    _Alignas(64) _Atomic uint64_t word[WORDS];
};

struct hot {
    struct hot_entry *entries;
    uint32_t victim; /* which way of a full bucket goes next */
};

struct hot *hot_new(void) {
    struct hot *hot = (struct hot *)os_memory_map(sizeof(*hot));
    if (hot == NULL) {
        return NULL;
    }
    hot->entries = (struct hot_entry *)os_memory_map(sizeof(struct hot_entry) * HOT_ENTRIES);
    if (hot->entries == NULL) {
        os_memory_unmap(hot, sizeof(*hot));
        return NULL;
    }
    return hot;
}

void hot_free(struct hot *hot) {
    if (hot != NULL) {
        os_memory_unmap(hot->entries, sizeof(struct hot_entry) * HOT_ENTRIES);
        os_memory_unmap(hot, sizeof(*hot));
    }
}

static struct hot_entry *bucket_of(const struct hot *hot, const uint64_t aid[2]) {
    return hot->entries + (aid[0] & (HOT_ENTRIES / HOT_WAYS - 1)) * HOT_WAYS;
}

void hot_prefetch(const struct hot *hot, const struct aid *aid) {
    uint64_t key[2];
    memcpy(key, aid->b, sizeof(key));
    const struct hot_entry *bucket = bucket_of(hot, key);
    for (int way = 0; way < HOT_WAYS; way++) {
        __builtin_prefetch(bucket + way);
    }
}

static uint64_t load(const struct hot_entry *entry, int word) {
    return atomic_load_explicit(&entry->word[word], memory_order_acquire);
}

bool hot_find(struct hot *hot, const struct aid *aid, struct alias_row *ret_row) {
    uint64_t key[2];
    memcpy(key, aid->b, sizeof(key));
    const struct hot_entry *bucket = bucket_of(hot, key);
    for (int way = 0; way < HOT_WAYS; way++) {
        const struct hot_entry *entry = bucket + way;
        uint64_t guard = load(entry, WORD_GUARD);
        if ((guard & VERSION_ONE) != 0 || load(entry, WORD_AID) != key[0] ||
            load(entry, WORD_AID + 1) != key[1]) {
            continue;
        }
        uint64_t lid[2] = {load(entry, WORD_LID), load(entry, WORD_LID + 1)};
        uint64_t r[2] = {load(entry, WORD_R), load(entry, WORD_R + 1)};
        uint64_t seen = load(entry, WORD_SEEN);
        if (load(entry, WORD_GUARD) != guard) {
            continue;
        }
        ret_row->ord = (uint32_t)(guard >> 32);
        ret_row->flags = (uint16_t)(guard & 0xff);
        ret_row->first_seq = seen >> 16;
        ret_row->user_since = 0;
        ret_row->source = (uint16_t)seen;
        memcpy(ret_row->lid, lid, sizeof(lid));
        memcpy(ret_row->r, r, sizeof(r));
        return ret_row->ord != 0;
    }
    return false;
}

static void store(struct hot_entry *entry, int word, uint64_t value) {
    atomic_store_explicit(&entry->word[word], value, memory_order_release);
}

static void write_entry(struct hot_entry *entry, const uint64_t words[WORDS],
                        uint64_t ord_and_flags) {
    uint64_t version = load(entry, WORD_GUARD) & VERSION_MASK;
    store(entry, WORD_GUARD, ((version + VERSION_ONE) & VERSION_MASK));
    for (int i = 0; i < WORD_GUARD; i++) {
        store(entry, i, words[i]);
    }
    store(entry, WORD_GUARD, ord_and_flags | ((version + 2 * VERSION_ONE) & VERSION_MASK));
}

/* The entry of this aid, else a free one of its bucket, else the next victim. */
static struct hot_entry *place_for(struct hot *hot, const uint64_t key[2]) {
    struct hot_entry *bucket = bucket_of(hot, key);
    struct hot_entry *free_entry = NULL;
    for (int way = 0; way < HOT_WAYS; way++) {
        uint64_t first = load(bucket + way, WORD_AID);
        uint64_t second = load(bucket + way, WORD_AID + 1);
        if (first == key[0] && second == key[1]) {
            return bucket + way;
        }
        if ((first | second) == 0 && free_entry == NULL) {
            free_entry = bucket + way;
        }
    }
    return free_entry != NULL ? free_entry : bucket + hot->victim++ % HOT_WAYS;
}

void hot_put(struct hot *hot, const struct aid *aid, const struct alias_row *row) {
    check(!aid_is_zero(aid) && row->ord != 0);
    check(row->first_seq < (uint64_t)1 << 48 && row->flags <= 0xff);
    uint64_t words[WORDS] = {0};
    memcpy(words + WORD_AID, aid->b, 16);
    memcpy(words + WORD_LID, row->lid, 16);
    memcpy(words + WORD_R, row->r, 16);
    words[WORD_SEEN] = row->first_seq << 16 | row->source;
    write_entry(place_for(hot, words + WORD_AID), words, (uint64_t)row->ord << 32 | row->flags);
}

void hot_clear(struct hot *hot) {
    static const uint64_t nothing[WORDS];
    for (size_t i = 0; i < HOT_ENTRIES; i++) {
        write_entry(hot->entries + i, nothing, 0);
    }
}
