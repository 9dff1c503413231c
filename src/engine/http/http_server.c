/*
 * The loop: who is listened to, when, and for how long.
 *
 * Two pollers. `main` holds the listener, all connections and, as a member, the poller `always`; `always` holds the watches
 * and the connections with an unfinished reply. A round waits on `main`, or on `always` alone while the server is paused, so
 * back-pressure may come and go with every commit and costs nothing a connection.
 *
 * No timer is ever armed. A connection waits for one thing at a time; each kind of wait has one duration and one list, so the
 * list's order is the order of its deadlines, its first member decides how long a round may sleep, and moving a connection
 * costs a few stores. Only the minimum rate of bodies is looked at member by member, four times a second.
 *
 * A slot's generation is in every tag and exchange: an event or a reply that was meant for an earlier connection of the slot
 * finds another number and is dropped.
 */
#include "base/check.h"
#include "engine/http/http_int.h"
#include "os/clock.h"
#include "os/thread.h"

enum { ALIGN = 64, PAGE = 4096, OVERLOAD_MS_DEFAULT = 5000 };

/* Tags of what is no connection: HTTP_NO_SLOT below, the kind above. */
enum { TAG_LISTENER, TAG_ALWAYS, TAG_WATCH };

static uint64_t tag_of(uint64_t kind) {
    return (kind << 32) | HTTP_NO_SLOT;
}

static void list_append(struct http_server *server, struct http_list *list,
                        struct http_conn *conn) {
    uint32_t slot = http_conn_slot(server, conn);
    conn->wait_prev = list->last;
    conn->wait_next = HTTP_NO_SLOT;
    if (list->last == HTTP_NO_SLOT) {
        list->first = slot;
    } else {
        server->conns[list->last].wait_next = slot;
    }
    list->last = slot;
}

static void list_remove(struct http_server *server, struct http_list *list,
                        struct http_conn *conn) {
    if (conn->wait_prev == HTTP_NO_SLOT) {
        list->first = conn->wait_next;
    } else {
        server->conns[conn->wait_prev].wait_next = conn->wait_next;
    }
    if (conn->wait_next == HTTP_NO_SLOT) {
        list->last = conn->wait_prev;
    } else {
        server->conns[conn->wait_next].wait_prev = conn->wait_prev;
    }
}

void http_conn_wait(struct http_server *server, struct http_conn *conn, enum http_wait wait) {
    if (conn->wait != HTTP_WAIT_NONE) {
        list_remove(server, &server->waits[conn->wait], conn);
    }
    conn->wait = (uint8_t)wait;
    if (wait == HTTP_WAIT_BODY && server->waits[wait].first == HTTP_NO_SLOT) {
        server->rate_check_us = server->now_us + HTTP_RATE_CHECK_MS * UINT64_C(1000);
    }
    if (wait != HTTP_WAIT_NONE) {
        conn->since_us = server->now_us;
        list_append(server, &server->waits[wait], conn);
    }
}

void http_conn_queue(struct http_server *server, struct http_conn *conn) {
    if (conn->queued) {
        return;
    }
    conn->queued = true;
    uint32_t slot = http_conn_slot(server, conn);
    conn->run_prev = server->runs.last;
    conn->run_next = HTTP_NO_SLOT;
    if (server->runs.last == HTTP_NO_SLOT) {
        server->runs.first = slot;
    } else {
        server->conns[server->runs.last].run_next = slot;
    }
    server->runs.last = slot;
}

static void unqueue(struct http_server *server, struct http_conn *conn) {
    check(conn->queued);
    conn->queued = false;
    if (conn->run_prev == HTTP_NO_SLOT) {
        server->runs.first = conn->run_next;
    } else {
        server->conns[conn->run_prev].run_next = conn->run_next;
    }
    if (conn->run_next == HTTP_NO_SLOT) {
        server->runs.last = conn->run_prev;
    } else {
        server->conns[conn->run_next].run_prev = conn->run_prev;
    }
}

static bool is_uncounted(const struct http_server *server, const struct os_peer *peer) {
    for (size_t i = 0; i < server->config.uncounted_count; i++) {
        if (net_has(&server->config.uncounted[i], peer->address)) {
            return true;
        }
    }
    return false;
}

static bool peer_add(struct http_server *server, const struct os_peer *peer) {
    struct http_peer_table *shared = server->shared_peers;
    if (is_uncounted(server, peer)) {
        return true;
    }
    if (shared == NULL) {
        return http_peers_add(&server->peers, peer);
    }
    os_lock(&shared->lock);
    bool added = http_peers_add(&shared->peers, peer);
    os_unlock(&shared->lock);
    return added;
}

static void peer_remove(struct http_server *server, const struct os_peer *peer) {
    struct http_peer_table *shared = server->shared_peers;
    if (is_uncounted(server, peer)) {
        return;
    }
    if (shared == NULL) {
        http_peers_remove(&server->peers, peer);
        return;
    }
    os_lock(&shared->lock);
    http_peers_remove(&shared->peers, peer);
    os_unlock(&shared->lock);
}

void http_conn_close(struct http_server *server, struct http_conn *conn) {
    check(conn->state != HTTP_CONN_FREE);
    http_conn_wait(server, conn, HTTP_WAIT_NONE);
    if (conn->queued) {
        unqueue(server, conn);
    }
    if (conn->run != NULL) {
        http_pool_give(&server->pool, conn->run, conn->run_cap);
    }
    if (conn->out != NULL) {
        http_pool_give(&server->pool, conn->out, conn->out_cap);
    }
    if (conn->small_used) {
        os_memory_release(http_conn_small(server, conn), HTTP_SMALL_SIZE);
    }
    tls_free(conn->tls);
    os_close(conn->fd); /* leaves both pollers with it */
    peer_remove(server, &conn->peer);
    conn->fd = -1;
    conn->tls = NULL;
    conn->run = NULL;
    conn->out = NULL;
    conn->state = HTTP_CONN_FREE;
    conn->generation++;
    conn->wait_next = server->free_first;
    server->free_first = http_conn_slot(server, conn);
    server->open_count--;
    atomic_store_explicit(&server->counters[HTTP_COUNT_OPEN], server->open_count,
                          memory_order_relaxed);
}

static void open_conn(struct http_server *server, int fd, const struct os_peer *peer) {
    struct http_conn *conn = &server->conns[server->fresh];
    if (server->free_first != HTTP_NO_SLOT) {
        conn = &server->conns[server->free_first];
        server->free_first = conn->wait_next;
    } else {
        server->fresh++;
    }
    check(conn->state == HTTP_CONN_FREE);
    uint32_t generation = conn->generation;
    *conn = (struct http_conn){
        .fd = fd,
        .generation = generation,
        .state = HTTP_CONN_HEAD,
        .peer = *peer,
    };
    server->open_count++;
    atomic_store_explicit(&server->counters[HTTP_COUNT_OPEN], server->open_count,
                          memory_order_relaxed);
    http_count(server, HTTP_COUNT_ACCEPTED, 1);
    http_conn_wait(server, conn, HTTP_WAIT_HEAD);
    struct tls_context *tls =
        server->config.tls != NULL ? server->config.tls(server->config.context) : NULL;
    if (tls != NULL) {
        static const struct tls_io io = {os_recv, os_send};
        conn->tls = tls_accept(tls, &io, fd);
        if (conn->tls == NULL) {
            http_conn_close(server, conn);
            return;
        }
    }
    if (os_poller_add(server->main, fd, http_conn_tag(server, conn), OS_READY_IN) != 0) {
        http_conn_close(server, conn);
    }
}

/* A free slot, if need be that of the connection which has been idle for longest. */
static bool make_room(struct http_server *server) {
    if (server->open_count == server->config.connections_max &&
        server->waits[HTTP_WAIT_IDLE].first != HTTP_NO_SLOT) {
        http_conn_close(server, &server->conns[server->waits[HTTP_WAIT_IDLE].first]);
    }
    return server->open_count < server->config.connections_max;
}

static void on_listener(struct http_server *server) {
    for (int i = 0; i < HTTP_ACCEPTS_PER_ROUND; i++) {
        int fd = -1;
        struct os_peer peer;
        int rc = os_accept(server->listener, &fd, &peer);
        if (rc == BH_E_AGAIN) {
            return;
        }
        if (rc != 0) {
            /* No descriptors: the listener would stay ready and the loop spin. */
            os_poller_remove(server->main, server->listener);
            server->listening = false;
            server->listen_again_us = server->now_us + HTTP_ACCEPT_RETRY_MS * UINT64_C(1000);
            return;
        }
        if (!peer_add(server, &peer)) {
            http_refuse_connection(server, fd);
        } else if (!make_room(server)) {
            peer_remove(server, &peer);
            http_refuse_connection(server, fd);
        } else {
            open_conn(server, fd, &peer);
        }
    }
}

static uint64_t wait_us(const struct http_server *server, enum http_wait wait) {
    const unsigned ms[HTTP_WAITS] = {
        [HTTP_WAIT_IDLE] = server->config.idle_timeout_ms,
        [HTTP_WAIT_HEAD] = server->config.head_timeout_ms,
        [HTTP_WAIT_BODY] = server->config.body_timeout_ms,
        [HTTP_WAIT_SEND] = server->config.send_timeout_ms,
        [HTTP_WAIT_LINGER] = HTTP_LINGER_MS,
    };
    return ms[wait] * UINT64_C(1000);
}

static bool is_too_slow(const struct http_server *server, const struct http_conn *conn) {
    uint64_t paused_us = server->paused_total_us - conn->paused_before_us;
    paused_us += server->paused ? server->now_us - server->pause_start_us : 0;
    uint64_t elapsed_us = server->now_us - conn->since_us;
    /* While we did not read, the peer could not send. The first second is free. */
    uint64_t counted_us = elapsed_us > paused_us + 1000000 ? elapsed_us - paused_us - 1000000 : 0;
    return conn->body_received < counted_us * server->config.body_rate_min / 1000000;
}

static void check_rates(struct http_server *server) {
    if (server->config.body_rate_min == 0 || server->now_us < server->rate_check_us) {
        return;
    }
    server->rate_check_us = server->now_us + HTTP_RATE_CHECK_MS * UINT64_C(1000);
    uint32_t slot = server->waits[HTTP_WAIT_BODY].first;
    while (slot != HTTP_NO_SLOT) {
        struct http_conn *conn = &server->conns[slot];
        slot = conn->wait_next;
        if (is_too_slow(server, conn)) {
            http_conn_on_deadline(server, conn);
        }
    }
}

static void check_deadlines(struct http_server *server) {
    for (int wait = HTTP_WAIT_IDLE; wait < HTTP_WAITS; wait++) {
        uint64_t limit_us = wait_us(server, (enum http_wait)wait);
        for (;;) {
            uint32_t slot = server->waits[wait].first;
            if (slot == HTTP_NO_SLOT || server->now_us - server->conns[slot].since_us < limit_us) {
                break;
            }
            http_conn_on_deadline(server, &server->conns[slot]);
        }
    }
    check_rates(server);
    if (!server->listening && server->listener >= 0 && server->now_us >= server->listen_again_us) {
        server->listening =
            os_poller_add(server->main, server->listener, tag_of(TAG_LISTENER), OS_READY_IN) == 0;
        server->listen_again_us = server->now_us + HTTP_ACCEPT_RETRY_MS * UINT64_C(1000);
    }
}

static uint64_t earlier(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

/* How long a round may sleep. */
static int round_timeout_ms(const struct http_server *server, int timeout_ms) {
    bool holds = http_server_holds(server);
    if (server->drain_sweep || (server->runs.first != HTTP_NO_SLOT && !holds)) {
        return 0;
    }
    uint64_t next_us = UINT64_MAX;
    for (int wait = HTTP_WAIT_IDLE; wait < HTTP_WAITS; wait++) {
        uint32_t slot = server->waits[wait].first;
        if (slot != HTTP_NO_SLOT) {
            next_us = earlier(next_us,
                              server->conns[slot].since_us + wait_us(server, (enum http_wait)wait));
        }
    }
    if (server->waits[HTTP_WAIT_BODY].first != HTTP_NO_SLOT && server->config.body_rate_min != 0) {
        next_us = earlier(next_us, server->rate_check_us);
    }
    if (!server->listening && server->listener >= 0) {
        next_us = earlier(next_us, server->listen_again_us);
    }
    if (holds) {
        next_us =
            earlier(next_us, server->pause_start_us + server->config.overload_ms * UINT64_C(1000));
    }
    if (next_us == UINT64_MAX) {
        return timeout_ms;
    }
    uint64_t wait_ms = next_us > server->now_us ? (next_us - server->now_us + 999) / 1000 : 0;
    return timeout_ms < 0 || wait_ms < (uint64_t)timeout_ms ? (int)wait_ms : timeout_ms;
}

static void on_conn(struct http_server *server, const struct os_ready_event *event) {
    struct http_conn *conn = &server->conns[event->tag & UINT32_MAX];
    if (conn->state == HTTP_CONN_FREE || conn->generation != (uint32_t)(event->tag >> 32)) {
        return;
    }
    if ((event->ready & OS_READY_OUT) != 0 && conn->state == HTTP_CONN_SEND) {
        http_conn_on_writable(server, conn);
    } else if ((event->ready & OS_READY_IN) != 0) {
        if (!http_server_holds(server)) {
            http_conn_on_readable(server, conn);
        }
    } else if ((event->ready & OS_READY_ERROR) != 0) {
        if (conn->state != HTTP_CONN_LINGER) {
            http_count(server, HTTP_COUNT_ABORTED, 1);
        }
        http_conn_close(server, conn);
    }
}

/* Waits on one poller and handles what it says; true when the poller `always` has more to say. */
static bool poll_once(struct http_server *server, struct os_poller poller, int timeout_ms) {
    struct os_ready_event events[HTTP_EVENTS_PER_ROUND];
    int count = os_poller_wait(poller, events, HTTP_EVENTS_PER_ROUND, timeout_ms);
    check(count >= 0);
    server->now_us = os_mono_us();
    bool more = false;
    for (int i = 0; i < count; i++) {
        uint64_t kind = events[i].tag >> 32;
        if ((events[i].tag & UINT32_MAX) != HTTP_NO_SLOT) {
            on_conn(server, &events[i]);
        } else if (kind == TAG_LISTENER) {
            if (server->listening && !http_server_holds(server)) {
                on_listener(server);
            }
        } else if (kind == TAG_ALWAYS) {
            more = true;
        } else {
            check(kind - TAG_WATCH < server->watch_count);
            struct http_watch *watch = &server->watches[kind - TAG_WATCH];
            watch->on_ready(watch->context);
        }
    }
    return more;
}

/* At a drain: what was sent before the client could know is still answered; who has sent nothing is closed. */
static void sweep(struct http_server *server) {
    server->drain_sweep = false;
    for (uint32_t slot = 0; slot < server->fresh; slot++) {
        struct http_conn *conn = &server->conns[slot];
        if (conn->state == HTTP_CONN_HEAD && conn->length == 0) {
            uint32_t generation = conn->generation;
            http_conn_on_readable(server, conn);
            if (conn->generation == generation && conn->state == HTTP_CONN_HEAD &&
                conn->length == 0) {
                http_conn_close(server, conn);
            }
        }
    }
}

void http_server_run_once(struct http_server *server, int timeout_ms) {
    check(server->magic == HTTP_SERVER_MAGIC && !server->in_round);
    server->in_round = true;
    server->now_us = os_mono_us();
    if (server->drain_sweep && !http_server_holds(server)) {
        sweep(server);
    }
    struct os_poller poller = http_server_holds(server) ? server->always : server->main;
    if (poll_once(server, poller, round_timeout_ms(server, timeout_ms))) {
        (void)poll_once(server, server->always, 0); /* it does not contain itself */
    }
    while (server->runs.first != HTTP_NO_SLOT && !http_server_holds(server)) {
        struct http_conn *conn = &server->conns[server->runs.first];
        unqueue(server, conn);
        http_conn_resume(server, conn);
    }
    check_deadlines(server);
    server->in_round = false;
}

int http_server_watch(struct http_server *server, int fd, void (*on_ready)(void *context),
                      void *context) {
    check(server->magic == HTTP_SERVER_MAGIC && on_ready != NULL);
    if (server->watch_count == HTTP_WATCHES_MAX) {
        return BH_E_TOO_MANY;
    }
    int rc =
        os_poller_add(server->always, fd, tag_of(TAG_WATCH + server->watch_count), OS_READY_IN);
    if (rc == 0) {
        server->watches[server->watch_count++] = (struct http_watch){fd, on_ready, context};
    }
    return rc;
}

void http_server_pause(struct http_server *server, bool paused) {
    check(server->magic == HTTP_SERVER_MAGIC);
    if (paused == server->paused) {
        return;
    }
    uint64_t now_us = os_mono_us();
    if (paused) {
        server->pause_start_us = now_us;
        server->now_us = now_us;
    } else {
        server->paused_total_us += now_us - server->pause_start_us;
    }
    server->paused = paused;
}

static void stop_listening(struct http_server *server) {
    if (server->listener >= 0) {
        os_close(server->listener);
        server->listener = -1;
        server->listening = false;
    }
}

void http_server_drain(struct http_server *server) {
    check(server->magic == HTTP_SERVER_MAGIC);
    if (server->listening) {
        on_listener(server); /* who is in the queue would be reset by the close */
    }
    stop_listening(server);
    server->draining = true;
    server->drain_sweep = true;
}

unsigned http_server_open_connections(const struct http_server *server) {
    return server->open_count;
}

int http_server_port(struct http_server *server) {
    return server->port;
}

void http_server_stats(const struct http_server *server, struct http_stats *ret_stats) {
    uint64_t n[HTTP_COUNTERS];
    for (int i = 0; i < HTTP_COUNTERS; i++) {
        n[i] = atomic_load_explicit(&server->counters[i], memory_order_relaxed);
    }
    *ret_stats = (struct http_stats){
        .accepted = n[HTTP_COUNT_ACCEPTED],
        .refused_connections = n[HTTP_COUNT_REFUSED_CONNECTIONS],
        .open_connections = n[HTTP_COUNT_OPEN],
        .requests = n[HTTP_COUNT_REQUESTS],
        .replies = n[HTTP_COUNT_REPLIES],
        .replies_dropped = n[HTTP_COUNT_REPLIES_DROPPED],
        .bytes_in = n[HTTP_COUNT_BYTES_IN],
        .bytes_out = n[HTTP_COUNT_BYTES_OUT],
        .timeouts = n[HTTP_COUNT_TIMEOUTS],
        .bad_requests = n[HTTP_COUNT_BAD_REQUESTS],
        .too_big = n[HTTP_COUNT_TOO_BIG],
        .aborted = n[HTTP_COUNT_ABORTED],
        .overloaded = n[HTTP_COUNT_OVERLOADED],
    };
}

static size_t take_room(size_t *used, size_t size, size_t align) {
    size_t at = (*used + align - 1) / align * align;
    *used = at + size;
    return at;
}

/* One mapping for all; its pages become resident when they are first used. */
static struct http_server *map_server(const struct http_config *config) {
    size_t slots = config->connections_max;
    size_t peer_slots = http_peers_slots(slots);
    size_t pages = config->body_pool / HTTP_PAGE_SIZE;
    size_t used = 0;
    (void)take_room(&used, sizeof(struct http_server), ALIGN);
    size_t conns = take_room(&used, slots * sizeof(struct http_conn), ALIGN);
    size_t peers = take_room(&used, peer_slots * sizeof(struct http_peer_slot), ALIGN);
    size_t marks = take_room(&used, pages, ALIGN);
    size_t small = take_room(&used, slots * HTTP_SMALL_SIZE, PAGE);
    size_t scratch = take_room(&used, HTTP_SCRATCH_SIZE, PAGE);
    size_t pool = take_room(&used, pages * HTTP_PAGE_SIZE, PAGE);
    uint8_t *base = os_memory_map(used);
    if (base == NULL) {
        return NULL;
    }
    void *at = base;
    struct http_server *server = at;
    server->mapped = used;
    at = base + conns;
    server->conns = at;
    at = base + peers;
    struct http_peer_slot *peer_table = at;
    server->small = base + small;
    server->scratch = base + scratch;
    http_pool_init(&server->pool, base + pool, base + marks, pages);
    uint64_t seed = 0;
    os_random(&seed, sizeof seed);
    os_random(&server->random, sizeof server->random);
    http_peers_init(&server->peers, peer_table, peer_slots, seed, config->connections_per_peer_max);
    server->shared_peers = config->peers;
    server->free_first = HTTP_NO_SLOT;
    for (int wait = 0; wait < HTTP_WAITS; wait++) {
        server->waits[wait] = (struct http_list){HTTP_NO_SLOT, HTTP_NO_SLOT};
    }
    server->runs = (struct http_list){HTTP_NO_SLOT, HTTP_NO_SLOT};
    return server;
}

static int open_server(struct http_server *server, struct err *err) {
    if (os_poller_open(&server->main) != 0 || os_poller_open(&server->always) != 0 ||
        os_poller_add(server->main, server->always.fd, tag_of(TAG_ALWAYS), OS_READY_IN) != 0) {
        return err_set(err, BH_E_IO, "cannot make a poller");
    }
    int rc = os_listen(server->config.address, server->config.reuse_port, &server->listener, err);
    if (rc != 0) {
        return rc;
    }
    if (os_local_port(server->listener, &server->port) != 0) {
        server->port = 0; /* a Unix socket has none */
    }
    if (os_poller_add(server->main, server->listener, tag_of(TAG_LISTENER), OS_READY_IN) != 0) {
        return err_set(err, BH_E_IO, "cannot poll the listener of %s", server->config.address);
    }
    server->listening = true;
    return 0;
}

int http_server_new(const struct http_config *config, struct http_server **ret_server,
                    struct err *err) {
    check(config->handler != NULL && config->address != NULL);
    if (config->connections_max == 0 || config->connections_max >= HTTP_NO_SLOT / 2 ||
        config->head_max < 256 || config->target_max == 0) {
        return err_set(err, BH_E_CONFIG, "limits of %s are too small or too large",
                       config->address);
    }
    struct http_server *server = map_server(config);
    if (server == NULL) {
        return err_set(err, BH_E_NOMEM, "no memory for %u connections", config->connections_max);
    }
    server->magic = HTTP_SERVER_MAGIC;
    server->config = *config;
    server->config.overload_ms =
        config->overload_ms != 0 ? config->overload_ms : OVERLOAD_MS_DEFAULT;
    server->listener = -1;
    server->main.fd = -1;
    server->always.fd = -1;
    server->now_us = os_mono_us();
    int rc = open_server(server, err);
    if (rc != 0) {
        http_server_free(server);
        return rc;
    }
    *ret_server = server;
    return 0;
}

void http_server_free(struct http_server *server) {
    if (server == NULL) {
        return;
    }
    check(server->magic == HTTP_SERVER_MAGIC && !server->in_round);
    for (uint32_t slot = 0; slot < server->fresh; slot++) {
        if (server->conns[slot].state != HTTP_CONN_FREE) {
            http_conn_close(server, &server->conns[slot]);
        }
    }
    check(server->open_count == 0 && server->pool._free == server->pool._pages);
    stop_listening(server);
    os_poller_close(&server->main);
    os_poller_close(&server->always);
    server->magic = 0;
    os_memory_unmap(server, server->mapped);
}
