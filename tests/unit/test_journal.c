/*
 * The journal: what is acknowledged is there once, whole and in order; what cannot be kept is
 * refused; nothing else is there.
 */
/* depends: journal inspect keyring seglog json model crypto os base */
/* sources: journal_kit.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "journal_kit.h"

#include "flow/journal/journal_int.h"
#include "os/clock.h"
#include "os/socket.h"

struct fixture {
    char dir[128];
    char journal_dir[160];
    struct keyring *keyring;
    struct journal_config config;
    struct kit_request *request;
};

static int set_up(void **state) {
    struct fixture *f = (struct fixture *)calloc(1, sizeof(*f));
    assert_non_null(f);
    kit_dir_make(f->dir);
    f->keyring = kit_keyring(f->dir);
    f->config = kit_config(f->dir, f->keyring, f->journal_dir);
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

static int put(struct journal_writer *writer, const struct kit_request *request, uint64_t ticket) {
    return journal_writer_put(writer, &request->request, request->events, request->count, ticket);
}

/* Puts, flushes and waits for the answer. */
static int put_and_wait(struct journal_writer *writer, const struct kit_request *request) {
    int result = 1;
    assert_int_equal(put(writer, request, 0), 0);
    journal_writer_flush(writer);
    kit_wait(writer, 1, &result, 1);
    return result;
}

/*
 * Reads all events from `from` on; each is checked to be whole, with seqs without a hole. Returns
 * how many.
 */
static uint64_t read_all(struct journal *journal, uint64_t from) {
    struct journal_reader *reader = NULL;
    assert_int_equal(journal_reader_new(journal, from, -1, &reader), 0);
    uint64_t seq = from;
    struct journal_batch batch;
    uint64_t gap = 0;
    int r;
    while ((r = journal_reader_next(reader, &batch, &gap)) == 0) {
        for (uint32_t i = 0; i < batch.count; i++, seq++) {
            unsigned writer;
            uint64_t ticket;
            size_t index;
            size_t count;
            assert_int_equal(batch.events[i].seq, seq);
            assert_true(kit_event_read(&batch.events[i], &writer, &ticket, &index, &count));
            assert_int_equal(batch.requests[batch.request_of[i]].source, KIT_SOURCE_BASE + writer);
        }
        assert_int_equal(journal_reader_seq(reader), seq);
    }
    assert_int_equal(r, BH_E_AGAIN);
    journal_reader_free(reader);
    return seq - from;
}

/* -- one request ------------------------------------------------------------------------------- */

static void same_event(const struct record_event *a, const struct record_event *b) {
    assert_int_equal(a->kind, b->kind);
    assert_int_equal(a->flags, b->flags);
    assert_int_equal(a->time_ms, b->time_ms);
    assert_int_equal(a->dedupe, b->dedupe);
    assert_int_equal(a->ids, b->ids);
    assert_memory_equal(a->aid.b, b->aid.b, 16);
    assert_true(span_equal(a->json, b->json));
    assert_int_equal(a->finding_count, b->finding_count);
    for (size_t i = 0; i < a->finding_count; i++) {
        assert_int_equal(a->findings[i].leaf, b->findings[i].leaf);
        assert_int_equal(a->findings[i].class_id, b->findings[i].class_id);
        assert_int_equal(a->findings[i].by, b->findings[i].by);
        assert_int_equal(a->findings[i].start, b->findings[i].start);
        assert_int_equal(a->findings[i].length, b->findings[i].length);
    }
}

static void what_is_put_comes_back(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct journal_recovery recovery;
    struct journal *journal = kit_open(&f->config, &recovery);
    assert_int_equal(recovery.next_seq, 1);
    assert_int_equal(journal_durable_seq(journal), 0);
    assert_int_equal(journal_start(journal), 0);
    kit_request_fill(f->request, 0, 0, 7, 100, NULL);
    assert_int_equal(put_and_wait(journal_writer_of(journal, 0), f->request), 0);
    assert_int_equal(journal_durable_seq(journal), 7);

    struct journal_reader *reader = NULL;
    struct journal_batch batch;
    uint64_t gap = 0;
    assert_int_equal(journal_reader_new(journal, 3, -1, &reader), 0);
    assert_int_equal(journal_reader_next(reader, &batch, &gap), 0);
    assert_int_equal(batch.count, 5);
    for (uint32_t i = 0; i < 5; i++) {
        assert_int_equal(batch.events[i].seq, i + 3);
        same_event(&batch.events[i], &f->request->events[i + 2]);
    }
    const struct record_request *request = &batch.requests[batch.request_of[4]];
    assert_int_equal(request->source, KIT_SOURCE_BASE);
    assert_int_equal(request->events, 7);
    assert_int_equal(request->received_us, f->request->request.received_us);
    assert_int_equal(request->skew_ms, -5);
    assert_int_equal(request->kind, 3);
    assert_memory_equal(request->peer, f->request->request.peer, 16);
    assert_true(span_equal(request->env, f->request->request.env));
    assert_int_equal(journal_reader_next(reader, &batch, &gap), BH_E_AGAIN);
    journal_reader_free(reader);
    journal_stop(journal);
    struct journal_stats stats;
    journal_stats(journal, &stats);
    assert_int_equal(stats.events, 7);
    assert_int_equal(stats.requests, 1);
    assert_int_equal(stats.frames, 1);
    journal_free(journal);

    journal = kit_open(&f->config, &recovery);
    assert_int_equal(recovery.next_seq, 8);
    assert_int_equal(read_all(journal, 1), 7);
    journal_free(journal);
}

static void large_requests_span_chunks(void **state) {
    struct fixture *f = (struct fixture *)*state;
    f->config.chunk_pool = 16 * 1024 * 1024;
    struct journal *journal = kit_open(&f->config, NULL);
    assert_int_equal(journal_start(journal), 0);
    struct journal_writer *writer = journal_writer_of(journal, 0);
    struct random_kit random = {1};
    /*
     * 3 MiB that do not compress: more than a frame of this segment size, so several syncs before
     * the one answer.
     */
    kit_request_fill(f->request, 0, 0, 60, 50000, &random);
    assert_int_equal(put_and_wait(writer, f->request), 0);
    struct journal_stats stats;
    journal_stats(journal, &stats);
    assert_true(stats.frames > 1);
    /* Events of the largest size: each alone in a chunk, small ones around them. */
    kit_request_fill(f->request, 0, 1, 3, LIMIT_EVENT_BYTES - 60, NULL);
    int results[3] = {1, 1, 1};
    assert_int_equal(put(writer, f->request, 1), 0);
    kit_request_fill(f->request, 0, 2, 10, 100, NULL);
    assert_int_equal(put(writer, f->request, 2), 0);
    journal_writer_flush(writer);
    kit_wait(writer, 2, results, 3);
    assert_int_equal(results[1], 0);
    assert_int_equal(results[2], 0);
    assert_int_equal(read_all(journal, 1), 73);

    /* Parts of a request say that they continue it, and their counts add up to it. */
    struct journal_reader *reader = NULL;
    struct journal_batch batch;
    uint64_t gap = 0;
    unsigned parts = 0;
    unsigned events = 0;
    assert_int_equal(journal_reader_new(journal, 1, -1, &reader), 0);
    while (events < 60 && journal_reader_next(reader, &batch, &gap) == 0) {
        assert_int_equal((batch.requests[0].kind & RECORD_CONTINUED) != 0, parts != 0);
        events += batch.requests[0].events;
        parts++;
    }
    assert_int_equal(events, 60);
    assert_true(parts > 10);
    journal_reader_free(reader);
    journal_free(journal);
}

static void too_big_is_refused_before_anything_is_kept(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct journal *journal = kit_open(&f->config, NULL);
    assert_int_equal(journal_start(journal), 0);
    struct journal_writer *writer = journal_writer_of(journal, 1);
    kit_request_fill(f->request, 1, 0, 2, LIMIT_EVENT_BYTES, NULL);
    assert_int_equal(put(writer, f->request, 0), BH_E_TOO_BIG);
    kit_request_fill(f->request, 1, 0, 2, 10, NULL);
    f->request->events[1].finding_count = LIMIT_EVENT_FINDINGS + 1;
    assert_int_equal(put(writer, f->request, 0), BH_E_TOO_BIG);
    kit_request_fill(f->request, 1, 0, 2, 10, NULL);
    f->request->request.env.n = RECORD_ENV_MAX + 1;
    assert_int_equal(put(writer, f->request, 0), BH_E_TOO_BIG);
    kit_request_fill(f->request, 1, 0, 60, 100000, NULL);
    assert_int_equal(put(writer, f->request, 0), BH_E_TOO_BIG); /* 6 MB into a pool of 4 */
    journal_writer_flush(writer);
    journal_stop(journal);
    assert_int_equal(journal_durable_seq(journal), 0);
    journal_free(journal);
}

static void a_full_pool_is_back_pressure(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct journal *journal = kit_open(&f->config, NULL);
    struct journal_writer *writer = journal_writer_of(journal, 0);
    struct random_kit random = {2};
    static int results[4096];
    unsigned count = 0;
    int r;
    /* No commit thread: the pool fills. */
    for (;;) {
        kit_request_fill(f->request, 0, count, 4, 10000, &random);
        r = put(writer, f->request, count);
        if (r != 0) {
            break;
        }
        results[count++] = 1;
        journal_writer_flush(writer);
    }
    assert_int_equal(r, BH_E_BUSY);
    assert_true(count > 30);
    assert_int_equal(journal_start(journal), 0);
    kit_wait(writer, count, results, 4096);
    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(results[i], 0);
    }
    assert_int_equal(put(writer, f->request, count), 0); /* there is room again */
    journal_writer_flush(writer);
    journal_stop(journal);
    assert_int_equal(read_all(journal, 1), (count + 1) * 4);
    journal_free(journal);
}

static void unanswered_tickets_are_bounded(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct journal *journal = kit_open(&f->config, NULL);
    struct journal_writer *writer = journal_writer_of(journal, 0);
    kit_request_fill(f->request, 0, 0, 1, 10, NULL);
    unsigned count = 0;
    while (put(writer, f->request, 0) == 0) {
        count++;
        if (count % 100 == 0) {
            journal_writer_flush(writer);
        }
    }
    assert_int_equal(count, WRITER_PENDING_MAX);
    journal_writer_flush(writer);
    assert_int_equal(journal_start(journal), 0);
    int result = 1;
    kit_wait(writer, count, &result, 1);
    assert_int_equal(result, 0);
    assert_int_equal(read_all(journal, 1), count);
    journal_free(journal);
}

/* -- readers ----------------------------------------------------------------------------------- */

static void a_waiting_reader_is_woken(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct journal *journal = kit_open(&f->config, NULL);
    assert_int_equal(journal_start(journal), 0);
    int wake = -1;
    assert_int_equal(os_wake_open(&wake), 0);
    struct journal_reader *reader = NULL;
    struct journal_batch batch;
    uint64_t gap = 0;
    assert_int_equal(journal_reader_new(journal, 0, wake, &reader), 0);
    for (unsigned round = 0; round < 20; round++) {
        assert_int_equal(journal_reader_next(reader, &batch, &gap), BH_E_AGAIN);
        assert_false(os_wake_wait(wake, 0));
        kit_request_fill(f->request, round % 2, 0, 3, 50, NULL);
        assert_int_equal(put_and_wait(journal_writer_of(journal, round % 2), f->request), 0);
        assert_true(os_wake_wait(wake, 5000));
        assert_int_equal(journal_reader_next(reader, &batch, &gap), 0);
        assert_int_equal(batch.count, 3);
        assert_int_equal(batch.events[0].seq, round * 3 + 1);
    }
    journal_reader_free(reader);
    os_close(wake);
    journal_free(journal);
}

/*
 * Every cursor reads the same from wherever it starts, with a cold cache, a warm one and the place
 * of another chunk.
 */
static void readers_start_anywhere(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct random_kit random = {random_kit_seed(3)};
    struct journal *journal = kit_open(&f->config, NULL);
    assert_int_equal(journal_start(journal), 0);
    for (unsigned i = 0; i < 200; i++) {
        size_t events = 1 + random_kit_below(&random, 30);
        kit_request_fill(f->request, i % 2, 0, events, random_kit_below(&random, 3000), &random);
        assert_int_equal(put(journal_writer_of(journal, i % 2), f->request, 0), 0);
        if (random_kit_below(&random, 3) == 0) {
            journal_writer_flush(journal_writer_of(journal, i % 2));
        }
    }
    journal_writer_flush(journal_writer_of(journal, 0));
    journal_writer_flush(journal_writer_of(journal, 1));
    journal_stop(journal);
    uint64_t last = journal_durable_seq(journal);
    assert_int_equal(read_all(journal, 1), last);
    struct journal_reader *reader = NULL;
    assert_int_equal(journal_reader_new(journal, 1, -1, &reader), 0);
    for (unsigned i = 0; i < 2000; i++) {
        if (random_kit_below(&random, 4) == 0) {
            journal_reader_seek(reader, 1 + random_kit_below(&random, last));
        }
        uint64_t seq = journal_reader_seq(reader);
        struct journal_batch batch;
        uint64_t gap = 0;
        int r = journal_reader_next(reader, &batch, &gap);
        if (seq > last) {
            assert_int_equal(r, BH_E_AGAIN);
            continue;
        }
        assert_int_equal(r, 0);
        assert_true(batch.count > 0);
        assert_int_equal(batch.events[0].seq, seq);
        assert_int_equal(batch.events[batch.count - 1].seq, journal_reader_seq(reader) - 1);
    }
    journal_reader_free(reader);
    journal_free(journal);
}

static void commands_read_beside_nobody(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct journal_config read_only = f->config;
    read_only.read_only = true;
    struct journal *journal = kit_open(&read_only, NULL);
    assert_int_equal(journal_durable_seq(journal), 0);
    assert_int_equal(read_all(journal, 1), 0);
    journal_free(journal);

    journal = kit_open(&f->config, NULL);
    assert_int_equal(journal_start(journal), 0);
    kit_request_fill(f->request, 0, 0, 40, 1000, NULL);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(put_and_wait(journal_writer_of(journal, 0), f->request), 0);
    }
    journal_free(journal);
    struct journal_recovery recovery;
    journal = kit_open(&read_only, &recovery);
    assert_int_equal(recovery.next_seq, 401);
    assert_int_equal(journal_durable_seq(journal), 400);
    assert_int_equal(read_all(journal, 1), 400);
    uint64_t events = 0;
    assert_int_equal(journal_count_from(journal, 101, &events), 0);
    assert_int_equal(events, 300);
    journal_free(journal);
}

static void events_are_counted_by_source(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct random_kit random = {4};
    struct journal *journal = kit_open(&f->config, NULL);
    assert_int_equal(journal_start(journal), 0);
    uint64_t expected[64] = {0};
    uint64_t expected_late[64] = {0};
    uint64_t seq = 1;
    enum { LATE = 700 };
    for (unsigned i = 0; i < 400; i++) {
        size_t events = 1 + random_kit_below(&random, 10);
        kit_request_fill(f->request, i % 2, 0, events, 2000, &random);
        f->request->request.source = (uint16_t)(KIT_SOURCE_BASE + i % 5);
        assert_int_equal(put_and_wait(journal_writer_of(journal, i % 2), f->request), 0);
        for (size_t k = 0; k < events; k++, seq++) {
            expected[KIT_SOURCE_BASE + i % 5]++;
            expected_late[KIT_SOURCE_BASE + i % 5] += seq >= LATE ? 1 : 0;
        }
    }
    struct journal_stats stats;
    journal_stats(journal, &stats);
    assert_true(stats.segments > 1);
    uint64_t counts[64] = {0};
    assert_int_equal(journal_count_sources_from(journal, 1, counts, 64), 0);
    assert_memory_equal(counts, expected, sizeof(counts));
    journal_free(journal);
    /* From footers alone now, and half of one segment by reading. */
    f->config.read_only = true;
    journal = kit_open(&f->config, NULL);
    uint64_t closed[64] = {0};
    assert_int_equal(journal_count_sources_from(journal, 0, closed, 64), 0);
    assert_memory_equal(closed, expected, sizeof(closed));
    uint64_t late[64] = {0};
    assert_int_equal(journal_count_sources_from(journal, LATE, late, 64), 0);
    assert_memory_equal(late, expected_late, sizeof(late));
    journal_free(journal);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_put_comes_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(large_requests_span_chunks, set_up, tear_down),
        cmocka_unit_test_setup_teardown(too_big_is_refused_before_anything_is_kept, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_full_pool_is_back_pressure, set_up, tear_down),
        cmocka_unit_test_setup_teardown(unanswered_tickets_are_bounded, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_waiting_reader_is_woken, set_up, tear_down),
        cmocka_unit_test_setup_teardown(readers_start_anywhere, set_up, tear_down),
        cmocka_unit_test_setup_teardown(commands_read_beside_nobody, set_up, tear_down),
        cmocka_unit_test_setup_teardown(events_are_counted_by_source, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("journal", tests, NULL, NULL);
}
