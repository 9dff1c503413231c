/* Whatever a peer sends as a head, a chunked body or a query: no crash, and one verdict however it is split. */
/* depends: http os base */
#include <stdlib.h>

#include "base/check.h"
#include "engine/http/http_parse.h"
#include "fuzz/fuzz_entry.h"

/* Small limits, so that short inputs reach them. */
enum { HEAD_MAX = 2048, TARGET_MAX = 256 };

static void check_inside(struct span part, struct span whole) {
    check(part.n == 0 || (part.p >= whole.p && part.p + part.n <= whole.p + whole.n));
}

static void fuzz_head(struct span in, size_t step) {
    static struct http_head head;
    static struct http_head again;
    unsigned status = 0;
    int rc = http_parse_head(in, HEAD_MAX, TARGET_MAX, &head, &status);
    check(rc == 0 || rc == BH_E_AGAIN || (status >= 400 && status <= 505));
    if (rc == 0) {
        check(head.head_size <= in.n && head.head_size <= HEAD_MAX &&
              head.path.n + head.query.n <= TARGET_MAX);
        check(!(head.chunked && head.has_length));
        check_inside(head.path, in);
        check_inside(head.query, in);
        for (uint32_t i = 0; i < head.header_count; i++) {
            check_inside(head.headers[i].name, in);
            check_inside(head.headers[i].value, in);
            check(span_find_byte(head.headers[i].value, '\n') == SIZE_MAX);
        }
    }
    struct http_scan scan = {0, 0, 0};
    int split = BH_E_AGAIN;
    unsigned split_status = 0;
    size_t size = 0;
    for (size_t n = 0; split == BH_E_AGAIN && n < in.n;) {
        n = in.n - n > step ? n + step : in.n;
        split =
            http_scan_head(&scan, span_cut(in, 0, n), HEAD_MAX, TARGET_MAX, &size, &split_status);
    }
    if (split == 0) {
        split = http_complete_head(span_cut(in, 0, size), TARGET_MAX, &again, &split_status);
    }
    check(split == rc && split_status == status);
}

/* Decodes `in` in steps; the error or 0, and the body's size. */
static int decode(struct span in, size_t step, uint8_t *out, size_t *ret_size) {
    struct http_chunked c;
    http_chunked_init(&c);
    size_t size = 0;
    int rc = BH_E_AGAIN;
    for (size_t at = 0; rc == BH_E_AGAIN && at < in.n;) {
        struct span part = span_cut(in, at, step);
        memcpy(out + size, part.p, part.n);
        size_t data = 0;
        size_t used = 0;
        rc = http_chunked_step(&c, out + size, part.n, &data, &used);
        if (rc == 0 || rc == BH_E_AGAIN) {
            check(data <= used && used <= part.n && (rc == 0 || used == part.n));
            size += data;
            at += used;
        }
    }
    *ret_size = size;
    return rc;
}

static void fuzz_chunked(struct span in, size_t step) {
    uint8_t *whole = malloc(in.n + 1);
    uint8_t *split = malloc(in.n + 1);
    check(whole != NULL && split != NULL);
    size_t whole_size = 0;
    size_t split_size = 0;
    int rc = decode(in, in.n + 1, whole, &whole_size);
    int split_rc = decode(in, step, split, &split_size);
    check(rc == split_rc);
    if (rc == 0 || rc == BH_E_AGAIN) {
        check(whole_size == split_size &&
              (whole_size == 0 || memcmp(whole, split, whole_size) == 0));
    }
    free(whole);
    free(split);
}

static void fuzz_query(struct span in) {
    uint8_t *out = malloc(in.n + 1);
    check(out != NULL);
    struct span rest = in;
    struct span key;
    struct span value;
    while (http_query_next(&rest, &key, &value)) {
        check_inside(key, in);
        check_inside(value, in);
        check(http_percent_decode(value, out, true) <= value.n);
    }
    if (in.n != 0) {
        memcpy(out, in.p, in.n);
        check(http_percent_decode(span_of(out, in.n), out, false) <= in.n);
    }
    free(out);
}

/* The first byte chooses the target and the size of the steps. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0) {
        return 0;
    }
    struct span in = span_of(data + 1, size - 1);
    size_t step = 1 + (data[0] >> 2);
    switch (data[0] & 3) {
    case 0:
    case 1:
        fuzz_head(in, step);
        break;
    case 2:
        fuzz_chunked(in, step);
        break;
    default:
        fuzz_query(in);
        break;
    }
    return 0;
}
