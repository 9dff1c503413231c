/*
 * What wire packs, another library unpacks: over random sizes and contents, into exactly as much room as wire_gzip_bound promises, and never past it.
 */
/* depends: wire os base */
/* libs: cmocka */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "protocol/wire/loose.h"
#include "protocol/wire/wire.h"
#include "random_kit.h"

enum { SIZE_MAX_TRIED = 1400000, GUARD = 64 };

static uint8_t plain[SIZE_MAX_TRIED];
static uint8_t packed[SIZE_MAX_TRIED + SIZE_MAX_TRIED / 100 + 4096];
static uint8_t unpacked[SIZE_MAX_TRIED];

static void fill(size_t n) {
    size_t at = 0;
    while (at < n) {
        size_t run = 1 + random_below(random_below(3) == 0 ? 100000 : 300);
        size_t kind = random_below(4);
        size_t back = 1 + random_below(at + 1);
        uint64_t letters = 1 + random_below(64);
        run = run < n - at ? run : n - at;
        for (size_t end = at + run; at < end; at++) {
            switch (kind) {
            case 0:
                plain[at] = (uint8_t)random_next();
                break;
            case 1:
                plain[at] = (uint8_t)('0' + random_below(letters));
                break;
            case 2:
                plain[at] = at >= back ? plain[at - back] : '"';
                break;
            default:
                plain[at] = ' ';
                break;
            }
        }
    }
}

static void try_one(struct wire *wire, size_t n, size_t room) {
    memset(packed, 0xA5, room + GUARD);
    struct buf out = buf_of(packed, room);
    int r = wire_gzip(wire, span_of(plain, n), &out);
    for (size_t i = 0; i < GUARD; i++) {
        assert_int_equal(packed[room + i], 0xA5);
    }
    assert_true(r == 0 || (r == BH_E_FULL && room < wire_gzip_bound(n)));
    if (r == 0) {
        struct buf again = buf_of(unpacked, sizeof unpacked);
        assert_int_equal(wire_gunzip(wire, buf_span(&out), &again), 0);
        assert_int_equal(again.n, n);
        assert_memory_equal(unpacked, plain, n);
    }
}

static void what_is_packed_is_unpacked(void **state) {
    (void)state;
    random_start(1);
    size_t rounds = (size_t)random_kit_number("BH_ROUNDS", 400);
    struct wire *wire = wire_new();
    assert_non_null(wire);
    for (size_t i = 0; i < rounds; i++) {
        size_t most = i % 20 == 0 ? SIZE_MAX_TRIED : (size_t)1 << (1 + random_below(17));
        size_t n = i < 3 ? i : random_below(most);
        fill(n);
        try_one(wire, n, wire_gzip_bound(n));
        try_one(wire, n, random_below(wire_gzip_bound(n)));
    }
    wire_free(wire);
}

/* Noise of every size about the borders of stored blocks. */
static void noise_fits_into_its_bound(void **state) {
    (void)state;
    static const size_t around[] = {0, 65535, 131070, 196605, 1310720};
    struct wire *wire = wire_new();
    assert_non_null(wire);
    for (size_t i = 0; i < SIZE_MAX_TRIED; i++) {
        plain[i] = (uint8_t)random_next();
    }
    for (size_t i = 0; i < sizeof around / sizeof around[0]; i++) {
        for (size_t more = 0; more < 40; more++) {
            size_t n = around[i] + more;
            n -= n >= 20 ? 20 : 0;
            try_one(wire, n, wire_gzip_bound(n));
        }
    }
    wire_free(wire);
}

/* As it was before it looked at eight bytes at once. */
static size_t end_of_string(struct span s, size_t i) {
    for (i++; i < s.n; i++) {
        if (s.p[i] == '\\') {
            i++;
        } else if (s.p[i] == '"') {
            return i + 1;
        }
    }
    return SIZE_MAX;
}

/* Quotes, backslashes and bytes that differ from them by one bit, at every place of a word. */
static void strings_end_where_they_do(void **state) {
    (void)state;
    static const uint8_t alphabet[] = {'a', 'a', 'a',  'a',  'a',  '"', '\\',
                                       '#', ']', 0xa2, 0xdc, 0x01, 0x80};
    for (unsigned round = 0; round < 200000; round++) {
        uint8_t text[48];
        size_t n = 1 + random_below(sizeof text);
        text[0] = '"';
        for (size_t i = 1; i < n; i++) {
            text[i] = alphabet[random_below(sizeof alphabet)];
        }
        struct span s = span_of(text, n);
        assert_int_equal(loose_skip_string(s, 0), end_of_string(s, 0));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_packed_is_unpacked),
        cmocka_unit_test(noise_fits_into_its_bound),
        cmocka_unit_test(strings_end_where_they_do),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
