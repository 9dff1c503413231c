/*
 * The gate in AVX2: bytes as bit masks, 32 at once for a short string, else 64 in windows that
 * overlap by 16, so that a run of up to 16 lies whole in one of them. Gives what gate_scalar gives,
 * for every input.
 */
#include "flow/inspect/inspect_gate.h"

#include <immintrin.h>

enum { WINDOW = 64, STRIDE = 48 };

/* Classes of a byte, found as table[low nibble] & table[high nibble]. */
enum {
    C_AT = 1,          /* 40 @ */
    C_QUOTED = 2,      /* 25 % 26 & */
    C_PAIR = 4,        /* 3d = 3a : */
    C_SEMICOLON = 8,   /* 3b ; */
    C_DOT = 16,        /* 2e . */
    C_SIGN = 32,       /* 2b + 2d - 2f / */
    C_UNDERSCORE = 64, /* 5f _ */
    C_BACKSLASH = 128, /* 5c \ */
};

static BH_ALWAYS_INLINE __m256i classes(__m256i v) {
    const __m256i low = _mm256_setr_epi8(
        C_AT, 0, 0, 0, 0, C_QUOTED, C_QUOTED, 0, 0, 0, C_PAIR, C_SIGN | C_SEMICOLON,
        (char)C_BACKSLASH, C_PAIR | C_SIGN, C_DOT, C_SIGN | C_UNDERSCORE, C_AT, 0, 0, 0, 0,
        C_QUOTED, C_QUOTED, 0, 0, 0, C_PAIR, C_SIGN | C_SEMICOLON, (char)C_BACKSLASH,
        C_PAIR | C_SIGN, C_DOT, C_SIGN | C_UNDERSCORE);
    const __m256i high =
        _mm256_setr_epi8(0, 0, C_QUOTED | C_DOT | C_SIGN, C_PAIR | C_SEMICOLON, C_AT,
                         (char)(C_UNDERSCORE | C_BACKSLASH), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                         C_QUOTED | C_DOT | C_SIGN, C_PAIR | C_SEMICOLON, C_AT,
                         (char)(C_UNDERSCORE | C_BACKSLASH), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    __m256i nibble = _mm256_and_si256(_mm256_srli_epi16(v, 4), _mm256_set1_epi8(15));
    /* A byte >= 0x80 gives 0 from the first shuffle: its top bit selects zero. */
    return _mm256_and_si256(_mm256_shuffle_epi8(low, v), _mm256_shuffle_epi8(high, nibble));
}

static BH_ALWAYS_INLINE __m256i in_range(__m256i v, char first, char count) {
    __m256i x = _mm256_sub_epi8(v, _mm256_set1_epi8(first));
    return _mm256_cmpeq_epi8(_mm256_min_epu8(x, _mm256_set1_epi8((char)(count - 1))), x);
}

/* One or two vectors of text, and which of their bytes belong to it. */
struct block {
    __m256i a;
    __m256i b;
    uint64_t valid;
    bool wide; /* known when compiled: the second vector then costs nothing */
};

static BH_ALWAYS_INLINE uint64_t mask_of(const struct block *k, __m256i a, __m256i b) {
    uint64_t low = (uint32_t)_mm256_movemask_epi8(a);
    uint64_t high = k->wide ? (uint64_t)(uint32_t)_mm256_movemask_epi8(b) << 32 : 0;
    return (low | high) & k->valid;
}

static BH_ALWAYS_INLINE uint64_t equal_to(const struct block *k, char c) {
    __m256i v = _mm256_set1_epi8(c);
    return mask_of(k, _mm256_cmpeq_epi8(k->a, v), _mm256_cmpeq_epi8(k->b, v));
}

/* Bytes whose class has one of `bits`. */
static BH_ALWAYS_INLINE uint64_t having(const struct block *k, __m256i ca, __m256i cb, int bits) {
    const __m256i wanted = _mm256_set1_epi8((char)bits);
    const __m256i zero = _mm256_setzero_si256();
    return ~mask_of(k, _mm256_cmpeq_epi8(_mm256_and_si256(ca, wanted), zero),
                    _mm256_cmpeq_epi8(_mm256_and_si256(cb, wanted), zero)) &
           k->valid;
}

static BH_ALWAYS_INLINE uint64_t runs_of_8(uint64_t m) {
    m &= m >> 1;
    m &= m >> 2;
    return m & m >> 4;
}

struct tally {
    unsigned features;
    size_t digits;
    size_t dots;
    size_t colons;
    bool ampersand;
    bool semicolon;
};

static BH_ALWAYS_INLINE void tally_special(struct tally *t, const struct block *k, uint64_t fresh) {
    t->features |= equal_to(k, '@') != 0 ? HAS_AT : 0U;
    t->features |= (equal_to(k, '%') | equal_to(k, '\\')) != 0 ? HAS_QUOTED : 0U;
    t->features |= equal_to(k, '=') != 0 ? HAS_EQUALS : 0U;
    t->colons += (size_t)_mm_popcnt_u64(equal_to(k, ':') & fresh);
    t->ampersand |= equal_to(k, '&') != 0;
    t->semicolon |= equal_to(k, ';') != 0;
}

static BH_ALWAYS_INLINE void tally_runs(struct tally *t, const uint8_t *p, uint64_t alnum,
                                        uint64_t base64, bool previous_alnum) {
    uint64_t run = runs_of_8(base64);
    if (run == 0) {
        return;
    }
    t->features |= (run & run >> 8) != 0 ? HAS_RUN : 0U;
    uint64_t before = alnum << 1 | (previous_alnum ? 1U : 0U);
    for (uint64_t starts = run & alnum & ~before; starts != 0 && (t->features & HAS_BASE64) == 0;
         starts &= starts - 1) {
        t->features |= gate_base64_text(p + __builtin_ctzll(starts)) ? HAS_BASE64 : 0U;
    }
}

/*
 * `fresh` marks the bytes that no earlier window has counted. A run that starts near the end of a
 * window is seen whole in the next one.
 */
struct kinds {
    uint64_t digit;
    uint64_t alnum;
};

static BH_ALWAYS_INLINE struct kinds tally_block(struct tally *t, const uint8_t *p,
                                                 const struct block *k, uint64_t fresh,
                                                 bool previous_alnum) {
    const __m256i lower = _mm256_set1_epi8(0x20);
    uint64_t digit = mask_of(k, in_range(k->a, '0', 10), in_range(k->b, '0', 10));
    uint64_t alnum = digit | mask_of(k, in_range(_mm256_or_si256(k->a, lower), 'a', 26),
                                     in_range(_mm256_or_si256(k->b, lower), 'a', 26));
    __m256i ca = classes(k->a);
    __m256i cb = k->wide ? classes(k->b) : _mm256_setzero_si256();
    uint64_t base64 = alnum | having(k, ca, cb, C_SIGN | C_UNDERSCORE);
    t->digits += (size_t)_mm_popcnt_u64(digit & fresh);
    t->dots += (size_t)_mm_popcnt_u64(having(k, ca, cb, C_DOT) & fresh);
    if (having(k, ca, cb, C_AT | C_QUOTED | C_PAIR | C_SEMICOLON | C_BACKSLASH) != 0) {
        tally_special(t, k, fresh);
    }
    /* The upper bit of each byte. */
    t->features |= mask_of(k, k->a, k->b) != 0 ? HAS_QUOTED : 0U;
    tally_runs(t, p, alnum, base64, previous_alnum);
    return (struct kinds){digit, alnum};
}

static BH_ALWAYS_INLINE unsigned tally_features(const struct tally *t) {
    unsigned features = t->features;
    features |= t->ampersand && t->semicolon ? HAS_QUOTED : 0U;
    features |= t->digits >= 7 || (t->digits >= 4 && t->dots >= 3) ? HAS_DIGITS : 0U;
    features |= t->colons >= 1 ? HAS_COLON : 0U;
    features |= t->colons >= 2 ? HAS_COLONS : 0U;
    return features;
}

static BH_ALWAYS_INLINE __m256i load(const uint8_t *p) {
    return _mm256_loadu_si256((const __m256i *)(const void *)p);
}

/* n <= 32 bytes, without touching what lies behind `reach`. */
static BH_ALWAYS_INLINE __m256i load_part(const uint8_t *p, size_t n, const uint8_t *reach) {
    if ((size_t)(reach - p) >= 32) {
        return load(p);
    }
    uint8_t room[32] = {0};
    memcpy(room, p, n);
    return load(room);
}

static unsigned gate_long(const uint8_t *p, size_t n, const uint8_t *reach) {
    struct tally t = {0, 0, 0, 0, false, false};
    size_t at = 0;
    bool previous_alnum = false;
    while (n - at > WINDOW) {
        struct block k = {load(p + at), load(p + at + 32), ~(uint64_t)0, true};
        (void)tally_block(&t, p + at, &k, ((uint64_t)1 << STRIDE) - 1, previous_alnum);
        at += STRIDE;
        previous_alnum = (gate_bits[p[at - 1]] & GATE_ALNUM) != 0;
    }
    size_t left = n - at;
    struct block k = {_mm256_setzero_si256(), _mm256_setzero_si256(), 0, true};
    k.valid = left == WINDOW ? ~(uint64_t)0 : _bzhi_u64(~(uint64_t)0, (unsigned)left);
    k.a = load_part(p + at, left < 32 ? left : 32, reach);
    if (left > 32) {
        k.b = load_part(p + at + 32, left - 32, reach);
    }
    (void)tally_block(&t, p + at, &k, k.valid, previous_alnum);
    return tally_features(&t);
}

static BH_ALWAYS_INLINE uint32_t dashes(__m256i v) {
    return (uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(v, _mm256_set1_epi8('-')));
}

static BH_ALWAYS_INLINE uint32_t hex_digits(__m256i v) {
    __m256i letter = in_range(_mm256_or_si256(v, _mm256_set1_epi8(0x20)), 'a', 6);
    return (uint32_t)_mm256_movemask_epi8(_mm256_or_si256(in_range(v, '0', 10), letter));
}

/* gate_uuid_ends, its 36 bytes as two vectors that overlap by 28. */
static BH_ALWAYS_INLINE bool uuid_ends(const uint8_t *p, size_t n) {
    enum { FIRST = 1 << 8 | 1 << 13 | 1 << 18 | 1 << 23, SECOND = FIRST >> 4 };
    if (n < 36 || p[n - 13] != '-' || (n > 36 && (gate_bits[p[n - 37]] & GATE_ALNUM) != 0)) {
        return false;
    }
    __m256i a = load(p + n - 36);
    __m256i b = load(p + n - 32);
    return dashes(a) == FIRST && dashes(b) == SECOND && hex_digits(a) == ~(uint32_t)FIRST &&
           hex_digits(b) == ~(uint32_t)SECOND;
}

/* What a short string of letters and digits alone needs beside seven digits. */
static BH_ALWAYS_INLINE bool digits_alone(const uint8_t *p, size_t n, uint64_t digit) {
    uint64_t run = runs_of_8(digit);
    return (run & run >> 4) != 0 || gate_iban_begins(p, n);
}

static BH_ALWAYS_INLINE unsigned gate_short(const uint8_t *p, size_t n, const uint8_t *reach) {
    struct tally t = {0, 0, 0, 0, false, false};
    struct block k = {load_part(p, n, reach), _mm256_setzero_si256(),
                      _bzhi_u64(~(uint64_t)0, (unsigned)n), false};
    struct kinds kinds = tally_block(&t, p, &k, k.valid, false);
    unsigned features = tally_features(&t);
    if ((features & HAS_DIGITS) != 0 && kinds.alnum == k.valid &&
        !digits_alone(p, n, kinds.digit)) {
        features &= ~(unsigned)HAS_DIGITS;
    }
    return features;
}

unsigned gate_avx2(const uint8_t *p, size_t n, const uint8_t *reach) {
    unsigned uuid = 0;
    if (BH_UNLIKELY(uuid_ends(p, n))) {
        uuid = HAS_RUN;
        n -= 36;
    }
    if (n <= GATE_TINY) {
        return uuid;
    }
    return uuid | (n <= GATE_SHORT ? gate_short(p, n, reach) : gate_long(p, n, reach));
}
