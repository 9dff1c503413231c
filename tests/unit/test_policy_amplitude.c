/*
 * Amplitude's items under a contract: operations, groups, sessions by hand; and every recorded item under the contract that `init` writes,
 * compared to the byte with tests/golden/policy/amplitude-contract.txt.
 */
/* depends: policy inspect amplitude mixpanel protocol wire http json crypto resolve model base */
/* sources: policy_keys.c policy_kit.c golden_kit.c recorded_kit.c mixpanel_kit.c ../../src/cli/init_files.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/compiler.h"
#include "cli/init_files.h"
#include "protocol/amplitude/amplitude.h"
#include "unit/golden_kit.h"
#include "unit/mixpanel_kit.h"

static const char plan[] =
    "events:\n  buy:\n    properties: { amount: { type: number, class: user.behavior } }\n"
    "groups: { company: { class: user.workplace } }\n"
    "traits: { plan: { class: user.behavior, enum: [free, pro] } }\n";

static struct ruleset *rules_of(const char *time) {
    char more[64];
    (void)snprintf(more, sizeof more, "time: %s\n", time);
    return policy_kit_allow("  user.unique_id: pseudonym\n  user.device.device_id: pseudonym\n"
                            "  user.device.cookie_id: pseudonym\n  user.workplace: pseudonym\n"
                            "  user.behavior: raw\n  system.operations: raw\n",
                            more, plan);
}

/* What leaves of one item; "null" and *ret_reason where nothing does. */
static const char *leaves(const char *vendor, const struct ruleset *rules, const char *item,
                          uint8_t *ret_reason) {
    static char out[65536];
    char body[4096];
    const struct ruleset *const list[] = {rules, NULL};
    (void)snprintf(body, sizeof body, "{\"api_key\":\"k\",\"events\":[%s]}", item);
    assert_true(policy_kit_item("/2/httpapi", span_str(body), true));
    struct record_event event = *policy_kit_input()->event;
    event.time_ms = 1795490038224;
    policy_kit_input()->event = &event;
    struct policy *policy = policy_kit_vendor(vendor);
    const struct policy_kit_result *r = policy_kit_apply(policy, list, false);
    policy_free(policy);
    (void)snprintf(out, sizeof out, "%s", r->json);
    *ret_reason = r->verdict.reason;
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
        "\"secret\":\"s\",\"email\":\"a@b.example\"},\"$unset\":{\"plan\":\"-\",\"secret\":\"-\",\"nick\":\"-\","
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
    assert_string_equal(out, "null");
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
        assert_string_equal(leaves("one", rules, broken[i], &reason), "null");
        assert_int_equal(reason, REASON_NOT_EXPRESSIBLE);
    }
    ruleset_free(rules);
}

static void test_recorded_requests(void **state) {
    (void)state;
    static const struct golden_sdk sdks[] = {
        {{"amplitude-node", "events", NULL}, "/2/httpapi", {"{\"events\":[", "]}"}, 12},
        {{"amplitude-browser", "events", NULL}, "/2/httpapi", {"{\"events\":[", "]}"}, 42},
    };
    static const char *const marks[] = {"@example",  "%40example", "user_1",  "org_a",
                                        "203.0.113", "+1-555-01",  "Ivesdal", "Bluefinch",
                                        "amp-",      NULL};
    size_t size = 0;
    char *text = policy_kit_file("tests/golden/policy/plan.yaml", &size);
    assert_non_null(text);
    struct ruleset *rules = policy_kit_rules(init_file_text("vendors/amplitude.yaml"), text);
    struct policy *policy = policy_kit_vendor("golden");
    golden_begin();
    for (size_t i = 0; i < BH_COUNT(sdks); i++) {
        golden_run(&sdks[i], policy, rules);
    }
    golden_end("tests/golden/policy/amplitude-contract.txt", 300, marks);
    free(text);
    policy_free(policy);
    ruleset_free(rules);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sessions), cmocka_unit_test(test_operations),
        cmocka_unit_test(test_groups), cmocka_unit_test(test_recorded_requests)};
    kit_use(&amplitude_ops);
    policy_kit_start();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
