/*
 * Records: requests and events as bytes of a chunk, and chunks as bytes of a frame
 * (docs/format/journal.md).
 *
 *   plain text = chunk | chunk | ...
 *   chunk = {raw_len u32, lz4_len u32} | LZ4 block | zeros to 8
 *   raw = request | event | event | request | event ...
 *
 * Every length is checked on the way in: the seal proves that the bytes are ours, not that an older
 * or a newer version of us wrote no mistake.
 */
#include <lz4.h>

#include "base/check.h"
#include "flow/inspect/inspect.h"
#include "flow/journal/journal_int.h"

/* Offsets in a request record; `len` counts the whole record. */
enum {
    REQUEST_LEN = 0,
    REQUEST_KIND = 4,
    REQUEST_PROTOCOL = 5,
    REQUEST_SOURCE = 6,
    REQUEST_DETECTORS = 8,
    REQUEST_EVENTS = 10,
    REQUEST_RECEIVED = 12,
    REQUEST_SKEW = 20,
    REQUEST_PEER = 24,
    REQUEST_ENV_LEN = 40,
    REQUEST_ENV = 44,
};

enum {
    EVENT_LEN = 0,
    EVENT_KIND = 4,
    EVENT_FLAGS = 5,
    EVENT_FINDINGS_LEN = 6,
    EVENT_TIME = 8,
    EVENT_DEDUPE = 16,
    EVENT_AID = 24,
    EVENT_REST = 40,
};

_Static_assert((int)REQUEST_ENV == (int)RECORD_REQUEST_SIZE, "layout of a request record");
_Static_assert((int)EVENT_REST == (int)RECORD_EVENT_SIZE, "layout of an event record");

size_t record_event_bound(const struct record_event *event) {
    return (size_t)RECORD_EVENT_SIZE + RECORD_IDS_SIZE + RECORD_CONTENT_SIZE +
           (size_t)event->finding_count * FINDING_BYTES_MAX + event->json.n;
}

void record_put_request(struct buf *b, const struct record_request *request, bool is_continued) {
    check(request->env.n <= RECORD_ENV_MAX);
    uint8_t *at = buf_room(b, RECORD_REQUEST_SIZE);
    check(at != NULL);
    put_u32(at + REQUEST_LEN, (uint32_t)(RECORD_REQUEST_SIZE + request->env.n));
    at[REQUEST_KIND] =
        (uint8_t)((request->kind & ~RECORD_CONTINUED) | (is_continued ? RECORD_CONTINUED : 0));
    at[REQUEST_PROTOCOL] = request->protocol;
    put_u16(at + REQUEST_SOURCE, request->source);
    put_u16(at + REQUEST_DETECTORS, request->detectors);
    put_u16(at + REQUEST_EVENTS, 0);
    put_u64(at + REQUEST_RECEIVED, request->received_us);
    put_u32(at + REQUEST_SKEW, (uint32_t)request->skew_ms);
    memcpy(at + REQUEST_PEER, request->peer, sizeof(request->peer));
    put_u32(at + REQUEST_ENV_LEN, (uint32_t)request->env.n);
    buf_put_span(b, request->env);
}

void record_set_events(uint8_t *request_record, uint16_t events) {
    check(events != 0);
    put_u16(request_record + REQUEST_EVENTS, events);
}

void record_put_event(struct buf *b, const struct record_event *event) {
    size_t start = b->n;
    size_t ids_size = event->ids != 0 ? RECORD_IDS_SIZE : 0;
    size_t head = RECORD_EVENT_SIZE + ids_size + (event->content != 0 ? RECORD_CONTENT_SIZE : 0);
    check((event->flags & (RECORD_HAS_IDS | RECORD_HAS_CONTENT)) == 0);
    uint8_t *at = buf_room(b, head);
    check(at != NULL);
    findings_write(b, event->findings, event->finding_count);
    size_t findings_len = b->n - start - head;
    check(findings_len <= UINT16_MAX);
    buf_put_span(b, event->json);
    check(!b->full);
    put_u32(at + EVENT_LEN, (uint32_t)(b->n - start));
    at[EVENT_KIND] = event->kind;
    at[EVENT_FLAGS] = (uint8_t)(event->flags | (event->ids != 0 ? RECORD_HAS_IDS : 0) |
                                (event->content != 0 ? RECORD_HAS_CONTENT : 0));
    put_u16(at + EVENT_FINDINGS_LEN, (uint16_t)findings_len);
    put_u64(at + EVENT_TIME, (uint64_t)event->time_ms);
    put_u64(at + EVENT_DEDUPE, event->dedupe);
    memcpy(at + EVENT_AID, event->aid.b, sizeof(event->aid.b));
    if (event->ids != 0) {
        put_u64(at + EVENT_REST, event->ids);
    }
    if (event->content != 0) {
        put_u32(at + EVENT_REST + ids_size, event->content);
    }
}

int record_room_init(struct record_room *room) {
    size_t requests = sizeof(struct record_request) * CHUNK_REQUESTS_MAX;
    size_t events = sizeof(struct record_event) * CHUNK_EVENTS_MAX;
    size_t findings = sizeof(struct finding) * CHUNK_FINDINGS_MAX;
    size_t request_of = sizeof(uint32_t) * CHUNK_EVENTS_MAX;
    /* Untouched pages cost nothing, so the bounds may be far above what a chunk really holds. */
    room->_memory_size = requests + events + findings + request_of;
    room->_memory = os_memory_map(room->_memory_size);
    if (room->_memory == NULL) {
        return BH_E_NOMEM;
    }
    uint8_t *at = (uint8_t *)room->_memory;
    room->requests = (struct record_request *)(void *)at;
    room->events = (struct record_event *)(void *)(at + requests);
    room->findings = (struct finding *)(void *)(at + requests + events);
    room->request_of = (uint32_t *)(void *)(at + requests + events + findings);
    return 0;
}

void record_room_fini(struct record_room *room) {
    if (room->_memory != NULL) {
        os_memory_unmap(room->_memory, room->_memory_size);
        room->_memory = NULL;
    }
}

/* Takes a whole request record off `r`; its env is the last thing in it. */
static bool take_request(struct reader *r, struct record_request *ret_request) {
    if (r->n < RECORD_REQUEST_SIZE) {
        return false;
    }
    const uint8_t *at = r->p;
    uint32_t env_len = get_u32(at + REQUEST_ENV_LEN);
    uint32_t len = get_u32(at + REQUEST_LEN);
    if (env_len > RECORD_ENV_MAX || len != RECORD_REQUEST_SIZE + env_len) {
        return false;
    }
    if (reader_take(r, len).p == NULL) {
        return false;
    }
    ret_request->kind = at[REQUEST_KIND];
    ret_request->protocol = at[REQUEST_PROTOCOL];
    ret_request->source = get_u16(at + REQUEST_SOURCE);
    ret_request->detectors = get_u16(at + REQUEST_DETECTORS);
    ret_request->events = get_u16(at + REQUEST_EVENTS);
    ret_request->received_us = get_u64(at + REQUEST_RECEIVED);
    ret_request->skew_ms = (int32_t)get_u32(at + REQUEST_SKEW);
    memcpy(ret_request->peer, at + REQUEST_PEER, sizeof(ret_request->peer));
    ret_request->env = span_of(at + REQUEST_ENV, env_len);
    return ret_request->events != 0;
}

/* What an event record may have between its fixed part and its findings; sizes are 0 where it does not. */
struct record_extras {
    uint32_t ids_size;
    uint32_t content_size;
    uint32_t head; /* bytes before the findings */
};

static struct record_extras extras_of(const uint8_t *record) {
    uint8_t flags = record[EVENT_FLAGS];
    struct record_extras extras = {
        .ids_size = (flags & RECORD_HAS_IDS) != 0 ? RECORD_IDS_SIZE : 0,
        .content_size = (flags & RECORD_HAS_CONTENT) != 0 ? RECORD_CONTENT_SIZE : 0,
    };
    extras.head = RECORD_EVENT_SIZE + extras.ids_size + extras.content_size;
    return extras;
}

/* A flag that is set for a fingerprint of 0 was set by nobody. */
static bool extras_are_good(const uint8_t *record, const struct record_extras *extras) {
    const uint8_t *at = record + EVENT_REST;
    return (extras->ids_size == 0 || get_u64(at) != 0) &&
           (extras->content_size == 0 || get_u32(at + extras->ids_size) != 0);
}

/* Takes a whole event record off `r`; SPAN_NONE when it is malformed. */
static struct span take_event(struct reader *r) {
    if (r->n < RECORD_EVENT_SIZE) {
        return SPAN_NONE;
    }
    uint32_t len = get_u32(r->p + EVENT_LEN);
    uint16_t findings_len = get_u16(r->p + EVENT_FINDINGS_LEN);
    struct record_extras extras = extras_of(r->p);
    if (len < extras.head + findings_len ||
        (r->n >= extras.head && !extras_are_good(r->p, &extras))) {
        return SPAN_NONE;
    }
    return reader_take(r, len);
}

long record_count(struct span raw, void (*each)(void *context, uint16_t source, uint32_t events),
                  void *context) {
    struct reader r = reader_of(raw);
    long total = 0;
    while (r.n != 0) {
        struct record_request request;
        if (!take_request(&r, &request)) {
            return BH_E_CORRUPT;
        }
        for (uint16_t i = 0; i < request.events; i++) {
            if (take_event(&r).p == NULL) {
                return BH_E_CORRUPT;
            }
        }
        total += request.events;
        if (each != NULL) {
            each(context, request.source, request.events);
        }
    }
    return total != 0 ? total : BH_E_CORRUPT;
}

/* Decodes one event record; returns the number of findings used, or CORRUPT. Without room for any
 * they are left out. */
static long decode_event(struct span record, struct finding *findings, size_t findings_cap,
                         struct record_event *ret_event) {
    const uint8_t *at = record.p;
    struct record_extras extras = extras_of(at);
    uint32_t head = extras.head;
    uint16_t findings_len = get_u16(at + EVENT_FINDINGS_LEN);
    long count = 0;
    if (findings_len != 0 && findings_cap != 0) {
        count = findings_read(span_of(at + head, findings_len), findings, findings_cap);
        if (count < 0 || count > UINT16_MAX) {
            return BH_E_CORRUPT;
        }
    }
    ret_event->kind = at[EVENT_KIND];
    ret_event->flags = (uint8_t)(at[EVENT_FLAGS] & ~(RECORD_HAS_IDS | RECORD_HAS_CONTENT));
    ret_event->time_ms = (int64_t)get_u64(at + EVENT_TIME);
    ret_event->dedupe = get_u64(at + EVENT_DEDUPE);
    memcpy(ret_event->aid.b, at + EVENT_AID, sizeof(ret_event->aid.b));
    ret_event->ids = extras.ids_size != 0 ? get_u64(at + EVENT_REST) : 0;
    ret_event->content = extras.content_size != 0 ? get_u32(at + EVENT_REST + extras.ids_size) : 0;
    ret_event->findings = findings;
    ret_event->finding_count = (uint16_t)count;
    ret_event->json = span_from(record, (size_t)head + findings_len);
    return count;
}

int record_decode(struct span raw, uint64_t first_seq, uint64_t from_seq, struct record_room *room,
                  bool with_findings, struct journal_batch *ret_batch) {
    struct reader r = reader_of(raw);
    uint64_t seq = first_seq;
    uint32_t requests = 0;
    uint32_t events = 0;
    size_t findings = 0;
    if (raw.n == 0) {
        return BH_E_CORRUPT;
    }
    while (r.n != 0) {
        if (requests >= CHUNK_REQUESTS_MAX || !take_request(&r, &room->requests[requests])) {
            return BH_E_CORRUPT;
        }
        uint32_t events_before = events;
        for (uint16_t i = room->requests[requests].events; i != 0; i--, seq++) {
            struct span record = take_event(&r);
            if (record.p == NULL || events >= CHUNK_EVENTS_MAX) {
                return BH_E_CORRUPT;
            }
            if (seq < from_seq) {
                continue;
            }
            size_t findings_cap = with_findings ? CHUNK_FINDINGS_MAX - findings : 0;
            long used = decode_event(record, room->findings + findings, findings_cap,
                                     &room->events[events]);
            if (used < 0) {
                return BH_E_CORRUPT;
            }
            findings += (size_t)used;
            room->events[events].seq = seq;
            room->request_of[events] = requests;
            events++;
        }
        requests += events != events_before ? 1 : 0;
    }
    ret_batch->requests = room->requests;
    ret_batch->request_of = room->request_of;
    ret_batch->events = room->events;
    ret_batch->count = events;
    return 0;
}

int chunk_at(struct span plain, uint32_t at, struct chunk_bytes *ret_chunk) {
    struct span rest = span_from(plain, at);
    if (rest.n == 0) {
        return BH_E_NOTFOUND;
    }
    if (rest.n < CHUNK_HEADER_SIZE) {
        return BH_E_CORRUPT;
    }
    uint32_t raw_len = get_u32(rest.p);
    uint32_t lz4_len = get_u32(rest.p + 4);
    if (raw_len == 0 || raw_len > CHUNK_RAW_MAX || lz4_len > rest.n - CHUNK_HEADER_SIZE) {
        return BH_E_CORRUPT;
    }
    size_t size =
        (CHUNK_HEADER_SIZE + (size_t)lz4_len + CHUNK_ALIGN - 1) & ~(size_t)(CHUNK_ALIGN - 1);
    if (size > rest.n) {
        return BH_E_CORRUPT;
    }
    ret_chunk->raw_len = raw_len;
    ret_chunk->lz4 = span_of(rest.p + CHUNK_HEADER_SIZE, lz4_len);
    ret_chunk->next_at = at + (uint32_t)size;
    return 0;
}

int chunk_open(const struct chunk_bytes *chunk, uint8_t *out) {
    int n = LZ4_decompress_safe((const char *)chunk->lz4.p, (char *)out, (int)chunk->lz4.n,
                                (int)chunk->raw_len);
    return n == (int)chunk->raw_len ? 0 : BH_E_CORRUPT;
}
