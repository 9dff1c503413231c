/*
 * Walk: over a JSON tree in document order, with what its keys say about each leaf.
 *
 * What a container's key says holds for all leaves below it that no nearer key says anything else
 * about: {"password": {"old": "x"}}. A reserved field of the protocol's table is bound by the
 * schema alone; below it, and beside it, key words count. The usual step is inline in
 * inspect_int.h; here is what is rare.
 */
#include "flow/inspect/inspect_int.h"

#include "base/check.h"

static void level_set(struct walk_level *level, uint32_t end, const struct key_info *info,
                      struct key_place at, uint32_t key) {
    level->end = end;
    level->info = *info;
    level->silent = info->class_id == CLASS_NONE && info->schema_class == CLASS_NONE &&
                    (info->flags & KEY_VERSION) == 0;
    level->at = at;
    level->key = key;
}

void walk_open(struct walk *w, struct span text, const struct json_token *tokens, uint32_t root,
               const struct protocol_ops *protocol, uint8_t kind, const struct key_info *outer) {
    w->text = text;
    w->tokens = tokens;
    w->at = root;
    w->depth = 0;
    w->pending = false;
    struct key_info info = outer != NULL ? *outer : KEY_SILENT;
    info.inside = protocol != NULL ? protocol->root_place((enum event_kind)kind) : PLACE_NONE;
    level_set(&w->levels[0], tokens[root].next, &info,
              key_place(protocol, PLACE_NONE, kind == EVENT_PROFILE), 0);
}

static struct span key_text(struct inspector *in, const struct walk *w, uint32_t index) {
    const struct json_token *token = &w->tokens[index];
    struct span raw = json_span(w->text, token);
    return (token->flags & JSON_ESCAPED) != 0 ? pool_unescape(in, raw) : raw;
}

const struct key_info *walk_key_slow(struct inspector *in, struct walk *w, uint32_t index,
                                     const struct key_info *info) {
    const struct walk_level *level = &w->levels[w->depth];
    bool escaped = (w->tokens[index].flags & JSON_ESCAPED) != 0;
    struct span key = key_text(in, w, index);
    w->info = escaped ? *key_lookup_slow(&in->keys, &level->at, key, key.p + key.n) : *info;
    if (escaped) {
        w->info.flags =
            (uint8_t)(w->info.flags & ~KEY_PLAIN); /* the secrets scan has yet to see it decoded */
    }
    if ((w->info.flags & KEY_JOINS) != 0 && level->key != 0) {
        struct key_info joined = keys_classify(key, key_text(in, w, level->key), level->at.profile);
        w->info.class_id = joined.class_id;
        w->info.shape = joined.shape;
    }
    return &w->info;
}

const struct key_info *walk_inherit(struct walk *w, const struct key_info *info) {
    const struct key_info *outer = &w->levels[w->depth].info;
    if ((info->flags & KEY_RESERVED) != 0) {
        return info;
    }
    struct key_info made = *info;
    if (made.class_id == CLASS_NONE) {
        made.class_id = outer->class_id;
        made.shape = outer->shape;
    }
    made.schema_class = outer->schema_class;
    made.flags = (uint8_t)(made.flags | (outer->flags & KEY_VERSION));
    w->inherited = made;
    return &w->inherited;
}

bool walk_down(struct inspector *in, struct walk *w, uint32_t index, uint32_t key,
               const struct key_info *info) {
    if (w->depth + 1 >= WALK_DEPTH_MAX) {
        in->error = BH_E_TOO_MANY;
        return false;
    }
    const struct walk_level *outer = &w->levels[w->depth++];
    level_set(&w->levels[w->depth], w->tokens[index].next, info,
              key_place(outer->at.protocol, info->inside, outer->at.profile),
              key != 0 ? key : outer->key);
    return in->error == 0;
}
