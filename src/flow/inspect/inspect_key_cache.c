/*
 * The cache of keys: a product sends the same few hundred keys all day, so that their words are split and looked up once.
 *
 * Direct-mapped; a slot is simply taken over. Keys that are all different cost a classification each, which is bounded by the key's length.
 */
#include "flow/inspect/inspect_int.h"

#include "base/hash.h"

static struct key_info key_learn(const struct protocol_ops *protocol, uint8_t place, bool profile, struct span key) {
    const struct field *field = NULL;
    if (protocol != NULL && place != PLACE_NONE) {
        field = protocol->field((enum field_place)place, key);
    }
    struct key_info info = KEY_SILENT;
    if (field != NULL) {
        info.schema_class = field->class_id;
        info.inside = field->inside;
        info.flags = (uint8_t)(KEY_RESERVED | (field->type == TYPE_VERSION ? KEY_VERSION : 0));
    } else {
        info = keys_classify(key, SPAN_NONE, profile);
    }
    bool plain = gate_features(key.p, key.n, key.p + key.n) == 0;
    info.flags = (uint8_t)(plain ? info.flags | KEY_PLAIN : info.flags & ~KEY_PLAIN);
    return info;
}

static uint64_t load_8(const uint8_t *p) {
    uint64_t v;
    memcpy(&v, p, 8);
    return v;
}

/* The first n < 8 bytes at p, padded with zeros. */
static uint64_t load_part(const uint8_t *p, size_t n, const uint8_t *reach) {
    if (BH_LIKELY(reach - p >= 8)) {
        return load_8(p) & (((uint64_t)1 << 8 * n) - 1);
    }
    uint64_t v = 0;
    memcpy(&v, p, n);
    return v;
}

static void key_words(struct span key, const uint8_t *reach, uint64_t words[4]) {
    size_t n = key.n;
    words[1] = words[2] = words[3] = 0;
    if (n < 8) {
        words[0] = load_part(key.p, n, reach);
        return;
    }
    words[0] = load_8(key.p);
    words[1] = load_8(key.p + n - 8);
    if (n > 16) {
        words[2] = load_8(key.p + 8);
        words[3] = load_8(key.p + n - 16);
    }
}

static struct key_info lookup_long(struct key_cache *cache, const struct protocol_ops *protocol, uint8_t place, bool profile, struct span key,
                                   uint8_t salt) {
    uint64_t hash = hash64(key.p, key.n, salt);
    struct key_long *slot = &cache->longs[hash & (KEY_LONG_SLOTS - 1)];
    if (slot->hash != hash || slot->length != key.n || slot->salt != salt || memcmp(slot->text, key.p, key.n) != 0) {
        slot->info = key_learn(protocol, place, profile, key);
        slot->hash = hash;
        slot->length = (uint8_t)key.n;
        slot->salt = salt;
        memcpy(slot->text, key.p, key.n);
    }
    return slot->info;
}

struct key_info key_lookup(struct key_cache *cache, const struct protocol_ops *protocol, uint8_t place, bool profile, struct span key,
                           const uint8_t *reach) {
    /* Bit 0 is set so that no salt is that of an empty slot. */
    uint8_t salt = (uint8_t)(1 | place << 4 | (profile ? 2 : 0) | (protocol != NULL ? protocol->id << 2 : 0));
    if (BH_UNLIKELY(key.n > KEY_SHORT_MAX)) {
        return key.n <= KEY_LONG_MAX ? lookup_long(cache, protocol, place, profile, key, salt) : key_learn(protocol, place, profile, key);
    }
    uint64_t words[4];
    key_words(key, reach, words);
    uint64_t hash = (words[0] ^ (words[2] + words[3]) ^ ((uint64_t)salt << 8 | key.n)) * 0x9e3779b97f4a7c15u;
    hash = (hash ^ hash >> 29 ^ words[1]) * 0xd6e8feb86659fd93u;
    struct key_short *slot = &cache->shorts[hash >> 55];
    if (BH_LIKELY(slot->words[0] == words[0] && slot->words[1] == words[1] && slot->words[2] == words[2] && slot->words[3] == words[3] &&
                  slot->length == key.n && slot->salt == salt)) {
        return slot->info;
    }
    slot->info = key_learn(protocol, place, profile, key);
    memcpy(slot->words, words, sizeof words);
    slot->length = (uint8_t)key.n;
    slot->salt = salt;
    return slot->info;
}

_Static_assert(KEY_SHORT_SLOTS == 1 << (64 - 55), "the hash's top bits number the slots");
