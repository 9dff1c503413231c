/*
 * Inspect, whole items: reserved fields by schema, keys in every style, containers, keys as places,
 * numbers, escapes, limits, order; and findings as they lie in the journal.
 *
 * A row is an item and its findings without those by schema: "path class start+length by", where
 * path is the token's own text.
 */
/* depends: inspect protocol json model base */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "flow/inspect/inspect.h"
#include "model/class.h"
#include "model/limits.h"
#include "unit/random_kit.h"

enum { FINDINGS_MAX = 20000, TOKENS_MAX = 60000, TEXT_MAX = 1 << 20 };

static struct inspector *inspector;
static struct finding findings[FINDINGS_MAX];
static struct json_token tokens[TOKENS_MAX];
static char text_memory[TEXT_MAX];

static size_t parse(const char *text) {
    size_t count = 0;
    size_t offset = 0;
    int rc = json_parse(span_str(text), 33, tokens, TOKENS_MAX, &count, &offset);
    if (rc != 0) {
        fail_msg("not JSON at %zu: %s", offset, text);
    }
    return count;
}

static struct inspect_item look(const char *text, uint8_t kind) {
    size_t count = parse(text);
    struct inspect_item item = {0, kind, 0, 0, 0};
    inspect_items(inspector, protocol_by_id(PROTOCOL_MIXPANEL), span_str(text), tokens, count,
                  &item, 1, findings, FINDINGS_MAX);
    return item;
}

struct row {
    const char *text;
    const char *expected;
};

static void render(const char *text, const struct inspect_item *item, bool schema, struct buf *b) {
    static const char *const by[] = {"", "key", "value", "schema"};
    for (unsigned i = 0; i < item->finding_count; i++) {
        const struct finding *f = &findings[item->finding_first + i];
        if (f->by == FOUND_BY_SCHEMA && !schema) {
            continue;
        }
        struct span token = json_span(span_str(text), &tokens[item->root + f->leaf]);
        buf_printf(b, "%s%.*s: %s", b->n > 0 ? ", " : "", (int)(token.n < 30 ? token.n : 30),
                   (const char *)token.p, class_name(f->class_id));
        if (f->length != FINDING_WHOLE) {
            buf_printf(b, " %u+%u", f->start, f->length);
        }
        buf_printf(b, " %s", by[f->by]);
    }
    buf_put_byte(b, 0);
}

static void expect_rows(const struct row *rows, size_t count, uint8_t kind, const char *before,
                        const char *after, bool schema) {
    unsigned wrong = 0;
    for (size_t i = 0; i < count; i++) {
        char memory[4096];
        struct buf b = buf_of(memory, sizeof memory);
        (void)snprintf(text_memory, sizeof text_memory, "%s%s%s", before, rows[i].text, after);
        struct inspect_item item = look(text_memory, kind);
        assert_int_equal(item.error, 0);
        render(text_memory, &item, schema, &b);
        if (strcmp(memory, rows[i].expected) != 0) {
            print_error("%s\n  expected: %s\n  found:    %s\n", rows[i].text, rows[i].expected,
                        memory);
            wrong++;
        }
    }
    assert_int_equal(wrong, 0);
}

#define EXPECT_PROPERTIES(rows)                                        \
    expect_rows((rows), sizeof(rows) / sizeof((rows)[0]), EVENT_TRACK, \
                "{\"event\":\"E\",\"properties\":{", "}}", false)
#define EXPECT_TRAITS(rows)                                              \
    expect_rows((rows), sizeof(rows) / sizeof((rows)[0]), EVENT_PROFILE, \
                "{\"$distinct_id\":\"u\",\"$set\":{", "}}", false)
#define EXPECT_WHOLE(rows, kind) \
    expect_rows((rows), sizeof(rows) / sizeof((rows)[0]), (kind), "", "", true)

#define PASSWORD    "user.authorization.password"
#define CREDENTIALS "user.authorization.credentials"
#define EMAIL       "user.contact.email"
#define PHONE       "user.contact.phone_number"
#define CARD        "user.financial.credit_card"

/* long because it is one table */
static void test_keys(void **state) {
    (void)state;
    static const struct row rows[] = {
        {"\"password\":\"hunter2\"", "hunter2: " PASSWORD " key"},
        {"\"userPassword\":\"hunter2\"", "hunter2: " PASSWORD " key"},
        {"\"USER_PASSWORD\":\"hunter2\"", "hunter2: " PASSWORD " key"},
        {"\"newpassword\":\"hunter2\"", "hunter2: " PASSWORD " key"},
        {"\"pass-word\":\"hunter2\"", "hunter2: " PASSWORD " key"},
        {"\"form.password\":\"hunter2\"", "hunter2: " PASSWORD " key"},
        {"\"login_page_password\":\"hunter2\"", "hunter2: " PASSWORD " key"},
        {"\"Passwort\":\"geheim\"", "geheim: " PASSWORD " key"},
        {"\"mot_de_passe\":\"secret\"", "secret: " PASSWORD " key"},
        {"\"contrase\xc3\xb1"
         "a\":\"secreto\"",
         "secreto: " PASSWORD " key"},
        {"\"\xd0\x9f\xd0\xb0\xd1\x80\xd0\xbe\xd0\xbb\xd1\x8c\":\"x\"", "x: " PASSWORD " key"},
        {"\"\xe7\x94\xa8\xe6\x88\xb7\xe5\xaf\x86\xe7\xa0\x81\":\"x\"", "x: " PASSWORD " key"},
        {"\"password\":12345", "12345: " PASSWORD " key"},
        {"\"pin\":\"4711\"", "4711: " PASSWORD " key"},
        {"\"api_key\":\"abc\"", "abc: " CREDENTIALS " key"},
        {"\"apiKey\":\"abc\"", "abc: " CREDENTIALS " key"},
        {"\"X-API-Key\":\"abc\"", "abc: " CREDENTIALS " key"},
        {"\"OPENAI_API_KEY\":\"abc\"", "abc: " CREDENTIALS " key"},
        {"\"client_secret\":\"abc\"", "abc: " CREDENTIALS " key"},
        {"\"access_token\":\"abc\"", "abc: " CREDENTIALS " key"},
        {"\"resetPasswordToken\":\"a1b2c3\"", "a1b2c3: " PASSWORD " key"},
        {"\"Authorization\":\"Bearer abc123\"", "Bearer abc123: " CREDENTIALS " key"},
        {"\"cardNumber\":\"1234\"", "1234: " CARD " key"},
        {"\"credit_card\":5555444433332222", "5555444433332222: " CARD " key"},
        {"\"cvv\":\"123\"", "123: user.payment key"},
        {"\"iban\":\"XX12 3456\"", "XX12 3456: user.financial.bank_account key"},
        {"\"ssn\":\"123456789\"",
         "123456789: user.government_id.national_identification_number key"},
        {"\"ssn\":123456789", "123456789: user.government_id.national_identification_number key"},
        {"\"passportNumber\":\"C01X00T47\"", "C01X00T47: user.government_id.passport_number key"},
        {"\"diagnosis\":\"flu\"", "flu: user.health_and_medical key"},
        {"\"is_pregnant\":true", "true: user.health_and_medical key"},
        {"\"religion\":\"x\"", "x: user.demographic.religious_belief key"},
        {"\"userEmail\":\"none@\"", "none@: " EMAIL " key"},
        {"\"e_mail_address\":\"x.y\"", "x.y: " EMAIL " key"},
        {"\"adresse_mail\":\"x.y\"", "x.y: " EMAIL " key"},
        {"\"phone\":\"5551234567\"", "5551234567: " PHONE " key"},
        {"\"phone_backup\":\"5551234567\"", "5551234567: " PHONE " key"},
        {"\"\xe7\x94\xb5\xe8\xaf\x9d\":\"13800138000\"", "13800138000: " PHONE " key"},
        {"\"mobileNumber\":13800138000", "13800138000: " PHONE " key"},
        {"\"first_name\":\"Jonas\"", "Jonas: user.name.first key"},
        {"\"lastName\":\"Ivesdal\"", "Ivesdal: user.name.last key"},
        {"\"dob\":\"1990-01-02\"", "1990-01-02: user.demographic.date_of_birth key"},
        {"\"shipping_address\":\"Main St\"", "Main St: user.contact.address key"},
        {"\"zipCode\":\"10115\"", "10115: user.contact.address.postal_code key"},
        {"\"latitude\":48.8566", "48.8566: user.location.precise key"},
        {"\"p\\u0061ssword\":\"hunter2\"", "hunter2: " PASSWORD " key"},
        {"\"has_password\":true", ""},
        {"\"has_password\":\"yes\"", ""},
        {"\"password\":true", ""},
        {"\"password\":null", ""},
        {"\"password\":\"\"", ""},
        {"\"password_length\":12", ""},
        {"\"passwordChangedAt\":1795489911", ""},
        {"\"password_strength\":\"strong\"", ""},
        {"\"tokens\":1234", ""},
        {"\"max_tokens\":\"4096\"", ""},
        {"\"token_count\":12", ""},
        {"\"total_tokens\":12", ""},
        {"\"prompt_tokens\":12", ""},
        {"\"api_key_id\":\"key_abc\"", ""},
        {"\"api_key_name\":\"prod\"", ""},
        {"\"auth\":\"google\"", ""},
        {"\"auth_method\":\"google\"", ""},
        {"\"email\":\"weekly\"", ""},
        {"\"email_count\":3", ""},
        {"\"email_opened\":true", ""},
        {"\"phone\":\"iPhone\"", ""},
        {"\"name\":\"Button\"", ""},
        {"\"card\":\"gold\"", ""},
        {"\"card_type\":\"visa\"", ""},
        {"\"race_condition\":\"x\"", ""},
        {"\"company\":\"Acme\"", ""},
        {"\"latency\":12.5", ""},
        {"\"key\":\"value\"", ""},
        {"\"pinned\":true", ""},
        {"\"order_number\":\"112-1234567-1234567\"", ""},
        {"\"app_version\":\"1.2.3.4\"", ""},
        {"\"keyboard\":\"qwerty12\"", ""},
        {"\"monkey_count\":\"12ab\"", ""},
    };
    EXPECT_PROPERTIES(rows);
}

static void test_places(void **state) {
    (void)state;
    static const struct row rows[] = {
        {"\"a\":{\"b\":[{\"c\":\"jonas@example.com\"}]}",
         "jonas@example.com: " EMAIL " 0+17 value"},
        {"\"jonas@example.com\":1", "jonas@example.com: " EMAIL " 0+17 value"},
        {"\"x 4111111111111111\":{}", "x 4111111111111111: " CARD " 2+16 value"},
        {"\"sk_live_4eC39HqLyjWDarjtT1zdp7dc\":1",
         "sk_live_4eC39HqLyjWDarjtT1zdp7: " CREDENTIALS " 0+32 value"},
        {"\"password\":{\"old\":\"a\",\"n\":[\"b\",3]}",
         "a: " PASSWORD " key, b: " PASSWORD " key, 3: " PASSWORD " key"},
        {"\"address\":{\"line\":\"Main St 1\",\"city\":\"Berlin\"}",
         "Main St 1: user.contact.address.street key, Berlin: user.contact.address.city key"},
        {"\"card\":{\"number\":\"4242\",\"brand\":\"visa\"}", "4242: " CARD " key"},
        {"\"passwords\":[\"a\",\"b\"]", "a: " PASSWORD " key, b: " PASSWORD " key"},
        {"\"n\":4111111111111111", "4111111111111111: " CARD " value"},
        {"\"n\":4.111111111111111E15", "4.111111111111111E15: " CARD " value"},
        {"\"n\":4111111111111111.0", "4111111111111111.0: " CARD " value"},
        {"\"n\":4111111111111111.5", ""},
        {"\"n\":1795489911971000", ""},
        {"\"n\":-4111111111111111", ""},
        {"\"t\":\"tab\\tjonas@example.com\"", "tab\\tjonas@example.com: " EMAIL " 4+17 value"},
        {"\"t\":\"\\u006aonas@example.com\"", "\\u006aonas@example.com: " EMAIL " 0+17 value"},
        {"\"t\":\"\\\"sk_live_4eC39HqLyjWDarjtT1zdp7dc\\\"\"",
         "\\\"sk_live_4eC39HqLyjWDarjtT1zd: " CREDENTIALS " 1+32 value"},
        {"\"t\":\"{\\\"password\\\":\\\"hunter2\\\"}\"",
         "{\\\"password\\\":\\\"hunter2\\\"}: " PASSWORD " 13+7 key"},
        {"\"a\":\"sk_live_4eC39HqLyjWDarjtT1zdp7dc\",\"b\":\"x\",\"c\":\"ghp_16C7e42F292c6912E7710c838347Ae178B4a\"",
         "sk_live_4eC39HqLyjWDarjtT1zdp7: " CREDENTIALS
         " 0+32 value, ghp_16C7e42F292c6912E7710c8383: " CREDENTIALS " 0+40 value"},
        {"\"distinct_id\":\"jonas@example.com\"", "jonas@example.com: " EMAIL " 0+17 value"},
        {"\"$current_url\":\"https://x.example/?email=jonas%40example.com\"",
         "https://x.example/?email=jonas: " EMAIL " 25+19 value"},
        {"\"token\":\"a1b2c3d4e5\"", ""},
    };
    EXPECT_PROPERTIES(rows);
    static const struct row traits[] = {
        {"\"name\":\"Jonas\"", "Jonas: user.name key"},
        {"\"race\":\"x\"", "x: user.demographic.race key"},
        {"\"$email\":\"jonas@example.com\"", ""},
        {"\"$phone\":\"+4915112345678\"", ""},
    };
    EXPECT_TRAITS(traits);
}

static void test_schema(void **state) {
    (void)state;
    static const struct row rows[] = {
        {"{\"event\":\"Signed Up\",\"properties\":{\"token\":\"t\",\"distinct_id\":\"u1\",\"$browser\":\"Chrome\",\"$city\":\"Paris\",\"plan\":\"pro\"}}",
         "Signed Up: user.behavior schema, t: system.operations schema, u1: user.unique_id schema, Chrome: user.device schema, "
         "Paris: user.contact.address.city schema"},
        {"{\"event\":\"x\",\"properties\":{\"distinct_id\":\"u1\",\"a\":{\"distinct_id\":\"u2\"}}}",
         "x: user.behavior schema, u1: user.unique_id schema"},
    };
    size_t count = sizeof rows / sizeof rows[0];
    for (size_t i = 0; i < count; i++) {
        char memory[4096];
        struct buf b = buf_of(memory, sizeof memory);
        struct inspect_item item = look(rows[i].text, EVENT_TRACK);
        render(rows[i].text, &item, true, &b);
        /*
         * The exact class of a field is the protocol table's business: compare where it agrees with
         * this table.
         */
        for (unsigned f = 0; f < item.finding_count; f++) {
            assert_int_equal(findings[f].by, FOUND_BY_SCHEMA);
            assert_int_equal(findings[f].length, FINDING_WHOLE);
        }
        assert_non_null(strstr(memory, "u1: user.unique_id schema"));
        assert_null(strstr(memory, "u2"));
    }
}

static void test_requests(void **state) {
    (void)state;
    /*
     * Several items of one text: leaf numbers are relative, counts and ranges follow each other,
     * one bad item spoils no other.
     */
    static const char text[] =
        "[{\"event\":\"a\",\"properties\":{\"x\":\"a@example.com\"}},"
        "{\"event\":\"b\",\"properties\":{\"x\":\"plain\"}},"
        "{\"event\":\"c\",\"properties\":{\"x\":\"sk_live_4eC39HqLyjWDarjtT1zdp7dc\"}}]";
    size_t count = parse(text);
    struct inspect_item items[3];
    uint32_t root = 1;
    for (size_t i = 0; i < 3; i++) {
        items[i] = (struct inspect_item){root, EVENT_TRACK, 9, 9, 9};
        root = tokens[root].next;
    }
    inspect_items(inspector, protocol_by_id(PROTOCOL_MIXPANEL), span_str(text), tokens, count,
                  items, 3, findings, FINDINGS_MAX);
    static const uint16_t classes[] = {CLASS_EMAIL, CLASS_NONE, CLASS_CREDENTIALS};
    uint32_t first = 0;
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(items[i].error, 0);
        assert_int_equal(items[i].finding_first, first);
        first += items[i].finding_count;
        bool seen = classes[i] == CLASS_NONE;
        for (unsigned k = 0; k < items[i].finding_count; k++) {
            const struct finding *f = &findings[items[i].finding_first + k];
            if (f->by == FOUND_BY_VALUE) {
                assert_int_equal(f->class_id, classes[i]);
                assert_int_equal(f->leaf, 6);
                seen = true;
            }
        }
        assert_true(seen);
    }
    /* No room for the last. */
    inspect_items(inspector, protocol_by_id(PROTOCOL_MIXPANEL), span_str(text), tokens, count,
                  items, 3, findings, first - 1);
    assert_int_equal(items[0].error, 0);
    assert_int_equal(items[2].error, BH_E_FULL);
    assert_int_equal(items[2].finding_count, 0);
}

static void test_limits(void **state) {
    (void)state;
    struct buf b = buf_of(text_memory, sizeof text_memory);
    buf_put_str(&b, "{\"event\":\"a\",\"properties\":{\"x\":[");
    for (unsigned i = 0; i <= LIMIT_EVENT_FINDINGS; i++) {
        buf_put_str(&b, i == 0 ? "\"a@b.co\"" : ",\"a@b.co\"");
    }
    buf_put_str(&b, "]}}");
    buf_put_byte(&b, 0);
    assert_int_equal(look(text_memory, EVENT_TRACK).error, BH_E_TOO_MANY);
    b = buf_of(text_memory, sizeof text_memory);
    buf_put_str(&b, "{\"event\":\"a\",\"properties\":{\"x\":[0");
    for (unsigned i = 0; i < LIMIT_EVENT_TOKENS; i++) {
        buf_put_str(&b, ",0");
    }
    buf_put_str(&b, "]}}");
    buf_put_byte(&b, 0);
    assert_int_equal(look(text_memory, EVENT_TRACK).error, BH_E_TOO_MANY);
    /* Nested JSON too deep to look at is refused, not skipped. */
    b = buf_of(text_memory, sizeof text_memory);
    buf_put_str(&b, "{\"event\":\"a\",\"properties\":{\"x\":\"");
    for (unsigned i = 0; i < 40; i++) {
        buf_put_byte(&b, '[');
    }
    buf_put_str(&b, "\"}}");
    buf_put_byte(&b, 0);
    assert_int_equal(look(text_memory, EVENT_TRACK).error, BH_E_TOO_MANY);
}

static void test_codec(void **state) {
    (void)state;
    unsigned class_count = 0;
    const uint16_t *classes = class_all(&class_count);
    static struct finding back[64];
    static uint8_t memory[64 * 20];
    random_start(20261124);
    for (unsigned run = 0; run < 20000; run++) {
        size_t count = random_next() % 64;
        for (size_t i = 0; i < count; i++) {
            findings[i] = (struct finding){
                (uint16_t)(random_next() % LIMIT_EVENT_TOKENS),
                classes[random_next() % class_count], (uint8_t)(1 + random_next() % 3),
                (uint32_t)(random_next() % LIMIT_EVENT_BYTES),
                random_next() % 3 == 0 ? FINDING_WHOLE
                                       : (uint32_t)(random_next() % LIMIT_EVENT_BYTES)};
        }
        struct buf b = buf_of(memory, sizeof memory);
        findings_write(&b, findings, count);
        assert_false(b.full);
        assert_int_equal(findings_read(buf_span(&b), back, 64), count);
        for (size_t i = 0; i < count; i++) {
            assert_int_equal(back[i].leaf, findings[i].leaf);
            assert_int_equal(back[i].class_id, findings[i].class_id);
            assert_int_equal(back[i].by, findings[i].by);
            assert_int_equal(back[i].start, findings[i].start);
            assert_int_equal(back[i].length, findings[i].length);
        }
        if (count > 0) {
            assert_int_equal(findings_read(buf_span(&b), back, count - 1), BH_E_CORRUPT);
            /* A cut or changed byte is refused or read as other findings, never past the end. */
            struct span cut = span_cut(buf_span(&b), 0, random_next() % b.n);
            (void)findings_read(cut, back, 64);
            memory[random_next() % b.n] = (uint8_t)random_next();
            (void)findings_read(buf_span(&b), back, 64);
        }
    }
    assert_int_equal(findings_read(SPAN_NONE, back, 64), 0);
    assert_int_equal(findings_read(SPAN_LIT("\x01"), back, 64), BH_E_CORRUPT);
}

static int setup(void **state) {
    (void)state;
    struct err err;
    return inspect_tables_init(&err) == 0 && inspector_new(&inspector) == 0 ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    inspector_free(inspector);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys),   cmocka_unit_test(test_places),
        cmocka_unit_test(test_schema), cmocka_unit_test(test_requests),
        cmocka_unit_test(test_limits), cmocka_unit_test(test_codec),
    };
    return cmocka_run_group_tests_name("inspect items", tests, setup, teardown);
}
