/*
 * Cryptography: the only door to OpenSSL and libsodium.
 *
 * Contexts are made once (they allocate) and used by one thread; the operations on them allocate
 * nothing. Keys live in guarded memory (secret_new) and are wiped when freed. Nonces are numbers
 * that the caller never repeats under one key: a frame's number within its segment. Opening sealed
 * bytes returns BH_E_TAMPERED for a wrong key as for changed bytes: nobody can tell these apart.
 */
#ifndef BH_CRYPTO_CRYPTO_H
#define BH_CRYPTO_CRYPTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/errors.h"

enum {
    KEY_SIZE = 32,
    WRAPPED_KEY_SIZE = 40, /* AES-256 key wrap, RFC 3394 */
    GCM_TAG_SIZE = 16,
    SHA256_SIZE = 32,
    SIPHASH_KEY_SIZE = 16,
    SIGN_SECRET_SIZE = 64,
    SIGN_PUBLIC_SIZE = 32,
    SIGNATURE_SIZE = 64,
    SIGN_SEED_SIZE = 32,
};

/* Once, before any thread. */
int crypto_init(void) BH_MUST_USE;

/* Guarded, locked, excluded from cores, zeroed at free; for keys. NULL when there is no memory. */
void *secret_new(size_t size);
void secret_free(void *secret); /* NULL is fine */
void secret_wipe(void *p, size_t n);
/* The n bytes of stack below the caller, where functions that have returned left what they worked on. */
void secret_wipe_stack(size_t n);
bool secret_equal(const void *a, const void *b, size_t n); /* constant time */

/* AES-256-GCM, 12-byte nonce = 4 zero bytes and the number as u64 little-endian. */
struct gcm;
struct gcm *gcm_new(const uint8_t key[KEY_SIZE]);
void gcm_free(struct gcm *gcm);
/* out may be plain itself; writes n bytes and then the tag: n + GCM_TAG_SIZE. */
void gcm_seal(struct gcm *gcm, uint64_t nonce, struct span aad, struct span plain, uint8_t *out);
/* The same over parts, one after another, without copying them together. */
void gcm_seal_parts(struct gcm *gcm, uint64_t nonce, struct span aad, const struct span *parts,
                    size_t count, uint8_t *out);
/* sealed includes the tag; out gets sealed.n - GCM_TAG_SIZE bytes and is wiped on failure. */
int gcm_open(struct gcm *gcm, uint64_t nonce, struct span aad, struct span sealed,
             uint8_t *out) BH_MUST_USE;

/* One AES-256 block both ways: the pseudonym permutation. */
struct aes_block;
struct aes_block *aes_block_new(const uint8_t key[KEY_SIZE]);
void aes_block_free(struct aes_block *aes);
void aes_block_encrypt(const struct aes_block *aes, const uint8_t in[16], uint8_t out[16]);
void aes_block_decrypt(const struct aes_block *aes, const uint8_t in[16], uint8_t out[16]);

/* HMAC-SHA-256 with kept midstates: about 94 ns for a short message. */
struct hmac_key;
struct hmac_key *hmac_key_new(const uint8_t *key, size_t key_size);
void hmac_key_free(struct hmac_key *key);
void hmac_sha256(const struct hmac_key *key, const struct span *parts, size_t count,
                 uint8_t out[SHA256_SIZE]);

/*
 * SipHash-2-4, 64 bits under a secret key: nobody who chooses messages and sees no result can make
 * two of them equal. For tables in memory; too short to prove who wrote a message.
 */
uint64_t siphash(const uint8_t key[SIPHASH_KEY_SIZE], struct span message);

void sha256(struct span bytes, uint8_t out[SHA256_SIZE]);
void sha256_parts(const struct span *parts, size_t count, uint8_t out[SHA256_SIZE]);

/* HKDF-SHA-256 (RFC 5869), no salt; label is the purpose, e.g. "bulkhead/id". */
void hkdf_sha256(const uint8_t root[KEY_SIZE], const char *label, uint8_t *out, size_t out_size);

void key_wrap(const uint8_t wrapping[KEY_SIZE], const uint8_t key[KEY_SIZE],
              uint8_t out[WRAPPED_KEY_SIZE]);
int key_unwrap(const uint8_t wrapping[KEY_SIZE], const uint8_t in[WRAPPED_KEY_SIZE],
               uint8_t out[KEY_SIZE]) BH_MUST_USE;

/* Ed25519 (RFC 8032). */
void sign_keypair(uint8_t secret[SIGN_SECRET_SIZE], uint8_t public_key[SIGN_PUBLIC_SIZE]);
/* The pair that RFC 8032 derives from 32 random bytes. */
void sign_keypair_of_seed(const uint8_t seed[SIGN_SEED_SIZE], uint8_t secret[SIGN_SECRET_SIZE],
                          uint8_t public_key[SIGN_PUBLIC_SIZE]);
void sign_detached(const uint8_t secret[SIGN_SECRET_SIZE], struct span message,
                   uint8_t out[SIGNATURE_SIZE]);
bool sign_verify(const uint8_t public_key[SIGN_PUBLIC_SIZE], struct span message,
                 const uint8_t signature[SIGNATURE_SIZE]);

/* Standard alphabet, padded. *ret_n <= cap or BH_E_FULL. */
int base64_encode(struct span in, uint8_t *out, size_t cap, size_t *ret_n) BH_MUST_USE;
/* Standard or URL alphabet (not mixed), padding optional, no other byte: BH_E_SYNTAX. Bits left
 * over in the last letter are ignored. out may be in.p itself; it is untouched on failure. */
int base64_decode(struct span in, uint8_t *out, size_t cap, size_t *ret_n) BH_MUST_USE;

/* Of a TLS connection of OpenSSL (as libcurl names it): whether bytes of the peer are decrypted, or about to be, that nobody has read. */
bool tls_has_unread(const void *ssl);

/*
 * TLS for who connects to us: 1.2 and 1.3, ALPN http/1.1. A context is immutable; a connection keeps what it
 * needs of the one that it began with, so that a new certificate disturbs none. Bytes go through the two
 * functions given (as os_recv and os_send: bytes, 0 = end, negative = BH_E_ code), and plain text is
 * overwritten in the library's memory once it was read.
 * A context: any thread. A connection: one thread at a time. Errors: CONFIG with the file's name.
 */
struct tls_context;
struct tls;
struct tls_io {
    long (*recv)(int fd, void *p, size_t n);
    long (*send)(int fd, const void *p, size_t n);
};

/* PEM files: the certificate with those between it and the root; its key. */
int tls_context_new(const char *certificate_file, const char *key_file,
                    struct tls_context **ret_context, struct err *err) BH_MUST_USE;
void tls_context_free(struct tls_context *context);
/* NULL: no memory. The handshake is done by the first calls of recv. */
struct tls *tls_accept(struct tls_context *context, const struct tls_io *io, int fd);
void tls_free(struct tls *tls);
/* As os_recv and os_send. After AGAIN the next send begins with the same bytes. */
long tls_recv(struct tls *tls, void *p, size_t n);
long tls_send(struct tls *tls, const void *p, size_t n);
/* Bytes were taken from the socket and wait to be read: no readiness will tell. */
bool tls_has_pending(const struct tls *tls);
/* Says that no more will be sent; what the peer sends can still be read. */
void tls_shutdown_send(struct tls *tls);

#endif
