/*
 * Model: an event apart from any vendor's words, so that what one protocol's SDK said can be written as another vendor takes it.
 *
 *   item as it may leave --(translate.c, by the source's field table and rows)--> struct model --write, of the target--> items of the target
 *
 * A field of a protocol's table that means the same as one of others has a row: slot, place, key. Rows serve both ways. What has no slot is a
 * property, trait or group by its own name. The model holds indexes of the item's tokens and no text; a value is written as it stood.
 *
 * Invariants
 *  M1 Nothing is written that was not in the item, ids of groups and people least of all; constants and shapes of ids apart.
 *  M2 Whatever was read and not written is counted as lost: a writer says nothing of losses, it marks what it wrote.
 *  M3 No object gets a key twice, and no property the name of a field that means something else at the target.
 * Owner: the caller of translate(); text and tokens outlive the model. Thread: one. Memory: fixed, MODEL_MEMBERS_MAX members.
 * Errors: an item of more members is TOO_MANY (translate.h); out->full.
 */
#ifndef BH_PROTOCOL_MODEL_H
#define BH_PROTOCOL_MODEL_H

#include "protocol/protocol.h"

enum model_slot {
    SLOT_NONE,
#define SLOT(name, path, plain) SLOT_##name,
#include "protocol/wire/slots.def"
#undef SLOT
    SLOT_LIMIT
};

/* Of whom a slot or member speaks. */
enum model_section { OF_EVENT, OF_PERSON, OF_GROUP, OF_LIMIT };

enum model_call {
    CALL_NONE =
        0, /* an event that the source's SDK names for itself, and no other protocol knows */
    CALL_TRACK,
    CALL_PAGE,
    CALL_SCREEN,
    CALL_IDENTIFY, /* joins an anonymous id and a user's; may change the profile as well */
    CALL_ALIAS,    /* a user was called otherwise before */
    CALL_MERGE,    /* two ids are one person */
    CALL_PROFILE,
    CALL_GROUP, /* puts a person into a group, or changes the group */
    CALL_LIMIT
};

enum model_op {
    OP_NONE = 0, /* a property of an event */
    OP_SET,
    OP_SET_ONCE,
    OP_ADD,
    OP_APPEND,
    OP_PREPEND,
    OP_UNION,
    OP_REMOVE,
    OP_UNSET,
    OP_DELETE, /* the whole profile or group */
    OP_MEMBER, /* not an operation: a group that the event or person is of, key: type, value: id */
    OP_LIMIT
};

/* A row of a protocol: what `slot` is called there. The first row of a slot in a section is written, all are read. */
struct model_row {
    uint8_t slot;
    uint8_t place;
    const char *key;
};

/* A name of an event or call, or of an operation, and what it means. */
struct model_word {
    const char *word;
    uint8_t meaning; /* enum model_call, enum model_op */
};

enum { MODEL_MEMBERS_MAX = 2048 };

struct model_member {
    uint32_t key;   /* token: a key, or a string that is the name to be unset */
    uint32_t value; /* token; 0 of OP_UNSET */
    uint8_t section;
    uint8_t op;
    uint8_t slot;
    const struct field *
        field; /* of the source's table, where it has no slot: called by its own name; NULL: the plan's */
    bool
        is_inner; /* of an operation that stands in a context: counts where the message has none of its own */
    bool is_written;
};

struct model {
    struct span text;
    const struct json_token *tokens;
    struct span device_prefix; /* of the source's ids */
    uint8_t call;
    bool is_historic;
    /* Tokens, 0 = none. */
    uint32_t name;
    uint32_t user;
    uint32_t anonymous;
    uint32_t previous; /* what the person was called before: links, aliases */
    uint32_t group_type;
    uint32_t group_id;
    bool joins_group; /* CALL_GROUP: the person becomes a member */
    bool is_delete;   /* the whole profile or group goes: only a neutral target says it */
    uint32_t facts[SLOT_LIMIT];
    uint64_t facts_written[(SLOT_LIMIT + 63) / 64];
    uint32_t member_count;
    struct model_member members[MODEL_MEMBERS_MAX];
    int64_t time_ms;       /* as it may leave */
    struct span insert_id; /* in the target's form; empty: none */
    struct span
        only_group; /* the plan's group where it has one only: for protocols whose groups have no type */
};

struct model_writer;

/* What a protocol adds to its field table so that it can be translated. */
struct protocol_model {
    const struct model_row *rows;
    size_t row_count;
    const struct model_word *calls; /* by the event's name, or by ROLE_CALL's word */
    size_t call_count;
    const struct model_word *ops;
    size_t op_count;
    /* Has no words of its own: takes any that a source's SDK reserves, of events too, and writes is_delete. */
    bool is_neutral;
    bool alias_is_user; /* of an alias, `alias` is what the person is called from now on */
    /* Writes no item, one, or several; each by model_begin .. model_end. NULL: no target. */
    void (*write)(struct model_writer *w);
};

/* ---- for writers ---- */

/* The target: its rows by slot. Immutable once made. */
struct model_target {
    const struct protocol_ops *ops;
    const struct model_row *rows[OF_LIMIT][SLOT_LIMIT];
};

/* MODEL_SEPARATOR stands between the items: RFC 7464's, which no JSON text holds. */
enum { MODEL_ITEMS_MAX = 15, MODEL_KEYS = 4096, MODEL_SEPARATOR = 0x1e };

struct model_item {
    uint32_t at; /* in `out` */
    uint32_t size;
    uint8_t kind; /* enum event_kind */
};

struct model_writer {
    const struct model_target *target;
    struct model *model;
    struct buf *out;
    struct model_item items[MODEL_ITEMS_MAX];
    unsigned item_count;
    /* Names in the object that is filled by model_put_properties or _op: a set of hashes. */
    uint64_t keys[MODEL_KEYS];
    uint16_t keys_used[MODEL_MEMBERS_MAX];
    uint32_t key_count;
};

void model_begin(struct model_writer *w, enum event_kind kind);
void model_end(struct model_writer *w);
void model_open(struct model_writer *w, const char *key);
/* An object without members is taken back, key and all; false then. */
bool model_close(struct model_writer *w);

void model_put(struct model_writer *w, const char *key, const char *text);
void model_put_raw(struct model_writer *w, const char *key, struct span json);
/* An id as a string, without the source's prefix of devices and with the one given; nothing for token 0. */
void model_put_id(struct model_writer *w, const char *key, const char *prefix, uint32_t token);
/* In the target's form. */
void model_put_time(struct model_writer *w, const char *key);
/* `more` tells a second item's from the first's: nothing or one letter. */
void model_put_insert_id(struct model_writer *w, const char *key, const char *more);
/* The event's name, as a string. */
void model_put_name(struct model_writer *w, const char *key);

bool model_has(const struct model_writer *w, enum model_slot slot);
struct span model_fact(const struct model_writer *w,
                       enum model_slot slot); /* raw JSON; empty = none */
void model_put_fact(struct model_writer *w, const char *key, enum model_slot slot);
/* All facts whose row at the target is of this place. */
void model_put_facts(struct model_writer *w, enum field_place place);
/* Properties by their own names, and facts that the target has no row for by their plain ones. */
void model_put_properties(struct model_writer *w);
/* An operation that has members which the target can take, as an object of them; false: none. `as_lists`: what is no array becomes one. */
bool model_put_op(struct model_writer *w, const char *key, enum model_section section,
                  enum model_op op, bool as_lists);
/* The names that OP_UNSET takes away: elements of an array, or keys with this value. False: none. */
bool model_put_unset(struct model_writer *w, const char *key, enum model_section section,
                     const char *value);
bool model_has_op(const struct model_writer *w, enum model_section section, enum model_op op);
/* type: id, as members of an object of their own, or among the properties that were just put. `one`: a type has one id, the first. */
void model_put_groups(struct model_writer *w, bool among_properties, bool one);
/* The id of the one group that can be said where groups have no type; 0 = none. */
uint32_t model_one_group(struct model_writer *w);
/* The group that CALL_GROUP is about: type as between quotes, or empty; the token of its id. False: none. */
bool model_group(struct model_writer *w, struct span *ret_type, uint32_t *ret_id);

/* "type": "value" with a name and a value that are no constants. */
void model_put_inner(struct model_writer *w, struct span key, struct span inner);

/*
 * The session's id as milliseconds or as a UUIDv7, whose first bits are milliseconds: one is made of the other. Left out where the source has
 * neither.
 */
void model_put_session_ms(struct model_writer *w, const char *key);
void model_put_session_uuid7(struct model_writer *w, const char *key);

/* Text of an id, as between quotes, without the source's prefix of devices; empty for none. */
struct span model_id(const struct model *model, uint32_t token);

#endif
