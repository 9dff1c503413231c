/*
 * The JSON engine: what RFC 8259 accepts and refuses with its exact offset, token trees, strings, numbers,
 * repairs and canonical form. The random comparison of the twins is in test_json_twin.c.
 */
/* depends: json base */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "engine/json/json.h"

enum { TOKENS_MAX = 4096, DEPTH_MAX = 32 };

static struct json_token tokens[TOKENS_MAX];
static struct json_token twin_tokens[TOKENS_MAX];

/* Parses with both twins, which must agree in everything; returns the code. */
static int parse_both(struct span text, unsigned depth_max, size_t cap, size_t *count,
                      size_t *offset) {
    size_t twin_count = SIZE_MAX;
    size_t twin_offset = SIZE_MAX;
    *count = SIZE_MAX;
    *offset = SIZE_MAX;
    int rc = json_parse(text, depth_max, tokens, cap, count, offset);
    int twin_rc = json_parse_scalar(text, depth_max, twin_tokens, cap, &twin_count, &twin_offset);
    assert_int_equal(rc, twin_rc);
    assert_int_equal(*count, twin_count);
    assert_int_equal(*offset, twin_offset);
    if (rc == 0) {
        assert_memory_equal(tokens, twin_tokens, *count * sizeof tokens[0]);
    }
    return rc;
}

static size_t accept(struct span text) {
    size_t count;
    size_t offset;
    int rc = parse_both(text, DEPTH_MAX, TOKENS_MAX, &count, &offset);
    if (rc != 0) {
        fail_msg("refused with %d at %zu: %.*s", rc, offset, (int)text.n, (const char *)text.p);
    }
    assert_true(count > 0 && tokens[0].next == count);
    return count;
}

static void refuse(struct span text, int expected, size_t expected_offset) {
    size_t count;
    size_t offset;
    int rc = parse_both(text, DEPTH_MAX, TOKENS_MAX, &count, &offset);
    if (rc != expected || offset != expected_offset) {
        fail_msg("%d at %zu, expected %d at %zu: %.*s", rc, offset, expected, expected_offset,
                 (int)text.n, (const char *)text.p);
    }
}

static const char *const accepted_texts[] = {
    "null",
    "true",
    "false",
    "0",
    "-0",
    "1",
    "10",
    "-1",
    "0.0",
    "0.10",
    "1e1",
    "1E1",
    "1e+1",
    "1e-1",
    "1.5e10",
    "-0.0e-0",
    "123456789012345678901234567890",
    "0e0",
    "1e99999",
    "\"\"",
    "\"a\"",
    "\"\\\"\"",
    "\"\\\\\"",
    "\"\\/\"",
    "\"\\b\\f\\n\\r\\t\"",
    "\"\\u0000\"",
    "\"\\u00e9\"",
    "\"\\uD83D\\uDE00\"",
    "\"\\ud83d\"",
    "\"\\ude00\"",
    "\"/\"",
    "\"\x7f\"",
    "\"\xc2\x80\"",
    "\"\xdf\xbf\"",
    "\"\xe0\xa0\x80\"",
    "\"\xed\x9f\xbf\"",
    "\"\xee\x80\x80\"",
    "\"\xef\xbf\xbf\"",
    "\"\xf0\x90\x80\x80\"",
    "\"\xf4\x8f\xbf\xbf\"",
    "\"\xe2\x80\xa8\"",
    "\"\xef\xbb\xbf\"",
    "[]",
    "[ ]",
    "[1]",
    "[1,2]",
    "[[]]",
    "[[],[]]",
    "[null,true,false]",
    "{}",
    "{ }",
    "{\"a\":1}",
    "{\"a\":{}}",
    "{\"a\":[]}",
    "{\"\":0}",
    "{\"a\":1,\"a\":2}",
    "{\"a\":{\"b\":{\"c\":[{}]}}}",
    " \t\r\n1 \t\r\n",
    "[ 1 , 2 ]",
    "{ \"a\" : 1 , \"b\" : 2 }",
    "[0,-0,1e5,\"x\",{}]",
    "[\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"]",
};

static void test_accepts(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof accepted_texts / sizeof accepted_texts[0]; i++) {
        accept(span_str(accepted_texts[i]));
    }
    accept(SPAN_LIT("{\"a\":[1,\"x\"]}"));
}

struct refused {
    const char *text;
    size_t offset;
    int code;
};

static const struct refused refused_texts[] = {
    /* nothing, half words, words in the wrong case */
    {"", 0, BH_E_SYNTAX},
    {" ", 1, BH_E_SYNTAX},
    {"nul", 3, BH_E_SYNTAX},
    {"nulL", 3, BH_E_SYNTAX},
    {"True", 0, BH_E_SYNTAX},
    {"NaN", 0, BH_E_SYNTAX},
    {"Infinity", 0, BH_E_SYNTAX},
    {"-Infinity", 1, BH_E_SYNTAX},
    {"undefined", 0, BH_E_SYNTAX},
    {"'a'", 0, BH_E_SYNTAX},
    /* numbers */
    {"01", 1, BH_E_SYNTAX},
    {"-", 1, BH_E_SYNTAX},
    {"-01", 2, BH_E_SYNTAX},
    {"+1", 0, BH_E_SYNTAX},
    {".5", 0, BH_E_SYNTAX},
    {"1.", 2, BH_E_SYNTAX},
    {"1.e1", 2, BH_E_SYNTAX},
    {"1e", 2, BH_E_SYNTAX},
    {"1e+", 3, BH_E_SYNTAX},
    {"1e1.5", 3, BH_E_SYNTAX},
    {"0x1", 1, BH_E_SYNTAX},
    {"1_000", 1, BH_E_SYNTAX},
    {"--1", 1, BH_E_SYNTAX},
    {"[1 2]", 3, BH_E_SYNTAX},
    {"1a", 1, BH_E_SYNTAX},
    {"0\xc2\xa0", 1, BH_E_SYNTAX},
    /* strings */
    {"\"", 1, BH_E_SYNTAX},
    {"\"a", 2, BH_E_SYNTAX},
    {"\"\\", 2, BH_E_SYNTAX},
    {"\"\\\"", 3, BH_E_SYNTAX},
    {"\"\\x41\"", 2, BH_E_SYNTAX},
    {"\"\\a\"", 2, BH_E_SYNTAX},
    {"\"\\'\"", 2, BH_E_SYNTAX},
    {"\"\\u\"", 3, BH_E_SYNTAX},
    {"\"\\u12\"", 5, BH_E_SYNTAX},
    {"\"\\u12g4\"", 5, BH_E_SYNTAX},
    {"\"\\U0041\"", 2, BH_E_SYNTAX},
    {"\"\t\"", 1, BH_E_SYNTAX},
    {"\"\n\"", 1, BH_E_SYNTAX},
    {"\"\x1f\"", 1, BH_E_SYNTAX},
    {"\"\x01\"", 1, BH_E_SYNTAX},
    /* UTF-8 */
    {"\"\x80\"", 1, BH_E_UTF8},
    {"\"\xff\"", 1, BH_E_UTF8},
    {"\"\xc0\x80\"", 1, BH_E_UTF8},
    {"\"\xc1\xbf\"", 1, BH_E_UTF8},
    {"\"\xc2\"", 1, BH_E_UTF8},
    {"\"\xe0\x9f\xbf\"", 1, BH_E_UTF8},
    {"\"\xed\xa0\x80\"", 1, BH_E_UTF8},
    {"\"\xed\xbf\xbf\"", 1, BH_E_UTF8},
    {"\"\xe2\x82\"", 1, BH_E_UTF8},
    {"\"\xf0\x8f\xbf\xbf\"", 1, BH_E_UTF8},
    {"\"\xf4\x90\x80\x80\"", 1, BH_E_UTF8},
    {"\"\xf5\x80\x80\x80\"", 1, BH_E_UTF8},
    {"\"\xf0\x9f\x98\"", 1, BH_E_UTF8},
    {"\"ab\xc3(\"", 3, BH_E_UTF8},
    {"\"\xc3\xa9\xe2\x28\xa1\"", 3, BH_E_UTF8},
    {"\"\x80\n\"", 1, BH_E_UTF8},
    {"\"\xc3\xa9\n\x80\"", 3, BH_E_SYNTAX},
    {"{\"\x80\":1}", 2, BH_E_UTF8},
    /* a byte order mark, and white space that is none */
    {"\xef\xbb\xbf{}", 0, BH_E_SYNTAX},
    {"\xc2\xa0"
     "1",
     0, BH_E_SYNTAX},
    {"\f1", 0, BH_E_SYNTAX},
    {"\v1", 0, BH_E_SYNTAX},
    {"/**/1", 0, BH_E_SYNTAX},
    {"1//", 1, BH_E_SYNTAX},
    /* arrays */
    {"[", 1, BH_E_SYNTAX},
    {"]", 0, BH_E_SYNTAX},
    {"[1", 2, BH_E_SYNTAX},
    {"[1,", 3, BH_E_SYNTAX},
    {"[1,]", 3, BH_E_SYNTAX},
    {"[,1]", 1, BH_E_SYNTAX},
    {"[,]", 1, BH_E_SYNTAX},
    {"[1,,2]", 3, BH_E_SYNTAX},
    {"[1}", 2, BH_E_SYNTAX},
    {"[\"a\":1]", 4, BH_E_SYNTAX},
    {"[[]", 3, BH_E_SYNTAX},
    {"[]]", 2, BH_E_SYNTAX},
    {"[1:2]", 2, BH_E_SYNTAX},
    /* objects */
    {"{", 1, BH_E_SYNTAX},
    {"}", 0, BH_E_SYNTAX},
    {"{\"a\"", 4, BH_E_SYNTAX},
    {"{\"a\"}", 4, BH_E_SYNTAX},
    {"{\"a\":}", 5, BH_E_SYNTAX},
    {"{\"a\":1,}", 7, BH_E_SYNTAX},
    {"{,}", 1, BH_E_SYNTAX},
    {"{a:1}", 1, BH_E_SYNTAX},
    {"{1:1}", 1, BH_E_SYNTAX},
    {"{\"a\" 1}", 5, BH_E_SYNTAX},
    {"{\"a\"::1}", 5, BH_E_SYNTAX},
    {"{\"a\",1}", 4, BH_E_SYNTAX},
    {"{\"a\":1 \"b\":2}", 7, BH_E_SYNTAX},
    {"{\"a\":1]", 6, BH_E_SYNTAX},
    {"{{}}", 1, BH_E_SYNTAX},
    {"{\"a\":1}}", 7, BH_E_SYNTAX},
    {"{null:1}", 1, BH_E_SYNTAX},
    {"{]", 1, BH_E_SYNTAX},
    {"[}", 1, BH_E_SYNTAX},
    /* more than one document */
    {"1 2", 2, BH_E_SYNTAX},
    {"{}{}", 2, BH_E_SYNTAX},
    {"[]\n[]", 3, BH_E_SYNTAX},
    {"{} x", 3, BH_E_SYNTAX},
    {"null,", 4, BH_E_SYNTAX},
};

static void test_refuses(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof refused_texts / sizeof refused_texts[0]; i++) {
        refuse(span_str(refused_texts[i].text), refused_texts[i].code, refused_texts[i].offset);
    }
    refuse(SPAN_LIT("1\0"), BH_E_SYNTAX, 1);
    refuse(SPAN_LIT("\"\0\""), BH_E_SYNTAX, 1);
    refuse(SPAN_LIT("\0"), BH_E_SYNTAX, 0);
    refuse(SPAN_NONE, BH_E_SYNTAX, 0);
}

static void check_token(uint32_t at, enum json_kind kind, uint32_t start, uint32_t len,
                        uint32_t next, unsigned depth, unsigned flags) {
    assert_int_equal(tokens[at].kind, kind);
    assert_int_equal(tokens[at].start, start);
    assert_int_equal(tokens[at].len, len);
    assert_int_equal(tokens[at].next, next);
    assert_int_equal(tokens[at].depth, depth);
    assert_int_equal(tokens[at].flags, flags);
}

static void test_token_tree(void **state) {
    (void)state;
    assert_int_equal(accept(SPAN_LIT("{\"a\":[1,\"x\"]}")), 5);
    check_token(0, JSON_OBJECT, 0, 13, 5, 0, 0);
    check_token(1, JSON_KEY, 2, 1, 5, 1, 0);
    check_token(2, JSON_ARRAY, 5, 7, 5, 1, 0);
    check_token(3, JSON_NUMBER, 6, 1, 4, 2, 0);
    check_token(4, JSON_STRING, 9, 1, 5, 2, 0);

    assert_int_equal(accept(SPAN_LIT(" [ {} , { \"k\\n\" : \"\xc3\xa9\" , \"l\":{} } , true ] ")),
                     8);
    check_token(0, JSON_ARRAY, 1, 41, 8, 0, 0);
    check_token(1, JSON_OBJECT, 3, 2, 2, 1, 0);
    check_token(2, JSON_OBJECT, 8, 25, 7, 1, 0);
    check_token(3, JSON_KEY, 11, 3, 5, 2, JSON_ESCAPED);
    check_token(4, JSON_STRING, 19, 2, 5, 2, JSON_NON_ASCII);
    check_token(5, JSON_KEY, 26, 1, 7, 2, 0);
    check_token(6, JSON_OBJECT, 29, 2, 7, 2, 0);
    check_token(7, JSON_TRUE, 36, 4, 8, 1, 0);
}

static void test_limits(void **state) {
    (void)state;
    size_t count;
    size_t offset;
    char text[200];
    for (unsigned depth = 1; depth <= 60; depth++) {
        memset(text, '[', depth);
        memset(text + depth, ']', depth);
        int rc =
            parse_both(span_of(text, 2 * (size_t)depth), DEPTH_MAX, TOKENS_MAX, &count, &offset);
        if (depth <= DEPTH_MAX) {
            assert_int_equal(rc, 0);
            assert_int_equal(tokens[depth - 1].depth, depth - 1);
        } else {
            assert_int_equal(rc, BH_E_TOO_DEEP);
            assert_int_equal(offset, DEPTH_MAX);
        }
    }
    assert_int_equal(parse_both(SPAN_LIT("[]"), 0, 8, &count, &offset), BH_E_TOO_DEEP);
    assert_int_equal(parse_both(SPAN_LIT("7"), 0, 8, &count, &offset), 0);
    struct span five = SPAN_LIT("{\"a\":[1,\"x\"]}");
    static const size_t offsets[] = {0, 1, 5, 6, 8};
    for (size_t cap = 0; cap < 5; cap++) {
        assert_int_equal(parse_both(five, 8, cap, &count, &offset), BH_E_TOO_MANY);
        assert_int_equal(offset, offsets[cap]);
    }
    assert_int_equal(parse_both(five, 8, 5, &count, &offset), 0);
}

/* A 40,000-fold nesting must neither recurse nor be slow. */
static void test_deep_nesting_needs_no_stack(void **state) {
    (void)state;
    static uint8_t deep[200000];
    static struct json_token many[100001];
    memset(deep, '[', 40000);
    memset(deep + 40000, ']', 40000);
    size_t count = 0;
    size_t offset = 0;
    assert_int_equal(json_parse(span_of(deep, 80000), 60000, many, 100001, &count, &offset), 0);
    assert_int_equal(count, 40000);
    memset(deep, '[', sizeof deep);
    assert_int_equal(
        json_parse(span_of(deep, sizeof deep), DEPTH_MAX, many, 100001, &count, &offset),
        BH_E_TOO_DEEP);
}

static void check_text(const char *raw, const char *expected, size_t expected_length) {
    uint8_t memory[256];
    struct buf b = buf_of(memory, sizeof memory);
    accept(span_str(raw));
    struct span decoded = json_text(span_str(raw), &tokens[0], &b);
    assert_int_equal(decoded.n, expected_length);
    assert_memory_equal(decoded.p, expected, expected_length);
}

static void test_strings(void **state) {
    (void)state;
    check_text("\"plain\"", "plain", 5);
    check_text("\"a\\\"b\\\\c\\/d\\b\\f\\n\\r\\t\"", "a\"b\\c/d\b\f\n\r\t", 12);
    check_text("\"\\u0041\\u00e9\\u20AC\"", "A\xc3\xa9\xe2\x82\xac", 6);
    check_text("\"\\ud83d\\ude00!\"", "\xf0\x9f\x98\x80!", 5);
    check_text("\"\\ud83d!\"", "\xef\xbf\xbd!", 4);
    check_text("\"\\ude00\\ud83d\"", "\xef\xbf\xbd\xef\xbf\xbd", 6);
    check_text("\"\\ud83d\\ud83d\\ude00\"", "\xef\xbf\xbd\xf0\x9f\x98\x80", 7);
    check_text("\"\\ud83d\\n\"", "\xef\xbf\xbd\n", 4);
    check_text("\"\\u0000x\"", "\0x", 2);

    uint8_t memory[3];
    struct buf b = buf_of(memory, sizeof memory);
    accept(SPAN_LIT("\"\\nabc\""));
    assert_null(json_text(SPAN_LIT("\"\\nabc\""), &tokens[0], &b).p);
    assert_true(b.full);
}

static void test_put_string_reads_back(void **state) {
    (void)state;
    uint8_t original[128 + 4];
    for (unsigned i = 0; i < 128; i++) {
        original[i] = (uint8_t)i;
    }
    memcpy(original + 128, "\xf0\x9f\x98\x80", 4);
    uint8_t memory[1024];
    struct buf b = buf_of(memory, sizeof memory);
    json_put_string(&b, span_of(original, sizeof original));
    assert_false(b.full);
    accept(buf_span(&b));
    uint8_t decoded_memory[256];
    struct buf decoded = buf_of(decoded_memory, sizeof decoded_memory);
    struct span text = json_text(buf_span(&b), &tokens[0], &decoded);
    assert_true(span_equal(text, span_of(original, sizeof original)));
    assert_true(span_find(buf_span(&b), SPAN_LIT("\\u0000\\u0001")) != SIZE_MAX);
    assert_true(span_find(buf_span(&b), SPAN_LIT("\\b\\t\\n\\u000b\\f\\r\\u000e")) != SIZE_MAX);
    assert_true(span_find(buf_span(&b), SPAN_LIT("\x7f")) != SIZE_MAX);
}

static void test_get(void **state) {
    (void)state;
    struct span text = SPAN_LIT("{\"a\":1,\"b\":{\"a\":2},\"\\u0063\":3,\"a\":4,\"\":5}");
    accept(text);
    assert_true(span_is(json_span(text, &tokens[json_get(text, tokens, 0, SPAN_LIT("a"))]), "4"));
    assert_true(span_is(json_span(text, &tokens[json_get(text, tokens, 0, SPAN_LIT("c"))]), "3"));
    assert_true(span_is(json_span(text, &tokens[json_get(text, tokens, 0, SPAN_NONE)]), "5"));
    assert_int_equal(json_get(text, tokens, 0, SPAN_LIT("d")), 0);
    assert_int_equal(json_get(text, tokens, 2, SPAN_LIT("a")), 0);
    uint32_t b = json_get(text, tokens, 0, SPAN_LIT("b"));
    assert_true(span_is(json_span(text, &tokens[json_get(text, tokens, b, SPAN_LIT("a"))]), "2"));
}

static void test_numbers(void **state) {
    (void)state;
    static const struct {
        const char *text;
        double value;
    } doubles[] = {
        {"0", 0},
        {"-0", 0},
        {"1", 1},
        {"-12.5", -12.5},
        {"1e22", 1e22},
        {"1e23", 1e23},
        {"0.1", 0.1},
        {"123456789012345678", 123456789012345678.0},
        {"5e-324", 5e-324},
        {"2.2250738585072011e-308", 2.2250738585072011e-308},
        {"1.7976931348623157e308", 1.7976931348623157e308},
        {"9007199254740993", 9007199254740992.0},
        {"1795489911.555", 1795489911.555},
        {"0.000001", 0.000001},
        {"1e-400", 0},
        {"0e999999999", 0},
        {"9007199254740993.00000000000000000000000000000000000000001", 9007199254740994.0},
    };
    for (size_t i = 0; i < sizeof doubles / sizeof doubles[0]; i++) {
        double value = NAN;
        assert_true(json_number(span_str(doubles[i].text), &value));
        assert_true(value == doubles[i].value);
    }
    static const char *const none[] = {"",  "-",  "01",   "1.", ".5",    "1e",
                                       "a", "1x", "0x10", " 1", "1e400", "NaN"};
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++) {
        double value;
        assert_false(json_number(span_str(none[i]), &value));
    }
    static const struct {
        const char *text;
        int64_t value;
    } integers[] = {
        {"0", 0},
        {"-0.0", 0},
        {"42", 42},
        {"1e3", 1000},
        {"1.5e1", 15},
        {"100e-2", 1},
        {"9223372036854775807", INT64_MAX},
        {"-9223372036854775808", INT64_MIN},
        {"1000000000000000000", 1000000000000000000},
        {"1795489911555", 1795489911555},
    };
    for (size_t i = 0; i < sizeof integers / sizeof integers[0]; i++) {
        int64_t value = -1;
        assert_true(json_integer(span_str(integers[i].text), &value));
        assert_int_equal(value, integers[i].value);
    }
    static const char *const inexact[] = {"1.5",
                                          "1e-1",
                                          "9223372036854775808",
                                          "-9223372036854775809",
                                          "1e19",
                                          "99999999999999999999",
                                          "0.00001",
                                          "x",
                                          ""};
    for (size_t i = 0; i < sizeof inexact / sizeof inexact[0]; i++) {
        int64_t value;
        assert_false(json_integer(span_str(inexact[i]), &value));
    }
}

static void check_cesu8(const char *in, const char *expected) {
    uint8_t memory[64];
    size_t n = strlen(in);
    memcpy(memory, in, n);
    size_t repaired = json_repair_cesu8(memory, n);
    assert_int_equal(repaired, strlen(expected));
    assert_memory_equal(memory, expected, repaired);
}

static void check_escapes(const char *in, const char *expected) {
    uint8_t memory[64];
    size_t n = strlen(in);
    memcpy(memory, in, n);
    json_repair_escapes(memory, n);
    assert_int_equal(n, strlen(expected));
    assert_memory_equal(memory, expected, n);
}

static void test_repairs(void **state) {
    (void)state;
    check_cesu8("", "");
    check_cesu8("plain \xc3\xa9 \xf0\x9f\x8e\xaf \xed\x95\x9c",
                "plain \xc3\xa9 \xf0\x9f\x8e\xaf \xed\x95\x9c");
    check_cesu8("x\xed\xa0\xbc\xed\xbe\xafy", "x\xf0\x9f\x8e\xafy");
    check_cesu8("\xed\xa0\xbc\xed\xbe\xaf\xed\xa0\xbc\xed\xbe\xaf",
                "\xf0\x9f\x8e\xaf\xf0\x9f\x8e\xaf");
    check_cesu8("a\xed\xa0\xbc", "a\xef\xbf\xbd");
    check_cesu8("\xed\xbe\xaf!\xed\xa0\xbc\xed\xa0\xbc\xed\xbe\xaf",
                "\xef\xbf\xbd!\xef\xbf\xbd\xf0\x9f\x8e\xaf");
    check_cesu8("\xed\xa0", "\xed\xa0");
    check_cesu8("\xed", "\xed");
    check_escapes("\"\\ud83c\\udfaf\"", "\"\\ud83c\\udfaf\"");
    check_escapes("\"\\ud83c\"", "\"\\ufffd\"");
    check_escapes("\"\\uDFAF\\uD83C\"", "\"\\ufffd\\ufffd\"");
    check_escapes("\"\\ud83c\\ud83c\\udfaf\"", "\"\\ufffd\\ud83c\\udfaf\"");
    check_escapes("\"\\\\ud83c\"", "\"\\\\ud83c\"");
    check_escapes("\"\\u00e9\\ud7ff\\ue000\"", "\"\\u00e9\\ud7ff\\ue000\"");
    check_escapes("\"\\ud83", "\"\\ud83");
    check_escapes("\\", "\\");
}

static void check_canonical(const char *in, const char *expected) {
    uint8_t memory[2048];
    struct buf b = buf_of(memory, sizeof memory);
    accept(span_str(in));
    assert_int_equal(json_canonical(span_str(in), tokens, &b), 0);
    if (!span_is(buf_span(&b), expected)) {
        fail_msg("%.*s, expected %s", (int)b.n, (const char *)b.p, expected);
    }
}

static void test_canonical(void **state) {
    (void)state;
    /* The examples of RFC 8785, section 3.2. */
    check_canonical(
        "{\"numbers\": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],"
        "\"string\": \"\\u20ac$\\u000F\\u000aA'\\u0042\\u0022\\u005c\\\\\\\"\\/\","
        "\"literals\": [null, true, false]}",
        "{\"literals\":[null,true,false],\"numbers\":[333333333.3333333,1e+30,4.5,0.002,1e-27],"
        "\"string\":\"\xe2\x82\xac$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"}");
    check_canonical(
        "{\"\\u20ac\":\"Euro Sign\",\"\\r\":\"Carriage Return\",\"\\ufb33\":\"Hebrew Letter Dalet With Dagesh\","
        "\"1\":\"One\",\"\\ud83d\\ude00\":\"Emoji: Grinning Face\",\"\\u0080\":\"Control\","
        "\"\\u00f6\":\"Latin Small Letter O With Diaeresis\"}",
        "{\"\\r\":\"Carriage Return\",\"1\":\"One\",\"\xc2\x80\":\"Control\","
        "\"\xc3\xb6\":\"Latin Small Letter O With Diaeresis\",\"\xe2\x82\xac\":\"Euro Sign\","
        "\"\xf0\x9f\x98\x80\":\"Emoji: Grinning Face\",\"\xef\xac\xb3\":\"Hebrew Letter Dalet With Dagesh\"}");
    check_canonical("[ ]", "[]");
    check_canonical("{ }", "{}");
    check_canonical("[ [ ] , { } , [ 1 , [ 2 ] ] ]", "[[],{},[1,[2]]]");
    check_canonical("{\"b\":{\"d\":1,\"c\":2},\"a\":3,\"b\":4}", "{\"a\":3,\"b\":4}");
    check_canonical("{\"aa\":1,\"a\":2,\"\":3}", "{\"\":3,\"a\":2,\"aa\":1}");
    /* Appendix B, and the edges of ECMAScript's number format. */
    static const char *const numbers[][2] = {
        {"-0", "0"},
        {"5e-324", "5e-324"},
        {"-5e-324", "-5e-324"},
        {"1.7976931348623157e308", "1.7976931348623157e+308"},
        {"9007199254740992", "9007199254740992"},
        {"295147905179352830000", "295147905179352830000"},
        {"9.999999999999997e22", "9.999999999999997e+22"},
        {"1e23", "1e+23"},
        {"1.0000000000000001e23", "1.0000000000000001e+23"},
        {"999999999999999700000", "999999999999999700000"},
        {"999999999999999900000", "999999999999999900000"},
        {"1e21", "1e+21"},
        {"1e20", "100000000000000000000"},
        {"0.000001", "0.000001"},
        {"0.0000001", "1e-7"},
        {"9.999999999999997e-7", "9.999999999999997e-7"},
        {"333333333.3333332", "333333333.3333332"},
        {"0.3", "0.3"},
        {"4.35", "4.35"},
        {"1424953923781206.2", "1424953923781206.2"},
        {"1.0", "1"},
        {"12e-1", "1.2"},
        {"7.1202363472230444e-307", "7.120236347223045e-307"},
        {"6.2901843453097005e-235", "6.290184345309701e-235"},
        {"9.5367431640625e-07", "9.5367431640625e-7"},
        {"-0.0000033333333333333333", "-0.0000033333333333333333"},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        check_canonical(numbers[i][0], numbers[i][1]);
    }
    uint8_t memory[8];
    struct buf small = buf_of(memory, sizeof memory);
    accept(SPAN_LIT("[1,2,3,4,5,6]"));
    assert_int_equal(json_canonical(SPAN_LIT("[1,2,3,4,5,6]"), tokens, &small), BH_E_FULL);
    struct buf infinite = buf_of(memory, sizeof memory);
    accept(SPAN_LIT("1e400"));
    assert_int_equal(json_canonical(SPAN_LIT("1e400"), tokens, &infinite), BH_E_SYNTAX);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accepts),
        cmocka_unit_test(test_refuses),
        cmocka_unit_test(test_token_tree),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_deep_nesting_needs_no_stack),
        cmocka_unit_test(test_strings),
        cmocka_unit_test(test_put_string_reads_back),
        cmocka_unit_test(test_get),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_repairs),
        cmocka_unit_test(test_canonical),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
