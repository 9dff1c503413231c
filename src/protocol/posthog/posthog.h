/*
 * PostHog: its SDKs' requests, its field table, its capture API.
 *
 * Paths are those of the real API after the gateway's prefix, with or without a trailing slash.
 * Numbers are in the journal (record_request.kind) and the ledger (flags bits 0-3) and are given
 * once.
 */
#ifndef BH_PROTOCOL_POSTHOG_H
#define BH_PROTOCOL_POSTHOG_H

#include "protocol/protocol.h"

/* Endpoints of the gateway. */
enum posthog_path {
    POSTHOG_BATCH = 1, /* /batch */
    POSTHOG_CAPTURE =
        2, /* /e, /i/v0/e, /capture, /track, /engage: what browsers and old SDKs call */
    POSTHOG_EVENTS = 3,      /* /i/v1/analytics/events: the token is in the header */
    POSTHOG_FLAGS = 4,       /* /flags, /decide */
    POSTHOG_DEFINITIONS = 5, /* /flags/definitions */
    POSTHOG_CONFIG_JS = 6,   /* /array/<token>/config.js */
    POSTHOG_CONFIG = 7,      /* /array/<token>/config */
    POSTHOG_STATIC = 8,      /* /static/...: the vendor's code is not served */
    POSTHOG_RECORD = 9,      /* /s: session replay */
    POSTHOG_LOGS = 10,       /* /i/v1/logs, /i/v1/metrics */
    POSTHOG_LISTS = 11,      /* /api/surveys and the like: empty */
};

/* Endpoints of the vendor. */
enum posthog_endpoint {
    POSTHOG_SEND_BATCH = 1, /* all kinds, in the order in which they came: /batch/ */
    POSTHOG_SEND_FLAGS = 2, /* one question, no item: /flags/, /decide/ */
};

extern const struct protocol_ops posthog_ops;

#endif
