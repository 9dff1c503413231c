/*
 * Items -> POST /2/httpapi, and what its answers mean.
 *
 *   {"api_key":…,"events":[…],"options":{"min_id_length":1}}
 *
 * The source's key never was in an item; the vendor's stands in the body, so no header carries it. An event without an address says 0.0.0.0, which
 * has no place: Amplitude would else look up the address that it takes the event to come from. What came to /identify has no event_type yet.
 *
 * A 400 takes nothing of a request, whatever indexes it names, so it is halved until what is refused stands alone; insert_id keeps what was taken
 * from counting twice.
 */
#include "base/check.h"
#include "protocol/amplitude/amplitude_int.h"
#include "protocol/wire/loose.h"

static const char no_address[] = "\"ip\":\"0.0.0.0\",";
static const char identify[] = "\"event_type\":\"$identify\",";
static const char group_identify[] = "\"event_type\":\"$groupidentify\",";

unsigned amplitude_endpoint_of(enum event_kind kind) {
    (void)kind;
    return AMPLITUDE_SEND;
}

size_t amplitude_encoded_size(unsigned endpoint, size_t json_len, size_t credential_len) {
    check(endpoint == AMPLITUDE_SEND);
    (void)credential_len; /* once a request: body_max leaves room for it */
    return json_len + sizeof no_address + sizeof group_identify + sizeof ",";
}

void amplitude_authorize(struct span credential, struct buf *out) {
    (void)credential;
    (void)out;
}

static int put_item(struct span item, struct buf *out) {
    struct span key;
    struct span value;
    size_t i = 1;
    bool has_type = false;
    bool has_address = false;
    bool has_group = false;
    if (item.n < 2 || item.p[0] != '{') {
        return BH_E_SYNTAX;
    }
    while (loose_next_key(item, &i, &key) && loose_take_value(item, &i, &value)) {
        has_type = has_type || span_is(key, "event_type");
        has_address = has_address || span_is(key, "ip");
        has_group = has_group || span_is(key, "group_properties");
    }
    i = loose_space(item, i);
    if (i + 1 != item.n || item.p[i] != '}') {
        return BH_E_SYNTAX;
    }
    buf_put_byte(out, '{');
    if (!has_type) {
        buf_put_str(out, has_group ? group_identify : identify);
    }
    if (!has_address) {
        buf_put_str(out, no_address);
    }
    if (loose_space(item, 1) + 1 == item.n && out->n > 0 && out->p[out->n - 1] == ',') {
        out->n--; /* an item of nothing else */
    }
    buf_put_span(out, span_from(item, 1));
    return 0;
}

int amplitude_encode(unsigned endpoint, const struct span *items, size_t item_count,
                     struct span credential, struct wire *wire, struct buf *plain,
                     struct buf *packed, struct protocol_post *ret) {
    check(endpoint == AMPLITUDE_SEND);
    (void)wire;
    (void)packed;
    size_t before = plain->n;
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
                                  .plain = span_of(plain->p + before, plain->n - before)};
    ret->body = ret->plain;
    return 0;
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

void amplitude_answer(unsigned endpoint, unsigned status, struct span body, size_t item_count,
                      uint32_t *refused, struct protocol_answer *ret) {
    check(endpoint == AMPLITUDE_SEND);
    (void)refused;
    *ret = (struct protocol_answer){.kind = (uint8_t)kind_of(status, span_trim(body), item_count)};
}
