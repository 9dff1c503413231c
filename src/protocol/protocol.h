/*
 * Protocol: what all vendors' wire formats have in common, wire <-> event.
 *
 * A protocol has two halves. *Ingest* gives it a request's bytes and gets items back; *deliver*
 * gives it items that policy has already transformed and gets request bodies back. Between them an
 * item is the JSON object that the SDK sent; policy and inspect learn what its keys mean from the
 * protocol's field table.
 *
 *   ingest:   request --decode--> envelope + items[]
 *             envelope + verdict --reply--> exact bytes that the SDK wants
 *   walking:  place = root_place(kind); field(place, key) -> struct field,
 *             or NULL: then the plan decides. field->inside != 0: the members of
 *             its object are keys of that place; else it covers all inside it
 *   deliver:  endpoint(kind) groups items; encode(endpoint, items) -> post;
 *             answer(endpoint, status, body) -> what happened
 *
 * Invariants: decode copies nothing of a credential into `env`; tokens and text of a decoded
 * request are one array and one span, whatever the wrapping was (item offsets and indexes are
 * relative to both). encode is deterministic.
 * Owner: the caller owns all memory (struct protocol_work); spans live as long as it and the
 * request do.
 * Thread: any; a protocol_work belongs to one thread.
 * Limits: model/limits.h.
 * Errors: see decode.
 */
#ifndef BH_PROTOCOL_PROTOCOL_H
#define BH_PROTOCOL_PROTOCOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/errors.h"
#include "engine/json/json.h"
#include "model/class.h"
#include "model/consent.h"
#include "model/event.h"
#include "model/form.h"
#include "model/limits.h"
#include "model/reason.h"

/* ---- the field table ---- */

/* Where a key stands. 0 is no place: members below a data field have none. */
enum field_place {
    PLACE_NONE = 0,
    PLACE_EVENT = 1,          /* the event object itself: event, properties */
    PLACE_EVENT_PROPERTY = 2, /* a member of properties; the plan's `properties` and `groups` */
    PLACE_PROFILE = 3,        /* the profile update itself: $token, $distinct_id, $set ... */
    PLACE_PROFILE_VALUE = 4,  /* a member of an operation; the plan's `traits` and `groups` */
    PLACE_GROUP = 5,          /* the group update itself */
    PLACE_GROUP_VALUE = 6,    /* a member of an operation on a group; the plan's `traits` */
    PLACE_TRANSACTION = 7,    /* a member of $transactions */
    /* Of SDKs that keep what they know of page and device in an object apart: its members. */
    PLACE_CONTEXT = 8,
    PLACE_CONTEXT_PAGE = 9,
    PLACE_CONTEXT_LIBRARY = 10,
    PLACE_CONTEXT_APP = 11,
    PLACE_CONTEXT_DEVICE = 12,
    PLACE_CONTEXT_SYSTEM = 13, /* os, userAgentData */
    PLACE_CONTEXT_SCREEN = 14,
    PLACE_CONTEXT_NETWORK = 15,
    PLACE_CONTEXT_LOCATION = 16,
    PLACE_CONTEXT_CAMPAIGN = 17,
    PLACE_CONTEXT_REFERRER = 18,
    PLACE_GROUPS = 19, /* an object of group key: id; the plan's `groups` */
    /* Operations on a person or group, or values without one, which are looked up as PROFILE_VALUE or GROUP_VALUE. */
    PLACE_USER_PROPERTIES = 20,
    PLACE_GROUP_PROPERTIES = 21,
    PLACE_LIMIT = 22,
};

enum field_role {
    ROLE_DATA = 0,   /* class, type and level say all */
    ROLE_EVENT_NAME, /* the plan's `events` decide */
    /*
     * Which call of the SDK made the item (page, identify): names the event where nothing else does.
     * Decode refuses words that are none, so it leaves as it is.
     */
    ROLE_CALL,
    ROLE_PROPERTIES, /* the object that holds an event's properties */
    ROLE_OPERATION,  /* an operation on a profile or group: its members are the values */
    /*
     * An operation that names what it takes away ($unset), in strings, or in the keys of an object whose
     * `inside` knows them: each leaves if that name is declared.
     */
    ROLE_NAMES,
    ROLE_PERSON,    /* an id of a person: `person` says which; domain person */
    ROLE_INSERT_ID, /* policy replaces it, and adds one where there is none */
    ROLE_TIME,      /* the item's own time; policy adds it to events where there is none */
    ROLE_TOKEN,     /* the source's credential: policy drops it, encode adds the vendor's */
    ROLE_GROUP_KEY, /* the name of a group: the plan's `groups` decide */
    ROLE_GROUP_ID,  /* an id of a group; domain organisation */
    /* Tells the vendor how to treat the item ($ignore_time, mp_lib): leaves when its type fits and
     * its class is open. */
    ROLE_PLUMBING,
    /*
     * To whom the vendor may pass the item on: dropped whatever the SDK said, since encode says it.
     */
    ROLE_ONWARD,
};

/* Which id of a person a field holds; what the resolver makes links from. */
enum person_kind {
    PERSON_NONE = 0,
    PERSON_DISTINCT = 1,  /* distinct_id: anonymous before login, the user after */
    PERSON_USER = 2,      /* $user_id, $identified_id */
    PERSON_DEVICE = 3,    /* $device_id, and any id with the $device: prefix */
    PERSON_ANONYMOUS = 4, /* $anon_distinct_id, $anon_id: what the SDK used before */
    PERSON_ALIAS = 5,     /* alias: claimed to be the same person */
    PERSON_MERGED = 6,    /* $distinct_ids[]: claimed to be one person */
    PERSON_ECHO = 7,      /* repeats the item's own id ($delete): pseudonymised, links nothing */
};

/* What a value must look like to count as declared; see field_fits(). */
enum field_type {
    TYPE_OBJECT = 1, /* a container of keys: `inside` */
    TYPE_TEXT, /* free text: no string fits, so it is undeclared unless the plan declares the key */
    TYPE_ANY,  /* any scalar: the class alone decides */
    TYPE_BOOL,
    TYPE_NUMBER, /* a number, or a string that is one */
    TYPE_ID,     /* up to 255 bytes without control characters, or a number */
    /* Seconds, milliseconds or ISO 8601; policy floors it to the contract's precision. */
    TYPE_TIME,
    TYPE_WORD, /* a technical word: 1..40 letters, digits and . _ - : no spaces, so that no sentence and no full name fits */
    TYPE_FAMILY, /* one of wire/families.def: a browser, a system, a maker */
    TYPE_LABEL, /* 1..64 letters, digits, spaces and . _ - + / : ( ) , only where the class is closed or the operator opens it knowingly */
    TYPE_VERSION,  /* a number, or digits, letters, . _ - + up to 32 */
    TYPE_URL,      /* with a scheme; or $direct; or empty */
    TYPE_PATH,     /* begins with / */
    TYPE_URL_PART, /* ?query or #fragment, or empty */
    TYPE_HOST,     /* name or address with an optional port; or $direct; or empty */
    TYPE_IP,
    TYPE_COUNTRY,  /* two capital letters */
    TYPE_LANGUAGE, /* en, en-GB */
    TYPE_TIMEZONE, /* Europe/Paris, UTC, +01:00 */
    TYPE_EMAIL,
    TYPE_PHONE,
    TYPE_NAME,  /* of a person or place: up to 128 bytes without control characters */
    TYPE_QUERY, /* what someone searched for: up to 255 bytes */
    TYPE_NAMES, /* an array of property names */
    TYPE_PACKAGE, /* of a library: a word, or @word/word: the sign stands first, so that no e-mail fits */
    TYPE_LIBRARY, /* name and version of one in one: a word, /, and a version that begins with a digit */
    TYPE_DASH, /* the sign - alone: of an operation that needs no value */
};

struct field {
    const char *name; /* as in the JSON, without the * of a prefix */
    uint8_t name_len;
    bool is_prefix;    /* name* */
    uint8_t place;     /* enum field_place */
    uint8_t role;      /* enum field_role */
    uint16_t class_id; /* enum class_id; CLASS_NONE for containers */
    uint8_t domain;    /* enum id_domain: pseudonyms of this field */
    uint8_t type;      /* enum field_type */
    /* enum form_level: how coarse the value is by nature; LEVEL_NONE = finer than any */
    uint8_t level;
    uint8_t inside; /* enum field_place of its object's members, or PLACE_NONE */
    uint8_t person; /* enum person_kind of ROLE_PERSON */
    /* Person: 1.. = order in which primary ids are tried, 0 = never the primary. Time: likewise, 0 = not the item's. */
    uint8_t rank;
};

/*
 * Whether a value is what the table expects. `value` is decoded (unescaped) for strings, raw for
 * numbers. null fits everywhere; an array fits when each element does (the caller asks for each
 * leaf); an object fits only TYPE_OBJECT.
 */
bool field_fits(const struct field *field, enum json_kind kind, struct span value);
/* Seconds or milliseconds (more than 1e11) since 1970, or ISO 8601 without a zone as UTC. */
bool field_time_ms(enum json_kind kind, struct span value, int64_t *ret_ms);

/* ---- decoding ---- */

struct protocol_request {
    uint8_t method;            /* enum http_method */
    struct span path;          /* without the protocol's own prefix: /track/ */
    struct span query;         /* raw */
    struct span authorization; /* header's value, or SPAN_NONE */
    uint8_t *body;             /* changed by decode: JSON is used and repaired where it stands */
    size_t body_len;
    int64_t now_ms; /* arrival */
};

/*
 * What decoding needs beside the request. `text` takes what gzip, base64 and percent-encoding
 * unwrap to, then the ids whose escapes were decoded: twice the decoded limit is always enough.
 */
struct protocol_work {
    uint8_t *text;
    size_t text_cap;
    size_t text_used; /* set by decode: no byte of `text` from here on was written to */
    struct json_token *tokens;
    size_t tokens_cap;
    struct protocol_item *items;
    size_t items_cap;   /* LIMIT_REQUEST_EVENTS */
    size_t decoded_max; /* bytes of the unwrapped body: LIMIT_REQUEST_BYTES */
    struct wire *wire;  /* wire_new(): gzip state, one per thread */
    /* SIPHASH_KEY_SIZE bytes for the items' `ids`; NULL: they get none */
    const uint8_t *ids_key;
};

/* What an endpoint is for. */
enum endpoint_use {
    ENDPOINT_NONE = 0,  /* no such path: 404 */
    ENDPOINT_ITEMS = 1, /* items: answer after the journal */
    ENDPOINT_LOCAL = 2, /* settings, flags: answered here, nothing kept */
    /* Accepted to keep the SDK quiet, thrown away, counted as not_allowed: session replay. */
    ENDPOINT_SHED = 3,
    /*
     * A question about a person (feature flags): one item or none, nothing kept; answered as LOCAL unless a contract
     * passes it on.
     */
    ENDPOINT_ASK = 4,
};

struct protocol_envelope {
    uint8_t endpoint; /* the protocol's own number (record_request.kind); 0 = no such path */
    uint8_t use;      /* enum endpoint_use */
    bool ip;          /* the SDK asks that the request's own address be used */
    bool verbose;
    bool strict;
    uint8_t form; /* of a question: how the SDK wants it answered, the protocol's own number */
    bool
        asks; /* questions of this source are passed on: set before reply, for settings that tell the SDK to ask */
    bool image;             /* img=1: wants a pixel */
    struct span callback;   /* JSONP, already sanitised; else empty */
    struct span project_id; /* raw */
    struct span user; /* Basic credentials, decoded into work->text; empty where there are none */
    struct span secret;
    struct span api_key; /* old /import */
    size_t body_bytes;   /* as they came, for answers that repeat it */
    int64_t now_ms;
};

struct protocol_item {
    struct span json;  /* its bytes */
    struct span token; /* credential in the item, decoded; empty when there is none */
    /* Primary id, decoded, without the $device: prefix, a number as decimal; empty = nobody. */
    struct span person;
    struct span dedupe;     /* the SDK's insert id, decoded; empty when there is none */
    struct span event_name; /* decoded; empty for profiles and groups */
    int64_t time_ms;
    /* The time that the item states, before any correction by clocks: the same in a retry. 0: none. */
    int64_t said_ms;
    /*
     * Fingerprint of protocol, kind and all ids that person_next gives, in its order, of an item
     * that names more than one or is there to name some; 0 = none, or they are many or long.
     */
    uint64_t ids;
    uint32_t root; /* index of its object in tokens */
    uint8_t kind;  /* enum event_kind */
    uint8_t flags; /* enum event_flag: HAS_LINKS, IS_HISTORIC, NO_TIME */
    /* enum reason_id: NONE = good; ingest may set it (unknown token) before reply. */
    uint8_t reason;
};

struct protocol_decoded {
    struct protocol_envelope envelope;
    struct span text; /* what all offsets are relative to */
    const struct json_token *tokens;
    size_t token_count;
    struct protocol_item *items;
    size_t item_count;
};

/* ---- answering ---- */

/* What became of the request as a whole; items' `reason` says which were refused. */
enum reply_kind {
    REPLY_KEPT = 1,     /* durable: all good items */
    REPLY_MALFORMED,    /* nothing could be read, or no item was good */
    REPLY_UNAUTHORIZED, /* all tokens unknown */
    REPLY_TOO_BIG,
    REPLY_UNAVAILABLE, /* overload or no space: ingest adds Retry-After */
    REPLY_NOT_FOUND,
    REPLY_BAD_METHOD,
};

struct protocol_reply {
    unsigned status;
    const char *content_type;
    struct span body; /* a literal, or in the buffer given */
};

/* ---- ids of people ---- */

struct person_ref {
    /*
     * decoded into the iterator's scratch where needed; without the $device: prefix; never a
     * placeholder
     */
    struct span id;
    uint32_t leaf;  /* its token, relative to the item's root */
    uint8_t kind;   /* enum person_kind */
    bool is_device; /* kind device, or the value had the $device: prefix */
};

enum { PERSON_ITER_DEPTH = 4 }; /* how deep objects of a field table lie inside each other */

struct person_iter {
    struct span text;
    const struct json_token *tokens;
    uint32_t root;
    struct buf *scratch;
    uint32_t _at; /* next key */
    uint32_t _end;
    uint32_t _element; /* next element of an array of ids */
    uint32_t _elements_end;
    uint8_t _place;
    uint8_t _person;
    uint8_t _depth;
    struct {
        uint32_t end;
        uint8_t place;
    } _outer[PERSON_ITER_DEPTH];
};

/* ---- encoding ---- */

enum { PROTOCOL_ENDPOINTS_MAX = 8 };

struct protocol_post {
    const char *path; /* with query, after the contract's endpoint URL */
    const char *content_type;
    bool gzip;         /* body is compressed */
    bool basic_auth;   /* send Authorization: see authorize */
    struct span plain; /* uncompressed body: what the ledger hashes */
    struct span body;  /* what is sent */
};

enum answer_kind {
    ANSWER_ACCEPTED = 1, /* complete; `refused` of them were named as refused */
    ANSWER_REFUSED,      /* refused without saying which: bisect */
    ANSWER_RETRY,        /* 408, 425, 429, 5xx, or an answer that is not the vendor's */
    ANSWER_AUTH,         /* 401, 403, 404, 3xx: parks */
    ANSWER_TOO_BIG,      /* 413: halve */
};

struct protocol_answer {
    uint8_t kind; /* enum answer_kind */
    uint32_t refused_count;
};

enum time_form { TIME_FORM_SECONDS, TIME_FORM_MS, TIME_FORM_ISO };
enum insert_form { INSERT_FORM_BASE32, INSERT_FORM_UUID };

/* How an item says what its person agreed to. */
enum consent_form {
    CONSENT_FORM_NONE = 0,
    CONSENT_FORM_CATEGORIES,   /* an object of category: true, "granted", ... */
    CONSENT_FORM_GIVEN,        /* a list of categories that are given */
    CONSENT_FORM_REFUSED,      /* a list of categories that are refused */
    CONSENT_FORM_TRUE_REFUSES, /* true refuses `refuses` */
    CONSENT_FORM_FALSE_REFUSES,
};

/* Where an SDK writes it: keys from the root, NULL behind them. */
struct consent_place {
    const char *keys[4];
    uint8_t form;    /* enum consent_form; NONE ends the list */
    uint8_t refuses; /* enum consent_bit, of the last two forms */
};

/* What policy writes into an item, whatever the SDK wrote there; and where it finds what it asks for. */
struct protocol_names {
    bool
        at_root; /* the two keys below stand in the item itself, of every kind; else in an event's properties */
    const char *insert_id; /* key of the dedupe id */
    uint8_t insert_form;   /* enum insert_form */
    const char *time;      /* key of the time */
    uint8_t time_form;     /* enum time_form; seconds have .mmm where they need it */
    /* Key that gets "" where an event's ids are closed; NULL: an event about nobody cannot be said. */
    const char *person;
    const char *device_prefix; /* of distinct ids that are a device's; NULL: none */
    const char *page_url[4];   /* keys from the root to the address of the page, NULL behind them */
    /*
     * A profile or group update says something without any value: identify links its two ids, group puts a
     * person into one.
     */
    bool links_alone;
    bool asks; /* an item is a question about a person, which its id alone can be */
    const struct consent_place *consents; /* up to CONSENT_FORM_NONE; NULL: the SDKs write none */
};

/* ---- questions ---- */

/* What the vendor was asked: as the SDK wrote it and as it left. Both whole JSON objects. */
struct protocol_question {
    struct span asked;
    struct span sent;
};

/* A protocol whose vendor answers questions about a person while the SDK waits. */
struct protocol_ask {
    /* How inspect and policy read a question: an item of kind PROFILE of this table. */
    const struct protocol_ops *item;
    uint8_t endpoint; /* in the ledger; none that takes items */
    /*
     * An item of kind PROFILE that names this id as the question does, and says nothing else: what gives it a number where it has none. No vendor is sent it.
     */
    void (*introduce)(const struct person_ref *person, struct buf *out);
    /* The request for one question, as policy let it leave. BH_E_FULL. */
    int (*encode)(uint8_t form, struct span sent, struct span credential, struct buf *plain,
                  struct protocol_post *ret);
    /*
     * The vendor's answer as the SDK may have it: what the table of the protocol knows and nothing else, each pseudonym of
     * the question turned back. SYNTAX: it is no answer. TOO_BIG: `out` or the tokens do not hold it.
     */
    int (*answer)(const struct protocol_question *question, unsigned status, struct span body,
                  struct json_token *tokens, size_t tokens_cap, struct buf *out);
};

struct protocol_model;

/* What a signature is made of. */
struct protocol_signing {
    struct span credential; /* the vendor's */
    struct span vendor;     /* its name in the contract */
    struct span body;       /* as it is sent */
    int64_t time_ms;        /* of the attempt */
};

/* A request that holds one item alone: its path, and what stands before and behind the item in its body. */
struct protocol_alone {
    const char *path;
    const char *before;
    const char *after;
};

struct protocol_ops {
    uint8_t id; /* enum protocol_id */
    const char *name;
    /* grows with every change of the field table or placeholders: part of rule sets */
    uint16_t table_version;
    struct protocol_names names;
    const struct protocol_model *model; /* wire/model.h: translation from and to other protocols */
    uint32_t items_max;                 /* per request to the vendor */
    uint32_t body_max;                  /* bytes of one request to the vendor, uncompressed */
    /* number of endpoints of the vendor that take items: 1..endpoints, in sending order */
    uint8_t endpoints;

    /* Fields. O(1) from the raw key bytes (keys with escapes must be decoded first). */
    uint8_t (*root_place)(enum event_kind kind);
    const struct field *(*field)(enum field_place place, struct span key);
    /*
     * Events that the SDK itself names ($identify, $mp_web_page_view): declared without a line in
     * the plan.
     */
    bool (*is_reserved_event)(struct span name);
    /* All rows, for preview, docs and tests. */
    const struct field *(*fields)(size_t *ret_count);
    /* Whether an id is none ("null", "0", ...). `id` without the device prefix. */
    bool (*is_placeholder)(struct span id);

    /*
     * NULL: a connector only, which no SDK speaks; then reply, env and the two of ids are NULL too.
     *
     * Unwraps and parses. 0: *ret is filled, items may be bad one by one. Negative: nothing could
     * be read, and only ret->envelope is filled: SYNTAX and UTF8 = REPLY_MALFORMED; TOO_BIG,
     * TOO_MANY = REPLY_TOO_BIG; NOTFOUND = no such path; UNSUPPORTED = method. For endpoints of use
     * LOCAL and SHED the body is not read; of ASK one that is no question is none.
     */
    int (*decode)(const struct protocol_request *request, struct protocol_work *work,
                  struct protocol_decoded *ret);
    /* For commands that read items one by one. NULL: no request of this protocol is known to them. */
    struct protocol_alone (*alone)(struct span item);
    /*
     * Exact answer. `items` may be NULL when decode failed. The body stands in `memory` or is a
     * literal.
     */
    void (*reply)(const struct protocol_envelope *envelope, enum reply_kind kind,
                  const struct protocol_item *items, size_t item_count, struct buf *memory,
                  struct protocol_reply *ret);
    /* RFC 8785 JSON of what encoding needs later; never a credential. */
    void (*env)(const struct protocol_envelope *envelope, struct buf *out);

    /*
     * Ids of people in document order. init with the item's tokens (root 0 when the item was parsed
     * alone).
     */
    void (*person_begin)(struct person_iter *it, struct span text, const struct json_token *tokens,
                         uint32_t root, enum event_kind kind, struct buf *scratch);
    bool (*person_next)(struct person_iter *it, struct person_ref *ret);

    /* Which endpoint of the vendor takes an item of this kind: 1..endpoints. */
    unsigned (*endpoint)(enum event_kind kind);
    /*
     * One request of items of one endpoint, each transformed by policy (no token). credential = the
     * vendor's. The uncompressed body goes to `plain`, the compressed one (where the vendor takes
     * gzip) to `packed`. No items: the empty probe. BH_E_FULL.
     */
    int (*encode)(unsigned endpoint, const struct span *items, size_t item_count,
                  struct span credential, struct wire *wire, struct buf *plain, struct buf *packed,
                  struct protocol_post *ret);
    /* Bytes that an item of `json_len` adds to a body, at most. */
    size_t (*encoded_size)(unsigned endpoint, size_t json_len, size_t credential_len);
    /* Value of the Authorization header. */
    void (*authorize)(struct span credential, struct buf *out);
    /* Whether a credential is of the form that credential_form says in words; NULL: any is. */
    bool (*is_credential)(struct span credential);
    const char *credential_form;
    /*
     * Header lines, each ended by a line feed, that prove who sends this body, and when: all that a request says and encode, which is the same
     * for every try, does not. NULL: none. BH_E_KEY, FULL.
     */
    int (*sign)(const struct protocol_signing *signing, struct buf *out);
    /*
     * What the vendor's answer means. `refused` takes indexes in ascending order, `item_count` of
     * them at most.
     */
    void (*answer)(unsigned endpoint, unsigned status, struct span body, size_t item_count,
                   uint32_t *refused, struct protocol_answer *ret);
    const struct protocol_ask *ask; /* NULL: the vendor is asked nothing */
};

/* NULL when there is none. */
const struct protocol_ops *protocol_by_id(uint8_t id);
const struct protocol_ops *protocol_by_name(struct span name);
/* Names of all, in the order in which they are listed to people: what a contract's connector may be. */
const char *const *protocol_list(size_t *ret_count);
/* Of those that SDKs speak: what a source's protocol may be. */
const char *const *protocol_list_of_sources(size_t *ret_count);

#endif
