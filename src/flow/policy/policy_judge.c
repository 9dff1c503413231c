/*
 * Judging: what each leaf of an item may do, under each rule set in force, and the meet of all.
 *
 * The walk goes over the tokens once per rule set, with a stack of open containers and no recursion. A key's meaning is the protocol's field
 * table, else the plan's; the keys of an object without a place in the table are paths (`cart.total`). What nobody declares is withheld.
 *
 * Invariants
 *  J1 A decision starts as withheld and undeclared; only a declaration and an open class under every rule set change that.
 *  J2 A second key of the same name in one object ends the item: whoever reads the first and whoever reads the last must not differ about
 *     whom it is about.
 *  J3 The result does not depend on the order of the rule sets, but for the class that is entered: the newest plan knows it best.
 */
#include "base/check.h"
#include "base/hash.h"
#include "flow/policy/policy_int.h"

static const struct field type_id = {.type = TYPE_ID};
static const struct field type_time = {.type = TYPE_TIME};
static const struct field type_url = {.type = TYPE_URL};
static const struct field type_path = {.type = TYPE_PATH};

static bool enum_has(const struct rule_field *rule, struct span value) {
    size_t low = 0;
    size_t high = rule->enum_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        struct span candidate = rule->enums[middle];
        int order = candidate.n != value.n
                        ? (candidate.n < value.n ? -1 : 1)
                        : (value.n != 0 ? memcmp(candidate.p, value.p, value.n) : 0);
        if (order == 0) {
            return true;
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return false;
}

static bool string_fits(const struct rule_field *rule, enum json_kind kind, struct span value) {
    if (!rule->is_bounded) {
        return field_fits(&type_id, kind, value); /* an identifier */
    }
    if (kind != JSON_STRING || value.n > 255) {
        return false;
    }
    if (rule->enum_count != 0 && !enum_has(rule, value)) {
        return false;
    }
    return rule->pattern == NULL || pattern_matches(rule->pattern, value);
}

bool rule_fits(const struct rule_field *rule, enum json_kind kind, struct span value) {
    if (kind == JSON_NULL) {
        return true;
    }
    switch ((enum rule_type)rule->type) {
    case RULE_BOOLEAN:
        return kind == JSON_TRUE || kind == JSON_FALSE;
    case RULE_NUMBER:
        return kind == JSON_NUMBER;
    case RULE_STRING:
        return string_fits(rule, kind, value);
    case RULE_URL:
        return kind == JSON_STRING &&
               (field_fits(&type_url, kind, value) || field_fits(&type_path, kind, value));
    case RULE_TIME:
        return field_fits(&type_time, kind, value);
    case RULE_ID:
        return field_fits(&type_id, kind, value);
    }
    return false;
}

bool policy_value_escaped(struct policy *p, uint32_t token, struct span *ret_value) {
    struct span raw = json_span(p->text, &p->tokens[token]);
    if (raw.n > (size_t)6 * VALUE_BYTES_MAX) {
        return false;
    }
    struct buf b = buf_of(p->value_text, sizeof p->value_text);
    json_unescape(raw, &b);
    *ret_value = buf_span(&b);
    return !b.full;
}

struct span policy_key_escaped(struct policy *p, uint32_t token) {
    struct buf b = buf_of(p->key_text, sizeof p->key_text);
    json_unescape(json_span(p->text, &p->tokens[token]), &b);
    return buf_span(&b);
}

/* -- declarations ------------------------------------------------------------------------------------ */

/* One rule set's view while its walk lasts. */
struct judge {
    struct policy *p;
    const struct ruleset *rules;
    const struct class_rule *classes; /* of the rule set, under the consents given */
    const struct rule_event *event;
    bool has_own_properties; /* the event declares some for itself */
    bool is_first;
    uint32_t finding_next;
};

static const struct rule_field *plan_of(const struct judge *j, uint8_t section, struct span name,
                                        uint64_t hash) {
    const struct rule_field *found = NULL;
    if (j->event != NULL && section == PLACE_EVENT_PROPERTY) {
        found = names_find(&j->rules->groups, name, hash);
        found = found != NULL ? found : names_find(&j->event->properties, name, hash);
    }
    return found != NULL ? found : plan_find(j->rules, section, name, hash);
}

/* J2. Entries are the hash's upper 44 bits and the item's epoch. False: the key stands twice. */
static bool note_key(struct policy *p, uint32_t object, uint64_t hash) {
    uint64_t mixed =
        (hash ^ (object * UINT64_C(0x9e3779b97f4a7c15))) * UINT64_C(0xff51afd7ed558ccd);
    uint64_t entry = (mixed & ~UINT64_C(0xfffff)) | p->epoch;
    for (size_t i = (size_t)(mixed >> 20) & p->keys_mask;; i = (i + 1) & p->keys_mask) {
        if ((p->keys_seen[i] & 0xfffff) != p->epoch) {
            p->keys_seen[i] = entry;
            return true;
        }
        if (p->keys_seen[i] == entry) {
            return false;
        }
    }
}

/* -- one leaf ---------------------------------------------------------------------------------------- */

/* Decisions are made where they stay: copies of half-written ones cost more than making them. */
static void withhold(struct decision *d, uint8_t reason, const struct field *field,
                     const struct rule_field *plan) {
    *d = (struct decision){.field = field,
                           .plan = plan,
                           .form = {FORM_DROP, LEVEL_NONE},
                           .act = ACT_WITHHOLD,
                           .reason = reason};
}

/* The contract's word on a class. */
static void take_class(const struct judge *j, struct decision *d) {
    const struct class_rule *rule = &j->classes[d->class_id];
    d->form = rule->form;
    d->act = ACT_SHAPE;
    if (rule->state != CLASS_OPEN) {
        d->act = ACT_WITHHOLD;
        d->reason = rule->state == CLASS_NEVER_OPEN   ? REASON_NEVER
                    : rule->state == CLASS_UNFIT      ? REASON_FORM_UNFIT
                    : rule->state == CLASS_NO_CONSENT ? REASON_NO_CONSENT
                                                      : REASON_NOT_ALLOWED;
    }
}

static bool distinct_closed(const struct policy *p, const struct rule_field *rule) {
    return rule->has_distinct && p->in->distinct_closed_at != NULL &&
           p->in->distinct_closed_at(p->in->context, rule->property) <= p->in->event->seq;
}

/* An id of a person: anonymous ones have a class of their own, and placeholders are nobody. */
static void judge_person(const struct judge *j, const struct walk *w, enum json_kind kind,
                         struct span value, struct decision *d) {
    const struct protocol_ops *protocol = j->p->in->protocol;
    const struct field *field = d->field;
    struct span prefix = j->p->device_prefix;
    d->reason = REASON_WRONG_TYPE;
    d->class_id = field->class_id;
    d->domain = DOMAIN_PERSON;
    d->because = BECAUSE_TABLE;
    /* A list of ids where one is expected names nobody. */
    bool is_one = (kind == JSON_STRING || kind == JSON_NUMBER) &&
                  (!w->is_array || field->person == PERSON_MERGED);
    if (!is_one || !field_fits(field, kind, value)) {
        return;
    }
    bool is_device = prefix.n != 0 && span_starts(value, prefix);
    struct span id = is_device ? span_from(value, prefix.n) : value;
    if (is_device && (field->person == PERSON_DISTINCT || field->person == PERSON_ECHO)) {
        d->class_id = CLASS_PSEUDONYMOUS_ID;
    }
    if (protocol->is_placeholder(id)) {
        d->reason = REASON_PLACEHOLDER_ID;
        if (field->person == PERSON_ECHO && id.n == 0) {
            d->act = ACT_KEEP;
        }
        return;
    }
    take_class(j, d);
}

/* $unset: the string is the name of a value; it leaves if that value could. */
static void judge_name(const struct judge *j, const struct walk *w, enum json_kind kind,
                       struct span value, struct decision *d) {
    d->reason = REASON_WRONG_TYPE;
    if (kind != JSON_STRING || value.n > KEY_BYTES_MAX) {
        return;
    }
    uint8_t place = w->section == PLACE_GROUP ? PLACE_GROUP_VALUE : PLACE_PROFILE_VALUE;
    const struct field *field = table_find(j->p->in->protocol, place, value);
    const struct rule_field *plan = plan_of(j, place, value, name_hash(value));
    bool has_class = field != NULL && field->type != TYPE_TEXT && field->class_id != CLASS_NONE;
    d->reason = REASON_UNDECLARED;
    d->class_id = CLASS_CONTENT_PRIVATE;
    if (plan == NULL && !has_class) {
        return;
    }
    d->because = plan != NULL ? BECAUSE_PLAN : BECAUSE_TABLE;
    d->plan = plan;
    d->class_id = has_class ? field->class_id : plan->class_id;
    take_class(j, d);
    if (d->act == ACT_SHAPE) {
        d->act = ACT_KEEP;
        d->form = (struct form){FORM_RAW, LEVEL_NONE};
    }
}

/* $unset as an object: the key is the name of a value, and `field` and `plan` are what is known of it; "-" is all that stands there. */
static void judge_named(const struct judge *j, enum json_kind kind, struct span value,
                        struct decision *d) {
    const struct field *field = d->field;
    bool has_class = field != NULL && field->type != TYPE_TEXT && field->class_id != CLASS_NONE;
    d->class_id = CLASS_CONTENT_PRIVATE;
    if (d->plan == NULL && !has_class) {
        return;
    }
    d->because = d->plan != NULL ? BECAUSE_PLAN : BECAUSE_TABLE;
    d->class_id = has_class ? field->class_id : d->plan->class_id;
    d->reason = REASON_WRONG_TYPE;
    if (kind == JSON_STRING && span_is(value, "-")) {
        take_class(j, d);
    }
    if (d->act == ACT_SHAPE) {
        d->act = ACT_KEEP;
        d->form = (struct form){FORM_RAW, LEVEL_NONE};
    }
}

/*
 * The name was judged with the event as a whole; only what was found in it can still stop it. Of a profile or group update that is said
 * by an event ($set) it is a word of the SDK's, which says nothing of what anybody did.
 */
static void judge_event_leaf(const struct judge *j, struct span value, struct decision *d) {
    bool is_event = j->p->name_token != 0;
    d->class_id = d->field->class_id;
    if (!is_event && !j->p->in->protocol->is_reserved_event(value)) {
        return;
    }
    d->form = (struct form){FORM_RAW, LEVEL_NONE};
    d->act = is_event && !event_is_link(j->p->in->event->kind) ? ACT_SHAPE : ACT_KEEP;
    d->because = j->event != NULL ? BECAUSE_PLAN : BECAUSE_TABLE;
}

static void judge_group_key(const struct judge *j, enum json_kind kind, struct span value,
                            struct decision *d) {
    d->class_id = d->field->class_id;
    if (kind == JSON_STRING && names_find(&j->rules->groups, value, name_hash(value)) != NULL) {
        d->because = BECAUSE_PLAN;
        d->act = ACT_KEEP;
        d->form = (struct form){FORM_RAW, LEVEL_NONE};
    }
}

/* Of a leaf that only the plan declares: what can still close it. */
static uint8_t plan_reason(const struct judge *j, const struct walk *w, const struct decision *d) {
    const struct rule_field *plan = d->plan;
    if (plan->has_distinct && (w->is_nested || distinct_closed(j->p, plan))) {
        return REASON_MAX_DISTINCT; /* the resolver counts values of a property, not of members inside it */
    }
    if (plan->type == RULE_STRING && !plan->is_bounded && d->form.id != FORM_PSEUDONYM) {
        return REASON_WRONG_TYPE; /* an identifier that nothing bounds may be any text */
    }
    return REASON_NONE;
}

/* All other leaves: declared by the table if the value is what the row expects, else by the plan. */
static void judge_data(const struct judge *j, const struct walk *w, const struct field *field,
                       const struct rule_field *plan, enum json_kind kind, struct span value,
                       struct decision *d) {
    bool by_table = field != NULL && !w->is_nested && field_fits(field, kind, value);
    bool by_plan = !by_table && plan != NULL && (plan->type == 0 || rule_fits(plan, kind, value));
    bool has_class = field != NULL && field->type != TYPE_TEXT && field->class_id != CLASS_NONE;
    d->class_id = has_class      ? field->class_id
                  : plan != NULL ? plan->class_id
                                 : (uint16_t)CLASS_CONTENT_PRIVATE;
    d->because = by_table ? BECAUSE_TABLE : plan != NULL ? BECAUSE_PLAN : BECAUSE_NOTHING;
    if (!by_table && !by_plan) {
        d->reason = plan != NULL ? REASON_WRONG_TYPE : REASON_UNDECLARED;
        return;
    }
    d->domain = has_class && field->domain != DOMAIN_NONE ? field->domain
                : plan != NULL                            ? plan->domain
                                                          : (uint8_t)DOMAIN_VALUE;
    d->is_time = by_table ? field->type == TYPE_TIME : plan->type == RULE_TIME;
    if (field != NULL && field->role == ROLE_GROUP_ID && j->p->group != NULL) {
        d->class_id = j->p->group->class_id;
    }
    take_class(j, d);
    if (d->act != ACT_SHAPE) {
        return;
    }
    uint8_t reason = by_table ? (uint8_t)REASON_NONE : plan_reason(j, w, d);
    if (reason != REASON_NONE) {
        d->act = ACT_WITHHOLD;
        d->reason = reason;
    } else if (kind == JSON_NULL) {
        d->act = ACT_KEEP;
    }
}

/* d holds field and plan, and withholds. */
static void judge_leaf(const struct judge *j, const struct walk *w, uint32_t token,
                       const struct field *field, const struct rule_field *plan,
                       struct decision *d) {
    enum json_kind kind = (enum json_kind)j->p->tokens[token].kind;
    struct span value = SPAN_NONE;
    if (!policy_value(j->p, token, &value)) {
        d->reason = plan != NULL ? REASON_WRONG_TYPE : REASON_UNDECLARED;
        return;
    }
    if (kind == JSON_OBJECT || kind == JSON_ARRAY) {
        kind = JSON_NULL; /* [] and {} say as little */
    }
    if (w->field != NULL && w->field->role == ROLE_NAMES && w->place != PLACE_NONE &&
        !w->is_array) {
        judge_named(j, kind, value, d);
        return;
    }
    switch (field != NULL && !w->is_nested ? (enum field_role)field->role : ROLE_DATA) {
    case ROLE_TOKEN:
    case ROLE_INSERT_ID:
    case ROLE_ONWARD:
        d->act = ACT_SKIP;
        break;
    case ROLE_PERSON:
        judge_person(j, w, kind, value, d);
        return;
    case ROLE_NAMES:
        judge_name(j, w, kind, value, d);
        return;
    case ROLE_GROUP_KEY:
        judge_group_key(j, kind, value, d);
        return;
    case ROLE_EVENT_NAME:
        judge_event_leaf(j, value, d);
        return;
    case ROLE_TIME:
        d->act = j->p->in->protocol->names.at_root || w->place == PLACE_EVENT_PROPERTY
                     ? ACT_SKIP
                     : ACT_WITHHOLD;
        break;
    case ROLE_CALL:
        d->class_id = field->class_id;
        d->form = (struct form){FORM_RAW, LEVEL_NONE};
        d->act = kind == JSON_STRING ? ACT_KEEP : ACT_WITHHOLD;
        d->because = BECAUSE_CONNECTOR;
        return;
    case ROLE_GROUP_ID:
        d->act = field_is_delete(field) && value.n == 0 ? ACT_KEEP : ACT_WITHHOLD;
        break;
    case ROLE_DATA:
    case ROLE_PROPERTIES:
    case ROLE_OPERATION:
    case ROLE_PLUMBING:
        break;
    }
    if (d->act == ACT_WITHHOLD) {
        judge_data(j, w, field, plan, kind, value, d);
    } else {
        d->class_id = field->class_id;
        d->because = BECAUSE_CONNECTOR;
    }
}

/* -- the meet ------------------------------------------------------------------------------------------ */

static void meet(struct decision *all, const struct decision *one) {
    if (one->act == ACT_WITHHOLD || all->act == ACT_WITHHOLD) {
        bool both = one->act == ACT_WITHHOLD && all->act == ACT_WITHHOLD;
        bool keep = all->act == ACT_WITHHOLD && (!both || all->reason <= one->reason);
        if (!keep) {
            *all = *one;
        }
        return;
    }
    if (one->act == ACT_SKIP || all->act == ACT_SKIP) {
        return;
    }
    struct form form = form_meet(all->form, one->form);
    uint8_t act = all->act == ACT_KEEP ? all->act : one->act;
    bool is_time = all->is_time || one->is_time;
    *all = *one;
    all->is_time = is_time;
    all->form = form;
    all->act = act;
    if (form.id == FORM_DROP && act == ACT_SHAPE) {
        all->act = ACT_WITHHOLD;
        all->reason = REASON_NOT_ALLOWED;
    }
}

struct class_rule policy_class(const struct policy *p, uint16_t class_id) {
    if (p->judging != NULL) {
        return ruleset_classes(p->judging, p->given)[class_id];
    }
    struct class_rule all =
        ruleset_classes(p->in->rulesets[p->in->ruleset_count - 1], p->given)[class_id];
    for (size_t i = 0; i + 1 < p->in->ruleset_count; i++) {
        const struct class_rule *one = &ruleset_classes(p->in->rulesets[i], p->given)[class_id];
        all.form = form_meet(all.form, one->form);
        if (one->state != CLASS_OPEN && all.state == CLASS_OPEN) {
            all = *one;
        }
    }
    if (all.state == CLASS_OPEN && all.form.id == FORM_DROP) {
        all.state = CLASS_CLOSED;
    }
    return all;
}

/* -- the walk ------------------------------------------------------------------------------------------ */

/*
 * The name under which an object's member is declared: its key, or a path below keys without a place. It is noted in p->path where members of
 * its own may follow.
 */
static struct span member_name(struct policy *p, const struct walk *w, struct span key,
                               uint32_t value, uint16_t *ret_path_size) {
    size_t start = w->path_size;
    bool is_leaf = p->tokens[value].kind != JSON_OBJECT && p->tokens[value].kind != JSON_ARRAY;
    if (start == 0 && is_leaf) {
        return key;
    }
    if (start + 1 + key.n > sizeof p->path) {
        return SPAN_NONE;
    }
    if (start != 0) {
        p->path[start++] = '.';
    }
    memcpy(p->path + start, key.p, key.n);
    *ret_path_size = (uint16_t)(start + key.n);
    return span_of(p->path, start + key.n);
}

/* A key whose own text is personal data: nothing below it leaves, since the name would go with it. */
static uint8_t key_reason(struct judge *j, uint32_t key) {
    const struct record_event *event = j->p->in->event;
    uint8_t reason = REASON_NONE;
    if (BH_LIKELY(!has_finding(j->p, key, &j->finding_next))) {
        return REASON_NONE;
    }
    for (uint32_t i = j->finding_next; i < event->finding_count && event->findings[i].leaf == key;
         i++) {
        uint16_t class_id = event->findings[i].class_id;
        const struct class_rule *rule = &j->classes[class_id < CLASS_LIMIT ? class_id : 0];
        if (rule->state == CLASS_NEVER_OPEN) {
            return REASON_NEVER;
        }
        if (rule->state != CLASS_OPEN || rule->form.id != FORM_RAW) {
            reason = rule->state == CLASS_NO_CONSENT ? REASON_NO_CONSENT : REASON_NOT_ALLOWED;
        }
    }
    return reason;
}

static void push(struct policy *p, const struct walk *w) {
    check(p->depth < WALK_DEPTH_MAX);
    p->walks[p->depth++] = *w;
}

/* An object that is itself no data (properties, an operation, the context) is one object, not a list. */
static bool is_structure(const struct field *field) {
    return field->class_id == CLASS_NONE;
}

/* A value, after its key is understood: a container is entered, a leaf decided. */
/* NOLINTNEXTLINE(readability-function-cognitive-complexity): the rules in the order of their weight */
static void judge_value(struct judge *j, const struct walk *parent, uint32_t token,
                        const struct field *field, const struct rule_field *plan,
                        uint16_t path_size, uint8_t reason) {
    struct policy *p = j->p;
    const struct json_token *t = &p->tokens[token];
    bool is_container = t->kind == JSON_OBJECT || t->kind == JSON_ARRAY;
    bool has_inside = field != NULL && field->inside != PLACE_NONE && !parent->is_nested;
    if (t->kind == JSON_ARRAY && has_inside && is_structure(field)) {
        reason =
            REASON_WRONG_TYPE; /* several operations in one: the resolver would not have looked into them */
    }
    if (is_container && field != NULL && field->role == ROLE_ONWARD && !parent->is_nested) {
        reason = REASON_NOT_ALLOWED; /* nothing for a person to decide */
    }
    if (is_container && parent->is_array && plan != NULL && plan->has_distinct) {
        reason = REASON_MAX_DISTINCT; /* nor does it count what lies deeper than a list */
    }
    if (is_container && parent->is_array && field != NULL && field->role == ROLE_PERSON) {
        reason = REASON_WRONG_TYPE; /* nor does it read ids there */
    }
    if (is_container && (t->next > token + 1 || has_inside)) {
        struct walk w = {.end = t->next,
                         .start = token,
                         .key = parent->is_array ? 0 : token - 1,
                         .is_array = t->kind == JSON_ARRAY,
                         .section = parent->section,
                         .field = field,
                         .plan = plan,
                         .path_size = path_size,
                         .place = parent->place,
                         .is_nested = parent->is_nested,
                         .is_withheld = parent->is_withheld,
                         .withheld_reason = parent->withheld_reason};
        if (reason != REASON_NONE) {
            w.is_withheld = true;
            w.withheld_reason = reason;
        }
        if (!w.is_array) {
            w.place = has_inside ? field->inside : (uint8_t)PLACE_NONE;
            w.is_nested = !has_inside;
            w.section = has_inside ? field->inside : parent->section;
            w.path_size = has_inside ? 0 : path_size;
        }
        push(p, &w);
        if (!p->is_fused) {
            withhold(&p->decisions[token], REASON_EMPTY, field, plan); /* until a member leaves */
        }
        return;
    }
    struct decision other;
    struct decision *d = j->is_first && !p->is_fused ? &p->decisions[token] : &other;
    withhold(d,
             reason != REASON_NONE ? reason
             : parent->is_withheld ? parent->withheld_reason
                                   : (uint8_t)REASON_UNDECLARED,
             field, plan);
    if (!parent->is_withheld && reason == REASON_NONE) {
        judge_leaf(j, parent, token, field, plan, d);
        if (p->judging != NULL && (d->act == ACT_SHAPE || d->act == ACT_KEEP)) {
            policy_check_found(p, token, d, &j->finding_next);
        }
    }
    if (p->is_fused) {
        policy_write_leaf(p, parent->is_array ? 0 : token - 1, token, d);
    } else if (!j->is_first) {
        meet(&p->decisions[token], d);
    }
}

/* What a key of a place means. Whole names that table or plan know are found at once. */
static void understand(const struct judge *j, const struct walk *w, struct span key, uint64_t hash,
                       const struct field **ret_field, const struct rule_field **ret_plan) {
    /* They were joined for the connector's own protocol. */
    const struct key_rule *rule = j->rules->connector == j->p->in->protocol
                                      ? names_find(&j->rules->keys[w->place], key, hash)
                                      : NULL;
    if (rule != NULL &&
        (j->event == NULL || !j->has_own_properties || w->place != PLACE_EVENT_PROPERTY)) {
        *ret_field = rule->field;
        *ret_plan = rule->plan;
        return;
    }
    *ret_field = rule != NULL ? rule->field : table_find(j->p->in->protocol, w->place, key);
    *ret_plan = plan_of(j, w->section, key, hash);
}

/*
 * Text beside the properties (a page's name) is what the plan says of a property of that name. Its distinct values
 * are not counted there.
 */
static const struct rule_field *plan_of_text(const struct judge *j, const struct walk *w,
                                             const struct field *field, struct span key,
                                             uint64_t hash) {
    if (w->place != PLACE_EVENT || field == NULL || field->type != TYPE_TEXT ||
        field->role != ROLE_DATA) {
        return NULL;
    }
    const struct rule_field *plan = plan_of(j, PLACE_EVENT_PROPERTY, key, hash);
    return plan != NULL && !plan->has_distinct ? plan : NULL;
}

/* False: the item ends here (J2). */
static bool judge_member(struct judge *j, const struct walk *w, uint32_t key_token) {
    struct policy *p = j->p;
    struct span key = policy_key(p, key_token);
    uint8_t reason = key_reason(j, key_token);
    uint64_t hash = name_hash(key);
    if (j->is_first && !note_key(p, w->start, hash)) {
        p->is_broken = true;
        p->reason = p->reason == REASON_NONE ? (uint8_t)REASON_MALFORMED : p->reason;
        return false;
    }
    const struct field *field = NULL;
    const struct rule_field *plan = NULL;
    uint16_t path_size = 0;
    struct span name =
        key.n <= KEY_BYTES_MAX ? member_name(p, w, key, key_token + 1, &path_size) : SPAN_NONE;
    if (name.p == NULL && reason == REASON_NONE) {
        reason =
            REASON_UNDECLARED; /* too long for any declaration, and it would go with what stands below it */
    }
    if (w->is_nested) {
        field = w->field;
        plan = name.p != NULL ? plan_of(j, w->section, name, name_hash(name)) : NULL;
    } else if (name.p != NULL) {
        understand(j, w, key, hash, &field, &plan);
        plan = plan != NULL ? plan : plan_of_text(j, w, field, key, hash);
    }
    judge_value(j, w, key_token + 1, field, plan, path_size, reason);
    return true;
}

static bool judge_walk(struct judge *j) {
    struct policy *p = j->p;
    uint8_t place = p->in->protocol->root_place((enum event_kind)p->in->event->kind);
    p->depth = 0;
    push(p, &(struct walk){.end = p->tokens[0].next, .place = place, .section = place});
    uint32_t at = 1;
    while (p->depth > 0) {
        struct walk *w = &p->walks[p->depth - 1];
        if (at >= w->end) {
            policy_leave(p);
            continue;
        }
        if (w->is_array) {
            uint32_t element = at;
            at = p->tokens[at].kind == JSON_OBJECT || p->tokens[at].kind == JSON_ARRAY
                     ? at + 1
                     : p->tokens[at].next;
            judge_value(j, w, element, w->field, w->plan, w->path_size, REASON_NONE);
        } else {
            uint32_t value = at + 1;
            uint32_t key = at;
            at = p->tokens[value].kind == JSON_OBJECT || p->tokens[value].kind == JSON_ARRAY
                     ? value + 1
                     : p->tokens[value].next;
            if (!judge_member(j, w, key)) {
                return false;
            }
        }
    }
    return true;
}

/* -- the item as a whole --------------------------------------------------------------------------------- */

/* Token of the object's member with this role, or 0. */
static uint32_t find_role(struct policy *p, uint32_t object, uint8_t place, uint8_t role) {
    for (uint32_t t = object + 1; t < p->tokens[object].next; t = p->tokens[t].next) {
        const struct field *field =
            p->in->protocol->field((enum field_place)place, policy_key(p, t));
        if (field != NULL && field->role == role) {
            return t + 1;
        }
    }
    return 0;
}

/* The name of a group update's group: in the update itself, or in the properties of an event that says it. */
static uint32_t find_group_key(struct policy *p) {
    uint8_t place = p->in->protocol->root_place(EVENT_GROUP);
    uint32_t key = find_role(p, 0, place, ROLE_GROUP_KEY);
    uint32_t inner = key == 0 ? find_role(p, 0, place, ROLE_PROPERTIES) : 0;
    return inner != 0 && p->tokens[inner].kind == JSON_OBJECT
               ? find_role(p, inner, PLACE_EVENT_PROPERTY, ROLE_GROUP_KEY)
               : key;
}

/* The event's name: the plan's, or one that the SDK itself uses. Links leave with their ids; other names are behaviour. */
static uint8_t judge_event_name(struct judge *j) {
    struct policy *p = j->p;
    struct span name;
    j->event = NULL;
    if (p->name_token == 0 || p->tokens[p->name_token].kind != JSON_STRING ||
        !policy_value(p, p->name_token, &name)) {
        return REASON_NO_EVENT_NAME;
    }
    j->event =
        name.n <= KEY_BYTES_MAX ? names_find(&j->rules->events, name, name_hash(name)) : NULL;
    j->has_own_properties = j->event != NULL && (j->event->properties.slots != NULL ||
                                                 j->event->properties.glob_count != 0);
    bool is_reserved = j->event == NULL && p->in->protocol->is_reserved_event(name);
    if (j->event == NULL && !is_reserved) {
        return REASON_EVENT_UNDECLARED;
    }
    const struct class_rule *rule = &j->classes[CLASS_BEHAVIOR];
    if (!event_is_link(p->in->event->kind) &&
        (rule->state != CLASS_OPEN || rule->form.id != FORM_RAW)) {
        return rule->state == CLASS_NO_CONSENT ? REASON_NO_CONSENT : REASON_NOT_ALLOWED;
    }
    return REASON_NONE;
}

static void judge_ruleset(struct judge *j) {
    struct policy *p = j->p;
    uint8_t kind = p->in->event->kind;
    uint8_t reason = ruleset_feeds(j->rules, p->in->request->source)
                         ? policy_consent_reason(p, j->rules)
                         : (uint8_t)REASON_SOURCE_NOT_FED;
    p->group = NULL;
    if (kind == EVENT_GROUP) {
        uint32_t key = find_group_key(p);
        struct span name;
        if (key != 0 && p->tokens[key].kind == JSON_STRING && policy_value(p, key, &name)) {
            p->group = names_find(&j->rules->groups, name, name_hash(name));
        }
    } else if (kind != EVENT_PROFILE && reason == REASON_NONE) {
        reason = judge_event_name(j);
    }
    if (p->reason == REASON_NONE || (reason != REASON_NONE && reason < p->reason)) {
        p->reason = reason;
    }
    if (j->rules->time > p->time) {
        p->time = j->rules->time;
    }
}

/* Asked while another value lies in value_text: this one is decoded elsewhere. */
struct span policy_own_host(struct policy *p) {
    if (p->has_own_host) {
        return p->own_host;
    }
    p->has_own_host = true;
    p->own_host = SPAN_NONE;
    const char *const *keys = p->in->protocol->names.page_url;
    uint32_t url = 0;
    for (size_t i = 0; i < BH_COUNT(p->in->protocol->names.page_url) && keys[i] != NULL; i++) {
        url = i == 0 || p->tokens[url].kind == JSON_OBJECT
                  ? json_get(p->text, p->tokens, url, span_str(keys[i]))
                  : 0;
        if (url == 0) {
            break;
        }
    }
    if (url == 0 || p->tokens[url].kind != JSON_STRING ||
        p->tokens[url].len > 6 * VALUE_BYTES_MAX) {
        return SPAN_NONE;
    }
    struct buf b = buf_of(p->shaped, VALUE_BYTES_MAX);
    struct span value = json_text(p->text, &p->tokens[url], &b);
    struct span host = value.n <= VALUE_BYTES_MAX ? url_host(value) : SPAN_NONE;
    if (host.n != 0 && host.n <= sizeof p->host_text) {
        memcpy(p->host_text, host.p, host.n);
        p->own_host = span_of(p->host_text, host.n);
    }
    return p->own_host;
}

static bool asks_consent(const struct policy *p) {
    bool asks = false;
    for (size_t i = 0; i < p->in->ruleset_count; i++) {
        asks = asks || p->in->rulesets[i]->asks_consent;
    }
    return asks;
}

bool policy_judge(struct policy *p) {
    bool is_event = p->in->event->kind != EVENT_PROFILE && p->in->event->kind != EVENT_GROUP;
    p->reason = REASON_NONE;
    p->is_broken = false;
    p->has_own_host = false;
    p->time = TIME_MS;
    p->given = CONSENT_ALL;
    p->signals = signals_of_env(p->in->request->env);
    if (asks_consent(p)) {
        policy_consent_read(p);
    }
    p->name_token = is_event ? find_role(p, 0, PLACE_EVENT, ROLE_EVENT_NAME) : 0;
    if (is_event && p->name_token == 0) {
        p->name_token = find_role(p, 0, PLACE_EVENT, ROLE_CALL);
    }
    p->keys_mask = 15;
    while (p->keys_mask + 1 < (size_t)p->token_count) {
        p->keys_mask = p->keys_mask * 2 + 1; /* at least twice the keys: each has a value */
    }
    check(p->keys_mask < KEYS_SEEN);
    p->epoch = (p->epoch + 1) & 0xfffff;
    if (p->epoch == 0) {
        memset(p->keys_seen, 0, KEYS_SEEN * sizeof *p->keys_seen);
        p->epoch = 1;
    }
    for (size_t i = 0; i < p->in->ruleset_count; i++) {
        struct judge j = {.p = p, .rules = p->in->rulesets[i], .is_first = i == 0};
        j.classes = ruleset_classes(j.rules, p->given);
        judge_ruleset(&j);
        if (p->reason != REASON_NONE && p->explain == NULL) {
            continue; /* nothing of it leaves, and nobody asks about the leaves */
        }
        /* One rule set alone is asked about findings when the leaf is written; of several each has its say, then all of them. */
        p->judging = p->in->ruleset_count > 1 ? j.rules : NULL;
        if (p->is_fused) {
            policy_write_begin(p);
        }
        bool goes_on = judge_walk(&j);
        p->judging = NULL;
        if (!goes_on) {
            return false;
        }
    }
    return p->reason == REASON_NONE;
}
