/*
 * exposure: who was sent what, for one vendor, in a window. A reader of ledger and resolve; works on the data folder alone while no daemon runs.
 *
 * Every count is of people (components of linked aliases as of `at`), each once in a cell: certain, else possible (no whole answer
 * to the attempt was read within the window).
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

/*
 * Writes the answer through `write`: with list one line a person,
 *   {"person":ID,"ids":[ID],"grade":"certain"|"possible","clear":BOOL,"classes":{CLASS:{FORM:GRADE}},"sources":[NAME]}
 * then one object (a time is ISO 8601 with milliseconds, or null where the window is open; N counts people):
 *   {"vendor":NAME,"from":TIME,"to":TIME,"people":{"certain":N,"certain_clear":N,"possible":N,"none_recorded":N},
 *    "classes":{CLASS:{FORM:{"certain":N,"possible":N}}},"not_disclosed":[CLASS],"sources":{NAME:{"certain":N,"possible":N}},
 *    "watched_since":TIME,"checkpoint":NOTE,"limits":[TEXT]}
 * An erased or unknown id prints as "#<ord>".
 */
int exposure_answer(const char *data_dir, struct keyring *keyring, struct resolve_view *view,
                    const struct aid_maker *aids, const struct exposure_query *query,
                    int (*write)(void *context, struct span bytes), void *context,
                    struct err *err) BH_MUST_USE;

#endif
