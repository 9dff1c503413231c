/* What PostHog receives of items that policy has transformed, and what its answers mean. */
/* depends: posthog wire json http model base */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/compiler.h"
#include "engine/http/http_parse.h"
#include "protocol/posthog/posthog.h"
#include "protocol/wire/wire.h"

enum { OUT_MAX = 1 << 16 };

static struct wire *wire;
static uint8_t plain_memory[OUT_MAX];
static uint8_t packed_memory[OUT_MAX];

static int encode(const char *const *items, size_t count, size_t cap, struct protocol_post *ret) {
    struct span spans[8];
    struct buf plain = buf_of(plain_memory, cap);
    struct buf packed = buf_of(packed_memory, sizeof packed_memory);
    for (size_t i = 0; i < count; i++) {
        spans[i] = span_str(items[i]);
    }
    return posthog_ops.encode(POSTHOG_SEND_BATCH, spans, count, SPAN_LIT("phc_\"v"), wire, &plain,
                              &packed, ret);
}

struct item_row {
    const char *in;
    const char *out;
};

static const struct item_row rows[] = {
    {"{\"event\":\"a\",\"distinct_id\":\"u\",\"properties\":{\"n\":1},\"uuid\":\"i\"}",
     "{\"event\":\"a\",\"distinct_id\":\"u\",\"properties\":{\"$geoip_disable\":true,\"n\":1},\"uuid\":\"i\"}"},
    /* An empty object, white space; without properties, and with the id in them. */
    {"{\"event\":\"a\",\"distinct_id\":\"u\",\"properties\":{}}",
     "{\"event\":\"a\",\"distinct_id\":\"u\",\"properties\":{\"$geoip_disable\":true}}"},
    {"{ \"event\" : \"a\\\"b\" , \"distinct_id\" : \"u\" , \"properties\" : { \"n\" : 1 } }",
     "{ \"event\" : \"a\\\"b\" , \"distinct_id\" : \"u\" , \"properties\" : {\"$geoip_disable\":true, \"n\" : 1 } }"},
    {"{\"event\":\"a\",\"distinct_id\":\"u\"}",
     "{\"properties\":{\"$geoip_disable\":true},\"event\":\"a\",\"distinct_id\":\"u\"}"},
    {"{\"event\":\"a\",\"properties\":{\"distinct_id\":\"u\"}}",
     "{\"event\":\"a\",\"properties\":{\"$geoip_disable\":true,\"distinct_id\":\"u\"}}"},
    /* The address left: the vendor may look where it is. The item's own wish is not said twice. */
    {"{\"event\":\"a\",\"distinct_id\":\"u\",\"properties\":{\"$ip\":\"1.2.3.0\"}}",
     "{\"event\":\"a\",\"distinct_id\":\"u\",\"properties\":{\"$ip\":\"1.2.3.0\"}}"},
    {"{\"event\":\"a\",\"distinct_id\":\"u\",\"properties\":{\"$geoip_disable\":false}}",
     "{\"event\":\"a\",\"distinct_id\":\"u\",\"properties\":{\"$geoip_disable\":false}}"},
    /* Nobody: an id of the event's own, and no profile, whatever the SDK said. */
    {"{\"event\":\"a\",\"properties\":{\"$process_person_profile\":true,\"n\":1},\"distinct_id\":\"\",\"uuid\":\"i\"}",
     "{\"properties\":{\"$geoip_disable\":true,\"$process_person_profile\":false,\"n\":1},\"event\":\"a\",\"uuid\":\"i\",\"distinct_id\":\"i\"}"},
    /* A group without a person: PostHog drops it when it says that it has no profile. */
    {"{\"event\":\"$groupidentify\",\"uuid\":\"i\"}",
     "{\"properties\":{\"$geoip_disable\":true},\"event\":\"$groupidentify\",\"uuid\":\"i\",\"distinct_id\":\"i\"}"},
    /* What /i/v1/analytics/events has beside the properties. */
    {"{\"event\":\"a\",\"distinct_id\":\"u\",\"session_id\":\"s\",\"window_id\":\"w\",\"options\":{\"process_person_profile\":false}}",
     "{\"properties\":{\"$geoip_disable\":true,\"$process_person_profile\":false,\"$session_id\":\"s\",\"$window_id\":\"w\"},"
     "\"event\":\"a\",\"distinct_id\":\"u\"}"},
    {"{\"event\":\"a\",\"distinct_id\":\"u\",\"session_id\":\"s\",\"properties\":{\"$session_id\":\"t\",\"$process_person_profile\":true},\"options\":{}}",
     "{\"properties\":{\"$geoip_disable\":true,\"$session_id\":\"t\",\"$process_person_profile\":true},\"event\":\"a\",\"distinct_id\":\"u\"}"},
};

static void test_items(void **state) {
    (void)state;
    for (size_t i = 0; i < BH_COUNT(rows); i++) {
        struct protocol_post post;
        char expected[1024] = "{\"api_key\":\"phc_\\\"v\",\"batch\":[";
        strcat(strcat(expected, rows[i].out), "]}");
        assert_int_equal(encode(&rows[i].in, 1, OUT_MAX, &post), 0);
        if (!span_is(post.plain, expected)) {
            fail_msg("%.*s\n%s", (int)post.plain.n, (const char *)post.plain.p, expected);
        }
        assert_string_equal(post.path, "/batch/");
        assert_true(post.gzip && !post.basic_auth);
        assert_true(post.plain.n <=
                    posthog_ops.encoded_size(POSTHOG_SEND_BATCH, strlen(rows[i].in), 6));
        uint8_t memory[2048];
        struct buf unpacked = buf_of(memory, sizeof memory);
        assert_int_equal(wire_gunzip(wire, post.body, &unpacked), 0);
        assert_true(span_equal(buf_span(&unpacked), post.plain));
    }
}

static void test_batches(void **state) {
    (void)state;
    struct protocol_post post;
    const char *const two[] = {"{\"distinct_id\":\"a\"}", "{\"distinct_id\":\"b\"}"};
    assert_int_equal(encode(two, 2, OUT_MAX, &post), 0);
    assert_true(span_find(post.plain, SPAN_LIT("\"a\"},{\"properties\"")) != SIZE_MAX);
    assert_int_equal(encode(NULL, 0, OUT_MAX, &post), 0);
    assert_true(span_is(post.plain, "{\"api_key\":\"phc_\\\"v\",\"batch\":[]}"));
    assert_int_equal(encode(two, 2, 60, &post), BH_E_FULL);
    static const char *const bad[] = {
        "",
        "[]",
        "{\"a\":1",
        "{\"properties\":3,\"distinct_id\":\"u\"}",
        "{\"event\":\"a\"}",
        "{\"uuid\":[\"0123456789012345678901234567890123456789012345678901234567890123\"]}",
        "{\"properties\":{\"a\"}}"};
    for (size_t i = 0; i < BH_COUNT(bad); i++) {
        assert_int_equal(encode(&bad[i], 1, OUT_MAX, &post), BH_E_SYNTAX);
    }
}

struct answer_row {
    unsigned status;
    const char *body;
    size_t items;
    uint8_t kind;
};

static void test_answers(void **state) {
    (void)state;
    static const struct answer_row answers[] = {
        {200, "{\"status\":\"Ok\"}", 2, ANSWER_ACCEPTED},
        {200, " {\"status\":1}\n", 2, ANSWER_ACCEPTED},
        {200, "{\"status\":\"Ok\",\"quota_limited\":[\"recordings\"]}", 2, ANSWER_ACCEPTED},
        {200, "{\"status\":\"Ok\",\"quota_limited\":[\"events\"]}", 2, ANSWER_RETRY},
        {200, "{\"status\":\"Ok\"", 2, ANSWER_RETRY},
        {200, "<html>", 2, ANSWER_RETRY},
        {200, "", 2, ANSWER_RETRY},
        {204, "", 2, ANSWER_RETRY},
        {400, "event submitted without a name", 2, ANSWER_REFUSED},
        {400, "empty batch", 0, ANSWER_ACCEPTED},
        {401, "x", 0, ANSWER_AUTH},
        {401, "invalid API key", 2, ANSWER_AUTH},
        {302, "", 2, ANSWER_AUTH},
        {404, "", 2, ANSWER_AUTH},
        {413, "", 2, ANSWER_TOO_BIG},
        {429, "", 2, ANSWER_RETRY},
        {503, "", 2, ANSWER_RETRY},
    };
    for (size_t i = 0; i < BH_COUNT(answers); i++) {
        uint32_t refused[2];
        struct protocol_answer answer;
        posthog_ops.answer(POSTHOG_SEND_BATCH, answers[i].status, span_str(answers[i].body),
                           answers[i].items, refused, &answer);
        if (answer.kind != answers[i].kind || answer.refused_count != 0) {
            fail_msg("%u %s: %u", answers[i].status, answers[i].body, answer.kind);
        }
    }
    for (unsigned kind = EVENT_TRACK; kind <= EVENT_GROUP; kind++) {
        assert_int_equal(posthog_ops.endpoint((enum event_kind)kind), POSTHOG_SEND_BATCH);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_items), cmocka_unit_test(test_batches),
                                       cmocka_unit_test(test_answers)};
    wire = wire_new();
    int failed = wire == NULL ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
    wire_free(wire);
    return failed;
}
