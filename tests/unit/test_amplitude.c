/*
 * Amplitude: every recorded request decodes to the items that its sidecar names and is answered as the SDK was content with; what SDKs and the
 * vendor do besides.
 */
/* depends: amplitude mixpanel wire http json crypto model base */
/* sources: recorded_kit.c mixpanel_kit.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/compiler.h"
#include "engine/http/http_parse.h"
#include "protocol/amplitude/amplitude.h"
#include "unit/mixpanel_kit.h"
#include "unit/recorded_kit.h"

static uint8_t out_memory[1 << 16];

static const struct protocol_item *item(size_t i) {
    assert_true(i < kit_get()->decoded.item_count);
    return &kit_get()->decoded.items[i];
}

static void assert_reply(enum reply_kind kind, unsigned status, const char *body) {
    struct protocol_reply reply = kit_reply(kind);
    assert_int_equal(reply.status, status);
    if (!span_is(reply.body, body)) {
        fail_msg("answered %.*s, not %s", (int)reply.body.n, (const char *)reply.body.p, body);
    }
}

/* -- recorded ------------------------------------------------------------------------------------ */

static unsigned kinds[EVENT_GROUP + 1];

static void check_item(const struct protocol_item *got) {
    assert_true(got->person.n > 0 && got->dedupe.n > 6 && got->token.n > 30);
    assert_int_equal(got->flags & EVENT_NO_TIME, 0);
    assert_true((got->kind == EVENT_TRACK) == (got->event_name.n > 0));
    kinds[got->kind]++;
}

/* The two differ in the time alone. */
static void check_reply(struct span body) {
    char line[512];
    size_t n = span_find(body, SPAN_LIT("\"server_upload_time\":"));
    (void)snprintf(line, sizeof line, "%.*s", (int)(n == SIZE_MAX ? body.n : n),
                   (const char *)body.p);
    if (n != SIZE_MAX) {
        strcat(line, "\"server_upload_time\":1790000000000}");
    }
    assert_reply(REPLY_KEPT, 200, line);
}

static void test_recorded(void **state) {
    (void)state;
    static const struct recorded_sdk node = {"amplitude-node", "events", NULL};
    static const struct recorded_sdk browser = {"amplitude-browser", "events", NULL};
    static const struct recorded_checks checks = {check_item, check_reply};
    size_t items = 0;
    assert_int_equal(recorded_replay(&node, &checks, &items), 12);
    assert_int_equal(items, 212);
    assert_int_equal(recorded_replay(&browser, &checks, &items), 42);
    assert_int_equal(items, 120);
    assert_int_equal(kinds[EVENT_PROFILE], 70);
    assert_int_equal(kinds[EVENT_GROUP], 14);
}

/* -- what else SDKs do ----------------------------------------------------------------------------- */

static void test_partly_bad(void **state) {
    (void)state;
    /* The good ones are kept, and nothing comes twice. */
    assert_int_equal(kit_post("/2/httpapi",
                              "{\"events\":[{\"event_type\":\"a\",\"user_id\":\"u\"},1,"
                              "{\"user_id\":\"u\"}],\"api_key\":\"k\"}"),
                     0);
    assert_int_equal(kit_get()->decoded.item_count, 3);
    assert_int_equal(item(0)->reason, REASON_NONE);
    assert_int_equal(item(1)->reason, REASON_MALFORMED);
    assert_int_equal(item(2)->reason, REASON_NO_EVENT_NAME);
    assert_true(span_is(item(2)->token, "k"));
    assert_reply(REPLY_KEPT, 200,
                 "{\"code\":200,\"events_ingested\":1,\"payload_size_bytes\":77,"
                 "\"server_upload_time\":1790000000000}");
    assert_reply(
        REPLY_MALFORMED, 400,
        "{\"code\":400,\"error\":\"Bad request\",\"events_with_invalid_fields\":{\"event\":"
        "[1]},\"events_with_missing_fields\":{\"event_type\":[2]}}");
    assert_reply(REPLY_UNAUTHORIZED, 400, "{\"code\":400,\"error\":\"Invalid API key\"}");
    assert_reply(REPLY_UNAVAILABLE, 503,
                 "{\"code\":503,\"error\":\"Service unavailable, try again\"}");
    assert_reply(REPLY_TOO_BIG, 413, "{\"code\":413,\"error\":\"Payload too large\"}");
    assert_int_equal(kit_post("/2/httpapi", "{\"events\":"), BH_E_SYNTAX);
    assert_int_equal(kit_post("/2/httpapi", "[]"), BH_E_SYNTAX);
    assert_int_equal(kit_post("/2/httpapi", "{\"events\":7}"), BH_E_SYNTAX);
    assert_reply(REPLY_MALFORMED, 400,
                 "{\"code\":400,\"error\":\"Bad request\",\"missing_field\":\"events\"}");
}

static void test_forms_and_side_paths(void **state) {
    (void)state;
    assert_int_equal(
        kit_post("/identify",
                 "api_key=a%20b&identification=%5B%7B%22user_id%22%3A%22u%2B1%22%7D%5D"),
        0);
    assert_int_equal(kit_get()->decoded.item_count, 1);
    assert_int_equal(item(0)->kind, EVENT_PROFILE);
    assert_true(span_is(item(0)->token, "a b") && span_is(item(0)->person, "u+1"));
    assert_int_equal(kit_post("/groupidentify",
                              "identification=[{\"group_type\":\"c\",\"group_value\":"
                              "\"x\"}]&api_key=k"),
                     0);
    assert_int_equal(item(0)->kind, EVENT_GROUP);
    assert_int_equal(kit_post("/identify", "api_key=k&identification=[{\"event_type\":\"buy\"}]"),
                     0);
    assert_int_equal(item(0)->reason, REASON_MALFORMED);
    assert_int_equal(kit_post("/identify", "api_key=k"), BH_E_SYNTAX);
    assert_int_equal(kit_decode(HTTP_GET, "/config/key", SPAN_NONE, SPAN_NONE, SPAN_NONE), 0);
    assert_reply(REPLY_KEPT, 200, "{\"configs\":{}}");
    assert_int_equal(kit_decode(HTTP_GET, "/2/httpapi", SPAN_NONE, SPAN_NONE, SPAN_NONE),
                     BH_E_UNSUPPORTED);
    assert_int_equal(kit_post("/elsewhere", "{}"), BH_E_NOTFOUND);
}

static void test_fields(void **state) {
    (void)state;
    size_t count;
    const struct field *rows = amplitude_ops.fields(&count);
    for (size_t i = 0; i < count; i++) {
        char key[64];
        (void)snprintf(key, sizeof key, "%s%s", rows[i].name, rows[i].is_prefix ? "zz" : "");
        const struct field *found =
            amplitude_ops.field((enum field_place)rows[i].place, span_str(key));
        assert_ptr_equal(found, &rows[i]);
    }
    /* A plain member of user_properties means what it means inside $set; an operation inside one is none. */
    const struct field *plain = amplitude_ops.field(PLACE_USER_PROPERTIES, SPAN_LIT("email"));
    assert_ptr_equal(plain, amplitude_ops.field(PLACE_PROFILE_VALUE, SPAN_LIT("email")));
    assert_non_null(plain);
    assert_null(amplitude_ops.field(PLACE_PROFILE_VALUE, SPAN_LIT("$set")));
    static const char *const nobody[] = {"",       "0",       "Anonymous",
                                         "(none)", "not set", "[object Object]"};
    for (size_t i = 0; i < BH_COUNT(nobody); i++) {
        assert_true(amplitude_ops.is_placeholder(span_str(nobody[i])));
    }
    assert_false(amplitude_ops.is_placeholder(SPAN_LIT("u_10001")));
}

/* -- the vendor -------------------------------------------------------------------------------------- */

static void test_encode(void **state) {
    (void)state;
    struct span in[] = {SPAN_LIT("{\"event_type\":\"a\",\"ip\":\"1.2.3.4\"}"),
                        SPAN_LIT("{\"user_properties\":{\"event_type\":1}}"),
                        SPAN_LIT("{\"group_properties\":{}}"),
                        SPAN_LIT("{\"group_type\":\"c\",\"group_properties\":{},\"group_value\":"
                                 "\"x\",\"insert_id\":\"i\"}")};
    static uint8_t packed_memory[1 << 16];
    struct buf plain = buf_of(out_memory, sizeof out_memory);
    struct buf packed = buf_of(packed_memory, sizeof packed_memory);
    struct protocol_post out;
    assert_int_equal(amplitude_ops.encode(1, in, 4, SPAN_LIT("k\"1"), kit_get()->work.wire, &plain,
                                          &packed, &out),
                     0);
    assert_true(span_is(
        out.plain, "{\"api_key\":\"k\\\"1\",\"events\":[{\"event_type\":\"a\",\"ip\":\"1.2.3.4\"},"
                   "{\"event_type\":\"$identify\",\"ip\":\"0.0.0.0\",\"user_properties\":"
                   "{\"event_type\":1}},{\"event_type\":\"$groupidentify\",\"ip\":\"0.0.0.0\","
                   "\"group_properties\":{}},{\"event_type\":\"$groupidentify\",\"ip\":\"0.0.0.0\","
                   "\"device_id\":\"i\",\"groups\":{\"c\":\"x\"},\"group_properties\":{},"
                   "\"insert_id\":\"i\"}],\"options\":{\"min_id_length\":1}}"));
    assert_string_equal(out.path, "/2/httpapi");
    assert_true(out.gzip && !out.basic_auth);
    assert_true(out.body.n > 18 && out.body.p[0] == 0x1f && out.body.p[1] == 0x8b);
    plain = buf_of(out_memory, 40);
    assert_int_equal(
        amplitude_ops.encode(1, in, 4, SPAN_LIT("k"), kit_get()->work.wire, &plain, &packed, &out),
        BH_E_FULL);
    struct span cut = SPAN_LIT("{\"event_type\":\"a\"");
    plain = buf_of(out_memory, sizeof out_memory);
    assert_int_equal(amplitude_ops.encode(1, &cut, 1, SPAN_LIT("k"), kit_get()->work.wire, &plain,
                                          &packed, &out),
                     BH_E_SYNTAX);
}

static void test_answers(void **state) {
    (void)state;
    static const struct {
        unsigned status;
        const char *body;
        size_t items;
        uint8_t kind;
    } rows[] = {
        {200, "{\"code\":200,\"events_ingested\":1}", 1, ANSWER_ACCEPTED},
        {200, "{\"code\":200,\"events_ing", 1, ANSWER_RETRY},
        {200, "<html>", 1, ANSWER_RETRY},
        {204, "", 1, ANSWER_RETRY},
        {400, "{\"code\":400,\"error\":\"Invalid API key: x\"}", 1, ANSWER_AUTH},
        {400, "{\"code\":400,\"error\":\"r\",\"missing_field\":\"api_key\"}", 1, ANSWER_AUTH},
        /* Names what is wrong, but took nothing. */
        {400, "{\"code\":400,\"events_with_invalid_fields\":{\"time\":[0]}}", 2, ANSWER_REFUSED},
        {400, "{\"code\":400,\"missing_field\":\"events\"}", 0, ANSWER_ACCEPTED},
        {413, "{\"code\":413}", 1, ANSWER_TOO_BIG},
        {429, "{\"code\":429,\"throttled_events\":[0]}", 1, ANSWER_RETRY},
        {503, "", 1, ANSWER_RETRY},
        {401, "", 1, ANSWER_AUTH},
        {302, "", 1, ANSWER_AUTH},
    };
    for (size_t i = 0; i < BH_COUNT(rows); i++) {
        struct protocol_answer ret;
        uint32_t refused[2];
        amplitude_ops.answer(1, rows[i].status, span_str(rows[i].body), rows[i].items, refused,
                             &ret);
        assert_int_equal(ret.kind, rows[i].kind);
        assert_int_equal(ret.refused_count, 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_recorded),
        cmocka_unit_test(test_partly_bad),
        cmocka_unit_test(test_forms_and_side_paths),
        cmocka_unit_test(test_fields),
        cmocka_unit_test(test_encode),
        cmocka_unit_test(test_answers),
    };
    kit_use(&amplitude_ops);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
