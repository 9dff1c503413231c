/*
 * The scanner with 32-byte kernels. Built with AVX2 instructions, so nothing here may run before
 * json.c has asked the processor.
 */
#include <immintrin.h>

#include "base/compiler.h"
#include "engine/json/json_int.h"

enum { WIDTH = 32, BLOCK = 64 };

/*
 * Where strings may end, for the 64 bytes from `block` on: found once, then asked by every string that
 * begins there. A string's end decides where the next begins, so this is the longest chain of dependent
 * instructions: keeping the masks took recorded events from 1.54 to 1.97 GB/s.
 */
struct kernel {
    uintptr_t block; /* address; a number, since before the first block it points nowhere */
    uint64_t stops;  /* quotes, backslashes, control bytes */
    uint64_t highs;  /* bytes >= 0x80 */
    size_t length;   /* 64, or 0 before the first block */
};

static inline __m256i load(const uint8_t *p) {
    return _mm256_loadu_si256((const __m256i *)(const void *)p);
}

static inline uint64_t mask_of(__m256i low, __m256i high) {
    return (uint32_t)_mm256_movemask_epi8(low) | (uint64_t)(uint32_t)_mm256_movemask_epi8(high)
                                                     << WIDTH;
}

static inline __m256i is_stop(__m256i v) {
    const __m256i quote = _mm256_set1_epi8('"');
    const __m256i backslash = _mm256_set1_epi8('\\');
    const __m256i control_max = _mm256_set1_epi8(0x1F);
    __m256i stop = _mm256_or_si256(_mm256_cmpeq_epi8(v, quote), _mm256_cmpeq_epi8(v, backslash));
    return _mm256_or_si256(stop, _mm256_cmpeq_epi8(_mm256_min_epu8(v, control_max), v));
}

static inline void load_block(struct kernel *kernel, const uint8_t *p, const uint8_t *end) {
    uint8_t tail[BLOCK];
    const uint8_t *bytes = p;
    if (BH_UNLIKELY(end - p < BLOCK)) {
        /* The zeros behind the end are control bytes, so a search stops there at the latest. */
        memset(tail, 0, sizeof tail);
        memcpy(tail, p, (size_t)(end - p));
        bytes = tail;
    }
    __m256i low = load(bytes);
    __m256i high = load(bytes + WIDTH);
    kernel->block = (uintptr_t)p;
    kernel->length = BLOCK;
    kernel->stops = mask_of(is_stop(low), is_stop(high));
    kernel->highs = mask_of(low, high);
}

static inline const uint8_t *string_stop(struct kernel *kernel, const uint8_t *p,
                                         const uint8_t *end, uint64_t *non_ascii) {
    while (p < end) {
        size_t at = (uintptr_t)p - kernel->block;
        if (at >= kernel->length) {
            load_block(kernel, p, end);
            at = 0;
        }
        uint64_t stops = kernel->stops >> at;
        uint64_t highs = kernel->highs >> at;
        if (BH_LIKELY(stops != 0)) {
            unsigned before = (unsigned)__builtin_ctzll(stops);
            *non_ascii |= _bzhi_u64(highs, before);
            return p + before;
        }
        *non_ascii |= highs;
        p += BLOCK - at;
    }
    return end;
}

static inline size_t first_bad_utf8(const uint8_t *p, size_t n) {
    return utf8_first_bad_avx2(p, n);
}

#include "engine/json/json_scan_body.h"

int json_parse_avx2(struct span text, unsigned depth_max, struct json_token *tokens,
                    size_t tokens_cap, size_t *ret_count, size_t *ret_offset) {
    return parse(text, depth_max, tokens, tokens_cap, ret_count, ret_offset);
}

size_t utf8_first_bad_avx2(const uint8_t *p, size_t n) {
    size_t i = 0;
    /* Runs of ASCII by 32; the exact table for the rest. */
    while (n - i >= WIDTH && _mm256_movemask_epi8(load(p + i)) == 0) {
        i += WIDTH;
    }
    return i + utf8_first_bad_scalar(p + i, n - i);
}
