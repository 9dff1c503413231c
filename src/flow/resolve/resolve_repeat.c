/*
 * The store of repeats: one table in memory, runs on disk, and a merge that goes on a piece at a
 * time (repeat_int.h has the picture).
 *
 * Runs are merged eight of a size at a time, so that a look-up has few of them to ask: sizes
 * are classes of eight times the one below. What the window has passed is left out in a merge, and a run
 * whose newest entry it has passed is removed. Such an entry is gone for good before it is gone in
 * memory (the state is replaced first), so no verdict comes out otherwise when it is made again.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "flow/resolve/repeat_int.h"
#include "os/clock.h"
#include "os/log.h"
#include "os/thread.h"

enum {
    FAN = 8,
    SMALL_RUN = 16384,          /* entries of the lowest class */
    WRITE_BUFFER = 1024 * 1024, /* of the merge, which goes on while tables are written */
    TABLE_BUFFER = 256 * 1024,
    MERGE_STEP = 256 * 1024, /* entries: about 5 ms */
    CLOCK_SLACK = 600,       /* seconds */
    RUNS_AT_MOST = REPEAT_RUNS_MAX - 2,
};

#define AGE_US ((uint64_t)600 * 1000000)

struct merge {
    bool is_active;
    unsigned inputs[FAN];           /* into runs, ascending */
    uint64_t at[FAN];               /* place of each one's head */
    struct repeat_entry heads[FAN]; /* second 0: at its end */
    struct repeat_writer writer;
};

struct repeats {
    char dir[REPEAT_DIR_MAX];
    struct repeat_state state; /* its run list belongs to `runs`, one by one */
    struct repeat_run runs[REPEAT_RUNS_MAX];
    struct repeat_entry *table;
    uint64_t slots;
    uint64_t places;
    uint64_t entries;   /* of the table */
    uint32_t last;      /* second of the entry that came last; 0 = the table is empty */
    uint64_t frozen_us; /* monotonic; the table begins here */
    bool may_tend;      /* something changed since there was nothing to merge or to remove */
    struct repeat_filter filter;
    struct merge merge;
    uint8_t *buffer;
};

static uint64_t table_size(const struct repeats *repeats) {
    return repeats->places * sizeof(*repeats->table);
}

/* -- state and files --------------------------------------------------------------------------- */

static void state_path(const struct repeats *repeats, char out[REPEAT_DIR_MAX + 32]) {
    (void)snprintf(out, REPEAT_DIR_MAX + 32, "%s/state", repeats->dir);
}

static uint32_t latest(const struct repeats *repeats) {
    return repeats->last != 0 ? repeats->last : repeats->state.latest;
}

/* On disk first, then in memory: what is gone there may not come back. */
static int save(struct repeats *repeats, const struct repeat_state *next) {
    char path[REPEAT_DIR_MAX + 32];
    uint8_t bytes[REPEAT_STATE_MAX];
    state_path(repeats, path);
    int r = os_file_replace(path, bytes, repeat_state_write(next, bytes), 0600);
    if (r == 0) {
        repeats->state = *next;
    }
    return r;
}

static uint32_t longest_window(const struct repeats *repeats) {
    uint32_t longest = 0;
    for (uint32_t i = 0; i < repeats->state.window_count; i++) {
        uint32_t seconds = repeats->state.windows[i].seconds;
        longest = seconds > longest ? seconds : longest;
    }
    return longest;
}

static bool are_apart(uint32_t a, uint32_t b, uint32_t seconds) {
    return (a < b ? b - a : a - b) >= seconds;
}

/*
 * As of the durable cursor: what came behind it may be judged again after a crash, and must find
 * what it found, also when the clock is set back a little meanwhile. What a clock that was far ahead
 * has left goes as well.
 */
static bool has_expired(const struct repeats *repeats, uint32_t second) {
    return are_apart(second, repeats->state.latest, longest_window(repeats) + CLOCK_SLACK);
}

static uint64_t in_us(uint64_t second) {
    return second * 1000000;
}

/* Windows whose last seq every table and run has passed decide nothing any more. */
static void drop_old_windows(struct repeat_state *state) {
    while (state->window_count > 1 && state->windows[1].from_seq <= state->covered_until) {
        state->window_count--;
        memmove(state->windows, state->windows + 1, state->window_count * sizeof(*state->windows));
    }
}

static bool set_window(struct repeats *repeats, const struct repeats_config *config) {
    struct repeat_state *state = &repeats->state;
    const struct repeat_window *last = &state->windows[state->window_count - 1];
    if (last->seconds == config->window_s) {
        return false;
    }
    if (state->window_count == REPEAT_WINDOWS_MAX) {
        log_event(LOG_ERROR,
                  "dedupe: the window changed too often; it is taken up at a later start",
                  LOG_INT("window_s", config->window_s));
        return false;
    }
    uint32_t longest = longest_window(repeats);
    if (config->window_s > longest && state->latest > longest && longest != 0) {
        /* What the shorter window had passed may be gone. */
        repeats_lost_until(repeats, in_us(state->latest - longest));
    }
    if (last->from_seq == config->from_seq) {
        state->windows[state->window_count - 1].seconds = config->window_s;
    } else {
        state->windows[state->window_count++] =
            (struct repeat_window){config->from_seq, config->window_s};
    }
    return true;
}

static void begin_anew(struct repeats *repeats, const struct repeats_config *config) {
    for (uint32_t i = 0; i < REPEAT_RUNS_MAX; i++) {
        repeat_run_close(&repeats->runs[i]);
    }
    repeats->state = (struct repeat_state){.next_number = 1, .window_count = 1};
    repeats->state.windows[0] = (struct repeat_window){config->from_seq, config->window_s};
}

static int read_state(struct repeats *repeats) {
    char path[REPEAT_DIR_MAX + 32];
    uint8_t bytes[REPEAT_STATE_MAX];
    size_t n = 0;
    state_path(repeats, path);
    int r = os_file_read_whole(path, bytes, sizeof(bytes), &n);
    r = r == BH_E_TOO_BIG ? BH_E_CORRUPT : r;
    r = r == 0 ? repeat_state_read(span_of(bytes, n), &repeats->state) : r;
    for (uint32_t i = 0; r == 0 && i < repeats->state.run_count; i++) {
        struct repeat_run *run = &repeats->runs[i];
        r = repeat_run_open(repeats->dir, repeats->state.runs[i].number, run);
        r = r == BH_E_NOTFOUND ? BH_E_CORRUPT : r;
        bool is_it = r == 0 && run->crc == repeats->state.runs[i].crc &&
                     run->entries == repeats->state.runs[i].entries && repeat_run_is_whole(run);
        r = r == 0 && !is_it ? BH_E_CORRUPT : r;
    }
    return r;
}

static bool is_listed(const struct repeats *repeats, const char *name) {
    char path[REPEAT_DIR_MAX + 32];
    for (uint32_t i = 0; i < repeats->state.run_count; i++) {
        repeat_run_path(repeats->dir, repeats->state.runs[i].number, path);
        if (strcmp(path + strlen(repeats->dir) + 1, name) == 0) {
            return true;
        }
    }
    return false;
}

/* Runs that a crash left without a place in the state. */
static int remove_stray(void *context, const char *name) {
    const struct repeats *repeats = (const struct repeats *)context;
    char path[REPEAT_DIR_MAX + 300];
    size_t n = strlen(name);
    if (n <= 4 || strcmp(name + n - 4, ".run") != 0 || is_listed(repeats, name)) {
        return 0;
    }
    (void)snprintf(path, sizeof(path), "%s/%s", repeats->dir, name);
    return os_path_unlink(path);
}

/* -- opening ----------------------------------------------------------------------------------- */

static int open_store(struct repeats *repeats, const struct repeats_config *config) {
    int r = os_dir_make(repeats->dir);
    r = r == 0 ? read_state(repeats) : r;
    bool is_new = r == BH_E_NOTFOUND || r == BH_E_CORRUPT;
    if (is_new) {
        if (r == BH_E_CORRUPT) {
            log_event(LOG_ERROR,
                      "dedupe: its files are damaged; they are made again from the journal",
                      LOG_INT("runs", repeats->state.run_count));
        }
        begin_anew(repeats, config);
        r = 0;
    }
    if (r != 0) {
        return r;
    }
    if (set_window(repeats, config) || is_new) {
        struct repeat_state state = repeats->state;
        r = save(repeats, &state);
        r = r == BH_E_NOSPACE ? 0
                              : r; /* the next run saves it; the journal refuses events meanwhile */
    }
    repeats->may_tend = true;
    return r == 0 ? os_dir_list(repeats->dir, remove_stray, repeats) : r;
}

int repeats_open(const struct repeats_config *config, struct repeats **ret_repeats,
                 struct err *err) {
    struct repeats *repeats = (struct repeats *)calloc(1, sizeof(*repeats));
    if (repeats == NULL) {
        return err_set(err, BH_E_NOMEM, "dedupe: no memory");
    }
    (void)snprintf(repeats->dir, sizeof(repeats->dir), "%s", config->dir);
    repeats->merge.writer.file = OS_FILE_NONE;
    repeats->slots = config->table_slots != 0 ? config->table_slots : REPEAT_SLOTS;
    repeats->places = repeats->slots + REPEAT_TAIL;
    repeats->table = (struct repeat_entry *)os_memory_map(table_size(repeats));
    repeats->buffer = (uint8_t *)os_memory_map(WRITE_BUFFER + TABLE_BUFFER);
    repeats->filter.bits = (uint64_t *)os_memory_map(REPEAT_FILTER_SIZE);
    repeats->frozen_us = os_mono_us();
    bool has_memory =
        repeats->table != NULL && repeats->buffer != NULL && repeats->filter.bits != NULL;
    if (has_memory) {
        os_memory_prefer_large(repeats->table, table_size(repeats));
        os_memory_prefer_large(repeats->filter.bits, REPEAT_FILTER_SIZE);
    }
    int r = has_memory ? open_store(repeats, config) : BH_E_NOMEM;
    if (r != 0) {
        (void)err_set(err, r, "%s: what dedupe keeps: %s", repeats->dir, bh_error_text(r));
        repeats_free(repeats);
        return r;
    }
    repeat_filter_build(&repeats->filter, repeats->runs, repeats->state.run_count);
    *ret_repeats = repeats;
    return 0;
}

void repeats_free(struct repeats *repeats) {
    if (repeats == NULL) {
        return;
    }
    if (repeats->merge.is_active) {
        repeat_writer_abandon(&repeats->merge.writer);
    }
    for (uint32_t i = 0; i < REPEAT_RUNS_MAX; i++) {
        repeat_run_close(&repeats->runs[i]);
    }
    os_memory_unmap(repeats->table, table_size(repeats));
    os_memory_unmap(repeats->filter.bits, REPEAT_FILTER_SIZE);
    os_memory_unmap(repeats->buffer, WRITE_BUFFER + TABLE_BUFFER);
    free(repeats);
}

/* -- the table --------------------------------------------------------------------------------- */

/* The first place whose entry is not before this one: it, a larger one, or a free place. */
static struct repeat_entry *place_of(const struct repeats *repeats, uint64_t key,
                                     uint32_t content) {
    struct repeat_entry *at = repeats->table + repeat_home(key, repeats->slots);
    while (at->second != 0 && repeat_is_before(at, key, content)) {
        at++;
    }
    return at;
}

static bool is_of(const struct repeat_entry *entry, uint64_t key, uint32_t content) {
    return entry->second != 0 && entry->key == key && entry->content == content;
}

static void put(struct repeats *repeats, uint64_t key, uint32_t content, uint32_t second) {
    struct repeat_entry *at = place_of(repeats, key, content);
    repeats->last = second;
    if (is_of(at, key, content)) {
        at->second = second;
        return;
    }
    struct repeat_entry *end = at;
    while (end->second != 0) {
        end++;
    }
    /* A free place remains behind all, where every search ends. */
    check(end < repeats->table + repeats->places - 1);
    memmove(at + 1, at, (size_t)(end - at) * sizeof(*at));
    *at = (struct repeat_entry){key, content, second};
    repeats->entries++;
    if (repeats->filter.is_on) {
        repeat_filter_add(&repeats->filter, key);
    }
}

/* When the event with this key counted last; 0 = not known. */
static uint32_t second_of(const struct repeats *repeats, uint64_t key, uint32_t content) {
    if (repeats->filter.is_on && !repeat_filter_has(&repeats->filter, key)) {
        return 0;
    }
    const struct repeat_entry *at = place_of(repeats, key, content);
    if (is_of(at, key, content)) {
        return at->second; /* entered after all that is in runs */
    }
    uint32_t last = 0;
    for (uint32_t i = 0; i < repeats->state.run_count; i++) {
        uint32_t second = 0;
        if (repeat_run_find(&repeats->runs[i], key, content, &second) && second > last) {
            last = second;
        }
    }
    return last;
}

static uint32_t window_of(const struct repeats *repeats, uint64_t seq) {
    uint32_t i = repeats->state.window_count - 1;
    while (i > 0 && repeats->state.windows[i].from_seq > seq) {
        i--;
    }
    return repeats->state.windows[i].seconds;
}

bool repeats_is_off(const struct repeats *repeats) {
    return longest_window(repeats) == 0;
}

void repeats_prefetch(const struct repeats *repeats, uint64_t dedupe, uint32_t content) {
    uint64_t key = repeat_key_of(dedupe, content);
    __builtin_prefetch(repeats->table + repeat_home(key, repeats->slots));
    if (repeats->filter.is_on) {
        repeat_filter_prefetch(&repeats->filter, key);
        return;
    }
    for (uint32_t i = 0; i < repeats->state.run_count; i++) {
        const struct repeat_run *run = &repeats->runs[i];
        __builtin_prefetch(run->bytes + REPEAT_RUN_HEADER_SIZE +
                           repeat_home(key, run->slots) * REPEAT_ENTRY_SIZE);
    }
}

bool repeats_see(struct repeats *repeats, uint64_t seq, uint64_t received_us, uint64_t dedupe,
                 uint32_t content) {
    uint32_t window = window_of(repeats, seq);
    if (window == 0) {
        return false;
    }
    uint64_t key = repeat_key_of(dedupe, content);
    uint32_t now = repeat_second_of(received_us);
    uint32_t before = second_of(repeats, key, content);
    /* A clock may have gone back in between. */
    if (before != 0 && !are_apart(now, before, window)) {
        return true;
    }
    put(repeats, key, content, now);
    return false;
}

void repeats_enter(struct repeats *repeats, uint64_t received_us, uint64_t dedupe,
                   uint32_t content) {
    put(repeats, repeat_key_of(dedupe, content), content, repeat_second_of(received_us));
}

void repeats_forget(struct repeats *repeats) {
    memset(repeats->table, 0, table_size(repeats));
    repeats->entries = 0;
    repeats->last = 0;
    repeats->frozen_us = os_mono_us();
}

uint64_t repeats_covered_until(const struct repeats *repeats) {
    return repeats->state.covered_until;
}

void repeats_begin_at(struct repeats *repeats, uint64_t covered_until) {
    repeats->state.covered_until = covered_until;
}

void repeats_lost_until(struct repeats *repeats, uint64_t received_us) {
    if (received_us > repeats->state.since_us) {
        repeats->state.since_us = received_us;
    }
}

bool repeats_is_full(const struct repeats *repeats) {
    return repeats->entries >= repeats->slots / 10 * 7;
}

bool repeats_is_due(const struct repeats *repeats) {
    return repeats_is_full(repeats) || os_mono_us() - repeats->frozen_us >= AGE_US;
}

/* -- runs -------------------------------------------------------------------------------------- */

static void list_run(struct repeat_state *state, const struct repeat_run *run) {
    uint32_t i = state->run_count++;
    check(i < REPEAT_RUNS_MAX);
    state->runs[i].number = run->number;
    state->runs[i].entries = run->entries;
    state->runs[i].crc = run->crc;
}

/* The last one takes its place, in the list as in `runs`. */
static void unlist_run(struct repeat_state *state, uint32_t index) {
    state->runs[index] = state->runs[--state->run_count];
}

static struct repeat_run take_out(struct repeats *repeats, uint32_t index, uint32_t last) {
    struct repeat_run run = repeats->runs[index];
    repeats->runs[index] = repeats->runs[last];
    repeats->runs[last] = (struct repeat_run){0};
    return run;
}

static void remove_run(const struct repeats *repeats, struct repeat_run *run) {
    char path[REPEAT_DIR_MAX + 32];
    repeat_run_path(repeats->dir, run->number, path);
    repeat_run_close(run);
    int removed = os_path_unlink(path);
    (void)removed; /* else the next start removes it */
}

/* The run that was just written, mapped; IO when it cannot be read. */
static int open_written(const struct repeats *repeats, const struct repeat_writer *writer,
                        struct repeat_run *ret_run) {
    int r = repeat_run_open(repeats->dir, writer->number, ret_run);
    return r == BH_E_CORRUPT || r == BH_E_NOTFOUND ? BH_E_IO : r;
}

static unsigned class_of(uint64_t entries) {
    unsigned class_number = 0;
    for (uint64_t n = SMALL_RUN; entries > n; n *= FAN) {
        class_number++;
    }
    return class_number;
}

/* Eight runs of the lowest class that has so many. */
static bool choose(const struct repeats *repeats, unsigned inputs[FAN], uint64_t *ret_entries) {
    for (unsigned c = 0; c < 32; c++) {
        unsigned found = 0;
        *ret_entries = 0;
        for (uint32_t i = 0; i < repeats->state.run_count && found < FAN; i++) {
            if (class_of(repeats->runs[i].entries) == c) {
                inputs[found++] = i;
                *ret_entries += repeats->runs[i].entries;
            }
        }
        if (found == FAN) {
            return true;
        }
    }
    return false;
}

/* The next entry of an input from a place on. */
static void take_head(struct repeats *repeats, unsigned i, uint64_t from) {
    struct merge *merge = &repeats->merge;
    const struct repeat_run *run = &repeats->runs[merge->inputs[i]];
    merge->heads[i] = (struct repeat_entry){0};
    for (merge->at[i] = from; merge->at[i] < run->places; merge->at[i]++) {
        merge->heads[i] = repeat_run_at(run, merge->at[i]);
        if (merge->heads[i].second != 0) {
            return;
        }
    }
}

static int begin_merge(struct repeats *repeats, bool *ret_begun) {
    struct merge *merge = &repeats->merge;
    uint64_t entries = 0;
    *ret_begun = false;
    if (!choose(repeats, merge->inputs, &entries)) {
        return 0;
    }
    for (unsigned i = 0; i < FAN; i++) {
        take_head(repeats, i, 0);
    }
    merge->writer.buffer = buf_of(repeats->buffer, WRITE_BUFFER);
    int r = repeat_writer_begin(&merge->writer, repeats->dir, repeats->state.next_number, entries);
    if (r == 0) {
        repeats->state.next_number++;
        merge->is_active = true;
        *ret_begun = true;
    }
    return r;
}

/* The smallest entry that comes next, with the newest of its times; false at the end of all. */
static bool next_entry(struct repeats *repeats, struct repeat_entry *ret_entry) {
    struct merge *merge = &repeats->merge;
    const struct repeat_entry *smallest = NULL;
    for (unsigned i = 0; i < FAN; i++) {
        const struct repeat_entry *head = &merge->heads[i];
        if (head->second != 0 &&
            (smallest == NULL || repeat_is_before(head, smallest->key, smallest->content))) {
            smallest = head;
        }
    }
    if (smallest == NULL) {
        return false;
    }
    *ret_entry = *smallest;
    for (unsigned i = 0; i < FAN; i++) {
        if (is_of(&merge->heads[i], ret_entry->key, ret_entry->content)) {
            uint32_t second = merge->heads[i].second;
            ret_entry->second = second > ret_entry->second ? second : ret_entry->second;
            take_head(repeats, i, merge->at[i] + 1);
        }
    }
    return true;
}

static int end_merge(struct repeats *repeats) {
    struct merge *merge = &repeats->merge;
    struct repeat_run merged = {0};
    int r = repeat_writer_end(&merge->writer);
    r = r == 0 ? open_written(repeats, &merge->writer, &merged) : r;
    if (r != 0) {
        return r;
    }
    struct repeat_state next = repeats->state;
    uint32_t count = next.run_count;
    for (unsigned i = FAN; i-- > 0;) {
        unlist_run(&next, merge->inputs[i]); /* the highest index first */
    }
    list_run(&next, &merged);
    r = save(repeats, &next);
    if (r != 0) {
        repeat_run_close(&merged);
        return r;
    }
    for (unsigned i = FAN; i-- > 0;) {
        struct repeat_run old = take_out(repeats, merge->inputs[i], --count);
        remove_run(repeats, &old);
    }
    repeats->runs[count] = merged;
    repeats->may_tend = true;
    merge->is_active = false;
    return 0;
}

static int merge_some(struct repeats *repeats, uint64_t at_most) {
    int r = 0;
    while (r == 0 && at_most-- != 0) {
        struct repeat_entry entry;
        if (!next_entry(repeats, &entry)) {
            r = end_merge(repeats);
            break;
        }
        if (!has_expired(repeats, entry.second)) {
            r = repeat_writer_put(&repeats->merge.writer, &entry);
        }
    }
    if (r != 0 && repeats->merge.is_active) {
        repeats->merge.is_active = false;
        repeat_writer_abandon(&repeats->merge.writer);
    }
    return r;
}

/* A run that the window has passed; one at a time. */
static int drop_expired(struct repeats *repeats, bool *ret_dropped) {
    *ret_dropped = false;
    for (uint32_t i = 0; i < repeats->state.run_count; i++) {
        if (has_expired(repeats, repeats->runs[i].newest)) {
            struct repeat_state next = repeats->state;
            unlist_run(&next, i);
            int r = save(repeats, &next);
            if (r == 0) {
                struct repeat_run run = take_out(repeats, i, next.run_count);
                remove_run(repeats, &run);
                *ret_dropped = true;
            }
            return r;
        }
    }
    return 0;
}

int repeats_tend(struct repeats *repeats, bool *ret_more) {
    *ret_more = false;
    int r = 0;
    if (!repeats->merge.is_active && repeats->may_tend) {
        r = drop_expired(repeats, ret_more);
        if (r == 0 && !*ret_more) {
            r = begin_merge(repeats, &repeats->may_tend);
        }
    }
    if (r == 0 && repeats->merge.is_active) {
        *ret_more = true;
        r = merge_some(repeats, MERGE_STEP);
    }
    if (r == BH_E_NOSPACE) {
        /* Only look-ups are slower for it; the next run that is made tries again. */
        repeats->may_tend = false;
        *ret_more = false;
        r = 0;
    }
    return r;
}

/* Room in the list for one more run. */
static int make_room(struct repeats *repeats) {
    bool more = true;
    while (repeats->state.run_count >= RUNS_AT_MOST && more) {
        repeats->may_tend = true;
        int r = repeats_tend(repeats, &more);
        if (r != 0) {
            return r;
        }
    }
    return repeats->state.run_count < RUNS_AT_MOST ? 0 : BH_E_NOSPACE;
}

static int write_table(struct repeats *repeats, struct repeat_run *ret_run) {
    struct repeat_writer writer = {.buffer = buf_of(repeats->buffer + WRITE_BUFFER, TABLE_BUFFER)};
    int r =
        repeat_writer_begin(&writer, repeats->dir, repeats->state.next_number, repeats->entries);
    if (r != 0) {
        return r;
    }
    repeats->state.next_number++;
    for (uint64_t i = 0; r == 0 && i < repeats->places; i++) {
        if (repeats->table[i].second != 0) {
            r = repeat_writer_put(&writer, &repeats->table[i]);
        }
    }
    r = r == 0 ? repeat_writer_end(&writer) : r;
    r = r == 0 ? open_written(repeats, &writer, ret_run) : r;
    if (r != 0) {
        repeat_writer_abandon(&writer);
    }
    return r;
}

int repeats_freeze(struct repeats *repeats, uint64_t covered_until) {
    int r = make_room(repeats);
    if (r != 0) {
        return r;
    }
    struct repeat_state next = repeats->state;
    struct repeat_run run = {0};
    if (repeats->entries != 0) {
        r = write_table(repeats, &run);
        if (r != 0) {
            return r;
        }
        next.next_number = repeats->state.next_number;
        list_run(&next, &run);
    }
    next.covered_until = covered_until;
    next.latest = latest(repeats);
    drop_old_windows(&next);
    r = save(repeats, &next);
    if (r != 0) {
        repeat_run_close(&run);
        return r;
    }
    if (run.bytes != NULL) {
        repeats->runs[next.run_count - 1] = run;
    }
    repeats->may_tend = true;
    repeats_forget(repeats);
    repeat_filter_tend(&repeats->filter, repeats->runs, repeats->state.run_count);
    return 0;
}

void repeats_facts(const struct repeats *repeats, struct repeats_facts *ret_facts) {
    const struct repeat_state *state = &repeats->state;
    *ret_facts = (struct repeats_facts){
        .window_s = state->windows[state->window_count - 1].seconds,
        .entries = repeats->entries + repeat_runs_entries(repeats->runs, repeats->state.run_count),
        .runs = state->run_count,
    };
    for (uint32_t i = 0; i < state->run_count; i++) {
        ret_facts->bytes += repeats->runs[i].size;
    }
    uint64_t passed = (uint64_t)latest(repeats) - 1 - ret_facts->window_s;
    bool is_whole = latest(repeats) > ret_facts->window_s && state->since_us <= in_us(passed);
    ret_facts->since_us = is_whole ? 0 : state->since_us;
}
