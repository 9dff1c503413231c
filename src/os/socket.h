/*
 * Sockets, readiness and wake-ups: everything that engine/http and the gateway need of the kernel's
 * network side.
 *
 * Non-blocking always, close-on-exec always. Functions return 0 or more, or a negative BH_E_ code;
 * AGAIN where the kernel would block, CLOSED for a peer that is gone. A poller belongs to one
 * thread; a wake may be signalled by any thread.
 */
#ifndef BH_OS_SOCKET_H
#define BH_OS_SOCKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/errors.h"

struct os_peer {
    uint8_t address[16]; /* IPv6, IPv4 as ::ffff:a.b.c.d, all zero for a Unix socket */
    uint16_t port;
};

/* "127.0.0.1:8080", "[::1]:8080", "unix:/path" or "unix:relative" (the caller makes it absolute).
 * reuse_port = SO_REUSEPORT. A Unix socket gets mode 0600 and replaces a dead one. Port 0 takes a
 * free one. */
int os_listen(const char *address, bool reuse_port, int *ret_fd, struct err *err) BH_MUST_USE;
/* Whether os_listen would take the text for an address. */
bool os_address_is_valid(const char *address);
int os_local_port(int fd, uint16_t *ret_port) BH_MUST_USE;
int os_accept(int listener, int *ret_fd, struct os_peer *ret_peer) BH_MUST_USE;
int os_connect_unix(const char *path, int *ret_fd) BH_MUST_USE; /* blocking; for the command line */
long os_recv(int fd, void *p, size_t n);       /* bytes, 0 = peer's end of stream, or negative */
long os_send(int fd, const void *p, size_t n); /* bytes or negative; never raises SIGPIPE */
long os_send_vec(int fd, const struct span *parts, size_t count);
/* No more will be sent: the peer reads the end of the stream after what was sent. */
void os_shutdown_send(int fd);
void os_close(int fd);
/* Unlinks both directions and purges the send queue: RST to the peer. The fd stays open and
 * useless. */
int os_socket_break(int fd);
void os_close_reset(int fd); /* close with RST */
/* One blocking write of all, and a read, for the command line's use of the admin socket. */
int os_send_all(int fd, const void *p, size_t n) BH_MUST_USE;

enum os_ready { OS_READY_IN = 1, OS_READY_OUT = 2, OS_READY_ERROR = 4 };

struct os_ready_event {
    uint64_t tag;
    unsigned ready;
};

struct os_poller {
    int fd;
};

int os_poller_open(struct os_poller *ret_poller) BH_MUST_USE;
void os_poller_close(struct os_poller *poller);
int os_poller_add(struct os_poller poller, int fd, uint64_t tag, unsigned ready) BH_MUST_USE;
int os_poller_change(struct os_poller poller, int fd, uint64_t tag, unsigned ready) BH_MUST_USE;
void os_poller_remove(struct os_poller poller, int fd);
/* Waits up to timeout_ms (-1 = for ever); number of events, 0 at the time-out. */
int os_poller_wait(struct os_poller poller, struct os_ready_event *events, int count,
                   int timeout_ms);

/* A wake-up: an eventfd. signal never blocks; drain makes it quiet again. */
int os_wake_open(int *ret_fd) BH_MUST_USE;
void os_wake_signal(int fd);
void os_wake_drain(int fd);
/* Blocks until a wake is signalled or timeout_ms passed; true when signalled. Drains it. */
bool os_wake_wait(int fd, int timeout_ms);

#endif
