/* An item that may leave, in the words of a vendor of another protocol: what translate() must know of the plan and of the event. */
#include "flow/policy/policy_int.h"

static bool is_group(const void *context, struct span name) {
    const struct ruleset *ruleset = context;
    return names_find(&ruleset->groups, name, name_hash(name)) != NULL;
}

/* The group of a plan that declares one only. */
static struct span only_group(const struct ruleset *ruleset) {
    const struct names *groups = &ruleset->groups;
    struct span name = SPAN_NONE;
    size_t count = groups->glob_count;
    for (size_t i = 0; groups->slots != NULL && i <= groups->mask && count < 2; i++) {
        if (groups->slots[i].value != NULL) {
            name = groups->slots[i].name;
            count++;
        }
    }
    return count == 1 && groups->glob_count == 0 ? name : SPAN_NONE;
}

static void refuse(struct verdict *verdict, uint8_t reason) {
    verdict->sends = false;
    verdict->reason = reason;
}

void policy_translate(struct policy *policy, const struct policy_input *input,
                      struct translator *translator, struct json_token *tokens, struct buf *out,
                      struct verdict *verdict, struct translated *ret, translate_lost_fn *lost,
                      void *lost_context) {
    const struct ruleset *newest = input->rulesets[input->ruleset_count - 1];
    const struct protocol_names *names = &translator_target(translator)->names;
    uint8_t insert_id[40];
    size_t count = 0;
    size_t offset = 0;
    *ret = (struct translated){0};
    if (json_parse(verdict->json, LIMIT_JSON_DEPTH, tokens, LIMIT_EVENT_TOKENS, &count, &offset) !=
        0) {
        refuse(verdict, REASON_TOO_COMPLEX);
        return;
    }
    policy->in = input;
    struct translate_input in = {
        .kind = input->event->kind,
        .is_historic = (input->event->flags & EVENT_IS_HISTORIC) != 0,
        .item = verdict->json,
        .tokens = tokens,
        .time_ms = verdict->time_ms,
        .insert_id = span_of(insert_id, insert_id_make(policy, names->insert_form, insert_id)),
        .is_group = is_group,
        .context = newest,
        .only_group = only_group(newest),
    };
    int r = translate(translator, &in, out, ret, lost, lost_context);
    if (r != 0 || ret->item_count == 0) {
        refuse(verdict, r == BH_E_FULL       ? REASON_TOO_BIG
                        : r == BH_E_TOO_MANY ? REASON_TOO_COMPLEX
                                             : REASON_NOT_EXPRESSIBLE);
    }
    verdict->withheld_leaves += ret->lost;
    verdict->withheld_by_reason[REASON_NOT_EXPRESSIBLE] += ret->lost;
}
