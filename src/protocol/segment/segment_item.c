/*
 * One message: which call it is, whose key it carries, whom it is about, when it was.
 *
 * A sender's clock may be wrong by years; how wrong is told by the time at which it says it sent the request:
 *   true time = arrival - (sentAt - timestamp)
 */
#include "base/check.h"
#include "protocol/segment/segment_int.h"

bool segment_time_of(const struct protocol_decoded *decoded, uint32_t object, const char *name,
                     struct buf *scratch, int64_t *ret_ms) {
    uint32_t value = json_get(decoded->text, decoded->tokens, object, span_str(name));
    if (value == 0) {
        return false;
    }
    const struct json_token *token = &decoded->tokens[value];
    struct span text = token->kind == JSON_STRING ? json_text(decoded->text, token, scratch)
                                                  : json_span(decoded->text, token);
    return field_time_ms((enum json_kind)token->kind, text, ret_ms);
}

/* Kind and name by the call; REASON_NONE, or why it is none. */
static uint8_t read_call(struct span call, struct protocol_item *item) {
    if (span_is(call, "track")) {
        item->kind = EVENT_TRACK;
        return item->event_name.n != 0 ? REASON_NONE : REASON_NO_EVENT_NAME;
    }
    if (span_is(call, "page") || span_is(call, "screen")) {
        item->kind = EVENT_TRACK;
        item->event_name = item->event_name.n != 0 ? item->event_name : call;
        return REASON_NONE;
    }
    if (span_is(call, "alias")) {
        item->kind = EVENT_ALIAS;
        item->event_name = call;
        return REASON_NONE;
    }
    item->event_name = SPAN_NONE;
    if (span_is(call, "identify")) {
        item->kind = EVENT_PROFILE;
        return REASON_NONE;
    }
    if (span_is(call, "group")) {
        item->kind = EVENT_GROUP;
        return REASON_NONE;
    }
    return REASON_MALFORMED;
}

static void set_time(const struct protocol_decoded *decoded, const struct segment_batch *batch,
                     bool has_time, struct buf *scratch, struct protocol_item *item) {
    int64_t sent_ms = batch->sent_ms;
    if (!has_time) {
        item->time_ms = batch->now_ms;
        item->flags |= EVENT_NO_TIME;
        return;
    }
    if (segment_time_of(decoded, item->root, "sentAt", scratch, &sent_ms) || batch->has_sent) {
        item->time_ms += batch->now_ms - sent_ms;
    }
}

void segment_read_item(const struct protocol_decoded *decoded, const struct segment_batch *batch,
                       struct buf *scratch, struct protocol_item *item) {
    struct item_facts facts = {0};
    item->reason = item_check(decoded, item->root, batch->deep);
    item->kind = EVENT_TRACK;
    item->flags |= decoded->envelope.endpoint == SEGMENT_IMPORT ? EVENT_IS_HISTORIC : 0;
    if (item->reason == REASON_NONE) {
        /* What this asks for has the same keys in a group's message. */
        item_read(&segment_table, PLACE_EVENT, decoded, scratch, item, &facts);
        item->reason = read_call(facts.call, item);
        set_time(decoded, batch, facts.has_time, scratch, item);
    } else {
        item->time_ms = batch->now_ms;
        item->flags |= EVENT_NO_TIME;
    }
    if (scratch->full) {
        item->reason = REASON_TOO_BIG;
    }
}
