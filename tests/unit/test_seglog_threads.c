/* One writer, readers beside it, and somebody who lists and destroys: no lock is shared, so the files must be enough. */
/* depends: seglog crypto os base */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/check.h"
#include "crypto/crypto.h"
#include "engine/seglog/seglog.h"
#include "os/clock.h"
#include "os/file.h"
#include "os/thread.h"

enum { SEGMENT = 64 * 1024, FRAME_LIMIT = 16 * 1024, FRAMES = 4000, READERS = 3 };

static char folder[128];
static uint8_t wrapping[KEY_SIZE] = {5};
/* Frame up to which everything is synced: release by the writer, acquire by the readers. */
static _Atomic uint64_t durable;
static _Atomic bool finished;

static int no_sync(int fd) {
    (void)fd;
    return 0;
}

static struct os_file_ops quick_ops;

static int remove_name(void *context, const char *name) {
    char victim[300];
    (void)snprintf(victim, sizeof victim, "%s/%s", (const char *)context, name);
    return os_path_unlink(victim);
}

static int set_up(void **state) {
    (void)state;
    const char *base = getenv("TMPDIR");
    (void)snprintf(folder, sizeof folder, "%s/bh-seglog-threads-%u", base != NULL ? base : "/tmp",
                   os_process_id());
    quick_ops = *os_file_real_ops();
    quick_ops.fdatasync = no_sync;
    quick_ops.fsync_dir = no_sync;
    os_file_install(&quick_ops);
    return os_dir_make(folder) | crypto_init();
}

static int tear_down(void **state) {
    (void)state;
    int code = os_dir_list(folder, remove_name, folder);
    os_file_install(NULL);
    return code != 0 ? code : rmdir(folder);
}

static struct seglog_config config_of(void) {
    struct seglog_config config = {.dir = folder,
                                   .kind = SEGLOG_JOURNAL,
                                   .wrapping = wrapping,
                                   .segment_size = SEGMENT,
                                   .frame_max = FRAME_LIMIT,
                                   .prepare_next = true};
    return config;
}

static size_t fill(uint64_t number, uint8_t *p) {
    size_t n = (size_t)(number * 7919 % 1500);
    memset(p, (int)(number & 255), n);
    return n;
}

/* Follows to the end; a frame that was destroyed meanwhile is skipped by seeking. */
static void follow(void *context) {
    struct seglog_config config = config_of();
    struct seglog_reader *reader = NULL;
    uint8_t *buffer = (uint8_t *)os_memory_map(SEGLOG_FRAME_MAX);
    uint8_t expected[1500];
    uint64_t next_seq = 0;
    uint64_t *read_count = (uint64_t *)context;
    int code = seglog_reader_new(&config, &reader, NULL);
    check(code == 0 && buffer != NULL);
    for (;;) {
        struct seglog_frame frame;
        uint64_t up_to = atomic_load_explicit(&durable, memory_order_acquire);
        code = seglog_read_next(reader, up_to, buffer, SEGLOG_FRAME_MAX, &frame);
        if (code == 0) {
            size_t n = fill(frame.number, expected);
            check(frame.first_seq >= next_seq && frame.first_seq == frame.number * 2);
            check(frame.plain.n == n && memcmp(frame.plain.p, expected, n) == 0);
            next_seq = frame.first_seq + frame.events;
            (*read_count)++;
            continue;
        }
        if (code == BH_E_NOTFOUND) {
            code = seglog_reader_seek(reader, next_seq);
            check(code == 0 || code == BH_E_NOTFOUND);
            continue;
        }
        check(code == BH_E_AGAIN);
        if (atomic_load_explicit(&finished, memory_order_acquire) && up_to == FRAMES) {
            break;
        }
        os_sleep_us(50);
    }
    seglog_reader_free(reader);
    os_memory_unmap(buffer, SEGLOG_FRAME_MAX);
}

struct oldest {
    uint64_t number;
    uint64_t count;
};

static int find_oldest(void *context, const struct seglog_segment *segment) {
    struct oldest *oldest = (struct oldest *)context;
    oldest->number = oldest->count++ == 0 ? segment->number : oldest->number;
    return 0;
}

static void destroy(void *context) {
    uint64_t *dropped = (uint64_t *)context;
    while (!atomic_load_explicit(&finished, memory_order_acquire)) {
        struct oldest oldest = {0, 0};
        int code = seglog_list(folder, SEGLOG_JOURNAL, find_oldest, &oldest);
        check(code == 0);
        if (oldest.count > 20) {
            code = seglog_drop(folder, oldest.number);
            check(code == 0);
            (*dropped)++;
        }
        os_sleep_us(500);
    }
}

static void readers_follow_while_segments_come_and_go(void **state) {
    (void)state;
    struct seglog_config config = config_of();
    struct seglog_recovery recovery;
    struct seglog *log = NULL;
    struct os_thread readers[READERS];
    struct os_thread destroyer;
    uint64_t counts[READERS] = {0};
    uint64_t dropped = 0;
    assert_int_equal(seglog_open(&config, &recovery, &log, NULL), 0);
    for (int i = 0; i < READERS; i++) {
        assert_int_equal(os_thread_start(&readers[i], "reader", 256 * 1024, follow, &counts[i]), 0);
    }
    assert_int_equal(os_thread_start(&destroyer, "destroyer", 256 * 1024, destroy, &dropped), 0);
    for (uint64_t number = 1; number <= FRAMES; number++) {
        uint8_t plain[1500];
        struct seglog_frame frame;
        struct span part = span_of(plain, fill(number, plain));
        assert_int_equal(seglog_append(log, number * 2, 2, 1, number, &part, 1, &frame), 0);
        assert_int_equal(seglog_sync(log), 0);
        atomic_store_explicit(&durable, number, memory_order_release);
        if (number % 64 == 0) {
            os_sleep_us(500);
        }
    }
    assert_int_equal(seglog_close(log), 0);
    atomic_store_explicit(&finished, true, memory_order_release);
    os_thread_join(&destroyer);
    for (int i = 0; i < READERS; i++) {
        os_thread_join(&readers[i]);
        assert_in_range(counts[i], FRAMES / 4, FRAMES);
    }
    assert_true(dropped > 5);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(readers_follow_while_segments_come_and_go)};
    return cmocka_run_group_tests_name("seglog_threads", tests, set_up, tear_down);
}
