/*
 * Segment and RudderStack: any path, query, Authorization and body through decode and reply; the same bytes as the vendor's answer and as a message to be
 * sent; what was decoded through encode. Input: protocol and path, one byte of method; query up to a newline; header up to a newline; body.
 */
/* depends: segment wire json http model base */
#include <string.h>

#include "base/check.h"
#include "engine/http/http_parse.h"
#include "fuzz/fuzz_entry.h"
#include "protocol/segment/rudder.h"
#include "protocol/segment/segment.h"
#include "protocol/wire/wire.h"

enum { BODY_MAX = 1 << 17, TOKENS_MAX = 20000, ITEMS_MAX = 200, OUT_MAX = 1 << 19 };

static uint8_t body[BODY_MAX];
static uint8_t text[2 * BODY_MAX];
static uint8_t out[2][OUT_MAX];
static struct json_token tokens[TOKENS_MAX];
static struct json_token sent_tokens[TOKENS_MAX];
static struct protocol_item items[ITEMS_MAX];
static struct wire *wire;

static struct span take_line(struct span *rest) {
    size_t end = span_find_byte(*rest, '\n');
    struct span line = span_cut(*rest, 0, end);
    *rest = end == SIZE_MAX ? SPAN_NONE : span_from(*rest, end + 1);
    return line;
}

static void check_persons(const struct protocol_ops *ops, const struct protocol_decoded *decoded,
                          const struct protocol_item *item) {
    static uint8_t memory[BODY_MAX];
    struct buf scratch = buf_of(memory, sizeof memory);
    struct person_iter it;
    struct person_ref ref;
    bool primary = item->person.n == 0;
    ops->person_begin(&it, decoded->text, decoded->tokens, item->root, (enum event_kind)item->kind,
                      &scratch);
    while (ops->person_next(&it, &ref)) {
        check(ref.id.n > 0 && !ops->is_placeholder(ref.id));
        check(item->root + ref.leaf < decoded->tokens[item->root].next);
        primary |= span_equal(ref.id, item->person);
    }
    check(primary || scratch.full);
}

/* What is made of bytes that begin as JSON of one message is either refused or JSON of a batch with one. */
static void check_message(const struct protocol_ops *ops, struct span message, bool is_json) {
    struct buf plain = buf_of(out[0], OUT_MAX);
    struct buf packed = buf_of(out[1], OUT_MAX);
    struct protocol_post post;
    size_t count = 0;
    size_t offset = 0;
    int rc = ops->encode(1, &message, 1, SPAN_LIT("vendor"), wire, &plain, &packed, &post);
    if (rc != 0) {
        return;
    }
    check(post.plain.n <= sizeof "{\"batch\":[]}" + ops->encoded_size(1, message.n, 6));
    check(span_find(post.plain, SPAN_LIT("vendor")) == SIZE_MAX ||
          span_find(message, SPAN_LIT("vendor")) != SIZE_MAX);
    if (is_json) {
        rc = json_parse(post.plain, LIMIT_JSON_DEPTH + 3, sent_tokens, TOKENS_MAX, &count, &offset);
        check(rc == 0 || rc == BH_E_TOO_MANY || rc == BH_E_TOO_DEEP);
    }
}

static void check_answer(const struct protocol_ops *ops, struct span answer) {
    static const unsigned statuses[] = {200, 400, 429, 302};
    for (unsigned i = 0; i < 4; i++) {
        struct protocol_answer ret;
        ops->answer(1, statuses[i], answer, 16, NULL, &ret);
        check(ret.kind >= ANSWER_ACCEPTED && ret.kind <= ANSWER_TOO_BIG && ret.refused_count == 0);
    }
}

static void check_reply(const struct protocol_ops *ops, const struct protocol_decoded *decoded,
                        int rc) {
    struct buf memory = buf_of(out[0], rc == 0 ? OUT_MAX : 100);
    struct protocol_reply reply;
    ops->reply(&decoded->envelope, rc == 0 ? REPLY_KEPT : REPLY_MALFORMED, decoded->items,
               decoded->item_count, &memory, &reply);
    check(reply.status >= 200 && reply.status < 600 && reply.body.n > 0);
    memory.n = 0;
    ops->env(&decoded->envelope, &memory);
    check(memory.n > 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char *const paths[] = {"/v1/batch",
                                        "/v1/b",
                                        "/v1/track/",
                                        "/v1/i",
                                        "/v1/identify",
                                        "/v1/group",
                                        "/v1/alias",
                                        "/v1/projects/k/settings",
                                        "/v1/import",
                                        "/beacon/v1/batch",
                                        "/x"};
    if (wire == NULL) {
        wire = wire_new();
        check(wire != NULL);
    }
    if (size < 2) {
        return 0;
    }
    const struct protocol_ops *ops = (data[0] & 1) != 0 ? &rudder_ops : &segment_ops;
    struct span rest = span_of(data + 2, size - 2);
    struct span query = take_line(&rest);
    struct span header = take_line(&rest);
    rest = span_cut(rest, 0, BODY_MAX);
    check_answer(ops, rest);
    check_message(ops, rest, false);
    if (rest.n > 0) {
        memcpy(body, rest.p, rest.n);
    }
    struct protocol_work work = {.text = text,
                                 .text_cap = sizeof text,
                                 .tokens = tokens,
                                 .tokens_cap = TOKENS_MAX,
                                 .items = items,
                                 .items_cap = ITEMS_MAX,
                                 .decoded_max = BODY_MAX,
                                 .wire = wire};
    const struct protocol_request request = {.method = data[1] % 4 != 0 ? HTTP_POST : HTTP_GET,
                                             .path = span_str(paths[(data[0] >> 1) % 11]),
                                             .query = query,
                                             .authorization = header,
                                             .body = body,
                                             .body_len = rest.n,
                                             .now_ms = 1790000000000};
    struct protocol_decoded decoded;
    int rc = ops->decode(&request, &work, &decoded);
    check(work.text_used <= work.text_cap);
    check_reply(ops, &decoded, rc);
    for (size_t i = 0; rc == 0 && i < decoded.item_count; i++) {
        if (decoded.items[i].reason == REASON_NONE) {
            check_message(ops, decoded.items[i].json, true);
            check_persons(ops, &decoded, &decoded.items[i]);
        }
    }
    return 0;
}
