/*
 * The server's own parts: pool of pages, table of peers, connections. Private to engine/http.
 */
#ifndef BH_ENGINE_HTTP_INT_H
#define BH_ENGINE_HTTP_INT_H

#include <stdatomic.h>

#include "base/bytes.h"
#include "base/errors.h"
#include "crypto/crypto.h"
#include "engine/http/http_parse.h"
#include "engine/http/http_server.h"
#include "os/socket.h"
#include "os/thread.h"

/* Memory for what does not fit a connection's own 4 KiB: runs of pages, first fit, so that the hot part stays small. */
enum {
    HTTP_PAGE_SIZE = 32 * 1024,
    HTTP_PAGES_HOT = 64, /* pages below this index stay resident when they are given back: 2 MiB */
};

struct http_pool {
    uint8_t *_memory;
    uint8_t *_used; /* one byte a page */
    size_t _pages;
    size_t _free;
};

/* `used` is zero. */
void http_pool_init(struct http_pool *pool, uint8_t *memory, uint8_t *used, size_t pages);
/* A run of at least `size` bytes, or NULL when there is none; *ret_cap is its true size. */
uint8_t *http_pool_take(struct http_pool *pool, size_t size, size_t *ret_cap);
void http_pool_give(struct http_pool *pool, const uint8_t *run, size_t cap);

/* How many connections each peer has: open addressing, at most half full. */
struct http_peer_slot {
    uint64_t key[2];
    uint32_t count; /* 0 = empty */
};

struct http_peers {
    struct http_peer_slot *_slots;
    size_t _mask;
    uint64_t _seed;
    uint32_t _max;
};

size_t http_peers_slots(size_t connections_max); /* number of slots to provide, a power of two */
/* `slots` are zero. */
void http_peers_init(struct http_peers *peers, struct http_peer_slot *slots, size_t count,
                     uint64_t seed, uint32_t max);
bool http_peers_add(struct http_peers *peers,
                    const struct os_peer *peer); /* false: it has its maximum */
void http_peers_remove(struct http_peers *peers, const struct os_peer *peer);

struct http_peer_table {
    struct os_lock lock;
    struct http_peers peers;
    size_t mapped;
};

enum {
    HTTP_SMALL_SIZE = 4 * 1024,    /* of a connection's own memory */
    HTTP_SCRATCH_SIZE = 64 * 1024, /* all sockets are read into this; a loopback segment fits */
    HTTP_ERROR_HEADERS_MAX = 2 * 1024,
    HTTP_READS_PER_ROUND =
        4, /* of one connection, so that a fast sender cannot starve the others */
    HTTP_ACCEPTS_PER_ROUND = 64,
    HTTP_EVENTS_PER_ROUND = 256,
    HTTP_LINGER_BYTES_MAX = 1024 * 1024,
    HTTP_LINGER_MS = 2000,
    HTTP_ACCEPT_RETRY_MS = 100, /* after accept failed for want of descriptors */
    HTTP_RATE_CHECK_MS = 250,
};

#define HTTP_NO_SLOT UINT32_MAX

/* What a connection waits for; each kind has one duration, so a list in order of arrival is in order of deadline. */
enum http_wait {
    HTTP_WAIT_NONE,
    HTTP_WAIT_IDLE,
    HTTP_WAIT_HEAD,
    HTTP_WAIT_BODY,
    HTTP_WAIT_SEND,
    HTTP_WAIT_LINGER,
    HTTP_WAITS
};

enum http_conn_state {
    HTTP_CONN_FREE,
    HTTP_CONN_HEAD,   /* no request, or a part of a head */
    HTTP_CONN_BODY,   /* head read, body not complete */
    HTTP_CONN_SKIP,   /* the rest of the request is thrown away, then `refusal` is answered */
    HTTP_CONN_HAND,   /* the handler has the request; a reply is owed */
    HTTP_CONN_SEND,   /* a part of the reply waits for the peer to read */
    HTTP_CONN_LINGER, /* all is said; bytes are thrown away until the peer closes */
};

struct http_conn {
    int fd;
    struct tls *tls; /* NULL: plain */
    uint32_t
        generation; /* of the slot; a closed connection's exchanges, tags and events no longer match */
    uint64_t number; /* of the request */
    uint8_t state;   /* enum http_conn_state */
    uint8_t wait;    /* enum http_wait */
    uint32_t wait_prev;
    uint32_t wait_next; /* in the wait list, or in the list of free slots */
    uint32_t run_prev;
    uint32_t run_next;
    uint64_t since_us; /* start of the wait */

    bool queued;    /* in the run list */
    bool in_window; /* its input is being worked on right now: `length` does not count */
    bool
        read_masked; /* not polled for input: a request is in hand and more bytes or the end came */
    bool closing;    /* close when the reply has left */
    bool linger;     /* ... and let the peer read it */
    bool small_used; /* its 4 KiB were touched */

    /* Input that is kept between rounds: in `run` of the pool when there is one, else in the 4 KiB of the slot. */
    uint8_t *run;
    size_t run_cap;
    size_t length;

    /* The request at the start of the input. */
    struct http_scan scan;
    size_t head_size;
    size_t body_size; /* decoded so far (chunked), or the Content-Length */
    uint64_t skip_left;
    struct http_chunked chunks;
    bool chunked;
    bool head_only; /* method HEAD */
    bool minor_0;
    bool keep_alive;
    unsigned refusal; /* SKIP: the status; its extra headers lie in the 4 KiB */
    size_t refusal_headers;
    uint64_t body_received; /* since the head was complete, for the minimum rate */
    uint64_t paused_before_us;

    /* SEND: what the peer has not taken. */
    uint8_t *out;
    size_t out_cap;
    size_t out_at;
    size_t out_length;

    uint64_t lingered;
    struct os_peer peer;
};

enum http_counter {
    HTTP_COUNT_ACCEPTED,
    HTTP_COUNT_REFUSED_CONNECTIONS,
    HTTP_COUNT_OPEN,
    HTTP_COUNT_REQUESTS,
    HTTP_COUNT_REPLIES,
    HTTP_COUNT_REPLIES_DROPPED,
    HTTP_COUNT_BYTES_IN,
    HTTP_COUNT_BYTES_OUT,
    HTTP_COUNT_TIMEOUTS,
    HTTP_COUNT_BAD_REQUESTS,
    HTTP_COUNT_TOO_BIG,
    HTTP_COUNT_ABORTED,
    HTTP_COUNT_OVERLOADED,
    HTTP_COUNTERS,
};

struct http_list {
    uint32_t first;
    uint32_t last;
};

struct http_watch {
    int fd;
    void (*on_ready)(void *context);
    void *context;
};

struct http_server {
    uint32_t magic;
    struct http_config config;
    uint16_t port;
    int listener;
    bool listening; /* the listener is in the poller */
    uint64_t listen_again_us;
    /* Sockets are polled in `main`. What goes on while paused (watches, unfinished replies) is polled in `always`, which
     * is itself a member of `main`: pausing is then a choice of poller and costs nothing a connection. */
    struct os_poller main;
    struct os_poller always;
    struct http_watch watches[HTTP_WATCHES_MAX];
    unsigned watch_count;

    bool paused;
    bool draining;
    bool drain_sweep; /* idle connections are to be read once more and closed */
    uint64_t pause_start_us;
    uint64_t paused_total_us;
    uint64_t now_us;
    bool in_round;
    uint64_t rate_check_us;
    uint64_t random;

    size_t mapped;
    struct http_conn *conns;
    uint8_t *small; /* HTTP_SMALL_SIZE a slot */
    uint8_t *scratch;
    struct http_pool pool;
    struct http_peer_table *shared_peers; /* NULL: the table below */
    struct http_peers peers;
    uint32_t free_first; /* slots that were used before */
    uint32_t fresh;      /* slots from here on were never used: their pages are not resident */
    uint32_t open_count;
    struct http_list waits[HTTP_WAITS];
    struct http_list runs; /* connections with kept input that may go on */

    /* The head last read, and where it lay; valid while that connection's input has not moved. */
    struct http_head head;
    const struct http_conn *head_conn;
    const uint8_t *head_at;
    uint64_t head_number;

    /* Written by the owner alone, read by any thread: relaxed on both sides, since each number stands for itself. */
    _Atomic uint64_t counters[HTTP_COUNTERS];
};

enum { HTTP_SERVER_MAGIC = 0x48545053 };

static inline void http_count(struct http_server *server, enum http_counter counter, uint64_t n) {
    uint64_t old = atomic_load_explicit(&server->counters[counter], memory_order_relaxed);
    atomic_store_explicit(&server->counters[counter], old + n, memory_order_relaxed);
}

static inline uint32_t http_conn_slot(const struct http_server *server,
                                      const struct http_conn *conn) {
    return (uint32_t)(conn - server->conns);
}

static inline uint8_t *http_conn_small(const struct http_server *server,
                                       const struct http_conn *conn) {
    return server->small + (size_t)http_conn_slot(server, conn) * HTTP_SMALL_SIZE;
}

static inline bool http_server_overloaded(const struct http_server *server) {
    return server->paused &&
           server->now_us - server->pause_start_us >= server->config.overload_ms * UINT64_C(1000);
}

/* What the pollers say of a connection; never equal to a tag of a connection that had this slot before. */
static inline uint64_t http_conn_tag(const struct http_server *server,
                                     const struct http_conn *conn) {
    return ((uint64_t)conn->generation << 32) | http_conn_slot(server, conn);
}

/* Paused and not yet overloaded: nothing is read and nothing handed over. */
static inline bool http_server_holds(const struct http_server *server) {
    return server->paused && !http_server_overloaded(server);
}

/* http_server.c */
void http_conn_wait(struct http_server *server, struct http_conn *conn, enum http_wait wait);
void http_conn_queue(struct http_server *server, struct http_conn *conn);
void http_conn_close(struct http_server *server, struct http_conn *conn);

/* http_conn.c */
void http_conn_on_readable(struct http_server *server, struct http_conn *conn);
/* Goes on with kept input. */
void http_conn_resume(struct http_server *server, struct http_conn *conn);
void http_conn_on_deadline(struct http_server *server, struct http_conn *conn);

/* http_reply.c */
/* Sends or queues the reply, after which the connection is in HEAD, SEND, LINGER or FREE. */
void http_conn_answer(struct http_server *server, struct http_conn *conn,
                      const struct http_reply *reply);
void http_conn_on_writable(struct http_server *server, struct http_conn *conn);
/* Writes the headers of a reply of our own into `b`: content type, Retry-After for 503, and the configured ones. */
void http_error_headers(struct http_server *server, const struct http_head *head, unsigned status,
                        struct buf *b);
/* Answers with a status of our own and closes, lingering. head may be NULL. */
void http_conn_refuse(struct http_server *server, struct http_conn *conn,
                      const struct http_head *head, unsigned status);
/* Best effort for a connection that gets no slot. */
void http_refuse_connection(struct http_server *server, int fd);
struct span http_status_reason(unsigned status);

/* -- the socket, in the clear or by TLS ------------------------------------------------------------ */

static inline long http_conn_recv(struct http_conn *conn, void *p, size_t n) {
    return conn->tls != NULL ? tls_recv(conn->tls, p, n) : os_recv(conn->fd, p, n);
}

static inline long http_conn_send(struct http_conn *conn, const void *p, size_t n) {
    return conn->tls != NULL ? tls_send(conn->tls, p, n) : os_send(conn->fd, p, n);
}

/* TLS holds bytes that no poller knows of. */
static inline bool http_conn_has_pending(const struct http_conn *conn) {
    return conn->tls != NULL && tls_has_pending(conn->tls);
}

#endif
