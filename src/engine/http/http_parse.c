/*
 * The strict reading of a request.
 *
 * Two passes over a head. http_scan_head looks for line ends only and judges what lines alone can show; it can stop and go on
 * at any byte. When it has found the empty line, http_complete_head reads the whole once and judges the rest in the order of
 * the bytes. Because the second pass runs only over whole heads, a verdict cannot depend on how the head arrived.
 *
 * Where the RFC lets a server choose between tolerance and refusal (an empty line before the request line, absolute targets,
 * equal Content-Lengths, bare LF, leading zeros, spaces around tokens), we refuse: tolerance is what two parsers do differently,
 * and that difference is request smuggling. None of the SDKs that we serve needs it.
 */
#include "engine/http/http_parse.h"

#include "base/check.h"
#include "model/limits.h"

_Static_assert((int)HTTP_HEADERS_MAX == (int)LIMIT_HTTP_HEADERS, "one limit, two names");

/* What may stand beside the target in a request line: method, two spaces, version, CR. */
enum { REQUEST_LINE_EXTRA = HTTP_METHOD_MAX + 2 + 8 + 1 };

enum byte_class {
    BYTE_TOKEN = 1,  /* RFC 9110 tchar */
    BYTE_VALUE = 2,  /* field content: HTAB, space, visible, obs-text */
    BYTE_TARGET = 4, /* visible ASCII but #, since a fragment is never sent */
    BYTE_HOST = 8,   /* uri-host and port */
};

static const uint8_t byte_classes[256] = {
    0,  0,  0,  0,  0,  0,  0,  0,  0,  2,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,
    0,  0,  0,  0,  0,  0,  0,  0,  2,  15, 6,  3,  15, 15, 15, 15, 14, 14, 15, 15, 6,  15, 15, 6,
    15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 14, 14, 6,  14, 6,  6,  6,  15, 15, 15, 15, 15, 15, 15,
    15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 14, 6,  14, 7,  15,
    7,  15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15,
    15, 15, 15, 6,  7,  6,  15, 0,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,
    2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,
    2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,
    2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,
    2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,
    2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,
};

/* Length of the run of bytes of `class` at the start. */
static size_t run_of(struct span in, enum byte_class class) {
    size_t i = 0;
    while (i < in.n && (byte_classes[in.p[i]] & (unsigned)class) != 0) {
        i++;
    }
    return i;
}

static bool is_upper(uint8_t byte) {
    return byte >= 'A' && byte <= 'Z';
}

static bool is_digit(uint8_t byte) {
    return byte >= '0' && byte <= '9';
}

static int refuse(unsigned status, unsigned *ret_status) {
    *ret_status = status;
    switch (status) {
    case 413:
    case 414:
    case 431:
        return BH_E_TOO_BIG;
    case 405:
    case 417:
    case 501:
    case 505:
        return BH_E_UNSUPPORTED;
    default:
        return BH_E_SYNTAX;
    }
}

int http_scan_head(struct http_scan *scan, struct span in, size_t head_max, size_t target_max,
                   size_t *ret_size, unsigned *ret_status) {
    /* Bytes past head_max do not exist for the scan, or a verdict would depend on how many have arrived. */
    in = span_cut(in, 0, head_max);
    if (in.n != 0 && !is_upper(in.p[0])) {
        return refuse(400, ret_status);
    }
    while (scan->_at < in.n) {
        const uint8_t *lf = memchr(in.p + scan->_at, '\n', in.n - scan->_at);
        size_t end = lf != NULL ? (size_t)(lf - in.p) : in.n;
        size_t length = end - scan->_line;
        if (length > (scan->_lines == 0 ? target_max + REQUEST_LINE_EXTRA
                                        : (size_t)LIMIT_HTTP_HEADER_LINE)) {
            return refuse(scan->_lines == 0 ? 414 : 431, ret_status);
        }
        scan->_at = end;
        if (lf == NULL) {
            break;
        }
        if (length == 0 || in.p[end - 1] != '\r') {
            return refuse(400, ret_status);
        }
        scan->_at = end + 1;
        if (length == 1) {
            *ret_size = scan->_at;
            return 0;
        }
        scan->_line = scan->_at;
        scan->_lines++;
        if (scan->_lines > 1 + HTTP_HEADERS_MAX) {
            (void)refuse(431, ret_status); /* for the status; the code says which limit */
            return BH_E_TOO_MANY;
        }
    }
    return in.n == head_max ? refuse(431, ret_status) : BH_E_AGAIN;
}

static uint8_t method_of(struct span text) {
    static const struct {
        const char *text;
        uint8_t method;
    } methods[] = {{"POST", HTTP_POST}, {"GET", HTTP_GET}, {"OPTIONS", HTTP_OPTIONS},
                   {"HEAD", HTTP_HEAD}, {"PUT", HTTP_PUT}, {"DELETE", HTTP_DELETE},
                   {"CONNECT", 0},      {"TRACE", 0}};
    for (size_t i = 0; i < BH_COUNT(methods); i++) {
        if (span_is(text, methods[i].text)) {
            return methods[i].method;
        }
    }
    return HTTP_OTHER;
}

/* `line` has no CRLF. Exactly: method SP target SP version. */
static int read_request_line(struct span line, size_t target_max, struct http_head *head,
                             unsigned *ret_status) {
    size_t method_size = 0;
    while (method_size < line.n && (is_upper(line.p[method_size]) || line.p[method_size] == '-')) {
        method_size++;
    }
    if (method_size == 0 || method_size > HTTP_METHOD_MAX || method_size == line.n ||
        line.p[method_size] != ' ') {
        return refuse(400, ret_status);
    }
    head->method_text = span_cut(line, 0, method_size);
    struct span rest = span_from(line, method_size + 1);
    struct span target = span_cut(rest, 0, run_of(rest, BYTE_TARGET));
    struct span version = span_from(rest, target.n);
    if (target.n == 0 || version.n != 9 || !span_starts(version, SPAN_LIT(" HTTP/")) ||
        !is_digit(version.p[6]) || version.p[7] != '.' || !is_digit(version.p[8])) {
        return refuse(400, ret_status);
    }
    if (version.p[6] != '1' || version.p[8] > '1') {
        return refuse(505, ret_status);
    }
    head->minor = (uint8_t)(version.p[8] - '0');
    head->method = method_of(head->method_text);
    if (head->method == 0) {
        return refuse(405, ret_status);
    }
    if (target.n > target_max) {
        return refuse(414, ret_status);
    }
    if (target.p[0] != '/' && !(head->method == HTTP_OPTIONS && span_is(target, "*"))) {
        return refuse(400, ret_status);
    }
    size_t question = span_find_byte(target, '?');
    head->path = span_cut(target, 0, question);
    head->query =
        question == SIZE_MAX ? span_from(target, target.n) : span_from(target, question + 1);
    return 0;
}

/* Spaces and tabs only: span_trim would also take CR and LF, which must be seen. */
static struct span trim_blanks(struct span s) {
    while (s.n != 0 && (s.p[0] == ' ' || s.p[0] == '\t')) {
        s.p++;
        s.n--;
    }
    while (s.n != 0 && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t')) {
        s.n--;
    }
    return s;
}

/* What the framing headers said, judged together at the end of the head. */
struct framing {
    bool host;
    bool transfer_encoding;
    bool close;
    bool persist;
};

static int read_length(struct span value, struct http_head *head, unsigned *ret_status) {
    bool leading_zero = value.n > 1 && value.p[0] == '0';
    if (head->has_length || value.n == 0 || leading_zero) {
        return refuse(400, ret_status);
    }
    for (size_t i = 0; i < value.n; i++) {
        if (!is_digit(value.p[i])) {
            return refuse(400, ret_status);
        }
    }
    if (!span_to_u64(value, &head->content_length)) {
        return refuse(413, ret_status);
    }
    head->has_length = true;
    return 0;
}

static void read_connection(struct span value, struct framing *framing) {
    while (value.n != 0) {
        size_t comma = span_find_byte(value, ',');
        struct span word = trim_blanks(span_cut(value, 0, comma));
        framing->close = framing->close || span_equal_nocase(word, SPAN_LIT("close"));
        framing->persist = framing->persist || span_equal_nocase(word, SPAN_LIT("keep-alive"));
        value = comma == SIZE_MAX ? SPAN_NONE : span_from(value, comma + 1);
    }
}

/* The headers that decide where a request ends or whether it is answered at all. */
static int read_framing(struct http_header header, struct http_head *head, struct framing *framing,
                        unsigned *ret_status) {
    switch (header.name.n) {
    case 4:
        if (span_equal_nocase(header.name, SPAN_LIT("Host"))) {
            if (framing->host || header.value.n == 0 ||
                run_of(header.value, BYTE_HOST) != header.value.n) {
                return refuse(400, ret_status);
            }
            framing->host = true;
        }
        return 0;
    case 6:
        if (span_equal_nocase(header.name, SPAN_LIT("Expect")) && head->minor == 1) {
            if (!span_equal_nocase(header.value, SPAN_LIT("100-continue"))) {
                return refuse(417, ret_status);
            }
            head->expect_continue = true;
        }
        return 0;
    case 10:
        if (span_equal_nocase(header.name, SPAN_LIT("Connection"))) {
            read_connection(header.value, framing);
        }
        return 0;
    case 14:
        if (span_equal_nocase(header.name, SPAN_LIT("Content-Length"))) {
            return read_length(header.value, head, ret_status);
        }
        return 0;
    case 17:
        if (span_equal_nocase(header.name, SPAN_LIT("Transfer-Encoding"))) {
            if (framing->transfer_encoding || head->minor == 0) {
                return refuse(400, ret_status);
            }
            framing->transfer_encoding = true;
            head->chunked = span_equal_nocase(header.value, SPAN_LIT("chunked"));
        }
        return 0;
    default:
        return 0;
    }
}

static int judge_framing(struct http_head *head, const struct framing *framing,
                         unsigned *ret_status) {
    if (framing->transfer_encoding && head->has_length) {
        return refuse(400, ret_status);
    }
    if (!framing->host && head->minor == 1) {
        return refuse(400, ret_status);
    }
    if (framing->transfer_encoding && !head->chunked) {
        return refuse(501, ret_status);
    }
    bool has_body = head->method == HTTP_POST || head->method == HTTP_PUT;
    if (head->minor == 0 && has_body && !head->has_length) {
        return refuse(411, ret_status);
    }
    head->keep_alive = !framing->close && (head->minor == 1 || framing->persist);
    return 0;
}

int http_complete_head(struct span in, size_t target_max, struct http_head *ret_head,
                       unsigned *ret_status) {
    struct http_head *head = ret_head;
    head->minor = 0;
    head->chunked = false;
    head->expect_continue = false;
    head->keep_alive = false;
    head->has_length = false;
    head->content_length = 0;
    head->header_count = 0;
    head->head_size = in.n;
    size_t line_end = span_find_byte(in, '\n');
    check(line_end != SIZE_MAX && line_end != 0 && in.n >= line_end + 3);
    int rc = read_request_line(span_cut(in, 0, line_end - 1), target_max, head, ret_status);
    if (rc != 0) {
        return rc;
    }
    struct framing framing = {false, false, false, false};
    /* The last two bytes are the empty line. */
    struct span rest = span_cut(in, line_end + 1, in.n - line_end - 3);
    while (rest.n != 0) {
        line_end = span_find_byte(rest, '\n');
        check(line_end != SIZE_MAX && line_end != 0 && head->header_count < HTTP_HEADERS_MAX);
        struct span line = span_cut(rest, 0, line_end - 1);
        size_t name_size = run_of(line, BYTE_TOKEN);
        if (name_size == 0 || name_size == line.n || line.p[name_size] != ':') {
            return refuse(400, ret_status);
        }
        struct span value = span_from(line, name_size + 1);
        if (run_of(value, BYTE_VALUE) != value.n) {
            return refuse(400, ret_status);
        }
        struct http_header header = {span_cut(line, 0, name_size), trim_blanks(value)};
        rc = read_framing(header, head, &framing, ret_status);
        if (rc != 0) {
            return rc;
        }
        head->headers[head->header_count++] = header;
        rest = span_from(rest, line_end + 1);
    }
    return judge_framing(head, &framing, ret_status);
}

int http_parse_head(struct span in, size_t head_max, size_t target_max, struct http_head *ret_head,
                    unsigned *ret_status) {
    struct http_scan scan = {0, 0, 0};
    size_t size = 0;
    int rc = http_scan_head(&scan, in, head_max, target_max, &size, ret_status);
    return rc != 0 ? rc
                   : http_complete_head(span_cut(in, 0, size), target_max, ret_head, ret_status);
}

struct span http_header(const struct http_head *head, const char *name) {
    struct span wanted = span_str(name);
    for (uint32_t i = 0; i < head->header_count; i++) {
        if (span_equal_nocase(head->headers[i].name, wanted)) {
            return head->headers[i].value;
        }
    }
    return SPAN_NONE;
}

/*
 * Chunked coding, RFC 9112 section 7.1, without extensions and trailers:
 *
 *   SIZE --hex--> SIZE --CR--> SIZE_LF --LF--> DATA --last byte--> DATA_CR --CR--> DATA_LF --LF--> SIZE
 *                                      `--LF, size 0--> END_CR --CR--> END_LF --LF--> DONE
 */
enum chunked_state {
    CHUNKED_SIZE,
    CHUNKED_SIZE_LF,
    CHUNKED_DATA,
    CHUNKED_DATA_CR,
    CHUNKED_DATA_LF,
    CHUNKED_END_CR,
    CHUNKED_END_LF,
    CHUNKED_DONE
};

void http_chunked_init(struct http_chunked *c) {
    c->_state = CHUNKED_SIZE;
    c->_digits = 0;
    c->_left = 0;
}

static int chunked_size_byte(struct http_chunked *c, uint8_t byte) {
    int digit = hex_digit_value(byte);
    if (digit >= 0) {
        if (c->_digits == HTTP_CHUNK_DIGITS_MAX) {
            return BH_E_TOO_BIG;
        }
        c->_digits++;
        c->_left = c->_left * 16 + (uint64_t)digit;
        return 0;
    }
    if (byte != '\r' || c->_digits == 0) {
        return BH_E_SYNTAX;
    }
    c->_state = CHUNKED_SIZE_LF;
    return 0;
}

/* A byte that is not data: either the one byte that must stand here, or a digit of the size. */
static int chunked_frame_byte(struct http_chunked *c, uint8_t byte) {
    static const struct {
        uint8_t expected;
        uint8_t next;
    } steps[] = {
        [CHUNKED_SIZE_LF] = {'\n', CHUNKED_DATA}, [CHUNKED_DATA_CR] = {'\r', CHUNKED_DATA_LF},
        [CHUNKED_DATA_LF] = {'\n', CHUNKED_SIZE}, [CHUNKED_END_CR] = {'\r', CHUNKED_END_LF},
        [CHUNKED_END_LF] = {'\n', CHUNKED_DONE},
    };
    if (c->_state == CHUNKED_SIZE) {
        return chunked_size_byte(c, byte);
    }
    check(c->_state < BH_COUNT(steps) && steps[c->_state].expected != 0);
    if (byte != steps[c->_state].expected) {
        return BH_E_SYNTAX;
    }
    bool is_last = c->_state == CHUNKED_SIZE_LF && c->_left == 0;
    c->_state = is_last ? (uint8_t)CHUNKED_END_CR : steps[c->_state].next;
    c->_digits = 0;
    return 0;
}

int http_chunked_step(struct http_chunked *c, uint8_t *in, size_t n, size_t *ret_data,
                      size_t *ret_used) {
    check(c->_state < CHUNKED_DONE);
    size_t read = 0;
    size_t written = 0;
    int rc = 0;
    while (rc == 0 && read < n && c->_state != CHUNKED_DONE) {
        if (c->_state != CHUNKED_DATA) {
            rc = chunked_frame_byte(c, in[read++]);
            continue;
        }
        size_t take = c->_left < n - read ? (size_t)c->_left : n - read;
        memmove(in + written, in + read, take);
        read += take;
        written += take;
        c->_left -= take;
        if (c->_left == 0) {
            c->_state = CHUNKED_DATA_CR;
        }
    }
    if (rc != 0) {
        return rc;
    }
    *ret_data = written;
    *ret_used = read;
    return c->_state == CHUNKED_DONE ? 0 : BH_E_AGAIN;
}

bool http_query_next(struct span *rest, struct span *ret_key, struct span *ret_value) {
    while (rest->n != 0) {
        size_t end = span_find_byte(*rest, '&');
        struct span pair = span_cut(*rest, 0, end);
        *rest = end == SIZE_MAX ? SPAN_NONE : span_from(*rest, end + 1);
        if (pair.n == 0) {
            continue;
        }
        size_t equals = span_find_byte(pair, '=');
        *ret_key = span_cut(pair, 0, equals);
        *ret_value = equals == SIZE_MAX ? SPAN_NONE : span_from(pair, equals + 1);
        return true;
    }
    return false;
}

size_t http_percent_decode(struct span in, uint8_t *out, bool plus_is_space) {
    size_t n = 0;
    for (size_t i = 0; i < in.n; i++) {
        uint8_t byte = in.p[i];
        if (byte == '%' && in.n - i > 2 && hex_digit_value(in.p[i + 1]) >= 0 &&
            hex_digit_value(in.p[i + 2]) >= 0) {
            byte = (uint8_t)(hex_digit_value(in.p[i + 1]) * 16 + hex_digit_value(in.p[i + 2]));
            i += 2;
        } else if (byte == '+' && plus_is_space) {
            byte = ' ';
        }
        out[n++] = byte;
    }
    return n;
}
