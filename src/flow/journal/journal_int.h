/*
 * What the files of the journal share. The picture and the rules are in journal.h; the bytes in
 * docs/format/journal.md.
 */
#ifndef BH_FLOW_JOURNAL_INT_H
#define BH_FLOW_JOURNAL_INT_H

#include <stdatomic.h>

#include "base/ring.h"
#include "engine/seglog/seglog.h"
#include "flow/journal/journal.h"
#include "model/limits.h"
#include "os/file.h"
#include "os/thread.h"

enum {
    /* {raw_len u32, lz4_len u32} before each LZ4 block. */
    CHUNK_HEADER_SIZE = 8,
    CHUNK_ALIGN = 8,
    /* A chunk is closed before it grows past this, unless one event alone is larger. */
    CHUNK_RAW_SOFT = 256 * 1024,
    /* One event alone: its JSON, 64 KiB of findings, its request's header and 64 KiB of env. */
    CHUNK_RAW_MAX = LIMIT_EVENT_BYTES + 3 * 64 * 1024,
    RECORD_REQUEST_SIZE = 44,
    RECORD_EVENT_SIZE = 40,
    RECORD_IDS_SIZE = 8,
    RECORD_CONTENT_SIZE = 4,
    RECORD_ENV_MAX = 64 * 1024 - 1,
    RECORD_CONTINUED = 0x80,   /* bit 7 of a request's kind */
    RECORD_HAS_IDS = 0x80,     /* bit 7 of an event's flags: the fingerprint of its ids follows */
    RECORD_HAS_CONTENT = 0x40, /* bit 6: that of its content, after it */
    /* leaf 2, class 2, by 1, two varints of at most 5. */
    FINDING_BYTES_MAX = 15,
    FINDING_BYTES_MIN = 7,
    /* Most events, requests and findings that the raw bytes of a chunk can hold. An oversized chunk
     * written by us holds one event; a reader refuses more. */
    CHUNK_EVENTS_MAX = CHUNK_RAW_SOFT / RECORD_EVENT_SIZE + 1,
    CHUNK_REQUESTS_MAX = CHUNK_RAW_SOFT / RECORD_REQUEST_SIZE + 1,
    CHUNK_FINDINGS_MAX = CHUNK_RAW_SOFT / FINDING_BYTES_MIN + 1,
    /* Unanswered requests and chunks of one writer; beyond is back-pressure. */
    WRITER_PENDING_MAX = 16 * 1024,
    WRITER_CHUNKS_MAX = 4096,
    GROUP_CHUNKS_MAX = 1024,
    CACHE_SLOTS = 128, /* of CHUNK_RAW_SOFT: 32 MiB */
    SOURCE_NUMBERS = 65536,
    FORECAST_SAMPLES = 61,
};

_Static_assert((int)RECORD_EVENT_SIZE + (int)RECORD_IDS_SIZE + (int)RECORD_CONTENT_SIZE +
                       LIMIT_EVENT_BYTES + UINT16_MAX + (int)RECORD_REQUEST_SIZE +
                       (int)RECORD_ENV_MAX <=
                   (int)CHUNK_RAW_MAX,
               "the largest event, alone, fits in a chunk");
_Static_assert(LIMIT_EVENT_FINDINGS *FINDING_BYTES_MAX <= UINT16_MAX,
               "findings_len is 16 bits wide");

/* -- records: the bytes of a chunk (journal_record.c) ------------------------------------------ */

/* Upper bound of an event's record. */
size_t record_event_bound(const struct record_event *event);
/*
 * Writes the header of a request (or, continued, of its part in this chunk); `events` is set later.
 */
void record_put_request(struct buf *b, const struct record_request *request, bool is_continued);
void record_set_events(uint8_t *request_record, uint16_t events);
void record_put_event(struct buf *b, const struct record_event *event);

/* Room for the decoded records of one chunk. */
struct record_room {
    struct record_request *requests;
    uint32_t *request_of;
    struct record_event *events;
    struct finding *findings;
    void *_memory;
    size_t _memory_size;
};

int record_room_init(struct record_room *room) BH_MUST_USE;
void record_room_fini(struct record_room *room);
/* Number of events of a chunk after checking every length, or CORRUPT. `each` may be NULL. */
long record_count(struct span raw, void (*each)(void *context, uint16_t source, uint32_t events),
                  void *context);
/* Decodes the events with seq >= from_seq of a chunk whose first event is first_seq. */
int record_decode(struct span raw, uint64_t first_seq, uint64_t from_seq, struct record_room *room,
                  bool with_findings, struct journal_batch *ret_batch) BH_MUST_USE;

/* One chunk in a frame's plain text. */
struct chunk_bytes {
    uint32_t raw_len;
    struct span lz4;
    uint32_t next_at; /* where the next chunk starts */
};
/* NOTFOUND at the end of the plain text. */
int chunk_at(struct span plain, uint32_t at, struct chunk_bytes *ret_chunk) BH_MUST_USE;
/* `out` has room for raw_len bytes. */
int chunk_open(const struct chunk_bytes *chunk, uint8_t *out) BH_MUST_USE;

/* -- cache of opened chunks near the tail (journal_cache.c) ------------------------------------ */

/* Where a chunk lies: in this frame, and where the one after it starts. */
struct chunk_place {
    struct seglog_frame frame; /* plain is not kept */
    uint32_t next_at;
};

enum slot_state { SLOT_EMPTY, SLOT_FILLING, SLOT_READY };

struct cache_slot {
    uint64_t first_seq;
    uint32_t events;
    uint32_t raw_len;
    uint32_t refs;
    enum slot_state state;
    struct chunk_place place;
    uint8_t *raw;
};

struct cache {
    struct os_lock lock;
    uint8_t *memory;
    struct cache_slot slots[CACHE_SLOTS];
};

int cache_init(struct cache *cache) BH_MUST_USE;
void cache_fini(struct cache *cache);
/* The chunk that holds seq, with a reference, or NULL. */
struct cache_slot *cache_find(struct cache *cache, uint64_t seq);
/*
 * A slot to fill with the chunk that starts at first_seq, or NULL: somebody fills it, or all slots
 * hold newer chunks.
 */
struct cache_slot *cache_claim(struct cache *cache, uint64_t first_seq);
/* The slot is filled and becomes visible; the caller keeps its reference. events 0 gives it up. */
void cache_publish(struct cache *cache, struct cache_slot *slot, uint32_t raw_len, uint32_t events,
                   const struct chunk_place *place);
void cache_release(struct cache *cache, struct cache_slot *slot); /* NULL is fine */

/* -- writers (journal_writer.c) ---------------------------------------------------------------- */

struct pending_request {
    uint64_t ticket;
    uint32_t events;
    uint16_t source;
};

struct writer_chunk {
    uint64_t pool_end; /* running position just past it */
    const uint8_t *bytes;
    uint32_t size;
    uint32_t raw_len;
    uint32_t events;
    uint32_t requests_ended;
};

/*
 * A writer's chunks lie in a byte ring (pool), described by chunks[]; `units` hands them over to
 * the commit thread: each message is the running number just past a chunk after which no request is
 * open, so that the chunks up to there stand or fall together.
 */
struct journal_writer {
    /* Between the two; each keeps its ends on lines of their own. */
    struct ring units;
    struct ring done; /* {requests ended u32, -result u32} */

    /* Owner: the commit thread. */
    uint64_t chunk_head;      /* first chunk that was not yet taken into a group */
    uint64_t unit_end;        /* chunks before it are handed over */
    uint64_t group_from;      /* chunks [group_from, chunk_head) are in the present group */
    uint64_t counted_request; /* running number of the request whose events are being counted */
    uint32_t counted_events;  /* of that request */
    bool unit_is_split;       /* a part of the present unit is in an earlier group */

    int wake_fd;
    /* Commit thread writes (release), the loop reads (acquire). */
    _Atomic uint64_t pool_head;
    _Atomic uint64_t chunk_released;

    /* Owner: the ingest loop; on lines that the commit thread does not write. */
    _Alignas(64) struct buf raw; /* the open chunk */
    uint8_t *part;               /* header of the request being written in it, or NULL */
    uint32_t part_events;
    uint32_t raw_events;
    uint32_t raw_requests_ended;
    uint64_t pool_tail;
    uint64_t chunk_tail;
    uint64_t pending_head, pending_tail;
    struct journal *journal;
    void *lz4_state;
    uint8_t *pool;
    uint64_t pool_size;
    struct writer_chunk *chunks;
    struct pending_request *pending;
    uint64_t *ring_slots;
};

int writer_init(struct journal_writer *writer, struct journal *journal,
                size_t pool_size) BH_MUST_USE;
void writer_fini(struct journal_writer *writer);
/* (commit) Chunks up to the next unit's end; false when nothing is handed over. */
bool writer_has_unit(struct journal_writer *writer);
/* (commit) Answers the chunks of the present group and gives their room back. */
void writer_finish_group(struct journal_writer *writer, int result);

/* -- the journal ------------------------------------------------------------------------------- */

struct space_sample {
    uint64_t at_us;
    uint64_t bytes;
};

struct journal {
    /*
     * Commit thread writes (release), anyone reads (acquire). durable_frame is stored before
     * durable_seq.
     */
    _Alignas(64) _Atomic uint64_t durable_frame;
    _Atomic uint64_t durable_seq;
    _Atomic uint64_t first_seq;  /* keeper writes */
    _Atomic uint64_t forecast_s; /* keeper writes */
    _Atomic bool is_out_of_space;
    _Atomic bool commit_sleeps; /* exchanged by both sides: see commit_wake */
    _Atomic bool stopping;

    /* Counters, relaxed. */
    _Atomic uint64_t stat_events, stat_requests, stat_frames, stat_bytes, stat_raw;
    _Atomic uint64_t stat_sync_us_total, stat_sync_us_max, stat_segments;
    _Atomic uint64_t closed_bytes; /* of the segments before the present one */
    _Atomic uint64_t open_bytes;   /* written to the present one */

    /* Set while opening. */
    struct journal_config config;
    char dir[256];
    char reserve_path[304];
    uint8_t *wrapping; /* guarded */
    struct seglog_config log_config;
    struct seglog *log; /* NULL when read only */
    uint64_t max_bytes;
    size_t plain_max;     /* of a frame */
    uint8_t *recover_raw; /* only while opening */
    struct journal_writer *writers;
    struct os_thread thread;

    /* Commit thread. */
    uint64_t *source_events; /* of the present segment, by source number */
    struct span *group_parts;
    uint64_t retry_at_us;
    uint64_t last_time_us;
    uint64_t segment_number;
    uint64_t segment_started_us; /* 0 = the segment has no frame yet */
    struct os_file reserve;
    int commit_wake_fd;
    unsigned next_writer;
    bool has_segment; /* one was started since the journal was opened */
    bool reserve_is_held;

    struct os_lock lock; /* readers */
    struct journal_reader *readers;

    /* Keeper thread. */
    struct space_sample samples[FORECAST_SAMPLES];
    unsigned sample_count;
    bool half_full_was_said;

    struct cache cache;
};

/* A reader; in the journal's list from journal_reader_new to journal_reader_free. */
struct journal_reader {
    struct journal *journal;
    struct journal_reader *next; /* under the journal's lock */
    int wake_fd;
    _Atomic bool waits; /* exchanged by both sides, as commit_sleeps */

    /* Owner: the reader's thread. */
    uint64_t seq; /* of the next event to come */
    bool without_findings;
    struct seglog_reader *log;
    uint64_t log_next; /* frame that `log` would read next; 0 = it must seek */
    uint8_t *frame_memory;
    uint8_t *raw_memory;
    struct span plain; /* of the frame whose number is plain_of, in frame_memory */
    uint64_t plain_of; /* 0 = none */
    bool has_place;
    struct chunk_place place; /* of the chunk that ends before place_seq */
    uint64_t place_seq;
    struct cache_slot *slot; /* of the batch that was returned last */
    struct record_room room;
};

void commit_run(void *context);
void commit_wake(struct journal *journal);
/* Footer's counts per source: writer of the blob and what recovery counts. */
size_t commit_footer_blob(void *context, uint8_t *out, size_t cap);
void commit_on_recovered(void *context, const struct seglog_frame *frame);
/* (commit) Signals the readers that wait for a durable seq. */
void readers_wake(struct journal *journal);

struct footer_count {
    uint16_t source;
    uint64_t events;
};
/* Reads {count u16, count x {source u16, events u64}}; the number of sources or CORRUPT. */
long footer_counts_read(struct span blob, struct footer_count *counts, size_t cap);

#endif
