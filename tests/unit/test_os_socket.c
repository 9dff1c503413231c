/* Sockets over loopback: addresses, streams, resets, readiness and wake-ups. */
/* depends: os base */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "os/clock.h"
#include "os/socket.h"
#include "os/thread.h"

static char unix_path[100];
static char unix_address[120];

static int set_up(void **state) {
    (void)state;
    const char *base = getenv("TMPDIR");
    (void)snprintf(unix_path, sizeof unix_path, "%s/bh-sock-%u", base != NULL ? base : "/tmp",
                   os_process_id());
    (void)snprintf(unix_address, sizeof unix_address, "unix:%s", unix_path);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    (void)unlink(unix_path);
    return 0;
}

static int connect_to(uint16_t port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(inet_pton(AF_INET, "127.0.0.1", &address.sin_addr), 1);
    assert_int_equal(connect(fd, (const struct sockaddr *)(const void *)&address, sizeof address),
                     0);
    return fd;
}

static int accept_one(int listener, struct os_peer *peer) {
    int fd = -1;
    int code = BH_E_AGAIN;
    for (int i = 0; code == BH_E_AGAIN && i < 1000; i++) {
        code = os_accept(listener, &fd, peer);
        os_sleep_us(code == BH_E_AGAIN ? 1000 : 0);
    }
    assert_int_equal(code, 0);
    return fd;
}

static long receive(int fd, void *p, size_t n) {
    long got = BH_E_AGAIN;
    for (int i = 0; got == BH_E_AGAIN && i < 1000; i++) {
        got = os_recv(fd, p, n);
        os_sleep_us(got == BH_E_AGAIN ? 1000 : 0);
    }
    return got;
}

static void addresses_are_read_or_refused(void **state) {
    (void)state;
    static const char *const bad[] = {"",
                                      "8080",
                                      ":8080",
                                      "127.0.0.1",
                                      "127.0.0.1:",
                                      "127.0.0.1:65536",
                                      "127.0.0.1:x",
                                      "example.com:80",
                                      "[::1:80",
                                      "[]:80",
                                      "[127.0.0.1]:80",
                                      "127.0.0.1:80 ",
                                      "unix:",
                                      "::1:80"};
    struct err err = {0};
    int fd = -1;
    for (size_t i = 0; i < BH_COUNT(bad); i++) {
        assert_int_equal(os_listen(bad[i], false, &fd, &err), BH_E_SYNTAX);
        assert_false(os_address_is_valid(bad[i]));
        assert_int_equal(fd, -1);
    }
    char longest[200] = "unix:/";
    memset(longest + 6, 'a', 120);
    assert_int_equal(os_listen(longest, false, &fd, &err), BH_E_SYNTAX);
}

static void a_port_is_shared_only_when_asked(void **state) {
    (void)state;
    struct err err = {0};
    char address[64];
    int first = -1;
    int second = -1;
    uint16_t port = 0;
    assert_int_equal(os_listen("localhost:0", false, &first, &err), 0);
    assert_true(os_address_is_valid("localhost:0"));
    assert_int_equal(os_local_port(first, &port), 0);
    assert_true(port != 0);
    (void)snprintf(address, sizeof address, "127.0.0.1:%u", port);
    assert_int_equal(os_listen(address, false, &second, &err), BH_E_BUSY);
    assert_non_null(strstr(err.text, "something else listens there"));
    os_close(first);
    assert_int_equal(os_listen("127.0.0.1:0", true, &first, &err), 0);
    assert_int_equal(os_local_port(first, &port), 0);
    (void)snprintf(address, sizeof address, "127.0.0.1:%u", port);
    assert_int_equal(os_listen(address, true, &second, &err), 0);
    os_close(first);
    os_close(second);
}

static void bytes_and_ends_of_streams_arrive(void **state) {
    (void)state;
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    struct err err = {0};
    struct os_peer peer;
    int listener = -1;
    uint16_t port = 0;
    uint8_t bytes[64];
    assert_int_equal(os_listen("127.0.0.1:0", false, &listener, &err), 0);
    assert_int_equal(os_local_port(listener, &port), 0);
    int fd = -1;
    assert_int_equal(os_accept(listener, &fd, &peer), BH_E_AGAIN);
    int client = connect_to(port);
    fd = accept_one(listener, &peer);
    assert_memory_equal(peer.address, mapped, sizeof mapped);
    assert_memory_equal(peer.address + 12, "\x7f\0\0\x01", 4);
    assert_true(peer.port != 0);
    assert_int_equal(os_recv(fd, bytes, sizeof bytes), BH_E_AGAIN);
    struct span parts[3] = {SPAN_LIT("one "), SPAN_NONE, SPAN_LIT("two")};
    assert_int_equal(os_send_vec(client, parts, 3), 7);
    assert_int_equal(receive(fd, bytes, sizeof bytes), 7);
    assert_memory_equal(bytes, "one two", 7);
    assert_int_equal(os_send_all(client, "three", 5), 0);
    assert_int_equal(receive(fd, bytes, 3), 3);
    assert_int_equal(receive(fd, bytes, 3), 2);
    (void)shutdown(client, SHUT_WR);
    assert_int_equal(receive(fd, bytes, 3), 0);
    os_close(client);
    /* A peer that is gone is an answer, not a signal. */
    long put = 0;
    for (int i = 0; put >= 0 && i < 1000; i++) {
        put = os_send(fd, bytes, 1);
        os_sleep_us(1000);
    }
    assert_int_equal(put, BH_E_CLOSED);
    os_close(fd);
    /* A reset is told from an end. */
    client = connect_to(port);
    fd = accept_one(listener, &peer);
    os_close_reset(client);
    assert_int_equal(receive(fd, bytes, 3), BH_E_CLOSED);
    os_close(fd);
    os_close(listener);
}

/* Nothing that waits in the send queue reaches the peer after a break. */
static void breaking_purges_what_was_not_sent(void **state) {
    (void)state;
    static uint8_t block[65536];
    struct err err = {0};
    struct os_peer peer;
    int listener = -1;
    uint16_t port = 0;
    assert_int_equal(os_listen("127.0.0.1:0", false, &listener, &err), 0);
    assert_int_equal(os_local_port(listener, &port), 0);
    int client = connect_to(port);
    int fd = accept_one(listener, &peer);
    long put = 0;
    uint64_t sent = 0;
    while ((put = os_send(fd, block, sizeof block)) > 0) {
        sent += (uint64_t)put;
    }
    assert_int_equal(put, BH_E_AGAIN);
    assert_int_equal(os_socket_break(fd), 0);
    assert_true(os_send(fd, block, 1) < 0);
    uint64_t received = 0;
    long got = 0;
    while ((got = os_recv(client, block, sizeof block)) > 0) {
        received += (uint64_t)got;
    }
    assert_int_equal(got, BH_E_CLOSED);
    assert_true(received < sent);
    os_close(client);
    os_close(fd);
    os_close(listener);
}

static void a_unix_socket_is_private_and_replaces_a_dead_one(void **state) {
    (void)state;
    struct err err = {0};
    struct os_peer peer;
    struct stat st;
    int listener = -1;
    int second = -1;
    int client = -1;
    uint8_t bytes[8];
    assert_int_equal(os_connect_unix(unix_path, &client), BH_E_NOTFOUND);
    assert_int_equal(os_listen(unix_address, false, &listener, &err), 0);
    assert_int_equal(stat(unix_path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(os_listen(unix_address, false, &second, &err), BH_E_BUSY);
    os_close(accept_one(listener, &peer)); /* the second one asked whether anybody listens */
    assert_int_equal(os_connect_unix(unix_path, &client), 0);
    int fd = accept_one(listener, &peer);
    assert_int_equal(os_send_all(fd, "hello", 5), 0);
    assert_int_equal(os_recv(client, bytes, sizeof bytes), 5);
    os_close(client);
    os_close(fd);
    os_close(listener);
    assert_int_equal(os_connect_unix(unix_path, &client), BH_E_NOTFOUND);
    assert_int_equal(os_listen(unix_address, false, &listener, &err), 0);
    os_close(listener);
    assert_int_equal(unlink(unix_path), 0);
    FILE *file = fopen(unix_path, "w");
    assert_non_null(file);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(os_listen(unix_address, false, &listener, &err),
                     BH_E_EXISTS); /* never a file of somebody's */
}

static int wake = -1;

static void signal_later(void *context) {
    (void)context;
    os_sleep_us(20000);
    os_wake_signal(wake);
}

static void readiness_and_wake_ups_are_told(void **state) {
    (void)state;
    struct os_poller poller;
    struct os_ready_event events[4];
    struct os_thread thread;
    int pair[2];
    assert_int_equal(os_poller_open(&poller), 0);
    assert_int_equal(os_wake_open(&wake), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    assert_int_equal(os_poller_add(poller, wake, UINT64_MAX, OS_READY_IN), 0);
    assert_int_equal(os_poller_add(poller, pair[0], 5, OS_READY_IN), 0);
    assert_int_equal(os_poller_wait(poller, events, 4, 0), 0);
    os_wake_signal(wake);
    os_wake_signal(wake);
    assert_int_equal(os_poller_wait(poller, events, 4, 1000), 1);
    assert_true(events[0].tag == UINT64_MAX && events[0].ready == OS_READY_IN);
    os_wake_drain(wake);
    assert_int_equal(os_poller_wait(poller, events, 4, 0), 0);
    assert_int_equal(os_poller_change(poller, pair[0], 6, OS_READY_IN | OS_READY_OUT), 0);
    assert_int_equal(os_poller_wait(poller, events, 4, 0), 1);
    assert_true(events[0].tag == 6 && events[0].ready == OS_READY_OUT);
    os_close(pair[1]);
    assert_int_equal(os_poller_wait(poller, events, 4, 1000), 1);
    assert_true((events[0].ready & OS_READY_ERROR) != 0);
    os_poller_remove(poller, pair[0]);
    assert_int_equal(os_poller_wait(poller, events, 4, 0), 0);
    os_close(pair[0]);
    os_poller_remove(poller, pair[0]); /* gone already: no harm */
    assert_false(os_wake_wait(wake, 5));
    assert_int_equal(os_thread_start(&thread, "signaller", 0, signal_later, NULL), 0);
    assert_true(os_wake_wait(wake, 5000));
    assert_false(os_wake_wait(wake, 0));
    os_thread_join(&thread);
    os_close(wake);
    os_poller_close(&poller);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_are_read_or_refused),
        cmocka_unit_test(a_port_is_shared_only_when_asked),
        cmocka_unit_test(bytes_and_ends_of_streams_arrive),
        cmocka_unit_test(breaking_purges_what_was_not_sent),
        cmocka_unit_test(a_unix_socket_is_private_and_replaces_a_dead_one),
        cmocka_unit_test(readiness_and_wake_ups_are_told),
    };
    return cmocka_run_group_tests_name("os_socket", tests, set_up, tear_down);
}
