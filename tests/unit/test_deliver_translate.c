/*
 * Delivery in another vendor's words: an Amplitude $identify is a link and three updates of a profile at Mixpanel, on two endpoints. They leave
 * once each, the updates of one event together, whatever is refused or begun anew in between.
 */
/* depends: deliver ledger policy resolve journal inspect protocol mixpanel wire http json keyring seglog tlog yaml crypto model os base */
/* sources: deliver_kit.c journal_kit.c */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "deliver_kit.h"

#include "flow/deliver/deliver_int.h"
#include "os/clock.h"

enum { EVENTS = 1500, BAD = 777 };

static struct kit_world world;
static _Atomic unsigned links;
static _Atomic unsigned adds;
static _Atomic unsigned torn; /* requests that held a part of an event's updates */
static _Atomic unsigned engage_posts;
static _Atomic int engage_status;
static _Atomic bool refuses_bad;

static size_t write_identify(uint32_t number, char *out, size_t cap) {
    return (size_t)snprintf(
        out, cap,
        "{\"event_type\":\"$identify\",\"user_id\":\"user_%u\",\"device_id\":\"device_%u\",\"user_"
        "properties\":{\"$set\":{\"tokens\":%u},\"$add\":{\"count\":1},\"$append\":{\"steps\":1}}}",
        number % 97, number % 97, number);
}

static unsigned count_of(struct span text, const char *what) {
    unsigned n = 0;
    size_t at;
    while ((at = span_find(text, span_str(what))) != SIZE_MAX) {
        text = span_from(text, at + 1);
        n++;
    }
    return n;
}

static bool holds_bad(const struct kit_post *post) {
    bool holds = false;
    for (size_t i = 0; i < post->item_count; i++) {
        holds |= post->items[i] == BAD;
    }
    return holds;
}

static void behave(struct kit_vendor *vendor, const struct kit_post *post,
                   struct kit_answer *answer) {
    kit_accept(vendor, post, answer);
    assert_null(memchr(post->plain.p, 0x1e, post->plain.n));
    if (strncmp(post->path, "/track", 6) == 0) {
        atomic_fetch_add(&links, count_of(post->plain, "\"$identify\""));
        return;
    }
    unsigned sets = count_of(post->plain, "\"$set\":");
    unsigned add = count_of(post->plain, "\"$add\":");
    unsigned append = count_of(post->plain, "\"$append\":");
    atomic_fetch_add(&torn, sets != add || add != append);
    atomic_fetch_add(&engage_posts, 1);
    int status = atomic_load(&engage_status);
    if (status != 0) {
        kit_status(answer, status);
    } else if (atomic_load(&refuses_bad) && holds_bad(post)) {
        (void)snprintf(answer->body, sizeof answer->body, "{\"error\":\"no\",\"status\":0}");
        answer->is_refusal = true;
    } else {
        atomic_fetch_add(&adds, add);
    }
}

static int set_up(void **state) {
    (void)state;
    atomic_store(&links, 0);
    atomic_store(&adds, 0);
    atomic_store(&torn, 0);
    atomic_store(&engage_posts, 0);
    atomic_store(&engage_status, 0);
    atomic_store(&refuses_bad, false);
    kit_use(
        "events:\n  Step *: {}\ntraits:\n  tokens: { type: number }\n  count: { type: number }\n"
        "  steps: { type: number }\n",
        "  user.unique_id: pseudonym\n  user.unique_id.pseudonymous: pseudonym\n"
        "  user.device.device_id: pseudonym\n  user.behavior: raw\n  system.operations: raw\n",
        write_identify);
    kit_speak(PROTOCOL_AMPLITUDE);
    kit_world_new(&world);
    world.vendor.behave = behave;
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    kit_world_free(&world);
    return 0;
}

static void every_part_leaves_once(void **state) {
    (void)state;
    (void)kit_put(&world, EVENTS, EVENT_PROFILE);
    kit_restore(&world, true);
    assert_true(kit_drained(&world, 30000));
    assert_int_equal(atomic_load(&links), EVENTS);
    assert_int_equal(atomic_load(&adds), EVENTS);
    assert_int_equal(atomic_load(&torn), 0);
    for (uint32_t i = 0; i < EVENTS; i++) {
        assert_int_equal(atomic_load(&world.vendor.accepted[i]), 1);
    }
    /* Both requests of an event are in the ledger, with both ids that it joins. */
    assert_int_equal(kit_ledger(&world).certain, 2 * 2 * EVENTS);
}

static void what_is_refused_is_refused_whole(void **state) {
    (void)state;
    atomic_store(&refuses_bad, true);
    (void)kit_put(&world, EVENTS, EVENT_PROFILE);
    kit_restore(&world, true);
    assert_true(kit_drained(&world, 30000));
    assert_int_equal(atomic_load(&links), EVENTS);
    assert_int_equal(atomic_load(&adds), EVENTS - 1);
    assert_int_equal(atomic_load(&torn), 0);
    assert_int_equal(kit_status_of(&world).poison_events, 1);
    for (uint32_t i = 0; i < EVENTS; i++) {
        assert_int_equal(atomic_load(&world.vendor.accepted[i]), i != BAD);
    }
}

static void one_endpoint_does_not_repeat_anothers(void **state) {
    (void)state;
    atomic_store(&engage_status, 503);
    (void)kit_put(&world, 300, EVENT_PROFILE);
    kit_restore(&world, true);
    assert_true(kit_until(&links, 300, 20000));
    assert_true(kit_until(&engage_posts, 1, 20000));
    kit_close_world(&world);
    atomic_store(&engage_status, 0);
    kit_open_world(&world);
    assert_true(kit_drained(&world, 30000));
    assert_int_equal(atomic_load(&links), 300);
    assert_int_equal(atomic_load(&adds), 300);
    assert_int_equal(atomic_load(&torn), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_part_leaves_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_refused_is_refused_whole, set_up, tear_down),
        cmocka_unit_test_setup_teardown(one_endpoint_does_not_repeat_anothers, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
