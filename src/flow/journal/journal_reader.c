/*
 * Reader: a cursor that finds its next chunk in the cache, else opens the frame itself.
 *
 *   journal_reader_next
 *     1. seq > durable_seq            -> AGAIN (armed: the commit thread will signal)
 *     2. cache_find(seq)              -> the chunk, without touching a file
 *     3. go_to_frame, then the chunk  -> LZ4 into a cache slot when it is among the newest, else
 *        into the reader's own memory
 *
 * `place` says where the chunk before seq ends: in which frame and at which byte. It comes with a
 * cached chunk too, so a reader that is served by the cache for a while and then misses continues
 * in the file without searching.
 */
#include <stdlib.h>

#include "base/check.h"
#include "flow/journal/journal_int.h"
#include "os/socket.h"

static int reader_map(struct journal_reader *reader) {
    reader->frame_memory = (uint8_t *)os_memory_map(SEGLOG_FRAME_MAX);
    reader->raw_memory = (uint8_t *)os_memory_map(CHUNK_RAW_MAX);
    if (reader->frame_memory == NULL || reader->raw_memory == NULL) {
        return BH_E_NOMEM;
    }
    return record_room_init(&reader->room);
}

static void reader_fini(struct journal_reader *reader) {
    seglog_reader_free(reader->log);
    record_room_fini(&reader->room);
    if (reader->frame_memory != NULL) {
        os_memory_unmap(reader->frame_memory, SEGLOG_FRAME_MAX);
    }
    if (reader->raw_memory != NULL) {
        os_memory_unmap(reader->raw_memory, CHUNK_RAW_MAX);
    }
    free(reader);
}

int journal_reader_new(struct journal *journal, uint64_t from_seq, int wake_fd,
                       struct journal_reader **ret_reader) {
    struct journal_reader *reader = (struct journal_reader *)calloc(1, sizeof(*reader));
    if (reader == NULL) {
        return BH_E_NOMEM;
    }
    reader->journal = journal;
    reader->wake_fd = wake_fd;
    int r = reader_map(reader);
    if (r != 0) {
        reader_fini(reader);
        return r;
    }
    journal_reader_seek(reader, from_seq);
    os_lock(&journal->lock);
    reader->next = journal->readers;
    journal->readers = reader;
    os_unlock(&journal->lock);
    *ret_reader = reader;
    return 0;
}

void journal_reader_free(struct journal_reader *reader) {
    if (reader == NULL) {
        return;
    }
    struct journal *journal = reader->journal;
    os_lock(&journal->lock);
    struct journal_reader **at = &journal->readers;
    while (*at != reader) {
        check(*at != NULL);
        at = &(*at)->next;
    }
    *at = reader->next;
    os_unlock(&journal->lock);
    cache_release(&journal->cache, reader->slot);
    reader_fini(reader);
}

void readers_wake(struct journal *journal) {
    os_lock(&journal->lock);
    for (struct journal_reader *reader = journal->readers; reader != NULL; reader = reader->next) {
        if (atomic_exchange(&reader->waits, false) && reader->wake_fd >= 0) {
            os_wake_signal(reader->wake_fd);
        }
    }
    os_unlock(&journal->lock);
}

uint64_t journal_reader_seq(const struct journal_reader *reader) {
    return reader->seq;
}

void journal_reader_seek(struct journal_reader *reader, uint64_t seq) {
    reader->seq = seq != 0 ? seq : 1;
}

void journal_reader_skip_findings(struct journal_reader *reader) {
    reader->without_findings = true;
}

/* -- finding the chunk ------------------------------------------------------------------------- */

static uint64_t frame_end(const struct seglog_frame *frame) {
    return frame->first_seq + frame->events;
}

/* A file for itself is opened when a reader first misses the cache. */
static int open_log(struct journal_reader *reader) {
    if (reader->log != NULL) {
        return 0;
    }
    reader->log_next = 0;
    return seglog_reader_new(&reader->journal->log_config, &reader->log, NULL);
}

static int read_frame(struct journal_reader *reader, struct seglog_frame *ret_frame) {
    uint64_t up_to =
        reader->journal->config.read_only
            ? UINT64_MAX
            : atomic_load_explicit(&reader->journal->durable_frame, memory_order_acquire);
    reader->plain_of = 0;
    int r = seglog_read_next(reader->log, up_to, reader->frame_memory, SEGLOG_FRAME_MAX, ret_frame);
    reader->log_next = 0;
    if (r == 0) {
        reader->plain = ret_frame->plain;
        reader->plain_of = ret_frame->number;
        reader->log_next = ret_frame->number + 1;
    }
    return r;
}

/* Puts the file position at the frame after `place`'s, or at that frame itself. */
static int seek_by_place(struct journal_reader *reader, bool after) {
    const struct seglog_frame *frame = &reader->place.frame;
    if (after && reader->log_next == frame->number + 1) {
        return 0;
    }
    int r = seglog_reader_seek_frame(reader->log, frame->segment, frame->offset, frame->number);
    if (r == 0 && after) {
        struct seglog_frame skipped;
        r = seglog_skip_next(reader->log, frame->number, &skipped);
    }
    return r;
}

/*
 * Makes `plain` the frame that holds reader->seq, and `place` a point in it at or before that seq.
 * After a dropped segment the place is void, and the search by seq says NOTFOUND.
 */
static int go_to_frame(struct journal_reader *reader) {
    struct seglog_frame *frame = &reader->place.frame;
    bool in_frame =
        reader->has_place && reader->seq >= reader->place_seq && reader->seq < frame_end(frame);
    if (in_frame && reader->plain_of == frame->number) {
        return 0;
    }
    int r = open_log(reader);
    if (r != 0) {
        return r;
    }
    bool is_next = reader->has_place && reader->seq == frame_end(frame);
    if (in_frame || is_next) {
        r = seek_by_place(reader, is_next);
    } else {
        r = seglog_reader_seek(reader->log, reader->seq);
    }
    struct seglog_frame found = {0};
    if (r == 0) {
        r = read_frame(reader, &found);
    }
    if (r != 0) {
        reader->has_place = false;
        reader->log_next = 0;
        return r;
    }
    if (!in_frame || found.number != frame->number) {
        reader->has_place = true;
        reader->place = (struct chunk_place){found, 0};
        reader->place_seq = found.first_seq;
    }
    return 0;
}

/* Opens the chunk at `place` into `out`; its number of events or a negative error. */
static long open_chunk(struct journal_reader *reader, const struct chunk_bytes *chunk,
                       uint8_t *out) {
    int r = chunk_open(chunk, out);
    if (r != 0) {
        return r;
    }
    long events = record_count(span_of(out, chunk->raw_len), NULL, NULL);
    uint64_t end = frame_end(&reader->place.frame);
    return events >= 0 && (uint64_t)events > end - reader->place_seq ? BH_E_CORRUPT : events;
}

/* A chunk in memory, and the seqs that it holds. */
struct opened_chunk {
    struct span raw;
    uint64_t first_seq;
    uint64_t events;
    struct cache_slot *slot;
};

/* Opens chunks from `place` on until one holds reader->seq. */
static int open_from_frame(struct journal_reader *reader, struct opened_chunk *ret_chunk) {
    struct cache *cache = &reader->journal->cache;
    for (;;) {
        struct chunk_bytes chunk;
        if (chunk_at(reader->plain, reader->place.next_at, &chunk) != 0) {
            return BH_E_CORRUPT;
        }
        struct cache_slot *slot = NULL;
        if (chunk.raw_len <= CHUNK_RAW_SOFT) {
            slot = cache_claim(cache, reader->place_seq);
        }
        uint8_t *out = slot != NULL ? slot->raw : reader->raw_memory;
        long events = open_chunk(reader, &chunk, out);
        uint64_t first_seq = reader->place_seq;
        if (events > 0) {
            reader->place.next_at = chunk.next_at;
            reader->place_seq += (uint64_t)events;
        }
        if (slot != NULL) {
            cache_publish(cache, slot, chunk.raw_len, events > 0 ? (uint32_t)events : 0,
                          &reader->place);
        }
        if (events <= 0) {
            return BH_E_CORRUPT;
        }
        if (reader->place_seq > reader->seq) {
            *ret_chunk = (struct opened_chunk){span_of(out, chunk.raw_len), first_seq,
                                               (uint64_t)events, slot};
            return 0;
        }
        cache_release(cache, slot);
    }
}

static int find_chunk(struct journal_reader *reader, struct opened_chunk *ret_chunk) {
    struct cache_slot *slot = cache_find(&reader->journal->cache, reader->seq);
    if (slot != NULL) {
        reader->has_place = true;
        reader->place = slot->place;
        reader->place_seq = slot->first_seq + slot->events;
        *ret_chunk = (struct opened_chunk){span_of(slot->raw, slot->raw_len), slot->first_seq,
                                           slot->events, slot};
        return 0;
    }
    int r = go_to_frame(reader);
    if (r == BH_E_NOTFOUND) {
        /* The place may have lain in a segment that was dropped since; once more by seq. */
        r = go_to_frame(reader);
    }
    if (r == 0 && reader->place.frame.first_seq > reader->seq) {
        return BH_E_NOTFOUND;
    }
    return r != 0 ? r : open_from_frame(reader, ret_chunk);
}

/* -- next -------------------------------------------------------------------------------------- */

static bool is_caught_up(struct journal_reader *reader) {
    if (reader->seq <= journal_durable_seq(reader->journal)) {
        return false;
    }
    /*
     * Armed first and looked again, so that a frame published in between is either seen here or
     * signalled.
     */
    (void)atomic_exchange(&reader->waits, true);
    return reader->seq > journal_durable_seq(reader->journal);
}

int journal_reader_next(struct journal_reader *reader, struct journal_batch *ret_batch,
                        uint64_t *ret_gap_until) {
    cache_release(&reader->journal->cache, reader->slot);
    reader->slot = NULL;
    if (is_caught_up(reader)) {
        return BH_E_AGAIN;
    }
    struct opened_chunk chunk = {0};
    int r = find_chunk(reader, &chunk);
    if (r == BH_E_NOTFOUND) {
        uint64_t first = journal_first_seq(reader->journal);
        uint64_t frame_first = reader->has_place ? reader->place.frame.first_seq : 0;
        *ret_gap_until = frame_first > reader->seq ? frame_first : first;
        return BH_E_NOTFOUND;
    }
    if (r == BH_E_AGAIN || r == BH_E_TORN) {
        /* durable_seq says that the event is there, and the file says that it is not. */
        return BH_E_CORRUPT;
    }
    if (r != 0) {
        return r;
    }
    reader->slot = chunk.slot;
    r = record_decode(chunk.raw, chunk.first_seq, reader->seq, &reader->room,
                      !reader->without_findings, ret_batch);
    if (r == 0) {
        reader->seq = chunk.first_seq + chunk.events;
    }
    return r;
}
