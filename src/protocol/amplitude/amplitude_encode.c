/*
 * Items -> POST /2/httpapi, gzip as its SDKs do there, and what its answers mean.
 *
 *   {"api_key":...,"events":[{<additions>,...},...],"options":{"min_id_length":1}}
 *
 * The source's key never was in an item; the vendor's stands in the body, so no header carries it. Additions, each unless the
 * item says it itself:
 *   ip 0.0.0.0          which has no place: Amplitude would else look up the address that the request comes from
 *   event_type          of what came to /identify or /groupidentify, where it needs none
 *   groups              instead of group_type and group_value, which only /groupidentify knows
 *   device_id           of a group's update that names nobody: its insert_id, since Amplitude takes no event without an id
 *
 * A 400 takes nothing of a request, whatever indexes it names, so it is halved until what is refused stands alone; insert_id keeps what was taken
 * from counting twice.
 */
#include "base/check.h"
#include "protocol/amplitude/amplitude_int.h"
#include "protocol/wire/loose.h"
#include "protocol/wire/wire.h"

enum {
    INSERT_ID_MAX = 64, /* policy writes 28 bytes */
    ADDED_MAX = 192,    /* more than an item grows by */
};

enum part {
    PART_TYPE,
    PART_ADDRESS,
    PART_USER,
    PART_DEVICE,
    PART_INSERT_ID,
    PART_GROUP_PROPERTIES,
    PART_GROUP_TYPE,
    PART_GROUP_VALUE,
    PARTS,
};

#define PART(name) \
    { (const uint8_t *)(name), sizeof(name) - 1 }
static const struct span part_names[PARTS] = {PART("event_type"), PART("ip"),
                                              PART("user_id"),    PART("device_id"),
                                              PART("insert_id"),  PART("group_properties"),
                                              PART("group_type"), PART("group_value")};
#undef PART

unsigned amplitude_endpoint_of(enum event_kind kind) {
    (void)kind;
    return AMPLITUDE_SEND;
}

size_t amplitude_encoded_size(unsigned endpoint, size_t json_len, size_t credential_len) {
    check(endpoint == AMPLITUDE_SEND);
    (void)credential_len; /* once a request: body_max leaves room for it */
    return json_len + ADDED_MAX;
}

void amplitude_authorize(struct span credential, struct buf *out) {
    (void)credential;
    (void)out;
}

/* False unless the item is a whole object. */
static bool read_parts(struct span item, struct span parts[PARTS]) {
    struct span key;
    struct span value;
    size_t i = 1;
    if (item.n < 2 || item.p[0] != '{') {
        return false;
    }
    while (loose_next_key(item, &i, &key)) {
        if (!loose_take_value(item, &i, &value)) {
            return false;
        }
        for (unsigned part = 0; part < PARTS; part++) {
            parts[part] = span_equal(key, part_names[part]) ? value : parts[part];
        }
    }
    i = loose_skip_space(item, i);
    return i + 1 == item.n && item.p[i] == '}';
}

static void put_member(struct buf *out, bool *has_members, struct span key, struct span value) {
    buf_put_str(out, *has_members ? ",\"" : "\"");
    *has_members = true;
    buf_put_span(out, key);
    buf_put(out, "\":", 2);
    buf_put_span(out, value);
}

/* {"type":value} of the form's two members. */
static bool put_groups(struct buf *out, bool *has_members, const struct span *parts) {
    struct span type = parts[PART_GROUP_TYPE];
    if (type.n == 0 || type.p[0] != '"' || parts[PART_GROUP_VALUE].n == 0) {
        return false;
    }
    put_member(out, has_members, SPAN_LIT("groups"), SPAN_LIT("{"));
    buf_put_span(out, type);
    buf_put_byte(out, ':');
    buf_put_span(out, parts[PART_GROUP_VALUE]);
    buf_put_byte(out, '}');
    return true;
}

static int put_item(struct span item, struct buf *out) {
    struct span parts[PARTS] = {0};
    struct span key;
    struct span value;
    size_t i = 1;
    bool has_members = false;
    if (!read_parts(item, parts)) {
        return BH_E_SYNTAX;
    }
    struct span type = parts[PART_TYPE];
    bool is_group = type.n != 0 ? span_is(type, "\"$groupidentify\"")
                                : (parts[PART_GROUP_PROPERTIES].n | parts[PART_GROUP_TYPE].n) != 0;
    struct span insert_id = parts[PART_INSERT_ID];
    buf_put_byte(out, '{');
    if (type.n == 0) {
        put_member(out, &has_members, SPAN_LIT("event_type"),
                   is_group ? SPAN_LIT("\"$groupidentify\"") : SPAN_LIT("\"$identify\""));
    }
    if (parts[PART_ADDRESS].n == 0) {
        put_member(out, &has_members, SPAN_LIT("ip"), SPAN_LIT("\"0.0.0.0\""));
    }
    if (is_group && (parts[PART_USER].n | parts[PART_DEVICE].n) == 0 && insert_id.n != 0 &&
        insert_id.n <= INSERT_ID_MAX) {
        put_member(out, &has_members, SPAN_LIT("device_id"), insert_id);
    }
    bool has_groups = put_groups(out, &has_members, parts);
    while (loose_next_key(item, &i, &key) && loose_take_value(item, &i, &value)) {
        if (!has_groups || (!span_is(key, "group_type") && !span_is(key, "group_value"))) {
            put_member(out, &has_members, key, value);
        }
    }
    buf_put_byte(out, '}');
    return 0;
}

int amplitude_encode(unsigned endpoint, const struct span *items, size_t item_count,
                     struct span credential, struct wire *wire, struct buf *plain,
                     struct buf *packed, struct protocol_post *ret) {
    check(endpoint == AMPLITUDE_SEND);
    size_t before = plain->n;
    size_t packed_before = packed->n;
    buf_put_str(plain, "{\"api_key\":");
    json_put_string(plain, credential);
    buf_put_str(plain, ",\"events\":[");
    for (size_t i = 0; i < item_count; i++) {
        if (i > 0) {
            buf_put_byte(plain, ',');
        }
        int rc = put_item(items[i], plain);
        if (rc != 0) {
            return rc;
        }
    }
    buf_put_str(plain, "],\"options\":{\"min_id_length\":1}}");
    if (plain->full) {
        return BH_E_FULL;
    }
    *ret = (struct protocol_post){.path = "/2/httpapi",
                                  .content_type = "application/json",
                                  .gzip = true,
                                  .plain = span_of(plain->p + before, plain->n - before)};
    int rc = wire_gzip(wire, ret->plain, packed);
    ret->body = span_of(packed->p + packed_before, packed->n - packed_before);
    return rc;
}

/* Of a 400: whether the key is what Amplitude does not like. */
static bool is_about_key(struct span body) {
    struct span value;
    return (loose_member(body, "error", &value) &&
            span_starts(value, SPAN_LIT("\"Invalid API key"))) ||
           (loose_member(body, "missing_field", &value) && span_is(value, "\"api_key\""));
}

static enum answer_kind kind_of(unsigned status, struct span body, size_t item_count) {
    struct span value;
    switch (status) {
    case 200:
        return loose_member(body, "code", &value) && span_is(value, "200") ? ANSWER_ACCEPTED
                                                                           : ANSWER_RETRY;
    case 400:
    case 422:
        if (is_about_key(body)) {
            return ANSWER_AUTH;
        }
        /* An empty request has nothing to refuse; the vendor was reached and knows the key. */
        return item_count == 0 ? ANSWER_ACCEPTED : ANSWER_REFUSED;
    case 408:
    case 425:
    case 429: /* throttled or over quota: the same events later */
        return ANSWER_RETRY;
    case 413:
        return ANSWER_TOO_BIG;
    default:
        /* 2xx that Amplitude never sends comes from something between. Other 3xx and 4xx need a person. */
        return status >= 500 || status < 300 ? ANSWER_RETRY : ANSWER_AUTH;
    }
}

void amplitude_answer(
    unsigned endpoint, unsigned status, struct span body, size_t item_count,
    /* NOLINTNEXTLINE(readability-non-const-parameter): the signature is protocol_ops' */
    uint32_t *refused, struct protocol_answer *ret) {
    check(endpoint == AMPLITUDE_SEND);
    (void)refused;
    *ret = (struct protocol_answer){.kind = (uint8_t)kind_of(status, span_trim(body), item_count)};
}
