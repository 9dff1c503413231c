#include "base/check.h"
#include "engine/seglog/seglog_int.h"

/*
 * Recovery: from whatever a crash left to a log in which every segment is closed.
 *
 *   1  a drop that was begun is finished: the oldest file's key is gone, so is the file
 *   2  numbers without a hole; each header continues the footer before it (frame, seq, hash)
 *   3  every segment but the newest ends with its footer
 *   4  the newest, when it has no footer: its frames are read one by one and opened; behind the
 *      last good one
 *        nothing, or an unfinished write  -> footer there, the rest cut off
 *        a later frame or footer          -> CORRUPT: synced bytes have rotted
 */

struct recovery {
    const struct seglog_config *config;
    uint8_t *buffer;
    struct seglog_recovery *report;
    struct seglog_state state;
    struct err *err;
    bool chained; /* the segment before was seen */
};

static int bad_segment(struct recovery *r, int code, uint64_t number, uint64_t offset,
                       const char *what) {
    r->report->rot_segment = number;
    r->report->rot_offset = offset;
    if (r->report->rot_seq_from == 0) {
        r->report->rot_seq_from = r->state.next_seq;
    }
    return err_set(
        r->err, code,
        "%s/%010llu.seg, offset %llu: %s; events from %llu to %llu are affected (0 = unknown)",
        r->config->dir, (unsigned long long)number, (unsigned long long)offset, what,
        (unsigned long long)r->report->rot_seq_from, (unsigned long long)r->report->rot_seq_to);
}

static int broken(struct recovery *r, int code, const char *what) {
    return err_set(r->err, code, "%s: %s: %s", r->config->dir, what, bh_error_text(code));
}

static int remove_segment(const char *dir, uint64_t number) {
    char path[SEGLOG_PATH_MAX];
    seglog_path(dir, number, path);
    int code = os_path_unlink(path);
    return code == 0 ? os_dir_sync(dir) : code;
}

/* Step 1. */
static int finish_drop(struct recovery *r, struct seglog_span *span) {
    while (span->count > 1) {
        struct seglog_file file;
        int code =
            seglog_file_open(r->config->dir, span->first, (unsigned)r->config->kind, false, &file);
        if (code == 0) {
            seglog_file_close(&file);
            return 0;
        }
        if (code != BH_E_NOTFOUND) {
            return 0; /* judged in step 2 */
        }
        code = remove_segment(r->config->dir, span->first);
        if (code != 0) {
            return broken(r, code, "cannot finish destroying the oldest segment");
        }
        code = seglog_scan_dir(r->config->dir, span);
        if (code != 0) {
            return broken(r, code, "cannot list the folder");
        }
    }
    return 0;
}

/* Step 2 for one segment; the file stays open on success. */
static int open_next(struct recovery *r, uint64_t number, struct seglog_file *ret_file) {
    int code = seglog_file_open(r->config->dir, number, (unsigned)r->config->kind, true, ret_file);
    if (code == BH_E_NOTFOUND) {
        return bad_segment(r, BH_E_CORRUPT, number, 0,
                           "the file is missing or its key was destroyed");
    }
    if (code == BH_E_VERSION) {
        return err_set(r->err, code, "%s/%010llu.seg was written by a newer version",
                       r->config->dir, (unsigned long long)number);
    }
    if (code != 0) {
        return code == BH_E_CORRUPT ? bad_segment(r, code, number, 0, "the header is damaged")
                                    : broken(r, code, "cannot read a segment");
    }
    const struct seglog_header *header = &ret_file->header;
    if (memcmp(header->deployment, r->config->deployment, sizeof header->deployment) != 0 ||
        header->instance != r->config->instance) {
        code = err_set(r->err, BH_E_KEY, "%s/%010llu.seg belongs to another deployment or instance",
                       r->config->dir, (unsigned long long)number);
    } else if (r->chained &&
               (header->first_frame != r->state.next_frame ||
                header->first_seq < r->state.next_seq ||
                memcmp(header->previous_footer, r->state.last_footer, SHA256_SIZE) != 0)) {
        r->report->rot_seq_to = header->first_seq;
        code = bad_segment(r, BH_E_CORRUPT, number, 0,
                           "the segment does not continue the one before it");
    }
    if (code == 0) {
        uint8_t key[KEY_SIZE];
        code = key_unwrap(r->config->wrapping, header->wrapped_key, key);
        secret_wipe(key, sizeof key);
        if (code != 0) {
            code = bad_segment(r, code, number, SEGLOG_WRAPPED_KEY_AT,
                               "the key does not open this segment");
        }
    }
    if (code != 0) {
        seglog_file_close(ret_file);
        return code;
    }
    r->state.next_frame = header->first_frame;
    r->state.next_seq = header->first_seq;
    if (!r->chained) {
        r->report->first_seq = header->first_seq;
    }
    return 0;
}

static void take_footer(struct recovery *r, uint64_t number, const struct seglog_footer *footer) {
    r->state.number = number;
    r->state.next_seq = footer->next_seq;
    r->state.next_frame = footer->last_frame + 1;
    memcpy(r->state.last_footer, footer->hash, SHA256_SIZE);
    r->report->last_time_us = footer->time_us_max > r->report->last_time_us
                                  ? footer->time_us_max
                                  : r->report->last_time_us;
    r->report->segments++;
    r->chained = true;
}

/* Step 3. NOTFOUND: no footer, and this is the newest. */
static int closed_segment(struct recovery *r, const struct seglog_file *file, bool newest) {
    struct seglog_footer footer;
    uint64_t offset = 0;
    int code = seglog_file_footer(file, &footer, &offset);
    if (code == BH_E_NOTFOUND) {
        return newest ? code
                      : bad_segment(r, BH_E_CORRUPT, file->number, 0,
                                    "a closed segment has lost its footer");
    }
    if (code != 0) {
        return broken(r, code, "cannot read a footer");
    }
    if (footer.first_frame != file->header.first_frame ||
        footer.last_frame + 1 < footer.first_frame || footer.next_seq < file->header.first_seq) {
        return bad_segment(r, BH_E_CORRUPT, file->number, offset,
                           "the footer contradicts the header");
    }
    take_footer(r, file->number, &footer);
    return 0;
}

/* All good frames of the open segment; *ret_end = behind the last one. AGAIN or TORN when they
 * ended well. */
static int read_frames(struct recovery *r, uint64_t number, struct seglog_footer *footer,
                       uint64_t *ret_end) {
    struct seglog_reader *reader = NULL;
    struct seglog_recovery found = {0};
    struct seglog_frame frame;
    int code = seglog_reader_new(r->config, &reader, r->err);
    if (code != 0) {
        return code;
    }
    code = seglog_reader_seek_frame(reader, number, SEGLOG_HEADER_SIZE, footer->first_frame);
    while (code == 0) {
        code = seglog_read_next(reader, UINT64_MAX, r->buffer, SEGLOG_FRAME_MAX, &frame);
        if (code == 0) {
            bool first = frame.number == footer->first_frame;
            footer->time_us_min =
                first || frame.time_us < footer->time_us_min ? frame.time_us : footer->time_us_min;
            footer->time_us_max =
                frame.time_us > footer->time_us_max ? frame.time_us : footer->time_us_max;
            footer->last_frame = frame.number;
            footer->next_seq = frame.first_seq + frame.events;
            *ret_end = frame.offset + frame.size;
            if (r->config->on_recovered != NULL) {
                r->config->on_recovered(r->config->context, &frame);
            }
        }
    }
    seglog_reader_report(reader, &found);
    seglog_reader_free(reader);
    r->report->torn_bytes = found.torn_bytes;
    if (code == BH_E_CORRUPT || code == BH_E_TAMPERED) {
        r->report->rot_seq_from = found.rot_seq_from;
        r->report->rot_seq_to = found.rot_seq_to;
        return bad_segment(r, code, number, found.rot_offset,
                           code == BH_E_CORRUPT ? "synced bytes have rotted"
                                                : "sealed bytes were changed, or the key is wrong");
    }
    return code == BH_E_IO || code == BH_E_NOMEM ? broken(r, code, "cannot read a segment") : code;
}

/* Step 4. */
static int open_segment_left(struct recovery *r, const struct seglog_file *file, bool only) {
    struct seglog_footer footer = {.first_frame = file->header.first_frame,
                                   .last_frame = file->header.first_frame - 1,
                                   .next_seq = file->header.first_seq};
    struct seglog_footer present;
    uint64_t end = SEGLOG_HEADER_SIZE;
    r->report->was_open = true;
    int code = read_frames(r, file->number, &footer, &end);
    if (code != BH_E_AGAIN && code != BH_E_TORN) {
        check(code != 0);
        return code;
    }
    if (footer.last_frame + 1 == footer.first_frame && !only) {
        code = remove_segment(r->config->dir, file->number);
        return code == 0 ? 0 : broken(r, code, "cannot remove a segment without frames");
    }
    /* Written, but the reserve behind it not yet cut off. */
    if (seglog_footer_at(file, end, &present) == 0) {
        if (r->config->footer_blob != NULL) {
            (void)r->config->footer_blob(r->config->context, r->buffer, SEGLOG_BLOB_MAX);
        }
        r->report->torn_bytes = 0;
        code = os_file_truncate(file->file, end + present.size);
        code = code == 0 ? os_file_sync(file->file) : code;
        footer = present;
    } else {
        code = seglog_footer_write(r->config, r->buffer, file->file, end, &footer);
    }
    if (code != 0) {
        return broken(r, code, "cannot close the segment that was open");
    }
    take_footer(r, file->number, &footer);
    return 0;
}

static int recover_all(struct recovery *r, const struct seglog_span *span) {
    for (uint64_t number = span->first; number <= span->last; number++) {
        struct seglog_file file;
        int code = open_next(r, number, &file);
        if (code != 0) {
            return code;
        }
        bool newest = number == span->last;
        code = closed_segment(r, &file, newest);
        if (code == BH_E_NOTFOUND && newest) {
            code = open_segment_left(r, &file, span->first == span->last);
        }
        seglog_file_close(&file);
        if (code != 0) {
            return code;
        }
    }
    return 0;
}

/* NOLINTNEXTLINE(readability-non-const-parameter): frames are read into the buffer. */
int seglog_recover(const struct seglog_config *config, uint8_t *buffer,
                   struct seglog_recovery *report, struct seglog_state *ret_state,
                   struct err *err) {
    struct recovery r = {.config = config, .buffer = buffer, .report = report, .err = err};
    struct seglog_span span;
    char next[SEGLOG_PATH_MAX];
    r.state.next_frame = 1;
    seglog_path_named(config->dir, SEGLOG_NEXT_NAME, next);
    int code = os_path_unlink(next);
    if (code != 0 && code != BH_E_NOTFOUND) {
        return broken(&r, code, "cannot remove a prepared segment");
    }
    code = seglog_scan_dir(config->dir, &span);
    if (code != 0) {
        return broken(&r, code, "cannot list the folder");
    }
    code = finish_drop(&r, &span);
    if (code == 0 && span.count != 0) {
        code = recover_all(&r, &span);
    }
    report->first_segment = span.first;
    report->last_segment = r.state.number;
    report->next_seq = r.state.next_seq;
    report->next_frame = r.state.next_frame;
    if (code == 0) {
        *ret_state = r.state;
    }
    return code;
}
