/* Provable and honest: what verify must notice although no seal is broken, and the borders of a window to the millisecond. */
/* depends: ledger journal inspect keyring seglog tlog json crypto model os base */
/* sources: journal_kit.c */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "unit/journal_kit.h"

#include "flow/ledger/ledger.h"
#include "flow/ledger/ledger_leaf.h"
#include "model/class.h"
#include "os/file.h"

static char folder[128];
static char dir[160];
static struct keyring *keyring;
static uint8_t lid_byte; /* what verify is told of ord 1 */

static int set_up(void **state) {
    (void)state;
    kit_dir_make(folder);
    (void)snprintf(dir, sizeof dir, "%s/data/ledger", folder);
    keyring = kit_keyring(folder);
    lid_byte = 0x11;
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    keyring_free(keyring);
    kit_dir_remove(folder);
    return 0;
}

static struct ledger *open_ledger(void) {
    struct ledger_config config = {.dir = dir, .vendor = "mixpanel", .keyring = keyring};
    struct ledger_recovery recovery;
    struct ledger *ledger = NULL;
    struct err err = {0};
    assert_int_equal(ledger_open(&config, &ledger, &recovery, &err), 0);
    return ledger;
}

/* One attempt about ord 1, answered with yes. */
static void disclose(struct ledger *ledger, uint64_t seq, uint64_t time_ms, uint64_t outcome_ms) {
    static const struct ledger_pair pair = {CLASS_EMAIL, 1, 0};
    struct ledger_entry entry = {.ord = 1, .shape = ledger_shape(ledger, 1, &pair, 1), .events = 1};
    struct ledger_attempt attempt = {.time_ms = time_ms,
                                     .first_seq = seq,
                                     .span = 1,
                                     .endpoint = 2,
                                     .events = 1,
                                     .entries = &entry,
                                     .entry_count = 1};
    uint64_t number = 0;
    memset(entry.lid, 0x11, sizeof entry.lid);
    memset(attempt.body_sha256, (int)seq, sizeof attempt.body_sha256);
    assert_int_equal(ledger_attempt(ledger, &attempt, &number), 0);
    struct ledger_outcome outcome = {.attempt = number,
                                     .time_ms = outcome_ms,
                                     .status = 200,
                                     .result = RESULT_ACCEPTED,
                                     .flags = OUTCOME_ITEMS_FINAL | OUTCOME_WINDOW_SETTLED};
    assert_int_equal(ledger_outcome(ledger, &outcome), 0);
    assert_int_equal(ledger_flush(ledger), 0);
}

static int lid_of(void *context, uint32_t ord, uint8_t ret_lid[16]) {
    (void)context;
    assert_int_equal(ord, 1);
    memset(ret_lid, lid_byte, 16);
    return 0;
}

static int verify(struct ledger_verify_report *ret_report) {
    struct ledger_verify_options options = {
        .dir = dir, .log_name = "mixpanel-1", .keyring = keyring, .lid_of = lid_of};
    return ledger_verify(&options, ret_report);
}

/* The people of an attempt are bound by its line: other people than those it was about do not verify. */
static void other_people_do_not_verify(void **state) {
    (void)state;
    struct ledger_verify_report report;
    struct ledger *ledger = open_ledger();
    disclose(ledger, 1, 1000, 1100);
    ledger_close(ledger);
    assert_int_equal(verify(&report), 0);
    assert_int_equal(report.entries, 1);
    lid_byte = 0x12;
    assert_int_equal(verify(&report), BH_E_TAMPERED);
    assert_non_null(strstr(report.text, "entries"));
    assert_string_equal(report.file, "0000000001.seg");
}

/* A log whose last lines were taken away, every seal of it whole, is shorter than the tree that was signed. */
static void a_missing_end_does_not_verify(void **state) {
    (void)state;
    struct ledger_verify_report report;
    char log[200];
    char whole[200];
    char path[300];
    struct ledger *ledger = open_ledger();
    disclose(ledger, 1, 1000, 1100);
    ledger_close(ledger);
    ledger = open_ledger();
    disclose(ledger, 2, 2000, 2100);
    ledger_close(ledger);
    assert_int_equal(verify(&report), 0);
    assert_int_equal(report.attempts, 2);
    (void)snprintf(log, sizeof log, "%s/mixpanel-1", dir);
    (void)snprintf(whole, sizeof whole, "%s/whole", folder);
    kit_copy_dir(log, whole);
    (void)snprintf(path, sizeof path, "%s/0000000002.seg", log);
    assert_int_equal(os_path_unlink(path), 0);
    assert_int_equal(verify(&report), BH_E_TAMPERED);
    assert_non_null(strstr(report.text, "missing"));
    kit_copy_dir(whole, log);
    assert_int_equal(verify(&report), 0);
}

static void count_row(void *context, const struct ledger_row *row) {
    unsigned *counts = context;
    counts[row->certain ? 0 : 1] += row->events;
}

static void expect(uint64_t from_ms, uint64_t to_ms, unsigned certain, unsigned possible) {
    struct ledger_reader *reader = NULL;
    struct err err = {0};
    unsigned counts[2] = {0, 0};
    struct ledger_query query = {.from_ms = from_ms, .to_ms = to_ms, .at_ms = UINT64_MAX};
    assert_int_equal(ledger_reader_open(dir, "mixpanel", keyring, &reader, &err), 0);
    assert_int_equal(ledger_scan(reader, &query, count_row, counts), 0);
    ledger_reader_close(reader);
    if (counts[0] != certain || counts[1] != possible) {
        fail_msg("[%llu, %llu): certain %u, possible %u", (unsigned long long)from_ms,
                 (unsigned long long)to_ms, counts[0], counts[1]);
    }
}

/* From inclusive, to exclusive, at both ends of a disclosure that lasts from 1000 to 1100. */
static void a_window_ends_before_its_end(void **state) {
    (void)state;
    struct ledger *ledger = open_ledger();
    disclose(ledger, 1, 1000, 1100);
    expect(0, 1000, 0, 0);
    expect(0, 1001, 0, 1);
    expect(0, 1100, 0, 1);
    expect(0, 1101, 1, 0);
    expect(1000, 1101, 1, 0);
    expect(1001, 1101, 0, 1);
    expect(1100, 2000, 0, 1);
    expect(1101, 2000, 0, 0);
    ledger_close(ledger);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(other_people_do_not_verify, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_missing_end_does_not_verify, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_window_ends_before_its_end, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("ledger_promises", tests, NULL, NULL);
}
