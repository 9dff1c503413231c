/* What must hold of ids: nothing that never leaves hides in one, no two domains share one, and no retry changes one. */
/* depends: policy inspect mixpanel protocol wire http json crypto resolve model base */
/* sources: policy_keys.c policy_kit.c mixpanel_kit.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "model/class.h"
#include "unit/policy_kit.h"

static struct ruleset *rules;
static struct policy *policy;

static int set_up(void **state) {
    (void)state;
    policy_kit_start();
    rules = policy_kit_allow(
        "  user.unique_id: pseudonym\n  user.workplace: pseudonym\n  user.behavior: raw\n  system.operations: raw\n",
        "",
        "events: { Run: {} }\nproperties: { tokens: { type: number } }\ngroups: { company: { class: user.workplace } }\n");
    policy = policy_kit_vendor("one");
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    policy_free(policy);
    ruleset_free(rules);
    return 0;
}

static const struct policy_kit_result *apply(const char *item, size_t sets) {
    const struct ruleset *const list[] = {rules, sets > 1 ? rules : NULL, sets > 2 ? rules : NULL,
                                          NULL};
    assert_true(policy_kit_item("/track", span_str(item), true));
    return policy_kit_apply(policy, list, false);
}

/* Not even as a pseudonym: whoever knows the number could find the person by it at every vendor that leaks its keys. */
static void a_card_number_is_no_id(void **state) {
    (void)state;
    static const char *const values[] = {"4111 1111 1111 1111", "4111111111111111",
                                         "card-4111111111111111"};
    for (size_t i = 0; i < BH_COUNT(values); i++) {
        char item[200];
        (void)snprintf(
            item, sizeof item,
            "{\"event\":\"Run\",\"properties\":{\"token\":\"t\",\"distinct_id\":\"%s\"}}",
            values[i]);
        const struct policy_kit_result *r = apply(item, 1);
        assert_true(r->verdict.sends);
        assert_non_null(strstr(r->json, "\"distinct_id\":\"\""));
        for (unsigned k = 0; k < r->verdict.disclosed_count; k++) {
            assert_false(class_is_never(r->verdict.disclosed[k].class_id));
            assert_int_not_equal(r->verdict.disclosed[k].class_id, CLASS_UNIQUE_ID);
        }
    }
}

static void copy_value(const char *json, const char *key, char out[64]) {
    const char *from = strstr(json, key);
    assert_non_null(from);
    from += strlen(key);
    size_t n = strcspn(from, "\"");
    assert_in_range(n, 26, 63);
    memcpy(out, from, n);
    out[n] = '\0';
}

/* Somebody who is called like her company is not recognised by it. */
static void one_name_in_two_domains_is_two_pseudonyms(void **state) {
    (void)state;
    char person[64];
    char company[64];
    const struct policy_kit_result *r = apply(
        "{\"event\":\"Run\",\"properties\":{\"token\":\"t\",\"distinct_id\":\"acme\",\"company\":\"acme\"}}",
        1);
    copy_value(r->json, "\"distinct_id\":\"", person);
    copy_value(r->json, "\"company\":\"", company);
    assert_string_not_equal(person, company);
}

/* Tried again after reloads, of which each adds a rule set, or with another spread: the vendor must know it as the same event. */
static void an_event_keeps_its_insert_id(void **state) {
    (void)state;
    static const char *const items[] = {
        "{\"event\":\"Run\",\"properties\":{\"token\":\"t\",\"distinct_id\":\"u\",\"$insert_id\":\"abc\"}}",
        "{\"event\":\"Run\",\"properties\":{\"token\":\"t\",\"distinct_id\":\"u\"}}",
    };
    for (size_t i = 0; i < BH_COUNT(items); i++) {
        uint8_t first[26];
        memcpy(first, apply(items[i], 1)->verdict.insert_id, sizeof first);
        for (size_t sets = 1; sets <= 3; sets++) {
            assert_memory_equal(apply(items[i], sets)->verdict.insert_id, first, sizeof first);
            policy_kit_input()->spread_ms = 7;
            const struct ruleset *const list[] = {rules, NULL};
            assert_memory_equal(policy_kit_apply(policy, list, false)->verdict.insert_id, first,
                                sizeof first);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_card_number_is_no_id),
        cmocka_unit_test(one_name_in_two_domains_is_two_pseudonyms),
        cmocka_unit_test(an_event_keeps_its_insert_id),
    };
    return cmocka_run_group_tests_name("policy_promises", tests, set_up, tear_down);
}
