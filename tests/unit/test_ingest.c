/* What ingest keeps of a request once it is done: nothing. */
/* libs: cmocka deflate */
/* depends: ingest mixpanel protocol http json crypto wire os base */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <libdeflate.h>

#include "crypto/crypto.h"
#include "flow/ingest/ingest.h"

enum { BODY_MAX = 64 * 1024 };

/* An id with escapes, as it is sent and as it is kept while the request is worked on. */
#define ID_SENT "-----BEGIN PRIVATE KEY-----\\nMIIEvZqMkA\\n-----END PRIVATE KEY-----"
#define ID_READ "-----BEGIN PRIVATE KEY-----\nMIIEvZqMkA\n-----END PRIVATE KEY-----"
#define ITEM                                                                      \
    "{\"event\":\"a\",\"properties\":{\"token\":\"t\",\"distinct_id\":\"" ID_SENT \
    "\",\"$insert_id\":\"" ID_SENT "\"}}"

static uint8_t body[BODY_MAX];
static struct ingester *ingester;
static struct ingest_sources *sources;

static int set_up(void **state) {
    (void)state;
    const struct ingest_source source = {
        .number = 1, .protocol = 1, .name = SPAN_LIT("api"), .token = SPAN_LIT("t")};
    assert_int_equal(ingest_sources_new(&source, 1, &sources), 0);
    assert_int_equal(ingester_new(1 << 20, NULL, &ingester), 0);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    ingester_free(ingester);
    ingest_sources_free(sources);
    return 0;
}

static void read_request(struct span query, size_t body_size, struct ingest_batch *ret_batch) {
    struct http_head head = {.method = query.n != 0 ? HTTP_GET : HTTP_POST,
                             .path = SPAN_LIT("/mixpanel/track"),
                             .query = query};
    struct http_request request = {.head = &head, .body = body, .body_size = body_size};
    ingest_read(ingester, sources, &request, 1790000000000, ret_batch);
    assert_int_equal(ret_batch->verdict, REPLY_KEPT);
    assert_int_equal(ret_batch->good, 1);
    assert_true(span_is(ret_batch->decoded.items[0].person, ID_READ));
    assert_true(span_is(ret_batch->decoded.items[0].dedupe, ID_READ));
}

static void assert_zero(struct span memory) {
    for (size_t i = 0; i < memory.n; i++) {
        if (memory.p[i] != 0) {
            fail_msg("byte %zu of %zu is still 0x%02x", i, memory.n, memory.p[i]);
        }
    }
}

/* The JSON stands in the body, the decoded ids in the ingester's own memory. */
static void test_ids_of_a_plain_body_are_overwritten(void **state) {
    (void)state;
    struct ingest_batch batch;
    memcpy(body, ITEM, sizeof ITEM - 1);
    read_request(SPAN_NONE, sizeof ITEM - 1, &batch);
    ingest_wipe(ingester);
    assert_zero(batch.decoded.items[0].person);
    assert_zero(batch.decoded.items[0].dedupe);
}

/* The JSON was unpacked into the ingester's own memory, and the decoded ids stand behind it. */
static void test_ids_of_a_packed_body_are_overwritten(void **state) {
    (void)state;
    struct ingest_batch batch;
    struct libdeflate_compressor *packer = libdeflate_alloc_compressor(6);
    assert_non_null(packer);
    size_t n = libdeflate_gzip_compress(packer, ITEM, sizeof ITEM - 1, body, sizeof body);
    libdeflate_free_compressor(packer);
    read_request(SPAN_NONE, n, &batch);
    ingest_wipe(ingester);
    assert_zero(batch.decoded.text);
    assert_zero(batch.decoded.items[0].person);
    assert_zero(batch.decoded.items[0].dedupe);
}

/* Base64 shrinks where it stands: its last quarter lies behind the JSON. */
static void test_a_query_is_overwritten_to_its_end(void **state) {
    (void)state;
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char query[4096] = "data=";
    size_t n = 5;
    struct ingest_batch batch;
    static const char item[] = ITEM "  "; /* a multiple of three would do; spaces are let be */
    for (size_t i = 0; i + 3 <= sizeof item - 1; i += 3) {
        uint32_t v = (uint32_t)(uint8_t)item[i] << 16 | (uint32_t)(uint8_t)item[i + 1] << 8 |
                     (uint8_t)item[i + 2];
        for (unsigned k = 0; k < 4; k++) {
            query[n++] = letters[v >> (18 - 6 * k) & 63];
        }
    }
    read_request(span_of(query, n), 0, &batch);
    const uint8_t *text = batch.decoded.text.p;
    ingest_wipe(ingester);
    assert_zero(span_of(text, n - 5));
    assert_zero(batch.decoded.items[0].person);
    assert_zero(batch.decoded.items[0].dedupe);
}

/* -- who sends --------------------------------------------------------------------------------- */

static void assert_client(const char *peer, const char *first, const char *second,
                          const char *expected) {
    struct net proxies[2];
    struct net address;
    struct http_head head = {0};
    struct http_request request = {.head = &head};
    uint8_t client[16];
    assert_true(net_parse(SPAN_LIT("10.0.0.0/8"), &proxies[0]));
    assert_true(net_parse(SPAN_LIT("fd00::/8"), &proxies[1]));
    assert_true(net_parse(span_str(peer), &address));
    memcpy(request.peer.address, address.address, sizeof address.address);
    head.headers[head.header_count++] =
        (struct http_header){SPAN_LIT("X-Forwarded-For"), span_str(first)};
    if (second != NULL) {
        head.headers[head.header_count++] =
            (struct http_header){SPAN_LIT("x-forwarded-for"), span_str(second)};
    }
    ingest_client(&request, proxies, 2, client);
    assert_true(net_parse(span_str(expected), &address));
    assert_memory_equal(client, address.address, sizeof client);
}

static void test_a_client_is_named_by_trusted_proxies_alone(void **state) {
    (void)state;
    assert_client("203.0.113.1", "198.51.100.1", NULL, "203.0.113.1");
    assert_client("10.0.0.1", "198.51.100.1", NULL, "198.51.100.1");
    assert_client("10.0.0.1", "192.0.2.66, 198.51.100.1", NULL, "198.51.100.1");
    assert_client("10.0.0.1", "192.0.2.66,198.51.100.1 , 10.2.0.1", NULL, "198.51.100.1");
    assert_client("10.0.0.1", "192.0.2.66", "198.51.100.1:4711", "198.51.100.1");
    assert_client("fd00::1", "[2001:db8::7]:443", NULL, "2001:db8::7");
    assert_client("fd00::1", "2001:db8::7", NULL, "2001:db8::7");
    assert_client("10.0.0.1", "198.51.100.1, unknown", NULL, "10.0.0.1");
    assert_client("10.0.0.1", "198.51.100.0/24", NULL, "10.0.0.1");
    assert_client("10.0.0.1", "", NULL, "10.0.0.1");
    assert_client("10.0.0.1", ",,", NULL, "10.0.0.1");
    assert_client("10.0.0.1", "10.0.0.2", NULL, "10.0.0.2");
}

/* What the headers say for the user is kept, in front of what the protocol keeps; nothing else of them is. */
static void test_signals_are_kept_with_the_request(void **state) {
    (void)state;
    static const struct {
        const char *name;
        const char *value;
        const char *env;
    } cases[] = {
        {"Accept", "1", "{\"ip\":false,\"path\":\"/track\",\"verbose\":false}"},
        {"Sec-GPC", "1", "{\"Sec-GPC\":true,\"ip\":false,\"path\":\"/track\",\"verbose\":false}"},
        {"dnt", "1", "{\"DNT\":true,\"ip\":false,\"path\":\"/track\",\"verbose\":false}"},
        {"DNT", "0", "{\"ip\":false,\"path\":\"/track\",\"verbose\":false}"},
        {"DNT", "1, 1", "{\"ip\":false,\"path\":\"/track\",\"verbose\":false}"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t room[512];
        struct buf env = buf_of(room, sizeof room);
        struct ingest_batch batch;
        struct http_head head = {.method = HTTP_POST,
                                 .path = SPAN_LIT("/mixpanel/track"),
                                 .header_count = 2,
                                 .headers = {{SPAN_LIT("User-Agent"), SPAN_LIT("someone")},
                                             {span_str(cases[i].name), span_str(cases[i].value)}}};
        memcpy(body, ITEM, sizeof ITEM - 1);
        struct http_request request = {.head = &head, .body = body, .body_size = sizeof ITEM - 1};
        ingest_read(ingester, sources, &request, 1790000000000, &batch);
        assert_int_equal(batch.verdict, REPLY_KEPT);
        ingest_env(&batch, &env);
        assert_true(span_is(buf_span(&env), cases[i].env));
        ingest_wipe(ingester);
    }
}

int main(void) {
    if (crypto_init() != 0) {
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_client_is_named_by_trusted_proxies_alone),
        cmocka_unit_test_setup_teardown(test_ids_of_a_plain_body_are_overwritten, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_ids_of_a_packed_body_are_overwritten, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_signals_are_kept_with_the_request, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_query_is_overwritten_to_its_end, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
