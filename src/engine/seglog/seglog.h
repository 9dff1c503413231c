/*
 * Seglog: append-only log of sealed frames in segment files.
 *
 *   dir/0000000001.seg   header 4096 | frame | frame | ... | footer    closed: ends with its footer
 *   dir/0000000002.seg   header 4096 | frame | frame | zeros ...       open: the one written to
 *   dir/next.seg         zeros                                         prepared for number 3
 *   dir/lock                                                           held by the writer
 *
 * Purpose: a place where a batch of items (events of the journal, leaves of a ledger) is durable
 * after one write and one sync, cannot be read without its key, and where every later change of a
 * bit is found. docs/format/segment.md has the bytes.
 *
 * Invariants
 *  1. One frame = one seglog_append + one seglog_sync; a frame is never written while the one
 *     before is not synced. So a bad frame at the very end is a torn write (cut off at open), and a frame
 *     header after a bad frame proves that synced bytes rotted (CORRUPT).
 *  2. A segment has a random key of its own, wrapped in its header under the caller's wrapping key
 *     and used by one process life: a segment found open at seglog_open is closed and never
 *     appended to. The frame's number is the nonce.
 *  3. Frame numbers rise by one through all segments, from 1; a segment's header says its first. A
 *     frame holds the seqs [first_seq, first_seq + events); they rise, gaps are allowed.
 *  4. A numbered file always has a whole header: it is written and synced before the file gets its
 *     number.
 *  5. Segments are dropped oldest first; a hole in the numbers is CORRUPT.
 *
 * Owner: one writer thread for struct seglog. Readers are separate objects with files of their own
 * and belong to one thread each; they may run beside the writer up to a frame that the caller knows
 * to be synced, or on a folder that nobody writes. seglog_list and seglog_drop work on the files
 * alone and may be called by any thread.
 * Memory: the writer has one buffer that grows to frame_max; a reader reads into its caller's
 * buffer.
 * Errors: NOSPACE arises only where space is reserved (a new segment, or growth by grow_step) and
 * leaves the log as it was: try again later. IO from append or sync means that nobody knows what is
 * on the disk: the caller must end the process (os_process_end), and recovery decides. After such
 * an error every call on the log returns IO.
 */
#ifndef BH_ENGINE_SEGLOG_H
#define BH_ENGINE_SEGLOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/errors.h"
#include "crypto/crypto.h"

enum seglog_kind { SEGLOG_JOURNAL = 1, SEGLOG_LEDGER = 2 };

enum {
    SEGLOG_HEADER_SIZE = 4096,
    SEGLOG_FRAME_HEADER_SIZE = 48,
    /* A whole frame: header, ciphertext, tag, padding. A buffer of this size holds any frame. */
    SEGLOG_FRAME_MAX = 4 * 1024 * 1024,
    SEGLOG_PLAIN_MAX = SEGLOG_FRAME_MAX - SEGLOG_FRAME_HEADER_SIZE - GCM_TAG_SIZE,
    /* Opaque bytes of the caller in a footer: 1024 sources of 10 bytes and some. */
    SEGLOG_BLOB_MAX = 12 * 1024,
    /* Kept free at the end of a segment, so that closing needs no new space. */
    SEGLOG_FOOTER_MAX = SEGLOG_BLOB_MAX + 128,
    SEGLOG_SEGMENT_MIN = 64 * 1024,
};

struct seglog_frame {
    uint64_t number;
    uint64_t first_seq;
    uint32_t events;
    uint32_t chunks;
    uint64_t time_us;
    uint64_t segment;  /* file number */
    uint64_t offset;   /* of the frame header in that file */
    uint32_t size;     /* whole frame on disk */
    struct span plain; /* into the reader's buffer; SPAN_NONE from seglog_skip_next */
};

struct seglog_config {
    const char *dir; /* made when absent; at most 200 bytes */
    enum seglog_kind kind;
    uint8_t deployment[16];
    uint16_t instance;
    const uint8_t
        *wrapping; /* KEY_SIZE bytes in guarded memory; must outlive the log and its readers */
    uint64_t segment_size; /* >= SEGLOG_SEGMENT_MIN; a multiple of 4096 */
    uint64_t grow_step;    /* 0: a segment is reserved whole; else by steps of this many bytes */
    uint32_t frame_max;    /* largest whole frame, 0 = SEGLOG_FRAME_MAX; must fit in a segment */
    bool prepare_next;     /* make the next segment when this one is half full */

    /* Opaque bytes for the footer of the segment that is being closed (counts per source): writes
     * at most cap = SEGLOG_BLOB_MAX bytes, returns how many, and starts counting anew. NULL: none.
     * Called by the writer thread, and in seglog_open for a segment found open. */
    size_t (*footer_blob)(void *context, uint8_t *out, size_t cap);
    /* Called in seglog_open for each good frame of a segment found open, in order, before
     * footer_blob. NULL: none. */
    void (*on_recovered)(void *context, const struct seglog_frame *frame);
    void *context;
};

/* What seglog_open (or a reader) found. Filled as far as it got, also when it fails. */
struct seglog_recovery {
    uint64_t segments; /* files with data, after recovery */
    uint64_t first_segment, last_segment;
    uint64_t first_seq;    /* of the oldest segment */
    uint64_t next_seq;     /* one past the last seq; 0 in an empty log */
    uint64_t next_frame;   /* one past the last frame; 1 in an empty log */
    uint64_t last_time_us; /* of the last frame */
    uint64_t torn_bytes;   /* cut off behind the last good frame; 0 after a clean end */
    bool was_open;         /* the last segment had no footer: the writer did not close it */
    /* CORRUPT and TAMPERED: the first bad byte's frame, and the seqs that are lost: [rot_seq_from,
     * rot_seq_to); rot_seq_to = 0 = unknown. */
    uint64_t rot_segment, rot_offset, rot_seq_from, rot_seq_to;
};

struct seglog;

/* Recovers and opens for writing. Nothing is created until the first append (except the folder and
 * its lock). BUSY: another writer. *ret_recovery is always filled; err names file and offset. */
int seglog_open(const struct seglog_config *config, struct seglog_recovery *ret_recovery,
                struct seglog **ret_log, struct err *err) BH_MUST_USE;
/* Closes the current segment (footer, sync) unless the log has failed. NULL is fine. The result
 * matters only for reporting. */
int seglog_close(struct seglog *log);

/*
 * Seals the parts, one after another, as one frame and writes it; it is not durable before
 * seglog_sync. first_seq >= the next seq. The frame that was written goes to *ret_frame (plain =
 * SPAN_NONE). TOO_BIG (nothing written), NOSPACE (nothing written), IO (fatal). A check fails when
 * the frame before was not synced.
 */
int seglog_append(struct seglog *log, uint64_t first_seq, uint32_t events, uint32_t chunks,
                  uint64_t time_us, const struct span *parts, size_t part_count,
                  struct seglog_frame *ret_frame) BH_MUST_USE;
int seglog_sync(struct seglog *log) BH_MUST_USE;
/* Reserves the space for the next append of up to plain_size bytes now: NOSPACE or 0. Lets a caller
 * say 503 before it takes an event. */
int seglog_ensure_space(struct seglog *log, size_t plain_size) BH_MUST_USE;
/* Closes the current segment and starts a new one, so that the closed one can be dropped; nothing
 * when the current one has no frame. NOSPACE leaves all as it was. */
int seglog_rotate(struct seglog *log) BH_MUST_USE;
uint64_t seglog_next_seq(const struct seglog *log);
uint64_t seglog_next_frame(const struct seglog *log);
/* Number of the segment being written; one past the last closed one when there is none. */
uint64_t seglog_segment_number(const struct seglog *log);

/* Reading. */

struct seglog_reader;

/* At the first frame of the oldest segment. config needs dir, kind, deployment and wrapping. */
int seglog_reader_new(const struct seglog_config *config, struct seglog_reader **ret_reader,
                      struct err *err) BH_MUST_USE;
void seglog_reader_free(struct seglog_reader *reader);
/* To the frame that holds seq, else the first one after it; the end when there is none. NOTFOUND:
 * seq is older than the oldest segment (now there). */
int seglog_reader_seek(struct seglog_reader *reader, uint64_t seq) BH_MUST_USE;
/* To a frame that a seglog_frame described. */
int seglog_reader_seek_frame(struct seglog_reader *reader, uint64_t segment, uint64_t offset,
                             uint64_t number) BH_MUST_USE;
/*
 * Next frame with number <= up_to, read and opened in `buffer` (SEGLOG_FRAME_MAX always suffices;
 * FULL and the frame's size in ret_frame->size otherwise, and the reader stays). up_to = UINT64_MAX
 * when nobody writes. AGAIN: no such frame (yet). TORN (only with UINT64_MAX): no further frame,
 * but an unfinished write. CORRUPT, TAMPERED: seglog_reader_report says where. NOTFOUND: the
 * segment was dropped; seek again. After an error other than AGAIN and FULL the reader must seek.
 */
int seglog_read_next(struct seglog_reader *reader, uint64_t up_to, uint8_t *buffer, size_t cap,
                     struct seglog_frame *ret_frame) BH_MUST_USE;
/* The same without reading the sealed bytes: only the frame header is verified. */
int seglog_skip_next(struct seglog_reader *reader, uint64_t up_to,
                     struct seglog_frame *ret_frame) BH_MUST_USE;
void seglog_reader_report(const struct seglog_reader *reader, struct seglog_recovery *ret_report);

/* Segments. */

struct seglog_segment {
    uint64_t number;
    uint64_t first_seq;
    uint64_t created_us;
    uint64_t bytes; /* size of the file, for an open one with its reserve */
    bool closed;    /* the fields below are set */
    uint64_t next_seq;
    uint64_t first_frame, last_frame;
    uint64_t time_us_min, time_us_max;
    uint32_t blob_size;
};

/* Calls `each` for every segment, oldest first; a non-zero return ends the walk and is returned. */
int seglog_list(const char *dir, enum seglog_kind kind,
                int (*each)(void *context, const struct seglog_segment *segment),
                void *context) BH_MUST_USE;
/* The footer's opaque bytes. STATE when the segment is open. */
int seglog_segment_blob(const char *dir, uint64_t number, uint8_t *out, size_t cap,
                        size_t *ret_size) BH_MUST_USE;
/* Destroys the oldest segment: overwrites its wrapped key, syncs, unlinks, syncs the folder. STATE
 * when it is not the oldest, still open, or the only one (the newest carries the numbers from which
 * the log goes on: seglog_rotate first). */
int seglog_drop(const char *dir, uint64_t number) BH_MUST_USE;

#endif
