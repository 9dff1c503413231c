/* What the segment module's files share with each other only. */
#ifndef BH_PROTOCOL_SEGMENT_INT_H
#define BH_PROTOCOL_SEGMENT_INT_H

#include "protocol/segment/segment.h"
#include "protocol/wire/item.h"

extern const struct item_table segment_table;

/* What a request says of all its messages. */
struct segment_batch {
    int64_t now_ms;
    int64_t sent_ms; /* by the sender's clock */
    bool has_sent;
    bool deep; /* the parser met values deeper than a message may have */
};

int segment_decode(const struct protocol_request *request, struct protocol_work *work,
                   struct protocol_decoded *ret);
void segment_env(const struct protocol_envelope *envelope, struct buf *out);
/* Fills the item's facts or its reason; text, tokens and item->root are set. */
void segment_read_item(const struct protocol_decoded *decoded, const struct segment_batch *batch,
                       struct buf *scratch, struct protocol_item *item);
/* An object's member of this name as a time. */
bool segment_time_of(const struct protocol_decoded *decoded, uint32_t object, const char *name,
                     struct buf *scratch, int64_t *ret_ms);

void segment_reply(const struct protocol_envelope *envelope, enum reply_kind kind,
                   const struct protocol_item *items, size_t item_count, struct buf *memory,
                   struct protocol_reply *ret);

int segment_encode(unsigned endpoint, const struct span *items, size_t item_count,
                   struct span credential, struct wire *wire, struct buf *plain, struct buf *packed,
                   struct protocol_post *ret);
void segment_answer(unsigned endpoint, unsigned status, struct span body, size_t item_count,
                    uint32_t *refused, struct protocol_answer *ret);

#endif
