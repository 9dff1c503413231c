/* Requests of PostHog's SDKs: forms, tokens, ids, times, kinds, paths, answers, and the field table's rows. */
/* depends: posthog mixpanel wire json http model crypto base */
/* sources: mixpanel_kit.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/compiler.h"
#include "crypto/crypto.h"
#include "engine/http/http_parse.h"
#include "protocol/posthog/posthog.h"
#include "protocol/wire/field_table.h"
#include "protocol/wire/wire.h"
#include "unit/lz64_kit.h"
#include "unit/mixpanel_kit.h"

static const struct protocol_decoded *post(const char *path, const char *body) {
    assert_int_equal(kit_post(path, body), 0);
    return &kit_get()->decoded;
}

static const struct protocol_item *one(const char *body) {
    const struct protocol_decoded *d = post("/e/", body);
    assert_int_equal(d->item_count, 1);
    return &d->items[0];
}

#define ASSERT_SPAN(span, text) assert_true(span_is(span, text))

static void test_forms(void **state) {
    (void)state;
    static const char single[] =
        "{\"api_key\":\"k\",\"event\":\"a\",\"distinct_id\":\"u\",\"properties\":{}}";
    static const char array[] =
        "[{\"event\":\"a\",\"properties\":{\"token\":\"k\",\"distinct_id\":\"u\"}}]";
    static const char batch[] = "{\"token\":\"k\",\"batch\":[{\"event\":\"a\",\"distinct_id\":7}]}";
    const struct protocol_decoded *d = post("/capture", single);
    ASSERT_SPAN(d->envelope.user, "k");
    ASSERT_SPAN(d->items[0].token, "k");
    ASSERT_SPAN(d->items[0].person, "u");
    d = post("/track/", array);
    assert_int_equal(d->envelope.user.n, 0);
    ASSERT_SPAN(d->items[0].token, "k");
    ASSERT_SPAN(d->items[0].person, "u");
    d = post("/batch/", batch);
    ASSERT_SPAN(d->envelope.user, "k");
    ASSERT_SPAN(d->items[0].person, "7");
    ASSERT_SPAN(d->items[0].json, "{\"event\":\"a\",\"distinct_id\":7}");
    /* base64 in a form, as a beacon without compression sends it. */
    d = post("/i/v0/e/", "data=W3siZXZlbnQiOiJhIiwiZGlzdGluY3RfaWQiOiJ1In1d");
    ASSERT_SPAN(d->items[0].person, "u");
    assert_int_equal(kit_decode(HTTP_GET, "/e", SPAN_LIT("data=%5B%7B%22event%22%3A%22a%22%7D%5D"),
                                SPAN_NONE, SPAN_NONE),
                     0);
    assert_int_equal(kit_get()->decoded.item_count, 1);
    assert_int_equal(kit_decode(HTTP_POST, "/i/v1/analytics/events", SPAN_NONE,
                                SPAN_LIT("Bearer phc_x"),
                                SPAN_LIT("{\"batch\":[{\"event\":\"a\"}]}")),
                     0);
    ASSERT_SPAN(kit_get()->decoded.envelope.user, "phc_x");
}

/* As a form's value. */
static void put_escaped(struct buf *b, struct span text) {
    for (size_t i = 0; i < text.n; i++) {
        uint8_t c = text.p[i];
        bool is_plain = (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
        if (is_plain || (c >= '0' && c <= '9')) {
            buf_put_byte(b, c);
        } else {
            buf_printf(b, "%%%02X", c);
        }
    }
}

/* What was decoded is what `text` says: as many items, the same bytes. */
static void check_items(struct span text) {
    static struct json_token tokens[4096];
    const struct protocol_decoded *d = &kit_get()->decoded;
    size_t count = 0;
    size_t offset = 0;
    size_t items = 0;
    assert_int_equal(json_parse(text, LIMIT_JSON_DEPTH, tokens, 4096, &count, &offset), 0);
    bool is_list = tokens[0].kind == JSON_ARRAY;
    for (uint32_t i = is_list; i < tokens[0].next && i < count; i = tokens[i].next) {
        assert_true(items < d->item_count);
        assert_true(span_equal(d->items[items].json, json_span(text, &tokens[i])));
        items++;
    }
    assert_int_equal(items, d->item_count);
}

static void posted(const char *query, struct span body, struct span text) {
    assert_int_equal(kit_decode(HTTP_POST, "/e/", span_str(query), SPAN_NONE, body), 0);
    check_items(text);
}

/* compression=gzip-js, base64 and lz64 of SDKs that were told so; what the query says of it does not matter. */
static void each_legacy_body(struct span packed, struct span text) {
    static const char query[] = "compression=gzip-js&ip=0&_=1606212000000&ver=1.7.2";
    static uint8_t coded[1 << 17];
    static uint8_t memory[1 << 18];
    size_t n = 0;
    struct buf b = buf_of(memory, sizeof memory);
    struct wire *wire = wire_new();
    assert_non_null(wire);
    posted("", text, text);
    assert_int_equal(wire_gzip(wire, text, &b), 0);
    wire_free(wire);
    posted(query, buf_span(&b), text);
    posted("", buf_span(&b), text);
    assert_int_equal(base64_encode(text, coded, sizeof coded, &n), 0);
    b = buf_of(memory, sizeof memory);
    buf_put_str(&b, "data=");
    put_escaped(&b, span_of(coded, n));
    posted("compression=base64", buf_span(&b), text);
    b = buf_of(memory, sizeof memory);
    buf_put_str(&b, "data=");
    put_escaped(&b, packed);
    struct span query_form = buf_span(&b);
    if (query_form.n < LIMIT_HTTP_TARGET) {
        assert_int_equal(kit_decode(HTTP_GET, "/e/", query_form, SPAN_NONE, SPAN_NONE), 0);
        check_items(text);
    }
    buf_put_str(&b, "&compression=lz64");
    posted("compression=lz64&ip=1", buf_span(&b), text);
    b = buf_of(memory, sizeof memory);
    buf_put_str(&b, "data=");
    buf_put_span(&b, packed); /* as base64 stands in many a form: + and = as they are */
    posted("", buf_span(&b), text);
    assert_false(b.full);
}

static void test_legacy_bodies(void **state) {
    (void)state;
    assert_int_equal(lz64_kit_each(each_legacy_body), 36);
}

static void test_refused_whole(void **state) {
    (void)state;
    static const char *const bodies[] = {"", "x", "3", "{\"batch\":{}}", "\"a\"", "data=!", "{"};
    for (size_t i = 0; i < BH_COUNT(bodies); i++) {
        assert_int_equal(kit_post("/e", bodies[i]), BH_E_SYNTAX);
    }
    assert_int_equal(kit_post("/nowhere", "{}"), BH_E_NOTFOUND);
    assert_int_equal(kit_post("/array/a\"b/config.js", ""), BH_E_NOTFOUND);
    assert_int_equal(kit_post("/array/abc/other", ""), BH_E_NOTFOUND);
    assert_int_equal(kit_decode(HTTP_HEAD, "/e", SPAN_NONE, SPAN_NONE, SPAN_NONE),
                     BH_E_UNSUPPORTED);
    assert_int_equal(post("/batch", "{\"api_key\":\"k\",\"batch\":[]}")->item_count, 0);
}

static void test_one_bad_item_does_not_take_the_others(void **state) {
    (void)state;
    const struct protocol_decoded *d =
        post("/batch", "{\"batch\":[{\"event\":\"a\"},3,{},{\"event\":\"\"},{\"event\":\"b\"}]}");
    static const uint8_t reasons[] = {REASON_NONE, REASON_MALFORMED, REASON_EMPTY,
                                      REASON_NO_EVENT_NAME, REASON_NONE};
    assert_int_equal(d->item_count, 5);
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(d->items[i].reason, reasons[i]);
    }
}

struct kind_row {
    const char *body;
    uint8_t kind;
    const char *person;
};

static void test_kinds(void **state) {
    (void)state;
    static const struct kind_row rows[] = {
        {"{\"event\":\"a\",\"distinct_id\":\"u\"}", EVENT_TRACK, "u"},
        {"{\"event\":\"$pageview\",\"properties\":{\"$device_id\":\"d\"}}", EVENT_TRACK, "d"},
        {"{\"event\":\"$identify\",\"distinct_id\":\"u\",\"properties\":{\"$set\":{}}}",
         EVENT_PROFILE, "u"},
        {"{\"event\":\"$identify\",\"properties\":{\"distinct_id\":\"u\",\"$anon_distinct_id\":\"x\"}}",
         EVENT_IDENTIFY, "u"},
        {"{\"event\":\"$set\",\"distinct_id\":\"u\"}", EVENT_PROFILE, "u"},
        {"{\"event\":\"$create_alias\",\"distinct_id\":\"u\",\"properties\":{\"alias\":\"x\"}}",
         EVENT_ALIAS, "u"},
        {"{\"event\":\"$merge_dangerously\",\"distinct_id\":\"u\",\"properties\":{\"alias\":\"x\"}}",
         EVENT_MERGE, "u"},
        {"{\"event\":\"$groupidentify\",\"distinct_id\":\"$company_acme\"}", EVENT_GROUP, ""},
        {"{\"event\":\"$groupidentify\",\"distinct_id\":\"u\"}", EVENT_GROUP, "u"},
        {"{\"event\":\"a\",\"distinct_id\":\"Anonymous\"}", EVENT_TRACK, ""},
        {"{\"event\":\"a\",\"distinct_id\":\"$posthog_cookieless\"}", EVENT_TRACK, ""},
        /* The id of the event itself counts before the one in its properties. */
        {"{\"event\":\"a\",\"properties\":{\"distinct_id\":\"p\"},\"distinct_id\":\"u\"}",
         EVENT_TRACK, "u"},
    };
    for (size_t i = 0; i < BH_COUNT(rows); i++) {
        const struct protocol_item *item = one(rows[i].body);
        assert_int_equal(item->reason, REASON_NONE);
        assert_int_equal(item->kind, rows[i].kind);
        if (!span_is(item->person, rows[i].person)) {
            fail_msg("%s: %.*s", rows[i].body, (int)item->person.n, (const char *)item->person.p);
        }
    }
}

static void test_times(void **state) {
    (void)state;
    /* The SDK's clock is 5 s behind: KIT_NOW is 2026-09-21T14:13:20Z. */
    const struct protocol_decoded *d =
        post("/batch", "{\"sent_at\":\"2026-09-21T14:13:15.000Z\",\"batch\":[{\"event\":\"a\","
                       "\"timestamp\":\"2026-09-21T14:13:14.250Z\"},{\"event\":\"b\"}]}");
    assert_true(d->items[0].time_ms == KIT_NOW_MS - 750);
    assert_int_equal(d->items[0].flags & EVENT_NO_TIME, 0);
    assert_true(d->items[1].time_ms == KIT_NOW_MS);
    assert_int_equal(d->items[1].flags & EVENT_NO_TIME, EVENT_NO_TIME);
    /* $time is the SDK's own note, and a time beyond all calendars is none. */
    d = post("/batch", "[{\"event\":\"a\",\"properties\":{\"$time\":1}},"
                       "{\"event\":\"a\",\"timestamp\":\"999999999999999\"}]");
    assert_true(d->items[0].time_ms == KIT_NOW_MS && d->items[1].time_ms == KIT_NOW_MS);
    d = post("/batch", "{\"historical_migration\":true,\"batch\":[{\"event\":\"a\"}]}");
    assert_int_equal(d->items[0].flags & EVENT_IS_HISTORIC, EVENT_IS_HISTORIC);
}

static void test_people(void **state) {
    (void)state;
    static const char body[] =
        "{\"event\":\"$identify\",\"properties\":{\"distinct_id\":\"u\",\"$device_id\":\"d\","
        "\"$anon_distinct_id\":\"x\",\"$user_id\":\"u\",\"$set\":{\"alias\":\"no id\"}}}";
    const struct protocol_decoded *d = post("/e", body);
    assert_int_equal(d->items[0].flags & EVENT_HAS_LINKS, EVENT_HAS_LINKS);
    static const char *const ids[] = {"u", "d", "x", "u"};
    static const uint8_t kinds[] = {PERSON_DISTINCT, PERSON_DEVICE, PERSON_ANONYMOUS, PERSON_USER};
    uint8_t memory[256];
    struct buf scratch = buf_of(memory, sizeof memory);
    struct person_iter it;
    struct person_ref ref;
    posthog_ops.person_begin(&it, d->text, d->tokens, 0, EVENT_IDENTIFY, &scratch);
    for (size_t i = 0; i < 4; i++) {
        assert_true(posthog_ops.person_next(&it, &ref));
        ASSERT_SPAN(ref.id, ids[i]);
        assert_int_equal(ref.kind, kinds[i]);
    }
    assert_false(posthog_ops.person_next(&it, &ref));
    posthog_ops.person_begin(&it, d->text, d->tokens, 0, EVENT_GROUP, &scratch);
    assert_false(posthog_ops.person_next(&it, &ref));
}

struct local_row {
    const char *path;
    uint8_t use;
    unsigned status;
    const char *part; /* of the body */
};

static void test_answers(void **state) {
    (void)state;
    static const struct local_row rows[] = {
        {"/flags/", ENDPOINT_ASK, 200, "\"errorsWhileComputingFlags\":true,\"flags\":{}"},
        {"/decide", ENDPOINT_ASK, 200, "\"featureFlags\":{}"},
        {"/flags/definitions", ENDPOINT_LOCAL, 200, "\"flags\":[]"},
        {"/array/phc_a-1/config.js", ENDPOINT_LOCAL, 200,
         "_CONFIG[\"phc_a-1\"]={config:{\"token\":\"phc_a-1\","},
        {"/array/phc_a-1/config", ENDPOINT_LOCAL, 200, "{\"token\":\"phc_a-1\","},
        {"/static/1.2.3/recorder.js", ENDPOINT_LOCAL, 200, "not served here"},
        {"/api/surveys/", ENDPOINT_LOCAL, 200, "\"surveys\":[]"},
        {"/api/early_access_features/", ENDPOINT_LOCAL, 200, "\"earlyAccessFeatures\":[]"},
        {"/api/product_tours/", ENDPOINT_LOCAL, 200, "\"product_tours\":[]"},
        {"/api/web_experiments/", ENDPOINT_LOCAL, 200, "\"experiments\":[]"},
        {"/i/v1/metrics", ENDPOINT_SHED, 200, "{}"},
        {"/s/", ENDPOINT_SHED, 200, "{\"status\":\"Ok\"}"},
        {"/i/v1/logs", ENDPOINT_SHED, 200, "{}"},
    };
    for (size_t i = 0; i < BH_COUNT(rows); i++) {
        const struct protocol_decoded *d = post(rows[i].path, "not even JSON");
        struct protocol_reply reply = kit_reply(REPLY_KEPT);
        assert_int_equal(d->envelope.use, rows[i].use);
        assert_int_equal(d->item_count, 0);
        assert_int_equal(reply.status, rows[i].status);
        assert_true(span_find(reply.body, span_str(rows[i].part)) != SIZE_MAX);
        assert_true(span_find(reply.body, SPAN_LIT("quota_limited")) == SIZE_MAX);
    }
    (void)post("/e", "[{\"event\":\"a\"}]");
    static const unsigned statuses[] = {
        [REPLY_KEPT] = 200,      [REPLY_MALFORMED] = 400,   [REPLY_UNAUTHORIZED] = 401,
        [REPLY_TOO_BIG] = 413,   [REPLY_UNAVAILABLE] = 503, [REPLY_NOT_FOUND] = 404,
        [REPLY_BAD_METHOD] = 405};
    for (unsigned kind = REPLY_KEPT; kind <= REPLY_BAD_METHOD; kind++) {
        struct protocol_reply reply = kit_reply((enum reply_kind)kind);
        assert_int_equal(reply.status, statuses[kind]);
        assert_true(reply.body.n > 0);
    }
}

static void test_env_holds_no_token(void **state) {
    (void)state;
    const struct protocol_decoded *d = post("/track", "{\"api_key\":\"k\",\"event\":\"a\"}");
    uint8_t memory[128];
    struct buf b = buf_of(memory, sizeof memory);
    posthog_ops.env(&d->envelope, &b);
    ASSERT_SPAN(buf_span(&b), "{\"path\":\"/e\"}");
}

static void test_every_row_is_found(void **state) {
    (void)state;
    static struct field_table table;
    size_t count = 0;
    const struct field *rows = posthog_ops.fields(&count);
    assert_true(count > 200);
    for (size_t i = 0; i < count; i++) {
        const struct field *row = &rows[i];
        char name[80] = {0};
        memcpy(name, row->name, row->name_len);
        if (row->is_prefix) {
            name[row->name_len] = '~';
        }
        assert_ptr_equal(posthog_ops.field((enum field_place)row->place, span_str(name)), row);
        assert_int_equal(row->type == TYPE_OBJECT, row->inside != PLACE_NONE);
        assert_int_equal(row->role == ROLE_PERSON, row->person != PERSON_NONE);
        bool is_id_class = (class_flags(row->class_id) & CLASS_ID) != 0 && row->type != TYPE_TEXT;
        assert_true(!is_id_class || row->domain != DOMAIN_NONE);
    }
    field_table_build(&table, rows, count);
    assert_true(table.probes_max <= 8);
    /* Free text is no reserved value, whatever its name. */
    static const char *const texts[] = {
        "$el_text",           "$elements_chain", "$exception_list",
        "$exception_message", "$ai_input",       "$ai_output_choices",
        "$raw_user_agent",    "title",           "$survey_response"};
    for (size_t i = 0; i < BH_COUNT(texts); i++) {
        const struct field *field = posthog_ops.field(PLACE_EVENT_PROPERTY, span_str(texts[i]));
        assert_non_null(field);
        assert_false(field_fits(field, JSON_STRING, SPAN_LIT("Pay")));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forms),
        cmocka_unit_test(test_legacy_bodies),
        cmocka_unit_test(test_refused_whole),
        cmocka_unit_test(test_one_bad_item_does_not_take_the_others),
        cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_times),
        cmocka_unit_test(test_people),
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_env_holds_no_token),
        cmocka_unit_test(test_every_row_is_found),
    };
    kit_use(&posthog_ops);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
