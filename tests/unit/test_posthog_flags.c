/*
 * Questions for flags: which requests are one, how one is passed on, and that of the vendor's answer the SDK gets flags and nothing else, with its
 * own ids in it.
 */
/* depends: posthog mixpanel wire json http model base */
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
#include "protocol/posthog/posthog.h"
#include "unit/mixpanel_kit.h"

#define P1 "abcdefghijklmnopqrstuvwxyz"
#define P2 "bcdefghijklmnopqrstuvwxyz2"
#define P3 "0190a5e0-1111-4222-8333-444455556666"
#define TEXT(literal) \
    { (const uint8_t *)(literal), sizeof(literal) - 1 }
#define OLD "featureFlags\":{\"a\":true}"

/* -- questions -------------------------------------------------------------------------------------------------------------------------- */

struct question_row {
    const char *path;
    const char *query;
    const char *body;
    unsigned form;
    const char *person; /* NULL: no question */
};

static void test_questions(void **state) {
    (void)state;
    static const char plain[] =
        "{\"token\":\"k\",\"distinct_id\":\"u\",\"$anon_distinct_id\":\"x\"}";
    static const struct question_row rows[] = {
        {"/flags/", "v=2", plain, 1, "u"},
        {"/flags", "", plain, 0, "u"},
        {"/flags/", "v=1&config=true", plain, 0, "u"},
        {"/flags/", "v=99", plain, 1, "u"},
        {"/flags/", "v=x", plain, 0, "u"},
        {"/decide/", "v=3", plain, 4, "u"},
        {"/decide/", "v=4", plain, 5, "u"},
        {"/decide/", "", plain, 2, "u"},
        {"/decide/", "v=0", plain, 2, "u"},
        /* base64 in a form, as before. */
        {"/decide/", "v=3", "data=eyJ0b2tlbiI6ImsiLCJkaXN0aW5jdF9pZCI6InUifQ%3D%3D", 4, "u"},
        {"/flags/", "v=2", "{\"token\":\"k\",\"distinct_id\":7}", 1, "7"},
        {"/flags/", "v=2", "{\"token\":\"k\",\"distinct_id\":\"null\"}", 1, NULL},
        {"/flags/", "v=2", "{\"token\":\"k\"}", 1, NULL},
        {"/flags/", "v=2", "{\"token\":\"k\",\"$device_id\":\"d\"}", 1, NULL},
        {"/flags/", "v=2",
         "["
         "{\"token\":\"k\",\"distinct_id\":\"u\"}]",
         1, NULL},
        {"/flags/", "v=2", "not even JSON", 1, NULL},
        {"/flags/", "v=2", "", 1, NULL},
        {"/flags/", "v=2", "{\"distinct_id\":\"u\"", 1, NULL},
    };
    for (size_t i = 0; i < BH_COUNT(rows); i++) {
        assert_int_equal(kit_decode(HTTP_POST, rows[i].path, span_str(rows[i].query), SPAN_NONE,
                                    span_str(rows[i].body)),
                         0);
        const struct protocol_decoded *d = &kit_get()->decoded;
        assert_int_equal(d->envelope.use, ENDPOINT_ASK);
        assert_int_equal(d->envelope.form, rows[i].form);
        assert_int_equal(d->item_count, rows[i].person != NULL);
        if (rows[i].person != NULL) {
            assert_int_equal(d->items[0].kind, EVENT_PROFILE);
            assert_true(span_is(d->items[0].person, rows[i].person));
            assert_true(span_is(d->items[0].token, "k"));
        }
    }
    /* Deeper than an item may be, and more values than one may have. */
    static char deep[4096] = "{\"token\":\"k\",\"distinct_id\":\"u\",\"person_properties\":";
    size_t n = strlen(deep);
    memset(deep + n, '[', 50);
    memset(deep + n + 50, ']', 50);
    (void)snprintf(deep + n + 100, sizeof deep - n - 100, "}");
    assert_int_equal(kit_post("/flags", deep), 0);
    assert_int_equal(kit_get()->decoded.item_count, 0);
}

static void test_requests(void **state) {
    (void)state;
    static const char *const paths[] = {"/flags/",      "/flags/?v=2",  "/decide/",
                                        "/decide/?v=2", "/decide/?v=3", "/decide/?v=4"};
    uint8_t memory[256];
    struct protocol_post post;
    for (uint8_t form = 0; form < BH_COUNT(paths); form++) {
        struct buf b = buf_of(memory, sizeof memory);
        assert_int_equal(posthog_ops.ask->encode(form, SPAN_LIT("{\"distinct_id\":\"p\"}"),
                                                 SPAN_LIT("k\""), &b, &post),
                         0);
        assert_string_equal(post.path, paths[form]);
        assert_true(span_is(post.body,
                            "{\"token\":\"k\\\"\",\"geoip_disable\":true,\"distinct_id\":\"p\"}"));
        assert_false(post.gzip || post.basic_auth);
    }
    struct buf small = buf_of(memory, 20);
    assert_int_equal(posthog_ops.ask->encode(1, SPAN_LIT("{\"distinct_id\":\"p\"}"), SPAN_LIT("k"),
                                             &small, &post),
                     BH_E_FULL);
    unsigned endpoint = posthog_ops.ask->endpoint;
    assert_true(endpoint > posthog_ops.endpoints && endpoint <= 15);
}

/* -- answers ---------------------------------------------------------------------------------------------------------------------------- */

static const struct protocol_question question = {
    TEXT(
        "{\"token\":\"k\",\"distinct_id\":\"ada\",\"$anon_distinct_id\":\"anon 1\",\"$device_id\":7,"
        "\"groups\":{\"company\":\"acme\",\"team\":\"t\"},"
        "\"person_properties\":{\"plan\":\"abcdefghijklmnopqrstuvwxya\",\"mail\":\"a@x\"}}"),
    TEXT(
        "{\"distinct_id\":\"" P1 "\",\"$anon_distinct_id\":\"" P2 "\",\"$device_id\":\"" P3 "\","
        "\"groups\":{\"company\":\"acmeacmeacmeacmeacmeacmeac\"},"
        "\"person_properties\":{\"plan\":\"abcdefghijklmnopqrstuvwxya\",\"mail\":\"mailmailmailmailmailmailma\"}}")};

static char text[4096];

static int answer_to(const struct protocol_question *asked, unsigned status, const char *body,
                     size_t room) {
    static struct json_token tokens[256];
    static uint8_t memory[4096];
    struct buf out = buf_of(memory, room);
    int rc = posthog_ops.ask->answer(asked, status, span_str(body), tokens, 256, &out);
    (void)snprintf(text, sizeof text, "%.*s", (int)out.n, (const char *)out.p);
    return rc;
}

#define REST "\"sessionRecording\":false,\"supportedCompression\":[\"gzip\",\"gzip-js\"]}"

static void test_flags_and_nothing_else(void **state) {
    (void)state;
    static const char *const rows[][2] = {
        {"{\"flags\":{}}", "{\"flags\":{}," REST},
        {" {\"flags\" : {\"a\": {\"enabled\":true}} }\n",
         "{\"flags\":{\"a\": {\"enabled\":true}}," REST},
        {"{\"" OLD "}", "{\"" OLD "," REST},
        {"{\"featureFlags\":[\"a\"]}", "{\"featureFlags\":[\"a\"]," REST},
        {"{\"quota_limited\":[\"events\"],\"siteApps\":[{\"url\":\"/x.js\"}],\"sessionRecording\":{},"
         "\"config\":{},\"toolbarParams\":{},\"isAuthenticated\":true,\"flags\":{},"
         "\"supportedCompression\":[]}",
         "{\"flags\":{}," REST},
        {"{\"errorsWhileComputingFlags\":false,\"requestId\":\"r\\n\",\"evaluatedAt\":1.5,"
         "\"quotaLimited\":[\"feature_flags\"],\"featureFlagPayloads\":{\"a\":\"1\"},\"flags\":{}}",
         "{\"flags\":{},\"featureFlagPayloads\":{\"a\":\"1\"},\"errorsWhileComputingFlags\":false,"
         "\"quotaLimited\":[\"feature_flags\"],\"requestId\":\"r\\n\",\"evaluatedAt\":1.5," REST},
        /* A member of another kind than its own is none. */
        {"{\"flags\":{},\"requestId\":{},\"evaluatedAt\":\"x\",\"errorsWhileComputingFlags\":0,"
         "\"quotaLimited\":null,\"featureFlagPayloads\":[]}",
         "{\"flags\":{}," REST},
        {"{\"flags\":{\"x\":1},\"flags\":{}}", "{\"flags\":{}," REST},
    };
    for (size_t i = 0; i < BH_COUNT(rows); i++) {
        assert_int_equal(answer_to(&question, 200, rows[i][0], sizeof text), 0);
        assert_string_equal(text, rows[i][1]);
    }
}

static void test_no_answer(void **state) {
    (void)state;
    static const char *const bodies[] = {"",
                                         "x",
                                         "[]",
                                         "{}",
                                         "null",
                                         "{\"flags\":[]}",
                                         "{\"flags\":null}",
                                         "{\"flags\":{}",
                                         "{\"flags\":{}}}",
                                         "{\"flags\":{}} {}",
                                         "{\"requestId\":\"r\"}",
                                         "{\"flags\":{\"a\":\"\xff\"}}",
                                         "<html>"};
    for (size_t i = 0; i < BH_COUNT(bodies); i++) {
        assert_int_equal(answer_to(&question, 200, bodies[i], sizeof text), BH_E_SYNTAX);
    }
    static const unsigned statuses[] = {0, 201, 204, 301, 400, 401, 429, 500};
    for (size_t i = 0; i < BH_COUNT(statuses); i++) {
        assert_int_equal(answer_to(&question, statuses[i], "{\"flags\":{}}", sizeof text),
                         BH_E_SYNTAX);
    }
    for (size_t room = 0; room < strlen("{\"flags\":{}," REST); room++) {
        assert_int_equal(answer_to(&question, 200, "{\"flags\":{}}", room), BH_E_TOO_BIG);
    }
    static char many[3000] = "{\"flags\":{";
    size_t n = strlen(many);
    for (unsigned i = 0; i < 200; i++) {
        n += (size_t)snprintf(many + n, sizeof many - n, "%s\"f%u\":1", i == 0 ? "" : ",", i);
    }
    (void)snprintf(many + n, sizeof many - n, "}}");
    assert_int_equal(answer_to(&question, 200, many, sizeof text), BH_E_TOO_BIG);
}

static void test_ids_are_turned_back(void **state) {
    (void)state;
    assert_int_equal(answer_to(&question, 200,
                               "{\"flags\":{\"a\":\"" P1 "\",\"b\":[\"x" P2 "y\",\"" P3 "\"],"
                               "\"acmeacmeacmeacmeacmeacmeac\":\"mailmailmailmailmailmailma\","
                               "\"c\":\"{\\\"who\\\":\\\"" P1
                               "\\\"}\",\"d\":\"abcdefghijklmnopqrstuvwxya\"},"
                               "\"requestId\":\"" P1 P1 "\"}",
                               sizeof text),
                     0);
    assert_string_equal(text,
                        "{\"flags\":{\"a\":\"ada\",\"b\":[\"xanon 1y\",\"7\"],\"acme\":\"a@x\","
                        "\"c\":\"{\\\"who\\\":\\\"ada\\\"}\",\"d\":\"abcdefghijklmnopqrstuvwxya\"},"
                        "\"requestId\":\"adaada\"," REST);
    /* An id that JSON writes with escapes would need others in a text within a text. */
    static const struct protocol_question quoted = {TEXT("{\"distinct_id\":\"a\\\"b\"}"),
                                                    TEXT("{\"distinct_id\":\"" P1 "\"}")};
    assert_int_equal(answer_to(&quoted, 200, "{\"flags\":{\"a\":\"" P1 "\"}}", sizeof text),
                     BH_E_SYNTAX);
    assert_int_equal(answer_to(&quoted, 200, "{\"flags\":{\"a\":\"b\"}}", sizeof text), 0);
}

static void test_too_many_ids(void **state) {
    (void)state;
    static char asked[2048] = "{\"groups\":{";
    static char sent[2048] = "{\"groups\":{";
    size_t a = strlen(asked);
    size_t s = strlen(sent);
    for (unsigned i = 0; i < 17; i++) {
        a += (size_t)snprintf(asked + a, sizeof asked - a, "%s\"g%u\":\"x\"", i == 0 ? "" : ",", i);
        s += (size_t)snprintf(sent + s, sizeof sent - s, "%s\"g%u\":\"%.25s%c\"", i == 0 ? "" : ",",
                              i, P1, 'a' + (int)i);
    }
    (void)snprintf(asked + a, sizeof asked - a, "}}");
    (void)snprintf(sent + s, sizeof sent - s, "}}");
    const struct protocol_question many = {span_str(asked), span_str(sent)};
    assert_int_equal(answer_to(&many, 200, "{\"flags\":{}}", sizeof text), BH_E_SYNTAX);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_questions),
        cmocka_unit_test(test_requests),
        cmocka_unit_test(test_flags_and_nothing_else),
        cmocka_unit_test(test_no_answer),
        cmocka_unit_test(test_ids_are_turned_back),
        cmocka_unit_test(test_too_many_ids),
    };
    kit_use(&posthog_ops);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
