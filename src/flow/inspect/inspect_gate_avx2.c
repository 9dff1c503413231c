/*
 * The gate in AVX2: 64 bytes at a time as bit masks, in windows that overlap by 16, so that a run of up to 16 lies whole in one of them.
 * Gives what gate_scalar gives, for every input.
 */
#include "flow/inspect/inspect_gate.h"

#include <immintrin.h>

enum { WINDOW = 64, STRIDE = 48 };

/* Classes of a byte, found as table[low nibble] & table[high nibble]. */
enum {
    C_AT = 1,      /* 0x40 */
    C_QUOTED = 2,  /* 0x25 0x26 0x5c */
    C_EQUALS = 4,  /* 0x3d */
    C_COLON = 8,   /* 0x3a */
    C_DOT = 16,    /* 0x2e */
    C_SLASH = 32,  /* 0x2b + 0x2f / */
    C_DASH = 64,   /* 0x2d - 0x5f _ */
};

struct masks {
    uint64_t digit;
    uint64_t alnum;
    uint64_t at;
    uint64_t quoted;
    uint64_t equals;
    uint64_t colon;
    uint64_t dot;
    uint64_t slash;
    uint64_t dash;
    bool any_special;
};

static inline uint64_t bits_of(__m256i low, __m256i high, int shift) {
    uint32_t a = (uint32_t)_mm256_movemask_epi8(_mm256_slli_epi16(low, shift));
    uint32_t b = (uint32_t)_mm256_movemask_epi8(_mm256_slli_epi16(high, shift));
    return (uint64_t)b << 32 | a;
}

static inline __m256i in_range(__m256i v, char first, char count) {
    __m256i x = _mm256_sub_epi8(v, _mm256_set1_epi8(first));
    return _mm256_cmpeq_epi8(_mm256_min_epu8(x, _mm256_set1_epi8((char)(count - 1))), x);
}

static inline uint64_t both(__m256i low, __m256i high) {
    return (uint64_t)(uint32_t)_mm256_movemask_epi8(high) << 32 | (uint32_t)_mm256_movemask_epi8(low);
}

static inline __m256i classes(__m256i v) {
    /* Bits of '\\' (0x5c) and '_' (0x5f) share the high nibble 5; 0x55 'U' and 0x56 'V' must not be C_QUOTED, so 5 has bit 128 of its own. */
    const __m256i low = _mm256_setr_epi8(C_AT, 0, 0, 0, 0, C_QUOTED, C_QUOTED, 0, 0, 0, C_COLON, C_SLASH, (char)128, C_EQUALS | C_DASH, C_DOT,
                                         C_SLASH, C_AT, 0, 0, 0, 0, C_QUOTED, C_QUOTED, 0, 0, 0, C_COLON, C_SLASH, (char)128,
                                         C_EQUALS | C_DASH, C_DOT, C_SLASH);
    const __m256i high =
        _mm256_setr_epi8(0, 0, C_QUOTED | C_DOT | C_SLASH | C_DASH, C_EQUALS | C_COLON, C_AT, (char)128, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                         0, C_QUOTED | C_DOT | C_SLASH | C_DASH, C_EQUALS | C_COLON, C_AT, (char)128, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    __m256i nibble = _mm256_and_si256(_mm256_srli_epi16(v, 4), _mm256_set1_epi8(15));
    /* A byte >= 0x80 gives 0 from the first shuffle: its top bit selects zero. */
    return _mm256_and_si256(_mm256_shuffle_epi8(low, v), _mm256_shuffle_epi8(high, nibble));
}

static inline void masks_of(__m256i a, __m256i b, uint64_t valid, struct masks *m) {
    const __m256i lower = _mm256_set1_epi8(0x20);
    __m256i digit_a = in_range(a, '0', 10);
    __m256i digit_b = in_range(b, '0', 10);
    __m256i alpha_a = in_range(_mm256_or_si256(a, lower), 'a', 26);
    __m256i alpha_b = in_range(_mm256_or_si256(b, lower), 'a', 26);
    m->digit = both(digit_a, digit_b) & valid;
    m->alnum = (both(alpha_a, alpha_b) & valid) | m->digit;
    __m256i ca = classes(a);
    __m256i cb = classes(b);
    uint64_t underscore = both(_mm256_cmpeq_epi8(a, _mm256_set1_epi8('_')), _mm256_cmpeq_epi8(b, _mm256_set1_epi8('_')));
    m->dash = (bits_of(ca, cb, 1) | underscore) & valid;
    m->slash = bits_of(ca, cb, 2) & valid;
    m->dot = bits_of(ca, cb, 3) & valid;
    m->colon = bits_of(ca, cb, 4) & valid;
    m->equals = bits_of(ca, cb, 5) & valid;
    m->quoted = (bits_of(ca, cb, 6) | both(ca, cb)) & valid;
    m->at = bits_of(ca, cb, 7) & valid;
}

static inline uint64_t runs_of_8(uint64_t m) {
    m &= m >> 1;
    m &= m >> 2;
    return m & m >> 4;
}

struct tally {
    unsigned features;
    size_t digits;
    size_t dots;
    size_t colons;
};

/*
 * `fresh` marks the bytes that no earlier window has counted. A candidate of base64 that starts in the last 7 bytes of a window is
 * seen in the next one, which begins 16 bytes before this one's end; `previous` is the byte before the window.
 */
static inline void window(struct tally *t, const uint8_t *p, __m256i a, __m256i b, uint64_t valid, uint64_t fresh, bool previous_alnum) {
    struct masks m;
    masks_of(a, b, valid, &m);
    t->digits += (size_t)_mm_popcnt_u64(m.digit & fresh);
    t->dots += (size_t)_mm_popcnt_u64(m.dot & fresh);
    t->colons += (size_t)_mm_popcnt_u64(m.colon & fresh);
    t->features |= (m.at != 0 ? HAS_AT : 0U) | (m.quoted != 0 ? HAS_QUOTED : 0U) | (m.equals != 0 ? HAS_EQUALS : 0U);
    uint64_t run = runs_of_8(m.alnum | m.dash);
    if ((run & run >> 8) != 0) {
        t->features |= HAS_RUN;
    }
    if ((t->features & HAS_BASE64) == 0) {
        uint64_t run64 = runs_of_8(m.alnum | m.dash | m.slash);
        uint64_t before = m.alnum << 1 | (previous_alnum ? 1U : 0U);
        uint64_t starts = run64 & m.alnum & ~before;
        while (starts != 0) {
            if (gate_base64_text(p + __builtin_ctzll(starts))) {
                t->features |= HAS_BASE64;
                break;
            }
            starts &= starts - 1;
        }
    }
}

static inline __m256i load_tail(const uint8_t *p, size_t n, uint8_t *room) {
    memset(room, 0, 32);
    memcpy(room, p, n);
    return _mm256_loadu_si256((const __m256i *)(const void *)room);
}

unsigned gate_avx2(const uint8_t *p, size_t n, const uint8_t *reach) {
    struct tally t = {0, 0, 0, 0};
    size_t at = 0;
    while (n - at > WINDOW) {
        __m256i a = _mm256_loadu_si256((const __m256i *)(const void *)(p + at));
        __m256i b = _mm256_loadu_si256((const __m256i *)(const void *)(p + at + 32));
        window(&t, p + at, a, b, ~(uint64_t)0, ((uint64_t)1 << STRIDE) - 1, at > 0 && (gate_bits[p[at - 1]] & GATE_ALNUM) != 0);
        at += STRIDE;
    }
    size_t left = n - at;
    uint8_t room[32];
    __m256i a;
    __m256i b = _mm256_setzero_si256();
    if ((size_t)(reach - (p + at)) >= WINDOW) {
        a = _mm256_loadu_si256((const __m256i *)(const void *)(p + at));
        b = _mm256_loadu_si256((const __m256i *)(const void *)(p + at + 32));
    } else if (left >= 32) {
        a = _mm256_loadu_si256((const __m256i *)(const void *)(p + at));
        b = load_tail(p + at + 32, left - 32, room);
    } else {
        a = load_tail(p + at, left, room);
    }
    uint64_t valid = left == WINDOW ? ~(uint64_t)0 : _bzhi_u64(~(uint64_t)0, (unsigned)left);
    window(&t, p + at, a, b, valid, valid, at > 0 && (gate_bits[p[at - 1]] & GATE_ALNUM) != 0);
    t.features |= t.digits >= 7 || (t.digits >= 4 && t.dots >= 3) ? HAS_DIGITS : 0U;
    t.features |= t.colons >= 1 ? HAS_COLON : 0U;
    t.features |= t.colons >= 2 ? HAS_COLONS : 0U;
    return t.features;
}
