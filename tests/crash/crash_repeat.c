/*
 * Power loss at every operation of the store of repeats: whatever of a run, a merge or the state was
 * on the way, every verdict that was told comes out the same when it is made again, and every later
 * one is a naive twin's.
 */
/* depends: resolve journal inspect keyring seglog protocol mixpanel wire json model crypto os base */
/* sources: ../unit/journal_kit.c */
/* libs: lmdb */
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

#include "unit/journal_kit.h"

#include "base/hash.h"
#include "flow/resolve/repeat_int.h"
#include "os/fault.h"
#include "os/log.h"

enum { SLOTS = 64, IDS = 400, EVENTS = 2500, AFTER = 200, WINDOW = 700 };

struct told {
    uint64_t seq;
    uint64_t settled; /* the cursor that was durable by then */
    bool is_repeat;
};

struct event {
    uint64_t dedupe;
    uint64_t received_us;
    uint32_t content;
    bool is_repeat; /* the twin's word */
};

static struct event events[EVENTS + AFTER + 1];

/* The same for child and parent. */
static void make_events(uint64_t seed) {
    struct random_kit random = {seed};
    uint64_t last[IDS] = {0};
    uint64_t clock_us = 1700000000000000U;
    for (uint64_t seq = 1; seq <= EVENTS + AFTER; seq++) {
        uint64_t id = random_kit_below(&random, IDS);
        clock_us += random_kit_below(&random, 2000000);
        struct event *e = &events[seq];
        *e = (struct event){.dedupe = id + 1,
                            .received_us = clock_us,
                            .content = (uint32_t)hash64(&id, sizeof(id), 5) | 1};
        uint64_t before = last[id];
        e->is_repeat =
            before != 0 && clock_us / 1000000 - events[before].received_us / 1000000 < WINDOW;
        last[id] = e->is_repeat ? before : seq;
    }
}

static struct repeats *open_store(const char *dir, uint64_t from_seq) {
    struct err err = {0};
    struct repeats *repeats = NULL;
    const struct repeats_config config = {
        .dir = dir, .window_s = WINDOW, .from_seq = from_seq, .table_slots = SLOTS};
    if (repeats_open(&config, &repeats, &err) != 0) {
        fail_msg("%s", err.text);
    }
    if (repeats_covered_until(repeats) == 0) {
        repeats_begin_at(repeats, 1);
    }
    return repeats;
}

static bool see(struct repeats *repeats, uint64_t seq) {
    const struct event *e = &events[seq];
    return repeats_see(repeats, seq, e->received_us, e->dedupe, e->content);
}

static _Noreturn void run_child(const char *dir, uint64_t seed, uint64_t loss_at, int out) {
    char spec[100];
    struct err err = {0};
    struct told told = {.settled = 1};
    bool more = false;
    (void)snprintf(spec, sizeof(spec), "seed=%llu,loss_at=%llu,names=1,garble=1",
                   (unsigned long long)seed, (unsigned long long)loss_at);
    if (os_fault_install(spec, &err) != 0) {
        _exit(2);
    }
    struct repeats *repeats = open_store(dir, 1);
    for (told.seq = 1; told.seq <= EVENTS; told.seq++) {
        told.is_repeat = see(repeats, told.seq);
        bool is_full = repeats_is_full(repeats);
        told.settled = is_full ? told.seq + 1 : told.settled;
        if (write(out, &told, sizeof(told)) != (ssize_t)sizeof(told)) {
            _exit(3);
        }
        if (is_full && repeats_freeze(repeats, told.settled) != 0) {
            _exit(4);
        }
        if (told.seq % 8 == 0 && repeats_tend(repeats, &more) != 0) {
            _exit(5);
        }
    }
    _exit(0);
}

/* As the resolver after the loss. */
static void check_store(const char *dir, uint64_t seed, uint64_t loss_at, struct told last) {
    struct repeats *repeats = open_store(dir, last.seq + 1);
    uint64_t covered = repeats_covered_until(repeats);
    assert_true(covered <= last.settled);
    repeats_forget(repeats);
    for (uint64_t seq = covered; seq < last.settled; seq++) {
        if (!events[seq].is_repeat) {
            repeats_enter(repeats, events[seq].received_us, events[seq].dedupe,
                          events[seq].content);
        }
    }
    for (uint64_t seq = last.settled; seq <= last.seq + AFTER; seq++) {
        if (see(repeats, seq) != events[seq].is_repeat) {
            fail_msg("seed %llu, loss at %llu: seq %llu of %llu", (unsigned long long)seed,
                     (unsigned long long)loss_at, (unsigned long long)seq,
                     (unsigned long long)last.seq);
        }
    }
    repeats_free(repeats);
}

/* True: the power went; false: the child came to its end before that operation. */
static bool lose_power_at(uint64_t seed, uint64_t loss_at) {
    char dir[128];
    char store[160];
    int ends[2];
    int status = 0;
    struct told told;
    struct told last = {.settled = 1};
    kit_dir_make(dir);
    (void)snprintf(store, sizeof(store), "%s/repeats", dir);
    assert_int_equal(pipe(ends), 0);
    (void)fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        (void)close(ends[0]);
        run_child(store, seed, loss_at, ends[1]);
    }
    (void)close(ends[1]);
    while (read(ends[0], &told, sizeof(told)) == (ssize_t)sizeof(told)) {
        assert_int_equal(told.is_repeat, events[told.seq].is_repeat);
        last = told;
    }
    (void)close(ends[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    bool is_lost = WEXITSTATUS(status) == OS_FAULT_LOSS_STATUS;
    assert_true(is_lost || WEXITSTATUS(status) == 0);
    check_store(store, seed, loss_at, last);
    kit_dir_remove(dir);
    return is_lost;
}

static void power_lost_at_every_operation(void **state) {
    (void)state;
    const char *full = getenv("BH_FULL");
    bool is_full = full != NULL && strcmp(full, "1") == 0;
    unsigned seeds = is_full ? 20 : 1;
    unsigned step = is_full ? 1 : 4;
    uint64_t first = random_kit_seed(1);
    unsigned losses = 0;
    log_set_level(LOG_ERROR);
    for (uint64_t seed = first; seed < first + seeds; seed++) {
        make_events(seed);
        for (uint64_t loss_at = 1 + seed % step; lose_power_at(seed, loss_at); loss_at += step) {
            losses++;
        }
    }
    printf("%u power losses\n", losses);
    assert_true(losses > 200 / step * seeds);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(power_lost_at_every_operation)};
    return cmocka_run_group_tests_name("crash repeat", tests, NULL, NULL);
}
