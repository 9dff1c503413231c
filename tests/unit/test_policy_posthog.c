/*
 * PostHog's items under a contract: every recorded request of its SDKs compared to the byte with tests/golden/policy/posthog-contract.txt,
 * and what its items have that Mixpanel's have not.
 */
/* depends: policy inspect posthog mixpanel protocol wire http json crypto resolve model base */
/* sources: policy_keys.c policy_kit.c golden_kit.c recorded_kit.c mixpanel_kit.c ../../src/cli/init_files.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "cli/init_files.h"
#include "protocol/posthog/posthog.h"
#include "unit/golden_kit.h"
#include "unit/mixpanel_kit.h"

enum { TEXT_MAX = 16384 };

static const char plan_text[] =
    "events:\n  Run: {}\nproperties:\n  tokens: { type: number }\n"
    "traits:\n  plan: { enum: [free, pro] }\ngroups:\n  company: { class: user.workplace }\n";

/* The contract that init has for PostHog, with some lines exchanged: pairs of old and new, NULL ends them. */
static struct ruleset *rules_of(const char *plan, const char *const *changes) {
    static char text[TEXT_MAX];
    static char changed[TEXT_MAX];
    (void)snprintf(text, TEXT_MAX, "%s", init_file_text("vendors/posthog.yaml"));
    for (size_t i = 0; changes != NULL && changes[i] != NULL; i += 2) {
        const char *found = strstr(text, changes[i]);
        assert_non_null(found);
        (void)snprintf(changed, TEXT_MAX, "%.*s%s%s", (int)(found - text), text, changes[i + 1],
                       found + strlen(changes[i]));
        memcpy(text, changed, TEXT_MAX);
    }
    return policy_kit_rules(text, plan);
}

static struct policy_kit_result *apply(struct policy *policy, const struct ruleset *rules,
                                       const char *item) {
    const struct ruleset *const list[] = {rules, NULL};
    assert_true(policy_kit_item("/e", span_str(item), true));
    return policy_kit_apply(policy, list, false);
}

static const char *value_of(const char *json, const char *key, char *memory, size_t size) {
    const char *at = strstr(json, key);
    assert_non_null(at);
    at += strlen(key);
    (void)snprintf(memory, size, "%.*s", (int)strcspn(at, "\""), at);
    return memory;
}

static void expect(const struct ruleset *rules, const char *item, const char *const *in,
                   const char *const *without) {
    static struct policy *policy;
    policy = policy != NULL ? policy : policy_kit_vendor("one");
    const char *json = apply(policy, rules, item)->json;
    for (size_t i = 0; in[i] != NULL; i++) {
        if (strstr(json, in[i]) == NULL) {
            fail_msg("%s is not in %s", in[i], json);
        }
    }
    for (size_t i = 0; without[i] != NULL; i++) {
        if (strstr(json, without[i]) != NULL) {
            fail_msg("%s is in %s", without[i], json);
        }
    }
}

#define LIST(...) ((const char *const[]){__VA_ARGS__, NULL})

static void test_shapes(void **state) {
    (void)state;
    struct ruleset *rules = rules_of(plan_text, NULL);
    /* Time and dedupe id stand in the item; what only the SDK needs stays here. */
    expect(
        rules,
        "{\"event\":\"Run\",\"uuid\":\"01a20b8a-66e5-7679-87c6-000000000001\",\"timestamp\":\"2026-11-24T03:12:29.417Z\","
        "\"offset\":5,\"distinct_id\":\"user_1\",\"properties\":{\"tokens\":3,\"token\":\"phc_x\",\"$time\":1795489949.307,"
        "\"$insert_id\":\"abc\",\"$groups\":{\"company\":\"org_1\",\"team\":\"t_1\"},\"$geoip_disable\":true,"
        "\"$ip\":\"203.0.113.9\",\"secret\":\"s\"}}",
        LIST("\"event\":\"Run\"", "\"tokens\":3", "\"timestamp\":\"2026-11-24T03:12:29.000Z\"",
             "\"$groups\":{\"company\":\""),
        LIST("phc_x", "$time", "$insert_id", "offset", "org_1", "team", "t_1", "user_1", "$ip",
             "$geoip", "secret", "01a20b8a"));
    /* Operations at the root and in the properties; the name of the event is the SDK's. */
    expect(
        rules,
        "{\"event\":\"$set\",\"distinct_id\":\"u\",\"$set\":{\"plan\":\"pro\",\"email\":\"a@example.com\"},"
        "\"properties\":{\"$set_once\":{\"plan\":\"free\",\"x\":1},\"$unset\":[\"plan\",\"y\"]}}",
        LIST("\"event\":\"$set\"", "\"$set\":{\"plan\":\"pro\"}",
             "\"$set_once\":{\"plan\":\"free\"}", "\"$unset\":[\"plan\"]"),
        LIST("example.com", "\"x\"", "\"y\""));
    /* Nothing of it left. */
    expect(rules,
           "{\"event\":\"$set\",\"distinct_id\":\"u\",\"$set\":{\"email\":\"a@example.com\"}}",
           LIST("null"), LIST("$set"));
    /* A group's update, by its pseudonym; one that the plan does not know does not leave. */
    expect(
        rules,
        "{\"event\":\"$groupidentify\",\"distinct_id\":\"$company_org_1\",\"properties\":{\"$group_type\":\"company\","
        "\"$group_key\":\"org_1\",\"$group_set\":{\"plan\":\"pro\",\"name\":\"Acme\"}}}",
        LIST("\"$group_type\":\"company\"", "\"$group_key\":\"",
             "\"$group_set\":{\"plan\":\"pro\"}"),
        LIST("org_1", "Acme"));
    expect(
        rules,
        "{\"event\":\"$groupidentify\",\"distinct_id\":\"u\",\"properties\":{\"$group_type\":\"team\","
        "\"$group_key\":\"t_1\",\"$group_set\":{\"plan\":\"pro\"}}}",
        LIST("null"), LIST("team"));
    /* What people wrote never leaves. */
    expect(
        rules,
        "{\"event\":\"$exception\",\"distinct_id\":\"u\",\"properties\":{\"$exception_list\":[{\"value\":\"boo\"}],"
        "\"$elements_chain\":\"a\",\"$el_text\":\"Pay\",\"$ai_input\":[{\"content\":\"hello there\"}]}}",
        LIST("\"event\":\"$exception\""), LIST("boo", "$el", "$ai", "hello"));
    ruleset_free(rules);
}

static void test_closed_ids(void **state) {
    (void)state;
    struct ruleset *rules =
        rules_of(plan_text, LIST("  user.unique_id: pseudonym ", "  user.unique_id: drop "));
    /* The empty id says to encode that the event is about nobody; what needs a person does not leave. */
    expect(rules,
           "{\"event\":\"Run\",\"distinct_id\":\"u\",\"properties\":{\"distinct_id\":\"u\"}}",
           LIST("\"event\":\"Run\"", "\"distinct_id\":\"\""), LIST("\"u\""));
    expect(
        rules,
        "{\"event\":\"$set\",\"distinct_id\":\"u\",\"properties\":{\"$set\":{\"plan\":\"pro\"}}}",
        LIST("null"), LIST("pro"));
    expect(
        rules,
        "{\"event\":\"$identify\",\"distinct_id\":\"u\",\"properties\":{\"$anon_distinct_id\":\"x\"}}",
        LIST("null"), LIST("$identify"));
    ruleset_free(rules);
    /* The key of a group stays here, so its update does, though a person's id could leave. */
    rules = rules_of(plan_text, LIST("  user.workplace: pseudonym", "  user.workplace: drop"));
    expect(
        rules,
        "{\"event\":\"$groupidentify\",\"distinct_id\":\"u\",\"properties\":{\"$group_type\":\"company\","
        "\"$group_key\":\"org_1\",\"$group_set\":{\"plan\":\"pro\"}}}",
        LIST("null"), LIST("company"));
    ruleset_free(rules);
}

/* The name of an update is a word of the SDK's or stays here, whatever the journal says that the item is. */
static void test_update_names(void **state) {
    (void)state;
    struct ruleset *rules = rules_of(plan_text, NULL);
    struct policy *policy = policy_kit_vendor("one");
    const struct ruleset *const list[] = {rules, NULL};
    static const char item[] =
        "{\"event\":\"Ada left\",\"distinct_id\":\"u\",\"properties\":{\"$set\":{\"plan\":\"pro\"}}}";
    assert_true(policy_kit_item("/e", span_str(item), true));
    struct record_event event = *policy_kit_input()->event;
    event.kind = EVENT_PROFILE;
    policy_kit_input()->event = &event;
    const struct policy_kit_result *r = policy_kit_apply(policy, list, false);
    assert_non_null(strstr(r->json, "\"plan\":\"pro\""));
    assert_null(strstr(r->json, "Ada"));
    policy_free(policy);
    ruleset_free(rules);
}

static int64_t session_ms(const char *uuid) {
    char digits[13] = {0};
    memcpy(digits, uuid, 8);
    memcpy(digits + 8, uuid + 9, 4);
    return (int64_t)strtoll(digits, NULL, 16);
}

/* The session's id as it leaves a vendor; starts at `ms`. */
static void session(struct policy *policy, const struct ruleset *rules, int64_t ms, unsigned n,
                    char *ret_out) {
    char item[512];
    (void)snprintf(
        item, sizeof item,
        "{\"event\":\"Run\",\"distinct_id\":\"u\",\"properties\":{\"$session_id\":\"%08x-%04x-7abc-8def-%012x\"}}",
        (unsigned)(ms >> 16), (unsigned)(ms & 0xffff), n);
    (void)value_of(apply(policy, rules, item)->json, "\"$session_id\":\"", ret_out, 40);
}

/* Equal sessions stay equal, order is kept to the unit of time, and no two vendors can join theirs. */
static void test_sessions(void **state) {
    (void)state;
    const int64_t unit = 3600000;
    const int64_t start = INT64_C(1795489949307) / unit * unit;
    struct ruleset *rules = rules_of(plan_text, LIST("time: second", "time: hour"));
    struct ruleset *exact = rules_of(plan_text, LIST("time: second", "time: ms"));
    struct policy *one = policy_kit_vendor("one");
    struct policy *two = policy_kit_vendor("two");
    unsigned moved = 0;
    for (unsigned n = 0; n < 200; n++) {
        char a[40];
        char again[40];
        char b[40];
        int64_t ms = start + (n % 7) * unit + (n * INT64_C(7919)) % unit;
        session(one, rules, ms, n, a);
        session(two, rules, ms, n, b);
        session(one, exact, ms, n, again);
        assert_int_equal(session_ms(again), ms); /* a rule set of its own has its own precision */
        session(one, rules, ms, n, again);
        assert_string_equal(a, again);
        assert_int_equal(strlen(a), 36);
        assert_true(a[14] == '7' && strchr("89ab", a[19]) != NULL);
        assert_int_equal(session_ms(a) / unit, ms / unit);
        assert_string_not_equal(a, b);
        assert_string_not_equal(a + 24, b + 24);
        assert_null(strstr(a, "abc-8def"));
        moved += session_ms(a) != session_ms(b);
    }
    assert_true(moved > 190);
    struct aid aids[64];
    char a[40];
    session(one, rules, start, 1, a);
    assert_int_equal(policy_pseudonym_aids(one, DOMAIN_SESSION, span_str(a), aids, 64), 0);
    policy_free(one);
    policy_free(two);
    ruleset_free(rules);
    ruleset_free(exact);
}

static void test_recorded_requests(void **state) {
    (void)state;
    static const struct golden_sdk node = {
        {"posthog-node", "batch", NULL}, "/e", {NULL, NULL}, 199};
    /* Of the browsers', those of four visits: the others say the same. */
    static const struct golden_sdk browser = {
        {"posthog-js", "batch", NULL}, "/e", {NULL, NULL}, 39};
    size_t size = 0;
    char *plan = policy_kit_file("tests/golden/policy/plan.yaml", &size);
    assert_non_null(plan);
    struct ruleset *rules = rules_of(plan, NULL);
    struct policy *policy = policy_kit_vendor("golden");
    golden_begin();
    golden_run(&node, policy, rules);
    golden_run(&browser, policy, rules);
    golden_end("tests/golden/policy/posthog-contract.txt", 300,
               LIST("@example", "user_1", "org_a", "phc_", "203.0.113", "+1-555"));
    free(plan);
    policy_free(policy);
    ruleset_free(rules);
}

/* A question for flags: the ids that events have, declared traits and groups, and no more; nothing but the id is needed, and without it nothing leaves. */
static void test_questions(void **state) {
    (void)state;
    static const char asked[] =
        "{\"token\":\"k\",\"distinct_id\":\"ada\",\"$anon_distinct_id\":\"visitor\",\"$device_id\":\"dev\","
        "\"groups\":{\"company\":\"acme\",\"team\":\"t\"},\"timezone\":\"Europe/Paris\","
        "\"person_properties\":{\"plan\":\"pro\",\"email\":\"ada@example.com\",\"note\":\"x\","
        "\"distinct_id\":\"ada\",\"$browser\":\"Chrome\",\"$initial_current_url\":\"https://a.example/p?q=1\"},"
        "\"group_properties\":{\"company\":{\"name\":\"Acme\"}},\"sent_at\":\"2026-01-01T00:00:00Z\"}";
    struct protocol_ops ops = *posthog_ops.ask->item;
    struct policy *policy = policy_kit_vendor("one");
    struct ruleset *rules = rules_of(plan_text, NULL);
    char id[64];
    char again[64];
    char expected[128];
    (void)value_of(
        apply(policy, rules, "{\"event\":\"Run\",\"distinct_id\":\"ada\",\"properties\":{}}")->json,
        "\"distinct_id\":\"", id, sizeof id);
    ops.decode = posthog_ops.decode;
    kit_use(&ops);
    const struct ruleset *const list[] = {rules, NULL};
    assert_true(policy_kit_item("/flags/", span_str(asked), true));
    const struct policy_kit_result *r = policy_kit_apply(policy, list, false);
    const char *json = r->json;
    assert_string_equal(value_of(json, "\"distinct_id\":\"", again, sizeof again), id);
    assert_int_equal(r->verdict.aid_count, 3);
    static const char *const in[] = {
        "\"$anon_distinct_id\":\"",   "\"$device_id\":\"",
        "\"groups\":{\"company\":\"", "\"plan\":\"pro\"",
        "\"$browser\":\"Chrome\"",    "\"$initial_current_url\":\"https://a.example/p\""};
    static const char *const without[] = {"ada",   "visitor", "acme", "team",  "Paris",
                                          "note",  "email",   "Acme", "token", "uuid",
                                          "2026-", "time",    "q=1"};
    for (size_t i = 0; i < BH_COUNT(in); i++) {
        assert_non_null(strstr(json, in[i]));
    }
    for (size_t i = 0; i < BH_COUNT(without); i++) {
        assert_null(strstr(json, without[i]));
    }
    assert_true(policy_kit_item("/flags/", SPAN_LIT("{\"distinct_id\":\"ada\"}"), true));
    r = policy_kit_apply(policy, list, false);
    (void)snprintf(expected, sizeof expected, "{\"distinct_id\":\"%s\"}", id);
    assert_string_equal(r->json, expected);
    static const char *const closed[] = {"user.unique_id: pseudonym", "user.unique_id: drop", NULL};
    struct ruleset *none = rules_of(plan_text, closed);
    const struct ruleset *const nobody[] = {none, NULL};
    assert_string_equal(policy_kit_apply(policy, nobody, false)->json, "null");
    kit_use(&posthog_ops);
    ruleset_free(none);
    ruleset_free(rules);
    policy_free(policy);
}

/* flags: forward is part of what was allowed, and stands in the rule set; off, or no word, changes nothing of it. */
static void test_contract_says_flags(void **state) {
    (void)state;
    static const char *const words[] = {"", "flags: off\n", "flags: forward\n"};
    static char written[3][TEXT_MAX];
    for (size_t i = 0; i < BH_COUNT(words); i++) {
        static char text[TEXT_MAX];
        struct err err = {0};
        struct contract *contract = NULL;
        struct contract_facts facts;
        struct buf b = buf_of(written[i], TEXT_MAX - 1);
        (void)snprintf(text, TEXT_MAX, "%s%s", init_file_text("vendors/posthog.yaml"), words[i]);
        assert_int_equal(contract_load_text("c", span_str(text), &contract, &err), 0);
        contract_facts(contract, &facts);
        assert_int_equal(facts.forwards_flags, i == 2);
        contract_free(contract);
        struct ruleset *rules = policy_kit_rules(text, plan_text);
        assert_int_equal(ruleset_write(rules, &b), 0);
        written[i][b.n] = '\0';
        ruleset_free(rules);
    }
    assert_string_equal(written[0], written[1]);
    assert_null(strstr(written[1], "flags"));
    assert_non_null(strstr(written[2], ",\"flags\":\"forward\","));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes),           cmocka_unit_test(test_closed_ids),
        cmocka_unit_test(test_update_names),     cmocka_unit_test(test_sessions),
        cmocka_unit_test(test_questions),        cmocka_unit_test(test_contract_says_flags),
        cmocka_unit_test(test_recorded_requests)};
    kit_use(&posthog_ops);
    policy_kit_start();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
