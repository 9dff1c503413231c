/*
 * Forms: how a value leaves. Numbers are on disk (shapes of the ledger), given once.
 * Any thread; pure.
 */
#ifndef BH_MODEL_FORM_H
#define BH_MODEL_FORM_H

#include <stdint.h>

#include "base/bytes.h"

enum form_id {
    FORM_NONE = 0, /* no rule: closed */
    FORM_RAW = 1,
    FORM_DROP = 2,
    FORM_REDACT = 3,
    FORM_PSEUDONYM = 4,
    FORM_MASK = 5,
    FORM_COARSE = 6,
    FORM_SEAL = 7,  /* known word; contract check says "not yet" */
    FORM_ALIAS = 8, /* likewise */
};

enum form_level {
    LEVEL_NONE = 0,
    LEVEL_COUNTRY = 1,
    LEVEL_REGION = 2,
    LEVEL_FAMILY = 3,
    LEVEL_MAJOR = 4,
    LEVEL_PATH = 5,
    LEVEL_NET = 6, /* /24 for IPv4, /48 for IPv6 */
    LEVEL_HOUR = 7,
    LEVEL_DAY = 8,
    LEVEL_YEAR = 9,
};

struct form {
    uint8_t id;    /* enum form_id */
    uint8_t level; /* enum form_level, only for FORM_COARSE */
};

/* "raw", "coarse:country": as in answers. Returns a static string. */
const char *form_name(struct form form);
uint8_t form_by_name(struct span name);  /* FORM_NONE = no such */
uint8_t level_by_name(struct span name); /* "/24" and "/48" are LEVEL_NET; LEVEL_NONE = no such */
/*
 * The stricter of two forms for one class: drop with anything = drop; raw
 * with f = f; same form = coarser level; any other pair = drop. FORM_NONE counts as drop.
 */
struct form form_meet(struct form a, struct form b);

/* Precision of times that leave. */
enum time_precision { TIME_MS = 1, TIME_SECOND = 2, TIME_MINUTE = 3, TIME_HOUR = 4 };
uint64_t time_precision_ms(enum time_precision precision);

#endif
