/*
 * Items -> requests of the vendor, and what its answers mean.
 *
 *   POST /v1/batch  {"batch":[message...]}   Basic: the write key is the user; not compressed
 *
 * Segment is a router by itself, and a server's address is taken for the person's where a message has none. So each
 * message gets
 *   "integrations":{"All":false}   passed on to nobody; policy lets nothing of the SDK's own word through
 *   "context":{"ip":"0.0.0.0"}     unless the contract let an address leave
 *
 * 200 means taken, and there is no word about single messages; one that is too large would cost the whole request.
 */
#include "base/check.h"
#include "protocol/segment/segment_int.h"
#include "protocol/wire/loose.h"
#include "protocol/wire/wire.h"

enum { MESSAGE_MAX = 32 * 1024 };

static const char no_address[] = "\"ip\":\"0.0.0.0\"";
static const char nobody_else[] = "\"integrations\":{\"All\":false}";

unsigned segment_endpoint_of(enum event_kind kind) {
    (void)kind;
    return SEGMENT_SEND_BATCH;
}

size_t segment_encoded_size(unsigned endpoint, size_t json_len, size_t credential_len) {
    (void)endpoint;
    (void)credential_len; /* in a header */
    return json_len + sizeof "{\"batch\":[]}" + sizeof ",,\"context\":{}," + sizeof no_address +
           sizeof nobody_else;
}

/* Where a message's address stands, or could. Policy writes what it lets leave without white space. */
struct place {
    size_t context; /* behind the brace of context; 0 = there is none */
    bool has_address;
};

/* From its opening quote (*i) to its closing one: what lies between. */
static struct span skip_string(struct span item, size_t *i) {
    size_t start = *i + 1;
    size_t end = loose_skip_string(item, *i);
    *i = end != SIZE_MAX ? end - 1 : item.n;
    return end != SIZE_MAX ? span_cut(item, start, end - 1 - start) : SPAN_NONE;
}

/*
 * One pass: strings are skipped, brackets counted; a key is a string in an object that a colon follows. False: it is not
 * an object as policy writes one.
 */
static bool find_place(struct span item, struct place *ret) {
    size_t depth = 0;
    bool in_context = false;
    *ret = (struct place){0, false};
    for (size_t i = 0; i < item.n; i++) {
        uint8_t c = item.p[i];
        if (c == '{' || c == '[') {
            depth++;
        } else if (c == '}' || c == ']') {
            depth--;
            in_context = in_context && depth > 1;
            if (depth == 0) {
                return i + 1 == item.n && item.p[0] == '{';
            }
        } else if (c == '"') {
            struct span text = skip_string(item, &i);
            bool is_key = i + 1 < item.n && item.p[i + 1] == ':';
            if (is_key && depth == 1 && span_is(text, "context") && i + 2 < item.n &&
                item.p[i + 2] == '{') {
                ret->context = i + 3;
                in_context = true;
            }
            ret->has_address |= is_key && depth == 2 && in_context && span_is(text, "ip");
        }
    }
    return false;
}

static int put_message(struct span item, struct buf *out) {
    struct place place;
    if (item.n > MESSAGE_MAX - sizeof no_address - sizeof nobody_else || item.n < 2 ||
        !find_place(item, &place)) {
        return BH_E_SYNTAX;
    }
    buf_put_byte(out, '{');
    buf_put_str(out, nobody_else);
    if (place.context == 0) {
        buf_put_str(out, ",\"context\":{");
        buf_put_str(out, no_address);
        buf_put_byte(out, '}');
    }
    if (item.n > 2) {
        buf_put_byte(out, ',');
    }
    if (place.context == 0 || place.has_address) {
        buf_put_span(out, span_from(item, 1));
        return 0;
    }
    buf_put_span(out, span_cut(item, 1, place.context - 1));
    buf_put_str(out, no_address);
    if (item.p[place.context] != '}') {
        buf_put_byte(out, ',');
    }
    buf_put_span(out, span_from(item, place.context));
    return 0;
}

int segment_put_batch(const struct span *items, size_t item_count, struct buf *plain) {
    buf_put_str(plain, "{\"batch\":[");
    for (size_t i = 0; i < item_count; i++) {
        if (i > 0) {
            buf_put_byte(plain, ',');
        }
        int rc = put_message(items[i], plain);
        if (rc != 0) {
            return rc;
        }
    }
    buf_put_str(plain, "]}");
    return plain->full ? BH_E_FULL : 0;
}

int segment_encode(unsigned endpoint, const struct span *items, size_t item_count,
                   struct span credential, struct wire *wire, struct buf *plain, struct buf *packed,
                   struct protocol_post *ret) {
    (void)credential;
    (void)wire;
    (void)packed;
    check(endpoint == SEGMENT_SEND_BATCH);
    size_t before = plain->n;
    int rc = segment_put_batch(items, item_count, plain);
    if (rc == 0) {
        *ret = (struct protocol_post){.path = "/v1/batch",
                                      .content_type = "application/json",
                                      .basic_auth = true,
                                      .plain = span_of(plain->p + before, plain->n - before)};
        ret->body = ret->plain;
    }
    return rc;
}

void segment_answer_by(unsigned status, bool taken, struct protocol_answer *ret) {
    *ret = (struct protocol_answer){.kind = ANSWER_AUTH};
    switch (status) {
    case 200:
        /* Any other body is of something in between. */
        ret->kind = taken ? ANSWER_ACCEPTED : ANSWER_RETRY;
        return;
    case 400:
    case 422:
        ret->kind = ANSWER_REFUSED;
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
        if (status >= 500 || status < 300) {
            ret->kind = ANSWER_RETRY;
        }
        return;
    }
}

/* {"success":true}, with any white space. */
static bool says_success(struct span body) {
    static const char yes[] = "{\"success\":true";
    size_t n = 0;
    for (size_t i = 0; i < body.n && n < sizeof yes - 1; i++) {
        uint8_t c = body.p[i];
        if (c == ' ' || c == '\t' || c == '\r' || c == '\n') {
            continue;
        }
        if (c != (uint8_t)yes[n]) {
            return false;
        }
        n++;
    }
    return n == sizeof yes - 1;
}

void segment_answer(
    unsigned endpoint, unsigned status, struct span body, size_t item_count,
    /* NOLINTNEXTLINE(readability-non-const-parameter): the signature is protocol_ops' */
    uint32_t *refused, struct protocol_answer *ret) {
    (void)endpoint;
    (void)item_count;
    (void)refused;
    segment_answer_by(status, says_success(body), ret);
}
