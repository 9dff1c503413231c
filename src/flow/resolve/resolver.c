/*
 * Resolver: one thread that reads the journal in order and makes rows and edges durable before
 * couriers may pass.
 *
 *   run_batch: [journal chunk -> resolve_event ...] -> slots written and synced
 *              -> LMDB commit (rows, edges, cursor) -> resolver_seq
 *
 * 1. The cursor is stored in the transaction that holds what it stands for, so a crash repeats
 *    events or nothing; repeating them changes nothing (R4).
 * 2. A batch that made nothing new needs no commit; the cursor is then stored once in
 *    COMMIT_EVERY_US, so that a restart has little to repeat.
 * 3. No space: the transaction is aborted, everything in memory that came from it is forgotten, and
 *    the batch is tried again a second later. Any other failure ends the process.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "flow/resolve/resolve_int.h"
#include "os/clock.h"
#include "os/log.h"
#include "os/socket.h"

enum {
    COMMIT_EVERY_US = 2000000,
    IDLE_MS = 1000,
    RELOAD_WAIT_US = 5000000,
    EXIT_DISK_FAILED = 74,
    DROPS_A_COMMIT = 4096,
};

#define MAP_SIZE_DEFAULT ((uint64_t)64 << 30)

/* -- opening ----------------------------------------------------------------------------------- */

static void copy_sources(struct source_table *table, const struct resolve_source *sources,
                         size_t count) {
    check(count <= LIMIT_SOURCES);
    for (size_t i = 0; i < count; i++) {
        struct source_entry *entry = &table->entries[i];
        entry->number = sources[i].number;
        entry->trust_server = sources[i].trust_server;
        entry->new_people_per_hour = sources[i].new_people_per_hour;
        const char *space = sources[i].space != NULL ? sources[i].space : "";
        (void)snprintf(entry->space, sizeof(entry->space), "%s", space);
    }
    table->count = count;
}

static int make_memory(struct resolver *resolver) {
    resolver->sources = (struct source_table *)calloc(1, sizeof(*resolver->sources));
    resolver->next_sources = (struct source_table *)calloc(1, sizeof(*resolver->next_sources));
    resolver->distinct = (struct distinct *)calloc(1, sizeof(*resolver->distinct));
    if (resolver->sources == NULL || resolver->next_sources == NULL || resolver->distinct == NULL) {
        return BH_E_NOMEM;
    }
    if (resolver->journal == NULL) {
        return 0;
    }
    resolver->hot = hot_new();
    resolver->quotas = (struct quota *)os_memory_map(sizeof(struct quota) * (UINT16_MAX + 1));
    resolver->known_edges =
        (struct known_edge *)os_memory_map(sizeof(struct known_edge) * KNOWN_EDGES);
    resolver->memo = memo_new();
    resolver->tokens =
        (struct json_token *)os_memory_map(sizeof(struct json_token) * LIMIT_EVENT_TOKENS);
    resolver->scratch = (uint8_t *)os_memory_map(SCRATCH_SIZE);
    resolver->batch_slots = (uint8_t *)secret_new((size_t)BATCH_ROWS_MAX * SLOT_SIZE);
    bool has_all = resolver->hot != NULL && resolver->quotas != NULL &&
                   resolver->known_edges != NULL && resolver->tokens != NULL &&
                   resolver->scratch != NULL && resolver->batch_slots != NULL &&
                   resolver->memo != NULL;
    return has_all ? os_wake_open(&resolver->wake_fd) : BH_E_NOMEM;
}

static int make_keys(struct resolver *resolver) {
    resolver->aids = aid_maker_new(resolver->keyring);
    uint8_t *key = (uint8_t *)secret_new(KEY_SIZE);
    if (key != NULL) {
        keyring_derive(resolver->keyring, "bulkhead/distinct", key);
        resolver->distinct_key = hmac_key_new(key, KEY_SIZE);
    }
    secret_free(key);
    return resolver->aids != NULL && resolver->distinct_key != NULL ? 0 : BH_E_NOMEM;
}

int resolver_load(struct resolver *resolver, uint64_t *ret_cursor) {
    MDB_txn *txn = NULL;
    int r = store_code(mdb_txn_begin(resolver->store.env, NULL, MDB_RDONLY, &txn));
    if (r != 0) {
        return r;
    }
    uint64_t cursor[2] = {1, 0};
    uint32_t last_ord = 0;
    r = store_get_meta(&resolver->store, txn, "cursor", cursor);
    r = r == BH_E_NOTFOUND ? 0 : r;
    if (r == 0) {
        r = store_last_ord(&resolver->store, txn, &last_ord);
    }
    if (r == 0) {
        r = distinct_load(&resolver->store, txn, resolver->distinct);
    }
    if (r == 0) {
        atomic_store(&resolver->stat_edges, store_edge_count(&resolver->store, txn));
        atomic_store(&resolver->last_ord, last_ord);
        atomic_store(&resolver->settled, cursor[0]);
        resolver->next_ord = last_ord + 1;
        resolver->batch_first_ord = last_ord + 1;
        *ret_cursor = cursor[0];
    }
    mdb_txn_abort(txn);
    return r;
}

static int open_parts(struct resolver *resolver, const struct resolve_config *config,
                      struct err *err) {
    bool read_only = config->journal == NULL;
    int r = make_memory(resolver);
    if (r == 0) {
        r = make_keys(resolver);
    }
    if (r == 0 && !read_only) {
        r = os_dir_make(resolver->dir);
    }
    if (r != 0) {
        return err_set(err, r, "%s: %s", resolver->dir, bh_error_text(r));
    }
    copy_sources(resolver->sources, config->sources, config->source_count);
    uint64_t map_size = config->map_size != 0 ? config->map_size : MAP_SIZE_DEFAULT;
    r = store_open(resolver->dir, map_size, read_only, &resolver->store, err);
    if (r == 0) {
        r = slots_open(resolver->dir, resolver->keyring, read_only, &resolver->slots, err);
    }
    if (r != 0) {
        return r;
    }
    uint64_t cursor = 1;
    r = resolver_load(resolver, &cursor);
    if (r != 0) {
        return err_set(err, r, "%s: its tables cannot be read", resolver->dir);
    }
    atomic_store(&resolver->seq, cursor - 1);
    if (!read_only && cursor > journal_durable_seq(resolver->journal) + 1) {
        return err_set(
            err, BH_E_STATE,
            "%s has seen event %llu, and the journal ends at %llu: they do not belong together",
            resolver->dir, (unsigned long long)(cursor - 1),
            (unsigned long long)journal_durable_seq(resolver->journal));
    }
    if (!read_only) {
        resolver->memo_from = journal_durable_seq(resolver->journal) + 1;
        r = journal_reader_new(resolver->journal, cursor, resolver->wake_fd, &resolver->reader);
        if (r == 0) {
            r = resolver_open_repeats(resolver, config, err);
        }
        if (r != 0 && err->text[0] != '\0') {
            return r;
        }
    }
    if (r == 0 && !read_only) {
        journal_reader_skip_findings(resolver->reader);
    }
    return r == 0 ? 0 : err_set(err, r, "%s: no reader of the journal", resolver->dir);
}

int resolver_open(const struct resolve_config *config, struct resolver **ret_resolver,
                  struct err *err) {
    struct resolver *resolver = (struct resolver *)calloc(1, sizeof(*resolver));
    if (resolver == NULL) {
        return err_set(err, BH_E_NOMEM, "resolve: no memory");
    }
    os_lock_init(&resolver->lock, OS_LOCK_RESOLVE);
    os_cond_init(&resolver->reloaded);
    resolver->wake_fd = -1;
    resolver->slots.file = OS_FILE_NONE;
    resolver->keyring = config->keyring;
    resolver->journal = config->journal;
    int n = snprintf(resolver->dir, sizeof(resolver->dir), "%s", config->dir);
    int r = n >= 0 && (size_t)n < sizeof(resolver->dir)
                ? open_parts(resolver, config, err)
                : err_set(err, BH_E_TOO_BIG, "the resolver's folder name is too long");
    if (r != 0) {
        resolver_free(resolver);
        return r;
    }
    *ret_resolver = resolver;
    return 0;
}

static void unmap(void *p, size_t size) {
    if (p != NULL) {
        os_memory_unmap(p, size);
    }
}

void resolver_free(struct resolver *resolver) {
    if (resolver == NULL) {
        return;
    }
    resolver_stop(resolver);
    journal_reader_free(resolver->reader);
    store_close(&resolver->store);
    slots_close(&resolver->slots);
    hot_free(resolver->hot);
    memo_free(resolver->memo);
    repeats_free(resolver->repeats);
    aid_maker_free(resolver->aids);
    hmac_key_free(resolver->distinct_key);
    secret_free(resolver->batch_slots);
    unmap(resolver->quotas, sizeof(struct quota) * (UINT16_MAX + 1));
    unmap(resolver->known_edges, sizeof(struct known_edge) * KNOWN_EDGES);
    unmap(resolver->tokens, sizeof(struct json_token) * LIMIT_EVENT_TOKENS);
    unmap(resolver->scratch, SCRATCH_SIZE);
    if (resolver->wake_fd >= 0) {
        os_close(resolver->wake_fd);
    }
    free(resolver->sources);
    free(resolver->next_sources);
    free(resolver->distinct);
    os_cond_fini(&resolver->reloaded);
    os_lock_fini(&resolver->lock);
    free(resolver);
}

int resolver_start(struct resolver *resolver) {
    check(resolver->journal != NULL);
    atomic_store(&resolver->stopping, false);
    return os_thread_start(&resolver->thread, "resolve", 0, resolver_run, resolver);
}

void resolver_stop(struct resolver *resolver) {
    if (resolver->thread._started) {
        atomic_store_explicit(&resolver->stopping, true, memory_order_release);
        os_wake_signal(resolver->wake_fd);
        os_thread_join(&resolver->thread);
    }
}

/* -- what others ask and change ---------------------------------------------------------------- */

uint64_t resolver_seq(const struct resolver *resolver) {
    return atomic_load_explicit(&resolver->seq, memory_order_acquire);
}

uint64_t resolver_settled_seq(const struct resolver *resolver) {
    return atomic_load_explicit(&resolver->settled, memory_order_acquire);
}

void resolver_stats(const struct resolver *resolver, struct resolver_stats *ret_stats) {
    ret_stats->people = atomic_load_explicit(&resolver->last_ord, memory_order_relaxed);
    ret_stats->edges = atomic_load_explicit(&resolver->stat_edges, memory_order_relaxed);
    ret_stats->quota_events = atomic_load_explicit(&resolver->stat_quota, memory_order_relaxed);
    ret_stats->lost_events = atomic_load_explicit(&resolver->stat_lost, memory_order_relaxed);
    ret_stats->hot_misses = atomic_load_explicit(&resolver->stat_misses, memory_order_relaxed);
    ret_stats->repeat_events = atomic_load_explicit(&resolver->stat_repeats, memory_order_relaxed);
    ret_stats->repeat_window_s =
        atomic_load_explicit(&resolver->stat_window_s, memory_order_relaxed);
    ret_stats->repeat_since_us =
        atomic_load_explicit(&resolver->stat_since_us, memory_order_relaxed);
    ret_stats->repeat_entries = atomic_load_explicit(&resolver->stat_entries, memory_order_relaxed);
    ret_stats->repeat_bytes = atomic_load_explicit(&resolver->stat_bytes, memory_order_relaxed);
    ret_stats->is_out_of_space =
        atomic_load_explicit(&resolver->is_out_of_space, memory_order_relaxed);
}

void resolver_set_sources(struct resolver *resolver, const struct resolve_source *sources,
                          size_t count) {
    os_lock(&resolver->lock);
    copy_sources(resolver->next_sources, sources, count);
    resolver->sources_changed = true;
    os_unlock(&resolver->lock);
}

/* Registers in a transaction of its own. Those for which there is no room do not hinder the rest. */
static int register_distinct(struct resolver *resolver, const struct resolve_distinct *properties,
                             size_t count) {
    bool read_only = resolver->journal == NULL;
    MDB_txn *txn = NULL;
    int r = store_code(mdb_txn_begin(resolver->store.env, NULL, read_only ? MDB_RDONLY : 0U, &txn));
    if (r != 0) {
        return r;
    }
    r = distinct_set(&resolver->store, txn, read_only, resolver->distinct, properties, count);
    if ((r != 0 && r != BH_E_TOO_MANY) || read_only) {
        mdb_txn_abort(txn);
        return r;
    }
    int committed = store_code(mdb_txn_commit(txn));
    return committed != 0 ? committed : r;
}

void resolver_set_distinct(struct resolver *resolver, const struct resolve_distinct *properties,
                           size_t count) {
    os_lock(&resolver->lock);
    if (!resolver->thread._started) {
        resolver->distinct_result = register_distinct(resolver, properties, count);
    } else {
        /*
         * The resolver counts them from its next batch on; the caller's rules come into force after
         * that.
         */
        resolver->next_distinct = properties;
        resolver->next_distinct_count = count;
        resolver->distinct_changed = true;
        os_wake_signal(resolver->wake_fd);
        while (resolver->distinct_changed &&
               os_cond_wait(&resolver->reloaded, &resolver->lock, RELOAD_WAIT_US)) {
        }
        resolver->distinct_result =
            resolver->distinct_changed ? BH_E_TIMEOUT : resolver->distinct_result;
        resolver->distinct_changed = false;
        resolver->next_distinct = NULL;
    }
    if (resolver->distinct_result != 0) {
        log_event(LOG_ERROR, "resolve: the limits of distinct values were not taken up",
                  LOG_INT("code", resolver->distinct_result));
    }
    os_unlock(&resolver->lock);
}

/* -- the thread -------------------------------------------------------------------------------- */

void resolver_take_reload(struct resolver *resolver) {
    os_lock(&resolver->lock);
    if (resolver->sources_changed) {
        struct source_table *old = resolver->sources;
        resolver->sources = resolver->next_sources;
        resolver->next_sources = old;
        resolver->sources_changed = false;
        memo_clear(resolver->memo);
    }
    if (resolver->distinct_changed) {
        resolver->distinct_result =
            register_distinct(resolver, resolver->next_distinct, resolver->next_distinct_count);
        resolver->distinct_changed = false;
        os_cond_signal_all(&resolver->reloaded);
    }
    os_unlock(&resolver->lock);
}

static int commit(struct resolver *resolver, MDB_txn *txn, uint64_t cursor) {
    const uint64_t values[2] = {cursor, 0};
    int r = resolve_flush_slots(resolver);
    if (r == 0) {
        /* No courier asks for what the journal has no more. */
        r = store_drop_repeats(&resolver->store, txn, journal_first_seq(resolver->journal),
                               DROPS_A_COMMIT);
    }
    if (r == 0) {
        r = store_put_meta(&resolver->store, txn, "cursor", values);
    }
    if (r != 0) {
        mdb_txn_abort(txn);
        return r;
    }
    r = store_code(mdb_txn_commit(txn));
    if (r == 0) {
        resolver->is_dirty = false;
        resolver->committed_at_us = os_mono_us();
        atomic_store_explicit(&resolver->last_ord, resolver->next_ord - 1, memory_order_release);
        atomic_store_explicit(&resolver->settled, cursor, memory_order_release);
    }
    return r;
}

/* What the journal dropped before we read it: only possible when the keeper was not told of us. */
static void skip_gap(struct resolver *resolver, uint64_t gap_until) {
    uint64_t lost = gap_until - journal_reader_seq(resolver->reader);
    atomic_fetch_add_explicit(&resolver->stat_lost, lost, memory_order_relaxed);
    log_event(LOG_ERROR, "resolve: events left the journal before they were resolved",
              LOG_INT("events", lost));
    journal_reader_seek(resolver->reader, gap_until);
}

/* Both tables are larger than the caches. */
static void look_ahead(const struct resolver *resolver, const struct journal_batch *batch,
                       uint32_t index) {
    if (index < batch->count) {
        const struct record_event *event = &batch->events[index];
        hot_prefetch(resolver->hot, &event->aid);
        if (event->content != 0) {
            repeats_prefetch(resolver->repeats, event->dedupe, event->content);
        }
        if (event->ids != 0) {
            memo_prefetch(resolver->memo,
                          memo_key(event->ids, batch->requests[batch->request_of[index]].source));
        }
    }
}

/*
 * Reads and resolves until the journal has no more or the batch is full. AGAIN: nothing was there.
 */
static int read_batch(struct resolver *resolver, MDB_txn **txn) {
    uint64_t events = 0;
    while (events < BATCH_EVENTS_MAX) {
        struct journal_batch batch;
        uint64_t gap_until = 0;
        int r = journal_reader_next(resolver->reader, &batch, &gap_until);
        if (r == BH_E_NOTFOUND) {
            skip_gap(resolver, gap_until);
            continue;
        }
        if (r == BH_E_AGAIN) {
            return events != 0 ? 0 : BH_E_AGAIN;
        }
        if (r == 0 && *txn == NULL) {
            r = store_code(mdb_txn_begin(resolver->store.env, NULL, 0, txn));
        }
        for (uint32_t i = 0; r == 0 && i < batch.count; i++) {
            look_ahead(resolver, &batch, i + LOOK_AHEAD);
            r = resolve_event(resolver, *txn, &batch.requests[batch.request_of[i]],
                              &batch.events[i]);
        }
        if (r != 0) {
            return r;
        }
        events += batch.count;
    }
    return 0;
}

static int run_batch(struct resolver *resolver) {
    MDB_txn *txn = NULL;
    int r = read_batch(resolver, &txn);
    uint64_t cursor = journal_reader_seq(resolver->reader);
    bool is_due = cursor != resolver_settled_seq(resolver) &&
                  (os_mono_us() >= resolver->committed_at_us + COMMIT_EVERY_US ||
                   resolver_wants_freeze(resolver));
    if (r == BH_E_AGAIN && is_due) {
        r = store_code(mdb_txn_begin(resolver->store.env, NULL, 0, &txn));
        return r == 0 ? commit(resolver, txn, cursor) : r;
    }
    if (r != 0) {
        if (txn != NULL) {
            mdb_txn_abort(txn);
        }
        return r;
    }
    if (resolver->is_dirty || is_due) {
        r = commit(resolver, txn, cursor);
    } else {
        mdb_txn_abort(txn);
    }
    /*
     * After a roll-back the cursor may still be behind what was published without needing a commit.
     */
    if (r == 0 && cursor - 1 > resolver_seq(resolver)) {
        atomic_store_explicit(&resolver->seq, cursor - 1, memory_order_release);
    }
    return r;
}

static _Noreturn void resolver_failed(int code) {
    log_event(LOG_ERROR, "resolve: its tables failed; the process ends and recovery decides",
              LOG_INT("code", code));
    os_process_end(EXIT_DISK_FAILED);
}

int resolver_forget(struct resolver *resolver, uint64_t *ret_cursor) {
    hot_clear(resolver->hot);
    memo_clear(resolver->memo);
    memset(resolver->known_edges, 0, sizeof(struct known_edge) * KNOWN_EDGES);
    memset(resolver->quotas, 0, sizeof(struct quota) * (UINT16_MAX + 1));
    resolver->is_dirty = false;
    return resolver_load(resolver, ret_cursor);
}

static void wait_for_space(struct resolver *resolver) {
    if (!atomic_exchange_explicit(&resolver->is_out_of_space, true, memory_order_relaxed)) {
        log_event(LOG_ERROR, "resolve: no space left; couriers wait", LOG_INT("retry_ms", IDLE_MS));
    }
    os_sleep_us((uint64_t)IDLE_MS * 1000);
}

/* What runs do not hold is entered again before an event is judged; stopping, it may be left undone. */
static void catch_up(struct resolver *resolver) {
    int r = resolver_catch_up(resolver);
    while (r == BH_E_NOSPACE) {
        wait_for_space(resolver);
        r = resolver_catch_up(resolver);
    }
    if (r != 0 && r != BH_E_AGAIN) {
        resolver_failed(r);
    }
}

/* Back to the durable cursor. */
static void roll_back(struct resolver *resolver) {
    uint64_t cursor = 1;
    int r = resolver_forget(resolver, &cursor);
    if (r != 0) {
        resolver_failed(r);
    }
    journal_reader_seek(resolver->reader, cursor);
    wait_for_space(resolver);
    catch_up(resolver);
}

static bool is_stopping(const struct resolver *resolver) {
    return atomic_load_explicit(&resolver->stopping, memory_order_acquire);
}

/* One round: what a reload left, what the store of repeats has to do, a batch. */
static void run_once(struct resolver *resolver) {
    bool has_more = false;
    resolver_take_reload(resolver);
    int r = resolver_tend_repeats(resolver, &has_more);
    if (r == BH_E_NOSPACE) {
        wait_for_space(resolver); /* nothing was begun */
        return;
    }
    r = r == 0 ? run_batch(resolver) : r;
    if (r == BH_E_AGAIN) {
        /* The loop looks at everything either way. */
        (void)os_wake_wait(resolver->wake_fd, has_more ? 0 : IDLE_MS);
    } else if (r == BH_E_NOSPACE) {
        roll_back(resolver);
    } else if (r != 0) {
        resolver_failed(r);
    } else {
        atomic_store_explicit(&resolver->is_out_of_space, false, memory_order_relaxed);
    }
}

void resolver_run(void *context) {
    struct resolver *resolver = (struct resolver *)context;
    resolver->committed_at_us = os_mono_us();
    catch_up(resolver);
    while (!is_stopping(resolver)) {
        run_once(resolver);
    }
    uint64_t cursor = journal_reader_seq(resolver->reader);
    MDB_txn *txn = NULL;
    if (cursor != resolver_settled_seq(resolver) &&
        mdb_txn_begin(resolver->store.env, NULL, 0, &txn) == 0) {
        (void)commit(resolver, txn, cursor); /* else the next start repeats a little */
    }
}
