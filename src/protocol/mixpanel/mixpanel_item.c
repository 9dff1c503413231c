/*
 * One item: which kind it is, whose token it carries, whom it is about, when it was.
 *
 * The field table says which keys matter; a key that occurs twice counts as it does in JSON.parse,
 * the last one wins.
 */
#include "base/check.h"
#include "crypto/crypto.h"
#include "protocol/mixpanel/mixpanel_int.h"
#include "protocol/wire/item.h"

enum { IDS_SIZE_MAX = 1024, IDS_MAX = 31 };

struct reading {
    const struct protocol_decoded *decoded;
    struct buf *scratch;
    struct protocol_item *item;
    bool deep;            /* the parser met values deeper than an item may have */
    uint32_t properties;  /* index of the properties object, or 0 */
    struct span first_id; /* any id of a person; another one makes a link */
    uint8_t rank;         /* of the primary id so far; 0 = none */
    bool has_time;
    unsigned id_count;
    struct buf ids; /* all ids in order, as they are fingerprinted */
};

/*
 * The same ids in the same order as person_next's: a fingerprint must tell apart all that may be
 * read differently there.
 */
static void note_id(struct reading *r, const struct field *field, struct span id, bool is_device) {
    uint8_t *at = buf_room(&r->ids, 4);
    if (at != NULL) {
        at[0] = field->person;
        at[1] = is_device || field->person == PERSON_DEVICE;
        put_u16(at + 2, (uint16_t)id.n);
        buf_put_span(&r->ids, id);
        r->id_count++;
    }
}

/* 0 where the resolver may not take in all of them, too. */
static uint64_t fingerprint(struct reading *r, const uint8_t *key) {
    const struct protocol_item *item = r->item;
    bool is_about_ids =
        item->kind == EVENT_IDENTIFY || item->kind == EVENT_ALIAS || item->kind == EVENT_MERGE;
    if (key == NULL || (!is_about_ids && (item->flags & EVENT_HAS_LINKS) == 0)) {
        return 0;
    }
    const uint8_t end[] = {PROTOCOL_MIXPANEL, item->kind};
    buf_put(&r->ids, end, sizeof(end));
    return r->ids.full || r->id_count > IDS_MAX ? 0 : siphash(key, buf_span(&r->ids));
}

static void note_person(struct reading *r, const struct field *field, uint32_t value) {
    struct span id;
    bool is_device;
    const struct json_token *token = &r->decoded->tokens[value];
    bool is_primary = field->rank != 0 && (r->rank == 0 || field->rank <= r->rank);
    if (!mixpanel_person_id(r->decoded->text, token, r->scratch, &id, &is_device)) {
        if (field->rank != 0 && field->rank == r->rank) {
            /* The same key again without an id takes the first one's place, too. */
            r->rank = 0;
            r->item->person = SPAN_NONE;
        }
        return;
    }
    note_id(r, field, id, is_device);
    if (is_primary) {
        r->rank = field->rank;
        r->item->person = id;
    }
    if (field->person == PERSON_ECHO) {
        return;
    }
    if (r->first_id.n == 0) {
        r->first_id = id;
    } else if (!span_equal(r->first_id, id)) {
        r->item->flags |= EVENT_HAS_LINKS;
    }
}

static void note_persons(struct reading *r, const struct field *field, uint32_t value) {
    const struct json_token *tokens = r->decoded->tokens;
    if (tokens[value].kind != JSON_ARRAY) {
        note_person(r, field, value);
        return;
    }
    for (uint32_t i = value + 1; i < tokens[value].next; i = tokens[i].next) {
        note_person(r, field, i);
    }
}

static struct span string_of(struct reading *r, uint32_t value) {
    const struct json_token *token = &r->decoded->tokens[value];
    if (token->kind == JSON_STRING) {
        return mixpanel_text(r->decoded->text, token, r->scratch);
    }
    return token->kind == JSON_NUMBER ? json_span(r->decoded->text, token) : SPAN_NONE;
}

static void note_time(struct reading *r, uint32_t value) {
    const struct json_token *token = &r->decoded->tokens[value];
    int64_t ms;
    r->has_time = field_time_ms((enum json_kind)token->kind, string_of(r, value), &ms);
    if (r->has_time) {
        r->item->time_ms = ms;
        r->item->said_ms = ms;
    }
}

static void note(struct reading *r, const struct field *field, uint32_t value) {
    const struct json_token *token = &r->decoded->tokens[value];
    switch ((enum field_role)field->role) {
    case ROLE_EVENT_NAME:
        r->item->event_name = token->kind == JSON_STRING ? string_of(r, value) : SPAN_NONE;
        break;
    case ROLE_PROPERTIES:
        r->properties = token->kind == JSON_OBJECT ? value : 0;
        break;
    case ROLE_TOKEN:
        r->item->token = token->kind == JSON_STRING ? string_of(r, value) : SPAN_NONE;
        break;
    case ROLE_INSERT_ID:
        r->item->dedupe = string_of(r, value);
        break;
    case ROLE_TIME:
        note_time(r, value);
        break;
    case ROLE_PERSON:
        note_persons(r, field, value);
        break;
    case ROLE_DATA:
    case ROLE_OPERATION:
    case ROLE_NAMES:
    case ROLE_GROUP_KEY:
    case ROLE_GROUP_ID:
    case ROLE_CALL:
    case ROLE_PLUMBING:
    case ROLE_ONWARD:
        break;
    }
}

static void read_members(struct reading *r, uint32_t object, enum field_place place) {
    const struct json_token *tokens = r->decoded->tokens;
    for (uint32_t i = object + 1; i < tokens[object].next; i = tokens[i].next) {
        check_slow(tokens[i].kind == JSON_KEY);
        struct span key = mixpanel_text(r->decoded->text, &tokens[i], r->scratch);
        if (mixpanel_may_have_role(place, key)) {
            const struct field *field = mixpanel_field(place, key);
            if (field != NULL) {
                note(r, field, i + 1);
            }
        }
    }
}

static uint8_t event_kind_of(struct span name) {
    if (name.p[0] == '$') {
        if (span_is(name, "$identify")) {
            return EVENT_IDENTIFY;
        }
        if (span_is(name, "$create_alias")) {
            return EVENT_ALIAS;
        }
        if (span_is(name, "$merge")) {
            return EVENT_MERGE;
        }
    }
    return EVENT_TRACK;
}

static uint8_t read_event(struct reading *r) {
    struct protocol_item *item = r->item;
    read_members(r, item->root, PLACE_EVENT);
    if (item->event_name.n == 0) {
        return REASON_NO_EVENT_NAME;
    }
    if (r->properties == 0) {
        return REASON_MALFORMED;
    }
    item->kind = event_kind_of(item->event_name);
    read_members(r, r->properties, PLACE_EVENT_PROPERTY);
    return REASON_NONE;
}

static uint8_t read(struct reading *r) {
    struct protocol_item *item = r->item;
    uint8_t reason = item_check(r->decoded, item->root, r->deep);
    if (reason != REASON_NONE) {
        return reason;
    }
    switch ((enum mixpanel_path)r->decoded->envelope.endpoint) {
    case MIXPANEL_ENGAGE:
        item->kind = EVENT_PROFILE;
        read_members(r, item->root, PLACE_PROFILE);
        break;
    case MIXPANEL_GROUPS:
        item->kind = EVENT_GROUP;
        read_members(r, item->root, PLACE_GROUP);
        break;
    case MIXPANEL_IMPORT:
        item->flags |= EVENT_IS_HISTORIC;
        reason = read_event(r);
        break;
    case MIXPANEL_TRACK:
        reason = read_event(r);
        break;
    case MIXPANEL_SETTINGS:
    case MIXPANEL_FLAGS:
    case MIXPANEL_DECIDE:
    case MIXPANEL_RECORD:
        unreachable_because("these paths carry no items");
    }
    return r->scratch->full ? REASON_TOO_BIG : reason;
}

void mixpanel_read_item(const struct protocol_decoded *decoded, int64_t now_ms, bool deep,
                        const uint8_t *ids_key, struct buf *scratch, struct protocol_item *item) {
    uint8_t memory[IDS_SIZE_MAX];
    struct reading r = {.decoded = decoded, .scratch = scratch, .item = item, .deep = deep};
    r.ids = buf_of(memory, sizeof(memory));
    item->time_ms = now_ms;
    item->reason = read(&r);
    item->ids = item->reason == REASON_NONE ? fingerprint(&r, ids_key) : 0;
    if (!r.has_time) {
        item->time_ms = now_ms;
        item->flags |= EVENT_NO_TIME;
    }
}
