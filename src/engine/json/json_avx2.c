/*
 * The scanner with 32-byte kernels. Built with AVX2 instructions, so nothing here may run before
 * json.c has asked the processor.
 */
#include <immintrin.h>

#include "base/compiler.h"
#include "engine/json/json_int.h"

enum { WIDTH = 32, BLOCK = 64 };

/*
 * Where strings may end, for the 64 bytes from `block` on: found once, then asked by every string
 * that begins there. A string's end decides where the next begins, so this is the longest chain of
 * dependent instructions: keeping the masks took recorded events from 1.54 to 1.97 GB/s.
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

/*
 * UTF-8 by three table look-ups a byte (Keiser and Lemire, "Validating UTF-8 in less than one
 * instruction per byte", 2020). Each bit is a way in which a byte and the one before it can be
 * wrong together; the tables say, for the high half of the first, its low half and the high half of
 * the second, which ways are still open. What all three leave open is an error. Whether a third or
 * fourth byte is due follows from the bytes two and three before.
 */
enum utf8_fault {
    TOO_SHORT = 1, /* a lead byte, and no continuation after it */
    TOO_LONG = 2,  /* ASCII, and a continuation after it */
    OVERLONG_3 = 4,
    TOO_LARGE = 8,
    SURROGATE = 16,
    OVERLONG_2 = 32,
    TOO_LARGE_1000 = 64, /* F5 and above; shares its bit with the overlong form of four bytes */
    OVERLONG_4 = 64,
    TWO_CONTINUATIONS = 128, /* right only where a third or fourth byte is due */
    ANY_LOW = TOO_SHORT | TOO_LONG | TWO_CONTINUATIONS,
    HIGH_LOW = ANY_LOW | TOO_LARGE | TOO_LARGE_1000,
    SECOND = TOO_LONG | OVERLONG_2 | TWO_CONTINUATIONS,
};

#define BYTES(...) _mm256_broadcastsi128_si256(_mm_setr_epi8(__VA_ARGS__))
#define B(fault)   ((char)(fault))

static inline __m256i first_high_table(void) {
    return BYTES(B(TOO_LONG), B(TOO_LONG), B(TOO_LONG), B(TOO_LONG), B(TOO_LONG), B(TOO_LONG),
                 B(TOO_LONG), B(TOO_LONG), B(TWO_CONTINUATIONS), B(TWO_CONTINUATIONS),
                 B(TWO_CONTINUATIONS), B(TWO_CONTINUATIONS), B(TOO_SHORT | OVERLONG_2),
                 B(TOO_SHORT), B(TOO_SHORT | OVERLONG_3 | SURROGATE),
                 B(TOO_SHORT | TOO_LARGE | TOO_LARGE_1000 | OVERLONG_4));
}

static inline __m256i first_low_table(void) {
    return BYTES(B(ANY_LOW | OVERLONG_3 | OVERLONG_2 | OVERLONG_4), B(ANY_LOW | OVERLONG_2),
                 B(ANY_LOW), B(ANY_LOW), B(ANY_LOW | TOO_LARGE), B(HIGH_LOW), B(HIGH_LOW),
                 B(HIGH_LOW), B(HIGH_LOW), B(HIGH_LOW), B(HIGH_LOW), B(HIGH_LOW), B(HIGH_LOW),
                 B(HIGH_LOW | SURROGATE), B(HIGH_LOW), B(HIGH_LOW));
}

static inline __m256i second_high_table(void) {
    return BYTES(B(TOO_SHORT), B(TOO_SHORT), B(TOO_SHORT), B(TOO_SHORT), B(TOO_SHORT), B(TOO_SHORT),
                 B(TOO_SHORT), B(TOO_SHORT), B(SECOND | OVERLONG_3 | TOO_LARGE_1000 | OVERLONG_4),
                 B(SECOND | OVERLONG_3 | TOO_LARGE), B(SECOND | SURROGATE | TOO_LARGE),
                 B(SECOND | SURROGATE | TOO_LARGE), B(TOO_SHORT), B(TOO_SHORT), B(TOO_SHORT),
                 B(TOO_SHORT));
}

static inline __m256i high_half(__m256i v) {
    return _mm256_and_si256(_mm256_srli_epi16(v, 4), _mm256_set1_epi8(0x0F));
}

/* Non-zero where `v` is wrong, given the 32 bytes before it. */
static inline __m256i faults(__m256i v, __m256i before) {
    __m256i joint = _mm256_permute2x128_si256(before, v, 0x21);
    __m256i one_before = _mm256_alignr_epi8(v, joint, 15);
    __m256i two_before = _mm256_alignr_epi8(v, joint, 14);
    __m256i three_before = _mm256_alignr_epi8(v, joint, 13);
    __m256i low = _mm256_and_si256(one_before, _mm256_set1_epi8(0x0F));
    __m256i open = _mm256_and_si256(_mm256_shuffle_epi8(first_high_table(), high_half(one_before)),
                                    _mm256_shuffle_epi8(first_low_table(), low));
    open = _mm256_and_si256(open, _mm256_shuffle_epi8(second_high_table(), high_half(v)));
    __m256i third = _mm256_subs_epu8(two_before, _mm256_set1_epi8(0xE0 - 0x80));
    __m256i fourth = _mm256_subs_epu8(three_before, _mm256_set1_epi8(0xF0 - 0x80));
    __m256i due = _mm256_and_si256(_mm256_or_si256(third, fourth), _mm256_set1_epi8(B(0x80)));
    return _mm256_xor_si256(due, open);
}

/*
 * The exact offset, from the character that was begun last before i on; all before that is valid.
 */
static size_t first_bad_from(const uint8_t *p, size_t n, size_t i) {
    size_t from = i;
    for (size_t back = 1; back <= 3 && back <= i; back++) {
        if (p[i - back] >= 0xC0) {
            from = i - back;
            break;
        }
    }
    return from + utf8_first_bad_scalar(p + from, n - from);
}

size_t utf8_first_bad_avx2(const uint8_t *p, size_t n) {
    __m256i before = _mm256_setzero_si256();
    size_t i = 0;
    for (; n - i >= WIDTH; i += WIDTH) {
        __m256i v = load(p + i);
        __m256i wrong = faults(v, before);
        if (!_mm256_testz_si256(wrong, wrong)) {
            return first_bad_from(p, n, i);
        }
        before = v;
    }
    /* The zeros behind the end are ASCII, so a character that is cut off there is found, too. */
    uint8_t tail[WIDTH] = {0};
    if (n > i) {
        memcpy(tail, p + i, n - i);
    }
    __m256i wrong = faults(load(tail), before);
    return _mm256_testz_si256(wrong, wrong) ? n : first_bad_from(p, n, i);
}
