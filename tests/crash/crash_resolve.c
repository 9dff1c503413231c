/*
 * kill -9 while the resolver numbers new people: a number that anyone has seen stays, nothing is
 * given twice, every event has its row.
 */
/* depends: resolve journal inspect keyring seglog protocol mixpanel wire json model crypto os base */
/* sources: ../unit/journal_kit.c */
/* libs: lmdb */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "unit/journal_kit.h"

#include "flow/resolve/resolve.h"
#include "os/clock.h"
#include "os/log.h"
#include "os/socket.h"

/*
 * A run is a child: it journals events of new and known people, identified with devices, and as
 * soon as the resolver has passed an event tells the parent the ord and lid of its ids through a
 * pipe. The parent kills it at a random moment, and again through several runs over the same
 * folder; LMDB's own files are not behind the fault layer, so what is shown is the order of slots,
 * commit and publication, not the disk's.
 */
enum { PEOPLE_MAX = 4000, RUNS = 4 };

struct told {
    uint32_t person; /* u<person>, or its device: 32 hexadecimal digits, as SDKs draw them */
    uint32_t ord;
    uint8_t is_device;
    uint8_t lid[16];
};

static struct told seen[2][PEOPLE_MAX];

struct world {
    char journal_dir[160];
    char resolve_dir[160];
    struct keyring *keyring;
    struct journal *journal;
    struct resolver *resolver;
    struct resolve_view *view;
    struct aid_maker *aids;
};

/* script/test sets BH_FULL always: 1 for the proof counts, 0 for the small ones. */
static bool is_full_count(void) {
    const char *full = getenv("BH_FULL");
    return full != NULL && strcmp(full, "1") == 0;
}

static void world_open(struct world *world, const char *dir) {
    world->keyring = kit_keyring(dir);
    const struct journal_config config = kit_config(dir, world->keyring, world->journal_dir);
    (void)snprintf(world->resolve_dir, sizeof(world->resolve_dir), "%s/data/resolve", dir);
    world->journal = kit_open(&config, NULL);
    assert_int_equal(journal_start(world->journal), 0);
    static const struct resolve_source source = {.number = 1};
    const struct resolve_config resolve = {.dir = world->resolve_dir,
                                           .keyring = world->keyring,
                                           .journal = world->journal,
                                           .sources = &source,
                                           .source_count = 1,
                                           .map_size = 256 * 1024 * 1024};
    struct err err = {0};
    if (resolver_open(&resolve, &world->resolver, &err) != 0) {
        fail_msg("%s", err.text);
    }
    assert_int_equal(resolver_start(world->resolver), 0);
    assert_int_equal(resolve_view_new(world->resolver, &world->view), 0);
    world->aids = aid_maker_new(world->keyring);
    assert_non_null(world->aids);
}

static void world_close(struct world *world) {
    resolve_view_free(world->view);
    resolver_free(world->resolver);
    journal_free(world->journal);
    aid_maker_free(world->aids);
    keyring_free(world->keyring);
}

static void aid_of(const struct world *world, bool is_device, unsigned person,
                   struct aid *ret_aid) {
    char id[40];
    (void)snprintf(id, sizeof(id), is_device ? "%032x" : "u%u", person);
    aid_make(world->aids, SPAN_NONE, span_str(id), ret_aid);
}

static void put_person(struct world *world, unsigned person) {
    char json[200];
    (void)snprintf(
        json, sizeof(json),
        "{\"event\":\"$identify\",\"properties\":{\"distinct_id\":\"u%u\",\"$anon_distinct_id\":\"$device:%032x\"}}",
        person, person);
    struct record_event event = {
        .kind = EVENT_IDENTIFY, .flags = EVENT_HAS_LINKS, .json = span_str(json)};
    aid_of(world, false, person, &event.aid);
    const struct record_request request = {
        .protocol = PROTOCOL_MIXPANEL, .kind = 1, .source = 1, .events = 1};
    struct journal_writer *writer = journal_writer_of(world->journal, 0);
    assert_int_equal(journal_writer_put(writer, &request, &event, 1, person), 0);
}

static void run_child(const char *dir, uint64_t seed, int out) {
    log_set_level(LOG_ERROR);
    struct world world;
    struct random_kit random = {seed};
    world_open(&world, dir);
    struct journal_writer *writer = journal_writer_of(world.journal, 0);
    for (;;) {
        unsigned people[8];
        unsigned count = 1 + (unsigned)random_kit_below(&random, 8);
        for (unsigned i = 0; i < count; i++) {
            people[i] = (unsigned)random_kit_below(&random, PEOPLE_MAX);
            put_person(&world, people[i]);
        }
        journal_writer_flush(writer);
        kit_wait(writer, count, NULL, 0);
        while (resolver_seq(world.resolver) < journal_durable_seq(world.journal)) {
            os_sleep_us(50);
        }
        assert_int_equal(resolve_view_begin(world.view), 0);
        for (unsigned i = 0; i < 2 * count; i++) {
            struct told told = {.person = people[i / 2], .is_device = i % 2};
            struct aid aid;
            struct resolve_row row;
            aid_of(&world, i % 2 != 0, told.person, &aid);
            assert_int_equal(resolve_lookup(world.view, &aid, &row), 0);
            told.ord = row.ord;
            memcpy(told.lid, row.lid, sizeof(told.lid));
            if (write(out, &told, sizeof(told)) != (ssize_t)sizeof(told)) {
                _exit(1);
            }
        }
        resolve_view_end(world.view);
    }
}

/* Takes what the child told; a number that was told before must be the same. */
static unsigned take(int in) {
    struct told told;
    unsigned count = 0;
    while (read(in, &told, sizeof(told)) == (ssize_t)sizeof(told)) {
        struct told *before = &seen[told.is_device][told.person];
        if (before->ord != 0) {
            assert_int_equal(before->ord, told.ord);
            assert_memory_equal(before->lid, told.lid, sizeof(told.lid));
        }
        *before = told;
        count++;
    }
    return count;
}

static unsigned run_and_kill(const char *dir, uint64_t seed, uint64_t after_us) {
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    (void)fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        (void)close(ends[0]);
        run_child(dir, seed, ends[1]);
        _exit(1);
    }
    (void)close(ends[1]);
    os_sleep_us(after_us);
    assert_int_equal(kill(child, SIGKILL), 0);
    unsigned count = take(ends[0]);
    (void)close(ends[0]);
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL) {
        fail_msg("the child ended by itself: %d", status);
    }
    return count;
}

/*
 * What was told is still so; every ord has one aid and its text; each journaled person is one
 * person.
 */
static void check_world(const char *dir) {
    struct world world;
    world_open(&world, dir);
    while (resolver_seq(world.resolver) < journal_durable_seq(world.journal)) {
        os_sleep_us(100);
    }
    assert_int_equal(resolve_view_begin(world.view), 0);
    uint32_t last = resolve_ord_count(world.view);
    for (uint32_t ord = 1; ord <= last; ord++) {
        struct resolve_row row;
        struct aid aid;
        struct aid again;
        uint8_t memory[40];
        struct buf text = buf_of(memory, sizeof(memory));
        assert_int_equal(resolve_by_ord(world.view, ord, &row, &aid), 0);
        assert_int_equal(row.ord, ord);
        assert_int_equal(resolve_id_text(world.view, ord, &text), 0);
        aid_make(world.aids, SPAN_NONE, buf_span(&text), &again);
        assert_memory_equal(aid.b, again.b, sizeof(aid.b));
    }
    for (unsigned person = 0; person < PEOPLE_MAX; person++) {
        struct aid aid;
        struct resolve_row rows[2];
        int found[2];
        for (int d = 0; d < 2; d++) {
            aid_of(&world, d != 0, person, &aid);
            found[d] = resolve_lookup(world.view, &aid, &rows[d]);
            if (seen[d][person].ord != 0) {
                assert_int_equal(found[d], 0);
                assert_int_equal(rows[d].ord, seen[d][person].ord);
                assert_memory_equal(rows[d].lid, seen[d][person].lid, 16);
            }
        }
        assert_int_equal(found[0], found[1]);
        if (found[0] == 0) {
            assert_int_equal(resolve_root(world.view, rows[0].ord, UINT64_MAX),
                             resolve_root(world.view, rows[1].ord, UINT64_MAX));
        }
    }
    resolve_view_end(world.view);
    world_close(&world);
}

static void numbers_that_were_seen_stay(void **state) {
    (void)state;
    log_set_level(LOG_ERROR);
    uint64_t first = random_kit_seed(1);
    unsigned seeds = is_full_count() ? 200 : 12;
    unsigned told = 0;
    for (uint64_t seed = first; seed < first + seeds; seed++) {
        char dir[128];
        struct random_kit random = {seed};
        kit_dir_make(dir);
        memset(seen, 0, sizeof(seen));
        for (unsigned i = 0; i < RUNS; i++) {
            told += run_and_kill(dir, seed * 100 + i, 10000 + random_kit_below(&random, 150000));
            check_world(dir);
        }
        kit_dir_remove(dir);
    }
    printf("%u kills, %u numbers told\n", seeds * RUNS, told);
    assert_true(told > seeds * RUNS);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(numbers_that_were_seen_stay)};
    return cmocka_run_group_tests_name("crash resolve", tests, NULL, NULL);
}
