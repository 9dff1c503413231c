/*
 * The scanner with 32-byte kernels. Built with AVX2 instructions, so nothing here may run before
 * json.c has asked the processor.
 */
#include <immintrin.h>

#include "engine/json/json_int.h"

enum { WIDTH = 32 };

static inline __m256i load(const uint8_t *p) {
    return _mm256_loadu_si256((const __m256i *)(const void *)p);
}

static inline const uint8_t *string_stop(const uint8_t *p, const uint8_t *end,
                                         uint32_t *non_ascii) {
    const __m256i quote = _mm256_set1_epi8('"');
    const __m256i backslash = _mm256_set1_epi8('\\');
    const __m256i control_max = _mm256_set1_epi8(0x1F);
    while (end - p >= WIDTH) {
        __m256i v = load(p);
        __m256i stop =
            _mm256_or_si256(_mm256_cmpeq_epi8(v, quote), _mm256_cmpeq_epi8(v, backslash));
        stop = _mm256_or_si256(stop, _mm256_cmpeq_epi8(_mm256_min_epu8(v, control_max), v));
        uint32_t stops = (uint32_t)_mm256_movemask_epi8(stop);
        uint32_t high = (uint32_t)_mm256_movemask_epi8(v);
        if (stops != 0) {
            uint32_t before = (uint32_t)__builtin_ctz(stops);
            *non_ascii |= _bzhi_u32(high, before);
            return p + before;
        }
        *non_ascii |= high;
        p += WIDTH;
    }
    while (p < end && *p != '"' && *p != '\\' && *p >= 0x20) {
        *non_ascii |= *p & 0x80U;
        p++;
    }
    return p;
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
