/* One reading of a request: smuggling probes with the status each must get, and the same verdict however the bytes arrive. */
/* depends: http os base */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "engine/http/http_parse.h"
#include "unit/random_kit.h"

enum { HEAD_MAX = 80 * 1024, TARGET_MAX = 64 * 1024, ACCEPTED = 0, UNFINISHED = 1 };

struct probe {
    const char *name;
    struct span text;
    unsigned status; /* ACCEPTED, UNFINISHED, or what is answered */
};

#define PROBE(name, status, text) \
    { name, {(const uint8_t *)("" text), sizeof(text) - 1}, status }
#define H    "Host: a\r\n"
#define POST "POST /track HTTP/1.1\r\n" H

static const struct probe probes[] = {
    /* What real clients send. */
    PROBE("plain GET", ACCEPTED, "GET / HTTP/1.1\r\n" H "\r\n"),
    PROBE("GET with query", ACCEPTED, "GET /track?data=e30%3D&ip=1 HTTP/1.1\r\n" H "\r\n"),
    PROBE("POST with length", ACCEPTED, POST "Content-Length: 5\r\n\r\n"),
    PROBE("POST chunked", ACCEPTED, POST "Transfer-Encoding: chunked\r\n\r\n"),
    PROBE("chunked in capitals", ACCEPTED, POST "TRANSFER-ENCODING: ChUnKeD\r\n\r\n"),
    PROBE("POST without either", ACCEPTED, POST "\r\n"),
    PROBE("HTTP/1.0 without Host", ACCEPTED, "GET / HTTP/1.0\r\n\r\n"),
    PROBE("HTTP/1.0 with keep-alive", ACCEPTED, "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"),
    PROBE("no space after colon", ACCEPTED, "GET / HTTP/1.1\r\nHost:a\r\n\r\n"),
    PROBE("tabs around a value", ACCEPTED, "GET / HTTP/1.1\r\nHost: \ta\t \r\n\r\n"),
    PROBE("empty value", ACCEPTED, "GET / HTTP/1.1\r\n" H "X-Empty:\r\n\r\n"),
    PROBE("obs-text in a value", ACCEPTED, "GET / HTTP/1.1\r\n" H "X-Name: J\xc3\xb6rg\r\n\r\n"),
    PROBE("tab inside a value", ACCEPTED, "GET / HTTP/1.1\r\n" H "X: a\tb\r\n\r\n"),
    PROBE("OPTIONS *", ACCEPTED, "OPTIONS * HTTP/1.1\r\n" H "\r\n"),
    PROBE("unknown method", ACCEPTED, "PATCH / HTTP/1.1\r\n" H "\r\n"),
    PROBE("Expect", ACCEPTED, POST "Content-Length: 5\r\nExpect: 100-Continue\r\n\r\n"),
    PROBE("Host with port", ACCEPTED, "GET / HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n"),
    PROBE("zero length", ACCEPTED, POST "Content-Length: 0\r\n\r\n"),
    PROBE("bytes after the head", ACCEPTED, "GET / HTTP/1.1\r\n" H "\r\nGET / HT"),
    /* Not whole yet. */
    PROBE("nothing", UNFINISHED, ""),
    PROBE("half a method", UNFINISHED, "PO"),
    PROBE("no empty line", UNFINISHED, "GET / HTTP/1.1\r\n" H),
    PROBE("half an empty line", UNFINISHED, "GET / HTTP/1.1\r\n" H "\r"),
    /* Two lengths of one body. */
    PROBE("CL and TE", 400, POST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"),
    PROBE("TE and CL", 400, POST "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n"),
    PROBE("CL twice, equal", 400, POST "Content-Length: 5\r\nContent-Length: 5\r\n\r\n"),
    PROBE("CL twice, different", 400, POST "Content-Length: 5\r\ncontent-length: 6\r\n\r\n"),
    PROBE("CL list", 400, POST "Content-Length: 5, 5\r\n\r\n"),
    PROBE("CL with plus", 400, POST "Content-Length: +5\r\n\r\n"),
    PROBE("CL negative", 400, POST "Content-Length: -5\r\n\r\n"),
    PROBE("CL hex", 400, POST "Content-Length: 0x5\r\n\r\n"),
    PROBE("CL octal or decimal", 400, POST "Content-Length: 010\r\n\r\n"),
    PROBE("CL empty", 400, POST "Content-Length:\r\n\r\n"),
    PROBE("CL with a space inside", 400, POST "Content-Length: 1 0\r\n\r\n"),
    PROBE("CL with a fraction", 400, POST "Content-Length: 5.0\r\n\r\n"),
    PROBE("CL quoted", 400, POST "Content-Length: \"5\"\r\n\r\n"),
    PROBE("CL wraps at 64 bits", 413, POST "Content-Length: 18446744073709551621\r\n\r\n"),
    PROBE("CL of 40 digits", 413,
          POST "Content-Length: 1000000000000000000000000000000000000000\r\n\r\n"),
    PROBE("TE twice", 400, POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"),
    PROBE("TE twice, one identity", 400,
          POST "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n"),
    PROBE("TE list", 501, POST "Transfer-Encoding: gzip, chunked\r\n\r\n"),
    PROBE("TE chunked twice in a list", 501, POST "Transfer-Encoding: chunked, chunked\r\n\r\n"),
    PROBE("TE identity", 501, POST "Transfer-Encoding: identity\r\n\r\n"),
    PROBE("TE lookalike", 501, POST "Transfer-Encoding: xchunked\r\n\r\n"),
    PROBE("TE with a parameter", 501, POST "Transfer-Encoding: chunked;q=1\r\n\r\n"),
    PROBE("TE quoted", 501, POST "Transfer-Encoding: \"chunked\"\r\n\r\n"),
    PROBE("TE empty", 501, POST "Transfer-Encoding:\r\n\r\n"),
    PROBE("TE with a vertical tab", 400,
          POST "Transfer-Encoding: \x0b"
               "chunked\r\n\r\n"),
    PROBE("TE with obs-text", 501, POST "Transfer-Encoding: chunked\xa0\r\n\r\n"),
    PROBE("TE in HTTP/1.0", 400, "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"),
    PROBE("POST in HTTP/1.0 without length", 411, "POST / HTTP/1.0\r\n\r\n"),
    /* Header names that some parsers take for others. */
    PROBE("space before colon", 400, POST "Content-Length : 5\r\n\r\n"),
    PROBE("tab before colon", 400, POST "Transfer-Encoding\t: chunked\r\n\r\n"),
    PROBE("space in a name", 400, POST "Content Length: 5\r\n\r\n"),
    PROBE("NUL in a name", 400, POST "Content-Length\0: 5\r\n\r\n"),
    PROBE("obs-text in a name", 400, POST "Content-Length\xff: 5\r\n\r\n"),
    PROBE("empty name", 400, POST ": 5\r\n\r\n"),
    PROBE("no colon", 400, POST "Content-Length 5\r\n\r\n"),
    PROBE("quoted name", 400, POST "\"Content-Length\": 5\r\n\r\n"),
    PROBE("first header begins with a space", 400, "GET / HTTP/1.1\r\n Host: a\r\n\r\n"),
    PROBE("obs-fold with a space", 400, POST "X: a\r\n Content-Length: 5\r\n\r\n"),
    PROBE("obs-fold with a tab", 400, POST "X: a\r\n\tTransfer-Encoding: chunked\r\n\r\n"),
    PROBE("line of spaces before the end", 400, "GET / HTTP/1.1\r\n" H "  \r\n\r\n"),
    /* Line ends. */
    PROBE("bare LF after the request line", 400, "GET / HTTP/1.1\nHost: a\r\n\r\n"),
    PROBE("bare LF after a header", 400, "GET / HTTP/1.1\r\nHost: a\n\r\n"),
    PROBE("bare LF as the empty line", 400, "GET / HTTP/1.1\r\n" H "\n"),
    PROBE("bare CR in a value", 400, POST "X: a\rContent-Length: 5\r\n\r\n"),
    PROBE("bare CR in the target", 400, "GET /a\rb HTTP/1.1\r\n" H "\r\n"),
    PROBE("two CR before LF", 400, "GET / HTTP/1.1\r\nHost: a\r\r\n\r\n"),
    PROBE("CR CR LF as the empty line", 400, "GET / HTTP/1.1\r\n" H "\r\r\n\r\n"),
    PROBE("NUL in a value", 400, POST "X: a\0b\r\n\r\n"),
    PROBE("DEL in a value", 400, POST "X: a\x7f\r\n\r\n"),
    PROBE("escape in a value", 400, POST "X: \x1b[2J\r\n\r\n"),
    /* The request line. */
    PROBE("empty line first", 400, "\r\nGET / HTTP/1.1\r\n" H "\r\n"),
    PROBE("space first", 400, " GET / HTTP/1.1\r\n" H "\r\n"),
    PROBE("TLS hello", 400, "\x16\x03\x01\x02"),
    PROBE("byte order mark", 400, "\xef\xbb\xbfGET / HTTP/1.1\r\n" H "\r\n"),
    PROBE("lower-case method", 400, "get / HTTP/1.1\r\n" H "\r\n"),
    PROBE("method with a control byte", 400, "GE\x01T / HTTP/1.1\r\n" H "\r\n"),
    PROBE("very long method", 400, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA / HTTP/1.1\r\n" H "\r\n"),
    PROBE("CONNECT", 405, "CONNECT a:443 HTTP/1.1\r\n" H "\r\n"),
    PROBE("TRACE", 405, "TRACE / HTTP/1.1\r\n" H "\r\n"),
    PROBE("absolute target", 400, "GET http://a/ HTTP/1.1\r\n" H "\r\n"),
    PROBE("authority target", 400, "GET a:80 HTTP/1.1\r\n" H "\r\n"),
    PROBE("star without OPTIONS", 400, "GET * HTTP/1.1\r\n" H "\r\n"),
    PROBE("fragment", 400, "GET /#x HTTP/1.1\r\n" H "\r\n"),
    PROBE("two spaces before the target", 400, "GET  / HTTP/1.1\r\n" H "\r\n"),
    PROBE("two spaces after the target", 400, "GET /  HTTP/1.1\r\n" H "\r\n"),
    PROBE("tab after the method", 400, "GET\t/ HTTP/1.1\r\n" H "\r\n"),
    PROBE("space after the version", 400, "GET / HTTP/1.1 \r\n" H "\r\n"),
    PROBE("space in the target", 400, "GET /a b HTTP/1.1\r\n" H "\r\n"),
    PROBE("NUL in the target", 400, "GET /\0 HTTP/1.1\r\n" H "\r\n"),
    PROBE("raw UTF-8 in the target", 400, "GET /\xc3\xb6 HTTP/1.1\r\n" H "\r\n"),
    PROBE("no version (0.9)", 400, "GET /\r\n" H "\r\n"),
    PROBE("HTTP/0.9", 505, "GET / HTTP/0.9\r\n" H "\r\n"),
    PROBE("HTTP/1.2", 505, "GET / HTTP/1.2\r\n" H "\r\n"),
    PROBE("HTTP/2.0 preface", 505, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    PROBE("HTTP/1.10", 400, "GET / HTTP/1.10\r\n" H "\r\n"),
    PROBE("HTTP/1", 400, "GET / HTTP/1\r\n" H "\r\n"),
    PROBE("http/1.1", 400, "GET / http/1.1\r\n" H "\r\n"),
    PROBE("another protocol", 400, "GET / RTSP/1.0\r\n" H "\r\n"),
    PROBE("fullwidth digits", 400, "GET / HTTP/\xef\xbc\x91.1\r\n" H "\r\n"),
    /* Host and Expect. */
    PROBE("no Host", 400, "GET / HTTP/1.1\r\nAccept: *\r\n\r\n"),
    PROBE("empty Host", 400, "GET / HTTP/1.1\r\nHost:\r\n\r\n"),
    PROBE("Host twice", 400, "GET / HTTP/1.1\r\n" H H "\r\n"),
    PROBE("Host twice in 1.0", 400, "GET / HTTP/1.0\r\n" H "Host: b\r\n\r\n"),
    PROBE("Host with a path", 400, "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
    PROBE("Host with user", 400, "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n"),
    PROBE("Host with a space", 400, "GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
    PROBE("unknown expectation", 417, POST "Expect: 200-ok\r\n\r\n"),
};

static unsigned verdict(struct span in, struct http_head *head) {
    unsigned status = 0;
    int rc = http_parse_head(in, HEAD_MAX, TARGET_MAX, head, &status);
    if (rc == 0) {
        return ACCEPTED;
    }
    if (rc == BH_E_AGAIN) {
        return UNFINISHED;
    }
    assert_true(status >= 400);
    return status;
}

static void test_every_probe_gets_its_status(void **state) {
    (void)state;
    assert_true(BH_COUNT(probes) >= 60);
    size_t refused = 0;
    for (size_t i = 0; i < BH_COUNT(probes); i++) {
        struct http_head head;
        unsigned got = verdict(probes[i].text, &head);
        if (got != probes[i].status) {
            fail_msg("%s: %u, expected %u", probes[i].name, got, probes[i].status);
        }
        refused += got >= 400;
    }
    print_message("%zu heads, %zu refused\n", BH_COUNT(probes), refused);
    assert_true(refused >= 60);
}

/* A proper prefix is unfinished or gets the verdict of the whole, and is never accepted. */
static void test_prefixes_agree_with_the_whole(void **state) {
    (void)state;
    for (size_t i = 0; i < BH_COUNT(probes); i++) {
        struct http_head head;
        unsigned whole = verdict(probes[i].text, &head);
        size_t size = whole == ACCEPTED ? head.head_size : probes[i].text.n;
        for (size_t n = 0; n < size; n++) {
            unsigned got = verdict(span_cut(probes[i].text, 0, n), &head);
            if (got != UNFINISHED && (got != whole || got == ACCEPTED)) {
                fail_msg("%s: first %zu bytes give %u, the whole %u", probes[i].name, n, got,
                         whole);
            }
        }
    }
}

/* The scan stopped and continued at random bytes finds what it finds in one go, on mutated heads too. */
static void test_scan_in_pieces(void **state) {
    (void)state;
    random_start(1);
    static const uint8_t telling[] = {'\r', '\n', ' ', ':', '\t', 0, 'A', '5', ',', 0x80};
    for (int round = 0; round < 20000; round++) {
        uint8_t memory[512];
        struct span origin = probes[random_below(BH_COUNT(probes))].text;
        assert_true(origin.n <= sizeof memory);
        memcpy(memory, origin.p, origin.n);
        for (uint64_t left = random_below(3); left > 0 && origin.n != 0; left--) {
            memory[random_below(origin.n)] = telling[random_below(sizeof telling)];
        }
        struct span in = span_of(memory, origin.n);
        struct http_head head;
        unsigned whole = verdict(in, &head);

        struct http_scan scan = {0, 0, 0};
        unsigned status = 0;
        size_t size = 0;
        int rc = BH_E_AGAIN;
        for (size_t n = 0; rc == BH_E_AGAIN && n < in.n;) {
            n += 1 + (size_t)(random_below((in.n - n)));
            rc = http_scan_head(&scan, span_cut(in, 0, n), HEAD_MAX, TARGET_MAX, &size, &status);
        }
        if (rc == 0) {
            rc = http_complete_head(span_cut(in, 0, size), TARGET_MAX, &head, &status);
        }
        unsigned got = rc == 0 ? ACCEPTED : rc == BH_E_AGAIN ? UNFINISHED : status;
        assert_int_equal(got, whole);
    }
}

static void test_head_is_read(void **state) {
    (void)state;
    struct http_head head;
    struct span in = SPAN_LIT(
        "POST /mixpanel/track/?ip=1&verbose=1 HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n"
        "origin:  https://x.example \r\nConnection: foo, Close\r\n\r\nbody");
    assert_int_equal(verdict(in, &head), ACCEPTED);
    assert_int_equal(head.method, HTTP_POST);
    assert_int_equal(head.minor, 1);
    assert_true(span_is(head.path, "/mixpanel/track/"));
    assert_true(span_is(head.query, "ip=1&verbose=1"));
    assert_true(head.has_length);
    assert_int_equal(head.content_length, 12);
    assert_false(head.chunked);
    assert_false(head.keep_alive);
    assert_int_equal(head.header_count, 4);
    assert_true(span_is(http_header(&head, "ORIGIN"), "https://x.example"));
    assert_null(http_header(&head, "cookie").p);
    assert_int_equal(head.head_size, in.n - 4);

    assert_int_equal(verdict(SPAN_LIT("GET /? HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"), &head),
                     ACCEPTED);
    assert_true(head.keep_alive);
    assert_true(span_is(head.path, "/"));
    assert_int_equal(head.query.n, 0);
    assert_int_equal(
        verdict(SPAN_LIT("GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n"), &head),
        ACCEPTED);
    assert_false(head.keep_alive);
    assert_int_equal(verdict(SPAN_LIT("PURGE / HTTP/1.1\r\nHost: a\r\n\r\n"), &head), ACCEPTED);
    assert_int_equal(head.method, HTTP_OTHER);
    assert_true(span_is(head.method_text, "PURGE"));
    assert_true(head.keep_alive);
}

static struct buf big;

static void begin(const char *start) {
    static uint8_t memory[256 * 1024];
    big = buf_of(memory, sizeof memory);
    buf_put_str(&big, start);
}

static void fill(size_t n) {
    for (size_t i = 0; i < n; i++) {
        buf_put_byte(&big, 'a');
    }
}

static void test_limits_to_the_byte(void **state) {
    (void)state;
    struct http_head head;
    for (size_t extra = 0; extra < 2; extra++) {
        begin("GET /");
        fill(TARGET_MAX - 1 + extra);
        buf_put_str(&big, " HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_int_equal(verdict(buf_span(&big), &head), extra == 0 ? ACCEPTED : 414);

        begin("GET / HTTP/1.1\r\nHost: a\r\nX: ");
        fill(16 * 1024 - 4 + extra); /* "X: ", the value, CR */
        buf_put_str(&big, "\r\n\r\n");
        assert_int_equal(verdict(buf_span(&big), &head), extra == 0 ? ACCEPTED : 431);

        begin("GET / HTTP/1.1\r\nHost: a\r\n");
        for (size_t i = 1; i < HTTP_HEADERS_MAX + extra; i++) {
            buf_put_str(&big, "X: a\r\n");
        }
        buf_put_str(&big, "\r\n");
        assert_int_equal(verdict(buf_span(&big), &head), extra == 0 ? ACCEPTED : 431);

        begin("GET / HTTP/1.1\r\nHost: a\r\n");
        for (int i = 0; i < 5; i++) {
            buf_put_str(&big, "X: ");
            fill(13 * 1024);
            buf_put_str(&big, "\r\n");
        }
        buf_put_str(&big, "Y: ");
        fill(HEAD_MAX - big.n - 4 + extra);
        buf_put_str(&big, "\r\n\r\n");
        assert_int_equal(big.n, HEAD_MAX + extra);
        assert_int_equal(verdict(buf_span(&big), &head), extra == 0 ? ACCEPTED : 431);
    }
    begin("");
    fill(0);
    buf_put_str(&big, "A");
    for (size_t i = 0; i < 70000; i++) {
        buf_put_byte(&big, 'A');
    }
    assert_int_equal(verdict(buf_span(&big), &head), 414);
}

struct chunked_case {
    const char *name;
    struct span in;
    const char *body; /* NULL: refused */
    size_t rest;      /* bytes behind the body */
};

#define CHUNKED(name, text, body, rest) \
    { name, {(const uint8_t *)("" text), sizeof(text) - 1}, body, rest }

static const struct chunked_case chunked_cases[] = {
    CHUNKED("empty", "0\r\n\r\n", "", 0),
    CHUNKED("one", "5\r\nhello\r\n0\r\n\r\n", "hello", 0),
    CHUNKED("two, hex", "a\r\n0123456789\r\nB\r\nabcdefghijk\r\n0\r\n\r\n", "0123456789abcdefghijk",
            0),
    CHUNKED("behind it", "1\r\nx\r\n0\r\n\r\nGET /", "x", 5),
    CHUNKED("zeros in front", "00000001\r\nx\r\n000\r\n\r\n", "x", 0),
    CHUNKED("data with CRLF", "6\r\n\r\n0\r\n\r\r\n0\r\n\r\n", "\r\n0\r\n\r", 0),
    CHUNKED("extension", "5;a=b\r\nhello\r\n0\r\n\r\n", NULL, 0),
    CHUNKED("empty extension", "5;\r\nhello\r\n0\r\n\r\n", NULL, 0),
    CHUNKED("extension on the last", "5\r\nhello\r\n0;x\r\n\r\n", NULL, 0),
    CHUNKED("trailer", "5\r\nhello\r\n0\r\nX: a\r\n\r\n", NULL, 0),
    CHUNKED("trailer of framing", "0\r\nContent-Length: 5\r\n\r\n", NULL, 0),
    CHUNKED("space after the size", "5 \r\nhello\r\n0\r\n\r\n", NULL, 0),
    CHUNKED("space before the size", " 5\r\nhello\r\n0\r\n\r\n", NULL, 0),
    CHUNKED("plus", "+5\r\nhello\r\n0\r\n\r\n", NULL, 0),
    CHUNKED("minus", "-1\r\n", NULL, 0),
    CHUNKED("0x", "0x5\r\nhello\r\n0\r\n\r\n", NULL, 0),
    CHUNKED("no size", "\r\nhello", NULL, 0),
    CHUNKED("no size where the last should be", "1\r\nx\r\n\r\n\r\n", NULL, 0),
    CHUNKED("bare LF after the size", "5\nhello\r\n0\r\n\r\n", NULL, 0),
    CHUNKED("bare CR after the size", "5\rhello\r\n0\r\n\r\n", NULL, 0),
    CHUNKED("longer than its size", "5\r\nhelloo\r\n0\r\n\r\n", NULL, 0),
    CHUNKED("bare LF after the data", "5\r\nhello\n0\r\n\r\n", NULL, 0),
    CHUNKED("bare LF at the end", "0\r\n\n", NULL, 0),
    CHUNKED("nine digits", "000000005\r\nhello\r\n0\r\n\r\n", NULL, 0),
    CHUNKED("a size that wraps", "10000000000000005\r\nhello\r\n0\r\n\r\n", NULL, 0),
    CHUNKED("a digit that is none", "5g\r\nhello\r\n0\r\n\r\n", NULL, 0),
    CHUNKED("NUL in the size", "5\0\r\nhello\r\n0\r\n\r\n", NULL, 0),
};

/* Feeds `in` in pieces of `piece` bytes; 0 and the body, or the error. */
static int decode_in_pieces(struct span in, size_t piece, struct buf *body, size_t *ret_rest) {
    struct http_chunked c;
    http_chunked_init(&c);
    for (size_t at = 0; at < in.n;) {
        uint8_t part[128];
        struct span raw = span_cut(in, at, piece);
        assert_true(raw.n <= sizeof part);
        memcpy(part, raw.p, raw.n);
        size_t data = 0;
        size_t used = 0;
        int rc = http_chunked_step(&c, part, raw.n, &data, &used);
        if (rc != 0 && rc != BH_E_AGAIN) {
            return rc;
        }
        buf_put(body, part, data);
        at += used;
        if (rc == 0) {
            *ret_rest = in.n - at;
            return 0;
        }
        assert_int_equal(used, raw.n);
    }
    return BH_E_AGAIN;
}

static void test_chunked_bodies(void **state) {
    (void)state;
    for (size_t i = 0; i < BH_COUNT(chunked_cases); i++) {
        const struct chunked_case *c = &chunked_cases[i];
        for (size_t piece = 1; piece <= c->in.n; piece++) {
            uint8_t memory[128];
            struct buf body = buf_of(memory, sizeof memory);
            size_t rest = 0;
            int rc = decode_in_pieces(c->in, piece, &body, &rest);
            if (c->body == NULL ? rc == 0 || rc == BH_E_AGAIN : rc != 0) {
                fail_msg("%s in pieces of %zu: %d", c->name, piece, rc);
            }
            if (c->body != NULL) {
                assert_true(span_is(buf_span(&body), c->body));
                assert_int_equal(rest, c->rest);
            }
        }
    }
}

static void test_queries(void **state) {
    (void)state;
    struct span rest = SPAN_LIT("data=e30%3D&&ip&=x&verbose=&a=b=c");
    static const char *const expected[][2] = {
        {"data", "e30%3D"}, {"ip", ""}, {"", "x"}, {"verbose", ""}, {"a", "b=c"}};
    struct span key;
    struct span value;
    for (size_t i = 0; i < BH_COUNT(expected); i++) {
        assert_true(http_query_next(&rest, &key, &value));
        assert_true(span_is(key, expected[i][0]));
        assert_true(span_is(value, expected[i][1]));
    }
    assert_false(http_query_next(&rest, &key, &value));

    uint8_t text[] = "a%20b+c%2B%zz%4%";
    size_t n = http_percent_decode(span_of(text, sizeof text - 1), text, true);
    assert_true(span_is(span_of(text, n), "a b c+%zz%4%"));
    uint8_t plus[] = "a+b%c3%B6";
    n = http_percent_decode(span_of(plus, sizeof plus - 1), plus, false);
    assert_true(span_is(span_of(plus, n), "a+b\xc3\xb6"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_probe_gets_its_status),
        cmocka_unit_test(test_prefixes_agree_with_the_whole),
        cmocka_unit_test(test_scan_in_pieces),
        cmocka_unit_test(test_head_is_read),
        cmocka_unit_test(test_limits_to_the_byte),
        cmocka_unit_test(test_chunked_bodies),
        cmocka_unit_test(test_queries),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
