/*
 * Repeats: the store against a naive twin over random events, crashes, merges and changed windows;
 * its bytes, its damage, and what the resolver makes of it.
 */
/* depends: resolve journal inspect keyring seglog protocol mixpanel wire json model crypto os base */
/* sources: journal_kit.c */
/* libs: lmdb */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "journal_kit.h"

#include "base/hash.h"
#include "flow/resolve/resolve_int.h"
#include "os/clock.h"
#include "os/log.h"

enum { SLOTS = 256, IDS = 3000, EVENTS = 60000, WINDOW = 500 };

/* -- the store alone --------------------------------------------------------------------------- */

struct event {
    uint64_t dedupe;
    uint64_t received_us;
    uint32_t content;
    bool is_repeat; /* as the store said first */
};

struct twin {
    char dir[128];
    char store[160];
    struct repeats *repeats;
    struct event *events; /* by seq, from 1 */
    uint64_t count;
    uint64_t settled; /* durable cursor: the next seq */
    uint32_t window_s;
};

static void open_store(struct twin *t) {
    struct err err = {0};
    const struct repeats_config config = {
        .dir = t->store, .window_s = t->window_s, .from_seq = t->count + 1, .table_slots = SLOTS};
    if (repeats_open(&config, &t->repeats, &err) != 0) {
        fail_msg("%s", err.text);
    }
    if (repeats_covered_until(t->repeats) == 0) {
        repeats_begin_at(t->repeats, 1);
    }
}

static struct twin *new_twin(void) {
    struct twin *t = (struct twin *)calloc(1, sizeof(*t));
    assert_non_null(t);
    t->events = (struct event *)calloc(EVENTS + 2, sizeof(*t->events));
    assert_non_null(t->events);
    kit_dir_make(t->dir);
    (void)snprintf(t->store, sizeof(t->store), "%s/repeats", t->dir);
    t->settled = 1;
    t->window_s = WINDOW;
    open_store(t);
    return t;
}

static void free_twin(struct twin *t) {
    repeats_free(t->repeats);
    kit_dir_remove(t->dir);
    free(t->events);
    free(t);
}

/* What must be so: an earlier event of the same id and content that counted, not older than the window. */
static bool naive(const struct twin *t, uint64_t seq, uint32_t window_s, uint64_t *last) {
    const struct event *e = &t->events[seq];
    uint64_t key = (e->dedupe * 4 + e->content % 4) % (IDS * 4UL);
    uint64_t now = e->received_us / 1000000;
    if (last[key] != 0) {
        uint64_t before = t->events[last[key]].received_us / 1000000;
        if (now < before || now - before < window_s) {
            return true;
        }
    }
    last[key] = seq;
    return false;
}

/* As the resolver does at a start: what counted below the cursor is entered, what comes after is judged again. */
static void crash(struct twin *t) {
    repeats_free(t->repeats);
    open_store(t);
    repeats_forget(t->repeats);
    for (uint64_t seq = repeats_covered_until(t->repeats); seq < t->settled; seq++) {
        const struct event *e = &t->events[seq];
        if (!e->is_repeat) {
            repeats_enter(t->repeats, e->received_us, e->dedupe, e->content);
        }
    }
    for (uint64_t seq = t->settled; seq <= t->count; seq++) {
        const struct event *e = &t->events[seq];
        assert_int_equal(repeats_see(t->repeats, seq, e->received_us, e->dedupe, e->content),
                         e->is_repeat);
    }
}

static void tend(struct twin *t) {
    if (repeats_is_full(t->repeats)) {
        t->settled = t->count + 1;
        assert_int_equal(repeats_freeze(t->repeats, t->settled), 0);
    }
    bool more = false;
    assert_int_equal(repeats_tend(t->repeats, &more), 0);
}

static void next_event(struct twin *t, struct random_kit *random, uint64_t *clock_us) {
    *clock_us += random_kit_below(random, 200000);
    if (random_kit_below(random, 1000) == 0 && *clock_us > 30000000) {
        *clock_us -= 20000000; /* a clock that is set */
    }
    struct event *e = &t->events[++t->count];
    uint64_t id = random_kit_below(random, IDS);
    /* Spread as keyed hashes are, and recognised by the twin. */
    e->dedupe = id;
    e->content =
        4 * (uint32_t)hash64(&id, sizeof(id), 7) + (uint32_t)random_kit_below(random, 4) / 3;
    e->received_us = *clock_us;
}

static void verdicts_are_the_twins(void **state) {
    (void)state;
    uint64_t seed = random_kit_seed(1);
    struct random_kit random = {seed};
    struct twin *t = new_twin();
    uint64_t *last = (uint64_t *)calloc(IDS * 4UL, sizeof(*last));
    uint64_t clock_us = 1700000000000000U;
    unsigned repeats = 0;
    unsigned runs = 0;
    assert_non_null(last);
    for (uint64_t i = 0; i < EVENTS; i++) {
        next_event(t, &random, &clock_us);
        struct event *e = &t->events[t->count];
        bool wanted = naive(t, t->count, WINDOW, last);
        e->is_repeat = repeats_see(t->repeats, t->count, e->received_us, e->dedupe, e->content);
        if (e->is_repeat != wanted) {
            fail_msg("seed %llu seq %llu: %d", (unsigned long long)seed,
                     (unsigned long long)t->count, e->is_repeat);
        }
        repeats += e->is_repeat;
        if (random_kit_below(&random, 50) == 0) {
            t->settled = t->count + 1;
        }
        if (random_kit_below(&random, 20) == 0) {
            tend(t);
        }
        if (random_kit_below(&random, 2000) == 0) {
            crash(t);
        }
        struct repeats_facts facts;
        repeats_facts(t->repeats, &facts);
        runs = facts.runs > runs ? facts.runs : runs;
        assert_true(facts.entries < 4UL * IDS + 3000);
    }
    assert_true(repeats > EVENTS / 20 && repeats < EVENTS);
    assert_true(runs >= 3 && runs < 40);
    free(last);
    free_twin(t);
}

static bool see(struct twin *t, uint64_t dedupe, uint64_t second) {
    struct event *e = &t->events[++t->count];
    *e = (struct event){.dedupe = dedupe, .content = 9, .received_us = second * 1000000};
    e->is_repeat = repeats_see(t->repeats, t->count, e->received_us, dedupe, 9);
    return e->is_repeat;
}

/* A merge leaves out nothing that an event behind the durable cursor has found: it may be judged again. */
static void a_merge_keeps_what_may_be_asked_for_again(void **state) {
    (void)state;
    struct twin *t = new_twin();
    assert_false(see(t, 1, 1000));
    for (uint64_t run = 0; run < 8; run++) {
        assert_false(see(t, 100 + run, 1001));
        t->settled = t->count + 1;
        assert_int_equal(repeats_freeze(t->repeats, t->settled), 0);
    }
    assert_true(see(t, 1, 1000 + WINDOW - 1));
    assert_false(see(t, 200, 1000 + WINDOW + 700));
    struct repeats_facts facts;
    for (bool more = true; more;) {
        assert_int_equal(repeats_tend(t->repeats, &more), 0);
    }
    repeats_facts(t->repeats, &facts);
    assert_int_equal(facts.runs, 1);
    crash(t);
    assert_true(see(t, 1, 1000 + WINDOW - 1));
    free_twin(t);
}

/* What came under a window keeps it, whatever is set later. */
static void a_window_binds_what_comes_after_it(void **state) {
    (void)state;
    struct twin *t = new_twin();
    const uint64_t second = 1000000;
    for (uint64_t i = 0; i < 3; i++) {
        (void)see(t, 5, 1000 + i * 300);
    }
    /* 0 s counts, 300 s repeats it, at 600 s it is over. */
    assert_false(t->events[1].is_repeat);
    assert_true(t->events[2].is_repeat);
    assert_false(t->events[3].is_repeat);
    t->window_s = 10 * WINDOW;
    crash(t); /* judges all three again */
    assert_true(repeats_see(t->repeats, 4, 5000 * second, 5, 9));
    t->window_s = 0;
    t->count = 4;
    repeats_free(t->repeats);
    open_store(t);
    assert_false(repeats_see(t->repeats, 5, 5001 * second, 5, 9));
    assert_false(repeats_is_off(t->repeats));
    free_twin(t);
}

/* One dedupe id with many contents, as who holds a page's token can send it, costs no more. */
static void many_contents_of_one_id_lie_apart(void **state) {
    (void)state;
    struct twin *t = new_twin();
    for (uint32_t i = 0; i < SLOTS / 2; i++) {
        uint32_t content = (uint32_t)hash64(&i, sizeof(i), 3) | 1;
        assert_false(repeats_see(t->repeats, i + 1, 1000000, 77, content));
    }
    unsigned longest = 0;
    for (uint32_t i = 0; i < SLOTS / 2; i++) {
        uint32_t content = (uint32_t)hash64(&i, sizeof(i), 3) | 1;
        assert_true(repeats_see(t->repeats, i + 1, 1000000, 77, content));
        unsigned same = 0;
        for (uint32_t k = 0; k < SLOTS / 2; k++) {
            uint32_t other = (uint32_t)hash64(&k, sizeof(k), 3) | 1;
            same += repeat_home(repeat_key_of(77, other), SLOTS) ==
                    repeat_home(repeat_key_of(77, content), SLOTS);
        }
        longest = same > longest ? same : longest;
    }
    assert_true(longest < 8);
    free_twin(t);
}

/* -- bytes ------------------------------------------------------------------------------------- */

static void write_run(const char *dir, uint64_t number, size_t buffer) {
    static uint8_t memory[65536];
    static const struct repeat_entry entries[] = {{0x1000000000000000, 1, 100},
                                                  {0x1000000000000000, 2, 101},
                                                  {0x9000000000000000, 1, 102},
                                                  {0xfffffffffffffffe, 1, 103},
                                                  {0xffffffffffffffff, 7, 99}};
    struct repeat_writer writer = {.buffer = buf_of(memory, buffer)};
    assert_int_equal(repeat_writer_begin(&writer, dir, number, BH_COUNT(entries)), 0);
    for (size_t i = 0; i < BH_COUNT(entries); i++) {
        assert_int_equal(repeat_writer_put(&writer, &entries[i]), 0);
    }
    assert_int_equal(repeat_writer_end(&writer), 0);
}

static void a_run_holds_what_was_put(void **state) {
    (void)state;
    char dir[128];
    struct repeat_run run;
    uint32_t second = 0;
    kit_dir_make(dir);
    write_run(dir, 3, 4096);
    assert_int_equal(repeat_run_open(dir, 3, &run), 0);
    assert_true(repeat_run_is_whole(&run));
    assert_int_equal(run.entries, 5);
    assert_int_equal(run.newest, 103);
    assert_true(repeat_run_find(&run, 0x1000000000000000, 2, &second));
    assert_int_equal(second, 101);
    assert_true(repeat_run_find(&run, 0xffffffffffffffff, 7, &second));
    assert_int_equal(second, 99);
    assert_false(repeat_run_find(&run, 0x1000000000000000, 3, &second));
    assert_false(repeat_run_find(&run, 0xffffffffffffffff, 8, &second));
    assert_false(repeat_run_find(&run, 0, 1, &second));
    repeat_run_close(&run);
    kit_dir_remove(dir);
}

/* The bytes of the first version, kept in tests/golden: every later one reads them. */
static void the_golden_files_are_read(void **state) {
    (void)state;
    char path[400];
    static uint8_t bytes[65536];
    static uint8_t written[65536];
    size_t n = 0;
    size_t written_n = 0;
    struct repeat_run run;
    uint32_t second = 0;
    assert_int_equal(os_file_read_whole(BULKHEAD_SOURCE_DIR "/tests/golden/repeat-run-v1.bin",
                                        bytes, sizeof(bytes), &n),
                     0);
    assert_int_equal(repeat_run_read(span_of(bytes, n), &run), 0);
    assert_true(repeat_run_is_whole(&run));
    assert_true(repeat_run_find(&run, 0x9000000000000000, 1, &second));
    assert_int_equal(second, 102);
    char dir[128];
    kit_dir_make(dir);
    write_run(dir, 3, sizeof(written));
    repeat_run_path(dir, 3, path);
    assert_int_equal(os_file_read_whole(path, written, sizeof(written), &written_n), 0);
    assert_int_equal(written_n, n);
    assert_memory_equal(written, bytes, n);
    struct repeat_state state_read = {0};
    uint8_t again[REPEAT_STATE_MAX];
    assert_int_equal(os_file_read_whole(BULKHEAD_SOURCE_DIR "/tests/golden/repeat-state-v1.bin",
                                        bytes, sizeof(bytes), &n),
                     0);
    assert_int_equal(repeat_state_read(span_of(bytes, n), &state_read), 0);
    assert_int_equal(state_read.covered_until, 70000);
    assert_int_equal(state_read.windows[1].seconds, 86400);
    assert_int_equal(state_read.runs[0].crc, run.crc);
    assert_int_equal(repeat_state_write(&state_read, again), n);
    assert_memory_equal(again, bytes, n);
    kit_dir_remove(dir);
}

static void every_changed_byte_is_found(void **state) {
    (void)state;
    char dir[128];
    char path[400];
    static uint8_t bytes[8192];
    size_t n = 0;
    kit_dir_make(dir);
    write_run(dir, 3, 4096);
    repeat_run_path(dir, 3, path);
    assert_int_equal(os_file_read_whole(path, bytes, sizeof(bytes), &n), 0);
    for (size_t i = 0; i < n; i++) {
        struct repeat_run run = {0};
        bytes[i] ^= 0x40;
        assert_false(repeat_run_read(span_of(bytes, n), &run) == 0 && repeat_run_is_whole(&run));
        bytes[i] ^= 0x40;
    }
    struct repeat_state wrote = {
        .covered_until = 7, .next_number = 9, .window_count = 2, .run_count = 1};
    wrote.windows[1] = (struct repeat_window){4, 60};
    wrote.runs[0].number = 8;
    uint8_t out[REPEAT_STATE_MAX];
    size_t size = repeat_state_write(&wrote, out);
    struct repeat_state read;
    assert_int_equal(repeat_state_read(span_of(out, size), &read), 0);
    assert_memory_equal(&read, &wrote, sizeof(read));
    for (size_t i = 0; i < size; i++) {
        out[i] ^= 1;
        assert_int_not_equal(repeat_state_read(span_of(out, size), &read), 0);
        assert_int_not_equal(repeat_state_read(span_of(out, i), &read), 0);
        out[i] ^= 1;
    }
    kit_dir_remove(dir);
}

/* -- the resolver ------------------------------------------------------------------------------ */

struct world {
    char dir[128];
    char journal_dir[160];
    char resolve_dir[160];
    struct keyring *keyring;
    struct journal *journal;
    struct resolver *resolver;
    struct resolve_view *view;
    struct aid_maker *aids;
    uint64_t received_us;
};

static void start_resolver(struct world *w, uint32_t window_s) {
    static const struct resolve_source source = {.number = 1};
    const struct resolve_config config = {.dir = w->resolve_dir,
                                          .keyring = w->keyring,
                                          .journal = w->journal,
                                          .sources = &source,
                                          .source_count = 1,
                                          .map_size = 256 * 1024 * 1024,
                                          .repeat_window_s = window_s,
                                          .repeat_slots = SLOTS};
    struct err err = {0};
    if (resolver_open(&config, &w->resolver, &err) != 0) {
        fail_msg("%s", err.text);
    }
    assert_int_equal(resolver_start(w->resolver), 0);
    assert_int_equal(resolve_view_new(w->resolver, &w->view), 0);
}

static void stop_resolver(struct world *w) {
    resolve_view_free(w->view);
    resolver_free(w->resolver);
}

static void open_world(struct world *w) {
    *w = (struct world){.received_us = 1700000000000000U};
    kit_dir_make(w->dir);
    w->keyring = kit_keyring(w->dir);
    const struct journal_config config = kit_config(w->dir, w->keyring, w->journal_dir);
    w->journal = kit_open(&config, NULL);
    assert_int_equal(journal_start(w->journal), 0);
    w->aids = aid_maker_new(w->keyring);
    (void)snprintf(w->resolve_dir, sizeof(w->resolve_dir), "%s/data/resolve", w->dir);
    start_resolver(w, 86400);
}

static void close_world(struct world *w) {
    stop_resolver(w);
    journal_free(w->journal);
    aid_maker_free(w->aids);
    keyring_free(w->keyring);
    kit_dir_remove(w->dir);
}

/* An event as ingest puts it; returns its seq. */
static uint64_t put_event(struct world *w, struct repeat_facts facts) {
    struct repeat_key key = {0};
    struct record_event event = {.kind = facts.kind, .json = SPAN_LIT("{\"event\":\"Step\"}")};
    if (facts.dedupe_id.n != 0) {
        aid_repeat(w->aids, &facts, &key);
    }
    event.dedupe = key.dedupe;
    event.content = key.content;
    event.aid = facts.aid;
    const struct record_request request = {.protocol = PROTOCOL_MIXPANEL,
                                           .kind = 1,
                                           .source = facts.source,
                                           .events = 1,
                                           .received_us = w->received_us};
    struct journal_writer *writer = journal_writer_of(w->journal, 0);
    assert_int_equal(journal_writer_put(writer, &request, &event, 1, 0), 0);
    journal_writer_flush(writer);
    kit_wait(writer, 1, NULL, 0);
    return journal_durable_seq(w->journal);
}

static bool is_repeat(struct world *w, uint64_t seq) {
    uint64_t until = os_mono_us() + 20000000;
    while (resolver_seq(w->resolver) < seq) {
        assert_true(os_mono_us() < until);
        os_sleep_us(200);
    }
    assert_int_equal(resolve_view_begin(w->view), 0);
    bool repeat = resolve_is_repeat(w->view, seq);
    resolve_view_end(w->view);
    return repeat;
}

static struct repeat_facts facts_of(struct world *w, const char *id) {
    struct repeat_facts facts = {.source = 1,
                                 .kind = EVENT_TRACK,
                                 .dedupe_id = span_str(id),
                                 .event_name = SPAN_LIT("Step"),
                                 .said_ms = 1700000000123};
    aid_make(w->aids, SPAN_NONE, SPAN_LIT("u1"), &facts.aid);
    return facts;
}

/* Each of the things that make two events two, alone. */
static void what_differs_counts(void **state) {
    (void)state;
    struct world w;
    open_world(&w);
    const struct repeat_facts facts = facts_of(&w, "x1");
    uint64_t first = put_event(&w, facts);
    assert_false(is_repeat(&w, first));
    uint64_t again = put_event(&w, facts);
    assert_true(is_repeat(&w, again));
    assert_false(is_repeat(&w, first));
    struct repeat_facts other = facts;
    other.source = 2;
    assert_false(is_repeat(&w, put_event(&w, other)));
    other = facts;
    other.kind = EVENT_PROFILE;
    assert_false(is_repeat(&w, put_event(&w, other)));
    other = facts;
    other.dedupe_id = SPAN_LIT("x2");
    assert_false(is_repeat(&w, put_event(&w, other)));
    other = facts;
    other.event_name = SPAN_LIT("Paid");
    assert_false(is_repeat(&w, put_event(&w, other)));
    other = facts;
    other.said_ms++;
    assert_false(is_repeat(&w, put_event(&w, other)));
    other = facts;
    aid_make(w.aids, SPAN_NONE, SPAN_LIT("u2"), &other.aid);
    assert_false(is_repeat(&w, put_event(&w, other)));
    other = facts;
    other.dedupe_id = SPAN_NONE;
    assert_false(is_repeat(&w, put_event(&w, other)));
    assert_false(is_repeat(&w, put_event(&w, other)));
    w.received_us += (uint64_t)86399 * 1000000;
    assert_true(is_repeat(&w, put_event(&w, facts)));
    w.received_us += (uint64_t)1 * 1000000;
    assert_false(is_repeat(&w, put_event(&w, facts)));
    close_world(&w);
}

/* Runs lost, damaged or cut off: made again from the journal, and what was published stays. */
static void a_lost_store_is_made_again(void **state) {
    (void)state;
    struct world w;
    enum { COUNT = 300 };
    uint64_t repeats[4];
    open_world(&w);
    for (unsigned i = 0; i < COUNT; i++) {
        char id[16];
        (void)snprintf(id, sizeof(id), "e%u", i);
        (void)put_event(&w, facts_of(&w, id));
    }
    repeats[0] = put_event(&w, facts_of(&w, "e0"));
    assert_true(is_repeat(&w, repeats[0]));
    struct resolver_stats stats;
    /* Published a moment after the verdict. */
    for (unsigned i = 0; i < 5000; i++) {
        resolver_stats(w.resolver, &stats);
        if (stats.repeat_bytes != 0) {
            break;
        }
        os_sleep_us(1000);
    }
    assert_true(stats.repeat_bytes != 0);
    for (unsigned round = 0; round < 3; round++) {
        char command[400];
        stop_resolver(&w);
        static const char *const damage[] = {
            "rm -r repeats", "rm repeats/state",
            "f=$(ls repeats/*.run | head -1) && printf x | dd of=$f bs=1 seek=4200 conv=notrunc 2>/dev/null"};
        (void)snprintf(command, sizeof(command), "cd %s && %s", w.resolve_dir, damage[round]);
        /* NOLINTNEXTLINE(cert-env33-c): a test's own folder */
        assert_int_equal(system(command), 0);
        start_resolver(&w, 86400);
        assert_true(is_repeat(&w, repeats[0]));
        repeats[round + 1] = put_event(&w, facts_of(&w, round == 0   ? "e3"
                                                        : round == 1 ? "e299"
                                                                     : "e200"));
        assert_true(is_repeat(&w, repeats[round + 1]));
        assert_false(is_repeat(&w, 1));
        resolver_stats(w.resolver, &stats);
        assert_int_equal(stats.repeat_since_us, 0);
    }
    close_world(&w);
}

static void lose_store(struct world *w) {
    char command[400];
    stop_resolver(w);
    (void)snprintf(command, sizeof(command), "rm -r %s/repeats", w->resolve_dir);
    /* NOLINTNEXTLINE(cert-env33-c): a test's own folder */
    assert_int_equal(system(command), 0);
    start_resolver(w, 86400);
}

/* A repeat does not prolong the window, not even when all is made again. */
static void what_was_dropped_is_not_entered_again(void **state) {
    (void)state;
    struct world w;
    open_world(&w);
    assert_false(is_repeat(&w, put_event(&w, facts_of(&w, "a"))));
    w.received_us += (uint64_t)80000 * 1000000;
    assert_true(is_repeat(&w, put_event(&w, facts_of(&w, "a"))));
    lose_store(&w);
    w.received_us += (uint64_t)6000 * 1000000;
    assert_true(is_repeat(&w, put_event(&w, facts_of(&w, "a"))));
    w.received_us += (uint64_t)1000 * 1000000;
    assert_false(is_repeat(&w, put_event(&w, facts_of(&w, "a"))));
    close_world(&w);
}

/* What an older version wrote cannot be told again: from when on it can is said. */
static void what_is_not_known_is_said(void **state) {
    (void)state;
    struct world w;
    struct resolver_stats stats;
    open_world(&w);
    assert_false(is_repeat(&w, put_event(&w, facts_of(&w, "a"))));
    w.received_us += 1000000;
    struct record_event event = {
        .kind = EVENT_TRACK, .dedupe = 7, .json = SPAN_LIT("{\"event\":\"Step\"}")};
    const struct record_request request = {.protocol = PROTOCOL_MIXPANEL,
                                           .kind = 1,
                                           .source = 1,
                                           .events = 1,
                                           .received_us = w.received_us};
    struct journal_writer *writer = journal_writer_of(w.journal, 0);
    assert_int_equal(journal_writer_put(writer, &request, &event, 1, 0), 0);
    journal_writer_flush(writer);
    kit_wait(writer, 1, NULL, 0);
    uint64_t old = w.received_us;
    assert_false(is_repeat(&w, journal_durable_seq(w.journal)));
    lose_store(&w);
    assert_true(is_repeat(&w, put_event(&w, facts_of(&w, "a"))));
    resolver_stats(w.resolver, &stats);
    assert_int_equal(stats.repeat_since_us, old);
    close_world(&w);
}

int main(void) {
    log_set_level(LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(verdicts_are_the_twins),
        cmocka_unit_test(a_merge_keeps_what_may_be_asked_for_again),
        cmocka_unit_test(a_window_binds_what_comes_after_it),
        cmocka_unit_test(many_contents_of_one_id_lie_apart),
        cmocka_unit_test(a_run_holds_what_was_put),
        cmocka_unit_test(every_changed_byte_is_found),
        cmocka_unit_test(the_golden_files_are_read),
        cmocka_unit_test(what_differs_counts),
        cmocka_unit_test(a_lost_store_is_made_again),
        cmocka_unit_test(what_was_dropped_is_not_entered_again),
        cmocka_unit_test(what_is_not_known_is_said),
    };
    return cmocka_run_group_tests_name("repeats", tests, NULL, NULL);
}
