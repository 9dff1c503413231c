/*
 * Leaves and frames of a ledger as bytes: docs/format/ledger.md. Pure; shared by writer, reader, verifier and fuzzer.
 *
 *   frame plain text:  format u16 · 0 u16 · leaves_size u32 | {size u16 · leaf}... | {leaf_in_frame u32 · size u32 · body}...
 *
 * Any thread. Errors: CORRUPT for bytes that no version has written, VERSION for a newer required type.
 */
#ifndef BH_FLOW_LEDGER_LEAF_H
#define BH_FLOW_LEDGER_LEAF_H

#include "base/bytes.h"
#include "flow/ledger/ledger.h"

enum leaf_type {
    LEAF_ATTEMPT = 1,
    LEAF_OUTCOME = 2,
    LEAF_PASSED = 3,
    LEAF_CONTRACT = 4,
    LEAF_SHAPE = 5,
    LEAF_EPOCH = 6, /* not yet written */
    LEAF_STATE = 7,
    LEAF_OPEN = 8,
    LEAF_SKIPPABLE = 128, /* types with this bit may be unknown */
};

enum {
    LEAF_ATTEMPT_SIZE = 112,
    LEAF_OUTCOME_SIZE = 28,
    LEAF_SHAPE_PAIRS_MAX = 64,
    LEAF_SIZE_MAX = 1024,
    FRAME_HEAD_SIZE = 8
};
enum attempt_flag { ATTEMPT_ENDPOINT_MASK = 15, ATTEMPT_PARTIAL = 16 };

struct leaf {
    uint8_t type;
    struct span bytes; /* as hashed */
    struct span body;  /* sealed body that belongs to it, or empty */
    /* Filled by type. */
    struct {
        uint16_t flags;
        uint32_t contract;
        uint64_t number, time_ms, first_seq;
        uint32_t span, events, entries, withheld;
        const uint8_t *entries_root;
        const uint8_t *body_sha256;
    } attempt;
    struct {
        uint8_t result, flags;
        uint16_t status;
        uint64_t attempt, time_ms;
        uint32_t refused;
    } outcome;
    struct {
        uint64_t first_seq, span, time_ms;
        uint16_t reason_count;
        struct span reasons; /* {reason u8 · events u64}... */
        struct span who;
    } passed;
    struct {
        uint32_t number;
        uint64_t time_ms, first_seq;
        const uint8_t *sha256;
    } contract;
    struct {
        uint32_t number;
        uint16_t source, count;
        struct ledger_pair pairs[LEAF_SHAPE_PAIRS_MAX];
    } shape;
    struct {
        uint8_t state;
        uint32_t generation;
        uint64_t time_ms;
        struct span who, why;
    } state;
    struct {
        uint8_t kind; /* 1 open, 2 close */
        uint32_t log_number;
        uint64_t time_ms;
    } open;
};

/* Each appends one leaf (without its size) to b. */
void leaf_put_attempt(struct buf *b, const struct ledger_attempt *attempt, uint64_t number,
                      uint32_t contract, const uint8_t entries_root[32]);
void leaf_put_outcome(struct buf *b, const struct ledger_outcome *outcome);
void leaf_put_passed(struct buf *b, uint64_t first_seq, uint64_t span, uint64_t time_ms,
                     const struct ledger_reason_count *reasons, size_t count, const char *who);
void leaf_put_contract(struct buf *b, uint32_t number, uint64_t time_ms, uint64_t first_seq,
                       const uint8_t sha256[32]);
void leaf_put_shape(struct buf *b, uint32_t number, uint16_t source,
                    const struct ledger_pair *pairs, size_t count);
void leaf_put_state(struct buf *b, uint8_t state, uint32_t generation, uint64_t time_ms,
                    const char *who, const char *why);
void leaf_put_open(struct buf *b, uint8_t kind, uint32_t log_number, uint64_t time_ms);
/* Bodies. */
void body_put_attempt(struct buf *b, const struct ledger_attempt *attempt);
void body_put_outcome(struct buf *b, const struct ledger_outcome *outcome);

int leaf_read(struct span bytes, struct leaf *ret_leaf) BH_MUST_USE;

/* Walks the leaves of a frame's plain text, each with its body. */
struct frame_walk {
    struct reader _leaves;
    struct reader _bodies;
    uint32_t _index;
};
int frame_walk_begin(struct frame_walk *walk, struct span plain) BH_MUST_USE;
/* 0, AGAIN at the end, CORRUPT. */
int frame_walk_next(struct frame_walk *walk, struct leaf *ret_leaf) BH_MUST_USE;

/* Entries of an attempt's body, in order. */
struct entry_walk {
    struct reader _r;
    uint64_t _left;
    uint32_t _ord;
};
struct entry {
    uint32_t ord;
    uint32_t shape;
    uint32_t events;
};
int entry_walk_begin(struct entry_walk *walk, const struct leaf *attempt) BH_MUST_USE;
int entry_walk_next(struct entry_walk *walk,
                    struct entry *ret_entry) BH_MUST_USE; /* 0, AGAIN at the end, CORRUPT */

/* SHA-256(0 ‖ lid ‖ shape ‖ events) and the tree over all entries. */
struct tlog_range;
void entry_append(struct tlog_range *tree, const uint8_t lid[16], uint32_t shape, uint32_t events);

#endif
