/* What a plan declares, asked without a configuration folder: for `inspect --plan`. */
#include <stdlib.h>

#include "cli/cli_items.h"
#include "crypto/crypto.h"
#include "flow/policy/policy.h"
#include "os/file.h"

struct cli_declared {
    struct plan *plan;
    struct ruleset *ruleset;
    struct policy *policy;
};

void cli_declared_free(struct cli_declared *declared) {
    if (declared == NULL) {
        return;
    }
    policy_free(declared->policy);
    ruleset_free(declared->ruleset);
    plan_free(declared->plan);
    free(declared);
}

int cli_declared_new(const char *file, const struct protocol_ops *protocol,
                     struct cli_declared **ret_declared, struct err *err) {
    /* No pseudonym is made here, but a policy holds keys. */
    static const uint8_t no_key[32];
    const struct vendor_keys keys = {
        .domain_key = {NULL, no_key, no_key, no_key, no_key, no_key, no_key, no_key}};
    if (!os_path_exists(file)) { /* in a folder that would be an empty plan; here it is a slip */
        return err_set(err, BH_E_NOTFOUND, "there is no plan %s", file);
    }
    struct cli_declared *d = calloc(1, sizeof *d);
    if (d == NULL) {
        return err_set(err, BH_E_NOMEM, "out of memory");
    }
    int r = crypto_init();
    r = r == 0 ? plan_load(file, &d->plan, err) : r;
    r = r == 0 ? ruleset_of_plan(d->plan, protocol->name, &d->ruleset, err) : r;
    r = r == 0 ? policy_new(&keys, NULL, 0, &d->policy) : r;
    if (r != 0) {
        err->code = r;
        cli_declared_free(d);
        return r;
    }
    *ret_declared = d;
    return 0;
}

size_t cli_undeclared(struct cli_declared *declared, const struct protocol_ops *protocol,
                      const struct cli_item *item, uint32_t *ret_tokens, size_t cap) {
    const struct ruleset *rules = declared->ruleset;
    struct record_request request = {.protocol = protocol->id,
                                     .kind = item->decoded->envelope.endpoint,
                                     .source = 1,
                                     .events = 1};
    struct record_event event = {.seq = item->line,
                                 .kind = item->item->kind,
                                 .flags = item->item->flags,
                                 .time_ms = item->item->time_ms,
                                 .findings = item->findings,
                                 .finding_count = (uint16_t)item->finding_count,
                                 .json = item->text};
    struct policy_input input = {.protocol = protocol,
                                 .request = &request,
                                 .event = &event,
                                 .tokens = item->tokens,
                                 .token_count = item->token_count,
                                 .rulesets = &rules,
                                 .ruleset_count = 1,
                                 .distinct_closed_at = cli_never_closed};
    return policy_undeclared(declared->policy, &input, ret_tokens, cap);
}
