/*
 * What a connection reads.
 *
 *          first byte                body to come               complete
 *   HEAD ----------------> HEAD ------------------> BODY ------------------> HAND --reply--> HEAD
 *     |  begin_request      |   begin_request        |        hand_over       ^
 *     |                     |                        `--no memory, overload--> SKIP --skipped, 503--> HEAD
 *     `---------------------`--refused: http_conn_refuse--> LINGER
 *
 * All sockets are read into one scratch buffer that stays in the processor's cache. A request that came whole is parsed, handed
 * over and forgotten there. Only what is left over (an unfinished request, or the next of a pipeline) is kept: up to 4 KiB in
 * the slot's own memory, from where it is copied in front of the next read, more in a run of pages that is then read into
 * directly. A run grows with what has arrived, at least doubling, never with what was merely announced, so a peer holds at most
 * twice the memory that it has paid for in bytes, and all copying together stays linear.
 *
 * Input is personal: what was worked through is overwritten where it stood, and so is every place that input was moved away from.
 *
 * While input is worked on it belongs to a struct window, its run included: a reply from inside the handler may close the
 * connection, and the handler may go on reading the body.
 */
#include "base/check.h"
#include "engine/http/http_int.h"
#include "os/clock.h"

struct window {
    uint8_t *p;
    size_t at; /* start of the current request */
    size_t n;
    size_t end;   /* n at first: chunked framing moves n back, and leaves its bytes behind */
    uint8_t *run; /* the pool's memory that p is, or NULL for the scratch */
    size_t run_cap;
};

/* The head of the request at `at`, whose scan is complete; read again if another was read since. */
static const struct http_head *head_of(struct http_server *server, struct http_conn *conn,
                                       const uint8_t *at) {
    if (server->head_conn != conn || server->head_number != conn->number || server->head_at != at) {
        unsigned status = 0;
        int rc = http_complete_head(span_of(at, conn->head_size), server->config.target_max,
                                    &server->head, &status);
        check(rc == 0); /* it was accepted before */
        server->head_conn = conn;
        server->head_number = conn->number;
        server->head_at = at;
    }
    return &server->head;
}

/* The rest of this request is thrown away and then answered by `status`; the connection lives on if the client wants. */
static void skip_request(struct http_server *server, struct http_conn *conn, struct window *w,
                         unsigned status) {
    check(conn->state == HTTP_CONN_BODY);
    struct buf b = buf_of(http_conn_small(server, conn), HTTP_ERROR_HEADERS_MAX);
    http_error_headers(server, head_of(server, conn, w->p + w->at), status, &b);
    conn->small_used = true;
    conn->refusal = status;
    conn->refusal_headers = b.n;
    conn->state = HTTP_CONN_SKIP;
    conn->skip_left = conn->chunked ? 0 : conn->body_size;
    w->at += conn->head_size + (conn->chunked ? conn->body_size : 0);
}

/* true = go on with the body. */
static bool begin_request(struct http_server *server, struct http_conn *conn, struct window *w) {
    const struct http_head *head = &server->head;
    conn->number++;
    server->head_conn = conn;
    server->head_number = conn->number;
    server->head_at = w->p + w->at;
    conn->state = HTTP_CONN_BODY;
    conn->head_only = head->method == HTTP_HEAD;
    conn->minor_0 = head->minor == 0;
    conn->keep_alive = head->keep_alive;
    conn->chunked = head->chunked;
    http_chunked_init(&conn->chunks);
    conn->body_size = 0;
    conn->body_received = w->n - w->at - conn->head_size;
    conn->paused_before_us = server->paused_total_us;
    if (head->content_length > server->config.body_max) {
        http_conn_refuse(server, conn, head, 413);
        return false;
    }
    conn->body_size = (size_t)head->content_length;
    bool body_to_come = conn->chunked || conn->body_received < conn->body_size;
    bool asks_first = head->expect_continue && body_to_come && conn->body_received == 0;
    if (http_server_overloaded(server)) {
        if (asks_first) {
            /* Whether a client that was told "no" still sends the body is its choice: the end of the request is unknown. */
            http_conn_refuse(server, conn, head, 503);
            return false;
        }
        skip_request(server, conn, w, 503);
        return true;
    }
    if (asks_first) {
        struct span go_on = SPAN_LIT("HTTP/1.1 100 Continue\r\n\r\n");
        /* Nothing else waits in the socket's buffer, so these few bytes fit or the peer is gone. */
        if (http_conn_send(conn, go_on.p, go_on.n) != (long)go_on.n) {
            http_count(server, HTTP_COUNT_ABORTED, 1);
            http_conn_close(server, conn);
            return false;
        }
    }
    return true;
}

static bool step_head(struct http_server *server, struct http_conn *conn, struct window *w) {
    struct span in = span_of(w->p + w->at, w->n - w->at);
    const struct http_config *config = &server->config;
    unsigned status = 0;
    int rc = http_scan_head(&conn->scan, in, config->head_max, config->target_max, &conn->head_size,
                            &status);
    if (rc == BH_E_AGAIN) {
        return false;
    }
    if (rc == 0) {
        server->head_conn = NULL;
        rc = http_complete_head(span_cut(in, 0, conn->head_size), config->target_max, &server->head,
                                &status);
    }
    if (rc != 0) {
        conn->head_only = false;
        conn->minor_0 = false;
        http_conn_refuse(server, conn, NULL, status);
        return false;
    }
    return begin_request(server, conn, w);
}

static void hand_over(struct http_server *server, struct http_conn *conn, struct window *w,
                      size_t body_size, size_t next) {
    uint8_t *at = w->p + w->at;
    struct http_request request = {
        .head = head_of(server, conn, at),
        .body = at + conn->head_size,
        .body_size = body_size,
        .peer = conn->peer,
        .exchange = {http_conn_slot(server, conn), conn->generation, conn->number},
    };
    w->at = next;
    conn->state = HTTP_CONN_HAND;
    conn->scan = (struct http_scan){0, 0, 0};
    http_conn_wait(server, conn, HTTP_WAIT_NONE);
    http_count(server, HTTP_COUNT_REQUESTS, 1);
    server->config.handler(server->config.context, &request);
}

static bool step_chunked(struct http_server *server, struct http_conn *conn, struct window *w) {
    size_t from = w->at + conn->head_size + conn->body_size;
    if (from == w->n) {
        return false;
    }
    size_t data = 0;
    size_t used = 0;
    int rc = http_chunked_step(&conn->chunks, w->p + from, w->n - from, &data, &used);
    bool bad = rc != 0 && rc != BH_E_AGAIN;
    if (!bad) {
        conn->body_size += data;
    }
    if (bad || conn->body_size > server->config.body_max) {
        unsigned status = rc == BH_E_SYNTAX ? 400 : 413;
        http_conn_refuse(server, conn, head_of(server, conn, w->p + w->at), status);
        return false;
    }
    if (rc == BH_E_AGAIN) {
        w->n = from + data; /* the framing bytes are gone */
        return false;
    }
    hand_over(server, conn, w, conn->body_size, from + used);
    return true;
}

static bool step_body(struct http_server *server, struct http_conn *conn, struct window *w) {
    if (http_server_overloaded(server)) {
        skip_request(server, conn, w, 503);
        return true;
    }
    if (conn->chunked) {
        return step_chunked(server, conn, w);
    }
    if (w->n - w->at - conn->head_size < conn->body_size) {
        return false;
    }
    hand_over(server, conn, w, conn->body_size, w->at + conn->head_size + conn->body_size);
    return true;
}

static bool skip_chunked(struct http_server *server, struct http_conn *conn, struct window *w,
                         bool *ret_done) {
    size_t data = 0;
    size_t used = 0;
    int rc = http_chunked_step(&conn->chunks, w->p + w->at, w->n - w->at, &data, &used);
    if (rc == 0 || rc == BH_E_AGAIN) {
        conn->body_size += data;
        w->at += used;
        *ret_done = rc == 0;
        if (conn->body_size <= server->config.body_max) {
            return true;
        }
    }
    http_conn_refuse(server, conn, NULL, rc == BH_E_SYNTAX ? 400 : 413);
    return false;
}

static bool step_skip(struct http_server *server, struct http_conn *conn, struct window *w) {
    bool done = false;
    if (conn->chunked) {
        if (w->at == w->n || !skip_chunked(server, conn, w, &done)) {
            return false;
        }
    } else {
        size_t take = conn->skip_left < w->n - w->at ? (size_t)conn->skip_left : w->n - w->at;
        conn->skip_left -= take;
        w->at += take;
        done = conn->skip_left == 0;
    }
    if (!done) {
        return false;
    }
    http_count(server, HTTP_COUNT_OVERLOADED, 1);
    conn->scan = (struct http_scan){0, 0, 0};
    http_conn_wait(server, conn, HTTP_WAIT_NONE);
    struct http_reply reply = {
        .status = conn->refusal,
        .headers = span_of(http_conn_small(server, conn), conn->refusal_headers),
        .body = http_status_reason(conn->refusal),
        .close = false,
    };
    http_conn_answer(server, conn, &reply);
    return true;
}

/* One step; true when another may be possible. */
static bool step(struct http_server *server, struct http_conn *conn, struct window *w) {
    bool reads = conn->state == HTTP_CONN_HEAD || conn->state == HTTP_CONN_BODY;
    if (reads && w->at == w->n) {
        return false;
    }
    if (reads && http_server_holds(server)) {
        http_conn_queue(server, conn);
        return false;
    }
    switch ((enum http_conn_state)conn->state) {
    case HTTP_CONN_HEAD:
        return step_head(server, conn, w);
    case HTTP_CONN_BODY:
        return step_body(server, conn, w);
    case HTTP_CONN_SKIP:
        return step_skip(server, conn, w);
    case HTTP_CONN_HAND:
    case HTTP_CONN_SEND:
    case HTTP_CONN_LINGER:
    case HTTP_CONN_FREE:
        return false;
    }
    unreachable_because("every state is named above");
}

static size_t at_least(size_t a, size_t b) {
    return a > b ? a : b;
}

static size_t at_most(size_t a, size_t b) {
    return a < b ? a : b;
}

/* How much memory keeping `left` bytes asks for, room for the next read included. */
static size_t run_wanted(const struct http_server *server, const struct http_conn *conn,
                         size_t left) {
    const struct http_config *config = &server->config;
    size_t grown = at_least(left * 2, HTTP_SCRATCH_SIZE);
    if (conn->state == HTTP_CONN_HEAD) {
        return at_most(grown, at_least(config->head_max, left + 1));
    }
    if (conn->state == HTTP_CONN_BODY && conn->chunked) {
        return at_most(grown, config->head_max + config->body_max + HTTP_PAGE_SIZE);
    }
    if (conn->state == HTTP_CONN_BODY) {
        return at_most(grown, at_least(conn->head_size + conn->body_size, left + 1));
    }
    return left; /* a pipeline behind the request in hand: it is not read on */
}

/* Moves what is left over to where it can stay. false: there is no memory, and nothing has changed. */
static bool keep(struct http_server *server, struct http_conn *conn, struct window *w) {
    size_t left = conn->closing ? 0 : w->n - w->at; /* after the last answer nothing is read */
    const uint8_t *from = w->p + w->at;
    uint8_t *to = http_conn_small(server, conn);
    bool small = left <= HTTP_SMALL_SIZE;
    size_t cap = 0;
    if (!small) {
        size_t wanted = run_wanted(server, conn, left);
        bool fits = w->run != NULL && w->run_cap >= wanted;
        to = fits ? w->run : http_pool_take(&server->pool, wanted, &cap);
        cap = fits ? w->run_cap : cap;
        if (to == NULL) {
            return false;
        }
    }
    if (left != 0 && to != from) {
        memmove(to, from, left);
    }
    if (to == w->run) {
        memset(to + left, 0, w->end - left);
    }
    conn->small_used = conn->small_used || (small && left != 0);
    if (w->run != NULL && to != w->run) {
        http_pool_give(&server->pool, w->run, w->run_cap);
    }
    w->run = NULL;
    conn->run = small ? NULL : to;
    conn->run_cap = cap;
    conn->length = left;
    return true;
}

/* No memory for what is left over: change the state so that less has to be kept. */
static void starve(struct http_server *server, struct http_conn *conn, struct window *w) {
    switch ((enum http_conn_state)conn->state) {
    case HTTP_CONN_HEAD:
        conn->head_only = false;
        http_conn_refuse(server, conn, NULL, 503);
        return;
    case HTTP_CONN_BODY:
        skip_request(server, conn, w, 503);
        return;
    case HTTP_CONN_HAND:
    case HTTP_CONN_SEND:
        /* Requests behind the one in hand were read and cannot be kept; this answer is the last. */
        conn->closing = true;
        conn->linger = true;
        w->at = w->n;
        return;
    case HTTP_CONN_SKIP:
    case HTTP_CONN_LINGER:
    case HTTP_CONN_FREE:
        break;
    }
    unreachable_because("these states keep nothing");
}

static void settle_wait(struct http_server *server, struct http_conn *conn) {
    switch ((enum http_conn_state)conn->state) {
    case HTTP_CONN_HEAD:
        if (conn->length != 0) {
            /* Total: the time runs from the first byte, or from accept. */
            if (conn->wait != HTTP_WAIT_HEAD) {
                http_conn_wait(server, conn, HTTP_WAIT_HEAD);
            }
        } else if (server->draining) {
            http_conn_close(server, conn);
        } else if (conn->wait == HTTP_WAIT_NONE) {
            http_conn_wait(server, conn, HTTP_WAIT_IDLE);
        }
        return;
    case HTTP_CONN_BODY:
    case HTTP_CONN_SKIP:
        if (conn->wait != HTTP_WAIT_BODY) {
            http_conn_wait(server, conn, HTTP_WAIT_BODY);
        }
        return;
    case HTTP_CONN_HAND:
    case HTTP_CONN_SEND:
    case HTTP_CONN_LINGER:
    case HTTP_CONN_FREE:
        return;
    }
}

/* Works through the window and keeps the rest. false when the connection is gone. */
static bool work(struct http_server *server, struct http_conn *conn, struct window *w) {
    uint32_t generation = conn->generation;
    conn->in_window = true;
    conn->run = NULL;
    conn->length = 0;
    for (;;) {
        while (conn->generation == generation && step(server, conn, w)) {
        }
        if (conn->generation != generation || keep(server, conn, w)) {
            break;
        }
        starve(server, conn, w);
    }
    if (w->run != NULL) {
        http_pool_give(&server->pool, w->run, w->run_cap);
    }
    if (w->p == server->scratch) {
        memset(server->scratch, 0, w->end);
    }
    if (conn->generation != generation) {
        return false;
    }
    conn->in_window = false;
    settle_wait(server, conn);
    return conn->generation == generation;
}

static struct window window_of(struct http_server *server, struct http_conn *conn) {
    struct window w = {conn->run, 0, conn->length, conn->length, conn->run, conn->run_cap};
    if (conn->run == NULL) {
        w.p = server->scratch;
        memcpy(server->scratch, http_conn_small(server, conn), conn->length);
        memset(http_conn_small(server, conn), 0, conn->length);
    }
    return w;
}

static void read_lingering(struct http_server *server, struct http_conn *conn) {
    long got = http_conn_recv(conn, server->scratch, HTTP_SCRATCH_SIZE);
    if (got == BH_E_AGAIN) {
        return;
    }
    if (got > 0) {
        memset(server->scratch, 0, (size_t)got);
        conn->lingered += (uint64_t)got;
    }
    if (got <= 0 || conn->lingered > HTTP_LINGER_BYTES_MAX) {
        http_conn_close(server, conn);
    }
}

/* The peer has closed or reset while we waited for bytes. */
static void peer_left(struct http_server *server, struct http_conn *conn) {
    if (conn->state != HTTP_CONN_HEAD || conn->length != 0) {
        http_count(server, HTTP_COUNT_ABORTED, 1);
    }
    http_conn_close(server, conn);
}

/* Input is worked on as it comes; else it waits, for a reply or for nothing. */
static bool reads(const struct http_conn *conn) {
    return conn->state == HTTP_CONN_HEAD || conn->state == HTTP_CONN_BODY ||
           conn->state == HTTP_CONN_SKIP;
}

void http_conn_on_readable(struct http_server *server, struct http_conn *conn) {
    if (conn->state == HTTP_CONN_LINGER) {
        read_lingering(server, conn);
        return;
    }
    if (conn->queued) {
        return; /* kept input goes first; the socket stays ready */
    }
    if (conn->state == HTTP_CONN_HAND || conn->state == HTTP_CONN_SEND) {
        /* More requests, or the end of the stream: both can wait for the reply. A reset is reported all the same. */
        conn->read_masked = true;
        if (os_poller_change(server->main, conn->fd, http_conn_tag(server, conn), 0) != 0) {
            http_conn_close(server, conn);
        }
        return;
    }
    uint32_t generation = conn->generation;
    bool more = true;
    for (int i = 0; more && (i < HTTP_READS_PER_ROUND || http_conn_has_pending(conn)) &&
                    !http_server_holds(server);
         i++) {
        size_t cap = conn->run != NULL ? conn->run_cap : HTTP_SCRATCH_SIZE;
        size_t length = conn->length;
        check(length < cap);
        uint8_t *p = conn->run != NULL ? conn->run : server->scratch;
        long got = http_conn_recv(conn, p + length, cap - length);
        if (got == BH_E_AGAIN) {
            return;
        }
        if (got <= 0) {
            peer_left(server, conn);
            return;
        }
        http_count(server, HTTP_COUNT_BYTES_IN, (uint64_t)got);
        conn->body_received += (uint64_t)got;
        struct window w = window_of(server, conn);
        w.n += (size_t)got;
        w.end = w.n;
        bool filled = w.n == cap;
        more = work(server, conn, &w) && (filled || http_conn_has_pending(conn)) && reads(conn);
    }
    if (conn->generation == generation && !conn->queued && reads(conn) &&
        http_conn_has_pending(conn)) {
        http_conn_queue(server, conn);
    }
}

void http_conn_resume(struct http_server *server, struct http_conn *conn) {
    struct window w = window_of(server, conn);
    if (work(server, conn, &w) && !conn->queued && reads(conn) && http_conn_has_pending(conn)) {
        http_conn_on_readable(server, conn);
    }
}

void http_conn_on_deadline(struct http_server *server, struct http_conn *conn) {
    switch ((enum http_wait)conn->wait) {
    case HTTP_WAIT_IDLE:
    case HTTP_WAIT_LINGER:
        http_conn_close(server, conn);
        return;
    case HTTP_WAIT_HEAD:
        http_count(server, HTTP_COUNT_TIMEOUTS, 1);
        if (conn->length == 0) {
            http_conn_close(server,
                            conn); /* connected and said nothing: there is no request to answer */
            return;
        }
        conn->head_only = false;
        http_conn_refuse(server, conn, NULL, 408);
        return;
    case HTTP_WAIT_BODY: {
        http_count(server, HTTP_COUNT_TIMEOUTS, 1);
        const uint8_t *at = conn->run != NULL ? conn->run : http_conn_small(server, conn);
        http_conn_refuse(server, conn,
                         conn->state == HTTP_CONN_BODY ? head_of(server, conn, at) : NULL, 408);
        return;
    }
    case HTTP_WAIT_SEND:
        http_count(server, HTTP_COUNT_TIMEOUTS, 1);
        http_conn_close(server, conn);
        return;
    case HTTP_WAIT_NONE:
    case HTTP_WAITS:
        break;
    }
    unreachable_because("no deadline runs here");
}
