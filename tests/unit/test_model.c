/* The taxonomy, forms and reasons: each number has one name, and the stricter of two forms is a meet. */
/* depends: model base */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "model/class.h"
#include "model/consent.h"
#include "model/event.h"
#include "model/form.h"
#include "model/reason.h"

static void test_names_and_numbers_agree(void **state) {
    (void)state;
    unsigned count = 0;
    const uint16_t *all = class_all(&count);
    assert_true(count > 50);
    for (unsigned i = 0; i < count; i++) {
        const char *name = class_name(all[i]);
        assert_non_null(name);
        assert_int_equal(class_by_name(span_str(name)), all[i]);
        uint16_t parent = class_parent(all[i]);
        if (parent != CLASS_NONE) {
            const char *parent_name = class_name(parent);
            assert_true(span_starts(span_str(name), span_str(parent_name)));
            assert_int_equal(name[strlen(parent_name)], '.');
            assert_true(class_is_within(all[i], parent));
            assert_false(class_is_within(parent, all[i]));
        }
        assert_true(class_is_within(all[i], all[i]));
    }
    assert_int_equal(class_by_name(SPAN_LIT("user.nam")), CLASS_NONE);
    assert_int_equal(class_by_name(SPAN_NONE), CLASS_NONE);
    assert_null(class_name(CLASS_NONE));
    assert_null(class_name(UINT16_MAX));
    assert_int_equal(class_flags(UINT16_MAX), 0);
}

static void test_never_binds_children(void **state) {
    (void)state;
    unsigned count = 0;
    const uint16_t *all = class_all(&count);
    for (unsigned i = 0; i < count; i++) {
        uint16_t parent = class_parent(all[i]);
        if (parent != CLASS_NONE && class_is_never(parent)) {
            assert_true(class_is_never(all[i]));
        }
        if (class_is_never_disk(all[i])) {
            assert_true(class_is_never(all[i]));
        }
    }
    assert_true(class_is_never_disk(CLASS_PASSWORD));
    assert_true(class_is_never(CLASS_HEALTH));
    assert_false(class_is_never_disk(CLASS_HEALTH));
    assert_false(class_is_never(CLASS_EMAIL));
}

static void test_nearest(void **state) {
    (void)state;
    assert_string_equal(class_nearest(SPAN_LIT("user.contact.emial")), "user.contact.email");
    assert_string_equal(class_nearest(SPAN_LIT("email")), "user.contact.email");
    assert_string_equal(class_nearest(SPAN_LIT("user.behaviour")), "user.behavior");
    assert_null(class_nearest(SPAN_LIT("zzzzzzzzz")));
    assert_null(class_nearest(SPAN_NONE));
}

static void test_form_words(void **state) {
    (void)state;
    assert_string_equal(form_name((struct form){FORM_RAW, 0}), "raw");
    assert_string_equal(form_name((struct form){FORM_COARSE, LEVEL_COUNTRY}), "coarse:country");
    assert_int_equal(form_by_name(SPAN_LIT("pseudonym")), FORM_PSEUDONYM);
    assert_int_equal(form_by_name(SPAN_LIT("Raw")), FORM_NONE);
    assert_int_equal(level_by_name(SPAN_LIT("/48")), LEVEL_NET);
    assert_int_equal(level_by_name(SPAN_LIT("path")), LEVEL_PATH);
    assert_int_equal(level_by_name(SPAN_LIT("street")), LEVEL_NONE);
}

static bool same(struct form a, struct form b) {
    return a.id == b.id && a.level == b.level;
}

/* Over all forms: commutative, idempotent, associative, and never looser than either side. */
static void test_meet_is_a_meet(void **state) {
    (void)state;
    struct form all[32];
    unsigned count = 0;
    for (uint8_t id = FORM_RAW; id <= FORM_ALIAS; id++) {
        if (id != FORM_COARSE) {
            all[count++] = (struct form){id, 0};
        }
    }
    for (uint8_t level = LEVEL_COUNTRY; level <= LEVEL_YEAR; level++) {
        all[count++] = (struct form){FORM_COARSE, level};
    }
    for (unsigned i = 0; i < count; i++) {
        assert_true(same(form_meet(all[i], all[i]), all[i]));
        assert_true(same(form_meet((struct form){FORM_RAW, 0}, all[i]), all[i]));
        assert_int_equal(form_meet((struct form){FORM_NONE, 0}, all[i]).id, FORM_DROP);
        for (unsigned j = 0; j < count; j++) {
            assert_true(same(form_meet(all[i], all[j]), form_meet(all[j], all[i])));
            for (unsigned k = 0; k < count; k++) {
                assert_true(same(form_meet(form_meet(all[i], all[j]), all[k]),
                                 form_meet(all[i], form_meet(all[j], all[k]))));
            }
        }
    }
    struct form country = {FORM_COARSE, LEVEL_COUNTRY};
    struct form region = {FORM_COARSE, LEVEL_REGION};
    assert_true(same(form_meet(country, region), country));
    assert_int_equal(form_meet(country, (struct form){FORM_MASK, 0}).id, FORM_DROP);
}

static void test_reasons_and_times(void **state) {
    (void)state;
    assert_string_equal(reason_word(REASON_UNKNOWN_TOKEN), "unknown_token");
    assert_null(reason_word(REASON_NONE));
    assert_null(reason_word(1000));
    assert_int_equal(time_precision_ms(TIME_MS), 1);
    assert_int_equal(time_precision_ms(TIME_HOUR), 3600000);
    struct aid nobody = {{0}};
    struct aid somebody = {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}};
    assert_true(aid_is_zero(&nobody));
    assert_false(aid_is_zero(&somebody));
}

static void check_env(uint8_t signals, const char *env, const char *expected) {
    uint8_t room[256];
    struct buf out = buf_of(room, sizeof room);
    signals_put(signals, span_str(env), &out);
    assert_true(span_is(buf_span(&out), expected));
    assert_int_equal(signals_of_env(buf_span(&out)), signals);
}

static void test_consent_words(void **state) {
    (void)state;
    size_t count = 0;
    const char *const *words = consent_words(&count);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(consent_by_name(span_str(words[i])), 1U << i);
        assert_string_equal(consent_name((uint8_t)(1U << i)), words[i]);
    }
    assert_int_equal(consent_by_name(SPAN_LIT("Analytics")), 0);
    assert_int_equal(consent_of_category(SPAN_LIT("Analytics")), CONSENT_ANALYTICS);
    assert_int_equal(consent_of_category(SPAN_LIT("ad_user_data")), CONSENT_ADVERTISING);
    assert_int_equal(consent_of_category(SPAN_NONE), 0);
    assert_int_equal(signal_by_name(SPAN_LIT("gpc")), SIGNAL_GPC);
    assert_string_equal(signal_name(SIGNAL_DNT), "dnt");
    assert_int_equal(signals_refuse(SIGNAL_GPC), CONSENT_ADVERTISING | CONSENT_SOCIAL);
    assert_int_equal(signals_refuse(SIGNAL_DNT), 0);
}

/* Only "1" says anything, and only of these two headers. */
static void test_signals_in_an_env(void **state) {
    (void)state;
    assert_int_equal(signal_of_header(SPAN_LIT("sec-gpc"), SPAN_LIT("1")), SIGNAL_GPC);
    assert_int_equal(signal_of_header(SPAN_LIT("DNT"), SPAN_LIT("1")), SIGNAL_DNT);
    assert_int_equal(signal_of_header(SPAN_LIT("DNT"), SPAN_LIT("0")), 0);
    assert_int_equal(signal_of_header(SPAN_LIT("DNT"), SPAN_LIT("11")), 0);
    assert_int_equal(signal_of_header(SPAN_LIT("DNT"), SPAN_NONE), 0);
    assert_int_equal(signal_of_header(SPAN_LIT("X-DNT"), SPAN_LIT("1")), 0);
    check_env(SIGNAL_GPC, "{\"ip\":true}", "{\"Sec-GPC\":true,\"ip\":true}");
    check_env(SIGNAL_DNT, "{\"ip\":true}", "{\"DNT\":true,\"ip\":true}");
    check_env(SIGNAL_DNT | SIGNAL_GPC, "{\"ip\":true}",
              "{\"DNT\":true,\"Sec-GPC\":true,\"ip\":true}");
    check_env(SIGNAL_DNT | SIGNAL_GPC, "{}", "{\"DNT\":true,\"Sec-GPC\":true}");
    check_env(0, "{\"ip\":true}", "{\"ip\":true}");
    check_env(0, "{}", "{}");
    assert_int_equal(signals_of_env(SPAN_NONE), 0);
    assert_int_equal(signals_of_env(SPAN_LIT("{\"path\":\"/DNT\"}")), 0);
    assert_int_equal(signals_of_env(SPAN_LIT("{\"DNTX\":true}")), 0);
    assert_int_equal(signals_of_env(SPAN_LIT("{\"DNT\":fals")), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_and_numbers_agree),
        cmocka_unit_test(test_never_binds_children),
        cmocka_unit_test(test_nearest),
        cmocka_unit_test(test_form_words),
        cmocka_unit_test(test_meet_is_a_meet),
        cmocka_unit_test(test_reasons_and_times),
        cmocka_unit_test(test_consent_words),
        cmocka_unit_test(test_signals_in_an_env),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
