/*
 * A contract file: whatever its bytes, it is refused at a place in it or becomes a rule set in which nothing that never leaves is open, nothing that
 * requires consent is open without it, and that is the same after writing and reading.
 */
/* depends: policy resolve protocol mixpanel wire yaml json crypto model base */
#include <stdlib.h>

#include "base/check.h"
#include "flow/policy/policy_int.h"
#include "fuzz/fuzz_entry.h"
#include "model/class.h"

enum { NORMAL_MAX = 1 << 20 };

/* What a contract does not name is not connected to. */
static void check_egress(const struct contract_facts *facts) {
    static const char *const closed[] = {"10.1.2.3", "169.254.169.254", "fd00::1",
                                         "64:ff9b::10.0.0.1"};
    const struct contract_egress *egress = facts->egress;
    bool is_http = strncmp(facts->endpoint, "http://", 7) == 0;
    check(!is_http || (egress->is_local && egress->proxy[0] == '\0'));
    check(egress->allows_public || egress->range_count != 0);
    for (size_t i = 0; i < BH_COUNT(closed) && egress->range_count == 0; i++) {
        struct net net;
        check(net_parse(span_str(closed[i]), &net));
        check(!egress_allows(egress, net.address));
    }
    size_t pins = strlen(egress->pins);
    check(pins == 0 || pins % (EGRESS_PIN_SIZE + 1) == EGRESS_PIN_SIZE);
}

static void check_rules(const struct contract *contract) {
    static uint8_t memory[NORMAL_MAX];
    static const struct policy_source source = {1, "web", true};
    struct err err = {0};
    struct plan *plan = NULL;
    struct ruleset *rules = NULL;
    struct ruleset *again = NULL;
    check(plan_load_text("p", SPAN_NONE, &plan, &err) == 0);
    check(ruleset_compile(contract, plan, &source, 1, &rules, &err) == 0);
    for (unsigned c = 0; c < CLASS_LIMIT; c++) {
        bool is_open = rules->classes[c].state == CLASS_OPEN;
        check(!is_open || !class_is_never((uint16_t)c));
        check(is_open ==
              (rules->classes[c].form.id != FORM_DROP && rules->classes[c].form.id != FORM_NONE));
    }
    for (unsigned given = 0; given < CONSENT_SETS; given++) {
        const struct class_rule *classes = ruleset_classes(rules, (uint8_t)given);
        for (unsigned c = 0; c < CLASS_LIMIT; c++) {
            bool is_open = classes[c].state == CLASS_OPEN;
            check(is_open == (rules->classes[c].state == CLASS_OPEN &&
                              (rules->classes[c].requires & ~given) == 0));
            check(is_open || classes[c].form.id == FORM_DROP || classes[c].form.id == FORM_NONE);
        }
    }
    struct buf b = buf_of(memory, sizeof memory);
    check(ruleset_write(rules, &b) == 0);
    check(ruleset_read(buf_span(&b), &again, &err) == 0);
    check(memcmp(rules->classes, again->classes, sizeof rules->classes) == 0);
    check(rules->requires == again->requires && rules->honour == again->honour);
    ruleset_free(again);
    ruleset_free(rules);
    plan_free(plan);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct err err = {0};
    struct contract *contract = NULL;
    int rc = contract_load_text("c.yaml", span_of(data, size), &contract, &err);
    if (rc != 0) {
        check(contract == NULL && err.code == rc);
        return 0;
    }
    struct contract_facts facts;
    contract_facts(contract, &facts);
    check(facts.credential_kind != CREDENTIAL_NONE && facts.vendor[0] != '\0');
    check(strncmp(facts.endpoint, "https://", 8) == 0 ||
          strncmp(facts.endpoint, "http://", 7) == 0);
    check_egress(&facts);
    check_rules(contract);
    contract_free(contract);
    return 0;
}
