#include "protocol/mixpanel/mixpanel.h"

#include "protocol/mixpanel/mixpanel_int.h"

enum {
    TABLE_VERSION = 1, /* fields.def, placeholders.def, reserved_events.def */
    ENDPOINTS = 4,
    SEND_ITEMS_MAX = 2000,
    SEND_BODY_MAX = 1024 * 1024,
};

/* Its endpoints take items of one kind each, which the item's own keys tell. */
static struct protocol_alone alone(struct span item) {
    struct protocol_alone ret = {"/engage", "", ""};
    if (span_find(item, SPAN_LIT("\"$group_key\"")) != SIZE_MAX) {
        ret.path = "/groups";
    } else if (span_find(item, SPAN_LIT("\"event\"")) != SIZE_MAX) {
        ret.path = "/track";
    }
    return ret;
}

const struct protocol_ops mixpanel_ops = {
    .id = PROTOCOL_MIXPANEL,
    .name = "mixpanel",
    .table_version = TABLE_VERSION,
    .names = {.insert_id = "$insert_id",
              .time = "time",
              .person = "distinct_id",
              .device_prefix = "$device:",
              .page_url = {"properties", "$current_url"}},
    .model = &mixpanel_model,
    .items_max = SEND_ITEMS_MAX,
    .body_max = SEND_BODY_MAX,
    .endpoints = ENDPOINTS,
    .root_place = mixpanel_root_place,
    .field = mixpanel_field,
    .is_reserved_event = mixpanel_is_reserved_event,
    .fields = mixpanel_fields,
    .is_placeholder = mixpanel_is_placeholder,
    .decode = mixpanel_decode,
    .alone = alone,
    .reply = mixpanel_reply,
    .env = mixpanel_env,
    .person_begin = mixpanel_person_begin,
    .person_next = mixpanel_person_next,
    .endpoint = mixpanel_endpoint_of,
    .encode = mixpanel_encode,
    .encoded_size = mixpanel_encoded_size,
    .authorize = mixpanel_authorize,
    .answer = mixpanel_answer,
};
