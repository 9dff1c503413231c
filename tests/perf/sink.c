/* depends: */
/*
 * A receiver that is believed about what reached the machine: it reports the kernel's own count of received bytes.
 *
 * Purpose: after a cut not one byte more may reach a vendor. A program that counts what it reads cannot tell what lies unread in its
 * kernel, so every millisecond this one asks each connection's tcpi_bytes_received and prints a JSON line when the sum has changed:
 *
 *   {"since_us":N,"before_us":N,"after_us":N,"connections":N,"open":N,"bytes":N}
 *
 * The times are CLOCK_MONOTONIC: what is new in a line arrived between since_us, when the look before this one began, and after_us.
 *
 * Modes: answer (reads, answers as Mixpanel does), trickle (reads a few bytes a millisecond into a small window), hang-tls (never
 * reads), hang-body (reads the head, then nothing). Standard input takes "mode NAME", "sample" and "quit". Loopback only.
 *
 *   sink PORT MODE
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CONNECTIONS_MAX = 1024, HEAD_MAX = 16384, TRICKLE_BYTES = 64, KEEP_CLOSED_US = 500000 };
/* <netinet/tcp.h> names these but has no tcpi_bytes_received; <linux/tcp.h> has it the other way round. */
enum { STATE_CLOSE = 7, STATE_CLOSE_WAIT = 8 };
enum mode { MODE_ANSWER, MODE_TRICKLE, MODE_HANG_TLS, MODE_HANG_BODY };

static const char *const mode_names[] = {"answer", "trickle", "hang-tls", "hang-body"};

struct connection {
    int fd; /* -1: free */
    bool ended;
    bool fin; /* a FIN takes a sequence number, which the kernel counts as a byte */
    bool in_body;
    bool is_import;
    uint64_t ended_us;
    uint64_t body_left;
    uint64_t bytes; /* by the kernel's count, at the last look */
    size_t head_size;
    char head[HEAD_MAX + 1];
};

struct sink {
    int listener;
    enum mode mode;
    bool quit;
    uint64_t accepted;
    uint64_t gone_bytes; /* of connections that were let go */
    uint64_t printed_bytes;
    uint64_t printed_accepted;
    uint64_t looked_us;
    struct connection connections[CONNECTIONS_MAX];
};

static uint64_t now_us(void) {
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000U + (uint64_t)t.tv_nsec / 1000U;
}

static int mode_parse(const char *name) {
    for (int i = 0; i < 4; i++) {
        if (strcmp(name, mode_names[i]) == 0) {
            return i;
        }
    }
    return -1;
}

static int listen_on(uint16_t port, enum mode mode) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int one = 1;
    int small = 4096;
    struct sockaddr_in at = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) != 0) {
        return -1;
    }
    /* A small window keeps most of a body at the sender, where a cut must catch it. */
    if (mode != MODE_ANSWER && setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small) != 0) {
        return -1;
    }
    if (bind(fd, (struct sockaddr *)&at, sizeof at) != 0 || listen(fd, 128) != 0) {
        return -1;
    }
    return fd;
}

static void accept_all(struct sink *s) {
    for (int i = 0; i < CONNECTIONS_MAX; i++) {
        struct connection *c = &s->connections[i];
        if (c->fd >= 0) {
            continue;
        }
        int fd = accept4(s->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            return;
        }
        memset(c, 0, sizeof *c);
        c->fd = fd;
        s->accepted++;
    }
}

static void ended(struct connection *c) {
    if (!c->ended) {
        c->ended = true;
        c->ended_us = now_us();
    }
}

static void look(struct connection *c, const struct tcp_info *info) {
    c->fin = c->fin || info->tcpi_state == STATE_CLOSE_WAIT;
    uint64_t bytes =
        info->tcpi_bytes_received - (c->fin && info->tcpi_bytes_received > 0 ? 1U : 0U);
    c->bytes = bytes > c->bytes ? bytes : c->bytes;
    if (info->tcpi_state == STATE_CLOSE || info->tcpi_state == STATE_CLOSE_WAIT) {
        ended(c);
    }
}

/* The sum over all connections ever; a socket that was reset still knows what it had received. */
static void sample(struct sink *s, bool always) {
    uint64_t before = now_us();
    uint64_t sum = s->gone_bytes;
    unsigned open = 0;
    for (int i = 0; i < CONNECTIONS_MAX; i++) {
        struct connection *c = &s->connections[i];
        if (c->fd < 0) {
            continue;
        }
        struct tcp_info info = {0};
        socklen_t size = sizeof info;
        if (getsockopt(c->fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0) {
            look(c, &info);
        }
        sum += c->bytes;
        open += c->ended ? 0U : 1U;
    }
    if (always || sum != s->printed_bytes || s->accepted != s->printed_accepted) {
        printf(
            "{\"since_us\":%llu,\"before_us\":%llu,\"after_us\":%llu,\"connections\":%llu,\"open\":%u,\"bytes\":%llu}\n",
            (unsigned long long)s->looked_us, (unsigned long long)before,
            (unsigned long long)now_us(), (unsigned long long)s->accepted, open,
            (unsigned long long)sum);
        s->printed_bytes = sum;
        s->printed_accepted = s->accepted;
    }
    s->looked_us = before;
}

static void say(struct connection *c, const char *text) {
    /* An answer is far smaller than a socket's buffer; a peer that is gone is noticed by the next read. */
    (void)!write(c->fd, text, strlen(text));
}

static void answer(struct connection *c) {
    const char *body = c->is_import ? "{\"code\":200,\"num_records_imported\":0,\"status\":\"OK\"}"
                                    : "{\"error\":null,\"status\":1}";
    char reply[256];
    (void)snprintf(
        reply, sizeof reply,
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
        strlen(body), body);
    say(c, reply);
    c->in_body = false;
    c->head_size = 0;
}

/* Takes the head in; true when it is complete. What follows it belongs to the body. */
static bool head_complete(struct connection *c) {
    c->head[c->head_size] = '\0';
    char *end = strstr(c->head, "\r\n\r\n");
    if (end == NULL) {
        return false;
    }
    const char *length = strcasestr(c->head, "\r\ncontent-length:");
    c->body_left = length != NULL && length < end ? strtoull(length + 17, NULL, 10) : 0;
    c->is_import = strncmp(c->head, "POST /import", 12) == 0;
    c->in_body = true;
    if (strcasestr(c->head, "\r\nexpect:") != NULL) {
        say(c, "HTTP/1.1 100 Continue\r\n\r\n");
    }
    size_t extra = c->head_size - (size_t)(end + 4 - c->head);
    c->body_left -= extra < c->body_left ? extra : c->body_left;
    return true;
}

static void read_some(struct sink *s, struct connection *c) {
    static char scratch[65536];
    for (;;) {
        bool head = !c->in_body;
        if (s->mode == MODE_HANG_TLS || (s->mode == MODE_HANG_BODY && !head)) {
            return;
        }
        size_t room = head ? HEAD_MAX - c->head_size : sizeof scratch;
        if (s->mode == MODE_TRICKLE && room > TRICKLE_BYTES) {
            room = TRICKLE_BYTES;
        }
        ssize_t n = recv(c->fd, head ? c->head + c->head_size : scratch, room, 0);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
            ended(c);
            return;
        }
        if (n < 0) {
            return;
        }
        if (head) {
            c->head_size += (size_t)n;
            (void)head_complete(c);
        } else {
            c->body_left -= (uint64_t)n < c->body_left ? (uint64_t)n : c->body_left;
        }
        if (c->in_body && c->body_left == 0) {
            answer(c);
        }
        if (s->mode == MODE_TRICKLE) {
            return;
        }
    }
}

/* Lets go of connections that ended a while ago, so that a late byte would still have been counted. */
static void sweep(struct sink *s) {
    for (int i = 0; i < CONNECTIONS_MAX; i++) {
        struct connection *c = &s->connections[i];
        if (c->fd >= 0 && c->ended && now_us() - c->ended_us > KEEP_CLOSED_US) {
            s->gone_bytes += c->bytes;
            (void)close(c->fd);
            c->fd = -1;
        }
    }
}

static void command(struct sink *s) {
    char line[128];
    ssize_t n = read(STDIN_FILENO, line, sizeof line - 1);
    if (n <= 0) {
        s->quit = true;
        return;
    }
    line[n] = '\0';
    line[strcspn(line, "\n")] = '\0';
    if (strcmp(line, "quit") == 0) {
        s->quit = true;
    } else if (strcmp(line, "sample") == 0) {
        sample(s, true);
    } else if (strncmp(line, "mode ", 5) == 0 && mode_parse(line + 5) >= 0) {
        s->mode = (enum mode)mode_parse(line + 5);
    }
}

int main(int argc, char **argv) {
    static struct sink s;
    int mode = argc == 3 ? mode_parse(argv[2]) : -1;
    if (mode < 0) {
        fprintf(stderr, "usage: sink PORT answer|trickle|hang-tls|hang-body\n");
        return 2;
    }
    s.mode = (enum mode)mode;
    for (int i = 0; i < CONNECTIONS_MAX; i++) {
        s.connections[i].fd = -1;
    }
    s.listener = listen_on((uint16_t)strtoul(argv[1], NULL, 10), s.mode);
    if (s.listener < 0) {
        perror("sink");
        return 2;
    }
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    sample(&s, true);
    struct pollfd waits[2] = {{.fd = STDIN_FILENO, .events = POLLIN},
                              {.fd = s.listener, .events = POLLIN}};
    /* Accepting comes before the look of the same turn, so a connection is never newer than its line says. */
    while (!s.quit) {
        if (poll(waits, 2, 1) < 0 && errno != EINTR) {
            return 2;
        }
        if (waits[0].revents != 0) {
            command(&s);
        }
        accept_all(&s);
        for (int i = 0; i < CONNECTIONS_MAX; i++) {
            if (s.connections[i].fd >= 0 && !s.connections[i].ended) {
                read_some(&s, &s.connections[i]);
            }
        }
        sample(&s, false);
        sweep(&s);
    }
    sample(&s, true);
    return 0;
}
