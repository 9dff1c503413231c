/*
 * Bytes: a borrowed span, a bounded writer, little-endian integers, hex.
 *
 * `struct span` is a loan: it is valid for as long as the memory it points into (an arena, a buffer, a
 * literal). `struct buf` writes into memory that the caller owns, never past `cap`; an overflow is
 * sticky (`full`) and is tested once, at the end. No function here allocates.
 * Any thread (no shared state).
 */
#ifndef BH_BASE_BYTES_H
#define BH_BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/compiler.h"

struct span {
    const uint8_t *p;
    size_t n;
};

#define SPAN_LIT(literal) ((struct span){(const uint8_t *)("" literal), sizeof(literal) - 1})
#define SPAN_NONE         ((struct span){NULL, 0})

static inline struct span span_of(const void *p, size_t n) {
    return (struct span){(const uint8_t *)p, n};
}

static inline struct span span_str(const char *text) {
    return (struct span){(const uint8_t *)text, strlen(text)};
}

static inline bool span_equal(struct span a, struct span b) {
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

static inline bool span_is(struct span a, const char *text) {
    return span_equal(a, span_str(text));
}

static inline bool span_starts(struct span a, struct span prefix) {
    return a.n >= prefix.n && (prefix.n == 0 || memcmp(a.p, prefix.p, prefix.n) == 0);
}

/* The part of `a` from `from` on; empty when `from` is past the end. */
static inline struct span span_from(struct span a, size_t from) {
    return from >= a.n ? SPAN_NONE : (struct span){a.p + from, a.n - from};
}

static inline struct span span_cut(struct span a, size_t from, size_t n) {
    struct span rest = span_from(a, from);
    return (struct span){rest.p, n < rest.n ? n : rest.n};
}

/* ASCII case folded comparison, for header names and scheme words. */
bool span_equal_nocase(struct span a, struct span b);
/* Index of the first `byte` in `a`, or SIZE_MAX. */
size_t span_find_byte(struct span a, uint8_t byte);
/* Index of the first `needle` in `a`, or SIZE_MAX. */
size_t span_find(struct span a, struct span needle);
/* Value of a hexadecimal digit, -1 for what is none. */
static inline int hex_digit_value(uint8_t c) {
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* A set of ASCII bytes. */
struct ascii_set {
    uint64_t bits[4]; /* the last two words are zero */
};

/* Bits of bytes below 64, and of those above. ASCII_WORDS: with all letters and digits. */
#define ASCII_BIT(c)  (UINT64_C(1) << ((c)&63))
#define ASCII_DIGITS  UINT64_C(0x03ff000000000000)
#define ASCII_LETTERS UINT64_C(0x07fffffe07fffffe)
#define ASCII_WORDS(low, high)                                 \
    {                                                          \
        { ASCII_DIGITS | (low), ASCII_LETTERS | (high), 0, 0 } \
    }

static BH_ALWAYS_INLINE bool ascii_in(const struct ascii_set *set, uint8_t c) {
    return (set->bits[c >> 6] >> (c & 63) & 1) != 0;
}

/* Without leading and trailing spaces, tabs, CR and LF. */
struct span span_trim(struct span a);
/* Whole of `a` as an unsigned decimal without sign or spaces; false when it is none or does not fit. */
bool span_to_u64(struct span a, uint64_t *ret_value) BH_MUST_USE;

struct buf {
    uint8_t *p;
    size_t n;
    size_t cap;
    bool full; /* sticky: something did not fit and was left out */
};

static inline struct buf buf_of(void *memory, size_t cap) {
    return (struct buf){(uint8_t *)memory, 0, cap, false};
}

static inline struct span buf_span(const struct buf *b) {
    return (struct span){b->p, b->n};
}

/* Room for n bytes, or NULL and `full`; the caller fills them. */
static inline uint8_t *buf_room(struct buf *b, size_t n) {
    if (BH_UNLIKELY(b->full || n > b->cap - b->n)) {
        b->full = true;
        return NULL;
    }
    uint8_t *at = b->p + b->n;
    b->n += n;
    return at;
}

static inline void buf_put(struct buf *b, const void *p, size_t n) {
    uint8_t *at = buf_room(b, n);
    if (at != NULL && n != 0) {
        memcpy(at, p, n);
    }
}

static inline void buf_put_span(struct buf *b, struct span s) {
    buf_put(b, s.p, s.n);
}

static inline void buf_put_str(struct buf *b, const char *text) {
    buf_put(b, text, strlen(text));
}

static inline void buf_put_byte(struct buf *b, uint8_t byte) {
    uint8_t *at = buf_room(b, 1);
    if (at != NULL) {
        *at = byte;
    }
}

void buf_put_u64_dec(struct buf *b, uint64_t value);
void buf_put_i64_dec(struct buf *b, int64_t value);
void buf_put_hex(struct buf *b, const void *p, size_t n);
/* printf into the rest; for texts of people and programs, not for the event path. */
void buf_printf(struct buf *b, const char *format, ...) BH_PRINTF(2, 3);

/* Reads from a span with a sticky error, the mirror of buf. */
struct reader {
    const uint8_t *p;
    size_t n;
    bool short_; /* sticky: something was read past the end; what came back was zero */
};

static inline struct reader reader_of(struct span s) {
    return (struct reader){s.p, s.n, false};
}

static inline struct span reader_take(struct reader *r, size_t n) {
    if (BH_UNLIKELY(r->short_ || n > r->n)) {
        r->short_ = true;
        return SPAN_NONE;
    }
    struct span s = {r->p, n};
    r->p += n;
    r->n -= n;
    return s;
}

/* Little-endian, explicit, alignment-free. */
static inline uint16_t get_u16(const void *p) {
    const uint8_t *b = (const uint8_t *)p;
    return (uint16_t)(b[0] | (uint16_t)(b[1] << 8));
}

static inline uint32_t get_u32(const void *p) {
    const uint8_t *b = (const uint8_t *)p;
    return (uint32_t)b[0] | ((uint32_t)b[1] << 8) | ((uint32_t)b[2] << 16) | ((uint32_t)b[3] << 24);
}

static inline uint64_t get_u64(const void *p) {
    return (uint64_t)get_u32(p) | ((uint64_t)get_u32((const uint8_t *)p + 4) << 32);
}

static inline void put_u16(void *p, uint16_t v) {
    uint8_t *b = (uint8_t *)p;
    b[0] = (uint8_t)v;
    b[1] = (uint8_t)(v >> 8);
}

static inline void put_u32(void *p, uint32_t v) {
    uint8_t *b = (uint8_t *)p;
    b[0] = (uint8_t)v;
    b[1] = (uint8_t)(v >> 8);
    b[2] = (uint8_t)(v >> 16);
    b[3] = (uint8_t)(v >> 24);
}

static inline void put_u64(void *p, uint64_t v) {
    put_u32(p, (uint32_t)v);
    put_u32((uint8_t *)p + 4, (uint32_t)(v >> 32));
}

static inline void buf_put_u16(struct buf *b, uint16_t v) {
    uint8_t *at = buf_room(b, 2);
    if (at != NULL) {
        put_u16(at, v);
    }
}

static inline void buf_put_u32(struct buf *b, uint32_t v) {
    uint8_t *at = buf_room(b, 4);
    if (at != NULL) {
        put_u32(at, v);
    }
}

static inline void buf_put_u64(struct buf *b, uint64_t v) {
    uint8_t *at = buf_room(b, 8);
    if (at != NULL) {
        put_u64(at, v);
    }
}

static inline uint8_t read_u8(struct reader *r) {
    struct span s = reader_take(r, 1);
    return s.p != NULL ? s.p[0] : 0;
}

static inline uint16_t read_u16(struct reader *r) {
    struct span s = reader_take(r, 2);
    return s.p != NULL ? get_u16(s.p) : 0;
}

static inline uint32_t read_u32(struct reader *r) {
    struct span s = reader_take(r, 4);
    return s.p != NULL ? get_u32(s.p) : 0;
}

static inline uint64_t read_u64(struct reader *r) {
    struct span s = reader_take(r, 8);
    return s.p != NULL ? get_u64(s.p) : 0;
}

/* LEB128, at most 10 bytes, shortest form only; a longer or overlong one is `short_`. */
void buf_put_varint(struct buf *b, uint64_t v);
uint64_t read_varint(struct reader *r);

#endif
