/* Strings: escapes decoded and written, and members found by key. */
#include "base/check.h"
#include "engine/json/json_int.h"

enum { REPLACEMENT = 0xFFFD };

static uint32_t hex_value(uint8_t c) {
    return c <= '9' ? (uint32_t)(c - '0') : (uint32_t)((c | 0x20) - 'a' + 10);
}

/* The code unit of "uXXXX" at p; the parser has seen that the digits are there. */
static uint32_t escaped_unit(const uint8_t *p) {
    return (hex_value(p[1]) << 12) | (hex_value(p[2]) << 8) | (hex_value(p[3]) << 4) |
           hex_value(p[4]);
}

static bool is_high_surrogate(uint32_t unit) {
    return (unit & 0xFC00U) == 0xD800U;
}

static bool is_low_surrogate(uint32_t unit) {
    return (unit & 0xFC00U) == 0xDC00U;
}

static uint32_t next_escaped(struct span *raw) {
    static const char letters[] = "\"\\/bfnrt";
    static const char meanings[] = "\"\\/\b\f\n\r\t";
    if (raw->n < 2) {
        *raw = SPAN_NONE;
        return REPLACEMENT;
    }
    if (raw->p[1] != 'u') {
        const char *letter = memchr(letters, raw->p[1], sizeof letters - 1);
        *raw = span_from(*raw, 2);
        return letter != NULL ? (uint32_t)meanings[letter - letters] : REPLACEMENT;
    }
    if (raw->n < 6) {
        *raw = SPAN_NONE;
        return REPLACEMENT;
    }
    uint32_t unit = escaped_unit(raw->p + 1);
    *raw = span_from(*raw, 6);
    if (is_low_surrogate(unit)) {
        return REPLACEMENT;
    }
    if (!is_high_surrogate(unit)) {
        return unit;
    }
    if (raw->n < 6 || raw->p[0] != '\\' || raw->p[1] != 'u') {
        return REPLACEMENT;
    }
    uint32_t low = escaped_unit(raw->p + 1);
    if (!is_low_surrogate(low)) {
        return REPLACEMENT;
    }
    *raw = span_from(*raw, 6);
    return 0x10000U + ((unit & 0x3FFU) << 10) + (low & 0x3FFU);
}

uint32_t json_next_char(struct span *raw) {
    if (raw->n == 0) {
        return JSON_CHAR_NONE;
    }
    uint8_t c = raw->p[0];
    if (c == '\\') {
        return next_escaped(raw);
    }
    unsigned length = c < 0x80 ? 1 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
    if (length > raw->n) {
        *raw = SPAN_NONE;
        return REPLACEMENT;
    }
    uint32_t character = length == 1 ? c : c & (0xFFU >> (length + 1));
    for (unsigned i = 1; i < length; i++) {
        character = (character << 6) | (raw->p[i] & 0x3FU);
    }
    *raw = span_from(*raw, length);
    return character;
}

void json_unescape(struct span raw, struct buf *b) {
    while (raw.n > 0) {
        size_t plain = span_find_byte(raw, '\\');
        if (plain == SIZE_MAX) {
            buf_put_span(b, raw);
            return;
        }
        buf_put(b, raw.p, plain);
        raw = span_from(raw, plain);
        uint8_t bytes[4];
        buf_put(b, bytes, utf8_put(json_next_char(&raw), bytes));
    }
}

struct span json_text(struct span text, const struct json_token *token, struct buf *b) {
    struct span raw = json_span(text, token);
    if ((token->flags & JSON_ESCAPED) == 0) {
        return raw;
    }
    size_t before = b->n;
    json_unescape(raw, b);
    return b->full ? SPAN_NONE : (struct span){b->p + before, b->n - before};
}

void json_put_char(struct buf *b, uint32_t character) {
    static const char escapes[0x20] = {
        ['\b'] = 'b', ['\t'] = 't', ['\n'] = 'n', ['\f'] = 'f', ['\r'] = 'r',
    };
    if (character == '"' || character == '\\') {
        buf_put_byte(b, '\\');
        buf_put_byte(b, (uint8_t)character);
    } else if (character >= 0x20) {
        uint8_t bytes[4];
        buf_put(b, bytes, utf8_put(character, bytes));
    } else if (escapes[character] != '\0') {
        buf_put_byte(b, '\\');
        buf_put_byte(b, (uint8_t)escapes[character]);
    } else {
        uint8_t byte = (uint8_t)character;
        buf_put_str(b, "\\u00");
        buf_put_hex(b, &byte, 1);
    }
}

void json_put_string(struct buf *b, struct span s) {
    buf_put_byte(b, '"');
    size_t plain = 0;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] < 0x20 || s.p[i] == '"' || s.p[i] == '\\') {
            buf_put(b, s.p + plain, i - plain);
            json_put_char(b, s.p[i]);
            plain = i + 1;
        }
    }
    buf_put_span(b, span_from(s, plain));
    buf_put_byte(b, '"');
}

static bool key_is(struct span text, const struct json_token *token, struct span key) {
    struct span raw = json_span(text, token);
    if ((token->flags & JSON_ESCAPED) == 0) {
        return span_equal(raw, key);
    }
    while (raw.n > 0) {
        uint8_t bytes[4];
        unsigned n = utf8_put(json_next_char(&raw), bytes);
        if (!span_starts(key, span_of(bytes, n))) {
            return false;
        }
        key = span_from(key, n);
    }
    return key.n == 0;
}

uint32_t json_get(struct span text, const struct json_token *tokens, uint32_t object,
                  struct span key) {
    if (tokens[object].kind != JSON_OBJECT) {
        return 0;
    }
    uint32_t found = 0;
    for (uint32_t i = object + 1; i < tokens[object].next; i = tokens[i].next) {
        check_slow(tokens[i].kind == JSON_KEY);
        if (key_is(text, &tokens[i], key)) {
            found = i + 1;
        }
    }
    return found;
}
