/*
 * SHA-256, HMAC and HKDF on OpenSSL's low-level SHA256_CTX.
 *
 * The functions are deprecated since OpenSSL 3.0 in favour of EVP, whose contexts are heap objects
 * that cost 300 to 400 ns to copy; a SHA256_CTX is 112 bytes of plain memory, so that the two
 * states of an HMAC key after its first block can be kept and copied for each message (94 ns). They
 * are compiled from the same assembler (SHA extensions included).
 */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "crypto/crypto.h"

#include <openssl/sha.h>

#include "base/check.h"

enum { SHA_BLOCK = 64 };

_Static_assert(SHA256_SIZE == SHA256_DIGEST_LENGTH, "size of a SHA-256");

void sha256_parts(const struct span *parts, size_t count, uint8_t out[SHA256_SIZE]) {
    SHA256_CTX state;
    (void)SHA256_Init(&state);
    for (size_t i = 0; i < count; i++) {
        (void)SHA256_Update(&state, parts[i].p, parts[i].n);
    }
    (void)SHA256_Final(out, &state);
}

void sha256(struct span bytes, uint8_t out[SHA256_SIZE]) {
    sha256_parts(&bytes, 1, out);
}

/* Both states after the padded key, in guarded memory: they are as good as the key. */
struct hmac_key {
    SHA256_CTX inner;
    SHA256_CTX outer;
};

static void midstates(const uint8_t *key, size_t key_size, struct hmac_key *ret_key) {
    uint8_t block[SHA_BLOCK] = {0};
    if (key_size > SHA_BLOCK) {
        sha256(span_of(key, key_size), block);
    } else if (key_size != 0) {
        memcpy(block, key, key_size);
    }
    for (int i = 0; i < SHA_BLOCK; i++) {
        block[i] ^= 0x36;
    }
    (void)SHA256_Init(&ret_key->inner);
    (void)SHA256_Update(&ret_key->inner, block, SHA_BLOCK);
    for (int i = 0; i < SHA_BLOCK; i++) {
        block[i] ^= 0x36 ^ 0x5c;
    }
    (void)SHA256_Init(&ret_key->outer);
    (void)SHA256_Update(&ret_key->outer, block, SHA_BLOCK);
    secret_wipe(block, sizeof block);
}

struct hmac_key *hmac_key_new(const uint8_t *key, size_t key_size) {
    struct hmac_key *made = (struct hmac_key *)secret_new(sizeof *made);
    if (made != NULL) {
        midstates(key, key_size, made);
    }
    return made;
}

void hmac_key_free(struct hmac_key *key) {
    secret_free(key);
}

void hmac_sha256(const struct hmac_key *key, const struct span *parts, size_t count,
                 uint8_t out[SHA256_SIZE]) {
    SHA256_CTX state = key->inner;
    uint8_t inner[SHA256_SIZE];
    for (size_t i = 0; i < count; i++) {
        (void)SHA256_Update(&state, parts[i].p, parts[i].n);
    }
    (void)SHA256_Final(inner, &state);
    state = key->outer;
    (void)SHA256_Update(&state, inner, sizeof inner);
    (void)SHA256_Final(out, &state);
}

void hkdf_sha256(const uint8_t root[KEY_SIZE], const char *label, uint8_t *out, size_t out_size) {
    static const uint8_t no_salt[SHA256_SIZE] = {0};
    struct hmac_key state;
    uint8_t extracted[SHA256_SIZE];
    uint8_t block[SHA256_SIZE];
    check(out_size <= (size_t)255 * SHA256_SIZE);
    midstates(no_salt, sizeof no_salt, &state);
    struct span input = span_of(root, KEY_SIZE);
    hmac_sha256(&state, &input, 1, extracted);
    midstates(extracted, sizeof extracted, &state);
    uint8_t counter = 1;
    for (size_t done = 0; done < out_size; counter++) {
        struct span parts[] = {span_of(block, counter == 1 ? 0 : sizeof block), span_str(label),
                               span_of(&counter, 1)};
        hmac_sha256(&state, parts, BH_COUNT(parts), block);
        size_t n = out_size - done < sizeof block ? out_size - done : sizeof block;
        memcpy(out + done, block, n);
        done += n;
    }
    secret_wipe(&state, sizeof state);
    secret_wipe(extracted, sizeof extracted);
    secret_wipe(block, sizeof block);
}
