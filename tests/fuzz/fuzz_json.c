/*
 * JSON: the twins agree, trees are sound, canonical form is a fixed point, repairs keep what is valid.
 */
/* depends: json base */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "engine/json/json.h"
#include "fuzz/fuzz_entry.h"

enum { TOKENS_MAX = 4096, DEPTH_MAX = 32, TEXT_MAX = 1 << 16 };

static struct json_token tokens[TOKENS_MAX];
static struct json_token twin_tokens[TOKENS_MAX];
static uint8_t first[8 * TEXT_MAX];
static uint8_t second[8 * TEXT_MAX];

static void check_values(struct span text, size_t count) {
    for (size_t i = 0; i < count; i++) {
        const struct json_token *t = &tokens[i];
        check(t->next > i && t->next <= count && t->start + (size_t)t->len <= text.n);
        if (t->kind == JSON_NUMBER) {
            double number = 0;
            int64_t integer = 0;
            bool finite = json_number(json_span(text, t), &number);
            check(!json_integer(json_span(text, t), &integer) ||
                  (finite && (double)integer == number));
        } else if (t->kind == JSON_STRING || t->kind == JSON_KEY) {
            struct buf b = buf_of(first, sizeof first);
            struct span decoded = json_text(text, t, &b);
            check(!b.full && decoded.n <= t->len && utf8_valid(decoded));
            struct buf written = buf_of(second, sizeof second);
            json_put_string(&written, decoded);
            check(!written.full);
        } else if (t->kind == JSON_OBJECT && t->next > i + 1) {
            struct buf b = buf_of(first, sizeof first);
            struct span key = json_text(text, &tokens[i + 1], &b);
            check(json_get(text, tokens, (uint32_t)i, key) > i);
        }
    }
}

static void check_canonical(struct span text) {
    struct buf once = buf_of(first, sizeof first);
    struct buf twice = buf_of(second, sizeof second);
    size_t count = 0;
    size_t offset = 0;
    if (json_canonical(text, tokens, &once) != 0) {
        return;
    }
    check(json_parse(buf_span(&once), DEPTH_MAX, tokens, TOKENS_MAX, &count, &offset) == 0);
    check(json_canonical(buf_span(&once), tokens, &twice) == 0);
    check(span_equal(buf_span(&once), buf_span(&twice)));
}

static void check_repairs(struct span text) {
    if (text.n == 0) {
        return;
    }
    bool valid = utf8_valid(text);
    memcpy(first, text.p, text.n);
    size_t n = json_repair_cesu8(first, text.n);
    check(n <= text.n && (!valid || span_equal(span_of(first, n), text)));
    check(json_repair_cesu8(first, n) == n);
    json_repair_escapes(first, n);
    memcpy(second, first, n);
    json_repair_escapes(second, n);
    check(memcmp(first, second, n) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct span text = span_of(data, size < TEXT_MAX ? size : TEXT_MAX);
    size_t count[2] = {0, 0};
    size_t offset[2] = {0, 0};
    int rc = json_parse(text, DEPTH_MAX, tokens, TOKENS_MAX, &count[0], &offset[0]);
    int twin = json_parse_scalar(text, DEPTH_MAX, twin_tokens, TOKENS_MAX, &count[1], &offset[1]);
    check(rc == twin && count[0] == count[1] && offset[0] == offset[1] && offset[0] <= text.n);
    check(memcmp(tokens, twin_tokens, count[0] * sizeof tokens[0]) == 0);
    check_repairs(text);
    if (rc == 0) {
        check_values(text, count[0]);
        check_canonical(text);
    }
    return 0;
}
