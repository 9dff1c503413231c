/*
 * The server over real loopback sockets, server and clients in one thread so that every interleaving is chosen by a seed:
 * the same requests and replies however the bytes are split, answers that never cross, deadlines under a clock of our own.
 */
/* depends: http os base */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/hash.h"
#include "engine/http/http_server.h"
#include "os/clock.h"
#include "os/thread.h"
#include "unit/random_kit.h"

enum { KIB = 1024, MIB = 1024 * 1024, OWED_MAX = 8192, TEXT_MAX = 96 };

/* A clock that stands still until it is moved. */
static uint64_t fake_us = 1000000;

static uint64_t fake_clock(void) {
    return fake_us;
}

static void fake_sleep(uint64_t us) {
    fake_us += us;
}

static const struct os_clock_ops fake_ops = {fake_clock, fake_clock, fake_sleep};

/* The handler answers "path size crc" at once, or owes it until pay() is called. */
struct owed {
    struct http_exchange exchange;
    char text[TEXT_MAX];
};

enum when { AT_ONCE, LATER, EITHER };

static struct {
    struct http_server *server;
    enum when when;
    bool close;
    size_t requests;
    size_t owed_count;
    struct owed owed[OWED_MAX];
    char last_body[64];
    struct os_peer last_peer;
    struct span answer; /* instead of the text, when set */
    unsigned status;    /* instead of 200, when set */
    bool pauses;        /* the handler pauses the server */
    bool keeps_body;    /* the handler leaves the body as it is */
} app;

static void answer(struct http_exchange exchange, const char *text) {
    struct http_reply reply = {200, SPAN_LIT("X-App: 1\r\n"), span_str(text), app.close};
    if (app.answer.p != NULL) {
        reply.body = app.answer;
    }
    reply.status = app.status != 0 ? app.status : 200;
    http_reply(app.server, exchange, &reply);
}

static void describe(struct span path, struct span body, char *text) {
    (void)snprintf(text, TEXT_MAX, "%.*s %zu %08x", (int)(path.n < 40 ? path.n : 40),
                   (const char *)path.p, body.n, crc32c(body.p, body.n));
}

static void on_request(void *context, const struct http_request *request) {
    assert_ptr_equal(context, &app);
    struct owed owed = {request->exchange, {0}};
    struct span body = span_of(request->body, request->body_size);
    describe(request->head->path, body, owed.text);
    size_t shown = body.n < sizeof app.last_body - 1 ? body.n : sizeof app.last_body - 1;
    memcpy(app.last_body, request->body, shown);
    app.last_body[shown] = 0;
    app.last_peer = request->peer;
    app.requests++;
    if (app.pauses) {
        http_server_pause(app.server, true);
    }
    bool later = app.when == LATER || (app.when == EITHER && random_below(2) == 0);
    if (!later) {
        answer(request->exchange, owed.text);
    }
    /* The body is ours until the handler returns, whatever the reply did to the connection. */
    if (!app.keeps_body) {
        memset(request->body, 0xdd, request->body_size);
    }
    if (later) {
        assert_true(app.owed_count < OWED_MAX);
        app.owed[app.owed_count++] = owed;
    }
}

static void pay(size_t index) {
    assert_true(index < app.owed_count);
    struct owed owed = app.owed[index];
    app.owed[index] = app.owed[--app.owed_count];
    answer(owed.exchange, owed.text);
}

static void on_error(void *context, const struct http_head *head, struct buf *b) {
    assert_ptr_equal(context, &app);
    struct span origin = head != NULL ? http_header(head, "Origin") : SPAN_NONE;
    buf_put_str(b, "Access-Control-Allow-Origin: ");
    buf_put_span(b, origin.n != 0 ? origin : SPAN_LIT("*"));
    buf_put_str(b, "\r\n");
}

static struct http_config usual(void) {
    return (struct http_config){
        .address = "127.0.0.1:0",
        .connections_max = 1200,
        .connections_per_peer_max = 1200,
        .body_max = 1 * MIB,
        .head_max = 80 * KIB,
        .target_max = 64 * KIB,
        .body_pool = 16 * MIB,
        .head_timeout_ms = 10000,
        .body_timeout_ms = 30000,
        .body_rate_min = 1000,
        .send_timeout_ms = 30000,
        .idle_timeout_ms = 75000,
        .overload_ms = 5000,
        .handler = on_request,
        .error_headers = on_error,
        .context = &app,
    };
}

static void start(const struct http_config *config) {
    memset(&app, 0, sizeof app);
    struct err err = {0};
    if (http_server_new(config, &app.server, &err) != 0) {
        fail_msg("%s", err.text);
    }
}

static void stop(void) {
    http_server_free(app.server);
    app.server = NULL;
}

static void rounds(int n) {
    for (int i = 0; i < n; i++) {
        http_server_run_once(app.server, 0);
    }
}

static struct http_stats stats(void) {
    struct http_stats s;
    http_server_stats(app.server, &s);
    return s;
}

/* ---- clients */

static int dial(void) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    int on = 1;
    assert_int_equal(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on), 0);
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)http_server_port(app.server)),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    union {
        struct sockaddr_in in;
        struct sockaddr any;
    } address = {to};
    int rc = connect(fd, &address.any, sizeof to);
    assert_true(rc == 0 || errno == EINPROGRESS);
    return fd;
}

/* Sends all, letting the server run whenever the socket is full. */
static void put(int fd, struct span bytes) {
    while (bytes.n != 0) {
        ssize_t n = send(fd, bytes.p, bytes.n, MSG_NOSIGNAL);
        if (n > 0) {
            bytes = span_from(bytes, (size_t)n);
        } else {
            assert_true(errno == EAGAIN || errno == EPIPE || errno == ECONNRESET);
            if (errno != EAGAIN) {
                return;
            }
            rounds(1);
        }
    }
}

static void put_str(int fd, const char *text) {
    put(fd, span_str(text));
}

static struct {
    char text[12 * MIB];
    size_t n;
    bool ended; /* end of stream */
    bool reset;
} got;

static void get_nothing_yet(void) {
    got.n = 0;
    got.ended = false;
    got.reset = false;
    got.text[0] = 0;
}

static void get_some(int fd) {
    while (got.n < sizeof got.text - 1) {
        ssize_t n = recv(fd, got.text + got.n, sizeof got.text - 1 - got.n, 0);
        if (n <= 0) {
            got.ended = n == 0;
            got.reset = n < 0 && errno != EAGAIN;
            break;
        }
        got.n += (size_t)n;
    }
    got.text[got.n] = 0;
}

/* Runs the server for some rounds and reads what the client got in them. */
static const char *get(int fd) {
    get_nothing_yet();
    for (int i = 0; i < 6; i++) {
        rounds(1);
        get_some(fd);
    }
    return got.text;
}

static unsigned get_status(int fd) {
    const char *text = get(fd);
    return strncmp(text, "HTTP/1.1 ", 9) == 0 ? (unsigned)strtoul(text + 9, NULL, 10) : 0;
}

static void assert_has(const char *text, const char *part) {
    if (strstr(text, part) == NULL) {
        fail_msg("no \"%s\" in \"%.300s\"", part, text);
    }
}

static void assert_lacks(const char *text, const char *part) {
    if (strstr(text, part) != NULL) {
        fail_msg("\"%s\" in \"%.300s\"", part, text);
    }
}

/* ---- what stays in memory */

enum { MARK_SIZE = 16, MARK_FIRST = 0x02 };

/* Only its first byte stands in the test's own memory as it is sent. */
static void mark_put(uint8_t *p) {
    for (unsigned i = 0; i < MARK_SIZE; i++) {
        p[i] = (uint8_t)(i == 0 ? MARK_FIRST : 0x80 ^ (i * 7));
    }
}

static bool mark_is(const uint8_t *p) {
    for (unsigned i = 1; i < MARK_SIZE; i++) {
        if (p[i] != (uint8_t)(0x80 ^ (i * 7))) {
            return false;
        }
    }
    return true;
}

/* How often the mark lies in [from, to), read as a debugger would, which no sanitizer minds. */
static size_t marks_between(int memory, uintptr_t from, uintptr_t to) {
    static uint8_t chunk[64 * KIB];
    size_t found = 0;
    for (; to - from > MARK_SIZE; from += sizeof chunk - MARK_SIZE) {
        memset(chunk, 0, sizeof chunk); /* it may be read into itself */
        size_t wanted = to - from < sizeof chunk ? to - from : sizeof chunk;
        ssize_t n = pread(memory, chunk, wanted, (off_t)from);
        for (size_t i = 0; n > MARK_SIZE && i < (size_t)n - MARK_SIZE; i++) {
            found += chunk[i] == MARK_FIRST && mark_is(chunk + i);
        }
        if (to - from <= sizeof chunk) {
            break;
        }
    }
    memset(chunk, 0, sizeof chunk);
    return found;
}

/* In all memory of this process but what a sanitizer maps for itself. */
static size_t marks_in_memory(void) {
    char line[256];
    size_t found = 0;
    FILE *maps = fopen("/proc/self/maps", "r");
    int memory = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
    assert_true(maps != NULL && memory >= 0);
    while (fgets(line, sizeof line, maps) != NULL) {
        uintptr_t from = 0;
        uintptr_t to = 0;
        char access[5];
        int fields = sscanf(line, "%" SCNxPTR "-%" SCNxPTR " %4s", &from, &to, access);
        if (fields == 3 && strncmp(access, "rw", 2) == 0 && to - from <= 64 * MIB) {
            found += marks_between(memory, from, to);
        }
    }
    (void)fclose(maps);
    close(memory);
    return found;
}

/* ---- streams: random requests, and the replies that a naive reading expects */

struct stream {
    struct buf requests;
    struct buf replies;
    size_t count;
};

static void expect_reply(struct stream *s, const char *path, struct span body, bool head_only,
                         bool close) {
    char text[TEXT_MAX];
    describe(span_str(path), body, text);
    buf_printf(&s->replies, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n%sX-App: 1\r\n\r\n%s",
               strlen(text), close ? "Connection: close\r\n" : "", head_only ? "" : text);
    s->count++;
}

static void add_chunked(struct stream *s, struct span body) {
    while (body.n != 0) {
        size_t n = 1 + random_below(body.n < 5000 ? body.n : random_below(3) == 0 ? body.n : 5000);
        buf_printf(&s->requests, random_below(2) == 0 ? "%zx\r\n" : "%04zX\r\n", n);
        buf_put_span(&s->requests, span_cut(body, 0, n));
        buf_put_str(&s->requests, "\r\n");
        body = span_from(body, n);
    }
    buf_put_str(&s->requests, "0\r\n\r\n");
}

static void add_request(struct stream *s, const char *path, bool last) {
    static uint8_t memory[200 * KIB];
    static const size_t sizes[] = {1, 30, 3000, 5000, 30000, 70000, sizeof memory};
    size_t n = random_below(sizes[random_below(BH_COUNT(sizes))]);
    for (size_t i = 0; i < n; i++) {
        memory[i] = (uint8_t)random_next();
    }
    struct span body = span_of(memory, n);
    size_t kind = random_below(5);
    const char *method = kind == 0 ? "GET" : kind == 1 ? "HEAD" : "POST";
    buf_printf(&s->requests, "%s %s?q=%zu HTTP/1.1\r\nHost: a\r\nX-Fill: ", method, path,
               random_below(1000));
    for (size_t fill = random_below(random_below(4) == 0 ? 9000 : 60); fill > 0; fill--) {
        buf_put_byte(&s->requests, 'f');
    }
    buf_put_str(&s->requests, last ? "\r\nConnection: close\r\n" : "\r\n");
    if (kind <= 1) {
        body = SPAN_NONE;
        buf_put_str(&s->requests, "\r\n");
    } else if (kind == 2) {
        buf_put_str(&s->requests, "Transfer-Encoding: chunked\r\n\r\n");
        add_chunked(s, body);
    } else {
        buf_printf(&s->requests, "Content-Length: %zu\r\n\r\n", n);
        buf_put_span(&s->requests, body);
    }
    expect_reply(s, path, body, kind == 1, last);
}

static void test_any_split_gives_the_same(void **state) {
    (void)state;
    random_start(1);
    struct http_config config = usual();
    start(&config);
    static uint8_t requests[4 * MIB];
    static uint8_t replies[64 * KIB];
    for (int run = 0; run < 120; run++) {
        struct stream s = {buf_of(requests, sizeof requests), buf_of(replies, sizeof replies), 0};
        size_t count = 1 + random_below(12);
        for (size_t i = 0; i < count; i++) {
            char path[32];
            (void)snprintf(path, sizeof path, "/r%d/%zu", run, i);
            add_request(&s, path, i == count - 1 && random_below(2) == 0);
        }
        assert_false(s.requests.full || s.replies.full);
        app.when = (enum when)random_below(3);
        static const size_t piece_max[] = {1, 7, 100, 5000, 60000, 4 * MIB};
        /* The last parts are sent in the smallest pieces only for short streams, to stay quick. */
        size_t max =
            piece_max[random_below(s.requests.n < 20000 ? 6 : 4) + (s.requests.n < 20000 ? 0 : 2)];
        int fd = dial();
        get_nothing_yet();
        struct span rest = buf_span(&s.requests);
        for (int idle = 0; idle < 50 && got.n < s.replies.n; idle++) {
            if (rest.n != 0) {
                struct span piece = span_cut(rest, 0, 1 + random_below(max));
                ssize_t n = send(fd, piece.p, piece.n, MSG_NOSIGNAL);
                rest = n > 0 ? span_from(rest, (size_t)n) : rest;
                idle = 0;
            }
            rounds(1);
            if (app.owed_count != 0 && random_below(3) == 0) {
                pay(0);
            }
            if (rest.n == 0 && app.owed_count != 0) {
                pay(0);
            }
            get_some(fd);
        }
        if (!span_equal(span_of(got.text, got.n), buf_span(&s.replies))) {
            fail_msg("run %d: %zu of %zu bytes of replies, or others:\n%.300s", run, got.n,
                     s.replies.n, got.text);
        }
        close(fd);
        rounds(2);
    }
    struct http_stats now = stats();
    assert_int_equal(now.requests, now.replies);
    assert_int_equal(
        now.bad_requests + now.too_big + now.timeouts + now.overloaded + now.replies_dropped, 0);
    assert_int_equal(now.open_connections, 0);
    print_message("%llu requests, %llu MiB\n", (unsigned long long)now.requests,
                  (unsigned long long)(now.bytes_in / MIB));
    stop();
}

/* ---- answers never cross */

enum { CROSS_CLIENTS = 1000, CROSS_PIPELINE = 6 };

struct cross_client {
    int fd;
    unsigned id;
    unsigned sent;  /* requests */
    unsigned heard; /* replies */
    char in[4096];
    size_t in_n;
};

static void cross_dial(struct cross_client *c) {
    static unsigned next_id;
    *c = (struct cross_client){.fd = dial(), .id = next_id++};
}

/* Each reply names the connection and the request; anything else on this connection is another's answer. */
static void cross_listen(struct cross_client *c) {
    ssize_t n = recv(c->fd, c->in + c->in_n, sizeof c->in - 1 - c->in_n, 0);
    if (n <= 0) {
        return;
    }
    c->in_n += (size_t)n;
    c->in[c->in_n] = 0;
    for (;;) {
        char expected[128];
        char text[TEXT_MAX];
        char path[32];
        (void)snprintf(path, sizeof path, "/c%u/%u", c->id, c->heard);
        describe(span_str(path), span_str(path), text);
        int size = snprintf(expected, sizeof expected,
                            "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\nX-App: 1\r\n\r\n%s",
                            strlen(text), text);
        size_t common = c->in_n < (size_t)size ? c->in_n : (size_t)size;
        if (memcmp(c->in, expected, common) != 0) {
            fail_msg("client %u request %u got another's answer: %.200s", c->id, c->heard, c->in);
        }
        if (common < (size_t)size) {
            return;
        }
        c->heard++;
        c->in_n -= (size_t)size;
        memmove(c->in, c->in + size, c->in_n + 1);
        assert_true(c->heard <= c->sent);
        if (c->in_n == 0) {
            return;
        }
    }
}

static void cross_send(struct cross_client *c, bool cut_short) {
    char text[256];
    char path[32];
    (void)snprintf(path, sizeof path, "/c%u/%u", c->id, c->sent);
    int n =
        snprintf(text, sizeof text, "POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: %zu\r\n\r\n%s",
                 path, strlen(path), path);
    size_t size = cut_short ? random_below((size_t)n) : (size_t)n;
    if (send(c->fd, text, size, MSG_NOSIGNAL) == n) {
        c->sent++;
    }
}

static void cross_abort(struct cross_client *c) {
    if (random_below(2) == 0) {
        cross_send(c, true);
    }
    if (random_below(2) == 0) {
        struct linger now = {1, 0};
        (void)setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    }
    close(c->fd);
    cross_dial(c);
}

static void test_answers_never_cross(void **state) {
    (void)state;
    random_start(1);
    const char *wanted_text = getenv("BH_EXCHANGES");
    uint64_t wanted = wanted_text != NULL ? strtoull(wanted_text, NULL, 0) : 100000;
    struct rlimit files;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &files), 0);
    files.rlim_cur = files.rlim_max < 8192 ? files.rlim_max : 8192;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &files), 0);
    size_t client_count = files.rlim_cur >= 3 * CROSS_CLIENTS ? CROSS_CLIENTS : 100;

    struct http_config config = usual();
    start(&config);
    app.when = EITHER;
    static struct cross_client clients[CROSS_CLIENTS];
    for (size_t i = 0; i < client_count; i++) {
        cross_dial(&clients[i]);
        rounds(i % 32 == 0);
    }
    uint64_t heard = 0;
    uint64_t aborts = 0;
    while (heard < wanted) {
        for (size_t i = 0; i < 64; i++) {
            struct cross_client *c = &clients[random_below(client_count)];
            for (size_t n = random_below(CROSS_PIPELINE); n > 0 && c->sent - c->heard < 40; n--) {
                cross_send(c, false);
            }
            if (random_below(60) == 0) {
                cross_abort(c);
                aborts++;
            }
        }
        rounds(1);
        for (size_t n = random_below(200); n > 0 && app.owed_count > 0; n--) {
            pay(random_below(app.owed_count));
        }
        for (size_t i = 0; i < 128; i++) {
            struct cross_client *c = &clients[random_below(client_count)];
            unsigned before = c->heard;
            cross_listen(c);
            heard += c->heard - before;
        }
    }
    struct http_stats now = stats();
    print_message("%llu exchanges heard on %zu connections, %llu aborts, %llu replies dropped\n",
                  (unsigned long long)heard, client_count, (unsigned long long)aborts,
                  (unsigned long long)now.replies_dropped);
    assert_true(now.replies_dropped > 0 && aborts > 0);
    assert_int_equal(now.bad_requests, 0);
    for (size_t i = 0; i < client_count; i++) {
        close(clients[i].fd);
    }
    for (int i = 0; i < 200 && stats().open_connections != 0; i++) {
        rounds(1);
        while (app.owed_count > 0) {
            pay(random_below(app.owed_count));
        }
    }
    now = stats();
    assert_int_equal(now.open_connections, 0);
    assert_true(now.requests >= now.replies);
    stop();
}

static void test_a_reply_is_taken_once(void **state) {
    (void)state;
    struct http_config config = usual();
    start(&config);
    app.when = LATER;
    int fd = dial();
    put_str(fd, "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n");
    rounds(4);
    assert_int_equal(app.requests, 1); /* the second is not begun before the first is answered */
    struct owed first = app.owed[0];
    pay(0);
    answer(first.exchange, "twice");
    assert_int_equal(stats().replies_dropped, 1);
    rounds(2);
    assert_int_equal(app.requests, 2);
    answer(first.exchange, "late"); /* the connection has a request in hand, but not this one */
    assert_int_equal(stats().replies_dropped, 2);
    pay(0);
    assert_has(get(fd), "/2 0");
    assert_has(got.text, "/1 0");
    assert_lacks(got.text, "twice");
    assert_lacks(got.text, "late");
    close(fd);
    rounds(3);
    /* The first request of another connection in the same slot: only the generation tells them apart. */
    fd = dial();
    put_str(fd, "GET /3 HTTP/1.1\r\nHost: a\r\n\r\n");
    rounds(3);
    struct owed third = app.owed[0];
    app.owed_count = 0;
    struct linger now = {1, 0};
    (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close(fd);
    rounds(2);
    assert_int_equal(stats().aborted, 1);
    fd = dial();
    put_str(fd, "GET /4 HTTP/1.1\r\nHost: a\r\n\r\n");
    rounds(3);
    assert_int_equal(app.owed[0].exchange.slot, third.exchange.slot);
    assert_int_equal(app.owed[0].exchange.number, third.exchange.number);
    answer(third.exchange, "for another");
    assert_int_equal(stats().replies_dropped, 3);
    pay(0);
    assert_has(get(fd), "/4 0");
    assert_lacks(got.text, "for another");
    close(fd);
    stop();
}

/* A head that was read for one connection is not taken for another's whose body took longer. */
static void test_heads_never_cross(void **state) {
    (void)state;
    struct http_config config = usual();
    start(&config);
    int slow = dial();
    put_str(slow, "POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello");
    rounds(3);
    int other = dial();
    put_str(other, "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 010\r\n\r\nhello");
    assert_int_equal(get_status(other), 400);
    put_str(slow, "world");
    assert_has(get(slow), "/slow 10");
    put_str(slow, "POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello");
    rounds(2);
    close(other);
    other = dial();
    put_str(other, "GET /other HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_has(get(other), "/other 0");
    put_str(slow, "world");
    assert_has(get(slow), "/slow 10");
    close(other);
    close(slow);
    stop();
}

/* What was read behind a request fills its memory to the byte, and more is in the socket when the reply leaves. */
static void test_a_full_pipeline(void **state) {
    (void)state;
    struct http_config config = usual();
    start(&config);
    app.when = LATER;
    static uint8_t memory[256 * KIB];
    struct buf b = buf_of(memory, sizeof memory);
    buf_put_str(&b, "POST /first HTTP/1.1\r\nHost: a\r\nContent-Length: 32712\r\n\r\n");
    memset(buf_room(&b, 32712), 'a', 32712);
    assert_int_equal(b.n, 32 * KIB);
    buf_put_str(&b, "POST /second HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n");
    memset(buf_room(&b, 60000), 'b', 60000);
    int fd = dial();
    rounds(2);
    put(fd, buf_span(&b));
    rounds(3);
    assert_int_equal(app.owed_count, 1);
    pay(0);
    rounds(3);
    assert_int_equal(app.owed_count, 1);
    pay(0);
    assert_has(get(fd), "/first 32712");
    assert_has(got.text, "/second 60000");
    close(fd);
    stop();
}

/* Small unfinished requests lie side by side; the largest that counts as small ends where the neighbour's begins. */
static void test_neighbours_do_not_touch(void **state) {
    (void)state;
    for (size_t size = 4090; size < 4102; size++) {
        struct http_config config = usual();
        start(&config);
        int first = dial();
        rounds(2);
        int second = dial();
        rounds(2);
        put_str(second, "GET /second");
        rounds(1);
        static uint8_t memory[8 * KIB];
        struct buf b = buf_of(memory, sizeof memory);
        buf_put_str(&b, "POST /first HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n");
        size_t head = b.n;
        memset(buf_room(&b, 5000), 'x', 5000);
        put(first, span_of(memory, size));
        rounds(2);
        put_str(second, " HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_has(get(second), "/second 0");
        put(first, span_of(memory + size, head + 5000 - size));
        assert_has(get(first), "/first 5000");
        assert_true(strspn(app.last_body, "x") == strlen(app.last_body));
        close(first);
        close(second);
        stop();
    }
}

/* Without memory for what was read behind a request, its answer is the last: the rest must not be read from the middle. */
/* A request with the mark in it, sent in pieces; then the memory of the test itself is cleared. */
static void put_marked(int fd, const char *head, size_t body_size, size_t piece) {
    static uint8_t memory[400 * KIB];
    struct buf b = buf_of(memory, sizeof memory);
    buf_put_str(&b, head);
    uint8_t *body = buf_room(&b, body_size);
    assert_non_null(body);
    memset(body, 'b', body_size);
    for (size_t at = 100; at + MARK_SIZE < body_size; at += 997) {
        mark_put(body + at);
    }
    for (size_t at = 0; at < b.n; at += piece) {
        put(fd, span_cut(buf_span(&b), at, piece));
        rounds(3);
    }
    memset(memory, 0, sizeof memory);
}

/* Whole, in pieces that are kept in a connection's own memory or in runs that grow, chunked, piled up, refused, too big, overloaded, given up. */
static void test_requests_leave_nothing_in_memory(void **state) {
    (void)state;
    static const struct {
        const char *head;
        size_t body_size;
        size_t piece;
        unsigned status; /* 0: it ends before it is whole */
    } rows[] = {
        {"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3000\r\n\r\n", 3000, 9000, 200},
        {"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3000\r\n\r\n", 3000, 500, 200},
        {"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 30000\r\n\r\n", 30000, 7000, 200},
        {"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n", 300000, 40000, 200},
        {"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 90\r\n\r\n", 3000, 9000, 400},
        {"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 90\r\n\r\n", 300000, 40000, 400},
        {"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 9000000\r\n\r\n", 30000, 7000, 413},
        {"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2000\r\n", 8192, 3000,
         0},
        {"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 8192, 3000,
         400},
        {"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n", 3000, 500, 0},
        {"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n", 200000, 40000, 0},
    };
    struct http_config config = usual();
    start(&config);
    app.keeps_body = true;
    for (size_t i = 0; i < BH_COUNT(rows); i++) {
        for (int later = 0; later < 2; later++) {
            int fd = dial();
            rounds(2);
            app.when = later != 0 ? LATER : AT_ONCE;
            put_marked(fd, rows[i].head, rows[i].body_size, rows[i].piece);
            while (app.owed_count != 0) {
                pay(0);
                rounds(3);
            }
            unsigned status = get_status(fd);
            assert_true(status == rows[i].status || rows[i].status == 400);
            if (status != 200) {
                close(fd);
                rounds(3);
            }
            if (marks_in_memory() != 0) {
                fail_msg("row %zu leaves the mark in memory", i);
            }
            if (status == 200) {
                close(fd);
            }
            rounds(3);
        }
    }
    stop();
}

static void test_no_memory_for_a_pipeline(void **state) {
    (void)state;
    struct http_config config = usual();
    config.body_pool = 0;
    start(&config);
    app.when = LATER;
    static uint8_t memory[8 * KIB];
    struct buf b = buf_of(memory, sizeof memory);
    buf_put_str(
        &b,
        "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nPOST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n");
    memset(buf_room(&b, 5000), 'x', 5000);
    int fd = dial();
    rounds(2);
    put(fd, buf_span(&b));
    rounds(2);
    pay(0);
    put_str(fd, "GET /3 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_has(get(fd), "/1 0");
    assert_has(got.text, "Connection: close\r\n");
    assert_true(got.ended);
    assert_int_equal(app.requests, 1);
    close(fd);
    /* A head that needs more than a slot has, too. */
    fd = dial();
    put_str(fd, "GET / HTTP/1.1\r\nHost: a\r\nX: ");
    memset(memory, 'x', sizeof memory);
    put(fd, span_of(memory, 5000));
    assert_int_equal(get_status(fd), 503);
    assert_true(got.ended);
    close(fd);
    stop();
}

/* ---- refusals */

static void test_refusals_answer_and_close(void **state) {
    (void)state;
    static const struct {
        unsigned status;
        const char *text;
    } cases[] = {
        {400,
         "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
        {400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc"},
        {400, "GET / HTTP/1.1\r\nHost : a\r\n\r\n"},
        {400, "GET / HTTP/1.1\nHost: a\n\n"},
        {400, "GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n"},
        {400,
         "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\n\r\n"},
        {400,
         "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n\r\n"},
        {413, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n123456789\r\n"},
        {413, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1048577\r\n\r\n"},
        {413,
         "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1048577\r\nExpect: 100-continue\r\n\r\n"},
        {405, "TRACE / HTTP/1.1\r\nHost: a\r\n\r\n"},
        {417, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nExpect: tea\r\n\r\n"},
        {501, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n"},
        {505, "GET / HTTP/3.0\r\nHost: a\r\n\r\n"},
        {411, "POST / HTTP/1.0\r\n\r\n"},
        {400, "\x16\x03\x01"},
    };
    struct http_config config = usual();
    start(&config);
    for (size_t i = 0; i < BH_COUNT(cases); i++) {
        int fd = dial();
        put_str(fd, cases[i].text);
        /* Behind the refused request stands a smuggled one; it must not be read. */
        put_str(fd, "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n");
        unsigned status = get_status(fd);
        if (status != cases[i].status) {
            fail_msg("case %zu: %u, expected %u: %.200s", i, status, cases[i].status, got.text);
        }
        assert_has(got.text, "Connection: close\r\n");
        assert_has(got.text, "Access-Control-Allow-Origin: *\r\n");
        assert_true(got.ended);
        assert_null(strstr(got.text + 1, "HTTP/1.1"));
        assert_lacks(got.text, "100 Continue");
        close(fd);
        rounds(2);
    }
    assert_int_equal(app.requests, 0);
    assert_int_equal(stats().open_connections, 0);
    assert_int_equal(stats().bad_requests + stats().too_big, BH_COUNT(cases));

    int fd = dial();
    put_str(
        fd,
        "POST / HTTP/1.1\r\nHost: a\r\nOrigin: https://shop.example\r\nContent-Length: 2000000\r\n\r\n");
    assert_int_equal(get_status(fd), 413);
    assert_has(got.text, "Access-Control-Allow-Origin: https://shop.example\r\n");
    close(fd);
    stop();
}

static void test_a_refused_client_reads_why(void **state) {
    (void)state;
    struct http_config config = usual();
    start(&config);
    int fd = dial();
    put_str(fd, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9000000\r\n\r\n");
    static uint8_t body[512 * KIB];
    put(fd, span_of(body, sizeof body)); /* still sending when the answer comes */
    assert_int_equal(get_status(fd), 413);
    assert_true(got.ended && !got.reset);
    assert_int_equal(stats().open_connections, 1);
    close(fd);
    rounds(20);
    assert_int_equal(stats().open_connections, 0);

    /* Who goes on for ever is cut off. */
    fd = dial();
    put_str(fd, "BAD\r\n\r\n");
    rounds(3);
    for (int i = 0; i < 8 && stats().open_connections != 0; i++) {
        put(fd, span_of(body, sizeof body));
        rounds(8);
    }
    rounds(20);
    assert_int_equal(stats().open_connections, 0);
    close(fd);
    stop();
}

/* ---- ordinary life */

static void test_continue_head_and_old_versions(void **state) {
    (void)state;
    struct http_config config = usual();
    start(&config);
    int fd = dial();
    put_str(fd, "POST /e HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    assert_string_equal(get(fd), "HTTP/1.1 100 Continue\r\n\r\n");
    assert_int_equal(app.requests, 0);
    put_str(fd, "hello");
    assert_has(get(fd), "/e 5");
    assert_string_equal(app.last_body, "hello");
    /* Who has begun to send is not asked. */
    put_str(fd,
            "POST /e HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhel");
    get(fd);
    assert_int_equal(got.n, 0);
    put_str(fd, "lo");
    assert_int_equal(get_status(fd), 200);
    put_str(
        fd,
        "POST /e HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello");
    assert_int_equal(get_status(fd), 200);
    put_str(fd, "HEAD /h HTTP/1.1\r\nHost: a\r\n\r\nGET /g HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_has(get(fd), "Content-Length: 13\r\nX-App: 1\r\n\r\nHTTP/1.1 200 OK");
    close(fd);

    fd = dial();
    put_str(fd, "GET /old HTTP/1.0\r\n\r\n");
    assert_has(get(fd), "Connection: close\r\n");
    assert_true(got.ended);
    close(fd);
    fd = dial();
    put_str(fd, "GET /old HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert_has(get(fd), "Connection: keep-alive\r\n");
    assert_false(got.ended);
    put_str(fd, "GET /old HTTP/1.0\r\n\r\n");
    assert_int_equal(get_status(fd), 200);
    assert_true(got.ended);
    close(fd);
    /* Replies without a body. */
    fd = dial();
    for (unsigned i = 0; i < 2; i++) {
        app.status = i == 0 ? 204 : 304;
        put_str(fd, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_int_equal(get_status(fd), app.status);
        assert_lacks(got.text, "Content-Length");
        assert_string_equal(got.text + got.n - 4, "\r\n\r\n");
        assert_false(got.ended);
    }
    app.status = 0;
    close(fd);
    /* The application wants it closed. */
    app.close = true;
    fd = dial();
    put_str(fd, "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /never HTTP/1.1\r\nHost: a\r\n\r\n");
    size_t before = app.requests;
    assert_has(get(fd), "Connection: close\r\n");
    assert_true(got.ended);
    assert_int_equal(app.requests, before + 1);
    close(fd);
    stop();
}

static void test_half_closed_clients_get_their_reply(void **state) {
    (void)state;
    struct http_config config = usual();
    start(&config);
    app.when = LATER;
    int fd = dial();
    put_str(fd, "POST /half HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    rounds(5);
    assert_int_equal(app.owed_count, 1);
    assert_int_equal(stats().open_connections, 1);
    pay(0);
    assert_has(get(fd), "/half 2");
    assert_true(got.ended);
    close(fd);
    /* Half a request and then the end: nothing to answer. */
    fd = dial();
    put_str(fd, "POST /half HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhi");
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    get(fd);
    assert_int_equal(got.n, 0);
    assert_true(got.ended);
    assert_int_equal(app.owed_count, 0);
    assert_int_equal(stats().aborted, 1);
    close(fd);
    stop();
}

static void test_large_replies_wait_for_the_peer(void **state) {
    (void)state;
    struct http_config config = usual();
    start(&config);
    static uint8_t large[8 * MIB];
    for (size_t i = 0; i < sizeof large; i++) {
        large[i] = (uint8_t)('a' + i % 23);
    }
    app.answer = span_of(large, sizeof large);
    int fd = dial();
    put_str(fd, "GET /a HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n");
    rounds(5);
    assert_int_equal(app.requests, 1);   /* the second waits until the first answer has left */
    http_server_pause(app.server, true); /* and that it leaves does not depend on reading */
    get_nothing_yet();
    for (int i = 0; i < 20000 && app.requests == 1 && got.n < sizeof large; i++) {
        rounds(1);
        get_some(fd);
    }
    assert_int_equal(app.requests, 1);
    http_server_pause(app.server, false);
    for (int i = 0; i < 20000 && got.n < sizeof large + 200; i++) {
        rounds(1);
        get_some(fd);
        if (got.n > sizeof large) {
            break;
        }
    }
    const char *body = strstr(got.text, "\r\n\r\n");
    assert_non_null(body);
    assert_memory_equal(body + 4, large, sizeof large);
    rounds(3);
    assert_int_equal(app.requests, 2);
    close(fd);
    rounds(5);
    assert_int_equal(stats().open_connections, 0);
    stop();
}

static int woken;

static void on_wake(void *context) {
    os_wake_drain(*(int *)context);
    woken++;
    while (app.owed_count > 0) {
        pay(app.owed_count - 1);
    }
}

/* One wake-up answers all that is owed, and what waited behind is handed over in the same round: a group. */
static void test_a_wake_answers_a_group(void **state) {
    (void)state;
    struct http_config config = usual();
    start(&config);
    app.when = LATER;
    int wake = -1;
    assert_int_equal(os_wake_open(&wake), 0);
    assert_int_equal(http_server_watch(app.server, wake, on_wake, &wake), 0);
    int fds[8];
    for (size_t i = 0; i < BH_COUNT(fds); i++) {
        fds[i] = dial();
        put_str(fds[i], "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    rounds(1); /* accepted */
    rounds(1); /* all read in one round */
    assert_int_equal(app.owed_count, 8);
    http_server_pause(app.server, true);
    os_wake_signal(wake);
    rounds(1);
    assert_int_equal(woken, 1); /* replies leave while paused */
    assert_int_equal(app.owed_count, 0);
    http_server_pause(app.server, false);
    rounds(1);
    assert_int_equal(app.owed_count, 8);
    os_wake_signal(wake);
    rounds(1);
    for (size_t i = 0; i < BH_COUNT(fds); i++) {
        assert_has(get(fds[i]), "/1 0");
        assert_has(got.text, "/2 0");
        close(fds[i]);
    }
    stop();
    close(wake);
}

static void test_unix_socket(void **state) {
    (void)state;
    char path[64];
    char address[80];
    (void)snprintf(path, sizeof path, "/tmp/test-http-%ld.sock", (long)getpid());
    (void)snprintf(address, sizeof address, "unix:%s", path);
    struct http_config config = usual();
    config.address = address;
    config.connections_per_peer_max = 1; /* does not count for a Unix socket */
    start(&config);
    int fds[3];
    for (size_t i = 0; i < BH_COUNT(fds); i++) {
        assert_int_equal(os_connect_unix(path, &fds[i]), 0);
        put_str(fds[i], "GET /admin HTTP/1.1\r\nHost: a\r\n\r\n");
        rounds(3);
        ssize_t n = recv(fds[i], got.text, sizeof got.text - 1, MSG_DONTWAIT);
        assert_true(n > 0);
        got.text[n] = 0;
        assert_has(got.text, "/admin 0");
    }
    struct os_peer none;
    memset(&none, 0, sizeof none);
    assert_memory_equal(app.last_peer.address, none.address, sizeof none.address);
    for (size_t i = 0; i < BH_COUNT(fds); i++) {
        close(fds[i]);
    }
    stop();
    unlink(path);
}

/* ---- limits */

static void test_connections_per_peer(void **state) {
    (void)state;
    struct http_config config = usual();
    config.connections_per_peer_max = 3;
    start(&config);
    int fds[3];
    for (size_t i = 0; i < BH_COUNT(fds); i++) {
        fds[i] = dial();
        put_str(fds[i], "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_int_equal(get_status(fds[i]), 200);
    }
    int more = dial();
    assert_int_equal(get_status(more), 503);
    assert_has(got.text, "Retry-After:");
    assert_true(got.ended);
    close(more);
    assert_int_equal(stats().refused_connections, 1);
    close(fds[1]);
    rounds(2);
    more = dial();
    put_str(more, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_int_equal(get_status(more), 200);
    close(more);
    close(fds[0]);
    close(fds[2]);
    stop();
}

/* Behind a proxy all people come from one address. */
static void test_a_proxy_has_no_limit(void **state) {
    (void)state;
    struct net proxy;
    assert_true(net_parse(SPAN_LIT("127.0.0.0/8"), &proxy));
    struct http_config config = usual();
    config.connections_per_peer_max = 1;
    config.uncounted = &proxy;
    config.uncounted_count = 1;
    start(&config);
    int fds[4];
    for (size_t i = 0; i < BH_COUNT(fds); i++) {
        fds[i] = dial();
        put_str(fds[i], "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_int_equal(get_status(fds[i]), 200);
    }
    assert_int_equal(stats().refused_connections, 0);
    for (size_t i = 0; i < BH_COUNT(fds); i++) {
        close(fds[i]);
    }
    rounds(2);
    stop();
}

static void test_idle_connections_make_room(void **state) {
    (void)state;
    struct http_config config = usual();
    config.connections_max = 2;
    start(&config);
    app.when = AT_ONCE;
    int idle = dial();
    put_str(idle, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_int_equal(get_status(idle), 200);
    app.when = LATER;
    int busy = dial();
    put_str(busy, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    rounds(3);
    int third = dial();
    put_str(third, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    rounds(3);
    assert_int_equal(app.owed_count, 2);
    get(idle);
    assert_true(got.ended); /* the idle one made room, the busy one did not */
    int fourth = dial();
    assert_int_equal(get_status(fourth), 503);
    assert_int_equal(stats().refused_connections, 1);
    pay(0);
    pay(0);
    assert_int_equal(get_status(busy), 200);
    assert_int_equal(get_status(third), 200);
    close(idle);
    close(busy);
    close(third);
    close(fourth);
    stop();
}

static void test_exhausted_memory_is_503(void **state) {
    (void)state;
    struct http_config config = usual();
    config.body_pool = 64 * KIB;
    start(&config);
    static uint8_t body[200 * KIB];
    int hog = dial();
    put_str(hog, "POST /hog HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n");
    put(hog, span_of(body, 50000));
    rounds(3);
    int fd = dial();
    put_str(
        fd,
        "POST /big HTTP/1.1\r\nHost: a\r\nOrigin: https://b.example\r\nContent-Length: 204800\r\n\r\n");
    put(fd, span_of(body, 100000));
    get(fd);
    assert_int_equal(got.n, 0); /* it is skipped first, or the client would not be listening */
    put(fd, span_of(body, 104800));
    assert_int_equal(get_status(fd), 503);
    assert_has(got.text, "Retry-After: ");
    assert_has(got.text, "Access-Control-Allow-Origin: https://b.example\r\n");
    assert_false(got.ended);
    /* The same chunked, with the next request right behind. */
    put_str(fd, "POST /big HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (int i = 0; i < 20; i++) {
        put_str(fd, "2000\r\n");
        put(fd, span_of(body, 0x2000));
        put_str(fd, "\r\n");
        rounds(1);
    }
    put_str(fd, "0\r\n\r\nGET /after HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_int_equal(get_status(fd), 503);
    assert_has(got.text, "/after 0");
    assert_int_equal(app.requests, 1);
    assert_int_equal(stats().overloaded, 2);
    put(hog, span_of(body, 10000));
    assert_has(get(hog), "/hog 60000");
    /* The memory is free again. */
    put_str(fd, "POST /fits HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n");
    put(fd, span_of(body, 50000));
    rounds(2);
    put(fd, span_of(body, 10000));
    assert_has(get(fd), "/fits 60000");
    close(fd);
    close(hog);
    stop();
}

static void test_bodies_that_grow_too_big(void **state) {
    (void)state;
    struct http_config config = usual();
    config.body_max = 20000;
    start(&config);
    static uint8_t body[10000];
    for (int overloaded = 0; overloaded < 2; overloaded++) {
        os_clock_install(&fake_ops);
        http_server_pause(app.server, overloaded != 0);
        fake_us += 6000000;
        for (size_t last = 0; last < 2; last++) {
            int fd = dial();
            put_str(fd, "POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
            for (int i = 0; i < 2; i++) {
                put_str(fd, "2710\r\n");
                put(fd, span_of(body, sizeof body));
                put_str(fd, "\r\n");
                rounds(2);
            }
            put_str(fd, last == 0 ? "0\r\n\r\n" : "1\r\nx\r\n0\r\n\r\n");
            assert_int_equal(get_status(fd), last != 0 ? 413 : overloaded != 0 ? 503 : 200);
            assert_int_equal(got.ended, last != 0);
            close(fd);
            rounds(2);
        }
    }
    os_clock_install(NULL);
    stop();
}

/* From the moment of a pause nothing more is handed over, also not of what has been read already. */
static void test_a_pause_from_inside_the_handler(void **state) {
    (void)state;
    struct http_config config = usual();
    start(&config);
    app.pauses = true;
    int fds[2] = {dial(), dial()};
    rounds(2);
    for (size_t i = 0; i < BH_COUNT(fds); i++) {
        put_str(fds[i], "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    for (size_t turn = 1; turn <= 4; turn++) {
        rounds(4);
        assert_int_equal(app.requests, turn);
        http_server_pause(app.server, false);
    }
    for (size_t i = 0; i < BH_COUNT(fds); i++) {
        assert_has(get(fds[i]), "/2 0");
        close(fds[i]);
    }
    stop();
}

static void test_pause_then_overload(void **state) {
    (void)state;
    os_clock_install(&fake_ops);
    struct http_config config = usual();
    start(&config);
    int fd = dial();
    int sending = dial();
    rounds(2);
    put_str(sending, "POST /s HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello");
    rounds(2);
    http_server_pause(app.server, true);
    put_str(fd, "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n");
    rounds(4);
    assert_int_equal(app.requests, 0);
    fake_us += 4000000;
    rounds(2);
    assert_int_equal(app.requests, 0);
    http_server_pause(app.server, false);
    assert_has(get(fd), "/1 0"); /* a short pause only delays; nor is the paused sender too slow */
    http_server_pause(app.server, true);
    put_str(
        fd,
        "GET /2 HTTP/1.1\r\nHost: a\r\nOrigin: https://c.example\r\n\r\nPOST /3 HTTP/1.1\r\nHost: a\r\n"
        "Content-Length: 3\r\n\r\nabc");
    put_str(sending, "world");
    fake_us += 5000000;
    assert_int_equal(get_status(fd), 503);
    assert_has(got.text, "Access-Control-Allow-Origin: https://c.example\r\n");
    assert_non_null(strstr(got.text + 1, "HTTP/1.1 503"));
    assert_int_equal(get_status(sending), 503);
    assert_false(got.ended);
    assert_int_equal(app.requests, 1);
    assert_int_equal(stats().overloaded, 3);
    /* A client that asks first is told no, and where its request ends is then unknown. */
    int asking = dial();
    put_str(asking,
            "POST /e HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    assert_int_equal(get_status(asking), 503);
    assert_true(got.ended);
    http_server_pause(app.server, false);
    put_str(fd, "GET /4 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_has(get(fd), "/4 0");
    put_str(sending, "GET /5 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_has(get(sending), "/5 0");
    close(fd);
    close(sending);
    close(asking);
    stop();
    os_clock_install(NULL);
}

static void test_drain(void **state) {
    (void)state;
    struct http_config config = usual();
    start(&config);
    int idle = dial();
    put_str(idle, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_int_equal(get_status(idle), 200);
    app.when = LATER;
    int busy = dial();
    put_str(busy, "GET /busy HTTP/1.1\r\nHost: a\r\n\r\n");
    rounds(3);
    int late = dial();
    rounds(2);
    put_str(late,
            "GET /late HTTP/1.1\r\nHost: a\r\n\r\n"); /* sent before the drain, read after it */
    int queued = dial();
    put_str(queued, "GET /queued HTTP/1.1\r\nHost: a\r\n\r\n"); /* not accepted yet */
    http_server_drain(app.server);
    rounds(2);
    get(idle);
    assert_true(got.ended);
    assert_int_equal(app.owed_count, 3);
    assert_int_equal(http_server_open_connections(app.server), 3);
    pay(0);
    pay(0);
    pay(0);
    assert_has(get(busy), "Connection: close\r\n");
    assert_has(get(late), "/late 0");
    assert_has(get(queued), "/queued 0");
    close(queued);
    close(busy);
    close(late);
    close(idle);
    rounds(3);
    assert_int_equal(http_server_open_connections(app.server), 0);
    stop();
}

/* ---- slow senders, by a clock of our own */

static void step_ms(uint64_t ms) {
    for (uint64_t at = 0; at < ms; at += 100) {
        fake_us += 100000;
        rounds(1);
    }
}

static void test_slow_heads_end_at_their_deadline(void **state) {
    (void)state;
    os_clock_install(&fake_ops);
    static const char *const starts[] = {
        "",
        "G",
        "GET / HTTP/1.1\r\nHost: a\r\nX: ",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n",
    };
    for (size_t i = 0; i < BH_COUNT(starts); i++) {
        struct http_config config = usual();
        start(&config);
        int fd = dial();
        rounds(2);
        put_str(fd, starts[i]);
        rounds(1);
        /* A byte now and then does not help: the time is total. */
        for (int second = 0; second < 9; second++) {
            step_ms(1000);
            put_str(fd, starts[i][0] != 0 ? "A" : "");
            get(fd);
            assert_int_equal(got.n, 0);
            assert_int_equal(stats().open_connections, 1);
        }
        step_ms(1500);
        unsigned status = get_status(fd);
        assert_int_equal(status, starts[i][0] != 0 ? 408 : 0);
        assert_true(got.ended);
        assert_int_equal(stats().timeouts, 1);
        step_ms(2500);
        assert_int_equal(stats().open_connections, 0); /* lingering ends, too */
        close(fd);
        stop();
    }
    os_clock_install(NULL);
}

static void test_slow_bodies_end(void **state) {
    (void)state;
    os_clock_install(&fake_ops);
    static const struct {
        const char *head;
        unsigned bytes_per_second;
        unsigned seconds; /* until 408 */
    } cases[] = {
        {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n", 0, 2},
        {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n", 200, 2},
        {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n", 1100, 30},
        {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nffffff\r\n", 200, 2},
        {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\n", 1100, 30},
    };
    for (size_t i = 0; i < BH_COUNT(cases); i++) {
        struct http_config config = usual();
        start(&config);
        int fd = dial();
        rounds(2);
        put_str(fd, cases[i].head);
        rounds(1);
        static uint8_t body[2000];
        unsigned tenths = 0;
        unsigned status = 0;
        while (status == 0 && tenths < 400) {
            put(fd, span_of(body, cases[i].bytes_per_second / 10));
            step_ms(100);
            tenths++;
            status = get_status(fd);
        }
        assert_int_equal(status, 408);
        assert_true(got.ended);
        if (tenths < cases[i].seconds * 10 - 10 || tenths > cases[i].seconds * 10 + 5) {
            fail_msg("case %zu: ended after %u.%u s", i, tenths / 10, tenths % 10);
        }
        close(fd);
        stop();
    }
    os_clock_install(NULL);
}

static void test_idle_and_unread_replies_end(void **state) {
    (void)state;
    os_clock_install(&fake_ops);
    struct http_config config = usual();
    start(&config);
    int fd = dial();
    put_str(fd, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_int_equal(get_status(fd), 200);
    step_ms(74000);
    put_str(fd, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_int_equal(get_status(fd), 200); /* starts anew */
    step_ms(76000);
    get(fd);
    assert_true(got.ended);
    assert_int_equal(stats().timeouts, 0);
    close(fd);

    static uint8_t large[8 * MIB];
    app.answer = span_of(large, sizeof large);
    fd = dial();
    put_str(fd, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    rounds(5);
    step_ms(29000);
    assert_int_equal(stats().open_connections, 1);
    step_ms(2000);
    assert_int_equal(stats().open_connections, 0);
    assert_int_equal(stats().timeouts, 1);
    close(fd);
    stop();
    os_clock_install(NULL);
}

/* ---- hostile streams */

static size_t add_hostile(struct buf *b) {
    static uint8_t memory[200 * KIB];
    static uint8_t replies[4 * KIB];
    struct stream s = {buf_of(memory, sizeof memory), buf_of(replies, sizeof replies), 0};
    size_t from = b->n;
    for (size_t i = 1 + random_below(3); i > 0 && s.requests.n < 60000; i--) {
        add_request(&s, "/hostile", false);
    }
    size_t n = s.requests.full ? 0 : s.requests.n;
    for (size_t left = random_below(3); left > 0 && n != 0; left--) {
        static const uint8_t telling[] = {'\r', '\n', ' ', ':', 0, '0', 'f', ';', 0xff};
        /* Mostly in the head, where it matters. */
        memory[random_below(random_below(3) == 0 || n < 200 ? n : 200)] =
            telling[random_below(sizeof telling)];
    }
    buf_put(b, memory, random_below(4) == 0 ? random_below(n + 1) : n);
    return b->n - from;
}

enum { HOSTILES = 30 };

static struct hostile {
    int fd;
    size_t sent;
    struct buf text;
    uint8_t memory[256 * KIB];
} hostiles[HOSTILES];

/* Sends a piece, perhaps reads, perhaps half closes, perhaps vanishes. */
static void hostile_turn(struct hostile *h) {
    if (h->fd < 0) {
        h->fd = dial();
        h->sent = 0;
        h->text = buf_of(h->memory, sizeof h->memory);
        (void)add_hostile(&h->text);
    }
    struct span piece = span_cut(buf_span(&h->text), h->sent, 1 + random_below(40000));
    ssize_t n = piece.n != 0 ? send(h->fd, piece.p, piece.n, MSG_NOSIGNAL) : 0;
    h->sent += n > 0 ? (size_t)n : 0;
    if (random_below(4) == 0) {
        n = recv(h->fd, got.text, sizeof got.text, 0);
    }
    if (random_below(60) != 0 && n != 0) {
        return;
    }
    if (random_below(3) == 0) {
        (void)shutdown(h->fd, SHUT_WR);
    }
    if (random_below(2) == 0) {
        close(h->fd);
        h->fd = -1;
    }
}

/*
 * Mutated and cut requests, peers that vanish, replies owed for long, too little memory, pauses, time that passes. Nothing of it
 * may stop the server, every connection must end, and http_server_free checks that every page came back.
 */
static void test_hostile_streams_leave_nothing(void **state) {
    (void)state;
    random_start(1);
    os_clock_install(&fake_ops);
    struct http_config config = usual();
    config.connections_max = 24;
    config.connections_per_peer_max = 20;
    config.body_pool = 12 * 32 * KIB;
    config.body_max = 150 * KIB;
    start(&config);
    app.when = EITHER;
    for (size_t i = 0; i < HOSTILES; i++) {
        hostiles[i].fd = -1;
    }
    bool paused = false;
    for (int turn = 0; turn < 60000; turn++) {
        hostile_turn(&hostiles[random_below(HOSTILES)]);
        if (random_below(200) == 0) {
            paused = !paused;
            http_server_pause(app.server, paused);
        }
        fake_us += random_below(100) == 0 ? random_below(3000000) : random_below(2000);
        rounds(1);
        while (app.owed_count > 20 || (app.owed_count > 0 && random_below(3) == 0)) {
            pay(random_below(app.owed_count));
        }
    }
    http_server_pause(app.server, false);
    for (size_t i = 0; i < HOSTILES; i++) {
        if (hostiles[i].fd >= 0) {
            close(hostiles[i].fd);
        }
    }
    rounds(50);
    while (app.owed_count > 0) {
        pay(0);
    }
    step_ms(120000);
    assert_int_equal(stats().open_connections, 0);
    struct http_stats now = stats();
    print_message(
        "accepted %llu, refused connections %llu, requests %llu, bad %llu, too big %llu, timeouts %llu, aborted %llu, "
        "overloaded %llu, replies dropped %llu\n",
        (unsigned long long)now.accepted, (unsigned long long)now.refused_connections,
        (unsigned long long)now.requests, (unsigned long long)now.bad_requests,
        (unsigned long long)now.too_big, (unsigned long long)now.timeouts,
        (unsigned long long)now.aborted, (unsigned long long)now.overloaded,
        (unsigned long long)now.replies_dropped);
    assert_true(now.requests > 0 && now.bad_requests > 0 && now.too_big > 0 && now.timeouts > 0 &&
                now.aborted > 0 && now.overloaded > 0 && now.replies_dropped > 0 &&
                now.refused_connections > 0);
    stop();
    os_clock_install(NULL);
}

/* Without descriptors the listener rests and comes back by itself. */
static void test_no_descriptors_left(void **state) {
    (void)state;
    os_clock_install(&fake_ops);
    struct http_config config = usual();
    start(&config);
    int fd = dial();
    struct rlimit old;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    struct rlimit none = {(rlim_t)fd + 1, old.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    put_str(fd, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    rounds(5);
    assert_int_equal(stats().accepted, 0);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    rounds(5);
    assert_int_equal(stats().accepted, 0); /* it rests */
    step_ms(200);
    assert_int_equal(get_status(fd), 200);
    close(fd);
    stop();
    os_clock_install(NULL);
}

static _Atomic bool loop_ends;

static void loop(void *context) {
    (void)context;
    while (!atomic_load(&loop_ends)) {
        http_server_run_once(app.server, 10);
    }
}

/* The loop in a thread of its own, its counters read from another. */
static void test_counters_from_another_thread(void **state) {
    (void)state;
    struct http_config config = usual();
    start(&config);
    atomic_store(&loop_ends, false);
    struct os_thread thread;
    assert_int_equal(os_thread_start(&thread, "loop", 0, loop, NULL), 0);
    int fd = dial();
    uint64_t heard = 0;
    char text[512];
    struct http_stats now = {0};
    for (uint64_t i = 1; i <= 2000; i++) {
        while (send(fd, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", 27, MSG_NOSIGNAL) < 0) {
            assert_true(errno == EAGAIN || errno == ENOTCONN);
        }
        while (heard < i) {
            ssize_t n = recv(fd, text, sizeof text - 1, 0);
            if (n > 0) {
                text[n] = 0;
                heard += strstr(text, "HTTP/1.1 200") != NULL;
            }
            http_server_stats(app.server, &now);
            assert_true(now.requests >= heard && now.requests <= i);
        }
    }
    close(fd);
    atomic_store(&loop_ends, true);
    os_thread_join(&thread);
    assert_int_equal(stats().requests, 2000);
    stop();
}

/* How long a round sleeps follows from the deadlines, not from a tick. */
static void test_a_round_sleeps_until_a_deadline(void **state) {
    (void)state;
    struct http_config config = usual();
    config.head_timeout_ms = 50;
    start(&config);
    int fd = dial();
    http_server_run_once(app.server, -1); /* accepts */
    uint64_t begin = os_mono_us();
    http_server_run_once(app.server, -1); /* nothing comes: ends with the deadline */
    uint64_t took = os_mono_us() - begin;
    assert_true(took >= 40000 && took < 5000000);
    assert_int_equal(stats().open_connections, 0);
    close(fd);
    stop();
}

/* A request that waits behind a pause must not keep the loop awake. */
static void test_a_paused_loop_sleeps(void **state) {
    (void)state;
    struct http_config config = usual();
    start(&config);
    int fd = dial();
    rounds(2);
    http_server_pause(app.server, true);
    put_str(fd, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    uint64_t begin = os_mono_us();
    http_server_run_once(app.server, 60);
    assert_true(os_mono_us() - begin >= 50000);
    assert_int_equal(app.requests, 0);
    http_server_pause(app.server, false);
    assert_int_equal(get_status(fd), 200);
    close(fd);
    stop();
}

/* Connections at rest hold no pages. */
static void test_idle_connections_cost_little(void **state) {
    (void)state;
    struct http_config config = usual();
    start(&config);
    static int fds[500];
    static uint8_t body[40000];
    uint64_t before = os_process_rss_anon();
    for (size_t i = 0; i < BH_COUNT(fds); i++) {
        fds[i] = dial();
        put_str(fds[i], "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 40000\r\n\r\n");
        put(fds[i], span_of(body, 20000));
        rounds(1);
        put(fds[i], span_of(body, 20000));
        rounds(i % 8 == 0);
    }
    rounds(20);
    assert_int_equal(app.requests, BH_COUNT(fds));
    uint64_t after = os_process_rss_anon();
    print_message("%zu idle connections: %llu KiB\n", BH_COUNT(fds),
                  (unsigned long long)((after - before) / KIB));
    assert_true(after < before + 4 * MIB);
    for (size_t i = 0; i < BH_COUNT(fds); i++) {
        close(fds[i]);
    }
    stop();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_split_gives_the_same),
        cmocka_unit_test(test_answers_never_cross),
        cmocka_unit_test(test_a_reply_is_taken_once),
        cmocka_unit_test(test_heads_never_cross),
        cmocka_unit_test(test_a_full_pipeline),
        cmocka_unit_test(test_neighbours_do_not_touch),
        cmocka_unit_test(test_requests_leave_nothing_in_memory),
        cmocka_unit_test(test_no_memory_for_a_pipeline),
        cmocka_unit_test(test_refusals_answer_and_close),
        cmocka_unit_test(test_a_refused_client_reads_why),
        cmocka_unit_test(test_continue_head_and_old_versions),
        cmocka_unit_test(test_half_closed_clients_get_their_reply),
        cmocka_unit_test(test_large_replies_wait_for_the_peer),
        cmocka_unit_test(test_a_wake_answers_a_group),
        cmocka_unit_test(test_unix_socket),
        cmocka_unit_test(test_connections_per_peer),
        cmocka_unit_test(test_a_proxy_has_no_limit),
        cmocka_unit_test(test_idle_connections_make_room),
        cmocka_unit_test(test_exhausted_memory_is_503),
        cmocka_unit_test(test_bodies_that_grow_too_big),
        cmocka_unit_test(test_a_pause_from_inside_the_handler),
        cmocka_unit_test(test_pause_then_overload),
        cmocka_unit_test(test_drain),
        cmocka_unit_test(test_slow_heads_end_at_their_deadline),
        cmocka_unit_test(test_slow_bodies_end),
        cmocka_unit_test(test_idle_and_unread_replies_end),
        cmocka_unit_test(test_hostile_streams_leave_nothing),
        cmocka_unit_test(test_no_descriptors_left),
        cmocka_unit_test(test_counters_from_another_thread),
        cmocka_unit_test(test_a_round_sleeps_until_a_deadline),
        cmocka_unit_test(test_a_paused_loop_sleeps),
        cmocka_unit_test(test_idle_connections_cost_little),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
