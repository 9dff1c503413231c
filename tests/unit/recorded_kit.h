/*
 * Recorded requests of real SDKs (tests/fixtures/sdk-requests): opened, and replayed through a protocol's decode and reply.
 * A recording is the request as it came (.http) and a sidecar of what a recorder apart from the product made of it (.json).
 */
#ifndef RECORDED_KIT_H
#define RECORDED_KIT_H

#include "protocol/protocol.h"

/* Where an SDK's sidecars hold items. */
struct recorded_sdk {
    const char *name; /* the folder */
    const char *
        list; /* member of `decoded` that is the list of items; NULL: it is the list, or the one item */
    const char
        *lone; /* with `list`: member that tells that it is one item after all; NULL: it never is */
};

/* Lives until the next one is opened. */
struct recording {
    struct span http;
    struct span text; /* the sidecar, and its tokens */
    const struct json_token *tokens;
    uint32_t first; /* item, and where they end: step by `next` */
    uint32_t end;
};

bool recording_open(const struct recorded_sdk *sdk, unsigned number, struct recording *ret);

/* What a protocol knows beside the items themselves, which are compared here. */
struct recorded_checks {
    void (*item)(const struct protocol_item *item);
    void (*reply)(struct span body); /* that the SDK was content with; NULL: ours is equal */
};

/* All recordings of an SDK through kit_decode; returns their number, preflights and all. */
unsigned recorded_replay(const struct recorded_sdk *sdk, const struct recorded_checks *checks,
                         size_t *ret_items);

#endif
