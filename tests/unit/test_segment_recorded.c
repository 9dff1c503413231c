/*
 * Every request that Segment's and RudderStack's SDKs were recorded sending decodes to the messages that its sidecar names, and is answered as the
 * SDK was content with.
 */
/* depends: segment mixpanel wire json http model base */
/* sources: mixpanel_kit.c */
#define _POSIX_C_SOURCE 200809L
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "engine/http/http_parse.h"
#include "protocol/segment/rudder.h"
#include "protocol/segment/segment.h"
#include "unit/mixpanel_kit.h"

enum { FILE_MAX = 1 << 20, SIDE_TOKENS = 1 << 16, RECORDS_MAX = 999 };

static uint8_t http[FILE_MAX];
static uint8_t side[FILE_MAX];
static struct json_token side_tokens[SIDE_TOKENS];
static struct json_token item_tokens[LIMIT_EVENT_TOKENS];

static struct span read_file(const char *sdk, int number, const char *suffix, uint8_t *memory) {
    char path[512];
    (void)snprintf(path, sizeof path, "%s/tests/fixtures/sdk-requests/%s/%03d.%s",
                   BULKHEAD_SOURCE_DIR, sdk, number, suffix);
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        return SPAN_NONE;
    }
    size_t n = fread(memory, 1, FILE_MAX, file);
    (void)fclose(file);
    return span_of(memory, n);
}

static struct span canonical(struct span text, uint8_t *memory) {
    size_t count = 0;
    size_t offset = 0;
    struct buf b = buf_of(memory, FILE_MAX);
    assert_int_equal(json_parse(text, 64, item_tokens, LIMIT_EVENT_TOKENS, &count, &offset), 0);
    assert_int_equal(json_canonical(text, item_tokens, &b), 0);
    return buf_span(&b);
}

static void compare_item(const struct protocol_item *item, struct span expected) {
    static uint8_t ours[FILE_MAX];
    static uint8_t theirs[FILE_MAX];
    assert_int_equal(item->reason, REASON_NONE);
    assert_true(item->dedupe.n > 0 && item->person.n > 0);
    assert_true((item->flags & EVENT_NO_TIME) == 0);
    assert_true(span_equal(canonical(item->json, ours), canonical(expected, theirs)));
}

static void compare_items(struct span text, const struct protocol_decoded *decoded) {
    uint32_t at = json_get(text, side_tokens, 0, SPAN_LIT("decoded"));
    uint32_t list = side_tokens[at].kind == JSON_OBJECT
                        ? json_get(text, side_tokens, at, SPAN_LIT("batch"))
                        : 0;
    if (decoded->envelope.use == ENDPOINT_LOCAL) {
        assert_int_equal(decoded->item_count, 0);
        return;
    }
    if (list == 0) {
        assert_int_equal(decoded->item_count, 1);
        compare_item(&decoded->items[0], json_span(text, &side_tokens[at]));
        return;
    }
    size_t i = 0;
    for (uint32_t e = list + 1; e < side_tokens[list].next; e = side_tokens[e].next, i++) {
        assert_true(i < decoded->item_count);
        compare_item(&decoded->items[i], json_span(text, &side_tokens[e]));
    }
    assert_int_equal(i, decoded->item_count);
}

static void check_reply(struct span text) {
    uint32_t response = json_get(text, side_tokens, 0, SPAN_LIT("response"));
    uint32_t at = json_get(text, side_tokens, response, SPAN_LIT("body"));
    uint8_t memory[1024];
    struct buf b = buf_of(memory, sizeof memory);
    struct span expected = json_text(text, &side_tokens[at], &b);
    struct protocol_reply reply = kit_reply(REPLY_KEPT);
    assert_int_equal(reply.status, 200);
    if (kit_get()->decoded.envelope.endpoint == SEGMENT_SETTINGS) {
        /* Of its many words the SDK needs those about the one integration that is ours. */
        size_t same = span_find(expected, SPAN_LIT(",\"maybeBundledConfigIds\""));
        assert_true(same != SIZE_MAX && span_starts(reply.body, span_cut(expected, 0, same)));
        return;
    }
    if (!span_equal(reply.body, expected)) {
        fail_msg("answered %.*s, the SDK had %.*s", (int)reply.body.n, (const char *)reply.body.p,
                 (int)expected.n, (const char *)expected.p);
    }
}

static bool replay(const char *sdk, int number, size_t *ret_items) {
    struct span request = read_file(sdk, number, "http", http);
    struct span text = read_file(sdk, number, "json", side);
    if (request.n == 0) {
        return false;
    }
    struct http_head head;
    unsigned status = 0;
    size_t count = 0;
    size_t offset = 0;
    assert_int_equal(json_parse(text, 64, side_tokens, SIDE_TOKENS, &count, &offset), 0);
    assert_int_equal(http_parse_head(request, LIMIT_HTTP_HEAD, LIMIT_HTTP_TARGET, &head, &status),
                     0);
    if (head.method == HTTP_OPTIONS) {
        return true;
    }
    char path[256];
    (void)snprintf(path, sizeof path, "%.*s", (int)head.path.n, (const char *)head.path.p);
    int rc = kit_decode(head.method, path, head.query, http_header(&head, "authorization"),
                        span_from(request, head.head_size));
    if (rc != 0) {
        fail_msg("%s/%03d: %d", sdk, number, rc);
    }
    compare_items(text, &kit_get()->decoded);
    check_reply(text);
    *ret_items += kit_get()->decoded.item_count;
    return true;
}

static void replay_all(const struct protocol_ops *ops, const char *sdk, int expected) {
    int requests = 0;
    size_t items = 0;
    kit_use(ops);
    for (int i = 1; i <= RECORDS_MAX; i++) {
        requests += replay(sdk, i, &items);
    }
    printf("%s: %d requests, %zu messages\n", sdk, requests, items);
    assert_int_equal(requests, expected);
}

static void test_segment_node(void **state) {
    (void)state;
    replay_all(&segment_ops, "segment-node", 24);
}

static void test_segment_browser(void **state) {
    (void)state;
    replay_all(&segment_ops, "segment-browser", 146);
}

static void test_rudder_node(void **state) {
    (void)state;
    replay_all(&rudder_ops, "rudder-node", 15);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_segment_node),
                                       cmocka_unit_test(test_segment_browser),
                                       cmocka_unit_test(test_rudder_node)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
