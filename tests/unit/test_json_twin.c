/*
 * The twins and an independent third opinion over random and mutated documents: both scanners must agree in code,
 * offset and every token, and accept exactly what a slow recursive reader of RFC 8259's grammar accepts.
 * BH_SEED=N repeats a run; BH_ROUNDS=N changes how many documents are tried.
 */
/* depends: json base */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/json/json.h"
#include "engine/json/json_int.h"
#include "unit/random_kit.h"

enum { TEXT_MAX = 2048, TOKENS_MAX = 2048, DEPTH_MAX = 12, ROUNDS = 1200000 };

static unsigned below(unsigned n) {
    return (unsigned)random_below(n);
}

/* ---- the third opinion: one function per rule of the grammar, depth bounded by the generator and DEPTH_MAX ---- */

struct oracle {
    const uint8_t *p;
    const uint8_t *end;
    unsigned depth;
};

static bool eat(struct oracle *o, uint8_t c) {
    if (o->p < o->end && *o->p == c) {
        o->p++;
        return true;
    }
    return false;
}

static void eat_space(struct oracle *o) {
    while (eat(o, ' ') || eat(o, '\t') || eat(o, '\r') || eat(o, '\n')) {
    }
}

static bool eat_range(struct oracle *o, uint8_t low, uint8_t high) {
    if (o->p < o->end && *o->p >= low && *o->p <= high) {
        o->p++;
        return true;
    }
    return false;
}

static bool eat_hex(struct oracle *o) {
    return eat_range(o, '0', '9') || eat_range(o, 'a', 'f') || eat_range(o, 'A', 'F');
}

/* The UTF8-char rule of RFC 3629, section 4. */
static bool eat_char(struct oracle *o) {
    if (eat_range(o, 0x20, 0x7F)) {
        return true;
    }
    if (eat_range(o, 0xC2, 0xDF)) {
        return eat_range(o, 0x80, 0xBF);
    }
    if (eat(o, 0xE0)) {
        return eat_range(o, 0xA0, 0xBF) && eat_range(o, 0x80, 0xBF);
    }
    if (eat(o, 0xED)) {
        return eat_range(o, 0x80, 0x9F) && eat_range(o, 0x80, 0xBF);
    }
    if (eat_range(o, 0xE1, 0xEF)) {
        return eat_range(o, 0x80, 0xBF) && eat_range(o, 0x80, 0xBF);
    }
    if (eat(o, 0xF0)) {
        return eat_range(o, 0x90, 0xBF) && eat_range(o, 0x80, 0xBF) && eat_range(o, 0x80, 0xBF);
    }
    if (eat_range(o, 0xF1, 0xF3)) {
        return eat_range(o, 0x80, 0xBF) && eat_range(o, 0x80, 0xBF) && eat_range(o, 0x80, 0xBF);
    }
    return eat(o, 0xF4) && eat_range(o, 0x80, 0x8F) && eat_range(o, 0x80, 0xBF) &&
           eat_range(o, 0x80, 0xBF);
}

static bool eat_string(struct oracle *o) {
    if (!eat(o, '"')) {
        return false;
    }
    while (!eat(o, '"')) {
        if (eat(o, '\\')) {
            if (eat(o, 'u')) {
                if (!(eat_hex(o) && eat_hex(o) && eat_hex(o) && eat_hex(o))) {
                    return false;
                }
            } else if (o->p == o->end || *o->p == 0 || strchr("\"\\/bfnrt", *o->p++) == NULL) {
                return false;
            }
        } else if (!eat_char(o)) {
            return false;
        }
    }
    return true;
}

static bool eat_digits(struct oracle *o) {
    bool any = false;
    while (eat_range(o, '0', '9')) {
        any = true;
    }
    return any;
}

static bool eat_number(struct oracle *o) {
    (void)eat(o, '-');
    if (!eat(o, '0') && !eat_digits(o)) {
        return false;
    }
    if (eat(o, '.') && !eat_digits(o)) {
        return false;
    }
    if (eat(o, 'e') || eat(o, 'E')) {
        if (!eat(o, '+')) {
            (void)eat(o, '-');
        }
        return eat_digits(o);
    }
    return true;
}

static bool eat_word(struct oracle *o, const char *word) {
    size_t n = strlen(word);
    if ((size_t)(o->end - o->p) < n || memcmp(o->p, word, n) != 0) {
        return false;
    }
    o->p += n;
    return true;
}

static bool eat_value(struct oracle *o);

static bool eat_members(struct oracle *o, uint8_t close, bool keys) {
    o->p++;
    if (++o->depth > DEPTH_MAX) {
        return false;
    }
    eat_space(o);
    if (!eat(o, close)) {
        do {
            eat_space(o);
            if (keys) {
                if (!eat_string(o)) {
                    return false;
                }
                eat_space(o);
                if (!eat(o, ':')) {
                    return false;
                }
                eat_space(o);
            }
            if (!eat_value(o)) {
                return false;
            }
            eat_space(o);
        } while (eat(o, ','));
        if (!eat(o, close)) {
            return false;
        }
    }
    o->depth--;
    return true;
}

static bool eat_value(struct oracle *o) {
    if (o->p == o->end) {
        return false;
    }
    switch (*o->p) {
    case '{':
        return eat_members(o, '}', true);
    case '[':
        return eat_members(o, ']', false);
    case '"':
        return eat_string(o);
    case 't':
        return eat_word(o, "true");
    case 'f':
        return eat_word(o, "false");
    case 'n':
        return eat_word(o, "null");
    default:
        return eat_number(o);
    }
}

static bool oracle_accepts(struct span text) {
    struct oracle o = {text.p, text.p + text.n, 0};
    eat_space(&o);
    if (!eat_value(&o)) {
        return false;
    }
    eat_space(&o);
    return o.p == o.end;
}

/* ---- documents ---- */

static void put_space(struct buf *b) {
    static const char spaces[] = "   \n\t\r";
    if (below(4) == 0) {
        for (unsigned n = below(below(20) == 0 ? 70 : 3); n > 0; n--) {
            buf_put_byte(b, (uint8_t)spaces[below(6)]);
        }
    }
}

static void put_string(struct buf *b) {
    static const char *const pieces[] = {
        "a",
        "key",
        "\\n",
        "\\\"",
        "\\\\",
        "\\u00e9",
        "\\ud83d\\ude00",
        "\\ud83d",
        "\xc3\xa9",
        "\xe2\x82\xac",
        "\xf0\x9f\x98\x80",
        "$email",
        " ",
        "/",
        "0123456789abcdef",
        "https://example.com/path?x=y&z=1",
        "a string that is longer than a vector register of sixty-four bytes is in any processor",
        "\xd0\xbf\xd1\x80\xd0\xb8\xd0\xb2\xd0\xb5\xd1\x82",
        "\xe4\xbd\xa0\xe5\xa5\xbd",
        "{",
        "]",
        ",",
        ":",
    };
    buf_put_byte(b, '"');
    for (unsigned n = below(5); n > 0; n--) {
        buf_put_str(b, pieces[below(sizeof pieces / sizeof pieces[0])]);
    }
    buf_put_byte(b, '"');
}

static void put_scalar(struct buf *b) {
    static const char *const scalars[] = {"0",    "-0",      "1",    "-1",   "12345678901234567890",
                                          "0.5",  "1.25e-7", "1E+9", "true", "false",
                                          "null", "3.14159"};
    if (below(2) == 0) {
        put_string(b);
    } else {
        buf_put_str(b, scalars[below(sizeof scalars / sizeof scalars[0])]);
    }
}

static void put_value(struct buf *b, unsigned depth) {
    unsigned kind = depth == 0 ? 0 : below(4);
    if (kind < 2) {
        put_scalar(b);
        return;
    }
    buf_put_byte(b, kind == 2 ? '{' : '[');
    put_space(b);
    unsigned count = below(6);
    for (unsigned i = 0; i < count; i++) {
        if (i > 0) {
            buf_put_byte(b, ',');
            put_space(b);
        }
        if (kind == 2) {
            put_string(b);
            put_space(b);
            buf_put_byte(b, ':');
            put_space(b);
        }
        put_value(b, depth - 1);
        put_space(b);
    }
    buf_put_byte(b, kind == 2 ? '}' : ']');
}

static size_t mutate(uint8_t *text, size_t n) {
    static const uint8_t telling[] = {'"',  '\\', '{',  '}',  '[',  ']',  ',',  ':',  ' ',  '0',
                                      '.',  'e',  '-',  't',  'n',  'u',  0,    0x1F, 0x20, 0x7F,
                                      0x80, 0xBF, 0xC0, 0xC2, 0xE0, 0xED, 0xEF, 0xF0, 0xF4, 0xFF};
    for (unsigned left = 1 + below(3); left > 0 && n > 1; left--) {
        size_t at = below((unsigned)n);
        switch (below(4)) {
        case 0:
            text[at] = telling[below(sizeof telling)];
            break;
        case 1:
            memmove(text + at, text + at + 1, n - at - 1);
            n--;
            break;
        case 2:
            if (n < TEXT_MAX) {
                memmove(text + at + 1, text + at, n - at);
                text[at] = telling[below(sizeof telling)];
                n++;
            }
            break;
        default:
            n = at;
            break;
        }
    }
    return n;
}

static void fail_with(struct span text, const char *what) {
    fprintf(stderr, "%s:", what);
    for (size_t i = 0; i < text.n; i++) {
        fprintf(stderr, " %02x", text.p[i]);
    }
    fputc('\n', stderr);
    fail();
}

static void check_tree(struct span text, const struct json_token *t, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (t[i].next <= i || t[i].next > count || t[i].start + (size_t)t[i].len > text.n ||
            (t[i].kind == JSON_KEY &&
             (t[i].next != t[i + 1].next || t[i].depth != t[i + 1].depth)) ||
            t[i].depth > DEPTH_MAX) {
            fail_with(text, "broken tree");
        }
    }
}

static bool compare(struct span text, size_t cap) {
    static struct json_token a[TOKENS_MAX];
    static struct json_token b[TOKENS_MAX];
    size_t count[2] = {0, 0};
    size_t offset[2] = {0, 0};
    /* An exact block, so that ASan sees a read past the end. */
    uint8_t *copy = malloc(text.n > 0 ? text.n : 1);
    assert_non_null(copy);
    memcpy(copy, text.p, text.n);
    struct span exact = span_of(copy, text.n);
    int rc = json_parse(exact, DEPTH_MAX, a, cap, &count[0], &offset[0]);
    int twin = json_parse_scalar(exact, DEPTH_MAX, b, cap, &count[1], &offset[1]);
    if (rc != twin || count[0] != count[1] || offset[0] != offset[1] || offset[0] > text.n ||
        memcmp(a, b, count[0] * sizeof a[0]) != 0) {
        fail_with(text, "twins differ");
    }
    if (cap == TOKENS_MAX && (rc == 0) != oracle_accepts(exact)) {
        fail_with(text, rc == 0 ? "accepted, but is not JSON" : "refused, but is JSON");
    }
    if (rc == 0) {
        check_tree(exact, a, count[0]);
    }
    free(copy);
    return rc == 0;
}

static void test_documents(void **state) {
    (void)state;
    const char *rounds_text = getenv("BH_ROUNDS");
    unsigned long rounds = rounds_text != NULL ? strtoul(rounds_text, NULL, 0) : ROUNDS;
    uint8_t original[TEXT_MAX + 1];
    uint8_t mutated[TEXT_MAX + 1];
    unsigned long accepted = 0;
    unsigned long tried = 0;
    while (tried < rounds) {
        struct buf b = buf_of(original, TEXT_MAX);
        put_space(&b);
        put_value(&b, below(5));
        put_space(&b);
        accepted += compare(buf_span(&b), TOKENS_MAX);
        (void)compare(buf_span(&b), below(20));
        tried += 2;
        for (int i = 0; i < 8; i++, tried++) {
            memcpy(mutated, original, b.n);
            accepted += compare(span_of(mutated, mutate(mutated, b.n)), TOKENS_MAX);
        }
    }
    printf("%lu documents, %lu accepted\n", tried, accepted);
    assert_true(accepted > tried / 20 && accepted < tried * 19 / 20);
}

/* UTF-8 alone: the twins over bytes that are mostly valid, at all alignments and lengths. */
static void test_utf8(void **state) {
    (void)state;
    static const char *const pieces[] = {"a",
                                         "abcdefghijklmnopqrstuvwxyz012345",
                                         "\xc3\xa9",
                                         "\xdf\xbf",
                                         "\xe0\xa0\x80",
                                         "\xed\x9f\xbf",
                                         "\xef\xbf\xbf",
                                         "\xf0\x90\x80\x80",
                                         "\xf4\x8f\xbf\xbf",
                                         "\xe4\xbd\xa0\xe5\xa5\xbd",
                                         "\xd0\xbf\xd1\x80\xd0\xb8",
                                         "\xf0\x9f\x98\x80"};
    static const uint8_t bad[] = {0x80, 0xBF, 0xC0, 0xC1, 0xC2, 0xE0, 0xED, 0xEF, 0xF0,
                                  0xF4, 0xF5, 0xFF, 0x9F, 0xA0, 0x8F, 0x90, 'x'};
    unsigned valid = 0;
    for (unsigned round = 0; round < 400000; round++) {
        uint8_t memory[400];
        struct buf b = buf_of(memory, sizeof memory);
        for (unsigned n = below(14); n > 0; n--) {
            buf_put_str(&b, pieces[below(sizeof pieces / sizeof pieces[0])]);
        }
        for (unsigned n = below(3); n > 0 && b.n > 0; n--) {
            memory[below((unsigned)b.n)] = bad[below(sizeof bad)];
        }
        size_t length = below(8) == 0 && b.n > 0 ? below((unsigned)b.n) : b.n;
        uint8_t *copy = malloc(length > 0 ? length : 1);
        assert_non_null(copy);
        memcpy(copy, memory, length);
        size_t scalar = utf8_first_bad_scalar(copy, length);
        if (__builtin_cpu_supports("avx2") && utf8_first_bad_avx2(copy, length) != scalar) {
            fail_with(span_of(copy, length), "UTF-8 twins differ");
        }
        struct oracle o = {copy, copy + length, 0};
        bool good = true;
        while (good && o.p < o.end) {
            good = eat_range(&o, 0, 0x1F) || eat_char(&o);
        }
        if (good != (scalar == length) || utf8_valid(span_of(copy, length)) != good) {
            fail_with(span_of(copy, length), "UTF-8 differs from RFC 3629");
        }
        valid += good;
        free(copy);
    }
    assert_true(valid > 10000);
}

int main(void) {
    random_start(20261124);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_documents),
                                       cmocka_unit_test(test_utf8)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
