/*
 * The tap: nobody's look costs an event nothing, and a look slows no event.
 */
/* depends: gateway deliver model json os base */
/* libs: cmocka */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "gateway/tap.h"
#include "os/clock.h"
#include "os/thread.h"

static struct tap tap;
static const struct verdict verdict = {.withheld_leaves = 2};
static const struct tap_line line = {
    .seq = 7, .vendor = "mixpanel", .source = 1, .kind = 1, .sends = true, .verdict = &verdict};
static uint8_t room[TAP_LINES * TAP_LINE_MAX];

static struct span look(uint64_t after) {
    struct buf b = buf_of(room, sizeof room);
    tap_read(&tap, after, &b);
    assert_false(b.full);
    return buf_span(&b);
}

static void unwatched_writes_nothing(void **state) {
    (void)state;
    enum { CALLS = 1000000 };
    tap_init(&tap);
    uint64_t begun = os_mono_us();
    for (unsigned i = 0; i < CALLS; i++) {
        tap_verdict(&tap, &line);
    }
    print_message("%.1f ns a verdict while nobody looks\n",
                  (double)(os_mono_us() - begun) * 1000 / CALLS);
    assert_int_equal(tap.next, 0);
    assert_int_equal(tap.dropped, 0);
}

static void a_look_shows_what_follows(void **state) {
    (void)state;
    tap_init(&tap);
    assert_true(span_is(look(0), "{\"next\":0,\"dropped\":0,\"lines\":[]}\n"));
    tap_verdict(&tap, &line);
    assert_true(span_is(
        look(0),
        "{\"next\":1,\"dropped\":0,\"lines\":[{\"seq\":7,\"vendor\":\"mixpanel\",\"source\":1,\"kind\":\"track\",\"sends\":true,"
        "\"withheld\":2,\"leaves\":[]}]}\n"));
    assert_true(span_is(look(1), "{\"next\":1,\"dropped\":0,\"lines\":[]}\n"));
    /* Whoever fell behind is told how far. */
    for (unsigned i = 0; i < TAP_LINES + 5; i++) {
        tap_verdict(&tap, &line);
    }
    assert_true(span_starts(look(1), SPAN_LIT("{\"next\":2054,\"dropped\":5,")));
}

static void write_one(void *context) {
    (void)context;
    tap_verdict(&tap, &line);
}

static void a_look_makes_nobody_wait(void **state) {
    (void)state;
    struct os_thread writer;
    tap_init(&tap);
    (void)look(0);
    os_lock(&tap.lock);
    assert_int_equal(os_thread_start(&writer, "writer", 0, write_one, NULL), 0);
    os_thread_join(&writer); /* hangs here if the writer waits */
    os_unlock(&tap.lock);
    assert_int_equal(tap.next, 0);
    assert_int_equal(tap.dropped, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unwatched_writes_nothing),
        cmocka_unit_test(a_look_shows_what_follows),
        cmocka_unit_test(a_look_makes_nobody_wait),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
