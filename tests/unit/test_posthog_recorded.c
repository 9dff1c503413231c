/*
 * Every request that posthog-js and posthog-node were recorded sending decodes to the events that its sidecar
 * names, and is answered with what the SDK was content with.
 */
/* depends: posthog mixpanel wire json http model base */
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
#include "protocol/posthog/posthog.h"
#include "unit/mixpanel_kit.h"

enum { FILE_MAX = 1 << 20, SIDE_TOKENS = 1 << 16, RECORDS_MAX = 200 };

static uint8_t http[FILE_MAX];
static uint8_t side[FILE_MAX];
static struct json_token side_tokens[SIDE_TOKENS];
static struct json_token item_tokens[LIMIT_EVENT_TOKENS];
static unsigned kinds[EVENT_GROUP + 1];

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
    assert_true(span_equal(a, b));
    /* The SDKs always name a person, a time and a dedupe id. */
    assert_true(item->person.n > 0);
    assert_true(item->dedupe.n > 0);
    assert_int_equal(item->flags & EVENT_NO_TIME, 0);
    assert_true(item->time_ms > INT64_C(1600000000000) && item->time_ms < INT64_C(1800000000000));
    kinds[item->kind]++;
}

static void compare_items(struct span text, const struct protocol_decoded *decoded) {
    uint32_t at = json_get(text, side_tokens, 0, SPAN_LIT("decoded"));
    uint32_t batch = at != 0 && side_tokens[at].kind == JSON_OBJECT
                         ? json_get(text, side_tokens, at, SPAN_LIT("batch"))
                         : 0;
    size_t i = 0;
    if (batch != 0) {
        for (uint32_t e = batch + 1; e < side_tokens[batch].next; e = side_tokens[e].next, i++) {
            assert_true(i < decoded->item_count);
            compare_item(&decoded->items[i], json_span(text, &side_tokens[e]));
        }
        assert_true(span_starts(decoded->envelope.user, SPAN_LIT("phc_fixtureProjectKeyA")));
    }
    assert_int_equal(i, decoded->item_count);
}

static void check_reply(struct span text) {
    struct protocol_reply reply = kit_reply(REPLY_KEPT);
    assert_int_equal(reply.status, 200);
    assert_true(span_find(reply.body, SPAN_LIT("quota_limited")) == SIZE_MAX);
    uint8_t endpoint = kit_get()->decoded.envelope.endpoint;
    if (endpoint == POSTHOG_EVENTS) {
        assert_true(span_is(reply.body, "{\"results\":{}}"));
    } else if (endpoint == POSTHOG_FLAGS || endpoint == POSTHOG_CONFIG_JS) {
        /* Ours differ on purpose: flags that are known stay, and none are asked for. */
        assert_true(reply.body.n > 100);
    } else {
        uint8_t memory[256];
        struct buf b = buf_of(memory, sizeof memory);
        uint32_t response = json_get(text, side_tokens, 0, SPAN_LIT("response"));
        uint32_t at = json_get(text, side_tokens, response, SPAN_LIT("body"));
        assert_true(span_equal(reply.body, json_text(text, &side_tokens[at], &b)));
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

static void test_recorded(void **state) {
    (void)state;
    kit_use(&posthog_ops);
    size_t node = 0;
    size_t browser = 0;
    assert_int_equal(replay_all("posthog-node", &node), 23);
    /* A server's $identify names one id and updates a profile; a browser's links two. */
    assert_int_equal(kinds[EVENT_IDENTIFY], 0);
    assert_true(kinds[EVENT_PROFILE] > 10);
    assert_int_equal(replay_all("posthog-js", &browser), 98);
    printf("posthog-node: %zu events, posthog-js: %zu\n", node, browser);
    assert_true(node > 100 && browser > 100);
    assert_true(kinds[EVENT_IDENTIFY] > 0 && kinds[EVENT_ALIAS] > 0 && kinds[EVENT_GROUP] > 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_recorded)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
