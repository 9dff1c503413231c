/* The cut, the register and the resolver of names: nothing leaves after a cut, whatever the courier was doing. */
/* depends: deliver ledger policy resolve journal inspect protocol mixpanel wire http json keyring seglog tlog yaml crypto model os base */
/* sources: deliver_kit.c journal_kit.c */
#define _GNU_SOURCE
#include <netdb.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "deliver_kit.h"
#include "journal_kit.h"

#include "base/hash.h"
#include "flow/deliver/deliver_int.h"
#include "os/clock.h"
#include "os/file.h"
#include "os/socket.h"

enum { CUT_US_MAX = 50000 };

static struct kit_world world;
static struct random_kit dice;

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

/* -- a resolver that never answers ------------------------------------------------------------------------------------------------------------- */

static _Atomic bool resolver_hangs;
static _Atomic unsigned asked;

/* In place of libc's: "silent" names hang, "vendor.test" is this machine, others do not exist. */
int getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
                struct addrinfo **ret) {
    static struct sockaddr_storage address;
    static struct addrinfo found;
    (void)service;
    (void)hints;
    atomic_fetch_add(&asked, 1);
    while (strncmp(host, "silent", 6) == 0 && atomic_load(&resolver_hangs)) {
        os_sleep_us(1000);
    }
    if (strcmp(host, "vendor.test") != 0) {
        return EAI_NONAME;
    }
    struct sockaddr_in *v4 = (struct sockaddr_in *)(void *)&address;
    v4->sin_family = AF_INET;
    v4->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    found = (struct addrinfo){.ai_family = AF_INET,
                              .ai_socktype = SOCK_STREAM,
                              .ai_addrlen = sizeof *v4,
                              .ai_addr = (struct sockaddr *)&address};
    *ret = &found;
    return 0;
}

void freeaddrinfo(struct addrinfo *list) {
    (void)list;
}

/* -- cuts ------------------------------------------------------------------------------------------------------------------------------------------ */

static uint64_t slowest_us;

/* Cuts, and shows that nothing came after it. */
static void cut_and_watch(const char *what) {
    uint64_t us = 0;
    uint64_t durable_us = 0;
    uint64_t begun = os_mono_us();
    assert_int_equal(courier_cut(world.courier, "test", what, &us, &durable_us), 0);
    uint64_t took = os_mono_us() - begun;
    slowest_us = us > slowest_us ? us : slowest_us;
    assert_in_range(us, 0, CUT_US_MAX);
    assert_true(durable_us >= us && took >= durable_us);
    kit_vendor_settle(&world.vendor);
    uint64_t bytes = atomic_load(&world.vendor.bytes);
    unsigned connections = atomic_load(&world.vendor.connections);
    assert_int_equal(kit_status_of(&world).state, VENDOR_CUT);
    os_sleep_us(60000);
    assert_int_equal(atomic_load(&world.vendor.bytes), bytes);
    assert_int_equal(atomic_load(&world.vendor.connections), connections);
}

static void random_pause(uint64_t us_max) {
    os_sleep_us(random_kit_below(&dice, us_max));
}

static void answer_slowly(struct kit_vendor *vendor, const struct kit_post *post,
                          struct kit_answer *answer) {
    kit_accept(vendor, post, answer);
    answer->delay_ms = post->number % 4;
}

/* At random moments of busy delivery; then everything arrives after all. */
static void while_busy(void **state) {
    (void)state;
    enum { ROUNDS = 25 };
    dice.state = random_kit_seed(1);
    world.vendor.behave = answer_slowly;
    for (unsigned i = 0; i < ROUNDS; i++) {
        (void)kit_put(&world, 500, i % 3 == 0 ? EVENT_PROFILE : EVENT_TRACK);
        kit_restore(&world, true);
        random_pause(30000);
        cut_and_watch("busy");
        if (i % 5 == 4) {
            kit_close_world(&world);
            kit_open_world(&world);
            assert_int_equal(kit_status_of(&world).state, VENDOR_CUT);
        }
    }
    kit_restore(&world, true);
    assert_true(kit_drained(&world, 30000));
    assert_int_equal(kit_accepted(&world.vendor, 0, world.next), world.next);
    print_message("slowest cut: %llu us\n", (unsigned long long)slowest_us);
}

/* In the middle of a body that the vendor does not read. */
static void in_mid_body(void **state) {
    (void)state;
    dice.state = random_kit_seed(2);
    atomic_store(&world.vendor.hang_in_body, true);
    (void)kit_put_sized(&world, 400, EVENT_PROFILE, 10);
    for (unsigned i = 0; i < 20; i++) {
        unsigned before = atomic_load(&world.vendor.connections);
        kit_restore(&world, true);
        assert_true(kit_until(&world.vendor.connections, before + 1, 5000));
        random_pause(5000);
        cut_and_watch("mid-body");
    }
    os_sleep_us(1200000);
    assert_int_equal(kit_ledger(&world).certain, 0);
    assert_int_equal(kit_ledger(&world).possible, 400);
    atomic_store(&world.vendor.hang_in_body, false);
    kit_restore(&world, true);
    assert_true(kit_drained(&world, 10000));
    assert_int_equal(kit_accepted(&world.vendor, 0, 400), 400);
}

/* In a TLS handshake that the vendor does not answer: no body byte can have left. */
static void in_handshake(void **state) {
    (void)state;
    dice.state = random_kit_seed(3);
    atomic_store(&world.vendor.hang_in_accept, true);
    (void)snprintf(world.endpoint, sizeof world.endpoint, "https://127.0.0.1:%u",
                   world.vendor.port);
    kit_reload(&world);
    (void)kit_put(&world, 100, EVENT_TRACK);
    for (unsigned i = 0; i < 20; i++) {
        unsigned before = atomic_load(&world.vendor.connections);
        kit_restore(&world, true);
        assert_true(kit_until(&world.vendor.connections, before + 1, 5000));
        random_pause(3000);
        cut_and_watch("handshake");
        if (i == 0) {
            /* Later tries say unknown before they begin, so only the first is shown to be unsent. */
            for (unsigned k = 0; k < 100 && kit_ledger(&world).possible != 0; k++) {
                os_sleep_us(100000); /* its line waits for a second, and longer on a busy machine */
            }
            assert_int_equal(kit_ledger(&world).possible, 0);
        }
    }
    assert_int_equal(kit_ledger(&world).certain, 0);
}

/* While a name is looked up by a resolver that never answers; other names are still found. */
static void in_dns(void **state) {
    (void)state;
    atomic_store(&resolver_hangs, true);
    for (unsigned i = 0; i < 10; i++) {
        (void)snprintf(world.endpoint, sizeof world.endpoint, "https://silent%u.test:%u", i,
                       world.vendor.port);
        kit_reload(&world);
        (void)kit_put(&world, 10, EVENT_TRACK);
        unsigned before = atomic_load(&asked);
        kit_restore(&world, true);
        /* Four look-ups hang for good; after these, none is even begun. */
        assert_true(i >= 4 || kit_until(&asked, before + 1, 3000));
        os_sleep_us(2000);
        cut_and_watch("dns");
    }
    assert_int_equal(atomic_load(&world.vendor.connections), 0);
    atomic_store(&resolver_hangs, false);
}

static void in_back_off(void **state) {
    (void)state;
    dice.state = random_kit_seed(4);
    kit_vendor_stop(&world.vendor);
    (void)kit_put(&world, 100, EVENT_TRACK);
    kit_restore(&world, true);
    assert_true(kit_until_state(&world, VENDOR_RETRYING, 3000));
    os_sleep_us(200000);
    uint64_t us = 0;
    assert_int_equal(courier_cut(world.courier, "test", "back-off", &us, &us), 0);
    kit_vendor_start(&world.vendor);
    unsigned connections = atomic_load(&world.vendor.connections);
    os_sleep_us(2500000);
    assert_int_equal(atomic_load(&world.vendor.connections), connections);
}

static void while_idle(void **state) {
    (void)state;
    for (unsigned i = 0; i < 10; i++) {
        kit_restore(&world, true);
        (void)kit_put(&world, 10, EVENT_TRACK);
        assert_true(kit_drained(&world, 5000));
        cut_and_watch("idle");
        for (unsigned k = 0; k < 1000 && atomic_load(&world.vendor.open) != 0; k++) {
            os_sleep_us(100);
        }
        assert_int_equal(atomic_load(&world.vendor.open), 0);
    }
}

/* A connection is used again after a yes, and never after anything else, nor with bytes in wait on it. */
static struct kit_answer next_answer;

static void answer_next(struct kit_vendor *vendor, const struct kit_post *post,
                        struct kit_answer *answer) {
    kit_accept(vendor, post, answer);
    if (next_answer.status == 400) {
        kit_status(answer, 400);
    }
    answer->again = next_answer.again;
    answer->again_ms = next_answer.again_ms;
    memset(&next_answer, 0, sizeof next_answer);
}

static void reuse(void **state) {
    (void)state;
    static const char yes[] =
        "HTTP/1.1 200 OK\r\nContent-Length: 54\r\n\r\n{\"code\":200,\"num_records_imported\":10,\"status\":\"OK\"} ";
    world.vendor.behave = answer_next;
    kit_restore(&world, true);
    for (unsigned i = 0; i < 3; i++) {
        (void)kit_put(&world, 10, EVENT_TRACK);
        assert_true(kit_drained(&world, 5000));
    }
    assert_int_equal(atomic_load(&world.vendor.connections), 1);
    next_answer.again = yes;
    next_answer.again_ms = 20;
    (void)kit_put(&world, 10, EVENT_TRACK);
    assert_true(kit_drained(&world, 5000));
    assert_int_equal(atomic_load(&world.vendor.connections), 1);
    (void)kit_put(&world, 10, EVENT_TRACK);
    assert_true(kit_drained(&world, 5000));
    assert_int_equal(atomic_load(&world.vendor.connections), 2);
    /* A refusal, and behind it a yes for whoever comes next: the halves must not take it for theirs. */
    next_answer.status = 400;
    next_answer.again = yes;
    (void)kit_put(&world, 2, EVENT_TRACK);
    assert_true(kit_drained(&world, 5000));
    assert_int_equal(atomic_load(&world.vendor.connections), 3);
    assert_int_equal(kit_accepted(&world.vendor, 0, world.next), world.next);
    for (uint32_t i = 0; i < 50; i++) {
        assert_int_equal(atomic_load(&world.vendor.arrived[i]), 1);
    }
}

/* -- dns --------------------------------------------------------------------------------------------------------------------------------------------- */

static int look_up(struct dns *dns, const char *host, int wake, char out[128]) {
    struct buf b = buf_of(out, 127);
    int r = dns_lookup(dns, host, wake, &b);
    out[b.n] = '\0';
    return r;
}

static void names(void **state) {
    (void)state;
    struct dns *dns = NULL;
    int wake = -1;
    char out[128];
    assert_int_equal(os_wake_open(&wake), 0);
    assert_int_equal(dns_start(&dns), 0);
    unsigned before = atomic_load(&asked);
    assert_int_equal(look_up(dns, "vendor.test", wake, out), BH_E_AGAIN);
    assert_true(os_wake_wait(wake, 2000));
    assert_int_equal(look_up(dns, "vendor.test", wake, out), 0);
    assert_string_equal(out, "127.0.0.1");
    assert_int_equal(look_up(dns, "vendor.test", wake, out), 0);
    assert_int_equal(atomic_load(&asked), before + 1);
    assert_int_equal(look_up(dns, "nowhere.test", wake, out), BH_E_AGAIN);
    assert_true(os_wake_wait(wake, 2000));
    assert_int_equal(look_up(dns, "nowhere.test", wake, out), BH_E_NOTFOUND);
    /* Three that hang leave one thread for the others. */
    atomic_store(&resolver_hangs, true);
    assert_int_equal(look_up(dns, "silent1.test", wake, out), BH_E_AGAIN);
    os_sleep_us(20000);
    assert_int_equal(look_up(dns, "silent2.test", wake, out), BH_E_AGAIN);
    os_sleep_us(20000);
    assert_int_equal(look_up(dns, "silent3.test", wake, out), BH_E_AGAIN);
    os_sleep_us(20000);
    assert_int_equal(look_up(dns, "other.test", wake, out), BH_E_AGAIN);
    assert_true(os_wake_wait(wake, 2000));
    assert_int_equal(look_up(dns, "other.test", wake, out), BH_E_NOTFOUND);
    dns_forget_wake(dns, wake);
    uint64_t begun = os_mono_us();
    atomic_store(&resolver_hangs, false);
    dns_stop(dns);
    assert_true(os_mono_us() - begun < 500000);
    os_close(wake);
}

/* -- the register ------------------------------------------------------------------------------------------------------------------------------------- */

static void flip(const char *path, uint64_t offset) {
    struct os_file file;
    uint8_t byte = 0;
    size_t n = 0;
    assert_int_equal(os_file_open(path, OS_OPEN_READ | OS_OPEN_WRITE, &file), 0);
    assert_int_equal(os_file_read_at(file, offset, &byte, 1, &n), 0);
    byte ^= 0x10;
    assert_int_equal(os_file_write_at(file, offset, &byte, 1), 0);
    os_file_close(&file);
}

static void cut_register_survives(void **state) {
    (void)state;
    struct cut_register *reg = NULL;
    struct err err = {0};
    char path[256];
    char dir[160];
    (void)snprintf(dir, sizeof dir, "%s/data/other", world.dir);
    (void)snprintf(path, sizeof path, "%s/register", dir);
    assert_int_equal(os_dir_make(dir), 0);
    assert_int_equal(cut_register_open(dir, &reg, &err), 0);
    assert_int_equal(cut_register_state(reg, "a"), VENDOR_NEVER);
    assert_int_equal(cut_register_write(reg, "a", VENDOR_ACTIVE, true), 0);
    assert_int_equal(cut_register_cut(reg, "b"), 0);
    assert_int_equal(cut_register_cut(reg, "a"), 0);
    cut_register_free(reg);
    assert_int_equal(cut_register_open(dir, &reg, &err), 0);
    assert_int_equal(cut_register_state(reg, "a"), VENDOR_CUT);
    assert_int_equal(cut_register_state(reg, "b"), VENDOR_CUT);
    assert_int_equal(cut_register_state(reg, "c"), VENDOR_NEVER);
    assert_true(cut_register_was_restored(reg, "a"));
    assert_false(cut_register_was_restored(reg, "b"));
    assert_int_equal(cut_register_write(reg, "a", VENDOR_ACTIVE, true), 0);
    cut_register_free(reg);
    /* Any flipped bit of the slot of an open vendor leaves it cut; of the others, as they are. */
    for (uint64_t at = 512; at < 1024; at += 37) {
        flip(path, at);
        assert_int_equal(cut_register_open(dir, &reg, &err), 0);
        assert_int_equal(cut_register_state(reg, "a"), VENDOR_CUT);
        assert_int_equal(cut_register_state(reg, "b"), VENDOR_CUT);
        assert_int_equal(cut_register_state(reg, "c"), VENDOR_CUT);
        cut_register_free(reg);
        flip(path, at);
    }
    assert_int_equal(cut_register_open(dir, &reg, &err), 0);
    assert_int_equal(cut_register_state(reg, "a"), VENDOR_ACTIVE);
    cut_register_free(reg);
    flip(path, 13);
    assert_int_equal(cut_register_open(dir, &reg, &err), BH_E_CORRUPT);
    flip(path, 13);
    /* 64 vendors have room, the next has not. */
    assert_int_equal(cut_register_open(dir, &reg, &err), 0);
    for (unsigned i = 0; i < LIMIT_VENDORS - 2; i++) {
        char name[16];
        (void)snprintf(name, sizeof name, "v%u", i);
        assert_int_equal(cut_register_cut(reg, name), 0);
    }
    assert_int_equal(cut_register_cut(reg, "more"), BH_E_FULL);
    cut_register_free(reg);
}

/* The bytes that docs/format/register.md promises. */
static void register_bytes(void **state) {
    (void)state;
    struct cut_register *reg = NULL;
    struct err err = {0};
    char path[256];
    char dir[160];
    static uint8_t bytes[65536];
    size_t n = 0;
    (void)snprintf(dir, sizeof dir, "%s/data/bytes", world.dir);
    (void)snprintf(path, sizeof path, "%s/register", dir);
    assert_int_equal(os_dir_make(dir), 0);
    assert_int_equal(cut_register_open(dir, &reg, &err), 0);
    assert_int_equal(cut_register_cut(reg, "mixpanel"), 0);
    cut_register_free(reg);
    assert_int_equal(os_file_read_whole(path, bytes, sizeof bytes, &n), 0);
    assert_int_equal(n, 33280);
    assert_memory_equal(bytes, "BHREGIST\1\0\1\0\100\0\0\0", 16);
    assert_memory_equal(bytes + 512, "RGST\4\0\10\0", 8);
    assert_memory_equal(bytes + 512 + 16, "mixpanel\0", 9);
    assert_int_equal(get_u32(bytes + 1020), crc32c(bytes + 512, 508));
    assert_int_equal(get_u32(bytes + 508), crc32c(bytes, 508));
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(while_busy),     TEST(in_mid_body), TEST(in_handshake),
        TEST(in_dns),         TEST(in_back_off), TEST(while_idle),
        TEST(reuse),          TEST(names),       TEST(cut_register_survives),
        TEST(register_bytes),
#undef TEST
    };
    cmocka_set_test_filter(getenv("ONLY"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
