/* The server's pool of pages and table of peers against naive twins. */
/* depends: http os base */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "engine/http/http_int.h"
#include "os/thread.h"
#include "unit/random_kit.h"

static int seed_from_environment(void **state) {
    (void)state;
    random_start(1);
    return 0;
}

enum { PAGES = 200, RUNS = 40 };

static void test_runs_never_overlap(void **state) {
    (void)state;
    uint8_t *memory = os_memory_map((size_t)PAGES * HTTP_PAGE_SIZE);
    assert_non_null(memory);
    uint8_t used[PAGES] = {0};
    struct http_pool pool;
    http_pool_init(&pool, memory, used, PAGES);
    struct {
        uint8_t *p;
        size_t cap;
        uint8_t mark;
    } runs[RUNS] = {{NULL, 0, 0}};
    size_t refusals = 0;
    for (int step = 0; step < 20000; step++) {
        size_t i = random_below(RUNS);
        if (runs[i].p != NULL) {
            /* The marks at both ends are still ours. */
            assert_int_equal(runs[i].p[0], runs[i].mark);
            assert_int_equal(runs[i].p[runs[i].cap - 1], runs[i].mark);
            http_pool_give(&pool, runs[i].p, runs[i].cap);
            runs[i].p = NULL;
            continue;
        }
        size_t size = 1 + random_below(random_below(4) == 0 ? 60 * (size_t)HTTP_PAGE_SIZE
                                                            : 3 * (size_t)HTTP_PAGE_SIZE);
        runs[i].p = http_pool_take(&pool, size, &runs[i].cap);
        if (runs[i].p == NULL) {
            refusals++;
            continue;
        }
        assert_true(runs[i].cap >= size && runs[i].cap < size + HTTP_PAGE_SIZE);
        assert_true(runs[i].p >= memory &&
                    runs[i].p + runs[i].cap <= memory + (size_t)PAGES * HTTP_PAGE_SIZE);
        runs[i].mark = (uint8_t)(1 + random_below(255));
        runs[i].p[0] = runs[i].mark;
        runs[i].p[runs[i].cap - 1] = runs[i].mark;
    }
    assert_true(refusals > 0);
    for (size_t i = 0; i < RUNS; i++) {
        if (runs[i].p != NULL) {
            http_pool_give(&pool, runs[i].p, runs[i].cap);
        }
    }
    size_t cap = 0;
    uint8_t *whole = http_pool_take(&pool, (size_t)PAGES * HTTP_PAGE_SIZE, &cap);
    assert_ptr_equal(whole, memory); /* nothing was lost */
    assert_null(http_pool_take(&pool, 1, &cap));
    os_memory_unmap(memory, (size_t)PAGES * HTTP_PAGE_SIZE);
}

static struct os_peer peer_v4(unsigned i) {
    struct os_peer peer = {
        .address = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, (uint8_t)i}};
    return peer;
}

static void test_peers_are_counted(void **state) {
    (void)state;
    enum { CONNECTIONS = 60, PEERS = 25, PEER_MAX = 4 };
    struct http_peer_slot slots[128] = {{{0, 0}, 0}};
    assert_int_equal(http_peers_slots(CONNECTIONS), BH_COUNT(slots));
    struct http_peers peers;
    http_peers_init(&peers, slots, BH_COUNT(slots), random_below(SIZE_MAX), PEER_MAX);
    unsigned counts[PEERS] = {0};
    unsigned total = 0;
    for (int step = 0; step < 100000; step++) {
        unsigned i = (unsigned)random_below(PEERS);
        struct os_peer peer = peer_v4(i);
        peer.port = (uint16_t)random_below(65536); /* the port is not the peer */
        if (random_below(2) == 0 && total < CONNECTIONS) {
            bool added = http_peers_add(&peers, &peer);
            assert_true(added == (counts[i] < PEER_MAX));
            counts[i] += added;
            total += added;
        } else if (counts[i] > 0) {
            http_peers_remove(&peers, &peer);
            counts[i]--;
            total--;
        }
    }
    for (unsigned i = 0; i < PEERS; i++) {
        struct os_peer peer = peer_v4(i);
        for (; counts[i] > 0; counts[i]--) {
            http_peers_remove(&peers, &peer);
        }
    }
    for (size_t i = 0; i < BH_COUNT(slots); i++) {
        assert_int_equal(slots[i].count, 0);
    }
}

static void test_who_is_one_peer(void **state) {
    (void)state;
    struct http_peer_slot slots[16] = {{{0, 0}, 0}};
    struct http_peers peers;
    http_peers_init(&peers, slots, BH_COUNT(slots), 7, 1);
    struct os_peer six = {.address = {0x20, 1, 0xd, 0xb8, 0, 1, 0, 2, 1}};
    struct os_peer same_64 = {.address = {0x20, 1, 0xd, 0xb8, 0, 1, 0, 2, 9}};
    struct os_peer other_64 = {.address = {0x20, 1, 0xd, 0xb8, 0, 1, 0, 3, 1}};
    assert_true(http_peers_add(&peers, &six));
    assert_false(http_peers_add(&peers, &same_64));
    assert_true(http_peers_add(&peers, &other_64));
    struct os_peer four = peer_v4(1);
    struct os_peer other_four = peer_v4(2);
    assert_true(http_peers_add(&peers, &four));
    assert_false(http_peers_add(&peers, &four));
    assert_true(http_peers_add(&peers, &other_four));
    struct os_peer local = {.address = {0}};
    for (int i = 0; i < 5; i++) {
        assert_true(http_peers_add(&peers, &local)); /* a Unix socket's peers are not counted */
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_runs_never_overlap, seed_from_environment),
        cmocka_unit_test_setup(test_peers_are_counted, seed_from_environment),
        cmocka_unit_test(test_who_is_one_peer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
