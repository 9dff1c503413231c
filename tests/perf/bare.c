/* depends: json base */
/*
 * The bare limit: the simplest correct program that keeps what it acknowledges. Bulkhead is measured against it.
 *
 *   bare [--port 0] [--file bare.data] [--file-mib 4096] [--no-sync]
 *
 * One thread. A round: wait for sockets, read those that are ready, frame requests by Content-Length, validate the JSON of each
 * once, copy the body to a preallocated file; then one fdatasync for all of the round, then the replies. It knows no limits, no
 * time-outs, no chunked bodies and no hostile peers, and its file starts again at the front when it is full: nothing is left
 * out that durable acknowledgement needs, and nothing else is in. It says "port N" when it listens, and ends with SIGTERM.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine/json/json.h"

enum {
    CONNECTIONS_MAX = 1024,
    REQUEST_MAX = 1024 * 1024,
    TOKENS_MAX = 256 * 1024,
    EVENTS = 256,
    LISTENER = CONNECTIONS_MAX,
    DEPTH_MAX = 32
};

struct connection {
    int fd; /* 0 = free */
    bool answered_400;
    size_t size;
    uint8_t *bytes; /* REQUEST_MAX */
};

static struct connection connections[CONNECTIONS_MAX];
static unsigned
    owed[CONNECTIONS_MAX]; /* whose requests of this round are written and not yet acknowledged */
static unsigned owed_count;
static struct json_token tokens[TOKENS_MAX];
static int poller;
static int file;
static uint64_t file_size = UINT64_C(4096) << 20;
static uint64_t file_at;
static bool syncs = true;
static uint64_t requests;
static uint64_t rounds;
static volatile sig_atomic_t ended;

static void on_signal(int number) {
    (void)number;
    ended = 1;
}

_Noreturn static void die(const char *what) {
    perror(what);
    exit(2);
}

static void watch(int fd, unsigned tag) {
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = tag};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event) != 0) {
        die("epoll_ctl");
    }
}

static void on_listener(int listener) {
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
        return;
    }
    unsigned slot = 0;
    while (slot < CONNECTIONS_MAX && connections[slot].fd != 0) {
        slot++;
    }
    if (slot == CONNECTIONS_MAX) {
        close(fd);
        return;
    }
    struct connection *c = &connections[slot];
    if (c->bytes == NULL) {
        c->bytes = malloc(REQUEST_MAX);
        if (c->bytes == NULL) {
            die("malloc");
        }
    }
    c->fd = fd;
    c->size = 0;
    int on = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    watch(fd, slot);
}

static void hang_up(struct connection *c) {
    close(c->fd);
    c->fd = 0;
}

static void answer(struct connection *c, const char *text) {
    size_t n = strlen(text);
    if (send(c->fd, text, n, MSG_NOSIGNAL) != (ssize_t)n) {
        hang_up(c);
    }
}

static void keep(const uint8_t *body, size_t n) {
    if (file_at + n > file_size) {
        file_at = 0;
    }
    if (pwrite(file, body, n, (off_t)file_at) != (ssize_t)n) {
        die("pwrite");
    }
    file_at += n;
}

static void on_readable(struct connection *c) {
    ssize_t got = recv(c->fd, c->bytes + c->size, REQUEST_MAX - c->size, 0);
    if (got <= 0) {
        if (got == 0 || errno != EAGAIN) {
            hang_up(c);
        }
        return;
    }
    c->size += (size_t)got;
    const uint8_t *end = memmem(c->bytes, c->size, "\r\n\r\n", 4);
    if (end == NULL) {
        return;
    }
    size_t head = (size_t)(end - c->bytes) + 4;
    const char *length = memmem(c->bytes, head, "\r\nContent-Length:", 17);
    size_t body = length != NULL ? strtoul(length + 17, NULL, 10) : 0;
    if (head + body > REQUEST_MAX) {
        hang_up(c);
        return;
    }
    if (c->size < head + body) {
        return;
    }
    size_t count = 0;
    size_t offset = 0;
    c->answered_400 = json_parse(span_of(c->bytes + head, body), DEPTH_MAX, tokens, TOKENS_MAX,
                                 &count, &offset) != 0;
    if (!c->answered_400) {
        keep(c->bytes + head, body);
    }
    c->size = 0; /* no pipelining: the client waits for its answer */
    owed[owed_count++] = (unsigned)(c - connections);
}

static void end_round(void) {
    if (owed_count == 0) {
        return;
    }
    if (syncs && fdatasync(file) != 0) {
        die("fdatasync");
    }
    requests += owed_count;
    rounds++;
    for (unsigned i = 0; i < owed_count; i++) {
        struct connection *c = &connections[owed[i]];
        answer(c, c->answered_400 ? "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"
                                  : "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1");
    }
    owed_count = 0;
}

static int listen_on(unsigned port) {
    union {
        struct sockaddr_in in;
        struct sockaddr any;
    } address = {{.sin_family = AF_INET,
                  .sin_port = htons((uint16_t)port),
                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof address.in;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int on = 1;
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        bind(fd, &address.any, size) != 0 || listen(fd, 1024) != 0 ||
        getsockname(fd, &address.any, &size) != 0) {
        die("listen");
    }
    printf("port %u\n", (unsigned)ntohs(address.in.sin_port));
    (void)fflush(stdout);
    return fd;
}

static void open_file(const char *path) {
    file = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (file < 0) {
        die(path);
    }
    int rc = posix_fallocate(file, 0, (off_t)file_size);
    if (rc != 0 || fsync(file) != 0) {
        errno = rc != 0 ? rc : errno;
        die("preallocating the file");
    }
}

int main(int argc, char **argv) {
    unsigned port = 0;
    const char *path = "bare.data";
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--no-sync") == 0) {
            syncs = false;
        } else if (i + 1 < argc && strcmp(argv[i], "--port") == 0) {
            port = (unsigned)strtoul(argv[++i], NULL, 10);
        } else if (i + 1 < argc && strcmp(argv[i], "--file") == 0) {
            path = argv[++i];
        } else if (i + 1 < argc && strcmp(argv[i], "--file-mib") == 0) {
            file_size = strtoull(argv[++i], NULL, 10) << 20;
        } else {
            fputs("bare [--port N] [--file PATH] [--file-mib N] [--no-sync]\n", stderr);
            return 2;
        }
    }
    struct sigaction action = {.sa_handler = on_signal}; /* no SA_RESTART: it must end the wait */
    (void)sigaction(SIGTERM, &action, NULL);
    (void)sigaction(SIGINT, &action, NULL);
    open_file(path);
    poller = epoll_create1(EPOLL_CLOEXEC);
    if (poller < 0) {
        die("epoll_create1");
    }
    int listener = listen_on(port);
    watch(listener, LISTENER);
    while (!ended) {
        struct epoll_event events[EVENTS];
        int n = epoll_wait(poller, events, EVENTS, -1);
        for (int i = 0; i < n; i++) {
            if (events[i].data.u32 == LISTENER) {
                on_listener(listener);
            } else if (connections[events[i].data.u32].fd != 0) {
                on_readable(&connections[events[i].data.u32]);
            }
        }
        end_round();
    }
    fprintf(stderr, "bare: %llu requests in %llu rounds\n", (unsigned long long)requests,
            (unsigned long long)rounds);
    return 0;
}
