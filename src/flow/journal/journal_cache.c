/*
 * Cache: the newest chunks, opened once for all readers.
 *
 * The reader that comes first opens the frame and fills a slot per chunk; those who follow find the
 * bytes by seq and touch no file. A slot holds newer chunks over time: it is given up for a chunk
 * with a higher seq only, so a reader far behind never drives out what the others are about to
 * read; it opens its frames for itself. The lock is taken twice per chunk, never per event; a
 * slot's bytes are written before it becomes READY and not changed while it has a reference.
 */
#include "base/check.h"
#include "flow/journal/journal_int.h"

int cache_init(struct cache *cache) {
    os_lock_init(&cache->lock, OS_LOCK_CACHE);
    cache->memory = (uint8_t *)os_memory_map((size_t)CACHE_SLOTS * CHUNK_RAW_SOFT);
    if (cache->memory == NULL) {
        os_lock_fini(&cache->lock);
        return BH_E_NOMEM;
    }
    for (size_t i = 0; i < CACHE_SLOTS; i++) {
        cache->slots[i] = (struct cache_slot){.raw = cache->memory + i * CHUNK_RAW_SOFT};
    }
    return 0;
}

void cache_fini(struct cache *cache) {
    if (cache->memory != NULL) {
        os_memory_unmap(cache->memory, (size_t)CACHE_SLOTS * CHUNK_RAW_SOFT);
        cache->memory = NULL;
        os_lock_fini(&cache->lock);
    }
}

struct cache_slot *cache_find(struct cache *cache, uint64_t seq) {
    struct cache_slot *found = NULL;
    os_lock(&cache->lock);
    for (size_t i = 0; i < CACHE_SLOTS && found == NULL; i++) {
        struct cache_slot *slot = &cache->slots[i];
        if (slot->state == SLOT_READY && seq - slot->first_seq < slot->events) {
            slot->refs++;
            found = slot;
        }
    }
    os_unlock(&cache->lock);
    return found;
}

struct cache_slot *cache_claim(struct cache *cache, uint64_t first_seq) {
    struct cache_slot *oldest = NULL;
    bool is_taken = false;
    os_lock(&cache->lock);
    for (size_t i = 0; i < CACHE_SLOTS; i++) {
        struct cache_slot *slot = &cache->slots[i];
        is_taken = is_taken || (slot->state != SLOT_EMPTY && slot->first_seq == first_seq);
        if (slot->refs != 0 || slot->state == SLOT_FILLING) {
            continue;
        }
        if (oldest == NULL || slot->state == SLOT_EMPTY ||
            (oldest->state != SLOT_EMPTY && slot->first_seq < oldest->first_seq)) {
            oldest = slot;
        }
    }
    if (is_taken ||
        (oldest != NULL && oldest->state == SLOT_READY && oldest->first_seq > first_seq)) {
        oldest = NULL;
    }
    if (oldest != NULL) {
        oldest->state = SLOT_FILLING;
        oldest->first_seq = first_seq;
        oldest->refs = 1;
    }
    os_unlock(&cache->lock);
    return oldest;
}

void cache_publish(struct cache *cache, struct cache_slot *slot, uint32_t raw_len, uint32_t events,
                   const struct chunk_place *place) {
    os_lock(&cache->lock);
    check(slot->state == SLOT_FILLING && slot->refs == 1);
    if (events == 0) {
        slot->state = SLOT_EMPTY;
        slot->refs = 0;
    } else {
        slot->state = SLOT_READY;
        slot->raw_len = raw_len;
        slot->events = events;
        slot->place = *place;
    }
    os_unlock(&cache->lock);
}

void cache_release(struct cache *cache, struct cache_slot *slot) {
    if (slot == NULL) {
        return;
    }
    os_lock(&cache->lock);
    check(slot->refs != 0);
    slot->refs--;
    os_unlock(&cache->lock);
}
