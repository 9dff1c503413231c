/*
 * The journal on a bad disk: cut off at every byte, one bit wrong anywhere, full at every
 * reservation, failing at every write and sync.
 */
/* depends: journal inspect keyring seglog json model crypto os base */
/* sources: journal_kit.c */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "journal_kit.h"

#include "os/clock.h"
#include "os/fault.h"
#include "os/log.h"

enum { REQUESTS_MAX = 4096, EXIT_DISK_FAILED = 74 };

struct fixture {
    char dir[128];
    char journal_dir[160];
    char copy_dir[160];
    struct keyring *keyring;
    struct journal_config config;
    struct kit_request *request;
};

/* script/test sets BH_FULL always: 1 for the proof counts, 0 for the small ones. */
static bool is_full_count(void) {
    const char *full = getenv("BH_FULL");
    return full != NULL && strcmp(full, "1") == 0;
}

static int set_up(void **state) {
    struct fixture *f = (struct fixture *)calloc(1, sizeof(*f));
    assert_non_null(f);
    kit_dir_make(f->dir);
    f->keyring = kit_keyring(f->dir);
    f->config = kit_config(f->dir, f->keyring, f->journal_dir);
    (void)snprintf(f->copy_dir, sizeof(f->copy_dir), "%s/copy", f->dir);
    f->request = kit_request_new();
    *state = f;
    return 0;
}

static int tear_down(void **state) {
    struct fixture *f = (struct fixture *)*state;
    kit_request_free(f->request);
    keyring_free(f->keyring);
    kit_dir_remove(f->dir);
    free(f);
    return 0;
}

static int put_and_wait(struct fixture *f, struct journal *journal, uint64_t ticket, size_t events,
                        size_t pad, struct random_kit *random) {
    static int results[REQUESTS_MAX];
    struct journal_writer *writer = journal_writer_of(journal, 0);
    kit_request_fill(f->request, 0, ticket, events, pad, random);
    assert_int_equal(
        journal_writer_put(writer, &f->request->request, f->request->events, events, ticket), 0);
    journal_writer_flush(writer);
    results[ticket] = 1;
    kit_wait(writer, 1, results, REQUESTS_MAX);
    return results[ticket];
}

/*
 * Events of tickets 0, 1, 2, ... of writer 0 in order, each request whole. Returns the number of
 * events read.
 */
static uint64_t read_in_order(struct journal *journal) {
    struct journal_reader *reader = NULL;
    struct journal_batch batch;
    uint64_t gap = 0;
    uint64_t seq = 1;
    uint64_t ticket = 0;
    size_t index = 0;
    int r;
    assert_int_equal(journal_reader_new(journal, 1, -1, &reader), 0);
    while ((r = journal_reader_next(reader, &batch, &gap)) == 0) {
        for (uint32_t i = 0; i < batch.count; i++, seq++) {
            unsigned writer;
            uint64_t event_ticket;
            size_t event_index;
            size_t count;
            assert_true(
                kit_event_read(&batch.events[i], &writer, &event_ticket, &event_index, &count));
            assert_int_equal(batch.events[i].seq, seq);
            assert_int_equal(event_ticket, ticket);
            assert_int_equal(event_index, index);
            index = index + 1 == count ? 0 : index + 1;
            ticket += index == 0 ? 1 : 0;
        }
    }
    assert_int_equal(r, BH_E_AGAIN);
    assert_int_equal(index, 0);
    journal_reader_free(reader);
    return seq - 1;
}

/* -- cut off, and one bit wrong ---------------------------------------------------------------- */

enum { FRAMES = 6, EVENTS_EACH = 2 };

/*
 * A journal of FRAMES small frames, copied as it stands while its segment is open. ends[i] = file
 * size that holds i frames.
 */
static void make_small_journal(struct fixture *f, uint64_t ends[FRAMES + 1]) {
    struct journal *journal = kit_open(&f->config, NULL);
    assert_int_equal(journal_start(journal), 0);
    ends[0] = 4096;
    for (unsigned i = 0; i < FRAMES; i++) {
        struct journal_stats stats;
        assert_int_equal(put_and_wait(f, journal, i, EVENTS_EACH, 20, NULL), 0);
        journal_stats(journal, &stats);
        ends[i + 1] = ends[0] + stats.bytes_written;
    }
    kit_copy_dir(f->journal_dir, f->copy_dir);
    journal_free(journal);
    kit_dir_remove(f->journal_dir);
}

static void segment_path(const struct fixture *f, char out[256]) {
    struct kit_file files[8];
    size_t count = kit_files(f->journal_dir, files, 8);
    for (size_t i = 0; i < count; i++) {
        if (strstr(files[i].name, "1.seg") != NULL) {
            (void)snprintf(out, 256, "%s/%s", f->journal_dir, files[i].name);
            return;
        }
    }
    fail_msg("no segment");
}

static void cut_off_anywhere_keeps_the_whole_frames(void **state) {
    struct fixture *f = (struct fixture *)*state;
    uint64_t ends[FRAMES + 1];
    make_small_journal(f, ends);
    bool is_full_run = is_full_count();
    unsigned frames = FRAMES;
    for (uint64_t size = ends[FRAMES]; size >= ends[0]; size--) {
        while (size < ends[frames]) {
            frames--;
        }
        /* Every byte of two frames, and every seventh elsewhere. */
        if (!is_full_run && size < ends[FRAMES - 2] && size % 7 != 0) {
            continue;
        }
        kit_copy_dir(f->copy_dir, f->journal_dir);
        char path[256];
        segment_path(f, path);
        assert_int_equal(truncate(path, (off_t)size), 0);
        /* A command beside nobody sees the same, and changes nothing. */
        f->config.read_only = true;
        struct journal *journal = kit_open(&f->config, NULL);
        uint64_t end = read_in_order(journal);
        assert_int_equal(journal_durable_seq(journal), end);
        /* A frame without its padding was not synced, and can be read all the same. */
        bool lacks_padding = frames < FRAMES && ends[frames + 1] - size < 8;
        assert_true(end == frames * EVENTS_EACH ||
                    (lacks_padding && end == (frames + 1) * EVENTS_EACH));
        journal_free(journal);
        f->config.read_only = false;
        struct journal_recovery recovery;
        journal = kit_open(&f->config, &recovery);
        assert_int_equal(recovery.next_seq, frames * EVENTS_EACH + 1);
        assert_int_equal(read_in_order(journal), frames * EVENTS_EACH);
        /* And it goes on from there. */
        if (size % 16 == 0) {
            assert_int_equal(journal_start(journal), 0);
            assert_int_equal(put_and_wait(f, journal, frames, 1, 20, NULL), 0);
            assert_int_equal(read_in_order(journal), frames * EVENTS_EACH + 1);
        }
        journal_free(journal);
        kit_dir_remove(f->journal_dir);
    }
}

static void flip(const char *path, uint64_t bit) {
    int fd = open(path, O_RDWR);
    uint8_t byte;
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, (off_t)(bit / 8)), 1);
    byte ^= (uint8_t)(1U << (bit % 8));
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)(bit / 8)), 1);
    (void)close(fd);
}

static void one_wrong_bit_is_never_an_event(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct random_kit random = {random_kit_seed(21)};
    uint64_t ends[FRAMES + 1];
    make_small_journal(f, ends);
    unsigned rot = 0;
    unsigned torn = 0;
    unsigned rounds = is_full_count() ? 20000 : 400;
    for (unsigned i = 0; i < rounds; i++) {
        uint64_t bit = random_kit_below(&random, ends[FRAMES] * 8);
        kit_copy_dir(f->copy_dir, f->journal_dir);
        char path[256];
        segment_path(f, path);
        flip(path, bit);
        struct journal *journal = NULL;
        struct err err = {0};
        int r = journal_open(&f->config, &journal, NULL, &err);
        if (r == 0) {
            /*
             * What is left is a beginning, at most the last frame short: the flip lay in it, or in
             * padding.
             */
            uint64_t events = read_in_order(journal);
            assert_true(events == FRAMES * EVENTS_EACH || events == (FRAMES - 1) * EVENTS_EACH);
            torn += events != FRAMES * EVENTS_EACH ? 1 : 0;
            journal_free(journal);
        } else {
            assert_true(r == BH_E_CORRUPT || r == BH_E_TAMPERED || r == BH_E_VERSION ||
                        r == BH_E_KEY);
            assert_true(err.text[0] != '\0');
            rot++;
        }
        kit_dir_remove(f->journal_dir);
    }
    assert_true(rot > 0 && torn > 0);
}

/* -- no space ---------------------------------------------------------------------------------- */

static void wait_for_space(const struct journal *journal, bool out) {
    uint64_t until = os_mono_us() + 10000000;
    while (journal_is_out_of_space(journal) != out) {
        assert_true(os_mono_us() < until);
        os_sleep_us(5000);
    }
}

/*
 * Full from the n-th reservation on, for every n: refused while it lasts, kept again when it ends,
 * nothing half kept.
 */
static void full_at_every_reservation(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct random_kit random = {22};
    f->config.reserve = 64 * 1024;
    for (uint64_t nth = 1;; nth++) {
        kit_disk_install(
            &(struct kit_disk){.call = KIT_RESERVE, .nth = nth, .stays = true, .error = ENOSPC});
        struct journal *journal = kit_open(&f->config, NULL);
        assert_int_equal(journal_start(journal), 0);
        uint64_t ticket = 0;
        uint64_t kept = 0;
        unsigned refused = 0;
        /* 10 MiB that do not compress: five segments. */
        for (unsigned i = 0; i < 40; i++) {
            int result = put_and_wait(f, journal, ticket, 10, 26000, &random);
            assert_true(result == 0 || result == BH_E_NOSPACE);
            kept += result == 0 ? 10 : 0;
            ticket += result == 0 ? 1 : 0;
            refused += result != 0 ? 1 : 0;
            assert_int_equal(journal_durable_seq(journal), kept);
        }
        if (refused != 0) {
            assert_true(journal_is_out_of_space(journal));
            kit_disk_set(NULL);
            wait_for_space(journal, false);
            assert_int_equal(put_and_wait(f, journal, ticket, 3, 100, NULL), 0);
            kept += 3;
        }
        assert_int_equal(read_in_order(journal), kept);
        journal_free(journal);
        kit_disk_remove();
        journal = kit_open(&f->config, NULL);
        assert_int_equal(read_in_order(journal), kept);
        journal_free(journal);
        kit_dir_remove(f->journal_dir);
        if (refused == 0) {
            assert_true(nth > 4);
            return;
        }
    }
}

/* A request of several frames is refused as a whole when space ends, wherever its segment stands. */
static void a_request_of_several_frames_is_kept_whole_or_not(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct random_kit random = {26};
    f->config.segment_size = 32 * 1024 * 1024;
    f->config.max_bytes = 512 * 1024 * 1024;
    f->config.chunk_pool = 16 * 1024 * 1024;
    unsigned refused = 0;
    for (unsigned before = 0; before < 10; before++) {
        struct journal *journal = kit_open(&f->config, NULL);
        assert_int_equal(journal_start(journal), 0);
        /* The first segment is there, and no other will be. */
        assert_int_equal(put_and_wait(f, journal, 0, 1, 10, NULL), 0);
        kit_disk_install(
            &(struct kit_disk){.call = KIT_RESERVE, .nth = 1, .stays = true, .error = ENOSPC});
        uint64_t kept = 1;
        uint64_t ticket = 1;
        struct journal_stats stats;
        for (unsigned i = 0; i < before; i++) {
            assert_int_equal(put_and_wait(f, journal, ticket, 20, 100000, &random), 0);
            ticket++;
            kept += 20;
        }
        for (int result = 0; result == 0 && ticket < 30;) {
            journal_stats(journal, &stats);
            uint64_t frames = stats.frames;
            result = put_and_wait(f, journal, ticket, 60, 100000, &random);
            journal_stats(journal, &stats);
            assert_true(result == 0 || result == BH_E_NOSPACE);
            assert_int_equal(stats.frames - frames > 1, result == 0);
            ticket += result == 0 ? 1 : 0;
            kept += result == 0 ? 60 : 0;
            refused += result != 0 ? 1 : 0;
            assert_int_equal(journal_durable_seq(journal), kept);
        }
        kit_disk_set(NULL);
        kit_disk_remove();
        assert_int_equal(read_in_order(journal), kept);
        journal_free(journal);
        kit_dir_remove(f->journal_dir);
    }
    assert_int_equal(refused, 10);
}

/* While the journal has no space its reserve is given to others. */
static void the_reserve_is_given_back(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct random_kit random = {23};
    f->config.reserve = 1024 * 1024;
    struct journal *journal = kit_open(&f->config, NULL);
    assert_int_equal(journal_start(journal), 0);
    struct kit_file files[64];
    uint64_t reserve = 0;
    size_t count = kit_files(f->journal_dir, files, 64);
    for (size_t i = 0; i < count; i++) {
        reserve += strcmp(files[i].name, "reserve") == 0 ? files[i].size : 0;
    }
    assert_int_equal(reserve, 1024 * 1024);
    kit_disk_install(
        &(struct kit_disk){.call = KIT_RESERVE, .nth = 1, .stays = true, .error = ENOSPC});
    int result = 0;
    uint64_t ticket = 0;
    while (result == 0 && ticket < 60) {
        result = put_and_wait(f, journal, ticket, 10, 26000, &random);
        ticket += result == 0 ? 1 : 0;
    }
    assert_int_equal(result, BH_E_NOSPACE);
    count = kit_files(f->journal_dir, files, 64);
    for (size_t i = 0; i < count; i++) {
        if (strcmp(files[i].name, "reserve") == 0) {
            assert_int_equal(files[i].size, 0);
        }
    }
    kit_disk_set(NULL);
    wait_for_space(journal, false);
    count = kit_files(f->journal_dir, files, 64);
    for (size_t i = 0; i < count; i++) {
        if (strcmp(files[i].name, "reserve") == 0) {
            assert_int_equal(files[i].size, 1024 * 1024);
        }
    }
    journal_free(journal);
    kit_disk_remove();
}

/* -- failing writes and syncs ------------------------------------------------------------------ */

/*
 * In the child: puts requests until done; each acknowledged ticket goes to the pipe. Ends 0, or 74
 * by the journal itself.
 */
static void run_child(struct fixture *f, const char *spec, int out) {
    log_set_level(LOG_ERROR);
    struct err err = {0};
    if (os_fault_install(spec, &err) != 0) {
        _exit(90);
    }
    struct journal *journal = NULL;
    if (journal_open(&f->config, &journal, NULL, &err) != 0) {
        _exit(91);
    }
    if (journal_start(journal) != 0) {
        _exit(92);
    }
    struct random_kit random = {24};
    for (uint64_t ticket = 0; ticket < 30; ticket++) {
        int result = put_and_wait(f, journal, ticket, 10, ticket % 3 == 0 ? 26000 : 300, &random);
        if (result == 0 && write(out, &ticket, sizeof(ticket)) != (ssize_t)sizeof(ticket)) {
            _exit(93);
        }
    }
    journal_free(journal);
    _exit(0);
}

/*
 * The status of a child that ran under this fault, and the number of requests that it acknowledged
 * (they are the first ones).
 */
static int run_under(struct fixture *f, const char *spec, uint64_t *ret_acknowledged) {
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    (void)fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        (void)close(ends[0]);
        run_child(f, spec, ends[1]);
    }
    (void)close(ends[1]);
    uint64_t ticket;
    *ret_acknowledged = 0;
    while (read(ends[0], &ticket, sizeof(ticket)) == (ssize_t)sizeof(ticket)) {
        assert_int_equal(ticket, *ret_acknowledged);
        (*ret_acknowledged)++;
    }
    (void)close(ends[0]);
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void failing_at_every(void **state, const char *operation) {
    struct fixture *f = (struct fixture *)*state;
    unsigned failed = 0;
    for (unsigned nth = 1;; nth++) {
        char spec[128];
        (void)snprintf(spec, sizeof(spec), "seed=%u,%s=journal:%u", nth, operation, nth);
        uint64_t acknowledged = 0;
        int status = run_under(f, spec, &acknowledged);
        /* 91: the folder could not even be opened. 74: the commit thread ended the process. */
        assert_true(status == 0 || status == 91 || status == EXIT_DISK_FAILED);
        struct journal *journal = kit_open(&f->config, NULL);
        uint64_t events = read_in_order(journal);
        assert_true(events >= acknowledged * 10);
        assert_true(events <= acknowledged * 10 + 10);
        journal_free(journal);
        kit_dir_remove(f->journal_dir);
        failed += status == EXIT_DISK_FAILED ? 1 : 0;
        if (status == 0) {
            assert_int_equal(acknowledged, 30);
            assert_true(failed >= 30);
            return;
        }
    }
}

static void a_failed_sync_ends_the_process(void **state) {
    failing_at_every(state, "eio_sync");
}

static void a_failed_write_ends_the_process(void **state) {
    failing_at_every(state, "eio_write");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(cut_off_anywhere_keeps_the_whole_frames, set_up, tear_down),
        cmocka_unit_test_setup_teardown(one_wrong_bit_is_never_an_event, set_up, tear_down),
        cmocka_unit_test_setup_teardown(full_at_every_reservation, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_request_of_several_frames_is_kept_whole_or_not, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(the_reserve_is_given_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_failed_sync_ends_the_process, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_failed_write_ends_the_process, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("journal faults", tests, NULL, NULL);
}
