/* The fault layer itself: what was synced is there after a power loss, what was not is old, new or
 * mixed by sectors. */
/* depends: os base */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "os/fault.h"
#include "os/file.h"
#include "os/thread.h"

enum { SIZE = 16 * 512 };

static char path[200];

static int set_up(void **state) {
    (void)state;
    const char *base = getenv("TMPDIR");
    (void)snprintf(path, sizeof path, "%s/bh-fault-%u.bin", base != NULL ? base : "/tmp",
                   os_process_id());
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    os_fault_remove();
    (void)unlink(path);
    return 0;
}

static void fill(uint8_t *p, uint8_t byte) {
    memset(p, byte, SIZE);
}

static struct os_file open_file(unsigned flags) {
    struct os_file file = OS_FILE_NONE;
    assert_int_equal(os_file_open(path, OS_OPEN_WRITE | flags, &file), 0);
    return file;
}

/* Child: one synced write of 1s, an unsynced one of 2s from `offset` on, then no power. */
static void lose(unsigned seed, bool garble, uint64_t offset) {
    pid_t child = fork();
    if (child == 0) {
        uint8_t bytes[SIZE];
        char spec[100];
        struct err err = {0};
        (void)snprintf(spec, sizeof spec, "seed=%u,garble=%d", seed, garble ? 1 : 0);
        struct os_file file = OS_FILE_NONE;
        int bad = os_fault_install(spec, &err);
        bad |= os_file_open(path, OS_OPEN_WRITE | OS_OPEN_CREATE | OS_OPEN_TRUNCATE, &file);
        fill(bytes, 1);
        bad |= os_file_write_at(file, 0, bytes, SIZE);
        bad |= os_file_sync(file);
        fill(bytes, 2);
        bad |= os_file_write_at(file, offset, bytes, SIZE - (size_t)offset);
        if (bad != 0) {
            _exit(1);
        }
        os_fault_power_loss();
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), OS_FAULT_LOSS_STATUS);
}

static void a_power_loss_keeps_sectors_whole_and_synced_bytes_always(void **state) {
    (void)state;
    unsigned old_count = 0;
    unsigned new_count = 0;
    unsigned mixed_files = 0;
    for (unsigned seed = 1; seed <= 200; seed++) {
        uint8_t bytes[SIZE];
        size_t n = 0;
        uint64_t offset = seed * 37 % 1000;
        lose(seed, false, offset);
        assert_int_equal(os_file_read_whole(path, bytes, SIZE, &n), 0);
        assert_int_equal(n, SIZE);
        for (size_t i = 0; i < offset; i++) {
            assert_int_equal(bytes[i], 1);
        }
        bool old_seen = false;
        bool new_seen = false;
        for (size_t sector = offset / 512; sector < SIZE / 512; sector++) {
            size_t from = sector * 512 < offset ? offset : sector * 512;
            for (size_t i = from; i < (sector + 1) * 512; i++) {
                assert_int_equal(bytes[i], bytes[from]);
            }
            old_seen = old_seen || bytes[from] == 1;
            new_seen = new_seen || bytes[from] == 2;
        }
        old_count += old_seen && !new_seen ? 1 : 0;
        new_count += new_seen && !old_seen ? 1 : 0;
        mixed_files += new_seen && old_seen ? 1 : 0;
    }
    assert_true(old_count > 10 && new_count > 10 && mixed_files > 50);
}

static void garbling_spares_sectors_with_synced_bytes(void **state) {
    (void)state;
    unsigned garbled = 0;
    for (unsigned seed = 1; seed <= 100; seed++) {
        uint8_t bytes[SIZE];
        size_t n = 0;
        lose(seed, true, 700);
        assert_int_equal(os_file_read_whole(path, bytes, SIZE, &n), 0);
        for (size_t i = 0; i < 1024; i++) {
            assert_true(bytes[i] == 1 || (i >= 700 && bytes[i] == 2));
        }
        for (size_t i = 1024; i < SIZE; i++) {
            garbled += bytes[i] != 1 && bytes[i] != 2 ? 1 : 0;
        }
    }
    assert_true(garbled > 1000);
}

static void reads_see_what_is_not_synced_and_truncation_forgets_it(void **state) {
    (void)state;
    uint8_t bytes[SIZE];
    static uint8_t back[SIZE];
    size_t n = 0;
    uint64_t size = 0;
    struct err err = {0};
    assert_int_equal(os_fault_install("seed=1", &err), 0);
    struct os_file file = open_file(OS_OPEN_CREATE | OS_OPEN_TRUNCATE);
    struct os_file second = open_file(0);
    fill(bytes, 1);
    assert_int_equal(os_file_write_at(file, 0, bytes, 1000), 0);
    fill(bytes, 2);
    assert_int_equal(os_file_write_at(file, 500, bytes, 1000), 0);
    assert_int_equal(os_file_size(second, &size), 0);
    assert_int_equal(size, 1500);
    assert_int_equal(os_file_read_at(second, 0, back, SIZE, &n), 0);
    assert_int_equal(n, 1500);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(back[i], i < 500 ? 1 : 2);
    }
    assert_int_equal(os_file_truncate(second, 700), 0);
    fill(bytes, 3);
    assert_int_equal(os_file_write_at(file, 900, bytes, 10), 0);
    assert_int_equal(os_file_read_at(second, 0, back, SIZE, &n), 0);
    assert_int_equal(n, 910);
    assert_int_equal(back[699], 2);
    assert_int_equal(back[700], 0);
    assert_int_equal(back[900], 3);
    assert_int_equal(os_file_sync(second), 0);
    os_file_close(&file);
    os_file_close(&second);
    os_fault_remove();
    assert_int_equal(os_file_read_whole(path, back, SIZE, &n), 0);
    assert_int_equal(n, 910);
    assert_int_equal(back[499], 1);
    assert_int_equal(back[500], 2);
    assert_int_equal(back[909], 3);
}

static void rules_fail_the_operation_that_they_name(void **state) {
    (void)state;
    uint8_t bytes[10] = {0};
    size_t n = 0;
    struct err err = {0};
    assert_int_equal(
        os_fault_install(
            "eio_write=bh-fault:2,eio_sync=.bin:2+,enospc=.bin:1-2,eio_sync=other:1,eio_read=.bin:3",
            &err),
        0);
    struct os_file file = open_file(OS_OPEN_CREATE | OS_OPEN_TRUNCATE);
    assert_int_equal(os_file_write_at(file, 0, bytes, 10), 0);
    assert_int_equal(os_file_write_at(file, 0, bytes, 10), BH_E_IO);
    assert_int_equal(os_file_write_at(file, 0, bytes, 10), 0);
    assert_int_equal(os_file_sync(file), 0);
    assert_int_equal(os_file_sync(file), BH_E_IO);
    assert_int_equal(os_file_sync(file), BH_E_IO);
    assert_int_equal(os_file_reserve(file, 8192), BH_E_NOSPACE);
    assert_int_equal(os_file_reserve(file, 8192), BH_E_NOSPACE);
    assert_int_equal(os_file_reserve(file, 8192), 0);
    assert_int_equal(os_file_read_at(file, 0, bytes, 10, &n), 0);
    assert_int_equal(os_file_read_at(file, 0, bytes, 10, &n), 0);
    assert_int_equal(os_file_read_at(file, 0, bytes, 10, &n), BH_E_IO);
    os_file_close(&file);
    static const char *const bad[] = {"seed",        "seed=x",       "nothing=1",   "eio_sync=a",
                                      "eio_sync=a:", "eio_sync=a:x", "enospc=a:1-", "enospc=a:@"};
    for (size_t i = 0; i < BH_COUNT(bad); i++) {
        assert_int_equal(os_fault_install(bad[i], &err), BH_E_CONFIG);
    }
}

static void a_rule_may_hang_on_a_file(void **state) {
    (void)state;
    char spec[300];
    char marker[250];
    struct err err = {0};
    (void)snprintf(marker, sizeof marker, "%s.full", path);
    (void)snprintf(spec, sizeof spec, "enospc=.bin:@%s", marker);
    assert_int_equal(os_fault_install(spec, &err), 0);
    struct os_file file = open_file(OS_OPEN_CREATE | OS_OPEN_TRUNCATE);
    assert_int_equal(os_file_reserve(file, 1000), 0);
    struct os_file made = OS_FILE_NONE;
    assert_int_equal(os_file_open(marker, OS_OPEN_WRITE | OS_OPEN_CREATE, &made), 0);
    os_file_close(&made);
    assert_int_equal(os_file_reserve(file, 2000), BH_E_NOSPACE);
    assert_int_equal(os_path_unlink(marker), 0);
    assert_int_equal(os_file_reserve(file, 2000), 0);
    os_file_close(&file);
}

/* Renamed before it was synced, a file may be anything; that is the mistake that os_file_replace
 * must not make. */
static void a_replaced_file_is_the_old_or_the_new_one(void **state) {
    (void)state;
    bool seen[2] = {false, false};
    for (unsigned at = 1, round = 0; at <= 12; round++, at += round % 8 == 0 ? 1 : 0) {
        uint8_t bytes[SIZE];
        size_t n = 0;
        os_fault_remove();
        fill(bytes, 1);
        assert_int_equal(os_file_replace(path, bytes, SIZE, 0600), 0);
        pid_t child = fork();
        if (child == 0) {
            char spec[100];
            struct err err = {0};
            (void)snprintf(spec, sizeof spec, "seed=%u,names=%u,loss_at=%u", at * 7 + round,
                           round % 2, at);
            int bad = os_fault_install(spec, &err);
            fill(bytes, 2);
            bad |= os_file_replace(path, bytes, SIZE, 0600);
            _exit(bad != 0 ? 1 : 0);
        }
        int status = 0;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFEXITED(status) &&
                    (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == OS_FAULT_LOSS_STATUS));
        assert_int_equal(os_file_read_whole(path, bytes, SIZE, &n), 0);
        assert_int_equal(n, SIZE);
        assert_true(bytes[0] == 1 || bytes[0] == 2);
        seen[bytes[0] - 1] = true;
        for (size_t i = 0; i < SIZE; i++) {
            assert_int_equal(bytes[i], bytes[0]);
        }
        if (WEXITSTATUS(status) == 0) {
            assert_int_equal(bytes[0], 2);
        }
    }
    assert_true(seen[0] && seen[1]);
    char left[250];
    (void)snprintf(left, sizeof left, "%s.tmp", path);
    (void)unlink(left);
}

/* Child: `path` renamed over, a second file made, both synced; the folder too when asked. */
static void change_names(unsigned seed, bool sync_folder) {
    char other[250];
    char folder[200];
    (void)snprintf(other, sizeof other, "%s.other", path);
    (void)snprintf(folder, sizeof folder, "%s", path);
    *strrchr(folder, '/') = 0;
    (void)unlink(other);
    os_fault_remove();
    assert_int_equal(os_file_replace(path, "old", 3, 0600), 0);
    pid_t child = fork();
    if (child == 0) {
        char spec[60];
        struct err err = {0};
        struct os_file file = OS_FILE_NONE;
        (void)snprintf(spec, sizeof spec, "seed=%u,names=1", seed);
        int bad = os_fault_install(spec, &err);
        bad |= os_file_open(other, OS_OPEN_WRITE | OS_OPEN_CREATE, &file);
        bad |= os_file_write_at(file, 0, "new", 3);
        bad |= os_file_sync(file);
        bad |= os_path_rename(other, path);
        bad |= os_file_open(other, OS_OPEN_WRITE | OS_OPEN_CREATE, &file);
        bad |= sync_folder ? os_dir_sync(folder) : 0;
        if (bad != 0) {
            _exit(1);
        }
        os_fault_power_loss();
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == OS_FAULT_LOSS_STATUS);
}

static void a_name_lasts_when_its_folder_was_synced(void **state) {
    (void)state;
    char other[250];
    uint8_t bytes[8];
    size_t n = 0;
    unsigned seen[4] = {0};
    (void)snprintf(other, sizeof other, "%s.other", path);
    for (unsigned seed = 1; seed <= 100; seed++) {
        change_names(seed, false);
        assert_int_equal(os_file_read_whole(path, bytes, sizeof bytes, &n), 0);
        bool renamed = span_is(span_of(bytes, n), "new");
        assert_true(renamed || span_is(span_of(bytes, n), "old"));
        /* Later changes never outlive earlier ones: a second file beside the old first one is the renamed one come back. */
        bool exists = os_path_exists(other);
        seen[(renamed ? 1 : 0) + (exists ? 2 : 0)]++;
        if (!renamed && exists) {
            assert_int_equal(os_file_read_whole(other, bytes, sizeof bytes, &n), 0);
            assert_true(span_is(span_of(bytes, n), "new"));
        }
        change_names(seed, true);
        assert_int_equal(os_file_read_whole(path, bytes, sizeof bytes, &n), 0);
        assert_true(span_is(span_of(bytes, n), "new"));
        assert_true(os_path_exists(other));
    }
    for (unsigned i = 0; i < 4; i++) {
        assert_true(seen[i] > 5);
    }
    (void)unlink(other);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_power_loss_keeps_sectors_whole_and_synced_bytes_always),
        cmocka_unit_test(garbling_spares_sectors_with_synced_bytes),
        cmocka_unit_test(reads_see_what_is_not_synced_and_truncation_forgets_it),
        cmocka_unit_test(rules_fail_the_operation_that_they_name),
        cmocka_unit_test(a_rule_may_hang_on_a_file),
        cmocka_unit_test(a_replaced_file_is_the_old_or_the_new_one),
        cmocka_unit_test(a_name_lasts_when_its_folder_was_synced),
    };
    return cmocka_run_group_tests_name("os_fault", tests, set_up, tear_down);
}
