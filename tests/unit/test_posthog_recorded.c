/*
 * Every request that posthog-js and posthog-node were recorded sending decodes to the events that its sidecar
 * names, and is answered with what the SDK was content with.
 */
/* depends: posthog mixpanel wire json http model crypto base */
/* sources: recorded_kit.c mixpanel_kit.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "protocol/posthog/posthog.h"
#include "unit/mixpanel_kit.h"
#include "unit/recorded_kit.h"

static unsigned kinds[EVENT_GROUP + 1];

/* The SDKs always name a person, a time and a dedupe id. */
static void check_item(const struct protocol_item *item) {
    assert_true(item->person.n > 0);
    assert_true(item->dedupe.n > 0);
    assert_int_equal(item->flags & EVENT_NO_TIME, 0);
    assert_true(span_starts(kit_get()->decoded.envelope.user, SPAN_LIT("phc_fixtureProjectKeyA")));
    kinds[item->kind]++;
}

static void check_reply(struct span body) {
    struct protocol_reply reply = kit_reply(REPLY_KEPT);
    assert_int_equal(reply.status, 200);
    assert_true(span_find(reply.body, SPAN_LIT("quota_limited")) == SIZE_MAX);
    uint8_t endpoint = kit_get()->decoded.envelope.endpoint;
    if (endpoint == POSTHOG_EVENTS) {
        assert_true(span_is(reply.body, "{\"results\":{}}"));
    } else if (endpoint == POSTHOG_FLAGS || endpoint == POSTHOG_CONFIG_JS) {
        /* Ours differ on purpose: flags that are known stay, and none are asked for. */
        assert_true(reply.body.n > 100);
    } else {
        assert_true(span_equal(reply.body, body));
    }
}

static void test_recorded(void **state) {
    (void)state;
    static const struct recorded_sdk node = {"posthog-node", "batch", NULL};
    static const struct recorded_sdk browser = {"posthog-js", "batch", NULL};
    static const struct recorded_checks checks = {check_item, check_reply};
    size_t items = 0;
    kit_use(&posthog_ops);
    assert_int_equal(recorded_replay(&node, &checks, &items), 23);
    assert_true(items > 100);
    /* A server's $identify names one id and updates a profile; a browser's links two. */
    assert_int_equal(kinds[EVENT_IDENTIFY], 0);
    assert_true(kinds[EVENT_PROFILE] > 10);
    assert_int_equal(recorded_replay(&browser, &checks, &items), 98);
    assert_true(items > 100);
    assert_true(kinds[EVENT_IDENTIFY] > 0 && kinds[EVENT_ALIAS] > 0 && kinds[EVENT_GROUP] > 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_recorded)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
