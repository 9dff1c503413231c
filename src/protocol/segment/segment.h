/*
 * Segment: its SDKs' requests, its field table, its tracking API; and what RudderStack shares with it.
 *
 * A message is one call of the SDK: type says which (track, page, screen, identify, group, alias), and who, when, the
 * dedupe id and the context of page and device stand in the message itself.
 *
 *   POST /v1/batch {batch:[message...], writeKey, sentAt}     node; /v1/b: browser, batched; /v1/import: history
 *   POST /v1/t|p|s|i|g|a message                              browser; also /v1/track, /v1/page ...
 *   GET  /v1/projects/<key>/settings                          without which the browser SDK sends nothing
 *   POST /v1/m                                                what the browser SDK counts about itself: thrown away
 *
 * Numbers are in the journal (record_request.kind) and the ledger (flags bits 0-3) and are given once.
 */
#ifndef BH_PROTOCOL_SEGMENT_H
#define BH_PROTOCOL_SEGMENT_H

#include "protocol/protocol.h"

/* Endpoints of the gateway, of both protocols. */
enum segment_path {
    SEGMENT_BATCH = 1,
    SEGMENT_TRACK = 2,
    SEGMENT_PAGE = 3,
    SEGMENT_SCREEN = 4,
    SEGMENT_IDENTIFY = 5,
    SEGMENT_GROUP = 6,
    SEGMENT_ALIAS = 7,
    SEGMENT_IMPORT = 8,
    SEGMENT_SETTINGS = 9,
    SEGMENT_METRICS = 10,
    RUDDER_CONFIG = 11,
};

/* The one endpoint of the vendor, of both. */
enum segment_endpoint { SEGMENT_SEND_BATCH = 1 };

extern const struct protocol_ops segment_ops;

/* -- for RudderStack, whose messages are the same -- */

struct segment_path_row {
    const char *path; /* a * stands for one part of it, which is a write key */
    uint8_t number;   /* enum segment_path */
    uint8_t use;      /* enum endpoint_use */
    const char *call; /* what `type` a single message has here; NULL: a batch, or no messages */
};

/* protocol_ops.decode for a protocol with these paths. */
int segment_decode_by(const struct segment_path_row *rows, size_t row_count,
                      const struct protocol_request *request, struct protocol_work *work,
                      struct protocol_decoded *ret);
void segment_env_by(const struct segment_path_row *rows, size_t row_count,
                    const struct protocol_envelope *envelope, struct buf *out);
uint8_t segment_root_place(enum event_kind kind);
const struct field *segment_field(enum field_place place, struct span key);
const struct field *segment_fields(size_t *ret_count);
bool segment_is_reserved_event(struct span name);
bool segment_is_placeholder(struct span id);
void segment_person_begin(struct person_iter *it, struct span text, const struct json_token *tokens,
                          uint32_t root, enum event_kind kind, struct buf *scratch);
bool segment_person_next(struct person_iter *it, struct person_ref *ret);
extern const struct consent_place segment_consents[];
unsigned segment_endpoint_of(enum event_kind kind);
/* {"batch":[...]} of messages that say where they may be passed on and that no address is known; BH_E_SYNTAX: one is too large for the vendor. */
int segment_put_batch(const struct span *items, size_t item_count, struct buf *plain);
size_t segment_encoded_size(unsigned endpoint, size_t json_len, size_t credential_len);
/* What a status means where a body of `taken` is the vendor's yes. */
void segment_answer_by(unsigned status, bool taken, struct protocol_answer *ret);

/* segment_model.c: of both */
extern const struct protocol_model segment_model;

#endif
