/*
 * Consent in policy: what requires it leaves only where the event or its request says that it is given; objections of browsers are heeded; of several
 * rule sets the strictest word holds.
 */
/* depends: policy inspect amplitude segment posthog mixpanel protocol wire http json crypto resolve model base */
/* sources: policy_keys.c policy_kit.c mixpanel_kit.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/compiler.h"
#include "protocol/amplitude/amplitude.h"
#include "protocol/mixpanel/mixpanel.h"
#include "protocol/posthog/posthog.h"
#include "protocol/segment/rudder.h"
#include "protocol/segment/segment.h"
#include "unit/mixpanel_kit.h"
#include "unit/policy_kit.h"

#define ALLOW                                                                                      \
    "  user.unique_id: pseudonym\n  user.unique_id.pseudonymous: pseudonym\n"                      \
    "  user.behavior: raw\n  user.device: { coarse: family, requires: consent.advertising }\n"     \
    "  user.contact.email: { redact, requires: [consent.personalization, consent.advertising] }\n" \
    "  user.privacy_preferences: raw\n"
#define PLAN                                                                                   \
    "events: { Run: {} }\nproperties: { note: { pattern: '[a-z@. ]+' } }\n"                    \
    "traits: { plan: { enum: [pro] } }\n"                                                      \
    "consent:\n  properties: { ok_analytics: analytics, ok_ads: advertising, ok: categories, " \
    "gpc_seen: gpc, dnt_seen: dnt }\n  categories: { C0002: analytics, Data Deals: advertising }\n"

static struct policy *policy;

static struct ruleset *rules_of(const char *more) {
    return policy_kit_allow(ALLOW, more, PLAN);
}

/* The verdict of an item whose request had this env. */
static struct policy_kit_result *apply(const struct ruleset *const *rules, const char *path,
                                       const char *item, const char *env, bool explains) {
    static struct record_request request;
    assert_true(policy_kit_item(path, span_str(item), true));
    request = *policy_kit_input()->request;
    request.env = span_str(env);
    policy_kit_input()->request = &request;
    return policy_kit_apply(policy, rules, explains);
}

static const char *out_of(const struct ruleset *rules, const char *path, const char *item,
                          const char *env) {
    static char kept[65536 + 64];
    const struct ruleset *const list[] = {rules, NULL};
    struct policy_kit_result *result = apply(list, path, item, env, false);
    const struct verdict *v = &result->verdict;
    (void)snprintf(kept, sizeof kept, "%s%s", result->json, v->sends ? "" : reason_word(v->reason));
    return kept;
}

static void check_has(const char *text, const char *part, bool has) {
    if ((strstr(text, part) != NULL) != has) {
        fail_msg("%s in %s: %s expected", part, text, has ? "is" : "is not");
    }
}

/* A track of Mixpanel with these properties besides. */
static const char *track(const struct ruleset *rules, const char *properties, const char *env) {
    char item[4096];
    kit_use(&mixpanel_ops);
    (void)snprintf(item, sizeof item,
                   "{\"event\":\"Run\",\"properties\":{\"token\":\"t\",\"distinct_id\":\"u1\","
                   "\"$browser\":\"Firefox\"%s%s}}",
                   properties[0] != '\0' ? "," : "", properties);
    return out_of(rules, "/track", item, env);
}

#define NO_CONSENT "nullno_consent"
#define OPTED_OUT  "nullopted_out"
#define PLAIN_ENV  "{\"ip\":false,\"path\":\"/track\",\"verbose\":false}"
#define GPC_ENV    "{\"Sec-GPC\":true,\"ip\":false,\"path\":\"/track\",\"verbose\":false}"
#define DNT_ENV    "{\"DNT\":true,\"path\":\"/track\"}"

static void test_a_vendor_requires_consent(void **state) {
    (void)state;
    static const char *const yes[] = {
        "\"ok_analytics\":true",         "\"ok_analytics\":\"granted\"",
        "\"ok_analytics\":\"Granted\"",  "\"ok_analytics\":1",
        "\"ok_analytics\":\"yes\"",      "\"ok\":[\"analytics\"]",
        "\"ok\":[\"social\",\"C0002\"]", "\"ok\":\"Analytics\"",
        "\"ok\":{\"C0002\":true}",       "\"ok\":{\"analytics_storage\":\"granted\"}",
        "\"\\u006fk_analytics\":true",   "\"ok\":{\"\\u0043\\u0030002\":true,\"x\":{\"y\":1}}",
    };
    static const char *const no[] = {
        "",
        "\"ok_analytics\":false",
        "\"ok_analytics\":null",
        "\"ok_analytics\":\"denied\"",
        "\"ok_analytics\":\"pending\"",
        "\"ok_analytics\":\"\"",
        "\"ok_analytics\":0",
        "\"ok_analytics\":10",
        "\"ok_analytics\":[true]",
        "\"ok_analytics\":{\"analytics\":true}",
        "\"ok\":[]",
        "\"ok\":[\"c0002\"]",
        "\"ok\":[[\"analytics\"]]",
        "\"ok\":[{\"analytics\":true}]",
        "\"ok\":{\"analytics\":false}",
        "\"ok\":true",
        "\"ok_ads\":true",
        "\"note\":\"analytics\"",
        /* A refusal outweighs. */
        "\"ok_analytics\":true,\"ok\":{\"C0002\":false}",
        "\"ok\":[\"analytics\"],\"ok_analytics\":\"denied\"",
        "\"ok\":{\"analytics\":true,\"analytics_storage\":\"denied\"}",
    };
    struct ruleset *rules = rules_of("requires: consent.analytics\n");
    for (size_t i = 0; i < BH_COUNT(yes); i++) {
        check_has(track(rules, yes[i], PLAIN_ENV), "\"event\":\"Run\"", true);
    }
    for (size_t i = 0; i < BH_COUNT(no); i++) {
        assert_string_equal(track(rules, no[i], PLAIN_ENV), NO_CONSENT);
    }
    /* A key that stands twice ends the item, whichever of the two was read. */
    assert_string_equal(track(rules, "\"ok_analytics\":true,\"ok_analytics\":false", ""),
                        NO_CONSENT);
    assert_string_equal(track(rules, "\"ok_analytics\":true,\"ok_analytics\":true", ""),
                        "nullmalformed");
    ruleset_free(rules);
    rules = rules_of("requires: [consent.analytics, consent.advertising]\n");
    assert_string_equal(track(rules, "\"ok_analytics\":true", ""), NO_CONSENT);
    check_has(track(rules, "\"ok_analytics\":true,\"ok_ads\":true", ""), "Firefox", true);
    /* What says it does not leave: the plan does not declare it. */
    check_has(track(rules, "\"ok_analytics\":true,\"ok_ads\":true", ""), "ok_", false);
    ruleset_free(rules);
}

static void test_a_class_requires_consent(void **state) {
    (void)state;
    struct ruleset *rules = rules_of("");
    check_has(track(rules, "", ""), "\"event\":\"Run\"", true);
    check_has(track(rules, "", ""), "Firefox", false);
    check_has(track(rules, "\"ok_ads\":true", ""), "Firefox", true);
    check_has(track(rules, "\"ok\":[\"Data Deals\"]", ""), "Firefox", true);
    check_has(track(rules, "\"ok_ads\":false", ""), "Firefox", false);
    /* Found in another leaf: the finding's class needs its own consent. */
    check_has(track(rules, "\"note\":\"mail jo@example.com\",\"ok_ads\":true", ""), "note", false);
    check_has(track(rules,
                    "\"note\":\"mail jo@example.com\",\"ok\":[\"advertising\",\"personalization\"]",
                    ""),
              "\"note\":\"mail [user.contact.email]\"", true);
    const struct ruleset *const list[] = {rules, NULL};
    const char *item =
        "{\"event\":\"Run\",\"properties\":{\"token\":\"t\",\"distinct_id\":\"u1\",\"$browser\":\"Firefox\"}}";
    struct policy_kit_result *result = apply(list, "/track", item, "", true);
    check_has(result->story,
              "/properties/$browser user.device drop no_consent | allow user.device requires "
              "consent.advertising: not given",
              true);
    assert_int_equal(result->verdict.withheld_by_reason[REASON_NO_CONSENT], 1);
    ruleset_free(rules);
    /* A parent's line takes what it requires along. */
    rules = policy_kit_allow("  user.behavior: raw\n  user.location: { raw, requires: "
                             "consent.advertising }\n",
                             "", PLAN);
    check_has(track(rules, "\"$city\":\"Lyon\"", ""), "Lyon", false);
    check_has(track(rules, "\"$city\":\"Lyon\",\"ok_ads\":true", ""), "Lyon", true);
    ruleset_free(rules);
    rules = policy_kit_allow("  user.behavior: { raw, requires: consent.analytics }\n", "", PLAN);
    assert_string_equal(track(rules, "", ""), NO_CONSENT);
    check_has(track(rules, "\"ok_analytics\":true", ""), "Run", true);
    ruleset_free(rules);
}

static void test_signals(void **state) {
    (void)state;
    struct ruleset *rules = rules_of(""); /* unless said, both are heeded */
    check_has(track(rules, "", PLAIN_ENV), "Run", true);
    assert_string_equal(track(rules, "", GPC_ENV), OPTED_OUT);
    assert_string_equal(track(rules, "", DNT_ENV), OPTED_OUT);
    assert_string_equal(track(rules, "", "{\"DNT\":true,\"Sec-GPC\":true}"), OPTED_OUT);
    assert_string_equal(track(rules, "\"gpc_seen\":true", PLAIN_ENV), OPTED_OUT);
    check_has(track(rules, "\"gpc_seen\":false,\"dnt_seen\":null", PLAIN_ENV), "Run", true);
    ruleset_free(rules);
    rules = rules_of("honour: [gpc]\n");
    assert_string_equal(track(rules, "", GPC_ENV), OPTED_OUT);
    check_has(track(rules, "\"dnt_seen\":true", DNT_ENV), "Run", true);
    ruleset_free(rules);
    /* A processor: what it needs to work is sent, but sale and sharing stay refused. */
    rules = rules_of("honour: []\nrequires: consent.analytics\n");
    check_has(track(rules, "\"ok_analytics\":true,\"ok_ads\":true", PLAIN_ENV), "Firefox", true);
    check_has(track(rules, "\"ok_analytics\":true,\"ok_ads\":true", GPC_ENV), "Run", true);
    check_has(track(rules, "\"ok_analytics\":true,\"ok_ads\":true", GPC_ENV), "Firefox", false);
    check_has(track(rules, "\"ok_analytics\":true,\"ok_ads\":true", DNT_ENV), "Firefox", true);
    ruleset_free(rules);
}

/* opt_out_tracking: Mixpanel's SDK sends a deletion and clears the charges, then it is silent. */
static void test_profiles(void **state) {
    (void)state;
    static const char deletion[] = "{\"$token\":\"t\",\"$distinct_id\":\"u1\",\"$delete\":\"u1\"}";
    struct ruleset *rules = rules_of("requires: consent.analytics\n");
    kit_use(&mixpanel_ops);
    assert_string_equal(
        out_of(rules, "/engage",
               "{\"$token\":\"t\",\"$distinct_id\":\"u1\",\"$set\":{\"plan\":\"pro\"}}", ""),
        NO_CONSENT);
    check_has(out_of(rules, "/engage",
                     "{\"$token\":\"t\",\"$distinct_id\":\"u1\",\"$set\":{\"plan\":\"pro\","
                     "\"ok_analytics\":true}}",
                     ""),
              "{\"plan\":\"pro\"}", true);
    check_has(out_of(rules, "/engage", deletion, GPC_ENV), "$delete", true);
    check_has(out_of(rules, "/engage", deletion, GPC_ENV), "u1", false);
    assert_string_equal(
        out_of(
            rules, "/engage",
            "{\"$token\":\"t\",\"$distinct_id\":\"u1\",\"$delete\":\"\",\"$set\":{\"plan\":\"pro\"}}",
            ""),
        NO_CONSENT);
    assert_string_equal(
        out_of(rules, "/engage",
               "{\"$token\":\"t\",\"$distinct_id\":\"u1\",\"$delete\":\"\",\"$unset\":[\"plan\"]}",
               ""),
        NO_CONSENT);
    assert_string_equal(track(rules, "\"$delete\":\"u1\"", ""), NO_CONSENT);
    ruleset_free(rules);
}

static void test_posthog(void **state) {
    (void)state;
    kit_use(&posthog_ops);
    struct ruleset *rules = rules_of("requires: consent.analytics\n");
#define RUN(more)                                                                                       \
    "{\"api_key\":\"t\",\"event\":\"Run\",\"distinct_id\":\"u1\",\"properties\":{\"$lib\":\"web\"" more \
    "}}"
    assert_string_equal(out_of(rules, "/capture", RUN(""), ""), NO_CONSENT);
    check_has(out_of(rules, "/capture", RUN(",\"ok_analytics\":true"), ""), "Run", true);
    /* Cookies were refused: the page's own word is then a mistake. */
    assert_string_equal(
        out_of(rules, "/capture", RUN(",\"ok_analytics\":true,\"$cookieless_mode\":true"), ""),
        NO_CONSENT);
    check_has(out_of(rules, "/capture",
                     RUN(",\"ok_analytics\":true,\"$process_person_profile\":false"), ""),
              "Run", true);
    assert_string_equal(out_of(rules, "/capture", RUN(",\"ok_analytics\":true"), GPC_ENV),
                        OPTED_OUT);
    assert_string_equal(out_of(rules, "/capture",
                               "{\"api_key\":\"t\",\"event\":\"$set\",\"distinct_id\":\"u1\","
                               "\"$set\":{\"plan\":\"pro\"}}",
                               ""),
                        NO_CONSENT);
    check_has(out_of(rules, "/capture",
                     "{\"api_key\":\"t\",\"event\":\"$set\",\"distinct_id\":\"u1\","
                     "\"$set\":{\"plan\":\"pro\",\"ok\":[\"analytics\"]}}",
                     ""),
              "\"plan\":\"pro\"", true);
    /* posthog-node writes $set into properties. */
    check_has(out_of(rules, "/capture",
                     "{\"api_key\":\"t\",\"event\":\"$set\",\"distinct_id\":\"u1\",\"properties\":{"
                     "\"$set\":{\"plan\":\"pro\",\"ok\":[\"analytics\"]}}}",
                     ""),
              "\"plan\":\"pro\"", true);
    assert_string_equal(
        out_of(rules, "/capture",
               RUN(",\"x\":{\"ok_analytics\":true,\"$set\":{\"ok_analytics\":true}}"), ""),
        NO_CONSENT);
    ruleset_free(rules);
}

static void test_amplitude(void **state) {
    (void)state;
    kit_use(&amplitude_ops);
    struct ruleset *rules = rules_of("requires: consent.analytics\n");
#define AMPLITUDE(more) "{\"api_key\":\"t\",\"events\":[{\"user_id\":\"u12345\"," more "}]}"
    assert_string_equal(out_of(rules, "/2/httpapi", AMPLITUDE("\"event_type\":\"Run\""), ""),
                        NO_CONSENT);
    check_has(
        out_of(rules, "/2/httpapi",
               AMPLITUDE("\"event_type\":\"Run\",\"event_properties\":{\"ok_analytics\":true}"),
               ""),
        "Run", true);
    check_has(out_of(rules, "/2/httpapi",
                     AMPLITUDE("\"event_type\":\"$identify\",\"user_properties\":{\"$set\":{"
                               "\"plan\":\"pro\",\"ok_analytics\":\"granted\"}}"),
                     ""),
              "\"plan\":\"pro\"", true);
    /* What an update takes away is no consent. */
    assert_string_equal(
        out_of(rules, "/2/httpapi",
               AMPLITUDE("\"event_type\":\"$identify\",\"user_properties\":{\"$remove\":{"
                         "\"ok_analytics\":true},\"$set\":{\"plan\":\"pro\"}}"),
               ""),
        NO_CONSENT);
    assert_string_equal(
        out_of(rules, "/2/httpapi",
               AMPLITUDE("\"event_type\":\"$identify\",\"user_properties\":{\"$unset\":{"
                         "\"ok_analytics\":true},\"$set\":{\"plan\":\"pro\"}}"),
               ""),
        NO_CONSENT);
    ruleset_free(rules);
}

static const char *segment(const struct ruleset *rules, const char *context) {
    char item[4096];
    (void)snprintf(item, sizeof item,
                   "{\"writeKey\":\"t\",\"type\":\"track\",\"event\":\"Run\",\"userId\":\"u1\","
                   "\"messageId\":\"m\",\"context\":{%s}}",
                   context);
    return out_of(rules, "/v1/track", item, "{\"path\":\"/v1/track\"}");
}

static void test_segment_and_rudder(void **state) {
    (void)state;
    static const struct {
        const char *context;
        bool leaves;
    } cases[] = {
        {"", false},
        {"\"consent\":{\"categoryPreferences\":{\"Analytics\":true}}", true},
        {"\"consent\":{\"categoryPreferences\":{\"C0002\":true,\"Advertising\":false}}", true},
        {"\"consent\":{\"categoryPreferences\":{\"Analytics\":false}}", false},
        {"\"consent\":{\"categoryPreferences\":{}}", false},
        {"\"consent\":{\"categoryPreferences\":[\"Analytics\"]}", false},
        {"\"consent\":{\"Analytics\":true}", false},
        {"\"traits\":{\"ok_analytics\":true}", true}, /* RudderStack says traits here as well */
        {"\"page\":{\"ok_analytics\":true}", false},
        {"\"ok_analytics\":true", false},
        {"\"consent\":{\"categoryPreferences\":{\"Analytics\":\"granted\"}}", true},
        {"\"consentManagement\":{\"allowedConsentIds\":[\"C0002\"],\"deniedConsentIds\":[]}", true},
        {"\"consentManagement\":{\"allowedConsentIds\":[\"C0002\"],\"deniedConsentIds\":[\"C0002\"]}",
         false},
        {"\"consentManagement\":{\"deniedConsentIds\":[\"Data Deals\"]}", false},
        {"\"consentManagement\":{\"allowedConsentIds\":[\"C0002\"]},\"consent\":{"
         "\"categoryPreferences\":{\"analytics\":false}}",
         false},
    };
    static const struct protocol_ops *const protocols[] = {&segment_ops, &rudder_ops};
    for (size_t k = 0; k < BH_COUNT(protocols); k++) {
        kit_use(protocols[k]);
        struct ruleset *rules = rules_of("requires: consent.analytics\n");
        for (size_t i = 0; i < BH_COUNT(cases); i++) {
            const char *sent = segment(rules, cases[i].context);
            check_has(sent, "\"event\":\"Run\"", cases[i].leaves);
            check_has(sent, "onsent\"", false);
        }
        ruleset_free(rules);
        rules = rules_of("");
        check_has(segment(rules, "\"consent\":{\"categoryPreferences\":{\"Data Deals\":true}},"
                                 "\"os\":{\"name\":\"Windows\"}"),
                  "Windows", true);
        check_has(segment(rules,
                          "\"consent\":{\"categoryPreferences\":{\"Data Deals\":true}},"
                          "\"os\":{\"name\":\"Windows\"},\"device\":{\"adTrackingEnabled\":false}"),
                  "Windows", false);
        ruleset_free(rules);
    }
}

/* Whatever their order: one that requires, honours or closes a class binds the event. */
static void test_the_strictest_rule_set_holds(void **state) {
    (void)state;
    kit_use(&mixpanel_ops);
    struct ruleset *open =
        policy_kit_allow("  user.behavior: raw\n  user.device: raw\n", "honour: []\n", PLAN);
    struct ruleset *asks = policy_kit_allow(
        "  user.behavior: raw\n  user.device: { raw, requires: consent.advertising }\n",
        "honour: [gpc]\nrequires: consent.analytics\n", PLAN);
    /* It asks as well, and under its plan nothing says so. */
    struct ruleset *deaf = policy_kit_allow(
        "  user.behavior: raw\n  user.device: { raw, requires: consent.advertising }\n",
        "honour: []\n", "events: { Run: {} }\n");
#define ITEM(more) \
    "{\"event\":\"Run\",\"properties\":{\"token\":\"t\",\"$browser\":\"Firefox\"" more "}}"
    const struct ruleset *const orders[][3] = {{open, asks, NULL}, {asks, open, NULL}};
    for (size_t i = 0; i < BH_COUNT(orders); i++) {
        const struct ruleset *const *list = orders[i];
        struct verdict *v = &apply(list, "/track", ITEM(""), "", false)->verdict;
        assert_true(!v->sends && v->reason == REASON_NO_CONSENT);
        v = &apply(list, "/track", ITEM(",\"ok_analytics\":true"), GPC_ENV, false)->verdict;
        assert_true(!v->sends && v->reason == REASON_OPTED_OUT);
        check_has(apply(list, "/track", ITEM(",\"ok_analytics\":true"), "", true)->json, "Firefox",
                  false);
        check_has(
            apply(list, "/track", ITEM(",\"ok\":[\"analytics\",\"advertising\"]"), "", true)->json,
            "Firefox", true);
    }
    const struct ruleset *const both[][3] = {{asks, deaf, NULL}, {deaf, asks, NULL}};
    for (size_t i = 0; i < BH_COUNT(both); i++) {
        struct verdict *v =
            &apply(both[i], "/track", ITEM(",\"ok\":[\"analytics\",\"advertising\"]"), "", false)
                 ->verdict;
        assert_true(!v->sends && v->reason == REASON_NO_CONSENT);
    }
    ruleset_free(open);
    ruleset_free(asks);
    ruleset_free(deaf);
}

static void test_the_story(void **state) {
    (void)state;
    kit_use(&mixpanel_ops);
    struct ruleset *rules = rules_of("requires: [consent.analytics, consent.social]\n");
    const struct ruleset *const list[] = {rules, NULL};
    struct policy_kit_result *result =
        apply(list, "/track", ITEM(",\"ok\":[\"social\"]"), PLAIN_ENV, true);
    check_has(result->story, "no_consent | requires consent.analytics: not given\n", true);
    result = apply(list, "/track", ITEM(",\"ok\":[\"social\"]"), DNT_ENV, true);
    check_has(result->story, "opted_out | honour: dnt\n", true);
    char text[512];
    struct buf b = buf_of(text, sizeof text);
    ruleset_put_consent(rules, &b);
    assert_true(span_is(buf_span(&b),
                        "requires consent.analytics, consent.social; honours dnt, gpc; "
                        "user.contact.email requires consent.personalization, consent.advertising; "
                        "user.device requires consent.advertising"));
    assert_true(ruleset_hears_consent(rules, &mixpanel_ops));
    ruleset_free(rules);
    rules = policy_kit_allow("  user.behavior: raw\n", "requires: consent.analytics\n", "");
    assert_false(ruleset_hears_consent(rules, &mixpanel_ops)); /* its SDKs say nothing of consent */
    assert_false(ruleset_hears_consent(rules, &posthog_ops));  /* or only that there is none */
    assert_true(ruleset_hears_consent(rules, &rudder_ops));
    ruleset_free(rules);
    rules = policy_kit_allow("  user.behavior: raw\n", "honour: []\n", "");
    b.n = 0;
    ruleset_put_consent(rules, &b);
    assert_int_equal(b.n, 0);
    assert_true(ruleset_hears_consent(rules, &mixpanel_ops));
    ruleset_free(rules);
}

int main(void) {
    policy_kit_start();
    policy = policy_kit_vendor("one");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_vendor_requires_consent),
        cmocka_unit_test(test_a_class_requires_consent),
        cmocka_unit_test(test_signals),
        cmocka_unit_test(test_profiles),
        cmocka_unit_test(test_posthog),
        cmocka_unit_test(test_amplitude),
        cmocka_unit_test(test_segment_and_rudder),
        cmocka_unit_test(test_the_strictest_rule_set_holds),
        cmocka_unit_test(test_the_story),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
