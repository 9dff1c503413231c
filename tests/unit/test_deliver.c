/* Delivery: recorded first, every kind of answer, retries, splits, poison, restarts, rules. */
/* depends: deliver ledger policy resolve journal inspect protocol mixpanel wire http json keyring seglog tlog yaml crypto model os base */
/* sources: deliver_kit.c journal_kit.c */
#define _GNU_SOURCE
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "deliver_kit.h"

#include "flow/deliver/deliver_int.h"
#include "os/clock.h"
#include "os/file.h"
#include "os/socket.h"

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

/* -- recorded first ------------------------------------------------------------------------------------------------------------------------ */

static const struct os_file_ops *real_ops;
static struct os_file_ops slow_ops;
static _Atomic int ledger_fds[64];
static _Atomic unsigned ledger_syncs;
static _Atomic bool in_ledger_sync;
static _Atomic unsigned too_early;
static _Atomic unsigned bodies_begun;

static int open_watched(const char *path, int flags, unsigned mode) {
    int fd = real_ops->open(path, flags, mode);
    if (fd >= 0 && fd < 64) {
        atomic_store(&ledger_fds[fd], strstr(path, "/ledger/mixpanel-1/") != NULL &&
                                          strstr(path, "checkpoint") == NULL);
    }
    return fd;
}

static int slow_sync(int fd) {
    bool is_ledger = fd >= 0 && fd < 64 && atomic_load(&ledger_fds[fd]);
    if (is_ledger) {
        atomic_store(&in_ledger_sync, true);
        os_sleep_us(15000);
    }
    int r = real_ops->fdatasync(fd);
    if (is_ledger) {
        atomic_fetch_add(&ledger_syncs, 1);
        atomic_store(&in_ledger_sync, false);
    }
    return r;
}

/* At the first byte of a body there must be a finished sync for it, and the ledger must show the attempt. */
static void look_at_ledger(struct kit_vendor *vendor) {
    (void)vendor;
    unsigned begun = atomic_fetch_add(&bodies_begun, 1) + 1;
    if (atomic_load(&ledger_syncs) < begun || kit_ledger(&world).attempts < begun) {
        atomic_fetch_add(&too_early, 1);
    }
}

static void recorded_first(void **state) {
    (void)state;
    kit_close_world(&world);
    real_ops = os_file_real_ops();
    slow_ops = *real_ops;
    slow_ops.open = open_watched;
    slow_ops.fdatasync = slow_sync;
    os_file_install(&slow_ops);
    kit_open_world(&world);
    world.vendor.first_byte = look_at_ledger;
    atomic_store(&ledger_syncs, 0);
    (void)kit_put(&world, 3000, EVENT_TRACK);
    kit_restore(&world, true);
    atomic_store(&ledger_syncs, 0);
    for (unsigned i = 0; i < 5; i++) {
        (void)kit_put(&world, 100, i % 2 == 0 ? EVENT_TRACK : EVENT_PROFILE);
        assert_true(kit_drained(&world, 20000)); /* so that each is a body of its own */
    }
    assert_true(atomic_load(&bodies_begun) >= 5);
    assert_int_equal(atomic_load(&too_early), 0);
    kit_close_world(&world);
    os_file_install(NULL);
    kit_open_world(&world);
}

/* -- answers ------------------------------------------------------------------------------------------------------------------------------- */

/* The first `times` requests are answered with `status`, then all are taken. */
static struct {
    _Atomic int times;
    int status;
    const char *headers;
    const char *body;
    bool hang;
    bool reset;
    bool raw;
} script;

static void follow_script(struct kit_vendor *vendor, const struct kit_post *post,
                          struct kit_answer *answer) {
    if (atomic_fetch_sub(&script.times, 1) <= 0) {
        atomic_store(&script.times, 0);
        kit_accept(vendor, post, answer);
        return;
    }
    kit_status(answer, script.status);
    answer->headers = script.headers;
    if (script.body != NULL) {
        (void)snprintf(answer->body, sizeof answer->body, "%s", script.body);
    }
    answer->hang = script.hang;
    answer->reset = script.reset;
    answer->raw = script.raw;
    answer->then_close = script.raw;
}

static void begin_script(int status, int times) {
    memset(&script, 0, sizeof script);
    script.status = status;
    atomic_store(&script.times, times);
    world.vendor.behave = follow_script;
}

/* What is answered for a while with a status that passes is delivered once it passes; an outage adds no lines. */
static void retries(void **state) {
    (void)state;
    static const int statuses[] = {408, 425, 429, 500, 502, 503, 504};
    kit_restore(&world, true);
    for (size_t i = 0; i < BH_COUNT(statuses); i++) {
        begin_script(statuses[i], 2);
        uint32_t first = kit_put(&world, 100, EVENT_TRACK);
        assert_true(kit_drained(&world, 20000));
        assert_int_equal(kit_accepted(&world.vendor, first, world.next), 100);
        assert_int_equal(kit_status_of(&world).state, VENDOR_ACTIVE);
        assert_int_equal(atomic_load(&world.vendor.arrived[first]), 3);
    }
    /* Tries again are no new attempts. */
    struct kit_sums sums = kit_ledger(&world);
    assert_int_equal(sums.certain, 100 * BH_COUNT(statuses));
    assert_int_equal(sums.possible, 0);
    assert_int_equal(sums.attempts, BH_COUNT(statuses));
    assert_int_equal(kit_status_of(&world).retries, 2 * BH_COUNT(statuses));
}

static void honours_retry_after(void **state) {
    (void)state;
    kit_restore(&world, true);
    begin_script(429, 1);
    script.headers = "Retry-After: 2\r\n";
    uint64_t begun = os_mono_us();
    (void)kit_put(&world, 10, EVENT_TRACK);
    assert_true(kit_until_state(&world, VENDOR_RETRYING, 2000));
    assert_true(kit_status_of(&world).retry_at_ms != 0);
    assert_true(kit_drained(&world, 20000));
    assert_in_range(os_mono_us() - begun, 2000000, 6000000);
}

/* Broken, truncated, doubled and foreign answers are no answers: tried again, and nothing is settled by them. */
static void malformed_answers(void **state) {
    (void)state;
    static const char yes[] = "{\"code\":200,\"num_records_imported\":50,\"status\":\"OK\"}";
    static const char *const raws[] = {
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"code\":200,\"num",
        "HTTP/1.1 200 OK\r\nContent-Length: 12\r\nContent-Length: 13\r\n\r\n{\"code\":200}",
        "HTTP/1.1 200 OK\r\nContent-Length: 12\r\nTransfer-Encoding: chunked\r\n\r\nc\r\n{\"code\":200}\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nc\r\n{\"code\":200}\r\n",
        "HTTP/1.1 200 OK\r\n\r\n{\"code\":200}",
        "HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{\"code\":200}HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{\"code\":200}",
        "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>",
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 400 Bad Request\r\nContent-Len",
        "HTTP/1.1 413 Too Large\r\n",
        "{\"code\":200}",
        "",
    };
    (void)yes;
    kit_restore(&world, true);
    for (size_t i = 0; i < BH_COUNT(raws); i++) {
        begin_script(0, 1);
        script.raw = true;
        script.body = raws[i];
        uint32_t first = kit_put(&world, 50, EVENT_TRACK);
        if (!kit_drained(&world, 20000)) {
            fail_msg("answer %zu", i);
        }
        assert_int_equal(kit_accepted(&world.vendor, first, world.next), 50);
        if (atomic_load(&world.vendor.arrived[first]) != 2) {
            fail_msg("answer %zu was taken for an answer", i);
        }
    }
    assert_int_equal(kit_ledger(&world).attempts, BH_COUNT(raws));
}

/* Resets and hangs leave the attempt possible until a later try is answered. */
static void no_answer(void **state) {
    (void)state;
    kit_restore(&world, true);
    begin_script(0, 2);
    script.reset = true;
    (void)kit_put(&world, 50, EVENT_TRACK);
    assert_true(kit_until(&world.vendor.posts, 1, 5000));
    struct kit_sums sums = kit_ledger(&world);
    assert_int_equal(sums.possible, 50);
    assert_true(kit_drained(&world, 20000));
    sums = kit_ledger(&world);
    assert_int_equal(sums.certain, 50);
    assert_int_equal(sums.possible, 0);
}

/* A vendor that is not there at all. */
static void dead_vendor(void **state) {
    (void)state;
    kit_restore(&world, true);
    kit_vendor_stop(&world.vendor);
    (void)kit_put(&world, 50, EVENT_TRACK);
    assert_true(kit_until_state(&world, VENDOR_RETRYING, 5000));
    os_sleep_us(300000);
    uint64_t us = 0;
    uint64_t durable = 0;
    assert_int_equal(courier_cut(world.courier, "test", "dead", &us, &durable), 0);
    os_sleep_us(1300000);
    /* Nothing was handed over: the attempt is not even possible. */
    struct kit_sums sums = kit_ledger(&world);
    assert_int_equal(sums.certain, 0);
    assert_int_equal(sums.possible, 0);
    kit_vendor_start(&world.vendor);
    /* The next try is an attempt of its own, possible before its first byte. */
    begin_script(0, 1);
    script.hang = true;
    kit_restore(&world, true);
    assert_true(kit_until(&world.vendor.posts, 1, 8000));
    assert_int_equal(kit_ledger(&world).possible, 50);
}

/* -- parking ------------------------------------------------------------------------------------------------------------------------------------ */

static void parks(void **state) {
    (void)state;
    static const int statuses[] = {401, 403, 404};
    for (size_t i = 0; i < BH_COUNT(statuses); i++) {
        kit_restore(&world, true);
        begin_script(statuses[i], 1);
        (void)kit_put(&world, 20, EVENT_TRACK);
        assert_true(kit_until_state(&world, VENDOR_PARKED, 5000));
        unsigned posts = atomic_load(&world.vendor.posts);
        os_sleep_us(300000);
        assert_int_equal(atomic_load(&world.vendor.posts), posts);
        assert_int_equal(kit_status_of(&world).backlog, 20);
        /* Another credential leads out. */
        assert_int_equal(setenv("KIT_TOKEN", i % 2 == 0 ? "another" : "vendor_token", 1), 0);
        kit_reload(&world);
        assert_true(kit_drained(&world, 10000));
        assert_int_equal(kit_status_of(&world).state, VENDOR_ACTIVE);
        uint64_t us = 0;
        assert_int_equal(courier_cut(world.courier, "test", "next", &us, &us), 0);
    }
}

/* While parked an empty request asks now and then; its success leads out, and nothing of anybody is in it. */
static void probes(void **state) {
    (void)state;
    kit_restore(&world, true);
    begin_script(403, 2);
    (void)kit_put(&world, 20, EVENT_TRACK);
    assert_true(kit_until_state(&world, VENDOR_PARKED, 5000));
    for (unsigned i = 0; i < 2; i++) {
        unsigned posts = atomic_load(&world.vendor.posts);
        size_t arrived = kit_arrived(&world.vendor, 0, 20);
        uint64_t attempts = kit_status_of(&world).attempts;
        world.courier->probe_us = 0; /* as if five minutes had passed */
        os_wake_signal(world.courier->wake_fd);
        assert_true(kit_until(&world.vendor.posts, posts + 1, 5000));
        assert_int_equal(kit_arrived(&world.vendor, 0, 20), arrived);
        if (i == 0) {
            os_sleep_us(100000);
            assert_int_equal(kit_status_of(&world).state, VENDOR_PARKED);
            assert_int_equal(kit_status_of(&world).attempts, attempts);
        }
    }
    assert_true(kit_drained(&world, 10000));
    assert_int_equal(kit_accepted(&world.vendor, 0, 20), 20);
}

static void redirects(void **state) {
    (void)state;
    kit_restore(&world, true);
    begin_script(302, 1);
    script.headers = "Location: http://127.0.0.1:1/\r\n";
    (void)kit_put(&world, 20, EVENT_TRACK);
    assert_true(kit_drained(&world, 10000));
    begin_script(302, 2);
    script.headers = "Location: http://127.0.0.1:1/\r\n";
    (void)kit_put(&world, 20, EVENT_TRACK);
    assert_true(kit_until_state(&world, VENDOR_PARKED, 10000));
}

/* The credential is asked for at a restore and nothing changes without it. */
static void missing_credential(void **state) {
    (void)state;
    struct err err = {0};
    assert_int_equal(unsetenv("KIT_TOKEN"), 0);
    assert_int_equal(courier_restore(world.courier, true, "test", "", &err), BH_E_KEY);
    assert_non_null(strstr(err.text, "KIT_TOKEN"));
    assert_int_equal(kit_status_of(&world).state, VENDOR_NEVER);
    assert_int_equal(setenv("KIT_TOKEN", "vendor_token", 1), 0);
    kit_restore(&world, true);
    (void)kit_put(&world, 20, EVENT_TRACK);
    assert_true(kit_drained(&world, 10000));
    /* A start without it parks, and a reload with it goes on. */
    kit_close_world(&world);
    assert_int_equal(unsetenv("KIT_TOKEN"), 0);
    kit_open_world(&world);
    (void)kit_put(&world, 20, EVENT_TRACK);
    assert_true(kit_until_state(&world, VENDOR_PARKED, 5000));
    assert_int_equal(setenv("KIT_TOKEN", "vendor_token", 1), 0);
    kit_reload(&world);
    assert_true(kit_drained(&world, 10000));
    assert_int_equal(kit_accepted(&world.vendor, 0, 40), 40);
}

/* -- too big, refused, poison -------------------------------------------------------------------------------------------------------------------- */

static _Atomic size_t items_max;

static void limit_items(struct kit_vendor *vendor, const struct kit_post *post,
                        struct kit_answer *answer) {
    if (post->item_count > atomic_load(&items_max)) {
        kit_status(answer, 413);
    } else {
        kit_accept(vendor, post, answer);
    }
}

static void halves(void **state) {
    (void)state;
    kit_restore(&world, true);
    world.vendor.behave = limit_items;
    atomic_store(&items_max, 130);
    (void)kit_put(&world, 1000, EVENT_TRACK);
    assert_true(kit_drained(&world, 20000));
    assert_int_equal(kit_accepted(&world.vendor, 0, 1000), 1000);
    struct kit_sums sums = kit_ledger(&world);
    assert_true(sums.attempts > 8);
    assert_int_equal(kit_status_of(&world).poison_events, 0);
    /* One alone that is too big is set aside. */
    atomic_store(&items_max, 0);
    (void)kit_put(&world, 1, EVENT_TRACK);
    assert_true(kit_drained(&world, 20000));
    assert_int_equal(kit_status_of(&world).poison_events, 1);
}

static bool is_poison(uint32_t number) {
    return number % 100 == 7;
}

/* Refuses whole requests that hold poison, without a word about which. */
static void refuse_mutely(struct kit_vendor *vendor, const struct kit_post *post,
                          struct kit_answer *answer) {
    for (size_t i = 0; i < post->item_count; i++) {
        if (is_poison(post->items[i])) {
            kit_status(answer, 400);
            return;
        }
    }
    kit_accept(vendor, post, answer);
}

static void refuse_by_name(struct kit_vendor *vendor, const struct kit_post *post,
                           struct kit_answer *answer) {
    struct buf b = buf_of(answer->body, sizeof answer->body - 1);
    unsigned bad = 0;
    buf_put_str(
        &b,
        "{\"code\":400,\"error\":\"some data points in the request failed validation\",\"failed_records\":[");
    for (size_t i = 0; i < post->item_count; i++) {
        if (is_poison(post->items[i])) {
            buf_printf(&b,
                       "%s{\"index\":%zu,\"insert_id\":\"x\",\"field\":\"f\",\"message\":\"m\"}",
                       bad != 0 ? "," : "", i);
            bad++;
        }
    }
    buf_put_str(&b, "],\"num_records_imported\":1,\"status\":\"Bad Request\"}");
    answer->body[b.n] = '\0';
    answer->status = 400;
    if (bad == 0) {
        kit_accept(vendor, post, answer);
        return;
    }
    for (size_t i = 0; i < post->item_count; i++) {
        if (!is_poison(post->items[i])) {
            atomic_fetch_add(&vendor->accepted[post->items[i]], 1);
        }
    }
}

/* Updates of a profile carry no insert id. */
static size_t poison_lines(bool have_ids) {
    char path[256];
    static char text[1 << 20];
    size_t n = 0;
    size_t lines = 0;
    (void)snprintf(path, sizeof path, "%s/poison/mixpanel.ndjson", world.data);
    assert_int_equal(os_file_read_whole(path, text, sizeof text, &n), 0);
    for (size_t i = 0; i < n; i++) {
        lines += text[i] == '\n';
    }
    assert_null(strstr(text, "user_"));
    assert_true((strstr(text, "\"insert_id\":\"\"") == NULL) == have_ids);
    return lines;
}

static void check_poison(uint32_t events, bool have_ids) {
    assert_true(kit_drained(&world, 60000));
    for (uint32_t i = 0; i < events; i++) {
        if (atomic_load(&world.vendor.accepted[i]) != (is_poison(i) ? 0 : 1)) {
            fail_msg("event %u: accepted %u times", i, atomic_load(&world.vendor.accepted[i]));
        }
    }
    struct courier_status status = kit_status_of(&world);
    assert_int_equal(status.poison_events, events / 100);
    assert_int_equal(status.accepted_events, events - events / 100);
    assert_int_equal(poison_lines(have_ids), events / 100);
    assert_int_equal(status.state, VENDOR_ACTIVE);
    struct kit_sums sums = kit_ledger(&world);
    assert_int_equal(sums.possible, 0);
}

static void bisects(void **state) {
    (void)state;
    kit_restore(&world, true);
    world.vendor.behave = refuse_mutely;
    (void)kit_put(&world, 2000, EVENT_TRACK);
    check_poison(2000, true);
}

static void drops_the_named(void **state) {
    (void)state;
    kit_restore(&world, true);
    world.vendor.behave = refuse_by_name;
    (void)kit_put(&world, 2000, EVENT_TRACK);
    check_poison(2000, true);
}

/* Profile updates are answered with 200 and status 0 when one is refused. */
static void refuse_in_a_yes(struct kit_vendor *vendor, const struct kit_post *post,
                            struct kit_answer *answer) {
    refuse_mutely(vendor, post, answer);
    if (answer->status == 400) {
        answer->status = 200;
        answer->is_refusal = true;
        (void)snprintf(answer->body, sizeof answer->body, "{\"error\":\"x\",\"status\":0}");
    }
}

static void bisects_profiles(void **state) {
    (void)state;
    kit_restore(&world, true);
    world.vendor.behave = refuse_in_a_yes;
    (void)kit_put(&world, 300, EVENT_PROFILE);
    check_poison(300, false);
}

/* All of eight and more refused: nothing is set aside. Seven: each is. */
static void refuses_everything(void **state) {
    (void)state;
    kit_restore(&world, true);
    begin_script(400, 1 << 30);
    (void)kit_put(&world, 7, EVENT_TRACK);
    assert_true(kit_drained(&world, 20000));
    assert_int_equal(kit_status_of(&world).poison_events, 7);
    (void)kit_put(&world, 20, EVENT_TRACK);
    assert_true(kit_until_state(&world, VENDOR_PARKED, 20000));
    assert_int_equal(kit_status_of(&world).poison_events, 7);
    assert_int_equal(kit_status_of(&world).backlog, 20);
    world.vendor.behave = NULL;
    assert_int_equal(setenv("KIT_TOKEN", "yet another", 1), 0);
    kit_reload(&world);
    assert_true(kit_drained(&world, 20000));
    assert_int_equal(kit_accepted(&world.vendor, 7, 27), 20);
    assert_int_equal(kit_ledger(&world).possible, 0);
}

/* A bisection that is interrupted by an outage goes on where it was. */
static void bisects_through_outage(struct kit_vendor *vendor, const struct kit_post *post,
                                   struct kit_answer *answer) {
    if (post->number % 5 == 0) {
        kit_status(answer, 503);
    } else {
        refuse_mutely(vendor, post, answer);
    }
}

static void bisects_on(void **state) {
    (void)state;
    kit_restore(&world, true);
    world.vendor.behave = bisects_through_outage;
    (void)kit_put(&world, 200, EVENT_TRACK);
    check_poison(200, true);
}

/* -- memory and disk ------------------------------------------------------------------------------------------------------------------------ */

static _Atomic size_t size_max;

static void note_size(struct kit_vendor *vendor, const struct kit_post *post,
                      struct kit_answer *answer) {
    size_t before = atomic_load(&size_max);
    atomic_store(&size_max, post->plain.n > before ? post->plain.n : before);
    kit_accept(vendor, post, answer);
}

static void wait_for_resolver(void) {
    for (unsigned i = 0; i < 100000 && resolver_seq(world.resolver) < world.next; i++) {
        os_sleep_us(100);
    }
    assert_true(resolver_seq(world.resolver) >= world.next);
}

/* Without a permit for the big buffers windows are small, and nobody waits for one. */
static void small_windows(void **state) {
    (void)state;
    unsigned taken = 0;
    /* The courier gives back its own once it has seen that it may not send. */
    for (unsigned i = 0; taken < 5 && i < 50000; i++) {
        if (memory_permit_take()) {
            taken++;
        } else {
            os_sleep_us(100);
        }
    }
    assert_int_equal(taken, 5);
    assert_false(memory_permit_take());
    world.vendor.behave = note_size;
    atomic_store(&size_max, 0);
    /* All are there before the first window begins, so that its size is not a matter of speed. */
    (void)kit_put(&world, 4000, EVENT_TRACK);
    wait_for_resolver();
    kit_restore(&world, true);
    assert_true(kit_drained(&world, 20000));
    assert_int_equal(kit_accepted(&world.vendor, 0, 4000), 4000);
    assert_in_range(atomic_load(&size_max), WINDOW_BYTES_SMALL / 2, WINDOW_BYTES_SMALL);
    for (; taken > 0; taken--) {
        memory_permit_give();
    }
    uint64_t us = 0;
    assert_int_equal(courier_cut(world.courier, "test", "", &us, &us), 0);
    (void)kit_put(&world, 4000, EVENT_TRACK);
    wait_for_resolver();
    kit_restore(&world, true);
    assert_true(kit_drained(&world, 20000));
    assert_in_range(atomic_load(&size_max), WINDOW_BYTES_SMALL + 1, WINDOW_BYTES);
}

static _Atomic bool ledger_is_full;

static int reserve_or_not(int fd, long offset, long n) {
    if (fd >= 0 && fd < 64 && atomic_load(&ledger_fds[fd]) && atomic_load(&ledger_is_full)) {
        errno = ENOSPC;
        return -1;
    }
    return real_ops->fallocate(fd, offset, n);
}

/* A ledger that cannot grow stops its vendor, and nothing but: no line, no byte; with room again all goes on. */
static void full_disk(void **state) {
    (void)state;
    kit_close_world(&world);
    real_ops = os_file_real_ops();
    slow_ops = *real_ops;
    slow_ops.open = open_watched;
    slow_ops.fallocate = reserve_or_not;
    os_file_install(&slow_ops);
    kit_open_world(&world);
    kit_restore(&world, true);
    (void)kit_put(&world, 100, EVENT_TRACK);
    assert_true(kit_drained(&world, 10000));
    atomic_store(&ledger_is_full, true);
    /* What it has reserved is filled with lines of another kind. */
    char why[200];
    memset(why, 'x', sizeof why - 1);
    why[sizeof why - 1] = '\0';
    int r = 0;
    for (unsigned i = 0; r == 0 && i < 100000; i++) {
        r = ledger_state(courier_ledger(world.courier), VENDOR_RETRYING, "test", why);
    }
    assert_int_equal(r, BH_E_NOSPACE);
    (void)kit_put(&world, 100, EVENT_TRACK);
    unsigned posts = atomic_load(&world.vendor.posts);
    os_sleep_us(1500000);
    assert_int_equal(atomic_load(&world.vendor.posts), posts);
    assert_true(kit_status_of(&world).backlog > 0);
    atomic_store(&ledger_is_full, false);
    assert_true(kit_drained(&world, 20000));
    assert_int_equal(kit_accepted(&world.vendor, 0, world.next), world.next);
    kit_close_world(&world);
    os_file_install(NULL);
    kit_open_world(&world);
}

/* -- endpoints ------------------------------------------------------------------------------------------------------------------------------------ */

static char order[64];
static size_t order_n;

static void note_order(struct kit_vendor *vendor, const struct kit_post *post,
                       struct kit_answer *answer) {
    if (order_n < sizeof order - 1) {
        order[order_n++] = post->path[1];
    }
    kit_accept(vendor, post, answer);
}

/* A window is split by endpoint and sent in their fixed order: links, events, profiles. */
static void endpoints(void **state) {
    (void)state;
    memset(order, 0, sizeof order);
    order_n = 0;
    world.vendor.behave = note_order;
    (void)kit_put(&world, 50, EVENT_PROFILE);
    (void)kit_put(&world, 50, EVENT_TRACK);
    (void)kit_put(&world, 50, EVENT_IDENTIFY);
    kit_restore(&world, true);
    assert_true(kit_drained(&world, 10000));
    assert_string_equal(order, "tie");
    assert_int_equal(kit_accepted(&world.vendor, 0, 150), 150);
    /* $identify names two ids, and both are entered. */
    assert_int_equal(kit_ledger(&world).certain, 50 + 50 + 100);
}

/* -- restarts --------------------------------------------------------------------------------------------------------------------------------------- */

static void fail_engage(struct kit_vendor *vendor, const struct kit_post *post,
                        struct kit_answer *answer) {
    if (strncmp(post->path, "/engage", 7) == 0) {
        kit_status(answer, 503);
    } else {
        kit_accept(vendor, post, answer);
    }
}

/* What one endpoint took is not sent again after a restart; what is open is. */
static void resumes(void **state) {
    (void)state;
    world.vendor.behave = fail_engage;
    (void)kit_put(&world, 300, EVENT_TRACK);
    (void)kit_put(&world, 300, EVENT_PROFILE);
    kit_restore(&world, true);
    assert_true(kit_until(&world.vendor.posts, 2, 5000));
    os_sleep_us(1500000); /* the outcome of the first is on disk by now */
    kit_close_world(&world);
    world.vendor.behave = NULL;
    kit_open_world(&world);
    assert_int_equal(kit_status_of(&world).state, VENDOR_RETRYING);
    assert_true(kit_drained(&world, 10000));
    for (uint32_t i = 0; i < 300; i++) {
        assert_int_equal(atomic_load(&world.vendor.arrived[i]), 1);
    }
    assert_int_equal(kit_accepted(&world.vendor, 300, 600), 300);
    kit_close_world(&world);
    kit_open_world(&world);
    os_sleep_us(300000);
    assert_int_equal(kit_status_of(&world).backlog, 0);
    for (uint32_t i = 0; i < 300; i++) {
        assert_int_equal(atomic_load(&world.vendor.arrived[i]), 1);
    }
    assert_int_equal(kit_ledger(&world).possible, 0);
}

static void discards(void **state) {
    (void)state;
    (void)kit_put(&world, 500, EVENT_TRACK);
    kit_restore(&world, false);
    assert_true(kit_drained(&world, 5000));
    uint32_t first = kit_put(&world, 50, EVENT_TRACK);
    assert_true(kit_drained(&world, 5000));
    assert_int_equal(kit_arrived(&world.vendor, 0, first), 0);
    assert_int_equal(kit_accepted(&world.vendor, first, world.next), 50);
    struct err err = {0};
    assert_int_equal(courier_restore(world.courier, true, "test", "", &err), BH_E_STATE);
}

/* Events that no contract opens are passed without a request. */
static void passes(void **state) {
    (void)state;
    kit_restore(&world, true);
    (void)kit_put(&world, 3000,
                  EVENT_GROUP); /* not of the shape of a group update: nothing of it may leave */
    assert_true(kit_drained(&world, 10000));
    assert_int_equal(atomic_load(&world.vendor.posts), 0);
    assert_int_equal(kit_status_of(&world).withheld_events, 3000);
    assert_int_equal(kit_status_of(&world).attempts, 0);
    assert_true(kit_status_of(&world).ledger_leaves < 10);
}

/* A gap in the journal is recorded once and passed over. */
static void gaps(void **state) {
    (void)state;
    (void)kit_put(&world, 300, EVENT_TRACK);
    assert_int_equal(courier_gap(world.courier, 1, 101), 0);
    assert_int_equal(courier_gap(world.courier, 1, 101), 0);
    assert_int_equal(kit_status_of(&world).settled_seq, 101);
    assert_int_equal(kit_status_of(&world).backlog, 200);
}

/* -- rules -------------------------------------------------------------------------------------------------------------------------------------------- */

static _Atomic unsigned with_number;
static _Atomic unsigned without_number;

static void count_numbers(struct kit_vendor *vendor, const struct kit_post *post,
                          struct kit_answer *answer) {
    struct span rest = post->plain;
    size_t at;
    unsigned items = 0;
    while ((at = span_find(rest, SPAN_LIT("\"Step 1\""))) != SIZE_MAX) {
        rest = span_from(rest, at + 1);
        items++;
    }
    atomic_fetch_add(&with_number, (unsigned)post->item_count);
    atomic_fetch_add(&without_number, items - (unsigned)post->item_count);
    kit_accept(vendor, post, answer);
}

/* Narrowing binds the backlog, widening only what comes after; the drafts before the first restore do not count. */
static void rule_history(void **state) {
    (void)state;
    world.vendor.behave = count_numbers;
    kit_restore(&world, true);
    (void)kit_put(&world, 10, EVENT_TRACK);
    assert_true(kit_drained(&world, 5000));
    assert_int_equal(atomic_load(&with_number), 10);
    uint64_t us = 0;
    assert_int_equal(courier_cut(world.courier, "test", "", &us, &us), 0);
    (void)kit_put(&world, 10, EVENT_TRACK);
    (void)snprintf(world.endpoint, sizeof world.endpoint, "http://127.0.0.1:%u/",
                   world.vendor.port);
    kit_reload(&world);
    assert_int_equal(kit_status_of(&world).contract, 2);
    kit_reload(&world);
    assert_int_equal(kit_status_of(&world).contract, 2);
    kit_close_world(&world);
    kit_open_world(&world);
    assert_int_equal(kit_status_of(&world).contract, 2);
    kit_restore(&world, true);
    assert_true(kit_drained(&world, 5000));
    assert_int_equal(atomic_load(&with_number), 20);
    assert_int_equal(atomic_load(&without_number), 0);
}

static void never_answer(struct kit_vendor *vendor, const struct kit_post *post,
                         struct kit_answer *answer) {
    (void)vendor;
    (void)post;
    answer->hang = true;
}

/* Vendors that hang share one deadline at a stop: the second does not wait for the first one's. */
static void stops_together(void **state) {
    (void)state;
    enum { GRACE_US = 600000 };
    static struct kit_world other;
    struct kit_world *worlds[] = {&world, &other};
    kit_world_new(&other);
    for (size_t i = 0; i < BH_COUNT(worlds); i++) {
        worlds[i]->vendor.behave = never_answer;
        kit_restore(worlds[i], true);
        (void)kit_put(worlds[i], 10, EVENT_TRACK);
        assert_true(kit_until(&worlds[i]->vendor.posts, 1, 5000));
    }
    uint64_t begun = os_mono_us();
    for (size_t i = 0; i < BH_COUNT(worlds); i++) {
        courier_stop_by(worlds[i]->courier, begun + GRACE_US);
    }
    for (size_t i = 0; i < BH_COUNT(worlds); i++) {
        courier_join(worlds[i]->courier);
    }
    uint64_t us = os_mono_us() - begun;
    print_message("two hanging vendors stopped in %llu us\n", (unsigned long long)us);
    assert_in_range(us, GRACE_US, GRACE_US + GRACE_US / 2);
    assert_int_equal(kit_ledger(&other).possible, 10);
    kit_world_free(&other);
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(delivers),
        TEST(recorded_first),
        TEST(retries),
        TEST(honours_retry_after),
        TEST(malformed_answers),
        TEST(no_answer),
        TEST(dead_vendor),
        TEST(parks),
        TEST(redirects),
        TEST(missing_credential),
        TEST(halves),
        TEST(bisects),
        TEST(drops_the_named),
        TEST(refuses_everything),
        TEST(bisects_on),
        TEST(endpoints),
        TEST(resumes),
        TEST(discards),
        TEST(passes),
        TEST(gaps),
        TEST(rule_history),
        TEST(probes),
        TEST(bisects_profiles),
        TEST(small_windows),
        TEST(full_disk),
        TEST(stops_together),
#undef TEST
    };
    cmocka_set_test_filter(getenv("ONLY"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
