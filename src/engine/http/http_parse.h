/*
 * HTTP/1.1 request head, chunked bodies and query strings: strict and incremental.
 *
 * Purpose: one reading of RFC 9112 that no two implementations could take differently. Refused: CL with TE, duplicate or
 * differing Content-Length (also with a sign, a list or leading zeros), any Transfer-Encoding but one "chunked", bare CR or
 * LF, an empty line before the request line, space before a colon, obs-fold, missing or doubled Host in 1.1, control bytes,
 * absolute or authority targets, fragments, chunk extensions longer than 0, trailers, HTTP/0.9 and 2.0.
 * Invariant: the answer to a head does not depend on how its bytes arrive. Every prefix of a head is BH_E_AGAIN or gets the
 * status of the whole; a head that is accepted is accepted at its last byte and not before.
 * Limits: head and target are passed in, LIMIT_HTTP_HEADER_LINE and HTTP_HEADERS_MAX hold always. Memory: the caller's; spans
 * point into the input. Thread: any (pure). Linear, also when the bytes come one at a time (struct http_scan).
 */
#ifndef BH_ENGINE_HTTP_PARSE_H
#define BH_ENGINE_HTTP_PARSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/errors.h"

enum http_method {
    HTTP_GET = 1,
    HTTP_POST,
    HTTP_HEAD,
    HTTP_OPTIONS,
    HTTP_PUT,
    HTTP_DELETE,
    HTTP_OTHER
};

struct http_header {
    struct span name;
    struct span value; /* trimmed */
};

enum { HTTP_HEADERS_MAX = 100, HTTP_METHOD_MAX = 24, HTTP_CHUNK_DIGITS_MAX = 8 };

struct http_head {
    uint8_t method; /* enum http_method */
    uint8_t minor;  /* HTTP/1.minor: 0 or 1 */
    bool chunked;
    bool expect_continue;
    bool keep_alive;
    bool has_length;
    uint64_t content_length;
    struct span path;        /* without query, not decoded; begins with / (or is * for OPTIONS) */
    struct span query;       /* after ?, not decoded; empty when there is none */
    struct span method_text; /* as sent: tells HTTP_OTHER apart */
    uint32_t header_count;
    struct http_header headers[HTTP_HEADERS_MAX];
    size_t head_size; /* bytes up to and with the empty line */
};

/*
 * Parses a head at the start of `in`. 0; BH_E_AGAIN when it is not complete; else BH_E_SYNTAX (or TOO_BIG, TOO_MANY,
 * UNSUPPORTED) and *ret_status is the status to answer (400, 405, 411, 413, 414, 417, 431, 501, 505) before closing.
 */
int http_parse_head(struct span in, size_t head_max, size_t target_max, struct http_head *ret_head,
                    unsigned *ret_status) BH_MUST_USE;

/*
 * The two halves of http_parse_head, for a head that arrives in pieces. scan finds the end of the head and refuses what lines
 * alone can show (bare LF, lengths, count), looking at each byte once over all calls with the same *scan (zeroed at first) and
 * a growing `in`; *ret_size is the head's. complete then reads the head that scan has found: exactly its bytes.
 */
struct http_scan {
    size_t _at;      /* bytes looked at */
    size_t _line;    /* start of the line that is not complete */
    uint32_t _lines; /* complete lines */
};
int http_scan_head(struct http_scan *scan, struct span in, size_t head_max, size_t target_max,
                   size_t *ret_size, unsigned *ret_status) BH_MUST_USE;
int http_complete_head(struct span in, size_t target_max, struct http_head *ret_head,
                       unsigned *ret_status) BH_MUST_USE;

/* Value of the first header with this name (case folded), or SPAN_NONE. */
struct span http_header(const struct http_head *head, const char *name);

/* Chunked body, decoded in place: bytes of chunk data are moved to the front of `in`. */
struct http_chunked {
    uint8_t _state;
    uint8_t _digits;
    uint64_t _left;
};
void http_chunked_init(struct http_chunked *c);
/* Consumes in[0..n): *ret_data = decoded bytes now at in[0..], *ret_used = bytes consumed (less than n only when done). 0 =
 * done, BH_E_AGAIN = more needed, BH_E_SYNTAX, BH_E_TOO_BIG (a size of more than HTTP_CHUNK_DIGITS_MAX digits). */
int http_chunked_step(struct http_chunked *c, uint8_t *in, size_t n, size_t *ret_data,
                      size_t *ret_used) BH_MUST_USE;

/* Next key=value of a query or form; both are raw (percent-encoded). false at the end. */
bool http_query_next(struct span *rest, struct span *ret_key, struct span *ret_value);
/* Percent-decodes into out (in place allowed); plus_is_space for forms. Bad escapes are kept as they are. Returns the length. */
size_t http_percent_decode(struct span in, uint8_t *out, bool plus_is_space);

#endif
