/*
 * Answers, byte for byte as SDKs want them: mixpanel-node compares the body with "1", the browser
 * SDK reads status and error of the verbose form, /import?strict=1 names the records that failed.
 * An answer never says why a token was refused, and never repeats a value but the sender's own
 * insert ids.
 */
#include "base/compiler.h"
#include "protocol/mixpanel/mixpanel_int.h"

struct answer_row {
    unsigned status;
    const char *error;  /* NULL: all is well */
    const char *phrase; /* "status" of the strict form */
};

static const struct answer_row answers[] = {
    [REPLY_KEPT] = {200, NULL, "OK"},
    [REPLY_MALFORMED] = {400, "data, missing or malformed", "Bad Request"},
    [REPLY_UNAUTHORIZED] = {401, "unauthorized", "Unauthorized"},
    [REPLY_TOO_BIG] = {413, "request is too large", "Request Entity Too Large"},
    [REPLY_UNAVAILABLE] = {503, "unavailable, try again", "Service Unavailable"},
    [REPLY_NOT_FOUND] = {404, "not found", "Not Found"},
    [REPLY_BAD_METHOD] = {405, "method not allowed", "Method Not Allowed"},
};

/* A transparent GIF of one pixel. */
static const uint8_t pixel[] = {
    'G', 'I', 'F', '8', '9', 'a',  1, 0, 1, 0, 0x80, 0, 0, 0, 0, 0, 0, 0,    0, 0x21, 0xF9, 4,
    1,   0,   0,   0,   0,   0x2C, 0, 0, 0, 0, 1,    0, 1, 0, 0, 2, 2, 0x44, 1, 0,    0x3B,
};

static const char *local_body(enum mixpanel_path path) {
    switch (path) {
    case MIXPANEL_SETTINGS:
        return "{\"sdk_config\":{\"config\":{}}}";
    case MIXPANEL_FLAGS:
        return "{\"flags\":{}}";
    case MIXPANEL_DECIDE:
        return "{\"config\":{},\"notifications\":[],\"surveys\":[]}";
    case MIXPANEL_RECORD:
        return "{\"code\":200,\"status\":\"OK\"}";
    case MIXPANEL_TRACK:
    case MIXPANEL_ENGAGE:
    case MIXPANEL_GROUPS:
    case MIXPANEL_IMPORT:
        break;
    }
    return "1";
}

struct fault {
    const char *field;
    const char *message;
};

static const struct fault faults[REASON_LIMIT] = {
    [REASON_NO_EVENT_NAME] = {"event", "'event' is missing or empty"},
    [REASON_UNKNOWN_TOKEN] = {"properties.token", "'properties.token' is invalid"},
    [REASON_TOO_BIG] = {"", "the record is too large"},
    [REASON_TOO_COMPLEX] = {"properties", "'properties' has too many or too deeply nested values"},
};

static struct fault fault_of(uint8_t reason) {
    const struct fault other = {"", "the record is malformed"};
    return reason < REASON_LIMIT && faults[reason].message != NULL ? faults[reason] : other;
}

/* Records are listed as long as they fit; the count above them is always right. */
static void put_failed_records(struct buf *out, const struct protocol_item *items, size_t count) {
    const size_t tail = sizeof "]}" + 1;
    bool first = true;
    for (size_t i = 0; i < count; i++) {
        if (items[i].reason == REASON_NONE) {
            continue;
        }
        struct fault fault = fault_of(items[i].reason);
        size_t most = 160 + items[i].dedupe.n * 6;
        if (out->cap - out->n < most + tail) {
            return;
        }
        buf_put_str(out, first ? "{\"index\":" : ",{\"index\":");
        buf_put_u64_dec(out, i);
        buf_put_str(out, ",\"$insert_id\":");
        json_put_string(out, items[i].dedupe);
        buf_put_str(out, ",\"field\":\"");
        buf_put_str(out, fault.field);
        buf_put_str(out, "\",\"message\":\"");
        buf_put_str(out, fault.message);
        buf_put_str(out, "\"}");
        first = false;
    }
}

static unsigned put_strict(struct buf *out, enum reply_kind kind, const struct protocol_item *items,
                           size_t count) {
    size_t good = 0;
    for (size_t i = 0; i < count; i++) {
        good += items[i].reason == REASON_NONE;
    }
    bool partial = kind == REPLY_KEPT && good < count;
    if (kind == REPLY_KEPT && !partial) {
        buf_put_str(out, "{\"code\":200,\"num_records_imported\":");
        buf_put_u64_dec(out, good);
        buf_put_str(out, ",\"status\":\"OK\"}");
        return 200;
    }
    if (partial || (kind == REPLY_MALFORMED && count > 0)) {
        buf_put_str(out, "{\"code\":400,\"error\":\"some data points in the request failed "
                         "validation\",\"failed_records\":[");
        put_failed_records(out, items, count);
        buf_put_str(out, "],\"num_records_imported\":");
        buf_put_u64_dec(out, kind == REPLY_KEPT ? good : 0);
        buf_put_str(out, ",\"status\":\"Bad Request\"}");
        return 400;
    }
    buf_put_str(out, "{\"code\":");
    buf_put_u64_dec(out, answers[kind].status);
    buf_put_str(out, ",\"error\":\"");
    buf_put_str(out, answers[kind].error);
    buf_put_str(out, "\",\"status\":\"");
    buf_put_str(out, answers[kind].phrase);
    buf_put_str(out, "\"}");
    return answers[kind].status;
}

static void put_plain(struct buf *out, const struct protocol_envelope *envelope,
                      enum reply_kind kind) {
    const struct answer_row *row = &answers[kind];
    if (!envelope->verbose) {
        buf_put_str(out, row->error == NULL ? "1" : "0");
    } else if (row->error == NULL) {
        buf_put_str(out, "{\"error\":null,\"status\":1}");
    } else {
        buf_put_str(out, "{\"error\":\"");
        buf_put_str(out, row->error);
        buf_put_str(out, "\",\"status\":0}");
    }
}

void mixpanel_reply(const struct protocol_envelope *envelope, enum reply_kind kind,
                    const struct protocol_item *items, size_t item_count, struct buf *memory,
                    struct protocol_reply *ret) {
    *ret =
        (struct protocol_reply){.status = answers[kind].status, .content_type = "application/json"};
    bool is_local = envelope->use == ENDPOINT_LOCAL || envelope->use == ENDPOINT_SHED;
    if (is_local && kind == REPLY_KEPT) {
        ret->body = span_str(local_body((enum mixpanel_path)envelope->endpoint));
        return;
    }
    if (envelope->image && kind == REPLY_KEPT) {
        ret->content_type = "image/gif";
        ret->body = span_of(pixel, sizeof pixel);
        return;
    }
    size_t before = memory->n;
    if (envelope->callback.n > 0) {
        /* The comment keeps a browser from reading the answer as anything but a script. */
        ret->content_type = "application/javascript";
        buf_put_str(memory, "/**/");
        buf_put_span(memory, envelope->callback);
        buf_put_byte(memory, '(');
    }
    if (envelope->endpoint == MIXPANEL_IMPORT && envelope->strict) {
        ret->status = put_strict(memory, kind, items, item_count);
    } else {
        put_plain(memory, envelope, kind);
    }
    if (envelope->callback.n > 0) {
        buf_put_str(memory, ");");
    }
    ret->body = memory->full ? SPAN_LIT("0") : span_of(memory->p + before, memory->n - before);
}
