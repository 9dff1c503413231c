/*
 * Decoding what recorded SDKs do not show: all wrappings, odd queries, wrong items beside good ones, limits, ids.
 */
/* depends: mixpanel wire crypto json http model base */
/* sources: mixpanel_kit.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "crypto/crypto.h"
#include "engine/http/http_parse.h"
#include "protocol/mixpanel/mixpanel.h"
#include "protocol/wire/wire.h"
#include "unit/mixpanel_kit.h"

#define EVENT "{\"event\":\"A\",\"properties\":{\"token\":\"t\",\"distinct_id\":\"u\"}}"

static const struct protocol_item *item(size_t i) {
    check(i < kit_get()->decoded.item_count);
    return &kit_get()->decoded.items[i];
}

static void expect_event(int rc, size_t count) {
    assert_int_equal(rc, 0);
    assert_int_equal(kit_get()->decoded.item_count, count);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(item(i)->reason, REASON_NONE);
        assert_true(span_is(item(i)->token, "t"));
        assert_true(span_is(item(i)->person, "u"));
    }
}

static struct span base64_of(struct span in) {
    static uint8_t memory[4096];
    size_t n = 0;
    assert_int_equal(base64_encode(in, memory, sizeof memory, &n), 0);
    return span_of(memory, n);
}

static struct span gzip_of(struct span in) {
    static uint8_t memory[1 << 20];
    struct buf b = buf_of(memory, sizeof memory);
    assert_int_equal(wire_gzip(kit_get()->work.wire, in, &b), 0);
    return buf_span(&b);
}

static int post(const char *path, struct span body) {
    return kit_decode(HTTP_POST, path, SPAN_NONE, SPAN_NONE, body);
}

static struct span joined(struct span a, struct span b) {
    /* Two in turn, so that a result can be joined again. */
    static uint8_t memory[2][1 << 15];
    static unsigned turn;
    struct buf out = buf_of(memory[turn++ % 2], sizeof memory[0]);
    buf_put_span(&out, a);
    buf_put_span(&out, b);
    assert_false(out.full);
    return buf_span(&out);
}

static void test_wrappings(void **state) {
    (void)state;
    expect_event(kit_post("/track", EVENT), 1);
    expect_event(kit_post("/track/", " \r\n" EVENT "\n"), 1);
    expect_event(kit_post("/track", "[" EVENT "," EVENT "]"), 2);
    expect_event(post("/track", gzip_of(SPAN_LIT("[" EVENT "]"))), 1);
    struct span coded = base64_of(SPAN_LIT("[" EVENT "]"));
    expect_event(post("/track", joined(SPAN_LIT("data="), coded)), 1);
    expect_event(
        post("/track", joined(SPAN_LIT("verbose=1&data="), joined(coded, SPAN_LIT("&ip=1")))), 1);
    expect_event(kit_post("/track", "data=%5B" EVENT "%5D"), 1);
    expect_event(kit_post("/track", "data=" EVENT), 1);
    expect_event(post("/track", gzip_of(joined(SPAN_LIT("data="), coded))), 1);
    expect_event(post("/track", joined(SPAN_LIT("data="), base64_of(gzip_of(SPAN_LIT(EVENT))))), 1);
    coded = base64_of(SPAN_LIT(EVENT));
    expect_event(
        kit_decode(HTTP_GET, "/track", joined(SPAN_LIT("ip=1&data="), coded), SPAN_NONE, SPAN_NONE),
        1);
    while (coded.p[coded.n - 1] == '=') {
        coded.n--;
    }
    expect_event(
        kit_decode(HTTP_GET, "/track", joined(SPAN_LIT("data="), coded), SPAN_NONE, SPAN_NONE), 1);
    expect_event(
        kit_decode(HTTP_POST, "/track", joined(SPAN_LIT("data="), coded), SPAN_NONE, SPAN_NONE), 1);
}

/* Base64 whose letters include + and /, raw, percent-encoded and in the URL alphabet. */
static void test_plus(void **state) {
    (void)state;
    struct span json = SPAN_LIT(
        "{\"event\":\"A\",\"properties\":{\"token\":\"t\",\"distinct_id\":\"u\",\"x\":\"~~~>>>\xc3\xbb\xc3\xbf\"}}");
    struct span coded = base64_of(json);
    assert_true(span_find_byte(coded, '+') != SIZE_MAX);
    expect_event(post("/track", joined(SPAN_LIT("data="), coded)), 1);
    assert_true(span_equal(item(0)->json, json));
    uint8_t memory[1024];
    struct buf b = buf_of(memory, sizeof memory);
    for (size_t i = 0; i < coded.n; i++) {
        buf_printf(&b, strchr("+/=", coded.p[i]) != NULL ? "%%%02X" : "%c", coded.p[i]);
    }
    expect_event(post("/track", joined(SPAN_LIT("data="), buf_span(&b))), 1);
    assert_true(span_equal(item(0)->json, json));
    b = buf_of(memory, sizeof memory);
    for (size_t i = 0; i < coded.n; i++) {
        buf_put_byte(&b, coded.p[i] == '+' ? '-' : coded.p[i] == '/' ? '_' : coded.p[i]);
    }
    expect_event(post("/track", joined(SPAN_LIT("data="), buf_span(&b))), 1);
    assert_true(span_equal(item(0)->json, json));
    /* A form encoder writes a space as +; who sends JSON as it is means a plus. */
    expect_event(
        kit_post(
            "/track",
            "data=%7B%22event%22:%22A+B%2BC%22,%22properties%22:%7B%22token%22:%22t%22,%22distinct_id%22:%22u%22%7D%7D"),
        1);
    assert_true(span_is(item(0)->event_name, "A B+C"));
    expect_event(
        kit_post("/track",
                 "data={\"event\":\"A+B\",\"properties\":{\"token\":\"t\",\"distinct_id\":\"u\"}}"),
        1);
    assert_true(span_is(item(0)->event_name, "A+B"));
}

/* A percent sign that escapes nothing is one, also next to others and at the end. */
static void test_percent(void **state) {
    (void)state;
    expect_event(
        kit_post(
            "/track",
            "data={\"event\":\"1%25 %%41 %4 %zz %%\",\"properties\":{\"token\":\"t\",\"distinct_id\":\"u\"}}"),
        1);
    assert_true(span_is(item(0)->event_name, "1% %A %4 %zz %%"));
}

static void test_repairs(void **state) {
    (void)state;
    expect_event(
        kit_post(
            "/track",
            "{\"event\":\"A\xed\xa0\xbc\xed\xbe\xaf\",\"properties\":{\"token\":\"t\",\"distinct_id\":\"u\",\"x\":\"\xed\xa0\xbc\"}}"),
        1);
    assert_true(span_is(item(0)->event_name, "A\xf0\x9f\x8e\xaf"));
    assert_true(span_find(item(0)->json, SPAN_LIT("\xef\xbf\xbd")) != SIZE_MAX);
    expect_event(
        kit_post("/track",
                 "{\"event\":\"A\\ud83c\",\"properties\":{\"token\":\"t\",\"distinct_id\":\"u\"}}"),
        1);
    assert_true(span_find(item(0)->json, SPAN_LIT("A\\ufffd")) != SIZE_MAX);
    assert_int_equal(kit_post("/track", "{\"event\":\"\xff\",\"properties\":{}}"), BH_E_UTF8);
}

static void test_lines(void **state) {
    (void)state;
    expect_event(kit_post("/import", EVENT "\n" EVENT "\r\n\n" EVENT), 3);
    assert_true(span_is(item(1)->json, EVENT));
    assert_true(span_is(item(2)->json, EVENT));
    assert_true((item(2)->flags & EVENT_IS_HISTORIC) != 0);
    expect_event(post("/import", gzip_of(SPAN_LIT(EVENT "\n" EVENT "\n"))), 2);
    assert_int_equal(kit_post("/import", EVENT "\n{\"event\":\n  {}\n" EVENT "\n"), 0);
    assert_int_equal(kit_get()->decoded.item_count, 4);
    assert_int_equal(item(0)->reason, REASON_NONE);
    assert_int_equal(item(1)->reason, REASON_MALFORMED);
    assert_int_equal(item(2)->reason, REASON_EMPTY);
    assert_int_equal(item(3)->reason, REASON_NONE);
    assert_true(span_is(item(3)->json, EVENT));
    assert_int_equal(kit_post("/import", "{\"event\":\n" EVENT), BH_E_SYNTAX);
}

static void test_paths(void **state) {
    (void)state;
    static const struct {
        const char *path;
        uint8_t endpoint;
        uint8_t use;
    } all[] = {
        {"/track", MIXPANEL_TRACK, ENDPOINT_ITEMS},
        {"/engage/", MIXPANEL_ENGAGE, ENDPOINT_ITEMS},
        {"/groups", MIXPANEL_GROUPS, ENDPOINT_ITEMS},
        {"/import", MIXPANEL_IMPORT, ENDPOINT_ITEMS},
        {"/settings/", MIXPANEL_SETTINGS, ENDPOINT_LOCAL},
        {"/flags/", MIXPANEL_FLAGS, ENDPOINT_LOCAL},
        {"/decide", MIXPANEL_DECIDE, ENDPOINT_LOCAL},
        {"/record/", MIXPANEL_RECORD, ENDPOINT_SHED},
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        (void)kit_post(all[i].path, EVENT);
        assert_int_equal(kit_get()->decoded.envelope.endpoint, all[i].endpoint);
        assert_int_equal(kit_get()->decoded.envelope.use, all[i].use);
    }
    static const char *const none[] = {"",       "/",       "//",       "/track//",
                                       "/Track", "/tracks", "/track/x", "/../track"};
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++) {
        assert_int_equal(kit_post(none[i], EVENT), BH_E_NOTFOUND);
    }
    assert_int_equal(kit_decode(HTTP_PUT, "/track", SPAN_NONE, SPAN_NONE, SPAN_LIT(EVENT)),
                     BH_E_UNSUPPORTED);
    assert_int_equal(kit_decode(HTTP_HEAD, "/track", SPAN_LIT("data=e30="), SPAN_NONE, SPAN_NONE),
                     BH_E_UNSUPPORTED);
    assert_int_equal(kit_decode(HTTP_HEAD, "/settings/", SPAN_NONE, SPAN_NONE, SPAN_NONE), 0);
}

static void test_envelope(void **state) {
    (void)state;
    uint8_t memory[128];
    (void)kit_decode(
        HTTP_POST, "/import",
        SPAN_LIT("ip=1&verbose=1&strict=1&x&=&project_id=7&api_key=k&callback=a.b_c$1&img=0"),
        SPAN_LIT("Basic dXNlcjpzZWM6cmV0"), SPAN_LIT(EVENT));
    const struct protocol_envelope *e = &kit_get()->decoded.envelope;
    assert_true(e->ip && e->verbose && e->strict && !e->image);
    assert_true(span_is(e->project_id, "7") && span_is(e->api_key, "k") &&
                span_is(e->callback, "a.b_c$1"));
    assert_true(span_is(e->user, "user") && span_is(e->secret, "sec:ret"));
    struct buf b = buf_of(memory, sizeof memory);
    mixpanel_ops.env(e, &b);
    assert_true(span_is(buf_span(&b), "{\"ip\":true,\"path\":\"/import\",\"verbose\":true}"));
    static const char *const unsafe[] = {
        "callback=1a",
        "callback=a(b)",
        "callback=a%28",
        "callback=.a",
        "callback=a;b",
        "callback=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};
    for (size_t i = 0; i < sizeof unsafe / sizeof unsafe[0]; i++) {
        (void)kit_decode(HTTP_POST, "/track", span_str(unsafe[i]), SPAN_LIT("Bearer abc"),
                         SPAN_LIT(EVENT));
        assert_int_equal(kit_get()->decoded.envelope.callback.n, 0);
        assert_int_equal(kit_get()->decoded.envelope.user.n, 0);
    }
    (void)kit_decode(HTTP_POST, "/import", SPAN_NONE, SPAN_LIT("basic dG9rZW46"), SPAN_LIT(EVENT));
    assert_true(span_is(kit_get()->decoded.envelope.user, "token"));
    assert_int_equal(kit_get()->decoded.envelope.secret.n, 0);
}

static void test_partial_badness(void **state) {
    (void)state;
    assert_int_equal(
        kit_post("/track",
                 "[" EVENT
                 ",7,\"x\",{},{\"event\":\"\",\"properties\":{}},{\"event\":5,\"properties\":{}},"
                 "{\"properties\":{}},{\"event\":\"A\"},{\"event\":\"A\",\"properties\":[]}," EVENT
                 "]"),
        0);
    static const uint8_t reasons[] = {
        REASON_NONE,          REASON_MALFORMED,     REASON_MALFORMED,     REASON_EMPTY,
        REASON_NO_EVENT_NAME, REASON_NO_EVENT_NAME, REASON_NO_EVENT_NAME, REASON_MALFORMED,
        REASON_MALFORMED,     REASON_NONE};
    assert_int_equal(kit_get()->decoded.item_count, sizeof reasons);
    for (size_t i = 0; i < sizeof reasons; i++) {
        assert_int_equal(item(i)->reason, reasons[i]);
    }
    assert_int_equal(kit_post("/track", "[]"), 0);
    assert_int_equal(kit_get()->decoded.item_count, 0);
    assert_int_equal(kit_post("/track", "7"), BH_E_SYNTAX);
    assert_int_equal(kit_post("/track", ""), BH_E_SYNTAX);
    assert_int_equal(kit_post("/track", "data="), BH_E_SYNTAX);
    assert_int_equal(kit_post("/track", "data=%%%"), BH_E_SYNTAX);
    assert_int_equal(kit_post("/track", "hello"), BH_E_SYNTAX);
    assert_int_equal(kit_post("/track", "[" EVENT ","), BH_E_SYNTAX);
    assert_int_equal(post("/track", SPAN_LIT("\x1f\x8b")), BH_E_SYNTAX);
    struct span packed = gzip_of(SPAN_LIT(EVENT));
    packed.n -= 5;
    assert_int_equal(post("/track", packed), BH_E_SYNTAX);
}

static void test_limits(void **state) {
    (void)state;
    static uint8_t text[LIMIT_REQUEST_BYTES];
    struct buf b = buf_of(text, sizeof text);
    /* One item too deep or too large, the others good. */
    buf_put_str(&b, "[" EVENT ",{\"event\":\"A\",\"properties\":{\"x\":");
    for (int i = 0; i < 40; i++) {
        buf_put_byte(&b, '[');
    }
    for (int i = 0; i < 40; i++) {
        buf_put_byte(&b, ']');
    }
    buf_put_str(&b, "}},{\"event\":\"A\",\"properties\":{\"x\":");
    for (int i = 0; i < LIMIT_JSON_DEPTH - 2; i++) {
        buf_put_byte(&b, '[');
    }
    for (int i = 0; i < LIMIT_JSON_DEPTH - 2; i++) {
        buf_put_byte(&b, ']');
    }
    buf_put_str(&b, "}},{\"event\":\"A\",\"properties\":{\"x\":[0");
    for (int i = 0; i < LIMIT_EVENT_LEAVES; i++) {
        buf_put_str(&b, ",0");
    }
    buf_put_str(&b, "]}},{\"event\":\"A\",\"properties\":{\"x\":\"");
    memset(buf_room(&b, LIMIT_EVENT_BYTES), 'x', LIMIT_EVENT_BYTES);
    buf_put_str(&b, "\"}}," EVENT "]");
    assert_int_equal(post("/track", buf_span(&b)), 0);
    static const uint8_t reasons[] = {REASON_NONE,        REASON_TOO_COMPLEX, REASON_NONE,
                                      REASON_TOO_COMPLEX, REASON_TOO_BIG,     REASON_NONE};
    assert_int_equal(kit_get()->decoded.item_count, sizeof reasons);
    for (size_t i = 0; i < sizeof reasons; i++) {
        assert_int_equal(item(i)->reason, reasons[i]);
    }
    /* A request of too many items. */
    b = buf_of(text, sizeof text);
    buf_put_str(&b, "[" EVENT);
    for (int i = 1; i < LIMIT_REQUEST_EVENTS; i++) {
        buf_put_str(&b, "," EVENT);
    }
    buf_put_byte(&b, ']');
    assert_int_equal(post("/track", buf_span(&b)), 0);
    assert_int_equal(kit_get()->decoded.item_count, LIMIT_REQUEST_EVENTS);
    b.n--;
    buf_put_str(&b, "," EVENT "]");
    assert_int_equal(post("/track", buf_span(&b)), BH_E_TOO_MANY);
    /* a gzip bomb. */
    memset(text, ' ', sizeof text);
    text[0] = '[';
    static uint8_t packed[1 << 20];
    struct buf out = buf_of(packed, sizeof packed);
    assert_int_equal(wire_gzip(kit_get()->work.wire, span_of(text, sizeof text), &out), 0);
    assert_int_equal(wire_gzip(kit_get()->work.wire, span_of(text, sizeof text), &out), 0);
    assert_int_equal(post("/track", buf_span(&out)), BH_E_TOO_BIG);
}

static void test_facts(void **state) {
    (void)state;
    assert_int_equal(
        kit_post(
            "/track",
            "[{\"event\":\"$identify\",\"properties\":{\"token\":\"t\",\"distinct_id\":\"u\",\"$anon_distinct_id\":\"$device:d\",\"$insert_id\":\"i\",\"time\":1795489911.555}},"
            "{\"event\":\"$create_alias\",\"properties\":{\"distinct_id\":\"u\",\"alias\":\"v\",\"time\":1795489911555}},"
            "{\"event\":\"$merge\",\"properties\":{\"$distinct_ids\":[\"a\",\"b\"],\"time\":\"2026-11-24T03:11:51.555Z\"}},"
            "{\"event\":\"A\",\"properties\":{\"distinct_id\":\"$device:d\",\"$device_id\":\"d\",\"time\":\"soon\"}},"
            "{\"event\":\"A\",\"properties\":{\"distinct_id\":\"u\",\"$device_id\":\"d\",\"$user_id\":\"u\",\"time\":-1}},"
            "{\"event\":\"A\",\"properties\":{\"$device_id\":\"d\",\"distinct_id\":\"null\",\"$user_id\":\"\"}},"
            "{\"event\":\"A\",\"properties\":{\"distinct_id\":12345,\"$insert_id\":7}},"
            "{\"event\":\"A\",\"properties\":{\"\\u0064istinct_id\":\"\\u0075\\u00e9\",\"token\":\"\\u0074\"}},"
            "{\"event\":\"A\",\"properties\":{\"distinct_id\":\"a\",\"distinct_id\":\"b\"}},"
            "{\"event\":\"A\",\"properties\":{\"distinct_id\":\"a\",\"distinct_id\":null}},"
            "{\"event\":\"A\",\"properties\":{\"x\":{\"distinct_id\":\"a\",\"token\":\"no\"}}}]"),
        0);
    static const struct {
        uint8_t kind;
        uint8_t flags;
        const char *person;
        const char *dedupe;
        const char *token;
        int64_t time_ms;
    } facts[] = {
        {EVENT_IDENTIFY, EVENT_HAS_LINKS, "u", "i", "t", 1795489911555},
        {EVENT_ALIAS, EVENT_HAS_LINKS, "u", "", "", 1795489911555},
        {EVENT_MERGE, EVENT_HAS_LINKS, "", "", "", 1795489911555},
        {EVENT_TRACK, EVENT_NO_TIME, "d", "", "", KIT_NOW_MS},
        {EVENT_TRACK, EVENT_HAS_LINKS | EVENT_NO_TIME, "u", "", "", KIT_NOW_MS},
        {EVENT_TRACK, EVENT_NO_TIME, "d", "", "", KIT_NOW_MS},
        {EVENT_TRACK, EVENT_NO_TIME, "12345", "7", "", KIT_NOW_MS},
        {EVENT_TRACK, EVENT_NO_TIME, "u\xc3\xa9", "", "t", KIT_NOW_MS},
        {EVENT_TRACK, EVENT_NO_TIME | EVENT_HAS_LINKS, "b", "", "", KIT_NOW_MS},
        {EVENT_TRACK, EVENT_NO_TIME, "", "", "", KIT_NOW_MS},
        {EVENT_TRACK, EVENT_NO_TIME, "", "", "", KIT_NOW_MS},
    };
    for (size_t i = 0; i < sizeof facts / sizeof facts[0]; i++) {
        assert_int_equal(item(i)->reason, REASON_NONE);
        assert_int_equal(item(i)->kind, facts[i].kind);
        assert_int_equal(item(i)->flags, facts[i].flags);
        assert_int_equal(item(i)->time_ms, facts[i].time_ms);
        assert_true(span_is(item(i)->person, facts[i].person));
        assert_true(span_is(item(i)->dedupe, facts[i].dedupe));
        assert_true(span_is(item(i)->token, facts[i].token));
    }
    expect_event(
        kit_post(
            "/engage",
            "{\"$token\":\"t\",\"$distinct_id\":\"u\",\"$set\":{\"$name\":\"x\",\"$distinct_id\":\"no\"},\"$time\":1795489911}"),
        1);
    assert_int_equal(item(0)->kind, EVENT_PROFILE);
    assert_int_equal(item(0)->time_ms, INT64_C(1795489911000));
    assert_int_equal(item(0)->flags, 0);
    expect_event(kit_post("/engage", "{\"$token\":\"t\",\"$distinct_id\":\"u\",\"$delete\":\"v\"}"),
                 1);
    assert_int_equal(item(0)->flags, EVENT_NO_TIME);
    assert_int_equal(
        kit_post("/groups",
                 "{\"$token\":\"t\",\"$group_key\":\"company\",\"$group_id\":\"g\",\"$set\":{}}"),
        0);
    assert_int_equal(item(0)->kind, EVENT_GROUP);
    assert_int_equal(item(0)->person.n, 0);
}

static uint64_t ids_of(const char *event, const char *properties) {
    char json[8192];
    int n =
        snprintf(json, sizeof json, "{\"event\":\"%s\",\"properties\":{%s}}", event, properties);
    assert_true(n > 0 && (size_t)n < sizeof json);
    assert_int_equal(kit_post("/track", json), 0);
    assert_int_equal(item(0)->reason, REASON_NONE);
    return item(0)->ids;
}

/* Equal for what is read alike, and for nothing else. */
static void test_ids(void **state) {
    (void)state;
    static const uint8_t key[SIPHASH_KEY_SIZE] = {3};
    kit_get()->work.ids_key = key;
    uint64_t ids = ids_of("A", "\"distinct_id\":\"u\",\"$device_id\":\"d\"");
    assert_true(ids != 0);
    assert_true(ids ==
                ids_of("B", "\"distinct_id\":\"\\u0075\",\"x\":1,\"$device_id\":\"$device:d\""));
    static const char *const others[][2] = {
        {"A", "\"distinct_id\":\"u\",\"$device_id\":\"e\""},
        {"A", "\"$device_id\":\"d\",\"distinct_id\":\"u\""},
        {"A", "\"distinct_id\":\"$device:u\",\"$device_id\":\"d\""},
        {"A", "\"distinct_id\":\"u\",\"$user_id\":\"d\""},
        {"A", "\"distinct_id\":\"ud\",\"$device_id\":\"\\u0000\""},
        {"A", "\"distinct_id\":\"u\",\"$device_id\":\"d\",\"$user_id\":\"u\""},
        {"$identify", "\"distinct_id\":\"u\",\"$device_id\":\"d\""},
    };
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        uint64_t other = ids_of(others[i][0], others[i][1]);
        assert_true(other != 0 && other != ids);
    }
    /* One id, and more or longer ones than the resolver is sure to take in. */
    assert_true(ids_of("A", "\"distinct_id\":\"u\",\"$user_id\":\"u\"") == 0);
    char many[4096] = "\"$distinct_ids\":[\"a0\"";
    for (unsigned i = 1; i < 40; i++) {
        (void)snprintf(many + strlen(many), 16, ",\"a%u\"", i);
        uint64_t found = ids_of("A", strcat(many, "]"));
        assert_int_equal(found != 0, i < 31);
        many[strlen(many) - 1] = '\0';
    }
    (void)snprintf(many, sizeof many, "\"distinct_id\":\"u\",\"$user_id\":\"%01020d\"", 1);
    assert_true(ids_of("A", many) == 0);
    kit_get()->work.ids_key = NULL;
    assert_true(ids_of("A", "\"distinct_id\":\"u\",\"$device_id\":\"d\"") == 0);
}

struct expected_person {
    const char *id;
    uint8_t kind;
    bool is_device;
};

static void check_persons(const char *path, const char *json,
                          const struct expected_person *expected, size_t count) {
    uint8_t memory[256];
    struct buf scratch = buf_of(memory, sizeof memory);
    struct person_iter it;
    struct person_ref ref;
    assert_int_equal(kit_post(path, json), 0);
    const struct protocol_decoded *d = &kit_get()->decoded;
    mixpanel_ops.person_begin(&it, d->text, d->tokens, d->items[0].root,
                              (enum event_kind)d->items[0].kind, &scratch);
    for (size_t i = 0; i < count; i++) {
        assert_true(mixpanel_ops.person_next(&it, &ref));
        assert_true(span_is(ref.id, expected[i].id));
        assert_int_equal(ref.kind, expected[i].kind);
        assert_int_equal(ref.is_device, expected[i].is_device);
        assert_true(d->tokens[d->items[0].root + ref.leaf].kind != JSON_KEY);
    }
    assert_false(mixpanel_ops.person_next(&it, &ref));
    assert_false(mixpanel_ops.person_next(&it, &ref));
}

static void test_persons(void **state) {
    (void)state;
    const struct expected_person identify[] = {{"d", PERSON_DEVICE, true},
                                               {"u", PERSON_DISTINCT, false},
                                               {"a", PERSON_ANONYMOUS, true},
                                               {"u", PERSON_USER, false}};
    check_persons(
        "/track",
        "[{\"event\":\"$identify\",\"properties\":{\"$device_id\":\"d\",\"x\":{\"alias\":\"no\"},\"distinct_id\":\"u\",\"$anon_distinct_id\":\"$device:a\",\"$user_id\":\"\\u0075\"}}]",
        identify, 4);
    const struct expected_person merge[] = {{"a", PERSON_MERGED, false},
                                            {"b", PERSON_MERGED, true},
                                            {"5", PERSON_MERGED, false},
                                            {"z", PERSON_ALIAS, false}};
    check_persons(
        "/import",
        "{\"properties\":{\"$distinct_ids\":[\"a\",\"null\",{},\"$device:b\",5.0],\"alias\":\"z\"},\"event\":\"$merge\"}",
        merge, 4);
    const struct expected_person profile[] = {
        {"u", PERSON_DISTINCT, false}, {"d", PERSON_DEVICE, true}, {"u", PERSON_ECHO, false}};
    check_persons(
        "/engage",
        "{\"$distinct_id\":\"u\",\"$set\":{\"$user_id\":\"no\"},\"$device_id\":\"d\",\"$delete\":\"u\"}",
        profile, 3);
    check_persons("/engage",
                  "{\"$distinct_id\":\"00000000-0000-0000-0000-000000000000\",\"$delete\":\"\"}",
                  NULL, 0);
    check_persons("/groups", "{\"$group_id\":\"g\",\"$distinct_id\":\"u\"}", NULL, 0);
    check_persons("/track", "{\"event\":\"x\"}", NULL, 0);
}

static void test_placeholders(void **state) {
    (void)state;
    static const char *const nobody[] = {"",
                                         "0",
                                         "-1",
                                         "null",
                                         "NULL",
                                         "Undefined",
                                         "anonymous",
                                         "true",
                                         "n/a",
                                         "00000000-0000-0000-0000-000000000000",
                                         "[object Object]"};
    for (size_t i = 0; i < sizeof nobody / sizeof nobody[0]; i++) {
        assert_true(mixpanel_ops.is_placeholder(span_str(nobody[i])));
    }
    static const char *const somebody[] = {
        "1", "00", "user_0", "nobody@example.com", "00000000-0000-0000-0000-000000000001", "nul"};
    for (size_t i = 0; i < sizeof somebody / sizeof somebody[0]; i++) {
        assert_false(mixpanel_ops.is_placeholder(span_str(somebody[i])));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ids),
        cmocka_unit_test(test_wrappings),
        cmocka_unit_test(test_plus),
        cmocka_unit_test(test_percent),
        cmocka_unit_test(test_repairs),
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_paths),
        cmocka_unit_test(test_envelope),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_facts),
        cmocka_unit_test(test_persons),
        cmocka_unit_test(test_placeholders),
        cmocka_unit_test(test_partial_badness),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
