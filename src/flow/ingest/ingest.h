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
#include "base/net.h"
#include "engine/http/http_server.h"
#include "engine/json/json.h"
#include "model/consent.h"
#include "model/event.h"
#include "model/reason.h"
#include "protocol/protocol.h"

struct ingest_source {
    uint16_t number;
    uint8_t protocol;
    bool trust_server; /* its token is a secret */
    struct span name;
    struct span token;
    struct span space;          /* ids: word */
    struct span import_secret;  /* empty = none */
    struct span import_project; /* project id that goes with it */
};

/* Immutable lookup from (protocol, token) to source; constant-time compare of the last candidate. Copies all it needs. */
struct ingest_sources;
int ingest_sources_new(const struct ingest_source *sources, size_t count,
                       struct ingest_sources **ret_sources) BH_MUST_USE;
void ingest_sources_free(struct ingest_sources *sources);
const struct ingest_source *ingest_source_by_token(const struct ingest_sources *sources,
                                                   uint8_t protocol, struct span token);

/* -- reading a request ----------------------------------------------------------------------------------------------------------- */

struct ingester;
/* `ids_key` is of SIPHASH_KEY_SIZE bytes and kept by the caller; the same for all, or NULL (protocol_work). NOMEM. */
int ingester_new(size_t request_max, const uint8_t *ids_key,
                 struct ingester **ret_ingester) BH_MUST_USE;
void ingester_free(struct ingester *g);

struct ingest_batch {
    const struct protocol_ops *protocol; /* NULL: no protocol has this path */
    /* REPLY_KEPT: `decoded` has good items to keep first, unless `is_local`. Anything else: answer at once. */
    enum reply_kind verdict;
    bool is_local;    /* settings and the like: answered, nothing is kept */
    bool is_question; /* and its one item, of sources[0], may be passed on (ENDPOINT_ASK) */
    /* Whose settings these are, where the request says so and the protocol has questions. */
    const struct ingest_source *local;
    struct protocol_decoded decoded; /* the envelope is always filled when there is a protocol */
    /* Parallel to decoded.items: the source of each item, NULL where its token is unknown (its reason is then set). */
    const struct ingest_source *const *sources;
    uint32_t good;   /* items without a reason */
    uint8_t signals; /* enum signal_bit: what the request's headers say for the user */
};

/* Unwraps, decodes and authenticates. All in *ret_batch lives until the next call or the end of the request. */
void ingest_read(struct ingester *g, const struct ingest_sources *sources,
                 const struct http_request *request, int64_t now_ms,
                 struct ingest_batch *ret_batch);

/* What the record keeps of the request: the protocol's env, and of the headers the signals alone. */
void ingest_env(const struct ingest_batch *batch, struct buf *out);

/*
 * When the request is done: what was unwrapped, and each id whose escapes were decoded, is overwritten, so that a secret does not outlive its request
 * in memory. The request's own bytes are the HTTP server's to overwrite.
 */
void ingest_wipe(struct ingester *g);

/*
 * Who a request is from: its peer, or behind trusted proxies the last address in X-Forwarded-For that is none of them. What that header says beyond is the
 * sender's own claim; an entry that is no address ends the search, at the proxy that passed it on.
 */
void ingest_client(const struct http_request *request, const struct net *proxies, size_t count,
                   uint8_t ret_address[16]);

/* -- answering --------------------------------------------------------------------------------------------------------------------- */

/* CORS lines for this Origin (empty: none; longer than 256 bytes: none): on every answer, errors too, or a browser's SDK sees status 0. */
void ingest_cors(struct span origin, struct buf *out);
/* The answer to a preflight. */
void ingest_preflight(const struct http_head *head, struct buf *headers);

#endif
