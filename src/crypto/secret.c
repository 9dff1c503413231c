/* Guarded memory, Ed25519 and SipHash, all libsodium's. */
#include <sodium.h>

#include "base/check.h"
#include "crypto/crypto.h"

_Static_assert(SIGN_SECRET_SIZE == crypto_sign_SECRETKEYBYTES, "size of an Ed25519 secret key");
_Static_assert(SIGN_PUBLIC_SIZE == crypto_sign_PUBLICKEYBYTES, "size of an Ed25519 public key");
_Static_assert(SIGNATURE_SIZE == crypto_sign_BYTES, "size of an Ed25519 signature");
_Static_assert(SIGN_SEED_SIZE == crypto_sign_SEEDBYTES, "size of an Ed25519 seed");

void *secret_new(size_t size) {
    /* sodium_malloc puts the end at a guard page; a multiple of 16 keeps the start aligned. */
    size_t rounded = (size + 15) & ~(size_t)15;
    void *p = sodium_malloc(rounded);
    if (p != NULL) {
        memset(p, 0, rounded);
    }
    return p;
}

void secret_free(void *secret) {
    sodium_free(secret);
}

void secret_wipe(void *p, size_t n) {
    sodium_memzero(p, n);
}

void secret_wipe_stack(size_t n) {
    sodium_stackzero(n);
}

bool secret_equal(const void *a, const void *b, size_t n) {
    return sodium_memcmp(a, b, n) == 0;
}

_Static_assert((int)SIPHASH_KEY_SIZE == (int)crypto_shorthash_KEYBYTES, "size of a SipHash key");

uint64_t siphash(const uint8_t key[SIPHASH_KEY_SIZE], struct span message) {
    uint8_t out[crypto_shorthash_BYTES];
    (void)crypto_shorthash(out, message.p, message.n, key);
    return get_u64(out);
}

void sign_keypair(uint8_t secret[SIGN_SECRET_SIZE], uint8_t public_key[SIGN_PUBLIC_SIZE]) {
    int failed = crypto_sign_keypair(public_key, secret);
    check(failed == 0);
}

void sign_keypair_of_seed(const uint8_t seed[SIGN_SEED_SIZE], uint8_t secret[SIGN_SECRET_SIZE],
                          uint8_t public_key[SIGN_PUBLIC_SIZE]) {
    int failed = crypto_sign_seed_keypair(public_key, secret, seed);
    check(failed == 0);
}

void sign_detached(const uint8_t secret[SIGN_SECRET_SIZE], struct span message,
                   uint8_t out[SIGNATURE_SIZE]) {
    int failed = crypto_sign_detached(out, NULL, message.p, message.n, secret);
    check(failed == 0);
}

bool sign_verify(const uint8_t public_key[SIGN_PUBLIC_SIZE], struct span message,
                 const uint8_t signature[SIGNATURE_SIZE]) {
    return crypto_sign_verify_detached(signature, message.p, message.n, public_key) == 0;
}
