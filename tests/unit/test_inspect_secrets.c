/*
 * Every line of secrets.def finds a secret made to its measure, whole, alone and in a sentence, and
 * does not find one that is a character too short. BH_SEED=N repeats a run.
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
#include "model/class.h"
#include "unit/random_kit.h"

enum { FINDINGS_MAX = 64, TEXT_MAX = 1024 };

static struct inspector *inspector;
static struct finding findings[FINDINGS_MAX];

#define DIGITS  "0123456789"
#define LETTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
static const char HEX[] = DIGITS "abcdef";
static const char HEXDASH[] = DIGITS "abcdef";
static const char LOWER[] = DIGITS "abcdefghijklmnopqrstuvwxyz";
static const char UPPER[] = DIGITS "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
static const char UPPERDASH[] = DIGITS "ABCDEFGHIJKLMNOPQRSTUVWXYZ-";
static const char ALNUM[] = DIGITS LETTERS;
static const char URL[] = DIGITS LETTERS "-_";
static const char BASE64[] = DIGITS LETTERS "+/";
static const char BASE64URL[] = DIGITS LETTERS "-_";
static const char DOTTED[] = DIGITS LETTERS "-_.";
static const char PATH[] = DIGITS LETTERS "/-_";
static const char PERCENT[] = DIGITS LETTERS "-_.~";
static const char TOKEN68[] = DIGITS LETTERS "-._~";
static const char DOLLAR[] = DIGITS LETTERS "$";
static const char PUTTY[] = DIGITS LETTERS;

static const struct secret_row {
    const char *name;
    const char *anchor;
    const char *alphabet;
    unsigned min;
    unsigned max;
    const char *check;
} rows[] = {
#define SECRET(name, anchor, alphabet, min, max, check) {name, anchor, alphabet, min, max, #check},
#include "flow/inspect/secrets.def"
#undef SECRET
};

static bool is(const struct secret_row *row, const char *check) {
    return strcmp(row->check, check) == 0;
}

static void put_run(struct buf *b, const struct secret_row *row, size_t n) {
    size_t letters = strlen(row->alphabet);
    size_t from = b->n;
    for (size_t i = 0; i < n; i++) {
        buf_put_byte(b, (uint8_t)row->alphabet[random_below(letters)]);
    }
    /* What every check asks for. */
    static const char needed[] = "7aB";
    for (size_t i = 0; i < 3 && i + 1 < n; i++) {
        if (strchr(row->alphabet, needed[i]) != NULL) {
            b->p[from + i] = (uint8_t)needed[i];
        }
    }
    if (n > 0) {
        b->p[b->n - 1] = '7';
    }
}

/* What stands before the anchor. */
static void put_before(struct buf *b, const struct secret_row *row) {
    if (is(row, "BACK")) {
        buf_put_str(b, "aB3dE5gH7jK9mN");
    } else if (is(row, "AZURE")) {
        buf_put_str(b, "aB.3");
    } else if (is(row, "TELEGRAM")) {
        buf_put_str(b, "1102015430");
    } else if (is(row, "PEM")) {
        buf_put_str(b, "-----BEGIN ");
    }
}

static void put_secret(struct buf *b, const struct secret_row *row, size_t n) {
    put_before(b, row);
    buf_put_str(b, row->anchor);
    if (is(row, "JWT")) {
        buf_put_str(b, "hbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl");
    } else if (is(row, "PEM")) {
        buf_put_str(b, "\nMIIEpAIBAAKCAQEA\nabc+/=\n-----END PRIVATE KEY-----");
    } else if (is(row, "BASIC")) {
        buf_put_str(b, "am9uYXM6aHVudGVyMg==");
    } else if (is(row, "UUID")) {
        buf_put_str(b, "5c2dfb22-9ccd-4e5d-bfe2-60b39d310329");
    } else {
        put_run(b, row, n);
    }
}

/* Whether credentials cover all of [start, end). */
static bool found(struct span text, size_t start, size_t end) {
    size_t count = inspect_string(inspector, text, findings, FINDINGS_MAX);
    for (size_t i = 0; i < count; i++) {
        const struct finding *f = &findings[i];
        bool covers =
            f->length == FINDING_WHOLE || (f->start <= start && f->start + f->length >= end);
        if (f->class_id == CLASS_CREDENTIALS && covers) {
            return true;
        }
    }
    return false;
}

static void expect_row(const struct secret_row *row) {
    static const char *const around[][2] = {{"", ""},     {"see ", " here"}, {"x=", "&y=1"},
                                            {"\"", "\""}, {"(", ")"},        {"<b>", "</b>"}};
    for (size_t i = 0; i < sizeof around / sizeof around[0]; i++) {
        uint8_t memory[TEXT_MAX];
        struct buf b = buf_of(memory, sizeof memory);
        buf_put_str(&b, around[i][0]);
        size_t start = b.n;
        put_secret(&b, row, row->max != 0 && random_below(2) == 0 ? row->max : row->min);
        size_t end = b.n;
        buf_put_str(&b, around[i][1]);
        assert_false(b.full);
        if (!found(buf_span(&b), start, end)) {
            fail_msg("%s: not found: %.*s", row->name, (int)b.n, (const char *)memory);
        }
    }
}

/* One character less than the table asks for. Another row may still know the text. */
static bool short_one_found(const struct secret_row *row) {
    uint8_t memory[TEXT_MAX];
    struct buf b = buf_of(memory, sizeof memory);
    buf_put_str(&b, "x ");
    size_t start = b.n;
    put_secret(&b, row, row->min - 1);
    return found(buf_span(&b), start, b.n);
}

static void test_all(void **state) {
    (void)state;
    random_start(20261124);
    print_message("%zu secrets\n", sizeof rows / sizeof rows[0]);
    unsigned too_short = 0;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        for (unsigned round = 0; round < 20; round++) {
            expect_row(&rows[i]);
        }
        bool measured = !is(&rows[i], "JWT") && !is(&rows[i], "PEM") && !is(&rows[i], "BASIC") &&
                        !is(&rows[i], "UUID") && rows[i].min > 0;
        too_short += measured && short_one_found(&rows[i]);
    }
    /*
     * Rows that are wider cover these: the general sk- key, GitHub's and GitLab's variants, Slack's
     * and the like.
     */
    assert_true(too_short <= 16);
}

/* A secret glued to a word is part of the word, unless its anchor is no part of any. */
static void test_borders(void **state) {
    (void)state;
    static const struct {
        const char *text;
        bool found;
    } texts[] = {
        {"xghp_16C7e42F292c6912E7710c838347Ae178B4a", true},
        {"xAKIAIOSFODNN7EXAMPLE", false},
        {"xsk-abcdefghijklmnopqrstuvwxyz0123456789", false},
        {"4111 1111 1111 1111AKIAIOSFODNN7EXAMPLE", false},
        {"_ghp_16C7e42F292c6912E7710c838347Ae178B4a", true},
        {"-ghp_16C7e42F292c6912E7710c838347Ae178B4a", true},
        {"AKIAIOSFODNN7EXAMPLEX", false},
        {"AKIAIOSFODNN7EXAMPLE", true},
        {"AKIAIOSFODNN7EXAMPLE-1", true},
        {"SK0123456789abcdef0123456789abcdef", true},
        {"SK0123456789abcdef0123456789abcdef0", false},
        {"eyJhbGciOiJIUzI1NiJ9.only-one-dot-here-but-long", false},
        {"-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----", false},
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct span text = span_str(texts[i].text);
        size_t count = inspect_string(inspector, text, findings, FINDINGS_MAX);
        bool credentials = false;
        for (size_t k = 0; k < count; k++) {
            credentials |= findings[k].class_id == CLASS_CREDENTIALS;
        }
        if (credentials != texts[i].found) {
            fail_msg("%s: %s", texts[i].text, credentials ? "found" : "not found");
        }
    }
}

static int setup(void **state) {
    (void)state;
    struct err err;
    return inspect_tables_init(&err) == 0 && inspector_new(&inspector) == 0 ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    inspector_free(inspector);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all),
        cmocka_unit_test(test_borders),
    };
    return cmocka_run_group_tests_name("inspect secrets", tests, setup, teardown);
}
