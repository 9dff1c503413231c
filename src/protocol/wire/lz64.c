#include "protocol/wire/lz64.h"

#include "base/check.h"

enum {
    CODE_UNIT8 = 0,  /* eight bits of a new unit follow */
    CODE_UNIT16 = 1, /* sixteen */
    CODE_END = 2,
    CODES_FIRST = 3, /* words count from here */
    LETTER_BITS = 6,
    BAD = 64,
};

/* A letter's value with its bits turned round, so that codes are read from the low end. */
static uint8_t value_of(uint8_t letter) {
    unsigned v = 0;
    if (letter >= 'A' && letter <= 'Z') {
        v = (unsigned)letter - 'A';
    } else if (letter >= 'a' && letter <= 'z') {
        v = (unsigned)letter - 'a' + 26;
    } else if (letter >= '0' && letter <= '9') {
        v = (unsigned)letter - '0' + 52;
    } else if (letter == '+' || letter == '/') {
        v = letter == '+' ? 62 : 63;
    } else {
        return BAD; /* = as well: only behind the end */
    }
    return (uint8_t)((v & 1) << 5 | (v & 2) << 3 | (v & 4) << 1 | (v & 8) >> 1 | (v & 16) >> 3 |
                     (v & 32) >> 5);
}

struct bits {
    struct span in;
    uint32_t held;
    unsigned count;
    bool is_bad;
};

static uint32_t take(struct bits *bits, unsigned count) {
    while (bits->count < count) {
        uint8_t value = bits->in.n > 0 ? value_of(bits->in.p[0]) : BAD;
        if (value == BAD) {
            bits->is_bad = true;
            return CODE_END;
        }
        bits->held |= (uint32_t)value << bits->count;
        bits->count += LETTER_BITS;
        bits->in = span_from(bits->in, 1);
    }
    uint32_t code = bits->held & ((1U << count) - 1);
    bits->held >>= count;
    bits->count -= count;
    return code;
}

static void put_unit(struct buf *out, uint32_t unit) {
    if (unit < 0x80) {
        buf_put_byte(out, (uint8_t)unit);
    } else if (unit < 0x800) {
        buf_put_byte(out, (uint8_t)(0xC0 | unit >> 6));
        buf_put_byte(out, (uint8_t)(0x80 | (unit & 63)));
    } else {
        buf_put_byte(out, (uint8_t)(0xE0 | unit >> 12));
        buf_put_byte(out, (uint8_t)(0x80 | (unit >> 6 & 63)));
        buf_put_byte(out, (uint8_t)(0x80 | (unit & 63)));
    }
}

static uint32_t unit_size(uint8_t lead) {
    return lead < 0x80 ? 1 : lead < 0xE0 ? 2 : 3;
}

struct words {
    struct lz64 *lz64;
    uint32_t count; /* the next word's code; the reserved ones count */
    uint32_t until_wider;
    unsigned width;
};

/* 0, or TOO_BIG. */
static int add_word(struct words *w, size_t at, size_t n) {
    if (w->count == LZ64_WORDS) {
        return BH_E_TOO_BIG;
    }
    w->lz64->_words[w->count].at = (uint32_t)at;
    w->lz64->_words[w->count++].n = (uint32_t)n;
    if (--w->until_wider == 0) {
        w->until_wider = 1U << w->width;
        w->width++;
    }
    return 0;
}

/* Writes what a code stands for: a unit, which is a word from then on, or a word. `before` is where the last one stands. */
static int put_code(struct words *w, struct bits *bits, uint32_t code, size_t before,
                    struct buf *out) {
    size_t at = out->n;
    if (code == CODE_UNIT8 || code == CODE_UNIT16) {
        put_unit(out, take(bits, code == CODE_UNIT8 ? 8 : 16));
        return out->full || bits->is_bad ? BH_E_TOO_BIG : add_word(w, at, out->n - at);
    }
    if (code < w->count) {
        buf_put(out, out->p + w->lz64->_words[code].at, w->lz64->_words[code].n);
        return 0;
    }
    /* The word that is just being made: the last one and its own first unit. */
    if (code > w->count) {
        return BH_E_SYNTAX;
    }
    check(before < at);
    buf_put(out, out->p + before, at - before);
    buf_put(out, out->p + before, unit_size(out->p[before]));
    return 0;
}

bool lz64_is_likely(struct span text) {
    /* { and [ as the first unit, another unit of eight bits behind it. */
    return text.n > 2 && text.p[0] == 'N' && (text.p[1] == '4' || text.p[1] == 'o');
}

int lz64_decode(struct lz64 *lz64, struct span in, struct buf *out) {
    struct bits bits = {.in = in};
    struct words w = {.lz64 = lz64, .count = CODES_FIRST, .until_wider = 5, .width = 3};
    size_t before = out->n;
    uint32_t code = take(&bits, 2);
    check(out->cap <= UINT32_MAX);
    if (code >= CODE_END) {
        return BH_E_SYNTAX; /* nothing at all, or a word before the first unit */
    }
    int rc = put_code(&w, &bits, code, before, out);
    while (rc == 0 && (code = take(&bits, w.width)) != CODE_END) {
        size_t at = out->n;
        rc = put_code(&w, &bits, code, before, out);
        if (rc == 0 && out->full) {
            rc = BH_E_TOO_BIG;
        }
        if (rc == 0) {
            /* The last word and the first unit of this one stand side by side. */
            rc = add_word(&w, before, at - before + unit_size(out->p[at]));
            before = at;
        }
    }
    return bits.is_bad ? BH_E_SYNTAX : rc;
}
