/*
 * Event: what passes between the stages, and how ids are told apart.
 *
 * An event is one item that an SDK sent: its JSON as received (after transport decoding and
 * overwriting of never-spans) and a few facts that ingest read from it. `seq` is id, order and
 * cursor at once.
 */
#ifndef BH_MODEL_EVENT_H
#define BH_MODEL_EVENT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "model/finding.h"

/* Numbers are on disk. */
enum protocol_id {
    PROTOCOL_NONE = 0,
    PROTOCOL_MIXPANEL = 1,
    PROTOCOL_POSTHOG = 2,
    PROTOCOL_SEGMENT = 3,
    PROTOCOL_RUDDER = 4,
    PROTOCOL_AMPLITUDE = 5,
    PROTOCOL_WEBHOOK = 6, /* of vendors only */
    PROTOCOL_LIMIT = 16,
};

/* Kinds of items. Numbers are on disk (docs/format/journal.md). */
enum event_kind {
    EVENT_TRACK = 1,
    EVENT_IDENTIFY = 2, /* $identify: links two ids */
    EVENT_ALIAS = 3,    /* $create_alias */
    EVENT_MERGE = 4,    /* $merge */
    EVENT_PROFILE = 5,  /* /engage */
    EVENT_GROUP = 6,    /* /groups */
};

enum event_flag {
    EVENT_HAS_LINKS = 1,   /* names more than one person id: the resolver must read it */
    EVENT_IS_HISTORIC = 2, /* came by /import */
    EVENT_OVERWRITTEN = 4, /* a never-span was overwritten */
    EVENT_NO_TIME = 8,     /* the SDK sent none: time_ms is the arrival */
};

/* Domains of pseudonyms: from the field table, never from the class. Part of the keys' labels (docs/format/keys.md). */
enum id_domain {
    DOMAIN_NONE = 0,
    DOMAIN_PERSON = 1,
    DOMAIN_ORGANISATION = 2,
    DOMAIN_SESSION = 3,
    DOMAIN_EVENT = 4,
    DOMAIN_VALUE = 5,
};

struct aid {
    uint8_t b[16]; /* all zero = nobody */
};

static inline bool aid_is_zero(const struct aid *a) {
    uint64_t x[2];
    memcpy(x, a->b, 16);
    return (x[0] | x[1]) == 0;
}

/* One request as it is kept in the journal. */
struct record_request {
    uint8_t protocol; /* enum protocol_id */
    /* protocol's own number of the endpoint; bit 7 = continued from the chunk before */
    uint8_t kind;
    uint16_t source;    /* number of the source, stable */
    uint16_t detectors; /* version of the detector set */
    uint16_t events;
    uint64_t received_us;
    int32_t skew_ms;
    uint8_t peer[16];
    struct span env; /* RFC 8785 JSON of what encoding needs; never a credential */
};

/* One event as it is kept. */
struct record_event {
    uint64_t seq;  /* 0 until numbered */
    uint8_t kind;  /* enum event_kind */
    uint8_t flags; /* enum event_flag */
    int64_t time_ms;
    uint64_t dedupe; /* fingerprint of source and SDK dedupe id; 0 = none */
    /*
     * Fingerprint of kind, primary id, event name and stated time, which an SDK's retry repeats
     * together with the dedupe id; 0 = none: the event is nothing's repeat.
     */
    uint32_t content;
    /*
     * Fingerprint of protocol, kind and all ids of people that it names, in order, under a key of
     * this process; equal ones are read alike by the resolver. 0 = none: one id, or not known.
     */
    uint64_t ids;
    struct aid aid;
    const struct finding *findings;
    uint16_t finding_count;
    struct span json;
};

#endif
