/* The last answers about flags: one for each person, source and form; bounded; the one used longest ago goes; what is too long is not kept, nor what it replaces. */
/* depends: gateway deliver model crypto os base */
/* libs: cmocka */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/flags.h"

static struct flags_cache *cache;
static uint8_t memory[FLAGS_CACHE_ANSWER_MAX + 1];

static struct flags_key key_of(uint32_t person, uint16_t source, uint8_t form) {
    struct flags_key key = {.source = source, .form = form};
    put_u32(key.aid.b, person);
    key.aid.b[15] = 1;
    return key;
}

static bool has(uint32_t person, uint16_t source, uint8_t form, const char *text) {
    struct flags_key key = key_of(person, source, form);
    struct buf b = buf_of(memory, sizeof memory);
    return flags_cache_get(cache, &key, &b) && span_is(buf_span(&b), text);
}

static void put(uint32_t person, uint16_t source, uint8_t form, const char *text) {
    struct flags_key key = key_of(person, source, form);
    flags_cache_put(cache, &key, span_str(text));
}

static int set_up(void **state) {
    (void)state;
    return flags_cache_new(&cache);
}

static int tear_down(void **state) {
    (void)state;
    flags_cache_free(cache);
    return 0;
}

static void test_each_has_its_own(void **state) {
    (void)state;
    assert_false(has(1, 1, 1, ""));
    put(1, 1, 1, "one");
    assert_true(has(1, 1, 1, "one"));
    assert_false(has(2, 1, 1, "one"));
    assert_false(has(1, 2, 1, "one"));
    assert_false(has(1, 1, 2, "one"));
    put(1, 1, 1, "another");
    put(1, 2, 1, "of source 2");
    assert_true(has(1, 1, 1, "another"));
    assert_true(has(1, 2, 1, "of source 2"));
}

static void test_too_long(void **state) {
    static uint8_t text[FLAGS_CACHE_ANSWER_MAX + 1];
    (void)state;
    struct flags_key key = key_of(1, 1, 1);
    struct buf b = buf_of(memory, sizeof memory);
    memset(text, 'x', sizeof text);
    flags_cache_put(cache, &key, span_of(text, FLAGS_CACHE_ANSWER_MAX));
    assert_true(flags_cache_get(cache, &key, &b));
    assert_int_equal(b.n, FLAGS_CACHE_ANSWER_MAX);
    flags_cache_put(cache, &key, span_of(text, FLAGS_CACHE_ANSWER_MAX + 1));
    assert_false(flags_cache_get(cache, &key, &b));
    put(1, 1, 1, "short");
    struct buf small = buf_of(memory, 4);
    assert_false(flags_cache_get(cache, &key, &small));
    assert_true(has(1, 1, 1, "short"));
}

static void test_the_oldest_go(void **state) {
    (void)state;
    size_t kept = 0;
    put(0, 1, 1, "used");
    for (uint32_t i = 1; i <= 4 * FLAGS_CACHE_ANSWERS; i++) {
        char text[16];
        (void)snprintf(text, sizeof text, "%u", i);
        put(i, 1, 1, text);
        assert_true(has(i, 1, 1, text));
        assert_true(has(0, 1, 1, "used")); /* which keeps it */
    }
    for (uint32_t i = 1; i <= 4 * FLAGS_CACHE_ANSWERS; i++) {
        char text[16];
        (void)snprintf(text, sizeof text, "%u", i);
        kept += has(i, 1, 1, text);
    }
    assert_true(kept < FLAGS_CACHE_ANSWERS && kept > FLAGS_CACHE_ANSWERS * 9 / 10);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_each_has_its_own, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_too_long, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_oldest_go, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
