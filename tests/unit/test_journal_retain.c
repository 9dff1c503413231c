/* Retention: who may lose what, in which order, and that he is told before. */
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

#include "os/clock.h"
#include "os/log.h"

#define DAY_US ((uint64_t)86400 * 1000000)

/* A clock that the test moves. */
static _Atomic uint64_t ahead_us;
static uint64_t real_base_wall;
static uint64_t real_base_mono;

static uint64_t moved_wall(void) {
    return real_base_wall + ahead_us;
}

static uint64_t moved_mono(void) {
    return real_base_mono + ahead_us;
}

struct gap {
    char vendor[16];
    uint64_t from, until;
};

struct fixture {
    char dir[128];
    char journal_dir[160];
    struct keyring *keyring;
    struct journal_config config;
    struct journal *journal;
    struct kit_request *request;
    struct random_kit random;
    struct gap gaps[64];
    size_t gap_count;
    int gap_result;
    uint64_t dropped_before_gap; /* the first seq at the time of the last gap */
};

static int set_up(void **state) {
    struct fixture *f = (struct fixture *)calloc(1, sizeof(*f));
    assert_non_null(f);
    log_set_level(LOG_ERROR);
    kit_dir_make(f->dir);
    f->keyring = kit_keyring(f->dir);
    f->config = kit_config(f->dir, f->keyring, f->journal_dir);
    f->config.max_bytes = 10 * JOURNAL_SEGMENT_MIN;
    f->request = kit_request_new();
    f->random.state = 5;
    f->journal = kit_open(&f->config, NULL);
    assert_int_equal(journal_start(f->journal), 0);
    *state = f;
    return 0;
}

static int tear_down(void **state) {
    struct fixture *f = (struct fixture *)*state;
    journal_free(f->journal);
    os_clock_install(NULL);
    ahead_us = 0;
    kit_request_free(f->request);
    keyring_free(f->keyring);
    kit_dir_remove(f->dir);
    free(f);
    return 0;
}

/* About a quarter of a segment that does not compress: 10 events. */
static void put(struct fixture *f) {
    struct journal_writer *writer = journal_writer_of(f->journal, 0);
    kit_request_fill(f->request, 0, 0, 10, 60000, &f->random);
    assert_int_equal(journal_writer_put(writer, &f->request->request, f->request->events, 10, 0),
                     0);
    journal_writer_flush(writer);
    int result = 1;
    kit_wait(writer, 1, &result, 1);
    assert_int_equal(result, 0);
}

static uint64_t segments(const struct fixture *f) {
    struct journal_stats stats;
    journal_stats(f->journal, &stats);
    return stats.segments;
}

static void put_segments(struct fixture *f, unsigned count) {
    uint64_t until = segments(f) + count;
    while (segments(f) < until) {
        put(f);
    }
}

static int on_gap(void *context, const char *vendor, uint64_t from_seq, uint64_t until_seq) {
    struct fixture *f = (struct fixture *)context;
    if (f->gap_result != 0) {
        return f->gap_result;
    }
    assert_true(f->gap_count < 64);
    struct gap *gap = &f->gaps[f->gap_count++];
    (void)snprintf(gap->vendor, sizeof(gap->vendor), "%s", vendor);
    gap->from = from_seq;
    gap->until = until_seq;
    assert_true(journal_first_seq(f->journal) <= from_seq); /* told before, not after */
    return 0;
}

static int64_t retain(struct fixture *f, const struct journal_settlement *vendors, size_t count) {
    return journal_retain(f->journal, vendors, count, on_gap, f);
}

static void young_or_unsettled_events_stay(void **state) {
    struct fixture *f = (struct fixture *)*state;
    put_segments(f, 4);
    const struct journal_settlement vendors[] = {{"a", UINT64_MAX, 0}, {"b", 5, 0}};
    assert_int_equal(retain(f, vendors, 1), 0);
    assert_int_equal(retain(f, vendors, 2), 0);
    assert_int_equal(journal_first_seq(f->journal), 1);
    assert_int_equal(f->gap_count, 0);
}

static void settled_events_die_at_keep(void **state) {
    struct fixture *f = (struct fixture *)*state;
    put_segments(f, 4);
    real_base_wall = os_wall_us();
    real_base_mono = os_mono_us();
    const struct os_clock_ops clock = {moved_wall, moved_mono, os_sleep_us};
    journal_free(f->journal);
    os_clock_install(&clock);
    f->journal = kit_open(&f->config, NULL);
    const struct journal_settlement vendors[] = {{"a", UINT64_MAX, 0}, {"b", 60, 0}, {NULL, 45, 0}};
    ahead_us = 6 * DAY_US;
    assert_int_equal(retain(f, vendors, 1), 0);
    ahead_us = 8 * DAY_US;
    /* The resolver needs seq 45 on, and b seq 60 on: only what is before both goes. */
    assert_true(retain(f, vendors, 3) > 0);
    uint64_t first = journal_first_seq(f->journal);
    assert_true(first > 1 && first <= 45);
    assert_true(retain(f, vendors, 2) >= 0);
    assert_true(journal_first_seq(f->journal) >= first && journal_first_seq(f->journal) <= 60);
    assert_true(retain(f, vendors, 1) >= 0);
    assert_int_equal(f->gap_count, 0);
    /* A reader that was behind is told where to go on. */
    struct journal_reader *reader = NULL;
    struct journal_batch batch;
    uint64_t gap = 0;
    assert_int_equal(journal_reader_new(f->journal, 1, -1, &reader), 0);
    first = journal_first_seq(f->journal);
    if (first <= journal_durable_seq(f->journal)) {
        assert_int_equal(journal_reader_next(reader, &batch, &gap), BH_E_NOTFOUND);
        assert_int_equal(gap, first);
        journal_reader_seek(reader, gap);
        assert_int_equal(journal_reader_next(reader, &batch, &gap), 0);
        assert_int_equal(batch.events[0].seq, first);
    }
    journal_reader_free(reader);
}

static void all_dropped_is_told_to_a_reader(void **state) {
    struct fixture *f = (struct fixture *)*state;
    put_segments(f, 2);
    uint64_t last = journal_durable_seq(f->journal);
    journal_free(f->journal);
    f->config.keep_us = 1;
    f->journal = kit_open(&f->config, NULL);
    assert_int_equal(journal_start(f->journal), 0);
    const struct journal_settlement vendors[] = {{"a", UINT64_MAX, 0}};
    uint64_t until = os_mono_us() + 8000000;
    while (journal_first_seq(f->journal) <= last) {
        assert_true(os_mono_us() < until);
        assert_true(retain(f, vendors, 1) >= 0);
        os_sleep_us(20000);
    }
    assert_int_equal(journal_first_seq(f->journal), last + 1);
    struct journal_reader *reader = NULL;
    struct journal_batch batch;
    uint64_t gap = 0;
    assert_int_equal(journal_reader_new(f->journal, 3, -1, &reader), 0);
    assert_int_equal(journal_reader_next(reader, &batch, &gap), BH_E_NOTFOUND);
    assert_int_equal(gap, last + 1);
    journal_reader_seek(reader, gap);
    assert_int_equal(journal_reader_next(reader, &batch, &gap), BH_E_AGAIN);
    journal_reader_free(reader);
    /* The seqs go on from where they were, now and after another start. */
    journal_free(f->journal);
    struct journal_recovery recovery;
    f->journal = kit_open(&f->config, &recovery);
    assert_int_equal(recovery.next_seq, last + 1);
    assert_int_equal(journal_start(f->journal), 0);
    put(f);
    assert_int_equal(journal_durable_seq(f->journal), last + 10);
}

/*
 * a's own budget of three segments is used: a loses its oldest, and nothing is dropped for that
 * while b still needs it.
 */
static void a_budget_lapses_for_its_vendor_only(void **state) {
    struct fixture *f = (struct fixture *)*state;
    put_segments(f, 6);
    const struct journal_settlement vendors[] = {{"a", 1, 3 * JOURNAL_SEGMENT_MIN}, {"b", 1, 0}};
    assert_int_equal(retain(f, vendors, 2), 0);
    assert_true(f->gap_count >= 1);
    uint64_t from = 1;
    for (size_t i = 0; i < f->gap_count; i++) {
        assert_string_equal(f->gaps[i].vendor, "a");
        assert_int_equal(f->gaps[i].from, from);
        from = f->gaps[i].until;
    }
    assert_true(from < journal_durable_seq(f->journal));
    assert_int_equal(journal_first_seq(f->journal), 1);
}

/* Near the maximum the oldest goes: first what is settled, then with a gap for whoever has not. */
static void pressure_takes_the_oldest(void **state) {
    struct fixture *f = (struct fixture *)*state;
    put_segments(f, 7);
    const struct journal_settlement vendors[] = {{"a", 41, 0}, {"b", 1000, 0}};
    assert_int_equal(retain(f, vendors, 2), 0);
    put_segments(f, 5);
    assert_true(retain(f, vendors, 2) > 0);
    assert_true(journal_first_seq(f->journal) > 1);
    struct journal_stats stats;
    journal_stats(f->journal, &stats);
    assert_true(stats.bytes_on_disk <= f->config.max_bytes / 100 * 95);
    for (size_t i = 0; i < f->gap_count; i++) {
        assert_string_equal(f->gaps[i].vendor, "a");
        assert_true(f->gaps[i].from >= 41);
    }
    /* A gap that cannot be recorded keeps the segment. */
    f->gap_result = BH_E_IO;
    put_segments(f, 3);
    uint64_t first = journal_first_seq(f->journal);
    assert_int_equal(retain(f, vendors, 2), BH_E_IO);
    assert_int_equal(journal_first_seq(f->journal), first);
    /* Nor does anything that the resolver needs go, however full it is. */
    f->gap_result = 0;
    const struct journal_settlement with_resolver[] = {{"a", UINT64_MAX, 0}, {NULL, first, 0}};
    assert_int_equal(retain(f, with_resolver, 2), 0);
    assert_int_equal(journal_first_seq(f->journal), first);
}

static void the_count_of_bytes_does_not_drift(void **state) {
    struct fixture *f = (struct fixture *)*state;
    const struct journal_settlement vendors[] = {{"a", UINT64_MAX, 0}};
    for (unsigned i = 0; i < 30; i++) {
        put_segments(f, 1);
        assert_true(retain(f, vendors, 1) >= 0);
        struct journal_stats stats;
        journal_stats(f->journal, &stats);
        assert_true(stats.bytes_on_disk <= f->config.max_bytes);
        struct kit_file files[64];
        uint64_t on_disk = 0;
        size_t count = kit_files(f->journal_dir, files, 64);
        for (size_t k = 0; k < count; k++) {
            on_disk += strstr(files[k].name, ".seg") != NULL ? files[k].size : 0;
        }
        /* The present segment is reserved whole, and the next one may be. */
        assert_true(on_disk >= stats.bytes_on_disk);
        assert_true(on_disk <= stats.bytes_on_disk + 2 * JOURNAL_SEGMENT_MIN);
    }
    assert_int_equal(f->gap_count, 0);
}

static void a_quiet_segment_is_closed_by_age(void **state) {
    struct fixture *f = (struct fixture *)*state;
    journal_free(f->journal);
    f->config.keep_us = 8 * 200000; /* closed after 0.2 s, dropped after 1.6 s */
    f->journal = kit_open(&f->config, NULL);
    assert_int_equal(journal_start(f->journal), 0);
    put(f);
    const struct journal_settlement vendors[] = {{"a", UINT64_MAX, 0}};
    uint64_t until = os_mono_us() + 8000000;
    while (journal_first_seq(f->journal) == 1) {
        assert_true(os_mono_us() < until);
        os_sleep_us(50000);
        assert_true(retain(f, vendors, 1) >= 0);
    }
    put(f);
    assert_int_equal(journal_durable_seq(f->journal), 20);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(young_or_unsettled_events_stay, set_up, tear_down),
        cmocka_unit_test_setup_teardown(settled_events_die_at_keep, set_up, tear_down),
        cmocka_unit_test_setup_teardown(all_dropped_is_told_to_a_reader, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_budget_lapses_for_its_vendor_only, set_up, tear_down),
        cmocka_unit_test_setup_teardown(pressure_takes_the_oldest, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_count_of_bytes_does_not_drift, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_quiet_segment_is_closed_by_age, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("journal retention", tests, NULL, NULL);
}
