/*
 * What the files of the resolver share. Rules and picture are in resolve.h; the bytes in
 * docs/format/resolve.md.
 */
#ifndef BH_FLOW_RESOLVE_INT_H
#define BH_FLOW_RESOLVE_INT_H

#include <lmdb.h>
#include <stdatomic.h>

#include "engine/json/json.h"
#include "flow/resolve/repeat_int.h"
#include "flow/resolve/resolve.h"
#include "model/limits.h"
#include "os/file.h"
#include "os/thread.h"
#include "protocol/protocol.h"

enum {
    SLOT_SIZE = 32,
    SLOT_HEADER_SIZE = 4096,
    SLOT_BLOCK = 1024 * 1024, /* the file grows by this */
    /* New rows of one durable batch; their slots are written at once before the commit. */
    BATCH_ROWS_MAX = 16384,
    BATCH_EVENTS_MAX = 32768,
    EVENT_REFS_MAX = 32,   /* ids of people that one event can name; more are not linked */
    ID_TEXT_MAX = 1024,    /* longer ids get a row and no text */
    HOT_ENTRIES = 1 << 18, /* of 64 B: 16 MiB */
    HOT_WAYS = 4,
    MEMO_ENTRIES = 1 << 18,   /* of 8 B: 2 MiB, a set of ids for each hot aid */
    KNOWN_EDGES = 1 << 16,    /* of 12 B: 0.75 MiB, for events that the memo does not know */
    LOOK_AHEAD = 4,           /* events whose places in the tables are fetched before their turn */
    SCRATCH_SIZE = 64 * 1024, /* decoded ids of one event; what does not fit is not linked */
    DISTINCT_MAX = 256,
    VIEWS_MAX = LIMIT_VENDORS + 32,
};

/* Flags of a row; on disk. */
enum row_flag {
    ROW_SEEN_AS_USER =
        1,              /* an event showed it as a user's id: from then on (user_since) no device */
    ROW_HAS_JOINED = 2, /* a device that has its first user */
};

struct alias_row {
    uint32_t ord;
    uint16_t source;
    uint16_t flags;
    uint64_t first_seq;
    uint64_t
        user_since; /* seq of the event that set ROW_SEEN_AS_USER; 0 in a row from the hot table */
    uint8_t lid[16];
    uint8_t r[16];
};

/* -- hot aids (resolve_hot.c) ------------------------------------------------------------------ */

struct hot;
struct hot *hot_new(void);
void hot_free(struct hot *hot);
/* (any) The table is larger than the caches: asks for an aid's bucket while other work is done. */
void hot_prefetch(const struct hot *hot, const struct aid *aid);
/* (any) */
bool hot_find(struct hot *hot, const struct aid *aid, struct alias_row *ret_row);
/* (resolver) Adds or changes. */
void hot_put(struct hot *hot, const struct aid *aid, const struct alias_row *row);
void hot_clear(struct hot *hot);

/* -- sets of ids of which nothing is left to do (resolve_memo.c) ------------------------------- */

struct memo;
struct memo *memo_new(void);
void memo_free(struct memo *memo);
void memo_clear(struct memo *memo);
/* `ids` is not 0. */
uint64_t memo_key(uint64_t ids, uint16_t source);
void memo_prefetch(const struct memo *memo, uint64_t key);
bool memo_has(const struct memo *memo, uint64_t key);
/* `open`: the set's one id that is a device's and may still turn out to be a user's, or NULL. */
void memo_put(struct memo *memo, uint64_t key, const struct aid *open);
/* An id that may be in a kept set, as a device's, is a user's from now on. */
void memo_turn(struct memo *memo, const struct aid *aid);

/* -- slot file (resolve_slots.c) --------------------------------------------------------------- */

struct slots {
    struct os_file file;
    uint64_t size;             /* reserved bytes */
    struct hmac_key *wrapping; /* K_slots */
};

/* Opens, and makes when writable. */
int slots_open(const char *dir, const struct keyring *keyring, bool read_only,
               struct slots *ret_slots, struct err *err) BH_MUST_USE;
void slots_close(struct slots *slots);
/* Writes and syncs `count` slots from `ord` on. */
int slots_write(struct slots *slots, uint32_t ord, const uint8_t *bytes,
                uint32_t count) BH_MUST_USE;
/* NOTFOUND: zeroed (erased) or never written. */
int slots_read(const struct slots *slots, uint32_t ord, uint8_t ret_slot[SLOT_SIZE]) BH_MUST_USE;
/* Seals an id string under the key that the slot gives; out has id.n + GCM_TAG_SIZE bytes. */
int slot_seal(const struct slots *slots, uint32_t ord, const uint8_t slot[SLOT_SIZE],
              struct span id, uint8_t *out) BH_MUST_USE;
int slot_open(const struct slots *slots, uint32_t ord, const uint8_t slot[SLOT_SIZE],
              struct span sealed, uint8_t *out) BH_MUST_USE;

/* -- tables (resolve_store.c) ------------------------------------------------------------------ */

enum resolve_rule { RULE_DEVICE_USER = 1, RULE_IDENTIFY = 2, RULE_ALIAS = 3, RULE_MERGE = 4 };
struct resolve_edge {
    uint32_t a;
    uint32_t b;
    uint8_t rule;
    bool binds; /* false: a claim ("perhaps the same") */
    uint16_t source;
    uint64_t seq;
};

struct store {
    MDB_env *env;
    MDB_dbi alias;    /* aid -> row */
    MDB_dbi ord;      /* ord -> aid */
    MDB_dbi text;     /* ord -> sealed id string */
    MDB_dbi edge;     /* ord -> edges, both ways */
    MDB_dbi distinct; /* name 0 hash -> seq */
    MDB_dbi meta;
    MDB_dbi repeat; /* seq of an event that repeats another -> nothing */
    bool has_repeats;
};

/* BH_E_ code of an LMDB result: NOTFOUND, NOSPACE, IO, ... */
int store_code(int mdb_result);
int store_open(const char *dir, uint64_t map_size, bool read_only, struct store *ret_store,
               struct err *err) BH_MUST_USE;
void store_close(struct store *store);

int store_get_row(const struct store *store, MDB_txn *txn, const struct aid *aid,
                  struct alias_row *ret_row) BH_MUST_USE;
int store_put_row(const struct store *store, MDB_txn *txn, const struct aid *aid,
                  const struct alias_row *row) BH_MUST_USE;
int store_put_ord(const struct store *store, MDB_txn *txn, uint32_t ord,
                  const struct aid *aid) BH_MUST_USE;
int store_get_ord(const struct store *store, MDB_txn *txn, uint32_t ord,
                  struct aid *ret_aid) BH_MUST_USE;
/* Highest ord, 0 = none. */
int store_last_ord(const struct store *store, MDB_txn *txn, uint32_t *ret_ord) BH_MUST_USE;
int store_put_text(const struct store *store, MDB_txn *txn, uint32_t ord,
                   struct span sealed) BH_MUST_USE;
int store_get_text(const struct store *store, MDB_txn *txn, uint32_t ord,
                   struct span *ret_sealed) BH_MUST_USE;
/* Whether a and b are joined by an edge that binds, whatever its rule and source. */
int store_are_joined(const struct store *store, MDB_txn *txn, uint32_t a, uint32_t b,
                     bool *ret_joined) BH_MUST_USE;
uint64_t store_edge_count(const struct store *store, MDB_txn *txn);
/* Keeps the edge unless one with the same ends, rule, source and `binds` is there: *ret_is_new. */
int store_put_edge(const struct store *store, MDB_txn *txn, const struct resolve_edge *edge,
                   bool *ret_is_new) BH_MUST_USE;
/*
 * Edges of one ord; all edges (each once) when ord is 0. A non-zero return of `each` ends the walk
 * and is returned.
 */
int store_edges(const struct store *store, MDB_txn *txn, uint32_t ord,
                int (*each)(void *context, const struct resolve_edge *edge),
                void *context) BH_MUST_USE;
/* Small named numbers: NOTFOUND when absent. */
int store_get_meta(const struct store *store, MDB_txn *txn, const char *name,
                   uint64_t ret_values[2]) BH_MUST_USE;
int store_put_meta(const struct store *store, MDB_txn *txn, const char *name,
                   const uint64_t values[2]) BH_MUST_USE;

int store_put_repeat(const struct store *store, MDB_txn *txn, uint64_t seq) BH_MUST_USE;
/* The first repeat at or after seq; UINT64_MAX when there is none. The cursor is on the table of repeats. */
int store_next_repeat(MDB_cursor *cursor, uint64_t seq, uint64_t *ret_seq) BH_MUST_USE;
/* Forgets repeats below a seq, at most so many. */
int store_drop_repeats(const struct store *store, MDB_txn *txn, uint64_t below,
                       unsigned at_most) BH_MUST_USE;

/* -- links of one event (resolve_links.c) ------------------------------------------------------ */

/* An id that an event names. */
struct link_ref {
    struct aid aid;
    struct span id;
    uint32_t ord;   /* 0 = no row; set by the resolver before links_of, as is_user */
    uint8_t kind;   /* enum person_kind */
    bool is_device; /* as the event says */
    bool is_user;   /* the event shows it as a user's, or an earlier one did */
};

struct link {
    uint8_t a, b; /* indexes of refs; with is_device_rule a is the device */
    uint8_t rule; /* enum resolve_rule */
    bool is_device_rule;
};

/* Whether the event itself shows this id as a user's. */
bool link_ref_shows_user(const struct link_ref *ref);
/*
 * The joins that an event of this kind states between refs with an ord; at most one less than there
 * are refs.
 */
size_t links_of(uint8_t event_kind, const struct link_ref *refs, size_t count, struct link *links);

/* -- distinct values (resolve_distinct.c) ------------------------------------------------------ */

struct distinct_property {
    uint64_t property;
    uint32_t limit;
    uint32_t count;  /* distinct values seen, at most limit + 1 */
    bool is_counted; /* the present plan declares it */
    _Atomic uint64_t
        closed_at; /* seq of the first value over the limit; UINT64_MAX = open; anyone reads */
    char name[128];
};

struct distinct {
    struct distinct_property properties[DISTINCT_MAX];
    _Atomic size_t count;
};

/* (any) */
struct distinct_property *distinct_find(struct distinct *distinct, uint64_t property);
/*
 * Looks at the values of an event's registered properties. Sets *ret_changed when something was
 * stored.
 */
int distinct_see(const struct store *store, MDB_txn *txn, const struct hmac_key *key,
                 struct distinct *distinct, const struct protocol_ops *protocol, uint8_t event_kind,
                 struct span json, const struct json_token *tokens, uint64_t seq,
                 bool *ret_changed) BH_MUST_USE;
/*
 * Registers these properties and no others from now on; what was counted before stays counted.
 * TOO_MANY: all that have room are registered, the rest are not counted.
 */
int distinct_set(const struct store *store, MDB_txn *txn, bool read_only, struct distinct *distinct,
                 const struct resolve_distinct *wanted, size_t count) BH_MUST_USE;
/* Reads counts and closing seqs back after an aborted transaction. */
int distinct_load(const struct store *store, MDB_txn *txn, struct distinct *distinct) BH_MUST_USE;

/* -- the resolver ------------------------------------------------------------------------------ */

struct quota {
    uint64_t hour; /* of received_us */
    uint64_t count;
    bool is_loaded;
    bool was_said; /* that it is exceeded, once an hour */
};

/*
 * An edge that is known to be stored, so that a browser's every event does not look for it in the
 * table.
 */
struct known_edge {
    uint32_t a, b;
    uint16_t source;
    uint16_t how; /* rule, and what decides whether it binds */
};
_Static_assert(sizeof(struct known_edge) == 12, "compared as bytes");

struct source_entry {
    uint16_t number;
    bool trust_server;
    uint64_t new_people_per_hour;
    char space[LIMIT_NAME + 1];
};

struct source_table {
    struct source_entry entries[LIMIT_SOURCES];
    size_t count;
};

struct resolver {
    /* Anyone reads; the resolver writes (release). */
    _Atomic uint64_t seq;     /* all events up to it have their rows */
    _Atomic uint64_t settled; /* durable cursor: the next seq to read */
    _Atomic uint64_t stat_edges, stat_quota, stat_lost, stat_misses, stat_repeats;
    _Atomic uint64_t stat_since_us, stat_entries, stat_bytes; /* of the store of repeats */
    _Atomic uint32_t stat_window_s;
    _Atomic uint32_t last_ord; /* durable */
    _Atomic bool stopping;
    _Atomic bool is_out_of_space;

    /* Set while opening. */
    char dir[256];
    struct keyring *keyring;
    struct journal *journal; /* NULL: read only */
    struct store store;
    struct slots slots;
    struct hot *hot; /* NULL when read only */
    struct aid_maker *aids;
    struct hmac_key *distinct_key;
    struct os_thread thread;

    /* What a reload changes; `reloaded` says that the resolver has taken it up. */
    struct os_lock lock;
    struct os_cond reloaded;
    struct source_table *next_sources;
    const struct resolve_distinct *next_distinct;
    size_t next_distinct_count;
    int distinct_result;
    bool sources_changed;
    bool distinct_changed;

    /* Resolver thread. */
    bool is_dirty;
    int wake_fd;
    struct journal_reader *reader;
    struct source_table *sources;
    struct quota *quotas; /* by source number */
    struct distinct *distinct;
    struct known_edge *known_edges;
    struct repeats *repeats;
    struct memo *memo;
    uint64_t memo_from; /* first seq of this process: fingerprints before it are not used */
    uint64_t memo_hits;
    uint32_t next_ord;
    uint32_t batch_first_ord;
    uint8_t *batch_slots; /* guarded: keys of the rows of this batch */
    struct json_token *tokens;
    uint8_t *scratch; /* decoded ids of one event */
    uint64_t committed_at_us;
};

void resolver_run(void *context);
/* Takes up what resolver_set_sources and resolver_set_distinct left. */
void resolver_take_reload(struct resolver *resolver);
/* Forgets what an aborted batch left in memory; *ret_cursor = the next seq to read. */
int resolver_forget(struct resolver *resolver, uint64_t *ret_cursor) BH_MUST_USE;
/*
 * Reads what a restart needs from the tables: cursor, next ord, distinct counts. *ret_cursor = the
 * next seq to read.
 */
int resolver_load(struct resolver *resolver, uint64_t *ret_cursor) BH_MUST_USE;

/* -- the store of repeats (resolve_catch_up.c) ------------------------------------------------- */

/* Opens it; from here on the events after the journal's last one are judged under the window that is set. */
int resolver_open_repeats(struct resolver *resolver, const struct resolve_config *config,
                          struct err *err) BH_MUST_USE;
/* Enters the events between what runs hold and the durable cursor, as the tables say they were judged. AGAIN: it is to stop. */
int resolver_catch_up(struct resolver *resolver) BH_MUST_USE;
/* Between batches: runs are made and merged. *ret_more: there is more to do at once. */
int resolver_tend_repeats(struct resolver *resolver, bool *ret_more) BH_MUST_USE;
/* The table is to become a run: a commit must come first. */
bool resolver_wants_freeze(const struct resolver *resolver);

/* -- one event (resolve_event.c) --------------------------------------------------------------- */

/* What came before an event in its batch and stays until the next commit. */
int resolve_event(struct resolver *resolver, MDB_txn *txn, const struct record_request *request,
                  const struct record_event *event) BH_MUST_USE;
/* Writes the slots of the rows that were made since the last time; before every commit. */
int resolve_flush_slots(struct resolver *resolver) BH_MUST_USE;

#endif
