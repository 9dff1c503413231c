#include "engine/tlog/tlog.h"

#include "base/check.h"

/*
 * All of it is RFC 6962 section 2.1 with its recursions unrolled. A range of leaves [from, to) that
 * occurs in a proof always starts at a multiple of a power of two not smaller than its length, so
 * it falls apart into complete subtrees by the bits of its length, largest first.
 */

_Static_assert(sizeof(struct tlog_hash) == SHA256_SIZE, "hashes are stored one after another");

void tlog_leaf_parts(const struct span *parts, size_t count, struct tlog_hash *ret_hash) {
    enum { PARTS_MAX = 8 };
    struct span all[PARTS_MAX + 1];
    check(count <= PARTS_MAX);
    all[0] = SPAN_LIT("\0");
    for (size_t i = 0; i < count; i++) {
        all[i + 1] = parts[i];
    }
    sha256_parts(all, count + 1, ret_hash->b);
}

void tlog_leaf(struct span data, struct tlog_hash *ret_hash) {
    tlog_leaf_parts(&data, 1, ret_hash);
}

void tlog_node(const struct tlog_hash *left, const struct tlog_hash *right,
               struct tlog_hash *ret_hash) {
    uint8_t bytes[1 + 2 * SHA256_SIZE];
    bytes[0] = 1;
    memcpy(bytes + 1, left->b, SHA256_SIZE);
    memcpy(bytes + 1 + SHA256_SIZE, right->b, SHA256_SIZE);
    sha256(span_of(bytes, sizeof bytes), ret_hash->b);
}

static void empty_root(struct tlog_hash *ret_root) {
    sha256(SPAN_NONE, ret_root->b);
}

void tlog_range_init(struct tlog_range *range) {
    range->size = 0;
}

void tlog_range_append(struct tlog_range *range, const struct tlog_hash *leaf) {
    check(range->size < (uint64_t)1 << 63);
    struct tlog_hash node = *leaf;
    unsigned level = 0;
    while ((range->size >> level & 1) != 0) {
        tlog_node(&range->_node[level], &node, &node);
        level++;
    }
    range->_node[level] = node;
    range->size++;
}

void tlog_range_root(const struct tlog_range *range, struct tlog_hash *ret_root) {
    if (range->size == 0) {
        empty_root(ret_root);
        return;
    }
    unsigned level = (unsigned)__builtin_ctzll(range->size);
    struct tlog_hash node = range->_node[level];
    for (level++; level < 64; level++) {
        if ((range->size >> level & 1) != 0) {
            tlog_node(&range->_node[level], &node, &node);
        }
    }
    *ret_root = node;
}

static int array_node(void *context, unsigned level, uint64_t index, struct tlog_hash *ret_hash) {
    const struct tlog_array *array = (const struct tlog_array *)context;
    if (level != 0 || index >= array->count) {
        return BH_E_NOTFOUND;
    }
    *ret_hash = array->leaves[index];
    return 0;
}

struct tlog_source tlog_source_of(struct tlog_array *array) {
    return (struct tlog_source){array_node, array};
}

/* One complete subtree, from the source or from its leaves. */
static int subtree(const struct tlog_source *source, unsigned level, uint64_t index,
                   struct tlog_hash *ret_hash) {
    int code = source->node(source->context, level, index, ret_hash);
    if (code != BH_E_NOTFOUND || level == 0) {
        return code;
    }
    struct tlog_range range;
    tlog_range_init(&range);
    uint64_t to = (index + 1) << level;
    for (uint64_t i = index << level; i < to; i++) {
        struct tlog_hash leaf;
        code = source->node(source->context, 0, i, &leaf);
        if (code != 0) {
            return code;
        }
        tlog_range_append(&range, &leaf);
    }
    tlog_range_root(&range, ret_hash);
    return 0;
}

/* MTH of the leaves [from, to), not empty. */
static int range_hash(const struct tlog_source *source, uint64_t from, uint64_t to,
                      struct tlog_hash *ret_hash) {
    uint64_t size = to - from;
    check(from < to);
    bool first = true;
    struct tlog_hash right = {{0}};
    for (unsigned level = 0; level < 64; level++) {
        if ((size >> level & 1) == 0) {
            continue;
        }
        to -= (uint64_t)1 << level;
        struct tlog_hash node;
        int code = subtree(source, level, to >> level, &node);
        if (code != 0) {
            return code;
        }
        if (first) {
            right = node;
            first = false;
        } else {
            tlog_node(&node, &right, &right);
        }
    }
    *ret_hash = right;
    return 0;
}

int tlog_root(const struct tlog_source *source, uint64_t size, struct tlog_hash *ret_root) {
    if (size == 0) {
        empty_root(ret_root);
        return 0;
    }
    return range_hash(source, 0, size, ret_root);
}

/* Largest power of two smaller than size; size > 1. */
static uint64_t split(uint64_t size) {
    return (uint64_t)1 << (63 - __builtin_clzll(size - 1));
}

static int push(const struct tlog_source *source, uint64_t from, uint64_t to,
                struct tlog_proof *proof) {
    check(proof->count < TLOG_PROOF_MAX);
    return range_hash(source, from, to, &proof->hashes[proof->count++]);
}

/* Proofs are built from the root down and stored from the leaf up. */
static void reverse(struct tlog_proof *proof) {
    for (unsigned i = 0; i < proof->count / 2; i++) {
        struct tlog_hash hash = proof->hashes[i];
        proof->hashes[i] = proof->hashes[proof->count - 1 - i];
        proof->hashes[proof->count - 1 - i] = hash;
    }
}

int tlog_prove_inclusion(const struct tlog_source *source, uint64_t index, uint64_t size,
                         struct tlog_proof *ret_proof) {
    if (index >= size || size > (uint64_t)1 << 63) {
        return BH_E_NOTFOUND;
    }
    uint64_t from = 0;
    uint64_t to = size;
    ret_proof->count = 0;
    while (to - from > 1) {
        uint64_t middle = from + split(to - from);
        bool left = index < middle;
        int code =
            left ? push(source, middle, to, ret_proof) : push(source, from, middle, ret_proof);
        if (code != 0) {
            return code;
        }
        if (left) {
            to = middle;
        } else {
            from = middle;
        }
    }
    reverse(ret_proof);
    return 0;
}

int tlog_prove_consistency(const struct tlog_source *source, uint64_t old_size, uint64_t size,
                           struct tlog_proof *ret_proof) {
    if (old_size > size || size > (uint64_t)1 << 63) {
        return BH_E_NOTFOUND;
    }
    ret_proof->count = 0;
    if (old_size == 0 || old_size == size) {
        return 0;
    }
    uint64_t from = 0;
    uint64_t to = size;
    while (old_size != to) {
        uint64_t middle = from + split(to - from);
        bool left = old_size <= middle;
        int code =
            left ? push(source, middle, to, ret_proof) : push(source, from, middle, ret_proof);
        if (code != 0) {
            return code;
        }
        if (left) {
            to = middle;
        } else {
            from = middle;
        }
    }
    /* What is left is a subtree of the old tree; the verifier knows it only when it is the whole
     * old tree. */
    if (from != 0) {
        int code = push(source, from, to, ret_proof);
        if (code != 0) {
            return code;
        }
    }
    reverse(ret_proof);
    return 0;
}

static bool same(const struct tlog_hash *a, const struct tlog_hash *b) {
    return memcmp(a->b, b->b, SHA256_SIZE) == 0;
}

/* The walk of RFC 9162, 2.1.3.2 and 2.1.4.2: `at` is the path's node within its level, `last` the
 * level's last node. */
static void climb_past_missing_right(uint64_t *at, uint64_t *last) {
    while ((*at & 1) == 0 && *at != 0) {
        *at >>= 1;
        *last >>= 1;
    }
}

int tlog_verify_inclusion(const struct tlog_hash *leaf, uint64_t index, uint64_t size,
                          const struct tlog_proof *proof, const struct tlog_hash *root) {
    if (index >= size || proof->count > TLOG_PROOF_MAX) {
        return BH_E_TAMPERED;
    }
    uint64_t at = index;
    uint64_t last = size - 1;
    struct tlog_hash node = *leaf;
    for (unsigned i = 0; i < proof->count; i++) {
        if (last == 0) {
            return BH_E_TAMPERED;
        }
        if ((at & 1) != 0 || at == last) {
            tlog_node(&proof->hashes[i], &node, &node);
            climb_past_missing_right(&at, &last);
        } else {
            tlog_node(&node, &proof->hashes[i], &node);
        }
        at >>= 1;
        last >>= 1;
    }
    return last == 0 && same(&node, root) ? 0 : BH_E_TAMPERED;
}

int tlog_verify_consistency(uint64_t old_size, const struct tlog_hash *old_root, uint64_t size,
                            const struct tlog_hash *root, const struct tlog_proof *proof) {
    if (old_size > size || proof->count > TLOG_PROOF_MAX) {
        return BH_E_TAMPERED;
    }
    if (old_size == size) {
        return proof->count == 0 && same(old_root, root) ? 0 : BH_E_TAMPERED;
    }
    if (old_size == 0) {
        struct tlog_hash nothing;
        empty_root(&nothing);
        return proof->count == 0 && same(old_root, &nothing) ? 0 : BH_E_TAMPERED;
    }
    /* An old tree that is one complete subtree is itself the first hash. */
    bool complete = (old_size & (old_size - 1)) == 0;
    if (!complete && proof->count == 0) {
        return BH_E_TAMPERED;
    }
    uint64_t at = old_size - 1;
    uint64_t last = size - 1;
    while ((at & 1) != 0) {
        at >>= 1;
        last >>= 1;
    }
    struct tlog_hash old_node = complete ? *old_root : proof->hashes[0];
    struct tlog_hash node = old_node;
    for (unsigned i = complete ? 0 : 1; i < proof->count; i++) {
        if (last == 0) {
            return BH_E_TAMPERED;
        }
        if ((at & 1) != 0 || at == last) {
            tlog_node(&proof->hashes[i], &old_node, &old_node);
            tlog_node(&proof->hashes[i], &node, &node);
            climb_past_missing_right(&at, &last);
        } else {
            tlog_node(&node, &proof->hashes[i], &node);
        }
        at >>= 1;
        last >>= 1;
    }
    return last == 0 && same(&old_node, old_root) && same(&node, root) ? 0 : BH_E_TAMPERED;
}
