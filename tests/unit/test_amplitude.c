/*
 * Amplitude: every recorded request decodes to the items that its sidecar names and is answered as the SDK was content with; what SDKs and the
 * vendor do besides; and what of an item leaves under a contract.
 */
/* depends: policy inspect amplitude protocol wire http json crypto resolve model base */
/* sources: policy_keys.c policy_kit.c mixpanel_kit.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "engine/http/http_parse.h"
#include "protocol/amplitude/amplitude.h"
#include "protocol/wire/wire.h"
#include "unit/policy_kit.h"

enum { BODY_MAX = 1 << 20, TOKENS = 1 << 16, ITEMS = LIMIT_REQUEST_EVENTS };
#define NOW_MS INT64_C(1790000000000)

static uint8_t body_memory[BODY_MAX];
static uint8_t text_memory[2 * BODY_MAX];
static uint8_t out_memory[BODY_MAX];
static struct json_token tokens[TOKENS];
static struct json_token side_tokens[TOKENS];
static struct protocol_item items[ITEMS];
static struct protocol_decoded decoded;
static struct wire *wire;

static int decode(unsigned method, const char *path, struct span body) {
    check(body.n <= BODY_MAX);
    if (body.n > 0) {
        memcpy(body_memory, body.p, body.n);
    }
    wire = wire != NULL ? wire : wire_new();
    struct protocol_work work = {.text = text_memory,
                                 .text_cap = sizeof text_memory,
                                 .tokens = tokens,
                                 .tokens_cap = TOKENS,
                                 .items = items,
                                 .items_cap = ITEMS,
                                 .decoded_max = BODY_MAX,
                                 .wire = wire};
    struct protocol_request request = {.method = (uint8_t)method,
                                       .path = span_str(path),
                                       .body = body_memory,
                                       .body_len = body.n,
                                       .now_ms = NOW_MS};
    return amplitude_ops.decode(&request, &work, &decoded);
}

static int post(const char *path, const char *body) {
    return decode(HTTP_POST, path, span_str(body));
}

static void assert_reply(enum reply_kind kind, unsigned status, const char *body) {
    struct protocol_reply reply;
    struct buf memory = buf_of(out_memory, sizeof out_memory);
    amplitude_ops.reply(&decoded.envelope, kind, decoded.items, decoded.item_count, &memory,
                        &reply);
    assert_int_equal(reply.status, status);
    if (!span_is(reply.body, body)) {
        fail_msg("answered %.*s, not %s", (int)reply.body.n, (const char *)reply.body.p, body);
    }
}

/* -- recorded ------------------------------------------------------------------------------------ */

static void compare_items(struct span text) {
    uint32_t at = json_get(text, side_tokens, 0, SPAN_LIT("decoded"));
    uint32_t list = at != 0 && side_tokens[at].kind == JSON_OBJECT
                        ? json_get(text, side_tokens, at, SPAN_LIT("events"))
                        : 0;
    size_t i = 0;
    for (uint32_t e = list + 1; list != 0 && e < side_tokens[list].next; e = side_tokens[e].next) {
        assert_true(i < decoded.item_count);
        assert_int_equal(items[i].reason, REASON_NONE);
        assert_true(items[i].person.n > 0 && items[i].dedupe.n > 6 && items[i].token.n > 30);
        assert_true(items[i].time_ms > INT64_C(1600000000000));
        assert_true((items[i].kind == EVENT_TRACK) == (items[i].event_name.n > 0));
        struct span theirs = json_span(text, &side_tokens[e]);
        uint32_t type = json_get(text, side_tokens, e, SPAN_LIT("event_type"));
        struct span name = json_span(text, &side_tokens[type]);
        assert_int_equal(items[i].kind, span_is(name, "$identify")        ? EVENT_PROFILE
                                        : span_is(name, "$groupidentify") ? EVENT_GROUP
                                                                          : EVENT_TRACK);
        static uint8_t canon[2][BODY_MAX];
        static struct json_token item_tokens[LIMIT_EVENT_TOKENS];
        struct span both[2] = {items[i].json, theirs};
        for (unsigned k = 0; k < 2; k++) {
            size_t count = 0;
            size_t offset = 0;
            struct buf b = buf_of(canon[k], BODY_MAX);
            assert_int_equal(
                json_parse(both[k], 64, item_tokens, LIMIT_EVENT_TOKENS, &count, &offset), 0);
            assert_int_equal(json_canonical(both[k], item_tokens, &b), 0);
            both[k] = buf_span(&b);
        }
        assert_true(span_equal(both[0], both[1]));
        i++;
    }
    assert_int_equal(i, decoded.item_count);
}

static void compare_reply(struct span text) {
    uint32_t response = json_get(text, side_tokens, 0, SPAN_LIT("response"));
    uint32_t at = json_get(text, side_tokens, response, SPAN_LIT("body"));
    char expected[512];
    struct buf b = buf_of(expected, sizeof expected - 1);
    struct span body = json_text(text, &side_tokens[at], &b);
    /* The two differ in the time alone. */
    size_t n = span_find(body, SPAN_LIT("\"server_upload_time\":"));
    char line[512];
    (void)snprintf(line, sizeof line, "%.*s\"server_upload_time\":1790000000000}",
                   (int)(n == SIZE_MAX ? 0 : n), (const char *)body.p);
    if (n == SIZE_MAX) {
        (void)snprintf(line, sizeof line, "%.*s", (int)body.n, (const char *)body.p);
    }
    assert_reply(REPLY_KEPT, 200, line);
}

static unsigned replay(const char *sdk, size_t *ret_items) {
    unsigned requests = 0;
    *ret_items = 0;
    for (unsigned i = 1; i < 999; i++) {
        char path[128];
        size_t n[2] = {0, 0};
        char *file[2];
        for (unsigned k = 0; k < 2; k++) {
            (void)snprintf(path, sizeof path, "tests/fixtures/sdk-requests/%s/%03u.%s", sdk, i,
                           k == 0 ? "http" : "json");
            file[k] = policy_kit_file(path, &n[k]);
        }
        if (file[0] == NULL) {
            break;
        }
        struct http_head head;
        unsigned status = 0;
        size_t count = 0;
        size_t offset = 0;
        struct span request = span_of((const uint8_t *)file[0], n[0]);
        struct span text = span_of((const uint8_t *)file[1], n[1]);
        assert_int_equal(json_parse(text, 64, side_tokens, TOKENS, &count, &offset), 0);
        assert_int_equal(
            http_parse_head(request, LIMIT_HTTP_HEAD, LIMIT_HTTP_TARGET, &head, &status), 0);
        if (head.method != HTTP_OPTIONS) {
            (void)snprintf(path, sizeof path, "%.*s", (int)head.path.n, (const char *)head.path.p);
            assert_int_equal(decode(head.method, path, span_from(request, head.head_size)), 0);
            compare_items(text);
            compare_reply(text);
            *ret_items += decoded.item_count;
        }
        requests++;
        free(file[0]);
        free(file[1]);
    }
    return requests;
}

static void test_recorded(void **state) {
    (void)state;
    size_t node = 0;
    size_t browser = 0;
    assert_int_equal(replay("amplitude-node", &node), 12);
    assert_int_equal(replay("amplitude-browser", &browser), 42);
    assert_int_equal(node, 212);
    assert_int_equal(browser, 120);
}

/* -- what else SDKs do ----------------------------------------------------------------------------- */

static void test_partly_bad(void **state) {
    (void)state;
    /* The good ones are kept, and nothing comes twice. */
    assert_int_equal(post("/2/httpapi", "{\"events\":[{\"event_type\":\"a\",\"user_id\":\"u\"},1,"
                                        "{\"user_id\":\"u\"}],\"api_key\":\"k\"}"),
                     0);
    assert_int_equal(decoded.item_count, 3);
    assert_int_equal(items[0].reason, REASON_NONE);
    assert_int_equal(items[1].reason, REASON_MALFORMED);
    assert_int_equal(items[2].reason, REASON_NO_EVENT_NAME);
    assert_true(span_is(items[2].token, "k"));
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
    assert_int_equal(post("/2/httpapi", "{\"events\":"), BH_E_SYNTAX);
    assert_int_equal(post("/2/httpapi", "[]"), BH_E_SYNTAX);
    assert_int_equal(post("/2/httpapi", "{\"events\":7}"), BH_E_SYNTAX);
    assert_reply(REPLY_MALFORMED, 400,
                 "{\"code\":400,\"error\":\"Bad request\",\"missing_field\":\"events\"}");
}

static void test_forms_and_side_paths(void **state) {
    (void)state;
    assert_int_equal(
        post("/identify", "api_key=a%20b&identification=%5B%7B%22user_id%22%3A%22u%2B1%22%7D%5D"),
        0);
    assert_int_equal(decoded.item_count, 1);
    assert_int_equal(items[0].kind, EVENT_PROFILE);
    assert_true(span_is(items[0].token, "a b") && span_is(items[0].person, "u+1"));
    assert_int_equal(post("/groupidentify", "identification=[{\"group_type\":\"c\",\"group_value\":"
                                            "\"x\"}]&api_key=k"),
                     0);
    assert_int_equal(items[0].kind, EVENT_GROUP);
    assert_int_equal(post("/identify", "api_key=k&identification=[{\"event_type\":\"buy\"}]"), 0);
    assert_int_equal(items[0].reason, REASON_MALFORMED);
    assert_int_equal(post("/identify", "api_key=k"), BH_E_SYNTAX);
    assert_int_equal(decode(HTTP_GET, "/config/key", SPAN_NONE), 0);
    assert_reply(REPLY_KEPT, 200, "{\"configs\":{}}");
    assert_int_equal(decode(HTTP_GET, "/2/httpapi", SPAN_NONE), BH_E_UNSUPPORTED);
    assert_int_equal(post("/elsewhere", "{}"), BH_E_NOTFOUND);
}

/* -- the vendor -------------------------------------------------------------------------------------- */

static void test_encode(void **state) {
    (void)state;
    struct span in[] = {SPAN_LIT("{\"event_type\":\"a\",\"ip\":\"1.2.3.4\"}"),
                        SPAN_LIT("{\"user_properties\":{\"event_type\":1}}"),
                        SPAN_LIT("{\"group_properties\":{}}"),
                        SPAN_LIT("{\"group_type\":\"c\",\"group_properties\":{},\"group_value\":"
                                 "\"x\",\"insert_id\":\"i\"}")};
    struct buf plain = buf_of(out_memory, sizeof out_memory);
    struct protocol_post out;
    assert_int_equal(amplitude_ops.encode(1, in, 4, SPAN_LIT("k\"1"), NULL, &plain, NULL, &out), 0);
    assert_true(span_is(
        out.body, "{\"api_key\":\"k\\\"1\",\"events\":[{\"event_type\":\"a\",\"ip\":\"1.2.3.4\"},"
                  "{\"event_type\":\"$identify\",\"ip\":\"0.0.0.0\",\"user_properties\":"
                  "{\"event_type\":1}},{\"event_type\":\"$groupidentify\",\"ip\":\"0.0.0.0\","
                  "\"group_properties\":{}},{\"event_type\":\"$groupidentify\",\"ip\":\"0.0.0.0\","
                  "\"device_id\":\"i\",\"groups\":{\"c\":\"x\"},\"group_properties\":{},"
                  "\"insert_id\":\"i\"}],\"options\":{\"min_id_length\":1}}"));
    assert_string_equal(out.path, "/2/httpapi");
    assert_false(out.gzip || out.basic_auth);
    plain = buf_of(out_memory, 40);
    assert_int_equal(amplitude_ops.encode(1, in, 4, SPAN_LIT("k"), NULL, &plain, NULL, &out),
                     BH_E_FULL);
    struct span cut = SPAN_LIT("{\"event_type\":\"a\"");
    plain = buf_of(out_memory, sizeof out_memory);
    assert_int_equal(amplitude_ops.encode(1, &cut, 1, SPAN_LIT("k"), NULL, &plain, NULL, &out),
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
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct protocol_answer ret;
        uint32_t refused[2];
        amplitude_ops.answer(1, rows[i].status, span_str(rows[i].body), rows[i].items, refused,
                             &ret);
        assert_int_equal(ret.kind, rows[i].kind);
        assert_int_equal(ret.refused_count, 0);
    }
}

/* -- what leaves ------------------------------------------------------------------------------------- */

static const char plan[] =
    "events:\n  buy:\n    properties: { amount: { type: number, class: user.behavior } }\n"
    "groups: { company: { class: user.workplace } }\n"
    "traits: { plan: { class: user.behavior, enum: [free, pro] } }\n";

static struct ruleset *rules_of(const char *time) {
    char contract[1024];
    struct plan *p = NULL;
    struct contract *c = NULL;
    struct ruleset *rules = NULL;
    struct err err;
    struct policy_source source = {1, "web", true};
    (void)snprintf(contract, sizeof contract,
                   "vendor: amplitude\nconnector: amplitude\nendpoint: https://api2.amplitude.com\n"
                   "credential: { env: K }\npurpose: analytics\nretention: 400d\ntime: %s\nallow:\n"
                   "  user.unique_id: pseudonym\n  user.device.device_id: pseudonym\n"
                   "  user.device.cookie_id: pseudonym\n  user.workplace: pseudonym\n"
                   "  user.behavior: raw\n  system.operations: raw\n",
                   time);
    if (plan_load_text("plan.yaml", span_str(plan), &p, &err) != 0 ||
        contract_load_text("c.yaml", span_str(contract), &c, &err) != 0 ||
        ruleset_compile(c, p, &source, 1, &rules, &err) != 0) {
        fail_msg("%s", err.text);
    }
    plan_free(p);
    contract_free(c);
    return rules;
}

/* What leaves of one item; "" and *ret_reason where nothing does. */
static const char *leaves(const char *vendor, const struct ruleset *rules, const char *item,
                          uint8_t *ret_reason) {
    static char out[8192];
    char body[4096];
    (void)snprintf(body, sizeof body, "{\"api_key\":\"k\",\"events\":[%s]}", item);
    assert_int_equal(post("/2/httpapi", body), 0);
    assert_int_equal(items[0].reason, REASON_NONE);
    struct record_request request = {.protocol = PROTOCOL_AMPLITUDE, .source = 1, .events = 1};
    struct record_event event = {.seq = 1,
                                 .kind = items[0].kind,
                                 .time_ms = 1795490038224,
                                 .dedupe = 7,
                                 .json = items[0].json};
    static struct json_token item_tokens[LIMIT_EVENT_TOKENS];
    size_t count = 0;
    size_t offset = 0;
    assert_int_equal(
        json_parse(event.json, LIMIT_JSON_DEPTH, item_tokens, LIMIT_EVENT_TOKENS, &count, &offset),
        0);
    struct policy_input input = {.protocol = &amplitude_ops,
                                 .request = &request,
                                 .event = &event,
                                 .tokens = item_tokens,
                                 .token_count = count,
                                 .rulesets = &rules,
                                 .ruleset_count = 1};
    struct verdict verdict;
    struct buf b = buf_of(out, sizeof out - 1);
    struct policy *policy = policy_kit_vendor(vendor);
    policy_apply(policy, &input, &b, &verdict, NULL, NULL);
    policy_free(policy);
    out[verdict.sends ? b.n : 0] = '\0';
    *ret_reason = verdict.reason;
    return out;
}

static int64_t session_of(const char *vendor, const struct ruleset *rules, const char *session) {
    char item[256];
    uint8_t reason;
    (void)snprintf(item, sizeof item,
                   "{\"event_type\":\"buy\",\"user_id\":\"u_10001\",\"session_id\":%s}", session);
    const char *at = strstr(leaves(vendor, rules, item, &reason), "\"session_id\":");
    return at != NULL ? strtoll(at + 13, NULL, 10) : 0;
}

static void test_sessions(void **state) {
    (void)state;
    struct ruleset *second = rules_of("second");
    struct ruleset *hour = rules_of("hour");
    struct ruleset *ms = rules_of("ms");
    int64_t a = session_of("one", second, "1795490038202");
    assert_int_equal(a / 1000, 1795490038);
    assert_int_equal(session_of("one", second, "1795490038202"), a);
    assert_int_equal(session_of("one", second, "1.795490038202e12"), a);
    assert_int_equal(session_of("one", second, "-1"), -1);
    assert_int_equal(session_of("one", second, "5"), 0);
    assert_int_equal(session_of("one", second, "\"1795490038202\""), 0);
    assert_int_equal(session_of("one", hour, "1795490038202") / 3600000, 1795490038202 / 3600000);
    /* The contract's milliseconds are of events: the id itself never shows them. */
    assert_int_equal(session_of("one", ms, "1795490038202"), a);
    unsigned same = 0;
    unsigned as_sent = 0;
    for (int64_t i = 0; i < 200; i++) {
        char id[24];
        (void)snprintf(id, sizeof id, "%lld", (long long)(1795490038202 + i * 1009));
        int64_t one = session_of("one", second, id);
        int64_t two = session_of("two", second, id);
        same += one == two;
        as_sent += one == 1795490038202 + i * 1009;
        assert_int_equal(one / 1000, two / 1000);
    }
    assert_true(same < 5 && as_sent < 5); /* one in a thousand by chance */
    ruleset_free(second);
    ruleset_free(hour);
    ruleset_free(ms);
}

static void test_operations(void **state) {
    (void)state;
    struct ruleset *rules = rules_of("second");
    uint8_t reason;
    const char *out = leaves(
        "one", rules,
        "{\"event_type\":\"$identify\",\"user_id\":\"u_10001\",\"ip\":\"$remote\",\"library\":\"x\","
        "\"user_properties\":{\"plan\":\"pro\",\"email\":\"a@b.example\",\"$set\":{\"plan\":\"free\","
        "\"secret\":\"s\",\"email\":\"a@b.example\"},\"$unset\":{\"plan\":\"-\",\"secret\":\"-\","
        "\"email\":\"-\",\"utm_source\":\"a@b.example\"},\"$clearAll\":\"-\"}}",
        &reason);
    assert_non_null(strstr(out,
                           "\"user_properties\":{\"plan\":\"pro\",\"$set\":{\"plan\":\"free\"},"
                           "\"$unset\":{\"plan\":\"-\"},\"$clearAll\":\"-\"}"));
    assert_non_null(strstr(out, "\"event_type\":\"$identify\""));
    assert_null(strstr(out, "u_10001"));
    assert_null(strstr(out, "remote"));
    assert_null(strstr(out, "library"));
    /* Nothing left of an update of one id. */
    out = leaves("one", rules,
                 "{\"event_type\":\"$identify\",\"user_id\":\"u_10001\",\"user_properties\":"
                 "{\"$set\":{\"email\":\"a@b.example\"}}}",
                 &reason);
    assert_string_equal(out, "");
    assert_int_equal(reason, REASON_EMPTY);
    ruleset_free(rules);
}

static void test_groups(void **state) {
    (void)state;
    struct ruleset *rules = rules_of("second");
    uint8_t reason;
    const char *out = leaves(
        "one", rules,
        "{\"event_type\":\"buy\",\"device_id\":\"d_10001\",\"groups\":{\"company\":[\"org_1\"],"
        "\"other\":\"org_2\"},\"event_properties\":{\"amount\":3,\"note\":\"s\"}}",
        &reason);
    assert_non_null(strstr(out, "\"groups\":{\"company\":[\""));
    assert_non_null(strstr(out, "\"event_properties\":{\"amount\":3}"));
    assert_non_null(strstr(out, "\"time\":1795490038000"));
    assert_null(strstr(out, "org_"));
    assert_null(strstr(out, "d_10001"));
    out =
        leaves("one", rules,
               "{\"event_type\":\"$groupidentify\",\"user_id\":\"u_10001\",\"groups\":{\"company\":"
               "\"org_1\"},\"group_properties\":{\"$set\":{\"plan\":\"pro\",\"x\":1}}}",
               &reason);
    assert_non_null(strstr(out, "\"group_properties\":{\"$set\":{\"plan\":\"pro\"}}"));
    out = leaves("one", rules,
                 "{\"event_type\":\"$groupidentify\",\"groups\":{\"company\":\"o\"},"
                 "\"group_properties\":{\"$set\":{\"plan\":\"pro\"}}}",
                 &reason);
    assert_non_null(strstr(out, "\"insert_id\":\"")); /* what encode names nobody by */
    /* Without its group it says nothing, and without a person Amplitude takes no event. */
    static const char *const broken[] = {
        "{\"event_type\":\"$groupidentify\",\"user_id\":\"u_10001\",\"groups\":{\"other\":\"o\"},"
        "\"group_properties\":{\"$set\":{\"plan\":\"pro\"}}}",
        "{\"event_type\":\"buy\"}",
    };
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++) {
        assert_string_equal(leaves("one", rules, broken[i], &reason), "");
        assert_int_equal(reason, REASON_NOT_EXPRESSIBLE);
    }
    ruleset_free(rules);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_recorded),
        cmocka_unit_test(test_partly_bad),
        cmocka_unit_test(test_forms_and_side_paths),
        cmocka_unit_test(test_encode),
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_sessions),
        cmocka_unit_test(test_operations),
        cmocka_unit_test(test_groups),
    };
    policy_kit_start();
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    wire_free(wire);
    return failed;
}
