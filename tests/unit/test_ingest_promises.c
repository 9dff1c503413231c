/* Who may put events in: tokens that are known, whole, and of this protocol; whoever else asks learns nothing. */
/* depends: ingest mixpanel protocol wire http json crypto model os base */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "crypto/crypto.h"
#include "flow/ingest/ingest.h"
#include "model/limits.h"
#include "protocol/wire/wire.h"

static struct ingester *ingester;
static struct ingest_sources *sources;

static int set_up(void **state) {
    (void)state;
    static const struct ingest_source list[] = {
        {.number = 1,
         .protocol = PROTOCOL_MIXPANEL,
         .name = {(const uint8_t *)"web", 3},
         .token = {(const uint8_t *)"token_of_the_web", 16}},
        {.number = 2,
         .protocol = PROTOCOL_MIXPANEL,
         .trust_server = true,
         .name = {(const uint8_t *)"api", 3},
         .token = {(const uint8_t *)"token_of_the_api", 16},
         .import_secret = {(const uint8_t *)"secret_of_import", 16},
         .import_project = {(const uint8_t *)"77", 2}},
    };
    return crypto_init() == 0 && ingest_sources_new(list, BH_COUNT(list), &sources) == 0
               ? ingester_new(LIMIT_REQUEST_BYTES, NULL, &ingester)
               : -1;
}

static int tear_down(void **state) {
    (void)state;
    ingester_free(ingester);
    ingest_sources_free(sources);
    return 0;
}

static struct ingest_batch batch;

/* `target` is a path with its query; `credentials` go into an Authorization header. */
static enum reply_kind post_bytes(const char *target, const char *credentials, struct span body) {
    static uint8_t room[65536];
    static char head_text[1024];
    static struct http_head head;
    unsigned status = 0;
    int size = snprintf(
        head_text, sizeof head_text,
        "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n%s%s%sContent-Length: %zu\r\n\r\n",
        target, credentials != NULL ? "Authorization: Basic " : "",
        credentials != NULL ? credentials : "", credentials != NULL ? "\r\n" : "", body.n);
    assert_int_equal(
        http_parse_head(span_of(head_text, (size_t)size), sizeof head_text, 512, &head, &status),
        0);
    assert_true(body.n <= sizeof room);
    memcpy(room, body.p, body.n);
    struct http_request request = {.head = &head, .body = room, .body_size = body.n};
    ingest_read(ingester, sources, &request, 1700000000000, &batch);
    return batch.verdict;
}

static enum reply_kind post(const char *target, const char *credentials, const char *body) {
    return post_bytes(target, credentials, span_str(body));
}

static enum reply_kind track(const char *token) {
    char body[300];
    (void)snprintf(body, sizeof body,
                   "[{\"event\":\"e\",\"properties\":{\"token\":\"%s\",\"distinct_id\":\"u\"}}]",
                   token);
    return post("/mixpanel/track", NULL, body);
}

static void a_known_token_names_its_source(void **state) {
    (void)state;
    assert_int_equal(track("token_of_the_web"), REPLY_KEPT);
    assert_int_equal(batch.good, 1);
    assert_int_equal(batch.sources[0]->number, 1);
    assert_int_equal(track("token_of_the_api"), REPLY_KEPT);
    assert_int_equal(batch.sources[0]->number, 2);
}

/* Parts of a token, more than it, another of its length, its other case, a secret in its place, none at all. */
static void an_unknown_token_is_refused(void **state) {
    (void)state;
    static const char *const tokens[] = {"token_of_the_wez",
                                         "token_of_the_we",
                                         "token_of_the_webb",
                                         "Token_of_the_web",
                                         "secret_of_import",
                                         "xxxxxxxxxxxxxxxx",
                                         "x",
                                         ""};
    for (size_t i = 0; i < BH_COUNT(tokens); i++) {
        assert_int_equal(track(tokens[i]), REPLY_UNAUTHORIZED);
        assert_int_equal(batch.good, 0);
    }
    /* As many as it takes to look at every place of the table. */
    for (unsigned i = 0; i < 500; i++) {
        char token[17];
        (void)snprintf(token, sizeof token, "token_of_%07u", i);
        assert_null(ingest_source_by_token(sources, PROTOCOL_MIXPANEL, span_of(token, 16)));
    }
    assert_null(
        ingest_source_by_token(sources, PROTOCOL_MIXPANEL + 1, SPAN_LIT("token_of_the_web")));
    assert_null(ingest_source_by_token(sources, PROTOCOL_MIXPANEL, SPAN_NONE));
}

static enum reply_kind merge(const char *target, const char *token) {
    char body[300];
    (void)snprintf(
        body, sizeof body,
        "[{\"event\":\"$merge\",\"properties\":{\"token\":\"%s\",\"$distinct_ids\":[\"a\",\"b\"]}}]",
        token);
    return post(target, NULL, body);
}

/* A vendor takes a merge from who has the project's secret; a page's public token is none, and ours is not lent to it. */
static void a_public_token_merges_nobody(void **state) {
    (void)state;
    static const char *const targets[] = {"/mixpanel/track", "/mixpanel/import"};
    for (size_t i = 0; i < BH_COUNT(targets); i++) {
        assert_int_equal(merge(targets[i], "token_of_the_web"), REPLY_MALFORMED);
        assert_int_equal(batch.good, 0);
        assert_int_equal(batch.decoded.items[0].reason, REASON_NOT_ALLOWED);
        assert_int_equal(merge(targets[i], "token_of_the_api"), REPLY_KEPT);
        assert_int_equal(batch.good, 1);
    }
}

/* Each item is its own token's: the unknown ones are counted bad, the others kept, none lent another's token. */
static void items_of_a_batch_stand_for_themselves(void **state) {
    (void)state;
    assert_int_equal(
        post(
            "/mixpanel/track", NULL,
            "[{\"event\":\"a\",\"properties\":{\"token\":\"token_of_the_web\"}},{\"event\":\"b\",\"properties\":{\"token\":\"token_of_the_wez\"}},"
            "{\"event\":\"c\",\"properties\":{}},{\"event\":\"d\",\"properties\":{\"token\":\"token_of_the_api\"}}]"),
        REPLY_KEPT);
    assert_int_equal(batch.decoded.item_count, 4);
    assert_int_equal(batch.good, 2);
    assert_int_equal(batch.sources[0]->number, 1);
    assert_null(batch.sources[1]);
    assert_int_equal(batch.decoded.items[1].reason, REASON_UNKNOWN_TOKEN);
    assert_null(batch.sources[2]);
    assert_int_equal(batch.sources[3]->number, 2);
}

/* The import secret counts as a user, with its own project; the same bytes with another project do not. */
static void an_import_secret_is_bound_to_its_project(void **state) {
    (void)state;
    static const char body[] =
        "[{\"event\":\"a\",\"properties\":{\"time\":1700000000,\"distinct_id\":\"u\",\"$insert_id\":\"i\"}}]";
    static const char good[] = "c2VjcmV0X29mX2ltcG9ydDo=";  /* secret_of_import: */
    static const char other[] = "c2VjcmV0X29mX2ltcG9ydHM6"; /* secret_of_imports: */
    assert_int_equal(post("/mixpanel/import?strict=1", good, body), REPLY_KEPT);
    assert_int_equal(batch.sources[0]->number, 2);
    assert_int_equal(post("/mixpanel/import?strict=1&project_id=77", good, body), REPLY_KEPT);
    assert_int_equal(post("/mixpanel/import?strict=1&project_id=78", good, body),
                     REPLY_UNAUTHORIZED);
    assert_int_equal(post("/mixpanel/import?strict=1", other, body), REPLY_UNAUTHORIZED);
    assert_int_equal(post("/mixpanel/import?strict=1", NULL, body), REPLY_UNAUTHORIZED);
}

/* What a small body unpacks to is held to the limit of a large one. */
static void a_body_unpacks_to_no_more_than_its_limit(void **state) {
    (void)state;
    static const char start[] =
        "[{\"event\":\"e\",\"properties\":{\"token\":\"token_of_the_web\"}}";
    struct wire *wire = wire_new();
    size_t cap = LIMIT_REQUEST_BYTES + 1;
    char *plain = malloc(cap);
    uint8_t *packed = malloc(wire_gzip_bound(cap));
    assert_true(wire != NULL && plain != NULL && packed != NULL);
    memset(plain, ' ', cap);
    memcpy(plain, start, sizeof start - 1);
    for (size_t over = 0; over <= 1; over++) {
        struct buf out = buf_of(packed, wire_gzip_bound(cap));
        plain[cap - 2] = over == 0 ? ']' : ' ';
        plain[cap - 1] = ']';
        assert_int_equal(wire_gzip(wire, span_of(plain, cap - 1 + over), &out), 0);
        assert_int_equal(post_bytes("/mixpanel/track", NULL, buf_span(&out)),
                         over == 0 ? REPLY_KEPT : REPLY_TOO_BIG);
    }
    free(packed);
    free(plain);
    wire_free(wire);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_known_token_names_its_source),
        cmocka_unit_test(an_unknown_token_is_refused),
        cmocka_unit_test(a_public_token_merges_nobody),
        cmocka_unit_test(items_of_a_batch_stand_for_themselves),
        cmocka_unit_test(an_import_secret_is_bound_to_its_project),
        cmocka_unit_test(a_body_unpacks_to_no_more_than_its_limit),
    };
    return cmocka_run_group_tests_name("ingest_promises", tests, set_up, tear_down);
}
