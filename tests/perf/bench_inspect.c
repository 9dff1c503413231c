/*
 * How fast inspect looks at events: clean ones, ones dense with findings, and the worst that is
 * known for each of its parts.
 *
 *   bench_inspect [--json] [SECONDS [clean|dense]]      MB/s of JSON (already parsed) and µs an event, best of several rounds
 */
/* depends: inspect protocol json model base */
#define _POSIX_C_SOURCE 200809L

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "flow/inspect/inspect.h"
#include "model/limits.h"
#include "unit/random_kit.h"

enum {
    TEXT_MAX = 2 * 1024 * 1024,
    TOKENS_MAX = 700000,
    ITEMS_MAX = 2000,
    FINDINGS_MAX = 400000,
    EVENTS = 50
};

static uint8_t text[TEXT_MAX];
static struct json_token tokens[TOKENS_MAX];
static struct inspect_item items[ITEMS_MAX];
static struct finding findings[FINDINGS_MAX];
static struct inspector *inspector;
static double now(void) {
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/*
 * An event as mixpanel-browser sends it, about 600 bytes, without anything personal in the values.
 */
static void put_clean(struct buf *b) {
    buf_printf(
        b,
        "{\"event\":\"Model Selected\",\"properties\":{\"$os\":\"Mac OS X\",\"$browser\":\"Chrome\",\"$current_url\":"
        "\"https://platform.example.org/playground?mode=chat&model=large\",\"$browser_version\":138,\"$screen_height\":1117,"
        "\"$screen_width\":1728,\"mp_lib\":\"web\",\"$lib_version\":\"2.83.0\",\"$insert_id\":\"%08llx%08llx\",\"time\":1795489911.%03u,"
        "\"distinct_id\":\"$device:5c2dfb22-9ccd-4e5d-bfe2-%012llx\",\"$device_id\":\"5c2dfb22-9ccd-4e5d-bfe2-%012llx\","
        "\"$initial_referrer\":\"$direct\",\"$initial_referring_domain\":\"$direct\",\"plan\":\"pro\",\"model\":\"large-2024\",\"tokens\":%u,"
        "\"latency_ms\":%u,\"cached\":false,\"token\":\"mp_browser_token_a\"}}",
        (unsigned long long)random_next() & 0xffffffff,
        (unsigned long long)random_next() & 0xffffffff, (unsigned)(random_next() % 1000),
        (unsigned long long)random_next() & 0xffffffffffff,
        (unsigned long long)random_next() & 0xffffffffffff, (unsigned)(random_next() % 5000),
        (unsigned)(random_next() % 900));
}

static void put_dense(struct buf *b) {
    buf_printf(
        b,
        "{\"event\":\"Contact\",\"properties\":{\"distinct_id\":\"jonas.%u@example.com\",\"userEmail\":\"jonas.%u@example.com\","
        "\"first_name\":\"Jonas\",\"phone\":\"+49151123%05u\",\"ip\":\"203.0.113.%u\",\"card\":\"4111 1111 1111 1111\","
        "\"$current_url\":\"https://x.example/?email=jonas%%40example.com&token=ab12cd34ef&x=1\",\"iban\":\"DE89370400440532013000\","
        "\"note\":\"write to anna@example.org or call (415) 555-2671\",\"data\":\"eyJlbWFpbCI6ImpvbmFzQGV4YW1wbGUuY29tIn0=\","
        "\"key\":\"ghp_16C7e42F292c6912E7710c838347Ae178B4a\",\"nested\":\"{\\\"name\\\":\\\"x\\\",\\\"mail\\\":\\\"j@example.com\\\"}\"}}",
        (unsigned)(random_next() % 1000), (unsigned)(random_next() % 1000),
        (unsigned)(random_next() % 100000), (unsigned)(1 + random_next() % 250));
}

static void put_repeated(struct buf *b, const char *piece) {
    buf_put_str(b, "{\"event\":\"x\",\"properties\":{\"x\":\"");
    size_t end = b->n + 30000;
    while (b->n < end) {
        buf_put_str(b, piece);
    }
    buf_put_str(b, "\"}}");
}

static const char *const hostile[] = {
    "@",
    "a@",
    "a@b.",
    "a:b@",
    ":",
    "a:",
    "a=",
    "ab=",
    "ab=cd=",
    "password=",
    "token:",
    "0",
    "1 ",
    "12 ",
    "4111 ",
    "4111-",
    "+1",
    "(0",
    "01 ",
    "000-",
    "1.1.1.1.",
    "1.1.",
    "DE89 ",
    "DE12",
    "aa::",
    "a:b:c:",
    "%40",
    "%2540",
    "%25",
    "%",
    "\\\\u0040",
    "&#64;",
    "&amp;",
    "am9uYXNA",
    "am9uYXN/",
    "I/I/",
    "aaaaaaaa/",
    "YWFhYWFh ",
    "sk-",
    "sk-1-",
    "eyJ",
    "eyJ.",
    "eyJ-.",
    "Bearer ",
    "PRIVATE KEY-----",
    "-----BEGIN ",
    "{",
    "[1,",
    "://",
    "://a:b@",
    "http://",
    "a_b_c_d_e=",
    "emailemailemailemail=",
    "A9",
    "x ",
    "\xc3\xa4",
    "jonas@example.com ",
    "4111111111111111 ",
    "203.0.113.7 ",
    "ghp_",
    "ghp_16C7e42F292c6912E7710c838347Ae178B4a ",
    "AKIA",
    "\\n",
    "\\u0041",
};

/* Every key another, so that no cache helps. */
static void put_keys(struct buf *b, unsigned words) {
    buf_put_str(b, "{\"event\":\"x\",\"properties\":{");
    size_t end = b->n + 30000;
    for (unsigned i = 0; b->n < end; i++) {
        buf_printf(b, "%s\"", i > 0 ? "," : "");
        for (unsigned w = 0; w < words; w++) {
            buf_printf(b, "%c%c_", 'a' + (int)(random_next() % 26),
                       'a' + (int)(random_next() % 26));
        }
        buf_put_str(b, "\":1");
    }
    buf_put_str(b, "}}");
}

struct made {
    size_t n;
    size_t tokens;
    size_t items;
};

static struct made finish(struct buf *b) {
    struct made m = {b->n, 0, 0};
    size_t offset = 0;
    if (b->full || json_parse(buf_span(b), 33, tokens, TOKENS_MAX, &m.tokens, &offset) != 0) {
        fprintf(stderr, "bench_inspect: not JSON at %zu\n", offset);
        exit(2);
    }
    for (uint32_t root = 1; root < m.tokens; root = tokens[root].next) {
        items[m.items++] = (struct inspect_item){root, EVENT_TRACK, 0, 0, 0};
    }
    return m;
}

/* MB/s, the best of rounds that take `seconds` together. */
static double measure(const struct made *m, double seconds, unsigned *ret_findings) {
    const struct protocol_ops *protocol = protocol_by_id(PROTOCOL_MIXPANEL);
    double best = 0;
    double end = now() + seconds;
    do {
        double start = now();
        unsigned rounds = 0;
        do {
            inspect_items(inspector, protocol, (struct span){text, m->n}, tokens, m->tokens, items,
                          m->items, findings, FINDINGS_MAX);
            rounds++;
        } while (now() - start < 0.02);
        double rate = (double)m->n * rounds / (now() - start) / 1e6;
        best = rate > best ? rate : best;
    } while (now() < end);
    *ret_findings = 0;
    for (size_t i = 0; i < m->items; i++) {
        *ret_findings += items[i].error != 0 ? 0 : items[i].finding_count;
    }
    return best;
}

static struct made make_events(void (*put)(struct buf *b)) {
    struct buf b = buf_of(text, TEXT_MAX);
    for (unsigned i = 0; i < EVENTS; i++) {
        buf_put_str(&b, i == 0 ? "[" : ",");
        put(&b);
    }
    buf_put_byte(&b, ']');
    return finish(&b);
}

static void print_name(const char *piece) {
    for (size_t i = 0; piece[i] != 0; i++) {
        putchar(piece[i] >= ' ' && piece[i] < 0x7f ? piece[i] : '.');
    }
}

static double measure_events(const char *name, void (*put)(struct buf *b), double seconds) {
    unsigned found = 0;
    struct made m = make_events(put);
    double rate = measure(&m, seconds, &found);
    printf("%-28s %8.0f MB/s  %6.3f us an event of %zu B, %.1f findings each\n", name, rate,
           (double)m.n / EVENTS / rate, m.n / EVENTS, (double)found / EVENTS);
    return rate;
}

/* The slowest of all hostile inputs. */
static double measure_hostile(double clean, double seconds) {
    double worst = clean;
    size_t plain = sizeof hostile / sizeof hostile[0];
    for (size_t i = 0; i < plain + 3; i++) {
        unsigned found = 0;
        struct buf b = buf_of(text, TEXT_MAX);
        buf_put_byte(&b, '[');
        if (i < plain) {
            put_repeated(&b, hostile[i]);
        } else {
            put_keys(&b, i == plain ? 2 : i == plain + 1 ? 6 : 12);
        }
        buf_put_byte(&b, ']');
        struct made m = finish(&b);
        double rate = measure(&m, seconds, &found);
        worst = rate < worst ? rate : worst;
        printf("hostile %-20s %8.0f MB/s  %5.1fx  \"", "", rate, clean / rate);
        print_name(i < plain ? hostile[i] : "many keys");
        printf("\"\n");
    }
    return worst;
}

int main(int argc, char **argv) {
    bool json = argc > 1 && strcmp(argv[1], "--json") == 0;
    double seconds = argc > 1 + (int)json ? strtod(argv[1 + (int)json], NULL) : 0.5;
    const char *only = argc > 2 + (int)json ? argv[2 + (int)json] : "";
    struct err err;
    if (inspect_tables_init(&err) != 0 || inspector_new(&inspector) != 0) {
        return 2;
    }
    double clean = strcmp(only, "dense") != 0 ? measure_events("clean", put_clean, seconds * 2) : 0;
    double dense = strcmp(only, "clean") != 0 ? measure_events("dense", put_dense, seconds * 2) : 0;
    if (only[0] == 0) {
        double worst = measure_hostile(clean, seconds / 5);
        printf("%-28s %8.0f MB/s  %5.1fx\n", "worst", worst, clean / worst);
        if (json) {
            printf("{\"clean_mbps\":%.0f,\"dense_mbps\":%.0f,\"hostile_ratio\":%.2f}\n", clean,
                   dense, clean / worst);
        }
    }
    inspector_free(inspector);
    return 0;
}
