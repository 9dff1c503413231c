#include "base/hash.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#include "base/bytes.h"

#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

/* One nibble at a time: 16 entries, no 1 KiB table to initialise, fast enough for the scalar twin. */
static const uint32_t crc_nibble[16] = {
    0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3, 0x61c69362, 0x7198540d,
    0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9, 0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
};

uint32_t crc32c_scalar_more(uint32_t crc, const void *p, size_t n) {
    const uint8_t *b = (const uint8_t *)p;
    crc = ~crc;
    for (size_t i = 0; i < n; i++) {
        crc ^= b[i];
        crc = (crc >> 4) ^ crc_nibble[crc & 15];
        crc = (crc >> 4) ^ crc_nibble[crc & 15];
    }
    return ~crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t crc32c_sse42(uint32_t crc, const uint8_t *b,
                                                               size_t n) {
    uint64_t c = ~crc;
    for (; n >= 8; b += 8, n -= 8) {
        uint64_t word = 0;
        memcpy(&word, b, 8);
        c = _mm_crc32_u64(c, word);
    }
    uint32_t c32 = (uint32_t)c;
    for (; n != 0; b++, n--) {
        c32 = _mm_crc32_u8(c32, *b);
    }
    return ~c32;
}
#endif

uint32_t crc32c_more(uint32_t crc, const void *p, size_t n) {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("sse4.2")) {
        return crc32c_sse42(crc, (const uint8_t *)p, n);
    }
#endif
    return crc32c_scalar_more(crc, p, n);
}

uint32_t crc32c(const void *p, size_t n) {
    return crc32c_more(0, p, n);
}

static inline uint64_t fold(uint64_t a, uint64_t b) {
    __extension__ typedef unsigned __int128 u128;
    u128 product = (u128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

uint64_t hash64(const void *p, size_t n, uint64_t seed) {
    const uint8_t *b = (const uint8_t *)p;
    uint64_t h = seed ^ 0x9e3779b97f4a7c15U ^ (uint64_t)n;
    size_t left = n;
    for (; left >= 16; b += 16, left -= 16) {
        h = fold(get_u64(b) ^ 0xa0761d6478bd642fU ^ h, get_u64(b + 8) ^ 0xe7037ed1a0b428dbU);
    }
    uint8_t tail[16] = {0};
    if (left != 0) {
        memcpy(tail, b, left);
    }
    return fold(get_u64(tail) ^ 0x8ebc6af09c88c6e3U ^ h, get_u64(tail + 8) ^ 0x589965cc75374cc3U);
}
