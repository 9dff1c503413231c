#include "unit/recorded_kit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "engine/http/http_parse.h"
#include "unit/mixpanel_kit.h"

enum { FILE_MAX = 1 << 20, TOKENS_MAX = 1 << 16, RECORDS_MAX = 999 };

static uint8_t http[FILE_MAX];
static uint8_t side[FILE_MAX];
static struct json_token tokens[TOKENS_MAX];

static struct span read_file(const char *sdk, unsigned number, const char *suffix,
                             uint8_t *memory) {
    char path[512];
    (void)snprintf(path, sizeof path, "%s/tests/fixtures/sdk-requests/%s/%03u.%s",
                   BULKHEAD_SOURCE_DIR, sdk, number, suffix);
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        return SPAN_NONE;
    }
    size_t n = fread(memory, 1, FILE_MAX, file);
    (void)fclose(file);
    assert_true(n < FILE_MAX);
    return span_of(memory, n);
}

static void find_items(const struct recorded_sdk *sdk, struct recording *r) {
    uint32_t at = json_get(r->text, tokens, 0, SPAN_LIT("decoded"));
    bool is_object = at != 0 && tokens[at].kind == JSON_OBJECT;
    if (is_object && sdk->list != NULL &&
        (sdk->lone == NULL || json_get(r->text, tokens, at, span_str(sdk->lone)) == 0)) {
        at = json_get(r->text, tokens, at, span_str(sdk->list));
    }
    if (at == 0 || (tokens[at].kind != JSON_OBJECT && tokens[at].kind != JSON_ARRAY)) {
        return;
    }
    r->end = tokens[at].next;
    r->first = tokens[at].kind == JSON_ARRAY ? at + 1 : at;
}

bool recording_open(const struct recorded_sdk *sdk, unsigned number, struct recording *ret) {
    size_t count = 0;
    size_t offset = 0;
    *ret = (struct recording){.http = read_file(sdk->name, number, "http", http),
                              .text = read_file(sdk->name, number, "json", side),
                              .tokens = tokens};
    if (ret->text.n == 0) {
        return false;
    }
    assert_int_equal(json_parse(ret->text, 64, tokens, TOKENS_MAX, &count, &offset), 0);
    find_items(sdk, ret);
    return true;
}

/* The canonical form of one document, for comparing. */
static struct span canonical(struct span text, uint8_t *memory) {
    static struct json_token item_tokens[LIMIT_EVENT_TOKENS];
    size_t count = 0;
    size_t offset = 0;
    struct buf b = buf_of(memory, FILE_MAX);
    assert_int_equal(json_parse(text, 64, item_tokens, LIMIT_EVENT_TOKENS, &count, &offset), 0);
    assert_int_equal(json_canonical(text, item_tokens, &b), 0);
    return buf_span(&b);
}

static void compare_items(const struct recording *r, const struct recorded_checks *checks) {
    static uint8_t ours[FILE_MAX];
    static uint8_t theirs[FILE_MAX];
    const struct protocol_decoded *decoded = &kit_get()->decoded;
    size_t i = 0;
    for (uint32_t e = r->first; e < r->end; e = tokens[e].next, i++) {
        assert_true(i < decoded->item_count);
        const struct protocol_item *item = &decoded->items[i];
        assert_int_equal(item->reason, REASON_NONE);
        struct span a = canonical(item->json, ours);
        struct span b = canonical(json_span(r->text, &tokens[e]), theirs);
        if (!span_equal(a, b)) {
            fail_msg("decoded\n%.*s\nexpected\n%.*s", (int)a.n, (const char *)a.p, (int)b.n,
                     (const char *)b.p);
        }
        assert_true(item->time_ms > INT64_C(1600000000000) &&
                    item->time_ms < INT64_C(1800000000000));
        checks->item(item);
    }
    /* A question is read as one item, which is not kept. */
    assert_int_equal(i, decoded->envelope.use == ENDPOINT_ASK ? 0 : decoded->item_count);
}

static void compare_reply(const struct recording *r, const struct recorded_checks *checks) {
    static uint8_t memory[FILE_MAX];
    struct buf b = buf_of(memory, sizeof memory);
    uint32_t response = json_get(r->text, tokens, 0, SPAN_LIT("response"));
    uint32_t at = json_get(r->text, tokens, response, SPAN_LIT("body"));
    struct span expected = json_text(r->text, &tokens[at], &b);
    if (checks->reply != NULL) {
        checks->reply(expected);
        return;
    }
    struct protocol_reply reply = kit_reply(REPLY_KEPT);
    assert_int_equal(reply.status, 200);
    if (!span_equal(reply.body, expected)) {
        fail_msg("answered %.*s, the SDK had %.*s", (int)reply.body.n, (const char *)reply.body.p,
                 (int)expected.n, (const char *)expected.p);
    }
}

unsigned recorded_replay(const struct recorded_sdk *sdk, const struct recorded_checks *checks,
                         size_t *ret_items) {
    struct recording r;
    unsigned requests = 0;
    *ret_items = 0;
    for (unsigned number = 1; number <= RECORDS_MAX; number++) {
        struct http_head head;
        unsigned status = 0;
        char path[256];
        if (!recording_open(sdk, number, &r)) {
            continue;
        }
        requests++;
        assert_int_equal(
            http_parse_head(r.http, LIMIT_HTTP_HEAD, LIMIT_HTTP_TARGET, &head, &status), 0);
        if (head.method == HTTP_OPTIONS) {
            continue;
        }
        (void)snprintf(path, sizeof path, "%.*s", (int)head.path.n, (const char *)head.path.p);
        int rc = kit_decode(head.method, path, head.query, http_header(&head, "authorization"),
                            span_from(r.http, head.head_size));
        if (rc != 0) {
            fail_msg("%s/%03u: %d", sdk->name, number, rc);
        }
        compare_items(&r, checks);
        compare_reply(&r, checks);
        *ret_items += kit_get()->decoded.item_count;
    }
    printf("%s: %u requests, %zu items\n", sdk->name, requests, *ret_items);
    return requests;
}
