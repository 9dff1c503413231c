/*
 * Webhook: the body, the signature by the vectors of Standard Webhooks and by the example of docs/format/webhook.md, what a credential is, what
 * answers mean. Its words are in tests/golden/translate.
 */
/* depends: webhook protocol wire json crypto model base */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/compiler.h"
#include "crypto/crypto.h"
#include "protocol/webhook/webhook_int.h"

#define SECRET_A "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
#define SECRET_B "whsec_ZXhhbXBsZSwgMzIgYnl0ZXMsIGtlcHQgYnkgYm90aC4="

static uint8_t memory[1 << 14];
static uint8_t doc_memory[1 << 15];

static void assert_text(struct span got, const char *wanted) {
    if (!span_is(got, wanted)) {
        fail_msg("%.*s, not %s", (int)got.n, (const char *)got.p, wanted);
    }
}

/* -- signing ------------------------------------------------------------------------------------- */

static void test_vector(void **state) {
    (void)state;
    struct buf out = buf_of(memory, sizeof memory);
    assert_int_equal(
        webhook_put_signatures(SPAN_LIT(SECRET_A), SPAN_LIT("msg_p5jXN8AQM9LWM0D4loKWxJek"),
                               SPAN_LIT("1614265330"), SPAN_LIT("{\"test\": 2432232314}"), &out),
        0);
    assert_text(buf_span(&out), " v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
}

static struct span sign(struct protocol_signing s) {
    struct buf out = buf_of(memory, sizeof memory);
    assert_int_equal(webhook_ops.sign(&s, &out), 0);
    return buf_span(&out);
}

static struct span doc_part(struct span doc, const char *from, const char *to) {
    size_t at = span_find(doc, span_str(from));
    assert_true(at != SIZE_MAX);
    struct span rest = span_from(doc, at);
    size_t n = span_find(rest, span_str(to));
    assert_true(n != SIZE_MAX);
    return span_cut(rest, 0, n);
}

/* The document's request is what this code makes, to the byte. */
static void test_document(void **state) {
    (void)state;
    FILE *file = fopen(BULKHEAD_SOURCE_DIR "/docs/format/webhook.md", "rb");
    assert_non_null(file);
    struct span doc = span_of(doc_memory, fread(doc_memory, 1, sizeof doc_memory, file));
    (void)fclose(file);
    struct span item = doc_part(doc, "{\"id\":", "]}\n```");
    struct buf plain = buf_of(memory + sizeof memory / 2, sizeof memory / 2);
    struct protocol_post post;
    assert_int_equal(
        webhook_ops.encode(WEBHOOK_SEND, &item, 1, SPAN_NONE, NULL, &plain, NULL, &post), 0);
    struct span body = doc_part(doc, "{\"type\":\"events\"", "\n```");
    assert_true(span_equal(post.body, body) && span_equal(post.plain, body));
    struct buf out = buf_of(memory, sizeof memory / 2);
    struct protocol_signing s = {SPAN_LIT(SECRET_B), SPAN_LIT("receiver"), body,
                                 INT64_C(1795637693999)};
    assert_int_equal(webhook_ops.sign(&s, &out), 0);
    struct span lines = doc_part(doc, "webhook-id: msg_", "Content-Length");
    assert_true(span_equal(buf_span(&out), lines));
    assert_true(span_find(doc, SPAN_LIT(SECRET_B)) != SIZE_MAX);
}

static struct span line_of(struct span lines, const char *name) {
    size_t at = span_find(lines, span_str(name));
    assert_true(at != SIZE_MAX);
    struct span rest = span_from(lines, at + strlen(name));
    return span_cut(rest, 0, span_find_byte(rest, '\n'));
}

static void test_id(void **state) {
    (void)state;
    char first[64];
    struct protocol_signing s = {SPAN_LIT(SECRET_A), SPAN_LIT("a"), SPAN_LIT("{}"), 1000};
    (void)snprintf(first, sizeof first, "%.*s", 36, (const char *)line_of(sign(s), "-id: ").p);
    s.time_ms = 2000;
    struct span again = sign(s);
    assert_text(line_of(again, "-id: "), first); /* a later try */
    assert_text(line_of(again, "timestamp: "), "2");
    s.credential = SPAN_LIT(SECRET_B);
    assert_text(line_of(sign(s), "-id: "), first);
    s.vendor = SPAN_LIT("b");
    assert_false(span_is(line_of(sign(s), "-id: "), first));
    s.vendor = SPAN_LIT("a");
    s.body = SPAN_LIT("{ }");
    assert_false(span_is(line_of(sign(s), "-id: "), first));
}

static void test_two_secrets(void **state) {
    (void)state;
    char one[64];
    char other[64];
    char both[200];
    struct protocol_signing s = {SPAN_LIT(SECRET_A), SPAN_LIT("a"), SPAN_LIT("{}"), 1000};
    (void)snprintf(one, sizeof one, "%.47s", (const char *)line_of(sign(s), "signature: ").p);
    s.credential = SPAN_LIT(SECRET_B);
    (void)snprintf(other, sizeof other, "%.47s", (const char *)line_of(sign(s), "signature: ").p);
    assert_string_not_equal(one, other);
    s.credential = SPAN_LIT(SECRET_A " \r\n" SECRET_B);
    (void)snprintf(both, sizeof both, "%s %s", one, other);
    assert_text(line_of(sign(s), "signature: "), both);
}

static void test_credentials(void **state) {
    (void)state;
    static const char *const bad[] = {
        "",
        "whsec_",
        "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS", /* 23 bytes */
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLa!w",
        SECRET_A " secret",
        SECRET_A " " SECRET_B " " SECRET_A,
        "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"};
    assert_true(webhook_ops.is_credential(SPAN_LIT(SECRET_A)));
    assert_true(webhook_ops.is_credential(SPAN_LIT(SECRET_A " " SECRET_B)));
    for (size_t i = 0; i < BH_COUNT(bad); i++) {
        struct buf out = buf_of(memory, sizeof memory);
        struct protocol_signing s = {span_str(bad[i]), SPAN_LIT("a"), SPAN_LIT("{}"), 1000};
        if (webhook_ops.is_credential(span_str(bad[i])) || webhook_ops.sign(&s, &out) == 0) {
            fail_msg("taken: '%s'", bad[i]);
        }
    }
}

/* -- body and answers ---------------------------------------------------------------------------- */

static void test_encode(void **state) {
    (void)state;
    const struct span items[] = {SPAN_LIT("{\"id\":1}"), SPAN_LIT("{\"id\":2}")};
    static const char *const bodies[] = {"{\"type\":\"events\",\"data\":[]}",
                                         "{\"type\":\"events\",\"data\":[{\"id\":1}]}",
                                         "{\"type\":\"events\",\"data\":[{\"id\":1},{\"id\":2}]}"};
    for (size_t n = 0; n < BH_COUNT(bodies); n++) {
        struct buf plain = buf_of(memory, sizeof memory);
        struct protocol_post post;
        assert_int_equal(webhook_ops.encode(WEBHOOK_SEND, items, n, SPAN_LIT(SECRET_A), NULL,
                                            &plain, NULL, &post),
                         0);
        assert_text(post.body, bodies[n]);
        assert_string_equal(post.path, "");
        assert_false(post.gzip || post.basic_auth);
        struct buf small = buf_of(memory, post.body.n - 1);
        assert_int_equal(
            webhook_ops.encode(WEBHOOK_SEND, items, n, SPAN_NONE, NULL, &small, NULL, &post),
            BH_E_FULL);
    }
    /* The limit holds for as many items as fit. */
    assert_true(webhook_ops.body_max + strlen(bodies[0]) <= 1024 * 1024);
    assert_int_equal(webhook_ops.encoded_size(WEBHOOK_SEND, 100, 100), 101);
}

static void test_answers(void **state) {
    (void)state;
    static const struct {
        unsigned status;
        uint8_t kind;
        uint8_t probe;
    } rows[] = {
        {200, ANSWER_ACCEPTED, ANSWER_ACCEPTED}, {202, ANSWER_ACCEPTED, ANSWER_ACCEPTED},
        {204, ANSWER_ACCEPTED, ANSWER_ACCEPTED}, {301, ANSWER_AUTH, ANSWER_AUTH},
        {308, ANSWER_AUTH, ANSWER_AUTH},         {400, ANSWER_REFUSED, ANSWER_AUTH},
        {401, ANSWER_AUTH, ANSWER_AUTH},         {403, ANSWER_AUTH, ANSWER_AUTH},
        {404, ANSWER_AUTH, ANSWER_AUTH},         {405, ANSWER_AUTH, ANSWER_AUTH},
        {408, ANSWER_RETRY, ANSWER_RETRY},       {409, ANSWER_REFUSED, ANSWER_AUTH},
        {410, ANSWER_AUTH, ANSWER_AUTH},         {413, ANSWER_TOO_BIG, ANSWER_TOO_BIG},
        {422, ANSWER_REFUSED, ANSWER_AUTH},      {425, ANSWER_RETRY, ANSWER_RETRY},
        {429, ANSWER_RETRY, ANSWER_RETRY},       {500, ANSWER_RETRY, ANSWER_RETRY},
        {502, ANSWER_RETRY, ANSWER_RETRY},       {503, ANSWER_RETRY, ANSWER_RETRY},
        {504, ANSWER_RETRY, ANSWER_RETRY},       {0, ANSWER_RETRY, ANSWER_RETRY},
    };
    for (size_t i = 0; i < BH_COUNT(rows); i++) {
        struct protocol_answer answer;
        webhook_ops.answer(WEBHOOK_SEND, rows[i].status, SPAN_LIT("no"), 3, NULL, &answer);
        assert_int_equal(answer.kind, rows[i].kind);
        assert_int_equal(answer.refused_count, 0);
        webhook_ops.answer(WEBHOOK_SEND, rows[i].status, SPAN_NONE, 0, NULL, &answer);
        assert_int_equal(answer.kind, rows[i].probe);
    }
}

static void test_no_source(void **state) {
    (void)state;
    size_t all = 0;
    size_t sources = 0;
    const char *const *names = protocol_list(&all);
    (void)protocol_list_of_sources(&sources);
    assert_int_equal(sources, all - 1);
    for (size_t i = 0; i < all; i++) {
        const struct protocol_ops *ops = protocol_by_name(span_str(names[i]));
        assert_true((ops->decode != NULL) == (i < sources));
        assert_true(i < sources || ops == &webhook_ops);
        assert_true(protocol_by_id(ops->id) == ops);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vector),      cmocka_unit_test(test_document),
        cmocka_unit_test(test_id),          cmocka_unit_test(test_two_secrets),
        cmocka_unit_test(test_credentials), cmocka_unit_test(test_encode),
        cmocka_unit_test(test_answers),     cmocka_unit_test(test_no_source),
    };
    return crypto_init() != 0 ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
