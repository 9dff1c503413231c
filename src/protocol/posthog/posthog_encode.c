/*
 * Items -> POST /batch/ of PostHog's capture API, gzip, and what its answers mean.
 *
 *   {"api_key":"...","batch":[{"properties":{<additions>,...},...},...]}
 *
 * Additions, each unless the item says it itself:
 *   $geoip_disable:true            else PostHog would take the gateway's own address for the person's;
 *                                  not where $ip leaves, which the contract opened for just that
 *   $process_person_profile:false  of an event whose ids are closed; its distinct_id is its uuid then,
 *                                  so that no two such events share one
 *   $session_id, $window_id, $process_person_profile   from session_id, window_id and options, where
 *                                  /i/v1/analytics/events has them and /batch/ does not look
 */
#include "base/check.h"
#include "base/compiler.h"
#include "engine/json/json.h"
#include "protocol/posthog/posthog_int.h"
#include "protocol/wire/loose.h"
#include "protocol/wire/wire.h"

enum {
    UUID_MAX = 64,     /* policy writes 38 bytes */
    ADDED_MAX = 192,   /* more than an item grows by */
    ENVELOPE_MAX = 32, /* {"api_key":"","batch":[]} */
};

/* Values of an item's members; empty where there are none. */
struct parts {
    struct span event;
    struct span uuid;
    struct span distinct_id;
    struct span properties;
    struct span session_id;
    struct span window_id;
    struct span options;
    /* Of its properties. */
    struct span inner_distinct_id;
    struct span ip;
    struct span geoip_disable;
    struct span process_profile;
    struct span inner_session_id;
    struct span inner_window_id;
};

struct part_row {
    const char *key;
    size_t key_len;
    size_t offset;
    bool is_moved; /* is not written where it stood */
};

#define PART(key, member, is_moved) \
    { (key), sizeof(key) - 1, offsetof(struct parts, member), (is_moved) }

static const struct part_row root_parts[] = {
    PART("event", event, false),
    PART("uuid", uuid, false),
    PART("distinct_id", distinct_id, false),
    PART("properties", properties, true),
    PART("session_id", session_id, true),
    PART("window_id", window_id, true),
    PART("options", options, true),
};

static const struct part_row property_parts[] = {
    PART("distinct_id", inner_distinct_id, false),
    PART("$ip", ip, false),
    PART("$geoip_disable", geoip_disable, false),
    PART("$process_person_profile", process_profile, false),
    PART("$session_id", inner_session_id, false),
    PART("$window_id", inner_window_id, false),
};

static const struct part_row *row_of(const struct part_row *rows, size_t count, struct span key) {
    for (size_t i = 0; i < count; i++) {
        if (key.n == rows[i].key_len && memcmp(key.p, rows[i].key, key.n) == 0) {
            return &rows[i];
        }
    }
    return NULL;
}

/* False unless it is a whole object. */
static bool read_parts(struct span object, const struct part_row *rows, size_t count,
                       struct parts *parts) {
    struct span key;
    struct span value;
    size_t i = 1;
    if (object.n < 2 || object.p[0] != '{') {
        return false;
    }
    while (loose_next_key(object, &i, &key)) {
        if (!loose_take_value(object, &i, &value)) {
            return false;
        }
        const struct part_row *row = row_of(rows, count, key);
        if (row != NULL) {
            memcpy((uint8_t *)parts + row->offset, &value, sizeof value);
        }
    }
    i = loose_skip_space(object, i);
    return i + 1 == object.n && object.p[i] == '}';
}

/* An id that is there and says something. */
static bool is_id(struct span value) {
    return value.n != 0 && !span_is(value, "\"\"") && !span_is(value, "null");
}

static void put_member(struct buf *out, bool *has_members, struct span key, struct span value) {
    if (*has_members) {
        buf_put_byte(out, ',');
    }
    *has_members = true;
    buf_put_byte(out, '"');
    buf_put_span(out, key);
    buf_put(out, "\":", 2);
    buf_put_span(out, value);
}

/* What an event's properties get beside what the item says. */
static void put_additions(struct buf *out, const struct parts *p, bool is_nobody,
                          bool *ret_has_members) {
    bool has_members = false;
    if (p->ip.n == 0 && p->geoip_disable.n == 0) {
        put_member(out, &has_members, SPAN_LIT("$geoip_disable"), SPAN_LIT("true"));
    }
    struct span wish = SPAN_NONE;
    if (is_nobody) {
        wish = SPAN_LIT("false");
    } else if (p->process_profile.n == 0 &&
               !loose_member(p->options, "process_person_profile", &wish)) {
        wish = SPAN_NONE;
    }
    if (wish.n != 0) {
        put_member(out, &has_members, SPAN_LIT("$process_person_profile"), wish);
    }
    if (p->session_id.n != 0 && p->inner_session_id.n == 0) {
        put_member(out, &has_members, SPAN_LIT("$session_id"), p->session_id);
    }
    if (p->window_id.n != 0 && p->inner_window_id.n == 0) {
        put_member(out, &has_members, SPAN_LIT("$window_id"), p->window_id);
    }
    *ret_has_members = has_members;
}

static void put_properties(struct buf *out, const struct parts *p, bool is_nobody) {
    struct span key;
    struct span value;
    size_t i = 1;
    bool has_members = false;
    buf_put_byte(out, '{');
    put_additions(out, p, is_nobody, &has_members);
    while (loose_next_key(p->properties, &i, &key) && loose_take_value(p->properties, &i, &value)) {
        if (!is_nobody || !span_is(key, "$process_person_profile")) {
            put_member(out, &has_members, key, value);
        }
    }
    buf_put_byte(out, '}');
}

static int put_item(struct span item, struct buf *out) {
    struct parts p = {0};
    struct span key;
    struct span value;
    if (!read_parts(item, root_parts, BH_COUNT(root_parts), &p) ||
        (p.properties.n != 0 &&
         !read_parts(p.properties, property_parts, BH_COUNT(property_parts), &p))) {
        return BH_E_SYNTAX;
    }
    bool is_unnamed = !is_id(p.distinct_id) && !is_id(p.inner_distinct_id);
    /* A group update without a person is no event without a profile: PostHog would drop it. */
    bool is_nobody = is_unnamed && !span_is(p.event, "\"$groupidentify\"");
    if (is_unnamed && (!is_id(p.uuid) || p.uuid.n > UUID_MAX)) {
        return BH_E_SYNTAX;
    }
    bool is_moved = p.session_id.n != 0 || p.window_id.n != 0 || p.options.n != 0;
    if (!is_unnamed && !is_moved && p.properties.n >= 2) {
        /* Most items: all stays as it stands but for the additions. */
        bool has_additions = false;
        size_t inside = (size_t)(p.properties.p - item.p) + 1;
        buf_put_span(out, span_cut(item, 0, inside));
        put_additions(out, &p, false, &has_additions);
        if (has_additions && p.properties.n > 2) {
            buf_put_byte(out, ',');
        }
        buf_put_span(out, span_from(item, inside));
        return 0;
    }
    bool has_members = true;
    buf_put_str(out, "{\"properties\":");
    put_properties(out, &p, is_nobody);
    size_t i = 1;
    while (loose_next_key(item, &i, &key) && loose_take_value(item, &i, &value)) {
        const struct part_row *row = row_of(root_parts, BH_COUNT(root_parts), key);
        bool is_empty_id = is_unnamed && span_is(key, "distinct_id");
        if ((row == NULL || !row->is_moved) && !is_empty_id) {
            put_member(out, &has_members, key, value);
        }
    }
    if (is_unnamed) {
        put_member(out, &has_members, SPAN_LIT("distinct_id"), p.uuid);
    }
    buf_put_byte(out, '}');
    return 0;
}

unsigned posthog_endpoint_of(enum event_kind kind) {
    (void)kind;
    return POSTHOG_SEND_BATCH;
}

size_t posthog_encoded_size(unsigned endpoint, size_t json_len, size_t credential_len) {
    check(endpoint == POSTHOG_SEND_BATCH);
    /* The envelope counts once for each item, and so often enough for a credential with escapes. */
    return json_len + ADDED_MAX + ENVELOPE_MAX + 6 * credential_len;
}

/* The token stands in the body. */
void posthog_authorize(struct span credential, struct buf *out) {
    (void)credential;
    (void)out;
}

int posthog_encode(unsigned endpoint, const struct span *items, size_t item_count,
                   struct span credential, struct wire *wire, struct buf *plain, struct buf *packed,
                   struct protocol_post *ret) {
    check(endpoint == POSTHOG_SEND_BATCH);
    size_t before = plain->n;
    size_t packed_before = packed->n;
    buf_put_str(plain, "{\"api_key\":");
    json_put_string(plain, credential);
    buf_put_str(plain, ",\"batch\":[");
    for (size_t i = 0; i < item_count; i++) {
        if (i > 0) {
            buf_put_byte(plain, ',');
        }
        int rc = put_item(items[i], plain);
        if (rc != 0) {
            return rc;
        }
    }
    buf_put_str(plain, "]}");
    if (plain->full) {
        return BH_E_FULL;
    }
    *ret = (struct protocol_post){.path = "/batch/",
                                  .content_type = "application/json",
                                  .gzip = true,
                                  .plain = span_of(plain->p + before, plain->n - before)};
    int rc = wire_gzip(wire, ret->plain, packed);
    ret->body = span_of(packed->p + packed_before, packed->n - packed_before);
    return rc;
}

/*
 * Of a 200: {"status":"Ok"} or {"status":1}. One that says that events are over the project's quota
 * was not kept; the vendor means: later.
 */
static enum answer_kind read_success(struct span body) {
    struct span value;
    if (loose_member(body, "quota_limited", &value) &&
        span_find(value, SPAN_LIT("\"events\"")) != SIZE_MAX) {
        return ANSWER_RETRY;
    }
    bool is_ok =
        loose_member(body, "status", &value) && (span_is(value, "\"Ok\"") || span_is(value, "1"));
    return is_ok ? ANSWER_ACCEPTED : ANSWER_RETRY;
}

void posthog_answer(
    unsigned endpoint, unsigned status, struct span body, size_t item_count,
    /* NOLINTNEXTLINE(readability-non-const-parameter): the signature is protocol_ops' */
    uint32_t *refused, struct protocol_answer *ret) {
    check(endpoint == POSTHOG_SEND_BATCH);
    (void)refused; /* PostHog does not say which item it refuses */
    *ret = (struct protocol_answer){.kind = ANSWER_AUTH};
    switch (status) {
    case 200:
        ret->kind = (uint8_t)read_success(span_trim(body));
        return;
    case 400:
    case 422:
        /* An empty batch, which asks whether the vendor is there, is refused by one that is. */
        ret->kind = item_count == 0 ? ANSWER_ACCEPTED : ANSWER_REFUSED;
        return;
    case 408:
    case 425:
    case 429:
        ret->kind = ANSWER_RETRY;
        return;
    case 413:
        ret->kind = ANSWER_TOO_BIG;
        return;
    default:
        /*
         * 2xx that PostHog never sends comes from something between. Other 3xx and 4xx need a
         * person.
         */
        if (status >= 500 || status < 300) {
            ret->kind = ANSWER_RETRY;
        }
        return;
    }
}
