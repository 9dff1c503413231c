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
#include "crypto/crypto.h"
#include "protocol/mixpanel/mixpanel_int.h"
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
    uint8_t both[512];
    uint8_t coded[700];
    size_t n = 0;
    struct buf b = buf_of(both, sizeof both);
    buf_put_span(&b, credential);
    buf_put_byte(&b, ':');
    if (b.full || base64_encode(buf_span(&b), coded, sizeof coded, &n) != 0) {
        out->full = true;
    } else {
        buf_put_str(out, "Basic ");
        buf_put(out, coded, n);
    }
    secret_wipe(both, sizeof both);
    secret_wipe(coded, sizeof coded);
}

/*
 * A loose walk over JSON that is known or hoped to be well-formed: brackets are counted, strings
 * are skipped. It needs no tokens, is linear, and ends at the first thing that it does not
 * understand.
 */
static size_t skip_space(struct span s, size_t i) {
    while (i < s.n && (s.p[i] == ' ' || s.p[i] == '\n' || s.p[i] == '\r' || s.p[i] == '\t')) {
        i++;
    }
    return i;
}

/* At a quote: index after the closing one, or SIZE_MAX. */
static size_t skip_string(struct span s, size_t i) {
    for (i++; i < s.n; i++) {
        if (s.p[i] == '\\') {
            i++;
        } else if (s.p[i] == '"') {
            return i + 1;
        }
    }
    return SIZE_MAX;
}

static size_t skip_value(struct span s, size_t i) {
    size_t depth = 0;
    size_t first = i;
    while (i < s.n) {
        uint8_t c = s.p[i];
        if (c == '"') {
            i = skip_string(s, i);
            if (i == SIZE_MAX) {
                return SIZE_MAX;
            }
        } else if (c == '{' || c == '[') {
            depth++;
            i++;
        } else if (depth > 0 && (c == '}' || c == ']')) {
            depth--;
            i++;
        } else if (depth == 0 && (c == ',' || c == '}' || c == ']' || c == ' ' || c == '\n')) {
            return i > first ? i : SIZE_MAX;
        } else {
            i++;
            continue;
        }
        if (depth == 0) {
            return i;
        }
    }
    return depth == 0 && i > first ? i : SIZE_MAX;
}

/* Steps over the comma before the next element or member, if there is one. */
static size_t skip_comma(struct span container, size_t i) {
    size_t at = skip_space(container, i);
    return at < container.n && container.p[at] == ',' ? skip_space(container, at + 1) : at;
}

/* Key of the object's next member; *i starts at 1 and stands at the member's value afterwards. */
static bool next_key(struct span object, size_t *i, struct span *ret_key) {
    size_t at = skip_comma(object, *i);
    if (at >= object.n || object.p[at] != '"') {
        return false;
    }
    size_t end = skip_string(object, at);
    if (end == SIZE_MAX) {
        return false;
    }
    *ret_key = span_cut(object, at + 1, end - at - 2);
    at = skip_space(object, end);
    if (at >= object.n || object.p[at] != ':') {
        return false;
    }
    *i = skip_space(object, at + 1);
    return true;
}

/* The value at *i, which afterwards stands behind it. */
static bool take_value(struct span container, size_t *i, struct span *ret_value) {
    size_t end = skip_value(container, *i);
    if (end == SIZE_MAX) {
        return false;
    }
    *ret_value = span_cut(container, *i, end - *i);
    *i = end;
    return true;
}

/* Value of a member of a whole object; false when it is absent or the object is cut short. */
static bool member(struct span object, const char *name, struct span *ret_value) {
    struct span key;
    struct span value;
    size_t i = 1;
    bool found = false;
    while (next_key(object, &i, &key) && take_value(object, &i, &value)) {
        if (span_is(key, name)) {
            *ret_value = value;
            found = true;
        }
    }
    i = skip_space(object, i);
    return found && i + 1 == object.n && object.p[i] == '}';
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
    while (next_key(item, &i, &key)) {
        if (span_is(key, row->token_object)) {
            return i < item.n && item.p[i] == '{' ? i + 1 : 0;
        }
        if (!take_value(item, &i, &value)) {
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
    size_t first = skip_space(item, place);
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
    if (!member(body, "failed_records", &records) || records.p[0] != '[') {
        return false;
    }
    for (i = skip_comma(records, i); take_value(records, &i, &record); i = skip_comma(records, i)) {
        struct span value;
        uint64_t index;
        if (!member(record, "index", &value) || !span_to_u64(value, &index) ||
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
        return member(body, "code", &value) && span_is(value, "200") ? ANSWER_ACCEPTED
                                                                     : ANSWER_RETRY;
    }
    if (!member(body, "status", &value)) {
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
