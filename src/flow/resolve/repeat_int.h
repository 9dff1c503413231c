/*
 * Repeats: which events an SDK has sent before.
 *
 *   event -> {key, content} --table (memory)--+--> known and inside the window: a repeat
 *                           --runs (mapped)---+--> else it counts, and is entered
 *
 *   table: 2^20 places, sorted by key      full, or 10 minutes old -> run, written once, synced
 *   runs:  the same form in files          eight of a size -> one, a piece at a time
 *   state: which runs there are, up to which event they hold all, which window applies from where
 *
 * Table and run are one form: sorted by key, each entry as near as can be behind the place that its
 * key would have if keys were spread evenly. They are (a keyed hash), so a look-up reads one cache
 * line, and a merge reads and writes in order. A filter in memory spares most new
 * events the runs.
 * docs/format/repeats.md has the bytes, docs/adr/0050-dedupe.md the reasons.
 *
 * Invariants
 *  D1 Only an event whose key and content are both known is a repeat: nothing is dropped because
 *     memory or a filter ran short.
 *  D2 The verdict of a seq depends on the events before it and on the window of that seq alone. A
 *     run holds only events that the durable cursor has passed, so that none that is read again
 *     after a crash finds itself.
 *  D3 What was dropped is kept in the resolver's tables, with the cursor: a verdict that was
 *     published stays, whatever becomes of runs and state.
 *  D4 Runs and state are derived: all of it can be made again from journal and tables as far as the
 *     journal reaches; `since` says from when on it holds.
 * Thread: the resolver's. Memory: 16 MiB for the table, 8 for the filter, 1.25 to write; runs are mapped.
 */
#ifndef BH_FLOW_REPEAT_INT_H
#define BH_FLOW_REPEAT_INT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/errors.h"
#include "os/file.h"

enum {
    REPEAT_ENTRY_SIZE = 16,
    REPEAT_RUN_HEADER_SIZE = 4096,
    REPEAT_RUNS_MAX = 128,
    REPEAT_WINDOWS_MAX = 8,
    REPEAT_STATE_MAX = 4096,
    REPEAT_SLOTS = 1 << 20,
    REPEAT_TAIL =
        4096, /* places behind the last slot: a whole cluster there is out of the question */
    REPEAT_DIR_MAX = 320,
};

struct repeat_entry {
    uint64_t key;
    uint32_t content;
    uint32_t second; /* 1 + when the event that counted arrived, in seconds; 0 = a free place */
};

/* Of dedupe and content: one to one, and spread evenly also where one dedupe id has many contents. */
uint64_t repeat_key_of(uint64_t dedupe, uint32_t content);
uint32_t repeat_second_of(uint64_t received_us);
/* The place of a key when nothing is in its way. */
uint64_t repeat_home(uint64_t key, uint64_t slots);
/* Order of entries: by key, then by content. */
bool repeat_is_before(const struct repeat_entry *a, uint64_t key, uint32_t content);

/* -- runs (repeat_run.c) ----------------------------------------------------------------------- */

struct repeat_run {
    uint64_t number;
    uint64_t slots;
    uint64_t places; /* >= slots: entries of the last slots may lie behind them */
    uint64_t entries;
    uint32_t newest;      /* the highest second in it */
    uint32_t crc;         /* of its places */
    const uint8_t *bytes; /* the whole file, mapped */
    uint64_t size;
};

/* Checks a run's bytes but for its checksum: nothing that is read of it later leaves them. */
int repeat_run_read(struct span bytes, struct repeat_run *ret_run) BH_MUST_USE;
/* The checksum of all places: reads all of it. */
bool repeat_run_is_whole(const struct repeat_run *run);
struct repeat_entry repeat_run_at(const struct repeat_run *run, uint64_t place);
bool repeat_run_find(const struct repeat_run *run, uint64_t key, uint32_t content,
                     uint32_t *ret_second);
void repeat_run_path(const char *dir, uint64_t number, char out[REPEAT_DIR_MAX + 32]);
/* Maps the file of this number. CORRUPT: it is not what was written. */
int repeat_run_open(const char *dir, uint64_t number, struct repeat_run *ret_run) BH_MUST_USE;
void repeat_run_close(struct repeat_run *run);

struct repeat_writer {
    struct os_file file;
    char path[REPEAT_DIR_MAX + 32];
    uint64_t number;
    uint64_t slots;
    uint64_t place; /* of the next entry at the earliest */
    uint64_t entries;
    uint32_t newest;
    uint32_t crc;
    uint64_t written; /* bytes of the file */
    uint64_t synced;
    struct buf buffer; /* the caller's memory */
};

/* For at most `entries`. NOSPACE leaves nothing behind. */
int repeat_writer_begin(struct repeat_writer *writer, const char *dir, uint64_t number,
                        uint64_t entries) BH_MUST_USE;
/* In order. */
int repeat_writer_put(struct repeat_writer *writer, const struct repeat_entry *entry) BH_MUST_USE;
/* Header and sync; the file stands, under a name that the caller has yet to note. */
int repeat_writer_end(struct repeat_writer *writer) BH_MUST_USE;
/* Of one that has begun and is not to be ended. */
void repeat_writer_abandon(struct repeat_writer *writer);

uint64_t repeat_runs_entries(const struct repeat_run *runs, uint32_t count);

/* -- filter (repeat_filter.c) ------------------------------------------------------------------ */

enum { REPEAT_FILTER_SIZE = 8 * 1024 * 1024 };

struct repeat_filter {
    uint64_t *bits; /* REPEAT_FILTER_SIZE, the caller's */
    uint64_t entered;
    bool is_on; /* else all is perhaps known */
};

bool repeat_filter_has(const struct repeat_filter *filter, uint64_t key);
void repeat_filter_prefetch(const struct repeat_filter *filter, uint64_t key);
void repeat_filter_add(struct repeat_filter *filter, uint64_t key);
/* Of these runs alone. */
void repeat_filter_build(struct repeat_filter *filter, const struct repeat_run *runs,
                         uint32_t count);
/* While the table is empty: made anew where that helps. */
void repeat_filter_tend(struct repeat_filter *filter, const struct repeat_run *runs,
                        uint32_t count);

/* -- state (repeat_state.c) -------------------------------------------------------------------- */

struct repeat_window {
    uint64_t from_seq;
    uint32_t seconds; /* 0 = off */
};

struct repeat_state {
    uint64_t
        covered_until; /* runs hold all events below it; 0 = not known: to be made from the journal */
    uint64_t since_us; /* nothing from before is known; 0 = the whole window is */
    uint64_t next_number;
    uint32_t latest; /* second of the entry that came last before covered_until */
    uint32_t window_count;
    uint32_t run_count;
    struct repeat_window windows[REPEAT_WINDOWS_MAX]; /* by from_seq */
    struct {
        uint64_t number;
        uint64_t entries;
        uint32_t crc;
    } runs[REPEAT_RUNS_MAX];
};

size_t repeat_state_write(const struct repeat_state *state, uint8_t out[REPEAT_STATE_MAX]);
/* CORRUPT, VERSION. */
int repeat_state_read(struct span bytes, struct repeat_state *ret_state) BH_MUST_USE;

/* -- the store (resolve_repeat.c) -------------------------------------------------------------- */

struct repeats;

struct repeats_config {
    const char *dir;
    uint32_t window_s;    /* from `from_seq` on; 0 = off */
    uint64_t from_seq;    /* the first seq that nobody has judged yet */
    uint32_t table_slots; /* 0 = REPEAT_SLOTS; a power of two; less in tests */
};

/* What is damaged is taken away and covered_until is 0. Errors: disk and memory. */
int repeats_open(const struct repeats_config *config, struct repeats **ret_repeats,
                 struct err *err) BH_MUST_USE;
void repeats_free(struct repeats *repeats);
/* No window at all: nothing is looked up or kept. */
bool repeats_is_off(const struct repeats *repeats);
void repeats_prefetch(const struct repeats *repeats, uint64_t dedupe, uint32_t content);
/* Whether this event repeats one that counted; if not, it counts itself. */
bool repeats_see(struct repeats *repeats, uint64_t seq, uint64_t received_us, uint64_t dedupe,
                 uint32_t content);
/* An event that counted, read again. */
void repeats_enter(struct repeats *repeats, uint64_t received_us, uint64_t dedupe,
                   uint32_t content);
/* Forgets the table: its events are read again. */
void repeats_forget(struct repeats *repeats);
uint64_t repeats_covered_until(const struct repeats *repeats);
/* Before the table is entered anew: from here on. */
void repeats_begin_at(struct repeats *repeats, uint64_t covered_until);
/* Events from before this moment are not known. */
void repeats_lost_until(struct repeats *repeats, uint64_t received_us);
/* The table should become a run: it is full, or older than it may get. */
bool repeats_is_due(const struct repeats *repeats);
bool repeats_is_full(const struct repeats *repeats);
/* Makes a run of the table; the cursor at `covered_until`, above all its events, is durable. */
int repeats_freeze(struct repeats *repeats, uint64_t covered_until) BH_MUST_USE;
/* A piece of merging; *ret_more: there is more to do at once. */
int repeats_tend(struct repeats *repeats, bool *ret_more) BH_MUST_USE;

struct repeats_facts {
    uint32_t window_s;
    uint64_t since_us; /* 0 = holds the whole window */
    uint64_t entries;
    uint64_t bytes; /* of runs on disk */
    uint32_t runs;
};
void repeats_facts(const struct repeats *repeats, struct repeats_facts *ret_facts);

#endif
