/* AES in its three uses: frames (GCM), keys under keys (wrap), pseudonyms (one block). */
/* For AES_encrypt: the one-block twin where the processor has no AES. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include <limits.h>
#include <openssl/aes.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <sodium.h>

#include "base/check.h"
#include "crypto/crypto.h"
#include "crypto/crypto_int.h"

enum { NONCE_SIZE = 12 };

/* Fetched once: an implicit fetch for each new context costs more than sealing 64 KiB. */
static EVP_CIPHER *cipher_gcm;
static EVP_CIPHER *cipher_wrap;

int crypto_init(void) {
    if (cipher_gcm != NULL) {
        return 0;
    }
    if (sodium_init() < 0) {
        return BH_E_KEY;
    }
    cipher_gcm = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
    cipher_wrap = EVP_CIPHER_fetch(NULL, "AES-256-WRAP", NULL);
    return cipher_gcm != NULL && cipher_wrap != NULL ? 0 : BH_E_KEY;
}

struct gcm {
    EVP_CIPHER_CTX *seal;
    EVP_CIPHER_CTX *open;
};

struct gcm *gcm_new(const uint8_t key[KEY_SIZE]) {
    check(cipher_gcm != NULL);
    struct gcm *gcm = (struct gcm *)OPENSSL_zalloc(sizeof *gcm);
    if (gcm == NULL) {
        return NULL;
    }
    gcm->seal = EVP_CIPHER_CTX_new();
    gcm->open = EVP_CIPHER_CTX_new();
    if (gcm->seal == NULL || gcm->open == NULL ||
        EVP_EncryptInit_ex2(gcm->seal, cipher_gcm, key, NULL, NULL) != 1 ||
        EVP_DecryptInit_ex2(gcm->open, cipher_gcm, key, NULL, NULL) != 1) {
        gcm_free(gcm);
        return NULL;
    }
    return gcm;
}

void gcm_free(struct gcm *gcm) {
    if (gcm != NULL) {
        EVP_CIPHER_CTX_free(gcm->seal);
        EVP_CIPHER_CTX_free(gcm->open);
        OPENSSL_free(gcm);
    }
}

static void nonce_of(uint64_t number, uint8_t nonce[NONCE_SIZE]) {
    memset(nonce, 0, 4);
    put_u64(nonce + 4, number);
}

void gcm_seal_parts(struct gcm *gcm, uint64_t nonce, struct span aad, const struct span *parts,
                    size_t count, uint8_t *out) {
    uint8_t iv[NONCE_SIZE];
    int n = 0;
    size_t done = 0;
    nonce_of(nonce, iv);
    check(aad.n <= INT_MAX);
    int good = EVP_EncryptInit_ex2(gcm->seal, NULL, NULL, iv, NULL) == 1;
    good = good && (aad.n == 0 || EVP_EncryptUpdate(gcm->seal, NULL, &n, aad.p, (int)aad.n) == 1);
    for (size_t i = 0; good && i < count; i++) {
        if (parts[i].n != 0) {
            check(parts[i].n <= INT_MAX);
            good = EVP_EncryptUpdate(gcm->seal, out + done, &n, parts[i].p, (int)parts[i].n) == 1;
            done += parts[i].n;
        }
    }
    good = good && EVP_EncryptFinal_ex(gcm->seal, out + done, &n) == 1;
    good = good &&
           EVP_CIPHER_CTX_ctrl(gcm->seal, EVP_CTRL_AEAD_GET_TAG, GCM_TAG_SIZE, out + done) == 1;
    /* Sealing has no way to fail but our own mistake. */
    check(good);
}

void gcm_seal(struct gcm *gcm, uint64_t nonce, struct span aad, struct span plain, uint8_t *out) {
    gcm_seal_parts(gcm, nonce, aad, &plain, 1, out);
}

int gcm_open(struct gcm *gcm, uint64_t nonce, struct span aad, struct span sealed, uint8_t *out) {
    uint8_t iv[NONCE_SIZE];
    uint8_t tag[GCM_TAG_SIZE];
    int n = 0;
    check(aad.n <= INT_MAX && sealed.n <= INT_MAX);
    if (sealed.n < GCM_TAG_SIZE) {
        return BH_E_TAMPERED;
    }
    size_t size = sealed.n - GCM_TAG_SIZE;
    nonce_of(nonce, iv);
    memcpy(tag, sealed.p + size, sizeof tag);
    int good = EVP_DecryptInit_ex2(gcm->open, NULL, NULL, iv, NULL) == 1;
    good = good && (aad.n == 0 || EVP_DecryptUpdate(gcm->open, NULL, &n, aad.p, (int)aad.n) == 1);
    good = good && (size == 0 || EVP_DecryptUpdate(gcm->open, out, &n, sealed.p, (int)size) == 1);
    good = good && EVP_CIPHER_CTX_ctrl(gcm->open, EVP_CTRL_AEAD_SET_TAG, GCM_TAG_SIZE, tag) == 1;
    /* Everything up to here depends on sizes alone, so only the tag can be wrong. */
    check(good);
    if (EVP_DecryptFinal_ex(gcm->open, out + size, &n) != 1) {
        secret_wipe(out, size);
        return BH_E_TAMPERED;
    }
    return 0;
}

/* Runs the wrap cipher once; the number of bytes that came out, or 0. */
static size_t wrap_once(bool wrap, const uint8_t wrapping[KEY_SIZE], const uint8_t *in, size_t n,
                        uint8_t *out) {
    check(cipher_wrap != NULL);
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    check(context != NULL);
    EVP_CIPHER_CTX_set_flags(context, EVP_CIPHER_CTX_FLAG_WRAP_ALLOW);
    int produced = 0;
    bool good = EVP_CipherInit_ex2(context, cipher_wrap, wrapping, NULL, wrap ? 1 : 0, NULL) == 1 &&
                EVP_CipherUpdate(context, out, &produced, in, (int)n) == 1;
    EVP_CIPHER_CTX_free(context);
    return good && produced > 0 ? (size_t)produced : 0;
}

void key_wrap(const uint8_t wrapping[KEY_SIZE], const uint8_t key[KEY_SIZE],
              uint8_t out[WRAPPED_KEY_SIZE]) {
    uint8_t wrapped[WRAPPED_KEY_SIZE + AES_BLOCK_SIZE];
    size_t n = wrap_once(true, wrapping, key, KEY_SIZE, wrapped);
    check(n == WRAPPED_KEY_SIZE);
    memcpy(out, wrapped, WRAPPED_KEY_SIZE);
}

int key_unwrap(const uint8_t wrapping[KEY_SIZE], const uint8_t in[WRAPPED_KEY_SIZE],
               uint8_t out[KEY_SIZE]) {
    uint8_t key[WRAPPED_KEY_SIZE + AES_BLOCK_SIZE];
    size_t n = wrap_once(false, wrapping, in, WRAPPED_KEY_SIZE, key);
    if (n == KEY_SIZE) {
        memcpy(out, key, KEY_SIZE);
    }
    secret_wipe(key, sizeof key);
    return n == KEY_SIZE ? 0 : BH_E_TAMPERED;
}

/* One of the two key forms is used, the one that the processor runs. */
struct aes_block {
    bool native;
    struct aesni_keys native_keys;
    AES_KEY encrypt;
    AES_KEY decrypt;
};

static struct aes_block *block_new(const uint8_t key[KEY_SIZE], bool native) {
    struct aes_block *aes = (struct aes_block *)secret_new(sizeof *aes);
    if (aes == NULL) {
        return NULL;
    }
    aes->native = native;
    if (native) {
        aesni_expand(key, &aes->native_keys);
    } else {
        int bad = AES_set_encrypt_key(key, 256, &aes->encrypt);
        bad |= AES_set_decrypt_key(key, 256, &aes->decrypt);
        check(bad == 0);
    }
    return aes;
}

struct aes_block *aes_block_new(const uint8_t key[KEY_SIZE]) {
    return block_new(key, aesni_present());
}

struct aes_block *aes_block_new_portable(const uint8_t key[KEY_SIZE]) {
    return block_new(key, false);
}

void aes_block_free(struct aes_block *aes) {
    secret_free(aes);
}

void aes_block_encrypt(const struct aes_block *aes, const uint8_t in[16], uint8_t out[16]) {
    if (aes->native) {
        aesni_encrypt(&aes->native_keys, in, out);
    } else {
        AES_encrypt(in, out, &aes->encrypt);
    }
}

void aes_block_decrypt(const struct aes_block *aes, const uint8_t in[16], uint8_t out[16]) {
    if (aes->native) {
        aesni_decrypt(&aes->native_keys, in, out);
    } else {
        AES_decrypt(in, out, &aes->decrypt);
    }
}
