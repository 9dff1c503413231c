#define _GNU_SOURCE
#include "os/outbound.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

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

bool os_address_bytes(const void *sockaddr, uint8_t ret_address[16]) {
    const struct sockaddr *any = sockaddr;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    if (any->sa_family == AF_INET) {
        memcpy(&v4, sockaddr, sizeof v4);
        memset(ret_address, 0, 10);
        memset(ret_address + 10, 0xff, 2);
        memcpy(ret_address + 12, &v4.sin_addr, 4);
        return true;
    }
    if (any->sa_family == AF_INET6) {
        memcpy(&v6, sockaddr, sizeof v6);
        memcpy(ret_address, &v6.sin6_addr, 16);
        return true;
    }
    return false;
}

int os_outbound_open(int family, int *ret_fd) {
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);
    if (fd < 0) {
        return BH_E_IO;
    }
    *ret_fd = fd;
    return 0;
}

int os_outbound_share(int fd, int *ret_fd) {
    int shared = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (shared < 0) {
        return BH_E_IO;
    }
    *ret_fd = shared;
    return 0;
}

bool os_outbound_is_same(int a, int b) {
    struct stat one;
    struct stat two;
    return fstat(a, &one) == 0 && fstat(b, &two) == 0 && one.st_dev == two.st_dev &&
           one.st_ino == two.st_ino;
}

void os_outbound_sever(int fd) {
    struct sock_filter nothing = BPF_STMT(BPF_RET | BPF_K, 0);
    struct sock_fprog filter = {1, &nothing};
    /* Without memory for a filter the other two still hold: no byte leaves, only a handshake could. */
    (void)setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter);
    (void)os_socket_break(fd);
    /* Says that it is not connected, and forbids sending after a connect all the same. */
    (void)shutdown(fd, SHUT_RDWR);
}

bool os_outbound_is_quiet(int fd) {
    struct pollfd poll_fd = {fd, POLLIN | POLLRDHUP, 0};
    return poll(&poll_fd, 1, 0) == 0;
}
