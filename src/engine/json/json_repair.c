/*
 * Repairs that real SDK traffic needs before it can be valid JSON: mixpanel-browser's base64 path
 * writes characters outside the BMP as two three-byte surrogates (CESU-8), and truncation at 255
 * UTF-16 units can cut such a pair in half.
 */
#include "engine/json/json.h"

static bool is_surrogate_at(const uint8_t *p, size_t n, uint8_t second_low, uint8_t second_high) {
    return n >= 3 && p[0] == 0xED && p[1] >= second_low && p[1] <= second_high &&
           (p[2] & 0xC0) == 0x80;
}

/*
 * Two surrogates of three bytes at `in` as one character of four at `out` (which may overlap
 * before).
 */
static void join_pair(uint8_t *out, const uint8_t *in) {
    uint32_t high = ((in[1] & 0x0FU) << 6) | (in[2] & 0x3FU);
    uint32_t low = ((in[4] & 0x0FU) << 6) | (in[5] & 0x3FU);
    uint32_t c = 0x10000U + (high << 10) + low;
    out[0] = (uint8_t)(0xF0 | (c >> 18));
    out[1] = (uint8_t)(0x80 | ((c >> 12) & 0x3F));
    out[2] = (uint8_t)(0x80 | ((c >> 6) & 0x3F));
    out[3] = (uint8_t)(0x80 | (c & 0x3F));
}

size_t json_repair_cesu8(uint8_t *text, size_t n) {
    static const uint8_t replacement[] = {0xEF, 0xBF, 0xBD};
    size_t in = 0;
    size_t out = 0;
    while (in < n) {
        const uint8_t *found = memchr(text + in, 0xED, n - in);
        size_t plain = found != NULL ? (size_t)(found - text) - in : n - in;
        if (in != out) {
            memmove(text + out, text + in, plain);
        }
        in += plain;
        out += plain;
        if (in == n) {
            break;
        }
        if (is_surrogate_at(text + in, n - in, 0xA0, 0xAF) &&
            is_surrogate_at(text + in + 3, n - in - 3, 0xB0, 0xBF)) {
            join_pair(text + out, text + in);
            in += 6;
            out += 4;
        } else if (is_surrogate_at(text + in, n - in, 0xA0, 0xBF)) {
            memcpy(text + out, replacement, 3);
            in += 3;
            out += 3;
        } else {
            text[out++] = text[in++];
        }
    }
    return out;
}

/* The unit of a \uXXXX escape at p when it is a surrogate, else 0. */
static uint32_t escaped_surrogate(const uint8_t *p, size_t n) {
    if (n < 6 || p[0] != '\\' || p[1] != 'u' || (p[2] | 0x20) != 'd') {
        return 0;
    }
    uint32_t unit = 0;
    for (int i = 2; i < 6; i++) {
        uint8_t c = p[i];
        uint32_t digit;
        if (c >= '0' && c <= '9') {
            digit = (uint32_t)(c - '0');
        } else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f') {
            digit = (uint32_t)((c | 0x20) - 'a' + 10);
        } else {
            return 0;
        }
        unit = (unit << 4) | digit;
    }
    return unit >= 0xD800U ? unit : 0;
}

void json_repair_escapes(uint8_t *text, size_t n) {
    size_t i = 0;
    while (i < n) {
        const uint8_t *found = memchr(text + i, '\\', n - i);
        if (found == NULL) {
            return;
        }
        i = (size_t)(found - text);
        uint32_t unit = escaped_surrogate(text + i, n - i);
        if (unit == 0) {
            i += 2;
        } else if (unit < 0xDC00U && n - i > 6 &&
                   escaped_surrogate(text + i + 6, n - i - 6) >= 0xDC00U) {
            i += 12;
        } else {
            memcpy(text + i + 2, "fffd", 4);
            i += 6;
        }
    }
}
