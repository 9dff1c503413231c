/*
 * Cost of the journal and the resolver per event: 50 events of about 600 B a request, 20 requests a
 * flush, 100,000 people.
 *
 *   journal_perf [EVENTS [FOLDER [WINDOW_S]]]     WINDOW_S 0: without dedupe
 */
/* depends: resolve journal inspect keyring seglog protocol mixpanel wire json model crypto os base */
/* libs: lmdb */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "flow/resolve/resolve_int.h"
#include "model/class.h"
#include "os/clock.h"
#include "os/socket.h"

enum { EVENTS = 50, REQUESTS = 20, PEOPLE = 100000, TEMPLATES = 2000 };

static void must(bool good, const char *what) {
    if (!good) {
        (void)fprintf(stderr, "failed: %s\n", what);
        exit(2);
    }
}

static uint64_t thread_ns(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

static struct keyring *make_keyring(const char *dir) {
    char key[300];
    char data[300];
    struct err err = {0};
    (void)snprintf(key, sizeof(key), "%s/master.key", dir);
    (void)snprintf(data, sizeof(data), "%s/data", dir);
    must(mkdir(data, 0700) == 0, "mkdir");
    must(keyring_master_create(key, &err) == 0, err.text);
    const struct keyring_source source = {.file = key};
    struct keyring *keyring = NULL;
    must(keyring_open(data, data, &source, true, 1, &keyring, &err) == 0, err.text);
    return keyring;
}

/* Events as mixpanel-browser sends them: the same keys, other values. */
static struct record_event *make_events(const struct aid_maker *aids) {
    static const char *const pages[] = {"pricing", "docs/quickstart", "account/settings",
                                        "blog/2026/launch"};
    static char memory[TEMPLATES][900];
    static struct finding findings[8];
    struct record_event *events = (struct record_event *)calloc(TEMPLATES, sizeof(*events));
    must(events != NULL, "memory");
    for (unsigned i = 0; i < 8; i++) {
        findings[i] = (struct finding){(uint16_t)(3 * i + 2), (uint16_t)(CLASS_EMAIL),
                                       FOUND_BY_SCHEMA, 0, FINDING_WHOLE};
    }
    for (unsigned i = 0; i < TEMPLATES; i++) {
        unsigned person = (i * 7919U) % PEOPLE;
        int n = snprintf(
            memory[i], sizeof(memory[i]),
            "{\"event\":\"Step %u\",\"properties\":{\"$os\":\"Mac OS X\",\"$browser\":\"Chrome\",\"$browser_version\":%u,"
            "\"$current_url\":\"https://app.example.com/%s?ref=%u\",\"$screen_height\":1080,\"$screen_width\":1920,"
            "\"mp_lib\":\"web\",\"$lib_version\":\"2.83.0\",\"$insert_id\":\"%08x%08x\",\"time\":17954%05u.%03u,"
            "\"distinct_id\":\"user-%u\",\"$device_id\":\"0192f%07x-7e4c-4a1b-9d3e-%012x\",\"$initial_referrer\":\"$direct\","
            "\"$initial_referring_domain\":\"$direct\",\"$user_id\":\"user-%u\",\"plan\":\"%s\",\"tokens\":%u,\"model\":\"m-%u\","
            "\"mp_sent_by_lib_version\":\"2.83.0\",\"token\":\"mp_browser_token_a\"}}",
            i % 40, 120 + i % 9, pages[i % 4], i, i * 2654435761U, i * 40503U, i % 99999, i % 1000,
            person, person, person, person, i % 3 == 0 ? "pro" : "free", i * 13, i % 12);
        must(n > 0 && (size_t)n < sizeof(memory[i]), "template");
        char id[32];
        (void)snprintf(id, sizeof(id), "user-%u", person);
        events[i] = (struct record_event){.kind = EVENT_TRACK,
                                          .time_ms = 1795400000000 + i,
                                          .dedupe = i + 1,
                                          .findings = findings,
                                          .finding_count = 8,
                                          .json = span_of(memory[i], (size_t)n)};
        aid_make(aids, SPAN_NONE, span_str(id), &events[i].aid);
        events[i].flags = EVENT_HAS_LINKS;
        events[i].ids =
            (uint64_t)(person + 1) * 0x9e3779b97f4a7c15U; /* as good as a real one here */
    }
    return events;
}

static void count_done(void *context, uint64_t ticket, int result) {
    (void)ticket;
    must(result == 0, "completion");
    (*(uint64_t *)context)++;
}

struct cost {
    uint64_t events;
    uint64_t loop_cpu_ns;
    uint64_t wall_us;
};

/* Each event is sent once: no dedupe id comes twice. `has_content`: as ingest writes it, so that repeats can be told. */
static void number_events(const struct record_event *templates, uint64_t first, bool has_content,
                          struct record_event out[EVENTS]) {
    for (unsigned i = 0; i < EVENTS; i++) {
        uint64_t mixed = (first + i + 1) * 0x9e3779b97f4a7c15U;
        mixed = (mixed ^ mixed >> 29) * 0xbf58476d1ce4e5b9U;
        out[i] = templates[i];
        out[i].dedupe = mixed ^ mixed >> 32;
        out[i].content = has_content ? (uint32_t)(mixed >> 7) | 1 : 0;
    }
}

static struct cost write_events(struct journal *journal, const struct record_event *templates,
                                uint64_t events, bool has_content) {
    struct journal_writer *writer = journal_writer_of(journal, 0);
    const struct record_request request = {
        .protocol = PROTOCOL_MIXPANEL,
        .kind = 1,
        .source = 1,
        .detectors = 1,
        .events = EVENTS,
        .received_us = 1795400000000000U,
        .env = SPAN_LIT("{\"ip\":true,\"path\":\"/track/\",\"verbose\":true}")};
    struct cost cost = {0};
    uint64_t put = 0;
    uint64_t done = 0;
    uint64_t start = os_mono_us();
    while (cost.events < events) {
        uint64_t before = thread_ns();
        bool is_full = false;
        for (unsigned i = 0; i < REQUESTS && !is_full; i++) {
            const struct record_event *at = templates + (put * EVENTS) % (TEMPLATES - EVENTS);
            struct record_event numbered[EVENTS];
            number_events(at, put * EVENTS, has_content, numbered);
            is_full = journal_writer_put(writer, &request, numbered, EVENTS, put) != 0;
            put += is_full ? 0 : 1;
            cost.events += is_full ? 0 : EVENTS;
        }
        journal_writer_flush(writer);
        cost.loop_cpu_ns += thread_ns() - before;
        if (is_full) {
            (void)os_wake_wait(journal_writer_wake_fd(writer), 1000);
        }
        (void)journal_writer_complete(writer, count_done, &done);
    }
    while (done < put) {
        (void)os_wake_wait(journal_writer_wake_fd(writer), 1000);
        (void)journal_writer_complete(writer, count_done, &done);
    }
    cost.wall_us = os_mono_us() - start;
    return cost;
}

/* CPU per event of a reader; a second one finds the chunks in the cache when it follows closely. */
static void read_events(struct journal *journal, double *ret_first, double *ret_second) {
    struct journal_reader *readers[2];
    uint64_t ns[2] = {0, 0};
    uint64_t events = 0;
    for (int i = 0; i < 2; i++) {
        must(journal_reader_new(journal, 1, -1, &readers[i]) == 0, "reader");
    }
    for (bool more = true; more;) {
        for (int i = 0; i < 2; i++) {
            struct journal_batch batch;
            uint64_t gap = 0;
            uint64_t before = thread_ns();
            int r = journal_reader_next(readers[i], &batch, &gap);
            ns[i] += thread_ns() - before;
            must(r == 0 || r == BH_E_AGAIN, "read");
            more = r == 0;
            events += r == 0 && i == 0 ? batch.count : 0;
        }
    }
    for (int i = 0; i < 2; i++) {
        journal_reader_free(readers[i]);
    }
    *ret_first = (double)ns[0] / (double)events;
    *ret_second = (double)ns[1] / (double)events;
}

/* Before the events are written, as in the gateway: fingerprints of a former process are not used. */
static struct resolver *new_resolver(const char *dir, struct keyring *keyring,
                                     struct journal *journal, uint32_t window_s) {
    char path[300];
    (void)snprintf(path, sizeof(path), "%s/data/resolve", dir);
    static const struct resolve_source source = {.number = 1};
    const struct resolve_config config = {.dir = path,
                                          .keyring = keyring,
                                          .journal = journal,
                                          .sources = &source,
                                          .source_count = 1,
                                          .map_size = 1 << 30,
                                          .repeat_window_s = window_s};
    struct resolver *resolver = NULL;
    struct err err = {0};
    must(resolver_open(&config, &resolver, &err) == 0, err.text);
    return resolver;
}

static uint64_t process_ns(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void resolve_events(struct resolver *resolver, struct journal *journal,
                           const struct record_event *templates) {
    uint64_t start = os_mono_us();
    uint64_t cpu = process_ns();
    must(resolver_start(resolver) == 0, "resolver");
    while (resolver_seq(resolver) < journal_durable_seq(journal)) {
        os_sleep_us(500);
    }
    uint64_t us = os_mono_us() - start;
    cpu = process_ns() - cpu;
    struct resolver_stats stats;
    resolver_stats(resolver, &stats);
    printf("resolve     %6.3f us/event wall, %.3f CPU, %llu people, %llu edges, %llu misses\n",
           (double)us / (double)journal_durable_seq(journal),
           (double)cpu / 1e3 / (double)journal_durable_seq(journal),
           (unsigned long long)stats.people, (unsigned long long)stats.edges,
           (unsigned long long)stats.hot_misses);
    if (stats.repeat_window_s != 0) {
        printf("repeats     %llu known, %.1f MiB on disk, %llu dropped\n",
               (unsigned long long)stats.repeat_entries, (double)stats.repeat_bytes / 1048576,
               (unsigned long long)stats.repeat_events);
    }
    struct resolve_view *view = NULL;
    must(resolve_view_new(resolver, &view) == 0 && resolve_view_begin(view) == 0, "view");
    uint64_t before = thread_ns();
    struct resolve_row row;
    uint32_t found = 0;
    for (unsigned round = 0; round < 500; round++) {
        for (unsigned i = 0; i < TEMPLATES; i++) {
            found += resolve_lookup_event(view, &templates[i].aid, UINT64_MAX, &row) == 0 ? 1U : 0U;
        }
    }
    printf("look-up     %6.1f ns of a known aid\n", (double)(thread_ns() - before) / (double)found);
    resolve_view_end(view);
    resolve_view_free(view);
    resolver_free(resolver);
}

int main(int argc, char **argv) {
    uint64_t events = argc > 1 ? strtoull(argv[1], NULL, 10) : 2000000;
    const char *parent = argc > 2 ? argv[2] : "/tmp";
    uint32_t window_s = argc > 3 ? (uint32_t)strtoul(argv[3], NULL, 10) : 86400;
    char dir[200];
    char path[300];
    (void)snprintf(dir, sizeof(dir), "%s/journal-perf-XXXXXX", parent);
    must(mkdtemp(dir) != NULL, "folder");
    (void)snprintf(path, sizeof(path), "%s/data/journal", dir);
    must(crypto_init() == 0, "crypto");
    struct keyring *keyring = make_keyring(dir);
    struct aid_maker *aids = aid_maker_new(keyring);
    must(aids != NULL, "aids");
    struct record_event *templates = make_events(aids);
    const struct journal_config config = {
        .dir = path, .keyring = keyring, .keep_us = (uint64_t)7 * 86400 * 1000000, .writers = 1};
    struct journal *journal = NULL;
    struct err err = {0};
    must(journal_open(&config, &journal, NULL, &err) == 0, err.text);
    must(journal_start(journal) == 0, "commit thread");
    struct resolver *resolver = new_resolver(dir, keyring, journal, window_s);
    struct timespec cpu_before;
    struct timespec cpu_after;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu_before);
    struct cost cost = write_events(journal, templates, events, window_s != 0);
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu_after);
    double cpu_us = (double)(cpu_after.tv_sec - cpu_before.tv_sec) * 1e6 +
                    (double)(cpu_after.tv_nsec - cpu_before.tv_nsec) / 1e3;
    struct journal_stats stats;
    journal_stats(journal, &stats);
    double n = (double)cost.events;
    printf("events      %llu of %.0f B, %.0f B on disk each (LZ4 %.1fx), %llu frames of %.0f KiB\n",
           (unsigned long long)cost.events, (double)stats.raw_bytes / n,
           (double)stats.bytes_written / n, (double)stats.raw_bytes / (double)stats.bytes_written,
           (unsigned long long)stats.frames,
           (double)stats.bytes_written / 1024 / (double)stats.frames);
    printf("written     %6.3f M events/s, sync %.2f ms mean, %.2f ms max\n",
           n / (double)cost.wall_us, (double)stats.sync_us_total / 1e3 / (double)stats.frames,
           (double)stats.sync_us_max / 1e3);
    printf("loop        %6.3f us/event (put, LZ4, hand over), all threads %.3f us/event\n",
           (double)cost.loop_cpu_ns / n / 1e3, cpu_us / n);
    double first = 0;
    double second = 0;
    read_events(journal, &first, &second);
    printf("reader      %6.3f us/event opening, %.3f from the cache\n", first / 1e3, second / 1e3);
    resolve_events(resolver, journal, templates);
    journal_free(journal);
    aid_maker_free(aids);
    keyring_free(keyring);
    free(templates);
    printf("folder      %s (remove it)\n", dir);
    return 0;
}
