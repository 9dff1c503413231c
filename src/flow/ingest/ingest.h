/*
 * ingest: from a whole HTTP request to the events of a known source, or to the refusal that this SDK understands.
 *
 *   path prefix -> protocol -> decode (unwrap, parse, split) -> token of each item -> source -> batch      (gateway: inspect, journal, then reply)
 *
 * Each item's token names its source; all items unknown = 401 that reveals nothing, some = those are counted bad. A request's events may belong to
 * several sources; the batch lists them in runs of one source, each run is one record in the journal.
 * Owner: an ingester belongs to its loop; the source table is immutable and swapped as a whole.
 * Memory: one decode buffer, token array and item array per ingester, mapped at ingester_new; nothing is allocated per request.
 * Errors: verdicts, not codes: status and reason of the refusal; counters by reason and source.
 */
#ifndef BH_FLOW_INGEST_H
#define BH_FLOW_INGEST_H

#include "base/bytes.h"
#include "base/errors.h"
#include "engine/http/http_server.h"
#include "engine/json/json.h"
#include "model/event.h"
#include "model/reason.h"
#include "protocol/protocol.h"

struct ingest_source {
    uint16_t number;
    uint8_t protocol;
    struct span name;
    struct span token;
    struct span space;          /* ids: word */
    struct span import_secret;  /* empty = none */
    struct span import_project; /* project id that goes with it */
};

/* Immutable lookup from (protocol, token) to source; constant-time compare of the last candidate. Copies all it needs. */
struct ingest_sources;
int ingest_sources_new(const struct ingest_source *sources, size_t count, struct ingest_sources **ret_sources) BH_MUST_USE;
void ingest_sources_free(struct ingest_sources *sources);
const struct ingest_source *ingest_source_by_token(const struct ingest_sources *sources, uint8_t protocol, struct span token);

#endif
