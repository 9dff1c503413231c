/*
 * Amplitude: any path and body through decode and reply; the same bytes as the vendor's answer; what was decoded through
 * encode. Input: path number, one byte of method, body.
 */
/* depends: amplitude wire json http model base */
#include <string.h>

#include "base/check.h"
#include "base/compiler.h"
#include "engine/http/http_parse.h"
#include "fuzz/fuzz_entry.h"
#include "protocol/amplitude/amplitude.h"
#include "protocol/wire/wire.h"

enum { BODY_MAX = 1 << 17, TOKENS_MAX = 20000, ITEMS_MAX = 200, OUT_MAX = 1 << 18 };

static uint8_t body[BODY_MAX];
static uint8_t text[2 * BODY_MAX];
static uint8_t out[2][OUT_MAX];
static struct json_token tokens[TOKENS_MAX];
static struct protocol_item items[ITEMS_MAX];
static struct wire *wire;

static void check_persons(const struct protocol_decoded *decoded,
                          const struct protocol_item *item) {
    static uint8_t memory[BODY_MAX];
    struct buf scratch = buf_of(memory, sizeof memory);
    struct person_iter it;
    struct person_ref ref;
    bool primary = item->person.n == 0;
    amplitude_ops.person_begin(&it, decoded->text, decoded->tokens, item->root,
                               (enum event_kind)item->kind, &scratch);
    while (amplitude_ops.person_next(&it, &ref)) {
        check(ref.id.n > 0 && !amplitude_ops.is_placeholder(ref.id));
        check(item->root + ref.leaf < decoded->tokens[item->root].next);
        primary |= span_equal(ref.id, item->person);
    }
    check(primary || scratch.full);
}

static void check_json(struct span json) {
    static struct json_token parsed[TOKENS_MAX];
    size_t count = 0;
    size_t offset = 0;
    int rc = json_parse(json, LIMIT_JSON_DEPTH + 4, parsed, TOKENS_MAX, &count, &offset);
    check(rc == 0 || rc == BH_E_TOO_MANY);
}

static void check_encode(const struct protocol_decoded *decoded) {
    for (size_t i = 0; i < decoded->item_count; i++) {
        const struct protocol_item *item = &decoded->items[i];
        if (item->reason != REASON_NONE) {
            continue;
        }
        unsigned endpoint = amplitude_ops.endpoint((enum event_kind)item->kind);
        struct buf plain = buf_of(out[0], OUT_MAX);
        struct buf packed = buf_of(out[1], OUT_MAX);
        struct protocol_post post;
        /* The frame, which body_max leaves room for, is 60 bytes and the credential. */
        if (amplitude_ops.encode(endpoint, &item->json, 1, SPAN_LIT("vendor"), wire, &plain,
                                 &packed, &post) == 0) {
            check(post.plain.n <= 72 + amplitude_ops.encoded_size(endpoint, item->json.n, 6));
            check_json(post.plain);
        }
        check_persons(decoded, item);
    }
}

static void check_answer(struct span answer) {
    static const unsigned statuses[] = {200, 400, 429, 302};
    for (unsigned i = 0; i < 4; i++) {
        uint32_t refused[16];
        struct protocol_answer ret;
        amplitude_ops.answer(AMPLITUDE_SEND, statuses[i], answer, 16, refused, &ret);
        check(ret.kind >= ANSWER_ACCEPTED && ret.kind <= ANSWER_TOO_BIG && ret.refused_count == 0);
    }
}

static void check_reply(const struct protocol_decoded *decoded, int rc) {
    enum reply_kind kind = rc == 0 ? REPLY_KEPT : REPLY_MALFORMED;
    struct buf memory = buf_of(out[0], rc == 0 ? OUT_MAX : 100);
    struct protocol_reply reply;
    amplitude_ops.reply(&decoded->envelope, kind, decoded->items, decoded->item_count, &memory,
                        &reply);
    check(reply.status >= 200 && reply.status < 600 && reply.body.n > 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char *const paths[] = {
        "/2/httpapi",         "/batch/", "/identify", "/groupidentify", "/config/k",
        "/sessions/v2/track", "/x"};
    if (wire == NULL) {
        wire = wire_new();
        check(wire != NULL);
    }
    if (size < 2) {
        return 0;
    }
    struct span rest = span_of(data + 2, size - 2);
    rest = span_cut(rest, 0, BODY_MAX);
    check_answer(rest);
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
    const struct protocol_request request = {.method = data[1] % 2 == 0 ? HTTP_POST : HTTP_GET,
                                             .path = span_str(paths[data[0] % BH_COUNT(paths)]),
                                             .body = body,
                                             .body_len = rest.n,
                                             .now_ms = 1790000000000};
    struct protocol_decoded decoded;
    int rc = amplitude_ops.decode(&request, &work, &decoded);
    check_reply(&decoded, rc);
    if (rc == 0) {
        check_encode(&decoded);
    }
    return 0;
}
