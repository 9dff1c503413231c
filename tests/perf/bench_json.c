/*
 * Parse speed with tokens: batches of 50 events of about 600 B whose keys and shapes were recorded from mixpanel-browser, each
 * batch with other values, more than fit the second-level cache, so that neither branches nor data are learnt by heart.
 * Prints one line per case: name, GB/s, ns per event. Best of 5 runs.
 */
/* depends: json base */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/json/json.h"

enum {
    BATCHES = 64,
    EVENTS = 50,
    BATCH_MAX = 64 * 1024,
    TOKENS_MAX = 16384,
    RUNS = 5,
    PASSES = 20
};

static char batches[BATCHES][BATCH_MAX];
static size_t lengths[BATCHES];
static struct json_token tokens[TOKENS_MAX];
static uint64_t seed = 42;

static unsigned below(unsigned n) {
    seed = seed * 6364136223846793005U + 1442695040888963407U;
    return (unsigned)((seed >> 33) % n);
}

static const char *pick(const char *const *all, unsigned count) {
    return all[below(count)];
}

static size_t put_event(char *out, size_t room, bool words) {
    static const char *const names[] = {"Completion Run", "Dashboard", "Billing Page Viewed",
                                        "API Key Created", "Signed In"};
    static const char *const systems[] = {"Linux", "Windows", "Mac OS X", "Android", "iOS"};
    static const char *const browsers[] = {"Chrome", "Firefox", "Microsoft Edge", "Safari",
                                           "Mozilla"};
    static const char *const paths[] = {"/dashboard", "/login", "/billing?tab=invoices",
                                        "/keys/new", "/docs/guide/quickstart"};
    static const char *const titles[] = {
        "Panel de control \xc3\xa1rea",
        "\xd0\x9f\xd0\xb0\xd0\xbd\xd0\xb5\xd0\xbb\xd1\x8c \xd1\x83\xd0\xbf\xd1\x80\xd0\xb0\xd0\xb2\xd0\xbb\xd0\xb5\xd0\xbd\xd0\xb8\xd1\x8f",
        "\xe3\x83\x80\xe3\x83\x83\xe3\x82\xb7\xe3\x83\xa5\xe3\x83\x9c\xe3\x83\xbc\xe3\x83\x89",
        "R\xc3\xa9sum\xc3\xa9"};
    int n = snprintf(
        out, room,
        "{\"event\":\"%s\",\"properties\":{\"$os\":\"%s\",\"$browser\":\"%s\",\"$current_url\":\"https://console.example.com%s\","
        "\"$browser_version\":%u,\"$screen_height\":%u,\"$screen_width\":%u,\"mp_lib\":\"web\",\"$lib_version\":\"2.83.0\","
        "\"$insert_id\":\"%08x%08x\",\"time\":%u.%03u,\"distinct_id\":\"user_%u\",\"$device_id\":\"%08x-9ccd-4e5d-bfe2-%012x\","
        "\"$user_id\":\"user_%u\",\"$initial_referrer\":\"$direct\",\"$initial_referring_domain\":\"$direct\","
        "\"model\":\"lumen-%u\",\"prompt_tokens\":%u,\"stream\":%s,\"title\":\"%s\",\"token\":\"mp_browser_token_a\"}}",
        pick(names, 5), pick(systems, 5), pick(browsers, 5), pick(paths, 5), 100 + below(40),
        600 + below(900), 800 + below(1800), below(UINT32_MAX), below(UINT32_MAX),
        1795489911 + below(100000), below(1000), below(100000), below(UINT32_MAX),
        below(UINT32_MAX), below(100000), below(9), below(100000), below(2) ? "true" : "false",
        words ? pick(titles, 4) : "Dashboard");
    return (size_t)n;
}

static void make(bool words) {
    for (unsigned i = 0; i < BATCHES; i++) {
        size_t n = 0;
        batches[i][n++] = '[';
        for (unsigned e = 0; e < EVENTS; e++) {
            if (e > 0) {
                batches[i][n++] = ',';
            }
            n += put_event(batches[i] + n, BATCH_MAX - n - 2, words);
        }
        batches[i][n++] = ']';
        lengths[i] = n;
    }
}

static double now(void) {
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

typedef int (*parse_function)(struct span, unsigned, struct json_token *, size_t, size_t *,
                              size_t *);

static void measure(const char *name, parse_function parse) {
    double best = 1e9;
    size_t bytes = 0;
    size_t count = 0;
    size_t offset = 0;
    for (int run = 0; run < RUNS; run++) {
        double start = now();
        bytes = 0;
        for (int pass = 0; pass < PASSES; pass++) {
            for (unsigned i = 0; i < BATCHES; i++) {
                if (parse(span_of(batches[i], lengths[i]), 32, tokens, TOKENS_MAX, &count,
                          &offset) != 0) {
                    fprintf(stderr, "refused at %zu\n", offset);
                    exit(1);
                }
                bytes += lengths[i];
            }
        }
        double took = now() - start;
        best = took < best ? took : best;
    }
    double events = (double)PASSES * BATCHES * EVENTS;
    printf("%-24s %5.2f GB/s  %6.1f ns/event  %4.0f B/event  %.1f tokens/event\n", name,
           (double)bytes / best / 1e9, best / events * 1e9, (double)bytes / events,
           (double)count / EVENTS);
}

/* Long strings of two- and three-byte characters: the worst that text alone can do to the scanner. */
static void make_dense(void) {
    static const char *const words[] = {"\xd0\xbf\xd1\x80\xd0\xb8\xd0\xb2\xd0\xb5\xd1\x82 ",
                                        "\xe4\xbd\xa0\xe5\xa5\xbd\xe4\xb8\x96\xe7\x95\x8c",
                                        "na\xc3\xafve "};
    for (unsigned i = 0; i < BATCHES; i++) {
        size_t n = 0;
        batches[i][n++] = '[';
        for (unsigned e = 0; e < EVENTS; e++) {
            n += (size_t)snprintf(batches[i] + n, 3, "%s", e == 0 ? "\"" : ",\"");
            for (size_t end = n + 560; n < end;) {
                const char *word = pick(words, 3);
                memcpy(batches[i] + n, word, strlen(word));
                n += strlen(word);
            }
            batches[i][n++] = '"';
        }
        batches[i][n++] = ']';
        lengths[i] = n;
    }
}

int main(void) {
    make(false);
    measure("ascii, chosen", json_parse);
    measure("ascii, scalar", json_parse_scalar);
    make(true);
    measure("a non-ascii title, chosen", json_parse);
    measure("a non-ascii title, scalar", json_parse_scalar);
    make_dense();
    measure("dense non-ascii, chosen", json_parse);
    measure("dense non-ascii, scalar", json_parse_scalar);
    return 0;
}
