/* A segment file as anybody may have left it: reading ends with a verdict, recovery agrees with it
 * and is done only once. */
/* depends: seglog crypto os base */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/hash.h"
#include "engine/seglog/seglog_int.h"
#include "fuzz/fuzz_entry.h"
#include "os/file.h"
#include "os/thread.h"

enum { SEGMENT = 64 * 1024, FRAME_LIMIT = 16 * 1024, FRAMES = 4, EDIT_SIZE = 3 };

static char folder[128];
static uint8_t wrapping[KEY_SIZE];
static uint8_t room[SEGLOG_FRAME_MAX];
static uint8_t good[SEGMENT];
static size_t good_size;
static uint8_t file_bytes[SEGMENT];
static struct os_file_ops quick_ops;

static int no_sync(int fd) {
    (void)fd;
    return 0;
}

static struct seglog_config config_of(void) {
    struct seglog_config config = {.dir = folder,
                                   .kind = SEGLOG_JOURNAL,
                                   .wrapping = wrapping,
                                   .segment_size = SEGMENT,
                                   .frame_max = FRAME_LIMIT};
    return config;
}

static void path_of(uint64_t number, char out[SEGLOG_PATH_MAX]) {
    seglog_path(folder, number, out);
}

static void clean(void) {
    for (uint64_t number = 1; number <= 4; number++) {
        char path[SEGLOG_PATH_MAX];
        path_of(number, path);
        (void)unlink(path);
    }
}

static void leave(void) {
    char path[SEGLOG_PATH_MAX];
    clean();
    seglog_path_named(folder, "lock", path);
    (void)unlink(path);
    (void)rmdir(folder);
}

/* The same key in every run, so that a kept input means the same. */
static void make_good(void) {
    uint8_t key[KEY_SIZE] = {7};
    struct seglog_header header = {
        .kind = SEGLOG_JOURNAL, .number = 1, .first_frame = 1, .created_us = 1};
    key_wrap(wrapping, key, header.wrapped_key);
    seglog_header_encode(&header, good);
    good_size = SEGLOG_HEADER_SIZE;
    struct gcm *gcm = gcm_new(key);
    check(gcm != NULL);
    for (uint64_t number = 1; number <= FRAMES; number++) {
        uint8_t plain[40];
        size_t n = (size_t)number * 9;
        memset(plain, (int)number, sizeof plain);
        struct seglog_frame_header frame = {.sealed_size = (uint32_t)n + GCM_TAG_SIZE,
                                            .number = number,
                                            .first_seq = number * 3,
                                            .events = 2,
                                            .chunks = 1,
                                            .time_us = number};
        uint8_t *at = good + good_size;
        seglog_frame_encode(&frame, at);
        gcm_seal(gcm, number, span_of(at, SEGLOG_FRAME_AAD_SIZE), span_of(plain, n),
                 at + SEGLOG_FRAME_HEADER_SIZE);
        seglog_frame_encode_crc(crc32c(at + SEGLOG_FRAME_HEADER_SIZE, frame.sealed_size), at);
        good_size += seglog_frame_size(frame.sealed_size);
    }
    gcm_free(gcm);
    struct seglog_footer footer = {.first_frame = 1,
                                   .last_frame = FRAMES,
                                   .next_seq = FRAMES * 3 + 2,
                                   .time_us_min = 1,
                                   .time_us_max = FRAMES};
    good_size += seglog_footer_encode(&footer, NULL, good + good_size);
}

static void prepare(void) {
    const char *base = getenv("TMPDIR");
    int code = crypto_init();
    (void)snprintf(folder, sizeof folder, "%s/bh-fuzz-seglog-%u", base != NULL ? base : "/dev/shm",
                   os_process_id());
    quick_ops = *os_file_real_ops();
    quick_ops.fdatasync = no_sync;
    quick_ops.fsync_dir = no_sync;
    os_file_install(&quick_ops);
    code |= os_dir_make(folder);
    check(code == 0);
    make_good();
    (void)atexit(leave);
}

static int read_through(uint64_t *ret_frames) {
    struct seglog_config config = config_of();
    struct seglog_reader *reader = NULL;
    struct seglog_frame frame;
    int code = seglog_reader_new(&config, &reader, NULL);
    check(code == 0);
    uint64_t frames = 0;
    uint64_t next_seq = 0;
    while ((code = seglog_read_next(reader, UINT64_MAX, room, sizeof room, &frame)) == 0) {
        check(frame.first_seq >= next_seq && frame.plain.n + 64 <= frame.size + 8);
        next_seq = frame.first_seq + frame.events;
        frames++;
    }
    int sought = seglog_reader_seek(reader, next_seq / 2);
    check(sought <= 0);
    seglog_reader_free(reader);
    *ret_frames = frames;
    return code;
}

static void try_file(size_t n) {
    char path[SEGLOG_PATH_MAX];
    struct os_file file = OS_FILE_NONE;
    struct seglog_config config = config_of();
    struct seglog_recovery recovery;
    struct seglog *log = NULL;
    uint64_t frames = 0;
    uint64_t after = 0;
    clean();
    path_of(1, path);
    int code = os_file_open(path, OS_OPEN_WRITE | OS_OPEN_CREATE | OS_OPEN_TRUNCATE, &file);
    check(code == 0);
    code = os_file_write_at(file, 0, file_bytes, n);
    check(code == 0);
    os_file_close(&file);
    int verdict = read_through(&frames);
    code = seglog_open(&config, &recovery, &log, NULL);
    if (code != 0) {
        /* A reader does not care whose instance wrote; a writer does. */
        check(verdict != BH_E_TORN || code == BH_E_KEY);
        return;
    }
    code = seglog_close(log);
    check(code == 0);
    if (verdict == BH_E_AGAIN || verdict == BH_E_TORN) {
        verdict = read_through(&after);
        check(verdict == BH_E_AGAIN && after == frames);
    }
    code = seglog_open(&config, &recovery, &log, NULL);
    check(code == 0 && !recovery.was_open && recovery.torn_bytes == 0);
    code = seglog_close(log);
    check(code == 0);
}

/* Makes the checksums of every frame header right that still starts where one did. */
static void mend(void) {
    size_t at = SEGLOG_HEADER_SIZE;
    put_u32(file_bytes + SEGLOG_HEADER_SIZE - 4, crc32c(file_bytes, SEGLOG_HEADER_SIZE - 4));
    for (uint64_t number = 1; number <= FRAMES; number++) {
        uint32_t sealed = get_u32(good + at + 4);
        seglog_frame_encode_crc(crc32c(file_bytes + at + SEGLOG_FRAME_HEADER_SIZE, sealed),
                                file_bytes + at);
        at += seglog_frame_size(sealed);
    }
}

/* First byte: 0 = the rest is the file; 1 = a good header, then the rest; 2 and 3 = the good file,
 * changed by triples (offset, byte), 3 with the checksums made right again; then cut to the length
 * in the two bytes before the triples. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (good_size == 0) {
        prepare();
    }
    if (size < 3 || size > SEGMENT - SEGLOG_HEADER_SIZE) {
        return 0;
    }
    memset(file_bytes, 0, sizeof file_bytes);
    unsigned mode = data[0] % 4;
    size_t n = size - 1;
    if (mode < 2) {
        size_t skip = mode == 1 ? SEGLOG_HEADER_SIZE : 0;
        memcpy(file_bytes, good, skip);
        memcpy(file_bytes + skip, data + 1, n);
        n += skip;
    } else {
        memcpy(file_bytes, good, good_size);
        for (size_t i = 3; i + EDIT_SIZE <= size; i += EDIT_SIZE) {
            /* Nearly all of the header is zeros: edits count from its last used byte. */
            file_bytes[(get_u16(data + i) + 4000U) % (unsigned)good_size] ^= data[i + 2];
        }
        if (mode == 3) {
            mend();
        }
        n = (get_u16(data + 1) + good_size) % (good_size + 256);
    }
    try_file(n);
    return 0;
}
