/*
 * Every request that Segment's and RudderStack's SDKs were recorded sending decodes to the messages that its sidecar names, and is answered as the
 * SDK was content with.
 */
/* depends: segment mixpanel wire json http model crypto base */
/* sources: recorded_kit.c mixpanel_kit.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "protocol/segment/rudder.h"
#include "protocol/segment/segment.h"
#include "unit/mixpanel_kit.h"
#include "unit/recorded_kit.h"

static void check_item(const struct protocol_item *item) {
    assert_true(item->dedupe.n > 0 && item->person.n > 0);
    assert_true((item->flags & EVENT_NO_TIME) == 0);
}

static void check_reply(struct span body) {
    struct protocol_reply reply = kit_reply(REPLY_KEPT);
    assert_int_equal(reply.status, 200);
    if (kit_get()->decoded.envelope.endpoint == SEGMENT_SETTINGS) {
        /* Of its many words the SDK needs those about the one integration that is ours. */
        size_t same = span_find(body, SPAN_LIT(",\"maybeBundledConfigIds\""));
        assert_true(same != SIZE_MAX && span_starts(reply.body, span_cut(body, 0, same)));
    } else {
        assert_true(span_equal(reply.body, body));
    }
}

static void replay_all(const struct protocol_ops *ops, const char *name, unsigned expected) {
    static const struct recorded_checks checks = {check_item, check_reply};
    const struct recorded_sdk sdk = {name, "batch", "type"};
    size_t items = 0;
    kit_use(ops);
    assert_int_equal(recorded_replay(&sdk, &checks, &items), expected);
    assert_true(items > expected / 2);
}

static void test_segment_node(void **state) {
    (void)state;
    replay_all(&segment_ops, "segment-node", 24);
}

static void test_segment_browser(void **state) {
    (void)state;
    replay_all(&segment_ops, "segment-browser", 146);
}

static void test_rudder_node(void **state) {
    (void)state;
    replay_all(&rudder_ops, "rudder-node", 15);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_segment_node),
                                       cmocka_unit_test(test_segment_browser),
                                       cmocka_unit_test(test_rudder_node)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
