/*
 * One item: which call of the SDK it is, and what wire/item.h reads from it.
 *
 * A `$identify` is a profile update and a `$groupidentify` a group's; so is all that came to the paths
 * of those names, where items need no event_type.
 */
#include "protocol/amplitude/amplitude_int.h"

static const char identify[] = "$identify";
static const char group_identify[] = "$groupidentify";

/* The item's event_type, the last one of several; SPAN_NONE = none that is a string. */
static struct span type_of(const struct protocol_decoded *decoded, uint32_t root,
                           struct buf *scratch) {
    const struct json_token *tokens = decoded->tokens;
    struct span type = SPAN_NONE;
    for (uint32_t i = root + 1; i < tokens[root].next; i = tokens[i].next) {
        bool has_escapes = (tokens[i].flags & JSON_ESCAPED) != 0;
        struct span key = has_escapes ? json_text(decoded->text, &tokens[i], scratch)
                                      : json_span(decoded->text, &tokens[i]);
        if (span_is(key, "event_type")) {
            type = tokens[i + 1].kind == JSON_STRING
                       ? json_text(decoded->text, &tokens[i + 1], scratch)
                       : SPAN_NONE;
        }
    }
    return type;
}

static uint8_t read(const struct protocol_decoded *decoded, bool deep, struct buf *scratch,
                    struct protocol_item *item, struct item_facts *facts) {
    uint8_t reason = item_check(decoded, item->root, deep);
    if (reason != REASON_NONE) {
        return reason;
    }
    uint8_t path = decoded->envelope.endpoint;
    struct span type = type_of(decoded, item->root, scratch);
    bool is_profile = span_is(type, identify);
    bool is_group = span_is(type, group_identify);
    if (path == AMPLITUDE_IDENTIFY || path == AMPLITUDE_GROUPIDENTIFY) {
        bool is_right = path == AMPLITUDE_IDENTIFY ? is_profile : is_group;
        if (type.p != NULL && !is_right) {
            return REASON_MALFORMED;
        }
        is_profile = path == AMPLITUDE_IDENTIFY;
        is_group = !is_profile;
    }
    item->kind = is_profile ? EVENT_PROFILE : is_group ? EVENT_GROUP : EVENT_TRACK;
    item_read(&amplitude_table, (enum field_place)amplitude_root_place((enum event_kind)item->kind),
              decoded, scratch, item, facts);
    if (scratch->full) {
        return REASON_TOO_BIG;
    }
    return item->kind == EVENT_TRACK && item->event_name.n == 0 ? REASON_NO_EVENT_NAME
                                                                : REASON_NONE;
}

void amplitude_read_item(const struct protocol_decoded *decoded, int64_t now_ms, bool deep,
                         struct buf *scratch, struct protocol_item *item) {
    struct item_facts facts = {0};
    struct span token = item->token;
    item->time_ms = now_ms;
    item->reason = read(decoded, deep, scratch, item, &facts);
    item->token = token; /* the request's, whatever an item says */
    if (!facts.has_time) {
        item->time_ms = now_ms;
        item->flags |= EVENT_NO_TIME;
    }
}

void amplitude_person_begin(struct person_iter *it, struct span text,
                            const struct json_token *tokens, uint32_t root, enum event_kind kind,
                            struct buf *scratch) {
    item_person_begin(it, text, tokens, root, (enum field_place)amplitude_root_place(kind),
                      scratch);
}

bool amplitude_person_next(struct person_iter *it, struct person_ref *ret) {
    return item_person_next(&amplitude_table, it, ret);
}
