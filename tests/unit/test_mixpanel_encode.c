/*
 * Answers to SDKs and requests to the vendor, byte for byte, and what the vendor's answers mean.
 */
/* depends: mixpanel wire json http model crypto base */
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
#include "protocol/mixpanel/mixpanel.h"
#include "protocol/wire/wire.h"
#include "unit/mixpanel_kit.h"

#define EVENT \
    "{\"event\":\"A\",\"properties\":{\"token\":\"t\",\"distinct_id\":\"u\",\"$insert_id\":\"i\"}}"

static void check_reply(const char *path, const char *query, const char *body, enum reply_kind kind,
                        unsigned status, const char *type, const char *expected) {
    (void)kit_decode(HTTP_POST, path, span_str(query), SPAN_NONE, span_str(body));
    struct protocol_reply reply = kit_reply(kind);
    assert_int_equal(reply.status, status);
    assert_string_equal(reply.content_type, type);
    if (!span_is(reply.body, expected)) {
        fail_msg("%.*s, expected %s", (int)reply.body.n, (const char *)reply.body.p, expected);
    }
}

static void test_replies(void **state) {
    (void)state;
    const char *json = "application/json";
    check_reply("/track", "", EVENT, REPLY_KEPT, 200, json, "1");
    check_reply("/track", "verbose=1", EVENT, REPLY_KEPT, 200, json,
                "{\"error\":null,\"status\":1}");
    check_reply("/track", "", "data=" EVENT "&verbose=1&ip=0", REPLY_KEPT, 200, json,
                "{\"error\":null,\"status\":1}");
    check_reply("/track", "", "data=" EVENT "&verbose=0", REPLY_KEPT, 200, json, "1");
    check_reply("/track", "", "{\"event\":\"&verbose=1&\"}", REPLY_KEPT, 200, json, "1");
    check_reply("/import", "", EVENT, REPLY_KEPT, 200, json, "1");
    check_reply("/import", "strict=1", "[" EVENT "," EVENT "]", REPLY_KEPT, 200, json,
                "{\"code\":200,\"num_records_imported\":2,\"status\":\"OK\"}");
    check_reply(
        "/import", "strict=1", "[" EVENT ",{\"event\":\"\",\"properties\":{}},3]", REPLY_KEPT, 400,
        json,
        "{\"code\":400,\"error\":\"some data points in the request failed validation\",\"failed_records\":["
        "{\"index\":1,\"$insert_id\":\"\",\"field\":\"event\",\"message\":\"'event' is missing or empty\"},"
        "{\"index\":2,\"$insert_id\":\"\",\"field\":\"\",\"message\":\"the record is malformed\"}],"
        "\"num_records_imported\":1,\"status\":\"Bad Request\"}");
    check_reply("/track", "", "x", REPLY_MALFORMED, 400, json, "0");
    check_reply("/track", "verbose=1", "x", REPLY_MALFORMED, 400, json,
                "{\"error\":\"data, missing or malformed\",\"status\":0}");
    check_reply(
        "/import", "strict=1", "x", REPLY_MALFORMED, 400, json,
        "{\"code\":400,\"error\":\"data, missing or malformed\",\"status\":\"Bad Request\"}");
    check_reply("/track", "verbose=1", EVENT, REPLY_UNAUTHORIZED, 401, json,
                "{\"error\":\"unauthorized\",\"status\":0}");
    check_reply("/import", "strict=1", EVENT, REPLY_UNAUTHORIZED, 401, json,
                "{\"code\":401,\"error\":\"unauthorized\",\"status\":\"Unauthorized\"}");
    check_reply("/track", "", EVENT, REPLY_TOO_BIG, 413, json, "0");
    check_reply("/track", "verbose=1", EVENT, REPLY_UNAVAILABLE, 503, json,
                "{\"error\":\"unavailable, try again\",\"status\":0}");
    check_reply("/nothing", "", EVENT, REPLY_NOT_FOUND, 404, json, "0");
    check_reply("/track", "", EVENT, REPLY_BAD_METHOD, 405, json, "0");
    check_reply("/track", "callback=f", EVENT, REPLY_KEPT, 200, "application/javascript",
                "/**/f(1);");
    check_reply("/track", "callback=f&verbose=1", EVENT, REPLY_KEPT, 200, "application/javascript",
                "/**/f({\"error\":null,\"status\":1});");
    check_reply("/track", "callback=f(", EVENT, REPLY_KEPT, 200, json, "1");
    check_reply("/settings/", "", "", REPLY_KEPT, 200, json, "{\"sdk_config\":{\"config\":{}}}");
    check_reply("/flags/", "", "", REPLY_KEPT, 200, json, "{\"flags\":{}}");
    check_reply("/decide", "", "", REPLY_KEPT, 200, json,
                "{\"config\":{},\"notifications\":[],\"surveys\":[]}");
    check_reply("/record/", "", "x", REPLY_KEPT, 200, json, "{\"code\":200,\"status\":\"OK\"}");
    check_reply("/settings/", "", "", REPLY_UNAUTHORIZED, 401, json, "0");
    (void)kit_decode(HTTP_POST, "/track", SPAN_LIT("img=1"), SPAN_NONE, SPAN_LIT(EVENT));
    struct protocol_reply reply = kit_reply(REPLY_KEPT);
    assert_string_equal(reply.content_type, "image/gif");
    assert_int_equal(reply.body.n, 43);
    assert_memory_equal(reply.body.p, "GIF89a\1\0\1\0", 10);
    assert_int_equal(reply.body.p[42], 0x3B);
}

/* However small the memory, an answer is well-formed and its count is right. */
static void test_reply_in_little_memory(void **state) {
    (void)state;
    (void)kit_decode(HTTP_POST, "/import", SPAN_LIT("strict=1"), SPAN_NONE,
                     SPAN_LIT("[" EVENT ",1,2,3,4,5,6,7,8,9]"));
    const struct protocol_decoded *d = &kit_get()->decoded;
    for (size_t size = 0; size < 2000; size++) {
        uint8_t memory[2000];
        struct json_token tokens[128];
        size_t count;
        size_t offset;
        struct buf b = buf_of(memory, size);
        struct protocol_reply reply;
        mixpanel_ops.reply(&d->envelope, REPLY_KEPT, d->items, d->item_count, &b, &reply);
        assert_int_equal(reply.status, 400);
        assert_int_equal(json_parse(reply.body, 8, tokens, 128, &count, &offset), 0);
        uint32_t at = json_get(reply.body, tokens, 0, SPAN_LIT("num_records_imported"));
        assert_true(at == 0 ? span_is(reply.body, "0")
                            : span_is(json_span(reply.body, &tokens[at]), "1"));
    }
}

static void check_encode(unsigned endpoint, const char *const *items, size_t count,
                         const char *path, const char *expected) {
    static uint8_t plain_memory[4096];
    static uint8_t packed_memory[4096];
    struct span spans[4];
    struct protocol_post post;
    struct buf plain = buf_of(plain_memory, sizeof plain_memory);
    struct buf packed = buf_of(packed_memory, sizeof packed_memory);
    size_t bound = 2;
    for (size_t i = 0; i < count; i++) {
        spans[i] = span_str(items[i]);
        bound += mixpanel_ops.encoded_size(endpoint, spans[i].n, 6);
    }
    assert_int_equal(mixpanel_ops.encode(endpoint, spans, count, SPAN_LIT("ven\"do"),
                                         kit_get()->work.wire, &plain, &packed, &post),
                     0);
    assert_string_equal(post.path, path);
    assert_string_equal(post.content_type, "application/json");
    assert_true(post.plain.n <= bound);
    if (!span_is(post.plain, expected)) {
        fail_msg("%.*s, expected %s", (int)post.plain.n, (const char *)post.plain.p, expected);
    }
    if (!post.gzip) {
        assert_true(span_equal(post.body, post.plain));
        return;
    }
    static uint8_t unpacked_memory[4096];
    struct buf unpacked = buf_of(unpacked_memory, sizeof unpacked_memory);
    assert_true(post.body.n <= wire_gzip_bound(post.plain.n));
    assert_int_equal(wire_gunzip(kit_get()->work.wire, post.body, &unpacked), 0);
    assert_true(span_equal(buf_span(&unpacked), post.plain));
}

static void test_encode(void **state) {
    (void)state;
    const char *const links[] = {
        "{\"event\":\"$identify\",\"properties\":{\"distinct_id\":\"p\"}}",
        "{\"x\":{\"properties\":{\"no\":1}},\"event\":\"a\\\"properties\\\":{\",\"properties\":{}}"};
    check_encode(
        MIXPANEL_SEND_LINKS, links, 2, "/track?verbose=1&ip=0",
        "[{\"event\":\"$identify\",\"properties\":{\"token\":\"ven\\\"do\",\"distinct_id\":\"p\"}},"
        "{\"x\":{\"properties\":{\"no\":1}},\"event\":\"a\\\"properties\\\":{\",\"properties\":{\"token\":\"ven\\\"do\"}}]");
    check_encode(
        MIXPANEL_SEND_EVENTS, links, 2, "/import?strict=1",
        "[{\"event\":\"$identify\",\"properties\":{\"distinct_id\":\"p\"}},"
        "{\"x\":{\"properties\":{\"no\":1}},\"event\":\"a\\\"properties\\\":{\",\"properties\":{}}]");
    check_encode(MIXPANEL_SEND_EVENTS, NULL, 0, "/import?strict=1", "[]");
    const char *const updates[] = {"{\"$distinct_id\":\"p\",\"$set\":{}}", "{}"};
    check_encode(
        MIXPANEL_SEND_ENGAGE, updates, 2, "/engage?verbose=1&ip=0",
        "[{\"$token\":\"ven\\\"do\",\"$distinct_id\":\"p\",\"$set\":{}},{\"$token\":\"ven\\\"do\"}]");
    check_encode(MIXPANEL_SEND_GROUPS, updates, 1, "/groups?verbose=1&ip=0",
                 "[{\"$token\":\"ven\\\"do\",\"$distinct_id\":\"p\",\"$set\":{}}]");

    /* What is no whole item is refused, however it ends. */
    static const char whole[] = "{\"event\":\"x\",\"properties\":{ ";
    for (size_t n = 0; n < sizeof whole; n++) {
        uint8_t memory_of_prefix[128];
        struct span prefix = span_of(whole, n);
        struct buf b = buf_of(memory_of_prefix, sizeof memory_of_prefix);
        struct protocol_post ignored;
        assert_int_equal(mixpanel_ops.encode(MIXPANEL_SEND_LINKS, &prefix, 1, SPAN_LIT("v"),
                                             kit_get()->work.wire, &b, &b, &ignored),
                         BH_E_SYNTAX);
    }

    struct span bad = SPAN_LIT("{\"event\":\"x\"}");
    uint8_t memory[64];
    struct buf plain = buf_of(memory, sizeof memory);
    struct buf packed = buf_of(memory, 0);
    struct protocol_post post;
    assert_int_equal(mixpanel_ops.encode(MIXPANEL_SEND_LINKS, &bad, 1, SPAN_LIT("v"),
                                         kit_get()->work.wire, &plain, &packed, &post),
                     BH_E_SYNTAX);
    plain = buf_of(memory, 8);
    assert_int_equal(mixpanel_ops.encode(MIXPANEL_SEND_ENGAGE, &bad, 1, SPAN_LIT("v"),
                                         kit_get()->work.wire, &plain, &packed, &post),
                     BH_E_FULL);
    plain = buf_of(memory, sizeof memory);
    assert_int_equal(mixpanel_ops.encode(MIXPANEL_SEND_EVENTS, &bad, 1, SPAN_LIT("v"),
                                         kit_get()->work.wire, &plain, &packed, &post),
                     BH_E_FULL);

    struct buf header = buf_of(memory, sizeof memory);
    mixpanel_ops.authorize(SPAN_LIT("token"), &header);
    assert_true(span_is(buf_span(&header), "Basic dG9rZW46"));
}

static void test_endpoints(void **state) {
    (void)state;
    assert_int_equal(mixpanel_ops.endpoint(EVENT_TRACK), 2);
    assert_int_equal(mixpanel_ops.endpoint(EVENT_IDENTIFY), 1);
    assert_int_equal(mixpanel_ops.endpoint(EVENT_ALIAS), 1);
    assert_int_equal(mixpanel_ops.endpoint(EVENT_MERGE), 2);
    assert_int_equal(mixpanel_ops.endpoint(EVENT_PROFILE), 3);
    assert_int_equal(mixpanel_ops.endpoint(EVENT_GROUP), 4);
}

struct answer_case {
    unsigned endpoint;
    unsigned status;
    const char *body;
    uint8_t kind;
    uint32_t refused_count;
    uint32_t refused[3];
};

static const struct answer_case answer_cases[] = {
    {2,
     200,
     "{\"code\":200,\"num_records_imported\":5,\"status\":\"OK\"}",
     ANSWER_ACCEPTED,
     0,
     {0}},
    {2, 200, " {\"code\" : 200 , \"status\":\"OK\"} \n", ANSWER_ACCEPTED, 0, {0}},
    {2, 200, "1", ANSWER_ACCEPTED, 0, {0}},
    {1, 200, "{\"error\":null,\"status\":1}", ANSWER_ACCEPTED, 0, {0}},
    {3, 200, "{\"status\":0,\"error\":\"some\"}", ANSWER_REFUSED, 0, {0}},
    {3, 200, "0", ANSWER_REFUSED, 0, {0}},
    /* not the vendor's word */
    {2, 200, "", ANSWER_RETRY, 0, {0}},
    {2, 200, "<html>login</html>", ANSWER_RETRY, 0, {0}},
    {2, 200, "{\"code\":200,\"status\":\"OK\"", ANSWER_RETRY, 0, {0}},
    {2, 200, "{\"code\":500}", ANSWER_RETRY, 0, {0}},
    {1, 200, "{\"error\":null,\"status\":1", ANSWER_RETRY, 0, {0}},
    {1, 200, "{\"a\":\"\\\"status\\\":1\"}", ANSWER_RETRY, 0, {0}},
    {1, 200, "{\"a\":{\"status\":1}}", ANSWER_RETRY, 0, {0}},
    {1, 204, "", ANSWER_RETRY, 0, {0}},
    /* partial */
    {2,
     400,
     "{\"code\":400,\"error\":\"e\",\"failed_records\":[{\"index\":3,\"$insert_id\":\"x\",\"field\":\"f\",\"message\":\"m ] } \\\" ,\"},{\"index\":1}],\"num_records_imported\":3,\"status\":\"Bad Request\"}",
     ANSWER_ACCEPTED,
     2,
     {1, 3}},
    {2,
     400,
     "{\"failed_records\":[{\"index\":0},{\"index\":0},{\"index\":4},{\"index\":2}]}",
     ANSWER_ACCEPTED,
     3,
     {0, 2, 4}},
    {2, 400, "{\"failed_records\":[{\"index\":5}]}", ANSWER_REFUSED, 0, {0}},
    {2, 400, "{\"failed_records\":[{\"index\":-1}]}", ANSWER_REFUSED, 0, {0}},
    {2, 400, "{\"failed_records\":[{\"index\":1},{\"index\":1.5}]}", ANSWER_REFUSED, 0, {0}},
    {2, 400, "{\"failed_records\":[{\"index\":1},{\"no\":1}]}", ANSWER_REFUSED, 0, {0}},
    {2, 400, "{\"failed_records\":[]}", ANSWER_REFUSED, 0, {0}},
    {2, 400, "{\"failed_records\":[{\"index\":1}", ANSWER_REFUSED, 0, {0}},
    {2, 400, "{\"failed_records\":{\"index\":1}}", ANSWER_REFUSED, 0, {0}},
    {2, 400, "{\"code\":400,\"error\":\"e\"}", ANSWER_REFUSED, 0, {0}},
    {2, 422, "", ANSWER_REFUSED, 0, {0}},
    {2, 408, "", ANSWER_RETRY, 0, {0}},
    {2, 425, "", ANSWER_RETRY, 0, {0}},
    {2, 429, "{\"code\":429}", ANSWER_RETRY, 0, {0}},
    {2, 500, "", ANSWER_RETRY, 0, {0}},
    {2, 503, "1", ANSWER_RETRY, 0, {0}},
    {2, 599, "", ANSWER_RETRY, 0, {0}},
    {2, 413, "", ANSWER_TOO_BIG, 0, {0}},
    {2, 401, "1", ANSWER_AUTH, 0, {0}},
    {2, 403, "", ANSWER_AUTH, 0, {0}},
    {2, 404, "", ANSWER_AUTH, 0, {0}},
    {2, 301, "", ANSWER_AUTH, 0, {0}},
    {2, 308, "1", ANSWER_AUTH, 0, {0}},
    {2, 405, "", ANSWER_AUTH, 0, {0}},
};

static void test_answers(void **state) {
    (void)state;
    for (size_t i = 0; i < BH_COUNT(answer_cases); i++) {
        uint32_t refused[5];
        struct protocol_answer answer;
        mixpanel_ops.answer(answer_cases[i].endpoint, answer_cases[i].status,
                            span_str(answer_cases[i].body), 5, refused, &answer);
        if (answer.kind != answer_cases[i].kind ||
            (answer.kind == ANSWER_ACCEPTED &&
             answer.refused_count != answer_cases[i].refused_count)) {
            fail_msg("%u %s: %u with %u refused", answer_cases[i].status, answer_cases[i].body,
                     answer.kind, answer.refused_count);
        }
        if (answer_cases[i].refused_count > 0) {
            assert_memory_equal(refused, answer_cases[i].refused,
                                answer_cases[i].refused_count * sizeof refused[0]);
        }
    }
}

/* Every prefix of a good answer means "ask again" or "refused", never "accepted". */
static void test_answers_cut_short(void **state) {
    (void)state;
    static const char *const bodies[] = {
        "{\"code\":200,\"num_records_imported\":5,\"status\":\"OK\"}",
        "{\"error\":null,\"status\":1}",
        "{\"failed_records\":[{\"index\":0},{\"index\":1}],\"code\":400}"};
    static const unsigned endpoints[] = {2, 1, 2};
    static const unsigned statuses[] = {200, 200, 400};
    for (size_t i = 0; i < 3; i++) {
        for (size_t n = 0; n < strlen(bodies[i]); n++) {
            uint32_t refused[5];
            struct protocol_answer answer;
            mixpanel_ops.answer(endpoints[i], statuses[i], span_of(bodies[i], n), 5, refused,
                                &answer);
            assert_int_not_equal(answer.kind, ANSWER_ACCEPTED);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_replies), cmocka_unit_test(test_reply_in_little_memory),
        cmocka_unit_test(test_encode),  cmocka_unit_test(test_endpoints),
        cmocka_unit_test(test_answers), cmocka_unit_test(test_answers_cut_short),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
