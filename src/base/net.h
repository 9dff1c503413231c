/*
 * Addresses of the internet, ranges of them, and which of them are public. Pure: text and bytes, no look-up, no socket.
 *
 * An address is 16 bytes: IPv6, or IPv4 as ::ffff:a.b.c.d. Text is read strictly: four decimal numbers for IPv4 (no octal, no hexadecimal,
 * nothing left out), RFC 4291 for IPv6, no zone.
 * Any thread (no shared state).
 */
#ifndef BH_BASE_NET_H
#define BH_BASE_NET_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"

enum { NET_TEXT_MAX = 48 }; /* the longest address as text, and its end */

struct net {
    uint8_t address[16];
    uint8_t bits; /* of the 128 */
};

/* "192.0.2.7", "192.0.2.0/24", "2001:db8::/32", "::1": false for what is none, or has bits set behind its length. */
bool net_parse(struct span text, struct net *ret_net);
bool net_has(const struct net *net, const uint8_t address[16]);
/*
 * Whether a host of the open internet may have the address. Not public: what IANA's registries of special addresses hold back (private,
 * shared, loopback, link-local, documentation, benchmarks, multicast, reserved), the tunnels that carry an IPv4 address within (6to4, Teredo,
 * IPv4-compatible), NAT64 of what is not public, and the one public address at which a cloud answers for its own machines.
 */
bool net_is_public(const uint8_t address[16]);
/* Whether it is ::ffff:a.b.c.d. */
bool net_is_v4(const uint8_t address[16]);
/* As net_parse reads it; without end. */
void net_put_address(const uint8_t address[16], struct buf *out);

#endif
