#include "flow/ledger/ledger_leaf.h"

#include "base/check.h"
#include "engine/tlog/tlog.h"

enum { LEAF_FORMAT = 1 };

static void put_text(struct buf *b, const char *text, size_t max) {
    size_t n = text != NULL ? strlen(text) : 0;
    n = n > max ? max : n;
    buf_put_byte(b, (uint8_t)n);
    buf_put(b, text, n);
}

void leaf_put_attempt(struct buf *b, const struct ledger_attempt *attempt, uint64_t number,
                      uint32_t contract, const uint8_t entries_root[32]) {
    size_t start = b->n;
    check(attempt->endpoint >= 1 && attempt->endpoint <= ATTEMPT_ENDPOINT_MASK);
    buf_put_byte(b, LEAF_ATTEMPT);
    buf_put_byte(b, LEAF_FORMAT);
    buf_put_u16(b, (uint16_t)(attempt->endpoint | (attempt->seqs != NULL ? ATTEMPT_PARTIAL : 0)));
    buf_put_u32(b, contract);
    buf_put_u64(b, number);
    buf_put_u64(b, attempt->time_ms);
    buf_put_u64(b, attempt->first_seq);
    buf_put_u32(b, attempt->span);
    buf_put_u32(b, attempt->events);
    buf_put_u32(b, (uint32_t)attempt->entry_count);
    buf_put_u32(b, attempt->withheld);
    buf_put(b, entries_root, 32);
    buf_put(b, attempt->body_sha256, 32);
    check(b->full || b->n - start == LEAF_ATTEMPT_SIZE);
}

void leaf_put_outcome(struct buf *b, const struct ledger_outcome *outcome) {
    size_t start = b->n;
    buf_put_byte(b, LEAF_OUTCOME);
    buf_put_byte(b, LEAF_FORMAT);
    buf_put_byte(b, outcome->result);
    buf_put_byte(b, outcome->flags);
    buf_put_u16(b, outcome->status);
    buf_put_u16(b, 0);
    buf_put_u64(b, outcome->attempt);
    buf_put_u64(b, outcome->time_ms);
    buf_put_u32(b, (uint32_t)outcome->refused_count);
    check(b->full || b->n - start == LEAF_OUTCOME_SIZE);
}

void leaf_put_passed(struct buf *b, uint64_t first_seq, uint64_t span, uint64_t time_ms,
                     const struct ledger_reason_count *reasons, size_t count, const char *who) {
    buf_put_byte(b, LEAF_PASSED);
    buf_put_byte(b, LEAF_FORMAT);
    buf_put_u16(b, (uint16_t)count);
    buf_put_u32(b, 0);
    buf_put_u64(b, first_seq);
    buf_put_u64(b, span);
    buf_put_u64(b, time_ms);
    for (size_t i = 0; i < count; i++) {
        buf_put_byte(b, reasons[i].reason);
        buf_put_u64(b, reasons[i].events);
    }
    put_text(b, who, 64);
}

void leaf_put_contract(struct buf *b, uint32_t number, uint64_t time_ms, uint64_t first_seq,
                       const uint8_t sha[32]) {
    buf_put_byte(b, LEAF_CONTRACT);
    buf_put_byte(b, LEAF_FORMAT);
    buf_put_u16(b, 0);
    buf_put_u32(b, number);
    buf_put_u64(b, time_ms);
    buf_put_u64(b, first_seq);
    buf_put(b, sha, 32);
}

void leaf_put_shape(struct buf *b, uint32_t number, uint16_t source,
                    const struct ledger_pair *pairs, size_t count) {
    check(count <= LEAF_SHAPE_PAIRS_MAX);
    buf_put_byte(b, LEAF_SHAPE);
    buf_put_byte(b, LEAF_FORMAT);
    buf_put_u16(b, source);
    buf_put_u32(b, number);
    buf_put_u16(b, (uint16_t)count);
    for (size_t i = 0; i < count; i++) {
        buf_put_u16(b, pairs[i].class_id);
        buf_put_byte(b, pairs[i].form);
        buf_put_byte(b, pairs[i].level);
    }
}

void leaf_put_state(struct buf *b, uint8_t state, uint32_t generation, uint64_t time_ms,
                    const char *who, const char *why) {
    buf_put_byte(b, LEAF_STATE);
    buf_put_byte(b, LEAF_FORMAT);
    buf_put_byte(b, state);
    buf_put_byte(b, 0);
    buf_put_u32(b, generation);
    buf_put_u64(b, time_ms);
    put_text(b, who, 64);
    put_text(b, why, 255);
}

void leaf_put_open(struct buf *b, uint8_t kind, uint32_t log_number, uint64_t time_ms) {
    buf_put_byte(b, LEAF_OPEN);
    buf_put_byte(b, LEAF_FORMAT);
    buf_put_byte(b, kind);
    buf_put_byte(b, 0);
    buf_put_u32(b, log_number);
    buf_put_u64(b, time_ms);
}

void body_put_attempt(struct buf *b, const struct ledger_attempt *attempt) {
    if (attempt->seqs != NULL) {
        uint64_t before = attempt->first_seq;
        buf_put_varint(b, attempt->seq_count);
        for (size_t i = 0; i < attempt->seq_count; i++) {
            check(attempt->seqs[i] >= before);
            buf_put_varint(b, attempt->seqs[i] - before);
            before = attempt->seqs[i];
        }
    }
    uint32_t ord = 0;
    for (size_t i = 0; i < attempt->entry_count; i++) {
        check(attempt->entries[i].ord >= ord);
        buf_put_varint(b, attempt->entries[i].ord - ord);
        buf_put_varint(b, attempt->entries[i].shape);
        buf_put_varint(b, attempt->entries[i].events);
        ord = attempt->entries[i].ord;
    }
}

void body_put_outcome(struct buf *b, const struct ledger_outcome *outcome) {
    uint32_t before = 0;
    for (size_t i = 0; i < outcome->refused_count; i++) {
        check(outcome->refused[i] >= before);
        buf_put_varint(b, outcome->refused[i] - before);
        before = outcome->refused[i];
    }
}

/* -- reading ---------------------------------------------------------------------------------------------------------------------- */

static struct span read_text(struct reader *r) {
    return reader_take(r, read_u8(r));
}

static void read_attempt(struct reader *r, struct leaf *leaf) {
    leaf->attempt.flags = read_u16(r);
    leaf->attempt.contract = read_u32(r);
    leaf->attempt.number = read_u64(r);
    leaf->attempt.time_ms = read_u64(r);
    leaf->attempt.first_seq = read_u64(r);
    leaf->attempt.span = read_u32(r);
    leaf->attempt.events = read_u32(r);
    leaf->attempt.entries = read_u32(r);
    leaf->attempt.withheld = read_u32(r);
    leaf->attempt.entries_root = reader_take(r, 32).p;
    leaf->attempt.body_sha256 = reader_take(r, 32).p;
}

static void read_outcome(struct reader *r, struct leaf *leaf) {
    leaf->outcome.result = read_u8(r);
    leaf->outcome.flags = read_u8(r);
    leaf->outcome.status = read_u16(r);
    (void)read_u16(r);
    leaf->outcome.attempt = read_u64(r);
    leaf->outcome.time_ms = read_u64(r);
    leaf->outcome.refused = read_u32(r);
    if (leaf->outcome.result < RESULT_ACCEPTED || leaf->outcome.result > RESULT_UNSENT) {
        r->short_ = true;
    }
}

static void read_passed(struct reader *r, struct leaf *leaf) {
    leaf->passed.reason_count = read_u16(r);
    (void)read_u32(r);
    leaf->passed.first_seq = read_u64(r);
    leaf->passed.span = read_u64(r);
    leaf->passed.time_ms = read_u64(r);
    leaf->passed.reasons = reader_take(r, (size_t)9 * leaf->passed.reason_count);
    leaf->passed.who = read_text(r);
}

static void read_shape(struct reader *r, struct leaf *leaf) {
    leaf->shape.source = read_u16(r);
    leaf->shape.number = read_u32(r);
    leaf->shape.count = read_u16(r);
    if (leaf->shape.count > LEAF_SHAPE_PAIRS_MAX) {
        r->short_ = true;
        return;
    }
    for (unsigned i = 0; i < leaf->shape.count; i++) {
        leaf->shape.pairs[i].class_id = read_u16(r);
        leaf->shape.pairs[i].form = read_u8(r);
        leaf->shape.pairs[i].level = read_u8(r);
    }
}

static void read_state(struct reader *r, struct leaf *leaf) {
    leaf->state.state = read_u8(r);
    (void)read_u8(r);
    leaf->state.generation = read_u32(r);
    leaf->state.time_ms = read_u64(r);
    leaf->state.who = read_text(r);
    leaf->state.why = read_text(r);
}

int leaf_read(struct span bytes, struct leaf *leaf) {
    struct reader r = reader_of(bytes);
    leaf->bytes = bytes;
    leaf->body = SPAN_NONE;
    leaf->type = read_u8(&r);
    if (read_u8(&r) != LEAF_FORMAT && (leaf->type & LEAF_SKIPPABLE) == 0) {
        return r.short_ ? BH_E_CORRUPT : BH_E_VERSION;
    }
    switch (leaf->type) {
    case LEAF_ATTEMPT:
        read_attempt(&r, leaf);
        break;
    case LEAF_OUTCOME:
        read_outcome(&r, leaf);
        break;
    case LEAF_PASSED:
        read_passed(&r, leaf);
        break;
    case LEAF_CONTRACT:
        (void)read_u16(&r);
        leaf->contract.number = read_u32(&r);
        leaf->contract.time_ms = read_u64(&r);
        leaf->contract.first_seq = read_u64(&r);
        leaf->contract.sha256 = reader_take(&r, 32).p;
        break;
    case LEAF_SHAPE:
        read_shape(&r, leaf);
        break;
    case LEAF_STATE:
        read_state(&r, leaf);
        break;
    case LEAF_OPEN:
        leaf->open.kind = read_u8(&r);
        (void)read_u8(&r);
        leaf->open.log_number = read_u32(&r);
        leaf->open.time_ms = read_u64(&r);
        break;
    default:
        return (leaf->type & LEAF_SKIPPABLE) != 0 ? 0 : BH_E_VERSION;
    }
    return r.short_ || r.n != 0 ? BH_E_CORRUPT : 0;
}

int frame_walk_begin(struct frame_walk *walk, struct span plain) {
    struct reader r = reader_of(plain);
    uint16_t format = read_u16(&r);
    (void)read_u16(&r);
    uint32_t leaves_size = read_u32(&r);
    struct span leaves = reader_take(&r, leaves_size);
    if (r.short_) {
        return BH_E_CORRUPT;
    }
    if (format != LEAF_FORMAT) {
        return BH_E_VERSION;
    }
    walk->_leaves = reader_of(leaves);
    walk->_bodies = r;
    walk->_index = 0;
    return 0;
}

int frame_walk_next(struct frame_walk *walk, struct leaf *ret_leaf) {
    if (walk->_leaves.n == 0) {
        return walk->_bodies.n == 0 ? BH_E_AGAIN : BH_E_CORRUPT;
    }
    struct span bytes = reader_take(&walk->_leaves, read_u16(&walk->_leaves));
    if (walk->_leaves.short_ || bytes.n > LEAF_SIZE_MAX) {
        return BH_E_CORRUPT;
    }
    int r = leaf_read(bytes, ret_leaf);
    struct reader peek = walk->_bodies;
    if (r == 0 && peek.n != 0 && read_u32(&peek) == walk->_index) {
        ret_leaf->body = reader_take(&peek, read_u32(&peek));
        r = peek.short_ ? BH_E_CORRUPT : 0;
        walk->_bodies = peek;
    }
    walk->_index++;
    return r;
}

int entry_walk_begin(struct entry_walk *walk, const struct leaf *attempt) {
    walk->_r = reader_of(attempt->body);
    walk->_left = attempt->attempt.entries;
    walk->_ord = 0;
    if ((attempt->attempt.flags & ATTEMPT_PARTIAL) != 0) {
        uint64_t count = read_varint(&walk->_r);
        for (uint64_t i = 0; i < count && !walk->_r.short_; i++) {
            (void)read_varint(&walk->_r);
        }
    }
    return walk->_r.short_ ? BH_E_CORRUPT : 0;
}

int entry_walk_next(struct entry_walk *walk, struct entry *ret_entry) {
    if (walk->_left == 0) {
        return walk->_r.n == 0 ? BH_E_AGAIN : BH_E_CORRUPT;
    }
    uint64_t delta = read_varint(&walk->_r);
    uint64_t shape = read_varint(&walk->_r);
    uint64_t events = read_varint(&walk->_r);
    if (walk->_r.short_ || delta > UINT32_MAX - walk->_ord || shape > UINT32_MAX ||
        events > UINT32_MAX) {
        return BH_E_CORRUPT;
    }
    walk->_left--;
    walk->_ord += (uint32_t)delta;
    *ret_entry = (struct entry){walk->_ord, (uint32_t)shape, (uint32_t)events};
    return 0;
}

void entry_append(struct tlog_range *tree, const uint8_t lid[16], uint32_t shape, uint32_t events) {
    uint8_t leaf[24];
    struct tlog_hash hash;
    memcpy(leaf, lid, 16);
    put_u32(leaf + 16, shape);
    put_u32(leaf + 20, events);
    tlog_leaf(span_of(leaf, sizeof leaf), &hash);
    tlog_range_append(tree, &hash);
}
