/*
 * Mixpanel: its SDKs' requests, its field table, its ingestion API.
 *
 * Paths are those of the real API after the gateway's prefix, with or without a trailing slash.
 * Numbers are in the journal (record_request.kind) and the ledger (flags bits 0-3) and are given
 * once.
 */
#ifndef BH_PROTOCOL_MIXPANEL_H
#define BH_PROTOCOL_MIXPANEL_H

#include "protocol/protocol.h"

/* Endpoints of the gateway. */
enum mixpanel_path {
    MIXPANEL_TRACK = 1,
    MIXPANEL_ENGAGE = 2,
    MIXPANEL_GROUPS = 3,
    MIXPANEL_IMPORT = 4,
    MIXPANEL_SETTINGS = 5,
    MIXPANEL_FLAGS = 6,
    MIXPANEL_DECIDE = 7,
    MIXPANEL_RECORD = 8,
};

/* Endpoints of the vendor, in the order in which a window's attempts are sent. */
enum mixpanel_endpoint {
    MIXPANEL_SEND_LINKS = 1,  /* $identify, $create_alias: /track */
    MIXPANEL_SEND_EVENTS = 2, /* other events and $merge: /import */
    MIXPANEL_SEND_ENGAGE = 3,
    MIXPANEL_SEND_GROUPS = 4,
};

extern const struct protocol_ops mixpanel_ops;

#endif
