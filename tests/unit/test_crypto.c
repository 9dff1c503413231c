/* Crypto against the published vectors of each algorithm, and each fast form against its twin. */
/* depends: crypto os base */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "crypto/crypto.h"
#include "crypto/crypto_int.h"

static uint64_t random_state = 0x9e3779b97f4a7c15U;

static uint64_t next_random(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static void fill_random(uint8_t *p, size_t n) {
    for (size_t i = 0; i < n; i++) {
        p[i] = (uint8_t)(next_random() >> 32);
    }
}

static size_t unhex(const char *hex, uint8_t *out) {
    size_t n = strlen(hex) / 2;
    for (size_t i = 0; i < n; i++) {
        unsigned byte = 0;
        assert_int_equal(sscanf(hex + 2 * i, "%2x", &byte), 1);
        out[i] = (uint8_t)byte;
    }
    return n;
}

static void assert_hex(const uint8_t *p, size_t n, const char *hex) {
    uint8_t expected[256];
    assert_int_equal(unhex(hex, expected), n);
    assert_memory_equal(p, expected, n);
}

/* NIST SP 800-38D test case 14 has an all-zero 96-bit nonce: number 0 in our form. */
static void gcm_matches_nist(void **state) {
    (void)state;
    uint8_t key[KEY_SIZE] = {0};
    uint8_t plain[16] = {0};
    uint8_t out[16 + GCM_TAG_SIZE];
    struct gcm *gcm = gcm_new(key);
    gcm_seal(gcm, 0, SPAN_NONE, span_of(plain, 16), out);
    assert_hex(out, sizeof out, "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919");
    gcm_seal(gcm, 0, SPAN_NONE, SPAN_NONE, out);
    assert_hex(out, GCM_TAG_SIZE, "530f8afbc74536b9a963b4f1c4cb738b");
    gcm_free(gcm);
}

static void gcm_opens_what_it_sealed_and_nothing_else(void **state) {
    (void)state;
    uint8_t key[KEY_SIZE];
    uint8_t plain[300];
    uint8_t sealed[300 + GCM_TAG_SIZE];
    uint8_t copy[300 + GCM_TAG_SIZE];
    uint8_t in_place[300 + GCM_TAG_SIZE];
    uint8_t aad[48];
    fill_random(key, sizeof key);
    fill_random(plain, sizeof plain);
    fill_random(aad, sizeof aad);
    struct gcm *gcm = gcm_new(key);
    for (size_t n = 0; n <= sizeof plain; n += 7) {
        gcm_seal(gcm, n, span_of(aad, sizeof aad), span_of(plain, n), sealed);
        memcpy(in_place, plain, n);
        gcm_seal(gcm, n, span_of(aad, sizeof aad), span_of(in_place, n), in_place);
        assert_memory_equal(in_place, sealed, n + GCM_TAG_SIZE);
        struct span parts[3] = {span_of(plain, n / 3), SPAN_NONE,
                                span_of(plain + n / 3, n - n / 3)};
        gcm_seal_parts(gcm, n, span_of(aad, sizeof aad), parts, 3, copy);
        assert_memory_equal(copy, sealed, n + GCM_TAG_SIZE);
        assert_int_equal(
            gcm_open(gcm, n, span_of(aad, sizeof aad), span_of(copy, n + GCM_TAG_SIZE), copy), 0);
        assert_memory_equal(copy, plain, n);
        assert_int_equal(
            gcm_open(gcm, n + 1, span_of(aad, sizeof aad), span_of(sealed, n + GCM_TAG_SIZE), copy),
            BH_E_TAMPERED);
        assert_int_equal(
            gcm_open(gcm, n, span_of(aad, sizeof aad - 1), span_of(sealed, n + GCM_TAG_SIZE), copy),
            BH_E_TAMPERED);
    }
    size_t n = 33;
    gcm_seal(gcm, 5, SPAN_NONE, span_of(plain, n), sealed);
    for (size_t bit = 0; bit < (n + GCM_TAG_SIZE) * 8; bit++) {
        sealed[bit / 8] ^= (uint8_t)(1U << bit % 8);
        memset(copy, 0xaa, sizeof copy);
        assert_int_equal(gcm_open(gcm, 5, SPAN_NONE, span_of(sealed, n + GCM_TAG_SIZE), copy),
                         BH_E_TAMPERED);
        for (size_t i = 0; i < n; i++) {
            assert_int_equal(copy[i], 0); /* wiped */
        }
        sealed[bit / 8] ^= (uint8_t)(1U << bit % 8);
    }
    assert_int_equal(gcm_open(gcm, 5, SPAN_NONE, span_of(sealed, GCM_TAG_SIZE - 1), copy),
                     BH_E_TAMPERED);
    gcm_free(gcm);
}

/* FIPS 197, C.3. */
static void one_block_matches_fips197_and_its_twin(void **state) {
    (void)state;
    uint8_t key[KEY_SIZE];
    uint8_t block[16];
    uint8_t out[16];
    uint8_t twin_out[16];
    unhex("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f", key);
    unhex("00112233445566778899aabbccddeeff", block);
    struct aes_block *aes = aes_block_new(key);
    aes_block_encrypt(aes, block, out);
    assert_hex(out, 16, "8ea2b7ca516745bfeafc49904b496089");
    aes_block_decrypt(aes, out, out);
    assert_memory_equal(out, block, 16);
    aes_block_free(aes);
    for (int i = 0; i < 1000; i++) {
        fill_random(key, sizeof key);
        fill_random(block, sizeof block);
        struct aes_block *native = aes_block_new(key);
        struct aes_block *twin = aes_block_new_portable(key);
        aes_block_encrypt(native, block, out);
        aes_block_encrypt(twin, block, twin_out);
        assert_memory_equal(out, twin_out, 16);
        aes_block_decrypt(native, block, out);
        aes_block_decrypt(twin, block, twin_out);
        assert_memory_equal(out, twin_out, 16);
        aes_block_free(native);
        aes_block_free(twin);
    }
}

/* RFC 4231, cases 1, 2, 6 (a key longer than a block) and the empty message. */
/* The vectors of the paper's reference code: the n-th is of the bytes 0 to n - 1. */
static void siphash_matches_its_reference(void **state) {
    (void)state;
    uint8_t bytes[SIPHASH_KEY_SIZE];
    for (uint8_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = i;
    }
    assert_true(siphash(bytes, SPAN_NONE) == UINT64_C(0x726fdb47dd0e0e31));
    assert_true(siphash(bytes, span_of(bytes, 8)) == UINT64_C(0x93f5f5799a932462));
    assert_true(siphash(bytes, span_of(bytes, 15)) == UINT64_C(0xa129ca6149be45e5));
}

static void hmac_matches_rfc4231(void **state) {
    (void)state;
    uint8_t key[131];
    uint8_t out[SHA256_SIZE];
    memset(key, 0x0b, 20);
    struct hmac_key *hmac = hmac_key_new(key, 20);
    struct span parts[2] = {SPAN_LIT("Hi "), SPAN_LIT("There")};
    for (int again = 0; again < 2; again++) {
        hmac_sha256(hmac, parts, 2, out);
        assert_hex(out, sizeof out,
                   "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
    }
    hmac_key_free(hmac);
    hmac = hmac_key_new((const uint8_t *)"Jefe", 4);
    struct span question = SPAN_LIT("what do ya want for nothing?");
    hmac_sha256(hmac, &question, 1, out);
    assert_hex(out, sizeof out, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    hmac_key_free(hmac);
    memset(key, 0xaa, sizeof key);
    hmac = hmac_key_new(key, sizeof key);
    struct span larger = SPAN_LIT("Test Using Larger Than Block-Size Key - Hash Key First");
    hmac_sha256(hmac, &larger, 1, out);
    assert_hex(out, sizeof out, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
    hmac_key_free(hmac);
    hmac = hmac_key_new(NULL, 0);
    hmac_sha256(hmac, NULL, 0, out);
    assert_hex(out, sizeof out, "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
    hmac_key_free(hmac);
}

static void sha256_matches_fips180(void **state) {
    (void)state;
    uint8_t out[SHA256_SIZE];
    sha256(SPAN_LIT("abc"), out);
    assert_hex(out, sizeof out, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    sha256(SPAN_NONE, out);
    assert_hex(out, sizeof out, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    struct span parts[3] = {SPAN_LIT("a"), SPAN_NONE, SPAN_LIT("bc")};
    sha256_parts(parts, 3, out);
    assert_hex(out, sizeof out, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

/* RFC 5869 case 3 has no salt and no info, but 22 bytes of input; ours is always 32, so the
 * expected bytes come from `openssl kdf -keylen 42 -kdfopt digest:SHA256 -kdfopt hexkey:0b*32
 * -kdfopt info:bulkhead/id HKDF`. */
static void hkdf_matches_openssl(void **state) {
    (void)state;
    uint8_t root[KEY_SIZE];
    uint8_t out[42];
    uint8_t first[SHA256_SIZE];
    memset(root, 0x0b, sizeof root);
    hkdf_sha256(root, "bulkhead/id", out, sizeof out);
    assert_hex(
        out, sizeof out,
        "59bcfb8911792781b8023b5953b27e0f9ff68f8fcddfc8cc227b3bb3734916428cb81d26b9ebf5e290c4");
    hkdf_sha256(root, "bulkhead/id", first, sizeof first);
    assert_memory_equal(out, first, sizeof first);
    hkdf_sha256(root, "bulkhead/ie", first, sizeof first);
    assert_memory_not_equal(out, first, sizeof first);
}

/* RFC 3394, 4.6. */
static void key_wrap_matches_rfc3394(void **state) {
    (void)state;
    uint8_t wrapping[KEY_SIZE];
    uint8_t key[KEY_SIZE];
    uint8_t wrapped[WRAPPED_KEY_SIZE];
    uint8_t back[KEY_SIZE];
    unhex("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f", wrapping);
    unhex("00112233445566778899aabbccddeeff000102030405060708090a0b0c0d0e0f", key);
    key_wrap(wrapping, key, wrapped);
    assert_hex(wrapped, sizeof wrapped,
               "28c9f404c4b810f4cbccb35cfb87f8263f5786e2d80ed326cbc7f0e71a99f43bfb988b9b7a02dd21");
    assert_int_equal(key_unwrap(wrapping, wrapped, back), 0);
    assert_memory_equal(back, key, sizeof key);
    for (size_t bit = 0; bit < sizeof wrapped * 8; bit++) {
        wrapped[bit / 8] ^= (uint8_t)(1U << bit % 8);
        assert_int_equal(key_unwrap(wrapping, wrapped, back), BH_E_TAMPERED);
        wrapped[bit / 8] ^= (uint8_t)(1U << bit % 8);
    }
    wrapping[0] ^= 1;
    assert_int_equal(key_unwrap(wrapping, wrapped, back), BH_E_TAMPERED);
}

/* RFC 8032, 7.1, test 3. */
static void signing_matches_rfc8032(void **state) {
    (void)state;
    uint8_t seed[SIGN_SEED_SIZE];
    uint8_t secret[SIGN_SECRET_SIZE];
    uint8_t public_key[SIGN_PUBLIC_SIZE];
    uint8_t signature[SIGNATURE_SIZE];
    uint8_t message[2];
    unhex("c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7", seed);
    unhex("af82", message);
    sign_keypair_of_seed(seed, secret, public_key);
    assert_hex(public_key, sizeof public_key,
               "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025");
    sign_detached(secret, span_of(message, 2), signature);
    assert_hex(signature, sizeof signature,
               "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
               "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a");
    assert_true(sign_verify(public_key, span_of(message, 2), signature));
    for (size_t bit = 0; bit < sizeof signature * 8; bit++) {
        signature[bit / 8] ^= (uint8_t)(1U << bit % 8);
        assert_false(sign_verify(public_key, span_of(message, 2), signature));
        signature[bit / 8] ^= (uint8_t)(1U << bit % 8);
    }
    uint8_t other_secret[SIGN_SECRET_SIZE];
    uint8_t other_public[SIGN_PUBLIC_SIZE];
    sign_keypair(other_secret, other_public);
    assert_false(sign_verify(other_public, span_of(message, 2), signature));
}

/* RFC 4648, 10, both ways, with and without padding. */
static void base64_matches_rfc4648(void **state) {
    (void)state;
    static const char *const pairs[][2] = {{"", ""},
                                           {"f", "Zg=="},
                                           {"fo", "Zm8="},
                                           {"foo", "Zm9v"},
                                           {"foob", "Zm9vYg=="},
                                           {"fooba", "Zm9vYmE="},
                                           {"foobar", "Zm9vYmFy"}};
    uint8_t out[32];
    size_t n = 0;
    for (size_t i = 0; i < BH_COUNT(pairs); i++) {
        struct span text = span_str(pairs[i][1]);
        assert_int_equal(base64_encode(span_str(pairs[i][0]), out, sizeof out, &n), 0);
        assert_true(span_equal(span_of(out, n), text));
        assert_int_equal(base64_decode(text, out, sizeof out, &n), 0);
        assert_true(span_is(span_of(out, n), pairs[i][0]));
        while (text.n != 0 && text.p[text.n - 1] == '=') {
            text.n--;
        }
        assert_int_equal(base64_decode(text, out, sizeof out, &n), 0);
        assert_true(span_is(span_of(out, n), pairs[i][0]));
    }
    assert_int_equal(base64_encode(SPAN_LIT("foo"), out, 3, &n), BH_E_FULL);
    assert_int_equal(base64_decode(SPAN_LIT("Zm9v"), out, 2, &n), BH_E_FULL);
}

static void base64_refuses_and_leaves_the_input(void **state) {
    (void)state;
    static const char *const bad[] = {"A",    "AAAAA",    "=",     "====",     "A===",
                                      "AA=",  "AAA==",    "AAAA=", "AAAA====", "AA=A",
                                      "A+_A", "AAAA BBB", "AAA\n", "-AA/",     "AA==AA=="};
    uint8_t text[64];
    size_t n = 0;
    for (size_t i = 0; i < BH_COUNT(bad); i++) {
        struct span in = span_str(bad[i]);
        memcpy(text, in.p, in.n);
        assert_int_equal(base64_decode(span_of(text, in.n), text, sizeof text, &n), BH_E_SYNTAX);
        assert_memory_equal(text, in.p, in.n);
    }
    /* Every byte: only the 64 letters and the two of the URL alphabet are good. */
    for (unsigned byte = 0; byte < 256; byte++) {
        uint8_t four[4] = {'A', (uint8_t)byte, 'A', 'A'};
        const char *all = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_";
        bool good = byte != 0 && strchr(all, (int)byte) != NULL;
        assert_int_equal(base64_decode(span_of(four, 4), text, sizeof text, &n),
                         good ? 0 : BH_E_SYNTAX);
    }
}

static void base64_round_trips_in_place(void **state) {
    (void)state;
    uint8_t bytes[200];
    uint8_t text[300];
    size_t n = 0;
    for (size_t length = 0; length < sizeof bytes; length++) {
        fill_random(bytes, length);
        assert_int_equal(base64_encode(span_of(bytes, length), text, sizeof text, &n), 0);
        if (length % 2 == 0) {
            for (size_t i = 0; i < n; i++) {
                text[i] = text[i] == '+' ? '-' : text[i] == '/' ? '_' : text[i];
            }
        }
        assert_int_equal(base64_decode(span_of(text, n), text, sizeof text, &n), 0);
        assert_true(span_equal(span_of(text, n), span_of(bytes, length)));
    }
}

static void secrets_are_aligned_zero_and_compared(void **state) {
    (void)state;
    for (size_t size = 1; size < 100; size += 13) {
        uint8_t *secret = (uint8_t *)secret_new(size);
        uint8_t zeros[100] = {0};
        assert_non_null(secret);
        assert_int_equal((uintptr_t)secret % 16, 0);
        assert_true(secret_equal(secret, zeros, size));
        secret[size - 1] = 1;
        assert_false(secret_equal(secret, zeros, size));
        secret_wipe(secret, size);
        assert_true(secret_equal(secret, zeros, size));
        secret_free(secret);
    }
    secret_free(NULL);
}

int main(void) {
    if (crypto_init() != 0 || crypto_init() != 0) {
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gcm_matches_nist),
        cmocka_unit_test(gcm_opens_what_it_sealed_and_nothing_else),
        cmocka_unit_test(one_block_matches_fips197_and_its_twin),
        cmocka_unit_test(siphash_matches_its_reference),
        cmocka_unit_test(hmac_matches_rfc4231),
        cmocka_unit_test(sha256_matches_fips180),
        cmocka_unit_test(hkdf_matches_openssl),
        cmocka_unit_test(key_wrap_matches_rfc3394),
        cmocka_unit_test(signing_matches_rfc8032),
        cmocka_unit_test(base64_matches_rfc4648),
        cmocka_unit_test(base64_refuses_and_leaves_the_input),
        cmocka_unit_test(base64_round_trips_in_place),
        cmocka_unit_test(secrets_are_aligned_zero_and_compared),
    };
    return cmocka_run_group_tests_name("crypto", tests, NULL, NULL);
}
