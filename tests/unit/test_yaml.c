/* YAML: the tree, precise errors with a caret, refusals, and typed scalars. */
/* depends: yaml os base */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "engine/yaml/yaml.h"

static struct yaml_doc *load(const char *text) {
    struct yaml_doc *doc = NULL;
    struct err err = {0};
    if (yaml_load_text("t.yaml", span_str(text), &doc, &err) != 0) {
        fail_msg("%u:%u %s", err.line, err.column, err.text);
    }
    return doc;
}

static void refused(const char *text, unsigned line, unsigned column, const char *part) {
    struct yaml_doc *doc = NULL;
    struct err err = {0};
    assert_int_equal(yaml_load_text("t.yaml", span_str(text), &doc, &err), BH_E_CONFIG);
    assert_null(doc);
    if (strstr(err.text, part) == NULL || err.line != line || err.column != column) {
        fail_msg("expected %u:%u %s, got %u:%u %s", line, column, part, err.line, err.column,
                 err.text);
    }
    assert_string_equal(err.file, "t.yaml");
    assert_non_null(strchr(err.text, '^'));
}

static void test_tree(void **state) {
    (void)state;
    struct yaml_doc *doc = load(
        "é: {a: ~, b: \"null\", c: , d: [1, 'x']}\nlist:\n  - 1\n  - k: |\n      foo\n      bar\n");
    const struct yaml_node *root = yaml_root(doc);
    assert_int_equal(yaml_kind_of(root), YAML_MAPPING);
    assert_int_equal(yaml_count(root), 2);
    const struct yaml_node *first = yaml_get(root, "é");
    assert_int_equal(yaml_count(first), 4);
    assert_true(yaml_is_null(yaml_get(first, "a")));
    assert_false(yaml_is_null(yaml_get(first, "b")));
    assert_true(yaml_is_null(yaml_get(first, "c")));
    assert_null(yaml_get(first, "e"));
    const struct yaml_node *pair = yaml_get(first, "d");
    assert_int_equal(yaml_kind_of(pair), YAML_SEQUENCE);
    assert_true(span_is(yaml_text(yaml_at(pair, 1)), "x"));
    const struct yaml_node *list = yaml_get(root, "list");
    assert_true(span_is(yaml_text(yaml_key_at(yaml_at(list, 1), 0)), "k"));
    assert_true(span_is(yaml_text(yaml_get(yaml_at(list, 1), "k")), "foo\nbar\n"));
    struct err err = {0};
    assert_int_equal(yaml_error(&err, yaml_get(first, "b"), "no %s", "good"), BH_E_CONFIG);
    assert_int_equal(err.line, 1);
    assert_int_equal(err.column, 15);
    assert_non_null(
        strstr(err.text,
               "no good\n   1 | é: {a: ~, b: \"null\", c: , d: [1, 'x']}\n     |              ^"));
    yaml_free(doc);
    doc = load("");
    assert_true(yaml_is_null(yaml_root(doc)));
    yaml_free(doc);
    yaml_free(NULL);
}

/* A secret that somebody wrote into a file is not carried on into terminals and logs by the message that refuses it. */
static void test_secrets_are_not_shown(void **state) {
    (void)state;
    static const struct {
        const char *text;
        const char *shown;
    } rows[] = {
        {"credential: hunter2\n", " | credential: *******\n"},
        {"a: { credential: 'hun, ter2', b: 1 }\n", " | a: { credential: **********', b: 1 }\n"},
        {"credential: { value: hunter2 }\n", " | credential: *****************}\n"},
        {"- { token: hunter2, secret: \"hunter2\", trust: x }\n",
         " | - { token: *******, secret: ********\", trust: x }\n"},
        {"endpoint: https://me:hunter2@x.example/a@b\n",
         " | endpoint: https://**********@x.example/a@b\n"},
        {"token: { env: NAME }\n", " | token: { env: NAME }\n"},
        {"tokens: { type: number }\n", " | tokens: { type: number }\n"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct yaml_doc *doc = load(rows[i].text);
        struct err err = {0};
        assert_int_equal(yaml_error(&err, yaml_root(doc), "no"), BH_E_CONFIG);
        assert_null(strstr(err.text, "hunter2"));
        if (strstr(err.text, rows[i].shown) == NULL) {
            fail_msg("%s: %s", rows[i].text, err.text);
        }
        yaml_free(doc);
    }
}

static void test_refusals(void **state) {
    (void)state;
    refused("a: 1\nb: &x 2\n", 2, 7, "anchors");
    refused("a: 1\nb: *x\n", 2, 5, "alias");
    refused("a: !!str 1\n", 1, 10, "tags");
    refused("a: 1\nb: 2\na: 3\n", 3, 1, "stands already in line 1");
    refused("{x: {p: 1, q: 2, p: 3}}\n", 1, 18, "stands already in line 1");
    refused("a: b: c\n", 1, 5, "mapping");
    refused("a: [1\n", 2, 1, "bracket");
    refused("[a]: 1\n", 1, 1, "a key is a plain word");
    refused("? {a: 1}\n: 1\n", 1, 3, "a key is a plain word");
    refused("a: 1\n--- \nb: 1\n", 2, 1, "one document");
    refused("a: [[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]\n", 1, 19, "16 levels");
    struct err err = {0};
    struct yaml_doc *doc = NULL;
    assert_int_equal(yaml_load_text("t", SPAN_LIT("a: \0b"), &doc, &err), BH_E_CONFIG);
    assert_int_equal(yaml_load_text("t", SPAN_LIT("a: \xff\xfe"), &doc, &err), BH_E_CONFIG);
    uint8_t *big = calloc(1, 1024 * 1024 + 1);
    assert_int_equal(yaml_load_text("t", span_of(big, 1024 * 1024 + 1), &doc, &err), BH_E_CONFIG);
    free(big);
    assert_int_equal(yaml_load("/nonexistent/file.yaml", &doc, &err), BH_E_NOTFOUND);
    assert_null(doc);
}

static void test_long_lines_show_their_column(void **state) {
    (void)state;
    char text[4096];
    struct buf b = buf_of(text, sizeof text - 1);
    buf_put_str(&b, "key: [");
    while (b.n < 3000) {
        buf_put_str(&b, "ä, ");
    }
    buf_put_str(&b, "&anchor x]\n");
    text[b.n] = '\0';
    struct err err = {0};
    struct yaml_doc *doc = NULL;
    assert_int_equal(yaml_load_text("t", buf_span(&b), &doc, &err), BH_E_CONFIG);
    assert_true(err.column > 2900);
    const char *caret = strrchr(err.text, '\n');
    const char *source = strchr(err.text, '\n');
    assert_true(source != NULL && caret > source);
    assert_true(strlen(caret) < 100);
}

static void test_keys_and_nearest(void **state) {
    (void)state;
    static const char *const keys[] = {"vendor", "connector", "endpoint"};
    struct yaml_doc *doc = load("vendor: x\nconector: y\n");
    struct err err = {0};
    assert_int_equal(yaml_only_keys(yaml_root(doc), keys, 3, &err), BH_E_CONFIG);
    assert_int_equal(err.line, 2);
    assert_non_null(strstr(err.text, "did you mean 'connector'?"));
    yaml_free(doc);
    doc = load("zzz: y\n");
    assert_int_equal(yaml_only_keys(yaml_root(doc), keys, 3, &err), BH_E_CONFIG);
    assert_non_null(strstr(err.text, "expected vendor, connector, endpoint"));
    yaml_free(doc);
    doc = load("vendor: 1\nendpoint: 2\n");
    assert_int_equal(yaml_only_keys(yaml_root(doc), keys, 3, &err), 0);
    yaml_free(doc);
    doc = load("- a\n");
    assert_int_equal(yaml_only_keys(yaml_root(doc), keys, 3, &err), BH_E_CONFIG);
    yaml_free(doc);
    assert_string_equal(yaml_nearest(SPAN_LIT("vendro"), keys, 3), "vendor");
    assert_null(yaml_nearest(SPAN_LIT("q"), keys, 3));
    assert_null(yaml_nearest(SPAN_NONE, keys, 3));
}

static void test_typed_scalars(void **state) {
    (void)state;
    struct yaml_doc *doc = load("s: [128MiB, 500KB, 2GiB, 7B, 5, -1MB, 99999999999TiB, [1]]\n"
                                "d: [7d, 24h, 10m, 5s, 50ms, 5, 1y]\n"
                                "n: [0, 10, 11, x, '5', 1.5]\nb: [true, false, 'true', yes]\n");
    const struct yaml_node *root = yaml_root(doc);
    static const uint64_t sizes[] = {UINT64_C(128) << 20, 500000, UINT64_C(2) << 30, 7};
    static const uint64_t durations[] = {UINT64_C(604800000000), UINT64_C(86400000000), 600000000,
                                         5000000, 50000};
    struct err err = {0};
    uint64_t value = 0;
    for (size_t i = 0; i < 8; i++) {
        int rc = yaml_size(yaml_at(yaml_get(root, "s"), i), &value, &err);
        assert_int_equal(rc, i < 4 ? 0 : BH_E_CONFIG);
        assert_true(i >= 4 || value == sizes[i]);
    }
    for (size_t i = 0; i < 7; i++) {
        int rc = yaml_duration(yaml_at(yaml_get(root, "d"), i), &value, &err);
        assert_int_equal(rc, i < 5 ? 0 : BH_E_CONFIG);
        assert_true(i >= 5 || value == durations[i]);
    }
    for (size_t i = 0; i < 6; i++) {
        assert_int_equal(yaml_u64(yaml_at(yaml_get(root, "n"), i), 0, 10, &value, &err),
                         i < 2 ? 0 : BH_E_CONFIG);
    }
    bool flag = false;
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(yaml_bool(yaml_at(yaml_get(root, "b"), i), &flag, &err),
                         i < 2 ? 0 : BH_E_CONFIG);
        assert_true(i >= 2 || flag == (i == 0));
    }
    yaml_free(doc);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tree),
        cmocka_unit_test(test_secrets_are_not_shown),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_long_lines_show_their_column),
        cmocka_unit_test(test_keys_and_nearest),
        cmocka_unit_test(test_typed_scalars),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
