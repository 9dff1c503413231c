/*
 * Rule sets: the normal form, and the tables that are read from it.
 *
 *   {"contract":{"allow":{CLASS:RULE},"connector":…,"endpoint":…,"honour":[SIGNAL],"purpose":…,"requires":[CONSENT],"retention":…,"time":…,
 *                "undeclared":…,"vendor":…},
 *    "format":2,
 *    "plan":{"consent":{"categories":{NAME:WORD},"properties":{NAME:WORD}},"events":{NAME:{PROPERTY:FIELD}},"groups":{NAME:CLASS},"properties":{NAME:FIELD},"traits":{NAME:FIELD}},
 *    "sources":[NUMBER,…],
 *    "tables":{"policy":1,"protocol":1}}
 *   RULE = FORM or {"form":FORM,"requires":[CONSENT]}
 *   FIELD = {"class":…,"enum":[…],"max_distinct":n,"pattern":…,"type":…}
 *
 * `sources` are those that feed the vendor. `tables` are the versions of the field table and of the forms under which the rule set was
 * compiled: a new version makes a new rule set, so that the ledger shows the change; the tables in use are always the program's own.
 */
#include <stdlib.h>

#include "base/check.h"
#include "base/hash.h"
#include "flow/policy/policy_int.h"

enum {
    RULESET_MAGIC = 0x72756c65,
    RULESET_JSON_MAX = 9 * 1024 * 1024,
    BLOCK_BYTES = 64 * 1024,
};

struct block {
    struct block *next;
    struct arena arena;
};

/* Reader of one normal form. `tokens` are the whole document's. */
struct rules_reader {
    struct ruleset *rules;
    struct span text;
    const struct json_token *tokens;
    struct err *err;
};

static int corrupt(struct rules_reader *r, const char *what) {
    return err_set(r->err, BH_E_CORRUPT, "a stored rule set is damaged: %s", what);
}

static void *take(struct ruleset *rules, size_t size) {
    void *at = rules->blocks != NULL && size <= BLOCK_BYTES / 4
                   ? arena_take(&rules->blocks->arena, size)
                   : NULL;
    if (at == NULL) {
        size_t room = size > BLOCK_BYTES / 4 ? size + 64 : BLOCK_BYTES;
        struct block *block = malloc(sizeof *block + room + 16);
        if (block == NULL) {
            return NULL;
        }
        arena_init(&block->arena, block + 1, room + 16);
        at = arena_take(&block->arena, size);
        block->next = rules->blocks;
        rules->blocks = block;
    }
    check(at != NULL);
    memset(at, 0, size);
    return at;
}

/* Decoded text of a string or key token, kept with the rule set. */
static int take_text(struct rules_reader *r, const struct json_token *token,
                     struct span *ret_text) {
    uint8_t *memory = take(r->rules, token->len + 1);
    if (memory == NULL) {
        return BH_E_NOMEM;
    }
    struct buf b = buf_of(memory, token->len);
    json_unescape(json_span(r->text, token), &b);
    *ret_text = buf_span(&b);
    return b.full ? corrupt(r, "an escape") : 0;
}

static uint32_t member(const struct rules_reader *r, uint32_t object, const char *key) {
    return json_get(r->text, r->tokens, object, span_str(key));
}

static bool is_kind(const struct rules_reader *r, uint32_t token, enum json_kind kind) {
    return token != 0 && r->tokens[token].kind == kind;
}

static struct span raw_member(const struct rules_reader *r, uint32_t object, const char *key) {
    uint32_t token = member(r, object, key);
    return is_kind(r, token, JSON_STRING) ? json_span(r->text, &r->tokens[token]) : SPAN_NONE;
}

/* -- names ----------------------------------------------------------------------------------------- */

bool glob_matches(struct span glob, struct span name) {
    size_t g = 0;
    size_t star = SIZE_MAX;
    size_t resume = 0;
    for (size_t i = 0; i < name.n;) {
        if (g < glob.n && glob.p[g] == '*') {
            star = g++;
            resume = i;
        } else if (g < glob.n && glob.p[g] == name.p[i]) {
            g++;
            i++;
        } else if (star != SIZE_MAX) {
            g = star + 1;
            i = ++resume;
        } else {
            return false;
        }
    }
    while (g < glob.n && glob.p[g] == '*') {
        g++;
    }
    return g == glob.n;
}

const void *names_find(const struct names *names, struct span name, uint64_t hash) {
    if (names->slots != NULL) {
        for (size_t i = hash & names->mask; names->slots[i].value != NULL;
             i = (i + 1) & names->mask) {
            if (names->slots[i].hash == hash && name_equal(names->slots[i].name, name)) {
                return names->slots[i].value;
            }
        }
    }
    for (size_t i = 0; i < names->glob_count; i++) {
        if (glob_matches(names->globs[i].name, name)) {
            return names->globs[i].value;
        }
    }
    return NULL;
}

static size_t literal_bytes(struct span glob) {
    size_t n = 0;
    for (size_t i = 0; i < glob.n; i++) {
        n += glob.p[i] != '*';
    }
    return n;
}

/* The most literal first; equal ones by their bytes, so that the order never depends on the file's. */
static int compare_globs(const void *a, const void *b) {
    const struct name_slot *x = a;
    const struct name_slot *y = b;
    size_t nx = literal_bytes(x->name);
    size_t ny = literal_bytes(y->name);
    if (nx != ny) {
        return nx > ny ? -1 : 1;
    }
    size_t n = x->name.n < y->name.n ? x->name.n : y->name.n;
    int order = memcmp(x->name.p, y->name.p, n);
    return order != 0 ? order : (x->name.n > y->name.n) - (x->name.n < y->name.n);
}

static bool is_glob(struct span name, bool are_whole) {
    return !are_whole && span_find_byte(name, '*') != SIZE_MAX;
}

static int names_build(struct ruleset *rules, struct name_slot *entries, size_t count,
                       bool are_whole, struct names *ret_names) {
    size_t glob_count = 0;
    for (size_t i = 0; i < count; i++) {
        glob_count += is_glob(entries[i].name, are_whole);
    }
    size_t slots = 4;
    while (slots < 2 * (count - glob_count)) {
        slots *= 2;
    }
    struct name_slot *table = take(rules, slots * sizeof *table);
    struct name_slot *globs = take(rules, (glob_count + 1) * sizeof *globs);
    if (table == NULL || globs == NULL) {
        return BH_E_NOMEM;
    }
    size_t g = 0;
    for (size_t i = 0; i < count; i++) {
        if (is_glob(entries[i].name, are_whole)) {
            globs[g++] = entries[i];
            continue;
        }
        size_t at = entries[i].hash & (slots - 1);
        while (table[at].value != NULL) {
            at = (at + 1) & (slots - 1);
        }
        table[at] = entries[i];
    }
    qsort(globs, glob_count, sizeof *globs, compare_globs);
    *ret_names = (struct names){count == glob_count ? NULL : table, slots - 1, globs, glob_count};
    return 0;
}

/* -- fields ---------------------------------------------------------------------------------------- */

static int compare_spans(const void *a, const void *b) {
    const struct span *x = a;
    const struct span *y = b;
    if (x->n != y->n) {
        return x->n < y->n ? -1 : 1;
    }
    return x->n != 0 ? memcmp(x->p, y->p, x->n) : 0;
}

static int read_enum(struct rules_reader *r, uint32_t list, struct rule_field *field) {
    if (!is_kind(r, list, JSON_ARRAY)) {
        return corrupt(r, "enum");
    }
    size_t count = 0;
    for (uint32_t t = list + 1; t < r->tokens[list].next; t = r->tokens[t].next) {
        count++;
    }
    struct span *values = take(r->rules, (count + 1) * sizeof *values);
    if (values == NULL) {
        return BH_E_NOMEM;
    }
    size_t n = 0;
    for (uint32_t t = list + 1; t < r->tokens[list].next; t = r->tokens[t].next) {
        int rc = is_kind(r, t, JSON_STRING) ? take_text(r, &r->tokens[t], &values[n++])
                                            : corrupt(r, "enum");
        if (rc != 0) {
            return rc;
        }
    }
    qsort(values, n, sizeof *values, compare_spans);
    field->enums = values;
    field->enum_count = (uint32_t)n;
    return 0;
}

static int read_pattern(struct rules_reader *r, uint32_t token, struct rule_field *field) {
    struct ruleset *rules = r->rules;
    struct span text = SPAN_NONE;
    int rc = is_kind(r, token, JSON_STRING) ? take_text(r, &r->tokens[token], &text)
                                            : corrupt(r, "pattern");
    if (rc != 0) {
        return rc;
    }
    /* NOLINTNEXTLINE(bugprone-sizeof-expression): an array of pointers */
    struct pattern **moved = realloc(rules->patterns, (rules->pattern_count + 1) * sizeof *moved);
    if (moved == NULL) {
        return BH_E_NOMEM;
    }
    rules->patterns = moved;
    const char *problem = NULL;
    size_t offset = 0;
    struct pattern *pattern = pattern_new(text, &problem, &offset);
    if (pattern == NULL) {
        return corrupt(r, "pattern");
    }
    rules->patterns[rules->pattern_count++] = pattern;
    field->pattern = pattern;
    return 0;
}

static uint8_t type_of(struct span word) {
    static const char *const words[] = {"boolean", "number", "string", "url", "time"};
    for (size_t i = 0; i < BH_COUNT(words); i++) {
        if (span_is(word, words[i])) {
            return (uint8_t)(i + 1);
        }
    }
    return 0;
}

static int read_field(struct rules_reader *r, uint32_t object, struct span name,
                      const char *section, const struct rule_field **ret_field) {
    struct rule_field *field = take(r->rules, sizeof *field);
    if (field == NULL) {
        return BH_E_NOMEM;
    }
    if (!is_kind(r, object, JSON_OBJECT)) {
        return corrupt(r, "a property");
    }
    field->name = name;
    field->section = section;
    field->property = hash64(name.p, name.n, 0);
    field->domain = DOMAIN_VALUE;
    field->class_id = class_by_name(raw_member(r, object, "class"));
    field->type = type_of(raw_member(r, object, "type"));
    if (field->class_id == CLASS_NONE || (field->type == 0 && !class_is_never(field->class_id))) {
        return corrupt(r, "the class or type of a property");
    }
    int rc = 0;
    uint32_t token = member(r, object, "enum");
    if (token != 0) {
        rc = read_enum(r, token, field);
    }
    token = member(r, object, "pattern");
    if (rc == 0 && token != 0) {
        rc = read_pattern(r, token, field);
    }
    field->has_distinct = member(r, object, "max_distinct") != 0;
    field->is_bounded = field->has_distinct || field->enum_count != 0 || field->pattern != NULL;
    bool is_free = field->type == RULE_STRING && !field->is_bounded;
    if (rc == 0 && is_free && (class_flags(field->class_id) & CLASS_ID) == 0 &&
        !class_is_never(field->class_id)) {
        rc = corrupt(r, "a string without bounds");
    }
    *ret_field = field;
    return rc;
}

static int read_group(struct rules_reader *r, uint32_t token, struct span name,
                      const struct rule_field **ret_field) {
    struct rule_field *field = take(r->rules, sizeof *field);
    if (field == NULL) {
        return BH_E_NOMEM;
    }
    uint16_t class_id = is_kind(r, token, JSON_STRING)
                            ? class_by_name(json_span(r->text, &r->tokens[token]))
                            : CLASS_NONE;
    if (class_id == CLASS_NONE) {
        return corrupt(r, "the class of a group");
    }
    *field = (struct rule_field){.name = name,
                                 .section = "group",
                                 .property = hash64(name.p, name.n, 0),
                                 .class_id = class_id,
                                 .type = RULE_ID,
                                 .domain = DOMAIN_ORGANISATION};
    *ret_field = field;
    return 0;
}

/* One section of the plan: events hold sections of their own. */
static int read_section(struct rules_reader *r, uint32_t object, const char *section,
                        struct names *ret_names) {
    if (!is_kind(r, object, JSON_OBJECT)) {
        return corrupt(r, section);
    }
    uint32_t end = r->tokens[object].next;
    size_t count = 0;
    for (uint32_t t = object + 1; t < end; t = r->tokens[t].next) {
        count++;
    }
    struct name_slot *entries = calloc(count + 1, sizeof *entries);
    int rc = entries == NULL ? BH_E_NOMEM : 0;
    size_t n = 0;
    for (uint32_t t = object + 1; t < end && rc == 0; t = r->tokens[t].next, n++) {
        rc = take_text(r, &r->tokens[t], &entries[n].name);
        const struct rule_field *field = NULL;
        if (rc == 0) {
            entries[n].hash = name_hash(entries[n].name);
            rc = strcmp(section, "group") == 0
                     ? read_group(r, t + 1, entries[n].name, &field)
                     : read_field(r, t + 1, entries[n].name, section, &field);
        }
        entries[n].value = field;
    }
    if (rc == 0) {
        rc = names_build(r->rules, entries, n, false, ret_names);
    }
    free(entries);
    return rc;
}

static int read_events(struct rules_reader *r, uint32_t object) {
    if (!is_kind(r, object, JSON_OBJECT)) {
        return corrupt(r, "events");
    }
    uint32_t end = r->tokens[object].next;
    size_t count = 0;
    for (uint32_t t = object + 1; t < end; t = r->tokens[t].next) {
        count++;
    }
    struct name_slot *entries = calloc(count + 1, sizeof *entries);
    int rc = entries == NULL ? BH_E_NOMEM : 0;
    size_t n = 0;
    for (uint32_t t = object + 1; t < end && rc == 0; t = r->tokens[t].next, n++) {
        struct rule_event *event = take(r->rules, sizeof *event);
        rc = event == NULL ? BH_E_NOMEM : take_text(r, &r->tokens[t], &event->name);
        if (rc == 0) {
            entries[n] = (struct name_slot){name_hash(event->name), event->name, event};
            rc = read_section(r, t + 1, "property", &event->properties);
        }
    }
    if (rc == 0) {
        rc = names_build(r->rules, entries, n, false, &r->rules->events);
    }
    free(entries);
    return rc;
}

/* A name's word under `consent: properties` or `consent: categories`, kept with the rule set; NULL with CORRUPT or NOMEM. */
static int read_consent_word(struct rules_reader *r, struct span word, bool is_category,
                             const void **ret_value) {
    if (is_category) {
        uint8_t *bit = take(r->rules, sizeof *bit);
        if (bit == NULL) {
            return BH_E_NOMEM;
        }
        *bit = consent_by_name(word);
        *ret_value = bit;
        return *bit != 0 ? 0 : corrupt(r, "a category of consent");
    }
    struct consent_rule *rule = take(r->rules, sizeof *rule);
    if (rule == NULL) {
        return BH_E_NOMEM;
    }
    *rule = (struct consent_rule){consent_by_name(word), signal_by_name(word),
                                  span_is(word, "categories")};
    *ret_value = rule;
    return rule->consents != 0 || rule->signals != 0 || rule->is_categories
               ? 0
               : corrupt(r, "a property of consent");
}

static int read_consent_names(struct rules_reader *r, uint32_t object, bool are_categories,
                              struct names *ret_names) {
    if (!is_kind(r, object, JSON_OBJECT)) {
        return corrupt(r, "consent");
    }
    uint32_t end = r->tokens[object].next;
    size_t count = 0;
    for (uint32_t t = object + 1; t < end; t = r->tokens[t].next) {
        count++;
    }
    struct name_slot *entries = calloc(count + 1, sizeof *entries);
    int rc = entries == NULL ? BH_E_NOMEM : 0;
    size_t n = 0;
    for (uint32_t t = object + 1; t < end && rc == 0; t = r->tokens[t].next, n++) {
        rc = take_text(r, &r->tokens[t], &entries[n].name);
        entries[n].hash = name_hash(entries[n].name);
        struct span word =
            is_kind(r, t + 1, JSON_STRING) ? json_span(r->text, &r->tokens[t + 1]) : SPAN_NONE;
        rc = rc == 0 ? read_consent_word(r, word, are_categories, &entries[n].value) : rc;
    }
    if (rc == 0) {
        rc = names_build(r->rules, entries, n, true, ret_names);
    }
    free(entries);
    return rc;
}

static int read_consent(struct rules_reader *r, uint32_t consent) {
    struct ruleset *rules = r->rules;
    int rc = 0;
    if (consent != 0) {
        rc = read_consent_names(r, member(r, consent, "categories"), true,
                                &rules->consent_categories);
        rc = rc == 0 ? read_consent_names(r, member(r, consent, "properties"), false,
                                          &rules->consent_properties)
                     : rc;
    }
    rules->asks_consent = rules->requires != 0 || rules->without != NULL ||
                          (rules->honour != 0 && rules->consent_properties.slots != NULL);
    return rc;
}

static int read_plan(struct rules_reader *r, uint32_t plan) {
    if (!is_kind(r, plan, JSON_OBJECT)) {
        return corrupt(r, "plan");
    }
    int rc = read_consent(r, member(r, plan, "consent"));
    if (rc != 0) {
        return rc;
    }
    rc = read_events(r, member(r, plan, "events"));
    if (rc == 0) {
        rc = read_section(r, member(r, plan, "properties"), "property", &r->rules->properties);
    }
    if (rc == 0) {
        rc = read_section(r, member(r, plan, "traits"), "trait", &r->rules->traits);
    }
    if (rc == 0) {
        rc = read_section(r, member(r, plan, "groups"), "group", &r->rules->groups);
    }
    return rc;
}

/* -- contract -------------------------------------------------------------------------------------- */

static bool form_read(struct span word, struct form *ret_form) {
    size_t colon = span_find_byte(word, ':');
    struct span name = span_cut(word, 0, colon);
    *ret_form = (struct form){form_by_name(name), LEVEL_NONE};
    if (colon != SIZE_MAX) {
        struct span level = span_from(word, colon + 1);
        ret_form->level = span_is(level, "net") ? (uint8_t)LEVEL_NET : level_by_name(level);
    }
    return ret_form->id != FORM_NONE &&
           (ret_form->id == FORM_COARSE) == (ret_form->level != LEVEL_NONE);
}

/* A line of `allow`. */
struct line {
    struct form form;
    uint8_t requires; /* enum consent_bit */
};

/* The line that decides a class: its own, else the nearest ancestor's, unless something on the way needs its own line. */
static void decide_class(struct ruleset *rules, const struct line lines[CLASS_LIMIT],
                         uint16_t class_id) {
    struct class_rule *rule = &rules->classes[class_id];
    *rule = (struct class_rule){{FORM_DROP, LEVEL_NONE}, CLASS_NONE, CLASS_CLOSED, 0};
    if (class_is_never(class_id)) {
        rule->state = CLASS_NEVER_OPEN;
        return;
    }
    for (uint16_t c = class_id; c != CLASS_NONE; c = class_parent(c)) {
        if (lines[c].form.id != FORM_NONE) {
            rule->rule_class = c;
            break;
        }
        if ((class_flags(c) & CLASS_OWN_LINE) != 0) {
            return;
        }
    }
    if (rule->rule_class == CLASS_NONE) {
        return;
    }
    struct form form = lines[rule->rule_class].form;
    rule->requires = lines[rule->rule_class].requires;
    if (!form_fits_class(form, class_id)) {
        rule->state = CLASS_UNFIT;
    } else if (form.id != FORM_DROP) {
        rule->form = form;
        rule->state = CLASS_OPEN;
    }
}

/* A list of words, each with this prefix, as bits; an absent one is empty. */
static int read_bits(struct rules_reader *r, uint32_t list, const char *prefix,
                     uint8_t (*bit_of)(struct span word), uint8_t *ret_bits) {
    *ret_bits = 0;
    if (list == 0) {
        return 0;
    }
    if (!is_kind(r, list, JSON_ARRAY)) {
        return corrupt(r, "a list of consents or signals");
    }
    for (uint32_t t = list + 1; t < r->tokens[list].next; t = r->tokens[t].next) {
        struct span word =
            is_kind(r, t, JSON_STRING) ? json_span(r->text, &r->tokens[t]) : SPAN_NONE;
        uint8_t bit =
            span_starts(word, span_str(prefix)) ? bit_of(span_from(word, strlen(prefix))) : 0;
        if (bit == 0) {
            return corrupt(r, "a word of consent");
        }
        *ret_bits |= bit;
    }
    return 0;
}

static int read_line(struct rules_reader *r, uint32_t value, struct line *ret_line) {
    uint32_t form = value;
    ret_line->requires = 0;
    if (is_kind(r, value, JSON_OBJECT)) {
        form = member(r, value, "form");
        int rc = read_bits(r, member(r, value, "requires"), "consent.", consent_by_name,
                           &ret_line->requires);
        if (rc != 0) {
            return rc;
        }
    }
    return is_kind(r, form, JSON_STRING) &&
                   form_read(json_span(r->text, &r->tokens[form]), &ret_line->form)
               ? 0
               : corrupt(r, "allow");
}

/* The classes for every set of consents, so that nothing of it is asked leaf by leaf. */
static int build_without(struct ruleset *rules) {
    bool any = false;
    for (unsigned c = 0; c < CLASS_LIMIT; c++) {
        any = any || (rules->classes[c].state == CLASS_OPEN && rules->classes[c].requires != 0);
    }
    if (!any) {
        return 0;
    }
    struct class_rule(*tables)[CLASS_LIMIT] = take(rules, CONSENT_SETS * sizeof *tables);
    if (tables == NULL) {
        return BH_E_NOMEM;
    }
    for (unsigned given = 0; given < CONSENT_SETS; given++) {
        memcpy(tables[given], rules->classes, sizeof rules->classes);
        for (unsigned c = 0; c < CLASS_LIMIT; c++) {
            struct class_rule *rule = &tables[given][c];
            if (rule->state == CLASS_OPEN && (rule->requires & ~given) != 0) {
                rule->state = CLASS_NO_CONSENT;
                rule->form = (struct form){FORM_DROP, LEVEL_NONE};
            }
        }
    }
    rules->without = (const struct class_rule(*)[CLASS_LIMIT])tables;
    return 0;
}

static int read_allow(struct rules_reader *r, uint32_t allow) {
    struct line lines[CLASS_LIMIT];
    memset(lines, 0, sizeof lines);
    if (!is_kind(r, allow, JSON_OBJECT)) {
        return corrupt(r, "allow");
    }
    for (uint32_t t = allow + 1; t < r->tokens[allow].next; t = r->tokens[t].next) {
        uint16_t class_id = class_by_name(json_span(r->text, &r->tokens[t]));
        if (class_id == CLASS_NONE) {
            return corrupt(r, "allow");
        }
        int rc = read_line(r, t + 1, &lines[class_id]);
        if (rc != 0) {
            return rc;
        }
    }
    unsigned count = 0;
    const uint16_t *all = class_all(&count);
    for (unsigned i = 0; i < count; i++) {
        decide_class(r->rules, lines, all[i]);
    }
    return build_without(r->rules);
}

static int read_contract_rules(struct rules_reader *r, uint32_t contract) {
    static const char *const times[] = {"ms", "second", "minute", "hour"};
    if (!is_kind(r, contract, JSON_OBJECT)) {
        return corrupt(r, "contract");
    }
    struct span time = raw_member(r, contract, "time");
    for (unsigned i = 0; i < BH_COUNT(times); i++) {
        if (span_is(time, times[i])) {
            r->rules->time = (uint8_t)(i + 1);
        }
    }
    struct span undeclared = raw_member(r, contract, "undeclared");
    r->rules->undeclared_drop = span_is(undeclared, "drop");
    r->rules->connector = protocol_by_name(raw_member(r, contract, "connector"));
    if (r->rules->time == 0 || (!r->rules->undeclared_drop && !span_is(undeclared, "hold")) ||
        r->rules->connector == NULL) {
        return corrupt(r, "contract");
    }
    int rc = read_bits(r, member(r, contract, "requires"), "consent.", consent_by_name,
                       &r->rules->requires);
    if (rc == 0) {
        rc = read_bits(r, member(r, contract, "honour"), "", signal_by_name, &r->rules->honour);
    }
    return rc == 0 ? read_allow(r, member(r, contract, "allow")) : rc;
}

static int read_sources(struct rules_reader *r, uint32_t list) {
    if (!is_kind(r, list, JSON_ARRAY)) {
        return corrupt(r, "sources");
    }
    for (uint32_t t = list + 1; t < r->tokens[list].next; t = r->tokens[t].next) {
        int64_t number;
        if (!is_kind(r, t, JSON_NUMBER) ||
            !json_integer(json_span(r->text, &r->tokens[t]), &number) || number < 0 ||
            number > UINT16_MAX) {
            return corrupt(r, "sources");
        }
        r->rules->fed[number >> 6] |= UINT64_C(1) << (number & 63);
    }
    return 0;
}

/* -- whole keys ------------------------------------------------------------------------------------ */

/* Adds the names of a section to a list of names. */
static size_t list_section(const struct names *section, struct name_slot *out) {
    size_t n = 0;
    for (size_t i = 0; section->slots != NULL && i <= section->mask; i++) {
        if (section->slots[i].value != NULL) {
            out[n++] = section->slots[i];
        }
    }
    return n;
}

static int compare_slots(const void *a, const void *b) {
    const struct name_slot *x = a;
    const struct name_slot *y = b;
    return compare_spans(&x->name, &y->name);
}

/* Values that stand beside operations are declared as those inside them. */
static uint8_t value_section(uint8_t place) {
    return place == PLACE_USER_PROPERTIES    ? PLACE_PROFILE_VALUE
           : place == PLACE_GROUP_PROPERTIES ? PLACE_GROUP_VALUE
                                             : place;
}

const struct rule_field *plan_find(const struct ruleset *rules, uint8_t section, struct span name,
                                   uint64_t hash) {
    const struct rule_field *found = NULL;
    section = value_section(section);
    if (section == PLACE_EVENT_PROPERTY || section == PLACE_PROFILE_VALUE ||
        section == PLACE_GROUPS) {
        found = names_find(&rules->groups, name, hash);
    }
    if (found == NULL && section == PLACE_EVENT_PROPERTY) {
        found = names_find(&rules->properties, name, hash);
    } else if (found == NULL && (section == PLACE_PROFILE_VALUE || section == PLACE_GROUP_VALUE)) {
        found = names_find(&rules->traits, name, hash);
    }
    return found;
}

/* What comes after a prefix of the table is the sender's choice, so it must be a plain word. */
static bool is_plain_key(struct span key) {
    for (size_t i = 0; i < key.n; i++) {
        uint8_t c = key.p[i];
        bool good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == '$' ||
                    (c >= '0' && c <= '9');
        if (!good) {
            return false;
        }
    }
    return key.n <= 64;
}

const struct field *table_find(const struct protocol_ops *protocol, uint8_t place,
                               struct span key) {
    const struct field *field =
        place != PLACE_NONE ? protocol->field((enum field_place)place, key) : NULL;
    return field != NULL && field->is_prefix && !is_plain_key(key) ? NULL : field;
}

/* One place's table: what protocol and plan say of each whole name that either of them knows. */
static int build_keys(struct ruleset *rules, uint8_t place, struct name_slot *list) {
    size_t row_count = 0;
    const struct field *rows = rules->connector->fields(&row_count);
    size_t n = 0;
    for (size_t i = 0; i < row_count; i++) {
        if (rows[i].place == place && !rows[i].is_prefix) {
            struct span name = span_of(rows[i].name, rows[i].name_len);
            list[n++] = (struct name_slot){name_hash(name), name, NULL};
        }
    }
    uint8_t section = value_section(place);
    if (section == PLACE_EVENT_PROPERTY || section == PLACE_PROFILE_VALUE ||
        section == PLACE_GROUPS) {
        n += list_section(&rules->groups, list + n);
    }
    if (section == PLACE_EVENT_PROPERTY) {
        n += list_section(&rules->properties, list + n);
    } else if (section == PLACE_PROFILE_VALUE || section == PLACE_GROUP_VALUE) {
        n += list_section(&rules->traits, list + n);
    }
    qsort(list, n, sizeof *list, compare_slots);
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        if (kept != 0 && span_equal(list[kept - 1].name, list[i].name)) {
            continue;
        }
        struct key_rule *rule = take(rules, sizeof *rule);
        if (rule == NULL) {
            return BH_E_NOMEM;
        }
        *rule = (struct key_rule){table_find(rules->connector, place, list[i].name),
                                  plan_find(rules, place, list[i].name, list[i].hash)};
        list[kept] = list[i];
        list[kept++].value = rule;
    }
    /* A key may hold a star of its own here: only what was found by it is kept, and as a whole name. */
    return names_build(rules, list, kept, true, &rules->keys[place]);
}

static int build_all_keys(struct ruleset *rules) {
    size_t row_count = 0;
    /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): a rule set without a connector is refused before */
    (void)rules->connector->fields(&row_count);
    size_t cap = row_count + 4;
    const struct names *const sections[] = {&rules->groups, &rules->properties, &rules->traits};
    for (size_t i = 0; i < BH_COUNT(sections); i++) {
        cap += sections[i]->slots != NULL ? sections[i]->mask + 1 : 0;
    }
    struct name_slot *list = malloc(cap * sizeof *list);
    int rc = list == NULL ? BH_E_NOMEM : 0;
    for (uint8_t place = PLACE_NONE + 1; place < PLACE_LIMIT && rc == 0; place++) {
        rc = build_keys(rules, place, list);
    }
    free(list);
    return rc;
}

static int read_rules(struct rules_reader *r) {
    int64_t format = 0;
    /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): parsed without an error: there is a root */
    if (r->tokens[0].kind != JSON_OBJECT) {
        return corrupt(r, "no object");
    }
    uint32_t token = member(r, 0, "format");
    if (!is_kind(r, token, JSON_NUMBER) ||
        !json_integer(json_span(r->text, &r->tokens[token]), &format)) {
        return corrupt(r, "format");
    }
    if (format > RULESET_FORMAT) {
        return err_set(r->err, BH_E_VERSION, "a stored rule set was written by a newer version");
    }
    int rc = read_contract_rules(r, member(r, 0, "contract"));
    if (rc == 0) {
        rc = read_plan(r, member(r, 0, "plan"));
    }
    if (rc == 0) {
        rc = read_sources(r, member(r, 0, "sources"));
    }
    if (rc == 0) {
        rc = build_all_keys(r->rules);
    }
    return rc == BH_E_NOMEM ? err_set(r->err, rc, "out of memory") : rc;
}

/* -- life ------------------------------------------------------------------------------------------ */

/* Every token takes at least two bytes of text with what separates it, the document itself apart. */
static int parse(struct span json, struct json_token **ret_tokens, struct err *err) {
    size_t cap = json.n / 2 + 2;
    struct json_token *tokens = malloc(cap * sizeof *tokens);
    if (tokens == NULL) {
        return err_set(err, BH_E_NOMEM, "out of memory");
    }
    size_t count = 0;
    size_t offset = 0;
    int rc = json_parse(json, 16, tokens, cap, &count, &offset);
    if (rc != 0) {
        free(tokens);
        return err_set(err, BH_E_CORRUPT, "a stored rule set is damaged at byte %zu", offset);
    }
    *ret_tokens = tokens;
    return 0;
}

int ruleset_read(struct span json, struct ruleset **ret_ruleset, struct err *err) {
    if (json.n > RULESET_JSON_MAX) {
        return err_set(err, BH_E_TOO_BIG, "a rule set is larger than 9 MiB");
    }
    struct json_token *tokens = NULL;
    int rc = parse(json, &tokens, err);
    if (rc != 0) {
        return rc;
    }
    struct ruleset *rules = calloc(1, sizeof *rules);
    uint8_t *copy = rules != NULL ? malloc(json.n + 1) : NULL;
    if (copy == NULL) {
        free(rules);
        free(tokens);
        return err_set(err, BH_E_NOMEM, "out of memory");
    }
    rules->magic = RULESET_MAGIC;
    memcpy(copy, json.p, json.n);
    rules->json = span_of(copy, json.n);
    struct rules_reader r = {.rules = rules, .text = rules->json, .tokens = tokens, .err = err};
    rc = read_rules(&r);
    free(tokens);
    if (rc != 0) {
        ruleset_free(rules);
        return rc;
    }
    *ret_ruleset = rules;
    return 0;
}

void ruleset_free(struct ruleset *ruleset) {
    if (ruleset == NULL) {
        return;
    }
    check(ruleset->magic == RULESET_MAGIC);
    for (size_t i = 0; i < ruleset->pattern_count; i++) {
        pattern_free(ruleset->patterns[i]);
    }
    free(ruleset->patterns);
    while (ruleset->blocks != NULL) {
        struct block *next = ruleset->blocks->next;
        free(ruleset->blocks);
        ruleset->blocks = next;
    }
    /* NOLINTNEXTLINE(performance-no-int-to-ptr): a span of our own memory */
    free((void *)(uintptr_t)ruleset->json.p);
    ruleset->magic = 0;
    free(ruleset);
}

int ruleset_write(const struct ruleset *ruleset, struct buf *out) {
    buf_put_span(out, ruleset->json);
    return out->full ? BH_E_FULL : 0;
}

bool ruleset_equal(const struct ruleset *a, const struct ruleset *b) {
    return span_equal(a->json, b->json);
}

static int compare_numbers(const void *a, const void *b) {
    const uint16_t *x = a;
    const uint16_t *y = b;
    return (*x > *y) - (*x < *y);
}

static int write_sources(const struct policy_source *sources, size_t count, struct buf *out) {
    uint16_t *numbers = malloc((count + 1) * sizeof *numbers);
    if (numbers == NULL) {
        return BH_E_NOMEM;
    }
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        if (sources[i].feeds_vendor) {
            numbers[n++] = sources[i].number;
        }
    }
    qsort(numbers, n, sizeof *numbers, compare_numbers);
    for (size_t i = 0; i < n; i++) {
        buf_printf(out, "%s%u", i == 0 ? "" : ",", numbers[i]);
    }
    free(numbers);
    return 0;
}

static int write_rules(const struct contract *contract, const struct plan *plan,
                       const struct policy_source *sources, size_t source_count, struct buf *out) {
    const struct protocol_ops *protocol = protocol_by_name(span_str(contract->connector));
    check(protocol != NULL);
    buf_put_str(out, "{\"contract\":");
    buf_put_span(out, contract->json);
    buf_printf(out, ",\"format\":%d,\"plan\":", RULESET_FORMAT);
    buf_put_span(out, plan->json);
    buf_put_str(out, ",\"sources\":[");
    int rc = write_sources(sources, source_count, out);
    buf_printf(out, "],\"tables\":{\"policy\":%d,\"protocol\":%u}}", POLICY_TABLES,
               protocol->table_version);
    return rc != 0 ? rc : out->full ? BH_E_FULL : 0;
}

int ruleset_compile(const struct contract *contract, const struct plan *plan,
                    const struct policy_source *sources, size_t source_count,
                    struct ruleset **ret_ruleset, struct err *err) {
    uint8_t *memory = malloc(2 * (size_t)RULESET_JSON_MAX);
    if (memory == NULL) {
        return err_set(err, BH_E_NOMEM, "out of memory");
    }
    struct buf text = buf_of(memory, RULESET_JSON_MAX);
    struct buf canonical = buf_of(memory + RULESET_JSON_MAX, RULESET_JSON_MAX);
    struct json_token *tokens = NULL;
    int rc = write_rules(contract, plan, sources, source_count, &text);
    if (rc != 0) {
        (void)err_set(err, rc, "cannot write the rule set: %s", bh_error_text(rc));
    }
    if (rc == 0) {
        rc = parse(buf_span(&text), &tokens, err);
    }
    if (rc == 0) {
        rc = json_canonical(buf_span(&text), tokens, &canonical);
        if (rc != 0) {
            (void)err_set(err, rc, "cannot write the rule set: %s", bh_error_text(rc));
        }
    }
    free(tokens);
    if (rc == 0) {
        rc = ruleset_read(buf_span(&canonical), ret_ruleset, err);
    }
    free(memory);
    return rc;
}

bool ruleset_lists_undeclared(const struct ruleset *ruleset) {
    return !ruleset->undeclared_drop;
}

int ruleset_of_plan(const struct plan *plan, const char *connector, struct ruleset **ret_ruleset,
                    struct err *err) {
    static const struct policy_source source = {1, "any", true};
    char room[512];
    struct buf text = buf_of(room, sizeof room);
    struct contract *contract = NULL;
    buf_printf(&text,
               "vendor: none\nconnector: %s\nendpoint: https://localhost\n"
               "credential: { env: NONE }\npurpose: analytics\nretention: 1d\nallow: {}\n",
               connector);
    int r = contract_load_text("none", buf_span(&text), &contract, err);
    r = r == 0 ? ruleset_compile(contract, plan, &source, 1, ret_ruleset, err) : r;
    contract_free(contract);
    return r;
}
