#include "protocol/segment/segment.h"

#include "protocol/segment/segment_int.h"
#include "protocol/wire/wire.h"

enum {
    TABLE_VERSION = 1, /* segment_fields.def, segment_events.def, the placeholders */
    SEND_ITEMS_MAX = 500,
    SEND_BODY_MAX = 480 * 1024, /* of 500 KB: what Segment's own SDK allows itself */
};

/* Segment's consent object, RudderStack's, and what a phone's system says of advertising. */
const struct consent_place segment_consents[] = {
    {{"context", "consent", "categoryPreferences"}, CONSENT_FORM_CATEGORIES, 0},
    {{"context", "consentManagement", "allowedConsentIds"}, CONSENT_FORM_GIVEN, 0},
    {{"context", "consentManagement", "deniedConsentIds"}, CONSENT_FORM_REFUSED, 0},
    {{"context", "device", "adTrackingEnabled"}, CONSENT_FORM_FALSE_REFUSES, CONSENT_ADVERTISING},
    {{NULL}, CONSENT_FORM_NONE, 0},
};

static struct protocol_alone alone(struct span item) {
    (void)item;
    return (struct protocol_alone){"/v1/batch", "{\"batch\":[", "]}"};
}

const struct protocol_ops segment_ops = {
    .id = PROTOCOL_SEGMENT,
    .name = "segment",
    .table_version = TABLE_VERSION,
    .names = {.at_root = true,
              .insert_id = "messageId",
              .time = "timestamp",
              .time_form = TIME_FORM_ISO,
              .page_url = {"context", "page", "url"},
              .links_alone = true,
              .consents = segment_consents},
    .model = &segment_model,
    .items_max = SEND_ITEMS_MAX,
    .body_max = SEND_BODY_MAX,
    .endpoints = 1,
    .root_place = segment_root_place,
    .field = segment_field,
    .is_reserved_event = segment_is_reserved_event,
    .fields = segment_fields,
    .is_placeholder = segment_is_placeholder,
    .alone = alone,
    .decode = segment_decode,
    .reply = segment_reply,
    .env = segment_env,
    .person_begin = segment_person_begin,
    .person_next = segment_person_next,
    .endpoint = segment_endpoint_of,
    .encode = segment_encode,
    .encoded_size = segment_encoded_size,
    .authorize = wire_put_basic,
    .answer = segment_answer,
};
