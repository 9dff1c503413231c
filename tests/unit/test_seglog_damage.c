/* Damage: every bit flipped, every length cut off. Whatever is read back is what was written, or an
 * error says so. */
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
#include "base/hash.h"
#include "crypto/crypto.h"
#include "engine/seglog/seglog.h"
#include "os/file.h"
#include "os/thread.h"

enum { SEGMENT = 64 * 1024, FRAME_LIMIT = 32 * 1024, HEADER = SEGLOG_HEADER_SIZE, FRAMES = 5 };

static char folder[128];
static char path[300];
static uint8_t wrapping[KEY_SIZE];
static uint8_t room[SEGLOG_FRAME_MAX];
static uint8_t original[SEGMENT];
static size_t original_size;

static struct os_file_ops quick_ops;

static int no_sync(int fd) {
    (void)fd;
    return 0;
}

static int remove_name(void *context, const char *name) {
    char victim[300];
    (void)snprintf(victim, sizeof victim, "%s/%s", (const char *)context, name);
    return os_path_unlink(victim);
}

static void empty_folder(void) {
    assert_int_equal(os_dir_make(folder), 0);
    assert_int_equal(os_dir_list(folder, remove_name, folder), 0);
}

static int set_up(void **state) {
    (void)state;
    const char *base = getenv("TMPDIR");
    (void)snprintf(folder, sizeof folder, "%s/bh-seglog-damage-%u", base != NULL ? base : "/tmp",
                   os_process_id());
    (void)snprintf(path, sizeof path, "%s/0000000001.seg", folder);
    for (size_t i = 0; i < sizeof wrapping; i++) {
        wrapping[i] = (uint8_t)i;
    }
    quick_ops = *os_file_real_ops();
    quick_ops.fdatasync = no_sync;
    quick_ops.fsync_dir = no_sync;
    os_file_install(&quick_ops);
    return crypto_init();
}

static int tear_down(void **state) {
    (void)state;
    empty_folder();
    os_file_install(NULL);
    return rmdir(folder);
}

static struct seglog_config config_of(uint8_t deployment, uint16_t instance) {
    struct seglog_config config = {
        .dir = folder,
        .kind = SEGLOG_JOURNAL,
        .instance = instance,
        .wrapping = wrapping,
        .segment_size = SEGMENT,
        .frame_max = FRAME_LIMIT,
    };
    memset(config.deployment, deployment, sizeof config.deployment);
    return config;
}

static void write_segment(const uint8_t *p, size_t n) {
    struct os_file file = OS_FILE_NONE;
    assert_int_equal(os_file_open(path, OS_OPEN_WRITE | OS_OPEN_CREATE | OS_OPEN_TRUNCATE, &file),
                     0);
    assert_int_equal(os_file_write_at(file, 0, p, n), 0);
    os_file_close(&file);
}

/* Frames of 3, 8, 11, ... bytes, so that paddings of several lengths occur. */
static struct span plain_of(uint64_t number) {
    static uint8_t bytes[64];
    size_t n = (size_t)(number * number % 20 + 2);
    for (size_t i = 0; i < n; i++) {
        bytes[i] = (uint8_t)(number * 16 + i);
    }
    return span_of(bytes, n);
}

static uint64_t frame_end[FRAMES + 1];

/* One segment as a kill leaves it (open), or as seglog_close does; some zeros of the reserve are
 * kept. */
static void make_segment(bool closed) {
    struct seglog_config config = config_of(0xd1, 9);
    struct seglog_recovery recovery;
    struct seglog *log = NULL;
    struct seglog_frame frame;
    empty_folder();
    assert_int_equal(seglog_open(&config, &recovery, &log, NULL), 0);
    frame_end[0] = HEADER;
    for (uint64_t number = 1; number <= FRAMES; number++) {
        struct span plain = plain_of(number);
        assert_int_equal(seglog_append(log, number * 10, 10, 1, number, &plain, 1, &frame), 0);
        assert_int_equal(seglog_sync(log), 0);
        frame_end[number] = frame.offset + frame.size;
    }
    if (closed) {
        assert_int_equal(seglog_close(log), 0);
    }
    assert_int_equal(os_file_read_whole(path, original, sizeof original, &original_size), 0);
    if (!closed) {
        assert_int_equal(seglog_close(log), 0);
        original_size = (size_t)frame_end[FRAMES] + 64;
    }
    write_segment(original, original_size);
}

struct outcome {
    uint64_t frames;
    int code;
    struct seglog_recovery report;
};

static struct outcome read_through(void) {
    struct outcome outcome = {0, 0, {0}};
    struct seglog_config config = config_of(0xd1, 9);
    struct seglog_reader *reader = NULL;
    struct seglog_frame frame;
    assert_int_equal(seglog_reader_new(&config, &reader, NULL), 0);
    while ((outcome.code = seglog_read_next(reader, UINT64_MAX, room, sizeof room, &frame)) == 0) {
        outcome.frames++;
        assert_int_equal(frame.number, outcome.frames);
        assert_int_equal(frame.first_seq, frame.number * 10);
        assert_int_equal(frame.events, 10);
        assert_int_equal(frame.time_us, frame.number);
        assert_true(span_equal(frame.plain, plain_of(frame.number)));
    }
    seglog_reader_report(reader, &outcome.report);
    seglog_reader_free(reader);
    return outcome;
}

/* Which frame, from 1, the byte belongs to; 0 = header, FRAMES + 1 = behind the frames. */
static uint64_t part_of(size_t at) {
    uint64_t part = 0;
    while (part <= FRAMES && at >= frame_end[part]) {
        part++;
    }
    return part;
}

static void flip(size_t bit) {
    struct os_file file = OS_FILE_NONE;
    uint8_t byte = (uint8_t)(original[bit / 8] ^ 1U << bit % 8);
    assert_int_equal(os_file_open(path, OS_OPEN_WRITE, &file), 0);
    assert_int_equal(os_file_write_at(file, bit / 8, &byte, 1), 0);
    os_file_close(&file);
}

static void unflip(size_t bit) {
    struct os_file file = OS_FILE_NONE;
    assert_int_equal(os_file_open(path, OS_OPEN_WRITE, &file), 0);
    assert_int_equal(os_file_write_at(file, bit / 8, &original[bit / 8], 1), 0);
    os_file_close(&file);
}

static void every_flipped_bit_of_an_open_segment_is_found(void **state) {
    (void)state;
    make_segment(false);
    struct outcome whole = read_through();
    assert_int_equal(whole.frames, FRAMES);
    assert_int_equal(whole.code, BH_E_AGAIN);
    for (size_t bit = 0; bit < original_size * 8; bit++) {
        uint64_t part = part_of(bit / 8);
        flip(bit);
        struct outcome outcome = read_through();
        if (part == 0) {
            assert_int_equal(outcome.frames, 0);
            assert_true(outcome.code == BH_E_CORRUPT);
        } else if (part < FRAMES) {
            /* A later frame proves that this one had been synced. */
            assert_int_equal(outcome.frames, part - 1);
            assert_int_equal(outcome.code, BH_E_CORRUPT);
            assert_int_equal(outcome.report.rot_offset, frame_end[part - 1]);
            assert_int_equal(outcome.report.rot_seq_from, part == 1 ? 0 : part * 10);
            assert_int_equal(outcome.report.rot_seq_to, (part + 1) * 10);
        } else {
            /* The last one may be a torn write; and behind it nothing was ever written. */
            assert_int_equal(outcome.frames, part == FRAMES ? FRAMES - 1 : FRAMES);
            assert_int_equal(outcome.code, BH_E_TORN);
            assert_true(outcome.report.torn_bytes > 0);
        }
        unflip(bit);
    }
}

static void every_flipped_bit_of_a_closed_segment_is_found(void **state) {
    (void)state;
    make_segment(true);
    struct outcome whole = read_through();
    assert_int_equal(whole.frames, FRAMES);
    assert_int_equal(whole.code, BH_E_AGAIN);
    for (size_t bit = HEADER * 8; bit < original_size * 8; bit++) {
        uint64_t part = part_of(bit / 8);
        flip(bit);
        struct outcome outcome = read_through();
        if (part <= FRAMES) {
            assert_int_equal(outcome.frames, part - 1);
            assert_int_equal(outcome.code, BH_E_CORRUPT);
        } else {
            /* The newest footer may be a torn write; it is made again from the frames. */
            assert_int_equal(outcome.frames, FRAMES);
            assert_int_equal(outcome.code, BH_E_TORN);
        }
        unflip(bit);
    }
}

/* Somebody who can also make the checksums right is still found out by the cipher. */
static void changed_bytes_with_a_right_checksum_are_tampering(void **state) {
    (void)state;
    make_segment(true);
    for (uint64_t number = 1; number <= FRAMES; number++) {
        size_t at = (size_t)frame_end[number - 1];
        size_t sealed = get_u32(original + at + 4);
        for (size_t byte = 4; byte < SEGLOG_FRAME_HEADER_SIZE + sealed; byte++) {
            static uint8_t changed[SEGMENT];
            bool names_it = byte >= 8 &&
                            byte < 24; /* frame number or seq: no longer the frame that must come */
            if ((byte >= 40 && byte < 48) || byte < 8) {
                continue; /* the checksums themselves, and the length */
            }
            memcpy(changed, original, original_size);
            changed[at + byte] ^= 0x04;
            put_u32(changed + at + 40, crc32c(changed + at + SEGLOG_FRAME_HEADER_SIZE, sealed));
            put_u32(changed + at + 44, crc32c(changed + at, 44));
            write_segment(changed, original_size);
            struct outcome outcome = read_through();
            assert_int_equal(outcome.frames, number - 1);
            assert_true(outcome.code == BH_E_TAMPERED ||
                        (names_it && outcome.code == BH_E_CORRUPT));
            assert_int_equal(outcome.report.rot_offset, at);
        }
    }
}

static void another_key_is_told_from_rot(void **state) {
    (void)state;
    make_segment(true);
    wrapping[3] ^= 1;
    struct outcome outcome = read_through();
    assert_int_equal(outcome.code, BH_E_TAMPERED);
    assert_int_equal(outcome.frames, 0);
    struct seglog_config config = config_of(0xd1, 9);
    struct seglog_recovery recovery;
    struct seglog *log = NULL;
    struct err err = {0};
    assert_int_equal(seglog_open(&config, &recovery, &log, &err), BH_E_TAMPERED);
    wrapping[3] ^= 1;
    config.instance = 10;
    assert_int_equal(seglog_open(&config, &recovery, &log, &err), BH_E_KEY);
    config = config_of(0xd2, 9);
    assert_int_equal(seglog_open(&config, &recovery, &log, &err), BH_E_KEY);
    config = config_of(0xd1, 9);
    config.kind = SEGLOG_LEDGER;
    assert_int_equal(seglog_open(&config, &recovery, &log, &err), BH_E_CORRUPT);
}

/* Recovery after every cut: the frames that are whole stay, the log goes on behind them, and a
 * second start finds it clean. */
static void every_truncation_is_recovered(void **state) {
    (void)state;
    for (int closed = 0; closed < 2; closed++) {
        make_segment(closed != 0);
        for (size_t n = HEADER - 8; n < original_size; n++) {
            struct seglog_config config = config_of(0xd1, 9);
            struct seglog_recovery recovery;
            struct seglog *log = NULL;
            struct seglog_frame frame;
            struct err err = {0};
            empty_folder();
            write_segment(original, n);
            int code = seglog_open(&config, &recovery, &log, &err);
            if (n < HEADER) {
                assert_int_equal(code, BH_E_CORRUPT);
                assert_non_null(strstr(err.text, "0000000001.seg"));
                continue;
            }
            assert_int_equal(code, 0);
            uint64_t whole = 0;
            while (whole < FRAMES && n >= frame_end[whole + 1]) {
                whole++;
            }
            assert_int_equal(recovery.next_frame, whole + 1);
            assert_int_equal(recovery.next_seq, whole == 0 ? 0 : whole * 10 + 10);
            assert_true(recovery.was_open);
            struct span plain = plain_of(whole + 1);
            assert_int_equal(
                seglog_append(log, (whole + 1) * 10, 10, 1, whole + 1, &plain, 1, &frame), 0);
            assert_int_equal(frame.segment, 2);
            assert_int_equal(seglog_sync(log), 0);
            assert_int_equal(seglog_close(log), 0);
            assert_int_equal(seglog_open(&config, &recovery, &log, &err), 0);
            assert_false(recovery.was_open);
            assert_int_equal(recovery.torn_bytes, 0);
            assert_int_equal(recovery.next_frame, whole + 2);
            assert_int_equal(seglog_close(log), 0);
            struct outcome outcome = read_through();
            assert_int_equal(outcome.code, BH_E_AGAIN);
            assert_int_equal(outcome.frames, whole + 1);
        }
    }
}

/* Rot in the segment that was open stops the start and names what is lost; nothing is cut off. */
static void rot_stops_the_start_and_changes_nothing(void **state) {
    (void)state;
    static uint8_t after[SEGMENT];
    make_segment(false);
    for (uint64_t number = 1; number < FRAMES; number++) {
        struct seglog_config config = config_of(0xd1, 9);
        struct seglog_recovery recovery;
        struct seglog *log = NULL;
        struct err err = {0};
        size_t n = 0;
        write_segment(original, original_size);
        flip(((size_t)frame_end[number - 1] + 50) * 8);
        assert_int_equal(seglog_open(&config, &recovery, &log, &err), BH_E_CORRUPT);
        assert_int_equal(recovery.rot_segment, 1);
        assert_int_equal(recovery.rot_offset, frame_end[number - 1]);
        assert_int_equal(recovery.rot_seq_from, number == 1 ? 0 : number * 10);
        assert_int_equal(recovery.rot_seq_to, number * 10 + 10);
        assert_non_null(strstr(err.text, "rotted"));
        assert_int_equal(os_file_read_whole(path, after, sizeof after, &n), 0);
        assert_int_equal(n, original_size);
        unflip(((size_t)frame_end[number - 1] + 50) * 8);
        assert_int_equal(os_file_read_whole(path, after, sizeof after, &n), 0);
        assert_memory_equal(after, original, n);
    }
}

/* Between segments: one missing, one exchanged, one cut in the middle of the log. */
static void segments_are_chained(void **state) {
    (void)state;
    struct seglog_config config = config_of(0xd1, 9);
    struct seglog_recovery recovery;
    struct seglog *log = NULL;
    struct seglog_frame frame;
    struct err err = {0};
    static uint8_t segments[3][SEGMENT];
    size_t sizes[3];
    empty_folder();
    assert_int_equal(seglog_open(&config, &recovery, &log, &err), 0);
    for (uint64_t number = 1; number <= 3; number++) {
        struct span plain = plain_of(number);
        assert_int_equal(seglog_append(log, number * 10, 10, 1, number, &plain, 1, &frame), 0);
        assert_int_equal(seglog_sync(log), 0);
        if (number < 3) {
            assert_int_equal(seglog_rotate(log), 0);
        }
    }
    assert_int_equal(seglog_close(log), 0);
    char names[3][300];
    for (unsigned i = 0; i < 3; i++) {
        (void)snprintf(names[i], sizeof names[i], "%s/000000000%u.seg", folder, i + 1);
        assert_int_equal(os_file_read_whole(names[i], segments[i], SEGMENT, &sizes[i]), 0);
    }
    struct outcome outcome = read_through();
    assert_int_equal(outcome.frames, 3);
    /* Missing. */
    assert_int_equal(os_path_unlink(names[1]), 0);
    assert_int_equal(seglog_open(&config, &recovery, &log, &err), BH_E_CORRUPT);
    assert_int_equal(recovery.rot_segment, 2);
    outcome = read_through();
    assert_int_equal(outcome.frames, 1);
    assert_int_equal(outcome.code, BH_E_CORRUPT);
    /* Cut off at a frame's border, footer and all: alone it would look open, but another
     * follows. */
    memcpy(path, names[1], sizeof names[1]);
    write_segment(segments[1], SEGLOG_HEADER_SIZE + 72);
    assert_int_equal(seglog_open(&config, &recovery, &log, &err), BH_E_CORRUPT);
    assert_int_equal(recovery.rot_segment, 2);
    outcome = read_through();
    assert_int_equal(outcome.code, BH_E_CORRUPT);
    /* Another footer with a right checksum: the next header does not know it. */
    segments[1][sizes[1] - 8 - 8 - 16] ^= 1;
    put_u32(segments[1] + sizes[1] - 8 - 4, crc32c(segments[1] + sizes[1] - 72, 60));
    put_u32(segments[1] + sizes[1] - 4, crc32c(segments[1] + sizes[1] - 72, 68));
    write_segment(segments[1], sizes[1]);
    assert_int_equal(seglog_open(&config, &recovery, &log, &err), BH_E_CORRUPT);
    assert_int_equal(recovery.rot_segment, 3);
    outcome = read_through();
    assert_int_equal(outcome.frames, 2);
    assert_int_equal(outcome.code, BH_E_CORRUPT);
    (void)snprintf(path, sizeof path, "%s/0000000001.seg", folder);
}

/* Version 1 as a second implementation wrote it. */
static void version_1_is_read(void **state) {
    (void)state;
    struct seglog_config config = config_of(0xd1, 9);
    struct seglog_recovery recovery;
    struct seglog_reader *reader = NULL;
    struct seglog_frame frame;
    struct seglog *log = NULL;
    struct err err = {0};
    uint8_t blob[16];
    size_t n = 0;
    empty_folder();
    assert_int_equal(os_file_read_whole(BULKHEAD_SOURCE_DIR "/tests/golden/segment-v1.bin",
                                        original, sizeof original, &original_size),
                     0);
    write_segment(original, original_size);
    assert_int_equal(seglog_reader_new(&config, &reader, NULL), 0);
    assert_int_equal(seglog_read_next(reader, UINT64_MAX, room, sizeof room, &frame), 0);
    assert_true(span_is(frame.plain, "the first frame"));
    assert_int_equal(frame.first_seq, 100);
    assert_int_equal(frame.events, 2);
    assert_int_equal(frame.chunks, 1);
    assert_int_equal(frame.time_us, UINT64_C(1700000000000001));
    assert_int_equal(seglog_read_next(reader, UINT64_MAX, room, sizeof room, &frame), 0);
    assert_int_equal(frame.plain.n, 0);
    assert_int_equal(seglog_read_next(reader, UINT64_MAX, room, sizeof room, &frame), 0);
    assert_int_equal(frame.first_seq, 110);
    assert_int_equal(frame.events, 1000);
    assert_int_equal(frame.plain.n, 1000);
    for (size_t i = 0; i < 1000; i++) {
        assert_int_equal(frame.plain.p[i], i * 7 & 255);
    }
    assert_int_equal(seglog_read_next(reader, UINT64_MAX, room, sizeof room, &frame), BH_E_AGAIN);
    seglog_reader_free(reader);
    assert_int_equal(seglog_segment_blob(folder, 1, blob, sizeof blob, &n), 0);
    assert_true(span_is(span_of(blob, n), "counts"));
    assert_int_equal(seglog_open(&config, &recovery, &log, &err), 0);
    assert_int_equal(recovery.first_seq, 100);
    assert_int_equal(recovery.next_seq, 1110);
    assert_int_equal(recovery.next_frame, 4);
    assert_false(recovery.was_open);
    assert_int_equal(seglog_close(log), 0);
    /* And one of a later version is refused by name, not taken for rot. */
    put_u16(original + 8, 2);
    put_u16(original + 10, 2);
    put_u32(original + 4092, crc32c(original, 4092));
    write_segment(original, original_size);
    assert_int_equal(seglog_open(&config, &recovery, &log, &err), BH_E_VERSION);
    assert_non_null(strstr(err.text, "newer version"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_flipped_bit_of_an_open_segment_is_found),
        cmocka_unit_test(every_flipped_bit_of_a_closed_segment_is_found),
        cmocka_unit_test(changed_bytes_with_a_right_checksum_are_tampering),
        cmocka_unit_test(another_key_is_told_from_rot),
        cmocka_unit_test(every_truncation_is_recovered),
        cmocka_unit_test(rot_stops_the_start_and_changes_nothing),
        cmocka_unit_test(segments_are_chained),
        cmocka_unit_test(version_1_is_read),
    };
    return cmocka_run_group_tests_name("seglog_damage", tests, set_up, tear_down);
}
