/*
 * Reading a log for an answer, in one pass. Outcomes stand after their attempts, so the entries of an attempt that may touch the window are kept until
 * its items are final or its window is settled, and LAG_MAX attempts more: the writer remembers no more than those. Then they are told one by one, and
 * the attempt is forgotten; an outcome that comes for a forgotten one was written by no version.
 *
 * Works beside the writer: a frame that is not whole yet reads as the end of the log.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "flow/ledger/ledger_int.h"
#include "os/file.h"

enum { SHAPES_MAX = 1 << 16, LAG_MAX = 4096 };

/*
 * What became of an attempt. A complete answer makes it certain from `complete_ms` on; but an answer such as 429 is complete and the same bytes are
 * sent again, so the vendor may read them until `end_ms`: the outcome that says that its items are final, else the end of its window.
 */
struct told {
    uint64_t number;
    uint64_t time_ms;
    uint64_t first_seq;
    uint64_t complete_ms; /* first complete answer; 0 = none */
    uint64_t end_ms;      /* 0 = not yet: it may be sent again, or still be read */
    uint8_t *entries;     /* bytes as in the leaf's body; NULL: outside the window, or told */
    uint32_t entries_size;
    uint32_t entry_count;
    uint16_t flags;
    uint8_t result; /* strongest */
    bool is_told;   /* it has an outcome */
};

struct shape {
    uint16_t source;
    uint16_t count; /* 0 = not known */
    uint32_t pairs_from;
};

struct ledger_reader {
    char path[LEDGER_PATH];
    char origin[256];
    struct log_keys keys;
    struct seglog_config config;
    uint8_t *frame;
    struct told *told; /* in attempt order: told[i].number = told[0].number + i, without gaps */
    size_t told_count;
    size_t told_cap;
    size_t told_lagging;     /* those before have been looked at: told, or left for the end */
    uint64_t told_forgotten; /* highest number that was dropped */
    struct shape *shapes;
    struct ledger_pair *pairs;
    uint32_t pairs_count;
    uint64_t watched_ms;
};

int ledger_reader_open(const char *dir, const char *vendor, struct keyring *keyring,
                       struct ledger_reader **ret_reader, struct err *err) {
    char log_name[96];
    uint32_t n = ledger_newest(dir, vendor);
    if (n == 0) {
        return err_set(err, BH_E_NOTFOUND,
                       "there is no ledger of %s: nothing was ever sent to it from here", vendor);
    }
    struct ledger_reader *r = calloc(1, sizeof *r);
    if (r == NULL) {
        return err_set(err, BH_E_NOMEM, "out of memory");
    }
    (void)snprintf(log_name, sizeof log_name, "%s-%u", vendor, n);
    ledger_log_path(dir, log_name, r->path, sizeof r->path);
    ledger_origin(keyring, log_name, r->origin, sizeof r->origin);
    r->frame = malloc(SEGLOG_FRAME_MAX);
    r->shapes = calloc(SHAPES_MAX, sizeof *r->shapes);
    r->pairs = calloc(SHAPES_MAX, 8 * sizeof *r->pairs);
    int result = r->frame != NULL && r->shapes != NULL && r->pairs != NULL
                     ? 0
                     : err_set(err, BH_E_NOMEM, "out of memory");
    result = result == 0 ? keyring_log(keyring, log_name, false, &r->keys, err) : result;
    if (result != 0) {
        ledger_reader_close(r);
        return result;
    }
    ledger_seglog_config(r->path, keyring, r->keys.wrapping, &r->config);
    *ret_reader = r;
    return 0;
}

static void told_clear(struct ledger_reader *reader) {
    for (size_t i = 0; i < reader->told_count; i++) {
        free(reader->told[i].entries);
    }
    reader->told_count = 0;
    reader->told_lagging = 0;
    reader->told_forgotten = 0;
}

void ledger_reader_close(struct ledger_reader *reader) {
    if (reader == NULL) {
        return;
    }
    told_clear(reader);
    free(reader->frame);
    free(reader->told);
    free(reader->shapes);
    free(reader->pairs);
    free(reader);
}

/* Calls `each` for every leaf of the log in order. AGAIN and TORN are its end. */
static int walk_log(struct ledger_reader *reader,
                    int (*each)(struct ledger_reader *reader, const struct leaf *leaf,
                                void *context),
                    void *context) {
    struct seglog_reader *log = NULL;
    struct seglog_frame frame;
    struct err err;
    int r = seglog_reader_new(&reader->config, &log, &err);
    while (r == 0 &&
           (r = seglog_read_next(log, UINT64_MAX, reader->frame, SEGLOG_FRAME_MAX, &frame)) == 0) {
        struct frame_walk walk;
        struct leaf leaf;
        r = frame_walk_begin(&walk, frame.plain);
        while (r == 0 && (r = frame_walk_next(&walk, &leaf)) == 0) {
            r = each(reader, &leaf, context);
        }
        r = r == BH_E_AGAIN ? 0 : r;
    }
    seglog_reader_free(log);
    return r == BH_E_AGAIN || r == BH_E_TORN || r == BH_E_NOTFOUND ? 0 : r;
}

static int told_add(struct ledger_reader *reader, const struct leaf *leaf,
                    const struct ledger_query *query) {
    uint64_t number = leaf->attempt.number;
    uint64_t before = reader->told_count != 0 ? reader->told[reader->told_count - 1].number
                                              : reader->told_forgotten;
    if (before != 0 && number != before + 1) {
        return BH_E_CORRUPT;
    }
    if (reader->told_count == reader->told_cap) {
        size_t cap = reader->told_cap != 0 ? reader->told_cap * 2 : 1024;
        struct told *more = realloc(reader->told, cap * sizeof *more);
        if (more == NULL) {
            return BH_E_NOMEM;
        }
        reader->told = more;
        reader->told_cap = cap;
    }
    struct told told = {.number = number,
                        .time_ms = leaf->attempt.time_ms,
                        .first_seq = leaf->attempt.first_seq,
                        .flags = leaf->attempt.flags,
                        .entry_count = leaf->attempt.entries,
                        .entries_size = (uint32_t)leaf->body.n,
                        .result = RESULT_UNKNOWN};
    if (told.time_ms <= query->at_ms && told.time_ms < query->to_ms) {
        told.entries = malloc(leaf->body.n + 1);
        if (told.entries == NULL) {
            return BH_E_NOMEM;
        }
        memcpy(told.entries, leaf->body.n != 0 ? leaf->body.p : told.entries, leaf->body.n);
    }
    reader->told[reader->told_count++] = told;
    return 0;
}

static struct told *told_find(struct ledger_reader *reader, uint64_t number) {
    if (reader->told_count == 0 || number < reader->told[0].number ||
        number - reader->told[0].number >= reader->told_count) {
        return NULL;
    }
    return &reader->told[number - reader->told[0].number];
}

static bool is_complete(uint8_t result) {
    return result == RESULT_ACCEPTED || result == RESULT_REFUSED;
}

/* All attempts of windows from this seq on are over: they stand at the end of the list. */
static void told_end_from(struct ledger_reader *reader, uint64_t first_seq, uint64_t time_ms) {
    for (size_t i = reader->told_count; i > 0 && reader->told[i - 1].first_seq >= first_seq; i--) {
        struct told *told = &reader->told[i - 1];
        told->end_ms = told->end_ms == 0 ? time_ms : told->end_ms;
    }
}

/* The strongest result wins: complete, then unknown, then unsent. */
static void told_outcome(struct ledger_reader *reader, struct told *told, const struct leaf *leaf) {
    uint8_t result = leaf->outcome.result;
    uint64_t time_ms = leaf->outcome.time_ms;
    if (is_complete(result)) {
        told->complete_ms = told->complete_ms == 0 ? time_ms : told->complete_ms;
        told->result = result;
    } else if (told->complete_ms == 0) {
        told->result = !told->is_told || result == RESULT_UNKNOWN ? result : told->result;
    }
    told->is_told = true;
    if ((leaf->outcome.flags & OUTCOME_ITEMS_FINAL) != 0) {
        told->end_ms = time_ms > told->end_ms ? time_ms : told->end_ms;
    }
    if ((leaf->outcome.flags & OUTCOME_WINDOW_SETTLED) != 0) {
        told_end_from(reader, told->first_seq, time_ms);
    }
}

static int learn_shape(struct ledger_reader *reader, const struct leaf *leaf) {
    if (leaf->shape.number >= SHAPES_MAX ||
        reader->pairs_count + leaf->shape.count > SHAPES_MAX * 8U) {
        return BH_E_TOO_MANY;
    }
    struct shape *shape = &reader->shapes[leaf->shape.number];
    *shape = (struct shape){leaf->shape.source, leaf->shape.count, reader->pairs_count};
    memcpy(&reader->pairs[reader->pairs_count], leaf->shape.pairs,
           leaf->shape.count * sizeof *reader->pairs);
    reader->pairs_count += leaf->shape.count;
    return 0;
}

static int learn(struct ledger_reader *reader, const struct leaf *leaf,
                 const struct ledger_query *query) {
    struct told *told = NULL;
    switch (leaf->type) {
    case LEAF_ATTEMPT:
        return told_add(reader, leaf, query);
    case LEAF_OUTCOME:
        if (leaf->outcome.attempt <= reader->told_forgotten) {
            return BH_E_CORRUPT;
        }
        told = told_find(reader, leaf->outcome.attempt);
        if (told != NULL && leaf->outcome.time_ms <= query->at_ms) {
            told_outcome(reader, told, leaf);
        }
        return 0;
    case LEAF_PASSED:
        if (leaf->passed.time_ms <= query->at_ms) {
            told_end_from(reader, leaf->passed.first_seq, leaf->passed.time_ms);
        }
        return 0;
    case LEAF_SHAPE:
        return learn_shape(reader, leaf);
    case LEAF_OPEN:
        if (reader->watched_ms == 0) {
            reader->watched_ms = leaf->open.time_ms;
        }
        return 0;
    default:
        return 0;
    }
}

struct scan {
    const struct ledger_query *query;
    void (*each)(void *context, const struct ledger_row *row);
    void *context;
};

static int tell_entries(struct ledger_reader *reader, const struct told *told,
                        const struct scan *scan, struct ledger_row *row) {
    const struct ledger_query *query = scan->query;
    struct leaf leaf = {.body = span_of(told->entries, told->entries_size)};
    leaf.attempt.flags = told->flags;
    leaf.attempt.entries = told->entry_count;
    struct entry_walk walk;
    struct entry entry;
    int r = entry_walk_begin(&walk, &leaf);
    while (r == 0 && (r = entry_walk_next(&walk, &entry)) == 0) {
        const struct shape *shape = entry.shape < SHAPES_MAX ? &reader->shapes[entry.shape] : NULL;
        if (shape == NULL || shape->source == 0) {
            return BH_E_CORRUPT;
        }
        if ((query->source == 0 || query->source == shape->source) &&
            (query->ord == 0 || query->ord == entry.ord)) {
            row->ord = entry.ord;
            row->source = shape->source;
            row->shape = entry.shape;
            row->events = entry.events;
            row->pairs = &reader->pairs[shape->pairs_from];
            row->pair_count = shape->count;
            scan->each(scan->context, row);
        }
    }
    return r == BH_E_AGAIN ? 0 : r;
}

static int tell(struct ledger_reader *reader, struct told *told, const struct scan *scan) {
    const struct ledger_query *query = scan->query;
    bool complete = told->complete_ms != 0;
    /* Over before the window; without an end it may still have been read inside it. */
    bool is_over = complete && told->end_ms != 0 && told->end_ms < query->from_ms;
    int r = 0;
    if (told->entries != NULL && told->result != RESULT_UNSENT && !is_over) {
        struct ledger_row row = {
            .certain =
                complete && told->time_ms >= query->from_ms && told->complete_ms < query->to_ms,
            .attempt = told->number,
            .time_ms = told->time_ms,
            .outcome_ms = told->complete_ms,
            .result = told->result,
        };
        r = tell_entries(reader, told, scan, &row);
    }
    free(told->entries);
    told->entries = NULL;
    return r;
}

/* Tells what has ended long ago, and forgets what was told as far as it stands at the front. */
static int tell_ended(struct ledger_reader *reader, const struct scan *scan) {
    int r = 0;
    while (r == 0 && reader->told_lagging + LAG_MAX < reader->told_count) {
        struct told *told = &reader->told[reader->told_lagging++];
        r = told->end_ms != 0 ? tell(reader, told, scan) : 0;
    }
    size_t done = 0;
    bool is_time = reader->told_lagging != 0 && reader->told_lagging % LAG_MAX == 0;
    while (is_time && done < reader->told_lagging && reader->told[done].end_ms != 0 &&
           reader->told[done].entries == NULL) {
        done++;
    }
    if (r == 0 && done != 0) {
        reader->told_forgotten = reader->told[done - 1].number;
        reader->told_count -= done;
        reader->told_lagging -= done;
        memmove(reader->told, reader->told + done, reader->told_count * sizeof *reader->told);
    }
    return r;
}

static int scan_leaf(struct ledger_reader *reader, const struct leaf *leaf, void *context) {
    const struct scan *scan = context;
    int r = learn(reader, leaf, scan->query);
    return r == 0 && leaf->type == LEAF_ATTEMPT ? tell_ended(reader, scan) : r;
}

int ledger_scan(struct ledger_reader *reader, const struct ledger_query *query,
                void (*each)(void *context, const struct ledger_row *row), void *context) {
    struct scan scan = {query, each, context};
    told_clear(reader);
    reader->pairs_count = 0;
    memset(reader->shapes, 0, SHAPES_MAX * sizeof *reader->shapes);
    int r = walk_log(reader, scan_leaf, &scan);
    for (size_t i = 0; r == 0 && i < reader->told_count; i++) {
        r = tell(reader, &reader->told[i], &scan);
    }
    return r;
}

static int first_opening(struct ledger_reader *reader, const struct leaf *leaf, void *context) {
    (void)context;
    reader->watched_ms = leaf->type == LEAF_OPEN ? leaf->open.time_ms : 0;
    return reader->watched_ms != 0 ? BH_E_STATE : 0; /* enough */
}

uint64_t ledger_watched_since(struct ledger_reader *reader) {
    if (reader->watched_ms == 0) {
        (void)walk_log(reader, first_opening, NULL);
    }
    return reader->watched_ms;
}

struct seq_at {
    uint64_t at_ms;
    uint64_t seq;
};

static int reach(struct ledger_reader *reader, const struct leaf *leaf, void *context) {
    struct seq_at *at = context;
    uint64_t end = 0;
    (void)reader;
    if (leaf->type == LEAF_ATTEMPT && leaf->attempt.time_ms <= at->at_ms) {
        end = leaf->attempt.first_seq + leaf->attempt.span;
    } else if (leaf->type == LEAF_PASSED && leaf->passed.time_ms <= at->at_ms) {
        end = leaf->passed.first_seq + leaf->passed.span;
    }
    at->seq = end > at->seq ? end : at->seq;
    return 0;
}

int ledger_seq_at(struct ledger_reader *reader, uint64_t at_ms, uint64_t *ret_seq) {
    struct seq_at at = {at_ms, 0};
    int r = walk_log(reader, reach, &at);
    *ret_seq = at.seq;
    return r;
}

int ledger_reader_checkpoint(struct ledger_reader *reader, struct buf *out) {
    struct tlog_checkpoint checkpoint;
    struct buf note = buf_of(out->p + out->n, out->cap - out->n);
    int r =
        checkpoint_read(reader->path, reader->origin, reader->keys.sign_public, &checkpoint, &note);
    out->n += r == 0 ? note.n : 0;
    return r;
}
