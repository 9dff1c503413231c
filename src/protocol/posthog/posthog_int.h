/* What the posthog module's files share with each other only. */
#ifndef BH_PROTOCOL_POSTHOG_INT_H
#define BH_PROTOCOL_POSTHOG_INT_H

#include "protocol/posthog/posthog.h"
#include "protocol/wire/item.h"

/* What a request says of all its items. */
struct posthog_batch {
    int64_t now_ms;
    int64_t skew_ms; /* arrival less the SDK's own time of sending: what its clock is behind */
    bool is_historic;
    bool is_deep; /* the parser met values that are nested deeper than an item may be */
};

/* How a question for flags was asked, and is passed on: the answers differ. */
enum posthog_form {
    FORM_FLAGS = 0,
    FORM_FLAGS_V2,
    FORM_DECIDE,
    FORM_DECIDE_V2,
    FORM_DECIDE_V3,
    FORM_DECIDE_V4,
};

extern const struct item_table posthog_items;
extern const struct protocol_ask posthog_ask;
/* The end of every answer about flags: nothing that loads more of the vendor's code. */
#define POSTHOG_FLAGS_REST \
    "\"sessionRecording\":false,\"supportedCompression\":[\"gzip\",\"gzip-js\"]}"

uint8_t posthog_root_place(enum event_kind kind);
const struct field *posthog_field(enum field_place place, struct span key);
const struct field *posthog_fields(size_t *ret_count);
bool posthog_is_placeholder(struct span id);
bool posthog_is_reserved_event(struct span name);

int posthog_decode(const struct protocol_request *request, struct protocol_work *work,
                   struct protocol_decoded *ret);
void posthog_env(const struct protocol_envelope *envelope, struct buf *out);
/* Fills the item's facts or its reason; text, tokens and item->root are set. */
void posthog_read_item(const struct protocol_decoded *decoded, const struct posthog_batch *batch,
                       struct buf *scratch, struct protocol_item *item);
/* The same of a question. False: it is none. */
bool posthog_read_question(const struct protocol_decoded *decoded, struct buf *scratch,
                           struct protocol_item *item);
void posthog_person_begin(struct person_iter *it, struct span text, const struct json_token *tokens,
                          uint32_t root, enum event_kind kind, struct buf *scratch);
bool posthog_person_next(struct person_iter *it, struct person_ref *ret);

void posthog_reply(const struct protocol_envelope *envelope, enum reply_kind kind,
                   const struct protocol_item *items, size_t item_count, struct buf *memory,
                   struct protocol_reply *ret);

unsigned posthog_endpoint_of(enum event_kind kind);
int posthog_encode(unsigned endpoint, const struct span *items, size_t item_count,
                   struct span credential, struct wire *wire, struct buf *plain, struct buf *packed,
                   struct protocol_post *ret);
size_t posthog_encoded_size(unsigned endpoint, size_t json_len, size_t credential_len);
void posthog_authorize(struct span credential, struct buf *out);
void posthog_answer(unsigned endpoint, unsigned status, struct span body, size_t item_count,
                    uint32_t *refused, struct protocol_answer *ret);

/* posthog_model.c */
extern const struct protocol_model posthog_model;

#endif
