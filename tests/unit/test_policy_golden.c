/*
 * Every recorded SDK request under the contract that `init` writes, compared to the byte with tests/golden/policy/default-contract.txt.
 */
/* depends: policy inspect mixpanel protocol wire http json crypto resolve model base */
/* sources: policy_keys.c policy_kit.c golden_kit.c recorded_kit.c mixpanel_kit.c ../../src/cli/init_files.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "cli/init_files.h"
#include "unit/golden_kit.h"

static void test_recorded_requests(void **state) {
    (void)state;
    static const struct golden_sdk node = {.recorded = {.name = "mixpanel-node"}, .last = 999};
    static const struct golden_sdk browser = {.recorded = {.name = "mixpanel-browser"},
                                              .last = 999};
    size_t size = 0;
    char *plan = policy_kit_file("tests/golden/policy/plan.yaml", &size);
    assert_non_null(plan);
    policy_kit_start();
    struct ruleset *rules = policy_kit_rules(init_file_text("vendors/mixpanel.yaml"), plan);
    struct policy *policy = policy_kit_vendor("golden");
    golden_begin();
    golden_run(&node, policy, rules);
    golden_run(&browser, policy, rules);
    golden_end("tests/golden/policy/default-contract.txt", 300, NULL);
    free(plan);
    policy_free(policy);
    ruleset_free(rules);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_recorded_requests)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
