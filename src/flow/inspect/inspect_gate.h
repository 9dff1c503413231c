/*
 * The gate: which detectors a string needs at all. One pass over its bytes; most strings need none.
 *
 * Internal to inspect. Any thread (the choice of path is made once, in gate_init).
 */
#ifndef BH_FLOW_INSPECT_GATE_H
#define BH_FLOW_INSPECT_GATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"

enum {
    GATE_TINY = 4,   /* "a@b.co" and "pwd=x" are longer */
    GATE_SHORT = 32, /* one vector */
};

enum feature {
    HAS_AT = 1, /* '@' */
    HAS_QUOTED =
        2, /* '%', '\\', a byte beyond ASCII, or '&' and ';': may hold encoded characters */
    HAS_EQUALS = 4, /* '=' */
    HAS_COLON = 8,  /* ':' */
    HAS_DIGITS =
        16, /* 7 digits or more, or 4 with 3 dots; a short string of letters and digits alone needs 12 in a row, or begins as an IBAN does */
    HAS_BASE64 = 32, /* a run that decodes to text for its first six bytes */
    HAS_RUN = 64,    /* 16 characters of base64 (either alphabet) in a row: a secret may lie here */
    HAS_COLONS = 128, /* two or more ':' */
};

/*
 * Enum feature bits of a string; a UUID at its end, alone or behind a separator, counts as HAS_RUN
 * only; strings of up to 4 bytes have no feature. `reach` is the end of readable memory behind it
 * (>= p + n): the SIMD form may read, never use, bytes up to there.
 */
typedef unsigned gate_function(const uint8_t *p, size_t n, const uint8_t *reach);

gate_function gate_scalar;
gate_function gate_avx2;
/* The form chosen for this processor. */
extern gate_function *gate_features;
void gate_init(void);
bool gate_has_avx2(void);

/* Bits per byte value: the alphabets of the gate. */
enum gate_bit {
    GATE_ALNUM = 1,
    GATE_BASE64 = 2, /* alnum - _ + / */
    GATE_HEX = 4,
};
extern const uint8_t gate_bits[256];
/* Two letters and two digits, as an IBAN begins, and 11 characters more. */
static inline bool gate_iban_begins(const uint8_t *p, size_t n) {
    return n >= 15 && (p[0] | 0x20) >= 'a' && (p[1] | 0x20) >= 'a' && p[2] <= '9' && p[3] <= '9';
}

/* Whether a string ends in a UUID that no letter or digit precedes. */
bool gate_uuid_ends(const uint8_t *p, size_t n);
/* Value of a base64 character of either alphabet, or 255. */
extern const uint8_t gate_base64[256];

/*
 * Whether eight characters at p decode from base64 (either alphabet) to six bytes of text:
 * printable ASCII, or UTF-8 at its start. The gate and the decoder ask the same question, so that
 * they never differ.
 */
bool gate_base64_decodes(const uint8_t *p);

static inline bool gate_base64_text(const uint8_t *p) {
    /*
     * Most words fail here: the first byte must be text, and the second too or continue a UTF-8
     * character.
     */
    unsigned first = gate_base64[p[0]];
    unsigned second = gate_base64[p[1]];
    bool ascii = (first - 8 < 24 || first - 2 < 2) && (second & 8) == 0;
    bool utf8 = first - 48 < 14 && (second & 12) == 8;
    return (ascii || utf8) && gate_base64_decodes(p);
}

#endif
