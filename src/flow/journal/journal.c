/*
 * Life of the journal: opening with recovery, the commit thread's start and end, and what anyone
 * may ask.
 */
#include "flow/journal/journal.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "flow/journal/journal_int.h"
#include "os/clock.h"
#include "os/file.h"
#include "os/log.h"
#include "os/socket.h"

#define MIB ((uint64_t)1024 * 1024)

enum {
    CHUNK_POOL_DEFAULT = 16 * 1024 * 1024,
    CHUNK_POOL_MIN = 4 * 1024 * 1024,
    MAX_PERCENT_DEFAULT = 60,
    /* A journal of fewer segments would have to give up much at once. */
    SEGMENTS_MIN = 8,
};

/*
 * -- opening
 * --------------------------------------------------------------------------------------------
 */

static int fill_config(struct journal *journal, const struct journal_config *config,
                       struct err *err) {
    journal->config = *config;
    int n = snprintf(journal->dir, sizeof(journal->dir), "%s", config->dir);
    if (n < 0 || (size_t)n >= sizeof(journal->dir)) {
        return err_set(err, BH_E_TOO_BIG, "the journal's folder name is too long");
    }
    (void)snprintf(journal->reserve_path, sizeof(journal->reserve_path), "%s/reserve",
                   journal->dir);
    journal->config.dir = journal->dir;
    journal->max_bytes = config->max_bytes;
    if (journal->config.chunk_pool == 0) {
        journal->config.chunk_pool = CHUNK_POOL_DEFAULT;
    }
    if (journal->config.reserve == 0) {
        journal->config.reserve = JOURNAL_RESERVE_DEFAULT;
    }
    if (journal->config.segment_size == 0) {
        journal->config.segment_size = 128 * MIB;
    }
    if (journal->config.chunk_pool < CHUNK_POOL_MIN) {
        return err_set(err, BH_E_CONFIG, "a chunk pool needs %d bytes at least", CHUNK_POOL_MIN);
    }
    return 0;
}

static void fill_log_config(struct journal *journal) {
    struct seglog_config *log = &journal->log_config;
    log->dir = journal->dir;
    log->kind = SEGLOG_JOURNAL;
    memcpy(log->deployment, keyring_deployment(journal->config.keyring), sizeof(log->deployment));
    log->instance = keyring_instance(journal->config.keyring);
    log->wrapping = journal->wrapping;
    log->segment_size = journal->config.segment_size;
    log->prepare_next = true;
    log->footer_blob = commit_footer_blob;
    log->on_recovered = commit_on_recovered;
    log->context = journal;
}

/* The maximum, and a segment size that leaves at least SEGMENTS_MIN of them below it. */
static int choose_sizes(struct journal *journal, struct err *err) {
    if (journal->max_bytes == 0) {
        uint64_t free_bytes = 0;
        uint64_t total = 0;
        int r = os_path_space(journal->dir, &free_bytes, &total);
        if (r != 0) {
            return err_set(err, r, "%s: the size of its disk cannot be read", journal->dir);
        }
        journal->max_bytes = total / 100 * MAX_PERCENT_DEFAULT;
    }
    uint64_t size_max = (journal->max_bytes / SEGMENTS_MIN) & ~(uint64_t)4095;
    if (size_max < JOURNAL_SEGMENT_MIN || journal->config.segment_size < JOURNAL_SEGMENT_MIN) {
        return err_set(err, BH_E_CONFIG,
                       "journal: segments need %llu bytes, the maximum %u times that",
                       (unsigned long long)JOURNAL_SEGMENT_MIN, SEGMENTS_MIN);
    }
    if (journal->config.segment_size > size_max) {
        journal->config.segment_size = size_max;
    }
    uint64_t room = journal->config.segment_size - SEGLOG_HEADER_SIZE - SEGLOG_FOOTER_MAX;
    uint64_t frame_max = room < SEGLOG_FRAME_MAX ? room & ~(uint64_t)7 : SEGLOG_FRAME_MAX;
    journal->log_config.frame_max = (uint32_t)frame_max;
    journal->plain_max = (size_t)frame_max - SEGLOG_FRAME_HEADER_SIZE - GCM_TAG_SIZE - CHUNK_ALIGN;
    return 0;
}

static int note_segment(void *context, const struct seglog_segment *segment) {
    struct journal *journal = (struct journal *)context;
    if (segment->closed) {
        atomic_fetch_add_explicit(&journal->closed_bytes, segment->bytes, memory_order_relaxed);
    }
    atomic_fetch_add_explicit(&journal->stat_segments, 1, memory_order_relaxed);
    return 0;
}

static void publish_recovered(struct journal *journal, const struct seglog_recovery *found) {
    uint64_t next_seq = found->next_seq != 0 ? found->next_seq : 1;
    uint64_t first_seq = found->next_seq != 0 ? found->first_seq : 1;
    journal->last_time_us = found->last_time_us;
    atomic_store(&journal->forecast_s, UINT64_MAX);
    atomic_store(&journal->first_seq, first_seq);
    atomic_store(&journal->durable_frame, found->next_frame - 1);
    atomic_store(&journal->durable_seq, next_seq - 1);
}

static void name_rot(const struct journal *journal, const struct seglog_recovery *found, int code,
                     struct err *err) {
    if (found->rot_segment != 0) {
        (void)err_set(
            err, code, "%s: segment %llu, offset %llu: %s; events %llu to before %llu are lost",
            journal->dir, (unsigned long long)found->rot_segment,
            (unsigned long long)found->rot_offset, bh_error_text(code),
            (unsigned long long)found->rot_seq_from, (unsigned long long)found->rot_seq_to);
    }
}

static int open_for_writing(struct journal *journal, struct seglog_recovery *found,
                            struct err *err) {
    int r = os_dir_make(journal->dir);
    if (r != 0) {
        return err_set(err, r, "%s: the folder cannot be made", journal->dir);
    }
    r = choose_sizes(journal, err);
    if (r != 0) {
        return r;
    }
    journal->source_events = (uint64_t *)os_memory_map(sizeof(uint64_t) * SOURCE_NUMBERS);
    journal->group_parts = (struct span *)os_memory_map(sizeof(struct span) * GROUP_CHUNKS_MAX);
    journal->recover_raw = (uint8_t *)os_memory_map(CHUNK_RAW_MAX);
    if (journal->source_events == NULL || journal->group_parts == NULL ||
        journal->recover_raw == NULL) {
        return err_set(err, BH_E_NOMEM, "journal: no memory");
    }
    fill_log_config(journal);
    r = seglog_open(&journal->log_config, found, &journal->log, err);
    os_memory_unmap(journal->recover_raw, CHUNK_RAW_MAX);
    journal->recover_raw = NULL;
    if (r != 0) {
        name_rot(journal, found, r, err);
        return r;
    }
    journal->segment_number = seglog_segment_number(journal->log);
    return 0;
}

/* A disk that is full at start is a state like any other: serving goes on, requests are refused. */
static int open_reserve(struct journal *journal, struct err *err) {
    int r = os_file_open(journal->reserve_path, OS_OPEN_WRITE | OS_OPEN_CREATE, &journal->reserve);
    if (r == BH_E_NOSPACE || journal->config.reserve == JOURNAL_NO_RESERVE) {
        journal->config.reserve = JOURNAL_NO_RESERVE;
        return 0;
    }
    if (r != 0) {
        return err_set(err, r, "%s cannot be opened", journal->reserve_path);
    }
    r = os_file_reserve(journal->reserve, journal->config.reserve);
    journal->reserve_is_held = r == 0;
    if (r == BH_E_NOSPACE) {
        atomic_store(&journal->is_out_of_space, true);
        return 0;
    }
    return r == 0 ? 0 : err_set(err, r, "%s cannot be reserved", journal->reserve_path);
}

static int open_writers(struct journal *journal, struct err *err) {
    if (journal->config.writers == 0 || journal->config.writers > LIMIT_LOOPS) {
        return err_set(err, BH_E_CONFIG, "the journal needs 1 to %d writers", LIMIT_LOOPS);
    }
    int r = os_wake_open(&journal->commit_wake_fd);
    if (r != 0) {
        return err_set(err, r, "journal: no wake-up");
    }
    journal->writers = (struct journal_writer *)os_memory_map(sizeof(struct journal_writer) *
                                                              journal->config.writers);
    if (journal->writers == NULL) {
        return err_set(err, BH_E_NOMEM, "journal: no memory for writers");
    }
    for (unsigned i = 0; i < journal->config.writers; i++) {
        journal->writers[i].wake_fd = -1;
    }
    for (unsigned i = 0; i < journal->config.writers; i++) {
        r = writer_init(&journal->writers[i], journal, journal->config.chunk_pool);
        if (r != 0) {
            return err_set(err, r, "journal: no memory for a writer's chunk pool");
        }
    }
    return 0;
}

struct ends {
    struct seglog_segment first, last;
    bool has_any;
};

static int note_end(void *context, const struct seglog_segment *segment) {
    struct ends *ends = (struct ends *)context;
    ends->first = ends->has_any ? ends->first : *segment;
    ends->last = *segment;
    ends->has_any = true;
    return 0;
}

/* Opens the frame that was skipped last: a torn one at the end is not there. */
static int open_last(struct seglog_reader *reader, const struct seglog_frame *last) {
    uint8_t *memory = (uint8_t *)os_memory_map(SEGLOG_FRAME_MAX);
    if (memory == NULL) {
        return BH_E_NOMEM;
    }
    struct seglog_frame frame;
    int r = seglog_reader_seek_frame(reader, last->segment, last->offset, last->number);
    if (r == 0) {
        r = seglog_read_next(reader, UINT64_MAX, memory, SEGLOG_FRAME_MAX, &frame);
    }
    os_memory_unmap(memory, SEGLOG_FRAME_MAX);
    return r;
}

/* Walks the frame headers of the last segment, which has no footer, and opens the last frame. */
static int walk_last(struct seglog_reader *reader, const struct seglog_segment *segment,
                     struct seglog_recovery *found) {
    struct seglog_frame frame;
    struct seglog_frame last = {0};
    int r = seglog_reader_seek(reader, segment->first_seq);
    while (r == 0) {
        r = seglog_skip_next(reader, UINT64_MAX, &frame);
        last = r == 0 ? frame : last;
    }
    if ((r == BH_E_AGAIN || r == BH_E_TORN) && last.number != 0) {
        r = open_last(reader, &last);
        found->next_seq = r == 0 ? last.first_seq + last.events : last.first_seq;
        found->last_time_us = last.time_us;
    }
    return r == BH_E_AGAIN || r == BH_E_TORN ? 0 : r;
}

static int find_end_of(struct journal *journal, const struct seglog_segment *segment,
                       struct seglog_recovery *found, struct err *err) {
    struct seglog_reader *reader = NULL;
    int r = seglog_reader_new(&journal->log_config, &reader, err);
    if (r != 0) {
        return r;
    }
    r = walk_last(reader, segment, found);
    if (r != 0) {
        seglog_reader_report(reader, found);
        (void)err_set(err, r, "%s: %s", journal->dir, bh_error_text(r));
        name_rot(journal, found, r, err);
    }
    seglog_reader_free(reader);
    return r;
}

/* Without a writer the end is found by reading: a closed segment says it. */
static int find_end(struct journal *journal, struct seglog_recovery *found, struct err *err) {
    fill_log_config(journal);
    found->next_frame = 1;
    struct ends ends = {0};
    int r = seglog_list(journal->dir, SEGLOG_JOURNAL, note_end, &ends);
    if (r == BH_E_NOTFOUND || (r == 0 && !ends.has_any)) {
        return 0;
    }
    if (r != 0) {
        return err_set(err, r, "%s: its segments cannot be listed", journal->dir);
    }
    found->first_seq = ends.first.first_seq;
    found->next_seq = ends.last.closed ? ends.last.next_seq : ends.last.first_seq;
    found->last_time_us = ends.last.time_us_max;
    return ends.last.closed ? 0 : find_end_of(journal, &ends.last, found, err);
}

static int open_parts(struct journal *journal, const struct journal_config *config,
                      struct seglog_recovery *found, struct err *err) {
    int r = fill_config(journal, config, err);
    if (r != 0) {
        return r;
    }
    journal->wrapping = (uint8_t *)secret_new(KEY_SIZE);
    if (journal->wrapping == NULL) {
        return err_set(err, BH_E_NOMEM, "journal: no guarded memory for its key");
    }
    keyring_derive(config->keyring, "bulkhead/journal", journal->wrapping);
    r = cache_init(&journal->cache);
    if (r != 0) {
        return err_set(err, r, "journal: no memory for its cache");
    }
    r = config->read_only ? find_end(journal, found, err) : open_for_writing(journal, found, err);
    if (r == 0 && !config->read_only) {
        r = open_reserve(journal, err);
    }
    if (r == 0 && !config->read_only) {
        r = open_writers(journal, err);
    }
    return r;
}

int journal_open(const struct journal_config *config, struct journal **ret_journal,
                 struct journal_recovery *ret_recovery, struct err *err) {
    struct journal *journal = (struct journal *)os_memory_map(sizeof(*journal));
    if (journal == NULL) {
        return err_set(err, BH_E_NOMEM, "journal: no memory");
    }
    os_lock_init(&journal->lock, OS_LOCK_JOURNAL);
    journal->commit_wake_fd = -1;
    journal->reserve = OS_FILE_NONE;
    struct seglog_recovery found = {0};
    int r = open_parts(journal, config, &found, err);
    if (r == 0) {
        publish_recovered(journal, &found);
        r = seglog_list(journal->dir, SEGLOG_JOURNAL, note_segment, journal);
        r = r == BH_E_NOTFOUND && config->read_only ? 0 : r;
        if (r != 0) {
            (void)err_set(err, r, "%s: its segments cannot be listed", journal->dir);
        }
    }
    if (r != 0) {
        journal_free(journal);
        return r;
    }
    if (ret_recovery != NULL) {
        ret_recovery->segments = atomic_load(&journal->stat_segments);
        ret_recovery->next_seq = atomic_load(&journal->durable_seq) + 1;
        ret_recovery->torn_bytes = found.torn_bytes;
    }
    *ret_journal = journal;
    return 0;
}

int journal_start(struct journal *journal) {
    check(journal->log != NULL);
    atomic_store(&journal->stopping, false);
    return os_thread_start(&journal->thread, "commit", 0, commit_run, journal);
}

void journal_stop(struct journal *journal) {
    if (journal->thread._started) {
        atomic_store_explicit(&journal->stopping, true, memory_order_release);
        os_wake_signal(journal->commit_wake_fd);
        os_thread_join(&journal->thread);
    }
    if (journal->log != NULL) {
        int r = seglog_close(journal->log);
        journal->log = NULL;
        if (r != 0) {
            /* All that was acknowledged is durable; the next start closes the segment. */
            log_event(LOG_WARN, "journal: the last segment was not closed", LOG_INT("code", r));
        }
    }
}

void journal_free(struct journal *journal) {
    if (journal == NULL) {
        return;
    }
    journal_stop(journal);
    check(journal->readers == NULL);
    if (journal->writers != NULL) {
        for (unsigned i = 0; i < journal->config.writers; i++) {
            writer_fini(&journal->writers[i]);
        }
        os_memory_unmap(journal->writers, sizeof(struct journal_writer) * journal->config.writers);
    }
    if (journal->commit_wake_fd >= 0) {
        os_close(journal->commit_wake_fd);
    }
    if (journal->source_events != NULL) {
        os_memory_unmap(journal->source_events, sizeof(uint64_t) * SOURCE_NUMBERS);
    }
    if (journal->group_parts != NULL) {
        os_memory_unmap(journal->group_parts, sizeof(struct span) * GROUP_CHUNKS_MAX);
    }
    os_file_close(&journal->reserve);
    cache_fini(&journal->cache);
    secret_free(journal->wrapping);
    os_lock_fini(&journal->lock);
    os_memory_unmap(journal, sizeof(*journal));
}

/*
 * -- questions
 * --------------------------------------------------------------------------------------------
 */

struct journal_writer *journal_writer_of(struct journal *journal, unsigned index) {
    check(index < journal->config.writers && journal->writers != NULL);
    return &journal->writers[index];
}

uint64_t journal_durable_seq(const struct journal *journal) {
    return atomic_load_explicit(&journal->durable_seq, memory_order_acquire);
}

uint64_t journal_first_seq(const struct journal *journal) {
    return atomic_load_explicit(&journal->first_seq, memory_order_acquire);
}

bool journal_is_out_of_space(const struct journal *journal) {
    return atomic_load_explicit(&journal->is_out_of_space, memory_order_acquire);
}

static uint64_t stat_of(const _Atomic uint64_t *stat) {
    return atomic_load_explicit(stat, memory_order_relaxed);
}

void journal_stats(const struct journal *journal, struct journal_stats *ret_stats) {
    ret_stats->events = stat_of(&journal->stat_events);
    ret_stats->requests = stat_of(&journal->stat_requests);
    ret_stats->frames = stat_of(&journal->stat_frames);
    ret_stats->bytes_written = stat_of(&journal->stat_bytes);
    ret_stats->raw_bytes = stat_of(&journal->stat_raw);
    ret_stats->sync_us_total = stat_of(&journal->stat_sync_us_total);
    ret_stats->sync_us_max = stat_of(&journal->stat_sync_us_max);
    ret_stats->segments = stat_of(&journal->stat_segments);
    ret_stats->bytes_on_disk = stat_of(&journal->closed_bytes) + stat_of(&journal->open_bytes);
}
