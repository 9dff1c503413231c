/*
 * Retention: which segments die, and who is told before.
 *
 *   1. budgets    a vendor whose backlog is over its own budget loses its oldest segments' events:
 *      gap lines, nothing is dropped for that
 *   2. age        a segment that all have settled dies when its oldest event reaches `keep`
 *   3. pressure   above 95 % of the maximum the oldest segment dies whatever its age; whoever has
 *      not settled it gets a gap line first
 *
 * Only the oldest segment can die, so one unsettled segment keeps the younger ones: they are
 * settled later anyway, and the seqs on disk stay one range.
 * Thread: keeper (it allocates: never the event path).
 */
#include <stdlib.h>

#include "base/check.h"
#include "flow/journal/journal_int.h"
#include "os/clock.h"
#include "os/log.h"

enum {
    PRESSURE_PERCENT = 95,
    ALARM_PERCENT = 50,
    SAMPLE_SPACING_US = 60 * 1000 * 1000,
};

struct segment_list {
    struct seglog_segment *at;
    size_t count;
    size_t cap;
};

static int list_add(void *context, const struct seglog_segment *segment) {
    struct segment_list *list = (struct segment_list *)context;
    if (list->count == list->cap) {
        size_t cap = list->cap != 0 ? list->cap * 2 : 64;
        struct seglog_segment *at =
            (struct seglog_segment *)realloc(list->at, cap * sizeof(*list->at));
        if (at == NULL) {
            return BH_E_NOMEM;
        }
        list->at = at;
        list->cap = cap;
    }
    list->at[list->count++] = *segment;
    return 0;
}

/* Who has settled what, as this pass moves it on. */
struct settled {
    const struct journal_settlement *vendor;
    uint64_t seq;
};

struct pass {
    struct journal *journal;
    struct segment_list segments;
    struct settled *settled;
    size_t settled_count;
    uint64_t bytes;   /* of all segments, the open one as far as it is written */
    uint64_t dropped; /* segments */
    uint64_t now_us;
    int (*gap)(void *context, const char *vendor, uint64_t from_seq, uint64_t until_seq);
    void *context;
};

static int give_gap(struct pass *pass, struct settled *settled, uint64_t until) {
    check(settled->vendor->vendor != NULL);
    int r = pass->gap != NULL
                ? pass->gap(pass->context, settled->vendor->vendor, settled->seq, until)
                : BH_E_STATE;
    if (r == 0) {
        settled->seq = until;
    }
    return r;
}

/*
 * Bytes of closed segments that this vendor holds back, a segment that it is in the middle of by
 * its share.
 */
static uint64_t backlog_bytes(const struct pass *pass, const struct settled *settled) {
    uint64_t bytes = 0;
    for (size_t i = 0; i < pass->segments.count; i++) {
        const struct seglog_segment *segment = &pass->segments.at[i];
        if (!segment->closed || settled->seq >= segment->next_seq) {
            continue;
        }
        uint64_t events = segment->next_seq - segment->first_seq;
        uint64_t open =
            settled->seq > segment->first_seq ? segment->next_seq - settled->seq : events;
        bytes += (uint64_t)((double)segment->bytes * (double)open / (double)events);
    }
    return bytes;
}

static int apply_budget(struct pass *pass, struct settled *settled) {
    uint64_t budget =
        settled->vendor->budget != 0 ? settled->vendor->budget : pass->journal->max_bytes;
    if (settled->vendor->vendor == NULL) {
        return 0;
    }
    for (size_t i = 0; i < pass->segments.count; i++) {
        const struct seglog_segment *segment = &pass->segments.at[i];
        if (!segment->closed || settled->seq >= segment->next_seq) {
            continue;
        }
        if (backlog_bytes(pass, settled) <= budget) {
            return 0;
        }
        int r = give_gap(pass, settled, segment->next_seq);
        if (r != 0) {
            return r;
        }
    }
    return 0;
}

static bool must_die(const struct pass *pass, const struct seglog_segment *segment) {
    bool is_settled = true;
    for (size_t i = 0; i < pass->settled_count; i++) {
        if (pass->settled[i].seq < segment->next_seq) {
            if (pass->settled[i].vendor->vendor == NULL) {
                return false;
            }
            is_settled = false;
        }
    }
    bool is_pressed = pass->bytes > pass->journal->max_bytes / 100 * PRESSURE_PERCENT;
    bool is_old = segment->time_us_min + pass->journal->config.keep_us <= pass->now_us;
    return is_pressed || (is_settled && is_old);
}

/*
 * Drops the oldest segment after telling everyone who loses by it. Bytes freed or a negative error.
 */
static int64_t drop_oldest(struct pass *pass, const struct seglog_segment *segment) {
    for (size_t i = 0; i < pass->settled_count; i++) {
        if (pass->settled[i].seq < segment->next_seq) {
            int r = give_gap(pass, &pass->settled[i], segment->next_seq);
            if (r != 0) {
                return r;
            }
        }
    }
    struct journal *journal = pass->journal;
    int r = seglog_drop(journal->dir, segment->number);
    if (r != 0) {
        return r;
    }
    atomic_store_explicit(&journal->first_seq, segment->next_seq, memory_order_release);
    pass->bytes -= segment->bytes;
    pass->dropped++;
    return (int64_t)segment->bytes;
}

/* A vendor whose gap cannot be recorded keeps its segments; the others get what is theirs. */
static int64_t run_pass(struct pass *pass) {
    int first_error = 0;
    for (size_t i = 0; i < pass->settled_count; i++) {
        int r = apply_budget(pass, &pass->settled[i]);
        first_error = first_error == 0 ? r : first_error;
    }
    int64_t freed = 0;
    /*
     * The newest stays: the log goes on from its numbers. The commit thread starts another in time.
     */
    for (size_t i = 0; i + 1 < pass->segments.count; i++) {
        const struct seglog_segment *segment = &pass->segments.at[i];
        if (!segment->closed || !must_die(pass, segment)) {
            break;
        }
        int64_t n = drop_oldest(pass, segment);
        if (n < 0) {
            first_error = first_error == 0 ? (int)n : first_error;
            break;
        }
        freed += n;
    }
    return first_error != 0 ? first_error : freed;
}

static uint64_t count_bytes(const struct pass *pass) {
    uint64_t bytes = atomic_load_explicit(&pass->journal->open_bytes, memory_order_relaxed);
    for (size_t i = 0; i < pass->segments.count; i++) {
        bytes += pass->segments.at[i].closed ? pass->segments.at[i].bytes : 0;
    }
    return bytes;
}

/*
 * What the commit thread counted since the list was made is at most a segment, and is in the next
 * list.
 */
static void publish_bytes(const struct pass *pass) {
    struct journal *journal = pass->journal;
    uint64_t open_bytes = atomic_load_explicit(&journal->open_bytes, memory_order_relaxed);
    atomic_store_explicit(&journal->closed_bytes,
                          pass->bytes > open_bytes ? pass->bytes - open_bytes : 0,
                          memory_order_relaxed);
    atomic_store_explicit(&journal->stat_segments, pass->segments.count - pass->dropped,
                          memory_order_relaxed);
}

static uint64_t bytes_now(const struct journal *journal) {
    return atomic_load_explicit(&journal->closed_bytes, memory_order_relaxed) +
           atomic_load_explicit(&journal->open_bytes, memory_order_relaxed);
}

/* Seconds until the maximum, from the growth since the oldest sample (an hour ago at most). */
static uint64_t forecast(const struct journal *journal, uint64_t now_us) {
    struct space_sample first = journal->samples[0];
    uint64_t bytes = bytes_now(journal);
    if (journal->sample_count == 0 || bytes <= first.bytes || now_us <= first.at_us) {
        return UINT64_MAX;
    }
    if (bytes >= journal->max_bytes) {
        return 0;
    }
    double rate = (double)(bytes - first.bytes) / (double)(now_us - first.at_us);
    double left_us = (double)(journal->max_bytes - bytes) / rate;
    return left_us < 1e18 ? (uint64_t)(left_us / 1e6) : UINT64_MAX;
}

static void take_sample(struct journal *journal, uint64_t now_us) {
    unsigned n = journal->sample_count;
    if (n == 0 || now_us >= journal->samples[n - 1].at_us + SAMPLE_SPACING_US) {
        if (n == FORECAST_SAMPLES) {
            memmove(journal->samples, journal->samples + 1, sizeof(journal->samples[0]) * (n - 1));
            n--;
        }
        journal->samples[n] = (struct space_sample){now_us, bytes_now(journal)};
        journal->sample_count = n + 1;
    }
    atomic_store_explicit(&journal->forecast_s, forecast(journal, now_us), memory_order_relaxed);
}

static void say_half_full(struct journal *journal) {
    bool is_half_full = bytes_now(journal) > journal->max_bytes / 100 * ALARM_PERCENT;
    if (is_half_full && !journal->half_full_was_said) {
        log_event(LOG_WARN, "journal: more than half of its maximum is used",
                  LOG_INT("bytes", bytes_now(journal)), LOG_INT("max", journal->max_bytes),
                  LOG_INT("full_in_s", journal_forecast_s(journal)));
    }
    journal->half_full_was_said = is_half_full;
}

int64_t journal_retain(struct journal *journal, const struct journal_settlement *vendors,
                       size_t vendor_count,
                       int (*gap)(void *context, const char *vendor, uint64_t from_seq,
                                  uint64_t until_seq),
                       void *context) {
    struct pass pass = {.journal = journal, .now_us = os_wall_us(), .gap = gap, .context = context};
    int64_t result = seglog_list(journal->dir, SEGLOG_JOURNAL, list_add, &pass.segments);
    pass.settled = (struct settled *)calloc(vendor_count + 1, sizeof(*pass.settled));
    if (pass.settled == NULL) {
        result = BH_E_NOMEM;
    }
    if (result == 0) {
        for (size_t i = 0; i < vendor_count; i++) {
            pass.settled[i] = (struct settled){&vendors[i], vendors[i].settled_seq};
        }
        pass.settled_count = vendor_count;
        pass.bytes = count_bytes(&pass);
        result = run_pass(&pass);
        publish_bytes(&pass);
        take_sample(journal, os_mono_us());
        say_half_full(journal);
    }
    free(pass.settled);
    free(pass.segments.at);
    return result;
}

uint64_t journal_forecast_s(const struct journal *journal) {
    return atomic_load_explicit(&journal->forecast_s, memory_order_relaxed);
}

/* -- counting ---------------------------------------------------------------------------------- */

int journal_count_from(struct journal *journal, uint64_t from_seq, uint64_t *ret_events) {
    uint64_t end = journal_durable_seq(journal) + 1;
    uint64_t first = journal_first_seq(journal);
    uint64_t from = from_seq > first ? from_seq : first;
    *ret_events = from < end ? end - from : 0;
    return 0;
}

struct source_count {
    uint64_t *by_source;
    size_t cap;
};

static void add_source(const struct source_count *count, uint16_t source, uint64_t events) {
    if (source < count->cap) {
        count->by_source[source] += events;
    }
}

static int count_footer(const struct journal *journal, const struct seglog_segment *segment,
                        const struct source_count *count) {
    enum { COUNTS_MAX = SEGLOG_BLOB_MAX / 10 };
    uint8_t *blob = (uint8_t *)malloc(SEGLOG_BLOB_MAX);
    struct footer_count *counts = (struct footer_count *)calloc(COUNTS_MAX, sizeof(*counts));
    size_t size = 0;
    long n = BH_E_NOMEM;
    if (blob != NULL && counts != NULL) {
        n = seglog_segment_blob(journal->dir, segment->number, blob, SEGLOG_BLOB_MAX, &size);
    }
    if (n == 0) {
        n = footer_counts_read(span_of(blob, size), counts, COUNTS_MAX);
    }
    for (long i = 0; i < n; i++) {
        add_source(count, counts[i].source, counts[i].events);
    }
    free(blob);
    free(counts);
    return n < 0 ? (int)n : 0;
}

/* Reads [from, until) event by event. */
static int count_by_reading(struct journal *journal, uint64_t from, uint64_t until,
                            const struct source_count *count) {
    struct journal_reader *reader = NULL;
    int r = journal_reader_new(journal, from, -1, &reader);
    while (r == 0 && journal_reader_seq(reader) < until) {
        struct journal_batch batch;
        uint64_t gap_until = 0;
        r = journal_reader_next(reader, &batch, &gap_until);
        if (r == BH_E_NOTFOUND) {
            journal_reader_seek(reader, gap_until);
            r = 0;
            continue;
        }
        for (uint32_t i = 0; r == 0 && i < batch.count && batch.events[i].seq < until; i++) {
            add_source(count, batch.requests[batch.request_of[i]].source, 1);
        }
    }
    journal_reader_free(reader);
    return r;
}

int journal_count_sources_from(struct journal *journal, uint64_t from_seq, uint64_t *ret_by_source,
                               size_t cap) {
    struct source_count count = {NULL, cap};
    count.by_source = ret_by_source;
    uint64_t end = journal_durable_seq(journal) + 1;
    struct segment_list segments = {0};
    int r = seglog_list(journal->dir, SEGLOG_JOURNAL, list_add, &segments);
    for (size_t i = 0; i < segments.count && r == 0; i++) {
        const struct seglog_segment *segment = &segments.at[i];
        uint64_t until = segment->closed ? segment->next_seq : end;
        if (from_seq >= until) {
            continue;
        }
        if (segment->closed && from_seq <= segment->first_seq) {
            r = count_footer(journal, segment, &count);
        } else {
            uint64_t from = from_seq > segment->first_seq ? from_seq : segment->first_seq;
            r = count_by_reading(journal, from, until < end ? until : end, &count);
        }
    }
    free(segments.at);
    return r;
}
