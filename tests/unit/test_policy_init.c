/* The files that `init` writes are right: contract and plan load, and open exactly what their comments say. */
/* depends: policy resolve protocol mixpanel wire yaml json crypto model base */
/* sources: ../../src/cli/init_files.c */
#define _POSIX_C_SOURCE 200809L
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "cli/init_files.h"
#include "flow/policy/policy_int.h"
#include "model/class.h"

static void check_contract(const char *file) {
    struct err err = {0};
    struct contract *contract = NULL;
    struct plan *plan = NULL;
    struct ruleset *r = NULL;
    static const struct policy_source source = {1, "web", true};
    assert_int_equal(contract_load_text("c", span_str(init_file_text(file)), &contract, &err), 0);
    assert_int_equal(plan_load_text("p", span_str(init_file_text("plan.yaml")), &plan, &err), 0);
    assert_int_equal(ruleset_compile(contract, plan, &source, 1, &r, &err), 0);
    static const struct {
        uint16_t class_id;
        struct form form;
    } open[] = {
        {CLASS_UNIQUE_ID, {FORM_PSEUDONYM, 0}},
        {CLASS_PSEUDONYMOUS_ID, {FORM_PSEUDONYM, 0}},
        {CLASS_DEVICE_ID, {FORM_PSEUDONYM, 0}},
        {CLASS_COOKIE_ID, {FORM_PSEUDONYM, 0}},
        {CLASS_DEVICE, {FORM_COARSE, LEVEL_FAMILY}},
        {CLASS_LOCATION_IMPRECISE, {FORM_COARSE, LEVEL_COUNTRY}},
        {CLASS_WORKPLACE, {FORM_PSEUDONYM, 0}},
        {CLASS_BEHAVIOR, {FORM_RAW, 0}},
        {CLASS_BROWSING_HISTORY, {FORM_COARSE, LEVEL_PATH}},
        {CLASS_PRIVACY_PREFERENCES, {FORM_RAW, 0}},
        {CLASS_SYSTEM_OPERATIONS, {FORM_RAW, 0}},
    };
    unsigned opened = 0;
    for (unsigned c = 0; c < CLASS_LIMIT; c++) {
        opened += r->classes[c].state == CLASS_OPEN;
    }
    assert_int_equal(opened, BH_COUNT(open));
    for (size_t i = 0; i < BH_COUNT(open); i++) {
        assert_int_equal(r->classes[open[i].class_id].form.id, open[i].form.id);
        assert_int_equal(r->classes[open[i].class_id].form.level, open[i].form.level);
    }
    assert_int_equal(r->time, TIME_SECOND);
    assert_false(r->undeclared_drop);
    ruleset_free(r);
    plan_free(plan);
    contract_free(contract);
}

static void test_contracts_and_plan(void **state) {
    (void)state;
    check_contract("vendors/mixpanel.yaml");
    check_contract("vendors/posthog.yaml");
    check_contract("vendors/segment.yaml");
    check_contract("vendors/rudder.yaml");
    check_contract("vendors/amplitude.yaml");
}

/* Every line that teaches by a sample in a comment is one that works. */
static void test_other_texts(void **state) {
    (void)state;
    assert_non_null(strstr(init_file_text("bulkhead.yaml"), "instance: @INSTANCE@\n"));
    assert_non_null(strstr(init_file_text("bulkhead.yaml"), "key: { file: @KEY@ }\n"));
    assert_non_null(strstr(init_file_text(".gitignore"), "/data/\n"));
    assert_null(init_file_text("other"));
    char *text = strdup(init_file_text("vendors/mixpanel.yaml"));
    assert_non_null(text);
    char *sample = strstr(text, "\n# user.contact.email: mask");
    assert_non_null(sample);
    sample[1] = ' ';
    struct err err = {0};
    struct contract *contract = NULL;
    assert_int_equal(contract_load_text("c", span_str(text), &contract, &err), 0);
    contract_free(contract);
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_contracts_and_plan),
                                       cmocka_unit_test(test_other_texts)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
