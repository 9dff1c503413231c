/*
 * The resolver's part in the store of repeats: opening it, and entering again what its runs do not
 * hold.
 *
 *   journal:  ...... | covered_until ........ cursor | ......
 *               runs |   table: read again here      |  judged (repeats_see)
 *
 * Which of the events below the cursor counted stands in the tables, so what is read again is never
 * judged again. Where the files of the store are gone it is the whole window, as far as the journal
 * has it; ingest goes on meanwhile, couriers wait.
 */
#include <stdio.h>

#include "base/check.h"
#include "flow/resolve/resolve_int.h"
#include "os/clock.h"
#include "os/log.h"

int resolver_open_repeats(struct resolver *resolver, const struct resolve_config *config,
                          struct err *err) {
    char dir[sizeof(resolver->dir) + 8];
    (void)snprintf(dir, sizeof(dir), "%s/repeats", resolver->dir);
    const struct repeats_config repeats = {
        .dir = dir,
        .window_s = config->repeat_window_s,
        .from_seq = journal_durable_seq(resolver->journal) + 1,
        .table_slots = config->repeat_slots,
    };
    return repeats_open(&repeats, &resolver->repeats, err);
}

static void publish(struct resolver *resolver) {
    struct repeats_facts facts;
    repeats_facts(resolver->repeats, &facts);
    atomic_store_explicit(&resolver->stat_window_s, facts.window_s, memory_order_relaxed);
    atomic_store_explicit(&resolver->stat_since_us, facts.since_us, memory_order_relaxed);
    atomic_store_explicit(&resolver->stat_entries, facts.entries, memory_order_relaxed);
    atomic_store_explicit(&resolver->stat_bytes, facts.bytes, memory_order_relaxed);
}

/* -- where to begin ---------------------------------------------------------------------------- */

/* When the first event at or after a seq arrived; NOTFOUND: the journal has none such. */
static int received_at(struct journal_reader *reader, uint64_t seq, uint64_t *ret_us) {
    struct journal_batch batch;
    uint64_t gap_until = 0;
    journal_reader_seek(reader, seq);
    int r = journal_reader_next(reader, &batch, &gap_until);
    if (r == 0) {
        *ret_us = batch.requests[batch.request_of[0]].received_us;
    }
    return r == BH_E_AGAIN ? BH_E_NOTFOUND : r;
}

/*
 * The first seq of the window that ends at the cursor; the journal's first one when it reaches less
 * far. Arrivals are in order but for a moment among loops.
 */
static int find_start(struct resolver *resolver, struct journal_reader *reader, uint64_t cursor,
                      uint64_t *ret_seq) {
    uint64_t low = journal_first_seq(resolver->journal);
    uint64_t high = cursor;
    uint64_t last_us = 0;
    uint64_t window_us =
        (uint64_t)atomic_load_explicit(&resolver->stat_window_s, memory_order_relaxed) * 1000000;
    low = low != 0 ? low : 1; /* the first segment may say either */
    low = low < cursor ? low : cursor;
    int r = low < cursor ? received_at(reader, cursor - 1, &last_us) : 0;
    window_us += 60 * (uint64_t)1000000;
    uint64_t start_us = last_us > window_us ? last_us - window_us : 0;
    bool reaches = low <= 1;
    while (r == 0 && low < high) {
        uint64_t middle = low + (high - low) / 2;
        uint64_t us = 0;
        r = received_at(reader, middle, &us);
        if (r == 0 && us < start_us) {
            low = middle + 1;
            reaches = true;
        } else {
            high = middle;
        }
    }
    if (r == 0 && !reaches) {
        uint64_t us = os_wall_us();
        r = low < cursor ? received_at(reader, low, &us) : 0;
        repeats_lost_until(resolver->repeats, us);
    }
    *ret_seq = low;
    return r;
}

/* -- entering again ---------------------------------------------------------------------------- */

struct replay {
    struct resolver *resolver;
    struct journal_reader *reader;
    MDB_cursor *dropped;
    uint64_t next_dropped; /* at or after the event looked at last */
    uint64_t cursor;
    bool after_gap;
};

static int enter_event(struct replay *replay, const struct record_request *request,
                       const struct record_event *event) {
    if (event->dedupe == 0) {
        return 0;
    }
    if (event->content == 0 || replay->after_gap) {
        /* Of an older version, which could not tell; or the first one behind what is missing. */
        repeats_lost_until(replay->resolver->repeats, request->received_us);
        replay->after_gap = false;
    }
    if (replay->next_dropped < event->seq) {
        int r = store_next_repeat(replay->dropped, event->seq, &replay->next_dropped);
        if (r != 0) {
            return r;
        }
    }
    if (event->content != 0 && replay->next_dropped != event->seq) {
        repeats_enter(replay->resolver->repeats, request->received_us, event->dedupe,
                      event->content);
    }
    return 0;
}

static int enter_batch(struct replay *replay, const struct journal_batch *batch) {
    int r = 0;
    for (uint32_t i = 0; r == 0 && i < batch->count; i++) {
        if (batch->events[i].seq < replay->cursor) {
            r = enter_event(replay, &batch->requests[batch->request_of[i]], &batch->events[i]);
        }
    }
    if (r == 0 && repeats_is_full(replay->resolver->repeats)) {
        uint64_t read = journal_reader_seq(replay->reader);
        r = repeats_freeze(replay->resolver->repeats,
                           read < replay->cursor ? read : replay->cursor);
    }
    return r;
}

static int enter_all(struct replay *replay) {
    while (journal_reader_seq(replay->reader) < replay->cursor) {
        struct journal_batch batch;
        uint64_t gap_until = 0;
        if (atomic_load_explicit(&replay->resolver->stopping, memory_order_acquire)) {
            return BH_E_AGAIN;
        }
        int r = journal_reader_next(replay->reader, &batch, &gap_until);
        if (r == BH_E_NOTFOUND) {
            replay->after_gap = true;
            journal_reader_seek(replay->reader, gap_until);
            continue;
        }
        r = r == 0 ? enter_batch(replay, &batch) : r;
        if (r != 0) {
            return r;
        }
    }
    return 0;
}

static int replay_from(struct resolver *resolver, struct journal_reader *reader, uint64_t from,
                       uint64_t cursor) {
    struct replay replay = {.resolver = resolver, .reader = reader, .cursor = cursor};
    MDB_txn *txn = NULL;
    journal_reader_seek(reader, from);
    int r = store_code(mdb_txn_begin(resolver->store.env, NULL, MDB_RDONLY, &txn));
    if (r != 0) {
        return r;
    }
    r = store_code(mdb_cursor_open(txn, resolver->store.repeat, &replay.dropped));
    r = r == 0 ? store_next_repeat(replay.dropped, from, &replay.next_dropped) : r;
    r = r == 0 ? enter_all(&replay) : r;
    if (replay.dropped != NULL) {
        mdb_cursor_close(replay.dropped);
    }
    mdb_txn_abort(txn);
    return r;
}

int resolver_catch_up(struct resolver *resolver) {
    struct repeats *repeats = resolver->repeats;
    uint64_t cursor = resolver_settled_seq(resolver);
    uint64_t from = repeats_covered_until(repeats);
    struct journal_reader *reader = NULL;
    repeats_forget(repeats);
    publish(resolver);
    if (repeats_is_off(repeats) || from >= cursor) {
        return 0;
    }
    uint64_t begun_us = os_mono_us();
    int r = journal_reader_new(resolver->journal, cursor, -1, &reader);
    if (r != 0) {
        return r;
    }
    journal_reader_skip_findings(reader);
    if (from == 0) {
        r = find_start(resolver, reader, cursor, &from);
        if (r == 0) {
            repeats_begin_at(repeats, from);
        }
    }
    r = r == 0 ? replay_from(resolver, reader, from, cursor) : r;
    journal_reader_free(reader);
    publish(resolver);
    if (r == 0) {
        log_event(LOG_INFO, "dedupe: what was accepted last is known again",
                  LOG_INT("events", cursor - from), LOG_INT("us", os_mono_us() - begun_us));
    }
    return r;
}

/* -- while running ----------------------------------------------------------------------------- */

bool resolver_wants_freeze(const struct resolver *resolver) {
    const struct repeats *repeats = resolver->repeats;
    uint64_t covered = repeats_covered_until(repeats);
    if (repeats_is_off(repeats) || covered == journal_reader_seq(resolver->reader)) {
        return false;
    }
    /* A journal that is short of space drops what the table would have to be made of. */
    return repeats_is_due(repeats) || journal_first_seq(resolver->journal) > covered;
}

int resolver_tend_repeats(struct resolver *resolver, bool *ret_more) {
    uint64_t settled = resolver_settled_seq(resolver);
    int r = 0;
    *ret_more = false;
    if (repeats_is_off(resolver->repeats)) {
        return 0;
    }
    if (settled == journal_reader_seq(resolver->reader) && resolver_wants_freeze(resolver)) {
        r = repeats_freeze(resolver->repeats, settled);
    }
    r = r == 0 ? repeats_tend(resolver->repeats, ret_more) : r;
    publish(resolver);
    return r;
}
