/*
 * Items -> one POST, and what its answers mean.
 *
 *   {"type":"events","data":[<item>,...]}
 *
 * `type` is what tools for Standard Webhooks route by. The body is not compressed: what is signed are the bytes as they are sent, and a receiver
 * that unpacks before it verifies would sign others.
 */
#include "base/check.h"
#include "protocol/webhook/webhook_int.h"

enum {
    TABLE_VERSION = 1, /* there is no table */
    SEND_ITEMS_MAX = 2000,
    SEND_BODY_MAX = 1024 * 1024 - 64, /* what stands around the items is not in their sizes */
};

static uint8_t root_place(enum event_kind kind) {
    (void)kind;
    return PLACE_NONE;
}

static const struct field *field(enum field_place place, struct span key) {
    (void)place;
    (void)key;
    return NULL;
}

static const struct field *fields(size_t *ret_count) {
    *ret_count = 0;
    return NULL;
}

static bool is_reserved_event(struct span name) {
    (void)name;
    return false;
}

static bool is_placeholder(struct span id) {
    return id.n == 0;
}

static unsigned endpoint_of(enum event_kind kind) {
    (void)kind;
    return WEBHOOK_SEND;
}

static size_t encoded_size(unsigned endpoint, size_t json_len, size_t credential_len) {
    check(endpoint == WEBHOOK_SEND);
    (void)credential_len;
    return json_len + 1;
}

/* The signature is what proves who sends. */
static void authorize(struct span credential, struct buf *out) {
    (void)credential;
    (void)out;
}

static int encode(unsigned endpoint, const struct span *items, size_t item_count,
                  struct span credential, struct wire *wire, struct buf *plain, struct buf *packed,
                  struct protocol_post *ret) {
    check(endpoint == WEBHOOK_SEND);
    (void)credential;
    (void)wire;
    (void)packed;
    size_t before = plain->n;
    buf_put_str(plain, "{\"type\":\"events\",\"data\":[");
    for (size_t i = 0; i < item_count; i++) {
        buf_put_str(plain, i == 0 ? "" : ",");
        buf_put_span(plain, items[i]);
    }
    buf_put_str(plain, "]}");
    if (plain->full) {
        return BH_E_FULL;
    }
    *ret = (struct protocol_post){.path = "",
                                  .content_type = "application/json",
                                  .plain = span_of(plain->p + before, plain->n - before)};
    ret->body = ret->plain;
    return 0;
}

static enum answer_kind kind_of(unsigned status, size_t item_count) {
    switch (status) {
    case 408:
    case 425:
    case 429:
        return ANSWER_RETRY;
    case 413:
        return ANSWER_TOO_BIG;
    case 401: /* the signature does not hold */
    case 403:
    case 404:
    case 405:
    case 410: /* gone: wants no more */
        return ANSWER_AUTH;
    default:
        break;
    }
    if (status >= 200 && status < 300) {
        return ANSWER_ACCEPTED;
    }
    if (status < 200 || status >= 500) {
        return ANSWER_RETRY;
    }
    /* No item can be at fault where there is none: many receivers answer a wrong signature with 400. */
    return status < 400 || item_count == 0 ? ANSWER_AUTH : ANSWER_REFUSED;
}

static void
answer(unsigned endpoint, unsigned status, struct span body, size_t item_count,
       /* NOLINTNEXTLINE(readability-non-const-parameter): the signature is protocol_ops' */
       uint32_t *refused, struct protocol_answer *ret) {
    check(endpoint == WEBHOOK_SEND);
    (void)body;
    (void)refused;
    *ret = (struct protocol_answer){.kind = (uint8_t)kind_of(status, item_count)};
}

const struct protocol_ops webhook_ops = {
    .id = PROTOCOL_WEBHOOK,
    .name = "webhook",
    .table_version = TABLE_VERSION,
    .names = {.at_root = true,
              .insert_id = "id",
              .insert_form = INSERT_FORM_UUID,
              .time = "timestamp",
              .time_form = TIME_FORM_ISO,
              .links_alone = true},
    .model = &webhook_model,
    .items_max = SEND_ITEMS_MAX,
    .body_max = SEND_BODY_MAX,
    .endpoints = WEBHOOK_SEND,
    .root_place = root_place,
    .field = field,
    .is_reserved_event = is_reserved_event,
    .fields = fields,
    .is_placeholder = is_placeholder,
    .endpoint = endpoint_of,
    .encode = encode,
    .encoded_size = encoded_size,
    .authorize = authorize,
    .credential_form = "whsec_ and 24 to 64 bytes in base64, or two of these with a space between",
    .is_credential = webhook_is_credential,
    .sign = webhook_sign,
    .answer = answer,
};
