/* What the mixpanel module's files share with each other only. */
#ifndef BH_PROTOCOL_MIXPANEL_INT_H
#define BH_PROTOCOL_MIXPANEL_INT_H

#include "protocol/mixpanel/mixpanel.h"

uint8_t mixpanel_root_place(enum event_kind kind);
const struct field *mixpanel_field(enum field_place place, struct span key);
const struct field *mixpanel_fields(size_t *ret_count);
/*
 * False for most keys that tell decode nothing, and for none that does: a bit for each length and
 * second byte of the keys with a role. Two loads instead of a look-up for each property of a plan.
 */
bool mixpanel_may_have_role(enum field_place place, struct span key);
bool mixpanel_is_placeholder(struct span id);
bool mixpanel_is_reserved_event(struct span name);

int mixpanel_decode(const struct protocol_request *request, struct protocol_work *work,
                    struct protocol_decoded *ret);
void mixpanel_env(const struct protocol_envelope *envelope, struct buf *out);
/* Fills the item's facts or its reason; text, tokens and item->root are set. ids_key may be NULL. */
void mixpanel_read_item(const struct protocol_decoded *decoded, int64_t now_ms, bool deep,
                        const uint8_t *ids_key, struct buf *scratch, struct protocol_item *item);

/*
 * Key or string decoded into scratch where it has escapes; empty (and scratch full) when it does
 * not fit.
 */
static inline struct span mixpanel_text(struct span text, const struct json_token *token,
                                        struct buf *scratch) {
    return (token->flags & JSON_ESCAPED) == 0 ? json_span(text, token)
                                              : json_text(text, token, scratch);
}
/* The id that a token holds, as aids are made from it; false for placeholders and what is no id. */
bool mixpanel_person_id(struct span text, const struct json_token *token, struct buf *scratch,
                        struct span *ret_id, bool *ret_is_device);
void mixpanel_person_begin(struct person_iter *it, struct span text,
                           const struct json_token *tokens, uint32_t root, enum event_kind kind,
                           struct buf *scratch);
bool mixpanel_person_next(struct person_iter *it, struct person_ref *ret);

void mixpanel_reply(const struct protocol_envelope *envelope, enum reply_kind kind,
                    const struct protocol_item *items, size_t item_count, struct buf *memory,
                    struct protocol_reply *ret);

unsigned mixpanel_endpoint_of(enum event_kind kind);
int mixpanel_encode(unsigned endpoint, const struct span *items, size_t item_count,
                    struct span credential, struct wire *wire, struct buf *plain,
                    struct buf *packed, struct protocol_post *ret);
size_t mixpanel_encoded_size(unsigned endpoint, size_t json_len, size_t credential_len);
void mixpanel_authorize(struct span credential, struct buf *out);
void mixpanel_answer(unsigned endpoint, unsigned status, struct span body, size_t item_count,
                     uint32_t *refused, struct protocol_answer *ret);

/* mixpanel_model.c */
extern const struct protocol_model mixpanel_model;

#endif
