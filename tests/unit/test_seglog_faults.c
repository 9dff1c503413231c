/* Seglog on a disk that loses power, space and its mind: what was synced is always there, in order,
 * and recovery never calls a torn end rot. */
/* depends: seglog crypto os base */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "crypto/crypto.h"
#include "engine/seglog/seglog.h"
#include "os/fault.h"
#include "os/file.h"
#include "os/thread.h"

enum { SEGMENT = 64 * 1024, FRAME_LIMIT = 24 * 1024, FRAMES = 40, LIVES = 4 };

static char folder[128];
static uint8_t wrapping[KEY_SIZE] = {9};
static uint8_t payload[FRAME_LIMIT];
static uint8_t room[SEGLOG_FRAME_MAX];
/* Shared with the children: [0] the last frame whose sync returned, [1] the first frame that nobody
 * asked to destroy. */
static volatile uint64_t *acknowledged;
static unsigned long seed;

static struct span bytes_of(uint64_t number) {
    size_t n = (size_t)(number * 2654435761U % 9000);
    for (size_t i = 0; i < n; i++) {
        payload[i] = (uint8_t)(number * 31 + i * 7);
    }
    return span_of(payload, n);
}

static int remove_name(void *context, const char *name) {
    char path[300];
    (void)snprintf(path, sizeof path, "%s/%s", (const char *)context, name);
    return os_path_unlink(path);
}

static void empty_folder(void) {
    assert_int_equal(os_dir_make(folder), 0);
    assert_int_equal(os_dir_list(folder, remove_name, folder), 0);
}

static int set_up(void **state) {
    (void)state;
    const char *base = getenv("TMPDIR");
    (void)snprintf(folder, sizeof folder, "%s/bh-seglog-faults-%u", base != NULL ? base : "/tmp",
                   os_process_id());
    acknowledged = (volatile uint64_t *)mmap(NULL, 4096, PROT_READ | PROT_WRITE,
                                             MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    const char *text = getenv("BULKHEAD_SEED");
    seed = text != NULL ? strtoul(text, NULL, 10) : 77;
    print_message("seed %lu (BULKHEAD_SEED sets it)\n", seed);
    return crypto_init();
}

static int tear_down(void **state) {
    (void)state;
    os_fault_remove();
    empty_folder();
    return rmdir(folder);
}

static struct seglog_config config_of(unsigned variant) {
    struct seglog_config config = {
        .dir = folder,
        .kind = SEGLOG_LEDGER,
        .instance = 1,
        .wrapping = wrapping,
        .segment_size = SEGMENT,
        .frame_max = FRAME_LIMIT,
        .prepare_next = variant % 2 == 0,
        .grow_step = variant % 3 == 0 ? 8192 : 0,
    };
    return config;
}

static int append_next(struct seglog *log) {
    struct seglog_frame frame;
    uint64_t number = seglog_next_frame(log);
    struct span plain = bytes_of(number);
    int code = seglog_append(log, number * 2, 2, 1, number, &plain, 1, &frame);
    return code == 0 ? seglog_sync(log) : code;
}

struct oldest {
    uint64_t count;
    uint64_t number;
    uint64_t last_frame;
};

static int find_oldest(void *context, const struct seglog_segment *segment) {
    struct oldest *oldest = (struct oldest *)context;
    if (oldest->count++ == 0) {
        oldest->number = segment->number;
        oldest->last_frame = segment->last_frame;
    }
    return 0;
}

/* Keeps three segments. */
static int destroy_oldest(void) {
    struct oldest oldest = {0, 0, 0};
    int code = seglog_list(folder, SEGLOG_LEDGER, find_oldest, &oldest);
    if (code != 0 || oldest.count <= 3) {
        return code;
    }
    acknowledged[1] = oldest.last_frame + 1;
    return seglog_drop(folder, oldest.number);
}

/* One process life: open, append until the power goes or enough is written. Exit status 0, or the
 * loss's. */
static void live(const char *spec, unsigned variant, uint64_t frames) {
    struct seglog_recovery recovery;
    struct seglog *log = NULL;
    struct err err = {0};
    struct seglog_config config = config_of(variant);
    if (os_fault_install(spec, &err) != 0 || seglog_open(&config, &recovery, &log, &err) != 0) {
        (void)fprintf(stderr, "%s: %s\n", spec, err.text);
        _exit(1);
    }
    for (uint64_t i = 0; i < frames; i++) {
        if (append_next(log) != 0) {
            _exit(2);
        }
        acknowledged[0] = seglog_next_frame(log) - 1;
        if (variant % 2 == 1 && destroy_oldest() != 0) {
            _exit(4);
        }
    }
    _exit(seglog_close(log) == 0 ? 0 : 3);
}

static int wait_for(pid_t child) {
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

/* Everything acknowledged and not destroyed is there; at most the one frame in flight more. Read
 * without a recovery first, as after a crash. */
static void verify(const struct seglog_config *config) {
    struct seglog_reader *reader = NULL;
    struct seglog_frame frame;
    uint64_t last = 0;
    int code = 0;
    assert_int_equal(seglog_reader_new(config, &reader, NULL), 0);
    while ((code = seglog_read_next(reader, UINT64_MAX, room, sizeof room, &frame)) == 0) {
        if (last == 0) {
            assert_in_range(frame.number, 1, acknowledged[1]);
            last = frame.number - 1;
        }
        last++;
        assert_int_equal(frame.number, last);
        assert_int_equal(frame.first_seq, last * 2);
        assert_true(span_equal(frame.plain, bytes_of(last)));
    }
    seglog_reader_free(reader);
    if (code != BH_E_AGAIN && code != BH_E_TORN) {
        fail_msg("read ended with %s after frame %llu", bh_error_text(code),
                 (unsigned long long)last);
    }
    assert_in_range(last, acknowledged[0], acknowledged[0] + 1);
    acknowledged[0] = last;
}

/* Power is lost before every single operation of a life, over and over on the same log. */
static void power_lost_at_every_operation(void **state) {
    (void)state;
    unsigned losses = 0;
    for (unsigned variant = 0; variant < 6; variant++) {
        bool finished = false;
        for (unsigned at = 1; !finished; at += 1 + (unsigned)(seed + at * variant) % 5) {
            char spec[100];
            empty_folder();
            acknowledged[0] = 0;
            acknowledged[1] = 1;
            for (unsigned life = 0; life < LIVES; life++) {
                (void)snprintf(spec, sizeof spec, "seed=%lu,garble=%u,names=%u,loss_at=%u",
                               seed * 1000 + at * 10 + life, at % 2, variant < 4 ? 1U : 0U,
                               at + life * 3);
                pid_t child = fork();
                if (child == 0) {
                    live(spec, variant, FRAMES);
                }
                int status = wait_for(child);
                if (status != 0 && status != OS_FAULT_LOSS_STATUS) {
                    fail_msg("%s variant %u: status %d", spec, variant, status);
                }
                finished = finished || (status == 0 && life == 0);
                losses += status != 0 ? 1 : 0;
                struct seglog_config config = config_of(variant);
                verify(&config);
            }
        }
    }
    print_message("%u power losses\n", losses);
    assert_true(losses > 200);
}

/* A failed sync or write is the end of that life: the log refuses all further work, and the next
 * life finds all that was acknowledged. */
static void a_failed_sync_or_write_ends_the_log(void **state) {
    (void)state;
    static const char *const kinds[] = {"eio_sync", "eio_write", "eio_truncate", "eio_rename",
                                        "eio_dir"};
    unsigned hits = 0;
    for (size_t kind = 0; kind < BH_COUNT(kinds); kind++) {
        for (unsigned at = 1; at < 60; at++) {
            char spec[100];
            struct err err = {0};
            struct seglog_recovery recovery;
            struct seglog *log = NULL;
            struct seglog_config config = config_of(at);
            empty_folder();
            acknowledged[0] = 0;
            acknowledged[1] = 1;
            (void)snprintf(spec, sizeof spec, "seed=%lu,%s=:%u", seed + at, kinds[kind], at);
            assert_int_equal(os_fault_install(spec, &err), 0);
            assert_int_equal(seglog_open(&config, &recovery, &log, &err), 0);
            int code = 0;
            for (int i = 0; i < FRAMES && code == 0; i++) {
                code = append_next(log);
                acknowledged[0] += code == 0 ? 1 : 0;
            }
            if (code != 0) {
                hits++;
                assert_int_equal(code, BH_E_IO);
                assert_int_equal(append_next(log), BH_E_IO);
                assert_int_equal(seglog_sync(log), BH_E_IO);
                assert_int_equal(seglog_rotate(log), BH_E_IO);
                assert_int_equal(seglog_ensure_space(log, 1), BH_E_IO);
            }
            (void)seglog_close(log);
            os_fault_remove();
            verify(&config);
            assert_int_equal(seglog_open(&config, &recovery, &log, &err), 0);
            assert_int_equal(recovery.next_frame, acknowledged[0] + 1);
            assert_int_equal(append_next(log), 0);
            acknowledged[0]++;
            assert_int_equal(seglog_close(log), 0);
            verify(&config);
        }
    }
    assert_true(hits > 100);
}

/* No space: nothing is written, nothing is lost, and the same append succeeds once there is
 * some. */
static void no_space_is_a_state_that_ends(void **state) {
    (void)state;
    unsigned hits = 0;
    for (unsigned at = 1; at < 30; at++) {
        char spec[100];
        struct err err = {0};
        struct seglog_recovery recovery;
        struct seglog *log = NULL;
        struct seglog_config config = config_of(at);
        empty_folder();
        acknowledged[0] = 0;
        acknowledged[1] = 1;
        (void)snprintf(spec, sizeof spec, "enospc=:%u-%u", at, at + at % 4);
        assert_int_equal(os_fault_install(spec, &err), 0);
        assert_int_equal(seglog_open(&config, &recovery, &log, &err), 0);
        while (acknowledged[0] < FRAMES) {
            int code = append_next(log);
            if (code == BH_E_NOSPACE) {
                hits++;
                assert_int_equal(seglog_next_frame(log), acknowledged[0] + 1);
                verify(&config);
                continue;
            }
            assert_int_equal(code, 0);
            acknowledged[0]++;
        }
        assert_int_equal(seglog_close(log), 0);
        os_fault_remove();
        verify(&config);
        assert_int_equal(acknowledged[0], FRAMES);
    }
    assert_true(hits > 20);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(power_lost_at_every_operation),
        cmocka_unit_test(a_failed_sync_or_write_ends_the_log),
        cmocka_unit_test(no_space_is_a_state_that_ends),
    };
    return cmocka_run_group_tests_name("seglog_faults", tests, set_up, tear_down);
}
