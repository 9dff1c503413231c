/* The kernel's side as the rest of the program sees it: files, names, threads, locks, logs, commands. */
/* depends: os base */
#define _GNU_SOURCE
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "os/clock.h"
#include "os/file.h"
#include "os/log.h"
#include "os/thread.h"

static char folder[128];
static char path[200];

static int remove_name(void *context, const char *name) {
    char victim[300];
    (void)snprintf(victim, sizeof victim, "%s/%s", (const char *)context, name);
    return os_path_unlink(victim);
}

static int set_up(void **state) {
    (void)state;
    const char *base = getenv("TMPDIR");
    (void)snprintf(folder, sizeof folder, "%s/bh-os-%u", base != NULL ? base : "/tmp",
                   os_process_id());
    (void)snprintf(path, sizeof path, "%s/file", folder);
    return os_dir_make(folder);
}

static int tear_down(void **state) {
    (void)state;
    int code = os_dir_list(folder, remove_name, folder);
    return code != 0 ? code : rmdir(folder);
}

static void files_are_written_read_and_cut(void **state) {
    (void)state;
    struct os_file file = OS_FILE_NONE;
    uint8_t bytes[100];
    size_t n = 0;
    uint64_t size = 0;
    unsigned mode = 0;
    (void)unlink(path);
    assert_int_equal(os_file_open(path, OS_OPEN_READ, &file), BH_E_NOTFOUND);
    assert_int_equal(file.fd, -1);
    assert_int_equal(os_file_open(path, OS_OPEN_WRITE | OS_OPEN_CREATE | OS_OPEN_EXCLUSIVE, &file),
                     0);
    assert_int_equal(os_path_mode(path, &mode), 0);
    assert_int_equal(mode, 0600);
    struct os_file second = OS_FILE_NONE;
    assert_int_equal(
        os_file_open(path, OS_OPEN_WRITE | OS_OPEN_CREATE | OS_OPEN_EXCLUSIVE, &second),
        BH_E_EXISTS);
    assert_int_equal(os_file_write_at(file, 10, "abc", 3), 0);
    assert_int_equal(os_file_size(file, &size), 0);
    assert_int_equal(size, 13);
    assert_int_equal(os_file_read_at(file, 9, bytes, sizeof bytes, &n), 0);
    assert_int_equal(n, 4);
    assert_memory_equal(bytes, "\0abc", 4);
    assert_int_equal(os_file_read_at(file, UINT64_MAX, bytes, sizeof bytes, &n), 0);
    assert_int_equal(n, 0);
    assert_int_equal(os_file_reserve(file, 5000), 0);
    assert_int_equal(os_file_size(file, &size), 0);
    assert_int_equal(size, 5000);
    assert_int_equal(os_file_reserve(file, 100), 0); /* never shrinks */
    assert_int_equal(os_file_size(file, &size), 0);
    assert_int_equal(size, 5000);
    assert_int_equal(os_file_read_at(file, 4990, bytes, sizeof bytes, &n), 0);
    assert_int_equal(n, 10);
    assert_memory_equal(bytes, "\0\0\0\0\0\0\0\0\0\0", 10);
    assert_int_equal(os_file_truncate(file, 11), 0);
    assert_int_equal(os_file_sync(file), 0);
    assert_int_equal(os_file_read_whole(path, bytes, 11, &n), 0);
    assert_int_equal(n, 11);
    assert_int_equal(os_file_read_whole(path, bytes, 10, &n), BH_E_TOO_BIG);
    os_file_close(&file);
    os_file_close(&file);
    assert_int_equal(file.fd, -1);
}

static void a_lock_is_held_by_one(void **state) {
    (void)state;
    struct os_file first = OS_FILE_NONE;
    struct os_file second = OS_FILE_NONE;
    assert_int_equal(os_file_open(path, OS_OPEN_WRITE | OS_OPEN_CREATE, &first), 0);
    assert_int_equal(os_file_open(path, OS_OPEN_WRITE | OS_OPEN_CREATE, &second), 0);
    assert_int_equal(os_file_lock(first), 0);
    assert_int_equal(os_file_lock(second), BH_E_BUSY);
    os_file_close(&first);
    assert_int_equal(os_file_lock(second), 0);
    os_file_close(&second);
}

/* Signals and slow disks give short counts; they are completed. Failures keep errno and are named. */

static int interruptions;

static long short_pwrite(int fd, const void *p, size_t n, long offset) {
    if (interruptions++ % 3 == 0) {
        errno = EINTR;
        return -1;
    }
    return os_file_real_ops()->pwrite(fd, p, n > 7 ? 7 : n, offset);
}

static long short_pread(int fd, void *p, size_t n, long offset) {
    if (interruptions++ % 3 == 0) {
        errno = EINTR;
        return -1;
    }
    return os_file_real_ops()->pread(fd, p, n > 5 ? 5 : n, offset);
}

static int no_fallocate(int fd, long offset, long n) {
    (void)fd;
    (void)offset;
    (void)n;
    errno = EOPNOTSUPP;
    return -1;
}

static int full_after_a_part(int fd, long offset, long n) {
    (void)n;
    int kept = os_file_real_ops()->fallocate(fd, offset, 4096);
    (void)kept;
    errno = ENOSPC;
    return -1;
}

static void short_counts_are_completed(void **state) {
    (void)state;
    uint8_t bytes[200];
    uint8_t back[200];
    size_t n = 0;
    uint64_t size = 0;
    struct os_file_ops ops = *os_file_real_ops();
    ops.pwrite = short_pwrite;
    ops.pread = short_pread;
    ops.fallocate = no_fallocate;
    os_file_install(&ops);
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (uint8_t)i;
    }
    struct os_file file = OS_FILE_NONE;
    assert_int_equal(os_file_open(path, OS_OPEN_WRITE | OS_OPEN_CREATE | OS_OPEN_TRUNCATE, &file),
                     0);
    assert_int_equal(os_file_write_at(file, 3, bytes, sizeof bytes), 0);
    assert_int_equal(os_file_read_at(file, 3, back, sizeof back, &n), 0);
    assert_int_equal(n, sizeof back);
    assert_memory_equal(back, bytes, n);
    assert_int_equal(os_file_reserve(file, 1000), 0);
    assert_int_equal(os_file_size(file, &size), 0);
    assert_int_equal(size, 1000);
    ops.fallocate = full_after_a_part;
    assert_int_equal(os_file_reserve(file, 100000), BH_E_NOSPACE);
    assert_int_equal(os_file_size(file, &size), 0);
    assert_int_equal(size, 1000);
    os_file_close(&file);
    os_file_install(NULL);
}

static int count_names(void *context, const char *name) {
    int *count = (int *)context;
    assert_true(strcmp(name, ".") != 0 && strcmp(name, "..") != 0);
    (*count)++;
    return *count == 3 ? 42 : 0;
}

static void names_are_listed_renamed_and_resolved(void **state) {
    (void)state;
    char other[200];
    char out[300];
    int count = 0;
    uint64_t free_bytes = 0;
    uint64_t total = 0;
    (void)snprintf(other, sizeof other, "%s/other", folder);
    assert_int_equal(os_file_replace(path, "one", 3, 0600), 0);
    assert_int_equal(os_file_replace(other, "two", 3, 0400), 0);
    assert_int_equal(os_file_replace(other, "three", 5, 0400), 0); /* also over a read-only one */
    assert_int_equal(os_dir_list(folder, count_names, &count), 0);
    assert_int_equal(count, 2);
    count = 1;
    assert_int_equal(os_dir_list(folder, count_names, &count), 42);
    assert_int_equal(os_dir_list("/nowhere", count_names, &count), BH_E_NOTFOUND);
    assert_int_equal(os_path_rename(other, path), 0);
    assert_false(os_path_exists(other));
    size_t n = 0;
    assert_int_equal(os_file_read_whole(path, out, sizeof out, &n), 0);
    assert_true(span_is(span_of(out, n), "three"));
    assert_int_equal(os_path_real(folder, out, sizeof out), 0);
    assert_int_equal(os_path_real(folder, out, 3), BH_E_TOO_BIG);
    assert_int_equal(os_path_real("/nowhere/at/all", out, sizeof out), BH_E_NOTFOUND);
    assert_int_equal(os_dir_make(folder), 0);
    assert_int_equal(os_dir_make(path), BH_E_EXISTS); /* a file stands there */
    assert_int_equal(os_dir_make("/nowhere/below"), BH_E_NOTFOUND);
    assert_int_equal(os_dir_sync(folder), 0);
    assert_int_equal(os_path_space(folder, &free_bytes, &total), 0);
    assert_true(total >= free_bytes && total > 0);
    assert_int_equal(os_path_unlink(path), 0);
    assert_int_equal(os_path_unlink(path), BH_E_NOTFOUND);
}

/* Threads, locks. */

static struct os_lock low;
static struct os_lock high;
static struct os_cond changed;
static int shared;

static void add_many(void *context) {
    (void)context;
    for (int i = 0; i < 20000; i++) {
        os_lock(&low);
        shared++;
        os_unlock(&low);
    }
    os_lock(&low);
    os_cond_signal_all(&changed);
    os_unlock(&low);
}

static void locks_exclude_and_wake(void **state) {
    (void)state;
    struct os_thread threads[3];
    os_lock_init(&low, OS_LOCK_GATE);
    os_lock_init(&high, OS_LOCK_JOURNAL);
    os_cond_init(&changed);
    shared = 0;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(os_thread_start(&threads[i], "adder", 64 * 1024, add_many, NULL), 0);
    }
    os_lock(&low);
    while (shared < 60000) {
        (void)os_cond_wait(&changed, &low, UINT64_MAX);
        os_lock_assert_held(&low);
    }
    uint64_t before = os_mono_us();
    assert_false(os_cond_wait(&changed, &low, 20000) && shared != 60000);
    os_lock(&high); /* a higher rank inside a lower one */
    os_unlock(&low);
    os_unlock(&high);
    assert_true(os_mono_us() >= before);
    for (int i = 0; i < 3; i++) {
        os_thread_join(&threads[i]);
        os_thread_join(&threads[i]);
    }
    os_cond_fini(&changed);
    os_lock_fini(&low);
    os_lock_fini(&high);
}

static void expect_abort(void (*run)(void)) {
    pid_t child = fork();
    if (child == 0) {
        (void)close(STDERR_FILENO);
        run();
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
}

static void take_in_wrong_order(void) {
    os_lock_init(&low, OS_LOCK_GATE);
    os_lock_init(&high, OS_LOCK_JOURNAL);
    os_lock(&high);
    os_lock(&low);
}

static void take_twice(void) {
    os_lock_init(&low, OS_LOCK_GATE);
    os_lock(&low);
    os_lock(&low);
}

static void give_what_is_not_held(void) {
    os_lock_init(&low, OS_LOCK_GATE);
    os_unlock(&low);
}

static void assert_what_is_not_held(void) {
    os_lock_init(&low, OS_LOCK_GATE);
    os_lock_assert_held(&low);
}

static void wrong_use_of_a_lock_aborts(void **state) {
    (void)state;
    expect_abort(take_in_wrong_order);
    expect_abort(take_twice);
    expect_abort(give_what_is_not_held);
    expect_abort(assert_what_is_not_held);
}

/* Logs: nothing that is not a plain word gets through, and a flood becomes a number. */

static size_t logged(void (*run)(void), uint8_t *out, size_t cap) {
    (void)fflush(stderr);
    int saved = dup(STDERR_FILENO);
    struct os_file file = OS_FILE_NONE;
    size_t n = 0;
    assert_int_equal(os_file_open(path, OS_OPEN_WRITE | OS_OPEN_CREATE | OS_OPEN_TRUNCATE, &file),
                     0);
    assert_int_equal(dup2(file.fd, STDERR_FILENO), STDERR_FILENO);
    run();
    assert_int_equal(dup2(saved, STDERR_FILENO), STDERR_FILENO);
    (void)close(saved);
    os_file_close(&file);
    assert_int_equal(os_file_read_whole(path, out, cap, &n), 0);
    return n;
}

static void log_words(void) {
    log_event(LOG_WARN, "vendor parked", LOG_WORD("vendor", "mixpanel"), LOG_INT("status", -401));
    log_event(LOG_WARN, "vendor parked", LOG_WORD("vendor", "a\"b"), LOG_INT("status", 1));
    log_event(LOG_WARN, "vendor parked", LOG_WORD("vendor", "two words"), LOG_INT("status", 2));
    log_event(LOG_WARN, "vendor parked", LOG_WORD("vendor", ""), LOG_INT("status", 3));
    log_event(LOG_WARN, "vendor parked",
              LOG_WORD("vendor",
                       "0123456789012345678901234567890123456789012345678901234567890123456789"),
              LOG_INT("status", 4));
    log_event(LOG_DEBUG, "not at this level", LOG_INT("x", 1));
}

static void log_flood(void) {
    for (int i = 0; i < 1000; i++) {
        log_event(LOG_ERROR, "flood", LOG_INT("i", i));
    }
}

static size_t count_lines(const uint8_t *p, size_t n) {
    size_t lines = 0;
    for (size_t i = 0; i < n; i++) {
        lines += p[i] == '\n' ? 1 : 0;
    }
    return lines;
}

static void a_log_line_holds_words_and_numbers_alone(void **state) {
    (void)state;
    static uint8_t out[256 * 1024];
    size_t n = logged(log_words, out, sizeof out);
    struct span text = span_of(out, n);
    assert_int_equal(count_lines(out, n), 5);
    assert_true(
        span_find(
            text,
            SPAN_LIT(
                "\"level\":\"warn\",\"message\":\"vendor parked\",\"vendor\":\"mixpanel\",\"status\":-401}\n")) !=
        SIZE_MAX);
    assert_true(span_starts(text, SPAN_LIT("{\"time\":\"20")));
    assert_int_equal(span_find(text, SPAN_LIT("a\"b")), SIZE_MAX);
    assert_int_equal(span_find(text, SPAN_LIT("two")), SIZE_MAX);
    assert_int_equal(span_find(text, SPAN_LIT("0123456")), SIZE_MAX);
    assert_int_equal(span_find(text, SPAN_LIT("level\":\"debug")), SIZE_MAX);
    n = logged(log_flood, out, sizeof out);
    assert_in_range(count_lines(out, n), 100, 300);
    os_sleep_us(1100000);
    n = logged(log_flood, out, sizeof out);
    assert_true(span_find(span_of(out, n), SPAN_LIT("\"suppressed\":")) != SIZE_MAX);
}

static void a_command_gives_its_output_or_an_error(void **state) {
    (void)state;
    uint8_t out[32];
    size_t n = 0;
    assert_int_equal(os_command_output("printf 'a key'", out, sizeof out, &n), 0);
    assert_true(span_is(span_of(out, n), "a key"));
    assert_int_equal(os_command_output("true", out, sizeof out, &n), 0);
    assert_int_equal(n, 0);
    assert_int_equal(os_command_output("printf x; exit 1", out, sizeof out, &n), BH_E_IO);
    assert_int_equal(os_command_output("kill -9 $$", out, sizeof out, &n), BH_E_IO);
    assert_int_equal(os_command_output("yes", out, sizeof out, &n), BH_E_TOO_BIG);
    assert_int_equal(os_command_output("printf '%032d' 1", out, sizeof out, &n), 0);
    assert_int_equal(n, 32);
}

static uint64_t frozen_us(void) {
    return 1700000000123456;
}

static void clock_and_process_answer(void **state) {
    (void)state;
    uint64_t before = os_mono_us();
    os_sleep_us(2000);
    assert_true(os_mono_us() - before >= 2000);
    assert_true(os_wall_us() > UINT64_C(1700000000000000));
    const struct os_clock_ops frozen = {frozen_us, frozen_us, NULL};
    os_clock_install(&frozen);
    assert_true(os_wall_us() == frozen_us());
    os_clock_install(NULL);
    uint8_t a[64] = {0};
    uint8_t b[64] = {0};
    os_random(a, sizeof a);
    os_random(b, sizeof b);
    assert_memory_not_equal(a, b, sizeof a);
    uint8_t *memory = (uint8_t *)os_memory_map(1 << 20);
    assert_non_null(memory);
    memory[12345] = 1;
    os_memory_release(memory, 1 << 20);
    assert_int_equal(memory[12345], 0);
    os_memory_unmap(memory, 1 << 20);
    os_memory_unmap(NULL, 1);
    assert_true(os_process_rss_anon() > 10000);
    assert_true(os_cpu_count() >= 1);
}

static void signals_arrive_by_descriptor(void **state) {
    (void)state;
    pid_t child = fork();
    if (child == 0) {
        int fd = -1;
        int bad = os_signals_fd(&fd);
        bad |= os_signals_read(fd) != OS_SIGNAL_NONE;
        bad |= kill(getpid(), SIGHUP);
        bad |= os_signals_read(fd) != OS_SIGNAL_RELOAD;
        bad |= kill(getpid(), SIGTERM);
        bad |= os_signals_read(fd) != OS_SIGNAL_STOP;
        bad |= kill(getpid(), SIGPIPE); /* ignored */
        bad |= os_process_harden(false);
        _exit(bad == 0 ? 7 : 1);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 7);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_are_written_read_and_cut),
        cmocka_unit_test(a_lock_is_held_by_one),
        cmocka_unit_test(short_counts_are_completed),
        cmocka_unit_test(names_are_listed_renamed_and_resolved),
        cmocka_unit_test(locks_exclude_and_wake),
        cmocka_unit_test(wrong_use_of_a_lock_aborts),
        cmocka_unit_test(a_log_line_holds_words_and_numbers_alone),
        cmocka_unit_test(a_command_gives_its_output_or_an_error),
        cmocka_unit_test(clock_and_process_answer),
        cmocka_unit_test(signals_arrive_by_descriptor),
    };
    return cmocka_run_group_tests_name("os", tests, set_up, tear_down);
}
