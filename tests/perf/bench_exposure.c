/*
 * What an answer costs: a ledger of N entries about P people, 500 entries an attempt, over 30 days, written by the ledger itself; then scans of all of it and of a
 * day, with the people of every shape put into sets as the answer does.
 *
 *   bench_exposure [ENTRIES] [PEOPLE]      default 5000000 1000000
 */
/* depends: ledger keyring seglog tlog crypto model os base */
/* libs: roaring */
#define _GNU_SOURCE
#include <roaring/roaring.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/keyring/keyring.h"
#include "flow/ledger/ledger.h"
#include "model/class.h"
#include "model/form.h"
#include "os/clock.h"
#include "os/file.h"

enum { BATCH = 500, SHAPES = 8, DAYS = 30 };

static const uint64_t day_ms = 86400000;
static const uint64_t start_ms = 1795478400000;

static void must(int r, const struct err *err) {
    if (r != 0) {
        (void)fprintf(stderr, "failed: %d %s\n", r, err->text);
        exit(2);
    }
}

static uint32_t next_random(uint64_t *state) {
    *state = *state * 6364136223846793005U + 1442695040888963407U;
    return (uint32_t)(*state >> 33);
}

static void write_all(const char *dir, struct keyring *keyring, uint64_t entries, uint32_t people) {
    static const struct ledger_pair pairs[] = {
        {CLASS_UNIQUE_ID, FORM_PSEUDONYM, 0}, {CLASS_BEHAVIOR, FORM_RAW, 0},
        {CLASS_EMAIL, FORM_RAW, 0},           {CLASS_DEVICE, FORM_COARSE, 1},
        {CLASS_SYSTEM, FORM_RAW, 0},
    };
    struct err err = {0};
    struct ledger *ledger = NULL;
    struct ledger_recovery recovery;
    struct ledger_config config = {.dir = dir, .vendor = "bench", .keyring = keyring};
    must(ledger_open(&config, &ledger, &recovery, &err), &err);
    uint32_t shapes[SHAPES];
    for (uint16_t i = 0; i < SHAPES; i++) {
        shapes[i] = ledger_shape(ledger, 1 + i % 2, pairs, 2 + i / 2);
    }
    uint64_t state = 7;
    uint64_t attempts = entries / BATCH;
    uint32_t stride = people / BATCH;
    for (uint64_t n = 0; n < attempts; n++) {
        struct ledger_entry batch[BATCH] = {0};
        for (uint32_t i = 0; i < BATCH; i++) {
            batch[i].ord = 1 + i * stride + next_random(&state) % stride;
            batch[i].shape = shapes[next_random(&state) % SHAPES];
            batch[i].events = 1;
        }
        struct ledger_attempt attempt = {
            .time_ms = start_ms + n * DAYS * day_ms / attempts,
            .first_seq = 1 + n * BATCH,
            .span = BATCH,
            .endpoint = 2,
            .events = BATCH,
            .entries = batch,
            .entry_count = BATCH,
        };
        put_u64(attempt.body_sha256, n);
        uint64_t number = 0;
        must(ledger_attempt(ledger, &attempt, &number), &err);
        struct ledger_outcome outcome = {.attempt = number,
                                         .time_ms = attempt.time_ms + 20,
                                         .status = 200,
                                         .result = RESULT_ACCEPTED,
                                         .flags = OUTCOME_ITEMS_FINAL | OUTCOME_WINDOW_SETTLED};
        must(ledger_outcome(ledger, &outcome), &err);
    }
    ledger_close(ledger);
}

struct sets {
    roaring_bitmap_t *by_shape[64];
    uint64_t rows;
};

static void add(void *context, const struct ledger_row *row) {
    struct sets *sets = context;
    roaring_bitmap_add(sets->by_shape[row->shape % 64], row->ord);
    sets->rows++;
}

static void ask(const char *name, const char *dir, struct keyring *keyring, uint64_t from,
                uint64_t to) {
    struct sets sets = {.rows = 0};
    struct err err = {0};
    struct ledger_reader *reader = NULL;
    for (size_t i = 0; i < BH_COUNT(sets.by_shape); i++) {
        sets.by_shape[i] = roaring_bitmap_create();
    }
    uint64_t start = os_mono_us();
    must(ledger_reader_open(dir, "bench", keyring, &reader, &err), &err);
    struct ledger_query query = {.from_ms = from, .to_ms = to, .at_ms = UINT64_MAX};
    must(ledger_scan(reader, &query, add, &sets), &err);
    for (size_t i = 1; i < BH_COUNT(sets.by_shape); i++) {
        roaring_bitmap_or_inplace(sets.by_shape[0], sets.by_shape[i]);
    }
    uint64_t us = os_mono_us() - start;
    (void)printf(
        "  %-10s %10llu entries %10llu people %8.0f ms\n", name, (unsigned long long)sets.rows,
        (unsigned long long)roaring_bitmap_get_cardinality(sets.by_shape[0]), (double)us / 1000);
    for (size_t i = 0; i < BH_COUNT(sets.by_shape); i++) {
        roaring_bitmap_free(sets.by_shape[i]);
    }
    ledger_reader_close(reader);
}

int main(int argc, char **argv) {
    uint64_t entries = argc > 1 ? strtoull(argv[1], NULL, 10) : 5000000;
    uint32_t people = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 1000000;
    const char *parent = getenv("TMPDIR");
    static char folder[160];
    static char key[192];
    static char dir[192];
    static char command[192];
    struct err err = {0};
    struct keyring *keyring = NULL;
    (void)snprintf(folder, sizeof folder, "%s/bulkhead-bench-XXXXXX",
                   parent != NULL ? parent : "/tmp");
    if (people < BATCH || mkdtemp(folder) == NULL) {
        return 2;
    }
    (void)snprintf(key, sizeof key, "%s/master.key", folder);
    (void)snprintf(dir, sizeof dir, "%s/data", folder);
    must(crypto_init(), &err);
    must(os_dir_make(dir), &err);
    must(keyring_master_create(key, &err), &err);
    struct keyring_source source = {.file = key};
    must(keyring_open(dir, dir, &source, true, 1, &keyring, &err), &err);
    (void)snprintf(dir, sizeof dir, "%s/data/ledger", folder);
    uint64_t start = os_mono_us();
    write_all(dir, keyring, entries, people);
    (void)printf("  written    %10llu entries %29.0f ms\n", (unsigned long long)entries,
                 (double)(os_mono_us() - start) / 1000);
    ask("30 days", dir, keyring, 0, UINT64_MAX);
    ask("the 10th", dir, keyring, start_ms + 9 * day_ms, start_ms + 10 * day_ms);
    ask("the first", dir, keyring, start_ms, start_ms + day_ms);
    ask("the last", dir, keyring, start_ms + 29 * day_ms, start_ms + 30 * day_ms);
    keyring_free(keyring);
    (void)snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}
