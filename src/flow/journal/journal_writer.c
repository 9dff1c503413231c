/*
 * Writer: the loop's end of the journal.
 *
 *   put --> open chunk (raw) --close--> LZ4 block in the pool --units ring--> commit thread
 *   tickets wait in pending[] <--{requests ended, result}-- done ring <-------/
 *
 * 1. put first proves that the pool, the chunk list and the ticket list hold the whole request
 *    whatever LZ4 makes of it, then writes; so it is all or nothing without an undo, and closing a
 *    chunk cannot fail.
 * 2. Chunks are handed over up to a request's end only (a unit), so that the commit thread can keep
 *    or refuse a request as a whole.
 * 3. Requests are answered in the order in which they were put: a completion is a count, and the
 *    tickets never leave the loop.
 */
#include <lz4.h>

#include "base/check.h"
#include "flow/journal/journal_int.h"
#include "os/socket.h"

enum {
    /*
     * On recorded browser events 2 costs 7 % less time than 1 and 4 % more bytes; on less regular
     * ones 20 % less time for the same bytes.
     */
    LZ4_ACCELERATION = 2,
    /*
     * What a chunk adds to its LZ4 block at most: header, padding, and the constant of
     * LZ4_COMPRESSBOUND.
     */
    CHUNK_OVERHEAD = CHUNK_HEADER_SIZE + CHUNK_ALIGN + 16,
    CHUNK_BOUND_MAX = LZ4_COMPRESSBOUND(CHUNK_RAW_MAX) + CHUNK_OVERHEAD,
};

static int writer_map(struct journal_writer *writer) {
    writer->raw = buf_of(os_memory_map(CHUNK_RAW_MAX), CHUNK_RAW_MAX);
    writer->pool = (uint8_t *)os_memory_map(writer->pool_size);
    writer->lz4_state = os_memory_map((size_t)LZ4_sizeofState());
    writer->chunks =
        (struct writer_chunk *)os_memory_map(sizeof(struct writer_chunk) * WRITER_CHUNKS_MAX);
    writer->pending = (struct pending_request *)os_memory_map(sizeof(struct pending_request) *
                                                              WRITER_PENDING_MAX);
    writer->ring_slots =
        (uint64_t *)os_memory_map(sizeof(uint64_t) * (WRITER_CHUNKS_MAX + WRITER_PENDING_MAX));
    if (writer->raw.p == NULL || writer->pool == NULL || writer->lz4_state == NULL ||
        writer->chunks == NULL || writer->pending == NULL || writer->ring_slots == NULL) {
        return BH_E_NOMEM;
    }
    ring_init(&writer->units, writer->ring_slots, WRITER_CHUNKS_MAX);
    ring_init(&writer->done, writer->ring_slots + WRITER_CHUNKS_MAX, WRITER_PENDING_MAX);
    return 0;
}

int writer_init(struct journal_writer *writer, struct journal *journal, size_t pool_size) {
    writer->journal = journal;
    writer->wake_fd = -1;
    writer->pool_size = pool_size;
    int r = writer_map(writer);
    return r != 0 ? r : os_wake_open(&writer->wake_fd);
}

static void unmap(void *p, size_t size) {
    if (p != NULL) {
        os_memory_unmap(p, size);
    }
}

void writer_fini(struct journal_writer *writer) {
    unmap(writer->raw.p, CHUNK_RAW_MAX);
    unmap(writer->pool, writer->pool_size);
    unmap(writer->lz4_state, (size_t)LZ4_sizeofState());
    unmap(writer->chunks, sizeof(struct writer_chunk) * WRITER_CHUNKS_MAX);
    unmap(writer->pending, sizeof(struct pending_request) * WRITER_PENDING_MAX);
    unmap(writer->ring_slots, sizeof(uint64_t) * (WRITER_CHUNKS_MAX + WRITER_PENDING_MAX));
    if (writer->wake_fd >= 0) {
        os_close(writer->wake_fd);
    }
    *writer = (struct journal_writer){.wake_fd = -1};
}

/* -- the loop's side --------------------------------------------------------------------------- */

/* Writes the count of the part of the present request that lies in the open chunk. */
static void end_part(struct journal_writer *writer) {
    if (writer->part != NULL) {
        record_set_events(writer->part, (uint16_t)writer->part_events);
        writer->part = NULL;
        writer->part_events = 0;
    }
}

/* The next place in the pool with `bound` bytes in a row; put has proved that there is one. */
static uint8_t *pool_room(struct journal_writer *writer, size_t bound) {
    uint64_t offset = writer->pool_tail % writer->pool_size;
    if (writer->pool_size - offset < bound) {
        writer->pool_tail += writer->pool_size - offset;
        offset = 0;
    }
    uint64_t head = atomic_load_explicit(&writer->pool_head, memory_order_acquire);
    check(writer->pool_tail + bound - head <= writer->pool_size);
    return writer->pool + offset;
}

/*
 * Compresses the open chunk into the pool. `continues`: its last request goes on in the next chunk.
 */
static void close_chunk(struct journal_writer *writer, bool continues) {
    check(writer->raw.n != 0 && writer->raw_events != 0);
    end_part(writer);
    int bound = LZ4_compressBound((int)writer->raw.n);
    uint8_t *at = pool_room(writer, (size_t)bound + CHUNK_HEADER_SIZE + CHUNK_ALIGN);
    int n = LZ4_compress_fast_extState(writer->lz4_state, (const char *)writer->raw.p,
                                       (char *)at + CHUNK_HEADER_SIZE, (int)writer->raw.n, bound,
                                       LZ4_ACCELERATION);
    check(n > 0);
    put_u32(at, (uint32_t)writer->raw.n);
    put_u32(at + 4, (uint32_t)n);
    size_t used = CHUNK_HEADER_SIZE + (size_t)n;
    size_t size = (used + CHUNK_ALIGN - 1) & ~(size_t)(CHUNK_ALIGN - 1);
    memset(at + used, 0, size - used);
    writer->pool_tail += size;

    writer->chunks[writer->chunk_tail % WRITER_CHUNKS_MAX] =
        (struct writer_chunk){.pool_end = writer->pool_tail,
                              .bytes = at,
                              .size = (uint32_t)size,
                              .raw_len = (uint32_t)writer->raw.n,
                              .events = writer->raw_events,
                              .requests_ended = writer->raw_requests_ended};
    writer->chunk_tail++;
    writer->raw.n = 0;
    writer->raw_events = 0;
    writer->raw_requests_ended = 0;
    if (!continues) {
        bool pushed = ring_push(&writer->units, writer->chunk_tail);
        check(pushed); /* as many slots as chunks, and a unit has a chunk at least */
        commit_wake(writer->journal);
    }
}

static void open_part(struct journal_writer *writer, const struct record_request *request,
                      bool is_continued) {
    end_part(writer);
    writer->part = writer->raw.p + writer->raw.n;
    record_put_request(&writer->raw, request, is_continued);
}

/* Bytes, chunks and tickets that a request can need at worst, the open chunk included. */
struct put_need {
    size_t pool;
    size_t chunks;
};

static int measure(const struct journal_writer *writer, const struct record_request *request,
                   const struct record_event *events, size_t event_count,
                   struct put_need *ret_need) {
    size_t header = RECORD_REQUEST_SIZE + request->env.n;
    if (request->env.n > RECORD_ENV_MAX || event_count > UINT16_MAX) {
        return BH_E_TOO_BIG;
    }
    /* A header more: the first part may lie in the open chunk and be cut short there. */
    size_t raw = writer->raw.n + 2 * header;
    size_t chunks = 2; /* the open one, and the request's first */
    size_t in_chunk = header;
    for (size_t i = 0; i < event_count; i++) {
        if (events[i].json.n > LIMIT_EVENT_BYTES ||
            events[i].finding_count > LIMIT_EVENT_FINDINGS) {
            return BH_E_TOO_BIG;
        }
        size_t bound = record_event_bound(&events[i]);
        if (in_chunk + bound > CHUNK_RAW_SOFT) {
            chunks++;
            raw += header;
            in_chunk = header;
        }
        raw += bound;
        in_chunk += bound;
    }
    ret_need->chunks = chunks;
    /*
     * One chunk's bound more: the end of the ring that is too short for the chunk that comes next.
     */
    ret_need->pool = raw + raw / 255 + chunks * CHUNK_OVERHEAD + CHUNK_BOUND_MAX;
    return ret_need->pool <= writer->pool_size ? 0 : BH_E_TOO_BIG;
}

static bool has_room(const struct journal_writer *writer, const struct put_need *need) {
    uint64_t head = atomic_load_explicit(&writer->pool_head, memory_order_acquire);
    uint64_t released = atomic_load_explicit(&writer->chunk_released, memory_order_acquire);
    return writer->pool_tail + need->pool - head <= writer->pool_size &&
           writer->chunk_tail + need->chunks - released <= WRITER_CHUNKS_MAX &&
           writer->pending_tail - writer->pending_head < WRITER_PENDING_MAX;
}

int journal_writer_put(struct journal_writer *writer, const struct record_request *request,
                       const struct record_event *events, size_t event_count, uint64_t ticket) {
    check(event_count != 0);
    struct put_need need;
    int r = measure(writer, request, events, event_count, &need);
    if (r != 0) {
        return r;
    }
    if (!has_room(writer, &need)) {
        return BH_E_BUSY;
    }
    /* The commit thread reads the ticket's source once a chunk of the request is handed over. */
    writer->pending[writer->pending_tail % WRITER_PENDING_MAX] =
        (struct pending_request){ticket, (uint32_t)event_count, request->source};
    size_t header = RECORD_REQUEST_SIZE + request->env.n;
    for (size_t i = 0; i < event_count; i++) {
        size_t bound = record_event_bound(&events[i]) + (i == 0 ? header : 0);
        if (i == 0 || writer->raw.n + bound > CHUNK_RAW_SOFT) {
            if (writer->raw.n != 0 && writer->raw.n + bound > CHUNK_RAW_SOFT) {
                close_chunk(writer, i != 0);
            }
            open_part(writer, request, i != 0);
        }
        record_put_event(&writer->raw, &events[i]);
        writer->part_events++;
        writer->raw_events++;
    }
    end_part(writer);
    writer->raw_requests_ended++;
    writer->pending_tail++;
    return 0;
}

void journal_writer_flush(struct journal_writer *writer) {
    if (writer->raw.n != 0) {
        close_chunk(writer, false);
    }
}

int journal_writer_wake_fd(const struct journal_writer *writer) {
    return writer->wake_fd;
}

unsigned journal_writer_complete(struct journal_writer *writer,
                                 void (*done)(void *context, uint64_t ticket, int result),
                                 void *context) {
    os_wake_drain(writer->wake_fd);
    unsigned count = 0;
    uint64_t message;
    while (ring_pop(&writer->done, &message)) {
        int result = -(int)(message & UINT32_MAX);
        for (uint64_t ended = message >> 32; ended != 0; ended--) {
            check(writer->pending_head != writer->pending_tail);
            uint64_t ticket = writer->pending[writer->pending_head % WRITER_PENDING_MAX].ticket;
            writer->pending_head++;
            done(context, ticket, result);
            count++;
        }
    }
    return count;
}

/* -- the commit thread's side ------------------------------------------------------------------ */

bool writer_has_unit(struct journal_writer *writer) {
    return writer->chunk_head != writer->unit_end || ring_pop(&writer->units, &writer->unit_end);
}

/* Counts the events of a chunk for their sources. A request may end in a later chunk. */
static void count_sources(struct journal_writer *writer, uint32_t events) {
    while (events != 0) {
        const struct pending_request *request =
            &writer->pending[writer->counted_request % WRITER_PENDING_MAX];
        uint32_t left = request->events - writer->counted_events;
        uint32_t n = events < left ? events : left;
        writer->journal->source_events[request->source] += n;
        writer->counted_events += n;
        events -= n;
        if (writer->counted_events == request->events) {
            writer->counted_request++;
            writer->counted_events = 0;
        }
    }
}

void writer_finish_group(struct journal_writer *writer, int result) {
    if (writer->group_from == writer->chunk_head) {
        return;
    }
    uint64_t ended = 0;
    uint64_t pool_end = 0;
    for (uint64_t i = writer->group_from; i != writer->chunk_head; i++) {
        const struct writer_chunk *chunk = &writer->chunks[i % WRITER_CHUNKS_MAX];
        ended += chunk->requests_ended;
        pool_end = chunk->pool_end;
        if (result == 0) {
            count_sources(writer, chunk->events);
        }
    }
    if (result != 0) {
        /* What was refused is not counted; the next request starts afresh. */
        writer->counted_request += ended;
        writer->counted_events = 0;
    } else {
        atomic_fetch_add_explicit(&writer->journal->stat_requests, ended, memory_order_relaxed);
    }
    writer->group_from = writer->chunk_head;
    atomic_store_explicit(&writer->pool_head, pool_end, memory_order_release);
    atomic_store_explicit(&writer->chunk_released, writer->group_from, memory_order_release);
    if (ended != 0) {
        bool pushed = ring_push(&writer->done, ended << 32 | (uint32_t)-result);
        check(pushed); /* as many slots as tickets, and a message ends a ticket at least */
        os_wake_signal(writer->wake_fd);
    }
}
