/* Notes, keys and proofs from strangers: read without harm, and nothing verifies that we did not
 * sign or build. */
/* depends: tlog crypto base */
#include <string.h>

#include "base/check.h"
#include "engine/tlog/tlog.h"
#include "fuzz/fuzz_entry.h"

enum { LEAVES = 64 };

static uint8_t secret[SIGN_SECRET_SIZE];
static uint8_t public_key[SIGN_PUBLIC_SIZE];
static struct tlog_hash leaves[LEAVES];
static struct tlog_hash roots[LEAVES + 1];
static bool ready;

static void prepare(void) {
    uint8_t seed[SIGN_SEED_SIZE] = {1};
    struct tlog_range range;
    int code = crypto_init();
    check(code == 0);
    sign_keypair_of_seed(seed, secret, public_key);
    tlog_range_init(&range);
    for (uint32_t i = 0; i < LEAVES; i++) {
        tlog_range_root(&range, &roots[i]);
        tlog_leaf(span_of(&i, sizeof i), &leaves[i]);
        tlog_range_append(&range, &leaves[i]);
    }
    tlog_range_root(&range, &roots[LEAVES]);
    ready = true;
}

static void try_note(struct span note) {
    struct tlog_checkpoint parsed;
    struct tlog_checkpoint verified;
    int code = tlog_checkpoint_parse(note, &parsed);
    check(code == 0 || code == BH_E_SYNTAX);
    if (tlog_checkpoint_verify(note, "o", public_key, &verified) == 0) {
        /* Only a note whose text we signed; the corpus holds one, of this size and root. */
        check(code == 0 && verified.size == 7 &&
              memcmp(verified.root.b, roots[7].b, SHA256_SIZE) == 0);
    }
}

static void try_vkey(struct span text) {
    char name[TLOG_NAME_MAX + 1];
    uint8_t key[SIGN_PUBLIC_SIZE];
    uint8_t out[TLOG_VKEY_MAX];
    struct buf b = buf_of(out, sizeof out);
    if (tlog_vkey_parse(text, name, key) == 0) {
        int code = tlog_vkey_write(name, key, &b);
        check(code == 0 && span_equal(buf_span(&b), text));
    }
}

/* A proof made of our own hashes in any order, or of a stranger's bytes: it verifies only as the
 * one true proof. */
static void try_proof(struct reader r) {
    struct tlog_array array = {leaves, LEAVES};
    struct tlog_source source = tlog_source_of(&array);
    struct tlog_proof proof = {0};
    struct tlog_proof truth;
    uint64_t index = read_u8(&r) % (LEAVES + 2);
    uint64_t size = read_u8(&r) % (LEAVES + 1);
    if (size == 0) {
        return;
    }
    while (r.n != 0 && proof.count < TLOG_PROOF_MAX) {
        uint8_t from = read_u8(&r) % LEAVES;
        uint8_t to = read_u8(&r) % LEAVES;
        struct tlog_array part = {leaves + from, (uint64_t)(to > from ? to - from : 1)};
        struct tlog_source part_source = tlog_source_of(&part);
        int code = tlog_root(&part_source, part.count, &proof.hashes[proof.count++]);
        check(code == 0);
    }
    if (tlog_verify_inclusion(&leaves[index % LEAVES], index, size, &proof, &roots[size]) == 0) {
        int code = tlog_prove_inclusion(&source, index, size, &truth);
        check(code == 0 && truth.count == proof.count &&
              memcmp(truth.hashes, proof.hashes, sizeof(struct tlog_hash) * truth.count) == 0);
    }
    if (index <= LEAVES &&
        tlog_verify_consistency(index, &roots[index], size, &roots[size], &proof) == 0) {
        int code = tlog_prove_consistency(&source, index, size, &truth);
        check(code == 0 && truth.count == proof.count &&
              memcmp(truth.hashes, proof.hashes, sizeof(struct tlog_hash) * truth.count) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (!ready) {
        prepare();
    }
    if (size == 0) {
        return 0;
    }
    struct span rest = span_of(data + 1, size - 1);
    switch (data[0] % 3) {
    case 0:
        try_note(rest);
        break;
    case 1:
        try_vkey(rest);
        break;
    default:
        try_proof(reader_of(rest));
        break;
    }
    return 0;
}
