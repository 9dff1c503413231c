/*
 * The scanner with plain kernels: for processors without AVX2, and the twin that tests compare
 * with.
 */
#include "engine/json/json_int.h"

struct kernel {
    char unused;
};

/*
 * The first quote, backslash or control byte; *non_ascii becomes non-zero if a byte >= 0x80 lies
 * before.
 */
static inline const uint8_t *string_stop(struct kernel *kernel, const uint8_t *p,
                                         const uint8_t *end, uint64_t *non_ascii) {
    (void)kernel;
    while (p < end && *p != '"' && *p != '\\' && *p >= 0x20) {
        *non_ascii |= *p & 0x80U;
        p++;
    }
    return p;
}

static inline size_t first_bad_utf8(const uint8_t *p, size_t n) {
    return utf8_first_bad_scalar(p, n);
}

#include "engine/json/json_scan_body.h"

int json_parse_scalar(struct span text, unsigned depth_max, struct json_token *tokens,
                      size_t tokens_cap, size_t *ret_count, size_t *ret_offset) {
    return parse(text, depth_max, tokens, tokens_cap, ret_count, ret_offset);
}
