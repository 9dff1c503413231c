/* Segment files: what is appended is read back; what is damaged is found. */
/* depends: seglog crypto os base */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "crypto/crypto.h"
#include "engine/seglog/seglog.h"
#include "os/file.h"
#include "os/thread.h"

enum { ROOM = 64 * 1024, FRAME_LIMIT = 32 * 1024 };

static char folder[128];
static uint8_t wrapping[KEY_SIZE];
static uint8_t room[SEGLOG_FRAME_MAX];
static uint8_t payload[FRAME_LIMIT];

static uint64_t random_state;

static uint64_t next_random(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

/* Deterministic bytes of frame `number`, so that a reader can tell what must be there. */
static struct span bytes_of(uint64_t number, size_t n) {
    uint64_t x = number * UINT64_C(0x9e3779b97f4a7c15) + 1;
    for (size_t i = 0; i < n; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        payload[i] = (uint8_t)(x >> 24);
    }
    return span_of(payload, n);
}

static int remove_name(void *context, const char *name) {
    char path[300];
    (void)snprintf(path, sizeof path, "%s/%s", (const char *)context, name);
    assert_int_equal(os_path_unlink(path), 0);
    return 0;
}

static void empty_folder(void) {
    assert_int_equal(os_dir_make(folder), 0);
    assert_int_equal(os_dir_list(folder, remove_name, folder), 0);
}

/* Syncs cost a millisecond each on a disk; nothing here loses power, so most tests go without. */
static int no_sync(int fd) {
    (void)fd;
    return 0;
}

static struct os_file_ops quick_ops;

static int set_up(void **state) {
    (void)state;
    const char *base = getenv("TMPDIR");
    (void)snprintf(folder, sizeof folder, "%s/bh-seglog-%u", base != NULL ? base : "/tmp",
                   os_process_id());
    for (size_t i = 0; i < sizeof wrapping; i++) {
        wrapping[i] = (uint8_t)(i * 7);
    }
    quick_ops = *os_file_real_ops();
    quick_ops.fdatasync = no_sync;
    quick_ops.fsync_dir = no_sync;
    os_file_install(&quick_ops);
    const char *seed = getenv("BULKHEAD_SEED");
    random_state = seed != NULL ? strtoull(seed, NULL, 10) : 20261109;
    print_message("seed %llu (BULKHEAD_SEED sets it)\n", (unsigned long long)random_state);
    return crypto_init();
}

static int tear_down(void **state) {
    (void)state;
    empty_folder();
    os_file_install(NULL);
    return rmdir(folder);
}

static struct seglog_config config_of(void) {
    struct seglog_config config = {
        .dir = folder,
        .kind = SEGLOG_JOURNAL,
        .instance = 3,
        .wrapping = wrapping,
        .segment_size = ROOM,
        .frame_max = FRAME_LIMIT,
    };
    memset(config.deployment, 0xd0, sizeof config.deployment);
    return config;
}

static struct seglog *open_log(const struct seglog_config *config,
                               struct seglog_recovery *recovery) {
    struct seglog *log = NULL;
    struct err err = {0};
    int code = seglog_open(config, recovery, &log, &err);
    if (code != 0) {
        print_message("%s\n", err.text);
    }
    assert_int_equal(code, 0);
    return log;
}

/* One frame with `events` items of a size that follows from its number. */
static size_t size_of_frame(uint64_t number) {
    return (size_t)(number * 37 % 500);
}

static struct seglog_frame append_one(struct seglog *log, uint32_t events) {
    struct seglog_frame frame;
    uint64_t number = seglog_next_frame(log);
    struct span plain = bytes_of(number, size_of_frame(number));
    struct span parts[2] = {span_cut(plain, 0, plain.n / 3), span_from(plain, plain.n / 3)};
    assert_int_equal(
        seglog_append(log, seglog_next_seq(log), events, 1, 1000 + number, parts, 2, &frame), 0);
    assert_int_equal(seglog_sync(log), 0);
    assert_int_equal(frame.number, number);
    return frame;
}

static void assert_is_frame(const struct seglog_frame *frame, uint64_t number) {
    assert_int_equal(frame->number, number);
    assert_int_equal(frame->time_us, 1000 + number);
    assert_true(span_equal(frame->plain, bytes_of(number, size_of_frame(number))));
}

/* Reads all there is; the number of good frames and the code that ended it. */
static uint64_t read_all(const struct seglog_config *config, uint64_t first, int *ret_code,
                         struct seglog_recovery *ret_report) {
    struct seglog_reader *reader = NULL;
    struct seglog_frame frame;
    uint64_t count = 0;
    assert_int_equal(seglog_reader_new(config, &reader, NULL), 0);
    while ((*ret_code = seglog_read_next(reader, UINT64_MAX, room, sizeof room, &frame)) == 0) {
        assert_is_frame(&frame, first + count);
        count++;
    }
    if (ret_report != NULL) {
        seglog_reader_report(reader, ret_report);
    }
    seglog_reader_free(reader);
    return count;
}

static void an_empty_log_creates_nothing(void **state) {
    (void)state;
    struct seglog_config config = config_of();
    struct seglog_recovery recovery;
    empty_folder();
    for (int i = 0; i < 2; i++) {
        struct seglog *log = open_log(&config, &recovery);
        assert_int_equal(recovery.segments, 0);
        assert_int_equal(recovery.next_frame, 1);
        assert_int_equal(recovery.next_seq, 0);
        assert_int_equal(seglog_close(log), 0);
    }
    int code = 0;
    assert_int_equal(read_all(&config, 1, &code, NULL), 0);
    assert_int_equal(code, BH_E_AGAIN);
}

static void frames_come_back_over_segments_and_restarts(void **state) {
    (void)state;
    struct seglog_config config = config_of();
    struct seglog_recovery recovery;
    uint64_t frames = 0;
    uint64_t events = 0;
    empty_folder();
    for (int life = 0; life < 6; life++) {
        config.prepare_next = life % 2 == 0;
        config.grow_step = life % 3 == 0 ? 16384 : 0;
        struct seglog *log = open_log(&config, &recovery);
        assert_int_equal(recovery.next_frame, frames + 1);
        assert_int_equal(recovery.next_seq, events);
        assert_int_equal(recovery.torn_bytes, 0);
        assert_false(recovery.was_open);
        for (int i = 0; i < 300; i++) {
            uint32_t n = (uint32_t)(next_random() % 5);
            (void)append_one(log, n);
            frames++;
            events += n;
        }
        assert_int_equal(seglog_next_seq(log), events);
        assert_int_equal(seglog_close(log), 0);
        int code = 0;
        assert_int_equal(read_all(&config, 1, &code, NULL), frames);
        assert_int_equal(code, BH_E_AGAIN);
    }
    assert_true(recovery.segments > 5);
}

static void a_reader_follows_the_writer_up_to_what_is_synced(void **state) {
    (void)state;
    struct seglog_config config = config_of();
    struct seglog_recovery recovery;
    struct seglog_reader *reader = NULL;
    struct seglog_frame frame;
    empty_folder();
    assert_int_equal(seglog_reader_new(&config, &reader, NULL), 0);
    assert_int_equal(seglog_read_next(reader, 0, room, sizeof room, &frame), BH_E_AGAIN);
    struct seglog *log = open_log(&config, &recovery);
    for (uint64_t i = 1; i <= 800; i++) {
        assert_int_equal(seglog_read_next(reader, i - 1, room, sizeof room, &frame), BH_E_AGAIN);
        (void)append_one(log, 2);
        assert_int_equal(seglog_read_next(reader, i - 1, room, sizeof room, &frame), BH_E_AGAIN);
        if (i % 3 == 0) {
            assert_int_equal(seglog_skip_next(reader, i, &frame), 0);
            assert_int_equal(frame.number, i);
        } else {
            assert_int_equal(seglog_read_next(reader, i, room, sizeof room, &frame), 0);
            assert_is_frame(&frame, i);
        }
    }
    assert_int_equal(seglog_close(log), 0);
    assert_int_equal(seglog_read_next(reader, UINT64_MAX, room, sizeof room, &frame), BH_E_AGAIN);
    seglog_reader_free(reader);
}

static void seeking_finds_the_frame_that_holds_a_seq(void **state) {
    (void)state;
    struct seglog_config config = config_of();
    struct seglog_recovery recovery;
    struct seglog_reader *reader = NULL;
    struct seglog_frame frame;
    empty_folder();
    struct seglog *log = open_log(&config, &recovery);
    static struct seglog_frame frames[1000];
    uint64_t count = 0;
    uint64_t seq = 5;
    for (int i = 0; i < 900; i++) {
        /* Gaps between some, none in others. */
        uint32_t events = (uint32_t)(next_random() % 4);
        struct span plain = bytes_of(seglog_next_frame(log), size_of_frame(seglog_next_frame(log)));
        assert_int_equal(seglog_append(log, seq, events, 1, 1000 + seglog_next_frame(log), &plain,
                                       1, &frames[count]),
                         0);
        assert_int_equal(seglog_sync(log), 0);
        count++;
        seq += events + next_random() % 3;
    }
    assert_int_equal(seglog_reader_new(&config, &reader, NULL), 0);
    for (uint64_t wanted = 0; wanted < seq + 3; wanted++) {
        int code = seglog_reader_seek(reader, wanted);
        assert_true(code == 0 || (code == BH_E_NOTFOUND && wanted < 5));
        code = seglog_read_next(reader, count, room, sizeof room, &frame);
        uint64_t expected = 0;
        while (expected < count && frames[expected].first_seq + frames[expected].events <= wanted) {
            expected++;
        }
        if (expected == count) {
            assert_int_equal(code, BH_E_AGAIN);
            continue;
        }
        assert_int_equal(code, 0);
        assert_is_frame(&frame, expected + 1);
    }
    for (uint64_t i = count; i-- > 0;) {
        assert_int_equal(
            seglog_reader_seek_frame(reader, frames[i].segment, frames[i].offset, frames[i].number),
            0);
        assert_int_equal(seglog_read_next(reader, count, room, sizeof room, &frame), 0);
        assert_is_frame(&frame, i + 1);
    }
    assert_int_equal(seglog_reader_seek_frame(reader, 9999, 4096, 1), BH_E_NOTFOUND);
    seglog_reader_free(reader);
    assert_int_equal(seglog_close(log), 0);
}

static void limits_are_kept(void **state) {
    (void)state;
    struct seglog_config config = config_of();
    struct seglog_recovery recovery;
    struct seglog_reader *reader = NULL;
    struct seglog_frame frame;
    empty_folder();
    struct seglog *log = open_log(&config, &recovery);
    struct span largest = bytes_of(1, FRAME_LIMIT - SEGLOG_FRAME_HEADER_SIZE - GCM_TAG_SIZE);
    struct span larger = span_of(payload, largest.n + 1);
    assert_int_equal(seglog_append(log, 0, 1, 1, 1001, &larger, 1, &frame), BH_E_TOO_BIG);
    assert_int_equal(seglog_ensure_space(log, larger.n), BH_E_TOO_BIG);
    assert_int_equal(seglog_ensure_space(log, SIZE_MAX), BH_E_TOO_BIG);
    assert_int_equal(seglog_append(log, 0, 1, 1, 1001, &largest, 1, &frame), 0);
    assert_int_equal(frame.size, FRAME_LIMIT);
    assert_int_equal(seglog_sync(log), 0);
    assert_int_equal(seglog_append(log, 1, 0, 0, 1002, NULL, 0, &frame), 0);
    assert_int_equal(seglog_sync(log), 0);
    struct seglog *second = NULL;
    assert_int_equal(seglog_open(&config, &recovery, &second, NULL), BH_E_BUSY);
    assert_int_equal(seglog_reader_new(&config, &reader, NULL), 0);
    assert_int_equal(seglog_read_next(reader, 2, room, FRAME_LIMIT - 1, &frame), BH_E_FULL);
    assert_int_equal(frame.size, FRAME_LIMIT);
    assert_int_equal(seglog_read_next(reader, 2, room, FRAME_LIMIT, &frame), 0);
    assert_true(span_equal(frame.plain, bytes_of(1, largest.n)));
    assert_int_equal(seglog_read_next(reader, 2, room, FRAME_LIMIT, &frame), 0);
    assert_int_equal(frame.plain.n, 0);
    seglog_reader_free(reader);
    assert_int_equal(seglog_close(log), 0);
    config.segment_size = ROOM - 4096;
    assert_int_equal(seglog_open(&config, &recovery, &log, NULL), BH_E_CONFIG);
    config.segment_size = ROOM;
    config.frame_max = ROOM;
    assert_int_equal(seglog_open(&config, &recovery, &log, NULL), BH_E_CONFIG);
}

/* Footers: what the caller counted, also for a segment that a crash left open. */

struct counts {
    uint64_t events;
    uint64_t recovered;
};

static size_t write_counts(void *context, uint8_t *out, size_t cap) {
    struct counts *counts = (struct counts *)context;
    assert_true(cap >= 8);
    put_u64(out, counts->events);
    counts->events = 0;
    return 8;
}

static void count_recovered(void *context, const struct seglog_frame *frame) {
    struct counts *counts = (struct counts *)context;
    assert_is_frame(frame, frame->number);
    counts->events += frame->events;
    counts->recovered++;
}

struct listing {
    const char *dir;
    struct seglog_segment last;
    uint64_t count;
    uint64_t events;
    uint64_t open;
};

static int add_segment(void *context, const struct seglog_segment *segment) {
    struct listing *listing = (struct listing *)context;
    if (listing->count != 0) {
        assert_int_equal(segment->number, listing->last.number + 1);
        assert_int_equal(segment->first_frame, listing->last.last_frame + 1);
    }
    listing->last = *segment;
    listing->count++;
    listing->open += segment->closed ? 0 : 1;
    uint8_t blob[8];
    size_t n = 0;
    if (segment->closed && segment->blob_size != 0) {
        assert_int_equal(segment->blob_size, 8);
        assert_int_equal(seglog_segment_blob(listing->dir, segment->number, blob, 7, &n),
                         BH_E_FULL);
        assert_int_equal(seglog_segment_blob(listing->dir, segment->number, blob, sizeof blob, &n),
                         0);
        listing->events += get_u64(blob);
    } else if (!segment->closed) {
        assert_int_equal(seglog_segment_blob(listing->dir, segment->number, blob, sizeof blob, &n),
                         BH_E_STATE);
    }
    return 0;
}

/* The folder as a kill would leave it: every file copied while the writer still has it open. */
static int copy_name(void *context, const char *name) {
    char from[300];
    char to[300];
    static uint8_t bytes[ROOM];
    size_t n = 0;
    if (strcmp(name, "lock") == 0) {
        return 0;
    }
    (void)snprintf(from, sizeof from, "%s/%s", folder, name);
    (void)snprintf(to, sizeof to, "%s/%s", (const char *)context, name);
    assert_int_equal(os_file_read_whole(from, bytes, sizeof bytes, &n), 0);
    struct os_file file = OS_FILE_NONE;
    assert_int_equal(os_file_open(to, OS_OPEN_WRITE | OS_OPEN_CREATE | OS_OPEN_TRUNCATE, &file), 0);
    assert_int_equal(os_file_write_at(file, 0, bytes, n), 0);
    os_file_close(&file);
    return 0;
}

static void a_killed_writer_is_recovered_with_its_counts(void **state) {
    (void)state;
    struct counts counts = {0, 0};
    struct counts recovered = {0, 0};
    struct seglog_config config = config_of();
    struct seglog_recovery recovery;
    char copy[200];
    config.prepare_next = true;
    config.footer_blob = write_counts;
    config.on_recovered = count_recovered;
    config.context = &counts;
    (void)snprintf(copy, sizeof copy, "%s-copy", folder);
    empty_folder();
    struct seglog *log = open_log(&config, &recovery);
    for (int i = 1; i <= 700; i++) {
        (void)append_one(log, 3);
        counts.events += 3;
        if (i % 97 != 0) {
            continue;
        }
        assert_int_equal(os_dir_make(copy), 0);
        assert_int_equal(os_dir_list(folder, copy_name, copy), 0);
        struct seglog_config of_copy = config;
        of_copy.dir = copy;
        of_copy.context = &recovered;
        recovered = (struct counts){0, 0};
        struct seglog *again = open_log(&of_copy, &recovery);
        assert_true(recovery.was_open);
        assert_int_equal(recovery.torn_bytes, 0);
        assert_int_equal(recovery.next_frame, i + 1);
        assert_int_equal(recovery.next_seq, 3 * i);
        assert_int_equal(recovery.last_time_us, 1000 + i);
        struct listing listing = {.dir = copy};
        assert_int_equal(seglog_list(copy, SEGLOG_JOURNAL, add_segment, &listing), 0);
        assert_int_equal(listing.open, 0);
        assert_int_equal(listing.events, 3 * i);
        assert_int_equal(listing.last.next_seq, 3 * i);
        assert_int_equal(listing.last.time_us_max, 1000 + i);
        /* And goes on in a segment of its own. */
        recovered.events = 0;
        (void)append_one(again, 1);
        assert_int_equal(seglog_segment_number(again), listing.last.number + 1);
        assert_int_equal(seglog_close(again), 0);
        int code = 0;
        assert_int_equal(read_all(&of_copy, 1, &code, NULL), i + 1);
        assert_int_equal(code, BH_E_AGAIN);
        assert_int_equal(os_dir_list(copy, remove_name, copy), 0);
        assert_int_equal(rmdir(copy), 0);
    }
    assert_int_equal(seglog_close(log), 0);
}

static void only_the_oldest_closed_segment_can_be_dropped(void **state) {
    (void)state;
    struct seglog_config config = config_of();
    struct seglog_recovery recovery;
    struct seglog_reader *reader = NULL;
    struct seglog_frame frame;
    empty_folder();
    struct seglog *log = open_log(&config, &recovery);
    while (seglog_segment_number(log) < 5) {
        (void)append_one(log, 1);
    }
    assert_int_equal(seglog_reader_new(&config, &reader, NULL), 0);
    assert_int_equal(seglog_drop(folder, 2), BH_E_STATE);
    assert_int_equal(seglog_drop(folder, 5), BH_E_STATE);
    assert_int_equal(seglog_drop(folder, 77), BH_E_STATE);
    struct listing listing = {.dir = folder};
    assert_int_equal(seglog_list(folder, SEGLOG_JOURNAL, add_segment, &listing), 0);
    assert_int_equal(listing.count, 5);
    assert_int_equal(listing.open, 1);
    uint64_t frames = seglog_next_frame(log) - 1;
    assert_int_equal(seglog_drop(folder, 1), 0);
    assert_int_equal(seglog_reader_seek(reader, 0), BH_E_NOTFOUND);
    assert_int_equal(seglog_read_next(reader, frames, room, sizeof room, &frame), 0);
    assert_int_equal(frame.segment, 2);
    assert_int_equal(seglog_drop(folder, 2), 0);
    assert_int_equal(seglog_drop(folder, 3), 0);
    /* The reader holds segment 2 open and reads it to its end; the next one is gone. */
    int code = 0;
    while ((code = seglog_read_next(reader, frames, room, sizeof room, &frame)) == 0) {
        assert_int_equal(frame.segment, 2);
    }
    assert_int_equal(code, BH_E_NOTFOUND);
    seglog_reader_free(reader);
    /* Even the last events can be destroyed, and numbers still go on. */
    assert_int_equal(seglog_rotate(log), 0);
    assert_int_equal(seglog_rotate(log), 0);
    assert_int_equal(seglog_segment_number(log), 6);
    assert_int_equal(seglog_drop(folder, 4), 0);
    assert_int_equal(seglog_drop(folder, 5), 0);
    assert_int_equal(seglog_drop(folder, 6), BH_E_STATE);
    assert_int_equal(seglog_close(log), 0);
    for (int life = 0; life < 3; life++) {
        log = open_log(&config, &recovery);
        assert_int_equal(recovery.next_frame, frames + 1);
        assert_int_equal(recovery.next_seq, frames);
        assert_int_equal(seglog_rotate(log), 0);
        assert_int_equal(seglog_close(log), 0);
    }
    log = open_log(&config, &recovery);
    (void)append_one(log, 1);
    assert_int_equal(seglog_close(log), 0);
    assert_int_equal(read_all(&config, frames + 1, &code, NULL), 1);
}

static void a_destroyed_segment_is_unreadable_and_its_removal_is_finished(void **state) {
    (void)state;
    static const uint8_t zeros[WRAPPED_KEY_SIZE] = {0};
    struct seglog_config config = config_of();
    struct seglog_recovery recovery;
    char path[300];
    empty_folder();
    struct seglog *log = open_log(&config, &recovery);
    while (seglog_segment_number(log) < 3) {
        (void)append_one(log, 1);
    }
    assert_int_equal(seglog_close(log), 0);
    struct os_file file = OS_FILE_NONE;
    (void)snprintf(path, sizeof path, "%s/0000000001.seg", folder);
    assert_int_equal(os_file_open(path, OS_OPEN_WRITE, &file), 0);
    assert_int_equal(os_file_write_at(file, 92, zeros, sizeof zeros), 0);
    os_file_close(&file);
    log = open_log(&config, &recovery);
    assert_int_equal(recovery.first_segment, 2);
    assert_false(os_path_exists(path));
    assert_int_equal(seglog_close(log), 0);
    /* One in the middle is not a drop that was begun. */
    (void)snprintf(path, sizeof path, "%s/0000000003.seg", folder);
    assert_int_equal(os_file_open(path, OS_OPEN_WRITE, &file), 0);
    assert_int_equal(os_file_write_at(file, 92, zeros, sizeof zeros), 0);
    os_file_close(&file);
    assert_int_equal(seglog_open(&config, &recovery, &log, NULL), BH_E_CORRUPT);
    assert_int_equal(recovery.rot_segment, 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_log_creates_nothing),
        cmocka_unit_test(frames_come_back_over_segments_and_restarts),
        cmocka_unit_test(a_reader_follows_the_writer_up_to_what_is_synced),
        cmocka_unit_test(seeking_finds_the_frame_that_holds_a_seq),
        cmocka_unit_test(limits_are_kept),
        cmocka_unit_test(a_killed_writer_is_recovered_with_its_counts),
        cmocka_unit_test(only_the_oldest_closed_segment_can_be_dropped),
        cmocka_unit_test(a_destroyed_segment_is_unreadable_and_its_removal_is_finished),
    };
    return cmocka_run_group_tests_name("seglog", tests, set_up, tear_down);
}
