/*
 * An ingest loop: one thread, one poller, one journal writer.
 *
 *   request --ingest_read--> items with their sources --inspect--> findings, never-spans overwritten --journal_writer_put--> ticket
 *   end of the poll round: journal_writer_flush            completion of the ticket: the answer that was prepared, or 503
 *
 * A request's answer is prepared while its items are at hand and waits in a slot, named by the ticket (slot index and generation). Slots, findings and
 * buffers are made at loop_new; nothing is allocated per request. Items of one request may belong to several sources: one record per source, all
 * of which must be durable before the answer.
 */
#include <stdlib.h>

#include "base/check.h"
#include "crypto/crypto.h"
#include "flow/inspect/inspect.h"
#include "gateway/flags.h"
#include "gateway/gateway_int.h"
#include "os/clock.h"
#include "os/log.h"

enum {
    SLOTS = 16384,
    REPLY_SMALL = 512,
    REPLY_BIG = 512 * 1024,
    REPLY_BIG_COUNT = 8,
    ORIGIN_MAX = 256,
    PARTS_MAX = 8, /* sources in one request */
    FINDINGS_MAX = 256 * 1024,
    ENV_MAX = 1024,
    RUN_MS = 100,
    /* What inspecting and answering a request uses of the stack, and as much again. */
    STACK_USED = 16 * 1024,
};

/* Of records for whose keeping nobody waits. */
#define TICKET_NOBODY UINT64_MAX

struct part {
    uint16_t source;
    uint32_t events;
};

/* A request whose answer waits for the journal. */
struct slot {
    uint32_t generation;
    uint32_t next_free;
    struct http_exchange exchange;
    uint8_t waiting; /* parts not yet durable */
    uint8_t part_count;
    bool failed;
    struct part parts[PARTS_MAX];
    const struct protocol_ops *protocol;
    struct protocol_envelope envelope; /* spans emptied */
    unsigned status;
    const char *content_type;
    int16_t big; /* index of the big buffer that holds the body, -1 = body[] */
    uint32_t body_size;
    uint16_t origin_size;
    uint8_t origin[ORIGIN_MAX];
    uint8_t body[REPLY_SMALL];
};

struct loop_work {
    struct ingester *ingester;
    struct inspector *inspector;
    struct finding *findings;
    struct inspect_item items[LIMIT_REQUEST_EVENTS];
    uint32_t item_index[LIMIT_REQUEST_EVENTS]; /* of items[] into the batch */
    struct aid aids[LIMIT_REQUEST_EVENTS];
    struct repeat_key repeats[LIMIT_REQUEST_EVENTS];
    struct record_event events[LIMIT_REQUEST_EVENTS];
    struct record_event chosen
        [LIMIT_REQUEST_EVENTS]; /* one source's, where a request has several or some are bad */
    struct slot *slots;
    uint32_t first_free;
    uint8_t *big[REPLY_BIG_COUNT];
    bool big_used[REPLY_BIG_COUNT];
    uint64_t jitter;
    bool paused;
    unsigned waiting; /* slots in use */
};

static void count(_Atomic uint64_t *counter, uint64_t by) {
    /* One writer: a plain add that readers on other threads may see a moment later. */
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + by,
                          memory_order_relaxed);
}

/* -- slots ----------------------------------------------------------------------------------------------------------------------- */

static struct slot *slot_take(struct loop_work *w) {
    if (w->first_free == UINT32_MAX) {
        return NULL;
    }
    struct slot *slot = &w->slots[w->first_free];
    w->first_free = slot->next_free;
    w->waiting++;
    slot->big = -1;
    slot->failed = false;
    slot->waiting = 0;
    slot->part_count = 0;
    return slot;
}

static void slot_give(struct loop_work *w, struct slot *slot) {
    /* An answer to /import repeats the sender's insert ids, which can be anything. */
    memset(slot->body, 0, sizeof slot->body);
    if (slot->big >= 0) {
        memset(w->big[slot->big], 0, slot->body_size);
        w->big_used[slot->big] = false;
    }
    slot->generation++;
    slot->next_free = w->first_free;
    w->first_free = (uint32_t)(slot - w->slots);
    w->waiting--;
}

static uint64_t ticket_of(const struct loop_work *w, const struct slot *slot) {
    return (uint64_t)slot->generation << 32 | (uint64_t)(slot - w->slots);
}

/* -- answers --------------------------------------------------------------------------------------------------------------------- */

static unsigned jitter(struct loop_work *w) {
    w->jitter = w->jitter * 6364136223846793005ULL + 1442695040888963407ULL;
    return 1 + (unsigned)(w->jitter >> 33) % 5;
}

void loop_reply(struct loop *loop, struct http_exchange exchange,
                const struct protocol_reply *reply, struct span origin, bool retry_after) {
    uint8_t room[1024];
    struct buf headers = buf_of(room, sizeof room);
    buf_put_str(&headers, "Content-Type: ");
    buf_put_str(&headers, reply->content_type);
    buf_put_str(&headers, "\r\n");
    ingest_cors(origin, &headers);
    if (retry_after) {
        buf_printf(&headers, "Retry-After: %u\r\n", jitter(loop->work));
    }
    check(!headers.full);
    http_reply(loop->server, exchange,
               &(struct http_reply){
                   .status = reply->status, .headers = buf_span(&headers), .body = reply->body});
}

static void reply_now(struct loop *loop, const struct http_request *request,
                      const struct ingest_batch *batch, enum reply_kind kind) {
    uint8_t room[4096];
    struct buf memory = buf_of(room, sizeof room);
    struct protocol_reply reply = {404, "text/plain", SPAN_LIT("not found\n")};
    if (batch->protocol != NULL) {
        batch->protocol->reply(&batch->decoded.envelope, kind, batch->decoded.items,
                               batch->decoded.item_count, &memory, &reply);
    }
    loop_reply(loop, request->exchange, &reply, http_header(request->head, "origin"),
               kind == REPLY_UNAVAILABLE);
}

/* The answer for success, while the items are at hand. false: no room for it. */
static bool prepare_reply(struct loop_work *w, struct slot *slot,
                          const struct http_request *request, const struct ingest_batch *batch) {
    struct span origin = http_header(request->head, "origin");
    struct protocol_reply reply;
    struct buf memory = buf_of(slot->body, sizeof slot->body);
    slot->exchange = request->exchange;
    slot->protocol = batch->protocol;
    slot->envelope = batch->decoded.envelope;
    slot->envelope.callback = slot->envelope.project_id = slot->envelope.user = SPAN_NONE;
    slot->envelope.secret = slot->envelope.api_key = SPAN_NONE;
    slot->origin_size = (uint16_t)(origin.n <= ORIGIN_MAX ? origin.n : 0);
    if (slot->origin_size != 0) {
        memcpy(slot->origin, origin.p, slot->origin_size);
    }
    batch->protocol->reply(&batch->decoded.envelope, REPLY_KEPT, batch->decoded.items,
                           batch->decoded.item_count, &memory, &reply);
    for (int16_t i = 0; memory.full && i < REPLY_BIG_COUNT; i++) {
        if (!w->big_used[i]) {
            slot->big = i;
            w->big_used[i] = true;
            memory = buf_of(w->big[i], REPLY_BIG);
            batch->protocol->reply(&batch->decoded.envelope, REPLY_KEPT, batch->decoded.items,
                                   batch->decoded.item_count, &memory, &reply);
            break;
        }
    }
    slot->body_size = (uint32_t)memory.n;
    if (memory.full) {
        return false;
    }
    uint8_t *at = slot->big >= 0 ? w->big[slot->big] : slot->body;
    if (slot->big < 0 && reply.body.n > sizeof slot->body) {
        return false;
    }
    memmove(at, reply.body.p, reply.body.n);
    slot->body_size = (uint32_t)reply.body.n;
    slot->status = reply.status;
    slot->content_type = reply.content_type;
    return true;
}

static void finish(struct loop *loop, struct slot *slot) {
    struct loop_work *w = loop->work;
    struct span origin = span_of(slot->origin, slot->origin_size);
    struct protocol_reply reply = {
        slot->status, slot->content_type,
        span_of(slot->big >= 0 ? w->big[slot->big] : slot->body, slot->body_size)};
    uint8_t room[1024];
    struct buf memory = buf_of(room, sizeof room);
    if (slot->failed) {
        slot->protocol->reply(&slot->envelope, REPLY_UNAVAILABLE, NULL, 0, &memory, &reply);
    }
    for (unsigned i = 0; i < slot->part_count; i++) {
        if (slot->failed) {
            count(&loop->counters.refused[slot->parts[i].source][REASON_NO_SPACE],
                  slot->parts[i].events);
        } else {
            count(&loop->counters.accepted[slot->parts[i].source], slot->parts[i].events);
        }
    }
    loop_reply(loop, slot->exchange, &reply, origin, slot->failed);
    slot_give(w, slot);
}

static void on_complete(void *context, uint64_t ticket, int result) {
    struct loop *loop = context;
    struct loop_work *w = loop->work;
    if (ticket == TICKET_NOBODY) {
        return;
    }
    struct slot *slot = &w->slots[ticket & UINT32_MAX];
    check((ticket & UINT32_MAX) < SLOTS && slot->generation == ticket >> 32 && slot->waiting != 0);
    slot->failed |= result != 0;
    if (--slot->waiting == 0) {
        finish(loop, slot);
    }
}

static void on_wake(void *context) {
    struct loop *loop = context;
    (void)journal_writer_complete(loop->writer, on_complete, loop);
    secret_wipe_stack(STACK_USED);
    if (loop->work->paused) {
        loop->work->paused = false;
        http_server_pause(loop->server, false);
    }
}

/* -- the way of a request ---------------------------------------------------------------------------------------------------------- */

static void count_refused(struct loop *loop, const struct ingest_batch *batch) {
    struct tap *tap = &loop->gateway->tap;
    bool watched = batch->good != batch->decoded.item_count && tap_is_watched(tap);
    for (size_t i = 0; i < batch->decoded.item_count; i++) {
        uint8_t reason = batch->decoded.items[i].reason;
        const struct ingest_source *source = batch->sources[i];
        if (reason == REASON_NONE) {
            continue;
        }
        count(&loop->counters.refused[source != NULL ? source->number : 0][reason], 1);
        if (watched) {
            char name[LIMIT_NAME + 1] = "";
            if (source != NULL) {
                memcpy(name, source->name.p, source->name.n);
                name[source->name.n] = '\0';
            }
            tap_refused(tap, source != NULL ? source->number : 0, name, reason_word(reason), 1);
        }
    }
}

/* A request that could not be read at all still counts as one refusal. */
static void count_whole(struct loop *loop, enum reply_kind verdict) {
    switch (verdict) {
    case REPLY_MALFORMED:
        count(&loop->counters.refused[0][REASON_MALFORMED], 1);
        break;
    case REPLY_TOO_BIG:
        count(&loop->counters.refused[0][REASON_TOO_BIG], 1);
        break;
    case REPLY_KEPT:
    case REPLY_UNAUTHORIZED:
    case REPLY_UNAVAILABLE:
    case REPLY_NOT_FOUND:
    case REPLY_BAD_METHOD:
        break;
    }
}

/* Ids are hashed before anything is overwritten: an id that looks like a card must still be the same person every time. */
static void identify(struct loop *loop, const struct ingest_batch *batch) {
    struct loop_work *w = loop->work;
    for (size_t i = 0; i < batch->decoded.item_count; i++) {
        const struct protocol_item *item = &batch->decoded.items[i];
        if (item->reason != REASON_NONE) {
            continue;
        }
        const struct ingest_source *source = batch->sources[i];
        memset(&w->aids[i], 0, sizeof w->aids[i]);
        if (item->person.n != 0) {
            aid_make(loop->gateway->aids, source->space, item->person, &w->aids[i]);
        }
        w->repeats[i] = (struct repeat_key){0};
        if (item->dedupe.n != 0) {
            const struct repeat_facts facts = {source->number, item->kind,       item->dedupe,
                                               w->aids[i],     item->event_name, item->said_ms};
            aid_repeat(loop->gateway->aids, &facts, &w->repeats[i]);
        }
    }
}

static void inspect_batch(struct loop *loop, struct ingest_batch *batch) {
    struct loop_work *w = loop->work;
    const struct protocol_decoded *d = &batch->decoded;
    /* NOLINTNEXTLINE(performance-no-int-to-ptr): our own decode buffer or the request body */
    uint8_t *text = (uint8_t *)(uintptr_t)
                        d->text.p; /* our own decode buffer or the request's body: both writable */
    size_t n = 0;
    for (size_t i = 0; i < d->item_count; i++) {
        if (d->items[i].reason == REASON_NONE) {
            w->items[n] = (struct inspect_item){.root = d->items[i].root, .kind = d->items[i].kind};
            w->item_index[n++] = (uint32_t)i;
        }
    }
    inspect_items(w->inspector, batch->protocol, d->text, d->tokens, d->token_count, w->items, n,
                  w->findings, FINDINGS_MAX);
    for (size_t k = 0; k < n; k++) {
        struct protocol_item *item = &d->items[w->item_index[k]];
        struct inspect_item *seen = &w->items[k];
        if (seen->error != 0) {
            item->reason = REASON_TOO_COMPLEX;
            batch->good--;
            continue;
        }
        const struct finding *findings = &w->findings[seen->finding_first];
        bool over = inspect_overwrite(text, d->tokens, item->root, findings, seen->finding_count);
        item->flags |= over ? EVENT_OVERWRITTEN : 0;
        count(&loop->counters.overwritten, over);
        count(&loop->counters.findings, seen->finding_count);
        w->events[w->item_index[k]] = (struct record_event){
            .kind = item->kind,
            .flags = item->flags,
            .time_ms = item->time_ms,
            .dedupe = w->repeats[w->item_index[k]].dedupe,
            .content = w->repeats[w->item_index[k]].content,
            /* Of what was overwritten the resolver reads other ids than those that came. */
            .ids = over ? 0 : item->ids,
            .aid = w->aids[w->item_index[k]],
            .findings = findings,
            .finding_count = seen->finding_count,
            .json = item->json,
        };
    }
}

int loop_put_people(struct loop *loop, const struct protocol_ops *protocol,
                    const struct protocol_envelope *envelope, uint16_t source,
                    const struct record_event *events, size_t count) {
    uint8_t env_room[ENV_MAX];
    struct buf env = buf_of(env_room, sizeof env_room);
    protocol->env(envelope, &env);
    struct record_request record = {
        .protocol = protocol->id,
        .kind = envelope->endpoint,
        .source = source,
        .detectors = DETECTORS_VERSION,
        .events = (uint16_t)count,
        .received_us = os_wall_us(),
        .env = buf_span(&env),
    };
    return journal_writer_put(loop->writer, &record, events, count, TICKET_NOBODY);
}

/* The sources of the good items, with their counts. false: more than PARTS_MAX. */
static bool list_parts(const struct ingest_batch *batch, struct slot *slot) {
    for (size_t i = 0; i < batch->decoded.item_count; i++) {
        if (batch->decoded.items[i].reason != REASON_NONE) {
            continue;
        }
        unsigned k = 0;
        while (k < slot->part_count && slot->parts[k].source != batch->sources[i]->number) {
            k++;
        }
        if (k == PARTS_MAX) {
            return false;
        }
        if (k == slot->part_count) {
            slot->parts[slot->part_count++] = (struct part){batch->sources[i]->number, 0};
        }
        slot->parts[k].events++;
    }
    return true;
}

/* Puts the events of one source, in their order. */
static int put_part(struct loop *loop, const struct http_request *request,
                    const struct ingest_batch *batch, struct slot *slot, unsigned part,
                    struct span env, uint64_t now_us) {
    struct loop_work *w = loop->work;
    struct record_request record = {
        .protocol = batch->protocol->id,
        .kind = batch->decoded.envelope.endpoint,
        .source = slot->parts[part].source,
        .detectors = DETECTORS_VERSION,
        .events = (uint16_t)slot->parts[part].events,
        .received_us = now_us,
        .env = env,
    };
    if (batch->decoded.envelope.ip) {
        ingest_client(request, loop->gateway->proxies, loop->gateway->proxy_count, record.peer);
    }
    if (slot->part_count == 1 && batch->good == batch->decoded.item_count) {
        return journal_writer_put(loop->writer, &record, w->events, batch->good,
                                  ticket_of(w, slot));
    }
    size_t n = 0;
    for (size_t i = 0; i < batch->decoded.item_count; i++) {
        if (batch->decoded.items[i].reason == REASON_NONE &&
            batch->sources[i]->number == record.source) {
            w->chosen[n++] = w->events[i];
        }
    }
    return journal_writer_put(loop->writer, &record, w->chosen, n, ticket_of(w, slot));
}

/* 0, or BUSY when not even the first part found room. */
static int put_all(struct loop *loop, const struct http_request *request,
                   const struct ingest_batch *batch, struct slot *slot, uint64_t now_us) {
    uint8_t env_room[ENV_MAX];
    struct buf env = buf_of(env_room, sizeof env_room);
    ingest_env(batch, &env);
    check(!env.full);
    if (slot->part_count == 1) {
        slot->waiting = 1;
        return put_part(loop, request, batch, slot, 0, buf_span(&env), now_us);
    }
    for (unsigned part = 0; part < slot->part_count; part++) {
        int r = put_part(loop, request, batch, slot, part, buf_span(&env), now_us);
        if (r != 0 && part == 0) {
            return r;
        }
        /* A later part without room: the earlier ones are kept, the whole is answered 503, the SDK's retry repeats them with the same ids. */
        slot->failed |= r != 0;
        slot->waiting = (uint8_t)(slot->waiting + (r == 0));
    }
    return 0;
}

static void keep(struct loop *loop, const struct http_request *request,
                 struct ingest_batch *batch) {
    struct loop_work *w = loop->work;
    struct slot *slot = slot_take(w);
    enum reply_kind refusal = REPLY_UNAVAILABLE;
    bool kept = false;
    if (slot != NULL && !list_parts(batch, slot)) {
        refusal = REPLY_TOO_BIG;
    } else if (slot != NULL && prepare_reply(w, slot, request, batch)) {
        int r = put_all(loop, request, batch, slot, os_wall_us());
        kept = r == 0;
        refusal = r == BH_E_TOO_BIG ? REPLY_TOO_BIG : REPLY_UNAVAILABLE;
        if (r == BH_E_BUSY && !w->paused) {
            w->paused = true;
            http_server_pause(loop->server, true);
        }
    }
    if (kept) {
        return;
    }
    for (unsigned i = 0; slot != NULL && i < slot->part_count; i++) {
        count(&loop->counters
                   .refused[slot->parts[i].source]
                           [refusal == REPLY_TOO_BIG ? REASON_TOO_COMPLEX : REASON_OVERLOADED],
              slot->parts[i].events);
    }
    if (slot != NULL) {
        slot_give(w, slot);
    }
    reply_now(loop, request, batch, refusal);
}

static void take(struct loop *loop, const struct snapshot *snapshot,
                 const struct http_request *request, struct ingest_batch *batch) {
    ingest_read(loop->work->ingester, snapshot->ingest_sources, request,
                (int64_t)(os_wall_us() / 1000), batch);
    if (batch->verdict == REPLY_KEPT && !batch->is_local) {
        identify(loop, batch);
        inspect_batch(loop, batch);
        if (batch->good == 0) {
            batch->verdict = REPLY_TOO_BIG;
        }
    }
    count_refused(loop, batch);
    if (batch->verdict == REPLY_KEPT && !batch->is_local) {
        keep(loop, request, batch);
        return;
    }
    batch->decoded.envelope.asks = batch->local != NULL && flags_are_asked(loop, batch->local);
    if (batch->is_question && flags_ask(loop->flags, loop->work->inspector, request, batch)) {
        return;
    }
    if (batch->decoded.item_count == 0) {
        count_whole(loop, batch->verdict);
    }
    reply_now(loop, request, batch, batch->verdict);
}

static void handle(void *context, const struct http_request *request) {
    struct loop *loop = context;
    const struct snapshot *snapshot =
        atomic_load_explicit(&loop->gateway->snapshot, memory_order_acquire);
    count(&loop->counters.requests, 1);
    if (request->head->method == HTTP_OPTIONS) {
        uint8_t room[2048];
        struct buf headers = buf_of(room, sizeof room);
        ingest_preflight(request->head, &headers);
        http_reply(loop->server, request->exchange,
                   &(struct http_reply){.status = 200,
                                        .headers = headers.full ? SPAN_NONE : buf_span(&headers)});
        return;
    }
    struct ingest_batch batch;
    take(loop, snapshot, request, &batch);
    ingest_wipe(loop->work->ingester);
    secret_wipe_stack(STACK_USED);
}

static void error_headers(void *context, const struct http_head *head, struct buf *b) {
    (void)context;
    if (head != NULL) {
        ingest_cors(http_header(head, "origin"), b);
    }
}

/* -- life ------------------------------------------------------------------------------------------------------------------------ */

static int work_new(const struct settings *settings, const uint8_t *ids_key,
                    struct loop_work **ret_work) {
    struct loop_work *w = calloc(1, sizeof *w);
    if (w == NULL) {
        return BH_E_NOMEM;
    }
    *ret_work = w;
    w->findings = os_memory_map(FINDINGS_MAX * sizeof *w->findings);
    w->slots = os_memory_map(SLOTS * sizeof *w->slots);
    for (unsigned i = 0; i < REPLY_BIG_COUNT; i++) {
        w->big[i] = os_memory_map(REPLY_BIG);
        if (w->big[i] == NULL) {
            return BH_E_NOMEM;
        }
    }
    if (w->findings == NULL || w->slots == NULL) {
        return BH_E_NOMEM;
    }
    for (uint32_t i = 0; i < SLOTS; i++) {
        w->slots[i].next_free = i + 1 < SLOTS ? i + 1 : UINT32_MAX;
    }
    os_random(&w->jitter, sizeof w->jitter);
    int r = ingester_new(settings->request_bytes, ids_key, &w->ingester);
    return r == 0 ? inspector_new(&w->inspector) : r;
}

static void work_free(struct loop_work *w) {
    if (w == NULL) {
        return;
    }
    ingester_free(w->ingester);
    inspector_free(w->inspector);
    for (unsigned i = 0; i < REPLY_BIG_COUNT; i++) {
        if (w->big[i] != NULL) {
            os_memory_unmap(w->big[i], REPLY_BIG);
        }
    }
    if (w->findings != NULL) {
        os_memory_unmap(w->findings, FINDINGS_MAX * sizeof *w->findings);
    }
    if (w->slots != NULL) {
        os_memory_unmap(w->slots, SLOTS * sizeof *w->slots);
    }
    free(w);
}

/* A reload's certificate is for the connections that begin after it. */
static struct tls_context *tls_of(void *context) {
    const struct loop *loop = context;
    return atomic_load_explicit(&loop->gateway->snapshot, memory_order_acquire)->tls;
}

static int server_new(struct loop *loop, const struct settings *settings, struct err *err) {
    struct http_config config = {
        .address = settings->listen_ingest,
        .reuse_port = true,
        .connections_max = settings->connections / loop->gateway->loop_count + 1,
        .peers = loop->gateway->peers,
        .uncounted = loop->gateway->proxies,
        .uncounted_count = loop->gateway->proxy_count,
        .body_max = settings->request_bytes,
        .head_max = LIMIT_HTTP_HEAD,
        .target_max = LIMIT_HTTP_TARGET,
        .body_pool = 4 * (size_t)settings->request_bytes + (16U << 20),
        .head_timeout_ms = settings->head_timeout_ms,
        .body_timeout_ms = settings->body_timeout_ms,
        .body_rate_min = 1024,
        .send_timeout_ms = 30000,
        .idle_timeout_ms = settings->idle_timeout_ms,
        .tls = tls_of,
        .handler = handle,
        .error_headers = error_headers,
        .context = loop,
    };
    int r = http_server_new(&config, &loop->server, err);
    r = r == 0
            ? http_server_watch(loop->server, journal_writer_wake_fd(loop->writer), on_wake, loop)
            : r;
    return r == 0 ? http_server_watch(loop->server, flags_wake_fd(loop->flags), flags_wake,
                                      loop->flags)
                  : r;
}

int loop_new(struct gateway *gateway, unsigned index, struct loop **ret_loop, struct err *err) {
    const struct settings *settings = atomic_load(&gateway->snapshot)->settings;
    struct loop *loop = os_memory_map(sizeof *loop); /* counters are large and mostly untouched */
    if (loop == NULL) {
        return err_set(err, BH_E_NOMEM, "out of memory");
    }
    *ret_loop = loop;
    loop->gateway = gateway;
    loop->index = index;
    loop->writer = journal_writer_of(gateway->journal, index);
    int r = work_new(settings, gateway->ids_key, &loop->work);
    r = r == 0 ? flags_new(loop, &loop->flags) : r;
    return r == 0 ? server_new(loop, settings, err)
                  : err_set(err, r, "out of memory for ingest loop %u", index);
}

static void round_once(struct loop *loop) {
    http_server_run_once(loop->server, (int)flags_wait_ms(loop->flags, RUN_MS));
    flags_expire(loop->flags);
    journal_writer_flush(loop->writer);
}

/* After the signal: no new connection, what is in hand is answered. */
static void drain(struct loop *loop) {
    enum { DRAIN_US = 5 * 1000 * 1000 };
    uint64_t until = os_mono_us() + DRAIN_US;
    http_server_drain(loop->server);
    while ((http_server_open_connections(loop->server) != 0 || loop->work->waiting != 0) &&
           os_mono_us() < until) {
        round_once(loop);
    }
}

static void run(void *context) {
    struct loop *loop = context;
    while (!atomic_load_explicit(&loop->gateway->stopping, memory_order_acquire)) {
        round_once(loop);
    }
    drain(loop);
}

int loop_start(struct loop *loop) {
    return os_thread_start(&loop->thread, "ingest", 0, run, loop);
}

void loop_free(struct loop *loop) {
    if (loop == NULL) {
        return;
    }
    http_server_free(loop->server);
    flags_free(loop->flags);
    work_free(loop->work);
    os_memory_unmap(loop, sizeof *loop);
}
