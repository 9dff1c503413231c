/*
 * Writing of one vendor's log.
 *
 * Lines wait in `pending` (leaves) and `bodies` and share the next frame: an attempt flushes at once and is synced before ledger_attempt
 * returns; outcomes wait at most FLUSH_MS. Everything that a reader may rely on is published only after the sync: the tree, the cursor.
 *
 * The cursor moves by two kinds of lines: an outcome with OUTCOME_WINDOW_SETTLED moves it past its attempt's window, a passed line past its range.
 * Recovery replays them all (ledger_open), which also recomputes the tree and holds it against the last signed checkpoint.
 */
#include "flow/ledger/ledger.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/hash.h"
#include "flow/ledger/ledger_int.h"
#include "model/reason.h"
#include "os/clock.h"
#include "os/file.h"
#include "os/log.h"
#include "os/thread.h"

enum {
    MAGIC = 0x4c444752,
    PENDING_MAX = 192 * 1024,
    BODIES_MAX = 512 * 1024,
    LEAVES_MAX = 4096,    /* leaves that may wait */
    OPEN_MAX = 4096,      /* attempts of the unsettled window that are remembered */
    SEQS_MAX = 64 * 1024, /* seqs of partial attempts that are remembered */
    SHAPES_MAX = 1 << 16,
    SHAPE_PAIRS_ALL = SHAPES_MAX * 8,
    FLUSH_MS = 1000,
};

/* An attempt of the unsettled window: to know a retry from a new attempt, and what need not be sent again. */
struct open_attempt {
    uint64_t number;
    uint64_t first_seq;
    uint32_t span;
    uint8_t endpoint;
    bool items_final;
    bool is_told;   /* it has an outcome */
    bool is_unsent; /* and all of them say that no byte left */
    uint8_t body_sha256[32];
    uint32_t seqs_from; /* into seqs[]; partial attempts only */
    uint32_t seqs_count;
    bool is_partial;
};

struct shape_slot {
    uint64_t hash;
    uint32_t number; /* 0 = free */
    uint16_t source;
    uint16_t count;
    uint32_t pairs_from;
};

struct ledger {
    uint32_t magic;
    struct os_lock lock;
    char path[LEDGER_PATH];
    char origin[256];
    char vendor[80];
    uint32_t log_number;
    bool read_only;
    struct seglog *log;
    struct log_keys keys;
    struct tlog_range tree; /* durable leaves */
    uint64_t signed_size;
    uint64_t signed_ms;
    uint64_t next_attempt;
    uint32_t contract;
    uint8_t state;
    _Atomic uint64_t settled_seq;
    uint64_t pending_settled;  /* the cursor once the pending lines are durable */
    uint64_t pending_since_ms; /* 0 = nothing waits */
    struct buf pending;
    struct buf bodies;
    uint32_t pending_leaves;
    struct {
        bool is_open;
        uint64_t first_seq, span;
        char who[65];
        uint64_t reasons[REASON_LIMIT];
    } passed; /* a passed line that may still grow */
    struct open_attempt *open;
    uint32_t open_count;
    uint64_t *seqs;
    uint32_t seqs_count;
    struct shape_slot *shapes;
    struct ledger_pair *shape_pairs;
    uint32_t shape_pairs_count;
    uint32_t shape_count;
};

/* -- paths ------------------------------------------------------------------------------------------------------------------------- */

void ledger_log_path(const char *dir, const char *log_name, char *out, size_t cap) {
    (void)snprintf(out, cap, "%s/%s", dir, log_name);
}

void ledger_origin(const struct keyring *keyring, const char *log_name, char *out, size_t cap) {
    struct buf b = buf_of(out, cap - 1);
    buf_put_str(&b, "bulkhead/");
    buf_put_hex(&b, keyring_deployment(keyring), 16);
    buf_printf(&b, "/%u/%s", keyring_instance(keyring), log_name);
    out[b.n] = '\0';
}

void ledger_seglog_config(const char *path, const struct keyring *keyring, const uint8_t *wrapping,
                          struct seglog_config *ret_config) {
    *ret_config = (struct seglog_config){
        .dir = path,
        .kind = SEGLOG_LEDGER,
        .instance = keyring_instance(keyring),
        .wrapping = wrapping,
        .segment_size = LEDGER_SEGMENT,
        .grow_step = LEDGER_GROW,
        .frame_max = LEDGER_FRAME,
    };
    memcpy(ret_config->deployment, keyring_deployment(keyring), 16);
}

uint32_t ledger_newest(const char *dir, const char *vendor) {
    char path[LEDGER_PATH];
    uint32_t n = 0;
    for (;;) {
        (void)snprintf(path, sizeof path, "%s/%s-%u", dir, vendor, n + 1);
        if (!os_path_exists(path)) {
            return n;
        }
        n++;
    }
}

static uint64_t now_ms(void) {
    return os_wall_us() / 1000;
}

/* -- shapes ------------------------------------------------------------------------------------------------------------------------ */

static uint64_t shape_hash(uint16_t source, const struct ledger_pair *pairs, size_t count) {
    _Static_assert(sizeof *pairs == 4, "pairs are hashed as bytes: no padding");
    return hash64(pairs, count * sizeof *pairs, source);
}

static bool shape_is(const struct ledger *l, const struct shape_slot *slot, uint64_t hash,
                     uint16_t source, const struct ledger_pair *pairs, size_t count) {
    if (slot->hash != hash || slot->source != source || slot->count != count) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        const struct ledger_pair *have = &l->shape_pairs[slot->pairs_from + i];
        if (have->class_id != pairs[i].class_id || have->form != pairs[i].form ||
            have->level != pairs[i].level) {
            return false;
        }
    }
    return true;
}

static struct shape_slot *shape_find(struct ledger *l, uint16_t source,
                                     const struct ledger_pair *pairs, size_t count) {
    uint64_t hash = shape_hash(source, pairs, count);
    for (uint64_t at = hash;; at++) {
        struct shape_slot *slot = &l->shapes[at % SHAPES_MAX];
        if (slot->number == 0 || shape_is(l, slot, hash, source, pairs, count)) {
            slot->hash = hash;
            return slot;
        }
    }
}

static void shape_fill(struct ledger *l, struct shape_slot *slot, uint32_t number, uint16_t source,
                       const struct ledger_pair *pairs, size_t count) {
    slot->number = number;
    slot->source = source;
    slot->count = (uint16_t)count;
    slot->pairs_from = l->shape_pairs_count;
    memcpy(&l->shape_pairs[l->shape_pairs_count], pairs, count * sizeof *pairs);
    l->shape_pairs_count += (uint32_t)count;
    l->shape_count = number > l->shape_count ? number : l->shape_count;
}

static size_t leaf_begin(struct ledger *l);
static void leaf_end(struct ledger *l, size_t start);

/* -- recovery ---------------------------------------------------------------------------------------------------------------------- */

static struct open_attempt *open_find(struct ledger *l, uint64_t number) {
    for (uint32_t i = 0; i < l->open_count; i++) {
        if (l->open[i].number == number) {
            return &l->open[i];
        }
    }
    return NULL;
}

/* Attempts wholly below the cursor are of no further interest. */
static void open_prune(struct ledger *l, uint64_t settled) {
    uint32_t kept = 0;
    uint32_t seqs = 0;
    for (uint32_t i = 0; i < l->open_count; i++) {
        struct open_attempt a = l->open[i];
        if (a.first_seq + a.span <= settled) {
            continue;
        }
        memmove(&l->seqs[seqs], &l->seqs[a.seqs_from], a.seqs_count * sizeof *l->seqs);
        a.seqs_from = seqs;
        seqs += a.seqs_count;
        l->open[kept++] = a;
    }
    l->open_count = kept;
    l->seqs_count = seqs;
}

/* seqs may be the free end of l->seqs itself. */
static int open_add(struct ledger *l, const struct open_attempt *attempt, const uint64_t *seqs,
                    size_t count) {
    if (l->open_count == OPEN_MAX || count > SEQS_MAX - l->seqs_count) {
        return BH_E_FULL;
    }
    struct open_attempt *a = &l->open[l->open_count++];
    *a = *attempt;
    a->seqs_from = l->seqs_count;
    a->seqs_count = (uint32_t)count;
    if (count != 0) {
        /* NOLINTNEXTLINE(clang-analyzer-core.NonNullParamChecker): count is 0 without seqs */
        memmove(&l->seqs[l->seqs_count], seqs, count * sizeof *seqs);
        l->seqs_count += (uint32_t)count;
    }
    return 0;
}

static void open_told(struct open_attempt *a, uint8_t result, uint8_t flags) {
    a->is_unsent = result == RESULT_UNSENT && (a->is_unsent || !a->is_told);
    a->is_told = true;
    a->items_final |= (flags & OUTCOME_ITEMS_FINAL) != 0;
}

static int recover_attempt(struct ledger *l, const struct leaf *leaf) {
    size_t count = 0;
    bool partial = (leaf->attempt.flags & ATTEMPT_PARTIAL) != 0;
    if (l->open_count == OPEN_MAX || l->seqs_count > SEQS_MAX / 2) {
        open_prune(l, l->settled_seq);
    }
    uint64_t *seqs = &l->seqs[l->seqs_count];
    if (partial) {
        struct reader r = reader_of(leaf->body);
        uint64_t n = read_varint(&r);
        uint64_t at = leaf->attempt.first_seq;
        for (; count < n && count < SEQS_MAX - l->seqs_count && !r.short_; count++) {
            at += read_varint(&r);
            seqs[count] = at;
        }
        if (r.short_ || count != n) {
            return BH_E_CORRUPT;
        }
    }
    struct open_attempt a = {
        .number = leaf->attempt.number,
        .first_seq = leaf->attempt.first_seq,
        .span = leaf->attempt.span,
        .endpoint = (uint8_t)(leaf->attempt.flags & ATTEMPT_ENDPOINT_MASK),
        .is_partial = partial,
    };
    memcpy(a.body_sha256, leaf->attempt.body_sha256, 32);
    l->next_attempt = leaf->attempt.number + 1;
    return a.span != 0 ? open_add(l, &a, seqs, count) : 0;
}

static void advance(uint64_t *settled, uint64_t first, uint64_t span) {
    *settled = first + span > *settled ? first + span : *settled;
}

static int recover_leaf(struct ledger *l, const struct leaf *leaf) {
    uint64_t settled = l->settled_seq;
    switch (leaf->type) {
    case LEAF_ATTEMPT:
        return recover_attempt(l, leaf);
    case LEAF_OUTCOME: {
        struct open_attempt *a = open_find(l, leaf->outcome.attempt);
        if (a == NULL) {
            return 0;
        }
        open_told(a, leaf->outcome.result, leaf->outcome.flags);
        if ((leaf->outcome.flags & OUTCOME_WINDOW_SETTLED) != 0) {
            advance(&settled, a->first_seq, a->span);
        }
        break;
    }
    case LEAF_PASSED:
        advance(&settled, leaf->passed.first_seq, leaf->passed.span);
        break;
    case LEAF_CONTRACT:
        l->contract = leaf->contract.number;
        break;
    case LEAF_SHAPE:
        if (l->shape_pairs_count + leaf->shape.count > SHAPE_PAIRS_ALL) {
            return BH_E_TOO_MANY;
        }
        shape_fill(l, shape_find(l, leaf->shape.source, leaf->shape.pairs, leaf->shape.count),
                   leaf->shape.number, leaf->shape.source, leaf->shape.pairs, leaf->shape.count);
        break;
    case LEAF_STATE:
        l->state = leaf->state.state;
        break;
    default:
        break;
    }
    if (settled != l->settled_seq) {
        l->settled_seq = settled;
        open_prune(l, settled);
    }
    return 0;
}

/* What the checkpoint said of the tree when it had that size. */
struct expected {
    bool has;
    bool met;
    uint64_t size;
    struct tlog_hash root;
};

static int recover_frame(struct ledger *l, struct span plain, struct expected *expected) {
    struct frame_walk walk;
    struct leaf leaf;
    int r = frame_walk_begin(&walk, plain);
    while (r == 0 && (r = frame_walk_next(&walk, &leaf)) == 0) {
        struct tlog_hash hash;
        tlog_leaf(leaf.bytes, &hash);
        tlog_range_append(&l->tree, &hash);
        if (expected->has && l->tree.size == expected->size) {
            struct tlog_hash root;
            tlog_range_root(&l->tree, &root);
            expected->met = secret_equal(root.b, expected->root.b, sizeof root.b);
            if (!expected->met) {
                return BH_E_TAMPERED;
            }
        }
        r = recover_leaf(l, &leaf);
    }
    return r == BH_E_AGAIN ? 0 : r;
}

static int recover_all(struct ledger *l, const struct seglog_config *config, struct err *err) {
    uint8_t note_room[TLOG_NOTE_MAX];
    struct buf note = buf_of(note_room, sizeof note_room);
    struct tlog_checkpoint checkpoint;
    struct expected expected = {0};
    struct seglog_reader *reader = NULL;
    uint8_t *frame_room = malloc(SEGLOG_FRAME_MAX);
    int r = frame_room == NULL
                ? BH_E_NOMEM
                : checkpoint_read(l->path, l->origin, l->keys.sign_public, &checkpoint, &note);
    if (r == 0) {
        expected = (struct expected){.has = true,
                                     .met = checkpoint.size == 0,
                                     .size = checkpoint.size,
                                     .root = checkpoint.root};
        l->signed_size = checkpoint.size;
    } else if (r == BH_E_NOTFOUND) {
        r = 0;
    }
    if (r != 0) {
        free(frame_room);
        return err_set(
            err, r,
            "ledger of %s: its last signed checkpoint does not verify; the vendor stays stopped",
            l->vendor);
    }
    r = seglog_reader_new(config, &reader, err);
    struct seglog_frame frame;
    while (r == 0 &&
           (r = seglog_read_next(reader, UINT64_MAX, frame_room, SEGLOG_FRAME_MAX, &frame)) == 0) {
        r = recover_frame(l, frame.plain, &expected);
        if (r != 0) {
            r = err_set(err, r, "ledger of %s: segment %llu, offset %llu: %s", l->vendor,
                        (unsigned long long)frame.segment, (unsigned long long)frame.offset,
                        bh_error_text(r));
            break;
        }
    }
    seglog_reader_free(reader);
    free(frame_room);
    if (r == BH_E_AGAIN || r == BH_E_TORN || r == BH_E_NOTFOUND) {
        r = 0;
    }
    if (r == 0 && expected.has && !expected.met) {
        return err_set(
            err, BH_E_TAMPERED,
            "ledger of %s: the last signed checkpoint covers %llu lines, the log has %llu; the vendor stays stopped",
            l->vendor, (unsigned long long)expected.size, (unsigned long long)l->tree.size);
    }
    if (r != 0 && (err == NULL || err->text[0] == '\0')) {
        return err_set(err, r, "ledger of %s: %s", l->vendor, bh_error_text(r));
    }
    return r;
}

static int allocate(struct ledger *l) {
    l->pending = buf_of(malloc(PENDING_MAX), PENDING_MAX);
    l->bodies = buf_of(malloc(BODIES_MAX), BODIES_MAX);
    l->open = calloc(OPEN_MAX, sizeof *l->open);
    l->seqs = calloc(SEQS_MAX, sizeof *l->seqs);
    l->shapes = os_memory_map(SHAPES_MAX * sizeof *l->shapes);
    l->shape_pairs = os_memory_map((size_t)SHAPE_PAIRS_ALL * sizeof *l->shape_pairs);
    return l->pending.p != NULL && l->bodies.p != NULL && l->open != NULL && l->seqs != NULL &&
                   l->shapes != NULL && l->shape_pairs != NULL
               ? 0
               : BH_E_NOMEM;
}

static void release(struct ledger *l) {
    free(l->pending.p);
    free(l->bodies.p);
    free(l->open);
    free(l->seqs);
    if (l->shapes != NULL) {
        os_memory_unmap(l->shapes, SHAPES_MAX * sizeof *l->shapes);
    }
    if (l->shape_pairs != NULL) {
        os_memory_unmap(l->shape_pairs, (size_t)SHAPE_PAIRS_ALL * sizeof *l->shape_pairs);
    }
    os_lock_fini(&l->lock);
    l->magic = 0;
    free(l);
}

static int open_log(struct ledger *l, const struct ledger_config *config, struct err *err) {
    char log_name[96];
    struct seglog_config seglog_config;
    struct seglog_recovery seglog_recovery;
    uint32_t newest = ledger_newest(config->dir, config->vendor);
    if (newest == 0 && config->read_only) {
        return BH_E_NOTFOUND;
    }
    l->log_number = newest != 0 ? newest : 1;
    (void)snprintf(log_name, sizeof log_name, "%s-%u", config->vendor, l->log_number);
    ledger_log_path(config->dir, log_name, l->path, sizeof l->path);
    ledger_origin(config->keyring, log_name, l->origin, sizeof l->origin);
    int r = config->read_only ? 0 : os_dir_make(config->dir);
    r = r == 0 ? keyring_log(config->keyring, log_name, !config->read_only, &l->keys, err) : r;
    if (r != 0) {
        return r;
    }
    ledger_seglog_config(l->path, config->keyring, l->keys.wrapping, &seglog_config);
    if (!config->read_only) {
        r = seglog_open(&seglog_config, &seglog_recovery, &l->log, err);
        r = r == 0 ? checkpoint_repair(l->path, l->origin, l->keys.sign_public) : r;
    }
    return r == 0 ? recover_all(l, &seglog_config, err) : r;
}

int ledger_open(const struct ledger_config *config, struct ledger **ret_ledger,
                struct ledger_recovery *ret_recovery, struct err *err) {
    struct ledger *l = calloc(1, sizeof *l);
    if (l == NULL) {
        return err_set(err, BH_E_NOMEM, "out of memory");
    }
    l->magic = MAGIC;
    l->read_only = config->read_only;
    l->next_attempt = 1;
    os_lock_init(&l->lock, OS_LOCK_LEDGER);
    tlog_range_init(&l->tree);
    (void)snprintf(l->vendor, sizeof l->vendor, "%s", config->vendor);
    int r = allocate(l);
    r = r == 0 ? open_log(l, config, err) : err_set(err, r, "out of memory");
    if (r != 0) {
        (void)seglog_close(l->log);
        release(l);
        return r;
    }
    l->pending_settled = l->settled_seq;
    if (l->tree.size == 0 && !l->read_only) {
        size_t start = leaf_begin(l); /* written together with the first line that matters */
        leaf_put_open(&l->pending, 1, l->log_number, now_ms());
        leaf_end(l, start);
    }
    ret_recovery->log_number = l->log_number;
    ret_recovery->leaves = l->tree.size;
    ret_recovery->settled_seq = l->settled_seq;
    ret_recovery->state = l->state;
    ret_recovery->contract = l->contract;
    ret_recovery->attempts_without_outcome = 0;
    for (uint32_t i = 0; i < l->open_count; i++) {
        ret_recovery->attempts_without_outcome += !l->open[i].items_final;
    }
    *ret_ledger = l;
    return 0;
}

/* -- writing ----------------------------------------------------------------------------------------------------------------------- */

/* A line is built in place: leaf_begin, leaf_put_*, leaf_end. */
static size_t leaf_begin(struct ledger *l) {
    buf_put_u16(&l->pending, 0);
    return l->pending.n;
}

static void leaf_end(struct ledger *l, size_t start) {
    check(!l->pending.full);
    put_u16(l->pending.p + start - 2, (uint16_t)(l->pending.n - start));
    l->pending_leaves++;
    if (l->pending_since_ms == 0) {
        l->pending_since_ms = now_ms();
    }
}

static size_t body_begin(struct ledger *l) {
    buf_put_u32(&l->bodies, l->pending_leaves - 1);
    buf_put_u32(&l->bodies, 0);
    return l->bodies.n;
}

static void body_end(struct ledger *l, size_t start) {
    check(!l->bodies.full);
    put_u32(l->bodies.p + start - 4, (uint32_t)(l->bodies.n - start));
}

static void close_passed(struct ledger *l) {
    struct ledger_reason_count reasons[REASON_LIMIT];
    size_t count = 0;
    if (!l->passed.is_open) {
        return;
    }
    for (unsigned i = 0; i < REASON_LIMIT; i++) {
        if (l->passed.reasons[i] != 0) {
            reasons[count++] = (struct ledger_reason_count){(uint8_t)i, l->passed.reasons[i]};
        }
    }
    size_t start = leaf_begin(l);
    leaf_put_passed(&l->pending, l->passed.first_seq, l->passed.span, now_ms(), reasons, count,
                    l->passed.who);
    leaf_end(l, start);
    l->passed.is_open = false;
}

/* The pending lines as one frame, synced. Also publishes tree and cursor. */
static int flush(struct ledger *l) {
    uint8_t head[FRAME_HEAD_SIZE] = {0};
    close_passed(l);
    if (l->pending_leaves == 0) {
        return 0;
    }
    put_u16(head, 1);
    put_u32(head + 4, (uint32_t)l->pending.n);
    struct span parts[] = {span_of(head, sizeof head), buf_span(&l->pending), buf_span(&l->bodies)};
    struct seglog_frame frame;
    int r = seglog_append(l->log, l->tree.size + 1, l->pending_leaves, 1, os_wall_us(), parts,
                          BH_COUNT(parts), &frame);
    if (r == BH_E_NOSPACE) {
        return r;
    }
    if (r == 0) {
        r = seglog_sync(l->log);
    }
    if (r != 0) {
        log_event(LOG_ERROR, "ledger write or sync failed; ending at once, recovery decides",
                  LOG_WORD("vendor", l->vendor), LOG_INT("code", r));
        os_process_end(3);
    }
    for (size_t at = 0; at < l->pending.n;) {
        size_t n = get_u16(l->pending.p + at);
        struct tlog_hash hash;
        tlog_leaf(span_of(l->pending.p + at + 2, n), &hash);
        tlog_range_append(&l->tree, &hash);
        at += 2 + n;
    }
    l->pending.n = 0;
    l->bodies.n = 0;
    l->pending_leaves = 0;
    l->pending_since_ms = 0;
    if (l->pending_settled != l->settled_seq) {
        atomic_store_explicit(&l->settled_seq, l->pending_settled, memory_order_release);
        open_prune(l, l->pending_settled);
    }
    return 0;
}

/* Makes room for lines of these sizes, by a frame of their own for what waits. */
static int make_room(struct ledger *l, size_t leaves, size_t body) {
    enum { PASSED_SPARE = 1024 };
    bool fits = l->pending.cap - l->pending.n >= leaves + PASSED_SPARE &&
                l->bodies.cap - l->bodies.n >= body + 8 && l->pending_leaves < LEAVES_MAX;
    if (fits) {
        return 0;
    }
    int r = flush(l);
    return r != 0 ? r : (l->bodies.cap >= body + 8 ? 0 : BH_E_TOO_BIG);
}

static uint32_t shape_locked(struct ledger *l, uint16_t source, const struct ledger_pair *pairs,
                             size_t count) {
    struct shape_slot *slot = shape_find(l, source, pairs, count);
    if (slot->number != 0) {
        return slot->number;
    }
    if (l->shape_count >= SHAPES_MAX / 2 || l->shape_pairs_count + count > SHAPE_PAIRS_ALL ||
        make_room(l, 16 + 4 * count, 0) != 0) {
        slot->hash = 0;
        return 0;
    }
    shape_fill(l, slot, l->shape_count + 1, source, pairs, count);
    size_t start = leaf_begin(l);
    leaf_put_shape(&l->pending, slot->number, source, pairs, count);
    leaf_end(l, start);
    return slot->number;
}

uint32_t ledger_shape(struct ledger *l, uint16_t source, const struct ledger_pair *pairs,
                      size_t count) {
    check(l->magic == MAGIC && !l->read_only && count <= LEAF_SHAPE_PAIRS_MAX);
    os_lock(&l->lock);
    uint32_t number = shape_locked(l, source, pairs, count);
    os_unlock(&l->lock);
    return number;
}

/* An attempt that is recorded as unsent stays so: sending its bytes after all is a new attempt, which is possible from its line on. */
static struct open_attempt *find_retry(struct ledger *l, const struct ledger_attempt *attempt) {
    for (uint32_t i = 0; i < l->open_count; i++) {
        struct open_attempt *a = &l->open[i];
        if (!a->items_final && !a->is_unsent && a->endpoint == attempt->endpoint &&
            a->is_partial == (attempt->seqs != NULL) &&
            memcmp(a->body_sha256, attempt->body_sha256, 32) == 0 &&
            a->first_seq == attempt->first_seq && a->span == attempt->span) {
            return a;
        }
    }
    return NULL;
}

static void root_of_entries(const struct ledger_attempt *attempt, uint8_t out[32]) {
    struct tlog_range tree;
    struct tlog_hash root;
    tlog_range_init(&tree);
    for (size_t i = 0; i < attempt->entry_count; i++) {
        entry_append(&tree, attempt->entries[i].lid, attempt->entries[i].shape,
                     attempt->entries[i].events);
    }
    tlog_range_root(&tree, &root);
    memcpy(out, root.b, 32);
}

static int attempt_locked(struct ledger *l, const struct ledger_attempt *attempt,
                          uint64_t *ret_number) {
    enum { VARINT_MAX = 10, ENTRY_MAX = 15 };
    bool is_once = attempt->span == 0;
    const struct open_attempt *retry = is_once ? NULL : find_retry(l, attempt);
    if (retry != NULL) {
        *ret_number = retry->number;
        return flush(l);
    }
    struct open_attempt a = {
        .number = l->next_attempt,
        .first_seq = attempt->first_seq,
        .span = attempt->span,
        .endpoint = attempt->endpoint,
        .is_partial = attempt->seqs != NULL,
    };
    memcpy(a.body_sha256, attempt->body_sha256, 32);
    close_passed(l);
    int r = make_room(l, LEAF_ATTEMPT_SIZE + 2,
                      VARINT_MAX + attempt->seq_count * 3 + attempt->entry_count * ENTRY_MAX);
    r = r == 0 && !is_once ? open_add(l, &a, attempt->seqs, attempt->seq_count) : r;
    if (r != 0) {
        return r;
    }
    uint8_t root[32];
    root_of_entries(attempt, root);
    size_t pending_before = l->pending.n;
    size_t bodies_before = l->bodies.n;
    size_t start = leaf_begin(l);
    leaf_put_attempt(&l->pending, attempt, a.number, l->contract, root);
    leaf_end(l, start);
    start = body_begin(l);
    body_put_attempt(&l->bodies, attempt);
    body_end(l, start);
    r = flush(l);
    if (r != 0) {
        /* Not written: take the line back, what waited before goes on waiting. */
        l->pending.n = pending_before;
        l->bodies.n = bodies_before;
        l->pending_leaves--;
        l->open_count -= !is_once;
        l->seqs_count -= (uint32_t)attempt->seq_count;
        return r;
    }
    l->next_attempt++;
    *ret_number = a.number;
    return 0;
}

int ledger_attempt(struct ledger *l, const struct ledger_attempt *attempt, uint64_t *ret_number) {
    check(l->magic == MAGIC && !l->read_only);
    os_lock(&l->lock);
    int r = attempt_locked(l, attempt, ret_number);
    os_unlock(&l->lock);
    return r;
}

static int outcome_locked(struct ledger *l, const struct ledger_outcome *outcome) {
    enum { VARINT_MAX = 5 };
    int r = make_room(l, LEAF_OUTCOME_SIZE + 2, outcome->refused_count * VARINT_MAX);
    if (r != 0) {
        return r;
    }
    close_passed(l);
    size_t start = leaf_begin(l);
    leaf_put_outcome(&l->pending, outcome);
    leaf_end(l, start);
    if (outcome->refused_count != 0) {
        start = body_begin(l);
        body_put_outcome(&l->bodies, outcome);
        body_end(l, start);
    }
    struct open_attempt *a = open_find(l, outcome->attempt);
    if (a != NULL) {
        open_told(a, outcome->result, outcome->flags);
        if ((outcome->flags & OUTCOME_WINDOW_SETTLED) != 0) {
            advance(&l->pending_settled, a->first_seq, a->span);
        }
    }
    return 0;
}

int ledger_outcome(struct ledger *l, const struct ledger_outcome *outcome) {
    check(l->magic == MAGIC && !l->read_only);
    os_lock(&l->lock);
    int r = outcome_locked(l, outcome);
    os_unlock(&l->lock);
    return r;
}

static int passed_locked(struct ledger *l, uint64_t first_seq, uint64_t span,
                         const struct ledger_reason_count *reasons, size_t count, const char *who,
                         bool sync) {
    int r = make_room(l, 512, 0);
    if (r != 0) {
        return r;
    }
    bool joins = l->passed.is_open && l->passed.first_seq + l->passed.span == first_seq &&
                 strcmp(l->passed.who, who) == 0;
    if (!joins) {
        close_passed(l);
        memset(&l->passed, 0, sizeof l->passed);
        l->passed.is_open = true;
        l->passed.first_seq = first_seq;
        (void)snprintf(l->passed.who, sizeof l->passed.who, "%s", who);
    }
    l->passed.span += span;
    for (size_t i = 0; i < count; i++) {
        check(reasons[i].reason < REASON_LIMIT);
        l->passed.reasons[reasons[i].reason] += reasons[i].events;
    }
    advance(&l->pending_settled, first_seq, span);
    if (l->pending_since_ms == 0) {
        l->pending_since_ms = now_ms();
    }
    return sync ? flush(l) : 0;
}

int ledger_passed(struct ledger *l, uint64_t first_seq, uint64_t span,
                  const struct ledger_reason_count *reasons, size_t count, const char *who,
                  bool sync) {
    check(l->magic == MAGIC && !l->read_only);
    os_lock(&l->lock);
    int r = passed_locked(l, first_seq, span, reasons, count, who, sync);
    os_unlock(&l->lock);
    return r;
}

int ledger_contract(struct ledger *l, uint32_t number, const uint8_t sha[32], uint64_t first_seq) {
    check(l->magic == MAGIC && !l->read_only);
    os_lock(&l->lock);
    int r = make_room(l, 64, 0);
    if (r == 0) {
        close_passed(l);
        size_t start = leaf_begin(l);
        leaf_put_contract(&l->pending, number, now_ms(), first_seq, sha);
        leaf_end(l, start);
        l->contract = number;
        r = flush(l);
    }
    os_unlock(&l->lock);
    return r;
}

int ledger_state(struct ledger *l, uint8_t state, const char *who, const char *why) {
    check(l->magic == MAGIC && !l->read_only);
    os_lock(&l->lock);
    int r = make_room(l, 512, 0);
    if (r == 0) {
        close_passed(l);
        size_t start = leaf_begin(l);
        leaf_put_state(&l->pending, state, 1, now_ms(), who, why);
        leaf_end(l, start);
        l->state = state;
        r = flush(l);
    }
    os_unlock(&l->lock);
    return r;
}

/* -- checkpoints ------------------------------------------------------------------------------------------------------------------- */

static int sign(struct ledger *l, uint64_t now) {
    if (l->tree.size == l->signed_size) {
        return 0;
    }
    int r = checkpoint_write(l->path, l->origin, &l->keys, &l->tree);
    if (r == BH_E_IO) {
        log_event(LOG_ERROR, "checkpoint write failed; ending at once, recovery decides",
                  LOG_WORD("vendor", l->vendor));
        os_process_end(3);
    }
    if (r == 0) {
        l->signed_size = l->tree.size;
        l->signed_ms = now;
    }
    return r;
}

int64_t ledger_tick(struct ledger *l, uint64_t now) {
    check(l->magic == MAGIC && !l->read_only);
    os_lock(&l->lock);
    int r = 0;
    int64_t wait = FLUSH_MS;
    if (l->pending_since_ms != 0) {
        uint64_t age = now > l->pending_since_ms ? now - l->pending_since_ms : 0;
        if (age >= FLUSH_MS) {
            r = flush(l);
        } else {
            wait = (int64_t)(FLUSH_MS - age);
        }
    }
    if (r == 0 && l->tree.size != l->signed_size && now >= l->signed_ms + FLUSH_MS / 2) {
        r = sign(l, now);
    }
    if (r == 0 && l->pending_since_ms == 0 && l->tree.size == l->signed_size) {
        wait = INT32_MAX;
    }
    os_unlock(&l->lock);
    return r != 0 ? r : wait;
}

int ledger_flush(struct ledger *l) {
    check(l->magic == MAGIC && !l->read_only);
    os_lock(&l->lock);
    int r = flush(l);
    r = r == 0 ? sign(l, now_ms()) : r;
    os_unlock(&l->lock);
    return r;
}

void ledger_close(struct ledger *l) {
    if (l == NULL) {
        return;
    }
    if (!l->read_only) {
        /* What could not be written is decided anew after the next start. */
        if (ledger_flush(l) != 0) {
            log_event(LOG_WARN, "last lines of the ledger not written",
                      LOG_WORD("vendor", l->vendor));
        }
        (void)seglog_close(l->log);
    }
    release(l);
}

uint64_t ledger_settled_seq(struct ledger *l) {
    return atomic_load_explicit(&l->settled_seq, memory_order_acquire);
}

static bool names_seq(const struct ledger *l, const struct open_attempt *a, uint64_t seq) {
    if (!a->is_partial) {
        return seq >= a->first_seq && seq - a->first_seq < a->span;
    }
    for (uint32_t i = 0; i < a->seqs_count; i++) {
        if (l->seqs[a->seqs_from + i] == seq) {
            return true;
        }
    }
    return false;
}

bool ledger_seq_is_final(struct ledger *l, uint64_t seq, uint8_t endpoint) {
    bool found = false;
    os_lock(&l->lock);
    for (uint32_t i = 0; i < l->open_count && !found; i++) {
        const struct open_attempt *a = &l->open[i];
        found = a->items_final && a->endpoint == endpoint && names_seq(l, a, seq);
    }
    os_unlock(&l->lock);
    return found;
}

uint64_t ledger_leaf_count(struct ledger *l) {
    os_lock(&l->lock);
    uint64_t size = l->tree.size;
    os_unlock(&l->lock);
    return size;
}

int ledger_checkpoint(struct ledger *l, struct buf *out) {
    struct tlog_checkpoint checkpoint;
    struct buf note = buf_of(out->p + out->n, out->cap - out->n);
    int r = checkpoint_read(l->path, l->origin, l->keys.sign_public, &checkpoint, &note);
    out->n += r == 0 ? note.n : 0;
    return r;
}
