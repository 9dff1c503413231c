/*
 * HTTP/1.1 server: one epoll loop, deferred replies.
 *
 *   listener --accept--> conn --recv--> head, body --handler--> (deferred) --http_reply--> send --> next request
 *
 * Purpose: read a whole request, hand it to the handler once, and send exactly one reply to exactly that request. A
 * connection has one request in hand at a time: the next pipelined one is parsed only when the reply to this one has been
 * sent, so answers cannot cross. A reply names its exchange (connection slot, generation, request number); a reply to an
 * exchange that is gone is dropped and counted.
 * Owner: the thread that calls http_server_run_once; all functions but http_server_stats are owner only. The handler and
 * the callbacks of watches may call http_reply, http_server_pause, http_server_watch and http_server_drain.
 * Memory: one mapping made at http_server_new; nothing is allocated later. It holds connections_max slots with 4 KiB each
 * for an unfinished small request (untouched, so not resident, until needed), one 64 KiB buffer into which all sockets are
 * read, and body_pool bytes for requests that are larger or come in pieces, and for replies that the peer does not take.
 * A connection without a request holds none of it. A pool that is exhausted means 503 with Retry-After, the connection
 * kept where the rest of the request can be skipped.
 * Deadlines are total and cost no system call: head (from the first byte, or from accept), body and its minimum rate,
 * reply to be taken, idle keep-alive, 2 s of lingering so that a refused client can read why.
 * Errors: hostile input is answered with a status and closed, and counted by kind.
 */
#ifndef BH_ENGINE_HTTP_SERVER_H
#define BH_ENGINE_HTTP_SERVER_H

#include "base/bytes.h"
#include "base/errors.h"
#include "base/net.h"
#include "engine/http/http_parse.h"
#include "os/socket.h"

struct http_server;

enum { HTTP_WATCHES_MAX = 8 };

struct http_exchange {
    uint32_t slot;
    uint32_t generation;
    uint64_t number;
};

struct http_request {
    const struct http_head *head; /* valid during the handler only, as is what it points to */
    uint8_t *body; /* writable: decoders work in place; valid during the handler only */
    size_t body_size;
    struct os_peer peer;
    struct http_exchange exchange;
};

struct http_reply {
    unsigned status;
    struct span
        headers; /* whole lines with CRLF each, e.g. "Content-Type: text/plain\r\n"; Content-Length, Connection and Date-less framing are added */
    struct span body; /* dropped for HEAD, its length kept */
    bool close;
};

/* Connections per peer over several servers (one per loop): any thread; outlives them. */
struct http_peer_table;
int http_peer_table_new(unsigned connections_max, unsigned per_peer_max,
                        struct http_peer_table **ret_table) BH_MUST_USE;
void http_peer_table_free(struct http_peer_table *table);

struct http_config {
    const char *address; /* of os_listen */
    bool reuse_port;
    unsigned connections_max; /* e.g. 4096 */
    unsigned
        connections_per_peer_max; /* 0 = no limit; a peer is an IPv4 address or an IPv6 /64; Unix sockets have none */
    const struct net
        *uncounted; /* peers without that limit: one proxy carries everybody's connections */
    size_t uncounted_count;
    struct http_peer_table
        *peers; /* shared with other servers; NULL: connections_per_peer_max counts here alone */
    size_t body_max; /* decoded of transfer coding; 413 beyond */
    size_t head_max;
    size_t target_max;
    size_t body_pool; /* bytes for bodies larger than the connection's own buffer */
    unsigned head_timeout_ms;
    unsigned body_timeout_ms;
    unsigned body_rate_min; /* bytes a second after the first second */
    unsigned send_timeout_ms;
    unsigned idle_timeout_ms;
    unsigned overload_ms; /* of pause, before requests are refused with 503; 0 = 5000 */
    /* Called with a whole request. Either replies before it returns or keeps request->exchange and replies later. */
    struct tls_context *(*tls)(void *context); /* of a connection that begins; NULL: plain HTTP */
    void (*handler)(void *context, const struct http_request *request);
    /* Headers put on replies that the server makes itself (400, 413, 503 ...): CORS. May be NULL. Writes whole lines into b. */
    void (*error_headers)(void *context, const struct http_head *head_or_null, struct buf *b);
    void *context;
};

/* Counters, readable by any thread (relaxed atomics inside). */
struct http_stats {
    uint64_t accepted, refused_connections, open_connections, requests, replies, replies_dropped;
    uint64_t bytes_in, bytes_out, timeouts, bad_requests, too_big, aborted;
    uint64_t overloaded; /* requests answered by 503 because of a pause or exhausted body memory */
};

int http_server_new(const struct http_config *config, struct http_server **ret_server,
                    struct err *err) BH_MUST_USE;
void http_server_free(struct http_server *server);
int http_server_port(struct http_server *server);
/* Waits for readiness up to timeout_ms (-1 = as long as no deadline ends it) and handles one round: every request that is
 * complete by then has been handed over when this returns, so that the caller can commit them as one group. */
void http_server_run_once(struct http_server *server, int timeout_ms);
/* Another fd in the same poller, e.g. a wake-up; at most HTTP_WATCHES_MAX. Watches are served while paused, too. */
int http_server_watch(struct http_server *server, int fd, void (*on_ready)(void *context),
                      void *context) BH_MUST_USE;
void http_reply(struct http_server *server, struct http_exchange exchange,
                const struct http_reply *reply);
/* While paused no socket is read; waiting replies still leave. A request complete but unread waits; its deadline runs. After `overload_ms` of pause
 * complete heads are answered by 503 with Retry-After (jittered 1..5), the connection kept. */
void http_server_pause(struct http_server *server, bool paused);
/* Stops accepting; connections close as they become idle. */
void http_server_drain(struct http_server *server);
unsigned http_server_open_connections(const struct http_server *server);
void http_server_stats(const struct http_server *server, struct http_stats *ret_stats);

#endif
