/*
 * Tlog: Merkle trees of RFC 6962 and the signed checkpoints of C2SP over them.
 *
 *            root = H(1 ‖ h03 ‖ h4)          leaf hash  H(0 ‖ data)
 *            /            \                  node hash  H(1 ‖ left ‖ right)
 *          h03             h4                size 5 = 101b: two complete subtrees, 4 leaves and 1
 *         /   \
 *       h01   h23
 *
 * Purpose: a few hundred bytes (struct tlog_range) that any number of leaves can be appended to and
 * that always give the root, and proofs that a leaf is in a tree and that a tree extends an older
 * one. Knows nothing of what a leaf means.
 * Owner: the caller; all functions are pure but for what they are given. Any thread. No memory is
 * allocated.
 * Limits: 2^63 leaves, so proofs have at most 63 (inclusion) or 64 (consistency) hashes.
 * Errors: a proof or note that does not verify is BH_E_TAMPERED, one that is no proof or note at
 * all BH_E_SYNTAX.
 */
#ifndef BH_ENGINE_TLOG_H
#define BH_ENGINE_TLOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/errors.h"
#include "crypto/crypto.h"

struct tlog_hash {
    uint8_t b[SHA256_SIZE];
};

void tlog_leaf(struct span data, struct tlog_hash *ret_hash);
void tlog_leaf_parts(const struct span *parts, size_t count, struct tlog_hash *ret_hash);
void tlog_node(const struct tlog_hash *left, const struct tlog_hash *right,
               struct tlog_hash *ret_hash);

/* The complete subtrees that a tree of `size` leaves consists of: _node[k] covers 2^k leaves and is
 * set when bit k of size is. */
struct tlog_range {
    uint64_t size;
    struct tlog_hash _node[64];
};

void tlog_range_init(struct tlog_range *range);
void tlog_range_append(struct tlog_range *range, const struct tlog_hash *leaf);
/* SHA-256 of nothing for the empty tree. */
void tlog_range_root(const struct tlog_range *range, struct tlog_hash *ret_root);

/* Where proofs take their hashes from: node(level, index) covers leaves [index << level, (index +
 * 1) << level). A source that keeps only leaves returns BH_E_NOTFOUND for level > 0, and the node
 * is computed from them. */
struct tlog_source {
    int (*node)(void *context, unsigned level, uint64_t index, struct tlog_hash *ret_hash);
    void *context;
};
/* A source over an array of leaf hashes. */
struct tlog_array {
    const struct tlog_hash *leaves;
    uint64_t count;
};
struct tlog_source tlog_source_of(struct tlog_array *array);

enum { TLOG_PROOF_MAX = 64 };
struct tlog_proof {
    unsigned count;
    struct tlog_hash hashes[TLOG_PROOF_MAX];
};

int tlog_root(const struct tlog_source *source, uint64_t size,
              struct tlog_hash *ret_root) BH_MUST_USE;
/* index < size, else BH_E_NOTFOUND. */
int tlog_prove_inclusion(const struct tlog_source *source, uint64_t index, uint64_t size,
                         struct tlog_proof *ret_proof) BH_MUST_USE;
/* old_size <= size, else BH_E_NOTFOUND; empty for old_size 0 and for equal sizes. */
int tlog_prove_consistency(const struct tlog_source *source, uint64_t old_size, uint64_t size,
                           struct tlog_proof *ret_proof) BH_MUST_USE;
int tlog_verify_inclusion(const struct tlog_hash *leaf, uint64_t index, uint64_t size,
                          const struct tlog_proof *proof, const struct tlog_hash *root) BH_MUST_USE;
int tlog_verify_consistency(uint64_t old_size, const struct tlog_hash *old_root, uint64_t size,
                            const struct tlog_hash *root,
                            const struct tlog_proof *proof) BH_MUST_USE;

/* Checkpoints: c2sp.org/tlog-checkpoint in c2sp.org/signed-note form, Ed25519 (algorithm byte 1).
 * docs/format/log.md has the bytes. */

enum {
    TLOG_NAME_MAX = 255,      /* origin and key name: no spaces, no plus, no control bytes */
    TLOG_NOTE_MAX = 8 * 1024, /* more is no note of ours */
    TLOG_SIGNATURES_MAX = 16, /* cosignatures of witnesses beside ours */
    TLOG_VKEY_MAX = TLOG_NAME_MAX + 64,
};

struct tlog_checkpoint {
    struct span origin; /* into the note */
    uint64_t size;
    struct tlog_hash root;
};

/* Appends the whole note to b, signed with the key named `name` (by our convention the origin).
 * BH_E_FULL, BH_E_SYNTAX (a bad name or origin). */
int tlog_checkpoint_sign(const char *origin, uint64_t size, const struct tlog_hash *root,
                         const char *name, const uint8_t secret[SIGN_SECRET_SIZE],
                         const uint8_t public_key[SIGN_PUBLIC_SIZE], struct buf *b) BH_MUST_USE;
/* Reads without judging any signature. */
int tlog_checkpoint_parse(struct span note, struct tlog_checkpoint *ret_checkpoint) BH_MUST_USE;
/* Reads and demands a good signature of this key; signatures of unknown keys are passed over.
 * BH_E_TAMPERED when ours is absent or wrong. */
int tlog_checkpoint_verify(struct span note, const char *name,
                           const uint8_t public_key[SIGN_PUBLIC_SIZE],
                           struct tlog_checkpoint *ret_checkpoint) BH_MUST_USE;
/* The verifier key "name+hash+base64" that witnesses and auditors are given. */
int tlog_vkey_write(const char *name, const uint8_t public_key[SIGN_PUBLIC_SIZE],
                    struct buf *b) BH_MUST_USE;
int tlog_vkey_parse(struct span vkey, char ret_name[TLOG_NAME_MAX + 1],
                    uint8_t ret_public_key[SIGN_PUBLIC_SIZE]) BH_MUST_USE;

#endif
