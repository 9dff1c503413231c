/*
 * The cache of keys: a product sends the same few hundred keys all day, so that their words are
 * split and looked up once.
 *
 * Two slots for a key; one of them is simply taken over. A key that could itself hold a secret (a
 * long run, digits, an address) is never kept: what must not be on disk does not stay in memory
 * either. Keys that are all different cost a classification each, which is bounded by the key's
 * length.
 */
#include "flow/inspect/inspect_int.h"

#include "base/hash.h"

const struct key_info key_silent = {CLASS_NONE, CLASS_NONE, 0, PLACE_NONE, KEY_PLAIN};
const struct key_info key_unknown = {CLASS_NONE, CLASS_NONE, 0, PLACE_NONE, 0};
uint64_t key_masks[KEY_SHORT_MAX + 1][KEY_SHORT_MAX / 8];

void key_cache_init(struct key_cache *cache) {
    for (unsigned n = 0; n <= KEY_SHORT_MAX; n++) {
        memset(key_masks[n], 0, sizeof key_masks[n]);
        memset(key_masks[n], 0xff, n);
    }
    memset(cache, 0, sizeof *cache);
    cache->last = &cache->shorts[0];
    for (unsigned i = 0; i < KEY_SHORT_SLOTS; i++) {
        cache->shorts[i].next = &cache->shorts[0];
    }
}

/*
 * Long names are runs of letters too ("subscription_plan_name"). What is made by chance has digits
 * or many capitals: of 20 random letters and digits fewer than two in a thousand have neither.
 */
static bool reads_as_words(struct span key) {
    size_t capitals = 0;
    for (size_t i = 0; i < key.n; i++) {
        capitals += key.p[i] >= 'A' && key.p[i] <= 'Z';
        if (is_digit(key.p[i])) {
            return false;
        }
    }
    return capitals * 4 <= key.n;
}

static struct key_info key_learn(const struct key_place *at, struct span key, bool *ret_may_stay) {
    const struct field *field = NULL;
    if (at->protocol != NULL && at->place != PLACE_NONE) {
        field = at->protocol->field((enum field_place)at->place, key);
    }
    struct key_info info = KEY_SILENT;
    if (field != NULL) {
        info.schema_class = field->class_id;
        info.inside = field->inside;
        info.flags = (uint8_t)(KEY_RESERVED | (field->type == TYPE_VERSION ? KEY_VERSION : 0));
    } else {
        info = keys_classify(key, SPAN_NONE, at->profile);
    }
    unsigned features = gate_features(key.p, key.n, key.p + key.n);
    bool plain = (features & ~(unsigned)HAS_RUN) == 0;
    *ret_may_stay = field != NULL || features == 0 || (features == HAS_RUN && reads_as_words(key));
    info.flags = (uint8_t)(plain ? info.flags | KEY_PLAIN : info.flags & ~KEY_PLAIN);
    return info;
}

static const struct key_info *key_uncached(struct key_cache *cache, struct key_info info) {
    struct key_info *slot = &cache->uncached[cache->uncached_next++];
    *slot = info;
    return slot;
}

static const struct key_info *lookup_long(struct key_cache *cache, const struct key_place *at,
                                          struct span key) {
    uint64_t hash = hash64(key.p, key.n, at->salt);
    struct key_long *slot = &cache->longs[hash & (KEY_LONG_SLOTS - 1)];
    if (slot->hash != hash || slot->length != key.n || slot->salt != at->salt ||
        memcmp(slot->text, key.p, key.n) != 0) {
        bool may_stay = false;
        struct key_info info = key_learn(at, key, &may_stay);
        if (!may_stay) {
            return key_uncached(cache, info);
        }
        slot->info = info;
        slot->hash = hash;
        slot->length = (uint8_t)key.n;
        slot->salt = at->salt;
        memcpy(slot->text, key.p, key.n);
    }
    return &slot->info;
}

static bool slot_holds(const struct key_short *slot, const uint64_t *words, uint16_t salt,
                       size_t length) {
    uint64_t differ = 0;
    for (unsigned i = 0; i < KEY_SHORT_MAX / 8; i++) {
        differ |= slot->words[i] ^ words[i];
    }
    return differ == 0 && slot->length == length && slot->salt == salt;
}

const struct key_info *key_lookup_slow(struct key_cache *cache, const struct key_place *at,
                                       struct span key, const uint8_t *reach) {
    if (BH_UNLIKELY(key.n > KEY_SHORT_MAX)) {
        if (key.n <= KEY_LONG_MAX) {
            return lookup_long(cache, at, key);
        }
        bool may_stay = false;
        return key_uncached(cache, key_learn(at, key, &may_stay));
    }
    uint64_t words[KEY_SHORT_MAX / 8] = {0};
    if (BH_LIKELY(reach - key.p >= KEY_SHORT_MAX)) {
        memcpy(words, key.p, KEY_SHORT_MAX);
    } else {
        memcpy(words, key.p, key.n);
    }
    for (unsigned i = 0; i < KEY_SHORT_MAX / 8; i++) {
        words[i] &= key_masks[key.n][i];
    }
    uint64_t hash =
        (words[0] ^ (words[1] << 32 | words[1] >> 32) ^ ((uint64_t)at->salt << 16 | key.n)) *
        0x9e3779b97f4a7c15u;
    hash = (hash ^ hash >> 29 ^ words[2] ^ words[3]) * 0xd6e8feb86659fd93u;
    struct key_short *slot = &cache->shorts[hash >> 54];
    if (!slot_holds(slot, words, at->salt, key.n)) {
        /*
         * Two places for each key, or two keys that are sent together could push each other out for
         * ever.
         */
        struct key_short *other = &cache->shorts[hash >> 54 ^ 1];
        bool known = slot_holds(other, words, at->salt, key.n);
        slot = known || (slot->salt != 0 && (other->salt == 0 || (hash & 1) != 0)) ? other : slot;
        if (!known) {
            bool may_stay = false;
            struct key_info info = key_learn(at, key, &may_stay);
            if (!may_stay) {
                return key_uncached(cache, info);
            }
            slot->info = info;
            memcpy(slot->words, words, sizeof words);
            slot->length = (uint8_t)key.n;
            slot->salt = at->salt;
        }
    }
    cache->last->next = slot;
    cache->last = slot;
    return &slot->info;
}

_Static_assert(KEY_SHORT_SLOTS == 1 << (64 - 54), "the hash's top bits number the slots");
_Static_assert(KEY_UNCACHED == UINT8_MAX + 1, "uncached_next goes round by itself");
