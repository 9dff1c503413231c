/*
 * Consent: what an item and its request say that the person agreed to, or objected to.
 *
 *   env of the request (Sec-GPC, DNT)  \
 *   the SDK's own places (protocol)     > given and refused categories, signals --> p->given, p->signals
 *   the plan's properties              /
 *
 * Invariants
 *  C1 Given is only what something says in words; silence, null and what nobody understands give nothing.
 *  C2 A refusal outweighs what is given, wherever either stands; a signal refuses what model/consent.h says.
 *  C3 Under several rule sets only what each that asks finds given is given: an older plan's word does not open what a newer one leaves out.
 */
#include "base/check.h"
#include "flow/policy/policy_int.h"

struct said {
    uint8_t given;
    uint8_t refused;
    uint8_t signals;
};

enum answer { ANSWER_NONE, ANSWER_YES, ANSWER_NO };

static enum answer answer_of(struct policy *p, uint32_t token) {
    static const char *const yes[] = {"granted", "true", "yes"};
    uint8_t kind = p->tokens[token].kind;
    struct span text = json_span(p->text, &p->tokens[token]);
    if (kind == JSON_NULL) {
        return ANSWER_NONE;
    }
    bool is_yes = kind == JSON_TRUE || (kind == JSON_NUMBER && span_is(text, "1"));
    if (kind == JSON_STRING && policy_value(p, token, &text)) {
        for (size_t i = 0; i < BH_COUNT(yes); i++) {
            is_yes = is_yes || span_equal_nocase(text, span_str(yes[i]));
        }
    }
    return is_yes ? ANSWER_YES : ANSWER_NO;
}

static void say(struct said *said, uint8_t consents, enum answer answer) {
    said->given |= answer == ANSWER_YES ? consents : 0;
    said->refused |= answer == ANSWER_NO ? consents : 0;
}

/* The plan's names of categories come first. */
static uint8_t category_of(const struct ruleset *rules, struct span name) {
    const uint8_t *named = names_find(&rules->consent_categories, name, name_hash(name));
    return named != NULL ? *named : consent_of_category(name);
}

static void say_category(struct policy *p, const struct ruleset *rules, uint32_t token,
                         enum answer answer, struct said *said) {
    struct span name = SPAN_NONE;
    if (p->tokens[token].kind == JSON_STRING && policy_value(p, token, &name)) {
        say(said, category_of(rules, name), answer);
    }
}

/* A list of categories, or one alone. */
static void read_list(struct policy *p, const struct ruleset *rules, uint32_t token,
                      enum answer answer, struct said *said) {
    if (p->tokens[token].kind != JSON_ARRAY) {
        say_category(p, rules, token, answer, said);
        return;
    }
    for (uint32_t t = token + 1; t < p->tokens[token].next; t = p->tokens[t].next) {
        say_category(p, rules, t, answer, said);
    }
}

static void read_object(struct policy *p, const struct ruleset *rules, uint32_t token,
                        struct said *said) {
    for (uint32_t t = token + 1; t < p->tokens[token].next; t = p->tokens[t].next) {
        say(said, category_of(rules, policy_key(p, t)), answer_of(p, t + 1));
    }
}

static void read_place(struct policy *p, const struct ruleset *rules,
                       const struct consent_place *place, struct said *said) {
    uint32_t token = 0;
    for (size_t i = 0; i < BH_COUNT(place->keys) && place->keys[i] != NULL; i++) {
        token = i == 0 || p->tokens[token].kind == JSON_OBJECT
                    ? json_get(p->text, p->tokens, token, span_str(place->keys[i]))
                    : 0;
        if (token == 0) {
            return;
        }
    }
    enum json_kind kind = (enum json_kind)p->tokens[token].kind;
    switch ((enum consent_form)place->form) {
    case CONSENT_FORM_CATEGORIES:
        if (kind == JSON_OBJECT) {
            read_object(p, rules, token, said);
        }
        break;
    case CONSENT_FORM_GIVEN:
        read_list(p, rules, token, ANSWER_YES, said);
        break;
    case CONSENT_FORM_REFUSED:
        read_list(p, rules, token, ANSWER_NO, said);
        break;
    case CONSENT_FORM_TRUE_REFUSES:
        say(said, place->refuses, kind == JSON_TRUE ? ANSWER_NO : ANSWER_NONE);
        break;
    case CONSENT_FORM_FALSE_REFUSES:
        say(said, place->refuses, kind == JSON_FALSE ? ANSWER_NO : ANSWER_NONE);
        break;
    case CONSENT_FORM_NONE:
        break;
    }
}

/* The members of properties, $set, traits: one look-up each. */
static void read_members(struct policy *p, const struct ruleset *rules, uint32_t object,
                         struct said *said) {
    for (uint32_t t = object + 1; t < p->tokens[object].next; t = p->tokens[t].next) {
        struct span key = policy_key(p, t);
        const struct consent_rule *rule =
            names_find(&rules->consent_properties, key, name_hash(key));
        if (rule == NULL) {
            continue;
        }
        if (rule->is_categories && p->tokens[t + 1].kind == JSON_OBJECT) {
            read_object(p, rules, t + 1, said);
        } else if (rule->is_categories) {
            read_list(p, rules, t + 1, ANSWER_YES, said);
        } else if (rule->signals != 0) {
            said->signals |= answer_of(p, t + 1) == ANSWER_YES ? rule->signals : 0;
        } else {
            say(said, rule->consents, answer_of(p, t + 1));
        }
    }
}

/* An object's members that hold data: properties, $set, traits; not what an update takes away. */
static void read_holder(struct policy *p, const struct ruleset *rules, const struct field *field,
                        uint32_t object, struct said *said) {
    bool holds_data = field != NULL &&
                      (field->role == ROLE_OPERATION || field->role == ROLE_PROPERTIES) &&
                      !span_is(span_of(field->name, field->name_len), "$remove");
    if (holds_data && p->tokens[object].kind == JSON_OBJECT) {
        read_members(p, rules, object, said);
    }
}

/* Of the item, and one below it: $set stands in properties as well, and traits in the context. */
static void read_holders(struct policy *p, const struct ruleset *rules, struct said *said) {
    const struct protocol_ops *protocol = p->in->protocol;
    uint8_t root = protocol->root_place((enum event_kind)p->in->event->kind);
    for (uint32_t t = 1; t < p->tokens[0].next; t = p->tokens[t].next) {
        const struct field *outer = table_find(protocol, root, policy_key(p, t));
        read_holder(p, rules, outer, t + 1, said);
        if (outer == NULL || p->tokens[t + 1].kind != JSON_OBJECT) {
            continue;
        }
        for (uint32_t m = t + 2; m < p->tokens[t + 1].next; m = p->tokens[m].next) {
            const struct field *inner = table_find(protocol, outer->inside, policy_key(p, m));
            read_holder(p, rules, inner, m + 1, said);
        }
    }
}

void policy_consent_read(struct policy *p) {
    uint8_t signals = p->signals;
    for (size_t i = 0; i < p->in->ruleset_count; i++) {
        const struct ruleset *rules = p->in->rulesets[i];
        if (!rules->asks_consent) {
            continue;
        }
        struct said said = {.signals = signals};
        const struct consent_place *place = p->in->protocol->names.consents;
        for (; place != NULL && place->form != CONSENT_FORM_NONE; place++) {
            read_place(p, rules, place, &said);
        }
        if (rules->consent_properties.slots != NULL) {
            read_holders(p, rules, &said);
        }
        said.refused |= signals_refuse(said.signals);
        p->given &= (uint8_t)(said.given & ~said.refused);
        p->signals |= said.signals;
    }
}

/*
 * A profile's deletion and nothing else. To withdraw must be as easy as to agree, so it needs no consent: what opt_out_tracking sends last
 * is this, and withheld it would leave with the vendor what the person wants gone. Of the person it holds the vendor's own pseudonym.
 */
static bool is_deletion(struct policy *p) {
    bool deletes = false;
    if (p->in->event->kind != EVENT_PROFILE) {
        return false;
    }
    uint8_t place = p->in->protocol->root_place(EVENT_PROFILE);
    for (uint32_t t = 1; t < p->tokens[0].next; t = p->tokens[t].next) {
        const struct field *field =
            p->in->protocol->field((enum field_place)place, policy_key(p, t));
        if (field != NULL && (field->role == ROLE_OPERATION || field->role == ROLE_NAMES)) {
            return false;
        }
        deletes = deletes || (field != NULL && field_is_delete(field));
    }
    return deletes;
}

uint8_t policy_consent_reason(struct policy *p, const struct ruleset *rules) {
    uint8_t reason = REASON_NONE;
    if ((rules->honour & p->signals) != 0) {
        reason = REASON_OPTED_OUT;
    } else if ((rules->requires & ~p->given) != 0) {
        reason = REASON_NO_CONSENT;
    }
    return reason != REASON_NONE && is_deletion(p) ? (uint8_t)REASON_NONE : reason;
}

void consents_put(uint8_t consents, struct buf *out) {
    const char *before = "";
    for (uint8_t bit = 1; (bit & CONSENT_ALL) != 0; bit = (uint8_t)(bit << 1)) {
        if ((consents & bit) != 0) {
            buf_printf(out, "%sconsent.%s", before, consent_name(bit));
            before = ", ";
        }
    }
}

void signals_list(uint8_t signals, struct buf *out) {
    const char *before = "";
    for (uint8_t bit = 1; (bit & SIGNAL_ALL) != 0; bit = (uint8_t)(bit << 1)) {
        if ((signals & bit) != 0) {
            buf_printf(out, "%s%s", before, signal_name(bit));
            before = ", ";
        }
    }
}

void ruleset_put_consent(const struct ruleset *rules, struct buf *out) {
    const char *before = "";
    if (rules->requires != 0) {
        buf_put_str(out, "requires ");
        consents_put(rules->requires, out);
        before = "; ";
    }
    if (rules->honour != 0) {
        buf_printf(out, "%shonours ", before);
        signals_list(rules->honour, out);
        before = "; ";
    }
    unsigned count = 0;
    const uint16_t *all = class_all(&count);
    for (unsigned i = 0; i < count; i++) {
        const struct class_rule *rule = &rules->classes[all[i]];
        if (rule->requires != 0 && rule->rule_class == all[i]) {
            buf_printf(out, "%s%s requires ", before, class_name(all[i]));
            consents_put(rule->requires, out);
            before = "; ";
        }
    }
}

bool ruleset_hears_consent(const struct ruleset *rules, const struct protocol_ops *protocol) {
    const struct consent_place *places = protocol->names.consents;
    bool asks = rules->requires != 0 || rules->without != NULL;
    bool sdk_says = places != NULL && places[0].form < CONSENT_FORM_TRUE_REFUSES;
    return !asks || sdk_says || rules->consent_properties.slots != NULL;
}
