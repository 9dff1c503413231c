/*
 * Items: what ingest must know of one (its token, whom it is about, when, under which dedupe id)
 * and the ids of people in it, read by a protocol's field table.
 *
 * The walk goes over the item's tokens in document order and into the objects whose fields have an
 * `inside`; what else is nested holds no field of the table. A key that occurs twice counts as it
 * does in JSON.parse: the last one wins. The order of ranks decides among ids, the smallest first.
 * Nothing is copied but what has escapes, which goes to `scratch`.
 * Thread: any; the tables are immutable.
 * Errors: scratch->full, when an id with escapes does not fit.
 */
#ifndef BH_PROTOCOL_ITEM_H
#define BH_PROTOCOL_ITEM_H

#include "protocol/protocol.h"

/* How deep objects of the table lie inside each other: context.page.url is two. */
enum { ITEM_PLACES_DEEP = PERSON_ITER_DEPTH };

struct item_table {
    const struct field *(*field)(enum field_place place, struct span key);
    bool (*is_placeholder)(struct span id);
    const char *device_prefix; /* NULL: none */
};

/* Facts of an item beside what struct protocol_item holds; spans are decoded. */
struct item_facts {
    struct span call; /* ROLE_CALL: which call of the SDK made it */
    bool has_time;
    bool names_person; /* an id that could be the primary one */
};

/*
 * The JSON text of a request: its body, or without one the query's or form's `data`; unwrapped, and repaired where real
 * SDKs need it. Errors: of wire_unwrap_body.
 */
int item_unwrap(const struct protocol_request *request, struct span data,
                struct protocol_work *work, struct buf *scratch, struct span *ret_text) BH_MUST_USE;
/*
 * The request's one parse: text, tokens and token_count of *ret. *ret_deep: some value is nested deeper than an item may
 * be, and each item must be looked at (item_check). Errors: of json_parse.
 */
int item_parse(struct span text, struct protocol_work *work, struct protocol_decoded *ret,
               bool *ret_deep) BH_MUST_USE;

/*
 * Fills token, person, dedupe, event_name, time_ms (when it says one) and HAS_LINKS of an item whose
 * root is an object. The caller sets kind and reason, and what follows from the time's absence.
 */
void item_read(const struct item_table *table, enum field_place root_place,
               const struct protocol_decoded *decoded, struct buf *scratch,
               struct protocol_item *item, struct item_facts *ret_facts);

/*
 * REASON_NONE, or why the item can be no event: not an object, empty, too big, too deep, too many
 * tokens. `deep`: the parser met values that are nested deeper than an item may be.
 */
uint8_t item_check(const struct protocol_decoded *decoded, uint32_t root, bool deep);

/* The id that a token holds, as aids are made from it; false for placeholders and what is no id. */
bool item_person_id(const struct item_table *table, struct span text,
                    const struct json_token *token, struct buf *scratch, struct span *ret_id,
                    bool *ret_is_device);

/* protocol_ops.person_begin and person_next, for a table. */
void item_person_begin(struct person_iter *it, struct span text, const struct json_token *tokens,
                       uint32_t root, enum field_place root_place, struct buf *scratch);
bool item_person_next(const struct item_table *table, struct person_iter *it,
                      struct person_ref *ret);

#endif
