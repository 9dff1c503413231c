/*
 * ledger: who is about to receive what, written before the first byte leaves. One log per vendor.
 *
 *   courier --attempt--> frame (leaves + sealed body) --fdatasync--> send --outcome--> waits, shares the next frame
 *
 * Truth = frames of engine/seglog (kind 2) in data/ledger/<vendor>-<n>/; a frame's plain text is leaves (tree members) and the sealed bodies outside the tree.
 * The Merkle tree over the leaves is engine/tlog; checkpoints are C2SP signed notes, signed <= 1 s after growth, appended to `checkpoints`. Bytes:
 * docs/format/ledger.md.
 * Invariants
 *  L1 ledger_attempt returns only after the attempt's frame is synced. Never two unsynced frames.
 *  L2 A sync failure ends the process. NOSPACE (after the reserve) stops this vendor only.
 *  L3 At open the tree must extend the last signed checkpoint, or the vendor stays stopped (TAMPERED).
 *  L4 The result of a seq is the strongest over all tries; a missing outcome reads as unknown.
 * Threads: writing: its courier alone (gap and state lines from other threads go through ledger_* under the ledger's lock). Reading: any, own handle.
 */
#ifndef BH_FLOW_LEDGER_H
#define BH_FLOW_LEDGER_H

#include "base/bytes.h"
#include "base/errors.h"
#include "engine/keyring/keyring.h"
#include "model/event.h"
#include "model/form.h"

struct ledger;

struct ledger_config {
    const char *dir; /* data/ledger */
    const char *vendor;
    struct keyring *keyring;
    bool read_only;
};

struct ledger_recovery {
    uint32_t log_number; /* n of <vendor>-<n> */
    uint64_t leaves;
    uint64_t settled_seq; /* all below is settled: the courier's cursor */
    uint64_t attempts_without_outcome;
    uint8_t state;     /* last type 7 line's state, 0 = never restored */
    uint32_t contract; /* last contract number */
};

int ledger_open(const struct ledger_config *config, struct ledger **ret_ledger,
                struct ledger_recovery *ret_recovery, struct err *err) BH_MUST_USE;
void ledger_close(struct ledger *ledger); /* flushes outcomes, signs a checkpoint */

struct ledger_entry {
    uint32_t ord;
    uint8_t lid[16];
    uint32_t shape;
    uint32_t events;
};

struct ledger_pair {
    uint16_t class_id;
    uint8_t form;
    uint8_t level;
};

/* Number of the shape (source, sorted classes with forms); a new one gets its type 5 leaf in the next frame. Cached: 20 ns when known. */
uint32_t ledger_shape(struct ledger *ledger, uint16_t source, const struct ledger_pair *pairs,
                      size_t count);

struct ledger_attempt {
    uint64_t time_ms;
    uint64_t first_seq; /* of the window */
    /* seqs of the window; 0 = of none: a question, which is sent once, whatever becomes of it, and has no seqs */
    uint32_t span;
    uint8_t endpoint; /* connector's number, 1..15: bits 0-3 of flags */
    uint32_t events;
    uint32_t withheld;                  /* leaves withheld */
    uint8_t body_sha256[32];            /* uncompressed request body */
    const struct ledger_entry *entries; /* sorted by ord, then shape; unique */
    size_t entry_count;
    const uint64_t
        *seqs; /* NULL: all of the window that goes to this endpoint; else only these (bit 4) */
    size_t seq_count;
};

/* Appends waiting outcomes and this attempt, syncs. A retry whose body hash, window and endpoint equal the attempt without complete outcome is that attempt again: its
 * number is returned and nothing is written. One whose outcomes all say "unsent" is never taken up again. */
int ledger_attempt(struct ledger *ledger, const struct ledger_attempt *attempt,
                   uint64_t *ret_number) BH_MUST_USE;

enum ledger_result {
    RESULT_ACCEPTED = 1,
    RESULT_REFUSED = 2,
    RESULT_UNKNOWN = 3,
    RESULT_UNSENT = 4
};
enum ledger_outcome_flag {
    OUTCOME_ITEMS_FINAL =
        1, /* every item of the attempt is accepted or refused for good: none of them is sent again */
    OUTCOME_WINDOW_SETTLED =
        2, /* and with it the whole window: the cursor passes it once this line is durable */
};
struct ledger_outcome {
    uint64_t attempt;
    uint64_t time_ms;
    uint16_t status;         /* HTTP status, 0 = none */
    uint8_t result;          /* enum ledger_result */
    uint8_t flags;           /* enum ledger_outcome_flag */
    const uint32_t *refused; /* ascending indexes of items within the attempt */
    size_t refused_count;
};
/* Waits in memory for the next frame, at most 1 s. */
int ledger_outcome(struct ledger *ledger, const struct ledger_outcome *outcome) BH_MUST_USE;

struct ledger_reason_count {
    uint8_t reason;
    uint64_t events;
};
/* A range from which nothing is sent (all withheld, gap, discard). Joined with the line before when contiguous and waiting. */
int ledger_passed(struct ledger *ledger, uint64_t first_seq, uint64_t span,
                  const struct ledger_reason_count *reasons, size_t count, const char *who,
                  bool sync) BH_MUST_USE;
int ledger_contract(struct ledger *ledger, uint32_t number, const uint8_t sha256[32],
                    uint64_t first_seq) BH_MUST_USE;
int ledger_state(struct ledger *ledger, uint8_t state, const char *who,
                 const char *why) BH_MUST_USE; /* enum vendor_state of deliver.h */

/* Writes and syncs what waits; signs a checkpoint when the tree has grown. Returns ms until it wants to be called again, or a negative error. */
int64_t ledger_tick(struct ledger *ledger, uint64_t now_ms);
/* Writes, syncs and signs all that waits now: before an answer that must be up to date, and at the end. */
int ledger_flush(struct ledger *ledger) BH_MUST_USE;
uint64_t ledger_settled_seq(struct ledger *ledger); /* (any) */
/* Whether an event of the unsettled window, going to this endpoint, is already in an attempt whose items are final (after a restart or a restore). */
bool ledger_seq_is_final(struct ledger *ledger, uint64_t seq, uint8_t endpoint);
uint64_t ledger_leaf_count(struct ledger *ledger);
/* The newest signed checkpoint as text. */
int ledger_checkpoint(struct ledger *ledger, struct buf *out) BH_MUST_USE;

/* -- reading ------------------------------------------------------------------------------------------------------------------------- */

struct ledger_verify_report {
    uint64_t frames, leaves, attempts, outcomes, bytes;
    uint64_t checkpoints;       /* signatures checked */
    uint64_t entries;           /* whose roots were recomputed */
    uint64_t entries_unchecked; /* of attempts that name an erased or unknown ord */
    char file[256];             /* of the first wrong byte */
    uint64_t offset;
    char text[256];
};
/* Recomputes everything of one log folder: crc, seal, tree, entries_root, every checkpoint's signature and consistency. 0, or CORRUPT/TAMPERED with
 * the report naming the first wrong byte. */
struct ledger_verify_options {
    const char *dir;      /* data/ledger */
    const char *log_name; /* <vendor>-<n> */
    struct keyring *keyring;
    /* lid of an ord, to recompute entries_root; NULL: entries are not checked, and the report says so. NOTFOUND for an ord that is erased or unknown. */
    int (*lid_of)(void *context, uint32_t ord, uint8_t ret_lid[16]);
    void (*progress)(void *context, uint64_t done, uint64_t total); /* bytes; may be NULL */
    void *context;
};
int ledger_verify(const struct ledger_verify_options *options,
                  struct ledger_verify_report *ret_report) BH_MUST_USE;

/* A reader is one answer's handle. A scan reads the whole log once, whatever the window (docs/adr/0002-answers-read-the-folder.md). */
struct ledger_reader;
int ledger_reader_open(const char *dir, const char *vendor, struct keyring *keyring,
                       struct ledger_reader **ret_reader, struct err *err) BH_MUST_USE;
void ledger_reader_close(struct ledger_reader *reader);

struct ledger_query {
    uint64_t from_ms; /* inclusive */
    uint64_t to_ms;   /* exclusive */
    uint64_t at_ms;   /* as the record stood then; UINT64_MAX = now */
    uint16_t source;  /* 0 = all */
    uint32_t ord;     /* 0 = all */
};
/* One disclosure: certain when completely answered inside the window, possible otherwise. ord 0 = about nobody. */
struct ledger_row {
    uint32_t ord;
    uint16_t source;
    bool certain;
    uint32_t shape; /* its number: source and pairs are the same for each row that has it */
    uint64_t attempt;
    uint64_t time_ms;    /* attempt */
    uint64_t outcome_ms; /* of the first complete answer; 0 = none */
    uint8_t result;      /* enum ledger_result; 3 when missing */
    uint32_t events;
    const struct ledger_pair *pairs;
    size_t pair_count;
};
int ledger_scan(struct ledger_reader *reader, const struct ledger_query *query,
                void (*each)(void *context, const struct ledger_row *row),
                void *context) BH_MUST_USE;
/* First opening line's time: since when this vendor has been watched. 0 = never. */
uint64_t ledger_watched_since(struct ledger_reader *reader);
/* One past the last seq that any attempt or passed line up to this time covers: "as the links stood then". */
int ledger_seq_at(struct ledger_reader *reader, uint64_t at_ms, uint64_t *ret_seq) BH_MUST_USE;
int ledger_reader_checkpoint(struct ledger_reader *reader, struct buf *out) BH_MUST_USE;

#endif
