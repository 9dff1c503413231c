/* Merkle trees and checkpoints: published roots and keys, and every tree of up to 130 leaves
 * against the RFC's own recursion. */
/* depends: tlog crypto os base */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "engine/tlog/tlog.h"
#include "os/file.h"

enum { LEAVES = 130 };

static struct tlog_hash leaves[LEAVES];
static struct tlog_array array = {leaves, LEAVES};

static struct tlog_hash hash_of_hex(const char *hex) {
    struct tlog_hash hash = {{0}};
    for (size_t i = 0; i < sizeof hash.b; i++) {
        unsigned byte = 0;
        assert_int_equal(sscanf(hex + 2 * i, "%2x", &byte), 1);
        hash.b[i] = (uint8_t)byte;
    }
    return hash;
}

/* MTH(D[from:to]) word for word from RFC 6962, 2.1: the twin. */
static struct tlog_hash naive_root(uint64_t from, uint64_t to) {
    struct tlog_hash hash;
    if (from == to) {
        sha256(SPAN_NONE, hash.b);
        return hash;
    }
    if (to - from == 1) {
        return leaves[from];
    }
    uint64_t k = 1;
    while (k * 2 < to - from) {
        k *= 2;
    }
    struct tlog_hash left = naive_root(from, from + k);
    struct tlog_hash right = naive_root(from + k, to);
    tlog_node(&left, &right, &hash);
    return hash;
}

/* PATH(m, D[from:to]), 2.1.1. */
static void naive_path(uint64_t m, uint64_t from, uint64_t to, struct tlog_proof *proof) {
    if (to - from == 1) {
        return;
    }
    uint64_t k = 1;
    while (k * 2 < to - from) {
        k *= 2;
    }
    if (m < k) {
        naive_path(m, from, from + k, proof);
        proof->hashes[proof->count++] = naive_root(from + k, to);
    } else {
        naive_path(m - k, from + k, to, proof);
        proof->hashes[proof->count++] = naive_root(from, from + k);
    }
}

/* SUBPROOF(m, D[from:to], whole), 2.1.2. */
static void naive_subproof(uint64_t m, uint64_t from, uint64_t to, bool whole,
                           struct tlog_proof *proof) {
    if (m == to - from) {
        if (!whole) {
            proof->hashes[proof->count++] = naive_root(from, to);
        }
        return;
    }
    uint64_t k = 1;
    while (k * 2 < to - from) {
        k *= 2;
    }
    if (m <= k) {
        naive_subproof(m, from, from + k, whole, proof);
        proof->hashes[proof->count++] = naive_root(from + k, to);
    } else {
        naive_subproof(m - k, from + k, to, false, proof);
        proof->hashes[proof->count++] = naive_root(from, from + k);
    }
}

static void assert_proofs_equal(const struct tlog_proof *a, const struct tlog_proof *b) {
    assert_int_equal(a->count, b->count);
    assert_memory_equal(a->hashes, b->hashes, a->count * sizeof a->hashes[0]);
}

static int make_leaves(void **state) {
    (void)state;
    for (uint32_t i = 0; i < LEAVES; i++) {
        tlog_leaf(span_of(&i, sizeof i), &leaves[i]);
    }
    return crypto_init();
}

/* The eight inputs that Certificate Transparency implementations test with. */
static void roots_match_certificate_transparency(void **state) {
    (void)state;
    const struct {
        struct span input;
        const char *root; /* of the tree up to here */
    } known[] = {
        {SPAN_LIT(""), "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"},
        {SPAN_LIT("\x00"), "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"},
        {SPAN_LIT("\x10"), "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"},
        {SPAN_LIT("\x20\x21"), "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"},
        {SPAN_LIT("\x30\x31"), "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4"},
        {SPAN_LIT("\x40\x41\x42\x43"),
         "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef"},
        {SPAN_LIT("\x50\x51\x52\x53\x54\x55\x56\x57"),
         "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c"},
        {SPAN_LIT("\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f"),
         "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"},
    };
    struct tlog_range range;
    struct tlog_hash root;
    struct tlog_hash inputs[BH_COUNT(known)];
    tlog_range_init(&range);
    tlog_range_root(&range, &root);
    struct tlog_hash expected =
        hash_of_hex("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    assert_memory_equal(root.b, expected.b, sizeof root.b);
    for (size_t i = 0; i < BH_COUNT(known); i++) {
        tlog_leaf(known[i].input, &inputs[i]);
        tlog_range_append(&range, &inputs[i]);
        tlog_range_root(&range, &root);
        expected = hash_of_hex(known[i].root);
        assert_memory_equal(root.b, expected.b, sizeof root.b);
    }
    struct tlog_array few = {inputs, BH_COUNT(inputs)};
    struct tlog_source source = tlog_source_of(&few);
    struct tlog_proof proof;
    assert_int_equal(tlog_prove_consistency(&source, 6, 8, &proof), 0);
    assert_int_equal(proof.count, 3);
    expected = hash_of_hex("0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a");
    assert_memory_equal(proof.hashes[0].b, expected.b, sizeof root.b);
    expected = hash_of_hex("ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0");
    assert_memory_equal(proof.hashes[1].b, expected.b, sizeof root.b);
    expected = hash_of_hex("d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7");
    assert_memory_equal(proof.hashes[2].b, expected.b, sizeof root.b);
}

static void every_small_tree_equals_the_recursion(void **state) {
    (void)state;
    struct tlog_range range;
    struct tlog_source source = tlog_source_of(&array);
    tlog_range_init(&range);
    for (uint64_t size = 0; size <= LEAVES; size++) {
        struct tlog_hash root;
        struct tlog_hash again;
        struct tlog_hash expected = naive_root(0, size);
        tlog_range_root(&range, &root);
        assert_memory_equal(root.b, expected.b, sizeof root.b);
        assert_int_equal(tlog_root(&source, size, &again), 0);
        assert_memory_equal(again.b, expected.b, sizeof root.b);
        if (size < LEAVES) {
            tlog_range_append(&range, &leaves[size]);
        }
    }
}

static void every_inclusion_proof_verifies_and_only_for_its_leaf(void **state) {
    (void)state;
    struct tlog_source source = tlog_source_of(&array);
    struct tlog_proof proof;
    struct tlog_proof twin;
    for (uint64_t size = 1; size <= LEAVES; size++) {
        struct tlog_hash root = naive_root(0, size);
        for (uint64_t i = 0; i < size; i++) {
            assert_int_equal(tlog_prove_inclusion(&source, i, size, &proof), 0);
            twin.count = 0;
            naive_path(i, 0, size, &twin);
            assert_proofs_equal(&proof, &twin);
            assert_int_equal(tlog_verify_inclusion(&leaves[i], i, size, &proof, &root), 0);
            assert_int_equal(
                tlog_verify_inclusion(&leaves[(i + 1) % LEAVES], i, size, &proof, &root),
                BH_E_TAMPERED);
            assert_int_equal(tlog_verify_inclusion(&leaves[i], i, size + 130, &proof, &root),
                             BH_E_TAMPERED);
            if (i + 1 < size) {
                assert_int_equal(tlog_verify_inclusion(&leaves[i], i + 1, size, &proof, &root),
                                 BH_E_TAMPERED);
            }
            for (unsigned k = 0; k < proof.count; k++) {
                proof.hashes[k].b[k % SHA256_SIZE] ^= 1;
                assert_int_equal(tlog_verify_inclusion(&leaves[i], i, size, &proof, &root),
                                 BH_E_TAMPERED);
                proof.hashes[k].b[k % SHA256_SIZE] ^= 1;
            }
            proof.count++;
            assert_int_equal(tlog_verify_inclusion(&leaves[i], i, size, &proof, &root),
                             BH_E_TAMPERED);
            if (proof.count > 1) {
                proof.count -= 2;
                assert_int_equal(tlog_verify_inclusion(&leaves[i], i, size, &proof, &root),
                                 BH_E_TAMPERED);
            }
        }
        assert_int_equal(tlog_prove_inclusion(&source, size, size, &proof), BH_E_NOTFOUND);
        assert_int_equal(tlog_verify_inclusion(&leaves[0], size, size, &proof, &root),
                         BH_E_TAMPERED);
    }
}

static void every_consistency_proof_verifies_and_only_for_its_trees(void **state) {
    (void)state;
    struct tlog_source source = tlog_source_of(&array);
    struct tlog_proof proof;
    struct tlog_proof twin;
    for (uint64_t size = 1; size <= LEAVES; size++) {
        struct tlog_hash root = naive_root(0, size);
        for (uint64_t old_size = 0; old_size <= size; old_size++) {
            struct tlog_hash old_root = naive_root(0, old_size);
            assert_int_equal(tlog_prove_consistency(&source, old_size, size, &proof), 0);
            if (old_size != 0) {
                twin.count = 0;
                naive_subproof(old_size, 0, size, true, &twin);
                assert_proofs_equal(&proof, &twin);
            }
            assert_int_equal(tlog_verify_consistency(old_size, &old_root, size, &root, &proof), 0);
            struct tlog_hash wrong = old_root;
            wrong.b[31] ^= 0x80;
            assert_int_equal(tlog_verify_consistency(old_size, &wrong, size, &root, &proof),
                             BH_E_TAMPERED);
            wrong = root;
            wrong.b[0] ^= 1;
            assert_int_equal(tlog_verify_consistency(old_size, &old_root, size, &wrong, &proof),
                             old_size == 0 ? 0
                                           : BH_E_TAMPERED); /* nothing says nothing about a tree */
            for (unsigned k = 0; k < proof.count; k++) {
                proof.hashes[k].b[5] ^= 4;
                assert_int_equal(tlog_verify_consistency(old_size, &old_root, size, &root, &proof),
                                 BH_E_TAMPERED);
                proof.hashes[k].b[5] ^= 4;
            }
            proof.count++;
            assert_int_equal(tlog_verify_consistency(old_size, &old_root, size, &root, &proof),
                             BH_E_TAMPERED);
        }
        assert_int_equal(tlog_prove_consistency(&source, size + 1, size, &proof), BH_E_NOTFOUND);
    }
}

/* A source that keeps inner nodes must give the same proofs, and be asked for few of them. */
static unsigned nodes_asked;

static int stored_node(void *context, unsigned level, uint64_t index, struct tlog_hash *ret_hash) {
    (void)context;
    nodes_asked++;
    *ret_hash = naive_root(index << level, (index + 1) << level);
    return 0;
}

static void stored_nodes_save_the_leaves(void **state) {
    (void)state;
    struct tlog_source leaf_source = tlog_source_of(&array);
    struct tlog_source stored = {stored_node, NULL};
    for (uint64_t i = 0; i < LEAVES; i += 3) {
        struct tlog_proof a;
        struct tlog_proof b;
        assert_int_equal(tlog_prove_inclusion(&leaf_source, i, LEAVES, &a), 0);
        nodes_asked = 0;
        assert_int_equal(tlog_prove_inclusion(&stored, i, LEAVES, &b), 0);
        assert_true(nodes_asked <= 16);
        assert_proofs_equal(&a, &b);
    }
}

/* The key, text and signature that the first implementation of signed notes was published with. */
static void the_vkey_matches_a_published_one(void **state) {
    (void)state;
    static const char *const keys[] = {

        "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"};
    char name[TLOG_NAME_MAX + 1];
    uint8_t key[SIGN_PUBLIC_SIZE];
    for (size_t i = 0; i < BH_COUNT(keys); i++) {
        uint8_t out[TLOG_VKEY_MAX];
        struct buf b = buf_of(out, sizeof out);
        assert_int_equal(tlog_vkey_parse(span_str(keys[i]), name, key), 0);
        assert_int_equal(tlog_vkey_write(name, key, &b), 0);
        assert_true(span_is(buf_span(&b), keys[i]));
    }
    assert_string_equal(name, "PeterNeumann");
    uint8_t signature[68];
    size_t n = 0;
    struct span text = SPAN_LIT(
        "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=");
    assert_int_equal(base64_decode(text, signature, sizeof signature, &n), 0);
    assert_int_equal(n, 68);
    assert_memory_equal(signature, "\xc7\x4f\x20\xa3", 4);
    assert_true(sign_verify(key,
                            SPAN_LIT("If you think cryptography is the answer to your problem,\n"
                                     "then you don't know what your problem is.\n"),
                            signature + 4));
    assert_int_equal(
        tlog_vkey_parse(SPAN_LIT("x+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"), name,
                        key),
        BH_E_TAMPERED);
    assert_int_equal(tlog_vkey_parse(SPAN_LIT("PeterNeumann+c74f20a3+ARpc2Qc"), name, key),
                     BH_E_SYNTAX);
    assert_int_equal(
        tlog_vkey_parse(SPAN_LIT("+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"), name,
                        key),
        BH_E_SYNTAX);
    assert_int_equal(tlog_vkey_parse(SPAN_LIT(""), name, key), BH_E_SYNTAX);
}

struct signer {
    uint8_t secret[SIGN_SECRET_SIZE];
    uint8_t public_key[SIGN_PUBLIC_SIZE];
};

static struct signer signer_of(uint8_t seed_byte) {
    uint8_t seed[SIGN_SEED_SIZE];
    struct signer signer;
    memset(seed, seed_byte, sizeof seed);
    sign_keypair_of_seed(seed, signer.secret, signer.public_key);
    return signer;
}

static const char origin[] = "bulkhead/000102030405060708090a0b0c0d0e0f/1/mixpanel-1";

static struct buf sign_note(const struct signer *signer, uint8_t *memory, size_t cap) {
    struct buf b = buf_of(memory, cap);
    struct tlog_hash root = naive_root(0, 7);
    assert_int_equal(
        tlog_checkpoint_sign(origin, 7, &root, origin, signer->secret, signer->public_key, &b), 0);
    return b;
}

static void a_checkpoint_verifies_with_its_key_only(void **state) {
    (void)state;
    struct signer signer = signer_of(1);
    struct signer other = signer_of(2);
    uint8_t memory[1024];
    struct tlog_checkpoint checkpoint;
    struct buf b = sign_note(&signer, memory, sizeof memory);
    assert_int_equal(tlog_checkpoint_verify(buf_span(&b), origin, signer.public_key, &checkpoint),
                     0);
    assert_true(span_is(checkpoint.origin, origin));
    assert_int_equal(checkpoint.size, 7);
    struct tlog_hash root = naive_root(0, 7);
    assert_memory_equal(checkpoint.root.b, root.b, sizeof root.b);
    assert_int_equal(tlog_checkpoint_verify(buf_span(&b), origin, other.public_key, &checkpoint),
                     BH_E_TAMPERED);
    assert_int_equal(tlog_checkpoint_verify(buf_span(&b), "other", signer.public_key, &checkpoint),
                     BH_E_TAMPERED);
    for (size_t cap = 0; cap < b.n; cap++) {
        uint8_t small[1024];
        struct buf full = buf_of(small, cap);
        assert_int_equal(
            tlog_checkpoint_sign(origin, 7, &root, origin, signer.secret, signer.public_key, &full),
            BH_E_FULL);
    }
}

/* Whatever bit of a signed note changes, it no longer verifies: no bit is outside the signature or
 * has two spellings. */
static void no_bit_of_a_checkpoint_may_change(void **state) {
    (void)state;
    struct signer signer = signer_of(1);
    uint8_t memory[1024];
    struct tlog_checkpoint checkpoint;
    struct buf b = sign_note(&signer, memory, sizeof memory);
    for (size_t bit = 0; bit < b.n * 8; bit++) {
        memory[bit / 8] ^= (uint8_t)(1U << bit % 8);
        assert_int_not_equal(
            tlog_checkpoint_verify(buf_span(&b), origin, signer.public_key, &checkpoint), 0);
        memory[bit / 8] ^= (uint8_t)(1U << bit % 8);
    }
    for (size_t n = 0; n < b.n; n++) {
        assert_int_equal(
            tlog_checkpoint_verify(span_of(memory, n), origin, signer.public_key, &checkpoint),
            BH_E_SYNTAX);
    }
}

static void cosignatures_of_witnesses_are_passed_over(void **state) {
    (void)state;
    struct signer signer = signer_of(1);
    uint8_t memory[8 * 1024];
    struct tlog_checkpoint checkpoint;
    struct buf b = sign_note(&signer, memory, sizeof memory);
    buf_put_str(&b, "\xe2\x80\x94 witness.example/w1 AAAAAAAAAAAA\n");
    assert_int_equal(tlog_checkpoint_verify(buf_span(&b), origin, signer.public_key, &checkpoint),
                     0);
    for (int i = 0; i < TLOG_SIGNATURES_MAX; i++) {
        buf_put_str(&b, "\xe2\x80\x94 witness.example/w1 AAAAAAAAAAAA\n");
    }
    assert_int_equal(tlog_checkpoint_verify(buf_span(&b), origin, signer.public_key, &checkpoint),
                     BH_E_SYNTAX);
}

static void malformed_notes_are_refused(void **state) {
    (void)state;
#define ROOT "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
#define SIG  "\n\xe2\x80\x94 n AAAAAA==\n"
    static const char *const bad[] = {
        "",
        "\n\n",
        "o\n1\n" ROOT "\n",
        "o\n1\n" ROOT "\n\n",
        "o\n01\n" ROOT "\n" SIG,
        "o\n-1\n" ROOT "\n" SIG,
        "o\n18446744073709551616\n" ROOT "\n" SIG,
        "o\n1\n" ROOT "=\n" SIG,
        "o\n1\nAAAA\n" SIG,
        "o\n1\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB=\n" SIG,
        "\n1\n" ROOT "\n" SIG,
        "o\r\n1\n" ROOT "\n" SIG,
        "o\n1\n" ROOT "\n\n- n AAAAAA==\n",
        "o\n1\n" ROOT "\n\n\xe2\x80\x94 nAAAAAA==\n",
        "o\n1\n" ROOT "\n\n\xe2\x80\x94  AAAAAA==\n",
        "o\n1\n" ROOT "\n\n\xe2\x80\x94 n \n",
        "o\n1\n" ROOT "\n\n\xe2\x80\x94 n AAAAAA==",
    };
    struct tlog_checkpoint checkpoint;
    for (size_t i = 0; i < BH_COUNT(bad); i++) {
        assert_int_equal(tlog_checkpoint_parse(span_str(bad[i]), &checkpoint), BH_E_SYNTAX);
    }
    assert_int_equal(tlog_checkpoint_parse(SPAN_LIT("o\n1\n" ROOT "\n" SIG), &checkpoint), 0);
    assert_int_equal(
        tlog_checkpoint_parse(SPAN_LIT("o\n0\n" ROOT "\nfurther line\n" SIG), &checkpoint), 0);
    struct signer signer = signer_of(1);
    uint8_t memory[1024];
    struct buf b = buf_of(memory, sizeof memory);
    struct tlog_hash root = {{0}};
    assert_int_equal(
        tlog_checkpoint_sign("a b", 1, &root, "n", signer.secret, signer.public_key, &b),
        BH_E_SYNTAX);
    assert_int_equal(
        tlog_checkpoint_sign("a\nb", 1, &root, "n", signer.secret, signer.public_key, &b),
        BH_E_SYNTAX);
    assert_int_equal(
        tlog_checkpoint_sign("o", 1, &root, "n+", signer.secret, signer.public_key, &b),
        BH_E_SYNTAX);
    assert_int_equal(tlog_checkpoint_sign("", 1, &root, "n", signer.secret, signer.public_key, &b),
                     BH_E_SYNTAX);
}

/* Note, root and key as a second implementation made them; ours are the same bytes, since Ed25519
 * is deterministic. */
static void version_1_is_read_and_written(void **state) {
    (void)state;
    uint8_t note[1024];
    uint8_t vkey[TLOG_VKEY_MAX];
    size_t note_size = 0;
    size_t vkey_size = 0;
    char name[TLOG_NAME_MAX + 1];
    uint8_t public_key[SIGN_PUBLIC_SIZE];
    struct tlog_checkpoint checkpoint;
    assert_int_equal(os_file_read_whole(BULKHEAD_SOURCE_DIR "/tests/golden/checkpoint-v1.txt", note,
                                        sizeof note, &note_size),
                     0);
    assert_int_equal(os_file_read_whole(BULKHEAD_SOURCE_DIR "/tests/golden/checkpoint-v1.vkey",
                                        vkey, sizeof vkey, &vkey_size),
                     0);
    assert_int_equal(tlog_vkey_parse(span_of(vkey, vkey_size), name, public_key), 0);
    assert_int_equal(
        tlog_checkpoint_verify(span_of(note, note_size), name, public_key, &checkpoint), 0);
    assert_int_equal(checkpoint.size, 11);
    struct tlog_range range;
    struct tlog_hash root;
    tlog_range_init(&range);
    for (int i = 0; i < 11; i++) {
        char text[16];
        struct tlog_hash leaf;
        (void)snprintf(text, sizeof text, "leaf %d", i);
        tlog_leaf(span_str(text), &leaf);
        tlog_range_append(&range, &leaf);
    }
    tlog_range_root(&range, &root);
    assert_memory_equal(root.b, checkpoint.root.b, sizeof root.b);
    uint8_t seed[SIGN_SEED_SIZE];
    uint8_t secret[SIGN_SECRET_SIZE];
    uint8_t memory[1024];
    struct buf b = buf_of(memory, sizeof memory);
    for (uint8_t i = 0; i < sizeof seed; i++) {
        seed[i] = i;
    }
    sign_keypair_of_seed(seed, secret, public_key);
    assert_int_equal(tlog_checkpoint_sign(name, 11, &root, name, secret, public_key, &b), 0);
    assert_true(span_equal(buf_span(&b), span_of(note, note_size)));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(roots_match_certificate_transparency),
        cmocka_unit_test(every_small_tree_equals_the_recursion),
        cmocka_unit_test(every_inclusion_proof_verifies_and_only_for_its_leaf),
        cmocka_unit_test(every_consistency_proof_verifies_and_only_for_its_trees),
        cmocka_unit_test(stored_nodes_save_the_leaves),
        cmocka_unit_test(the_vkey_matches_a_published_one),
        cmocka_unit_test(a_checkpoint_verifies_with_its_key_only),
        cmocka_unit_test(no_bit_of_a_checkpoint_may_change),
        cmocka_unit_test(cosignatures_of_witnesses_are_passed_over),
        cmocka_unit_test(malformed_notes_are_refused),
        cmocka_unit_test(version_1_is_read_and_written),
    };
    return cmocka_run_group_tests_name("tlog", tests, make_leaves, NULL);
}
