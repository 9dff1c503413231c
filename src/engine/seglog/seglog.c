#include "engine/seglog/seglog.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/hash.h"
#include "engine/seglog/seglog_int.h"
#include "os/clock.h"
#include "os/thread.h"

/*
 * The writer, and what it does at start with what its predecessor left.
 *
 *   seglog_open: lock; finish a half-done drop; every header and footer in order (chain); the
 *   frames of a segment without a footer, then its footer. After that all segments are closed and
 *   the log is where its last footer says.
 *
 *   start_segment: next.seg reserved -> header written, synced -> renamed -> folder synced
 *   append:        header and ciphertext into the buffer, one write behind the last frame
 *   close_segment: footer behind the last frame, the rest cut off, synced
 *
 * A crash between any two steps leaves: a next.seg (removed), a segment without frames (removed, or
 * closed when it is the only one), frames without a footer (closed), a footer with the reserve
 * still behind it (cut off).
 */

#define LOG_MAGIC UINT32_C(0x4c474c53)

struct seglog {
    uint32_t magic;
    struct seglog_config config;
    char dir[SEGLOG_PATH_MAX];
    struct os_file lock;

    struct os_file file; /* the current segment; -1 = none */
    struct gcm *gcm;
    uint64_t number; /* of the current segment, or the last closed one */
    uint64_t at;     /* where the next frame goes */
    uint64_t reserved;
    uint64_t first_frame; /* of the current segment */
    uint64_t time_us_min;
    uint64_t time_us_max;

    uint64_t next_seq;
    uint64_t next_frame;
    uint8_t last_footer[SHA256_SIZE];

    uint8_t *buffer;     /* SEGLOG_FRAME_MAX of addresses, memory as far as it was used */
    uint64_t prepare_at; /* offset beyond which the next segment is prepared */
    uint64_t unsynced;   /* bytes of the frame that waits for its sync */
    bool prepared;
    bool failed;
};

/* After this nobody knows what is on the disk. */
static int fail(struct seglog *log) {
    log->failed = true;
    return BH_E_IO;
}

/* Only reserving space may go wrong and leave the log as it was. */
static int no_space_or_fail(struct seglog *log, int code) {
    return code == BH_E_NOSPACE ? code : fail(log);
}

static uint64_t reserve_step(const struct seglog *log, uint64_t needed) {
    uint64_t step = log->config.grow_step != 0 ? log->config.grow_step : log->config.segment_size;
    uint64_t size = (needed + step - 1) / step * step;
    return size < log->config.segment_size ? size : log->config.segment_size;
}

/* Makes next.seg with its space; nothing when it is there. */
static int prepare_next(struct seglog *log, uint64_t frame_size) {
    char path[SEGLOG_PATH_MAX];
    struct os_file file = OS_FILE_NONE;
    uint64_t needed = SEGLOG_HEADER_SIZE + frame_size + SEGLOG_FOOTER_MAX;
    if (log->prepared && log->config.grow_step == 0) {
        return 0;
    }
    seglog_path_named(log->dir, SEGLOG_NEXT_NAME, path);
    int code = os_file_open(path, OS_OPEN_WRITE | OS_OPEN_CREATE, &file);
    if (code != 0) {
        return code;
    }
    code = os_file_reserve(file, reserve_step(log, needed));
    os_file_close(&file);
    log->prepared = code == 0;
    return code;
}

static void forget_current(struct seglog *log) {
    os_file_close(&log->file);
    gcm_free(log->gcm);
    log->gcm = NULL;
}

/* Writes the header into next.seg with a new key; the key's context becomes the current one. */
static int write_header(struct seglog *log, struct os_file file) {
    uint8_t raw[SEGLOG_HEADER_SIZE];
    uint8_t key[KEY_SIZE];
    struct seglog_header header = {
        .kind = (uint16_t)log->config.kind,
        .instance = log->config.instance,
        .number = log->number + 1,
        .first_seq = log->next_seq,
        .first_frame = log->next_frame,
        .created_us = os_wall_us(),
    };
    memcpy(header.deployment, log->config.deployment, sizeof header.deployment);
    memcpy(header.previous_footer, log->last_footer, SHA256_SIZE);
    os_random(key, sizeof key);
    key_wrap(log->config.wrapping, key, header.wrapped_key);
    log->gcm = gcm_new(key);
    secret_wipe(key, sizeof key);
    if (log->gcm == NULL) {
        return BH_E_NOMEM;
    }
    seglog_header_encode(&header, raw);
    int code = os_file_write_at(file, 0, raw, sizeof raw);
    return code == 0 ? os_file_sync(file) : code;
}

static int start_segment(struct seglog *log, uint64_t frame_size) {
    char from[SEGLOG_PATH_MAX];
    char to[SEGLOG_PATH_MAX];
    struct os_file file = OS_FILE_NONE;
    check(log->file.fd < 0);
    int code = prepare_next(log, frame_size);
    if (code != 0) {
        return no_space_or_fail(log, code);
    }
    seglog_path_named(log->dir, SEGLOG_NEXT_NAME, from);
    seglog_path(log->dir, log->number + 1, to);
    code = os_file_open(from, OS_OPEN_WRITE, &file);
    if (code == 0) {
        code = os_file_size(file, &log->reserved);
    }
    if (code == 0) {
        code = write_header(log, file);
    }
    if (code == 0) {
        code = os_path_rename(from, to);
    }
    if (code == 0) {
        code = os_dir_sync(log->dir);
    }
    if (code != 0) {
        os_file_close(&file);
        gcm_free(log->gcm);
        log->gcm = NULL;
        return no_space_or_fail(log, code);
    }
    log->file = file;
    log->number++;
    log->at = SEGLOG_HEADER_SIZE;
    log->first_frame = log->next_frame;
    log->time_us_min = 0;
    log->time_us_max = 0;
    log->prepared = false;
    log->prepare_at = log->config.segment_size / 2;
    return 0;
}

/* A segment without frames says nothing that the footer before it does not; the only one is kept
 * for its numbers. */
static int remove_empty(struct seglog *log) {
    char path[SEGLOG_PATH_MAX];
    seglog_path(log->dir, log->number, path);
    int code = os_path_unlink(path);
    if (code == 0) {
        code = os_dir_sync(log->dir);
    }
    if (code == 0) {
        log->number--;
    }
    return code;
}

static int end_segment(struct seglog *log) {
    struct seglog_footer footer = {
        .first_frame = log->first_frame,
        .last_frame = log->next_frame - 1,
        .next_seq = log->next_seq,
        .time_us_min = log->time_us_min,
        .time_us_max = log->time_us_max,
    };
    int code = seglog_footer_write(&log->config, log->buffer, log->file, log->at, &footer);
    memcpy(log->last_footer, footer.hash, SHA256_SIZE);
    return code;
}

static int close_segment(struct seglog *log) {
    check(log->file.fd >= 0 && log->unsynced == 0);
    bool empty = log->next_frame == log->first_frame;
    struct seglog_span span = {0, 0, 0};
    int code = empty ? seglog_scan_dir(log->dir, &span) : 0;
    if (code == 0) {
        code = empty && span.count > 1 ? remove_empty(log) : end_segment(log);
    }
    forget_current(log);
    return code == 0 ? 0 : fail(log);
}

/* Space for a frame of this size and a footer in the current segment, or in a new one. */
static int make_room(struct seglog *log, uint64_t frame_size) {
    uint64_t needed = log->at + frame_size + SEGLOG_FOOTER_MAX;
    int code = 0;
    if (log->file.fd >= 0 && needed > log->config.segment_size) {
        /* The next one first: without space for it nothing is closed. */
        code = prepare_next(log, frame_size);
        if (code != 0) {
            return no_space_or_fail(log, code);
        }
        code = close_segment(log);
        if (code != 0) {
            return code;
        }
    }
    if (log->file.fd < 0) {
        return start_segment(log, frame_size);
    }
    if (needed > log->reserved) {
        uint64_t size = reserve_step(log, needed);
        code = os_file_reserve(log->file, size);
        if (code != 0) {
            return no_space_or_fail(log, code);
        }
        log->reserved = size;
    }
    return 0;
}

static uint32_t frame_size_of(size_t plain_size) {
    return seglog_frame_size((uint32_t)plain_size + GCM_TAG_SIZE);
}

/* Seals the frame into the buffer; its size on disk. */
static uint32_t seal(struct seglog *log, struct seglog_frame_header *header,
                     const struct span *parts, size_t part_count) {
    uint8_t *sealed = log->buffer + SEGLOG_FRAME_HEADER_SIZE;
    uint32_t size = seglog_frame_size(header->sealed_size);
    seglog_frame_encode(header, log->buffer);
    gcm_seal_parts(log->gcm, header->number, span_of(log->buffer, SEGLOG_FRAME_AAD_SIZE), parts,
                   part_count, sealed);
    memset(sealed + header->sealed_size, 0, size - SEGLOG_FRAME_HEADER_SIZE - header->sealed_size);
    seglog_frame_encode_crc(crc32c(sealed, header->sealed_size), log->buffer);
    return size;
}

int seglog_append(struct seglog *log, uint64_t first_seq, uint32_t events, uint32_t chunks,
                  uint64_t time_us, const struct span *parts, size_t part_count,
                  struct seglog_frame *ret_frame) {
    check(log->magic == LOG_MAGIC);
    if (log->failed) {
        return BH_E_IO;
    }
    check(log->unsynced == 0);
    check(first_seq >= log->next_seq && first_seq <= UINT64_MAX - events);
    size_t plain_size = 0;
    for (size_t i = 0; i < part_count; i++) {
        if (parts[i].n > SEGLOG_PLAIN_MAX - plain_size) {
            return BH_E_TOO_BIG;
        }
        plain_size += parts[i].n;
    }
    if (frame_size_of(plain_size) > log->config.frame_max) {
        return BH_E_TOO_BIG;
    }
    int code = make_room(log, frame_size_of(plain_size));
    if (code != 0) {
        return code;
    }
    struct seglog_frame_header header = {
        .sealed_size = (uint32_t)plain_size + GCM_TAG_SIZE,
        .number = log->next_frame,
        .first_seq = first_seq,
        .events = events,
        .chunks = chunks,
        .time_us = time_us,
    };
    uint32_t size = seal(log, &header, parts, part_count);
    if (os_file_write_at(log->file, log->at, log->buffer, size) != 0) {
        return fail(log);
    }
    *ret_frame = (struct seglog_frame){.number = header.number,
                                       .first_seq = first_seq,
                                       .events = events,
                                       .chunks = chunks,
                                       .time_us = time_us,
                                       .segment = log->number,
                                       .offset = log->at,
                                       .size = size,
                                       .plain = SPAN_NONE};
    if (log->next_frame == log->first_frame || time_us < log->time_us_min) {
        log->time_us_min = time_us;
    }
    log->time_us_max = time_us > log->time_us_max ? time_us : log->time_us_max;
    log->at += size;
    log->next_frame++;
    log->next_seq = first_seq + events;
    log->unsynced = size;
    return 0;
}

int seglog_sync(struct seglog *log) {
    check(log->magic == LOG_MAGIC);
    if (log->failed) {
        return BH_E_IO;
    }
    if (log->unsynced == 0) {
        return 0;
    }
    if (os_file_sync(log->file) != 0) {
        return fail(log);
    }
    log->unsynced = 0;
    if (log->config.prepare_next && !log->prepared && log->at >= log->prepare_at) {
        /* Without space now there may be some at the border; asked again after another
         * sixteenth. */
        if (prepare_next(log, 0) != 0) {
            log->prepare_at = log->at + log->config.segment_size / 16;
        }
    }
    return 0;
}

int seglog_ensure_space(struct seglog *log, size_t plain_size) {
    check(log->magic == LOG_MAGIC);
    if (log->failed) {
        return BH_E_IO;
    }
    check(log->unsynced == 0);
    if (plain_size > SEGLOG_PLAIN_MAX || frame_size_of(plain_size) > log->config.frame_max) {
        return BH_E_TOO_BIG;
    }
    return make_room(log, frame_size_of(plain_size));
}

int seglog_rotate(struct seglog *log) {
    check(log->magic == LOG_MAGIC);
    if (log->failed) {
        return BH_E_IO;
    }
    check(log->unsynced == 0);
    if (log->file.fd >= 0 && log->next_frame == log->first_frame) {
        return 0;
    }
    int code = prepare_next(log, 0);
    if (code != 0) {
        return no_space_or_fail(log, code);
    }
    code = log->file.fd >= 0 ? close_segment(log) : 0;
    return code == 0 ? start_segment(log, 0) : code;
}

uint64_t seglog_next_seq(const struct seglog *log) {
    return log->next_seq;
}

uint64_t seglog_next_frame(const struct seglog *log) {
    return log->next_frame;
}

uint64_t seglog_segment_number(const struct seglog *log) {
    return log->file.fd >= 0 ? log->number : log->number + 1;
}

static int check_config(const struct seglog_config *config, struct err *err) {
    uint64_t frame_max = config->frame_max != 0 ? config->frame_max : SEGLOG_FRAME_MAX;
    if (strlen(config->dir) > SEGLOG_DIR_MAX) {
        return err_set(err, BH_E_CONFIG, "the path of a log is longer than %d bytes",
                       SEGLOG_DIR_MAX);
    }
    if (config->segment_size < SEGLOG_SEGMENT_MIN || config->segment_size % 4096 != 0 ||
        frame_max > SEGLOG_FRAME_MAX || frame_max < 4096 ||
        config->segment_size < SEGLOG_HEADER_SIZE + frame_max + SEGLOG_FOOTER_MAX) {
        return err_set(err, BH_E_CONFIG,
                       "a segment of %llu bytes cannot hold a frame of %llu bytes",
                       (unsigned long long)config->segment_size, (unsigned long long)frame_max);
    }
    return 0;
}

/* Folder, lock and buffer. */
static int prepare_log(struct seglog *log, struct err *err) {
    char path[SEGLOG_PATH_MAX];
    int code = os_dir_make(log->dir);
    if (code != 0) {
        return err_set(err, code, "cannot make the folder %s", log->dir);
    }
    seglog_path_named(log->dir, "lock", path);
    code = os_file_open(path, OS_OPEN_WRITE | OS_OPEN_CREATE, &log->lock);
    if (code == 0) {
        code = os_file_lock(log->lock);
    }
    if (code != 0) {
        return err_set(err, code,
                       code == BH_E_BUSY ? "%s is in use by another process" : "cannot lock %s",
                       log->dir);
    }
    log->buffer = (uint8_t *)os_memory_map(SEGLOG_FRAME_MAX);
    return log->buffer != NULL ? 0 : err_set(err, BH_E_NOMEM, "no memory for the log %s", log->dir);
}

int seglog_open(const struct seglog_config *config, struct seglog_recovery *ret_recovery,
                struct seglog **ret_log, struct err *err) {
    struct seglog_state state;
    *ret_recovery = (struct seglog_recovery){.next_frame = 1};
    int code = check_config(config, err);
    if (code != 0) {
        return code;
    }
    struct seglog *log = (struct seglog *)calloc(1, sizeof *log);
    if (log == NULL) {
        return err_set(err, BH_E_NOMEM, "no memory for the log %s", config->dir);
    }
    log->magic = LOG_MAGIC;
    log->config = *config;
    log->config.frame_max = config->frame_max != 0 ? config->frame_max : SEGLOG_FRAME_MAX;
    log->config.dir = log->dir;
    log->lock = OS_FILE_NONE;
    log->file = OS_FILE_NONE;
    (void)snprintf(log->dir, sizeof log->dir, "%s", config->dir);
    code = prepare_log(log, err);
    if (code == 0) {
        code = seglog_recover(&log->config, log->buffer, ret_recovery, &state, err);
    }
    if (code != 0) {
        (void)seglog_close(log);
        return code;
    }
    /* Frames of a predecessor may have been larger than ours will be. */
    os_memory_release(log->buffer, SEGLOG_FRAME_MAX);
    log->number = state.number;
    log->next_seq = state.next_seq;
    log->next_frame = state.next_frame;
    memcpy(log->last_footer, state.last_footer, SHA256_SIZE);
    *ret_log = log;
    return 0;
}

int seglog_close(struct seglog *log) {
    int code = 0;
    if (log == NULL) {
        return 0;
    }
    check(log->magic == LOG_MAGIC);
    if (!log->failed) {
        code = seglog_sync(log);
    }
    if (code == 0 && !log->failed && log->file.fd >= 0) {
        code = close_segment(log);
    }
    forget_current(log);
    os_file_close(&log->lock);
    os_memory_unmap(log->buffer, SEGLOG_FRAME_MAX);
    log->magic = 0;
    free(log);
    return code;
}
