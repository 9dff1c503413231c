/*
 * Translate: an item as it may leave, in the words of the source's protocol -> items in the words of the vendor's.
 *
 *   policy's item --read, by the source's field table--> struct model --write, of the target--> 0..MODEL_ITEMS_MAX items
 *
 * It comes after policy (docs/adr/0044-protocols.md): a translation can lose a field, it can never let one out.
 * What the target cannot express is counted and can be listed; docs/translation.md has the table.
 *
 * Memory: a translator is made once for a pair of protocols and is about 90 KiB; nothing is allocated for an item. Thread: one.
 * Errors: TOO_MANY: more members than a model holds; FULL: out. Deterministic.
 */
#ifndef BH_PROTOCOL_TRANSLATE_H
#define BH_PROTOCOL_TRANSLATE_H

#include "protocol/protocol.h"
#include "protocol/wire/model.h"

struct translator;

int translator_new(const struct protocol_ops *source, const struct protocol_ops *target,
                   struct translator **ret_translator) BH_MUST_USE;
const struct protocol_ops *translator_target(const struct translator *translator);
void translator_free(struct translator *translator);

struct translate_input {
    uint8_t kind; /* enum event_kind */
    bool is_historic;
    struct span item;
    const struct json_token *tokens; /* of item; root 0 */
    int64_t time_ms;                 /* as it may leave */
    struct span insert_id;           /* in the target's form */
    /* Whether a property's name is a group's in the plan; and the group where the plan has one only. */
    bool (*is_group)(const void *context, struct span name);
    const void *context;
    struct span only_group;
};

struct translated {
    const struct model_item *items; /* until the next call; offsets in `out` */
    unsigned item_count;            /* 0: the target has no such thing */
    uint32_t lost;                  /* leaves that the target cannot express */
};

/* A leaf that is lost: its key as it stood, between quotes. */
typedef void translate_lost_fn(void *context, struct span key);

int translate(struct translator *translator, const struct translate_input *input, struct buf *out,
              struct translated *ret, translate_lost_fn *lost, void *lost_context) BH_MUST_USE;

#endif
