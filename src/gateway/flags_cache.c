/* Sets of four, the one that was used longest ago goes. What goes is overwritten. */
#include <stdlib.h>

#include "base/check.h"
#include "base/hash.h"
#include "crypto/crypto.h"
#include "gateway/flags.h"
#include "os/thread.h"

enum { WAYS = 4, SETS = FLAGS_CACHE_ANSWERS / WAYS };

struct entry {
    struct flags_key key;
    uint32_t size; /* 0 = free */
    uint64_t used; /* tick */
    uint8_t answer[FLAGS_CACHE_ANSWER_MAX];
};

struct flags_cache {
    struct os_lock lock;
    uint64_t seed;
    uint64_t tick;
    struct entry entries[SETS][WAYS];
};

int flags_cache_new(struct flags_cache **ret_cache) {
    struct flags_cache *cache = os_memory_map(sizeof *cache);
    if (cache == NULL) {
        return BH_E_NOMEM;
    }
    os_lock_init(&cache->lock, OS_LOCK_FLAGS);
    os_random(&cache->seed, sizeof cache->seed);
    *ret_cache = cache;
    return 0;
}

void flags_cache_free(struct flags_cache *cache) {
    if (cache != NULL) {
        os_lock_fini(&cache->lock);
        os_memory_unmap(cache, sizeof *cache);
    }
}

static struct entry *set_of(struct flags_cache *cache, const struct flags_key *key) {
    uint64_t seed = cache->seed ^ ((uint64_t)key->source << 8 | key->form);
    return cache->entries[hash64(key->aid.b, sizeof key->aid.b, seed) % SETS];
}

static bool is_of(const struct entry *entry, const struct flags_key *key) {
    return entry->size != 0 && entry->key.source == key->source && entry->key.form == key->form &&
           memcmp(&entry->key.aid, &key->aid, sizeof key->aid) == 0;
}

void flags_cache_put(struct flags_cache *cache, const struct flags_key *key, struct span answer) {
    os_lock(&cache->lock);
    struct entry *set = set_of(cache, key);
    struct entry *place = &set[0];
    for (unsigned i = 0; i < WAYS; i++) {
        if (is_of(&set[i], key)) {
            place = &set[i];
            break;
        }
        place = set[i].used < place->used ? &set[i] : place;
    }
    /* An older answer than one that is too long to be kept is no last answer either. */
    bool fits = answer.n <= sizeof place->answer;
    if (fits || is_of(place, key)) {
        secret_wipe(place->answer, place->size);
        place->key = *key;
        place->size = fits ? (uint32_t)answer.n : 0;
        place->used = fits ? ++cache->tick : 0;
        memcpy(place->answer, answer.p, place->size);
    }
    os_unlock(&cache->lock);
}

bool flags_cache_get(struct flags_cache *cache, const struct flags_key *key, struct buf *out) {
    bool found = false;
    os_lock(&cache->lock);
    struct entry *set = set_of(cache, key);
    for (unsigned i = 0; i < WAYS && !found; i++) {
        found = is_of(&set[i], key);
        if (found) {
            set[i].used = ++cache->tick;
            buf_put(out, set[i].answer, set[i].size);
        }
    }
    os_unlock(&cache->lock);
    return found && !out->full;
}
