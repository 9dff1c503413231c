/*
 * What a connection says.
 *
 * A reply is one send: status line, framing headers, the caller's headers and the body together, copied into one buffer when
 * small. What the kernel does not take at once is copied into pages of the pool and polled for; until the last byte has left
 * the next request is not begun, so what a peer makes us keep is one reply.
 */
#include "base/check.h"
#include "engine/http/http_int.h"
#include "os/clock.h"

/* A reply up to JOINED_MAX bytes is copied together; a larger one leaves in PARTS: head, headers, empty line, body. */
enum { JOINED_MAX = 2048, PARTS = 4 };

static bool is_bodiless(unsigned status) {
    return status == 204 || status == 304;
}

struct span http_status_reason(unsigned status) {
    static const struct {
        unsigned status;
        struct span reason;
    } reasons[] = {
        {200, {(const uint8_t *)"OK", 2}},
        {201, {(const uint8_t *)"Created", 7}},
        {202, {(const uint8_t *)"Accepted", 8}},
        {204, {(const uint8_t *)"No Content", 10}},
        {304, {(const uint8_t *)"Not Modified", 12}},
        {400, {(const uint8_t *)"Bad Request", 11}},
        {401, {(const uint8_t *)"Unauthorized", 12}},
        {403, {(const uint8_t *)"Forbidden", 9}},
        {404, {(const uint8_t *)"Not Found", 9}},
        {405, {(const uint8_t *)"Method Not Allowed", 18}},
        {408, {(const uint8_t *)"Request Timeout", 15}},
        {409, {(const uint8_t *)"Conflict", 8}},
        {411, {(const uint8_t *)"Length Required", 15}},
        {413, {(const uint8_t *)"Content Too Large", 17}},
        {414, {(const uint8_t *)"URI Too Long", 12}},
        {415, {(const uint8_t *)"Unsupported Media Type", 22}},
        {417, {(const uint8_t *)"Expectation Failed", 18}},
        {422, {(const uint8_t *)"Unprocessable Content", 21}},
        {429, {(const uint8_t *)"Too Many Requests", 17}},
        {431, {(const uint8_t *)"Request Header Fields Too Large", 31}},
        {500, {(const uint8_t *)"Internal Server Error", 21}},
        {501, {(const uint8_t *)"Not Implemented", 15}},
        {503, {(const uint8_t *)"Service Unavailable", 19}},
        {505, {(const uint8_t *)"HTTP Version Not Supported", 26}},
    };
    for (size_t i = 0; i < BH_COUNT(reasons); i++) {
        if (reasons[i].status == status) {
            return reasons[i].reason;
        }
    }
    return SPAN_LIT("Status");
}

void http_error_headers(struct http_server *server, const struct http_head *head, unsigned status,
                        struct buf *b) {
    buf_put_str(b, "Content-Type: text/plain\r\n");
    if (status == 503) {
        server->random = server->random * UINT64_C(6364136223846793005) + 1;
        buf_put_str(b, "Retry-After: ");
        buf_put_u64_dec(b, 1 + (server->random >> 33) % 5); /* spread, or all come back at once */
        buf_put_str(b, "\r\n");
    }
    size_t own = b->n;
    if (server->config.error_headers != NULL) {
        server->config.error_headers(server->config.context, head, b);
    }
    if (b->full) {
        *b = (struct buf){b->p, own, b->cap, false}; /* half a line would break the reply */
    }
}

static void unmask(struct http_server *server, struct http_conn *conn) {
    if (!conn->read_masked) {
        return;
    }
    conn->read_masked = false;
    if (os_poller_change(server->main, conn->fd, http_conn_tag(server, conn), OS_READY_IN) != 0) {
        http_conn_close(server, conn);
    }
}

static void drop_kept_input(struct http_server *server, struct http_conn *conn) {
    if (conn->run != NULL) {
        http_pool_give(&server->pool, conn->run, conn->run_cap);
        conn->run = NULL;
    } else {
        memset(http_conn_small(server, conn), 0, conn->length);
    }
    conn->length = 0;
}

/* The last byte of a reply has gone to the kernel. */
static void reply_left(struct http_server *server, struct http_conn *conn) {
    http_count(server, HTTP_COUNT_REPLIES, 1);
    if (conn->closing && !conn->linger) {
        http_conn_close(server, conn);
        return;
    }
    if (conn->closing) {
        drop_kept_input(server, conn);
        if (conn->tls != NULL) {
            tls_shutdown_send(conn->tls);
        }
        os_shutdown_send(conn->fd);
        conn->state = HTTP_CONN_LINGER;
        http_conn_wait(server, conn, HTTP_WAIT_LINGER);
        unmask(server, conn);
        return;
    }
    conn->state = HTTP_CONN_HEAD;
    if (conn->in_window) {
        /* Who works on the window goes on, and settles what to wait for. */
        http_conn_wait(server, conn, HTTP_WAIT_NONE);
    } else if (conn->length != 0) {
        http_conn_wait(server, conn, HTTP_WAIT_HEAD);
        http_conn_queue(server, conn);
    } else if (http_conn_has_pending(conn)) {
        http_conn_wait(server, conn, HTTP_WAIT_IDLE);
        http_conn_queue(server, conn);
    } else if (server->draining) {
        http_conn_close(server, conn);
        return;
    } else {
        http_conn_wait(server, conn, HTTP_WAIT_IDLE);
    }
    unmask(server, conn);
}

/* Copies what the kernel did not take, `sent` bytes into the parts, and polls until it does. */
static void keep_rest(struct http_server *server, struct http_conn *conn, const struct span *parts,
                      size_t total, size_t sent) {
    conn->out = http_pool_take(&server->pool, total - sent, &conn->out_cap);
    if (conn->out == NULL) {
        http_count(server, HTTP_COUNT_ABORTED, 1);
        http_conn_close(server, conn);
        return;
    }
    struct buf b = buf_of(conn->out, conn->out_cap);
    size_t skip = sent;
    for (size_t i = 0; i < PARTS; i++) {
        size_t past = skip < parts[i].n ? skip : parts[i].n;
        if (past < parts[i].n) {
            check(parts[i].p != NULL);
            buf_put(&b, parts[i].p + past, parts[i].n - past);
        }
        skip -= past;
    }
    check(!b.full && b.n == total - sent);
    conn->out_at = 0;
    conn->out_length = b.n;
    conn->state = HTTP_CONN_SEND;
    http_conn_wait(server, conn, HTTP_WAIT_SEND);
    if (os_poller_add(server->always, conn->fd, http_conn_tag(server, conn), OS_READY_OUT) != 0) {
        http_conn_close(server, conn);
    }
}

/* Status line and framing headers, without the empty line. */
static void put_head(const struct http_conn *conn, unsigned status, size_t body_size,
                     struct buf *b) {
    buf_put_str(b, "HTTP/1.1 ");
    buf_put_u64_dec(b, status);
    buf_put_byte(b, ' ');
    buf_put_span(b, http_status_reason(status));
    if (!is_bodiless(status)) {
        buf_put_str(b, "\r\nContent-Length: ");
        buf_put_u64_dec(b, body_size);
    }
    if (conn->closing) {
        buf_put_str(b, "\r\nConnection: close");
    } else if (conn->minor_0) {
        buf_put_str(b, "\r\nConnection: keep-alive");
    }
    buf_put_str(b, "\r\n");
}

/* One after the other: a record each, until one is not taken whole. */
static long send_by_tls(struct http_conn *conn, const struct span *parts) {
    long all = 0;
    for (size_t i = 0; i < PARTS; i++) {
        if (parts[i].n == 0) {
            continue;
        }
        long sent = http_conn_send(conn, parts[i].p, parts[i].n);
        if (sent < 0) {
            return all != 0 && sent == BH_E_AGAIN ? all : sent;
        }
        all += sent;
        if ((size_t)sent < parts[i].n) {
            break;
        }
    }
    return all;
}

void http_conn_answer(struct http_server *server, struct http_conn *conn,
                      const struct http_reply *reply) {
    bool ours = reply->close || server->draining;
    /* A client that did not ask to close may be sending the next request. */
    conn->linger = conn->linger || ours;
    conn->closing = conn->closing || ours || !conn->keep_alive;

    uint8_t memory[JOINED_MAX];
    struct buf head = buf_of(memory, sizeof memory);
    put_head(conn, reply->status, reply->body.n, &head);
    bool with_body = !is_bodiless(reply->status) && !conn->head_only;
    struct span parts[PARTS] = {
        {NULL, 0}, reply->headers, SPAN_LIT("\r\n"), with_body ? reply->body : SPAN_NONE};
    size_t total = head.n + parts[1].n + parts[2].n + parts[3].n;
    bool joined = total <= JOINED_MAX;
    for (size_t i = 1; i < PARTS && joined; i++) {
        buf_put(&head, parts[i].p, parts[i].n);
        parts[i] = SPAN_NONE;
    }
    check(!head.full);
    parts[0] = buf_span(&head);

    long sent = joined              ? http_conn_send(conn, head.p, head.n)
                : conn->tls == NULL ? os_send_vec(conn->fd, parts, PARTS)
                                    : send_by_tls(conn, parts);
    if (sent < 0 && sent != BH_E_AGAIN) {
        http_count(server, HTTP_COUNT_ABORTED, 1);
        http_conn_close(server, conn);
        return;
    }
    size_t taken = sent > 0 ? (size_t)sent : 0;
    http_count(server, HTTP_COUNT_BYTES_OUT, taken);
    if (taken == total) {
        reply_left(server, conn);
    } else {
        keep_rest(server, conn, parts, total, taken);
    }
}

void http_conn_on_writable(struct http_server *server, struct http_conn *conn) {
    check(conn->state == HTTP_CONN_SEND && conn->out != NULL);
    long sent = http_conn_send(conn, conn->out + conn->out_at, conn->out_length - conn->out_at);
    if (sent == BH_E_AGAIN) {
        return;
    }
    if (sent < 0) {
        http_count(server, HTTP_COUNT_ABORTED, 1);
        http_conn_close(server, conn);
        return;
    }
    http_count(server, HTTP_COUNT_BYTES_OUT, (uint64_t)sent);
    conn->out_at += (size_t)sent;
    if (conn->out_at < conn->out_length) {
        return;
    }
    os_poller_remove(server->always, conn->fd);
    http_pool_give(&server->pool, conn->out, conn->out_cap);
    conn->out = NULL;
    reply_left(server, conn);
}

void http_conn_refuse(struct http_server *server, struct http_conn *conn,
                      const struct http_head *head, unsigned status) {
    if (status == 503) {
        http_count(server, HTTP_COUNT_OVERLOADED, 1);
    } else if (status == 413 || status == 414 || status == 431) {
        http_count(server, HTTP_COUNT_TOO_BIG, 1);
    } else if (status != 408) {
        http_count(server, HTTP_COUNT_BAD_REQUESTS, 1);
    }
    uint8_t memory[HTTP_ERROR_HEADERS_MAX];
    struct buf headers = buf_of(memory, sizeof memory);
    http_error_headers(server, head, status, &headers);
    struct http_reply reply = {status, buf_span(&headers), http_status_reason(status), true};
    http_conn_answer(server, conn, &reply);
}

void http_refuse_connection(struct http_server *server, int fd) {
    http_count(server, HTTP_COUNT_REFUSED_CONNECTIONS, 1);
    struct span text =
        SPAN_LIT("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nRetry-After: 5\r\n"
                 "Connection: close\r\n\r\n");
    (void)os_send(fd, text.p, text.n); /* a courtesy: the connection ends either way */
    os_close(fd);
}

void http_reply(struct http_server *server, struct http_exchange exchange,
                const struct http_reply *reply) {
    check(server->magic == HTTP_SERVER_MAGIC);
    check(exchange.slot < server->config.connections_max && reply->status >= 200 &&
          reply->status <= 599);
    struct http_conn *conn = &server->conns[exchange.slot];
    if (conn->state != HTTP_CONN_HAND || conn->generation != exchange.generation ||
        conn->number != exchange.number) {
        http_count(server, HTTP_COUNT_REPLIES_DROPPED, 1);
        return;
    }
    if (!server->in_round) {
        server->now_us = os_mono_us();
    }
    http_conn_answer(server, conn, reply);
}
