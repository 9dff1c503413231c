/*
 * Walk: over a JSON tree in document order, with what its keys say about each leaf.
 *
 * What a container's key says holds for all leaves below it that no nearer key says anything else about: {"password": {"old": "x"}}. A reserved field of
 * the protocol's table is bound by the schema alone; below it, and beside it, key words count.
 */
#include "flow/inspect/inspect_int.h"

#include "base/check.h"
#include "base/hash.h"

static uint64_t load_up_to_8(const uint8_t *p, size_t n) {
    uint64_t v = 0;
    memcpy(&v, p, n);
    return v;
}

/* Keys are short: two overlapping words see all of up to 16 bytes. */
static uint64_t key_hash(struct span key, unsigned salt) {
    uint64_t a;
    uint64_t b;
    if (key.n > 16) {
        return hash64(key.p, key.n, salt);
    }
    if (key.n >= 8) {
        memcpy(&a, key.p, 8);
        memcpy(&b, key.p + key.n - 8, 8);
    } else {
        a = load_up_to_8(key.p, key.n);
        b = 0;
    }
    uint64_t h = (a ^ (uint64_t)salt << 56 ^ key.n) * 0x9e3779b97f4a7c15u;
    h = (h ^ h >> 32 ^ b) * 0xd6e8feb86659fd93u;
    return h ^ h >> 32;
}

static struct key_info key_learn(const struct walk *w, uint8_t place, struct span key) {
    const struct field *field = NULL;
    if (w->protocol != NULL && place != PLACE_NONE) {
        field = w->protocol->field((enum field_place)place, key);
    }
    struct key_info info;
    if (field != NULL) {
        memset(&info, 0, sizeof info);
        info.schema_class = field->class_id;
        info.reserved = true;
        info.inside = field->inside;
        info.version = field->type == TYPE_VERSION;
    } else {
        info = keys_classify(key, SPAN_NONE, w->profile);
    }
    info.plain = gate_features(key.p, key.n, key.p + key.n) == 0;
    return info;
}

static struct key_info key_lookup(struct inspector *in, const struct walk *w, uint8_t place, struct span key) {
    if (key.n > KEY_CACHED_BYTES) {
        return key_learn(w, place, key);
    }
    unsigned salt = (unsigned)place * 2 + (w->profile ? 1U : 0U) + (w->protocol != NULL ? 64U : 0U);
    uint64_t hash = key_hash(key, salt) | 1; /* 0 marks an empty slot */
    struct key_cache_slot *slot = &in->keys[hash >> 8 & (KEY_CACHE_SLOTS - 1)];
    if (slot->hash != hash || slot->salt != salt || slot->length != key.n || memcmp(slot->text, key.p, key.n) != 0) {
        slot->info = key_learn(w, place, key);
        slot->hash = hash;
        slot->salt = (uint8_t)salt;
        slot->length = (uint8_t)key.n;
        memcpy(slot->text, key.p, key.n);
    }
    return slot->info;
}

void walk_open(struct walk *w, struct span text, const struct json_token *tokens, uint32_t root, const struct protocol_ops *protocol,
               uint8_t kind, const struct key_info *outer) {
    w->text = text;
    w->tokens = tokens;
    w->at = root;
    w->depth = 0;
    w->profile = kind == EVENT_PROFILE;
    w->keyed = false;
    w->protocol = protocol;
    struct walk_level *level = &w->levels[0];
    memset(level, 0, sizeof *level);
    level->end = tokens[root].next;
    if (outer != NULL) {
        level->info = *outer;
        level->info.inside = PLACE_NONE;
    }
    if (protocol != NULL) {
        level->info.inside = protocol->root_place((enum event_kind)kind);
    }
}

/* What binds the value of the key at hand. */
static void walk_key(struct inspector *in, struct walk *w, const struct json_token *token) {
    const struct walk_level *level = &w->levels[w->depth];
    struct span raw = json_span(w->text, token);
    struct span key = (token->flags & JSON_ESCAPED) != 0 ? pool_unescape(in, raw) : raw;
    struct key_info info = key_lookup(in, w, level->info.inside, key);
    if (info.joins && level->key.n > 0) {
        struct key_info joined = keys_classify(key, level->key, w->profile);
        info.rule = joined.rule;
    }
    w->info = info;
    w->key = key;
    w->keyed = true;
}

/* What a leaf or container inherits where its own key is silent. */
static void inherit(struct key_info *info, const struct key_info *outer) {
    if (info->reserved) {
        return;
    }
    if (info->rule.class_id == CLASS_NONE) {
        info->rule = outer->rule;
    }
    info->schema_class = outer->schema_class;
    info->version |= outer->version;
}

static bool walk_push(struct inspector *in, struct walk *w, const struct json_token *token, const struct key_info *info) {
    if (w->depth + 1 >= WALK_DEPTH_MAX) {
        in->error = BH_E_TOO_MANY;
        return false;
    }
    struct span key = w->keyed ? w->key : w->levels[w->depth].key;
    struct walk_level *level = &w->levels[++w->depth];
    level->end = token->next;
    level->info = *info;
    level->key = key;
    return true;
}

bool walk_next(struct inspector *in, struct walk *w, struct walk_step *ret_step) {
    while (in->error == 0) {
        while (w->depth > 0 && w->at >= w->levels[w->depth].end) {
            w->depth--;
        }
        if (w->at >= w->levels[0].end) {
            return false;
        }
        const struct json_token *token = &w->tokens[w->at];
        ret_step->token = token;
        ret_step->index = w->at++;
        if (token->kind == JSON_KEY) {
            walk_key(in, w, token);
            ret_step->info = w->info;
            return true;
        }
        struct key_info info = w->levels[w->depth].info;
        if (w->keyed) {
            info = w->info;
            inherit(&info, &w->levels[w->depth].info);
        }
        bool container = token->kind == JSON_OBJECT || token->kind == JSON_ARRAY;
        if (container && !walk_push(in, w, token, &info)) {
            return false;
        }
        w->keyed = false;
        if (!container) {
            ret_step->info = info;
            return true;
        }
    }
    return false;
}
