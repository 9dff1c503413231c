#include "protocol/posthog/posthog.h"

#include "protocol/posthog/posthog_int.h"

enum {
    TABLE_VERSION = 2, /* posthog_fields.def, posthog_placeholders.def, posthog_events.def */
    ENDPOINTS = 1,
    SEND_ITEMS_MAX = 2000,
    /* PostHog takes 20 MB; a window of the courier has one. */
    SEND_BODY_MAX = 1024 * 1024,
};

/* Sent without cookies, since storing was refused (or was never asked for): no consent to anything. */
static const struct consent_place consents[] = {
    {{"properties", "$cookieless_mode"}, CONSENT_FORM_TRUE_REFUSES, CONSENT_ALL},
    {{NULL}, CONSENT_FORM_NONE, 0},
};

static struct protocol_alone alone(struct span item) {
    (void)item;
    return (struct protocol_alone){"/batch", "", ""};
}

const struct protocol_ops posthog_ops = {
    .id = PROTOCOL_POSTHOG,
    .name = "posthog",
    .table_version = TABLE_VERSION,
    /* An empty distinct_id is what encode makes an event without a person profile from. */
    .names = {.at_root = true,
              .insert_id = "uuid",
              .insert_form = INSERT_FORM_UUID,
              .time = "timestamp",
              .time_form = TIME_FORM_ISO,
              .person = "distinct_id",
              .page_url = {"properties", "$current_url"},
              .consents = consents},
    .model = &posthog_model,
    .items_max = SEND_ITEMS_MAX,
    .body_max = SEND_BODY_MAX,
    .endpoints = ENDPOINTS,
    .root_place = posthog_root_place,
    .field = posthog_field,
    .is_reserved_event = posthog_is_reserved_event,
    .fields = posthog_fields,
    .is_placeholder = posthog_is_placeholder,
    .decode = posthog_decode,
    .alone = alone,
    .reply = posthog_reply,
    .env = posthog_env,
    .person_begin = posthog_person_begin,
    .person_next = posthog_person_next,
    .endpoint = posthog_endpoint_of,
    .encode = posthog_encode,
    .encoded_size = posthog_encoded_size,
    .authorize = posthog_authorize,
    .answer = posthog_answer,
    .ask = &posthog_ask,
};
