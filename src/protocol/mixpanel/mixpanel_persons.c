/*
 * Ids of people: what counts as one, and all of an item in document order.
 *
 * Ids stand among an event's properties, or in a profile update itself. $distinct_ids is the one
 * field that holds several.
 */
#include "base/check.h"
#include "protocol/mixpanel/mixpanel_int.h"

static const struct span device_prefix = {(const uint8_t *)"$device:", 8};

bool mixpanel_person_id(struct span text, const struct json_token *token, struct buf *scratch,
                        struct span *ret_id, bool *ret_is_device) {
    struct span id = SPAN_NONE;
    bool is_device = false;
    if (token->kind == JSON_STRING) {
        id = mixpanel_text(text, token, scratch);
        is_device = span_starts(id, device_prefix);
        id = is_device ? span_from(id, device_prefix.n) : id;
    } else if (token->kind == JSON_NUMBER) {
        /* 1e3 and 1000.0 are the same person as 1000: SDKs in JavaScript cannot tell them apart. */
        int64_t number;
        id = json_span(text, token);
        if (json_integer(id, &number)) {
            size_t before = scratch->n;
            buf_put_i64_dec(scratch, number);
            id = scratch->full ? SPAN_NONE : span_of(scratch->p + before, scratch->n - before);
        }
    }
    if (id.n == 0 || mixpanel_is_placeholder(id)) {
        return false;
    }
    *ret_id = id;
    *ret_is_device = is_device;
    return true;
}

/* The object whose members may be ids: the properties, or the update itself. 0 = none. */
static bool ids_object(struct span text, const struct json_token *tokens, uint32_t root,
                       uint8_t place, struct buf *scratch, uint32_t *ret_object) {
    if (tokens[root].kind != JSON_OBJECT) {
        return false;
    }
    if (place != PLACE_EVENT) {
        *ret_object = root;
        return true;
    }
    bool found = false;
    for (uint32_t i = root + 1; i < tokens[root].next; i = tokens[i].next) {
        const struct field *field =
            mixpanel_field(PLACE_EVENT, mixpanel_text(text, &tokens[i], scratch));
        if (field != NULL && field->role == ROLE_PROPERTIES && tokens[i + 1].kind == JSON_OBJECT) {
            *ret_object = i + 1;
            found = true;
        }
    }
    return found;
}

void mixpanel_person_begin(struct person_iter *it, struct span text,
                           const struct json_token *tokens, uint32_t root, enum event_kind kind,
                           struct buf *scratch) {
    *it = (struct person_iter){.text = text, .tokens = tokens, .root = root, .scratch = scratch};
    it->_place = mixpanel_root_place(kind);
    uint32_t object = 0;
    if (it->_place != PLACE_GROUP && ids_object(text, tokens, root, it->_place, scratch, &object)) {
        it->_at = object + 1;
        it->_end = tokens[object].next;
    }
    if (it->_place == PLACE_EVENT) {
        it->_place = PLACE_EVENT_PROPERTY;
    }
}

static bool take(struct person_iter *it, uint32_t token, struct person_ref *ret) {
    struct span id;
    bool is_device;
    if (!mixpanel_person_id(it->text, &it->tokens[token], it->scratch, &id, &is_device)) {
        return false;
    }
    *ret = (struct person_ref){.id = id,
                               .leaf = token - it->root,
                               .kind = it->_person,
                               .is_device = is_device || it->_person == PERSON_DEVICE};
    return true;
}

bool mixpanel_person_next(struct person_iter *it, struct person_ref *ret) {
    while (true) {
        while (it->_element < it->_elements_end) {
            uint32_t element = it->_element;
            it->_element = it->tokens[element].next;
            if (take(it, element, ret)) {
                return true;
            }
        }
        if (it->_at >= it->_end) {
            return false;
        }
        uint32_t key = it->_at;
        uint32_t value = key + 1;
        it->_at = it->tokens[key].next;
        check_slow(it->tokens[key].kind == JSON_KEY);
        const struct field *field = mixpanel_field(
            (enum field_place)it->_place, mixpanel_text(it->text, &it->tokens[key], it->scratch));
        if (field == NULL || field->role != ROLE_PERSON) {
            continue;
        }
        it->_person = field->person;
        if (it->tokens[value].kind == JSON_ARRAY) {
            it->_element = value + 1;
            it->_elements_end = it->tokens[value].next;
        } else if (take(it, value, ret)) {
            return true;
        }
    }
}
