/* The scalar gate and the tables it shares with the SIMD form. */
#include "flow/inspect/inspect_gate.h"

#include "base/check.h"

#define ALNUM (GATE_ALNUM | GATE_BASE64)
#define HEX   (GATE_ALNUM | GATE_BASE64 | GATE_HEX)

const uint8_t gate_bits[256] = {
    ['0'] = HEX,         ['1'] = HEX,         ['2'] = HEX,         ['3'] = HEX,
    ['4'] = HEX,         ['5'] = HEX,         ['6'] = HEX,         ['7'] = HEX,
    ['8'] = HEX,         ['9'] = HEX,         ['a'] = HEX,         ['b'] = HEX,
    ['c'] = HEX,         ['d'] = HEX,         ['e'] = HEX,         ['f'] = HEX,
    ['A'] = HEX,         ['B'] = HEX,         ['C'] = HEX,         ['D'] = HEX,
    ['E'] = HEX,         ['F'] = HEX,         ['g'] = ALNUM,       ['h'] = ALNUM,
    ['i'] = ALNUM,       ['j'] = ALNUM,       ['k'] = ALNUM,       ['l'] = ALNUM,
    ['m'] = ALNUM,       ['n'] = ALNUM,       ['o'] = ALNUM,       ['p'] = ALNUM,
    ['q'] = ALNUM,       ['r'] = ALNUM,       ['s'] = ALNUM,       ['t'] = ALNUM,
    ['u'] = ALNUM,       ['v'] = ALNUM,       ['w'] = ALNUM,       ['x'] = ALNUM,
    ['y'] = ALNUM,       ['z'] = ALNUM,       ['G'] = ALNUM,       ['H'] = ALNUM,
    ['I'] = ALNUM,       ['J'] = ALNUM,       ['K'] = ALNUM,       ['L'] = ALNUM,
    ['M'] = ALNUM,       ['N'] = ALNUM,       ['O'] = ALNUM,       ['P'] = ALNUM,
    ['Q'] = ALNUM,       ['R'] = ALNUM,       ['S'] = ALNUM,       ['T'] = ALNUM,
    ['U'] = ALNUM,       ['V'] = ALNUM,       ['W'] = ALNUM,       ['X'] = ALNUM,
    ['Y'] = ALNUM,       ['Z'] = ALNUM,       ['-'] = GATE_BASE64, ['_'] = GATE_BASE64,
    ['+'] = GATE_BASE64, ['/'] = GATE_BASE64,
};

#define NO 255
const uint8_t gate_base64[256] = {
    NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO,
    NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, 62, NO, 62, NO, 63,
    52, 53, 54, 55, 56, 57, 58, 59, 60, 61, NO, NO, NO, NO, NO, NO, NO, 0,  1,  2,  3,  4,  5,  6,
    7,  8,  9,  10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, NO, NO, NO, NO, 63,
    NO, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48,
    49, 50, 51, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO,
    NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO,
    NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO,
    NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO,
    NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO,
    NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO,
};
#undef NO

gate_function *gate_features = gate_scalar;

bool gate_has_avx2(void) {
    return __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("bmi2") != 0;
}

void gate_init(void) {
    gate_features = gate_has_avx2() ? gate_avx2 : gate_scalar;
}

static bool printable(unsigned byte) {
    return (byte >= 0x20 && byte < 0x7f) || byte == '\t' || byte == '\n' || byte == '\r';
}

/* NOLINTNEXTLINE(readability-function-cognitive-complexity): unrolled */
bool gate_base64_decodes(const uint8_t *p) {
    unsigned left = 0; /* continuation bytes that a UTF-8 character still needs */
    for (unsigned quad = 0; quad < 2; quad++) {
        unsigned v = 0;
        for (unsigned i = 0; i < 4; i++) {
            unsigned six = gate_base64[p[4 * quad + i]];
            if (six > 63) {
                return false;
            }
            v = v << 6 | six;
        }
        for (int shift = 16; shift >= 0; shift -= 8) {
            unsigned byte = v >> shift & 255;
            if (left > 0) {
                if ((byte & 0xc0) != 0x80) {
                    return false;
                }
                left--;
            } else if (byte >= 0xc2 && byte < 0xf5) {
                left = byte < 0xe0 ? 1 : byte < 0xf0 ? 2 : 3;
            } else if (!printable(byte)) {
                return false;
            }
        }
    }
    return true;
}

bool gate_uuid_ends(const uint8_t *p, size_t n) {
    if (n < 36 || (n > 36 && (gate_bits[p[n - 37]] & GATE_ALNUM) != 0)) {
        return false;
    }
    const uint8_t *uuid = p + n - 36;
    for (unsigned i = 0; i < 36; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        if (dash ? uuid[i] != '-' : (gate_bits[uuid[i]] & GATE_HEX) == 0) {
            return false;
        }
    }
    return true;
}

struct counts {
    size_t digits;
    size_t dots;
    size_t colons;
    size_t alnums;
    size_t digit_run_max;
};

/* The counts that no single byte decides. */
static unsigned count_features(const uint8_t *p, size_t n, const struct counts *c) {
    unsigned features = 0;
    bool digits = c->digits >= 7 || (c->digits >= 4 && c->dots >= 3);
    if (n <= GATE_SHORT && c->alnums == n && c->digit_run_max < 12) {
        digits = digits && gate_iban_begins(p, n);
    }
    features |= digits ? HAS_DIGITS : 0U;
    features |= c->colons >= 1 ? HAS_COLON : 0U;
    features |= c->colons >= 2 ? HAS_COLONS : 0U;
    return features;
}

/* NOLINTNEXTLINE(readability-function-cognitive-complexity): one case a byte class */
static unsigned gate_scalar_part(const uint8_t *p, size_t n) {
    unsigned features = 0;
    struct counts counts = {0, 0, 0, 0, 0};
    size_t run = 0;
    size_t digit_run = 0;
    bool ampersand = false;
    bool semicolon = false;
    if (n <= GATE_TINY) {
        return 0;
    }
    for (size_t i = 0; i < n; i++) {
        uint8_t c = p[i];
        bool digit = c >= '0' && c <= '9';
        run = (gate_bits[c] & GATE_BASE64) != 0 ? run + 1 : 0;
        digit_run = digit ? digit_run + 1 : 0;
        counts.digit_run_max = digit_run > counts.digit_run_max ? digit_run : counts.digit_run_max;
        counts.digits += digit;
        counts.alnums += (gate_bits[c] & GATE_ALNUM) != 0;
        counts.dots += c == '.';
        counts.colons += c == ':';
        ampersand |= c == '&';
        semicolon |= c == ';';
        features |= c == '@' ? HAS_AT : 0U;
        features |= c == '%' || c == '\\' || c >= 0x80 ? HAS_QUOTED : 0U;
        features |= c == '=' ? HAS_EQUALS : 0U;
        features |= run >= 16 ? HAS_RUN : 0U;
        if (run >= 8 && (features & HAS_BASE64) == 0) {
            size_t start = i - 7;
            bool begins = (gate_bits[p[start]] & GATE_ALNUM) != 0 &&
                          (start == 0 || (gate_bits[p[start - 1]] & GATE_ALNUM) == 0);
            features |= begins && gate_base64_text(p + start) ? HAS_BASE64 : 0U;
        }
    }
    features |= ampersand && semicolon ? HAS_QUOTED : 0U;
    return features | count_features(p, n, &counts);
}

unsigned gate_scalar(const uint8_t *p, size_t n, const uint8_t *reach) {
    check(p + n <= reach);
    if (gate_uuid_ends(p, n)) {
        return HAS_RUN | gate_scalar_part(p, n - 36);
    }
    return gate_scalar_part(p, n);
}
