#include "protocol/amplitude/amplitude.h"

#include "protocol/amplitude/amplitude_int.h"

enum {
    TABLE_VERSION = 1, /* the three .def files */
    SEND_ITEMS_MAX = 2000,
    /* Amplitude takes 1 MB; what stands around the events is not in the items' sizes. */
    SEND_BODY_MAX = 1000 * 1000 - 4096,
};

static struct protocol_alone alone(struct span item) {
    (void)item;
    return (struct protocol_alone){"/2/httpapi", "{\"api_key\":\"none\",\"events\":[", "]}"};
}

const struct protocol_ops amplitude_ops = {
    .id = PROTOCOL_AMPLITUDE,
    .name = "amplitude",
    .table_version = TABLE_VERSION,
    .names = {.at_root = true,
              .insert_id = "insert_id",
              .time = "time",
              .time_form = TIME_FORM_MS,
              .page_url = {"event_properties", "[Amplitude] Page Location"},
              .links_alone = true},
    .model = &amplitude_model,
    .items_max = SEND_ITEMS_MAX,
    .body_max = SEND_BODY_MAX,
    .endpoints = AMPLITUDE_SEND,
    .root_place = amplitude_root_place,
    .field = amplitude_field,
    .is_reserved_event = amplitude_is_reserved_event,
    .fields = amplitude_fields,
    .is_placeholder = amplitude_is_placeholder,
    .decode = amplitude_decode,
    .alone = alone,
    .reply = amplitude_reply,
    .env = amplitude_env,
    .person_begin = amplitude_person_begin,
    .person_next = amplitude_person_next,
    .endpoint = amplitude_endpoint_of,
    .encode = amplitude_encode,
    .encoded_size = amplitude_encoded_size,
    .authorize = amplitude_authorize,
    .answer = amplitude_answer,
};
