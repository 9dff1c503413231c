#define _GNU_SOURCE
#include "os/outbound.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "os/socket.h"

_Static_assert((int)OS_ADDRESS_TEXT >= INET6_ADDRSTRLEN, "every address has room");

bool os_host_is_numeric(const char *host) {
    uint8_t address[16];
    return inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1 ||
           strcmp(host, "localhost") == 0;
}

int os_resolve_host(const char *host, struct os_address_text *addresses, size_t cap,
                    size_t *ret_count) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    size_t count = 0;
    if (getaddrinfo(host, NULL, &hints, &found) != 0) {
        return BH_E_NOTFOUND;
    }
    for (const struct addrinfo *at = found; at != NULL && count < cap; at = at->ai_next) {
        if (getnameinfo(at->ai_addr, at->ai_addrlen, addresses[count].text, OS_ADDRESS_TEXT, NULL,
                        0, NI_NUMERICHOST) == 0) {
            count++;
        }
    }
    freeaddrinfo(found);
    *ret_count = count;
    return count != 0 ? 0 : BH_E_NOTFOUND;
}

int os_outbound_open(int family, int *ret_fd) {
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);
    if (fd < 0) {
        return BH_E_IO;
    }
    *ret_fd = fd;
    return 0;
}

void os_outbound_sever(int fd, int dead_fd) {
    int held = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (held < 0) {
        /* No descriptor left: breaking alone still throws away what waits. */
        (void)os_socket_break(fd);
        return;
    }
    int put = dup3(dead_fd, fd, O_CLOEXEC);
    check(put == fd);
    /* A socket that was never connected has nothing to break. */
    (void)os_socket_break(held);
    os_close(held);
}

bool os_outbound_is_quiet(int fd) {
    struct pollfd poll_fd = {fd, POLLIN | POLLRDHUP, 0};
    return poll(&poll_fd, 1, 0) == 0;
}
