/*
 * Sockets to the world outside: names to addresses, a socket to connect, and ways to make it useless.
 *
 * os_resolve_host may take as long as the machine's resolver pleases; it belongs on a thread that nobody waits for.
 * All else returns at once. Any thread.
 */
#ifndef BH_OS_OUTBOUND_H
#define BH_OS_OUTBOUND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/errors.h"

enum { OS_ADDRESS_TEXT = 48 };

/* One numeric address: "192.0.2.7" or "2001:db8::7". */
struct os_address_text {
    char text[OS_ADDRESS_TEXT];
};

/* Whether a host of a URL (IPv6 without brackets) needs no look-up: a numeric address, or localhost. */
bool os_host_is_numeric(const char *host);
/* Addresses of a host for TCP, in the order to try. NOTFOUND; at most cap of them. */
int os_resolve_host(const char *host, struct os_address_text *addresses, size_t cap,
                    size_t *ret_count) BH_MUST_USE;

/* The address in a sockaddr, IPv4 as ::ffff:a.b.c.d; false when it is of neither family. */
bool os_address_bytes(const void *sockaddr, uint8_t ret_address[16]);

/* A TCP socket that is not connected; `family` as in a sockaddr. */
int os_outbound_open(int family, int *ret_fd) BH_MUST_USE;
/* A second descriptor of the same socket, whatever becomes of the first. */
int os_outbound_share(int fd, int *ret_fd) BH_MUST_USE;
/* Whether two numbers mean the same socket; no when one of them is closed, or another file by now. */
bool os_outbound_is_same(int a, int b);
/*
 * Nothing leaves through this socket any more, by whichever descriptor and whatever another thread does with it at
 * this moment: it takes nothing from the network (a connect that follows is never answered), the connection is reset,
 * what was queued is thrown away, and a later send fails. Descriptors stay open until their owners close them.
 */
void os_outbound_sever(int fd);
/* Whether an idle connection has nothing to read, no end and no error: else it may not be used again. */
bool os_outbound_is_quiet(int fd);

#endif
