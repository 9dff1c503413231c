/* Patterns of the plan: what matches, what is refused, and a random comparison with a matcher that tries everything. */
/* depends: policy resolve protocol mixpanel yaml json crypto model base */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "flow/policy/policy_int.h"
#include "unit/random_kit.h"

static bool matches(const char *text, const char *value) {
    const char *problem = NULL;
    size_t offset = 0;
    struct pattern *pattern = pattern_new(span_str(text), &problem, &offset);
    if (pattern == NULL) {
        fail_msg("%s: %s at %zu", text, problem, offset);
    }
    bool result = pattern_matches(pattern, span_str(value));
    pattern_free(pattern);
    return result;
}

static void test_matches(void **state) {
    (void)state;
    static const struct {
        const char *pattern;
        const char *value;
        bool matches;
    } cases[] = {
        {"abc", "abc", true},
        {"abc", "abcd", false},
        {"abc", "xabc", false},
        {"^abc$", "abc", true},
        {"a|b|cd", "cd", true},
        {"a|b|cd", "c", false},
        {"a*", "", true},
        {"a*", "aaaa", true},
        {"a+", "", false},
        {"a?b", "b", true},
        {"(ab)+", "ababab", true},
        {"(ab)+", "aba", false},
        {"[a-c]{2,3}", "a", false},
        {"[a-c]{2,3}", "abc", true},
        {"[a-c]{2,3}", "abca", false},
        {"x{3}", "xxx", true},
        {"x{3}", "xx", false},
        {"x{2,}", "xxxxx", true},
        {"x{2,}", "x", false},
        {"x{0,2}y", "y", true},
        {"[^a-z]", "A", true},
        {"[^a-z]", "a", false},
        {"[^a-z]", "\xc3", false},
        {"\\d\\w\\s", "1_ ", true},
        {"\\.", ".", true},
        {"\\.", "x", false},
        {"[]x]+", "x]", true},
        {"[a-]+", "-a-", true},
        {"(a|b)*c", "abbac", true},
        {"(a|(b|c)d)+", "acdbd", true},
        {"", "", false},
        {"é+", "éé", true},
        {"é+", "\xc3", false},
        {"()", "", true},
        {"a(|b)c", "ac", true},
        {"(a*)*b", "aaab", true},
        {"(a+)+b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false},
        {"[A-Z]{2}-[0-9]+", "AB-1", true},
        {"([0-9a-f]{2}:){5}[0-9a-f]{2}", "00:11:22:33:44:ff", true},
    };
    for (size_t i = 0; i < BH_COUNT(cases); i++) {
        if (cases[i].pattern[0] != '\0' &&
            matches(cases[i].pattern, cases[i].value) != cases[i].matches) {
            fail_msg("%s on %s", cases[i].pattern, cases[i].value);
        }
    }
}

static void test_refused(void **state) {
    (void)state;
    static const char *const bad[] = {"",
                                      ".",
                                      "a.b",
                                      "(a",
                                      "a)",
                                      "[a",
                                      "*a",
                                      "a{",
                                      "a{x}",
                                      "a{3,2}",
                                      "a{0}",
                                      "a{65}",
                                      "a{1,99}",
                                      "\\q",
                                      "a\\",
                                      "[b-a]",
                                      "a^b",
                                      "a$b",
                                      "(?:a)",
                                      "[é]",
                                      "\\1",
                                      "a{2",
                                      "|*",
                                      "(|+)",
                                      "\t",
                                      "((((((((((((((((a))))))))))))))))",
                                      "(a{64}){64}",
                                      "([ab]{0,20}a[ab]{0,20}){9}"};
    for (size_t i = 0; i < BH_COUNT(bad); i++) {
        const char *problem = NULL;
        size_t offset = 0;
        struct pattern *pattern = pattern_new(span_str(bad[i]), &problem, &offset);
        if (pattern != NULL) {
            pattern_free(pattern);
            fail_msg("accepted: %s", bad[i]);
        }
        assert_non_null(problem);
    }
}

/* -- a matcher that tries everything ---------------------------------------------------------------- */

/* Random pattern of literals a, b, classes, groups, alternatives and repetitions, at most `depth` groups deep. */
static void make_pattern(struct buf *out, unsigned depth) {
    unsigned parts = 1 + (unsigned)random_below(3);
    for (unsigned i = 0; i < parts; i++) {
        if (i != 0 && random_below(4) == 0) {
            buf_put_byte(out, '|');
        }
        unsigned what = (unsigned)random_below(depth != 0 ? 5 : 3);
        if (what < 2) {
            buf_put_byte(out, (uint8_t)('a' + what));
        } else if (what == 2) {
            buf_put_str(out, random_below(2) == 0 ? "[ab]" : "[^a]");
        } else {
            buf_put_byte(out, '(');
            make_pattern(out, depth - 1);
            buf_put_byte(out, ')');
        }
        static const char *const repeats[] = {"",  "",    "",      "?",     "*",
                                              "+", "{2}", "{1,2}", "{0,1}", "{2,}"};
        buf_put_str(out, repeats[random_below(BH_COUNT(repeats))]);
    }
}

/*
 * The twin: sets of ends as bits. ends(pattern, starts) = offsets where a match that begins at one of `starts` can end. Plain recursive descent
 * over the text of the pattern; values have at most 10 bytes.
 */
struct twin {
    const char *at;
    const char *value;
    unsigned n;
};

static uint32_t twin_alternatives(struct twin *t, uint32_t starts);

static uint32_t twin_step(const struct twin *t, uint32_t starts, char what) {
    uint32_t ends = 0;
    for (unsigned i = 0; i < t->n; i++) {
        bool good = what == '*'   ? t->value[i] == 'a' || t->value[i] == 'b'
                    : what == '^' ? t->value[i] != 'a'
                                  : t->value[i] == what;
        if (good && (starts >> i & 1) != 0) {
            ends |= 1U << (i + 1);
        }
    }
    return ends;
}

/* One atom from its text; t->at moves past it. */
static uint32_t twin_atom(struct twin *t, uint32_t starts) {
    if (*t->at == '(') {
        t->at++;
        uint32_t ends = twin_alternatives(t, starts);
        t->at++;
        return ends;
    }
    if (*t->at == '[') {
        char what = t->at[1] == '^' ? '^' : '*';
        t->at += 4;
        return twin_step(t, starts, what);
    }
    return twin_step(t, starts, *t->at++);
}

static uint32_t twin_repeat(struct twin *t, uint32_t starts) {
    const char *atom = t->at;
    uint32_t ends = twin_atom(t, starts);
    const char *after = t->at;
    unsigned low = 1;
    unsigned high = 1;
    if (*after == '?' || *after == '*' || *after == '+') {
        low = *after == '+';
        high = *after == '?' ? 1 : 12;
        after++;
    } else if (*after == '{') {
        low = (unsigned)(after[1] - '0');
        high = after[2] == '}' ? low : after[3] == '}' ? 12 : (unsigned)(after[3] - '0');
        while (*after++ != '}') {
        }
    }
    uint32_t all = low == 0 ? starts : 0;
    uint32_t now = starts;
    for (unsigned i = 1; i <= high; i++) {
        t->at = atom;
        now = twin_atom(t, now);
        if (i >= low) {
            all |= now;
        }
    }
    (void)ends;
    t->at = after;
    return all;
}

static uint32_t twin_alternatives(struct twin *t, uint32_t starts) {
    uint32_t all = 0;
    uint32_t now = starts;
    while (*t->at != '\0' && *t->at != ')') {
        if (*t->at == '|') {
            all |= now;
            now = starts;
            t->at++;
        } else {
            now = twin_repeat(t, now);
        }
    }
    return all | now;
}

static void test_like_its_twin(void **state) {
    (void)state;
    random_start(11);
    unsigned compared = 0;
    unsigned matched = 0;
    for (unsigned round = 0; round < 3000; round++) {
        char pattern_text[1024];
        struct buf b = buf_of(pattern_text, sizeof pattern_text - 1);
        make_pattern(&b, 2);
        pattern_text[b.n] = '\0';
        const char *problem = NULL;
        size_t offset = 0;
        struct pattern *pattern = pattern_new(buf_span(&b), &problem, &offset);
        if (pattern == NULL) {
            continue; /* an alternative may begin with a repetition's sign */
        }
        for (unsigned i = 0; i < 20; i++) {
            char value[11];
            unsigned n = (unsigned)random_below(11);
            for (unsigned k = 0; k < n; k++) {
                value[k] = (char)('a' + random_below(3));
            }
            value[n] = '\0';
            struct twin t = {pattern_text, value, n};
            bool expected = (twin_alternatives(&t, 1) >> n & 1) != 0;
            if (pattern_matches(pattern, span_of(value, n)) != expected) {
                fail_msg("%s on '%s': expected %d", pattern_text, value, expected);
            }
            compared++;
            matched += expected;
        }
        pattern_free(pattern);
    }
    assert_true(compared > 20000 && matched > 1000);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_matches),
                                       cmocka_unit_test(test_refused),
                                       cmocka_unit_test(test_like_its_twin)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
