/*
 * Commit thread: one frame, one sync, many answers.
 *
 *        +--> gather --nothing--> idle (rotate by age, try for space once a second) --wake--+
 *        |      | chunks                                                                    |
 *        |      v                                                                           |
 *        |   commit_group: append, sync --> publish durable_frame, durable_seq --> answers, wakes
 *        |      | NOSPACE                                                     |
 *        +------+--> lose_space, finish_group: answers with NOSPACE ----------+
 *
 * 1. A group takes whole units (see journal_writer.c); only a unit larger than a frame is split,
 *    and the group then holds nothing else of its writer.
 * 2. While there is no space every group is refused, and space is tried for at most once a second.
 * 3. The reserve: a file of its own size that the journal holds allocated while it has space and
 *    gives back when it has none, so that ledgers and the cut register can still write on a disk
 *    that events have filled. There is space again only when the reserve is whole again and a frame
 *    fits besides.
 */
#include "base/check.h"
#include "flow/journal/journal_int.h"
#include "os/clock.h"
#include "os/file.h"
#include "os/log.h"
#include "os/socket.h"

enum {
    SPACE_RETRY_US = 1000000,
    IDLE_MS = 1000,
    /* sysexits EX_IOERR: what the service manager sees. */
    EXIT_DISK_FAILED = 74,
    FOOTER_COUNT_SIZE = 10,
};

static _Noreturn void disk_failed(int code) {
    log_event(LOG_ERROR, "journal: a write or sync failed; the process ends and recovery decides",
              LOG_INT("code", code));
    os_process_end(EXIT_DISK_FAILED);
}

/*
 * The flag is exchanged on both sides, never just stored: exchanges of one variable have one order,
 * so either the loop's exchange finds the flag set and signals, or the commit thread's exchange
 * came later and its look at the rings sees what the loop pushed before.
 */
void commit_wake(struct journal *journal) {
    if (atomic_exchange(&journal->commit_sleeps, false)) {
        os_wake_signal(journal->commit_wake_fd);
    }
}

/* -- footer: events per source ----------------------------------------------------------------- */

size_t commit_footer_blob(void *context, uint8_t *out, size_t cap) {
    struct journal *journal = (struct journal *)context;
    size_t count = 0;
    size_t count_max = (cap - 2) / FOOTER_COUNT_SIZE;
    for (size_t source = 0; source < SOURCE_NUMBERS; source++) {
        uint64_t events = journal->source_events[source];
        if (events == 0) {
            continue;
        }
        journal->source_events[source] = 0;
        /*
         * LIMIT_SOURCES fit; more can only have come and gone within one segment, and are left out.
         */
        if (count < count_max) {
            uint8_t *at = out + 2 + count * FOOTER_COUNT_SIZE;
            put_u16(at, (uint16_t)source);
            put_u64(at + 2, events);
            count++;
        }
    }
    put_u16(out, (uint16_t)count);
    return 2 + count * FOOTER_COUNT_SIZE;
}

long footer_counts_read(struct span blob, struct footer_count *counts, size_t cap) {
    struct reader r = reader_of(blob);
    size_t count = read_u16(&r);
    if (r.short_ || r.n != count * FOOTER_COUNT_SIZE || count > cap) {
        return BH_E_CORRUPT;
    }
    for (size_t i = 0; i < count; i++) {
        counts[i].source = read_u16(&r);
        counts[i].events = read_u64(&r);
    }
    return (long)count;
}

static void count_source(void *context, uint16_t source, uint32_t events) {
    uint64_t *source_events = (uint64_t *)context;
    source_events[source] += events;
}

void commit_on_recovered(void *context, const struct seglog_frame *frame) {
    struct journal *journal = (struct journal *)context;
    struct chunk_bytes chunk;
    for (uint32_t at = 0; chunk_at(frame->plain, at, &chunk) == 0; at = chunk.next_at) {
        /*
         * A chunk that does not open is found, and named, by whoever reads it; here it is only not
         * counted.
         */
        if (chunk_open(&chunk, journal->recover_raw) == 0) {
            (void)record_count(span_of(journal->recover_raw, chunk.raw_len), count_source,
                               journal->source_events);
        }
    }
}

/* -- groups ------------------------------------------------------------------------------------ */

struct group {
    size_t parts;
    size_t bytes;
    uint32_t events;
    uint64_t raw;
    uint64_t split_bytes; /* of a unit that begins here and does not fit in this frame */
};

static bool take_chunk(struct journal *journal, struct journal_writer *writer,
                       struct group *group) {
    const struct writer_chunk *chunk = &writer->chunks[writer->chunk_head % WRITER_CHUNKS_MAX];
    if (group->parts == GROUP_CHUNKS_MAX || group->bytes + chunk->size > journal->plain_max) {
        return false;
    }
    journal->group_parts[group->parts++] = span_of(chunk->bytes, chunk->size);
    group->bytes += chunk->size;
    group->events += chunk->events;
    group->raw += chunk->raw_len;
    writer->chunk_head++;
    return true;
}

static uint64_t unit_bytes(const struct journal_writer *writer, uint64_t from) {
    uint64_t bytes = 0;
    for (uint64_t i = from; i != writer->unit_end; i++) {
        bytes += writer->chunks[i % WRITER_CHUNKS_MAX].size;
    }
    return bytes;
}

/*
 * Takes the next unit whole, or undoes it; a unit that fits in no frame is taken as far as an empty
 * group goes.
 */
static bool take_unit(struct journal *journal, struct journal_writer *writer, struct group *group) {
    struct group before = *group;
    uint64_t head_before = writer->chunk_head;
    while (writer->chunk_head != writer->unit_end) {
        if (!take_chunk(journal, writer, group)) {
            if (before.parts != 0) {
                *group = before;
                writer->chunk_head = head_before;
                return false;
            }
            group->split_bytes = writer->unit_is_split ? 0 : unit_bytes(writer, head_before);
            writer->unit_is_split = true;
            return false;
        }
    }
    writer->unit_is_split = false;
    return true;
}

static struct group gather(struct journal *journal) {
    struct group group = {0};
    bool is_full = false;
    /*
     * Who comes first changes from group to group, so that a busy loop cannot keep the others
     * waiting.
     */
    unsigned first = journal->next_writer++ % journal->config.writers;
    for (unsigned i = 0; i < journal->config.writers && !is_full; i++) {
        unsigned index = (first + i) % journal->config.writers;
        struct journal_writer *writer = &journal->writers[index];
        while (!is_full && writer_has_unit(writer)) {
            is_full = !take_unit(journal, writer, &group);
        }
        if (writer->unit_is_split) {
            journal->next_writer = index; /* its rest comes next: see make_room */
        }
    }
    return group;
}

static void finish_group(struct journal *journal, int result) {
    for (unsigned i = 0; i < journal->config.writers; i++) {
        struct journal_writer *writer = &journal->writers[i];
        if (result != 0 && writer->group_from != writer->chunk_head) {
            /* The rest of a split unit shares the fate of its part. */
            writer->chunk_head = writer->unit_end;
            writer->unit_is_split = false;
        }
        writer_finish_group(writer, result);
    }
}

/* -- space ------------------------------------------------------------------------------------- */

static void lose_space(struct journal *journal) {
    if (!atomic_exchange_explicit(&journal->is_out_of_space, true, memory_order_release)) {
        log_event(LOG_ERROR, "journal: no space left; requests are refused until there is",
                  LOG_INT("segment", journal->segment_number));
    }
    journal->retry_at_us = os_mono_us() + SPACE_RETRY_US;
    if (journal->reserve_is_held) {
        journal->reserve_is_held = false;
        if (os_file_truncate(journal->reserve, 0) != 0) {
            log_event(LOG_WARN, "journal: the reserve could not be given back",
                      LOG_INT("bytes", 0));
        }
    }
}

/* Whether there is space; tries for it when its time has come. */
static bool try_space(struct journal *journal) {
    if (!atomic_load_explicit(&journal->is_out_of_space, memory_order_relaxed)) {
        return true;
    }
    if (os_mono_us() < journal->retry_at_us) {
        return false;
    }
    int r = 0;
    if (!journal->reserve_is_held && journal->config.reserve != JOURNAL_NO_RESERVE) {
        r = os_file_reserve(journal->reserve, journal->config.reserve);
        journal->reserve_is_held = r == 0;
    }
    if (r == 0) {
        r = seglog_ensure_space(journal->log, journal->plain_max);
        if (r == BH_E_IO) {
            disk_failed(r);
        }
    }
    if (r != 0) {
        lose_space(journal);
        return false;
    }
    atomic_store_explicit(&journal->is_out_of_space, false, memory_order_release);
    log_event(LOG_INFO, "journal: there is space again",
              LOG_INT("segment", journal->segment_number));
    return true;
}

/* -- commit ------------------------------------------------------------------------------------ */

static void add_stat(_Atomic uint64_t *stat, uint64_t n) {
    atomic_fetch_add_explicit(stat, n, memory_order_relaxed);
}

static void sync_log(struct journal *journal) {
    uint64_t start = os_mono_us();
    int r = seglog_sync(journal->log);
    if (r != 0) {
        disk_failed(r);
    }
    uint64_t us = os_mono_us() - start;
    add_stat(&journal->stat_sync_us_total, us);
    if (us > atomic_load_explicit(&journal->stat_sync_us_max, memory_order_relaxed)) {
        atomic_store_explicit(&journal->stat_sync_us_max, us, memory_order_relaxed);
    }
}

/* Bookkeeping of where the log has come to, for retention and the forecast. */
static void note_frame(struct journal *journal, const struct seglog_frame *frame) {
    if (frame->segment != journal->segment_number) {
        add_stat(&journal->closed_bytes,
                 atomic_load_explicit(&journal->open_bytes, memory_order_relaxed));
        add_stat(&journal->stat_segments, 1);
        journal->segment_number = frame->segment;
        journal->segment_started_us = 0;
    }
    if (journal->segment_started_us == 0) {
        journal->segment_started_us = frame->time_us;
    }
    journal->has_segment = true;
    atomic_store_explicit(&journal->open_bytes, frame->offset + frame->size, memory_order_relaxed);
}

/*
 * A unit of several frames is kept in one segment where it fits in one, so that space can end
 * before it or after it and not within.
 */
static int make_room(struct journal *journal, const struct group *group) {
    if (!try_space(journal)) {
        return BH_E_NOSPACE;
    }
    if (group->split_bytes == 0 || journal->segment_started_us == 0) {
        return 0;
    }
    /* A chunk that does not fit in a frame's rest leaves that empty. */
    uint64_t frames = group->split_bytes / (journal->plain_max - CHUNK_RAW_MAX) + 2;
    uint64_t need = frames * (uint64_t)journal->log_config.frame_max;
    uint64_t room = journal->config.segment_size - SEGLOG_HEADER_SIZE - SEGLOG_FOOTER_MAX;
    uint64_t used = atomic_load_explicit(&journal->open_bytes, memory_order_relaxed);
    if (need > room || used + need <= room) {
        return 0;
    }
    int r = seglog_rotate(journal->log);
    if (r == 0) {
        journal->segment_started_us = 0;
    }
    return r;
}

static void commit_group(struct journal *journal, const struct group *group) {
    /* The clock may be set back; the time of frames never goes back. */
    uint64_t now_us = os_wall_us();
    journal->last_time_us = now_us > journal->last_time_us ? now_us : journal->last_time_us;
    uint64_t first_seq = atomic_load_explicit(&journal->durable_seq, memory_order_relaxed) + 1;
    struct seglog_frame frame;
    int r = make_room(journal, group);
    if (r == 0) {
        r = seglog_append(journal->log, first_seq, group->events, (uint32_t)group->parts,
                          journal->last_time_us, journal->group_parts, group->parts, &frame);
    }
    if (r == BH_E_NOSPACE) {
        if (!atomic_load_explicit(&journal->is_out_of_space, memory_order_relaxed)) {
            lose_space(journal);
        }
        finish_group(journal, BH_E_NOSPACE);
        return;
    }
    if (r != 0) {
        disk_failed(r);
    }
    sync_log(journal);
    note_frame(journal, &frame);
    add_stat(&journal->stat_frames, 1);
    add_stat(&journal->stat_events, group->events);
    add_stat(&journal->stat_bytes, frame.size);
    add_stat(&journal->stat_raw, group->raw);
    atomic_store_explicit(&journal->durable_frame, frame.number, memory_order_release);
    atomic_store_explicit(&journal->durable_seq, first_seq + group->events - 1,
                          memory_order_release);
    finish_group(journal, 0);
    readers_wake(journal);
}

/*
 * Events live at most `keep`, and a segment lives as long as its youngest event: so none is written
 * to for longer than an eighth of it. The newest segment cannot be dropped, so a quiet journal gets
 * an empty one, also after a start that found the last one closed.
 */
static void rotate_by_age(struct journal *journal) {
    bool has_frames = journal->segment_started_us != 0;
    uint64_t since_us = has_frames ? journal->segment_started_us : journal->last_time_us;
    if (since_us == 0 || (!has_frames && journal->has_segment) ||
        os_wall_us() < since_us + journal->config.keep_us / 8) {
        return;
    }
    int r = has_frames ? seglog_rotate(journal->log) : seglog_ensure_space(journal->log, 1);
    if (r == BH_E_NOSPACE) {
        return; /* tried again with the next look */
    }
    if (r != 0) {
        disk_failed(r);
    }
    journal->segment_started_us = 0;
    journal->has_segment = true;
}

static void idle(struct journal *journal) {
    rotate_by_age(journal);
    (void)try_space(journal); /* for readiness: the state itself says it */
    (void)atomic_exchange(&journal->commit_sleeps, true);
    bool has_work = atomic_load_explicit(&journal->stopping, memory_order_acquire);
    for (unsigned i = 0; i < journal->config.writers && !has_work; i++) {
        has_work = writer_has_unit(&journal->writers[i]);
    }
    if (!has_work) {
        (void)os_wake_wait(journal->commit_wake_fd,
                           IDLE_MS); /* woken or not, the rings are looked at */
    }
    (void)atomic_exchange(&journal->commit_sleeps, false);
}

void commit_run(void *context) {
    struct journal *journal = (struct journal *)context;
    check(journal->log != NULL);
    for (;;) {
        bool is_last_round = atomic_load_explicit(&journal->stopping, memory_order_acquire);
        struct group group = gather(journal);
        if (group.parts != 0) {
            commit_group(journal, &group);
        } else if (is_last_round) {
            return;
        } else {
            idle(journal);
        }
    }
}
