/* The ledger: attempts are durable before they return, lines come back as written, answers count right, a flipped bit is refused. */
/* depends: ledger keyring seglog tlog crypto model os base */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/keyring/keyring.h"
#include "flow/ledger/ledger.h"
#include "flow/ledger/ledger_leaf.h"
#include "model/class.h"
#include "os/file.h"
#include "os/thread.h"

static char folder[128];
static char data[192];
static char dir[256];
static struct keyring *keyring;

static int setup(void **state) {
    char key[256];
    struct err err = {0};
    (void)state;
    assert_int_equal(crypto_init(), 0);
    (void)snprintf(folder, sizeof folder, "/tmp/bulkhead-ledger-XXXXXX");
    assert_non_null(mkdtemp(folder));
    (void)snprintf(data, sizeof data, "%s/data", folder);
    (void)snprintf(dir, sizeof dir, "%s/ledger", data);
    (void)snprintf(key, sizeof key, "%s/master.key", folder);
    assert_int_equal(os_dir_make(data), 0);
    assert_int_equal(keyring_master_create(key, &err), 0);
    struct keyring_source source = {.file = key};
    int r = keyring_open(data, data, &source, true, 1, &keyring, &err);
    if (r != 0) {
        print_error("%s\n", err.text);
    }
    assert_int_equal(r, 0);
    return 0;
}

static int teardown(void **state) {
    char command[256];
    (void)state;
    keyring_free(keyring);
    keyring = NULL;
    (void)snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

static struct ledger *open_ledger(struct ledger_recovery *ret_recovery) {
    struct ledger_config config = {.dir = dir, .vendor = "mixpanel", .keyring = keyring};
    struct ledger *ledger = NULL;
    struct err err = {0};
    int r = ledger_open(&config, &ledger, ret_recovery, &err);
    if (r != 0) {
        print_error("%s\n", err.text);
    }
    assert_int_equal(r, 0);
    return ledger;
}

static const struct ledger_pair email_raw[] = {{CLASS_EMAIL, 1, 0}};
static const struct ledger_pair id_pseudonym[] = {{CLASS_UNIQUE_ID, 4, 0}};

/* One attempt of `events` about ord 1 and 2 from seq `first`. */
static uint64_t attempt(struct ledger *ledger, uint64_t time_ms, uint64_t first, uint32_t span,
                        uint8_t hash) {
    uint32_t shape_a = ledger_shape(ledger, 1, email_raw, 1);
    uint32_t shape_b = ledger_shape(ledger, 2, id_pseudonym, 1);
    struct ledger_entry entries[] = {{.ord = 1, .shape = shape_a, .events = 3},
                                     {.ord = 2, .shape = shape_b, .events = 1}};
    memset(entries[0].lid, 0x11, 16);
    memset(entries[1].lid, 0x22, 16);
    struct ledger_attempt a = {.time_ms = time_ms,
                               .first_seq = first,
                               .span = span,
                               .endpoint = 2,
                               .events = 4,
                               .entries = entries,
                               .entry_count = 2};
    memset(a.body_sha256, hash, sizeof a.body_sha256);
    uint64_t number = 0;
    assert_int_equal(ledger_attempt(ledger, &a, &number), 0);
    return number;
}

static void outcome(struct ledger *ledger, uint64_t number, uint8_t result, uint64_t time_ms,
                    uint8_t flags) {
    struct ledger_outcome o = {
        .attempt = number, .time_ms = time_ms, .status = 200, .result = result, .flags = flags};
    assert_int_equal(ledger_outcome(ledger, &o), 0);
}

struct tally {
    uint64_t certain[4];
    uint64_t possible[4];
};

static void tally_row(void *context, const struct ledger_row *row) {
    struct tally *t = context;
    assert_true(row->ord < 4);
    (row->certain ? t->certain : t->possible)[row->ord] += row->events;
}

static struct tally scan(uint64_t from, uint64_t to, uint64_t at, uint16_t source) {
    struct tally t = {{0}, {0}};
    struct ledger_reader *reader = NULL;
    struct err err = {0};
    struct ledger_query query = {.from_ms = from, .to_ms = to, .at_ms = at, .source = source};
    assert_int_equal(ledger_reader_open(dir, "mixpanel", keyring, &reader, &err), 0);
    assert_int_equal(ledger_scan(reader, &query, tally_row, &t), 0);
    ledger_reader_close(reader);
    return t;
}

static int lid_of(void *context, uint32_t ord, uint8_t ret_lid[16]) {
    (void)context;
    if (ord != 1 && ord != 2) {
        return BH_E_NOTFOUND;
    }
    memset(ret_lid, ord == 1 ? 0x11 : 0x22, 16);
    return 0;
}

static int verify(struct ledger_verify_report *report) {
    struct ledger_verify_options options = {
        .dir = dir, .log_name = "mixpanel-1", .keyring = keyring, .lid_of = lid_of};
    return ledger_verify(&options, report);
}

/* Certain only when complete and wholly inside; possible when it overlaps; nothing when it was over before. */
static void windows(void **state) {
    (void)state;
    struct ledger_recovery recovery;
    struct ledger *ledger = open_ledger(&recovery);
    uint64_t a = attempt(ledger, 1000, 1, 4, 1);
    outcome(ledger, a, RESULT_ACCEPTED, 2000, OUTCOME_ITEMS_FINAL | OUTCOME_WINDOW_SETTLED);
    uint64_t b = attempt(ledger, 3000, 5, 4, 2);
    outcome(ledger, b, RESULT_UNKNOWN, 3500, 0);
    (void)attempt(ledger, 5000, 9, 4, 3);
    assert_int_equal(ledger_flush(ledger), 0);

    struct tally t = scan(0, UINT64_MAX, UINT64_MAX, 0);
    assert_int_equal(t.certain[1], 3);
    assert_int_equal(t.possible[1], 6);
    assert_int_equal(t.certain[2], 1);
    t = scan(1000, 2001, UINT64_MAX, 0);
    assert_int_equal(t.certain[1], 3);
    assert_int_equal(t.possible[1], 0);
    t = scan(1500, 2500, UINT64_MAX, 0);
    assert_int_equal(t.certain[1], 0);
    assert_int_equal(t.possible[1], 3);
    t = scan(1000, 2000, UINT64_MAX, 0);
    assert_int_equal(t.certain[1], 0);
    assert_int_equal(t.possible[1], 3);
    t = scan(2001, 2999, UINT64_MAX, 0);
    assert_int_equal(t.certain[1] + t.possible[1], 0);
    t = scan(4000, 4500, UINT64_MAX, 0);
    assert_int_equal(t.possible[1], 3);
    t = scan(0, UINT64_MAX, 1500, 0);
    assert_int_equal(t.certain[1], 0);
    assert_int_equal(t.possible[1], 3);
    t = scan(0, UINT64_MAX, UINT64_MAX, 2);
    assert_int_equal(t.certain[1] + t.possible[1], 0);
    assert_int_equal(t.certain[2], 1);
    ledger_close(ledger);
}

/* An unsent attempt is no disclosure; a complete answer outweighs all that was said before. */
static void strongest(void **state) {
    (void)state;
    struct ledger_recovery recovery;
    struct ledger *ledger = open_ledger(&recovery);
    outcome(ledger, attempt(ledger, 1000, 1, 4, 1), RESULT_UNSENT, 1100, 0);
    uint64_t b = attempt(ledger, 2000, 5, 4, 2);
    outcome(ledger, b, RESULT_UNKNOWN, 2100, 0);
    outcome(ledger, b, RESULT_UNSENT, 2200, 0);
    assert_int_equal(ledger_flush(ledger), 0);
    struct tally t = scan(0, UINT64_MAX, UINT64_MAX, 0);
    assert_int_equal(t.certain[1], 0);
    assert_int_equal(t.possible[1], 3);
    outcome(ledger, b, RESULT_REFUSED, 2300, OUTCOME_ITEMS_FINAL);
    assert_int_equal(ledger_flush(ledger), 0);
    t = scan(0, UINT64_MAX, UINT64_MAX, 0);
    assert_int_equal(t.certain[1], 3);
    assert_int_equal(t.possible[1], 0);
    ledger_close(ledger);
}

/* What is recorded as unsent stays unsent: the same bytes later are another attempt, possible before any outcome, also after a restart. */
static void unsent_is_not_taken_up(void **state) {
    (void)state;
    struct ledger_recovery recovery;
    struct ledger *ledger = open_ledger(&recovery);
    uint64_t a = attempt(ledger, 1000, 1, 4, 1);
    outcome(ledger, a, RESULT_UNSENT, 1100, 0);
    uint64_t b = attempt(ledger, 2000, 1, 4, 1);
    assert_int_not_equal(b, a);
    struct tally t = scan(0, 2000, UINT64_MAX, 0);
    assert_int_equal(t.possible[1], 0);
    t = scan(0, UINT64_MAX, UINT64_MAX, 0);
    assert_int_equal(t.possible[1], 3);
    /* A byte may have left in a try before: that attempt is possible for good, and the same. */
    outcome(ledger, b, RESULT_UNKNOWN, 2100, 0);
    outcome(ledger, b, RESULT_UNSENT, 2200, 0);
    assert_int_equal(attempt(ledger, 2300, 1, 4, 1), b);
    uint64_t c = attempt(ledger, 3000, 1, 4, 2);
    outcome(ledger, c, RESULT_UNSENT, 3100, 0);
    ledger_close(ledger);
    ledger = open_ledger(&recovery);
    assert_int_equal(attempt(ledger, 4000, 1, 4, 1), b);
    uint64_t d = attempt(ledger, 4100, 1, 4, 2);
    assert_int_not_equal(d, c);
    t = scan(0, UINT64_MAX, UINT64_MAX, 0);
    assert_int_equal(t.possible[1], 6); /* b and d */
    ledger_close(ledger);
}

/* A refusal such as 429 is certain from its answer on, and the same bytes go again until the items are final: possible in between. */
static void tried_again(void **state) {
    (void)state;
    struct ledger_recovery recovery;
    struct ledger *ledger = open_ledger(&recovery);
    uint64_t a = attempt(ledger, 1000, 1, 4, 1);
    outcome(ledger, a, RESULT_REFUSED, 1100, 0);
    assert_int_equal(ledger_flush(ledger), 0);
    struct tally t = scan(0, 1101, UINT64_MAX, 0);
    assert_int_equal(t.certain[1], 3);
    t = scan(2000, 3000, UINT64_MAX, 0);
    assert_int_equal(t.possible[1], 3);
    outcome(ledger, a, RESULT_ACCEPTED, 4000, OUTCOME_ITEMS_FINAL | OUTCOME_WINDOW_SETTLED);
    assert_int_equal(ledger_flush(ledger), 0);
    t = scan(2000, 3000, UINT64_MAX, 0);
    assert_int_equal(t.possible[1], 3);
    assert_int_equal(t.certain[1], 0);
    t = scan(4001, 5000, UINT64_MAX, 0);
    assert_int_equal(t.possible[1] + t.certain[1], 0);
    /* Halved after 413: the whole is not final by itself, its window ends it. */
    uint64_t b = attempt(ledger, 6000, 5, 4, 2);
    outcome(ledger, b, RESULT_REFUSED, 6100, 0);
    uint64_t c = attempt(ledger, 6200, 5, 4, 3);
    outcome(ledger, c, RESULT_ACCEPTED, 6300, OUTCOME_ITEMS_FINAL | OUTCOME_WINDOW_SETTLED);
    assert_int_equal(ledger_flush(ledger), 0);
    t = scan(6301, 9000, UINT64_MAX, 0);
    assert_int_equal(t.possible[1] + t.certain[1], 0);
    ledger_close(ledger);
}

/* Answers do not hold all attempts in memory: what has ended long ago is told and forgotten, what has not is still answered by a late outcome. */
static void long_log(void **state) {
    enum { ATTEMPTS = 9000 };
    (void)state;
    struct ledger_recovery recovery;
    struct ledger *ledger = open_ledger(&recovery);
    uint64_t first = attempt(ledger, 1000, 1, 4, 1);
    for (uint64_t i = 1; i < ATTEMPTS; i++) {
        uint64_t number = attempt(ledger, 1000 + i, 1 + 4 * i, 4, (uint8_t)i);
        uint8_t result = i % 3 == 0 ? RESULT_UNSENT : i % 3 == 1 ? RESULT_UNKNOWN : RESULT_ACCEPTED;
        outcome(ledger, number, result, 1001 + i, i % 3 == 2 ? OUTCOME_WINDOW_SETTLED : 0);
    }
    assert_int_equal(ledger_flush(ledger), 0);
    struct tally t = scan(0, UINT64_MAX, UINT64_MAX, 0);
    assert_int_equal(t.certain[1], 3 * ATTEMPTS / 3);
    assert_int_equal(t.possible[1], 3 * (ATTEMPTS / 3 + 1));
    outcome(ledger, first, RESULT_ACCEPTED, 90000, OUTCOME_ITEMS_FINAL);
    assert_int_equal(ledger_flush(ledger), 0);
    t = scan(0, UINT64_MAX, UINT64_MAX, 0);
    assert_int_equal(t.certain[1], 3 * (ATTEMPTS / 3 + 1));
    assert_int_equal(t.possible[1], 3 * ATTEMPTS / 3);
    t = scan(1000 + 4000, 1000 + 4003, UINT64_MAX, 0);
    assert_int_equal(t.certain[2], 1);
    ledger_close(ledger);
}

/*
 * An attempt of no window (a question) is remembered by nobody but the log: as many as one likes, never a retry of another, and the cursor stays where it was.
 */
static void of_no_window(void **state) {
    enum { QUESTIONS = 5000 };
    (void)state;
    struct ledger_recovery recovery;
    struct ledger *ledger = open_ledger(&recovery);
    uint64_t number = attempt(ledger, 1000, 1, 4, 1);
    outcome(ledger, number, RESULT_ACCEPTED, 1001, OUTCOME_WINDOW_SETTLED);
    assert_int_equal(ledger_flush(ledger), 0);
    for (uint64_t i = 0; i < QUESTIONS; i++) {
        uint64_t asked = attempt(ledger, 2000 + i, 100, 0, 7);
        assert_int_equal(asked, number + 1 + i);
        if (i % 2 == 0) {
            outcome(ledger, asked, RESULT_ACCEPTED, 2001 + i, OUTCOME_ITEMS_FINAL);
        }
    }
    assert_int_equal(ledger_flush(ledger), 0);
    assert_int_equal(ledger_settled_seq(ledger), 5);
    assert_false(ledger_seq_is_final(ledger, 100, 2));
    ledger_close(ledger);
    ledger = open_ledger(&recovery);
    assert_int_equal(recovery.settled_seq, 5);
    assert_int_equal(recovery.attempts_without_outcome, 0);
    assert_int_equal(attempt(ledger, 9000, 100, 0, 7), number + 1 + QUESTIONS);
    struct tally t = scan(0, UINT64_MAX, UINT64_MAX, 0);
    assert_int_equal(t.certain[1], 3 * (1 + QUESTIONS / 2));
    assert_int_equal(t.possible[1], 3 * (1 + QUESTIONS / 2));
    ledger_close(ledger);
}

/* What a restart believes: the cursor, retries by body hash, which events are final. */
static void restart(void **state) {
    (void)state;
    struct ledger_recovery recovery;
    struct ledger *ledger = open_ledger(&recovery);
    assert_int_equal(recovery.settled_seq, 0);
    assert_int_equal(ledger_state(ledger, 1, "test", "first"), 0);
    uint64_t a = attempt(ledger, 1000, 1, 4, 1);
    outcome(ledger, a, RESULT_ACCEPTED, 2000, OUTCOME_ITEMS_FINAL | OUTCOME_WINDOW_SETTLED);
    struct ledger_reason_count reasons[] = {{8, 6}};
    assert_int_equal(ledger_passed(ledger, 5, 4, reasons, 1, "policy", false), 0);
    assert_int_equal(ledger_passed(ledger, 9, 2, reasons, 1, "policy", false), 0);
    assert_int_equal(ledger_settled_seq(ledger), 0); /* nothing is published before it is durable */
    uint64_t b = attempt(ledger, 3000, 11, 4, 2);
    assert_int_equal(ledger_settled_seq(ledger), 11);
    uint64_t again = attempt(ledger, 9000, 11, 4, 2);
    assert_int_equal(again, b);
    uint64_t c = attempt(ledger, 3000, 11, 4, 3);
    assert_int_not_equal(c, b);
    outcome(ledger, b, RESULT_ACCEPTED, 3100, OUTCOME_ITEMS_FINAL);
    assert_int_equal(ledger_flush(ledger), 0);
    assert_true(ledger_seq_is_final(ledger, 12, 2));
    assert_false(ledger_seq_is_final(ledger, 12, 3));
    ledger_close(ledger);

    ledger = open_ledger(&recovery);
    assert_int_equal(recovery.settled_seq, 11);
    assert_int_equal(recovery.state, 1);
    assert_int_equal(recovery.attempts_without_outcome, 1);
    assert_true(ledger_seq_is_final(ledger, 12, 2));
    assert_int_equal(attempt(ledger, 9999, 11, 4, 3), c);
    uint64_t d = attempt(ledger, 9999, 15, 4, 3);
    assert_int_equal(d, c + 1);
    ledger_close(ledger);
    struct ledger_verify_report report;
    assert_int_equal(verify(&report), 0);
    assert_int_equal(report.attempts, 4);
    assert_int_equal(report.outcomes, 2);
    assert_int_equal(report.entries, 8);
    assert_int_equal(report.entries_unchecked, 0);
    assert_true(report.checkpoints >= 1);
}

/* Every byte of the log that carries something, and every checkpoint, is covered: flip one and it is refused by name. */
static void flipped(void **state) {
    (void)state;
    struct ledger_recovery recovery;
    struct ledger *ledger = open_ledger(&recovery);
    for (uint64_t i = 0; i < 20; i++) {
        uint64_t a = attempt(ledger, 1000 + i, 1 + 4 * i, 4, (uint8_t)i);
        outcome(ledger, a, RESULT_ACCEPTED, 2000 + i, OUTCOME_ITEMS_FINAL | OUTCOME_WINDOW_SETTLED);
    }
    ledger_close(ledger);
    struct ledger_verify_report report;
    assert_int_equal(verify(&report), 0);
    char path[320];
    static uint8_t bytes[64 * 1024];
    size_t n = 0;
    (void)snprintf(path, sizeof path, "%s/mixpanel-1/0000000001.seg", dir);
    struct os_file file;
    assert_int_equal(os_file_open(path, OS_OPEN_WRITE, &file), 0);
    assert_int_equal(os_file_read_at(file, 0, bytes, sizeof bytes, &n), 0);
    assert_true(n > 6000);
    size_t refused = 0;
    size_t tried = 0;
    for (size_t at = 4096; at < n; at += 97, tried++) {
        uint8_t flipped_byte = bytes[at] ^ 4;
        assert_int_equal(os_file_write_at(file, at, &flipped_byte, 1), 0);
        int r = verify(&report);
        refused += r != 0;
        if (r != 0) {
            assert_true(report.file[0] != '\0' && report.text[0] != '\0');
        }
        assert_int_equal(os_file_write_at(file, at, &bytes[at], 1), 0);
    }
    os_file_close(&file);
    print_message("%zu of %zu flipped bits refused\n", refused, tried);
    assert_int_equal(refused, tried);
    assert_int_equal(verify(&report), 0);

    /* A log that lost its end is older than what was signed. */
    (void)snprintf(path, sizeof path, "%s/mixpanel-1/checkpoint", dir);
    assert_int_equal(os_file_read_whole(path, bytes, sizeof bytes, &n), 0);
    bytes[n - 10] ^= 1;
    assert_int_equal(os_file_replace(path, bytes, n, 0600), 0);
    assert_int_not_equal(verify(&report), 0);
}

/* A signed tree that the log no longer reaches stops the vendor at the next start. */
static void older_log(void **state) {
    (void)state;
    struct ledger_recovery recovery;
    struct ledger *ledger = open_ledger(&recovery);
    char command[800];
    outcome(ledger, attempt(ledger, 1000, 1, 4, 1), RESULT_ACCEPTED, 1100,
            OUTCOME_ITEMS_FINAL | OUTCOME_WINDOW_SETTLED);
    ledger_close(ledger);
    (void)snprintf(command, sizeof command, "cp -r %s/mixpanel-1 %s/old", dir, folder);
    assert_int_equal(system(command), 0);
    ledger = open_ledger(&recovery);
    outcome(ledger, attempt(ledger, 2000, 5, 4, 2), RESULT_ACCEPTED, 2100,
            OUTCOME_ITEMS_FINAL | OUTCOME_WINDOW_SETTLED);
    ledger_close(ledger);
    (void)snprintf(command, sizeof command,
                   "rm %s/mixpanel-1/*.seg && cp %s/old/*.seg %s/mixpanel-1/", dir, folder, dir);
    assert_int_equal(system(command), 0);
    struct ledger_config config = {.dir = dir, .vendor = "mixpanel", .keyring = keyring};
    struct err err = {0};
    assert_int_equal(ledger_open(&config, &ledger, &recovery, &err), BH_E_TAMPERED);
    assert_non_null(strstr(err.text, "stays stopped"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(windows, setup, teardown),
        cmocka_unit_test_setup_teardown(strongest, setup, teardown),
        cmocka_unit_test_setup_teardown(unsent_is_not_taken_up, setup, teardown),
        cmocka_unit_test_setup_teardown(tried_again, setup, teardown),
        cmocka_unit_test_setup_teardown(long_log, setup, teardown),
        cmocka_unit_test_setup_teardown(of_no_window, setup, teardown),
        cmocka_unit_test_setup_teardown(restart, setup, teardown),
        cmocka_unit_test_setup_teardown(flipped, setup, teardown),
        cmocka_unit_test_setup_teardown(older_log, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
