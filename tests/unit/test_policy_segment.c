/*
 * Segment's and RudderStack's messages under the contract that `init` writes: by hand what matters, and every recorded message compared to the byte with
 * tests/golden/policy/segment-contract.txt.
 */
/* depends: policy inspect segment mixpanel protocol wire http json crypto resolve model base */
/* sources: policy_keys.c policy_kit.c golden_kit.c recorded_kit.c mixpanel_kit.c ../../src/cli/init_files.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/compiler.h"
#include "cli/init_files.h"
#include "protocol/segment/rudder.h"
#include "protocol/segment/segment.h"
#include "unit/golden_kit.h"
#include "unit/mixpanel_kit.h"

#define HOME \
    "\"type\":\"page\",\"userId\":\"u1\",\"anonymousId\":\"6ba7b810-9dad-11d1-80b4-00c04fd430c8\""
#define IDS "user.unique_id: pseudonym\n  user.unique_id.pseudonymous: pseudonym\n"
#define PLAN                                                                                         \
    "events: { Run: {} }\nproperties: { name: { enum: [Home, Price] }, tokens: { type: number } }\n" \
    "traits: { plan: { enum: [pro] } }\n"

static void check_has(const char *text, const char *part, bool has) {
    if ((strstr(text, part) != NULL) != has) {
        fail_msg("%s in %s: %s expected", part, text, has ? "is" : "is not");
    }
}

static const char *under(const char *allow, const char *item) {
    static char kept[65536];
    struct ruleset *rules = policy_kit_allow(allow, "time: second\n", PLAN);
    (void)snprintf(kept, sizeof kept, "%s", policy_kit_out(rules, "/v1/track", item));
    ruleset_free(rules);
    return kept;
}

static void test_pages(void **state) {
    (void)state;
    const char *sent = under(
        "  " IDS "  user.behavior: raw\n  user.behavior.browsing_history: { coarse: path }\n",
        "{" HOME
        ",\"name\":\"Home\",\"category\":\"Jo Winter\",\"timestamp\":\"2026-09-21T13:03:20.456Z\","
        "\"messageId\":\"m1\",\"sentAt\":\"2026-09-21T13:03:20.456Z\",\"writeKey\":\"k\","
        "\"integrations\":{\"All\":true,\"Mixpanel\":{\"id\":\"u1\"}},"
        "\"properties\":{\"name\":\"Home\",\"other\":\"x\",\"path\":\"/a\"},"
        "\"context\":{\"consent\":{\"categoryPreferences\":{\"ads\":true}},"
        "\"page\":{\"url\":\"https://app.example.com/a/7?email=jo@example.com\",\"title\":\"Jo\"}}}");
    check_has(sent, "\"type\":\"page\"", true);
    check_has(sent, "\"properties\":{\"name\":\"Home\",\"path\":\"/a\"}", true);
    check_has(sent, "\"url\":\"https://app.example.com/a/:id\"", true);
    check_has(sent, ",\"timestamp\":\"2026-09-21T14:13:20.000Z\",\"messageId\":\"", true);
    static const char *const gone[] = {"Jo",      "u1", "6ba7",   "k\"", "integrations",
                                       "consent", "m1", "sentAt", "456", "other"};
    for (size_t i = 0; i < BH_COUNT(gone); i++) {
        check_has(sent, gone[i], false);
    }
    check_has(sent, "\"name\":\"Home\"", true);
    /* An event that calls itself a page is still named by its own word. */
    check_has(under("  " IDS "  user.behavior: raw\n", "{" HOME ",\"event\":\"Jo Winter\"}"),
              "null", true);
}

/* Nobody is no message to this vendor, and a device alone is nobody. */
static void test_who(void **state) {
    (void)state;
    const char *device = "  user.device.device_id: pseudonym\n  user.behavior: raw\n";
    assert_string_equal(
        under(device, "{" HOME ",\"context\":{\"device\":{\"id\":\"d\"},\"groupId\":\"g\"}}"),
        "null");
    assert_string_equal(under("  user.workplace: pseudonym\n  user.behavior: raw\n",
                              "{" HOME ",\"context\":{\"groupId\":\"g\"}}"),
                        "null");
    check_has(
        under("  user.unique_id.pseudonymous: pseudonym\n  user.behavior: raw\n", "{" HOME "}"),
        "anonymousId", true);
    const char *twice = under("  " IDS "  user.behavior: raw\n", "{" HOME ",\"userId\":\"u2\"}");
    assert_string_equal(twice, "null");
}

#define IDENTIFY "{\"type\":\"identify\",\"userId\":\"u1\",\"anonymousId\":\"a1\""
#define GROUP    "{\"type\":\"group\",\"userId\":\"u1\",\"groupId\":\"g1\""

static void test_profiles(void **state) {
    (void)state;
    const char *sent =
        under("  " IDS "  user.behavior: raw\n",
              IDENTIFY ",\"traits\":{\"email\":\"jo@example.com\",\"plan\":\"pro\",\"x\":\"y\"},"
                       "\"context\":{\"traits\":{\"email\":\"jo@example.com\",\"plan\":\"pro\"}}}");
    check_has(sent, "\"traits\":{\"plan\":\"pro\"},\"context\":{\"traits\":{\"plan\":\"pro\"}}",
              true);
    check_has(sent, "@", false);
    /* The link of two ids says something by itself; one id does not. */
    check_has(under("  " IDS, IDENTIFY "}"), "\"userId\"", true);
    assert_string_equal(under("  user.unique_id: pseudonym\n", IDENTIFY "}"), "null");
    /* Several objects where one belongs: the resolver looks into one. */
    check_has(under("  " IDS "  user.behavior: raw\n",
                    IDENTIFY ",\"context\":[{\"traits\":{\"plan\":\"pro\"}}]}"),
              "plan", false);
}

static void test_groups(void **state) {
    (void)state;
    const char *all = "  " IDS "  user.workplace: pseudonym\n  user.behavior: raw\n";
    const char *sent =
        under(all, GROUP ",\"traits\":{\"name\":\"Acme\",\"employees\":7,\"plan\":\"pro\"}}");
    check_has(sent, "\"traits\":{\"employees\":7,\"plan\":\"pro\"}", true);
    check_has(sent, "g1", false);
    check_has(sent, "groupId", true);
    check_has(under(all, GROUP "}"), "groupId", true);
    /* Without its group a group message says nothing, whoever is in it; nor without whom it is of. */
    assert_string_equal(
        under("  " IDS "  user.behavior: raw\n", GROUP ",\"traits\":{\"plan\":\"pro\"}}"), "null");
    assert_string_equal(under("  user.workplace: pseudonym\n", GROUP "}"), "null");
    assert_string_equal(
        under("  " IDS "  user.workplace: pseudonym\n",
              "{\"type\":\"group\",\"userId\":\"u1\",\"context\":{\"groupId\":\"g\"}}"),
        "null");
}

static void test_alias(void **state) {
    (void)state;
    const char *item = "{\"type\":\"alias\",\"userId\":\"u1\",\"previousId\":\"a1\"}";
    check_has(under("  " IDS, item), "\"previousId\":\"", true);
    check_has(under("  " IDS, item), "a1", false);
    assert_string_equal(under("  user.unique_id: pseudonym\n", item), "null");
}

/* -- the recorded population --------------------------------------------------------------------- */

static void test_recorded_requests(void **state) {
    (void)state;
    static const struct {
        const struct protocol_ops *ops;
        const char *contract;
        struct golden_sdk sdk;
    } runs[] = {
        {&segment_ops,
         "vendors/segment.yaml",
         {{"segment-node", "batch", "type"}, "/v1/track", {NULL, NULL}, 999}},
        {&segment_ops,
         "vendors/segment.yaml",
         {{"segment-browser", "batch", "type"}, "/v1/track", {NULL, NULL}, 999}},
        {&rudder_ops,
         "vendors/rudder.yaml",
         {{"rudder-node", "batch", "type"}, "/v1/track", {NULL, NULL}, 999}},
    };
    static const char *const marks[] = {"@example", "user_10", "org_a", NULL};
    size_t size = 0;
    char *plan = policy_kit_file("tests/golden/policy/plan.yaml", &size);
    assert_non_null(plan);
    golden_begin();
    for (size_t i = 0; i < BH_COUNT(runs); i++) {
        kit_use(runs[i].ops);
        struct ruleset *rules = policy_kit_rules(init_file_text(runs[i].contract), plan);
        struct policy *policy = policy_kit_vendor("golden");
        golden_run(&runs[i].sdk, policy, rules);
        policy_free(policy);
        ruleset_free(rules);
    }
    golden_end("tests/golden/policy/segment-contract.txt", 400, marks);
    free(plan);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pages),    cmocka_unit_test(test_who),
        cmocka_unit_test(test_profiles), cmocka_unit_test(test_groups),
        cmocka_unit_test(test_alias),    cmocka_unit_test(test_recorded_requests)};
    kit_use(&segment_ops);
    policy_kit_start();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
