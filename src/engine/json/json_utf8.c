/*
 * UTF-8 by the table of RFC 3629: the first byte tells the length and the range of the second, all
 * others are continuation bytes.
 */
#include "engine/json/json_int.h"

static bool is_continuation(uint8_t c) {
    return (c & 0xC0) == 0x80;
}

/* Length of the character at p (n >= 1 bytes are there), or 0 when it is not one. */
static unsigned character_length(const uint8_t *p, size_t n) {
    uint8_t c = p[0];
    if (c < 0x80) {
        return 1;
    }
    if (c < 0xC2 || c > 0xF4) {
        return 0;
    }
    if (c < 0xE0) {
        return n >= 2 && is_continuation(p[1]) ? 2 : 0;
    }
    /*
     * Shortest form only, no surrogates, nothing above U+10FFFF: each is a bound on the second
     * byte.
     */
    uint8_t low = c == 0xE0 ? 0xA0 : c == 0xF0 ? 0x90 : 0x80;
    uint8_t high = c == 0xED ? 0x9F : c == 0xF4 ? 0x8F : 0xBF;
    if (n < 2 || p[1] < low || p[1] > high) {
        return 0;
    }
    if (c < 0xF0) {
        return n >= 3 && is_continuation(p[2]) ? 3 : 0;
    }
    return n >= 4 && is_continuation(p[2]) && is_continuation(p[3]) ? 4 : 0;
}

size_t utf8_first_bad_scalar(const uint8_t *p, size_t n) {
    size_t i = 0;
    while (i < n) {
        unsigned length = character_length(p + i, n - i);
        if (length == 0) {
            return i;
        }
        i += length;
    }
    return n;
}

unsigned utf8_put(uint32_t character, uint8_t out[4]) {
    if (character < 0x80) {
        out[0] = (uint8_t)character;
        return 1;
    }
    if (character < 0x800) {
        out[0] = (uint8_t)(0xC0 | (character >> 6));
        out[1] = (uint8_t)(0x80 | (character & 0x3F));
        return 2;
    }
    if (character < 0x10000) {
        out[0] = (uint8_t)(0xE0 | (character >> 12));
        out[1] = (uint8_t)(0x80 | ((character >> 6) & 0x3F));
        out[2] = (uint8_t)(0x80 | (character & 0x3F));
        return 3;
    }
    out[0] = (uint8_t)(0xF0 | (character >> 18));
    out[1] = (uint8_t)(0x80 | ((character >> 12) & 0x3F));
    out[2] = (uint8_t)(0x80 | ((character >> 6) & 0x3F));
    out[3] = (uint8_t)(0x80 | (character & 0x3F));
    return 4;
}
