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

enum feature {
    HAS_AT = 1,       /* '@' */
    HAS_QUOTED = 2,   /* '%' or '\\', or '&' and ';': may hold encoded characters */
    HAS_EQUALS = 4,   /* '=' */
    HAS_COLON = 8,    /* ':' */
    HAS_DIGITS = 16,  /* 7 digits or more, or 4 with 3 dots */
    HAS_BASE64 = 32,  /* a run that decodes to text for its first six bytes */
    HAS_RUN = 64,     /* 16 characters of base64 (either alphabet) in a row: a secret may lie here */
    HAS_COLONS = 128, /* two or more ':' */
};

/* Enum feature bits of a string; of a UUID only HAS_RUN. `reach` is the end of readable memory behind it (>= p + n): the SIMD form may read, never use, bytes up to there. */
typedef unsigned gate_function(const uint8_t *p, size_t n, const uint8_t *reach);

gate_function gate_scalar;
gate_function gate_avx2;
/* The form chosen for this processor. */
extern gate_function *gate_features;
void gate_init(void);
bool gate_has_avx2(void);

/*
 * Whether eight characters at p decode from base64 (either alphabet) to six bytes of text: printable ASCII, or UTF-8 at its start.
 * The gate and the decoder ask the same question, so that they never differ.
 */
bool gate_base64_text(const uint8_t *p);

/* Bits per byte value: the alphabets of the gate. */
enum gate_bit {
    GATE_ALNUM = 1,
    GATE_BASE64 = 2, /* alnum - _ + / */
    GATE_HEX = 4,
};
extern const uint8_t gate_bits[256];
/* Whether 36 bytes are a UUID. */
bool gate_uuid(const uint8_t *p);
/* Value of a base64 character of either alphabet, or 255. */
extern const uint8_t gate_base64[256];

#endif
