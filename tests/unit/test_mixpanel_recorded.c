/*
 * Every request that the official SDKs were recorded sending decodes to the items that its sidecar names, and
 * is answered as the SDK was content with.
 */
/* depends: mixpanel wire json http model crypto base */
/* sources: recorded_kit.c mixpanel_kit.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "protocol/mixpanel/mixpanel.h"
#include "unit/mixpanel_kit.h"
#include "unit/recorded_kit.h"

static const char *token;

/* Facts that hold for every recorded item, whoever sent it. */
static void check_item(const struct protocol_item *item) {
    bool by_header = kit_get()->decoded.envelope.endpoint == MIXPANEL_IMPORT;
    assert_true(by_header || span_starts(item->token, span_str(token)));
    if (item->kind == EVENT_GROUP) {
        assert_int_equal(item->person.n, 0);
    } else if (item->kind != EVENT_MERGE) {
        assert_true(item->person.n > 0);
        assert_false(span_starts(item->person, SPAN_LIT("$device:")));
    }
    assert_true(item->kind < EVENT_PROFILE ? item->event_name.n > 0 : item->event_name.n == 0);
}

static const struct recorded_checks checks = {check_item, NULL};

static void test_node(void **state) {
    (void)state;
    static const struct recorded_sdk sdk = {"mixpanel-node", NULL, NULL};
    size_t items = 0;
    token = "mp_project_token";
    assert_int_equal(recorded_replay(&sdk, &checks, &items), 127);
    assert_true(items > 127);
}

static void test_browser(void **state) {
    (void)state;
    static const struct recorded_sdk sdk = {"mixpanel-browser", NULL, NULL};
    size_t items = 0;
    token = "mp_browser_token";
    assert_int_equal(recorded_replay(&sdk, &checks, &items), 103);
    assert_true(items > 103);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_node), cmocka_unit_test(test_browser)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
