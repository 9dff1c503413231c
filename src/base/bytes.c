#include "base/bytes.h"

#include <stdarg.h>
#include <stdio.h>

static uint8_t lower(uint8_t c) {
    return c >= 'A' && c <= 'Z' ? (uint8_t)(c + 32) : c;
}

bool span_equal_nocase(struct span a, struct span b) {
    if (a.n != b.n) {
        return false;
    }
    if (span_equal(a, b)) {
        return true; /* most that are equal at all */
    }
    for (size_t i = 0; i < a.n; i++) {
        if (lower(a.p[i]) != lower(b.p[i])) {
            return false;
        }
    }
    return true;
}

size_t span_find_byte(struct span a, uint8_t byte) {
    const uint8_t *at = a.n != 0 ? memchr(a.p, byte, a.n) : NULL;
    return at != NULL ? (size_t)(at - a.p) : SIZE_MAX;
}

size_t span_find(struct span a, struct span needle) {
    if (needle.n == 0) {
        return 0;
    }
    size_t from = 0;
    while (a.n - from >= needle.n) {
        size_t at = span_find_byte(span_cut(a, from, a.n - from - needle.n + 1), needle.p[0]);
        if (at == SIZE_MAX) {
            return SIZE_MAX;
        }
        from += at;
        if (memcmp(a.p + from, needle.p, needle.n) == 0) {
            return from;
        }
        from++;
    }
    return SIZE_MAX;
}

static bool is_space(uint8_t c) {
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

struct span span_trim(struct span a) {
    while (a.n != 0 && is_space(a.p[0])) {
        a.p++;
        a.n--;
    }
    while (a.n != 0 && is_space(a.p[a.n - 1])) {
        a.n--;
    }
    return a;
}

bool span_to_u64(struct span a, uint64_t *ret_value) {
    if (a.n == 0 || a.n > 20) {
        return false;
    }
    uint64_t value = 0;
    for (size_t i = 0; i < a.n; i++) {
        if (a.p[i] < '0' || a.p[i] > '9') {
            return false;
        }
        uint64_t digit = (uint64_t)(a.p[i] - '0');
        if (value > (UINT64_MAX - digit) / 10) {
            return false;
        }
        value = value * 10 + digit;
    }
    *ret_value = value;
    return true;
}

void buf_put_u64_dec(struct buf *b, uint64_t value) {
    uint8_t digits[20];
    size_t n = 0;
    do {
        digits[sizeof digits - ++n] = (uint8_t)('0' + value % 10);
        value /= 10;
    } while (value != 0);
    buf_put(b, digits + sizeof digits - n, n);
}

void buf_put_i64_dec(struct buf *b, int64_t value) {
    if (value < 0) {
        buf_put_byte(b, '-');
        buf_put_u64_dec(b, (uint64_t)0 - (uint64_t)value);
    } else {
        buf_put_u64_dec(b, (uint64_t)value);
    }
}

void buf_put_hex(struct buf *b, const void *p, size_t n) {
    static const char digits[] = "0123456789abcdef";
    const uint8_t *bytes = (const uint8_t *)p;
    for (size_t i = 0; i < n; i++) {
        buf_put_byte(b, (uint8_t)digits[bytes[i] >> 4]);
        buf_put_byte(b, (uint8_t)digits[bytes[i] & 15]);
    }
}

void buf_printf(struct buf *b, const char *format, ...) {
    if (b->full) {
        return;
    }
    va_list args;
    va_start(args, format);
    int n = vsnprintf((char *)b->p + b->n, b->cap - b->n, format, args);
    va_end(args);
    if (n < 0 || (size_t)n >= b->cap - b->n) {
        b->full = true;
        return;
    }
    b->n += (size_t)n;
}

void buf_put_varint(struct buf *b, uint64_t v) {
    while (v >= 0x80) {
        buf_put_byte(b, (uint8_t)(v | 0x80));
        v >>= 7;
    }
    buf_put_byte(b, (uint8_t)v);
}

uint64_t read_varint(struct reader *r) {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        uint8_t byte = read_u8(r);
        if (r->short_) {
            return 0;
        }
        uint64_t part = byte & 0x7fU;
        if (shift == 63 && part > 1) {
            break;
        }
        value |= part << shift;
        if ((byte & 0x80) == 0) {
            if (part == 0 && shift != 0) {
                break; /* overlong: two spellings of one number would break byte-exact hashes */
            }
            return value;
        }
    }
    r->short_ = true;
    return 0;
}
