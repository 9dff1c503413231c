/*
 * Two writers, three readers, the keeper and the asker of counters at once: nobody blocks, nothing
 * is seen twice or torn. For TSan as well.
 */
/* depends: journal inspect keyring seglog json model crypto os base */
/* sources: journal_kit.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "journal_kit.h"

#include "os/clock.h"
#include "os/log.h"
#include "os/socket.h"
#include "os/thread.h"

enum { WRITERS = 2, READERS = 3, REQUESTS = 1500 };

struct shared {
    struct journal *journal;
    _Atomic uint64_t events_put;
    _Atomic uint64_t settled[READERS];
    _Atomic unsigned writers_done;
    _Atomic unsigned readers_done;
    _Atomic uint64_t gaps;
};

struct worker {
    struct shared *shared;
    unsigned index;
    struct os_thread thread;
    bool failed;
};

static void count_done(void *context, uint64_t ticket, int result) {
    (void)ticket;
    unsigned *count = (unsigned *)context;
    *count += result == 0 ? 1U : 0U;
}

static void write_some(void *context) {
    struct worker *worker = (struct worker *)context;
    struct journal_writer *writer = journal_writer_of(worker->shared->journal, worker->index);
    struct random_kit random = {worker->index + 100};
    struct kit_request *request = kit_request_new();
    unsigned done = 0;
    for (unsigned i = 0; i < REQUESTS; i++) {
        size_t events = 1 + random_kit_below(&random, 20);
        kit_request_fill(request, worker->index, i, events, random_kit_below(&random, 1200),
                         &random);
        while (journal_writer_put(writer, &request->request, request->events, events, i) != 0) {
            journal_writer_flush(writer);
            (void)os_wake_wait(journal_writer_wake_fd(writer), 1000);
            (void)journal_writer_complete(writer, count_done, &done);
        }
        atomic_fetch_add(&worker->shared->events_put, events);
        if (i % 7 == 0) {
            journal_writer_flush(writer);
            (void)journal_writer_complete(writer, count_done, &done);
        }
    }
    journal_writer_flush(writer);
    while (done < REQUESTS) {
        (void)os_wake_wait(journal_writer_wake_fd(writer), 1000);
        (void)journal_writer_complete(writer, count_done, &done);
    }
    kit_request_free(request);
    atomic_fetch_add(&worker->shared->writers_done, 1);
}

/* Reader 0 is fast, 1 rests now and then, 2 jumps back. */
static void read_all(void *context) {
    struct worker *worker = (struct worker *)context;
    struct shared *shared = worker->shared;
    struct random_kit random = {worker->index + 200};
    int wake = -1;
    struct journal_reader *reader = NULL;
    worker->failed =
        os_wake_open(&wake) != 0 || journal_reader_new(shared->journal, 1, wake, &reader) != 0;
    uint64_t expected = 1;
    while (!worker->failed) {
        struct journal_batch batch;
        uint64_t gap = 0;
        int r = journal_reader_next(reader, &batch, &gap);
        if (r == BH_E_AGAIN) {
            if (atomic_load(&shared->writers_done) == WRITERS &&
                expected > atomic_load(&shared->events_put)) {
                break;
            }
            (void)os_wake_wait(wake, 1000);
            continue;
        }
        worker->failed = r != 0;
        for (uint32_t i = 0; r == 0 && i < batch.count; i++, expected++) {
            unsigned writer;
            uint64_t ticket;
            size_t index;
            size_t count;
            worker->failed = worker->failed || batch.events[i].seq != expected ||
                             !kit_event_read(&batch.events[i], &writer, &ticket, &index, &count);
        }
        if (worker->index == 1 && random_kit_below(&random, 50) == 0) {
            os_sleep_us(3000);
        }
        if (worker->index == 2 && random_kit_below(&random, 20) == 0) {
            uint64_t settled = atomic_load(&shared->settled[2]);
            expected -=
                random_kit_below(&random, expected - settled < 500 ? expected - settled : 500);
            journal_reader_seek(reader, expected);
        } else {
            /* Reader 2 may go back 500 seqs, so it settles later. */
            uint64_t safe = worker->index == 2 ? (expected > 500 ? expected - 500 : 1) : expected;
            if (safe > atomic_load(&shared->settled[worker->index])) {
                atomic_store(&shared->settled[worker->index], safe);
            }
        }
    }
    journal_reader_free(reader);
    os_close(wake);
    atomic_fetch_add(&shared->readers_done, 1);
}

static int count_gap(void *context, const char *vendor, uint64_t from_seq, uint64_t until_seq) {
    (void)vendor;
    (void)from_seq;
    (void)until_seq;
    atomic_fetch_add(&((struct shared *)context)->gaps, 1);
    return 0;
}

static void keep(void *context) {
    struct worker *worker = (struct worker *)context;
    struct shared *shared = worker->shared;
    while (atomic_load(&shared->readers_done) < READERS) {
        struct journal_settlement vendors[READERS] = {
            {.vendor = "a"}, {.vendor = "b"}, {.vendor = NULL}};
        for (unsigned i = 0; i < READERS; i++) {
            vendors[i].settled_seq = atomic_load(&shared->settled[i]);
        }
        worker->failed = worker->failed ||
                         journal_retain(shared->journal, vendors, READERS, count_gap, shared) < 0;
        struct journal_stats stats;
        journal_stats(shared->journal, &stats);
        (void)journal_forecast_s(shared->journal);
        uint64_t counts[64] = {0};
        worker->failed =
            worker->failed || journal_count_sources_from(shared->journal, 1, counts, 64) != 0;
        os_sleep_us(2000);
    }
}

static void all_at_once(void **state) {
    (void)state;
    char dir[128];
    char journal_dir[160];
    log_set_level(LOG_ERROR);
    kit_dir_make(dir);
    struct keyring *keyring = kit_keyring(dir);
    struct journal_config config = kit_config(dir, keyring, journal_dir);
    config.keep_us = 1; /* settled segments die at once */
    struct shared shared = {.journal = kit_open(&config, NULL)};
    assert_int_equal(journal_start(shared.journal), 0);
    struct worker writers[WRITERS];
    struct worker readers[READERS];
    struct worker keeper = {.shared = &shared};
    for (unsigned i = 0; i < READERS; i++) {
        readers[i] = (struct worker){.shared = &shared, .index = i};
        assert_int_equal(os_thread_start(&readers[i].thread, "reader", 0, read_all, &readers[i]),
                         0);
    }
    assert_int_equal(os_thread_start(&keeper.thread, "keeper", 0, keep, &keeper), 0);
    for (unsigned i = 0; i < WRITERS; i++) {
        writers[i] = (struct worker){.shared = &shared, .index = i};
        assert_int_equal(os_thread_start(&writers[i].thread, "writer", 0, write_some, &writers[i]),
                         0);
    }
    for (unsigned i = 0; i < WRITERS; i++) {
        os_thread_join(&writers[i].thread);
    }
    for (unsigned i = 0; i < READERS; i++) {
        os_thread_join(&readers[i].thread);
        assert_false(readers[i].failed);
    }
    os_thread_join(&keeper.thread);
    assert_false(keeper.failed);
    assert_int_equal(journal_durable_seq(shared.journal), atomic_load(&shared.events_put));
    assert_true(journal_first_seq(shared.journal) > 1); /* the keeper had something to do */
    assert_int_equal(atomic_load(&shared.gaps), 0);
    journal_free(shared.journal);
    keyring_free(keyring);
    kit_dir_remove(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(all_at_once)};
    return cmocka_run_group_tests_name("journal threads", tests, NULL, NULL);
}
