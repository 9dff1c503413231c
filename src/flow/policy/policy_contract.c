/*
 * vendors/NAME.yaml: the contract, checked and turned into its part of the normal form.
 *
 * Words that a later version gives an effect are errors and not ignored: a contract that says `minors: drop` and is read as if it did not
 * would promise what nobody does.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "flow/policy/policy_int.h"

enum { CONTRACT_JSON_MAX = 64 * 1024 };

static const char *const time_words[] = {"ms", "second", "minute", "hour"};

static bool is_word(struct span text, const char *signs) {
    for (size_t i = 0; i < text.n; i++) {
        uint8_t c = text.p[i];
        bool good = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
                    (c != 0 && strchr(signs, c) != NULL);
        if (!good) {
            return false;
        }
    }
    return text.n != 0;
}

int contract_text(const struct yaml_node *node, const char *what, char *out, size_t cap,
                  struct err *err) {
    struct span text = yaml_text(node);
    if (yaml_kind_of(node) != YAML_SCALAR || text.n == 0 || text.n >= cap) {
        return yaml_error(err, node, "%s is a text of 1 to %zu bytes", what, cap - 1);
    }
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] < 0x20) {
            return yaml_error(err, node, "%s holds a control character", what);
        }
    }
    memcpy(out, text.p, text.n);
    out[text.n] = '\0';
    return 0;
}

int contract_needs(const struct yaml_node *root, const char *key, const char *example,
                   const struct yaml_node **ret_node, struct err *err) {
    *ret_node = yaml_get(root, key);
    return *ret_node != NULL
               ? 0
               : yaml_error(err, root, "a contract needs %s, such as %s: %s", key, key, example);
}

static int read_vendor(struct contract *c, const struct yaml_node *root, struct err *err) {
    const struct yaml_node *node;
    int rc = contract_needs(root, "vendor", "mixpanel", &node, err);
    if (rc == 0) {
        rc = contract_text(node, "vendor", c->vendor, sizeof c->vendor, err);
    }
    if (rc == 0 && !is_word(yaml_text(node), "-")) {
        rc = yaml_error(err, node, "vendor is a name of a-z, 0-9 and -");
    }
    return rc;
}

static int read_connector(struct contract *c, const struct yaml_node *root, struct err *err) {
    const struct yaml_node *node;
    int rc = contract_needs(root, "connector", "mixpanel", &node, err);
    if (rc != 0) {
        return rc;
    }
    const struct protocol_ops *ops = protocol_by_name(yaml_text(node));
    if (ops == NULL) {
        size_t count = 0;
        const char *const *words = protocol_list(&count);
        const char *near = yaml_nearest(yaml_text(node), words, count);
        return yaml_error(err, node, "unknown connector%s%s%s",
                          near != NULL ? "; did you mean '" : "; expected ",
                          near != NULL ? near : words[0], near != NULL ? "'?" : "");
    }
    return contract_text(node, "connector", c->connector, sizeof c->connector, err);
}

int contract_credential(const struct yaml_node *node, enum credential_kind *ret_kind, char *out,
                        size_t cap, struct err *err) {
    static const char *const keys[] = {"env", "file", "systemd"};
    int rc = 0;
    if (yaml_kind_of(node) != YAML_MAPPING) {
        rc = yaml_error(
            err, node,
            "credential is { env: NAME }, { file: PATH } or { systemd: NAME }: a secret never stands in this file");
    }
    if (rc == 0) {
        rc = yaml_only_keys(node, keys, BH_COUNT(keys), err);
    }
    if (rc == 0 && yaml_count(node) != 1) {
        rc = yaml_error(err, node, "credential needs exactly one of env, file, systemd");
    }
    for (size_t i = 0; rc == 0 && i < BH_COUNT(keys); i++) {
        const struct yaml_node *value = yaml_get(node, keys[i]);
        if (value != NULL) {
            *ret_kind = (enum credential_kind)(CREDENTIAL_ENV + i);
            rc = contract_text(value, "credential", out, cap, err);
        }
    }
    return rc;
}

/* The words of consent or of signals, as a contract writes them. */
struct vocabulary {
    const char *prefix;
    const char *const *words;
    size_t count;
    const char *expected;
};

static int read_bit(const struct yaml_node *node, const struct vocabulary *v, uint8_t *bits,
                    struct err *err) {
    struct span text = yaml_kind_of(node) == YAML_SCALAR ? yaml_text(node) : SPAN_NONE;
    bool has_prefix = span_starts(text, span_str(v->prefix));
    struct span word = has_prefix ? span_from(text, strlen(v->prefix)) : text;
    for (size_t i = 0; i < v->count; i++) {
        if (has_prefix && span_is(word, v->words[i])) {
            *bits |= (uint8_t)(1U << i);
            return 0;
        }
    }
    const char *near = yaml_nearest(word, v->words, v->count);
    return yaml_error(err, node, "%s%s%s%s%s", v->expected, near != NULL ? "; did you mean '" : "",
                      near != NULL ? v->prefix : "", near != NULL ? near : "",
                      near != NULL ? "'?" : "");
}

/* One word or a list of them, as bits. */
static int read_bits(const struct yaml_node *node, const struct vocabulary *v, uint8_t *ret_bits,
                     struct err *err) {
    *ret_bits = 0;
    if (yaml_kind_of(node) != YAML_SEQUENCE) {
        return read_bit(node, v, ret_bits, err);
    }
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < yaml_count(node); i++) {
        rc = read_bit(yaml_at(node, i), v, ret_bits, err);
    }
    return rc;
}

static int read_requires(const struct yaml_node *node, uint8_t *ret_consents, struct err *err) {
    struct vocabulary v = {
        .prefix = "consent.",
        .expected = "requires is consent.analytics, consent.functional, "
                    "consent.personalization, consent.advertising, consent.social, or a list"};
    v.words = consent_words(&v.count);
    int rc = read_bits(node, &v, ret_consents, err);
    return rc == 0 && *ret_consents == 0
               ? yaml_error(err, node, "requires needs at least one consent")
               : rc;
}

static void write_consents(struct buf *out, uint8_t consents) {
    const char *before = "";
    buf_put_byte(out, '[');
    for (uint8_t bit = 1; (bit & CONSENT_ALL) != 0; bit = (uint8_t)(bit << 1)) {
        if ((consents & bit) != 0) {
            buf_printf(out, "%s\"consent.%s\"", before, consent_name(bit));
            before = ",";
        }
    }
    buf_put_byte(out, ']');
}

/* Unless said, every objection that a browser can send is heeded: whom the law exempts says so. */
static int write_consent(struct buf *out, const struct yaml_node *root, struct err *err) {
    struct vocabulary v = {.prefix = "", .expected = "a signal is gpc or dnt"};
    v.words = signal_words(&v.count);
    const struct yaml_node *node = yaml_get(root, "requires");
    uint8_t bits = 0;
    int rc = node != NULL ? read_requires(node, &bits, err) : 0;
    if (rc == 0 && node != NULL) {
        buf_put_str(out, ",\"requires\":");
        write_consents(out, bits);
    }
    node = yaml_get(root, "honour");
    bits = SIGNAL_ALL;
    if (rc == 0 && node != NULL) {
        rc = yaml_kind_of(node) == YAML_SEQUENCE
                 ? read_bits(node, &v, &bits, err)
                 : yaml_error(err, node, "honour is a list: [gpc, dnt], one of them, or []");
    }
    const char *before = "";
    buf_put_str(out, ",\"honour\":[");
    for (size_t i = 0; i < v.count; i++) {
        if ((bits >> i & 1U) != 0) {
            buf_printf(out, "%s\"%s\"", before, v.words[i]);
            before = ",";
        }
    }
    buf_put_byte(out, ']');
    return rc;
}

static int read_credential(struct contract *c, const struct yaml_node *root, struct err *err) {
    const struct yaml_node *node;
    int rc = contract_needs(root, "credential", "{ env: MIXPANEL_TOKEN }", &node, err);
    return rc == 0 ? contract_credential(node, &c->credential_kind, c->credential,
                                         sizeof c->credential, err)
                   : rc;
}

/* "coarse" alone says too little, and a level belongs to coarse alone. */
/* NOLINTNEXTLINE(readability-function-cognitive-complexity): one refusal after the other */
static int read_form(const struct yaml_node *node, struct form *ret_form, uint8_t *ret_requires,
                     struct err *err) {
    static const char *const words[] = {"raw", "drop", "redact", "pseudonym", "mask", "coarse"};
    static const char *const levels[] = {"country", "region", "family", "major", "path",
                                         "/24",     "/48",    "hour",   "day",   "year"};
    const struct yaml_node *word = node;
    const struct yaml_node *level = NULL;
    if (yaml_kind_of(node) == YAML_MAPPING) {
        const struct yaml_node *requires = yaml_get(node, "requires");
        size_t at = requires != NULL && span_is(yaml_text(yaml_key_at(node, 0)), "requires");
        if (yaml_count(node) != (requires != NULL ? 2 : 1)) {
            return yaml_error(err, node,
                              "a form is one word, or { coarse: LEVEL }; with { FORM, requires: "
                              "consent.WORD } it needs consent");
        }
        int rc = requires != NULL ? read_requires(requires, ret_requires, err) : 0;
        if (rc != 0) {
            return rc;
        }
        word = yaml_key_at(node, at);
        level = yaml_is_null(yaml_at(node, at)) ? NULL : yaml_at(node, at);
    }
    struct span text = yaml_text(word);
    uint8_t id = form_by_name(text);
    if (id == FORM_SEAL || id == FORM_ALIAS) {
        return yaml_error(err, word, "%.*s: not yet; it has no effect in this version", (int)text.n,
                          (const char *)text.p);
    }
    if (id == FORM_NONE) {
        const char *near = yaml_nearest(text, words, BH_COUNT(words));
        return yaml_error(err, word,
                          "a form is raw, drop, redact, pseudonym, mask or { coarse: LEVEL }%s%s%s",
                          near != NULL ? "; did you mean '" : "", near != NULL ? near : "",
                          near != NULL ? "'?" : "");
    }
    if ((id == FORM_COARSE) != (level != NULL)) {
        return yaml_error(err, word,
                          id == FORM_COARSE ? "coarse needs its level, such as { coarse: country }"
                                            : "only coarse has a level");
    }
    *ret_form = (struct form){id, LEVEL_NONE};
    if (level != NULL) {
        ret_form->level = level_by_name(yaml_text(level));
        if (ret_form->level == LEVEL_NONE) {
            const char *near = yaml_nearest(yaml_text(level), levels, BH_COUNT(levels));
            return yaml_error(
                err, level,
                "a level is country, region, family, major, path, /24, /48, hour, day or year%s%s%s",
                near != NULL ? "; did you mean '" : "", near != NULL ? near : "",
                near != NULL ? "'?" : "");
        }
    }
    return 0;
}

static int read_rule(const struct yaml_node *key, const struct yaml_node *node, uint16_t *ret_class,
                     struct form *ret_form, uint8_t *ret_requires, struct err *err) {
    int rc = class_read(key, ret_class, err);
    if (rc == 0) {
        rc = read_form(node, ret_form, ret_requires, err);
    }
    if (rc != 0) {
        return rc;
    }
    /* NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult): both are set when r is 0 */
    if (class_is_never(*ret_class) && ret_form->id != FORM_DROP) {
        return yaml_error(err, key, "%s never leaves in any form; no line can open it",
                          class_name(*ret_class));
    }
    /* NOLINTNEXTLINE(clang-analyzer-core.CallAndMessage): both are set when r is 0 */
    if (form_fits_rule(*ret_form, *ret_class)) {
        return 0;
    }
    char form[32];
    char list[160];
    struct buf form_text = buf_of(form, sizeof form - 1);
    struct buf list_text = buf_of(list, sizeof list - 1);
    form_put(*ret_form, &form_text);
    form_list_fitting(*ret_class, &list_text);
    form[form_text.n] = '\0';
    list[list_text.n] = '\0';
    return yaml_error(err, node, "%s does not fit %s; expected %s", form, class_name(*ret_class),
                      list);
}

static int write_allow(struct buf *out, const struct yaml_node *root, struct err *err) {
    buf_put_str(out, "\"allow\":{");
    const struct yaml_node *allow = yaml_get(root, "allow");
    if (allow != NULL && !yaml_is_null(allow)) {
        if (yaml_kind_of(allow) != YAML_MAPPING) {
            return yaml_error(
                err, allow,
                "allow is a mapping of classes to forms, such as user.device: { coarse: family }");
        }
        for (size_t i = 0; i < yaml_count(allow); i++) {
            uint16_t class_id;
            struct form form;
            uint8_t requires = 0;
            int rc = read_rule(yaml_key_at(allow, i), yaml_at(allow, i), &class_id, &form,
                               &requires, err);
            if (rc != 0) {
                return rc;
            }
            buf_printf(out, "%s\"%s\":%s\"%s\"", i == 0 ? "" : ",", class_name(class_id),
                       requires != 0 ? "{\"form\":" : "", form_name(form));
            if (requires != 0) {
                buf_put_str(out, ",\"requires\":");
                write_consents(out, requires);
                buf_put_byte(out, '}');
            }
        }
    }
    buf_put_byte(out, '}');
    return 0;
}

static int write_word(struct buf *out, const struct yaml_node *root, const char *key,
                      const char *const *words, size_t count, const char *otherwise,
                      struct err *err) {
    const struct yaml_node *node = yaml_get(root, key);
    const char *word = node == NULL ? otherwise : NULL;
    for (size_t i = 0; word == NULL && i < count; i++) {
        if (yaml_kind_of(node) == YAML_SCALAR && span_is(yaml_text(node), words[i])) {
            word = words[i];
        }
    }
    if (word == NULL) {
        char list[64];
        struct buf text = buf_of(list, sizeof list - 1);
        for (size_t i = 0; i < count; i++) {
            buf_put_str(&text, i == 0 ? "" : i + 1 == count ? " or " : ", ");
            buf_put_str(&text, words[i]);
        }
        list[text.n] = '\0';
        return yaml_error(err, node, "%s is %s", key, list);
    }
    buf_printf(out, ",\"%s\":\"%s\"", key, word);
    return 0;
}

static int read_purpose(struct contract *c, const struct yaml_node *root, struct err *err) {
    const struct yaml_node *node;
    int rc = contract_needs(root, "purpose", "analytics", &node, err);
    if (rc == 0) {
        rc = contract_text(node, "purpose", c->purpose, sizeof c->purpose, err);
    }
    if (rc == 0 && !is_word(yaml_text(node), "._")) {
        rc = yaml_error(err, node,
                        "purpose is a Fideslang data use, such as analytics or essential.service");
    }
    if (rc == 0) {
        rc = contract_needs(root, "retention", "400d", &node, err);
    }
    uint64_t us;
    if (rc == 0) {
        rc = yaml_duration(node, &us, err);
    }
    return rc == 0 ? contract_text(node, "retention", c->retention, sizeof c->retention, err) : rc;
}

static int read_rest(struct contract *c, const struct yaml_node *root, struct err *err) {
    static const char *const keys[] = {"max"};
    const struct yaml_node *node = yaml_get(root, "backlog");
    int rc = 0;
    if (node != NULL) {
        rc = yaml_only_keys(node, keys, BH_COUNT(keys), err);
        const struct yaml_node *max = yaml_get(node, "max");
        if (rc == 0 && max != NULL) {
            rc = yaml_size(max, &c->backlog_max, err);
        }
    }
    return rc;
}

/* Only `forward` is in the normal form: a contract that does not name flags stays the one it was. */
static int write_flags(struct contract *c, struct buf *out, const struct yaml_node *root,
                       struct err *err) {
    const struct yaml_node *node = yaml_get(root, "flags");
    struct span word =
        node != NULL && yaml_kind_of(node) == YAML_SCALAR ? yaml_text(node) : SPAN_NONE;
    if (node == NULL || span_is(word, "off")) {
        return 0;
    }
    if (!span_is(word, "forward")) {
        return yaml_error(err, node, "flags is forward or off");
    }
    if (protocol_by_name(span_str(c->connector))->ask == NULL) {
        return yaml_error(err, node, "flags: forward: not yet for %s; only PostHog's are passed on",
                          c->connector);
    }
    c->forwards_flags = true;
    buf_put_str(out, ",\"flags\":\"forward\"");
    return 0;
}

static int check_words(const struct yaml_node *root, struct err *err) {
    static const char *const keys[] = {
        "vendor", "connector", "endpoint",   "credential", "purpose", "retention",
        "allow",  "time",      "undeclared", "ca",         "backlog", "requires",
        "honour", "egress",    "pin",        "proxy",      "flags"};
    static const char *const later[] = {"seal", "alias", "minors", "onward", "routes", "lanes"};
    if (yaml_kind_of(root) != YAML_MAPPING) {
        return yaml_error(err, root, "a contract is a mapping that begins with vendor: NAME");
    }
    for (size_t i = 0; i < yaml_count(root); i++) {
        const struct yaml_node *key = yaml_key_at(root, i);
        for (size_t k = 0; k < BH_COUNT(later); k++) {
            if (span_is(yaml_text(key), later[k])) {
                return yaml_error(err, key, "%s: not yet; it has no effect in this version",
                                  later[k]);
            }
        }
    }
    return yaml_only_keys(root, keys, BH_COUNT(keys), err);
}

static int read_contract(struct contract *c, const struct yaml_node *root, struct buf *out,
                         struct err *err) {
    static const char *const undeclared_words[] = {"hold", "drop"};
    int (*const readers[])(struct contract *, const struct yaml_node *, struct err *) = {
        read_vendor, read_connector, egress_read, read_credential, read_purpose, read_rest,
    };
    int rc = check_words(root, err);
    for (size_t i = 0; rc == 0 && i < BH_COUNT(readers); i++) {
        rc = readers[i](c, root, err);
    }
    buf_put_byte(out, '{');
    if (rc == 0) {
        rc = write_allow(out, root, err);
    }
    if (rc == 0) {
        rc = write_consent(out, root, err);
    }
    if (rc == 0) {
        rc = write_word(out, root, "time", time_words, BH_COUNT(time_words), "second", err);
    }
    if (rc == 0) {
        rc = write_word(out, root, "undeclared", undeclared_words, BH_COUNT(undeclared_words),
                        "hold", err);
    }
    if (rc == 0) {
        rc = write_flags(c, out, root, err);
    }
    if (rc != 0) {
        return rc;
    }
    const char *const texts[][2] = {
        {"connector", c->connector}, {"endpoint", c->endpoint}, {"purpose", c->purpose},
        {"retention", c->retention}, {"vendor", c->vendor},
    };
    for (size_t i = 0; i < BH_COUNT(texts); i++) {
        buf_printf(out, ",\"%s\":", texts[i][0]);
        json_put_string(out, span_str(texts[i][1]));
    }
    egress_write(&c->egress, out);
    buf_put_byte(out, '}');
    return out->full ? yaml_error(err, root, "the contract is too large") : 0;
}

static int contract_of(const struct yaml_doc *doc, struct contract **ret_contract,
                       struct err *err) {
    struct contract *c = calloc(1, sizeof *c);
    uint8_t *memory = malloc(CONTRACT_JSON_MAX);
    if (c == NULL || memory == NULL) {
        free(c);
        free(memory);
        return err_set(err, BH_E_NOMEM, "out of memory");
    }
    struct buf out = buf_of(memory, CONTRACT_JSON_MAX);
    int rc = read_contract(c, yaml_root(doc), &out, err);
    c->json = buf_span(&out);
    if (rc != 0) {
        contract_free(c);
        return rc;
    }
    *ret_contract = c;
    return 0;
}

int contract_load_text(const char *name, struct span text, struct contract **ret_contract,
                       struct err *err) {
    struct yaml_doc *doc = NULL;
    int rc = yaml_load_text(name, text, &doc, err);
    if (rc == 0) {
        rc = contract_of(doc, ret_contract, err);
    }
    yaml_free(doc);
    return rc;
}

int contract_load(const char *path, struct contract **ret_contract, struct err *err) {
    struct yaml_doc *doc = NULL;
    int rc = yaml_load(path, &doc, err);
    if (rc == 0) {
        rc = contract_of(doc, ret_contract, err);
    }
    yaml_free(doc);
    return rc;
}

void contract_free(struct contract *contract) {
    if (contract == NULL) {
        return;
    }
    /* NOLINTNEXTLINE(performance-no-int-to-ptr): a span of our own memory */
    free((void *)(uintptr_t)contract->json.p);
    free(contract);
}

void contract_facts(const struct contract *contract, struct contract_facts *ret_facts) {
    *ret_facts = (struct contract_facts){
        .vendor = contract->vendor,
        .connector = contract->connector,
        .endpoint = contract->endpoint,
        .credential_kind = contract->credential_kind,
        .credential = contract->credential,
        .ca_file = contract->ca_file[0] != '\0' ? contract->ca_file : NULL,
        .purpose = contract->purpose,
        .retention = contract->retention,
        .backlog_max = contract->backlog_max,
        .egress = &contract->egress,
        .forwards_flags = contract->forwards_flags,
    };
}
