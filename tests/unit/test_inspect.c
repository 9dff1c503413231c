/*
 * Inspect: what is found, by class, in one text. Each row is a text and its findings: "class
 * start+length" (or "class *" for the whole), comma-separated; an empty string is a hard negative:
 * ordinary data that must pass.
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

enum { FINDINGS_MAX = 4096 };

static struct inspector *inspector;
static struct finding findings[FINDINGS_MAX];

struct row {
    const char *text;
    const char *expected;
};

static void render(const struct finding *f, size_t count, struct buf *b) {
    for (size_t i = 0; i < count; i++) {
        if (f[i].length == FINDING_WHOLE) {
            buf_printf(b, "%s%s *", i > 0 ? ", " : "", class_name(f[i].class_id));
        } else {
            buf_printf(b, "%s%s %u+%u", i > 0 ? ", " : "", class_name(f[i].class_id), f[i].start,
                       f[i].length);
        }
    }
    buf_put_byte(b, 0);
}

static void expect_rows(const struct row *rows, size_t count) {
    unsigned wrong = 0;
    for (size_t i = 0; i < count; i++) {
        char memory[4096];
        struct buf b = buf_of(memory, sizeof memory);
        size_t n = inspect_string(inspector, span_str(rows[i].text), findings, FINDINGS_MAX);
        render(findings, n, &b);
        if (strcmp(memory, rows[i].expected) != 0) {
            print_error("%s\n  expected: %s\n  found:    %s\n", rows[i].text, rows[i].expected,
                        memory);
            wrong++;
        }
    }
    assert_int_equal(wrong, 0);
}

#define EXPECT(rows) expect_rows((rows), sizeof(rows) / sizeof((rows)[0]))

static void test_email(void **state) {
    (void)state;
    static const struct row rows[] = {
        {"jonas.ivesdal@example.com", "user.contact.email 0+25"},
        {"write to jonas+news@mail.example.co.uk.", "user.contact.email 9+29"},
        {"<jonas_i@example.com>, \"X\"", "user.contact.email 1+19"},
        {"mailto:o'brien@example.ie?subject=hi", "user.contact.email 7+18"},
        {"https://x.example/?email=a.b@example.com&x=1", "user.contact.email 25+15"},
        {"https://x.example/u/jonas@example.com/edit", "user.contact.email 20+17"},
        {"jürgen@müller.example", "user.contact.email 0+23"},
        {"info@xn--mller-kva.xn--p1ai", "user.contact.email 0+27"},
        {"a@b.co", "user.contact.email 0+6"},
        {"jonas@example.com,anna@example.org", "user.contact.email 0+17, user.contact.email 18+16"},
        {"@mention and @scope/package", ""},
        {"lodash@4.17.21", ""},
        {"logo@2x.png", ""},
        {"git@github.com:org/repo.git", ""},
        {"user@localhost", ""},
        {"price @ 5.00", ""},
        {"a@b", ""},
        {"x@.com", ""},
        {"me@@example.com", ""},
    };
    EXPECT(rows);
}

static void test_phone(void **state) {
    (void)state;
    static const struct row rows[] = {
        {"+4915112345678", "user.contact.phone_number 0+14"},
        {"call +1 (415) 555-2671 now", "user.contact.phone_number 5+17"},
        {"+44 20 7946 0958", "user.contact.phone_number 0+16"},
        {"+49 (0) 171 1234567", "user.contact.phone_number 0+19"},
        {"+33 6 12 34 56 78", "user.contact.phone_number 0+17"},
        {"(415) 555-2671", "user.contact.phone_number 0+14"},
        {"415-555-2671", "user.contact.phone_number 0+12"},
        {"555-123-4567", "user.contact.phone_number 0+12"},
        {"415.555.2671", "user.contact.phone_number 0+12"},
        {"1-415-555-2671", "user.contact.phone_number 0+14"},
        {"0171 1234567", "user.contact.phone_number 0+12"},
        {"030/123456-78", "user.contact.phone_number 0+13"},
        {"01 23 45 67 89", "user.contact.phone_number 0+14"},
        {"020 7946 0958", "user.contact.phone_number 0+13"},
        {"07700 900123", "user.contact.phone_number 0+12"},
        {"0049 171 1234567", "user.contact.phone_number 0+16"},
        {"(11) 91234-5678", "user.contact.phone_number 0+15"},
        {"tel:5551234567", "user.contact.phone_number 4+10"},
        {"https://wa.me/4915112345678", "user.contact.phone_number 14+13"},
        {"https://x.example/?p=%2B4915112345678", "user.contact.phone_number 21+16"},
        {"1795489911", ""},
        {"1795489911971", ""},
        {"2024-01-02T10:20:30.123Z", ""},
        {"2024-01-02 10:20:30 +0100", ""},
        {"01.02.2024 10:20", ""},
        {"01-02-2024", ""},
        {"5c2dfb22-9ccd-4e5d-bfe2-60b39d310329", ""},
        {"00000000-0000-0000-0000-000000000000", ""},
        {"12345678-1234-4123-8123-123456789012", ""},
        {"order 112-1234567-1234567", ""},
        {"INV-2024-000123", ""},
        {"0012345678", ""},
        {"0123-4567-8901", ""},
        {"$1,299.00 and 12.345.678,90", ""},
        {"1 234 567 890", ""},
        {"978-0-306-40615-7", ""},
        {"138.0.7204.49", ""},
        {"v1.22.333", ""},
        {"1366x768", ""},
        {"+1500000", ""},
        {"10+20+30", ""},
        {"48.8566, 2.3522", ""},
        {"1234567", ""},
        {"user_1234567890", ""},
        {"GTIN 04012345678901", ""},
    };
    EXPECT(rows);
}

static void test_ip(void **state) {
    (void)state;
    static const struct row rows[] = {
        {"203.0.113.7", "user.device.ip_address 0+11"},
        {"from 10.1.2.3:8080", "user.device.ip_address 5+8"},
        {"http://192.168.178.20/x", "user.device.ip_address 7+14"},
        {"203.0.113.7, 198.51.100.9", "user.device.ip_address 0+11, user.device.ip_address 13+12"},
        {"2001:db8:85a3:0:0:8a2e:370:7334", "user.device.ip_address 0+31"},
        {"[2001:db8::1]:443", "user.device.ip_address 1+11"},
        {"fe80::1ff:fe23:4567:890a", "user.device.ip_address 0+24"},
        {"::ffff:203.0.113.7", "user.device.ip_address 0+18"},
        {"00:1B:44:11:3A:B7", "user.device.device_id 0+17"},
        {"127.0.0.1", ""},
        {"http://127.0.0.1:41699/", ""},
        {"0.0.0.0", ""},
        {"::1", ""},
        {"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Safari/537.36",
         ""},
        {"version 1.2.3.4", ""},
        {"v1.2.3.4", ""},
        {"1.2.3.4.5", ""},
        {"1.2.3.4-beta", ""},
        {"256.1.1.1", ""},
        {"01.02.03.04", ""},
        {"std::vector", ""},
        {"dead::beef", ""},
        {"10:20:30", ""},
        {"2024-01-02T10:20:30", ""},
        {"a::before", ""},
    };
    EXPECT(rows);
}

static void test_card(void **state) {
    (void)state;
    static const struct row rows[] = {
        {"4111111111111111", "user.financial.credit_card 0+16"},
        {"card 4111 1111 1111 1111 exp 12/27", "user.financial.credit_card 5+19"},
        {"5500-0000-0000-0004", "user.financial.credit_card 0+19"},
        {"2223003122003222", "user.financial.credit_card 0+16"},
        {"378282246310005", "user.financial.credit_card 0+15"},
        {"3782 822463 10005", "user.financial.credit_card 0+17"},
        {"3056 930902 5904", "user.financial.credit_card 0+16"},
        {"6011111111111117", "user.financial.credit_card 0+16"},
        {"3530111333300000", "user.financial.credit_card 0+16"},
        {"6200000000000005", "user.financial.credit_card 0+16"},
        {"6759649826438453", "user.financial.credit_card 0+16"},
        {"501800000009", "user.financial.credit_card 0+12"},
        {"4222222222222", "user.financial.credit_card 0+13"},
        {"4111+1111+1111+1111", "user.financial.credit_card 0+19"},
        {"4111\xc2\xa0"
         "1111\xc2\xa0"
         "1111\xc2\xa0"
         "1111",
         "user.financial.credit_card 0+22"},
        {"visa4111111111111111", "user.financial.credit_card 4+16"},
        {"user_4111111111111111", "user.financial.credit_card 5+16"},
        {"560000000003", "user.financial.credit_card 0+12"},
        {"4111 1111 1111 1111Si4111111111111111",
         "user.financial.credit_card 0+19, user.financial.credit_card 21+16"},
        {"4111 1111 1111 1111-218-09-9999",
         "user.financial.credit_card 0+19, "
         "user.government_id.national_identification_number 20+11"},
        {"4111111111111112", ""},
        {"573001234567", ""},
        {"1795489911971000", ""},
        {"20240102030405", ""},
        {"1234567890123456", ""},
        {"4006381333931", ""},
        {"4012345678901", ""},
        {"1795489911971123456", ""},
        {"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", ""},
        {"0000000000000000", ""},
        {"41111111111111110", ""},
        {"4111-1111-1111-1112", ""},
    };
    EXPECT(rows);
}

static void test_bank_and_government(void **state) {
    (void)state;
    static const struct row rows[] = {
        {"DE89370400440532013000", "user.financial.bank_account 0+22"},
        {"IBAN: DE89 3704 0044 0532 0130 00.", "user.financial.bank_account 6+27"},
        {"gb29 nwbk 6016 1331 9268 19", "user.financial.bank_account 0+27"},
        {"NL91ABNA0417164300", "user.financial.bank_account 0+18"},
        {"MT84MALT011000012345MTLCAST001S", "user.financial.bank_account 0+31"},
        {"NO93 8601 1117 947", "user.financial.bank_account 0+18"},
        {"FR14 2004 1010 0505 0001 3M02 606", "user.financial.bank_account 0+33"},
        {"DE88370400440532013000", ""},
        {"XX89370400440532013000", ""},
        {"DE8937040044053201300", ""},
        {"078-05-1120", "user.government_id.national_identification_number 0+11"},
        {"my ssn is 219-09-9999.", "user.government_id.national_identification_number 10+11"},
        {"000-12-3456", ""},
        {"666-12-3456", ""},
        {"912-12-3456", ""},
        {"123-00-4567", ""},
        {"123-45-0000", ""},
        {"A123-45-6789", ""},
        {"123-45-67890", ""},
    };
    EXPECT(rows);
}

/* long because it is one table */
static void test_secrets(void **state) {
    (void)state;
#define CRED "user.authorization.credentials"
    static const struct row rows[] = {
        {"AKIAIOSFODNN7EXAMPLE", CRED " 0+20"},
        {"key=AKIAIOSFODNN7EXAMPLE;", CRED " 4+20"},
        {"ghp_"
         "16C7e42F292c6912E7710c838347Ae178B4a",
         CRED " 0+40"},
        {"see glpat-"
         "aB3dE5gH7jK9mN1pQ3sT here",
         CRED " 4+26"},
        {"xoxb-"
         "123456789012-1234567890123-abcdefghijklmnopqrstuvwx",
         CRED " 0+56"},
        {"sk_live_"
         "4eC39HqLyjWDarjtT1zdp7dc",
         CRED " 0+32"},
        {"AIza"
         "SyD-9tSrke72PouQMnMX-a7eZSW0jkFMBWY",
         CRED " 0+39"},
        {"my key sk-proj-"
         "abcdefghijklmnopqrstuvwxyz0123456789",
         CRED " 7+44"},
        {"sk-"
         "abcdefghijklmnopqrstT3BlbkFJabcdefghijklmnopqrst",
         CRED " 0+51"},
        {"sk-ant-"
         "api03-abcdefghijklmnopqrstuvwxyz0123456789-abcdAA",
         CRED " 0+56"},
        {"SG."
         "ngeVfQFYQlKU0ufo8x5d1A.TwL2iGABf9DHoTf-09kqeF8tAmbihYzrnopKc-1s5cr",
         CRED " 0+69"},
        {"SK"
         "0123456789abcdef0123456789abcdef",
         CRED " 0+34"},
        {"npm_"
         "abcdefghijklmnopqrstuvwxyz0123456789",
         CRED " 0+40"},
        {"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
         CRED " 0+84"},
        {"Authorization: Bearer abcdef0123456789abcdef", CRED " 15+29"},
        {"Basic am9uYXM6aHVudGVyMg==", CRED " 0+26"},
        {"https://jonas:hunter2@example.com/x", CRED " 14+7"},
        {"postgres://app:p4ss@db.internal:5432/main", CRED " 15+4"},
        {"110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw", CRED " 0+44"},
        {"https://hooks.slack.com/services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX",
         CRED " 8+69"},
        {"-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\nabc+/=\n-----END RSA PRIVATE KEY-----\nrest",
         CRED " 0+85"},
        {"password=hunter2&x=1", "user.authorization.password 9+7"},
        {"https://x.example/?user=j&pwd=s3cr%26t&y=1", "user.authorization.password 30+8"},
        {"{'password': 'hunter2'}", "user.authorization.password 14+7"},
        {"login failed, password: hunter2", "user.authorization.password 24+7"},
        {"token=ab12cd34", CRED " 6+8"},
        {"task-list-of-things-to-do-today", ""},
        {"disk-usage-report-for-2024", ""},
        {"the password is wrong", ""},
        {"Password: ", ""},
        {"max_tokens=4096", ""},
        {"https://x.example/docs/eyJ", ""},
        {"AKIAIOSFODNN7", ""},
        {"sk-learn", ""},
        {"Bearer of news", ""},
        {"Basic plan", ""},
        {"Basic instantiation of a thing", ""},
        {"if (token === STRING) {", ""},
        {"form#f > input[type=password]:nth-child(2)", ""},
        {"basic dTp4", ""},
        {"9f86d081884c7d659a2feaa0c55ad015", ""},
        {"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15", ""},
        {"https://example.com:8080/a/b?c=d", ""},
    };
    EXPECT(rows);
}

static void test_nested(void **state) {
    (void)state;
    static const struct row rows[] = {
        {"q=jonas%40example.com&x=1", "user.contact.email 2+19"},
        {"q=jonas%2540example.com", "user.contact.email 2+21"},
        {"jonas\\u0040example.com", "user.contact.email 0+22"},
        {"jonas&#64;example.com", "user.contact.email 0+21"},
        {"jonas&commat;example.com", "user.contact.email 0+24"},
        {"{\"a\":{\"mail\":\"jonas@example.com\"}}", "user.contact.email 14+17"},
        {"{\"a\":\"{\\\"b\\\":\\\"jonas@example.com\\\"}\"}", "user.contact.email 6+29"},
        {"[4111111111111111]", "user.financial.credit_card 1+16"},
        {"[4.111111111111111E15]", "user.financial.credit_card 1+20"},
        {"[4.111111111111111e14]", ""},
        {"{\"password\":\"hunter2\"}", "user.authorization.password 13+7"},
        {"{\"jonas@example.com\":1}", "user.contact.email 2+17"},
        {"am9uYXNAZXhhbXBsZS5jb20=", "user.contact.email 0+24"},
        {"d=am9uYXNAZXhhbXBsZS5jb20&x=1", "user.contact.email 2+23"},
        {"/share/am9uYXNAZXhhbXBsZS5jb20=/x", "user.contact.email 7+24"},
        {"data=eyJlbWFpbCI6ImpvbmFzQGV4YW1wbGUuY29tIn0%3D", "user.contact.email 5+42"},
        {"NDExMTExMTExMTExMTExMQ==", "user.financial.credit_card *"},
        {"x %34111111111111111", "user.financial.credit_card *"},
        {"a%20b 4111111111111111", "user.financial.credit_card 6+16"},
        {"cGFzc3dvcmQ9aHVudGVyMg==", "user.authorization.password *"},
        {"QUtJQUlPU0ZPRE5ON0VYQU1QTEU=", "user.authorization.credentials *"},
        {"jonas\xef\xbc\xa0"
         "example.com",
         "user.contact.email 0+19"},
        {"jonas@example\xe3\x80\x82"
         "com",
         "user.contact.email 0+19"},
        {"jonas\xe2\x80\x8b@example.com", "user.contact.email 0+20"},
        {"x \xef\xbc\x94"
         "111111111111111",
         "user.financial.credit_card *"},
        {"4111\xe2\x80\x8b"
         "1111\xc2\xad"
         "11111111",
         "user.financial.credit_card *"},
        {"\xd9\xa4"
         "111111111111111",
         "user.financial.credit_card *"},
        {"password\xef\xbc\x9dhunter2", "user.authorization.password 11+7"},
        {"ghp_16C7e42F\xe2\x80\x8b"
         "292c6912E7710c838347Ae178B4a",
         "user.authorization.credentials *"},
        {"\xe2\x80\x8b\xef\xbb\xbf\xc2\xad\xe2\x80", ""},
        {"\xd9\xa2\xd9\xa0\xd9\xa2\xd9\xa6", ""},
        {"Dashboard newsletter Settings/Profile", ""},
        {"aGVsbG8gd29ybGQ=", ""},
        {"100% of {braces}", ""},
        {"[link](x) and {placeholder}", ""},
    };
    EXPECT(rows);
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
        cmocka_unit_test(test_email),
        cmocka_unit_test(test_phone),
        cmocka_unit_test(test_ip),
        cmocka_unit_test(test_card),
        cmocka_unit_test(test_bank_and_government),
        cmocka_unit_test(test_secrets),
        cmocka_unit_test(test_nested),
    };
    return cmocka_run_group_tests_name("inspect", tests, setup, teardown);
}
