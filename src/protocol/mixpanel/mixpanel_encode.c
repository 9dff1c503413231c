/*
 * Items -> requests of Mixpanel's ingestion API, and what its answers mean.
 *
 *   1 /track?verbose=1&ip=0    $identify, $create_alias, which /import does not take; token in
 *                              properties
 *   2 /import?strict=1         other events and $merge, gzip; the project token is the Basic user
 *   3 /engage?verbose=1&ip=0   $token in each update
 *   4 /groups?verbose=1&ip=0   likewise
 *
 * Policy has dropped the source's token; the vendor's is put in here, so that no stage before holds
 * it. ip=0: else Mixpanel would take the gateway's own address for the person's.
 */
#include "base/check.h"
#include "base/compiler.h"
#include "protocol/mixpanel/mixpanel_int.h"
#include "protocol/wire/loose.h"
#include "protocol/wire/wire.h"

struct endpoint_row {
    const char *path;
    bool gzip;
    bool basic_auth;
    const char *token_before; /* what stands before the token's value, or NULL */
    const char *token_object; /* member whose object takes the token; NULL = the item itself */
};

static const struct endpoint_row endpoints[] = {
    [MIXPANEL_SEND_LINKS] = {"/track?verbose=1&ip=0", false, false, "\"token\":", "properties"},
    [MIXPANEL_SEND_EVENTS] = {"/import?strict=1", true, true, NULL, NULL},
    [MIXPANEL_SEND_ENGAGE] = {"/engage?verbose=1&ip=0", false, false, "\"$token\":", NULL},
    [MIXPANEL_SEND_GROUPS] = {"/groups?verbose=1&ip=0", false, false, "\"$token\":", NULL},
};

enum { TOKEN_MEMBER_MAX = 16 };

static const struct endpoint_row *row_of(unsigned endpoint) {
    check(endpoint >= 1 && endpoint < BH_COUNT(endpoints));
    return &endpoints[endpoint];
}

unsigned mixpanel_endpoint_of(enum event_kind kind) {
    switch (kind) {
    case EVENT_IDENTIFY:
    case EVENT_ALIAS:
        return MIXPANEL_SEND_LINKS;
    case EVENT_PROFILE:
        return MIXPANEL_SEND_ENGAGE;
    case EVENT_GROUP:
        return MIXPANEL_SEND_GROUPS;
    case EVENT_TRACK:
    case EVENT_MERGE:
        break;
    }
    return MIXPANEL_SEND_EVENTS;
}

size_t mixpanel_encoded_size(unsigned endpoint, size_t json_len, size_t credential_len) {
    const struct endpoint_row *row = row_of(endpoint);
    /*
     * Each byte of a credential may need six as \u00XX; the brackets of the array count once too
     * often.
     */
    size_t token = row->token_before != NULL ? TOKEN_MEMBER_MAX + 6 * credential_len : 0;
    return json_len + token + sizeof "[,]";
}

void mixpanel_authorize(struct span credential, struct buf *out) {
    wire_put_basic(credential, out);
}

/* Where the token goes: just after the brace of the object that takes it; 0 = no such object. */
static size_t token_place(const struct endpoint_row *row, struct span item) {
    struct span key;
    struct span value;
    size_t i = 1;
    if (item.n < 2 || item.p[0] != '{') {
        return 0;
    }
    if (row->token_object == NULL) {
        return 1;
    }
    while (loose_next_key(item, &i, &key)) {
        if (span_is(key, row->token_object)) {
            return i < item.n && item.p[i] == '{' ? i + 1 : 0;
        }
        if (!loose_take_value(item, &i, &value)) {
            break;
        }
    }
    return 0;
}

static int put_item(const struct endpoint_row *row, struct span item, struct span credential,
                    struct buf *out) {
    if (row->token_before == NULL) {
        buf_put_span(out, item);
        return 0;
    }
    size_t place = token_place(row, item);
    size_t first = loose_skip_space(item, place);
    if (place == 0 || first >= item.n) {
        return BH_E_SYNTAX;
    }
    buf_put(out, item.p, place);
    buf_put_str(out, row->token_before);
    json_put_string(out, credential);
    if (item.p[first] != '}') {
        buf_put_byte(out, ',');
    }
    buf_put_span(out, span_from(item, place));
    return 0;
}

int mixpanel_encode(unsigned endpoint, const struct span *items, size_t item_count,
                    struct span credential, struct wire *wire, struct buf *plain,
                    struct buf *packed, struct protocol_post *ret) {
    const struct endpoint_row *row = row_of(endpoint);
    size_t before = plain->n;
    buf_put_byte(plain, '[');
    for (size_t i = 0; i < item_count; i++) {
        if (i > 0) {
            buf_put_byte(plain, ',');
        }
        int rc = put_item(row, items[i], credential, plain);
        if (rc != 0) {
            return rc;
        }
    }
    buf_put_byte(plain, ']');
    if (plain->full) {
        return BH_E_FULL;
    }
    *ret = (struct protocol_post){.path = row->path,
                                  .content_type = "application/json",
                                  .gzip = row->gzip,
                                  .basic_auth = row->basic_auth,
                                  .plain = span_of(plain->p + before, plain->n - before)};
    ret->body = ret->plain;
    if (row->gzip) {
        size_t packed_before = packed->n;
        int rc = wire_gzip(wire, ret->plain, packed);
        if (rc != 0) {
            return rc;
        }
        ret->body = span_of(packed->p + packed_before, packed->n - packed_before);
    }
    return 0;
}

/* Keeps `refused` ascending and without repeats: vendors name indexes in order, so this appends. */
static void add_refused(uint32_t *refused, uint32_t *count, uint32_t index) {
    uint32_t at = *count;
    while (at > 0 && refused[at - 1] > index) {
        at--;
    }
    if (at > 0 && refused[at - 1] == index) {
        return;
    }
    memmove(refused + at + 1, refused + at, (*count - at) * sizeof refused[0]);
    refused[at] = index;
    (*count)++;
}

/* Indexes of failed_records; false unless each record names one of ours. */
static bool read_refused(struct span body, size_t item_count, uint32_t *refused,
                         uint32_t *ret_count) {
    struct span records;
    struct span record;
    uint32_t count = 0;
    size_t i = 1;
    if (!loose_member(body, "failed_records", &records) || records.p[0] != '[') {
        return false;
    }
    for (i = loose_skip_comma(records, i); loose_take_value(records, &i, &record);
         i = loose_skip_comma(records, i)) {
        struct span value;
        uint64_t index;
        if (!loose_member(record, "index", &value) || !span_to_u64(value, &index) ||
            index >= item_count) {
            return false;
        }
        add_refused(refused, &count, (uint32_t)index);
    }
    *ret_count = count;
    return count > 0;
}

/* Of a 200: the body says whether it is the vendor's word, and which. */
static enum answer_kind read_success(unsigned endpoint, struct span body) {
    struct span value;
    if (span_is(body, "1")) {
        return ANSWER_ACCEPTED;
    }
    if (span_is(body, "0")) {
        return ANSWER_REFUSED;
    }
    if (body.n == 0 || body.p[0] != '{') {
        return ANSWER_RETRY;
    }
    if (endpoint == MIXPANEL_SEND_EVENTS) {
        return loose_member(body, "code", &value) && span_is(value, "200") ? ANSWER_ACCEPTED
                                                                           : ANSWER_RETRY;
    }
    if (!loose_member(body, "status", &value)) {
        return ANSWER_RETRY;
    }
    return span_is(value, "1") ? ANSWER_ACCEPTED : ANSWER_REFUSED;
}

void mixpanel_answer(unsigned endpoint, unsigned status, struct span body, size_t item_count,
                     uint32_t *refused, struct protocol_answer *ret) {
    (void)row_of(endpoint);
    *ret = (struct protocol_answer){.kind = ANSWER_AUTH};
    body = span_trim(body);
    switch (status) {
    case 200:
        ret->kind = (uint8_t)read_success(endpoint, body);
        return;
    case 400:
    case 422:
        ret->kind = read_refused(body, item_count, refused, &ret->refused_count) ? ANSWER_ACCEPTED
                                                                                 : ANSWER_REFUSED;
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
         * 2xx that Mixpanel never sends comes from something between. Other 3xx and 4xx need a
         * person.
         */
        if (status >= 500 || status < 300) {
            ret->kind = ANSWER_RETRY;
        }
        return;
    }
}
