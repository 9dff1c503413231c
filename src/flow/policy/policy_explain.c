/* The story of a leaf, for preview --explain and tests: where it stands, its class and form, and the rule that decided. */
#include "base/check.h"
#include "flow/policy/policy_int.h"

static void put_pointer_part(struct buf *out, struct span part) {
    buf_put_byte(out, '/');
    for (size_t i = 0; i < part.n; i++) {
        if (part.p[i] == '~') {
            buf_put_str(out, "~0");
        } else if (part.p[i] == '/') {
            buf_put_str(out, "~1");
        } else {
            buf_put_byte(out, part.p[i]);
        }
    }
}

/* Keys of the open containers and then the leaf's own; indexes of arrays. */
static struct span pointer_of(struct policy *p, uint32_t token) {
    struct buf out = buf_of(p->pointer_text, sizeof p->pointer_text);
    for (unsigned i = 0; i < p->depth; i++) {
        const struct walk *w = &p->walks[i];
        uint32_t key = i + 1 < p->depth ? p->walks[i + 1].key : w->is_array ? 0 : token - 1;
        if (w->is_array) {
            buf_put_byte(&out, '/');
            buf_put_u64_dec(&out, w->element - 1);
            continue;
        }
        put_pointer_part(&out, policy_key(p, key));
    }
    return buf_span(&out);
}

/* What a vendor cannot do without a class; the nearest ancestor's word holds. */
static const struct {
    uint16_t class_id;
    const char *cost;
} costs[] = {
    {CLASS_UNIQUE_ID, "no funnels, retention or cohorts"},
    {CLASS_PSEUDONYMOUS_ID, "visits before login stand alone"},
    {CLASS_DEVICE_ID, "a device's visits are not joined"},
    {CLASS_COOKIE_ID, "no sessions, no campaign clicks"},
    {CLASS_IP_ADDRESS, "the vendor derives no place"},
    {CLASS_DEVICE, "no breakdown by browser or system"},
    {CLASS_LOCATION, "no breakdown by place"},
    {CLASS_WORKPLACE, "no group analytics"},
    {CLASS_BROWSING_HISTORY, "no pages, no referrers"},
    {CLASS_PURCHASE_HISTORY, "no revenue"},
    {CLASS_SEARCH_HISTORY, "no search words"},
    {CLASS_BEHAVIOR, "no events"},
    {CLASS_NAME, "profiles without a name"},
    {CLASS_CONTACT, "profiles without an address"},
};

static const char *cost_of(uint16_t class_id) {
    for (uint16_t c = class_id; c != CLASS_NONE; c = class_parent(c)) {
        for (size_t i = 0; i < BH_COUNT(costs); i++) {
            if (costs[i].class_id == c) {
                return costs[i].cost;
            }
        }
    }
    return NULL;
}

static void put_closed(const struct policy *p, struct buf *out, const struct class_rule *rule,
                       uint16_t class_id, bool is_found) {
    const char *name = class_name(class_id) != NULL ? class_name(class_id) : "unknown";
    const char *found = is_found ? "found " : "";
    if (rule->state == CLASS_NO_CONSENT) {
        buf_printf(out, "allow %s requires ", class_name(rule->rule_class));
        consents_put((uint8_t)(rule->requires & ~p->given), out);
        buf_put_str(out, ": not given");
        return;
    }
    if (rule->state == CLASS_NEVER_OPEN) {
        buf_printf(out, "never: %s%s", found, name);
        return;
    }
    if (rule->state == CLASS_UNFIT) {
        buf_printf(out, "allow %s does not fit %s%s", class_name(rule->rule_class), found, name);
        return;
    }
    if (rule->rule_class != CLASS_NONE) {
        buf_printf(out, "allow %s: drop", class_name(rule->rule_class));
        return;
    }
    buf_printf(out, "closed: %s%s (open with allow: %s: ", found, name, name);
    form_list_fitting(class_id, out);
    if (cost_of(class_id) != NULL) {
        buf_printf(out, "; without it: %s", cost_of(class_id));
    }
    buf_put_byte(out, ')');
}

static void put_allow(struct buf *out, const struct class_rule *rule, struct form form) {
    buf_put_str(out, "allow ");
    buf_put_str(out, rule->rule_class != CLASS_NONE ? class_name(rule->rule_class) : "nothing");
    buf_put_str(out, ": ");
    form_put(form, out);
}

/* "plan property tokens: number" */
static void put_plan(struct buf *out, const struct rule_field *plan) {
    static const char *const types[] = {"never", "boolean", "number", "string",
                                        "url",   "time",    "id"};
    buf_printf(out, "plan %s %.*s: ", plan->section, (int)plan->name.n, (const char *)plan->name.p);
    if (plan->enum_count != 0) {
        buf_put_str(out, "enum");
    } else if (plan->pattern != NULL) {
        buf_put_str(out, "pattern");
    } else if (plan->has_distinct) {
        buf_put_str(out, "max_distinct");
    } else {
        buf_put_str(out, types[plan->type]);
    }
}

static void put_left(struct policy *p, struct buf *out, const struct decision *d) {
    struct class_rule rule = policy_class(p, d->class_id);
    if (d->because == BECAUSE_PLAN && d->plan != NULL) {
        put_plan(out, d->plan);
        buf_put_str(out, ", ");
    } else if (d->because == BECAUSE_PLAN) {
        buf_put_str(out, d->field != NULL && d->field->role == ROLE_EVENT_NAME ? "plan event, "
                                                                               : "plan group, ");
    }
    if (d->act == ACT_KEEP && d->class_id == CLASS_NONE) {
        buf_put_str(out, "protocol");
    } else {
        put_allow(out, &rule, d->form);
    }
}

static bool any_drops(const struct policy *p) {
    bool drops = false;
    for (size_t i = 0; i < p->in->ruleset_count; i++) {
        drops = drops || p->in->rulesets[i]->undeclared_drop;
    }
    return drops;
}

static void put_withheld(struct policy *p, struct buf *out, const struct decision *d,
                         uint16_t found) {
    uint16_t class_id = found != CLASS_NONE ? found : d->class_id;
    struct class_rule rule =
        policy_class(p, class_id < CLASS_LIMIT ? class_id : (uint16_t)CLASS_NONE);
    switch (d->reason) {
    case REASON_UNDECLARED:
        buf_put_str(out, any_drops(p) ? "undeclared: drop" : "undeclared: hold");
        break;
    case REASON_WRONG_TYPE:
    case REASON_MAX_DISTINCT:
        if (d->plan != NULL) {
            put_plan(out, d->plan);
            buf_put_str(out,
                        d->reason == REASON_WRONG_TYPE ? ": the value is another" : ": closed");
        } else {
            buf_put_str(out, "the value is not what the protocol expects");
        }
        break;
    case REASON_PLACEHOLDER_ID:
        buf_put_str(out, "placeholder: means nobody");
        break;
    case REASON_FORM_UNFIT:
        if (rule.state == CLASS_OPEN) {
            put_allow(out, &rule, rule.form);
            buf_put_str(out, found != CLASS_NONE ? ": found inside another value"
                                                 : ": the value has no such form");
            break;
        }
        put_closed(p, out, &rule, class_id, found != CLASS_NONE);
        break;
    default:
        put_closed(p, out, &rule, class_id, found != CLASS_NONE);
        break;
    }
}

/* The contract as a whole, or the line that an event's name needs. */
static void put_no_consent(struct policy *p, struct buf *out) {
    uint8_t requires = 0;
    uint8_t honour = 0;
    for (size_t i = 0; i < p->in->ruleset_count; i++) {
        requires |= p->in->rulesets[i]->requires;
        honour |= p->in->rulesets[i]->honour;
    }
    requires &= (uint8_t)~p->given;
    if (p->reason == REASON_OPTED_OUT) {
        buf_put_str(out, "honour: ");
        signals_list(honour & p->signals, out);
        return;
    }
    if (requires == 0) {
        struct class_rule rule = policy_class(p, CLASS_BEHAVIOR);
        put_closed(p, out, &rule, CLASS_BEHAVIOR, false);
        return;
    }
    buf_put_str(out, "requires ");
    consents_put(requires, out);
    buf_put_str(out, ": not given");
}

/* Nothing of the item leaves, whatever each leaf might. */
static void put_item_reason(struct policy *p, struct buf *out) {
    if (p->reason == REASON_EVENT_UNDECLARED) {
        buf_put_str(out, "undeclared event name: ");
        buf_put_str(out, any_drops(p) ? "drop" : "hold");
    } else if (p->reason == REASON_NOT_ALLOWED) {
        struct class_rule rule = policy_class(p, CLASS_BEHAVIOR);
        put_closed(p, out, &rule, CLASS_BEHAVIOR, false);
    } else if (p->reason == REASON_NO_CONSENT || p->reason == REASON_OPTED_OUT) {
        put_no_consent(p, out);
    } else if (p->reason == REASON_SOURCE_NOT_FED) {
        buf_put_str(out, "the source does not list this vendor");
    } else {
        buf_put_str(out, "the whole event: ");
        buf_put_str(out, reason_word(p->reason));
    }
}

void policy_tell(struct policy *p, uint32_t token, const struct decision *d) {
    uint16_t found = d->found;
    struct buf out = buf_of(p->rule_text, sizeof p->rule_text - 1);
    struct policy_leaf leaf = {
        .pointer = pointer_of(p, token), .class_id = d->class_id, .form = d->form};
    if (d->act == ACT_SKIP) {
        buf_put_str(&out, d->field->role == ROLE_TOKEN
                              ? "connector: the vendor's own credential is put here"
                              : "connector: written anew");
        leaf.form = (struct form){FORM_DROP, LEVEL_NONE};
    } else if (p->reason != REASON_NONE) {
        leaf.form = (struct form){FORM_DROP, LEVEL_NONE};
        leaf.reason = p->reason;
        put_item_reason(p, &out);
    } else if (d->act == ACT_WITHHOLD) {
        leaf.class_id = found != CLASS_NONE ? found : d->class_id;
        leaf.form = (struct form){FORM_DROP, LEVEL_NONE};
        leaf.reason = d->reason;
        put_withheld(p, &out, d, found);
    } else {
        put_left(p, &out, d);
    }
    p->rule_text[out.n] = '\0';
    leaf.rule = p->rule_text;
    p->explain(p->explain_context, &leaf);
}
