/* Sealed: what is left on the disk of a segment that was dropped. */
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

enum { WRAPPED_KEY_AT = 92 }; /* docs/format/segment.md */

static char folder[128];
static uint8_t wrapping[KEY_SIZE] = {5};

static int set_up(void **state) {
    (void)state;
    const char *base = getenv("TMPDIR");
    (void)snprintf(folder, sizeof folder, "%s/bh-seglog-promises-XXXXXX",
                   base != NULL ? base : "/tmp");
    return mkdtemp(folder) != NULL ? crypto_init() : -1;
}

static int remove_name(void *context, const char *name) {
    char path[300];
    (void)snprintf(path, sizeof path, "%s/%s", (const char *)context, name);
    return unlink(path);
}

static int tear_down(void **state) {
    (void)state;
    os_file_install(NULL);
    return os_dir_list(folder, remove_name, folder) == 0 ? rmdir(folder) : -1;
}

/* What is done to the disk, a letter each. */
static char steps[16];
static size_t step_count;

static void note(char step) {
    steps[step_count] = step;
    step_count += step_count + 1 < sizeof steps;
}

static long note_write(int fd, const void *p, size_t n, long offset) {
    note('w');
    return os_file_real_ops()->pwrite(fd, p, n, offset);
}

static int note_sync(int fd) {
    note('s');
    return os_file_real_ops()->fdatasync(fd);
}

static int note_unlink(const char *path) {
    note('u');
    return os_file_real_ops()->unlink(path);
}

/* Another name of the file shows its sectors after the unlink: the key is gone from them, and was before the name was. */
static void a_dropped_segment_leaves_no_key(void **state) {
    (void)state;
    static const uint8_t zeros[WRAPPED_KEY_SIZE];
    struct seglog_config config = {.dir = folder,
                                   .kind = SEGLOG_JOURNAL,
                                   .wrapping = wrapping,
                                   .segment_size = 65536,
                                   .frame_max = 8192};
    struct seglog_recovery recovery;
    struct seglog *log = NULL;
    struct seglog_frame frame;
    struct err err = {0};
    uint8_t key[WRAPPED_KEY_SIZE];
    struct os_file file = OS_FILE_NONE;
    size_t n = 0;
    char path[200];
    char kept[200];
    assert_int_equal(seglog_open(&config, &recovery, &log, &err), 0);
    for (unsigned i = 0; i < 2; i++) {
        struct span part = SPAN_LIT("personal");
        assert_int_equal(seglog_append(log, seglog_next_seq(log), 1, 1, 1, &part, 1, &frame), 0);
        assert_int_equal(seglog_sync(log), 0);
        assert_int_equal(seglog_rotate(log), 0);
    }
    (void)snprintf(path, sizeof path, "%s/0000000001.seg", folder);
    (void)snprintf(kept, sizeof kept, "%s/kept", folder);
    assert_int_equal(link(path, kept), 0);
    assert_int_equal(os_file_open(kept, OS_OPEN_READ, &file), 0);
    assert_int_equal(os_file_read_at(file, WRAPPED_KEY_AT, key, sizeof key, &n), 0);
    assert_memory_not_equal(key, zeros, sizeof key);

    struct os_file_ops ops = *os_file_real_ops();
    ops.pwrite = note_write;
    ops.fdatasync = note_sync;
    ops.unlink = note_unlink;
    os_file_install(&ops);
    assert_int_equal(seglog_drop(folder, 1), 0);
    os_file_install(NULL);

    assert_int_equal(os_file_read_at(file, WRAPPED_KEY_AT, key, sizeof key, &n), 0);
    assert_memory_equal(key, zeros, sizeof key);
    assert_string_equal(steps, "wsu");
    os_file_close(&file);
    assert_int_equal(seglog_close(log), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_dropped_segment_leaves_no_key),
    };
    return cmocka_run_group_tests_name("seglog_promises", tests, set_up, tear_down);
}
