/*
 * Whose answer it is: the whole courier (libcurl, ledger, bisection) against a vendor that answers late, twice, in pieces, in part, with another
 * request's answer, or not at all.
 *
 *   worker = process { courier, driven by hand --loopback--> stand-in, a thread }
 *
 * Every answer names its request, and what a step of the courier does must be what the answer to that step's request says: so many accepted, so many
 * set aside, this status, this name; nothing at all where the answer was no whole one. In the end each good event was taken once and each bad one
 * set aside once. The courier is driven by hand so that no back-off is waited for. What the stand-in sends after a whole answer has arrived by the next
 * request, which is what the ledger's sync gives it time for (docs/adr/0040-deliver-whose-answer.md says what remains).
 *
 * BH_EXCHANGES answered requests in all (2000), by BH_WORKERS processes (2).
 */
/* depends: deliver ledger policy resolve journal inspect protocol mixpanel wire http json keyring seglog tlog yaml crypto model os base */
/* sources: deliver_kit.c journal_kit.c */
#define _GNU_SOURCE
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "deliver_kit.h"

#include "flow/deliver/deliver_int.h"
#include "journal_kit.h"
#include "os/clock.h"
#include "os/log.h"
#include "os/socket.h"
#include "random_kit.h"

enum {
    CONNECTIONS = 64,
    IN_MAX = 64 * 1024,
    OUT_MAX = 16 * 1024,
    PIECES = 64,
    BATCH_MAX = 6, /* below BISECT_MIN: a full refusal parks nobody */
    PUT_AT_ONCE = 2000,
    BAD_EVERY = 29,
};

/* How an answer travels. */
enum way {
    WHOLE,
    IN_PIECES,
    CHUNKED,
    BYTE_BY_BYTE,
    LATE,
    INTERIM,
    /* Whole, and then: */
    THEN_AGAIN,
    THEN_ANOTHERS,
    THEN_NOISE,
    THEN_END,
    THEN_RESET,
    LAST_WHOLE = THEN_RESET,
    /* No answer at all, or none that counts: */
    CUT_SHORT,
    CUT_SHORT_CHUNKED,
    NOTHING_END,
    NOTHING_RESET,
    TWICE_AT_ONCE,
    ANOTHERS_BEFORE,
    TWO_LENGTHS,
    LENGTH_AND_CHUNKED,
    WAYS,
};

static const char *const way_names[WAYS] = {
    "whole",         "in pieces",        "chunked",           "byte by byte",  "late",
    "interim",       "then again",       "then another's",    "then noise",    "then its end",
    "then a reset",  "cut short",        "cut short chunked", "nothing: end",  "nothing: reset",
    "twice at once", "another's before", "two lengths",       "length+chunked"};

struct answer {
    uint64_t number; /* of its request */
    enum way way;
    unsigned status;
    uint32_t items[BATCH_MAX];
    bool refused[BATCH_MAX];
    unsigned count;
    unsigned accepts;
    unsigned sets_aside;
};

struct piece {
    uint64_t due_us;
    size_t to;
};

struct connection {
    int fd; /* -1 = free */
    bool is_spoiled;
    uint8_t in[IN_MAX];
    size_t n;
    uint8_t out[OUT_MAX];
    size_t sent;
    struct piece pieces[PIECES];
    unsigned piece_count;
    unsigned piece_at;
    bool ends;
    bool resets;
};

struct sums {
    _Atomic uint64_t exchanges, connections, events, ways[WAYS];
};

struct standin {
    int listener;
    uint16_t port;
    pthread_t thread;
    pthread_mutex_t lock; /* of what follows, between thread and worker */
    bool stopping;
    bool is_quiet; /* nothing is still to be sent */
    uint64_t requests;
    struct answer answers[8]; /* newest last: answers[requests % 8] */
    /* The thread's own. */
    struct random_kit random;
    struct wire *wire;
    char before[1024]; /* the answer to the request before, as it was */
    struct connection connections[CONNECTIONS];
    struct sums *sums;
};

/* In a worker no test framework can jump back to its parent. */
#define expect(what, ...)                                                    \
    do {                                                                     \
        if (!(what)) {                                                       \
            (void)fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #what); \
            (void)fprintf(stderr, __VA_ARGS__);                              \
            (void)fputc('\n', stderr);                                       \
            _exit(1);                                                        \
        }                                                                    \
    } while (0)

static bool is_bad(uint32_t item) {
    return item % BAD_EVERY == 0;
}

/* -- the stand-in: what it says --------------------------------------------------------------------------------------------------------- */

static uint64_t below(struct standin *s, uint64_t n) {
    return random_kit_below(&s->random, n);
}

static void read_items(struct standin *s, struct span body, struct answer *answer) {
    static uint8_t plain[IN_MAX];
    struct buf out = buf_of(plain, sizeof plain);
    if (body.n > 2 && body.p[0] == 0x1f) {
        expect(wire_gunzip(s->wire, body, &out) == 0, "a body that does not unpack");
        body = buf_span(&out);
    }
    size_t at;
    while ((at = span_find(body, SPAN_LIT("\"tokens\":"))) != SIZE_MAX) {
        uint32_t value = 0;
        body = span_from(body, at + 9);
        for (size_t i = 0; i < body.n && body.p[i] >= '0' && body.p[i] <= '9'; i++) {
            value = value * 10 + (uint32_t)(body.p[i] - '0');
        }
        expect(answer->count < BATCH_MAX, "a request of too many items");
        answer->items[answer->count++] = value;
    }
    expect(answer->count != 0, "a request without items");
}

static void refuse(struct answer *answer, bool by_name) {
    for (unsigned i = 0; i < answer->count; i++) {
        answer->refused[i] = is_bad(answer->items[i]);
        answer->sets_aside += by_name && answer->refused[i];
        answer->accepts += by_name && !answer->refused[i];
    }
    if (!by_name && answer->count == 1) {
        answer->sets_aside = 1;
    }
}

/* What a vendor makes of the items: good ones are taken unless they are too many or it has no time; bad ones are refused, named or not. */
static void judge(struct standin *s, struct answer *answer, struct buf *body) {
    unsigned bad = 0;
    unsigned chance = (unsigned)below(s, 100);
    for (unsigned i = 0; i < answer->count; i++) {
        bad += is_bad(answer->items[i]);
    }
    bool names = bad != 0 && chance < 60;
    if (chance >= 97) {
        answer->status = 500 + (unsigned)below(s, 100);
    } else if (answer->count > 1 && chance >= 92) {
        answer->status = 413;
    } else if (bad != 0) {
        answer->status = chance % 2 == 0 ? 400 : 422;
        refuse(answer, names);
    } else {
        answer->status = 200;
        answer->accepts = answer->count;
    }
    buf_printf(body, "{\"code\":%u,\"marker\":\"r%llu.\"", answer->status,
               (unsigned long long)answer->number);
    if (names && (answer->status == 400 || answer->status == 422)) {
        const char *between = "";
        buf_put_str(body, ",\"failed_records\":[");
        for (unsigned i = 0; i < answer->count; i++) {
            if (answer->refused[i]) {
                buf_printf(body, "%s{\"index\":%u,\"field\":\"x\"}", between, i);
                between = ",";
            }
        }
        buf_put_byte(body, ']');
    }
    buf_put_str(body, "}");
}

/* -- the stand-in: how it says it --------------------------------------------------------------------------------------------------------- */

static void put_head(struct buf *out, unsigned status, size_t length, bool chunked) {
    buf_printf(out, "HTTP/1.1 %u X\r\nContent-Type: application/json\r\n", status);
    if (chunked) {
        buf_put_str(out, "Transfer-Encoding: chunked\r\n");
    } else {
        buf_printf(out, "Content-Length: %zu\r\n", length);
    }
}

static void put_chunks(struct standin *s, struct buf *out, struct span body) {
    while (body.n != 0) {
        size_t n = 1 + (size_t)below(s, body.n);
        buf_printf(out, "%zx\r\n", n);
        buf_put(out, body.p, n);
        buf_put_str(out, "\r\n");
        body = span_from(body, n);
    }
    buf_put_str(out, "0\r\n\r\n");
}

static void put_whole(struct buf *out, unsigned status, struct span body) {
    put_head(out, status, body.n, false);
    buf_put_str(out, "\r\n");
    buf_put_span(out, body);
}

/* Sent up to `to` in all, after_us behind the piece before. */
static void add_piece(struct connection *c, size_t to, uint64_t after_us) {
    uint64_t from = c->piece_count != 0 ? c->pieces[c->piece_count - 1].due_us : os_mono_us();
    expect(c->piece_count < PIECES, "too many pieces");
    c->pieces[c->piece_count++] = (struct piece){from + after_us, to};
}

static void cut_up(struct standin *s, struct connection *c, size_t to) {
    size_t at = 0;
    while (at < to && c->piece_count < 12) {
        at += 1 + (size_t)below(s, to - at);
        add_piece(c, at, below(s, 4) == 0 ? below(s, 300) : 0);
    }
    if (at < to) {
        add_piece(c, to, 0);
    }
}

static enum way choose_way(struct standin *s) {
    if (below(s, 100) < 35) {
        return WHOLE;
    }
    return (enum way)below(s, WAYS);
}

static void put_bytes(struct standin *s, const struct answer *answer, struct span body,
                      struct buf *out) {
    bool chunked = answer->way == CHUNKED || answer->way == CUT_SHORT_CHUNKED;
    if (answer->way == INTERIM) {
        buf_put_str(out, below(s, 2) == 0 ? "HTTP/1.1 100 Continue\r\n\r\n"
                                          : "HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n");
    }
    if (answer->way == ANOTHERS_BEFORE) {
        buf_put_str(out, s->before);
    }
    put_head(out, answer->status, body.n, chunked);
    if (answer->way == TWO_LENGTHS) {
        buf_printf(out, "Content-Length: %zu\r\n", body.n + 1);
    }
    if (answer->way == LENGTH_AND_CHUNKED) {
        buf_put_str(out, "Transfer-Encoding: chunked\r\n");
    }
    buf_put_str(out, "\r\n");
    if (chunked || answer->way == LENGTH_AND_CHUNKED) {
        put_chunks(s, out, body);
    } else {
        buf_put_span(out, body);
    }
}

/* The bytes of an answer and when each of them goes. */
static void compose(struct standin *s, struct connection *c, const struct answer *answer,
                    struct span body) {
    struct buf out = buf_of(c->out, sizeof c->out);
    c->sent = c->piece_count = c->piece_at = 0;
    c->ends = c->resets = false;
    put_bytes(s, answer, body, &out);
    size_t whole = out.n;
    c->is_spoiled = answer->way > INTERIM || answer->accepts != answer->count;
    switch (answer->way) {
    case IN_PIECES:
    case CHUNKED:
    case INTERIM:
        cut_up(s, c, whole);
        return;
    case BYTE_BY_BYTE:
        for (size_t i = 1; i < PIECES && i < whole; i++) {
            add_piece(c, i, 0);
        }
        add_piece(c, whole, 0);
        return;
    case LATE:
        add_piece(c, whole, 100 + below(s, 4000));
        return;
    case THEN_AGAIN:
    case THEN_ANOTHERS:
    case THEN_NOISE:
        add_piece(c, whole, 0);
        if (answer->way == THEN_AGAIN) {
            put_whole(&out, answer->status, body);
        } else {
            buf_put_str(&out, answer->way == THEN_NOISE ? "\r\n\r\nnoise" : s->before);
        }
        add_piece(c, out.n, 1 + below(s, 600));
        return;
    case CUT_SHORT:
    case CUT_SHORT_CHUNKED:
        /* The last chunk is five bytes; without them nothing has ended. */
        whole = (size_t)below(s, whole - (answer->way == CUT_SHORT_CHUNKED ? 5 : 0));
        cut_up(s, c, whole);
        break;
    case NOTHING_END:
    case NOTHING_RESET:
        whole = 0;
        break;
    case TWICE_AT_ONCE:
        put_whole(&out, answer->status, body);
        add_piece(c, out.n, 0);
        return;
    case THEN_END:
    case THEN_RESET:
    case WHOLE:
    case ANOTHERS_BEFORE:
    case TWO_LENGTHS:
    case LENGTH_AND_CHUNKED:
    case WAYS:
        add_piece(c, whole, 0);
        break;
    }
    bool is_short = answer->way == CUT_SHORT || answer->way == CUT_SHORT_CHUNKED;
    c->resets =
        answer->way == NOTHING_RESET || answer->way == THEN_RESET || (is_short && below(s, 2) == 0);
    c->ends = c->resets || is_short || answer->way == NOTHING_END || answer->way == THEN_END ||
              answer->way == TWO_LENGTHS || answer->way == LENGTH_AND_CHUNKED;
    if (c->ends) {
        add_piece(c, whole, answer->way == THEN_RESET ? 300 + below(s, 300) : below(s, 300));
    }
    expect(!out.full, "an answer that does not fit");
}

static void answer_request(struct standin *s, struct connection *c, struct span body) {
    char text[512];
    struct buf words = buf_of(text, sizeof text);
    (void)pthread_mutex_lock(&s->lock);
    expect(!c->is_spoiled, "request %llu came on a connection that must not be used again",
           (unsigned long long)s->requests);
    struct answer *answer = &s->answers[++s->requests % BH_COUNT(s->answers)];
    *answer = (struct answer){.number = s->requests, .way = choose_way(s)};
    read_items(s, body, answer);
    judge(s, answer, &words);
    if (answer->way == ANOTHERS_BEFORE && s->before[0] == '\0') {
        answer->way = NOTHING_END;
    }
    compose(s, c, answer, buf_span(&words));
    struct buf before = buf_of(s->before, sizeof s->before - 1);
    put_whole(&before, answer->status, buf_span(&words));
    s->before[before.n] = '\0';
    s->is_quiet = false;
    atomic_fetch_add(&s->sums->ways[answer->way], 1);
    (void)pthread_mutex_unlock(&s->lock);
}

/* -- the stand-in: connections -------------------------------------------------------------------------------------------------------------- */

static void drop(struct connection *c, bool by_reset) {
    if (by_reset) {
        os_close_reset(c->fd);
    } else {
        os_close(c->fd);
    }
    c->fd = -1;
}

static void accept_all(struct standin *s) {
    struct os_peer peer;
    int fd = -1;
    while (os_accept(s->listener, &fd, &peer) == 0) {
        struct connection *c = s->connections;
        while (c->fd >= 0) {
            c++;
            expect(c < s->connections + CONNECTIONS, "too many connections");
        }
        c->fd = fd;
        c->n = c->sent = c->piece_count = c->piece_at = 0;
        c->is_spoiled = c->ends = c->resets = false;
        atomic_fetch_add(&s->sums->connections, 1);
    }
}

static void receive(struct standin *s, struct connection *c) {
    long got = os_recv(c->fd, c->in + c->n, IN_MAX - c->n);
    if (got == BH_E_AGAIN) {
        return;
    }
    if (got <= 0) {
        drop(c, false);
        return;
    }
    c->n += (size_t)got;
    size_t head = span_find(span_of(c->in, c->n), SPAN_LIT("\r\n\r\n"));
    size_t at = span_find(span_of(c->in, c->n), SPAN_LIT("Content-Length: "));
    if (head == SIZE_MAX || at == SIZE_MAX) {
        return;
    }
    size_t length = strtoul((const char *)c->in + at + 16, NULL, 10);
    if (c->n >= head + 4 + length) {
        expect(c->n == head + 4 + length, "bytes behind a request");
        answer_request(s, c, span_of(c->in + head + 4, length));
        c->n = 0;
    }
}

/* What is due goes out; microseconds until more is due, or UINT64_MAX. */
static uint64_t say(struct connection *c) {
    while (c->fd >= 0 && c->piece_at < c->piece_count) {
        const struct piece *piece = &c->pieces[c->piece_at];
        uint64_t now = os_mono_us();
        if (piece->due_us > now) {
            return piece->due_us - now;
        }
        if (piece->to > c->sent &&
            os_send(c->fd, c->out + c->sent, piece->to - c->sent) != (long)(piece->to - c->sent)) {
            drop(c, false); /* the courier has gone */
            break;
        }
        c->sent = piece->to;
        c->piece_at++;
        if (c->ends && c->piece_at == c->piece_count) {
            drop(c, c->resets);
        }
    }
    return UINT64_MAX;
}

static void *run_standin(void *context) {
    struct standin *s = context;
    for (;;) {
        struct pollfd fds[CONNECTIONS + 1] = {{.fd = s->listener, .events = POLLIN}};
        uint64_t wait_us = 20000;
        bool is_quiet = true;
        for (unsigned i = 0; i < CONNECTIONS; i++) {
            uint64_t left = say(&s->connections[i]);
            wait_us = left < wait_us ? left : wait_us;
            is_quiet &= left == UINT64_MAX;
            fds[i + 1] = (struct pollfd){.fd = s->connections[i].fd, .events = POLLIN};
        }
        (void)pthread_mutex_lock(&s->lock);
        s->is_quiet = is_quiet;
        bool stopping = s->stopping;
        (void)pthread_mutex_unlock(&s->lock);
        if (stopping) {
            return NULL;
        }
        struct timespec wait = {0, (long)wait_us * 1000};
        (void)ppoll(fds, CONNECTIONS + 1, &wait, NULL);
        accept_all(s);
        for (unsigned i = 0; i < CONNECTIONS; i++) {
            if (fds[i + 1].fd >= 0 && fds[i + 1].revents != 0) {
                receive(s, &s->connections[i]);
            }
        }
    }
}

static void start_standin(struct standin *s, struct sums *sums, uint64_t seed) {
    struct err err = {0};
    s->random.state = seed;
    s->sums = sums;
    s->wire = wire_new();
    s->is_quiet = true;
    for (unsigned i = 0; i < CONNECTIONS; i++) {
        s->connections[i].fd = -1;
    }
    expect(pthread_mutex_init(&s->lock, NULL) == 0, "lock");
    expect(os_listen("127.0.0.1:0", false, &s->listener, &err) == 0, "%s", err.text);
    expect(os_local_port(s->listener, &s->port) == 0, "port");
    expect(pthread_create(&s->thread, NULL, run_standin, s) == 0, "thread");
}

static void stop_standin(struct standin *s) {
    (void)pthread_mutex_lock(&s->lock);
    s->stopping = true;
    (void)pthread_mutex_unlock(&s->lock);
    (void)pthread_join(s->thread, NULL);
    for (unsigned i = 0; i < CONNECTIONS; i++) {
        os_close(s->connections[i].fd);
    }
    os_close(s->listener);
    wire_free(s->wire);
}

/* -- the worker: a courier by hand ---------------------------------------------------------------------------------------------------------- */

struct worker {
    struct kit_world world;
    struct standin standin;
    struct random_kit random;
    uint8_t *taken; /* by event */
    uint64_t checked;
};

static void put_more(struct worker *w) {
    (void)kit_put(&w->world, PUT_AT_ONCE, EVENT_TRACK);
    while (resolver_seq(w->world.resolver) < w->world.next) {
        os_sleep_us(50);
    }
}

static uint64_t counter(const _Atomic uint64_t *c) {
    return atomic_load_explicit(c, memory_order_relaxed);
}

/* Until the stand-in has nothing more to say of its own; returns the number of requests so far, and the newest answers. */
static uint64_t settle(struct standin *s, struct answer *newest, size_t most, uint64_t before) {
    for (;;) {
        (void)pthread_mutex_lock(&s->lock);
        bool is_quiet = s->is_quiet;
        uint64_t requests = s->requests;
        for (uint64_t i = before + 1; i <= requests && i - before <= most; i++) {
            newest[i - before - 1] = s->answers[i % BH_COUNT(s->answers)];
        }
        (void)pthread_mutex_unlock(&s->lock);
        if (is_quiet) {
            return requests;
        }
        os_sleep_us(20);
    }
}

/* The answer in hand names the request. */
static bool names(const struct courier *courier, const struct answer *answer) {
    char marker[40];
    (void)snprintf(marker, sizeof marker, "\"marker\":\"r%llu.\"",
                   (unsigned long long)answer->number);
    return span_find(buf_span(&courier->transfer.answer), span_str(marker)) != SIZE_MAX;
}

static void mark_taken(struct worker *w, const struct answer *answer) {
    for (unsigned i = 0; i < answer->count; i++) {
        if (!answer->refused[i]) {
            expect(++w->taken[answer->items[i]] == 1, "event %u is settled twice",
                   answer->items[i]);
        }
    }
}

struct before {
    uint64_t requests, attempts, accepted, poison;
    unsigned failures;
};

static struct before look(const struct worker *w) {
    const struct courier *courier = w->world.courier;
    return (struct before){.attempts = counter(&courier->counters.attempts),
                           .accepted = counter(&courier->counters.accepted_events),
                           .poison = counter(&courier->counters.poison_events),
                           .failures = courier->delivery.failures};
}

/* What the step did is what its own answer says. */
static void check_step(struct worker *w, const struct before *before, const struct answer *answer) {
    const struct courier *courier = w->world.courier;
    struct before after = look(w);
    uint64_t accepted = after.accepted - before->accepted;
    uint64_t poison = after.poison - before->poison;
    bool has_failed = after.failures == before->failures + 1;
    bool is_retry = answer->status >= 500;
    bool must = answer->way <= INTERIM || answer->way == THEN_END;
    bool may = must || answer->way <= LAST_WHOLE;
    const char *way = way_names[answer->way];
    unsigned long long number = answer->number;
    if (may && (must || !has_failed)) {
        expect(names(courier, answer), "request %llu, %s: not its answer", number, way);
        expect(atomic_load(&courier->counters.last_status) == answer->status,
               "request %llu, %s: not its status", number, way);
        expect(accepted == answer->accepts, "request %llu, %s: %llu accepted, not %u", number, way,
               (unsigned long long)accepted, answer->accepts);
        expect(poison == answer->sets_aside, "request %llu, %s: %llu set aside, not %u", number,
               way, (unsigned long long)poison, answer->sets_aside);
        expect(has_failed == is_retry, "request %llu, %s: wrongly tried again or not", number, way);
        if (accepted != 0) {
            mark_taken(w, answer);
        }
        return;
    }
    expect(has_failed && accepted == 0 && poison == 0,
           "request %llu, %s: taken for an answer (%u->%u, %llu, %llu, %u)", number, way,
           before->failures, after.failures, (unsigned long long)accepted,
           (unsigned long long)poison, answer->status);
}

static void send_one(struct worker *w) {
    struct courier *courier = w->world.courier;
    struct answer newest[4] = {0};
    struct before before = look(w);
    before.requests = settle(&w->standin, newest, 0, 0);
    courier->delivery.retry_us = 0;
    delivery_step(courier);
    uint64_t requests =
        settle(&w->standin, newest, BH_COUNT(newest), before.requests) - before.requests;
    if (counter(&courier->counters.attempts) == before.attempts) {
        expect(requests == 0, "a request without an attempt");
        return;
    }
    /* libcurl sends once more by itself when a kept connection ends before the first byte of an answer. */
    expect(requests == 1 || requests == 2, "%llu requests in one step",
           (unsigned long long)requests);
    expect(requests == 1 || newest[0].way >= CUT_SHORT, "sent again after an answer");
    check_step(w, &before, &newest[requests - 1]);
    w->checked++;
}

static void gather(struct worker *w) {
    struct window *window = &w->world.courier->window;
    w->world.courier->window_max = 1 + (uint32_t)random_kit_below(&w->random, BATCH_MAX);
    if (window->first_seq + BATCH_MAX > w->world.next) {
        put_more(w);
    }
    int r = window_fill(w->world.courier, window, UINT32_MAX);
    expect(r == 0 && window->closed, "the journal cannot be read: %d", r);
}

static bool is_idle(const struct worker *w) {
    return !w->world.courier->window.closed && delivery_is_idle(w->world.courier);
}

static void open_world(struct worker *w) {
    struct kit_world *world = &w->world;
    (void)signal(SIGPIPE, SIG_IGN);
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): the only other thread is the stand-in */
    expect(setenv("KIT_TOKEN", "vendor_token", 1) == 0, "setenv");
    log_set_level(LOG_ERROR);
    kit_dir_make(world->dir);
    (void)snprintf(world->data, sizeof world->data, "%s/data", world->dir);
    (void)snprintf(world->endpoint, sizeof world->endpoint, "http://127.0.0.1:%u", w->standin.port);
    kit_open_world(world);
    /* The courier's thread ends; this one takes its place. */
    courier_stop_by(world->courier, 0);
    courier_join(world->courier);
    atomic_store(&world->courier->stopping, false);
    kit_restore(world, true);
}

static void work(uint64_t seed, uint64_t exchanges, struct sums *sums) {
    struct worker *w = calloc(1, sizeof *w);
    expect(w != NULL, "memory");
    w->random.state = seed;
    w->taken = calloc(exchanges + (size_t)2 * PUT_AT_ONCE, BATCH_MAX);
    expect(w->taken != NULL, "memory");
    start_standin(&w->standin, sums, seed ^ 0x5ca1ab1e);
    open_world(w);
    while (w->checked < exchanges || !is_idle(w)) {
        if (is_idle(w)) {
            gather(w);
        } else {
            send_one(w);
        }
        (void)courier_tick(w->world.courier, 0);
    }
    uint64_t last = w->world.courier->window.first_seq - 1;
    uint64_t bad = 0;
    for (uint32_t i = 0; i < last; i++) {
        bad += is_bad(i);
        expect(w->taken[i] == !is_bad(i), "event %u of %llu: taken %u times", i,
               (unsigned long long)last, w->taken[i]);
    }
    struct courier_status status = kit_status_of(&w->world);
    expect(status.poison_events == bad && status.accepted_events == last - bad,
           "%llu set aside, %llu accepted", (unsigned long long)status.poison_events,
           (unsigned long long)status.accepted_events);
    transfer_close(w->world.courier);
    kit_close_world(&w->world);
    stop_standin(&w->standin);
    kit_dir_remove(w->world.dir);
    atomic_fetch_add(&sums->exchanges, w->checked);
    atomic_fetch_add(&sums->events, last);
    free(w->taken);
    free(w);
}

static void each_answer_settles_its_own_attempt(void **state) {
    (void)state;
    uint64_t exchanges = random_kit_number("BH_EXCHANGES", 2000);
    uint64_t workers = random_kit_number("BH_WORKERS", 2);
    uint64_t seed = random_kit_seed(8);
    struct sums *sums =
        mmap(NULL, sizeof *sums, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(sums != MAP_FAILED && workers != 0 && workers <= 16);
    pid_t children[16];
    uint64_t begun = os_mono_us();
    (void)fflush(stdout);
    for (uint64_t i = 0; i < workers; i++) {
        children[i] = fork();
        assert_true(children[i] >= 0);
        if (children[i] == 0) {
            (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
            work(seed * 1000003 + i, (exchanges + workers - 1) / workers, sums);
            _exit(0);
        }
    }
    bool good = true;
    for (uint64_t i = 0; i < workers; i++) {
        int status = 0;
        good &= waitpid(children[i], &status, 0) == children[i] && status == 0;
    }
    print_message("%llu vendor answers on %llu connections, each bound to its own attempt; %llu "
                  "events; %.0f s\n",
                  (unsigned long long)sums->exchanges, (unsigned long long)sums->connections,
                  (unsigned long long)sums->events, (double)(os_mono_us() - begun) / 1e6);
    for (unsigned i = 0; i < WAYS; i++) {
        print_message("  %-18s %llu\n", way_names[i], (unsigned long long)sums->ways[i]);
    }
    assert_true(good);
    assert_true(sums->exchanges >= exchanges);
    (void)munmap(sums, sizeof *sums);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(each_answer_settles_its_own_attempt)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
