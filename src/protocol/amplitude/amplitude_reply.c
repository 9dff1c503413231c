/*
 * Answers as Amplitude's SDKs want them: they read `code` of the body, not the status.
 *
 * What is wrong with a 400 is dropped by the SDK and the rest sent once more. So a request of which something was kept is answered by 200 with the
 * count of what was: the good events do not come twice, and the bad ones, which no second try would mend, do not come again. Where nothing was
 * good, each is named; where nothing could be read, `missing_field` says so, which ends it. 503 in the body is tried again, 12 times.
 */
#include "protocol/amplitude/amplitude_int.h"

struct answer_row {
    unsigned status;
    const char *error;
};

static const struct answer_row answers[] = {
    [REPLY_KEPT] = {200, NULL},
    [REPLY_MALFORMED] = {400, "Bad request"},
    [REPLY_UNAUTHORIZED] = {400, "Invalid API key"},
    [REPLY_TOO_BIG] = {413, "Payload too large"},
    [REPLY_UNAVAILABLE] = {503, "Service unavailable, try again"},
    [REPLY_NOT_FOUND] = {404, "Not found"},
    [REPLY_BAD_METHOD] = {405, "Method not allowed"},
};

static void put_kept(struct buf *out, const struct protocol_envelope *envelope,
                     const struct protocol_item *items, size_t count) {
    size_t good = 0;
    for (size_t i = 0; i < count; i++) {
        good += items[i].reason == REASON_NONE;
    }
    buf_put_str(out, "{\"code\":200,\"events_ingested\":");
    buf_put_u64_dec(out, good);
    buf_put_str(out, ",\"payload_size_bytes\":");
    buf_put_u64_dec(out, envelope->body_bytes);
    buf_put_str(out, ",\"server_upload_time\":");
    buf_put_i64_dec(out, envelope->now_ms);
    buf_put_byte(out, '}');
}

/* "field":[0,2] of the items that lack a name, or have any other fault. Listed as long as they fit. */
static void put_indexes(struct buf *out, const char *field, const struct protocol_item *items,
                        size_t count, bool nameless) {
    const size_t tail = 256;
    bool first = true;
    for (size_t i = 0; i < count && out->cap - out->n > tail; i++) {
        bool is_nameless = items[i].reason == REASON_NO_EVENT_NAME;
        if (items[i].reason == REASON_NONE || is_nameless != nameless) {
            continue;
        }
        buf_put_byte(out, first ? '"' : ',');
        if (first) {
            buf_put_str(out, field);
            buf_put_str(out, "\":[");
        }
        buf_put_u64_dec(out, i);
        first = false;
    }
    buf_put_str(out, first ? "" : "]");
}

static void put_malformed(struct buf *out, const struct protocol_item *items, size_t count) {
    if (count == 0) {
        buf_put_str(out, "\"missing_field\":\"events\"");
        return;
    }
    buf_put_str(out, "\"events_with_invalid_fields\":{");
    put_indexes(out, "event", items, count, false);
    buf_put_str(out, "},\"events_with_missing_fields\":{");
    put_indexes(out, "event_type", items, count, true);
    buf_put_byte(out, '}');
}

void amplitude_reply(const struct protocol_envelope *envelope, enum reply_kind kind,
                     const struct protocol_item *items, size_t item_count, struct buf *memory,
                     struct protocol_reply *ret) {
    *ret =
        (struct protocol_reply){.status = answers[kind].status, .content_type = "application/json"};
    bool is_local = envelope->use == ENDPOINT_LOCAL || envelope->use == ENDPOINT_SHED;
    if (is_local && kind == REPLY_KEPT) {
        ret->body = envelope->endpoint == AMPLITUDE_CONFIG ? SPAN_LIT("{\"configs\":{}}")
                                                           : SPAN_LIT("{\"code\":200}");
        return;
    }
    size_t before = memory->n;
    item_count = items != NULL ? item_count : 0;
    if (kind == REPLY_KEPT) {
        put_kept(memory, envelope, items, item_count);
    } else {
        buf_put_str(memory, "{\"code\":");
        buf_put_u64_dec(memory, answers[kind].status);
        buf_put_str(memory, ",\"error\":\"");
        buf_put_str(memory, answers[kind].error);
        buf_put_byte(memory, '"');
        if (kind == REPLY_MALFORMED) {
            buf_put_byte(memory, ',');
            put_malformed(memory, items, item_count);
        }
        buf_put_byte(memory, '}');
    }
    ret->body =
        memory->full ? SPAN_LIT("{\"code\":503}") : span_of(memory->p + before, memory->n - before);
}
