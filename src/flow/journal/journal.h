/*
 * journal: acknowledged is kept.
 *
 *   loop 0 --chunk (LZ4)--ring--+
 *   loop 1 --chunk (LZ4)--ring--+--> commit thread: number, seal all as one frame, write, fdatasync
 *                                      --> durable_seq --> completions to the loops
 *                                                     \--> wakes of readers
 *   readers (resolver, couriers): cursor by seq; frames near the tail are opened once, in a cache
 *
 * Bytes on disk: docs/format/journal.md (frames of engine/seglog, kind 1). No timer: the next group
 * forms while the last one syncs.
 * Invariants
 *  J1 A completion with result 0 is given only after the fdatasync of the frame that holds the last
 *     chunk of the request.
 *  J2 seq is dense over accepted events, in commit order; never reused. A reader sees an event only
 *     when it is durable.
 *  J3 A failed sync, or EIO on a write, ends the process (os_process_end) after one log line.
 *  J4 No space: requests complete with BH_E_NOSPACE until fallocate succeeds again (tried at most
 *     once a second); nothing is half kept of a request that fits in a segment.
 * Threads: a writer belongs to its loop, a reader to its thread; journal_* functions marked (any)
 * to anyone.
 * Memory: writers' chunk pools (16 MiB each by default), one frame buffer (4 MiB + sealing), the
 * cache (32 MiB), 4 MiB per lagging reader.
 */
#ifndef BH_FLOW_JOURNAL_H
#define BH_FLOW_JOURNAL_H

#include "base/bytes.h"
#include "base/errors.h"
#include "engine/keyring/keyring.h"
#include "model/event.h"

struct journal;
struct journal_writer;
struct journal_reader;

struct journal_config {
    const char *dir; /* data/journal */
    const struct keyring *keyring;
    uint64_t segment_size; /* 128 MiB */
    uint64_t max_bytes;    /* 0 = 60 % of the disk */
    uint64_t keep_us;      /* settled data lives at most this long */
    unsigned writers;      /* ingest loops */
    size_t chunk_pool;     /* bytes per writer */
    bool read_only;   /* no commit thread, no recovery writes: for commands while no daemon runs */
    uint64_t reserve; /* kept free of events for ledgers and the cut register; 0 = 256 MiB */
};

#define JOURNAL_RESERVE_DEFAULT ((uint64_t)256 * 1024 * 1024)
#define JOURNAL_NO_RESERVE      UINT64_MAX
/*
 * Smallest segment: the largest event fits. `max_bytes` is 8 segments at least; a larger
 * segment_size is lowered to that.
 */
#define JOURNAL_SEGMENT_MIN ((uint64_t)2 * 1024 * 1024)

struct journal_recovery {
    uint64_t segments;
    uint64_t next_seq;
    uint64_t torn_bytes;
};

int journal_open(const struct journal_config *config, struct journal **ret_journal,
                 struct journal_recovery *ret_recovery, struct err *err) BH_MUST_USE;
int journal_start(struct journal *journal) BH_MUST_USE; /* the commit thread */
void journal_stop(struct journal *journal); /* commits what is in the rings, closes the segment */
void journal_free(struct journal *journal);

/* (any) Last durable seq, 0 = none yet. */
uint64_t journal_durable_seq(const struct journal *journal);
/* (any) First seq still on disk. */
uint64_t journal_first_seq(const struct journal *journal);
/* (any) Whether the last attempt to grow failed for lack of space. */
bool journal_is_out_of_space(const struct journal *journal);

struct journal_stats {
    uint64_t events, requests, frames, bytes_written, sync_us_total, sync_us_max, bytes_on_disk,
        segments, raw_bytes;
};
void journal_stats(const struct journal *journal, struct journal_stats *ret_stats); /* (any) */

/* -- writing ----------------------------------------------------------------------------------- */

struct journal_writer *journal_writer_of(struct journal *journal, unsigned index);
/*
 * Puts a request and all its events (at least one) into the loop's open chunk(s). All or nothing:
 * 0, BH_E_BUSY when the pool has no room (back-pressure: stop reading sockets), BH_E_TOO_BIG. The
 * bytes are copied. `ticket` comes back in the completion. event.seq is not read.
 */
int journal_writer_put(struct journal_writer *writer, const struct record_request *request,
                       const struct record_event *events, size_t event_count,
                       uint64_t ticket) BH_MUST_USE;
/* End of a poll round: compresses the open chunk and hands it over. */
void journal_writer_flush(struct journal_writer *writer);
/* fd that becomes readable when completions wait. */
int journal_writer_wake_fd(const struct journal_writer *writer);
/* Delivers waiting completions: result 0, BH_E_NOSPACE. Returns how many. */
unsigned journal_writer_complete(struct journal_writer *writer,
                                 void (*done)(void *context, uint64_t ticket, int result),
                                 void *context);

/* -- reading ----------------------------------------------------------------------------------- */

/*
 * wake_fd (os_wake) is signalled when durable_seq grows while the reader has caught up; -1 = none.
 */
int journal_reader_new(struct journal *journal, uint64_t from_seq, int wake_fd,
                       struct journal_reader **ret_reader) BH_MUST_USE;
void journal_reader_free(struct journal_reader *reader);

struct journal_batch {
    const struct record_request *requests; /* of this chunk */
    const uint32_t *request_of;            /* per event: index into requests */
    const struct record_event
        *events; /* seq set; findings decoded; JSON views valid until the next call */
    uint32_t count;
};
/*
 * Next chunk's events from the cursor on (events before it are left out). 0; AGAIN when caught up;
 * CORRUPT, TAMPERED, IO; NOTFOUND when the cursor's segment was dropped: *ret_gap_until is then the
 * first seq still there, and the reader stays until it is sent there by journal_reader_seek.
 * request.events counts the events of the request that lie in its chunk; a request whose kind has
 * bit 7 is the rest of the one before.
 */
int journal_reader_next(struct journal_reader *reader, struct journal_batch *ret_batch,
                        uint64_t *ret_gap_until) BH_MUST_USE;
uint64_t
journal_reader_seq(const struct journal_reader *reader); /* seq of the next event to come */
void journal_reader_seek(struct journal_reader *reader, uint64_t seq);
/* For a reader that has no use for findings (about 10 ns each): events come without them. */
void journal_reader_skip_findings(struct journal_reader *reader);

/* -- retention (keeper thread) ----------------------------------------------------------------- */

struct journal_settlement {
    /* NULL: a reader of our own (the resolver); no segment that it needs is dropped. */
    const char *vendor;
    uint64_t settled_seq; /* all below is settled for it */
    uint64_t budget;      /* bytes of backlog it may hold back; 0 = journal max */
};
/*
 * Drops segments: older than keep and settled by all; when over the budget or the disk maximum, the
 * oldest settled, then the furthest-behind vendor's oldest: `gap` is called for every vendor that
 * loses unsettled events BEFORE they are dropped (it records the gap in the vendor's ledger and
 * returns 0 when that is durable). Returns bytes freed or a negative error.
 */
int64_t journal_retain(struct journal *journal, const struct journal_settlement *vendors,
                       size_t vendor_count,
                       int (*gap)(void *context, const char *vendor, uint64_t from_seq,
                                  uint64_t until_seq),
                       void *context);
/* Bytes and seconds until the maximum is reached at the present rate; UINT64_MAX = not growing. */
uint64_t journal_forecast_s(const struct journal *journal);
/* Number of events still there from `from_seq` on; for a dead daemon's backlog. */
int journal_count_from(struct journal *journal, uint64_t from_seq,
                       uint64_t *ret_events) BH_MUST_USE;
/*
 * The same for each source number below `cap` (added up into ret_by_source): from the footers of
 * closed segments, by reading where from_seq lies inside one and where there is no footer yet.
 */
int journal_count_sources_from(struct journal *journal, uint64_t from_seq, uint64_t *ret_by_source,
                               size_t cap) BH_MUST_USE;

#endif
