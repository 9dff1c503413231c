/* Texts as LZ-string packs them: tests/fixtures/lz64. */
#ifndef LZ64_KIT_H
#define LZ64_KIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "engine/json/json.h"
#include "model/limits.h"

enum { LZ64_KIT_SIZE = 1 << 18 };

/* Calls `each` with every vector; returns how many. */
static inline size_t lz64_kit_each(void (*each)(struct span packed, struct span text)) {
    static uint8_t lines[LZ64_KIT_SIZE];
    static uint8_t memory[LZ64_KIT_SIZE];
    struct json_token tokens[16];
    size_t count = 0;
    FILE *file = fopen(BULKHEAD_SOURCE_DIR "/tests/fixtures/lz64/lz-string-1.5.0.ndjson", "rb");
    assert_non_null(file);
    struct span rest = span_of(lines, fread(lines, 1, sizeof lines, file));
    (void)fclose(file);
    assert_true(rest.n > 0 && rest.n < sizeof lines);
    while (rest.n > 0) {
        size_t end = span_find_byte(rest, '\n');
        struct span line = span_cut(rest, 0, end);
        struct buf b = buf_of(memory, sizeof memory);
        size_t used = 0;
        size_t offset = 0;
        assert_int_equal(json_parse(line, LIMIT_JSON_DEPTH, tokens, 16, &used, &offset), 0);
        uint32_t packed = json_get(line, tokens, 0, SPAN_LIT("lz64"));
        uint32_t text = json_get(line, tokens, 0, SPAN_LIT("text"));
        each(json_text(line, &tokens[packed], &b), json_text(line, &tokens[text], &b));
        assert_false(b.full);
        rest = span_from(rest, end + 1);
        count++;
    }
    return count;
}

#endif
