/*
 * Base64, both alphabets.
 *
 * Decoding first looks whether all bytes are good and then decodes without a branch: two passes are
 * faster than one that may stop anywhere, and a refused input is left as it was even in place.
 */
#include "base/check.h"
#include "crypto/crypto.h"

/* Low six bits: the value. 0x40 marks the standard alphabet's own bytes, 0x80 the URL alphabet's,
 * both together a byte of neither; so all bytes or-ed tell a stranger from a mixture from a good
 * text. */
enum { STANDARD = 0x40, URL = 0x80, BAD = 0xc0 };

#define BAD4  BAD, BAD, BAD, BAD
#define BAD16 BAD4, BAD4, BAD4, BAD4
#define BAD64 BAD16, BAD16, BAD16, BAD16

/* clang-format off */
static const uint8_t values[256] = {
    BAD16, BAD16,
    BAD4, BAD4, BAD, BAD, BAD, STANDARD | 62, BAD, URL | 62, BAD, STANDARD | 63,
    52, 53, 54, 55, 56, 57, 58, 59, 60, 61, BAD, BAD, BAD4,
    BAD, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14,
    15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, BAD4, URL | 63,
    BAD, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40,
    41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, BAD4, BAD,
    BAD64, BAD64,
};
/* clang-format on */

static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

int base64_encode(struct span in, uint8_t *out, size_t cap, size_t *ret_n) {
    size_t whole = in.n / 3;
    size_t left = in.n % 3;
    size_t n = (whole + (left != 0 ? 1 : 0)) * 4;
    if (n > cap) {
        return BH_E_FULL;
    }
    const uint8_t *p = in.p;
    uint8_t *o = out;
    for (size_t i = 0; i < whole; i++, p += 3, o += 4) {
        uint32_t bits = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2];
        o[0] = (uint8_t)letters[bits >> 18];
        o[1] = (uint8_t)letters[bits >> 12 & 63];
        o[2] = (uint8_t)letters[bits >> 6 & 63];
        o[3] = (uint8_t)letters[bits & 63];
    }
    if (left != 0) {
        uint32_t bits = (uint32_t)p[0] << 16 | (left == 2 ? (uint32_t)p[1] << 8 : 0);
        o[0] = (uint8_t)letters[bits >> 18];
        o[1] = (uint8_t)letters[bits >> 12 & 63];
        o[2] = left == 2 ? (uint8_t)letters[bits >> 6 & 63] : (uint8_t)'=';
        o[3] = '=';
    }
    *ret_n = n;
    return 0;
}

/* Without padding; false when there is too much of it or it stands at the wrong place. */
static bool strip_padding(struct span *in) {
    size_t padding = 0;
    while (padding < 2 && in->n > padding && in->p[in->n - 1 - padding] == '=') {
        padding++;
    }
    if (padding != 0 && in->n % 4 != 0) {
        return false;
    }
    in->n -= padding;
    return in->n % 4 != 1;
}

int base64_decode(struct span in, uint8_t *out, size_t cap, size_t *ret_n) {
    if (!strip_padding(&in)) {
        return BH_E_SYNTAX;
    }
    unsigned all = 0;
    for (size_t i = 0; i < in.n; i++) {
        all |= values[in.p[i]];
    }
    if ((all & BAD) == BAD) {
        return BH_E_SYNTAX;
    }
    size_t whole = in.n / 4;
    size_t left = in.n % 4;
    size_t n = whole * 3 + (left != 0 ? left - 1 : 0);
    if (n > cap) {
        return BH_E_FULL;
    }
    const uint8_t *p = in.p;
    uint8_t *o = out;
    for (size_t i = 0; i < whole; i++, p += 4, o += 3) {
        uint32_t bits = (uint32_t)(values[p[0]] & 63) << 18 | (uint32_t)(values[p[1]] & 63) << 12 |
                        (uint32_t)(values[p[2]] & 63) << 6 | (uint32_t)(values[p[3]] & 63);
        o[0] = (uint8_t)(bits >> 16);
        o[1] = (uint8_t)(bits >> 8);
        o[2] = (uint8_t)bits;
    }
    if (left != 0) {
        uint32_t bits = (uint32_t)(values[p[0]] & 63) << 18 | (uint32_t)(values[p[1]] & 63) << 12;
        bits |= left == 3 ? (uint32_t)(values[p[2]] & 63) << 6 : 0;
        o[0] = (uint8_t)(bits >> 16);
        if (left == 3) {
            o[1] = (uint8_t)(bits >> 8);
        }
    }
    check(n <= in.n);
    *ret_n = n;
    return 0;
}
