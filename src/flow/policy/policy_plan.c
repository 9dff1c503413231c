/*
 * plan.yaml: what events and properties mean, checked and turned into the plan's part of the normal form.
 *
 * A name may hold `*`, which matches any run of characters; the most literal name that fits decides. A name with a dot also names a member
 * of a nested object: `cart.total` is `total` inside `cart`. Arrays are transparent: a declaration holds for each element.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/hash.h"
#include "flow/policy/policy_int.h"

enum {
    PLAN_JSON_MAX = 8 * 1024 * 1024,
    FIELDS_MAX = 20000,
    ENUM_MAX = 1000,
    DISTINCT_MAX = 100000,
    DISTINCT_PROPERTIES_MAX = 256, /* that the resolver counts; one more would never close */
};

static const char *const type_words[] = {"boolean", "number", "string", "url", "time"};

struct plan_reader {
    struct buf out;
    struct err *err;
    struct resolve_distinct *distinct;
    size_t distinct_count;
    size_t distinct_cap;
    size_t field_count;
};

static int read_name(struct plan_reader *r, const struct yaml_node *key, const char *what) {
    struct span name = yaml_text(key);
    if (name.n == 0 || name.n > NAME_BYTES_MAX) {
        return yaml_error(r->err, key, "the name of %s has 1 to %d bytes", what, NAME_BYTES_MAX);
    }
    for (size_t i = 0; i < name.n; i++) {
        if (name.p[i] < 0x20) {
            return yaml_error(r->err, key, "the name of %s holds a control character", what);
        }
    }
    return 0;
}

/* The same property name may stand in several events: the resolver counts by name, so the least limit holds for all. */
static int add_distinct(struct plan_reader *r, const struct yaml_node *node, struct span name,
                        uint64_t limit) {
    uint64_t property = hash64(name.p, name.n, 0);
    for (size_t i = 0; i < r->distinct_count; i++) {
        if (r->distinct[i].property == property) {
            if (limit < r->distinct[i].limit) {
                r->distinct[i].limit = (uint32_t)limit;
            }
            return 0;
        }
    }
    if (r->distinct_count == DISTINCT_PROPERTIES_MAX) {
        return yaml_error(r->err, node, "more than %d properties with max_distinct",
                          DISTINCT_PROPERTIES_MAX);
    }
    if (r->distinct_count == r->distinct_cap) {
        size_t cap = r->distinct_cap * 2 + 16;
        struct resolve_distinct *moved = realloc(r->distinct, cap * sizeof *moved);
        if (moved == NULL) {
            return err_set(r->err, BH_E_NOMEM, "out of memory");
        }
        r->distinct = moved;
        r->distinct_cap = cap;
    }
    struct resolve_distinct *d = &r->distinct[r->distinct_count++];
    memset(d, 0, sizeof *d);
    d->property = property;
    d->limit = (uint32_t)limit;
    memcpy(d->name, name.p, name.n < sizeof d->name - 1 ? name.n : sizeof d->name - 1);
    return 0;
}

/* The values are checked here and sorted by the normal form's reader. */
static int write_enum(struct plan_reader *r, const struct yaml_node *list) {
    if (yaml_kind_of(list) != YAML_SEQUENCE || yaml_count(list) == 0 ||
        yaml_count(list) > ENUM_MAX) {
        return yaml_error(r->err, list,
                          "enum is a list of 1 to %d words, such as [free, plus, pro]", ENUM_MAX);
    }
    buf_put_str(&r->out, ",\"enum\":[");
    for (size_t i = 0; i < yaml_count(list); i++) {
        const struct yaml_node *value = yaml_at(list, i);
        if (yaml_kind_of(value) != YAML_SCALAR || yaml_text(value).n > 255) {
            return yaml_error(r->err, value, "a value of enum is a word of at most 255 bytes");
        }
        if (i != 0) {
            buf_put_byte(&r->out, ',');
        }
        json_put_string(&r->out, yaml_text(value));
    }
    buf_put_byte(&r->out, ']');
    return 0;
}

static int write_pattern(struct plan_reader *r, const struct yaml_node *node) {
    if (yaml_kind_of(node) != YAML_SCALAR) {
        return yaml_error(r->err, node, "pattern is a text such as '[a-z]{2}-[0-9]+'");
    }
    const char *problem = NULL;
    size_t offset = 0;
    struct pattern *pattern = pattern_new(yaml_text(node), &problem, &offset);
    if (pattern == NULL) {
        return yaml_error(r->err, node, "pattern, near its character %zu: %s", offset, problem);
    }
    pattern_free(pattern);
    buf_put_str(&r->out, ",\"pattern\":");
    json_put_string(&r->out, yaml_text(node));
    return 0;
}

static int write_distinct(struct plan_reader *r, const struct yaml_node *node, struct span name) {
    uint64_t limit = 0;
    int rc = yaml_u64(node, 1, DISTINCT_MAX, &limit, r->err);
    if (rc == 0 && span_find_byte(name, '*') != SIZE_MAX) {
        rc =
            yaml_error(r->err, node, "max_distinct counts one property, so its name cannot hold *");
    }
    if (rc == 0) {
        rc = add_distinct(r, node, name, limit);
    }
    if (rc == 0) {
        buf_put_str(&r->out, ",\"max_distinct\":");
        buf_put_u64_dec(&r->out, limit);
    }
    return rc;
}

/* A URL opens with its own class only: under user.behavior, raw for a button's name would be raw for every address. */
static int check_url_class(struct plan_reader *r, const struct yaml_node *node, uint16_t class_id) {
    bool good = class_is_never(class_id) || class_id == CLASS_CONTACT_URL ||
                class_id == CLASS_BROWSING_HISTORY || class_id == CLASS_SEARCH_HISTORY;
    return good
               ? 0
               : yaml_error(r->err, node,
                            "a url is user.behavior.browsing_history (what it is without a class), "
                            "user.behavior.search_history or user.contact.url");
}

static int read_type(struct plan_reader *r, const struct yaml_node *node, unsigned *ret_type) {
    const struct yaml_node *type = yaml_get(node, "type");
    bool bounded = yaml_get(node, "enum") != NULL || yaml_get(node, "pattern") != NULL ||
                   yaml_get(node, "max_distinct") != NULL;
    *ret_type = bounded ? RULE_STRING : 0;
    if (type == NULL) {
        return 0;
    }
    for (unsigned i = 0; i < BH_COUNT(type_words); i++) {
        if (yaml_kind_of(type) == YAML_SCALAR && span_is(yaml_text(type), type_words[i])) {
            if (bounded && i + 1 != RULE_STRING) {
                return yaml_error(r->err, type,
                                  "enum, pattern and max_distinct are for type string");
            }
            *ret_type = i + 1;
            return 0;
        }
    }
    const char *near = yaml_nearest(yaml_text(type), type_words, BH_COUNT(type_words));
    return yaml_error(r->err, type, "a type is boolean, number, string, url or time%s%s%s",
                      near != NULL ? "; did you mean '" : "", near != NULL ? near : "",
                      near != NULL ? "'?" : "");
}

static int check_bounds(struct plan_reader *r, const struct yaml_node *node, unsigned type,
                        uint16_t class_id) {
    bool bounded = yaml_get(node, "enum") != NULL || yaml_get(node, "pattern") != NULL ||
                   yaml_get(node, "max_distinct") != NULL;
    if (type == 0 && !class_is_never(class_id)) {
        return yaml_error(
            r->err, node,
            "say a type: boolean, number, url or time, or give a string its enum, pattern or max_distinct");
    }
    bool needs =
        type == RULE_STRING && !class_is_never(class_id) && (class_flags(class_id) & CLASS_ID) == 0;
    if (needs && !bounded) {
        return yaml_error(
            r->err, node,
            "a string leaves only with an enum, a pattern or max_distinct: free text may say anything");
    }
    return 0;
}

static int write_field(struct plan_reader *r, const struct yaml_node *key,
                       const struct yaml_node *node, const char *what) {
    static const char *const keys[] = {"class", "type", "enum", "pattern", "max_distinct"};
    int rc = read_name(r, key, what);
    if (rc == 0 && ++r->field_count > FIELDS_MAX) {
        rc = yaml_error(r->err, key, "more than %d properties", FIELDS_MAX);
    }
    if (rc == 0) {
        rc = yaml_only_keys(node, keys, BH_COUNT(keys), r->err);
    }
    unsigned type = 0;
    if (rc == 0) {
        rc = read_type(r, node, &type);
    }
    uint16_t class_id = type == RULE_URL ? CLASS_BROWSING_HISTORY : CLASS_BEHAVIOR;
    const struct yaml_node *class_node = yaml_get(node, "class");
    if (rc == 0 && class_node != NULL) {
        rc = class_read(class_node, &class_id, r->err);
    }
    if (rc == 0 && type == RULE_URL && class_node != NULL) {
        rc = check_url_class(r, class_node, class_id);
    }
    if (rc == 0) {
        rc = check_bounds(r, node, type, class_id);
    }
    if (rc != 0) {
        return rc;
    }
    json_put_string(&r->out, yaml_text(key));
    buf_put_str(&r->out, ":{\"class\":\"");
    buf_put_str(&r->out, class_name(class_id));
    buf_put_byte(&r->out, '"');
    const struct yaml_node *n = yaml_get(node, "enum");
    rc = n != NULL ? write_enum(r, n) : 0;
    if (rc == 0 && (n = yaml_get(node, "pattern")) != NULL) {
        rc = write_pattern(r, n);
    }
    if (rc == 0 && (n = yaml_get(node, "max_distinct")) != NULL) {
        rc = write_distinct(r, n, yaml_text(key));
    }
    if (type != 0) {
        buf_put_str(&r->out, ",\"type\":\"");
        buf_put_str(&r->out, type_words[type - 1]);
        buf_put_byte(&r->out, '"');
    }
    buf_put_byte(&r->out, '}');
    return rc;
}

/* Writes {"name":…,…}, calling `each` for every entry. An absent section is empty. */
typedef int write_entry_fn(struct plan_reader *r, const struct yaml_node *key,
                           const struct yaml_node *node, const char *what);

static int write_section(struct plan_reader *r, const struct yaml_node *node, const char *what,
                         write_entry_fn *each) {
    buf_put_byte(&r->out, '{');
    if (node != NULL && !yaml_is_null(node)) {
        if (yaml_kind_of(node) != YAML_MAPPING) {
            return yaml_error(r->err, node, "expected a mapping of names");
        }
        for (size_t i = 0; i < yaml_count(node); i++) {
            if (i != 0) {
                buf_put_byte(&r->out, ',');
            }
            int rc = each(r, yaml_key_at(node, i), yaml_at(node, i), what);
            if (rc != 0) {
                return rc;
            }
        }
    }
    buf_put_byte(&r->out, '}');
    return 0;
}

static int write_event(struct plan_reader *r, const struct yaml_node *key,
                       const struct yaml_node *node, const char *what) {
    static const char *const keys[] = {"properties"};
    int rc = read_name(r, key, what);
    if (rc == 0 && !yaml_is_null(node)) {
        rc = yaml_only_keys(node, keys, BH_COUNT(keys), r->err);
    }
    if (rc == 0 && ++r->field_count > FIELDS_MAX) {
        rc = yaml_error(r->err, key, "more than %d events and properties", FIELDS_MAX);
    }
    if (rc != 0) {
        return rc;
    }
    json_put_string(&r->out, yaml_text(key));
    buf_put_byte(&r->out, ':');
    return write_section(r, yaml_get(node, "properties"), "a property", write_field);
}

static int write_group(struct plan_reader *r, const struct yaml_node *key,
                       const struct yaml_node *node, const char *what) {
    static const char *const keys[] = {"class"};
    uint16_t class_id = CLASS_WORKPLACE;
    int rc = read_name(r, key, what);
    if (rc == 0 && span_find_byte(yaml_text(key), '*') != SIZE_MAX) {
        rc = yaml_error(r->err, key, "the name of a group cannot hold *");
    }
    if (rc == 0 && !yaml_is_null(node)) {
        rc = yaml_only_keys(node, keys, BH_COUNT(keys), r->err);
    }
    const struct yaml_node *class_node = yaml_get(node, "class");
    if (rc == 0 && class_node != NULL) {
        rc = class_read(class_node, &class_id, r->err);
    }
    if (rc == 0 && !form_fits_class((struct form){FORM_PSEUDONYM, LEVEL_NONE}, class_id)) {
        rc = yaml_error(
            r->err, class_node,
            "the class of a group is one that can be a pseudonym, such as user.workplace");
    }
    if (rc == 0) {
        json_put_string(&r->out, yaml_text(key));
        buf_put_str(&r->out, ":\"");
        buf_put_str(&r->out, class_name(class_id));
        buf_put_byte(&r->out, '"');
    }
    return rc;
}

/* What a property says of consent, or which of ours a category of another name is. */
static int write_consent_word(struct plan_reader *r, const struct yaml_node *key,
                              const struct yaml_node *node, const char *what) {
    static const char *const words[] = {"analytics",   "functional", "personalization",
                                        "advertising", "social",     "categories",
                                        "gpc",         "dnt"};
    bool is_category = strcmp(what, "a category") == 0;
    size_t count = is_category ? 5 : BH_COUNT(words);
    int rc = read_name(r, key, what);
    if (rc == 0 && ++r->field_count > FIELDS_MAX) {
        rc = yaml_error(r->err, key, "more than %d names", FIELDS_MAX);
    }
    bool good = false;
    for (size_t i = 0; rc == 0 && i < count; i++) {
        good = good || (yaml_kind_of(node) == YAML_SCALAR && span_is(yaml_text(node), words[i]));
    }
    if (rc == 0 && !good) {
        const char *near = yaml_nearest(yaml_text(node), words, count);
        rc = yaml_error(r->err, node,
                        "expected analytics, functional, personalization, advertising%s%s%s%s",
                        is_category ? " or social" : ", social, categories, gpc or dnt",
                        near != NULL ? "; did you mean '" : "", near != NULL ? near : "",
                        near != NULL ? "'?" : "");
    }
    if (rc == 0) {
        json_put_string(&r->out, yaml_text(key));
        buf_put_byte(&r->out, ':');
        json_put_string(&r->out, yaml_text(node));
    }
    return rc;
}

static int write_consent(struct plan_reader *r, const struct yaml_node *node) {
    static const char *const keys[] = {"properties", "categories"};
    int rc = yaml_only_keys(node, keys, BH_COUNT(keys), r->err);
    if (rc == 0) {
        buf_put_str(&r->out, "\"consent\":{\"categories\":");
        rc = write_section(r, yaml_get(node, "categories"), "a category", write_consent_word);
    }
    if (rc == 0) {
        buf_put_str(&r->out, ",\"properties\":");
        rc = write_section(r, yaml_get(node, "properties"), "a property", write_consent_word);
    }
    buf_put_str(&r->out, "},");
    return rc;
}

static int write_plan(struct plan_reader *r, const struct yaml_node *root) {
    static const char *const keys[] = {"events", "properties", "traits", "groups", "consent"};
    int rc = yaml_is_null(root) ? 0 : yaml_only_keys(root, keys, BH_COUNT(keys), r->err);
    if (rc != 0) {
        return rc;
    }
    const struct yaml_node *consent = yaml_get(root, "consent");
    buf_put_byte(&r->out, '{');
    if (consent != NULL && !yaml_is_null(consent) && (rc = write_consent(r, consent)) != 0) {
        return rc;
    }
    buf_put_str(&r->out, "\"events\":");
    rc = write_section(r, yaml_get(root, "events"), "an event", write_event);
    if (rc == 0) {
        buf_put_str(&r->out, ",\"groups\":");
        rc = write_section(r, yaml_get(root, "groups"), "a group", write_group);
    }
    if (rc == 0) {
        buf_put_str(&r->out, ",\"properties\":");
        rc = write_section(r, yaml_get(root, "properties"), "a property", write_field);
    }
    if (rc == 0) {
        buf_put_str(&r->out, ",\"traits\":");
        rc = write_section(r, yaml_get(root, "traits"), "a trait", write_field);
    }
    buf_put_byte(&r->out, '}');
    if (rc == 0 && r->out.full) {
        rc = yaml_error(r->err, root, "the plan is too large");
    }
    return rc;
}

static int plan_of(const struct yaml_doc *doc, struct plan **ret_plan, struct err *err) {
    struct plan *plan = calloc(1, sizeof *plan);
    uint8_t *memory = malloc(PLAN_JSON_MAX);
    struct plan_reader r = {.out = buf_of(memory, PLAN_JSON_MAX), .err = err};
    int rc = plan == NULL || memory == NULL ? err_set(err, BH_E_NOMEM, "out of memory")
                                            : write_plan(&r, yaml_root(doc));
    if (rc != 0) {
        free(r.distinct);
        free(memory);
        free(plan);
        return rc;
    }
    /* NOLINTNEXTLINE(clang-analyzer-optin.portability.UnixAPI): a plan in its normal form has at least its braces */
    uint8_t *shrunk = realloc(memory, r.out.n);
    plan->json = span_of(shrunk != NULL ? shrunk : memory, r.out.n);
    plan->distinct = r.distinct;
    plan->distinct_count = r.distinct_count;
    *ret_plan = plan;
    return 0;
}

int plan_load_text(const char *name, struct span text, struct plan **ret_plan, struct err *err) {
    struct yaml_doc *doc = NULL;
    int rc = yaml_load_text(name, text, &doc, err);
    if (rc == 0) {
        rc = plan_of(doc, ret_plan, err);
    }
    yaml_free(doc);
    return rc;
}

int plan_load(const char *path, struct plan **ret_plan, struct err *err) {
    struct yaml_doc *doc = NULL;
    int rc = yaml_load(path, &doc, err);
    if (rc == BH_E_NOTFOUND) {
        return plan_load_text(path, SPAN_NONE, ret_plan, err);
    }
    if (rc == 0) {
        rc = plan_of(doc, ret_plan, err);
    }
    yaml_free(doc);
    return rc;
}

void plan_free(struct plan *plan) {
    if (plan == NULL) {
        return;
    }
    /* NOLINTNEXTLINE(performance-no-int-to-ptr): a span of our own memory */
    free((void *)(uintptr_t)plan->json.p);
    free(plan->distinct);
    free(plan);
}

size_t plan_distinct(const struct plan *plan, struct resolve_distinct *out, size_t cap) {
    size_t count = plan->distinct_count < cap ? plan->distinct_count : cap;
    if (count != 0) {
        memcpy(out, plan->distinct, count * sizeof *out);
    }
    return count;
}
