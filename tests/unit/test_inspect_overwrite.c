/*
 * Never-on-disk data does not survive inspect_overwrite: a marked secret of every class is put at a
 * random place in a random encoding, and every byte that carries it must be overwritten, the item
 * keep its length and its tokens, and a second look find nothing new to overwrite. BH_SEED=N
 * repeats a run; BH_RUNS=N sets how many.
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
#include "unit/random_kit.h"

enum { TEXT_MAX = 256 * 1024, TOKENS_MAX = 2048, FINDINGS_MAX = 4096 };

static struct inspector *inspector;
static struct finding findings[FINDINGS_MAX];
static struct json_token tokens[TOKENS_MAX];
static struct json_token tokens_after[TOKENS_MAX];
static void put_random(struct buf *b, const char *alphabet, size_t n) {
    size_t letters = strlen(alphabet);
    for (size_t i = 0; i < n; i++) {
        buf_put_byte(b, (uint8_t)alphabet[random_below(letters)]);
    }
}

static const char digits[] = "0123456789";
static const char alnum[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
static const char url_safe[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/* --- marks --- */

/* Replaces the last digit so that the Luhn sum is right. */
static void luhn_close(uint8_t *p, size_t n) {
    unsigned sum = 0;
    for (size_t i = 1; i < n; i++) {
        unsigned d = (unsigned)(p[n - 1 - i] - '0');
        sum += (i & 1) != 0 ? (d > 4 ? 2 * d - 9 : 2 * d) : d;
    }
    p[n - 1] = (uint8_t)('0' + (10 - sum % 10) % 10);
}

static void make_card(struct buf *b) {
    static const char *const prefixes[] = {"4", "51", "2221", "6011", "3530", "62", "6759"};
    static const char separators[] = {0, ' ', '-'};
    uint8_t card[16];
    struct buf c = buf_of(card, 16);
    buf_put_str(&c, prefixes[random_below(7)]);
    put_random(&c, digits, 16 - c.n);
    luhn_close(card, 16);
    char separator = separators[random_below(3)];
    for (unsigned i = 0; i < 16; i++) {
        if (i > 0 && i % 4 == 0 && separator != 0) {
            buf_put_byte(b, (uint8_t)separator);
        }
        buf_put_byte(b, card[i]);
    }
}

static void make_iban(struct buf *b) {
    char bban[19];
    for (unsigned i = 0; i < 18; i++) {
        bban[i] = digits[random_below(10)];
    }
    bban[18] = 0;
    unsigned remainder = 0;
    for (unsigned i = 0; i < 18; i++) {
        remainder = (remainder * 10 + (unsigned)(bban[i] - '0')) % 97;
    }
    static const char country[] = "131400"; /* D, E, 00 */
    for (unsigned i = 0; i < 6; i++) {
        remainder = (remainder * 10 + (unsigned)(country[i] - '0')) % 97;
    }
    buf_printf(b, "DE%02u%s", 98 - remainder, bban);
}

static void make_ssn(struct buf *b) {
    buf_printf(b, "%03u-%02u-%04u", (unsigned)(100 + random_below(500)),
               (unsigned)(1 + random_below(99)), (unsigned)(1 + random_below(9999)));
}

static void make_secret(struct buf *b) {
    static const struct {
        const char *prefix;
        const char *alphabet;
        unsigned n;
    } kinds[] = {
        {"AKIA", "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 16},
        {"ghp_", alnum, 36},
        {"sk_live_", alnum, 24},
        {"xoxb-12345678901-", alnum, 24},
        {"sk-proj-", url_safe, 48},
        {"AIza", url_safe, 35},
        {"npm_", alnum, 36},
        {"glpat-", url_safe, 20},
    };
    size_t kind = random_below(8);
    buf_put_str(b, kinds[kind].prefix);
    put_random(b, kinds[kind].alphabet, kinds[kind].n);
    if (b->p[b->n - 1] == '-' || b->p[b->n - 1] == '_') {
        b->p[b->n - 1] = 'x';
    }
}

static void make_jwt(struct buf *b) {
    buf_put_str(b, "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI");
    put_random(b, alnum, 20);
    buf_put_byte(b, '.');
    put_random(b, alnum, 43);
}

typedef void make_mark(struct buf *b);
static make_mark *const makers[] = {make_card, make_iban, make_ssn, make_secret, make_jwt};

/* --- encodings: from a text to a text that hides it --- */

static void encode_none(struct span in, struct buf *out) {
    buf_put_span(out, in);
}

static void encode_percent(struct span in, struct buf *out) {
    for (size_t i = 0; i < in.n; i++) {
        bool plain = memchr(alnum, in.p[i], sizeof alnum - 1) != NULL;
        if (plain && random_below(4) != 0) {
            buf_put_byte(out, in.p[i]);
        } else {
            buf_printf(out, random_below(2) != 0 ? "%%%02X" : "%%%02x", in.p[i]);
        }
    }
}

static void encode_base64(struct span in, struct buf *out, const char *last_two, bool pad) {
    char alphabet[65];
    (void)snprintf(alphabet, sizeof alphabet,
                   "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789%s", last_two);
    for (size_t i = 0; i < in.n; i += 3) {
        uint32_t v = (uint32_t)in.p[i] << 16;
        v |= i + 1 < in.n ? (uint32_t)in.p[i + 1] << 8 : 0;
        v |= i + 2 < in.n ? in.p[i + 2] : 0;
        size_t made = in.n - i >= 3 ? 4 : in.n - i + 1;
        for (size_t k = 0; k < made; k++) {
            buf_put_byte(out, (uint8_t)alphabet[v >> (18 - 6 * k) & 63]);
        }
        for (size_t k = made; k < 4 && pad; k++) {
            buf_put_byte(out, '=');
        }
    }
}

static void encode_standard(struct span in, struct buf *out) {
    encode_base64(in, out, "+/", true);
}

static void encode_url_safe(struct span in, struct buf *out) {
    encode_base64(in, out, "-_", random_below(2) != 0);
}

static void encode_json(struct span in, struct buf *out) {
    buf_put_str(out, "{\"a\":[1,");
    json_put_string(out, in);
    buf_put_str(out, "]}");
}

static void encode_entities(struct span in, struct buf *out) {
    for (size_t i = 0; i < in.n; i++) {
        buf_printf(out, random_below(3) == 0 ? "&#%u;" : "&#x%x;", in.p[i]);
    }
}

static void encode_unicode(struct span in, struct buf *out) {
    for (size_t i = 0; i < in.n; i++) {
        buf_printf(out, "\\u%04x", in.p[i]);
    }
}

typedef void encode_text(struct span in, struct buf *out);
static encode_text *const encoders[] = {encode_none,     encode_percent, encode_standard,
                                        encode_url_safe, encode_json,    encode_entities,
                                        encode_unicode};

/* --- items --- */

struct marked {
    uint8_t text[TEXT_MAX];
    size_t n;
    size_t from; /* the bytes that carry the mark */
    size_t to;
    const char *how;
    uint8_t mark[256]; /* as it was before any encoding */
    size_t mark_n;
    bool opaque; /* under an encoding that leaves none of it readable */
};

static void surround(struct span in, struct buf *out) {
    static const char *const before[] = {
        "", "see ", "x=", "https://x.example/?q=", "https://x.example/#t=", "<b>", "a, "};
    static const char *const after[] = {"", " now", "&y=1", "&y=1", "", "</b>", " and more"};
    size_t i = random_below(7);
    buf_put_str(out, before[i]);
    buf_put_span(out, in);
    buf_put_str(out, after[i]);
}

/* A string that carries the mark under up to `levels` encodings. */
static void make_value(struct marked *m, struct buf *value, unsigned levels) {
    static uint8_t memory[2][TEXT_MAX];
    struct buf a = buf_of(memory[0], TEXT_MAX);
    makers[random_below(5)](&a);
    struct span current = buf_span(&a);
    assert_true(a.n <= sizeof m->mark);
    memcpy(m->mark, a.p, a.n);
    m->mark_n = a.n;
    m->opaque = false;
    for (unsigned level = 0; level < levels; level++) {
        struct buf b = buf_of(memory[(level + 1) & 1], TEXT_MAX);
        static uint8_t room[TEXT_MAX / 2];
        struct buf around = buf_of(room, sizeof room);
        surround(current, &around);
        assert_false(around.full);
        size_t encoder = random_below(7);
        m->opaque |= encoder == 2 || encoder == 3 || encoder >= 5;
        encoders[encoder](buf_span(&around), &b);
        assert_false(b.full);
        current = buf_span(&b);
    }
    buf_put_span(value, current);
}

static void put_item(struct marked *m, struct span value, bool as_key, bool secret_key) {
    struct buf b = buf_of(m->text, TEXT_MAX);
    static const char *const secret_keys[] = {"password",      "userPassword", "api_key",
                                              "client-secret", "X-Auth-Token", "cardNumber9"};
    buf_put_str(&b,
                "{\"event\":\"Signed Up\",\"properties\":{\"distinct_id\":\"u1\",\"n\":[1,{\"k\":");
    if (secret_key) {
        buf_put_str(&b, "{\"");
        buf_put_str(&b, secret_keys[random_below(5)]);
        buf_put_str(&b, "\":");
    } else if (as_key) {
        buf_put_str(&b, "{");
    }
    m->from = b.n + 1;
    json_put_string(&b, value);
    m->to = b.n - 1;
    buf_put_str(&b, as_key ? ":true}" : secret_key ? "}" : "");
    buf_put_str(&b, "}],\"plan\":\"pro\"}}");
    assert_false(b.full);
    m->n = b.n;
}

static void make_item(struct marked *m) {
    static uint8_t memory[TEXT_MAX / 2];
    struct buf value = buf_of(memory, sizeof memory);
    unsigned kind = (unsigned)random_below(8);
    if (kind == 0) {
        put_random(&value, url_safe, 8 + random_below(20));
        buf_put_str(&value, "7");
        m->mark_n = value.n;
        memcpy(m->mark, value.p, value.n);
        m->opaque = true;
        put_item(m, buf_span(&value), false, true);
        m->how = "by key";
        return;
    }
    make_value(m, &value, (unsigned)random_below(4));
    put_item(m, buf_span(&value), kind == 1, false);
    m->how = kind == 1 ? "in a key" : "in a value";
}

static struct inspect_item look(const uint8_t *text, size_t n, size_t *ret_count) {
    size_t offset = 0;
    assert_int_equal(json_parse((struct span){text, n}, 33, tokens, TOKENS_MAX, ret_count, &offset),
                     0);
    struct inspect_item item = {0, EVENT_TRACK, 0, 0, 0};
    inspect_items(inspector, protocol_by_id(PROTOCOL_MIXPANEL), (struct span){text, n}, tokens,
                  *ret_count, &item, 1, findings, FINDINGS_MAX);
    assert_int_equal(item.error, 0);
    return item;
}

static void expect_same_tokens(const uint8_t *text, size_t n, size_t count) {
    size_t count_after = 0;
    size_t offset = 0;
    assert_int_equal(
        json_parse((struct span){text, n}, 33, tokens_after, TOKENS_MAX, &count_after, &offset), 0);
    assert_int_equal(count, count_after);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(tokens[i].start, tokens_after[i].start);
        assert_int_equal(tokens[i].len, tokens_after[i].len);
        assert_int_equal(tokens[i].next, tokens_after[i].next);
        assert_int_equal(tokens[i].kind, tokens_after[i].kind);
    }
}

/* Whether six bytes in a row of the mark stand anywhere in the item. */
static bool mark_remains(const struct marked *m) {
    enum { WINDOW = 6 };
    for (size_t i = 0; i + WINDOW <= m->mark_n; i++) {
        struct span piece = {m->mark + i, WINDOW};
        bool published =
            span_find(
                SPAN_LIT("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI sk_live_ sk-proj- xoxb-12345678901-"),
                piece) != SIZE_MAX;
        if (!published && span_find((struct span){m->text, m->n}, piece) != SIZE_MAX) {
            return true;
        }
    }
    return false;
}

static void test_marks(void **state) {
    (void)state;
    static struct marked m;
    static uint8_t before[TEXT_MAX];
    random_start(20261124);
    uint64_t runs = random_kit_number("BH_RUNS", 60000);
    print_message("%llu items\n", (unsigned long long)runs);
    for (uint64_t run = 0; run < runs; run++) {
        make_item(&m);
        memcpy(before, m.text, m.n);
        size_t count = 0;
        struct inspect_item item = look(m.text, m.n, &count);
        bool overwritten =
            inspect_overwrite(m.text, tokens, 0, findings + item.finding_first, item.finding_count);
        expect_same_tokens(m.text, m.n, count);
        size_t stars = 0;
        for (size_t i = m.from; i < m.to; i++) {
            stars += m.text[i] == '*';
        }
        bool all = stars == m.to - m.from;
        if (!overwritten || stars < 8 || (m.opaque && !all) || mark_remains(&m)) {
            fail_msg("run %llu, %s: %.*s", (unsigned long long)run, m.how, (int)m.n,
                     (const char *)before);
        }
        /* Nothing outside the carrier changed. */
        assert_memory_equal(m.text, before, m.from);
        assert_memory_equal(m.text + m.to, before + m.to, m.n - m.to);
        memcpy(before, m.text, m.n);
        item = look(m.text, m.n, &count);
        (void)inspect_overwrite(m.text, tokens, 0, findings + item.finding_first,
                                item.finding_count);
        assert_memory_equal(m.text, before, m.n);
    }
}

static void expect_overwritten(const char *text, const char *expected) {
    static uint8_t memory[TEXT_MAX];
    size_t n = strlen(text);
    memcpy(memory, text, n);
    size_t count = 0;
    struct inspect_item item = look(memory, n, &count);
    bool overwritten =
        inspect_overwrite(memory, tokens, 0, findings + item.finding_first, item.finding_count);
    assert_int_equal(overwritten, strcmp(text, expected) != 0);
    expect_same_tokens(memory, n, count);
    if (memcmp(memory, expected, n) != 0) {
        fail_msg("%s\n  expected %s\n  found    %.*s", text, expected, (int)n,
                 (const char *)memory);
    }
}

static void test_exact(void **state) {
    (void)state;
    static const struct {
        const char *text;
        const char *expected;
    } rows[] = {
        {"{\"properties\":{\"x\":\"my card 4111 1111 1111 1111!\"}}",
         "{\"properties\":{\"x\":\"my card *******************!\"}}"},
        {"{\"properties\":{\"x\":4111111111111111}}", "{\"properties\":{\"x\":1111111111111111}}"},
        {"{\"properties\":{\"password\":-12.5e3}}", "{\"properties\":{\"password\":-11.1e1}}"},
        {"{\"properties\":{\"password\":\"hunter2\"}}",
         "{\"properties\":{\"password\":\"*******\"}}"},
        {"{\"properties\":{\"x\":\"a\\n4111111111111111\"}}",
         "{\"properties\":{\"x\":\"*******************\"}}"},
        {"{\"properties\":{\"x\":\"a %34111111111111111\"}}",
         "{\"properties\":{\"x\":\"********************\"}}"},
        {"{\"properties\":{\"c 4111111111111111\":1}}",
         "{\"properties\":{\"c ****************\":1}}"},
        {"{\"properties\":{\"x\":\"https://u:hunter2@h.example/\"}}",
         "{\"properties\":{\"x\":\"https://u:*******@h.example/\"}}"},
        {"{\"properties\":{\"x\":\"?token=ab12cd34&y=1\"}}",
         "{\"properties\":{\"x\":\"?token=********&y=1\"}}"},
        {"{\"properties\":{\"password\":{\"a\":[\"b\",1,true,null]}}}",
         "{\"properties\":{\"password\":{\"a\":[\"*\",1,true,null]}}}"},
        {"{\"properties\":{\"x\":\"jonas@example.com\",\"diagnosis\":\"flu\"}}",
         "{\"properties\":{\"x\":\"jonas@example.com\",\"diagnosis\":\"flu\"}}"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        expect_overwritten(rows[i].text, rows[i].expected);
    }
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
        cmocka_unit_test(test_exact),
        cmocka_unit_test(test_marks),
    };
    return cmocka_run_group_tests_name("inspect overwrite", tests, setup, teardown);
}
