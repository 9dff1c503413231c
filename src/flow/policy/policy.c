/*
 * One courier's policy: its memory, and the way of an item through it.
 *
 *   policy_apply: judge every leaf (policy_judge.c) -> write what is left (policy_write.c) -> verdict
 *
 * Memory is made at policy_new; an item of any allowed size needs no more. Most of it is never touched by items of usual size.
 */
#include <stdlib.h>

#include "base/check.h"
#include "flow/policy/policy_int.h"

enum { POLICY_MAGIC = 0x706f6c69 };

int policy_new(const struct vendor_keys *keys, const struct aid_maker *aids, uint16_t instance,
               struct policy **ret_policy) {
    struct policy *p = calloc(1, sizeof *p);
    if (p == NULL) {
        return BH_E_NOMEM;
    }
    p->magic = POLICY_MAGIC;
    p->aids = aids;
    p->instance = instance;
    p->ids = calloc(ID_ENTRIES + 1, sizeof *p->ids); /* one more for ids that are not kept */
    p->decisions = calloc(LIMIT_EVENT_TOKENS, sizeof *p->decisions);
    p->keys_seen = calloc(KEYS_SEEN, sizeof *p->keys_seen);
    bool good = p->ids != NULL && p->decisions != NULL && p->keys_seen != NULL;
    for (unsigned domain = DOMAIN_PERSON; domain <= DOMAIN_VALUE && good; domain++) {
        p->keys[domain] = aes_block_new(keys->domain_key[domain]);
        good = p->keys[domain] != NULL;
    }
    if (!good) {
        policy_free(p);
        return BH_E_NOMEM;
    }
    *ret_policy = p;
    return 0;
}

void policy_free(struct policy *policy) {
    if (policy == NULL) {
        return;
    }
    check(policy->magic == POLICY_MAGIC);
    for (unsigned domain = 0; domain < BH_COUNT(policy->keys); domain++) {
        aes_block_free(policy->keys[domain]);
    }
    if (policy->ids != NULL) {
        secret_wipe(policy->ids,
                    (ID_ENTRIES + 1) * sizeof *policy->ids); /* ids as the SDK sent them */
    }
    free(policy->ids);
    free(policy->decisions);
    free(policy->keys_seen);
    policy->magic = 0;
    free(policy);
}

static bool apply(struct policy *p) {
    if (p->token_count > LIMIT_EVENT_TOKENS) {
        p->reason = REASON_TOO_COMPLEX;
        return false;
    }
    if (p->token_count == 0 || p->tokens[0].kind != JSON_OBJECT) {
        p->reason = REASON_MALFORMED;
        return false;
    }
    bool leaves = policy_judge(p);
    if (p->is_broken || (!leaves && p->explain == NULL)) {
        return false;
    }
    return policy_write(p);
}

static void begin(struct policy *p, const struct policy_input *input) {
    check(p->magic == POLICY_MAGIC);
    p->is_fused = false;
    p->writes = false;
    check(input->ruleset_count > 0);
    p->in = input;
    p->text = input->event->json;
    p->tokens = input->tokens;
    p->token_count = (uint32_t)input->token_count;
    p->space_hash = hash64(input->space.p, input->space.n, 0);
    const char *prefix = input->protocol->names.device_prefix;
    p->device_prefix = prefix != NULL ? span_str(prefix) : SPAN_NONE;
}

void policy_apply(struct policy *policy, const struct policy_input *input, struct buf *out,
                  struct verdict *ret_verdict, policy_explain_fn *explain, void *explain_context) {
    struct policy *p = policy;
    begin(p, input);
    memset(ret_verdict, 0, sizeof *ret_verdict);
    p->out = out;
    p->verdict = ret_verdict;
    p->explain = explain;
    p->explain_context = explain_context;
    size_t start = out->n;
    bool was_full = out->full;
    /* One walk is enough where nothing has to meet and nobody asks. */
    p->is_fused = input->ruleset_count == 1 && explain == NULL;
    ret_verdict->sends = apply(p);
    if (p->is_fused && (p->is_broken || p->reason == REASON_TOO_COMPLEX)) {
        /* It ended early: what is counted of it until then does not depend on the number of walks. */
        memset(ret_verdict, 0, sizeof *ret_verdict);
        out->n = start;
        out->full = was_full;
        p->is_fused = false;
        p->writes = false;
        ret_verdict->sends = apply(p);
    }
    if (ret_verdict->sends) {
        ret_verdict->json = span_of(out->p + start, out->n - start);
    } else {
        ret_verdict->reason = p->reason;
        ret_verdict->disclosed_count = 0;
        ret_verdict->insert_id_size = 0;
        out->n = start;
        out->full = was_full;
    }
    p->in = NULL;
}

/* With somebody who asks, every leaf is judged, also where nothing of the item may leave. */
static void ask(void *context, const struct policy_leaf *leaf) {
    (void)context;
    (void)leaf;
}

size_t policy_undeclared(struct policy *policy, const struct policy_input *input,
                         uint32_t *ret_tokens, size_t cap) {
    struct policy *p = policy;
    size_t count = 0;
    begin(p, input);
    p->explain = ask;
    if (p->token_count != 0 && p->token_count <= LIMIT_EVENT_TOKENS &&
        p->tokens[0].kind == JSON_OBJECT) {
        memset(p->decisions, 0, p->token_count * sizeof *p->decisions);
        (void)policy_judge(p);
        for (uint32_t t = 1; !p->is_broken && t < p->token_count && count < cap; t++) {
            const struct decision *d = &p->decisions[t];
            bool is_name = t == p->name_token && p->reason == REASON_EVENT_UNDECLARED;
            if (is_name || (d->act == ACT_WITHHOLD && d->reason == REASON_UNDECLARED)) {
                ret_tokens[count++] = t;
            }
        }
    }
    p->explain = NULL;
    p->in = NULL;
    return count;
}
