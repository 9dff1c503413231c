/*
 * policy: per vendor, at sending time: what of this event may leave, and in which form.
 *
 *   contract (vendors/NAME.yaml) + plan.yaml + sources --compile--> ruleset (immutable)
 *   event tokens + findings + rulesets in force since its seq --> verdict: the item as this vendor receives it, the (class, form) pairs that leave, and
 *   for every leaf the rule that decided
 *
 * Pure: no clock, no I/O after loading; equal inputs give equal bytes (a retry's body hash must not change).
 * Invariants
 *  Q1 Closed: a leaf leaves only if its name is declared (field table or plan) and every class on it is open in every ruleset in force.
 *  Q2 A never-class withholds its leaf whatever a contract says; the compiler refuses such a rule as well.
 *  Q3 The verdict of an event is the meet of all rulesets from its seq until now (form_meet, the stricter time and undeclared).
 *  Q4 No identifier leaves as sent unless the contract says raw; equal ids give equal pseudonyms within a vendor and domain, and unequal across vendors.
 *  Q5 What requires consent leaves only where the event itself, or its request, says that it is given, and nothing says that it is refused.
 *  Q6 Output is valid JSON of the item's own protocol shape; keys are unique.
 * Threads: rulesets are immutable and shared; a policy (scratch) belongs to one courier.
 * Errors: CONFIG with file, line, column, caret; at sending time only FULL (the item's output exceeds its buffer) which withholds the event as too_big.
 */
#ifndef BH_FLOW_POLICY_H
#define BH_FLOW_POLICY_H

#include "base/arena.h"
#include "base/bytes.h"
#include "base/errors.h"
#include "base/net.h"
#include "engine/json/json.h"
#include "engine/keyring/keyring.h"
#include "flow/resolve/resolve.h"
#include "model/event.h"
#include "model/form.h"
#include "model/reason.h"
#include "protocol/protocol.h"
#include "protocol/translate.h"

/* -- configuration ------------------------------------------------------------------------------------------------------------- */

struct plan;
struct contract;

/* A missing file is an empty plan (nothing declared). */
int plan_load(const char *path, struct plan **ret_plan, struct err *err) BH_MUST_USE;
void plan_free(struct plan *plan);
int contract_load(const char *path, struct contract **ret_contract, struct err *err) BH_MUST_USE;
void contract_free(struct contract *contract);
/* The same from memory; `name` is shown in errors. */
int plan_load_text(const char *name, struct span text, struct plan **ret_plan,
                   struct err *err) BH_MUST_USE;
int contract_load_text(const char *name, struct span text, struct contract **ret_contract,
                       struct err *err) BH_MUST_USE;

/* What deliver and the gateway need of a contract. Strings live as long as the contract. */
enum credential_kind { CREDENTIAL_NONE, CREDENTIAL_ENV, CREDENTIAL_FILE, CREDENTIAL_SYSTEMD };

/* Which addresses a vendor's requests may go to, whom they believe there, and through whom they go. */
enum { EGRESS_RANGES_MAX = 32, EGRESS_PINS_MAX = 8, EGRESS_PIN_SIZE = 8 + 44, EGRESS_PATH = 512 };
struct contract_egress {
    bool is_said;       /* the contract has the key */
    bool is_local;      /* what is connected to is this machine, by a literal name of it */
    bool allows_public; /* any public address */
    size_t range_count;
    struct net ranges[EGRESS_RANGES_MAX];
    char pins[EGRESS_PINS_MAX * (EGRESS_PIN_SIZE + 1)]; /* "sha256//…;sha256//…"; empty = none */
    char proxy[EGRESS_PATH];                            /* scheme://host:port; empty = none */
    char proxy_ca[EGRESS_PATH];                         /* empty = the system's roots */
    enum credential_kind proxy_credential_kind;
    char proxy_credential[EGRESS_PATH]; /* as `credential`; what it holds is user:password */
};
/* Whether a connection may be made to the address: asked with the very address, when it is made. */
bool egress_allows(const struct contract_egress *egress, const uint8_t address[16]);
/* Whether connections of the one may be used under the other. */
bool egress_equal(const struct contract_egress *a, const struct contract_egress *b);

struct contract_facts {
    const char *vendor;
    const char *connector; /* protocol name */
    const char *endpoint;  /* https://..., or http:// to loopback only */
    enum credential_kind credential_kind;
    const char *credential; /* variable, file or credential name; never the secret */
    const char *ca_file;    /* or NULL */
    const char *purpose;
    const char *retention;
    uint64_t backlog_max; /* 0 = journal max */
    const struct contract_egress *egress;
    bool forwards_flags; /* flags: forward */
};
void contract_facts(const struct contract *contract, struct contract_facts *ret_facts);
/* The distinct-value limits that the resolver must count. Returns the count written. */
size_t plan_distinct(const struct plan *plan, struct resolve_distinct *out, size_t cap);

/* -- rulesets ----------------------------------------------------------------------------------------------------------------- */

struct policy_source {
    uint16_t number;
    const char *name;
    bool feeds_vendor; /* listed in the source's `vendors` */
};

struct ruleset;
int ruleset_compile(const struct contract *contract, const struct plan *plan,
                    const struct policy_source *sources, size_t source_count,
                    struct ruleset **ret_ruleset, struct err *err) BH_MUST_USE;
void ruleset_free(struct ruleset *ruleset);
/* Normal form: RFC 8785 JSON; its SHA-256 is what the ledger's contract leaf holds. */
int ruleset_write(const struct ruleset *ruleset, struct buf *out) BH_MUST_USE;
int ruleset_read(struct span json, struct ruleset **ret_ruleset, struct err *err) BH_MUST_USE;
bool ruleset_equal(const struct ruleset *a, const struct ruleset *b);
/* `undeclared: hold`: what it holds back is listed for a person; `drop` asks for no list. */
bool ruleset_lists_undeclared(const struct ruleset *ruleset);
/* "requires consent.analytics; honours dnt, gpc": what of consent a rule set asks, for people; nothing where it asks nothing. */
void ruleset_put_consent(const struct ruleset *ruleset, struct buf *out);
/* False: it requires consent that neither SDKs of this protocol nor the plan's properties can say, so what requires it never leaves. */
bool ruleset_hears_consent(const struct ruleset *ruleset, const struct protocol_ops *protocol);
/* A plan alone, under a contract of this protocol that opens nothing and that source 1 feeds: for asking what is declared. */
int ruleset_of_plan(const struct plan *plan, const char *connector, struct ruleset **ret_ruleset,
                    struct err *err) BH_MUST_USE;

/* -- verdicts ------------------------------------------------------------------------------------------------------------------- */

struct policy;
/* `keys` = this vendor's pseudonym keys; `aids` as the resolver's. */
int policy_new(const struct vendor_keys *keys, const struct aid_maker *aids, uint16_t instance,
               struct policy **ret_policy) BH_MUST_USE;
void policy_free(struct policy *policy);

struct policy_input {
    const struct protocol_ops *protocol;
    const struct record_request *request;
    const struct record_event *event; /* with seq, findings */
    const struct json_token *tokens;  /* of event->json */
    size_t token_count;
    struct span space; /* the source's ids: word */
    const struct ruleset *const
        *rulesets; /* in force from the event's seq until now, oldest first, at least one */
    size_t ruleset_count;
    /* seq at which the property (hash64 of its name, seed 0) closed, UINT64_MAX = open. */
    uint64_t (*distinct_closed_at)(void *context, uint64_t property);
    void *context;
    uint32_t
        spread_ms; /* +1 ms each for events of one person in one request in the same unit of time, so that a floored time keeps their order */
};

struct disclosed {
    uint16_t class_id;
    struct form form;
};

enum { VERDICT_DISCLOSED_MAX = 64, VERDICT_AIDS_MAX = 16 };

struct verdict {
    bool sends;
    uint8_t reason;   /* why not, when !sends (REASON_) */
    struct span json; /* the item as the vendor receives it */
    uint8_t disclosed_count;
    struct disclosed disclosed[VERDICT_DISCLOSED_MAX]; /* sorted by class, form, level; unique */
    uint8_t aid_count; /* primary first; $identify, alias, merge name all */
    struct aid aids[VERDICT_AIDS_MAX];
    uint8_t
        insert_id[40]; /* the vendor's dedupe id that went into json; for poison lists and trace */
    uint8_t insert_id_size;
    int64_t time_ms; /* the item's, as it leaves */
    uint32_t withheld_leaves;
    uint32_t withheld_by_reason[REASON_LIMIT];
};

/* One leaf's story, for preview --explain, tap (without values) and tests. */
struct policy_leaf {
    struct span pointer; /* RFC 6901 */
    uint16_t class_id;   /* the deciding class */
    struct form form;    /* FORM_DROP when withheld */
    uint8_t reason;      /* when withheld */
    const char *rule;    /* e.g. "allow user.device: coarse family", "undeclared: hold", "never" */
};
typedef void policy_explain_fn(void *context, const struct policy_leaf *leaf);

/* Writes the transformed item into `out`. explain may be NULL. */
void policy_apply(struct policy *policy, const struct policy_input *input, struct buf *out,
                  struct verdict *ret_verdict, policy_explain_fn *explain, void *explain_context);

/*
 * verdict->json, which sends, in the words of the translator's target, appended to `out`. What the target cannot express counts as withheld; where it is
 * all, the event does not leave. `tokens`: LIMIT_EVENT_TOKENS, used as scratch; `lost` may be NULL.
 */
void policy_translate(struct policy *policy, const struct policy_input *input,
                      struct translator *translator, struct json_token *tokens, struct buf *out,
                      struct verdict *verdict, struct translated *ret, translate_lost_fn *lost,
                      void *lost_context);

/*
 * Tokens of the leaves that neither table nor plan declares, the event's name among them, in the order of the item. Leaves of an undeclared event are
 * asked one by one all the same. Returns the count, at most cap. The policy needs no aids for it.
 */
size_t policy_undeclared(struct policy *policy, const struct policy_input *input,
                         uint32_t *ret_tokens, size_t cap);

/* The reverse for traces and tests: a pseudonym as this vendor shows it -> aid. */
/* A UUID shape lacks 6 bits: all aids that it may stand for, 64 at most; the caller knows which of them exists. Returns the count. */
size_t policy_pseudonym_aids(struct policy *policy, enum id_domain domain, struct span pseudonym,
                             struct aid *out, size_t cap);
/* The one aid, for pseudonyms that are no UUID; false for all else. */
bool policy_pseudonym_reverse(struct policy *policy, enum id_domain domain, struct span pseudonym,
                              struct aid *ret_aid);

#endif
