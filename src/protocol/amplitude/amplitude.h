/*
 * Amplitude: its SDKs' requests, its field table, its HTTP API.
 *
 * Paths are those of the real API after the gateway's prefix, with or without a trailing slash.
 * Numbers are in the journal (record_request.kind) and the ledger (flags bits 0-3) and are given
 * once.
 */
#ifndef BH_PROTOCOL_AMPLITUDE_H
#define BH_PROTOCOL_AMPLITUDE_H

#include "protocol/protocol.h"

/* Endpoints of the gateway. */
enum amplitude_path {
    AMPLITUDE_HTTPAPI = 1,
    AMPLITUDE_BATCH = 2,
    AMPLITUDE_IDENTIFY = 3,
    AMPLITUDE_GROUPIDENTIFY = 4,
    AMPLITUDE_CONFIG = 5, /* /config/<key>: remote configuration of the browser SDK */
    AMPLITUDE_REPLAY = 6,
};

/* Endpoint of the vendor. */
enum amplitude_endpoint { AMPLITUDE_SEND = 1 };

extern const struct protocol_ops amplitude_ops;

#endif
