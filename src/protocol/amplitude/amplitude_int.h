/* What the amplitude module's files share with each other only. */
#ifndef BH_PROTOCOL_AMPLITUDE_INT_H
#define BH_PROTOCOL_AMPLITUDE_INT_H

#include "protocol/amplitude/amplitude.h"
#include "protocol/wire/item.h"

uint8_t amplitude_root_place(enum event_kind kind);
const struct field *amplitude_field(enum field_place place, struct span key);
const struct field *amplitude_fields(size_t *ret_count);
bool amplitude_is_placeholder(struct span id);
bool amplitude_is_reserved_event(struct span name);

extern const struct item_table amplitude_table;

int amplitude_decode(const struct protocol_request *request, struct protocol_work *work,
                     struct protocol_decoded *ret);
void amplitude_env(const struct protocol_envelope *envelope, struct buf *out);
/* Fills the item's facts or its reason; text, tokens and item->root are set. */
void amplitude_read_item(const struct protocol_decoded *decoded, int64_t now_ms, bool deep,
                         struct buf *scratch, struct protocol_item *item);
void amplitude_person_begin(struct person_iter *it, struct span text,
                            const struct json_token *tokens, uint32_t root, enum event_kind kind,
                            struct buf *scratch);
bool amplitude_person_next(struct person_iter *it, struct person_ref *ret);

void amplitude_reply(const struct protocol_envelope *envelope, enum reply_kind kind,
                     const struct protocol_item *items, size_t item_count, struct buf *memory,
                     struct protocol_reply *ret);

unsigned amplitude_endpoint_of(enum event_kind kind);
int amplitude_encode(unsigned endpoint, const struct span *items, size_t item_count,
                     struct span credential, struct wire *wire, struct buf *plain,
                     struct buf *packed, struct protocol_post *ret);
size_t amplitude_encoded_size(unsigned endpoint, size_t json_len, size_t credential_len);
void amplitude_authorize(struct span credential, struct buf *out);
void amplitude_answer(unsigned endpoint, unsigned status, struct span body, size_t item_count,
                      uint32_t *refused, struct protocol_answer *ret);

/* amplitude_model.c */
extern const struct protocol_model amplitude_model;

#endif
