/*
 * The gate's two forms give the same features for every input: random bytes of telling alphabets at
 * every length and alignment, and mutations of real values. BH_SEED=N repeats a run; BH_RUNS=N sets
 * how many.
 */
/* depends: inspect protocol json model base */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "flow/inspect/inspect.h"
#include "flow/inspect/inspect_gate.h"
#include "unit/random_kit.h"

enum { TEXT_MAX = 400, SLACK = 128 };

static const char *const alphabets[] = {
    "@%\\&=:.-_+/",
    "0123456789.",
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789",
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/-_=. :@%",
    "IJKLMNOPQRSTUVWXYZabcdefghw0145/",
    "0",
    ":./ ",
    "\200\377\303\244a@:%5\134_~:/",
};

static const char *const values[] = {
    "am9uYXNAZXhhbXBsZS5jb20=",
    "https://www.example.org/search?q=llm+api&x=am9uYXNAZXhhbXBsZS5jb20",
    "5c2dfb22-9ccd-4e5d-bfe2-60b39d310329",
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Safari/537.36",
    "{\"email\":\"jonas@example.com\",\"card\":\"4111 1111 1111 1111\"}",
    "2001:db8:85a3::8a2e:370:7334",
    "1795489911971",
};

static size_t make(uint8_t *out) {
    if (random_next() % 4 == 0) {
        const char *value = values[random_next() % (sizeof values / sizeof values[0])];
        size_t n = strlen(value);
        memcpy(out, value, n);
        for (uint64_t edits = random_next() % 4; edits > 0; edits--) {
            out[random_next() % n] = (uint8_t)random_next();
        }
        return n;
    }
    size_t n = random_next() % (random_next() % 4 == 0 ? TEXT_MAX : 70);
    const char *alphabet = alphabets[random_next() % (sizeof alphabets / sizeof alphabets[0])];
    size_t letters = strlen(alphabet);
    bool any = random_next() % 8 == 0;
    for (size_t i = 0; i < n; i++) {
        out[i] = any ? (uint8_t)random_next() : (uint8_t)alphabet[random_next() % letters];
    }
    return n;
}

static void test_twins(void **state) {
    (void)state;
    if (!gate_has_avx2()) {
        skip();
    }
    random_start(20261124);
    uint64_t runs = random_kit_number("BH_RUNS", 1000000);
    print_message("%llu inputs\n", (unsigned long long)runs);
    static uint8_t memory[TEXT_MAX + 2 * SLACK];
    uint64_t by_feature[8] = {0};
    for (uint64_t run = 0; run < runs; run++) {
        size_t shift = random_next() % 64;
        uint8_t *text = memory + shift;
        size_t n = make(text);
        /* What lies behind the text must not matter. */
        memset(text + n, random_next() % 2 == 0 ? '@' : '4', 64);
        size_t reach = random_next() % 2 == 0 ? 0 : random_next() % 65;
        unsigned scalar = gate_scalar(text, n, text + n);
        unsigned simd = gate_avx2(text, n, text + n + reach);
        if (scalar != simd) {
            fail_msg("run %llu: scalar %x, simd %x, %zu bytes", (unsigned long long)run, scalar,
                     simd, n);
        }
        for (unsigned bit = 0; bit < 8; bit++) {
            by_feature[bit] += scalar >> bit & 1;
        }
    }
    for (unsigned bit = 0; bit < 8; bit++) {
        assert_true(by_feature[bit] > 100 && by_feature[bit] < runs - 100);
    }
}

/* What follows from the features is one code; still, findings are what must be equal. */
static void test_findings(void **state) {
    (void)state;
    enum { FINDINGS_MAX = 512 };
    static uint8_t text[TEXT_MAX + SLACK];
    static struct finding scalar[FINDINGS_MAX];
    static struct finding simd[FINDINGS_MAX];
    struct inspector *inspector = NULL;
    struct err err;
    assert_int_equal(inspect_tables_init(&err), 0);
    if (!gate_has_avx2()) {
        skip();
    }
    assert_int_equal(inspector_new(&inspector), 0);
    random_start(20261124);
    uint64_t runs = random_kit_number("BH_RUNS", 1000000) / 5;
    uint64_t with_findings = 0;
    for (uint64_t run = 0; run < runs; run++) {
        size_t n = make(text);
        gate_features = gate_scalar;
        size_t count = inspect_string(inspector, (struct span){text, n}, scalar, FINDINGS_MAX);
        gate_features = gate_avx2;
        size_t count_simd = inspect_string(inspector, (struct span){text, n}, simd, FINDINGS_MAX);
        bool equal = count == count_simd;
        for (size_t i = 0; equal && i < count; i++) {
            equal = scalar[i].leaf == simd[i].leaf && scalar[i].class_id == simd[i].class_id &&
                    scalar[i].by == simd[i].by && scalar[i].start == simd[i].start &&
                    scalar[i].length == simd[i].length;
        }
        if (!equal) {
            fail_msg("run %llu: other findings in %zu bytes", (unsigned long long)run, n);
        }
        with_findings += count > 0;
    }
    assert_true(with_findings > runs / 100);
    inspector_free(inspector);
}

static void test_features(void **state) {
    (void)state;
    static const struct {
        const char *text;
        unsigned features;
    } rows[] = {
        {"", 0},
        {"Dashboard", 0},
        {"a@b.c", HAS_AT},
        {"a@b", 0},
        {"x 50%", HAS_QUOTED},
        {"aa&bb", 0},
        {"a&b;c", HAS_QUOTED},
        {"aa\\bb", HAS_QUOTED},
        {"aa=bb", HAS_EQUALS},
        {"aa:bb", HAS_COLON},
        {"a:b:c", HAS_COLON | HAS_COLONS},
        {"123456", 0},
        {"1234567", 0},
        {"123-4567", HAS_DIGITS},
        {"123456789012", HAS_DIGITS},
        {"9f86d081884c7d65", HAS_RUN},
        {"NO9386011117947", HAS_DIGITS},
        {"1.2.3", 0},
        {"1.2.3.4", HAS_DIGITS},
        {"am9uYXNA", HAS_BASE64},
        {"/am9uYXNA", HAS_BASE64},
        {"xam9uYXN", 0},
        {"abcdefghijklmno", 0},
        {"zzzzzzzzzzzzzzzz", HAS_RUN},
        {"5c2dfb22-9ccd-4e5d-bfe2-60b39d310329", HAS_RUN},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const uint8_t *p = (const uint8_t *)rows[i].text;
        size_t n = strlen(rows[i].text);
        unsigned found = gate_scalar(p, n, p + n);
        if (found != rows[i].features) {
            fail_msg("%s: %x, expected %x", rows[i].text, found, rows[i].features);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_features),
        cmocka_unit_test(test_twins),
        cmocka_unit_test(test_findings),
    };
    return cmocka_run_group_tests_name("inspect gate", tests, NULL, NULL);
}
