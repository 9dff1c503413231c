#include "fuzz/protocol_fuzz.h"

#include <string.h>

#include "base/check.h"
#include "base/compiler.h"
#include "crypto/crypto.h"
#include "engine/http/http_parse.h"
#include "protocol/wire/wire.h"

enum {
    BODY_MAX = 1 << 17,
    TOKENS_MAX = 20000,
    ITEMS_MAX = 200,
    OUT_MAX = 1 << 19,
    REFUSED_MAX = 16
};

static uint8_t body[BODY_MAX];
static uint8_t text[2 * BODY_MAX];
static uint8_t out[2][OUT_MAX];
static struct json_token tokens[TOKENS_MAX];
static struct protocol_item items[ITEMS_MAX];
static struct wire *wire;
static const uint8_t ids_key[SIPHASH_KEY_SIZE] = {1};

static struct span take_line(struct span *rest) {
    size_t end = span_find_byte(*rest, '\n');
    struct span line = span_cut(*rest, 0, end);
    *rest = end == SIZE_MAX ? SPAN_NONE : span_from(*rest, end + 1);
    return line;
}

static void check_persons(const struct fuzzed_protocol *p, const struct protocol_decoded *decoded,
                          const struct protocol_item *item) {
    static uint8_t memory[BODY_MAX];
    static uint8_t named[BODY_MAX];
    struct buf scratch = buf_of(memory, sizeof memory);
    struct buf ids = buf_of(named, sizeof named);
    struct person_iter it;
    struct person_ref ref;
    bool primary = item->person.n == 0 || (p->groups_alone && item->kind == EVENT_GROUP);
    p->ops->person_begin(&it, decoded->text, decoded->tokens, item->root,
                         (enum event_kind)item->kind, &scratch);
    while (p->ops->person_next(&it, &ref)) {
        check(ref.id.n > 0 && !p->ops->is_placeholder(ref.id));
        check(item->root + ref.leaf < decoded->tokens[item->root].next);
        primary |= span_equal(ref.id, item->person);
        const uint8_t head[] = {ref.kind, ref.is_device};
        buf_put(&ids, head, sizeof head);
        buf_put_u16(&ids, (uint16_t)ref.id.n);
        buf_put_span(&ids, ref.id);
    }
    /* A fingerprint is of what is read here, so that equal ones are read alike. */
    const uint8_t end[] = {p->ops->id, item->kind};
    buf_put(&ids, end, sizeof end);
    check(item->ids == 0 || scratch.full || item->ids == siphash(ids_key, buf_span(&ids)));
    check(primary || scratch.full);
}

/* What is made of an item, or of bytes that are none, is refused or within its size; of an item it is JSON. */
static void check_encode(const struct fuzzed_protocol *p, unsigned endpoint, struct span item,
                         bool is_item) {
    static struct json_token parsed[TOKENS_MAX];
    static const struct span vendor = {(const uint8_t *)"vendor", 6};
    struct buf plain = buf_of(out[0], OUT_MAX);
    struct buf packed = buf_of(out[1], OUT_MAX);
    struct protocol_post post;
    size_t count = 0;
    size_t offset = 0;
    int rc = p->ops->encode(endpoint, &item, 1, vendor, wire, &plain, &packed, &post);
    check(rc == 0 || !is_item || !p->encodes_all);
    if (rc != 0) {
        return;
    }
    check(post.plain.n <= p->frame + p->ops->encoded_size(endpoint, item.n, vendor.n));
    /* The credential stands in the body or in the header. */
    bool is_in = span_find(post.plain, vendor) != SIZE_MAX;
    check(post.basic_auth ? !is_in || span_find(item, vendor) != SIZE_MAX : is_in);
    if (is_item) {
        rc = json_parse(post.plain, LIMIT_JSON_DEPTH + 4, parsed, TOKENS_MAX, &count, &offset);
        check(rc == 0 || rc == BH_E_TOO_MANY || rc == BH_E_TOO_DEEP);
    }
}

static void check_answer(const struct protocol_ops *ops, struct span answer) {
    static const unsigned statuses[] = {200, 400, 429, 302};
    for (unsigned i = 0; i < BH_COUNT(statuses) * ops->endpoints; i++) {
        uint32_t refused[REFUSED_MAX];
        struct protocol_answer ret;
        ops->answer(1 + i % ops->endpoints, statuses[i / ops->endpoints], answer, REFUSED_MAX,
                    refused, &ret);
        check(ret.kind >= ANSWER_ACCEPTED && ret.kind <= ANSWER_TOO_BIG);
        check(ret.refused_count <= REFUSED_MAX);
        for (uint32_t r = 1; r < ret.refused_count; r++) {
            check(refused[r - 1] < refused[r] && refused[r] < REFUSED_MAX);
        }
    }
}

static void check_is_json(struct span json) {
    static struct json_token parsed[TOKENS_MAX];
    size_t count = 0;
    size_t offset = 0;
    int rc = json_parse(json, LIMIT_JSON_DEPTH + 4, parsed, TOKENS_MAX, &count, &offset);
    check(rc == 0 || rc == BH_E_TOO_MANY);
}

/* A question as it may leave, and the bytes as the vendor's answer to it: what the SDK gets is JSON without a pseudonym. */
static void check_question(const struct protocol_ask *ask, const struct protocol_decoded *decoded,
                           struct span vendor) {
    static const char pseudonym[] = "abcdefghijklmnopqrstuvwxyz";
    static struct json_token parsed[TOKENS_MAX];
    static const struct protocol_question fixed = {
        {(const uint8_t *)"{\"distinct_id\":\"U\"}", 19},
        {(const uint8_t *)"{\"distinct_id\":\"abcdefghijklmnopqrstuvwxyz\"}", 44}};
    struct protocol_question question = fixed;
    struct protocol_post post;
    struct buf plain = buf_of(out[1], OUT_MAX);
    if (decoded->item_count == 1) {
        question.asked = decoded->items[0].json;
        check(ask->encode(decoded->envelope.form, question.asked, SPAN_LIT("vendor"), &plain,
                          &post) == 0);
        check_is_json(post.body);
    }
    struct buf answer = buf_of(out[0], OUT_MAX);
    int rc = ask->answer(&question, 200, vendor, parsed, TOKENS_MAX, &answer);
    check(rc == 0 || rc == BH_E_SYNTAX || rc == BH_E_TOO_BIG);
    if (rc == 0) {
        check_is_json(buf_span(&answer));
        check(decoded->item_count == 1 ||
              span_find(buf_span(&answer), span_str(pseudonym)) == SIZE_MAX);
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

void fuzz_protocol(const struct fuzzed_protocol *p, bool is_post, struct span input) {
    if (wire == NULL) {
        check(crypto_init() == 0);
        wire = wire_new();
        check(wire != NULL);
    }
    struct span query = take_line(&input);
    struct span header = take_line(&input);
    input = span_cut(input, 0, BODY_MAX);
    check_answer(p->ops, input);
    check_encode(p, 1, input, false);
    if (input.n > 0) {
        memcpy(body, input.p, input.n);
    }
    struct protocol_work work = {.text = text,
                                 .text_cap = sizeof text,
                                 .tokens = tokens,
                                 .tokens_cap = TOKENS_MAX,
                                 .items = items,
                                 .items_cap = ITEMS_MAX,
                                 .decoded_max = BODY_MAX,
                                 .wire = wire,
                                 .ids_key = ids_key};
    const struct protocol_request request = {.method = is_post ? HTTP_POST : HTTP_GET,
                                             .path = span_str(p->path),
                                             .query = query,
                                             .authorization = header,
                                             .body = body,
                                             .body_len = input.n,
                                             .now_ms = 1790000000000};
    struct protocol_decoded decoded;
    int rc = p->ops->decode(&request, &work, &decoded);
    check(work.text_used <= work.text_cap);
    check_reply(p->ops, &decoded, rc);
    if (rc == 0 && decoded.envelope.use == ENDPOINT_ASK) {
        static uint8_t answer[BODY_MAX];
        if (input.n > 0) {
            memcpy(answer, input.p, input.n);
        }
        check_question(p->ops->ask, &decoded, span_of(answer, input.n));
        return;
    }
    for (size_t i = 0; rc == 0 && i < decoded.item_count; i++) {
        const struct protocol_item *item = &decoded.items[i];
        if (item->reason == REASON_NONE) {
            check_encode(p, p->ops->endpoint((enum event_kind)item->kind), item->json, true);
            check_persons(p, &decoded, item);
        }
    }
}
