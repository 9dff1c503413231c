/* Shared between the files of crypto, and with its tests: both forms of one AES block. */
#ifndef BH_CRYPTO_INT_H
#define BH_CRYPTO_INT_H

#include <stdbool.h>
#include <stdint.h>

enum { AES_ROUND_KEYS = 15, AES_BLOCK = 16 };

/* Round keys in the order in which the instructions take them. */
struct aesni_keys {
    uint8_t encrypt[AES_ROUND_KEYS][AES_BLOCK];
    uint8_t decrypt[AES_ROUND_KEYS][AES_BLOCK];
};

/* Whether the processor has the instructions; the functions below need them. */
bool aesni_present(void);
void aesni_expand(const uint8_t key[32], struct aesni_keys *ret_keys);
void aesni_encrypt(const struct aesni_keys *keys, const uint8_t in[AES_BLOCK],
                   uint8_t out[AES_BLOCK]);
void aesni_decrypt(const struct aesni_keys *keys, const uint8_t in[AES_BLOCK],
                   uint8_t out[AES_BLOCK]);

struct aes_block;
/* Like aes_block_new, without the instructions: the twin for tests. */
struct aes_block *aes_block_new_portable(const uint8_t key[32]);

#endif
