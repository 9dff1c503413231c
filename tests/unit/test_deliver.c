/* Delivery: recorded first, every kind of answer, retries, splits, poison, restarts, rules. */
/* depends: deliver ledger policy resolve journal inspect protocol mixpanel wire http json keyring seglog tlog yaml crypto model os base */
/* sources: deliver_kit.c journal_kit.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "deliver_kit.h"

#include "os/clock.h"

static struct kit_world world;

static int setup(void **state) {
    (void)state;
    kit_world_new(&world);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    kit_world_free(&world);
    return 0;
}

/* A vendor that was never restored gets nothing; then everything, once, in order, and the ledger has it. */
static void delivers(void **state) {
    (void)state;
    (void)kit_put(&world, 5000, EVENT_TRACK);
    os_sleep_us(100000);
    assert_int_equal(kit_status_of(&world).state, VENDOR_NEVER);
    assert_int_equal(kit_status_of(&world).backlog, 5000);
    assert_int_equal(atomic_load(&world.vendor.connections), 0);
    kit_restore(&world, true);
    assert_true(kit_drained(&world, 20000));
    assert_int_equal(kit_accepted(&world.vendor, 0, 5000), 5000);
    for (uint32_t i = 0; i < 5000; i++) {
        assert_int_equal(atomic_load(&world.vendor.arrived[i]), 1);
    }
    struct courier_status status = kit_status_of(&world);
    assert_int_equal(status.state, VENDOR_ACTIVE);
    assert_int_equal(status.accepted_events, 5000);
    struct kit_sums sums = kit_ledger(&world);
    assert_int_equal(sums.certain, 5000);
    assert_int_equal(sums.possible, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(delivers, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
