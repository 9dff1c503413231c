/*
 * Every request that the official SDKs were recorded sending decodes to the items that its sidecar names, and
 * is answered as the SDK was content with.
 */
/* depends: mixpanel wire json http model crypto base */
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
#include "protocol/mixpanel/mixpanel.h"
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

/* The canonical form of one document, for comparing. */
static struct span canonical(struct span text, uint8_t *memory, size_t size) {
    size_t count = 0;
    size_t offset = 0;
    struct buf b = buf_of(memory, size);
    assert_int_equal(json_parse(text, 64, item_tokens, LIMIT_EVENT_TOKENS, &count, &offset), 0);
    assert_int_equal(json_canonical(text, item_tokens, &b), 0);
    return buf_span(&b);
}

static void compare_item(const struct protocol_item *item, struct span expected) {
    static uint8_t ours[FILE_MAX];
    static uint8_t theirs[FILE_MAX];
    assert_int_equal(item->reason, REASON_NONE);
    struct span a = canonical(item->json, ours, sizeof ours);
    struct span b = canonical(expected, theirs, sizeof theirs);
    if (!span_equal(a, b)) {
        fail_msg("decoded\n%.*s\nexpected\n%.*s", (int)a.n, (const char *)a.p, (int)b.n,
                 (const char *)b.p);
    }
}

static void compare_items(struct span text, const struct protocol_decoded *decoded) {
    uint32_t at = json_get(text, side_tokens, 0, SPAN_LIT("decoded"));
    if (at == 0 || side_tokens[at].kind == JSON_NULL) {
        assert_int_equal(decoded->item_count, 0);
        return;
    }
    if (side_tokens[at].kind == JSON_OBJECT) {
        assert_int_equal(decoded->item_count, 1);
        compare_item(&decoded->items[0], json_span(text, &side_tokens[at]));
        return;
    }
    size_t i = 0;
    for (uint32_t e = at + 1; e < side_tokens[at].next; e = side_tokens[e].next, i++) {
        assert_true(i < decoded->item_count);
        compare_item(&decoded->items[i], json_span(text, &side_tokens[e]));
    }
    assert_int_equal(i, decoded->item_count);
}

/* Facts that hold for every recorded item, whoever sent it. */
static void check_facts(const struct protocol_decoded *decoded, bool browser) {
    for (size_t i = 0; i < decoded->item_count; i++) {
        const struct protocol_item *item = &decoded->items[i];
        const char *token = browser ? "mp_browser_token" : "mp_project_token";
        bool by_header = decoded->envelope.endpoint == MIXPANEL_IMPORT;
        assert_true(by_header || span_starts(item->token, span_str(token)));
        if (item->kind == EVENT_GROUP) {
            assert_int_equal(item->person.n, 0);
        } else if (item->kind != EVENT_MERGE) {
            assert_true(item->person.n > 0);
            assert_false(span_starts(item->person, SPAN_LIT("$device:")));
        }
        assert_true(item->kind < EVENT_PROFILE ? item->event_name.n > 0 : item->event_name.n == 0);
        assert_true(item->time_ms > INT64_C(1600000000000) &&
                    item->time_ms < INT64_C(1800000000000));
    }
}

static void check_reply(struct span text) {
    uint32_t response = json_get(text, side_tokens, 0, SPAN_LIT("response"));
    assert_true(response != 0);
    uint32_t at = json_get(text, side_tokens, response, SPAN_LIT("body"));
    uint8_t memory[256];
    struct buf b = buf_of(memory, sizeof memory);
    struct span expected = json_text(text, &side_tokens[at], &b);
    struct protocol_reply reply = kit_reply(REPLY_KEPT);
    assert_int_equal(reply.status, 200);
    if (!span_equal(reply.body, expected)) {
        fail_msg("answered %.*s, the SDK had %.*s", (int)reply.body.n, (const char *)reply.body.p,
                 (int)expected.n, (const char *)expected.p);
    }
}

static bool replay(const char *sdk, int number) {
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
    check_facts(&kit_get()->decoded, sdk[9] == 'b');
    check_reply(text);
    return true;
}

static int replay_all(const char *sdk, size_t *ret_items) {
    int requests = 0;
    for (int i = 1; i <= RECORDS_MAX; i++) {
        if (replay(sdk, i)) {
            requests++;
            *ret_items += kit_get()->decoded.item_count;
        }
    }
    return requests;
}

static void test_node(void **state) {
    (void)state;
    size_t items = 0;
    assert_int_equal(replay_all("mixpanel-node", &items), 127);
    printf("mixpanel-node: 127 requests, %zu items\n", items);
    assert_true(items > 127);
}

static void test_browser(void **state) {
    (void)state;
    size_t items = 0;
    assert_int_equal(replay_all("mixpanel-browser", &items), 103);
    printf("mixpanel-browser: 103 requests, %zu items\n", items);
    assert_true(items > 103);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_node), cmocka_unit_test(test_browser)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
