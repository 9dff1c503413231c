/*
 * One unit at a time: either a plain byte or one encoded character. Decoding and mapping walk the
 * same units.
 */
#include "flow/inspect/inspect_unquote.h"

#include "base/check.h"

struct unit {
    uint8_t bytes[4];
    uint8_t n;        /* decoded length */
    uint8_t consumed; /* source length, never smaller than n */
};

/* Value + 1 of a hex digit, 0 for what is none. */
static const uint8_t hex_plus_one[256] = {
    ['0'] = 1,  ['1'] = 2,  ['2'] = 3,  ['3'] = 4,  ['4'] = 5,  ['5'] = 6,  ['6'] = 7,  ['7'] = 8,
    ['8'] = 9,  ['9'] = 10, ['a'] = 11, ['b'] = 12, ['c'] = 13, ['d'] = 14, ['e'] = 15, ['f'] = 16,
    ['A'] = 11, ['B'] = 12, ['C'] = 13, ['D'] = 14, ['E'] = 15, ['F'] = 16,
};

static int hex_digit(uint8_t c) {
    return hex_plus_one[c] - 1;
}

/* `count` hex digits at p, or -1. */
static long hex_value(const uint8_t *p, size_t n, size_t count) {
    if (n < count) {
        return -1;
    }
    long v = 0;
    for (size_t i = 0; i < count; i++) {
        int digit = hex_digit(p[i]);
        if (digit < 0) {
            return -1;
        }
        v = v * 16 + digit;
    }
    return v;
}

static void put_code_point(struct unit *u, long code) {
    if (code < 0x80) {
        u->bytes[0] = (uint8_t)code;
        u->n = 1;
    } else if (code < 0x800) {
        u->bytes[0] = (uint8_t)(0xc0 | code >> 6);
        u->bytes[1] = (uint8_t)(0x80 | (code & 63));
        u->n = 2;
    } else if (code < 0x10000) {
        u->bytes[0] = (uint8_t)(0xe0 | code >> 12);
        u->bytes[1] = (uint8_t)(0x80 | (code >> 6 & 63));
        u->bytes[2] = (uint8_t)(0x80 | (code & 63));
        u->n = 3;
    } else {
        u->bytes[0] = (uint8_t)(0xf0 | code >> 18);
        u->bytes[1] = (uint8_t)(0x80 | (code >> 12 & 63));
        u->bytes[2] = (uint8_t)(0x80 | (code >> 6 & 63));
        u->bytes[3] = (uint8_t)(0x80 | (code & 63));
        u->n = 4;
    }
}

/*
 * Four hex digits after an introducer of two bytes; a pair of surrogates becomes one character, a
 * lone one is left alone.
 */
static bool unit_unicode(const uint8_t *p, size_t n, struct unit *u) {
    long code = hex_value(p + 2, n - 2, 4);
    if (code < 0 || (code >= 0xdc00 && code < 0xe000)) {
        return false;
    }
    u->consumed = 6;
    if (code >= 0xd800 && code < 0xdc00) {
        if (n < 12 || p[6] != p[0] || p[7] != p[1]) {
            return false;
        }
        long second = hex_value(p + 8, 4, 4);
        if (second < 0xdc00 || second >= 0xe000) {
            return false;
        }
        code = 0x10000 + ((code - 0xd800) << 10) + (second - 0xdc00);
        u->consumed = 12;
    }
    put_code_point(u, code);
    return true;
}

static bool unit_percent(const uint8_t *p, size_t n, struct unit *u) {
    if (n >= 6 && (p[1] == 'u' || p[1] == 'U')) {
        return unit_unicode(p, n, u);
    }
    long byte = hex_value(p + 1, n - 1, 2);
    if (byte < 0) {
        return false;
    }
    *u = (struct unit){{(uint8_t)byte}, 1, 3};
    return true;
}

static bool unit_backslash(const uint8_t *p, size_t n, struct unit *u) {
    static const char plain[] = "\"\"''//\\\\n\nr\rt\tb\bf\f";
    if (n < 2) {
        return false;
    }
    if (p[1] == 'u') {
        return unit_unicode(p, n, u);
    }
    if (p[1] == 'x') {
        long byte = hex_value(p + 2, n - 2, 2);
        if (byte >= 0) {
            *u = (struct unit){{(uint8_t)byte}, 1, 4};
        }
        return byte >= 0;
    }
    for (size_t i = 0; i + 1 < sizeof plain; i += 2) {
        if (p[1] == (uint8_t)plain[i]) {
            *u = (struct unit){{(uint8_t)plain[i + 1]}, 1, 2};
            return true;
        }
    }
    return false;
}

/* Names of the characters that shapes are made of. */
static const struct {
    char name[10];
    uint8_t n;
    uint8_t byte;
} names[] = {
#define NAMED(name, byte) \
    { name, sizeof(name) - 1, (byte) }
    NAMED("&amp;", '&'),   NAMED("&lt;", '<'),     NAMED("&gt;", '>'),     NAMED("&quot;", '"'),
    NAMED("&apos;", '\''), NAMED("&commat;", '@'), NAMED("&period;", '.'), NAMED("&colon;", ':'),
    NAMED("&nbsp;", ' '),  NAMED("&equals;", '='), NAMED("&sol;", '/'),    NAMED("&plus;", '+'),
    NAMED("&num;", '#'),   NAMED("&percnt;", '%'), NAMED("&lowbar;", '_'),
#undef NAMED
};

static bool unit_named(const uint8_t *p, size_t n, struct unit *u) {
    /* The semicolon first: in "?a=1&plan=pro" there is none. */
    size_t end = 3;
    while (end < n && end < 8 && p[end] != ';') {
        end++;
    }
    if (end >= n || p[end] != ';') {
        return false;
    }
    for (size_t i = 0; i < BH_COUNT(names); i++) {
        if (names[i].n == end + 1 && memcmp(p, names[i].name, end + 1) == 0) {
            *u = (struct unit){{names[i].byte}, 1, names[i].n};
            return true;
        }
    }
    return false;
}

static bool unit_reference(const uint8_t *p, size_t n, struct unit *u) {
    if (n < 4) {
        return false;
    }
    if (p[1] != '#') {
        return unit_named(p, n, u);
    }
    bool hex = (p[2] | 0x20) == 'x';
    long code = 0;
    size_t i = hex ? 3 : 2;
    size_t first = i;
    for (; i < n && i < first + 7; i++) {
        int digit = hex_digit(p[i]);
        if (digit < 0 || (!hex && digit > 9)) {
            break;
        }
        code = code * (hex ? 16 : 10) + digit;
    }
    bool good = i > first && i < n && p[i] == ';' && code > 0 && code <= 0x10ffff &&
                (code < 0xd800 || code > 0xdfff);
    if (good) {
        put_code_point(u, code);
        u->consumed = (uint8_t)(i + 1);
    }
    return good && u->consumed >= u->n;
}

/* The ASCII character that a code point stands for, 0 for one that nobody sees, or -1. */
static long plain_of(long code) {
    if (code >= 0xff01 && code <= 0xff5e) {
        return code - 0xff01 + '!'; /* as Japanese and Chinese keyboards write them */
    }
    if ((code >= 0x660 && code <= 0x669) || (code >= 0x6f0 && code <= 0x6f9)) {
        return '0' + (code & 15); /* Arabic and Persian digits */
    }
    switch (code) {
    case 0xfe6b:
        return '@';
    case 0x3002:
    case 0xff61:
        return '.';
    case 0xad:   /* soft hyphen */
    case 0x200b: /* zero width: space, non-joiner, joiner, marks of direction */
    case 0x200c:
    case 0x200d:
    case 0x200e:
    case 0x200f:
    case 0x2060:
    case 0xfeff:
        return 0;
    default:
        return -1;
    }
}

/* A character beyond ASCII that stands for one of it, or for none. The text is valid UTF-8, but may be cut. */
static bool unit_wide(const uint8_t *p, size_t n, struct unit *u) {
    uint8_t size = p[0] < 0xe0 ? 2 : 3;
    if (n < size) {
        return false;
    }
    long code = size == 2 ? (p[0] & 31L) << 6 | (p[1] & 63L)
                          : (p[0] & 15L) << 12 | (p[1] & 63L) << 6 | (p[2] & 63L);
    long plain = plain_of(code);
    if (plain >= 0) {
        *u = (struct unit){{(uint8_t)plain}, plain != 0, size};
    }
    return plain >= 0;
}

/* First bytes of what plain_of knows. */
static bool is_wide(uint8_t c) {
    return c == 0xc2 || c == 0xd9 || c == 0xdb || c == 0xe2 || c == 0xe3 || c == 0xef;
}

/* The unit at p (n >= 1); true when it was encoded. */
static bool unit_at(const uint8_t *p, size_t n, struct unit *u) {
    bool encoded = false;
    if (p[0] == '%') {
        encoded = unit_percent(p, n, u);
    } else if (p[0] == '\\') {
        encoded = unit_backslash(p, n, u);
    } else if (p[0] == '&') {
        encoded = unit_reference(p, n, u);
    } else if (is_wide(p[0])) {
        encoded = unit_wide(p, n, u);
    }
    if (!encoded) {
        *u = (struct unit){{p[0]}, 1, 1};
    }
    return encoded;
}

static bool introduces(uint8_t c) {
    return c == '%' || c == '\\' || c == '&' || is_wide(c);
}

bool unquote_changes(struct span source) {
    for (size_t i = 0; i < source.n; i++) {
        struct unit u;
        if (introduces(source.p[i]) && unit_at(source.p + i, source.n - i, &u)) {
            return true;
        }
    }
    return false;
}

/*
 * Marks for the decoded bytes [n, n + length), which source offset i begins: one unit, or plain
 * bytes, each a unit of its own.
 */
static size_t put_marks(uint32_t *marks, size_t next_mark, size_t n, size_t length, size_t i,
                        bool plain) {
    while (next_mark * UNQUOTE_MARK < n + length) {
        size_t ahead = next_mark * UNQUOTE_MARK - n;
        /* A mark names the unit that holds the byte, and how far into the unit that byte is. */
        marks[next_mark++] = (uint32_t)(plain ? (i + ahead) << 2 : i << 2 | ahead);
    }
    return next_mark;
}

size_t unquote(struct span source, uint8_t *out, uint32_t *marks) {
    size_t n = 0;
    size_t next_mark = 0;
    size_t i = 0;
    while (i < source.n) {
        size_t plain = i;
        while (plain < source.n && !introduces(source.p[plain])) {
            plain++;
        }
        memcpy(out + n, source.p + i, plain - i);
        next_mark = put_marks(marks, next_mark, n, plain - i, i, true);
        n += plain - i;
        i = plain;
        if (i < source.n) {
            struct unit u;
            (void)unit_at(source.p + i, source.n - i, &u); /* encoded or not, it is a unit */
            memcpy(out + n, u.bytes, u.n);
            next_mark = put_marks(marks, next_mark, n, u.n, i, false);
            n += u.n;
            i += u.consumed;
        }
    }
    check(n <= source.n);
    return n;
}

/*
 * Source offset of the unit that holds decoded byte `offset`; *ret_length is the unit's source
 * length.
 */
static size_t unit_of(struct span source, const uint32_t *marks, size_t offset,
                      size_t *ret_length) {
    uint32_t mark = marks[offset / UNQUOTE_MARK];
    size_t at = mark >> 2;
    size_t decoded = offset / UNQUOTE_MARK * UNQUOTE_MARK - (mark & 3);
    for (;;) {
        check(at < source.n);
        struct unit u = {{0}, 1, 1};
        if (introduces(source.p[at])) {
            (void)unit_at(source.p + at, source.n - at,
                          &u); /* encoded or not, only the lengths matter here */
        }
        if (offset < decoded + u.n) {
            *ret_length = u.consumed;
            return at;
        }
        decoded += u.n;
        at += u.consumed;
    }
}

void unquote_map(struct span source, const uint32_t *marks, size_t start, size_t length,
                 size_t *ret_start, size_t *ret_length) {
    check(length > 0);
    size_t last_length;
    size_t first_length;
    size_t first = unit_of(source, marks, start, &first_length);
    size_t last = unit_of(source, marks, start + length - 1, &last_length);
    *ret_start = first;
    *ret_length = last + last_length - first;
}
