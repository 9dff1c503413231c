/*
 * What the files of policy share.
 *
 *   plan.yaml ----yaml----> struct plan     (JSON text, checked)  \
 *   contract.yaml --yaml--> struct contract (JSON text, checked)   > normal form (RFC 8785) --ruleset_read--> struct ruleset (tables)
 *   sources ------------------------------------------------------/
 *
 * There is one way into a rule set, from its normal form: what was written to disk and read again cannot differ from what was compiled.
 *
 *   apply: judge every leaf under every rule set, meet            policy_judge.c   struct decision per token
 *          write the item, giving each leaf its form              policy_write.c   over policy_shape.c (coarse, mask), policy_id.c (pseudonyms)
 */
#ifndef BH_FLOW_POLICY_INT_H
#define BH_FLOW_POLICY_INT_H

#include "base/hash.h"
#include "engine/yaml/yaml.h"
#include "flow/policy/policy.h"

enum {
    RULESET_FORMAT = 2, /* of the normal form; 1 had no consent */
    POLICY_TABLES =
        3, /* grows with every change of what a form does to a value: part of rule sets */
    NAME_BYTES_MAX = 127, /* a name in plan and contract */
    KEY_BYTES_MAX = 512,  /* an item's key, or path of nested keys, beyond which it is undeclared */
    VALUE_BYTES_MAX = 4096, /* a string beyond which no type fits */
};

/* -- patterns (policy_pattern.c) ----------------------------------------------------------------- */

struct pattern;
/* NULL with a problem and its offset in the text. */
struct pattern *pattern_new(struct span text, const char **ret_problem, size_t *ret_offset);
void pattern_free(struct pattern *pattern);
/* The whole text matches. One table look-up a byte. */
bool pattern_matches(const struct pattern *pattern, struct span text);

/* -- forms and classes (policy_fit.c) ------------------------------------------------------------ */

/* Whether a value of exactly this class can leave in this form. */
bool form_fits_class(struct form form, uint16_t class_id);
/* Whether a contract may write this rule: the form fits the class or a child that inherits it. */
bool form_fits_rule(struct form form, uint16_t class_id);
/* "pseudonym or raw": what a contract may say of the class, for texts. */
void form_list_fitting(uint16_t class_id, struct buf *out);
/* "coarse family", "raw": as in contracts. */
void form_put(struct form form, struct buf *out);
/* The class of a word, else CONFIG with the nearest valid one. */
int class_read(const struct yaml_node *node, uint16_t *ret_class, struct err *err) BH_MUST_USE;

/* -- configuration ---------------------------------------------------------------------------------- */

struct plan {
    struct span json; /* {"events":…,"groups":…,"properties":…,"traits":…} */
    struct resolve_distinct *distinct;
    size_t distinct_count;
};

struct contract {
    struct span
        json; /* all but credentials, ca and backlog, which decide neither a verdict nor where it goes */
    char vendor[64 + 1];
    char connector[32];
    char endpoint[512];
    enum credential_kind credential_kind;
    char credential[512];
    char ca_file[512];
    char purpose[NAME_BYTES_MAX + 1];
    char retention[32];
    uint64_t backlog_max;
    struct contract_egress egress;
    bool forwards_flags;
};

/* What a property that the plan names under `consent` says: one of the three. */
struct consent_rule {
    uint8_t consents; /* enum consent_bit: a category */
    uint8_t signals;  /* enum signal_bit: a signal */
    bool is_categories;
};
/* A text of 1 to cap - 1 bytes without control characters; `what` names it in errors. */
int contract_text(const struct yaml_node *node, const char *what, char *out, size_t cap,
                  struct err *err) BH_MUST_USE;
/* The value of a key that a contract must have; `example` is shown where it is missing. */
int contract_needs(const struct yaml_node *root, const char *key, const char *example,
                   const struct yaml_node **ret_node, struct err *err) BH_MUST_USE;
/* { env: NAME } and its like: where a secret is read, never the secret. */
int contract_credential(const struct yaml_node *node, enum credential_kind *ret_kind, char *out,
                        size_t cap, struct err *err) BH_MUST_USE;

/* -- where it goes (policy_egress.c) ------------------------------------------------------------------ */

/* endpoint, ca, egress, pin, proxy. */
int egress_read(struct contract *c, const struct yaml_node *root, struct err *err) BH_MUST_USE;
/* Members of the normal form, each with its comma in front; what a contract does not say is not written. */
void egress_write(const struct contract_egress *egress, struct buf *out);

/* -- rule sets (policy_rules.c) --------------------------------------------------------------------- */

enum rule_type {
    RULE_BOOLEAN = 1,
    RULE_NUMBER,
    RULE_STRING,
    RULE_URL,
    RULE_TIME,
    RULE_ID, /* a group */
};

/* One declared property, trait or group. */
struct rule_field {
    struct span name;    /* may hold `*` */
    const char *section; /* "property", "trait", "group" */
    uint64_t property;   /* what max_distinct is counted under */
    uint16_t class_id;
    uint8_t type;   /* enum rule_type; 0 = none: a never-class needs none */
    uint8_t domain; /* enum id_domain of its pseudonyms */
    bool has_distinct;
    bool is_bounded; /* a string with enum, pattern or max_distinct */
    uint32_t enum_count;
    const struct span *enums; /* sorted */
    struct pattern *pattern;
};

struct name_slot {
    uint64_t hash;
    struct span name;
    const void *value;
};

/* Names to values: exact ones by hash, then those with `*`, the most literal first. */
struct names {
    const struct name_slot *slots;
    size_t mask; /* slots - 1; slots == NULL: none */
    const struct name_slot *globs;
    size_t glob_count;
};

/* Of a name or key, for tables in memory: first and last eight bytes and what is between, with no call. */
static BH_ALWAYS_INLINE uint64_t name_hash(struct span name) {
    uint64_t head = 0;
    uint64_t tail = 0;
    if (name.n >= 8) {
        head = get_u64(name.p);
        tail = get_u64(name.p + name.n - 8);
        for (size_t i = 8; i + 8 < name.n; i += 8) {
            head = (head ^ get_u64(name.p + i)) * UINT64_C(0x9e3779b97f4a7c15);
            head ^= head >> 29;
        }
    } else if (name.n >= 4) {
        head = get_u32(name.p);
        tail = get_u32(name.p + name.n - 4);
    } else if (name.n > 0) {
        head = name.p[0];
        tail = (uint64_t)name.p[name.n - 1] << 8 | name.p[name.n / 2];
    }
    uint64_t h = (head ^ (tail << 23 | tail >> 41) ^ name.n) * UINT64_C(0x9e3779b97f4a7c15);
    h = (h ^ h >> 32 ^ tail) * UINT64_C(0xc2b2ae3d27d4eb4f);
    return h ^ h >> 29;
}
/* Short names are compared without a call. */
static BH_ALWAYS_INLINE bool name_equal(struct span a, struct span b) {
    if (a.n != b.n) {
        return false;
    }
    if (a.n < 8) {
        for (size_t i = 0; i < a.n; i++) {
            if (a.p[i] != b.p[i]) {
                return false;
            }
        }
        return true;
    }
    for (size_t i = 0; i + 8 < a.n; i += 8) {
        if (get_u64(a.p + i) != get_u64(b.p + i)) {
            return false;
        }
    }
    return get_u64(a.p + a.n - 8) == get_u64(b.p + b.n - 8);
}
/* The value of the name that fits, or NULL. hash = name_hash(name). */
const void *names_find(const struct names *names, struct span name, uint64_t hash);
struct ruleset;
/* The table's row for a key in a place, or NULL. */
const struct field *table_find(const struct protocol_ops *protocol, uint8_t place, struct span key);
/* The plan's line for a name in a section, its events apart. */
const struct rule_field *plan_find(const struct ruleset *rules, uint8_t section, struct span name,
                                   uint64_t hash);
bool glob_matches(struct span glob, struct span name);

struct rule_event {
    struct span name;
    struct names properties;
};

/* What a whole key means in one place: the table's row, and the plan's line for all events. */
struct key_rule {
    const struct field *field;
    const struct rule_field *plan;
};

enum class_state {
    CLASS_CLOSED = 0,
    CLASS_OPEN,
    CLASS_NEVER_OPEN,
    CLASS_UNFIT,
    CLASS_NO_CONSENT, /* its line requires more than is given */
};

struct class_rule {
    struct form form;    /* FORM_DROP unless open */
    uint16_t rule_class; /* class of the line that decides; CLASS_NONE = no line */
    uint8_t state;       /* enum class_state */
    uint8_t requires;    /* enum consent_bit: what its line requires */
};

struct block;

struct ruleset {
    uint32_t magic;
    struct block *blocks; /* all memory of the tables */
    struct pattern **patterns;
    size_t pattern_count;
    struct span json;
    const struct protocol_ops *connector;
    uint8_t time; /* enum time_precision */
    bool undeclared_drop;
    uint8_t requires;                       /* enum consent_bit: of every event */
    uint8_t honour;                         /* enum signal_bit */
    bool asks_consent;                      /* an item's own words decide something */
    struct class_rule classes[CLASS_LIMIT]; /* with every consent given */
    /* The same by the consents that are given, CONSENT_SETS of them; NULL: no line requires any. */
    const struct class_rule (*without)[CLASS_LIMIT];
    struct names consent_properties; /* struct consent_rule */
    struct names consent_categories; /* uint8_t: enum consent_bit */
    struct names events;             /* struct rule_event */
    struct names properties;         /* struct rule_field */
    struct names traits;
    struct names groups;
    struct names keys
        [PLACE_LIMIT]; /* struct key_rule: all whole names of table and plan, one look-up for both */
    uint64_t fed[(UINT16_MAX + 1) / 64]; /* bit per source number */
};

static inline bool ruleset_feeds(const struct ruleset *r, uint16_t source) {
    return (r->fed[source >> 6] >> (source & 63) & 1) != 0;
}

/* The classes as they are open where these consents are given. */
static inline const struct class_rule *ruleset_classes(const struct ruleset *r, uint8_t given) {
    return BH_LIKELY(r->without == NULL) ? r->classes : r->without[given];
}

/* -- the item in hand ---------------------------------------------------------------------------- */

/* What is to be done with a leaf. */
enum leaf_act {
    ACT_WITHHOLD = 0,
    ACT_SKIP,  /* policy writes its own (time, insert id), or encode does (token) */
    ACT_SHAPE, /* leaves in its form */
    ACT_KEEP, /* leaves as it is and says nothing of its own: null, empty array, name of a property */
};

/* Where a declaration comes from, for the story of a leaf. */
enum leaf_because {
    BECAUSE_NOTHING = 0,
    BECAUSE_TABLE,     /* the protocol's field table */
    BECAUSE_PLAN,      /* a line of the plan */
    BECAUSE_CONNECTOR, /* policy or encode writes it */
};

/* The verdict of one leaf: of one rule set, then the meet of all. */
struct decision {
    const struct field *field;     /* the table's row, or NULL */
    const struct rule_field *plan; /* the newest plan's line, or NULL */
    uint16_t class_id;
    uint16_t found; /* class of the finding that withholds, CLASS_NONE = it is the leaf's own */
    struct form form;
    uint8_t act;     /* enum leaf_act */
    uint8_t reason;  /* of ACT_WITHHOLD */
    uint8_t because; /* enum leaf_because */
    uint8_t domain;  /* enum id_domain of a pseudonym */
    bool is_time;    /* floored to the contract's precision */
};

/* One open container of the walk. */
struct walk {
    uint32_t end;
    uint32_t start;  /* the container's token */
    uint32_t key;    /* token of its key; 0 = none */
    uint8_t place;   /* enum field_place of its members' keys */
    uint8_t section; /* enum field_place whose part of the plan holds; kept inside nested objects */
    bool is_array;
    bool is_nested;   /* members' names are paths: prefix of path_size bytes and a dot */
    bool is_withheld; /* nothing inside leaves */
    uint8_t withheld_reason;
    uint16_t path_size;
    const struct field
        *field; /* what covers the members of an array, or of an object without a place */
    const struct rule_field *plan;
    /* writing */
    bool is_open;
    bool has_members;
    uint32_t element; /* index of the next element, for pointers */
};

struct id_entry {
    uint64_t hash;
    uint8_t domain;
    uint8_t id_size; /* 0 = free */
    uint8_t out_size;
    uint8_t time; /* enum time_precision that a session's id was made for */
    uint8_t id[60];
    uint8_t out[40];
    struct aid aid;
};

enum {
    WALK_DEPTH_MAX = LIMIT_JSON_DEPTH + 2,
    ID_ENTRIES = 1024,                  /* recent ids: 128 KiB, enough for the people of a window */
    ID_WAYS = 4,                        /* places that an id may stand in */
    KEYS_SEEN = 2 * LIMIT_EVENT_TOKENS, /* a power of two */
};

struct policy {
    uint32_t magic;
    uint16_t instance;
    struct aes_block *keys[8]; /* by enum id_domain */
    const struct aid_maker *aids;
    struct id_entry *ids;
    uint32_t id_next;           /* which way the next new id takes */
    struct decision *decisions; /* by token */
    uint64_t *keys_seen;        /* duplicates within an object: hash and epoch */
    size_t keys_mask;           /* how much of it the item in hand uses */
    uint32_t epoch;

    /* The item in hand. */
    const struct policy_input *in;
    struct span text;
    const struct json_token *tokens;
    uint32_t token_count;
    uint32_t name_token;            /* of the event's name; 0 = none */
    const struct rule_field *group; /* of the item's $group_key under the rule set being judged */
    uint8_t reason;                 /* why nothing of the item leaves; REASON_NONE = it may */
    bool is_broken;                 /* J2: its leaves were not all judged */
    bool is_fused;                  /* each leaf is written as soon as it is judged */
    bool writes;                    /* of the walk in hand: it writes */
    uint8_t given;   /* enum consent_bit: what every rule set that asks finds given */
    uint8_t signals; /* enum signal_bit: of the request, and of the item where a rule set asks */
    uint8_t time;    /* enum time_precision: the strictest */
    const struct ruleset *judging; /* whose word alone counts; NULL = the meet of all */
    struct span device_prefix;
    uint64_t space_hash;
    struct span own_host; /* of the page's own address */
    bool has_own_host;    /* it was looked for */
    struct walk walks[WALK_DEPTH_MAX];
    unsigned depth;

    uint8_t path[2 * KEY_BYTES_MAX];
    uint8_t key_text[KEY_BYTES_MAX];
    uint8_t value_text[VALUE_BYTES_MAX];
    uint8_t host_text[256];
    uint8_t shaped[2 * VALUE_BYTES_MAX];
    char rule_text[384];
    uint8_t pointer_text[4096];

    /* Writing. */
    struct buf *out;
    struct verdict *verdict;
    policy_explain_fn *explain;
    void *explain_context;
    uint32_t finding_next;
    bool has_person;    /* the primary id left */
    bool has_operation; /* something of a profile or group update left */
    uint8_t links;      /* ids that a link names and that left */
    bool link_broken;   /* one that it needs was withheld */
};

/* Host of the page's own address, whose path is ours to show; SPAN_NONE = not known. */
struct span policy_own_host(struct policy *p);
bool policy_value_escaped(struct policy *p, uint32_t token, struct span *ret_value);
/* The leaf's decoded bytes: raw for numbers; false when a string is too long for any type. */
static inline bool policy_value(struct policy *p, uint32_t token, struct span *ret_value) {
    const struct json_token *t = &p->tokens[token];
    if (BH_UNLIKELY((t->flags & JSON_ESCAPED) != 0 && t->kind == JSON_STRING)) {
        return policy_value_escaped(p, token, ret_value);
    }
    *ret_value = json_span(p->text, t);
    return t->kind != JSON_STRING || t->len <= VALUE_BYTES_MAX;
}
struct span policy_key_escaped(struct policy *p, uint32_t token);
/* A key's decoded bytes; one that is too long for any name stays as it is. They live until the next call. */
static inline struct span policy_key(struct policy *p, uint32_t token) {
    const struct json_token *t = &p->tokens[token];
    bool is_as_sent = (t->flags & JSON_ESCAPED) == 0 || t->len > KEY_BYTES_MAX;
    return BH_LIKELY(is_as_sent) ? json_span(p->text, t) : policy_key_escaped(p, token);
}
/* Decides every leaf under every rule set. False: nothing of the item leaves (p->reason). */
bool policy_judge(struct policy *p);
/* The meet of a class over all rule sets in force. */
struct class_rule policy_class(const struct policy *p, uint16_t class_id);
/* Moves to the token; whether something was found in it. */
static inline bool has_finding(const struct policy *p, uint32_t token, uint32_t *cursor) {
    const struct record_event *event = p->in->event;
    uint32_t at = *cursor;
    while (at < event->finding_count && event->findings[at].leaf < token) {
        at++;
    }
    *cursor = at;
    return at < event->finding_count && event->findings[at].leaf == token;
}
/* What was found in a leaf that a decision lets leave, asked under p->judging or all. Withholds where it must. *cursor runs over the findings. */
void policy_check_found(struct policy *p, uint32_t token, struct decision *d, uint32_t *cursor);
/* Writes one leaf as decided. */
void policy_write_leaf(struct policy *p, uint32_t key, uint32_t token, struct decision *d);
/* Ends the innermost container of a walk that judges, writes or does both. */
void policy_leave(struct policy *p);
/* Before the first leaf is written. */
void policy_write_begin(struct policy *p);
/* Writes what is left, if it is not written yet; false: nothing of the item leaves (p->reason). */
bool policy_write(struct policy *p);
/* Says a leaf's story. */
void policy_tell(struct policy *p, uint32_t token, const struct decision *d);

/* -- consent (policy_consent.c) --------------------------------------------------------------------- */

/* Fills given and adds to signals, where a rule set asks. */
void policy_consent_read(struct policy *p);
/* Why nothing of the item leaves under a rule set: OPTED_OUT, NO_CONSENT or NONE. */
uint8_t policy_consent_reason(struct policy *p, const struct ruleset *rules);
/* "consent.analytics, consent.social", "gpc, dnt" */
void consents_put(uint8_t consents, struct buf *out);
void signals_list(uint8_t signals, struct buf *out);

/* -- pseudonyms (policy_id.c) ---------------------------------------------------------------------- */

/* The pseudonym of an id under its domain, with prefix, and the id's aid. The bytes live until the next call. */
struct span pseudonym_of(struct policy *p, uint8_t domain, struct span id, struct aid *ret_aid);
/*
 * An id that is a time in milliseconds stays one: the time floored to the contract's precision, at least a second, and a number below that unit that the
 * vendor's key makes of the id. -1, which means "in none", stays. False: no such id.
 */
bool pseudonym_time(struct policy *p, struct span id, int64_t *ret_ms, struct aid *ret_aid);
/* In the form that the protocol wants; its bytes. */
size_t insert_id_make(struct policy *p, uint8_t form, uint8_t out[36]);

/* -- shapes (policy_shape.c) ----------------------------------------------------------------------- */

/* A value as pieces: bytes of the source, or literal ones. */
struct piece {
    struct span bytes;
    uint32_t start; /* offset in the source, or UINT32_MAX for a literal */
};

enum { PIECES_MAX = 48 };

struct shape {
    struct piece pieces[PIECES_MAX];
    unsigned count;
    bool is_string; /* else the bytes are a JSON number, true, false or null */
    bool is_same;   /* the source as it is */
    bool is_plain;  /* one literal piece that JSON needs not escape */
    struct aid aid; /* of an id */
};

/* Gives a value its form. False: it has none that fits (REASON_FORM_UNFIT). */
bool shape_make(struct policy *p, const struct decision *d, uint32_t token, struct span value,
                struct shape *ret_shape);
/* The mask of a span of this class, into out. */
void shape_mask(uint16_t class_id, struct span value, struct buf *out);
/* Milliseconds as ISO 8601 in UTC, to the precision. */
void time_put_iso(int64_t ms, uint8_t precision, struct buf *out);
int64_t time_floor(int64_t ms, uint8_t precision);
/* Host of a URL without user and port, or SPAN_NONE. */
struct span url_host(struct span url);

static inline bool event_is_link(uint8_t kind) {
    return kind == EVENT_IDENTIFY || kind == EVENT_ALIAS || kind == EVENT_MERGE;
}
/* Deletes a profile: the row is an id, and an operation as well. */
static inline bool field_is_delete(const struct field *field) {
    return span_is(span_of(field->name, field->name_len), "$delete");
}

/* Whether a value is what a plan's line expects. */
bool rule_fits(const struct rule_field *rule, enum json_kind kind, struct span value);

#endif
