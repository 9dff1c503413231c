#include "crypto/crypto_int.h"

#include "base/check.h"

/*
 * One AES-256 block with the processor's own instructions: 14 rounds of about 4 cycles. OpenSSL's
 * EVP interface costs ten times as much for a single block, and a pseudonym is a single block.
 */

#if defined(__x86_64__)

#include <emmintrin.h>
#include <wmmintrin.h>

#define TARGET_AES __attribute__((target("aes,sse2")))

bool aesni_present(void) {
    return __builtin_cpu_supports("aes") != 0;
}

TARGET_AES static inline __m128i load(const uint8_t *p) {
    return _mm_loadu_si128((const __m128i *)(const void *)p);
}

TARGET_AES static inline void store(uint8_t *p, __m128i value) {
    _mm_storeu_si128((__m128i *)(void *)p, value);
}

/* word i of the result = word i of `previous` xor all words before it, then xor `mix` (FIPS 197,
 * 5.2). */
TARGET_AES static inline __m128i schedule(__m128i previous, __m128i mix) {
    previous = _mm_xor_si128(previous, _mm_slli_si128(previous, 4));
    previous = _mm_xor_si128(previous, _mm_slli_si128(previous, 8));
    return _mm_xor_si128(previous, mix);
}

/* The round constant must be a literal, so the two kinds of steps are macros. */
#define EVEN_STEP(round, constant)                                                                \
    do {                                                                                          \
        even = schedule(even, _mm_shuffle_epi32(_mm_aeskeygenassist_si128(odd, constant), 0xff)); \
        store(ret_keys->encrypt[round], even);                                                    \
    } while (0)
#define ODD_STEP(round)                                                                   \
    do {                                                                                  \
        odd = schedule(odd, _mm_shuffle_epi32(_mm_aeskeygenassist_si128(even, 0), 0xaa)); \
        store(ret_keys->encrypt[round], odd);                                             \
    } while (0)

TARGET_AES void aesni_expand(const uint8_t key[32], struct aesni_keys *ret_keys) {
    __m128i even = load(key);
    __m128i odd = load(key + 16);
    store(ret_keys->encrypt[0], even);
    store(ret_keys->encrypt[1], odd);
    EVEN_STEP(2, 0x01);
    ODD_STEP(3);
    EVEN_STEP(4, 0x02);
    ODD_STEP(5);
    EVEN_STEP(6, 0x04);
    ODD_STEP(7);
    EVEN_STEP(8, 0x08);
    ODD_STEP(9);
    EVEN_STEP(10, 0x10);
    ODD_STEP(11);
    EVEN_STEP(12, 0x20);
    ODD_STEP(13);
    EVEN_STEP(14, 0x40);
    store(ret_keys->decrypt[0], load(ret_keys->encrypt[14]));
    for (int i = 1; i < AES_ROUND_KEYS - 1; i++) {
        store(ret_keys->decrypt[i], _mm_aesimc_si128(load(ret_keys->encrypt[14 - i])));
    }
    store(ret_keys->decrypt[14], load(ret_keys->encrypt[0]));
}

TARGET_AES void aesni_encrypt(const struct aesni_keys *keys, const uint8_t in[AES_BLOCK],
                              uint8_t out[AES_BLOCK]) {
    __m128i state = _mm_xor_si128(load(in), load(keys->encrypt[0]));
    for (int i = 1; i < AES_ROUND_KEYS - 1; i++) {
        state = _mm_aesenc_si128(state, load(keys->encrypt[i]));
    }
    store(out, _mm_aesenclast_si128(state, load(keys->encrypt[14])));
}

TARGET_AES void aesni_decrypt(const struct aesni_keys *keys, const uint8_t in[AES_BLOCK],
                              uint8_t out[AES_BLOCK]) {
    __m128i state = _mm_xor_si128(load(in), load(keys->decrypt[0]));
    for (int i = 1; i < AES_ROUND_KEYS - 1; i++) {
        state = _mm_aesdec_si128(state, load(keys->decrypt[i]));
    }
    store(out, _mm_aesdeclast_si128(state, load(keys->decrypt[14])));
}

#else

bool aesni_present(void) {
    return false;
}

void aesni_expand(const uint8_t key[32], struct aesni_keys *ret_keys) {
    (void)key;
    (void)ret_keys;
    unreachable_because("this processor has no AES instructions");
}

void aesni_encrypt(const struct aesni_keys *keys, const uint8_t in[AES_BLOCK],
                   uint8_t out[AES_BLOCK]) {
    (void)keys;
    (void)in;
    (void)out;
    unreachable_because("this processor has no AES instructions");
}

void aesni_decrypt(const struct aesni_keys *keys, const uint8_t in[AES_BLOCK],
                   uint8_t out[AES_BLOCK]) {
    (void)keys;
    (void)in;
    (void)out;
    unreachable_because("this processor has no AES instructions");
}

#endif
