/*
 * resolve: gives each id of a person a number and keeps the links between them, in journal order,
 * before any courier passes.
 *
 *   aid (16 B, keyed hash of space and id) --LMDB--> row {ord, lid, r, first_seq, source, flags}
 *   ord --slot file--> 32 B (zeroed at erasure) --> key that seals the id string, kept in LMDB
 *   edges {ord, ord, rule, source, seq, binds} --> root ord of each ord
 *   dedupe, content --store of repeats--> seq counts, or repeats one that did (repeat_int.h)
 *
 * Invariants
 *  R1 A row is durable before resolver_seq passes the event that needs it.
 *  R2 ord is dense from 1 and never reused; lid and r are random; the ledger knows only ord and
 *     lid.
 *  R3 user-user joins bind only from sources with trust server; others are kept as claims.
 *  R4 Rows are a function of the journal: running again over the same events changes nothing.
 *  R5 New aids beyond a source's quota in an hour get no row: their events are QUOTA for every
 *     vendor.
 *  R6 Whether a seq is a repeat is decided once: durable before resolver_seq passes it, or the same
 *     whenever it is decided again.
 * Links: an id is a device while no event has shown it as a user's. A device joined with a user is
 * the device rule, whatever event says it: it binds the first time only, and from a browser's source
 * only if the device's id looks drawn by chance. Every other join of an event is user-user (R3).
 * docs/format/resolve.md has the rules and the bytes.
 * Threads: one resolver thread writes; each courier, and each answer, has a view of its own.
 * Errors: LMDB or slot file failures end the process like a failed sync. No space is waited for:
 * resolver_seq stands still and nothing else happens. Views return NOTFOUND.
 */
#ifndef BH_FLOW_RESOLVE_H
#define BH_FLOW_RESOLVE_H

#include "base/bytes.h"
#include "base/errors.h"
#include "engine/keyring/keyring.h"
#include "flow/journal/journal.h"
#include "model/event.h"

struct resolver;
struct resolve_view;

struct resolve_source {
    uint16_t number;
    bool trust_server;
    uint64_t new_people_per_hour; /* 0 = no limit */
    /* The source's ids: word, at most LIMIT_NAME bytes; NULL = "" = the common one. Copied. */
    const char *space;
};

struct resolve_config {
    const char *dir; /* data/resolve */
    struct keyring *keyring;
    struct journal *journal; /* NULL: read-only, for answers while no daemon runs */
    const struct resolve_source *sources;
    size_t source_count;
    uint64_t map_size; /* LMDB; 0 = 64 GiB of address space */
    /*
     * How long an event is known again when its SDK repeats it; 0 = not at all. Events that were
     * accepted before a change keep the window that they came under.
     */
    uint32_t repeat_window_s;
    uint32_t repeat_slots; /* 0 = the size for production; a power of two for tests */
};

/* K_id: aid of an id string. Immutable after creation; any thread may use one. */
struct aid_maker;
struct aid_maker *aid_maker_new(const struct keyring *keyring);
void aid_maker_free(struct aid_maker *maker);
/* `space` is the source's ids: word ("" = the common one); id without `$device:` prefix. */
void aid_make(const struct aid_maker *maker, struct span space, struct span id,
              struct aid *ret_aid);
/* Fingerprint of an SDK dedupe id: first 8 bytes of HMAC(K_id, source ‖ id); never 0. */
uint64_t aid_dedupe(const struct aid_maker *maker, uint16_t source, struct span dedupe_id);

/*
 * What makes an event the repeat of another: the source, the SDK's dedupe id, and what a retry
 * leaves as it was. Read before anything is overwritten.
 */
struct repeat_facts {
    uint16_t source;
    uint8_t kind; /* enum event_kind */
    struct span dedupe_id;
    struct aid aid;         /* of the primary id */
    struct span event_name; /* empty: it has none */
    int64_t said_ms;        /* the time that the item states; 0 = none */
};
struct repeat_key {
    uint64_t dedupe; /* = aid_dedupe */
    uint32_t content;
};
void aid_repeat(const struct aid_maker *maker, const struct repeat_facts *facts,
                struct repeat_key *ret_key);

int resolver_open(const struct resolve_config *config, struct resolver **ret_resolver,
                  struct err *err) BH_MUST_USE;
int resolver_start(struct resolver *resolver) BH_MUST_USE;
void resolver_stop(struct resolver *resolver);
void resolver_free(struct resolver *resolver);
/* (any) All events up to this seq have their rows. */
uint64_t resolver_seq(const struct resolver *resolver);
/* The source table may change with a reload. */
void resolver_set_sources(struct resolver *resolver, const struct resolve_source *sources,
                          size_t count);
/*
 * (any) First seq that the resolver would read again after a crash: the journal keeps all from here
 * on (journal_settlement with vendor NULL).
 */
uint64_t resolver_settled_seq(const struct resolver *resolver);

struct resolver_stats {
    uint64_t people;        /* ords given */
    uint64_t edges;         /* binding ones and claims */
    uint64_t quota_events;  /* events whose new id got no row, since start */
    uint64_t lost_events;   /* dropped from the journal before they were resolved, since start */
    uint64_t hot_misses;    /* look-ups that went to LMDB, since start */
    uint64_t repeat_events; /* that repeat another, since start */
    uint64_t
        repeat_since_us; /* repeats of what came before this moment are not known; 0 = all of the window are */
    uint64_t repeat_entries;
    uint64_t repeat_bytes; /* on disk */
    uint32_t repeat_window_s;
    bool is_out_of_space; /* waits for the disk; tried once a second */
};
void resolver_stats(const struct resolver *resolver, struct resolver_stats *ret_stats); /* (any) */

struct resolve_row {
    uint32_t ord;
    uint8_t lid[16];
    uint8_t r[16];
    uint64_t first_seq;
    uint16_t source;
    uint8_t is_quota_excess; /* no row was given: ord 0 */
};

int resolve_view_new(struct resolver *resolver, struct resolve_view **ret_view) BH_MUST_USE;
void resolve_view_free(struct resolve_view *view);
/* A read transaction over the lookups of a batch; begin again to see newer rows. */
int resolve_view_begin(struct resolve_view *view) BH_MUST_USE;
void resolve_view_end(struct resolve_view *view);
/* Fetches into the caches what a look-up of this aid will read. */
void resolve_prefetch(const struct resolve_view *view, const struct aid *aid);
int resolve_lookup(struct resolve_view *view, const struct aid *aid,
                   struct resolve_row *ret_row) BH_MUST_USE;
/*
 * The same as it stood for the event `seq` (<= resolver_seq): an id that got its row only later, or
 * never, was beyond its source's quota then, and comes back with is_quota_excess and ord 0. So a
 * courier that is behind decides as one that is not. Couriers use this one.
 */
int resolve_lookup_event(struct resolve_view *view, const struct aid *aid, uint64_t seq,
                         struct resolve_row *ret_row) BH_MUST_USE;
/*
 * Whether the event `seq` (<= resolver_seq) repeats one that counted: then it counts for nobody.
 * Cheapest in order of seqs.
 */
bool resolve_is_repeat(struct resolve_view *view, uint64_t seq);
/*
 * Root of the person that this alias belongs to, as the links stood just after `at_seq` (UINT64_MAX
 * = now). ord itself when it stands alone.
 */
uint32_t resolve_root(struct resolve_view *view, uint32_t ord, uint64_t at_seq);
uint32_t resolve_ord_count(struct resolve_view *view); /* highest ord */
/* ord -> root for all, into an array of `size` = resolve_ord_count + 1 entries; for answers. */
int resolve_roots(struct resolve_view *view, uint64_t at_seq, uint32_t *roots,
                  size_t size) BH_MUST_USE;
int resolve_by_ord(struct resolve_view *view, uint32_t ord, struct resolve_row *ret_row,
                   struct aid *ret_aid) BH_MUST_USE;
/* The id string of an ord, unsealed; NOTFOUND when erased. */
int resolve_id_text(struct resolve_view *view, uint32_t ord, struct buf *out) BH_MUST_USE;

/*
 * max_distinct: policy asks whether a declared property had already closed at this seq. Counted by
 * the resolver for the properties registered here (a reload may add; counting starts at
 * registration).
 */
struct resolve_distinct {
    uint64_t property; /* hash64 of the property's name with seed 0 */
    uint32_t limit;
    char name[128];
};
void resolver_set_distinct(struct resolver *resolver, const struct resolve_distinct *properties,
                           size_t count);
/* seq of the first value over the limit, UINT64_MAX = still open, 0 = not counted: closed. */
uint64_t resolve_distinct_closed_at(struct resolve_view *view, uint64_t property);

#endif
