#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "engine/seglog/seglog_int.h"

/*
 * A reader stands in front of a frame (at, next_frame) of an open segment file, or in front of the
 * first frame of a segment that may not exist yet (file closed, `segment` = its number, 0 =
 * whatever is the oldest).
 *
 *   unplaced --open_segment--> in a segment --leave_segment--> before the next --open_segment-->
 *
 * What is not a frame and not a footer is judged by what may follow: see seglog_judge_tail.
 */

#define READER_MAGIC UINT32_C(0x52474c53)

struct seglog_reader {
    uint32_t magic;
    char dir[SEGLOG_PATH_MAX];
    enum seglog_kind kind;
    uint8_t deployment[16];
    const uint8_t *wrapping;

    struct seglog_file file; /* file.fd -1: none open */
    struct gcm *gcm;
    uint64_t segment; /* number of the segment that the reader stands in or in front of */
    uint64_t at;
    uint64_t next_frame; /* 0 = unknown: in front of the oldest segment */
    uint64_t next_seq;   /* no smaller seq may follow; 0 = unknown */
    bool chained;        /* previous_footer is known */
    uint8_t previous_footer[SHA256_SIZE];
    struct seglog_recovery report;
};

int seglog_reader_new(const struct seglog_config *config, struct seglog_reader **ret_reader,
                      struct err *err) {
    if (strlen(config->dir) > SEGLOG_DIR_MAX) {
        return err_set(err, BH_E_CONFIG, "the path of a log is longer than %d bytes",
                       SEGLOG_DIR_MAX);
    }
    struct seglog_reader *reader = (struct seglog_reader *)calloc(1, sizeof *reader);
    if (reader == NULL) {
        return err_set(err, BH_E_NOMEM, "no memory for a reader of %s", config->dir);
    }
    reader->magic = READER_MAGIC;
    (void)snprintf(reader->dir, sizeof reader->dir, "%s", config->dir);
    reader->kind = config->kind;
    memcpy(reader->deployment, config->deployment, sizeof reader->deployment);
    reader->wrapping = config->wrapping;
    reader->file.file = OS_FILE_NONE;
    *ret_reader = reader;
    return 0;
}

static void leave_file(struct seglog_reader *reader) {
    if (reader->file.file.fd >= 0) {
        seglog_file_close(&reader->file);
    }
    gcm_free(reader->gcm);
    reader->gcm = NULL;
}

void seglog_reader_free(struct seglog_reader *reader) {
    if (reader != NULL) {
        check(reader->magic == READER_MAGIC);
        leave_file(reader);
        reader->magic = 0;
        free(reader);
    }
}

void seglog_reader_report(const struct seglog_reader *reader, struct seglog_recovery *ret_report) {
    check(reader->magic == READER_MAGIC);
    *ret_report = reader->report;
    ret_report->next_seq = reader->next_seq;
    ret_report->next_frame = reader->next_frame;
}

/* In front of segment `number` (0: the oldest), knowing nothing of what was before. */
static void stand_before(struct seglog_reader *reader, uint64_t number) {
    leave_file(reader);
    reader->segment = number;
    reader->at = SEGLOG_HEADER_SIZE;
    reader->next_frame = 0;
    reader->next_seq = 0;
    reader->chained = false;
}

static int rot(struct seglog_reader *reader, int code, uint64_t offset, uint64_t seq_to) {
    reader->report.rot_segment = reader->segment;
    reader->report.rot_offset = offset;
    reader->report.rot_seq_from = reader->next_seq;
    reader->report.rot_seq_to = seq_to;
    return code;
}

static int open_key(struct seglog_reader *reader) {
    uint8_t key[KEY_SIZE];
    int code = key_unwrap(reader->wrapping, reader->file.header.wrapped_key, key);
    if (code == 0) {
        reader->gcm = gcm_new(key);
        code = reader->gcm != NULL ? 0 : BH_E_NOMEM;
    }
    secret_wipe(key, sizeof key);
    return code;
}

/* The header must continue what the reader has seen. */
static bool continues(const struct seglog_reader *reader) {
    const struct seglog_header *header = &reader->file.header;
    return (!reader->chained ||
            memcmp(header->previous_footer, reader->previous_footer, SHA256_SIZE) == 0) &&
           (reader->next_frame == 0 || header->first_frame == reader->next_frame) &&
           header->first_seq >= reader->next_seq;
}

/* Segments that can be read: one whose key is gone is being dropped, wherever that stands just now.
 * */
static int readable_span(const struct seglog_reader *reader, struct seglog_span *ret_span) {
    int code = seglog_scan_dir(reader->dir, ret_span);
    while (code == 0 && ret_span->count != 0) {
        struct seglog_file file;
        code = seglog_file_open(reader->dir, ret_span->first, SEGLOG_ANY_KIND, false, &file);
        if (code == 0) {
            seglog_file_close(&file);
        }
        if (code != BH_E_NOTFOUND) {
            return code == BH_E_IO ? code : 0; /* damage is judged when it is read */
        }
        ret_span->first++;
        ret_span->count--;
        code = 0;
    }
    return code;
}

/* The segment in front of which the reader stands is not there: it was dropped, is yet to come, or
 * was taken out. */
static int judge_absence(struct seglog_reader *reader) {
    struct seglog_span span;
    int code = readable_span(reader, &span);
    if (code != 0) {
        return code;
    }
    if (span.count == 0 || span.last < reader->segment) {
        return BH_E_AGAIN;
    }
    return span.first > reader->segment ? BH_E_NOTFOUND : rot(reader, BH_E_CORRUPT, 0, 0);
}

static int open_segment(struct seglog_reader *reader) {
    check(reader->file.file.fd < 0);
    if (reader->segment == 0) {
        struct seglog_span span;
        int code = readable_span(reader, &span);
        if (code != 0 || span.count == 0) {
            return code != 0 ? code : BH_E_AGAIN;
        }
        reader->segment = span.first;
    }
    struct seglog_file file;
    int code = seglog_file_open(reader->dir, reader->segment, (unsigned)reader->kind, false, &file);
    if (code == BH_E_NOTFOUND) {
        return judge_absence(reader);
    }
    if (code != 0) {
        return code == BH_E_CORRUPT ? rot(reader, code, 0, 0) : code;
    }
    reader->file = file;
    if (memcmp(file.header.deployment, reader->deployment, sizeof reader->deployment) != 0) {
        leave_file(reader);
        return BH_E_KEY;
    }
    if (!continues(reader)) {
        leave_file(reader);
        return rot(reader, BH_E_CORRUPT, 0, file.header.first_seq);
    }
    code = open_key(reader);
    if (code != 0) {
        leave_file(reader);
        return code == BH_E_TAMPERED ? rot(reader, code, SEGLOG_WRAPPED_KEY_AT, 0) : code;
    }
    reader->at = SEGLOG_HEADER_SIZE;
    reader->next_frame = file.header.first_frame;
    reader->next_seq = file.header.first_seq;
    return 0;
}

/* A footer at reader->at: in front of the next segment. */
static int leave_segment(struct seglog_reader *reader, const struct seglog_footer *footer) {
    if (footer->last_frame + 1 != reader->next_frame || (footer->next_seq < reader->next_seq)) {
        return rot(reader, BH_E_CORRUPT, reader->at, footer->next_seq);
    }
    memcpy(reader->previous_footer, footer->hash, SHA256_SIZE);
    reader->chained = true;
    reader->next_seq = footer->next_seq;
    leave_file(reader);
    reader->segment++;
    reader->at = SEGLOG_HEADER_SIZE;
    return 0;
}

/* Whether the segment was finished: it ends with a footer, or a later segment exists. */
static int segment_is_finished(struct seglog_reader *reader, bool *ret_finished,
                               uint64_t *ret_next_seq) {
    struct seglog_footer footer;
    struct seglog_span span;
    uint64_t at = 0;
    int code = seglog_file_footer(&reader->file, &footer, &at);
    if (code == 0) {
        *ret_finished = true;
        *ret_next_seq = footer.next_seq;
        return 0;
    }
    if (code != BH_E_NOTFOUND) {
        return code;
    }
    code = seglog_scan_dir(reader->dir, &span);
    if (code == 0) {
        *ret_finished = span.last > reader->segment;
        *ret_next_seq = 0;
    }
    return code;
}

/* Neither a good frame nor a footer at reader->at. */
static int judge_bad(struct seglog_reader *reader, uint64_t up_to) {
    struct seglog_tail tail;
    bool finished = false;
    uint64_t finished_seq = 0;
    int code = seglog_judge_tail(&reader->file, reader->at, reader->next_frame, &tail);
    if (code == 0) {
        code = segment_is_finished(reader, &finished, &finished_seq);
    }
    if (code != 0) {
        return code;
    }
    /* Below a finite up_to every frame was synced, so what is missing has rotted. */
    if (tail.rotten || finished || up_to != UINT64_MAX) {
        return rot(reader, BH_E_CORRUPT, reader->at, tail.rotten ? tail.next_seq : finished_seq);
    }
    reader->report.torn_bytes = tail.torn_bytes;
    return tail.torn_bytes == 0 ? BH_E_AGAIN : BH_E_TORN;
}

/* The next frame's header, through as many ends of segments as it takes. */
static int find_frame(struct seglog_reader *reader, uint64_t up_to,
                      struct seglog_frame_header *ret_header) {
    for (;;) {
        if (reader->next_frame > up_to) {
            return BH_E_AGAIN;
        }
        if (reader->file.file.fd < 0) {
            int code = open_segment(reader);
            if (code != 0) {
                return code;
            }
            continue;
        }
        bool found = false;
        int code = seglog_frame_at(&reader->file, reader->at, ret_header, &found);
        if (code != 0) {
            return code;
        }
        if (found) {
            bool expected = ret_header->number == reader->next_frame &&
                            ret_header->first_seq >= reader->next_seq &&
                            ret_header->first_seq <= UINT64_MAX - ret_header->events;
            return expected ? 0 : rot(reader, BH_E_CORRUPT, reader->at, ret_header->first_seq);
        }
        struct seglog_footer footer;
        code = seglog_footer_at(&reader->file, reader->at, &footer);
        if (code == BH_E_NOTFOUND || code == BH_E_TORN) {
            return judge_bad(reader, up_to);
        }
        if (code == 0) {
            code = leave_segment(reader, &footer);
        }
        if (code != 0) {
            return code;
        }
    }
}

static void describe(const struct seglog_reader *reader, const struct seglog_frame_header *header,
                     struct seglog_frame *ret_frame) {
    *ret_frame = (struct seglog_frame){
        .number = header->number,
        .first_seq = header->first_seq,
        .events = header->events,
        .chunks = header->chunks,
        .time_us = header->time_us,
        .segment = reader->segment,
        .offset = reader->at,
        .size = seglog_frame_size(header->sealed_size),
        .plain = SPAN_NONE,
    };
}

static void pass_frame(struct seglog_reader *reader, const struct seglog_frame *frame) {
    reader->at += frame->size;
    reader->next_frame = frame->number + 1;
    reader->next_seq = frame->first_seq + frame->events;
    reader->report.last_time_us = frame->time_us;
}

int seglog_read_next(struct seglog_reader *reader, uint64_t up_to, uint8_t *buffer, size_t cap,
                     struct seglog_frame *ret_frame) {
    struct seglog_frame_header header;
    struct seglog_frame frame;
    check(reader->magic == READER_MAGIC);
    int code = find_frame(reader, up_to, &header);
    if (code != 0) {
        return code;
    }
    describe(reader, &header, &frame);
    code = seglog_frame_load(&reader->file, reader->at, &header, reader->gcm, buffer, cap,
                             &frame.plain);
    if (code == BH_E_FULL) {
        *ret_frame = frame;
        return code;
    }
    if (code == BH_E_TORN) {
        return judge_bad(reader, up_to);
    }
    if (code != 0) {
        return code == BH_E_TAMPERED
                   ? rot(reader, code, reader->at, header.first_seq + header.events)
                   : code;
    }
    pass_frame(reader, &frame);
    *ret_frame = frame;
    return 0;
}

int seglog_skip_next(struct seglog_reader *reader, uint64_t up_to, struct seglog_frame *ret_frame) {
    struct seglog_frame_header header;
    struct seglog_frame frame;
    check(reader->magic == READER_MAGIC);
    int code = find_frame(reader, up_to, &header);
    if (code != 0) {
        return code;
    }
    describe(reader, &header, &frame);
    pass_frame(reader, &frame);
    *ret_frame = frame;
    return 0;
}

/* The newest segment that starts at or before seq; the oldest when all start later. */
static int find_segment(struct seglog_reader *reader, uint64_t seq, uint64_t *ret_number,
                        bool *ret_older) {
    struct seglog_span span;
    int code = readable_span(reader, &span);
    if (code != 0 || span.count == 0) {
        *ret_number = 0;
        *ret_older = false;
        return code;
    }
    uint64_t low = span.first;
    uint64_t high = span.last;
    bool older = false;
    while (low <= high) {
        uint64_t middle = high - (high - low) / 2;
        struct seglog_file file;
        code = seglog_file_open(reader->dir, middle, (unsigned)reader->kind, false, &file);
        if (code != 0) {
            reader->segment = middle;
            return code == BH_E_CORRUPT ? rot(reader, code, 0, 0) : code;
        }
        bool at_or_before = file.header.first_seq <= seq;
        seglog_file_close(&file);
        if (at_or_before && low == high) {
            break;
        }
        if (at_or_before) {
            low = middle;
        } else if (middle == span.first) {
            older = true;
            break;
        } else {
            high = middle - 1;
        }
    }
    *ret_number = low;
    *ret_older = older;
    return 0;
}

int seglog_reader_seek(struct seglog_reader *reader, uint64_t seq) {
    uint64_t number = 0;
    bool older = false;
    check(reader->magic == READER_MAGIC);
    stand_before(reader, 0);
    int code = find_segment(reader, seq, &number, &older);
    if (code != 0 || number == 0) {
        return code;
    }
    stand_before(reader, number);
    code = open_segment(reader);
    if (code != 0 || older) {
        return code != 0 ? code : BH_E_NOTFOUND;
    }
    for (;;) {
        struct seglog_frame_header header;
        struct seglog_frame frame;
        bool found = false;
        code = seglog_frame_at(&reader->file, reader->at, &header, &found);
        /* Whatever else stands here is judged when it is read: only then is it known what was
         * synced. */
        if (code != 0 || !found || header.number != reader->next_frame ||
            header.first_seq < reader->next_seq || header.first_seq > UINT64_MAX - header.events ||
            header.first_seq + header.events > seq) {
            return code;
        }
        describe(reader, &header, &frame);
        pass_frame(reader, &frame);
    }
}

int seglog_reader_seek_frame(struct seglog_reader *reader, uint64_t segment, uint64_t offset,
                             uint64_t number) {
    check(reader->magic == READER_MAGIC);
    check(segment != 0 && number != 0);
    stand_before(reader, segment);
    int code = open_segment(reader);
    if (code != 0) {
        return code == BH_E_AGAIN ? BH_E_NOTFOUND : code;
    }
    if (offset < SEGLOG_HEADER_SIZE || number < reader->next_frame) {
        stand_before(reader, segment);
        return BH_E_NOTFOUND;
    }
    reader->at = offset;
    reader->next_frame = number;
    return 0;
}
