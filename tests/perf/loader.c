/* depends: base */
/* libs: ssl crypto */
/*
 * Load for measurements: N connections kept busy with prepared Mixpanel requests.
 *
 *   loader --port 8080 [--host 127.0.0.1] [--url-path /mixpanel/track?verbose=0] [--token T]
 *          [--connections 16] [--batch 50] [--size 600] [--people 100000] [--single] [--tls]
 *          [--seconds 10 | --events N] [--rate EVENTS_PER_SECOND]
 *
 * Closed loop: each connection sends its next request when the answer to the last has come. With --rate, open loop: requests
 * fall due at a fixed interval whatever the server does, and latency counts from when a request was due, so that a stall shows
 * in full (no coordinated omission). --single sends one event of 1 KiB, not in an array, as the browser does unbatched.
 *
 * A request is an uncompressed JSON POST whose events have the fields that mixpanel-browser was recorded to send. It is
 * prepared once for each connection; before each send only person, device, insert id and time are written over, digits of
 * fixed width, so that the loader costs a few microseconds and the server sees 100,000 people and no insert id twice.
 * The last line of the output is one JSON object.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"

enum {
    CONNECTIONS_MAX = 4096,
    BATCH_MAX = 2000,
    HEAD_ROOM = 512,
    REPLY_MAX = 4096,
    SUB_BUCKETS = 32, /* a power of two into so many parts: 3 % */
    BUCKETS = 64 * SUB_BUCKETS,
    EVENTS = 256,
};

struct options {
    const char *host;
    const char *url_path;
    const char *token;
    unsigned port;
    unsigned connections;
    unsigned batch;
    unsigned size;
    unsigned people;
    double seconds;
    uint64_t events;
    double rate;
    bool single;
    bool tls;
};

/* Where the changing fields of one event lie in the request. */
struct places {
    uint32_t person;
    uint32_t user;
    uint32_t device;
    uint32_t insert_id;
    uint32_t time;
};

struct connection {
    int fd;
    SSL *ssl; /* NULL: plain */
    bool busy;
    uint8_t *request;
    size_t sent;
    uint64_t due_us; /* of the request in flight */
    char reply[REPLY_MAX];
    size_t reply_size;
};

static struct options options = {
    .host = "127.0.0.1",
    .url_path = "/mixpanel/track?verbose=0",
    .token = "mp_browser_token_a",
    .port = 8080,
    .connections = 16,
    .batch = 50,
    .size = 600,
    .people = 100000,
};
static struct places places[BATCH_MAX];
static struct connection connections[CONNECTIONS_MAX];
static unsigned idle[CONNECTIONS_MAX]; /* connections that may send */
static unsigned idle_count;
static size_t request_size;
static int poller;

static uint64_t histogram[BUCKETS];
static uint64_t requests_sent;
static uint64_t replies_ok;
static uint64_t replies_busy; /* 503 */
static uint64_t replies_other;
static uint64_t broken;
static uint64_t latency_max_us;
static uint64_t next_insert_id;
static uint64_t next_person;

_Noreturn static void die(const char *what) {
    perror(what);
    exit(2);
}

static uint64_t clock_us(clockid_t clock) {
    struct timespec now;
    (void)clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static void note_latency(uint64_t us) {
    latency_max_us = us > latency_max_us ? us : latency_max_us;
    unsigned shift = us < SUB_BUCKETS ? 0 : (unsigned)(63 - __builtin_clzll(us) - 5);
    histogram[shift * SUB_BUCKETS + (us >> shift)]++;
}

static double latency_ms(double share) {
    uint64_t wanted = (uint64_t)((double)replies_ok * share);
    uint64_t seen = 0;
    for (size_t i = 0; i < BUCKETS; i++) {
        seen += histogram[i];
        if (seen > wanted) {
            size_t shift = i < 2 * (size_t)SUB_BUCKETS ? 0 : i / SUB_BUCKETS - 1;
            return (double)(((uint64_t)(i - shift * SUB_BUCKETS) + 1) << shift) / 1000.0;
        }
    }
    return (double)latency_max_us / 1000.0;
}

/* ---- the request */

static uint32_t put_field(struct buf *b, const char *name, const char *value) {
    buf_put_str(b, ",\"");
    buf_put_str(b, name);
    buf_put_str(b, "\":\"");
    uint32_t at = (uint32_t)b->n;
    buf_put_str(b, value);
    buf_put_str(b, "\"");
    return at;
}

/* One event of exactly `size` bytes: the recorded fields, more of them while there is room, the rest in the referrer. */
static void put_event(struct buf *b, unsigned kind, size_t size, struct places *ret_places) {
    static const char *const names[] = {"Completion Run", "Dashboard", "Signed In",
                                        "Billing Page Viewed", "Profile Updated"};
    static const char *const more[] = {
        ",\"screen\":\"main\"",
        ",\"$screen_height\":768,\"$screen_width\":1366",
        ",\"prompt_tokens\":1504,\"completion_tokens\":3008,\"latency_ms\":120",
        ",\"cost_usd\":0.912,\"stream\":true,\"status_code\":200",
        ",\"utm_source\":\"newsletter\",\"utm_medium\":\"email\",\"utm_campaign\":\"spring\"",
        ",\"$initial_referrer\":\"https://www.example.org/search?q=llm+api\",\"$initial_referring_domain\":\"www.example.org\"",
        ",\"$current_url\":\"https://app.example.com/dashboard?t=Dashboard&utm_source=newsletter&utm_campaign=spring\"",
        ",\"mp_sent_by_lib_version\":\"2.83.0\"",
    };
    size_t from = b->n;
    buf_put_str(b, "{\"event\":\"");
    buf_put_str(b, names[kind % BH_COUNT(names)]);
    buf_put_str(
        b,
        "\",\"properties\":{\"$os\":\"Linux\",\"$browser\":\"Chrome\",\"$browser_version\":138,\"mp_lib\":\"web\","
        "\"$lib_version\":\"2.83.0\",\"time\":");
    ret_places->time = (uint32_t)b->n;
    buf_put_str(b, "1795489911.555");
    ret_places->insert_id = put_field(b, "$insert_id", "0000000000000000");
    ret_places->person = put_field(b, "distinct_id", "user_0000000") + 5;
    ret_places->user = put_field(b, "$user_id", "user_0000000") + 5;
    ret_places->device = put_field(b, "$device_id", "5c2dfb22-9ccd-4e5d-bfe2-60b300000000") + 28;
    (void)put_field(b, "plan", "pro");
    (void)put_field(b, "model", "lumen-mini");
    (void)put_field(b, "token", options.token);
    static const char tail[] = ",\"$referrer\":\"https://www.example.org/search?q=";
    static const char end[] = "\"}}";
    for (size_t i = 0; i < BH_COUNT(more); i++) {
        if (b->n - from + strlen(more[i]) + sizeof tail + sizeof end + 8 <= size) {
            buf_put_str(b, more[i]);
        }
    }
    buf_put_str(b, tail);
    if (b->n - from + strlen(end) > size) {
        fprintf(stderr, "loader: an event of this shape has at least %zu bytes\n",
                b->n - from + strlen(end));
        exit(2);
    }
    static const char words[] = "llm+api+pricing+batch+tokens+";
    for (size_t i = 0; b->n - from + strlen(end) < size; i++) {
        buf_put_byte(b, (uint8_t)words[i % (sizeof words - 1)]);
    }
    buf_put_str(b, end);
}

static uint8_t *prepare_request(void) {
    size_t cap = HEAD_ROOM + strlen(options.url_path) + strlen(options.host) +
                 (size_t)options.batch * (options.size + 1) + 2;
    uint8_t *memory = malloc(cap);
    if (memory == NULL) {
        die("malloc");
    }
    struct buf b = buf_of(memory, cap);
    size_t body = (size_t)options.batch * options.size + (options.single ? 0 : options.batch + 1);
    buf_printf(
        &b,
        "POST %s HTTP/1.1\r\nHost: %s:%u\r\nContent-Type: application/json\r\nAccept: */*\r\n"
        "Connection: keep-alive\r\nContent-Length: %zu\r\n\r\n",
        options.url_path, options.host, options.port, body);
    size_t head = b.n;
    for (unsigned i = 0; i < options.batch; i++) {
        if (!options.single) {
            buf_put_byte(&b, i == 0 ? '[' : ',');
        }
        put_event(&b, i, options.size, &places[i]);
    }
    if (!options.single) {
        buf_put_byte(&b, ']');
    }
    if (b.full || b.n - head != body) {
        fputs("loader: the request came out in another size\n", stderr);
        exit(2);
    }
    request_size = b.n;
    return memory;
}

static void put_digits(uint8_t *at, unsigned width, uint64_t value) {
    for (unsigned i = width; i > 0; i--) {
        at[i - 1] = (uint8_t)('0' + value % 10);
        value /= 10;
    }
}

static void put_hex_digits(uint8_t *at, unsigned width, uint64_t value) {
    static const char digits[] = "0123456789abcdef";
    for (unsigned i = width; i > 0; i--) {
        at[i - 1] = (uint8_t)digits[value & 15];
        value >>= 4;
    }
}

/* A new request in the old one's bytes. */
static void patch_request(uint8_t *request) {
    uint64_t now_ms = clock_us(CLOCK_REALTIME_COARSE) / 1000;
    uint8_t seconds[14];
    put_digits(seconds, 10, now_ms / 1000);
    seconds[10] = '.';
    put_digits(seconds + 11, 3, now_ms % 1000);
    for (unsigned i = 0; i < options.batch; i++) {
        /* A step coprime to the number of people visits all of them, neighbours in a batch far apart. */
        next_person += 61;
        next_person = next_person >= options.people ? next_person % options.people : next_person;
        put_digits(request + places[i].person, 7, next_person);
        memcpy(request + places[i].user, request + places[i].person, 7);
        put_hex_digits(request + places[i].device, 8, next_person);
        put_hex_digits(request + places[i].insert_id, 16, next_insert_id++);
        memcpy(request + places[i].time, seconds, sizeof seconds);
    }
}

/* ---- connections */

static void watch(struct connection *c, int operation, uint32_t ready) {
    struct epoll_event event = {.events = ready, .data.u32 = (uint32_t)(c - connections)};
    if (epoll_ctl(poller, operation, c->fd, &event) != 0) {
        die("epoll_ctl");
    }
}

/* The handshake waits; what follows it does not. The certificate is the test's own and is not looked at. */
static void greet(struct connection *c) {
    static SSL_CTX *context;
    if (context == NULL) {
        context = SSL_CTX_new(TLS_client_method());
        if (context == NULL) {
            die("SSL_CTX_new");
        }
        (void)SSL_CTX_set_mode(context,
                               SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    }
    c->ssl = SSL_new(context);
    if (c->ssl == NULL || SSL_set_fd(c->ssl, c->fd) != 1 || SSL_connect(c->ssl) != 1) {
        fputs("loader: no TLS\n", stderr);
        exit(2);
    }
    if (fcntl(c->fd, F_SETFL, O_NONBLOCK) != 0) {
        die("fcntl");
    }
}

/* As send and recv, with EAGAIN for whatever TLS waits for. */
static ssize_t give(struct connection *c, const void *p, size_t n) {
    if (c->ssl == NULL) {
        return send(c->fd, p, n, MSG_NOSIGNAL | MSG_DONTWAIT);
    }
    int done = SSL_write(c->ssl, p, (int)n);
    int why = SSL_get_error(c->ssl, done);
    if (done <= 0 && (why == SSL_ERROR_WANT_WRITE || why == SSL_ERROR_WANT_READ)) {
        errno = EAGAIN;
    }
    return done > 0 ? done : -1;
}

static ssize_t take(struct connection *c, void *p, size_t n) {
    if (c->ssl == NULL) {
        return recv(c->fd, p, n, MSG_DONTWAIT);
    }
    int done = SSL_read(c->ssl, p, (int)n);
    int why = SSL_get_error(c->ssl, done);
    if (done <= 0 && (why == SSL_ERROR_WANT_WRITE || why == SSL_ERROR_WANT_READ)) {
        errno = EAGAIN;
        return -1;
    }
    return done > 0 ? done : 0;
}

static void dial(struct connection *c) {
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons((uint16_t)options.port)};
    if (inet_pton(AF_INET, options.host, &in.sin_addr) != 1) {
        fputs("loader: --host takes an IPv4 address\n", stderr);
        exit(2);
    }
    union {
        struct sockaddr_in in;
        struct sockaddr any;
    } address = {in};
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0 || connect(c->fd, &address.any, sizeof in) != 0) {
        die("connect");
    }
    if (options.tls) {
        greet(c);
    }
    int on = 1;
    if (setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0) {
        die("setsockopt");
    }
    watch(c, EPOLL_CTL_ADD, EPOLLIN);
    c->busy = false;
    c->reply_size = 0;
    idle[idle_count++] = (unsigned)(c - connections);
}

static void redial(struct connection *c) {
    broken += c->busy;
    SSL_free(c->ssl);
    c->ssl = NULL;
    close(c->fd);
    dial(c);
}

static void push(struct connection *c) {
    ssize_t n = give(c, c->request + c->sent, request_size - c->sent);
    if (n < 0 && errno != EAGAIN) {
        redial(c);
        return;
    }
    bool waited = c->sent != 0;
    c->sent += n > 0 ? (size_t)n : 0;
    if (c->sent < request_size) {
        watch(c, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
    } else if (waited) {
        watch(c, EPOLL_CTL_MOD, EPOLLIN);
    }
}

static void send_request(uint64_t due_us) {
    struct connection *c = &connections[idle[--idle_count]];
    c->busy = true;
    c->sent = 0;
    c->due_us = due_us;
    patch_request(c->request);
    requests_sent++;
    push(c);
}

/* Size of the whole reply, or 0 while it is not complete. */
static size_t reply_end(const char *text, size_t n) {
    const char *end = memmem(text, n, "\r\n\r\n", 4);
    const char *length =
        end != NULL ? memmem(text, (size_t)(end - text), "Content-Length: ", 16) : NULL;
    if (length == NULL) {
        return 0;
    }
    size_t size = (size_t)(end - text) + 4 + strtoul(length + 16, NULL, 10);
    return size <= n ? size : 0;
}

static void take_reply(struct connection *c) {
    ssize_t n = take(c, c->reply + c->reply_size, sizeof c->reply - 1 - c->reply_size);
    if (n < 0 && errno == EAGAIN) {
        return;
    }
    if (n <= 0) {
        redial(c);
        return;
    }
    c->reply_size += (size_t)n;
    c->reply[c->reply_size] = 0;
    size_t size = reply_end(c->reply, c->reply_size);
    if (size == 0) {
        return;
    }
    unsigned long status = strtoul(c->reply + 9, NULL, 10);
    /* 200 with the body 0 is Mixpanel's "nothing of it was taken". */
    bool ok = status == 200 && c->reply[size - 1] != '0';
    replies_ok += ok;
    replies_busy += status == 503;
    replies_other += !ok && status != 503;
    if (ok) {
        note_latency(clock_us(CLOCK_MONOTONIC) - c->due_us);
    }
    bool closes = memmem(c->reply, size, "Connection: close", 17) != NULL;
    c->busy = false;
    c->reply_size = 0;
    if (closes || c->sent < request_size) {
        redial(c);
    } else {
        idle[idle_count++] = (unsigned)(c - connections);
    }
}

/* ---- the run */

static bool more_to_send(uint64_t elapsed_us) {
    if (options.events != 0) {
        return requests_sent * options.batch < options.events;
    }
    return (double)elapsed_us < options.seconds * 1e6;
}

static void send_what_is_due(uint64_t begin_us, uint64_t now_us) {
    double interval_us = options.rate > 0 ? options.batch * 1e6 / options.rate : 0;
    while (idle_count > 0 && more_to_send(now_us - begin_us)) {
        uint64_t due_us = options.rate > 0
                              ? begin_us + (uint64_t)((double)requests_sent * interval_us)
                              : clock_us(CLOCK_MONOTONIC);
        if (options.rate > 0 && due_us > now_us) {
            return;
        }
        send_request(due_us);
    }
}

static void run(void) {
    uint64_t begin_us = clock_us(CLOCK_MONOTONIC);
    uint64_t now_us = begin_us;
    uint64_t last_us = begin_us;
    while (more_to_send(now_us - begin_us) || idle_count < options.connections) {
        send_what_is_due(begin_us, now_us);
        struct epoll_event events[EVENTS];
        /* An open loop polls: a sleeping timer would be later than the requests are apart. */
        int n = epoll_wait(poller, events, EVENTS, options.rate > 0 ? 0 : 100);
        for (int i = 0; i < n; i++) {
            struct connection *c = &connections[events[i].data.u32];
            if ((events[i].events & EPOLLOUT) != 0 && c->busy && c->sent < request_size) {
                push(c);
            }
            if ((events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) {
                take_reply(c);
            }
        }
        now_us = clock_us(CLOCK_MONOTONIC);
        last_us = n > 0 ? now_us : last_us;
        if (!more_to_send(now_us - begin_us) && now_us - last_us > 15000000) {
            fputs("loader: gave up on requests without an answer\n", stderr);
            break;
        }
    }
    double seconds = (double)(last_us - begin_us) / 1e6;
    double events = (double)(replies_ok * options.batch);
    printf(
        "{\"mode\":\"%s\",\"connections\":%u,\"batch\":%u,\"size\":%u,\"seconds\":%.3f,\"requests\":%llu,\"events\":%.0f,"
        "\"busy\":%llu,\"refused\":%llu,\"broken\":%llu,\"events_per_s\":%.0f,\"mb_per_s\":%.1f,"
        "\"p50_ms\":%.3f,\"p99_ms\":%.3f,\"p999_ms\":%.3f,\"max_ms\":%.3f}\n",
        options.rate > 0 ? "open" : "closed", options.connections, options.batch, options.size,
        seconds, (unsigned long long)requests_sent, events, (unsigned long long)replies_busy,
        (unsigned long long)replies_other, (unsigned long long)broken, events / seconds,
        events * options.size / seconds / 1e6, latency_ms(0.5), latency_ms(0.99), latency_ms(0.999),
        (double)latency_max_us / 1000.0);
}

_Noreturn static void usage(void) {
    fputs(
        "loader --port N [--host A] [--url-path P] [--token T] [--connections N] [--batch N] [--size N] [--people N]\n"
        "       [--single] [--tls] [--seconds S | --events N] [--rate EVENTS_PER_SECOND]\n",
        stderr);
    exit(2);
}

static void set_option(const char *name, const char *value) {
    static const struct {
        const char *name;
        const char **text;
        unsigned *number;
        double *real;
        uint64_t *large;
    } known[] = {
        {"--host", &options.host, NULL, NULL, NULL},
        {"--url-path", &options.url_path, NULL, NULL, NULL},
        {"--token", &options.token, NULL, NULL, NULL},
        {"--port", NULL, &options.port, NULL, NULL},
        {"--connections", NULL, &options.connections, NULL, NULL},
        {"--batch", NULL, &options.batch, NULL, NULL},
        {"--size", NULL, &options.size, NULL, NULL},
        {"--people", NULL, &options.people, NULL, NULL},
        {"--seconds", NULL, NULL, &options.seconds, NULL},
        {"--rate", NULL, NULL, &options.rate, NULL},
        {"--events", NULL, NULL, NULL, &options.events},
    };
    for (size_t i = 0; i < BH_COUNT(known); i++) {
        if (strcmp(name, known[i].name) != 0) {
            continue;
        }
        if (known[i].text != NULL) {
            *known[i].text = value;
        } else if (known[i].number != NULL) {
            *known[i].number = (unsigned)strtoul(value, NULL, 10);
        } else if (known[i].real != NULL) {
            *known[i].real = strtod(value, NULL);
        } else {
            *known[i].large = strtoull(value, NULL, 10);
        }
        return;
    }
    usage();
}

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--single") == 0) {
            options.single = true;
            options.batch = 1;
            options.size = 1024;
        } else if (strcmp(argv[i], "--tls") == 0) {
            options.tls = true;
        } else if (i + 1 < argc) {
            set_option(argv[i], argv[i + 1]);
            i++;
        } else {
            usage();
        }
    }
    if (options.connections == 0 || options.connections > CONNECTIONS_MAX || options.batch == 0 ||
        options.batch > BATCH_MAX || options.people == 0 ||
        (options.single && options.batch != 1)) {
        usage();
    }
    options.seconds = options.seconds > 0 ? options.seconds : 10;
    (void)signal(SIGPIPE, SIG_IGN);
    poller = epoll_create1(EPOLL_CLOEXEC);
    if (poller < 0) {
        die("epoll_create1");
    }
    /* Later runs continue above: no insert id is used twice. */
    next_insert_id = clock_us(CLOCK_REALTIME) << 12;
    for (unsigned i = 0; i < options.connections; i++) {
        connections[i].request = prepare_request();
        dial(&connections[i]);
    }
    run();
    return replies_other == 0 && broken == 0 && replies_ok > 0 ? 0 : 1;
}
