/*
 * Walk: over a JSON tree in document order, with what its keys say about each leaf.
 *
 * What a container's key says holds for all leaves below it that no nearer key says anything else about: {"password": {"old": "x"}}. A reserved field of
 * the protocol's table is bound by the schema alone; below it, and beside it, key words count.
 */
#include "flow/inspect/inspect_int.h"

#include "base/check.h"

void walk_open(struct walk *w, struct span text, const struct json_token *tokens, uint32_t root, const struct protocol_ops *protocol,
               uint8_t kind, const struct key_info *outer) {
    w->text = text;
    w->tokens = tokens;
    w->at = root;
    w->end = tokens[root].next;
    w->depth = 0;
    w->profile = kind == EVENT_PROFILE;
    w->keyed = false;
    w->protocol = protocol;
    struct walk_level *level = &w->levels[0];
    level->end = w->end;
    level->info = outer != NULL ? *outer : KEY_SILENT;
    level->info.inside = protocol != NULL ? protocol->root_place((enum event_kind)kind) : PLACE_NONE;
    level->key = SPAN_NONE;
}

/* What binds the value of the key at hand. */
static void walk_key(struct inspector *in, struct walk *w, const struct json_token *token) {
    const struct walk_level *level = &w->levels[w->depth];
    struct span key = json_span(w->text, token);
    const uint8_t *reach = w->text.p + w->text.n;
    if (BH_UNLIKELY((token->flags & JSON_ESCAPED) != 0)) {
        key = pool_unescape(in, key);
        reach = key.p + key.n;
    }
    struct key_info info = key_lookup(&in->keys, w->protocol, level->info.inside, w->profile, key, reach);
    if ((info.flags & KEY_JOINS) != 0 && level->key.n > 0) {
        struct key_info joined = keys_classify(key, level->key, w->profile);
        info.class_id = joined.class_id;
        info.shape = joined.shape;
    }
    w->info = info;
    w->key = key;
    w->keyed = true;
}

/* What a leaf or container takes from around it where its own key is silent. */
static struct key_info inherited(struct key_info info, const struct key_info *outer) {
    if ((info.flags & KEY_RESERVED) == 0) {
        if (info.class_id == CLASS_NONE) {
            info.class_id = outer->class_id;
            info.shape = outer->shape;
        }
        info.schema_class = outer->schema_class;
        info.flags |= outer->flags & KEY_VERSION;
    }
    return info;
}

static bool walk_push(struct inspector *in, struct walk *w, const struct json_token *token, struct key_info info) {
    if (w->depth + 1 >= WALK_DEPTH_MAX) {
        in->error = BH_E_TOO_MANY;
        return false;
    }
    struct span key = w->keyed ? w->key : w->levels[w->depth].key;
    struct walk_level *level = &w->levels[++w->depth];
    level->end = token->next;
    level->info = info;
    level->key = key;
    return true;
}

bool walk_next(struct inspector *in, struct walk *w, struct walk_step *ret_step) {
    while (in->error == 0 && w->at < w->end) {
        while (w->at >= w->levels[w->depth].end) {
            w->depth--;
        }
        uint32_t index = w->at++;
        const struct json_token *token = &w->tokens[index];
        if (token->kind == JSON_KEY) {
            walk_key(in, w, token);
            if (BH_UNLIKELY((w->info.flags & KEY_PLAIN) == 0)) {
                *ret_step = (struct walk_step){token, index, KEY_SILENT};
                return true;
            }
            token = &w->tokens[++index];
            w->at++;
        }
        struct key_info info = w->keyed ? inherited(w->info, &w->levels[w->depth].info) : w->levels[w->depth].info;
        if (token->kind != JSON_OBJECT && token->kind != JSON_ARRAY) {
            w->keyed = false;
            *ret_step = (struct walk_step){token, index, info};
            return true;
        }
        if (!walk_push(in, w, token, info)) {
            return false;
        }
        w->keyed = false;
    }
    return false;
}
