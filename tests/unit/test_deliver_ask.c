/*
 * Delivery: a question about a person is in the ledger before its first byte leaves, under the newest contract, is answered or given up by its deadline, ends
 * with a cut, and changes nothing of what becomes of events.
 */
/* depends: deliver ledger policy resolve journal inspect protocol posthog mixpanel wire http json keyring seglog tlog yaml crypto model os base */
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
#include "os/file.h"
#include "os/socket.h"

enum { PEOPLE = 10, ROOM = 64 * 1024 };

static const char plan[] =
    "events:\n  Step *: {}\nproperties:\n  tokens: { type: number }\n"
    "traits:\n  plan: { enum: [free, pro] }\n  seen: { type: string, max_distinct: 5 }\n";
static const char allow[] =
    "  user.unique_id: pseudonym\n  user.unique_id.pseudonymous: pseudonym\n"
    "  user.behavior: raw\n  system.operations: raw\n";
static const char good[] =
    "{\"flags\":{\"beta\":{\"key\":\"beta\",\"enabled\":true}},\"errorsWhileComputingFlags\":false}";

static struct kit_world world;
static int wake_fd;
static uint8_t answer[ROOM];

/* -- the vendor ------------------------------------------------------------------------------------------------------------------------ */

static _Atomic unsigned asked;
static _Atomic unsigned hangs;
static char seen[8192];
static struct kit_sums at_first_byte;

static void behave(struct kit_vendor *vendor, const struct kit_post *post, struct kit_answer *out) {
    kit_accept(vendor, post, out);
    if (strncmp(post->path, "/flags", 6) != 0) {
        (void)snprintf(out->body, sizeof out->body, "{\"status\":\"Ok\"}");
        return;
    }
    (void)snprintf(seen, sizeof seen, "%.*s", (int)post->plain.n, (const char *)post->plain.p);
    out->status = 200;
    out->hang = atomic_load(&hangs) != 0;
    (void)snprintf(out->body, sizeof out->body, "%s", good);
    atomic_fetch_add(&asked, 1);
}

static void look_at_ledger(struct kit_vendor *vendor) {
    (void)vendor;
    at_first_byte = kit_ledger(&world);
}

static int set_up(void **state) {
    (void)state;
    atomic_store(&asked, 0);
    atomic_store(&hangs, 0);
    memset(&at_first_byte, 0, sizeof at_first_byte);
    kit_connector = "posthog";
    kit_use(plan, allow, NULL);
    (void)memset(&world, 0, sizeof world);
    assert_int_equal(os_wake_open(&wake_fd), 0);
    kit_world_new(&world);
    (void)snprintf(world.extra, sizeof world.extra, "flags: forward\n");
    kit_reload(&world);
    world.vendor.behave = behave;
    (void)kit_put(&world, PEOPLE, EVENT_TRACK);
    kit_restore(&world, true);
    assert_true(kit_drained(&world, 20000));
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    atomic_store(&hangs, 0);
    kit_world_free(&world);
    os_close(wake_fd);
    return 0;
}

/* -- asking ---------------------------------------------------------------------------------------------------------------------------- */

static void question_of(struct courier_question *q, const char *id, const char *json, unsigned ms) {
    *q = (struct courier_question){.source = 1,
                                   .form = 1,
                                   .deadline_us = os_mono_us() + ms * (uint64_t)1000,
                                   .time_ms = (int64_t)(os_wall_us() / 1000),
                                   .json = span_str(json),
                                   .wake_fd = wake_fd,
                                   .answer = buf_of(answer, ROOM)};
    aid_make(world.aids, SPAN_NONE, span_str(id), &q->aid);
}

/* Milliseconds until it was done. */
static uint64_t wait_for(struct courier_question *q) {
    uint64_t start = os_mono_us();
    while (!atomic_load(&q->is_done)) {
        assert_true(os_mono_us() < start + 10 * 1000 * 1000);
        (void)os_wake_wait(wake_fd, 100);
    }
    return (os_mono_us() - start) / 1000;
}

static bool ask(const char *id, const char *json, unsigned ms) {
    struct courier_question q;
    question_of(&q, id, json, ms);
    assert_true(courier_ask(world.courier, 0, &q));
    (void)wait_for(&q);
    return q.is_answered;
}

static const char known[] = "{\"distinct_id\":\"user_3\",\"token\":\"t\",\"person_properties\":{"
                            "\"plan\":\"pro\",\"seen\":\"a\",\"note\":\"x\"}}";

/* -- what is promised -------------------------------------------------------------------------------------------------------------------- */

static void it_is_recorded_before_it_leaves(void **state) {
    (void)state;
    struct kit_sums before = kit_ledger(&world);
    uint64_t settled = kit_status_of(&world).settled_seq;
    world.vendor.first_byte = look_at_ledger;
    assert_true(ask("user_3", known, 5000));
    world.vendor.first_byte = NULL;
    assert_int_equal(atomic_load(&asked), 1);
    assert_memory_equal(answer, good, strlen(good) - 1);
    /* At the first byte the attempt was there, possible; answered it is certain. */
    assert_int_equal(at_first_byte.attempts, before.attempts + 1);
    assert_int_equal(at_first_byte.possible, before.possible + 1);
    assert_non_null(strstr(seen, "\"geoip_disable\":true"));
    assert_non_null(strstr(seen, "\"plan\":\"pro\""));
    assert_null(strstr(seen, "user_3"));
    assert_null(strstr(seen, "note"));
    assert_null(strstr(seen, "seen")); /* the resolver does not count what is only asked */
    assert_int_equal(kit_status_of(&world).settled_seq, settled);
    assert_int_equal(ledger_flush(courier_ledger(world.courier)), 0);
    struct kit_sums after = kit_ledger(&world);
    assert_int_equal(after.certain, before.certain + 1);
    assert_int_equal(after.possible, before.possible);
}

static void nobody_without_a_number_is_asked_about(void **state) {
    (void)state;
    struct kit_sums before = kit_ledger(&world);
    assert_false(ask("stranger", "{\"distinct_id\":\"stranger\"}", 5000));
    assert_false(
        ask("user_3", "{\"distinct_id\":\"user_3\",\"$anon_distinct_id\":\"stranger\"}", 5000));
    assert_false(ask("user_3", "{\"distinct_id\":\"null\"}", 5000));
    assert_false(ask("user_3", "not JSON", 5000));
    assert_int_equal(atomic_load(&asked), 0);
    assert_int_equal(kit_ledger(&world).attempts, before.attempts);
    assert_true(
        ask("user_3", "{\"distinct_id\":\"user_3\",\"$anon_distinct_id\":\"user_4\"}", 5000));
    assert_int_equal(kit_ledger(&world).rows, before.rows + 2);
}

/* Whose browser objects is asked about no more than her events are sent. */
static void nobody_who_objects_is_asked_about(void **state) {
    (void)state;
    static const char *const objections[] = {"{\"DNT\":true}", "{\"Sec-GPC\":true}"};
    struct kit_sums before = kit_ledger(&world);
    for (unsigned i = 0; i < 2; i++) {
        struct courier_question q;
        question_of(&q, "user_3", known, 5000);
        q.env = span_str(objections[i]);
        assert_true(courier_ask(world.courier, 0, &q));
        (void)wait_for(&q);
        assert_false(q.is_answered);
    }
    assert_int_equal(atomic_load(&asked), 0);
    assert_int_equal(kit_ledger(&world).attempts, before.attempts);
    assert_true(ask("user_3", known, 5000));
}

static void the_newest_contract_decides(void **state) {
    (void)state;
    world.extra[0] = '\0';
    kit_reload(&world);
    assert_false(ask("user_3", known, 5000));
    assert_int_equal(atomic_load(&asked), 0);
    (void)snprintf(world.extra, sizeof world.extra, "flags: off\n");
    kit_reload(&world);
    assert_false(ask("user_3", known, 5000));
    assert_int_equal(atomic_load(&asked), 0);
}

static void a_hanging_vendor_costs_one_deadline(void **state) {
    (void)state;
    struct courier_question q;
    atomic_store(&hangs, 1);
    question_of(&q, "user_3", known, 300);
    assert_true(courier_ask(world.courier, 0, &q));
    uint64_t ms = wait_for(&q);
    assert_false(q.is_answered);
    assert_true(ms >= 250 && ms < 1500);
    assert_int_equal(atomic_load(&asked), 1);
    /* The next one is not sent at all, and at once. */
    question_of(&q, "user_4", "{\"distinct_id\":\"user_4\"}", 300);
    assert_true(courier_ask(world.courier, 0, &q));
    assert_true(wait_for(&q) < 200);
    assert_int_equal(atomic_load(&asked), 1);
    assert_int_equal(ledger_flush(courier_ledger(world.courier)), 0);
    assert_int_equal(kit_ledger(&world).possible, 1);
    /* Events go on. */
    (void)kit_put(&world, PEOPLE, EVENT_TRACK);
    assert_true(kit_drained(&world, 20000));
    assert_int_equal(gate_state(&world.courier->gate), VENDOR_ACTIVE);
}

static void one_that_is_late_is_not_sent(void **state) {
    (void)state;
    struct kit_sums before = kit_ledger(&world);
    assert_false(ask("user_3", known, 0));
    assert_int_equal(atomic_load(&asked), 0);
    assert_int_equal(kit_ledger(&world).attempts, before.attempts);
}

static void a_cut_ends_it(void **state) {
    (void)state;
    struct courier_question q;
    uint64_t us = 0;
    atomic_store(&hangs, 1);
    question_of(&q, "user_3", known, 8000);
    assert_true(courier_ask(world.courier, 0, &q));
    assert_true(kit_until(&asked, 1, 5000));
    assert_int_equal(courier_cut(world.courier, "test", "because", &us, &us), 0);
    assert_true(wait_for(&q) < 1000);
    assert_false(q.is_answered);
    atomic_store(&hangs, 0);
    uint64_t bytes = atomic_load(&world.vendor.bytes);
    for (unsigned i = 0; i < 20; i++) {
        assert_false(ask("user_4", "{\"distinct_id\":\"user_4\"}", 5000));
    }
    kit_vendor_settle(&world.vendor);
    assert_true(atomic_load(&world.vendor.bytes) == bytes);
    assert_int_equal(atomic_load(&asked), 1);
    assert_int_equal(kit_ledger(&world).possible, 1);
    kit_restore(&world, true);
    os_sleep_us(1100 * 1000); /* what hung is forgiven after a second */
    assert_true(ask("user_3", known, 5000));
}

static void too_many_stay_with_the_asker(void **state) {
    (void)state;
    static struct courier_question many[QUESTIONS_MAX + 8];
    unsigned taken = 0;
    atomic_store(&hangs, 1);
    for (unsigned i = 0; i < QUESTIONS_MAX + 8; i++) {
        question_of(&many[i], "user_3", known, 400);
        taken += courier_ask(world.courier, 7, &many[i]);
    }
    assert_true(taken >= QUESTIONS_MAX && taken <= QUESTIONS_MAX + 2);
    for (unsigned i = 0; i < taken; i++) {
        (void)wait_for(&many[i]);
    }
    assert_int_equal(atomic_load(&asked), 1);
}

static void a_restart_forgets_them(void **state) {
    (void)state;
    assert_true(ask("user_3", known, 5000));
    uint64_t settled = kit_status_of(&world).settled_seq;
    kit_close_world(&world);
    kit_open_world(&world);
    assert_int_equal(kit_status_of(&world).settled_seq, settled);
    assert_false(world.courier->delivery.may_resume);
    assert_int_equal(kit_status_of(&world).backlog, 0);
    assert_true(ask("user_3", known, 5000));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(it_is_recorded_before_it_leaves, set_up, tear_down),
        cmocka_unit_test_setup_teardown(nobody_without_a_number_is_asked_about, set_up, tear_down),
        cmocka_unit_test_setup_teardown(nobody_who_objects_is_asked_about, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_newest_contract_decides, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_hanging_vendor_costs_one_deadline, set_up, tear_down),
        cmocka_unit_test_setup_teardown(one_that_is_late_is_not_sent, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_cut_ends_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(too_many_stay_with_the_asker, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_restart_forgets_them, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
