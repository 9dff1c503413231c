/* Delivery: the next window is judged while the vendor's answer is awaited, and nothing but a yes lets it leave. */
/* depends: deliver ledger policy resolve journal inspect protocol mixpanel wire http json keyring seglog tlog yaml crypto model os base */
/* sources: deliver_kit.c journal_kit.c */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "deliver_kit.h"

#include "flow/deliver/deliver_int.h"
#include "os/clock.h"

/* One window in the air, one whole window ahead of it, and some that wait. */
enum { EVENTS = 2 * WINDOW_EVENTS + 500 };

static struct kit_world world;

/* -- what is seen ------------------------------------------------------------------------------------------------------------------------ */

static _Atomic unsigned shown;
static _Atomic uint8_t shown_as_sent[EVENTS + 1];
static _Atomic uint8_t shown_as_held[EVENTS + 1];

static void look(void *context, const struct tap_line *line) {
    (void)context;
    atomic_fetch_add(line->sends ? &shown_as_sent[line->seq] : &shown_as_held[line->seq], 1);
    atomic_fetch_add(&shown, 1);
}

/* Events [from, to) were each shown so often as leaving, and as held back. */
static void check_shown(uint32_t from, uint32_t to, uint8_t sent, uint8_t held) {
    for (uint32_t i = from; i < to; i++) {
        assert_int_equal(atomic_load(&shown_as_sent[i + 1]), sent);
        assert_int_equal(atomic_load(&shown_as_held[i + 1]), held);
    }
}

static void check_arrived(uint32_t from, uint32_t to, uint8_t times) {
    for (uint32_t i = from; i < to; i++) {
        assert_int_equal(atomic_load(&world.vendor.arrived[i]), times);
    }
}

/* -- a vendor that has the request and holds its answer ---------------------------------------------------------------------------------- */

static _Atomic unsigned held;
static _Atomic bool is_holding;
static _Atomic int first_status;

static void hold(struct kit_vendor *vendor, const struct kit_post *post,
                 struct kit_answer *answer) {
    kit_accept(vendor, post, answer);
    int status = atomic_exchange(&first_status, 0);
    if (status != 0) {
        kit_status(answer, status);
    }
    atomic_fetch_add(&held, 1);
    while (atomic_load(&is_holding) && !atomic_load(&vendor->stopping)) {
        os_sleep_us(100);
    }
}

static int set_up(void **state) {
    (void)state;
    atomic_store(&shown, 0);
    atomic_store(&held, 0);
    atomic_store(&is_holding, true);
    atomic_store(&first_status, 0);
    for (unsigned i = 0; i <= EVENTS; i++) {
        atomic_store(&shown_as_sent[i], 0);
        atomic_store(&shown_as_held[i], 0);
    }
    kit_show_to(look);
    kit_world_new(&world);
    world.vendor.behave = hold;
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    atomic_store(&is_holding, false);
    kit_world_free(&world);
    return 0;
}

/* Until the first window is at the vendor, and the whole of the next has been judged. */
static void get_ahead(enum event_kind kind) {
    (void)kit_put(&world, EVENTS, kind);
    while (resolver_seq(world.resolver) < EVENTS) {
        os_sleep_us(100);
    }
    kit_restore(&world, true);
    assert_true(kit_until(&held, 1, 20000));
    assert_true(kit_until(&shown, 2 * WINDOW_EVENTS, 20000));
    os_sleep_us(20000);
    assert_int_equal(atomic_load(&shown), 2 * WINDOW_EVENTS);
    check_arrived(0, WINDOW_EVENTS, 1);
    check_arrived(WINDOW_EVENTS, EVENTS, 0);
    assert_int_equal(atomic_load(&held), 1);
    assert_int_equal(kit_status_of(&world).attempts, 1);
    assert_int_equal(kit_ledger(&world).possible, WINDOW_EVENTS);
    assert_int_equal(kit_status_of(&world).settled_seq, 1);
}

static void let_go(void) {
    atomic_store(&is_holding, false);
    assert_true(kit_drained(&world, 30000));
}

/* -- what becomes of it ------------------------------------------------------------------------------------------------------------------ */

static void a_yes_lets_it_leave(void **state) {
    (void)state;
    get_ahead(EVENT_TRACK);
    let_go();
    check_arrived(0, EVENTS, 1);
    check_shown(0, EVENTS, 1, 0);
    assert_int_equal(kit_status_of(&world).attempts, 3);
    assert_int_equal(kit_status_of(&world).accepted_events, EVENTS);
}

/* Bodies that leave unpacked lie where the next window is made. */
static void unpacked_bodies_stay_whole(void **state) {
    (void)state;
    get_ahead(EVENT_PROFILE);
    let_go();
    check_arrived(0, EVENTS, 1);
    assert_int_equal(kit_status_of(&world).attempts, 3);
}

static void a_cut_forgets_it(void **state) {
    (void)state;
    uint64_t us = 0;
    get_ahead(EVENT_TRACK);
    assert_int_equal(courier_cut(world.courier, "test", "because", &us, &us), 0);
    atomic_store(&is_holding, false);
    kit_vendor_settle(&world.vendor);
    os_sleep_us(50000);
    check_arrived(WINDOW_EVENTS, EVENTS, 0);
    assert_int_equal(kit_status_of(&world).attempts, 1);
    kit_restore(&world, true);
    assert_true(kit_drained(&world, 30000));
    check_arrived(0, WINDOW_EVENTS, 2);
    check_arrived(WINDOW_EVENTS, EVENTS, 1);
    check_shown(0, EVENTS, 1, 0);
}

static void a_discard_takes_it_along(void **state) {
    (void)state;
    uint64_t us = 0;
    get_ahead(EVENT_TRACK);
    assert_int_equal(courier_cut(world.courier, "test", "because", &us, &us), 0);
    atomic_store(&is_holding, false);
    kit_restore(&world, false);
    assert_true(kit_drained(&world, 30000));
    check_arrived(WINDOW_EVENTS, EVENTS, 0);
}

static void refused(int status, uint8_t times) {
    atomic_store(&first_status, status);
    get_ahead(EVENT_TRACK);
    let_go();
    check_arrived(0, WINDOW_EVENTS, times);
    check_arrived(WINDOW_EVENTS, EVENTS, 1);
    check_shown(0, EVENTS, 1, 0);
    assert_int_equal(kit_status_of(&world).accepted_events, EVENTS);
    assert_int_equal(kit_status_of(&world).poison_events, 0);
}

static void a_retry_comes_first(void **state) {
    (void)state;
    refused(503, 2);
}

static void halves_come_first(void **state) {
    (void)state;
    refused(413, 2);
}

/* Rules that arrive meanwhile bind it, and whoever looks sees what becomes of it. */
static void new_rules_bind_it(void **state) {
    (void)state;
    static const char plan[] = "events:\n  Step *: {}\nproperties:\n  tokens: { type: number }\n";
    static const char open[] =
        "  user.unique_id: pseudonym\n  user.behavior: raw\n  system.operations: raw\n";
    static const char closed[] = "  user.unique_id: pseudonym\n  system.operations: raw\n";
    get_ahead(EVENT_TRACK);
    kit_use(plan, closed, NULL);
    kit_reload(&world);
    kit_use(plan, open, NULL);
    let_go();
    check_arrived(0, WINDOW_EVENTS, 1);
    check_arrived(WINDOW_EVENTS, EVENTS, 0);
    assert_int_equal(kit_status_of(&world).withheld_events, EVENTS - WINDOW_EVENTS);
    check_shown(0, WINDOW_EVENTS, 1, 0);
    check_shown(WINDOW_EVENTS, (uint32_t)2 * WINDOW_EVENTS, 1, 1);
    check_shown((uint32_t)2 * WINDOW_EVENTS, EVENTS, 0, 1);
}

/* What was recorded as lapsed meanwhile does not leave. */
static void a_gap_passes_over_it(void **state) {
    (void)state;
    get_ahead(EVENT_TRACK);
    assert_int_equal(courier_gap(world.courier, 1, 2 * WINDOW_EVENTS + 1), 0);
    let_go();
    check_arrived(WINDOW_EVENTS, (uint32_t)2 * WINDOW_EVENTS, 0);
    check_arrived((uint32_t)2 * WINDOW_EVENTS, EVENTS, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(a_yes_lets_it_leave),      TEST(unpacked_bodies_stay_whole), TEST(a_cut_forgets_it),
        TEST(a_discard_takes_it_along), TEST(a_retry_comes_first),        TEST(halves_come_first),
        TEST(new_rules_bind_it),        TEST(a_gap_passes_over_it),
#undef TEST
    };
    return cmocka_run_group_tests_name("deliver_ahead", tests, NULL, NULL);
}
