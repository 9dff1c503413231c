#include "protocol/protocol.h"

#include "base/compiler.h"
#include "protocol/amplitude/amplitude.h"
#include "protocol/mixpanel/mixpanel.h"
#include "protocol/posthog/posthog.h"
#include "protocol/segment/rudder.h"
#include "protocol/segment/segment.h"
#include "protocol/webhook/webhook.h"

static const struct protocol_ops *const protocols[] = {&mixpanel_ops, &posthog_ops,   &segment_ops,
                                                       &rudder_ops,   &amplitude_ops, &webhook_ops};

const struct protocol_ops *protocol_by_id(uint8_t id) {
    for (size_t i = 0; i < BH_COUNT(protocols); i++) {
        if (protocols[i]->id == id) {
            return protocols[i];
        }
    }
    return NULL;
}

/* Connectors that are no sources stand last. */
static const char *const names[] = {"mixpanel", "posthog",   "segment",
                                    "rudder",   "amplitude", "webhook"};
_Static_assert(BH_COUNT(names) == BH_COUNT(protocols), "a name for each protocol");

const char *const *protocol_list(size_t *ret_count) {
    *ret_count = BH_COUNT(names);
    return names;
}

const char *const *protocol_list_of_sources(size_t *ret_count) {
    size_t count = BH_COUNT(names);
    while (protocols[count - 1]->decode == NULL) {
        count--;
    }
    *ret_count = count;
    return names;
}

const struct protocol_ops *protocol_by_name(struct span name) {
    for (size_t i = 0; i < BH_COUNT(protocols); i++) {
        if (span_is(name, protocols[i]->name)) {
            return protocols[i];
        }
    }
    return NULL;
}
