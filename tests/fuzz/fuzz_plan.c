/* A plan file: refused at a place in it, or rule set tables in which no string leaves without bounds. */
/* depends: policy resolve protocol mixpanel wire yaml json crypto model base */
#include <stdlib.h>

#include "base/check.h"
#include "flow/policy/policy_int.h"
#include "fuzz/fuzz_entry.h"
#include "model/class.h"

static struct contract *contract;

static void check_fields(const struct names *names) {
    for (size_t i = 0; names->slots != NULL && i <= names->mask; i++) {
        const struct rule_field *field = names->slots[i].value;
        if (field == NULL) {
            continue;
        }
        check(names_find(names, field->name, name_hash(field->name)) == field);
        bool is_id =
            (class_flags(field->class_id) & CLASS_ID) != 0 || class_is_never(field->class_id);
        check(field->type != RULE_STRING || field->is_bounded || is_id);
        check(field->type != 0 || class_is_never(field->class_id));
        if (field->type != 0) {
            (void)rule_fits(field, JSON_STRING, field->name);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const struct policy_source source = {1, "web", true};
    struct err err = {0};
    struct plan *plan = NULL;
    struct ruleset *rules = NULL;
    if (contract == NULL) {
        static const char text[] =
            "vendor: v\nconnector: mixpanel\nendpoint: https://e\ncredential: { env: X }\npurpose: a\nretention: 1d\n";
        check(contract_load_text("c", span_str(text), &contract, &err) == 0);
    }
    if (plan_load_text("p.yaml", span_of(data, size), &plan, &err) != 0) {
        check(plan == NULL);
        return 0;
    }
    check(ruleset_compile(contract, plan, &source, 1, &rules, &err) == 0);
    check_fields(&rules->properties);
    check_fields(&rules->traits);
    check_fields(&rules->groups);
    ruleset_free(rules);
    plan_free(plan);
    return 0;
}
