#define _GNU_SOURCE
#include "os/socket.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/check.h"

enum { BACKLOG = 1024, PARTS_MAX = 64, EVENTS_MAX = 256, UNIX_PREFIX = 5 };

union any_address {
    struct sockaddr base;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    struct sockaddr_un un;
};

static long code_of_errno(void) {
    switch (errno) {
    case EAGAIN:
        return BH_E_AGAIN;
    case EPIPE:
    case ECONNRESET:
    case ECONNABORTED:
    case ENOTCONN:
    case ESHUTDOWN:
    case ETIMEDOUT:
    case EBADF:
        return BH_E_CLOSED;
    default:
        return BH_E_IO;
    }
}

static bool parse_unix(const char *path, union any_address *ret_address, socklen_t *ret_size) {
    size_t n = strlen(path);
    if (n == 0 || n >= sizeof ret_address->un.sun_path) {
        return false;
    }
    memset(ret_address, 0, sizeof *ret_address);
    ret_address->un.sun_family = AF_UNIX;
    memcpy(ret_address->un.sun_path, path, n + 1);
    *ret_size = (socklen_t)sizeof ret_address->un;
    return true;
}

/* -- addresses to listen on ------------------------------------------------------------------------ */

/* host:port with a numeric host (or localhost), IPv6 in brackets. */
static bool parse_inet(const char *text, union any_address *ret_address, socklen_t *ret_size) {
    const char *colon = strrchr(text, ':');
    uint64_t port = 0;
    char host[64];
    if (colon == NULL || !span_to_u64(span_str(colon + 1), &port) || port > UINT16_MAX) {
        return false;
    }
    struct span name = span_of(text, (size_t)(colon - text));
    bool bracketed = name.n > 2 && name.p[0] == '[' && name.p[name.n - 1] == ']';
    if (bracketed) {
        name = span_cut(name, 1, name.n - 2);
    }
    if (name.n == 0 || name.n >= sizeof host) {
        return false;
    }
    memcpy(host, name.p, name.n);
    host[name.n] = 0;
    memset(ret_address, 0, sizeof *ret_address);
    if (bracketed) {
        ret_address->v6.sin6_family = AF_INET6;
        ret_address->v6.sin6_port = htons((uint16_t)port);
        *ret_size = (socklen_t)sizeof ret_address->v6;
        return inet_pton(AF_INET6, host, &ret_address->v6.sin6_addr) == 1;
    }
    ret_address->v4.sin_family = AF_INET;
    ret_address->v4.sin_port = htons((uint16_t)port);
    *ret_size = (socklen_t)sizeof ret_address->v4;
    return inet_pton(AF_INET, span_is(name, "localhost") ? "127.0.0.1" : host,
                     &ret_address->v4.sin_addr) == 1;
}

/* Removes a Unix socket that nobody listens on any more; BUSY when somebody does. */
static int clear_dead_socket(const union any_address *address, socklen_t size) {
    struct stat st;
    if (lstat(address->un.sun_path, &st) != 0) {
        return 0;
    }
    if (!S_ISSOCK(st.st_mode)) {
        return BH_E_EXISTS;
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return BH_E_IO;
    }
    int connected = connect(fd, &address->base, size);
    int saved = errno;
    (void)close(fd);
    if (connected == 0 || saved != ECONNREFUSED) {
        return BH_E_BUSY;
    }
    return unlink(address->un.sun_path) == 0 ? 0 : BH_E_IO;
}

static int bind_and_listen(int fd, const union any_address *address, socklen_t size,
                           bool reuse_port) {
    int on = 1;
    if (address->base.sa_family == AF_UNIX) {
        int code = clear_dead_socket(address, size);
        if (code != 0) {
            return code;
        }
        /* Linux takes the mode of the socket file from the socket; no moment at which others may
         * connect. */
        if (fchmod(fd, 0600) != 0) {
            return BH_E_IO;
        }
    } else {
        if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
            (reuse_port && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) != 0)) {
            return BH_E_IO;
        }
    }
    if (bind(fd, &address->base, size) != 0 || listen(fd, BACKLOG) != 0) {
        return errno == EADDRINUSE ? BH_E_BUSY : errno == EACCES ? BH_E_DENIED : BH_E_IO;
    }
    return 0;
}

static bool parse_any(const char *address, union any_address *ret_parsed, socklen_t *ret_size) {
    return strncmp(address, "unix:", UNIX_PREFIX) == 0
               ? parse_unix(address + UNIX_PREFIX, ret_parsed, ret_size)
               : parse_inet(address, ret_parsed, ret_size);
}

bool os_address_is_valid(const char *address) {
    union any_address parsed;
    socklen_t size = 0;
    return parse_any(address, &parsed, &size);
}

int os_listen(const char *address, bool reuse_port, int *ret_fd, struct err *err) {
    union any_address parsed;
    socklen_t size = 0;
    if (!parse_any(address, &parsed, &size)) {
        return err_set(err, BH_E_SYNTAX,
                       "%s is no address: expected 127.0.0.1:8080, [::1]:8080 or unix:/path",
                       address);
    }
    int fd = socket(parsed.base.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return err_set(err, BH_E_IO, "cannot make a socket for %s", address);
    }
    int code = bind_and_listen(fd, &parsed, size, reuse_port);
    if (code != 0) {
        (void)err_set(err, code, "cannot listen on %s: %s", address,
                      code == BH_E_BUSY ? "something else listens there" : bh_error_text(code));
        (void)close(fd);
        return code;
    }
    *ret_fd = fd;
    return 0;
}

int os_local_port(int fd, uint16_t *ret_port) {
    union any_address address;
    socklen_t size = sizeof address;
    memset(&address, 0, sizeof address);
    if (getsockname(fd, &address.base, &size) != 0) {
        return BH_E_IO;
    }
    if (address.base.sa_family == AF_INET) {
        *ret_port = ntohs(address.v4.sin_port);
    } else if (address.base.sa_family == AF_INET6) {
        *ret_port = ntohs(address.v6.sin6_port);
    } else {
        return BH_E_NOTFOUND;
    }
    return 0;
}

static void peer_of(const union any_address *address, struct os_peer *ret_peer) {
    memset(ret_peer, 0, sizeof *ret_peer);
    if (address->base.sa_family == AF_INET) {
        ret_peer->address[10] = 0xff;
        ret_peer->address[11] = 0xff;
        memcpy(ret_peer->address + 12, &address->v4.sin_addr, 4);
        ret_peer->port = ntohs(address->v4.sin_port);
    } else if (address->base.sa_family == AF_INET6) {
        memcpy(ret_peer->address, &address->v6.sin6_addr, 16);
        ret_peer->port = ntohs(address->v6.sin6_port);
    }
}

int os_accept(int listener, int *ret_fd, struct os_peer *ret_peer) {
    union any_address address;
    socklen_t size = sizeof address;
    memset(&address, 0, sizeof address);
    int fd = -1;
    do {
        fd = accept4(listener, &address.base, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
    } while (fd < 0 && errno == EINTR);
    if (fd < 0) {
        /* A connection that was reset before we took it is no error of the listener. */
        return errno == ECONNABORTED                ? BH_E_AGAIN
               : errno == EMFILE || errno == ENFILE ? BH_E_FULL
                                                    : (int)code_of_errno();
    }
    if (address.base.sa_family != AF_UNIX) {
        int on = 1;
        /* A reply is one send; waiting for more would only delay it. */
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    }
    peer_of(&address, ret_peer);
    *ret_fd = fd;
    return 0;
}

int os_connect_unix(const char *path, int *ret_fd) {
    union any_address address;
    socklen_t size = 0;
    if (!parse_unix(path, &address, &size)) {
        return BH_E_SYNTAX;
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return BH_E_IO;
    }
    if (connect(fd, &address.base, size) != 0) {
        int code = errno == ENOENT || errno == ECONNREFUSED ? BH_E_NOTFOUND
                   : errno == EACCES                        ? BH_E_DENIED
                                                            : BH_E_IO;
        (void)close(fd);
        return code;
    }
    *ret_fd = fd;
    return 0;
}

long os_recv(int fd, void *p, size_t n) {
    ssize_t got = 0;
    do {
        got = recv(fd, p, n, 0);
    } while (got < 0 && errno == EINTR);
    return got >= 0 ? (long)got : code_of_errno();
}

long os_send(int fd, const void *p, size_t n) {
    ssize_t put = 0;
    do {
        put = send(fd, p, n, MSG_NOSIGNAL);
    } while (put < 0 && errno == EINTR);
    return put >= 0 ? (long)put : code_of_errno();
}

long os_send_vec(int fd, const struct span *parts, size_t count) {
    union {
        const void *from;
        void *to;
    } base;
    struct iovec vec[PARTS_MAX];
    size_t used = count < PARTS_MAX ? count : PARTS_MAX;
    for (size_t i = 0; i < used; i++) {
        base.from = parts[i].p; /* iovec knows no const; sendmsg does not write */
        vec[i] = (struct iovec){base.to, parts[i].n};
    }
    struct msghdr message = {.msg_iov = vec, .msg_iovlen = used};
    ssize_t put = 0;
    do {
        put = sendmsg(fd, &message, MSG_NOSIGNAL);
    } while (put < 0 && errno == EINTR);
    return put >= 0 ? (long)put : code_of_errno();
}

void os_shutdown_send(int fd) {
    /* Fails only for a peer that is gone, which the next call shows. */
    (void)shutdown(fd, SHUT_WR);
}

void os_close(int fd) {
    if (fd >= 0) {
        (void)close(fd);
    }
}

int os_socket_break(int fd) {
    struct sockaddr none = {.sa_family = AF_UNSPEC};
    return connect(fd, &none, sizeof none) == 0 ? 0 : (int)code_of_errno();
}

void os_close_reset(int fd) {
    struct linger now = {1, 0};
    (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    os_close(fd);
}

int os_send_all(int fd, const void *p, size_t n) {
    const uint8_t *at = (const uint8_t *)p;
    while (n != 0) {
        long put = os_send(fd, at, n);
        if (put < 0) {
            return (int)put;
        }
        at += put;
        n -= (size_t)put;
    }
    return 0;
}

int os_poller_open(struct os_poller *ret_poller) {
    int fd = epoll_create1(EPOLL_CLOEXEC);
    if (fd < 0) {
        return BH_E_IO;
    }
    *ret_poller = (struct os_poller){fd};
    return 0;
}

void os_poller_close(struct os_poller *poller) {
    os_close(poller->fd);
    poller->fd = -1;
}

static int poller_control(struct os_poller poller, int operation, int fd, uint64_t tag,
                          unsigned ready) {
    struct epoll_event event = {.data.u64 = tag};
    event.events |= (ready & OS_READY_IN) != 0 ? (uint32_t)EPOLLIN : 0U;
    event.events |= (ready & OS_READY_OUT) != 0 ? (uint32_t)EPOLLOUT : 0U;
    return epoll_ctl(poller.fd, operation, fd, &event) == 0 ? 0 : BH_E_IO;
}

int os_poller_add(struct os_poller poller, int fd, uint64_t tag, unsigned ready) {
    return poller_control(poller, EPOLL_CTL_ADD, fd, tag, ready);
}

int os_poller_change(struct os_poller poller, int fd, uint64_t tag, unsigned ready) {
    return poller_control(poller, EPOLL_CTL_MOD, fd, tag, ready);
}

void os_poller_remove(struct os_poller poller, int fd) {
    /* It may have left with its last close; then there is nothing to remove. */
    (void)epoll_ctl(poller.fd, EPOLL_CTL_DEL, fd, NULL);
}

int os_poller_wait(struct os_poller poller, struct os_ready_event *events, int count,
                   int timeout_ms) {
    struct epoll_event found[EVENTS_MAX];
    check(count > 0);
    int n = epoll_wait(poller.fd, found, count < EVENTS_MAX ? count : EVENTS_MAX, timeout_ms);
    if (n < 0) {
        return errno == EINTR ? 0 : BH_E_IO;
    }
    for (int i = 0; i < n; i++) {
        uint32_t bits = found[i].events;
        unsigned ready = (bits & EPOLLIN) != 0 ? OS_READY_IN : 0U;
        ready |= (bits & EPOLLOUT) != 0 ? OS_READY_OUT : 0U;
        ready |= (bits & (EPOLLERR | EPOLLHUP)) != 0 ? OS_READY_ERROR : 0U;
        events[i] = (struct os_ready_event){found[i].data.u64, ready};
    }
    return n;
}

int os_wake_open(int *ret_fd) {
    int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (fd < 0) {
        return BH_E_IO;
    }
    *ret_fd = fd;
    return 0;
}

void os_wake_signal(int fd) {
    uint64_t one = 1;
    /* Full means that 2^64 - 2 signals wait already: it is readable, which is all that counts. */
    ssize_t ignored = write(fd, &one, sizeof one);
    (void)ignored;
}

void os_wake_drain(int fd) {
    uint64_t count = 0;
    ssize_t ignored = read(fd, &count, sizeof count);
    (void)ignored;
}

bool os_wake_wait(int fd, int timeout_ms) {
    struct pollfd poll_fd = {fd, POLLIN, 0};
    if (poll(&poll_fd, 1, timeout_ms) <= 0) {
        return false;
    }
    os_wake_drain(fd);
    return true;
}
