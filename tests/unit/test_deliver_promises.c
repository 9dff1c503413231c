/* Delivery: the gate by itself, the register without power, what a discard leaves, and which rules bind the backlog. */
/* depends: deliver ledger policy resolve journal inspect protocol mixpanel wire http json keyring seglog tlog yaml crypto model os base */
/* sources: deliver_kit.c journal_kit.c */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "deliver_kit.h"

#include "flow/deliver/deliver_int.h"
#include "journal_kit.h"
#include "os/clock.h"
#include "os/fault.h"
#include "os/file.h"
#include "os/socket.h"

static struct kit_world world;

static int set_up(void **state) {
    (void)state;
    kit_world_new(&world);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    kit_world_free(&world);
    return 0;
}

static void cut(void) {
    uint64_t us = 0;
    assert_int_equal(courier_cut(world.courier, "test", "because", &us, &us), 0);
}

/* -- the gate --------------------------------------------------------------------------------------------------------------------------- */

static _Atomic unsigned woken;

static void wake(void *context) {
    (void)context;
    atomic_fetch_add(&woken, 1);
}

/* Each way past the gate is closed by itself, whatever the others do; a late word of the courier does not open it. */
static void a_cut_closes_every_way(void **state) {
    (void)state;
    static const enum vendor_state late[] = {VENDOR_ACTIVE, VENDOR_RETRYING, VENDOR_PARKED};
    struct gate gate;
    vendor_gate_init(&gate, VENDOR_ACTIVE, wake, NULL);
    int fd = gate_socket_open(&gate, AF_INET);
    assert_true(fd >= 0);
    unsigned before = atomic_load(&woken);
    (void)gate_cut(&gate);
    assert_int_equal(atomic_load(&woken), before + 1);
    assert_false(gate_state_is_open(gate_state(&gate)));
    assert_int_equal(gate_socket_open(&gate, AF_INET), -1);
    for (size_t i = 0; i < BH_COUNT(late); i++) {
        assert_false(gate_move(&gate, late[i]));
        assert_int_equal(gate_state(&gate), VENDOR_CUT);
    }
    assert_true(os_send(fd, "x", 1) < 0);
    gate_socket_close(&gate, fd);
    gate_fini(&gate);
}

/* libcurl closes a socket that has not connected yet without a word; its number may be another connection's by the time of a cut. */
static void a_cut_touches_no_other_file(void **state) {
    (void)state;
    struct gate gate;
    vendor_gate_init(&gate, VENDOR_ACTIVE, wake, NULL);
    int gone = gate_socket_open(&gate, AF_INET);
    int pair[2];
    char byte = 0;
    os_close(gone);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    assert_int_equal(pair[0], gone);
    (void)gate_cut(&gate);
    assert_int_equal(os_send(pair[0], "a", 1), 1);
    gate_sweep(&gate);
    gate_fini(&gate);
    assert_int_equal(os_send(pair[0], "b", 1), 1);
    assert_int_equal(os_recv(pair[1], &byte, 1), 1);
    assert_int_equal(byte, 'a');
    os_close(pair[0]);
    os_close(pair[1]);
}

/* Sockets that were closed without a word make room again. */
static void the_registry_does_not_fill(void **state) {
    (void)state;
    struct gate gate;
    vendor_gate_init(&gate, VENDOR_ACTIVE, wake, NULL);
    for (unsigned i = 0; i < 5 * GATE_SOCKETS_MAX; i++) {
        int fd = gate_socket_open(&gate, AF_INET);
        assert_true(fd >= 0);
        os_close(fd);
    }
    gate_sweep(&gate);
    gate_fini(&gate);
}

/* A cut between the making of a socket and its connect: the vendor sees no connection, and no byte. */
static void a_connect_after_a_cut_leads_nowhere(void **state) {
    (void)state;
    struct sockaddr_in address = {.sin_family = AF_INET};
    struct gate gate;
    struct err err = {0};
    struct os_peer peer;
    int listener = -1;
    int vendor = -1;
    uint16_t port = 0;
    assert_int_equal(os_listen("127.0.0.1:0", false, &listener, &err), 0);
    assert_int_equal(os_local_port(listener, &port), 0);
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    vendor_gate_init(&gate, VENDOR_ACTIVE, wake, NULL);
    int fd = gate_socket_open(&gate, AF_INET);
    (void)gate_cut(&gate);
    (void)connect(fd, (struct sockaddr *)&address, sizeof address);
    for (unsigned i = 0; i < 100; i++) {
        assert_true(os_send(fd, "x", 1) < 0);
        assert_true(os_accept(listener, &vendor, &peer) < 0);
        os_sleep_us(1000);
    }
    gate_socket_close(&gate, fd);
    gate_fini(&gate);
    os_close(listener);
}

/* Bytes that the kernel has taken and not yet delivered are thrown away, not sent to the end. */
static void a_cut_takes_back_what_waits(void **state) {
    (void)state;
    static uint8_t bytes[1024 * 1024];
    struct sockaddr_in address = {.sin_family = AF_INET};
    struct gate gate;
    struct err err = {0};
    struct os_peer peer;
    int small = 16 * 1024;
    int listener = -1;
    int vendor = -1;
    uint16_t port = 0;
    assert_int_equal(os_listen("127.0.0.1:0", false, &listener, &err), 0);
    assert_int_equal(setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &small, sizeof small), 0);
    assert_int_equal(os_local_port(listener, &port), 0);
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    vendor_gate_init(&gate, VENDOR_ACTIVE, wake, NULL);
    int fd = gate_socket_open(&gate, AF_INET);
    int connected = connect(fd, (struct sockaddr *)&address, sizeof address);
    assert_true(connected == 0 || errno == EINPROGRESS);
    for (unsigned i = 0; i < 5000 && os_accept(listener, &vendor, &peer) != 0; i++) {
        os_sleep_us(200);
    }
    long sent = os_send(fd, bytes, sizeof bytes);
    assert_true(sent > 4 * small);
    (void)gate_cut(&gate);
    long got = 0;
    long n = 0;
    while ((n = os_recv(vendor, bytes, sizeof bytes)) > 0 || n == BH_E_AGAIN) {
        got += n > 0 ? n : 0;
        os_sleep_us(100);
    }
    assert_true(n < 0); /* reset, and no orderly end */
    assert_true(got < sent);
    gate_socket_close(&gate, fd);
    gate_fini(&gate);
    os_close(vendor);
    os_close(listener);
}

/* -- the register ----------------------------------------------------------------------------------------------------------------------- */

/* A process that cuts, is told that it is durable, and has no power from then on. */
static void cut_without_power(const char *dir, unsigned seed) {
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        char spec[40];
        struct err err = {0};
        struct cut_register *reg = NULL;
        (void)snprintf(spec, sizeof spec, "seed=%u", seed);
        int bad = os_fault_install(spec, &err);
        bad |= cut_register_open(dir, &reg, &err);
        bad |= cut_register_cut(reg, "mixpanel");
        if (bad != 0) {
            _exit(1);
        }
        os_fault_power_loss();
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), OS_FAULT_LOSS_STATUS);
}

static void a_cut_outlasts_the_power(void **state) {
    (void)state;
    enum { ROUNDS = 20 };
    char dir[128];
    struct err err = {0};
    struct cut_register *reg = NULL;
    kit_dir_make(dir);
    for (unsigned seed = 1; seed <= ROUNDS; seed++) {
        assert_int_equal(cut_register_open(dir, &reg, &err), 0);
        assert_int_equal(cut_register_write(reg, "mixpanel", VENDOR_ACTIVE, true), 0);
        cut_register_free(reg);
        cut_without_power(dir, seed);
        assert_int_equal(cut_register_open(dir, &reg, &err), 0);
        assert_int_equal(cut_register_state(reg, "mixpanel"), VENDOR_CUT);
        cut_register_free(reg);
    }
    kit_dir_remove(dir);
}

/* -- the backlog ------------------------------------------------------------------------------------------------------------------------ */

/* What was discarded stays so through a restart, with nothing delivered in between. */
static void a_discard_is_remembered(void **state) {
    (void)state;
    (void)kit_put(&world, 300, EVENT_TRACK);
    kit_restore(&world, false);
    cut();
    assert_int_equal(kit_status_of(&world).settled_seq, 301);
    kit_close_world(&world);
    kit_open_world(&world);
    assert_int_equal(kit_status_of(&world).settled_seq, 301);
    kit_restore(&world, true);
    (void)kit_put(&world, 10, EVENT_TRACK);
    assert_true(kit_drained(&world, 10000));
    assert_int_equal(kit_arrived(&world.vendor, 0, 300), 0);
    assert_int_equal(kit_accepted(&world.vendor, 300, 310), 10);
}

/* The kit's plan, and a contract that lets events leave or does not. */
static void take_rules(bool is_open) {
    static const char plan_text[] =
        "events:\n  Step *: {}\nproperties:\n  tokens: { type: number }\ntraits:\n  tokens: { type: number }\n";
    static const struct policy_source sources[] = {{1, "web", true}};
    static const char *const spaces[] = {""};
    char text[1024];
    struct err err = {0};
    struct contract *contract = NULL;
    struct plan *plan = NULL;
    struct ruleset *ruleset = NULL;
    (void)snprintf(
        text, sizeof text,
        "vendor: mixpanel\nconnector: mixpanel\nendpoint: %s\ncredential: { env: KIT_TOKEN }\npurpose: analytics\nretention: 1d\n"
        "allow:\n  user.unique_id: pseudonym\n%s  system.operations: raw\n",
        world.endpoint, is_open ? "  user.behavior: raw\n" : "");
    assert_int_equal(contract_load_text("contract", span_str(text), &contract, &err), 0);
    assert_int_equal(plan_load_text("plan", span_str(plan_text), &plan, &err), 0);
    assert_int_equal(ruleset_compile(contract, plan, sources, 1, &ruleset, &err), 0);
    struct courier_rules rules = {
        .ruleset = ruleset, .sources = sources, .source_count = 1, .source_spaces = spaces};
    contract_facts(contract, &rules.facts);
    assert_int_equal(courier_reload(world.courier, &rules, &err), 0);
    ruleset_free(ruleset);
    plan_free(plan);
    contract_free(contract);
}

/* A contract that is closed closes what is waiting, too. */
static void narrowing_binds_the_backlog(void **state) {
    (void)state;
    take_rules(true);
    kit_restore(&world, true);
    (void)kit_put(&world, 10, EVENT_TRACK);
    assert_true(kit_drained(&world, 10000));
    assert_int_equal(kit_accepted(&world.vendor, 0, 10), 10);
    cut();
    (void)kit_put(&world, 50, EVENT_TRACK);
    take_rules(false);
    kit_restore(&world, true);
    assert_true(kit_drained(&world, 10000));
    assert_int_equal(kit_arrived(&world.vendor, 10, 60), 0);
    assert_int_equal(kit_status_of(&world).withheld_events, 50);
}

/* A contract that is opened opens only what comes after it. */
static void widening_spares_the_backlog(void **state) {
    (void)state;
    take_rules(true);
    kit_restore(&world, true);
    (void)kit_put(&world, 10, EVENT_TRACK);
    assert_true(kit_drained(&world, 10000));
    cut();
    take_rules(false);
    (void)kit_put(&world, 50, EVENT_TRACK);
    take_rules(true);
    (void)kit_put(&world, 20, EVENT_TRACK);
    kit_restore(&world, true);
    assert_true(kit_drained(&world, 10000));
    assert_int_equal(kit_arrived(&world.vendor, 10, 60), 0);
    assert_int_equal(kit_accepted(&world.vendor, 60, 80), 20);
    assert_int_equal(kit_status_of(&world).withheld_events, 50);
}

/* -- a yes too early -------------------------------------------------------------------------------------------------------------------- */

/* The kernel would take the whole of a body at once; with a small buffer of the sender it waits for the vendor to read. */
static _Atomic bool has_small_buffers;

int socket(int domain, int type, int protocol) {
    int small = 4096;
    int fd = (int)syscall(SYS_socket, domain, type, protocol);
    if (fd >= 0 && atomic_load(&has_small_buffers)) {
        (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
    }
    return fd;
}

/* A vendor of its own: reads the head of one request, says yes to it, and only then reads the rest. */
static int say_yes_to_a_head(int listener) {
    static const char yes[] =
        "HTTP/1.1 200 OK\r\nContent-Length: 25\r\n\r\n{\"error\":null,\"status\":1}";
    char bytes[4096];
    struct os_peer peer;
    int fd = -1;
    long n = BH_E_AGAIN;
    for (unsigned i = 0; i < 50000 && os_accept(listener, &fd, &peer) != 0; i++) {
        os_sleep_us(200);
    }
    assert_true(fd >= 0);
    for (unsigned i = 0; i < 50000 && n == BH_E_AGAIN; i++) {
        n = os_recv(fd, bytes, 512);
        os_sleep_us(200);
    }
    assert_true(n > 0);
    assert_int_equal(os_send(fd, yes, sizeof yes - 1), sizeof yes - 1);
    os_sleep_us(50000);
    for (unsigned i = 0; i < 500 && n != 0 && (n > 0 || n == BH_E_AGAIN); i++) {
        n = os_recv(fd, bytes, sizeof bytes);
        os_sleep_us(n > 0 ? 0 : 1000);
    }
    return fd;
}

/* It cannot be the answer to what the vendor has not read: the events are sent again, to one that reads. */
static void a_yes_before_the_end_settles_nothing(void **state) {
    (void)state;
    enum { EVENTS = 2000 };
    struct err err = {0};
    int small = 16 * 1024;
    int listener = -1;
    uint16_t port = 0;
    char real[128];
    assert_int_equal(os_listen("127.0.0.1:0", false, &listener, &err), 0);
    assert_int_equal(setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &small, sizeof small), 0);
    atomic_store(&has_small_buffers, true);
    assert_int_equal(os_local_port(listener, &port), 0);
    memcpy(real, world.endpoint, sizeof real);
    (void)snprintf(world.endpoint, sizeof world.endpoint, "http://127.0.0.1:%u", port);
    kit_reload(&world);
    (void)kit_put(&world, EVENTS, EVENT_PROFILE);
    kit_restore(&world, true);
    int fd = say_yes_to_a_head(listener);
    os_sleep_us(300000);
    assert_int_equal(kit_status_of(&world).accepted_events, 0);
    assert_int_equal(kit_status_of(&world).backlog, EVENTS);
    memcpy(world.endpoint, real, sizeof real);
    kit_reload(&world);
    atomic_store(&has_small_buffers, false);
    os_close(fd);
    os_close(listener);
    assert_true(kit_drained(&world, 20000));
    assert_int_equal(kit_accepted(&world.vendor, 0, EVENTS), EVENTS);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_cut_closes_every_way),
        cmocka_unit_test(a_cut_takes_back_what_waits),
        cmocka_unit_test(a_cut_touches_no_other_file),
        cmocka_unit_test(the_registry_does_not_fill),
        cmocka_unit_test(a_connect_after_a_cut_leads_nowhere),
        cmocka_unit_test(a_cut_outlasts_the_power),
        cmocka_unit_test_setup_teardown(a_discard_is_remembered, set_up, tear_down),
        cmocka_unit_test_setup_teardown(narrowing_binds_the_backlog, set_up, tear_down),
        cmocka_unit_test_setup_teardown(widening_spares_the_backlog, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_yes_before_the_end_settles_nothing, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("deliver_promises", tests, NULL, NULL);
}
