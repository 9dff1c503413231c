/*
 * Segment and RudderStack: what their requests decode to, what they are answered, what is sent to the vendor and what its answers mean, and the
 * field table that both share.
 */
/* depends: segment mixpanel wire json http model base */
/* sources: mixpanel_kit.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/compiler.h"
#include "engine/http/http_parse.h"
#include "protocol/segment/rudder.h"
#include "protocol/segment/segment.h"
#include "protocol/wire/field_table.h"
#include "protocol/wire/wire.h"
#include "unit/mixpanel_kit.h"

static const struct protocol_ops *const both[] = {&segment_ops, &rudder_ops};

static const struct protocol_item *one(const char *path, const char *body) {
    assert_int_equal(kit_post(path, body), 0);
    assert_int_equal(kit_get()->decoded.item_count, 1);
    return &kit_get()->decoded.items[0];
}

static void assert_span(struct span s, const char *expected) {
    if (!span_is(s, expected)) {
        fail_msg("is '%.*s', not '%s'", (int)s.n, (const char *)s.p, expected);
    }
}

static void test_calls(void **state) {
    (void)state;
    static const struct {
        const char *body;
        uint8_t kind;
        uint8_t reason;
        const char *name;
    } rows[] = {
        {"{\"type\":\"track\",\"event\":\"Signed In\",\"userId\":\"u\"}", EVENT_TRACK, REASON_NONE,
         "Signed In"},
        {"{\"type\":\"track\",\"userId\":\"u\"}", EVENT_TRACK, REASON_NO_EVENT_NAME, ""},
        {"{\"type\":\"track\",\"event\":7,\"userId\":\"u\"}", EVENT_TRACK, REASON_NO_EVENT_NAME,
         ""},
        {"{\"type\":\"page\",\"name\":\"Home\",\"userId\":\"u\"}", EVENT_TRACK, REASON_NONE,
         "page"},
        {"{\"type\":\"screen\",\"userId\":\"u\"}", EVENT_TRACK, REASON_NONE, "screen"},
        {"{\"type\":\"identify\",\"userId\":\"u\",\"traits\":{}}", EVENT_PROFILE, REASON_NONE, ""},
        {"{\"type\":\"group\",\"groupId\":\"g\",\"userId\":\"u\"}", EVENT_GROUP, REASON_NONE, ""},
        {"{\"type\":\"alias\",\"userId\":\"u\",\"previousId\":\"a\"}", EVENT_ALIAS, REASON_NONE,
         "alias"},
        {"{\"type\":\"delete\",\"userId\":\"u\"}", EVENT_TRACK, REASON_MALFORMED, ""},
        {"{\"type\":[],\"userId\":\"u\"}", EVENT_TRACK, REASON_MALFORMED, ""},
        {"{\"type\":\"tr\\u0061ck\",\"event\":\"E\",\"userId\":\"u\"}", EVENT_TRACK, REASON_NONE,
         "E"},
    };
    for (size_t p = 0; p < BH_COUNT(both); p++) {
        kit_use(both[p]);
        for (size_t i = 0; i < BH_COUNT(rows); i++) {
            const struct protocol_item *item = one("/v1/track", rows[i].body);
            assert_int_equal(item->reason, rows[i].reason);
            assert_int_equal(item->kind, rows[i].kind);
            assert_span(item->event_name, rows[i].name);
        }
    }
}

/* The HTTP API leaves it to the path to say which call a message is; what is kept says it by itself. */
static void test_path_names_call(void **state) {
    (void)state;
    kit_use(&segment_ops);
    const struct protocol_item *item = one("/v1/identify/", " {\"userId\":\"u\"}");
    assert_int_equal(item->reason, REASON_NONE);
    assert_int_equal(item->kind, EVENT_PROFILE);
    assert_span(item->json, "{\"type\":\"identify\",\"userId\":\"u\"}");
    assert_span(item->person, "u");
    assert_int_equal(one("/v1/p", "{}")->reason, REASON_NONE);
    assert_span(kit_get()->decoded.items[0].json, "{\"type\":\"page\"}");
    assert_int_equal(one("/v1/p", "{\"type\":\"screen\"}")->kind, EVENT_TRACK);
    assert_span(kit_get()->decoded.items[0].event_name, "screen");
}

static void test_people(void **state) {
    (void)state;
    static const struct {
        const char *ids;
        const char *person;
        bool links;
    } rows[] = {
        {"\"userId\":\"u\",\"anonymousId\":\"a\"", "u", true},
        {"\"anonymousId\":\"a\",\"userId\":\"u\"", "u", true},
        {"\"anonymousId\":\"a\"", "a", false},
        {"\"anonymousId\":\"a\",\"userId\":null", "a", false},
        {"\"anonymousId\":\"a\",\"userId\":\"anonymous\"", "a", false},
        {"\"userId\":12", "12", false},
        {"\"context\":{\"device\":{\"id\":\"d\"}}", "", false},
        {"\"userId\":\"u\",\"context\":{\"device\":{\"id\":\"d\"}}", "u", true},
        {"\"userId\":\"u\",\"context\":[{\"device\":{\"id\":\"d\"}}]", "u", false},
        {"\"userId\":\"u\",\"traits\":{\"id\":\"x\"}", "u", false},
    };
    kit_use(&segment_ops);
    for (size_t i = 0; i < BH_COUNT(rows); i++) {
        char body[256];
        (void)snprintf(body, sizeof body, "{\"type\":\"page\",%s}", rows[i].ids);
        const struct protocol_item *item = one("/v1/p", body);
        assert_int_equal(item->reason, REASON_NONE);
        assert_span(item->person, rows[i].person);
        assert_int_equal((item->flags & EVENT_HAS_LINKS) != 0, rows[i].links);
    }
}

/* A clock that is an hour slow: what it says of the event is as wrong as what it says of the sending. */
static void test_clock(void **state) {
    (void)state;
    static const char batch[] =
        "{\"batch\":[{\"type\":\"page\",\"timestamp\":\"2026-09-21T13:03:20.000Z\"},"
        "{\"type\":\"page\"},{\"type\":\"page\",\"timestamp\":\"nonsense\"},"
        "{\"type\":\"page\",\"originalTimestamp\":\"2026-09-21T13:03:19.000Z\","
        "\"timestamp\":\"2026-09-21T13:03:20.000Z\"},"
        "{\"type\":\"page\",\"timestamp\":\"2026-09-21T13:03:20.000Z\","
        "\"sentAt\":\"2026-09-21T13:03:20.000Z\"}],\"sentAt\":\"2026-09-21T13:03:30.000Z\"}";
    for (size_t p = 0; p < BH_COUNT(both); p++) {
        kit_use(both[p]);
        assert_int_equal(kit_post("/v1/batch", batch), 0);
        const struct protocol_item *items = kit_get()->decoded.items;
        assert_int_equal(kit_get()->decoded.item_count, 5);
        assert_int_equal(items[0].time_ms, KIT_NOW_MS - 10000);
        assert_int_equal(items[1].time_ms, KIT_NOW_MS);
        assert_true((items[1].flags & EVENT_NO_TIME) != 0);
        assert_true((items[2].flags & EVENT_NO_TIME) != 0);
        assert_int_equal(items[3].time_ms, KIT_NOW_MS - 10000);
        assert_int_equal(items[4].time_ms, KIT_NOW_MS);
        assert_true((items[4].flags & EVENT_NO_TIME) == 0);
    }
    assert_int_equal(one("/v1/page", "{\"timestamp\":\"2026-09-21T14:00:00Z\"}")->time_ms,
                     INT64_C(1789999200000));
}

static void test_tokens(void **state) {
    (void)state;
    kit_use(&segment_ops);
    assert_int_equal(
        kit_post("/v1/b", "{\"writeKey\":\"k\\u0031\",\"batch\":[{\"type\":\"page\"}]}"), 0);
    assert_span(kit_get()->decoded.envelope.api_key, "k1");
    assert_span(one("/v1/p", "{\"writeKey\":\"k2\"}")->token, "k2");
    assert_int_equal(kit_decode(HTTP_POST, "/v1/p", SPAN_NONE, SPAN_LIT("Basic azM6"),
                                SPAN_LIT("{\"userId\":\"u\"}")),
                     0);
    assert_span(kit_get()->decoded.envelope.user, "k3");
    kit_use(&rudder_ops);
    assert_int_equal(kit_decode(HTTP_POST, "/beacon/v1/batch", SPAN_LIT("writeKey=k4"), SPAN_NONE,
                                SPAN_LIT("{\"batch\":[]}")),
                     0);
    assert_span(kit_get()->decoded.envelope.api_key, "k4");
    uint8_t memory[128];
    struct buf env = buf_of(memory, sizeof memory);
    kit_protocol()->env(&kit_get()->decoded.envelope, &env);
    assert_span(buf_span(&env), "{\"path\":\"/v1/batch\"}");
}

static void test_bad_requests(void **state) {
    (void)state;
    for (size_t p = 0; p < BH_COUNT(both); p++) {
        kit_use(both[p]);
        assert_int_equal(kit_post("/v1/batch", "{\"batch\":{}}"), BH_E_SYNTAX);
        assert_int_equal(kit_post("/v1/batch", "[]"), BH_E_SYNTAX);
        assert_int_equal(kit_post("/v1/batch", "{\"batch\":["), BH_E_SYNTAX);
        assert_int_equal(kit_post("/v1/batch", ""), BH_E_SYNTAX);
        assert_int_equal(kit_post("/v1/track", "[1]"), BH_E_SYNTAX);
        assert_int_equal(kit_post("/v1/nothing", "{}"), BH_E_NOTFOUND);
        assert_int_equal(kit_decode(HTTP_GET, "/v1/batch", SPAN_NONE, SPAN_NONE, SPAN_NONE),
                         BH_E_UNSUPPORTED);
        assert_int_equal(kit_post("/v1/batch", "{\"batch\":[1,{},{\"type\":\"page\"}]}"), 0);
        const struct protocol_item *items = kit_get()->decoded.items;
        assert_int_equal(items[0].reason, REASON_MALFORMED);
        assert_int_equal(items[1].reason, REASON_EMPTY);
        assert_int_equal(items[2].reason, REASON_NONE);
    }
}

static void test_answers_to_sdks(void **state) {
    (void)state;
    kit_use(&segment_ops);
    (void)one("/v1/p", "{}");
    assert_int_equal(kit_reply(REPLY_KEPT).status, 200);
    assert_span(kit_reply(REPLY_KEPT).body, "{\"success\":true}");
    /* Segment's SDKs wait without counting a try for a 429 only. */
    assert_int_equal(kit_reply(REPLY_UNAVAILABLE).status, 429);
    assert_int_equal(kit_reply(REPLY_UNAUTHORIZED).status, 401);
    assert_int_equal(kit_reply(REPLY_TOO_BIG).status, 413);
    kit_use(&rudder_ops);
    assert_int_equal(kit_reply(REPLY_UNAVAILABLE).status, 503);
    assert_span(kit_reply(REPLY_KEPT).body, "OK");
    assert_int_equal(kit_decode(HTTP_GET, "/sourceConfig/", SPAN_NONE, SPAN_NONE, SPAN_NONE), 0);
    assert_int_equal(kit_get()->decoded.envelope.use, ENDPOINT_LOCAL);
    assert_true(span_find(kit_reply(REPLY_KEPT).body, SPAN_LIT("\"destinations\":[]")) != SIZE_MAX);
}

/* Any key has the same answer, and none can break out of it. */
static void test_settings(void **state) {
    (void)state;
    kit_use(&segment_ops);
    assert_int_equal(
        kit_decode(HTTP_GET, "/v1/projects/a_B-9/settings", SPAN_NONE, SPAN_NONE, SPAN_NONE), 0);
    assert_int_equal(kit_get()->decoded.envelope.use, ENDPOINT_LOCAL);
    assert_true(span_starts(kit_reply(REPLY_KEPT).body,
                            SPAN_LIT("{\"integrations\":{\"Segment.io\":{\"apiKey\":\"a_B-9\",")));
    static const char *const bad[] = {"/v1/projects//settings", "/v1/projects/a\"b/settings",
                                      "/v1/projects/a/b/settings", "/v1/projects/settings",
                                      "/v1/projects/%22/settings"};
    for (size_t i = 0; i < BH_COUNT(bad); i++) {
        assert_int_equal(kit_decode(HTTP_GET, bad[i], SPAN_NONE, SPAN_NONE, SPAN_NONE),
                         BH_E_NOTFOUND);
    }
}

static uint8_t plain_memory[1 << 20];
static uint8_t packed_memory[1 << 20];

static int encode(const struct protocol_ops *ops, const char *const *texts, size_t count,
                  struct protocol_post *post) {
    struct span items[8];
    struct buf plain = buf_of(plain_memory, sizeof plain_memory);
    struct buf packed = buf_of(packed_memory, sizeof packed_memory);
    size_t most = 0;
    for (size_t i = 0; i < count; i++) {
        items[i] = span_str(texts[i]);
        most += ops->encoded_size(1, items[i].n, 3);
    }
    int rc =
        ops->encode(1, items, count, SPAN_LIT("key"), kit_get()->work.wire, &plain, &packed, post);
    assert_true(rc != 0 || count == 0 || post->plain.n <= most);
    return rc;
}

#define NOBODY "\"integrations\":{\"All\":false}"

static void test_requests_to_vendor(void **state) {
    (void)state;
    static const struct {
        const char *item;
        const char *sent;
    } rows[] = {
        {"{}", "{" NOBODY ",\"context\":{\"ip\":\"0.0.0.0\"}}"},
        {"{\"a\":1}", "{" NOBODY ",\"context\":{\"ip\":\"0.0.0.0\"},\"a\":1}"},
        {"{\"context\":{\"locale\":\"en\"},\"a\":1}",
         "{" NOBODY ",\"context\":{\"ip\":\"0.0.0.0\",\"locale\":\"en\"},\"a\":1}"},
        {"{\"context\":{\"ip\":\"1.2.3.0\"}}", "{" NOBODY ",\"context\":{\"ip\":\"1.2.3.0\"}}"},
        {"{\"context\":{\"page\":{\"ip\":1}}}",
         "{" NOBODY ",\"context\":{\"ip\":\"0.0.0.0\",\"page\":{\"ip\":1}}}"},
        {"{\"properties\":{\"context\":{\"ip\":1},\"ip\":2}}",
         "{" NOBODY
         ",\"context\":{\"ip\":\"0.0.0.0\"},\"properties\":{\"context\":{\"ip\":1},\"ip\":2}}"},
        {"{\"event\":\"\\\"context\\\":{\",\"context\":{\"a\":[1]}}",
         "{" NOBODY ",\"event\":\"\\\"context\\\":{\",\"context\":{\"ip\":\"0.0.0.0\",\"a\":[1]}}"},
    };
    struct protocol_post post;
    for (size_t p = 0; p < BH_COUNT(both); p++) {
        for (size_t i = 0; i < BH_COUNT(rows); i++) {
            char expected[512];
            (void)snprintf(expected, sizeof expected, "{\"batch\":[%s]}", rows[i].sent);
            assert_int_equal(encode(both[p], &rows[i].item, 1, &post), 0);
            assert_span(post.plain, expected);
            assert_true(post.basic_auth);
            assert_string_equal(post.path, "/v1/batch");
            assert_int_equal(post.gzip, both[p] == &rudder_ops);
        }
        assert_int_equal(encode(both[p], NULL, 0, &post), 0);
        assert_span(post.plain, "{\"batch\":[]}");
    }
}

static void test_what_a_vendor_cannot_take(void **state) {
    (void)state;
    static char large[40000];
    struct protocol_post post;
    memset(large, 'x', sizeof large - 1);
    memcpy(large, "{\"a\":\"", 6);
    memcpy(large + sizeof large - 3, "\"}", 2);
    const char *const bad[] = {large, "[]", "{\"a\":1", "", "{\"a\":{}}}", "\"a\"", "{\"a"};
    for (size_t i = 0; i < BH_COUNT(bad); i++) {
        assert_int_equal(encode(&segment_ops, &bad[i], 1, &post), BH_E_SYNTAX);
    }
}

static void test_answers_of_vendors(void **state) {
    (void)state;
    static const struct {
        unsigned status;
        const char *segment;
        uint8_t kind;
        const char *rudder;
    } rows[] = {
        {200, "{\"success\":true}", ANSWER_ACCEPTED, "OK"},
        {200, " { \"success\" : true }\n", ANSWER_ACCEPTED, "\"OK\"\n"},
        {200, "<html>", ANSWER_RETRY, "<html>"},
        {200, "{\"success\":tru", ANSWER_RETRY, "O"},
        {204, "", ANSWER_RETRY, ""},
        {400, "", ANSWER_REFUSED, ""},
        {401, "", ANSWER_AUTH, ""},
        {302, "", ANSWER_AUTH, ""},
        {413, "", ANSWER_TOO_BIG, ""},
        {429, "", ANSWER_RETRY, ""},
        {503, "{\"success\":true}", ANSWER_RETRY, "OK"},
    };
    for (size_t i = 0; i < BH_COUNT(rows); i++) {
        struct protocol_answer answer;
        segment_ops.answer(1, rows[i].status, span_str(rows[i].segment), 3, NULL, &answer);
        assert_int_equal(answer.kind, rows[i].kind);
        assert_int_equal(answer.refused_count, 0);
        rudder_ops.answer(1, rows[i].status, span_str(rows[i].rudder), 3, NULL, &answer);
        assert_int_equal(answer.kind, rows[i].kind);
    }
}

static void test_fields(void **state) {
    (void)state;
    static const struct {
        uint8_t place;
        const char *name;
    } texts[] = {{PLACE_EVENT, "name"},
                 {PLACE_EVENT, "category"},
                 {PLACE_CONTEXT, "userAgent"},
                 {PLACE_CONTEXT_PAGE, "title"},
                 {PLACE_CONTEXT_DEVICE, "name"},
                 {PLACE_CONTEXT_DEVICE, "token"},
                 {PLACE_PROFILE_VALUE, "address"},
                 {PLACE_CONTEXT_CAMPAIGN, "term"},
                 {PLACE_CONTEXT, "consent"}};
    static struct field_table table;
    size_t count = 0;
    const struct field *rows = segment_ops.fields(&count);
    for (size_t i = 0; i < count; i++) {
        const struct field *row = &rows[i];
        assert_ptr_equal(
            segment_ops.field((enum field_place)row->place, span_of(row->name, row->name_len)),
            row);
        assert_true((row->role != ROLE_PERSON && row->role != ROLE_GROUP_ID &&
                     row->role != ROLE_INSERT_ID) ||
                    row->domain != DOMAIN_NONE);
        assert_int_equal(row->type == TYPE_OBJECT, row->inside != PLACE_NONE);
        assert_int_equal(row->role == ROLE_PERSON, row->person != PERSON_NONE);
        bool is_id_class = (class_flags(row->class_id) & CLASS_ID) != 0 && row->type != TYPE_TEXT;
        assert_true(!is_id_class || row->domain != DOMAIN_NONE);
    }
    for (size_t i = 0; i < BH_COUNT(texts); i++) {
        const struct field *field =
            segment_ops.field((enum field_place)texts[i].place, span_str(texts[i].name));
        assert_non_null(field);
        assert_false(field_fits(field, JSON_STRING, SPAN_LIT("Home")));
    }
    field_table_build(&table, rows, count);
    assert_true(table.probes_max <= 8);
    const struct field *library = segment_ops.field(PLACE_CONTEXT_LIBRARY, SPAN_LIT("name"));
    assert_true(field_fits(library, JSON_STRING, SPAN_LIT("@segment/analytics-node")));
    assert_true(field_fits(library, JSON_STRING, SPAN_LIT("analytics.js")));
    assert_false(field_fits(library, JSON_STRING, SPAN_LIT("jo@example.com")));
    assert_false(field_fits(library, JSON_STRING, SPAN_LIT("@jo/a@b")));
    assert_false(field_fits(library, JSON_STRING, SPAN_LIT("Jo Winter")));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_calls),
        cmocka_unit_test(test_path_names_call),
        cmocka_unit_test(test_people),
        cmocka_unit_test(test_clock),
        cmocka_unit_test(test_tokens),
        cmocka_unit_test(test_bad_requests),
        cmocka_unit_test(test_answers_to_sdks),
        cmocka_unit_test(test_settings),
        cmocka_unit_test(test_requests_to_vendor),
        cmocka_unit_test(test_what_a_vendor_cannot_take),
        cmocka_unit_test(test_answers_of_vendors),
        cmocka_unit_test(test_fields),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
