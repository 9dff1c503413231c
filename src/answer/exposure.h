/*
 * exposure: who was sent what, for one vendor, in a window. A reader of ledger and resolve; works on the data folder alone while no daemon runs.
 *
 * Every count is of people (components of linked aliases as of `at`), each once in a cell: certain, else possible. Grades and the JSON shape: DESIGN sections 2 and 6.
 * Times are UTC milliseconds, from inclusive, to exclusive.
 * Errors: NOTFOUND (no such vendor in the configuration and no log), CORRUPT, KEY.
 */
#ifndef BH_ANSWER_EXPOSURE_H
#define BH_ANSWER_EXPOSURE_H

#include "base/bytes.h"
#include "base/errors.h"
#include "engine/keyring/keyring.h"
#include "flow/resolve/resolve.h"

struct exposure_source {
    uint16_t number;
    const char *name;
};

struct exposure_query {
    const char *vendor;
    uint64_t from_ms, to_ms; /* 0 and UINT64_MAX = open */
    uint64_t at_ms;          /* UINT64_MAX = now */
    const char *source;      /* NULL = all */
    struct span subject;     /* an id string; n 0 = all */
    bool list;               /* also one line per person */
    const struct exposure_source *sources;
    size_t source_count;
    struct span space; /* for subject */
};

/* Writes the answer through `write`: one JSON object (DESIGN 6) and, with list, one NDJSON line per person before it:
 * {"person":"<id>","ids":[...],"grade":"certain","clear":true,"classes":{"user.contact.email":{"raw":"certain"}},"sources":[...],"first":..., "last":...,"attempts":n}.
 * An erased or unknown id prints as "#<ord>". */
int exposure_answer(const char *data_dir, struct keyring *keyring, struct resolve_view *view,
                    const struct aid_maker *aids, const struct exposure_query *query,
                    int (*write)(void *context, struct span bytes), void *context,
                    struct err *err) BH_MUST_USE;

#endif
