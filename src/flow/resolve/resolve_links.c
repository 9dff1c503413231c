/*
 * Links: what one event says about which ids are one person. Pure.
 *
 *   the event's user u  <--device rule--  each device or anonymous id
 *                       <--user-user----  each other user's id
 *
 * The device rule binds once per device: with the first user seen with it (resolve_event.c says when
 * it is a claim all the same). A user-user join binds from a source of trust server only.
 *
 * Without a user all ids are joined to the first one, user-user: two devices are joined by nothing
 * that a browser says.
 */
#include "flow/resolve/resolve_int.h"

bool link_ref_shows_user(const struct link_ref *ref) {
    return !ref->is_device && ref->kind != PERSON_ANONYMOUS && ref->kind != PERSON_DEVICE;
}

static uint8_t rule_of(uint8_t event_kind, bool is_device_rule) {
    switch (event_kind) {
    case EVENT_ALIAS:
        return RULE_ALIAS;
    case EVENT_MERGE:
        return RULE_MERGE;
    case EVENT_IDENTIFY:
        return RULE_IDENTIFY;
    default:
        return is_device_rule ? RULE_DEVICE_USER : RULE_IDENTIFY;
    }
}

/*
 * The id that the others are joined to: $user_id before distinct_id before any user's id before the
 * first one.
 */
static size_t hub_of(const struct link_ref *refs, size_t count) {
    size_t hub = count;
    unsigned best = 0;
    for (size_t i = 0; i < count; i++) {
        if (refs[i].ord == 0) {
            continue;
        }
        unsigned worth = 1;
        if (refs[i].is_user) {
            worth = refs[i].kind == PERSON_USER ? 4 : refs[i].kind == PERSON_DISTINCT ? 3 : 2;
        }
        if (worth > best) {
            best = worth;
            hub = i;
        }
    }
    return hub;
}

static bool is_repeated(const struct link_ref *refs, size_t i) {
    for (size_t j = 0; j < i; j++) {
        if (refs[j].ord == refs[i].ord) {
            return true;
        }
    }
    return false;
}

size_t links_of(uint8_t event_kind, const struct link_ref *refs, size_t count, struct link *links) {
    size_t hub = hub_of(refs, count);
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        if (refs[i].ord == 0 || refs[i].ord == refs[hub].ord || is_repeated(refs, i)) {
            continue;
        }
        bool is_device_rule = refs[hub].is_user && !refs[i].is_user;
        links[n++] = (struct link){.a = (uint8_t)i,
                                   .b = (uint8_t)hub,
                                   .rule = rule_of(event_kind, is_device_rule),
                                   .is_device_rule = is_device_rule};
    }
    return n;
}
