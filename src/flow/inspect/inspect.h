/*
 * inspect: what is personal or secret in an item, and where.
 *
 *   JSON tokens + field table --> findings (leaf, class, span, why) --> never-spans overwritten in place
 *
 * Pure: bytes in, findings out; no clock, no I/O, no configuration beyond the table compiled in
 * (DETECTORS_VERSION). Schema knowledge here is the protocol's field table only; what a plan
 * declares is policy's business at sending time and never stored as a finding.
 *
 * Invariants
 *  I1 Every leaf of a known reserved field has a finding of its class (by schema); a value match
 *     needs no key; a key alone decides where values have no shape.
 *  I2 After inspect_overwrite no byte of a span of a never-on-disk class remains in the item, its
 *     keys or anything nested in it; the item is still valid JSON of equal length
 *     with the same tokens (so `leaf` stays true).
 *  I3 The scalar and the SIMD path give identical findings. Work is linear in the bytes; nesting
 *     of encodings is at most 4 deep.
 * Owner: an inspector belongs to one thread; tables are shared and immutable. Memory: made at
 * inspector_new, nothing per item. Errors: an item with more findings than LIMIT_EVENT_FINDINGS or
 * more tokens than LIMIT_EVENT_TOKENS is refused as TOO_MANY (reason too_complex).
 */
#ifndef BH_FLOW_INSPECT_H
#define BH_FLOW_INSPECT_H

#include "base/bytes.h"
#include "base/errors.h"
#include "engine/json/json.h"
#include "model/event.h"
#include "model/finding.h"
#include "protocol/protocol.h"

enum { DETECTORS_VERSION = 2 }; /* grows with every change of what is found */

struct inspector;

/* Tables and pattern databases: once per process (compiles Vectorscan databases). */
int inspect_tables_init(struct err *err) BH_MUST_USE;
int inspector_new(struct inspector **ret_inspector) BH_MUST_USE; /* NOMEM */
void inspector_free(struct inspector *inspector);

/* One item to look at: tokens[root..next) of `text`. */
struct inspect_item {
    uint32_t root;          /* index of the item's root token in the request's tokens */
    uint8_t kind;           /* enum event_kind: which part of the field table applies */
    uint16_t finding_count; /* out */
    uint32_t
        finding_first; /* out: index into the findings array; leaf numbers are relative to root */
    int error;         /* out: 0 or TOO_MANY */
};

/*
 * Looks at all items of one request at once (values are scanned joined, which is seven times faster
 * than one by one). `findings` has room for findings_cap in all; an item that does not fit gets
 * error FULL. Findings of one item are sorted by leaf, start.
 */
void inspect_items(struct inspector *inspector, const struct protocol_ops *protocol,
                   struct span text, const struct json_token *tokens, size_t token_count,
                   struct inspect_item *items, size_t item_count, struct finding *findings,
                   size_t findings_cap);

/*
 * Overwrites the never-on-disk spans of the item in place. Returns whether anything was
 * overwritten.
 */
bool inspect_overwrite(uint8_t *text, const struct json_token *tokens, uint32_t root,
                       const struct finding *findings, size_t count);

/*
 * The findings of one decoded string alone (for values that policy or the command line hold): leaf
 * is 0. Returns the count (<= cap).
 */
size_t inspect_string(struct inspector *inspector, struct span value, struct finding *findings,
                      size_t cap);

/*
 * Findings as they lie in the journal: {leaf u16, class u16, by u8, start varint, length varint (0
 * = whole, else length + 1)}.
 */
void findings_write(struct buf *b, const struct finding *findings, size_t count);
/* Returns the count or BH_E_CORRUPT. */
long findings_read(struct span bytes, struct finding *findings, size_t cap);

#endif
