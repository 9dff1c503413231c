/*
 * One item: which kind it is, whose token it carries, whom it is about, when it was.
 *
 * An item is an event whatever it does, so the kind comes from its name. $identify of a server names
 * one id only and is a profile update then; in a browser it links two.
 */
#include "protocol/posthog/posthog_int.h"

/* The end of the year 9999: what has more digits is no time of an event. */
#define TIME_LIMIT_MS INT64_C(253402300800000)

static uint8_t kind_of(const struct protocol_item *item) {
    struct span name = item->event_name;
    if (name.p[0] != '$') {
        return EVENT_TRACK;
    }
    if (span_is(name, "$identify")) {
        return (item->flags & EVENT_HAS_LINKS) != 0 ? EVENT_IDENTIFY : EVENT_PROFILE;
    }
    if (span_is(name, "$set")) {
        return EVENT_PROFILE;
    }
    if (span_is(name, "$groupidentify")) {
        return EVENT_GROUP;
    }
    if (span_is(name, "$create_alias")) {
        return EVENT_ALIAS;
    }
    return span_is(name, "$merge_dangerously") ? EVENT_MERGE : EVENT_TRACK;
}

static uint8_t read(const struct protocol_decoded *decoded, const struct posthog_batch *batch,
                    struct buf *scratch, struct protocol_item *item, struct item_facts *facts) {
    uint8_t reason = item_check(decoded, item->root, batch->is_deep);
    if (reason != REASON_NONE) {
        return reason;
    }
    item_read(&posthog_items, PLACE_EVENT, decoded, scratch, item, facts);
    if (scratch->full) {
        return REASON_TOO_BIG;
    }
    if (item->event_name.n == 0) {
        return REASON_NO_EVENT_NAME;
    }
    item->kind = kind_of(item);
    /* A server's group update is said by $<type>_<key> unless the caller names a person. */
    if (item->kind == EVENT_GROUP) {
        item->flags &= (uint8_t)~EVENT_HAS_LINKS;
        if (item->person.n != 0 && item->person.p[0] == '$') {
            item->person = SPAN_NONE;
        }
    }
    return REASON_NONE;
}

void posthog_read_item(const struct protocol_decoded *decoded, const struct posthog_batch *batch,
                       struct buf *scratch, struct protocol_item *item) {
    struct item_facts facts = {0};
    item->time_ms = batch->now_ms;
    item->flags = batch->is_historic ? EVENT_IS_HISTORIC : 0;
    item->reason = read(decoded, batch, scratch, item, &facts);
    item->time_ms += batch->skew_ms;
    if (!facts.has_time || item->time_ms < 0 || item->time_ms >= TIME_LIMIT_MS) {
        item->time_ms = batch->now_ms;
        item->flags |= EVENT_NO_TIME;
    }
}

bool posthog_read_question(const struct protocol_decoded *decoded, struct buf *scratch,
                           struct protocol_item *item) {
    struct item_facts facts;
    if (item_check(decoded, item->root, false) != REASON_NONE) {
        return false;
    }
    item_read(&posthog_items, PLACE_PROFILE, decoded, scratch, item, &facts);
    item->kind = EVENT_PROFILE;
    return !scratch->full && item->person.n != 0;
}

/* A group update links nobody: whom it names was linked by other events. */
void posthog_person_begin(struct person_iter *it, struct span text, const struct json_token *tokens,
                          uint32_t root, enum event_kind kind, struct buf *scratch) {
    item_person_begin(it, text, tokens, root, PLACE_EVENT, scratch);
    if (kind == EVENT_GROUP) {
        it->_at = it->_end;
    }
}

bool posthog_person_next(struct person_iter *it, struct person_ref *ret) {
    return item_person_next(&posthog_items, it, ret);
}
