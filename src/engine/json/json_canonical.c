/*
 * JSON Canonicalization Scheme, RFC 8785: members sorted by their keys' UTF-16 units, minimal
 * escapes, numbers as ECMAScript's Number::toString writes them.
 *
 * A level remembers only the key that it wrote last and looks for the smallest greater one, so
 * nothing is allocated and of duplicates the last wins, as in json_get. That is quadratic in the
 * members of one object: rule sets and env have few.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "engine/json/json_int.h"

enum { LEVELS_MAX = 64, PRECISION_MAX = 17 };

struct level {
    uint32_t container;
    uint32_t member; /* key (object) or element (array) that was begun last; 0 = none yet */
};

/* Keys as UTF-16 units compare as characters do, but U+E000..FFFF stand after surrogates. */
static uint32_t utf16_rank(uint32_t character) {
    return character >= 0xE000U && character < 0x10000U ? character + 0x110000U : character;
}

static int key_compare(struct span a, struct span b) {
    while (true) {
        uint32_t x = json_next_char(&a);
        uint32_t y = json_next_char(&b);
        if (x == JSON_CHAR_NONE || y == JSON_CHAR_NONE) {
            return (x != JSON_CHAR_NONE) - (y != JSON_CHAR_NONE);
        }
        if (x != y) {
            return utf16_rank(x) < utf16_rank(y) ? -1 : 1;
        }
    }
}

/*
 * The member with the smallest key above `last` (0 = any); of equal keys the last. 0 when there is
 * none.
 */
static uint32_t next_member(struct span text, const struct json_token *tokens, uint32_t object,
                            uint32_t last) {
    uint32_t best = 0;
    for (uint32_t i = object + 1; i < tokens[object].next; i = tokens[i].next) {
        struct span key = json_span(text, &tokens[i]);
        if ((last == 0 || key_compare(key, json_span(text, &tokens[last])) > 0) &&
            (best == 0 || key_compare(key, json_span(text, &tokens[best])) <= 0)) {
            best = i;
        }
    }
    return best;
}

static void put_string(struct buf *out, struct span raw) {
    buf_put_byte(out, '"');
    for (uint32_t c = json_next_char(&raw); c != JSON_CHAR_NONE; c = json_next_char(&raw)) {
        json_put_char(out, c);
    }
    buf_put_byte(out, '"');
}

/* Adds one to the last digit of "d.ddde+xx"; false when that changes the number of digits. */
static bool increment(char *text) {
    char *p = strchr(text, 'e');
    while (p > text) {
        p--;
        if (*p >= '0' && *p < '9') {
            *p = (char)(*p + 1);
            return true;
        }
        if (*p == '9') {
            *p = '0';
        }
    }
    return false;
}

/*
 * The fewest digits that read back as the same double; *ret_exponent so that value = d.ddd *
 * 10^exponent.
 *
 * Correctly rounded digits are the nearest, but below a power of two doubles lie half as far apart,
 * so there the nearest may read back as the neighbour below while the next decimal above does not.
 */
static unsigned shortest_digits(double value, char digits[PRECISION_MAX + 1], int *ret_exponent) {
    char text[40];
    for (int precision = 0; precision < PRECISION_MAX; precision++) {
        (void)snprintf(text, sizeof text, "%.*e", precision, value);
        if (strtod(text, NULL) == value || (increment(text) && strtod(text, NULL) == value)) {
            break;
        }
    }
    unsigned count = 0;
    const char *p = text;
    for (; *p != 'e'; p++) {
        if (*p != '.') {
            check(count < PRECISION_MAX);
            digits[count++] = *p;
        }
    }
    *ret_exponent = (int)strtol(p + 1, NULL, 10);
    return count;
}

static void put_zeros(struct buf *out, int count) {
    for (int i = 0; i < count; i++) {
        buf_put_byte(out, '0');
    }
}

/* ECMA-262 Number::toString(x), radix 10, with k digits and n = exponent + 1. */
static void put_double(struct buf *out, double value) {
    char digits[PRECISION_MAX + 1];
    if (value == 0) {
        buf_put_byte(out, '0');
        return;
    }
    if (value < 0) {
        buf_put_byte(out, '-');
        value = -value;
    }
    int exponent = 0;
    int k = (int)shortest_digits(value, digits, &exponent);
    int n = exponent + 1;
    if (n > 21 || n <= -6) {
        buf_put(out, digits, 1);
        if (k > 1) {
            buf_put_byte(out, '.');
            buf_put(out, digits + 1, (size_t)(k - 1));
        }
        buf_put_str(out, n > 0 ? "e+" : "e-");
        buf_put_i64_dec(out, n > 0 ? n - 1 : 1 - n);
    } else if (n <= 0) {
        buf_put_str(out, "0.");
        put_zeros(out, -n);
        buf_put(out, digits, (size_t)k);
    } else if (k <= n) {
        buf_put(out, digits, (size_t)k);
        put_zeros(out, n - k);
    } else {
        buf_put(out, digits, (size_t)n);
        buf_put_byte(out, '.');
        buf_put(out, digits + n, (size_t)(k - n));
    }
}

/* Writes a scalar, or opens a container as a new level. */
static int put_value(struct span text, const struct json_token *tokens, uint32_t at,
                     struct level *levels, unsigned *depth, struct buf *out) {
    const struct json_token *token = &tokens[at];
    double number = 0;
    switch ((enum json_kind)token->kind) {
    case JSON_NULL:
    case JSON_TRUE:
    case JSON_FALSE:
        buf_put_span(out, json_span(text, token));
        return 0;
    case JSON_NUMBER:
        if (!json_number(json_span(text, token), &number)) {
            return BH_E_SYNTAX;
        }
        put_double(out, number);
        return 0;
    case JSON_STRING:
        put_string(out, json_span(text, token));
        return 0;
    case JSON_OBJECT:
    case JSON_ARRAY:
        if (*depth == LEVELS_MAX) {
            return BH_E_TOO_DEEP;
        }
        levels[(*depth)++] = (struct level){at, 0};
        buf_put_byte(out, token->kind == JSON_OBJECT ? '{' : '[');
        return 0;
    case JSON_KEY:
        break;
    }
    unreachable_because("a key is never a value");
}

/*
 * Begins the innermost level's next member and gives its value's index, or 0 when the level is
 * done.
 */
static uint32_t advance(struct span text, const struct json_token *tokens, struct level *level,
                        struct buf *out) {
    bool object = tokens[level->container].kind == JSON_OBJECT;
    uint32_t last = level->member;
    uint32_t next = 0;
    if (object) {
        next = next_member(text, tokens, level->container, last);
    } else {
        uint32_t candidate = last == 0 ? level->container + 1 : tokens[last].next;
        next = candidate < tokens[level->container].next ? candidate : 0;
    }
    if (next == 0) {
        return 0;
    }
    level->member = next;
    if (last != 0) {
        buf_put_byte(out, ',');
    }
    if (object) {
        put_string(out, json_span(text, &tokens[next]));
        buf_put_byte(out, ':');
        return next + 1;
    }
    return next;
}

int json_canonical(struct span text, const struct json_token *tokens, struct buf *out) {
    struct level levels[LEVELS_MAX];
    unsigned depth = 0;
    int rc = put_value(text, tokens, 0, levels, &depth, out);
    while (rc == 0 && depth > 0 && !out->full) {
        struct level *level = &levels[depth - 1];
        uint32_t value = advance(text, tokens, level, out);
        if (value != 0) {
            rc = put_value(text, tokens, value, levels, &depth, out);
        } else {
            buf_put_byte(out, tokens[level->container].kind == JSON_OBJECT ? '}' : ']');
            depth--;
        }
    }
    if (rc == 0 && out->full) {
        rc = BH_E_FULL;
    }
    return rc;
}
