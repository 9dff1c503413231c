#include "protocol/segment/rudder.h"

#include "base/check.h"
#include "base/compiler.h"
#include "protocol/segment/segment.h"
#include "protocol/wire/wire.h"

enum {
    TABLE_VERSION = 1, /* Segment's tables */
    SEND_ITEMS_MAX = 1000,
    SEND_BODY_MAX = 1024 * 1024, /* of 4 MB */
};

/* clang-format off */
static const struct segment_path_row paths[] = {
    {"/v1/batch", SEGMENT_BATCH, ENDPOINT_ITEMS, NULL},
    {"/beacon/v1/batch", SEGMENT_BATCH, ENDPOINT_ITEMS, NULL},
    {"/v1/import", SEGMENT_IMPORT, ENDPOINT_ITEMS, NULL},
    {"/v1/track", SEGMENT_TRACK, ENDPOINT_ITEMS, "track"},
    {"/v1/page", SEGMENT_PAGE, ENDPOINT_ITEMS, "page"},
    {"/v1/screen", SEGMENT_SCREEN, ENDPOINT_ITEMS, "screen"},
    {"/v1/identify", SEGMENT_IDENTIFY, ENDPOINT_ITEMS, "identify"},
    {"/v1/group", SEGMENT_GROUP, ENDPOINT_ITEMS, "group"},
    {"/v1/alias", SEGMENT_ALIAS, ENDPOINT_ITEMS, "alias"},
    {"/sourceConfig", RUDDER_CONFIG, ENDPOINT_LOCAL, NULL},
};
/* clang-format on */

static int decode(const struct protocol_request *request, struct protocol_work *work,
                  struct protocol_decoded *ret) {
    return segment_decode_by(paths, BH_COUNT(paths), request, work, ret);
}

static void env(const struct protocol_envelope *envelope, struct buf *out) {
    segment_env_by(paths, BH_COUNT(paths), envelope, out);
}

struct answer_row {
    unsigned status;
    const char *body;
};

/* The SDK tries three times after a 503 or 429, honours Retry-After, and then the events are lost. */
static const struct answer_row answers[] = {
    [REPLY_KEPT] = {200, "OK"},
    [REPLY_MALFORMED] = {400, "malformed"},
    [REPLY_UNAUTHORIZED] = {401, "unauthorized"},
    [REPLY_TOO_BIG] = {413, "too large"},
    [REPLY_UNAVAILABLE] = {503, "unavailable, try again"},
    [REPLY_NOT_FOUND] = {404, "not found"},
    [REPLY_BAD_METHOD] = {405, "method not allowed"},
};

/* A source without destinations, so that the browser SDK loads no further code and sends to us alone. */
static const char config[] =
    "{\"source\":{\"id\":\"bulkhead\",\"name\":\"bulkhead\",\"workspaceId\":\"bulkhead\",\"enabled\":true,"
    "\"destinations\":[],\"config\":{\"statsCollection\":{\"errors\":{\"enabled\":false},"
    "\"metrics\":{\"enabled\":false}}}}}";

static void reply(const struct protocol_envelope *envelope, enum reply_kind kind,
                  const struct protocol_item *items, size_t item_count, struct buf *memory,
                  struct protocol_reply *ret) {
    (void)items;
    (void)item_count;
    (void)memory;
    *ret = (struct protocol_reply){.status = answers[kind].status,
                                   .content_type = "text/plain; charset=utf-8",
                                   .body = span_str(answers[kind].body)};
    if (envelope->endpoint == RUDDER_CONFIG && kind == REPLY_KEPT) {
        ret->content_type = "application/json";
        ret->body = span_str(config);
    }
}

static int encode(unsigned endpoint, const struct span *items, size_t item_count,
                  struct span credential, struct wire *wire, struct buf *plain, struct buf *packed,
                  struct protocol_post *ret) {
    (void)credential;
    check(endpoint == SEGMENT_SEND_BATCH);
    size_t before = plain->n;
    size_t packed_before = packed->n;
    int rc = segment_put_batch(items, item_count, plain);
    if (rc != 0) {
        return rc;
    }
    *ret = (struct protocol_post){.path = "/v1/batch",
                                  .content_type = "application/json",
                                  .gzip = true,
                                  .basic_auth = true,
                                  .plain = span_of(plain->p + before, plain->n - before)};
    rc = wire_gzip(wire, ret->plain, packed);
    ret->body = span_of(packed->p + packed_before, packed->n - packed_before);
    return rc;
}

static void
answer(unsigned endpoint, unsigned status, struct span body, size_t item_count,
       /* NOLINTNEXTLINE(readability-non-const-parameter): the signature is protocol_ops' */
       uint32_t *refused, struct protocol_answer *ret) {
    (void)endpoint;
    (void)item_count;
    (void)refused;
    body = span_trim(body);
    segment_answer_by(status, span_is(body, "OK") || span_is(body, "\"OK\""), ret);
}

static struct protocol_alone alone(struct span item) {
    (void)item;
    return (struct protocol_alone){"/v1/batch", "{\"batch\":[", "]}"};
}

const struct protocol_ops rudder_ops = {
    .id = PROTOCOL_RUDDER,
    .name = "rudder",
    .table_version = TABLE_VERSION,
    .names = {.at_root = true,
              .insert_id = "messageId",
              .time = "timestamp",
              .time_form = TIME_FORM_ISO,
              .page_url = {"context", "page", "url"},
              .links_alone = true,
              .consents = segment_consents},
    .model = &segment_model,
    .items_max = SEND_ITEMS_MAX,
    .body_max = SEND_BODY_MAX,
    .endpoints = 1,
    .root_place = segment_root_place,
    .field = segment_field,
    .is_reserved_event = segment_is_reserved_event,
    .fields = segment_fields,
    .is_placeholder = segment_is_placeholder,
    .alone = alone,
    .decode = decode,
    .reply = reply,
    .env = env,
    .person_begin = segment_person_begin,
    .person_next = segment_person_next,
    .endpoint = segment_endpoint_of,
    .encode = encode,
    .encoded_size = segment_encoded_size,
    .authorize = wire_put_basic,
    .answer = answer,
};
