/* The field table: every row is found, patterns accept and refuse, times are read, reserved strings of real traffic fit. */
/* depends: mixpanel wire json http model crypto base */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/compiler.h"
#include "protocol/mixpanel/mixpanel.h"
#include "protocol/wire/field_table.h"

static void test_every_row_is_found(void **state) {
    (void)state;
    size_t count = 0;
    const struct field *rows = mixpanel_ops.fields(&count);
    assert_true(count > 150);
    for (size_t i = 0; i < count; i++) {
        const struct field *row = &rows[i];
        struct span name = span_of(row->name, row->name_len);
        if (row->is_prefix) {
            const struct field *exact = mixpanel_ops.field((enum field_place)row->place, name);
            assert_true(exact == NULL || exact != row);
            char longer[80] = {0};
            memcpy(longer, row->name, row->name_len);
            longer[row->name_len] = '~';
            assert_ptr_equal(mixpanel_ops.field((enum field_place)row->place, span_str(longer)),
                             row);
        } else {
            assert_ptr_equal(mixpanel_ops.field((enum field_place)row->place, name), row);
        }
        /* An identifier has a domain; a container leads somewhere; a class is one. */
        assert_true((row->role != ROLE_PERSON && row->role != ROLE_GROUP_ID &&
                     row->role != ROLE_INSERT_ID) ||
                    row->domain != DOMAIN_NONE);
        assert_int_equal(row->type == TYPE_OBJECT, row->inside != PLACE_NONE);
        assert_int_equal(row->role == ROLE_PERSON, row->person != PERSON_NONE);
        assert_true(row->class_id == CLASS_NONE ? row->type == TYPE_OBJECT
                                                : class_name(row->class_id) != NULL);
        bool is_id_class = (class_flags(row->class_id) & CLASS_ID) != 0 && row->type != TYPE_TEXT;
        assert_true(!is_id_class || row->domain != DOMAIN_NONE);
    }
    assert_null(mixpanel_ops.field(PLACE_EVENT_PROPERTY, SPAN_LIT("plan")));
    assert_null(mixpanel_ops.field(PLACE_EVENT_PROPERTY, SPAN_LIT("$set")));
    assert_null(mixpanel_ops.field(PLACE_NONE, SPAN_LIT("token")));
    assert_null(mixpanel_ops.field(PLACE_EVENT_PROPERTY, SPAN_NONE));
    assert_null(mixpanel_ops.field(PLACE_EVENT_PROPERTY, SPAN_LIT("distinct_i")));
    assert_int_equal(mixpanel_ops.field(PLACE_EVENT_PROPERTY, SPAN_LIT("utm_source"))->class_id,
                     CLASS_BEHAVIOR);
    assert_int_equal(mixpanel_ops.field(PLACE_EVENT_PROPERTY, SPAN_LIT("$el_attr__data-x"))->type,
                     TYPE_TEXT);
    assert_int_equal(mixpanel_ops.field(PLACE_EVENT_PROPERTY, SPAN_LIT("$el_attr__href"))->type,
                     TYPE_URL);
}

/* Reserved, yet anything may stand in it: these must stay undeclared, or free text leaves without a plan. */
static void test_free_text_is_closed(void **state) {
    (void)state;
    static const char *const names[] = {
        "$el_text",   "$el_id",  "$el_classes",        "$el_attr__title",
        "$elements",  "$target", "current_page_title", "$ae_crashed_reason",
        "$user_agent"};
    for (size_t i = 0; i < BH_COUNT(names); i++) {
        const struct field *field = mixpanel_ops.field(PLACE_EVENT_PROPERTY, span_str(names[i]));
        assert_non_null(field);
        assert_int_equal(field->type, TYPE_TEXT);
        assert_false(field_fits(field, JSON_STRING, SPAN_LIT("Pay")));
    }
    assert_int_equal(mixpanel_ops.field(PLACE_PROFILE_VALUE, SPAN_LIT("$ios_devices"))->type,
                     TYPE_TEXT);
    assert_int_equal(mixpanel_ops.field(PLACE_PROFILE_VALUE, SPAN_LIT("$android_devices"))->type,
                     TYPE_TEXT);
}

/* The table stays as fast as it is: a row is at most a handful of steps away. */
static void test_probes_are_few(void **state) {
    (void)state;
    static struct field_table table;
    size_t count = 0;
    const struct field *rows = mixpanel_ops.fields(&count);
    field_table_build(&table, rows, count);
    assert_true(table.probes_max <= 6);
}

struct fit {
    uint8_t type;
    const char *value;
    bool fits;
};

static const struct fit fits[] = {
    {TYPE_TEXT, "a", false},
    {TYPE_TEXT, "", false},
    {TYPE_OBJECT, "a", false},
    {TYPE_BOOL, "true", false},
    {TYPE_ANY, "anything at all", true},
    {TYPE_NUMBER, "12.5", true},
    {TYPE_NUMBER, "12a", false},
    {TYPE_ID, "", true},
    {TYPE_ID, "user 1", true},
    {TYPE_ID, "a\nb", false},
    {TYPE_FAMILY, "Mac OS X", true},
    {TYPE_FAMILY, "Chrome 126.0", true},
    {TYPE_FAMILY, "Chrome Ada Lovelace", false},
    {TYPE_FAMILY, "Ada Lovelace", false},
    {TYPE_FAMILY, "", false},
    {TYPE_WORD, "spring_sale-2026", true},
    {TYPE_WORD, "Ada Lovelace", false},
    {TYPE_LABEL, "iPhone 15 Pro", true},
    {TYPE_WORD, "", false},
    {TYPE_WORD, "a@b.c", false},
    {TYPE_WORD, "Wi\xc3\xa9", false},
    {TYPE_LABEL, "0123456789012345678901234567890123456789012345678901234567890123", true},
    {TYPE_LABEL, "01234567890123456789012345678901234567890123456789012345678901234", false},
    {TYPE_VERSION, "2.83.0-rc.1", true},
    {TYPE_VERSION, "2 83", false},
    {TYPE_URL, "https://console.example.com/login?email=a%40b.c", true},
    {TYPE_URL, "$direct", true},
    {TYPE_URL, "", true},
    {TYPE_URL, "call me at home", false},
    {TYPE_URL, "note: //x y", false},
    {TYPE_URL, "://x", false},
    {TYPE_URL, "1a://x", false},
    {TYPE_PATH, "/dashboard", true},
    {TYPE_PATH, "dashboard", false},
    {TYPE_DASH, "-", true},
    {TYPE_DASH, "", false},
    {TYPE_DASH, "--", false},
    {TYPE_DASH, "ada", false},
    {TYPE_LIBRARY, "amplitude-ts/2.47.0", true},
    {TYPE_LIBRARY, "amplitude-ts", false},
    {TYPE_LIBRARY, "amplitude-ts/", false},
    {TYPE_LIBRARY, "/2.47.0", false},
    {TYPE_LIBRARY, "ada/lovelace", false},
    {TYPE_LIBRARY, "ada@example.com/1", false},
    {TYPE_URL_PART, "?a=b", true},
    {TYPE_URL_PART, "", true},
    {TYPE_URL_PART, "a", false},
    {TYPE_HOST, "www.example.org:8080", true},
    {TYPE_HOST, "$direct", true},
    {TYPE_HOST, "a b", false},
    {TYPE_HOST, "localhost", true},
    {TYPE_HOST, "[::1]:8080", true},
    {TYPE_HOST, "QWRhIExvdmVsYWNl", false},
    {TYPE_IP, "203.0.113.10", true},
    {TYPE_IP, "2001:db8::1", true},
    {TYPE_IP, "::1", true},
    {TYPE_IP, "203.0.113", false},
    {TYPE_IP, "203.0.113.256", false},
    {TYPE_IP, "1.2.3.4.5", false},
    {TYPE_IP, "home", false},
    {TYPE_IP, "", false},
    {TYPE_IP, ".1.2.3", false},
    {TYPE_IP, "1.2.3.", false},
    {TYPE_COUNTRY, "FR", true},
    {TYPE_COUNTRY, "fr", false},
    {TYPE_COUNTRY, "FRA", false},
    {TYPE_LANGUAGE, "en-GB", true},
    {TYPE_LANGUAGE, "English please", false},
    {TYPE_TIMEZONE, "America/Argentina/Buenos_Aires", true},
    {TYPE_TIMEZONE, "a b", false},
    {TYPE_EMAIL, "ann@example.com", true},
    {TYPE_EMAIL, "ann", false},
    {TYPE_EMAIL, "a@b@c.d", false},
    {TYPE_EMAIL, "@b.c", false},
    {TYPE_EMAIL, "write to a@b.c", false},
    {TYPE_PHONE, "+1-555-0110", true},
    {TYPE_PHONE, "(0) 30 / 1234 5678", true},
    {TYPE_PHONE, "1234", false},
    {TYPE_PHONE, "call 555 0110", false},
    {TYPE_PHONE, "12345678901234567890", false},
    {TYPE_NAME, "Ad\xc3\xa8le", true},
    {TYPE_NAME, "", false},
    {TYPE_NAME, "a\tb", false},
    {TYPE_QUERY, "llm api", true},
    {TYPE_NAMES, "$email", true},
    {TYPE_TIME, "2026-03-01T08:00:00.000Z", true},
    {TYPE_TIME, "1772352000", true},
    {TYPE_TIME, "yesterday", false},
};

static void test_strings_fit(void **state) {
    (void)state;
    for (size_t i = 0; i < BH_COUNT(fits); i++) {
        struct field field = {.type = fits[i].type};
        if (field_fits(&field, JSON_STRING, span_str(fits[i].value)) != fits[i].fits) {
            fail_msg("type %u and \"%s\"", fits[i].type, fits[i].value);
        }
    }
}

static void test_other_kinds_fit(void **state) {
    (void)state;
    for (uint8_t type = TYPE_OBJECT; type <= TYPE_NAMES; type++) {
        struct field field = {.type = type};
        assert_true(field_fits(&field, JSON_NULL, SPAN_LIT("null")));
        assert_int_equal(field_fits(&field, JSON_TRUE, SPAN_LIT("true")),
                         type == TYPE_BOOL || type == TYPE_ANY);
        assert_int_equal(field_fits(&field, JSON_OBJECT, SPAN_LIT("{}")), type == TYPE_OBJECT);
        bool number = type == TYPE_NUMBER || type == TYPE_ID || type == TYPE_VERSION ||
                      type == TYPE_ANY || type == TYPE_TIME;
        assert_int_equal(field_fits(&field, JSON_NUMBER, SPAN_LIT("138")), number);
    }
}

static void test_times(void **state) {
    (void)state;
    static const struct {
        uint8_t kind;
        const char *text;
        int64_t ms;
    } good[] = {
        {JSON_NUMBER, "1795489911.555", 1795489911555},
        {JSON_NUMBER, "1795489911", 1795489911000},
        {JSON_NUMBER, "1795489911555", 1795489911555},
        {JSON_NUMBER, "0", 0},
        {JSON_NUMBER, "100000000000", 100000000000000},
        {JSON_NUMBER, "100000000001", 100000000001},
        {JSON_STRING, "1795489911", 1795489911000},
        {JSON_STRING, "1970-01-01", 0},
        {JSON_STRING, "1970-01-01T00:00:01Z", 1000},
        {JSON_STRING, "2000-02-29T12:00:00.25+02:00", 951818400250},
        {JSON_STRING, "2026-11-24 03:11:56.263", 1795489916263},
        {JSON_STRING, "1969-12-31T23:59:59Z", -1000},
        {JSON_STRING, "2026-11-24T03:11:56.2634567Z", 1795489916263},
        {JSON_STRING, "2026-11-24T03:11-0530", 1795509660000},
    };
    for (size_t i = 0; i < BH_COUNT(good); i++) {
        int64_t ms = -7;
        assert_true(field_time_ms((enum json_kind)good[i].kind, span_str(good[i].text), &ms));
        assert_int_equal(ms, good[i].ms);
    }
    static const char *const bad[] = {"",
                                      "x",
                                      "-1",
                                      "1e15",
                                      "2026",
                                      "2026-13-01x",
                                      "2026-13-01",
                                      "2026-00-01",
                                      "2026-01-32",
                                      "2026-01-01T",
                                      "2026-01-01T1:00",
                                      "2026-01-01T10:00:00x",
                                      "2026-01-01T10:60:00Z",
                                      "2026-01-01T10:00:00+99:00",
                                      "2026/01/01",
                                      "1e400"};
    for (size_t i = 0; i < BH_COUNT(bad); i++) {
        int64_t ms;
        bool read = field_time_ms(JSON_STRING, span_str(bad[i]), &ms);
        assert_int_equal(read, strcmp(bad[i], "2026") == 0);
    }
    int64_t ms;
    assert_false(field_time_ms(JSON_TRUE, SPAN_LIT("true"), &ms));
    assert_false(field_time_ms(JSON_NUMBER, SPAN_LIT("-5"), &ms));
}

static void test_reserved_events(void **state) {
    (void)state;
    assert_true(mixpanel_ops.is_reserved_event(SPAN_LIT("$mp_web_page_view")));
    assert_false(mixpanel_ops.is_reserved_event(SPAN_LIT("$mp_web_page_vie")));
    assert_false(mixpanel_ops.is_reserved_event(SPAN_LIT("Signed Up")));
    assert_false(mixpanel_ops.is_reserved_event(SPAN_NONE));
    assert_int_equal(mixpanel_ops.root_place(EVENT_MERGE), PLACE_EVENT);
    assert_int_equal(mixpanel_ops.root_place(EVENT_PROFILE), PLACE_PROFILE);
    assert_int_equal(mixpanel_ops.root_place(EVENT_GROUP), PLACE_GROUP);
}

/* Each byte alone and in each place of texts up to three words long: like its twin, one byte at a time. */
static void test_bytes_of_types(void **state) {
    (void)state;
    static const struct {
        uint8_t type;
        size_t max;
        const char *more; /* NULL: all but control characters */
    } types[] = {
        {TYPE_WORD, 40, "._-:"},    {TYPE_LABEL, 64, " ._-+/:(),"}, {TYPE_VERSION, 32, "._-+"},
        {TYPE_HOST, 253, ".-_:[]"}, {TYPE_TIMEZONE, 40, "/_+-:"},   {TYPE_NAME, 128, NULL},
        {TYPE_LANGUAGE, 16, "-_"},
    };
    for (size_t t = 0; t < sizeof types / sizeof types[0]; t++) {
        struct field field = {.type = types[t].type};
        size_t min = types[t].type == TYPE_LANGUAGE ? 2 : 1;
        for (size_t n = min; n <= 25; n++) {
            for (size_t at = 0; at < n; at++) {
                for (unsigned c = 0; c < 256; c++) {
                    uint8_t text[25];
                    memset(text, 'a', sizeof text);
                    text[at] = (uint8_t)c;
                    bool is_word =
                        (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
                    bool wants = types[t].more == NULL
                                     ? c >= 0x20 && c != 0x7f
                                     : is_word || (c != 0 && strchr(types[t].more, (int)c) != NULL);
                    wants = wants && n <= types[t].max &&
                            (types[t].type != TYPE_HOST || c == '.' || c == ':');
                    assert_int_equal(field_fits(&field, JSON_STRING, span_of(text, n)), wants);
                }
            }
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes_of_types), cmocka_unit_test(test_every_row_is_found),
        cmocka_unit_test(test_probes_are_few), cmocka_unit_test(test_free_text_is_closed),
        cmocka_unit_test(test_strings_fit),    cmocka_unit_test(test_other_kinds_fit),
        cmocka_unit_test(test_times),          cmocka_unit_test(test_reserved_events),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
