/*
 * lz64: what LZ-string packed is unpacked byte for byte; what was cut short, is noise or unpacks to more than there is
 * room for ends with an error, and nothing is written past the room.
 */
/* depends: wire json base */
/* libs: cmocka */
#include "unit/lz64_kit.h"

#include <string.h>

#include "protocol/wire/lz64.h"
#include "random_kit.h"

enum { OUT_MAX = 1 << 20, GUARD = 64 };

static struct lz64 lz64;
static uint8_t out[OUT_MAX + GUARD];

static int decode(struct span packed, size_t room, struct span *ret_text) {
    memset(out + room, 0xA5, GUARD);
    struct buf b = buf_of(out, room);
    int rc = lz64_decode(&lz64, packed, &b);
    assert_true(b.n <= room);
    for (size_t i = 0; i < GUARD; i++) {
        assert_int_equal(out[room + i], 0xA5);
    }
    *ret_text = buf_span(&b);
    return rc;
}

static void check_vector(struct span packed, struct span text) {
    struct span got;
    assert_true(lz64_is_likely(packed));
    assert_int_equal(decode(packed, OUT_MAX, &got), 0);
    size_t units = got.n;
    size_t n = json_repair_cesu8(out, got.n);
    assert_int_equal(n, text.n);
    assert_memory_equal(out, text.p, n);
    /* Exactly as much room as it takes is enough, one byte less is not. */
    assert_int_equal(decode(packed, units, &got), 0);
    assert_int_equal(decode(packed, units - 1, &got), BH_E_TOO_BIG);
    for (size_t cut = 0; cut < packed.n; cut += cut < 40 ? 1 : 37) {
        struct span whole = packed;
        while (whole.p[whole.n - 1] == '=') {
            whole.n--;
        }
        /* The last letter may be padding bits alone. */
        if (cut + 1 < whole.n) {
            assert_int_equal(decode(span_cut(packed, 0, cut), OUT_MAX, &got), BH_E_SYNTAX);
        }
    }
}

static void test_vectors(void **state) {
    (void)state;
    assert_int_equal(lz64_kit_each(check_vector), 36);
}

static void test_not_lz64(void **state) {
    (void)state;
    static const char *const texts[] = {"",     "N",        "N4",      "Q===", "N4Ig*",
                                        "N4Ig", "N4Ig====", "N4 IgtA", "////", "N4////////"};
    struct span got;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        assert_int_equal(decode(span_str(texts[i]), OUT_MAX, &got), BH_E_SYNTAX);
    }
    assert_false(lz64_is_likely(SPAN_LIT("N4")));
    assert_false(lz64_is_likely(SPAN_LIT("eyJhIjoxfQ==")));
    assert_false(lz64_is_likely(SPAN_LIT("W3siYSI6MX1d")));
    assert_false(lz64_is_likely(SPAN_LIT("H4sIAAAAAAAAA")));
}

static void test_noise(void **state) {
    (void)state;
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    static uint8_t noise[5000];
    random_start(3);
    size_t rounds = (size_t)random_kit_number("BH_ROUNDS", 400);
    for (size_t round = 0; round < rounds; round++) {
        size_t n = random_below(sizeof noise);
        struct span got;
        for (size_t i = 0; i < n; i++) {
            noise[i] = (uint8_t)letters[random_below(random_below(2) == 0 ? 64 : 4)];
        }
        int rc = decode(span_of(noise, n), random_below(OUT_MAX), &got);
        assert_true(rc == 0 || rc == BH_E_SYNTAX || rc == BH_E_TOO_BIG);
    }
}

/* A packer of codes, which counts words as LZ-string does. */
struct packer {
    uint8_t text[OUT_MAX];
    size_t n;
    unsigned held;
    unsigned bits;
    uint32_t words;
    uint32_t until_wider;
    unsigned width;
};

static struct packer packer;

static void pack(uint32_t value, unsigned count) {
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (unsigned i = 0; i < count; i++) {
        packer.held = packer.held << 1 | (value >> i & 1);
        if (++packer.bits == 6) {
            packer.text[packer.n++] = (uint8_t)letters[packer.held];
            packer.held = packer.bits = 0;
        }
    }
}

static void pack_word(void) {
    packer.words++;
    if (--packer.until_wider == 0) {
        packer.until_wider = 1U << packer.width++;
    }
}

static void pack_unit(uint8_t unit) {
    pack(0, packer.words == 3 ? 2 : packer.width);
    pack(unit, 8);
    pack_word();
    if (packer.words > 4) {
        pack_word();
    }
}

static void pack_begin(void) {
    packer = (struct packer){.words = 3, .until_wider = 5, .width = 3};
    pack_unit('{');
}

static void test_a_bomb_ends_at_the_room(void **state) {
    (void)state;
    struct span got;
    pack_begin();
    /* Each code is the word that it makes: one unit more every time. */
    for (unsigned i = 0; i < 20000; i++) {
        pack(packer.words, packer.width);
        pack_word();
    }
    assert_true(packer.n < 60000);
    assert_int_equal(decode(span_of(packer.text, packer.n), OUT_MAX, &got), BH_E_TOO_BIG);
    assert_true(got.n > OUT_MAX - 20000);
}

/* Each unit is a word and makes another; a word that is said again makes one. */
static void check_words(uint32_t units, bool is_odd) {
    struct span got;
    pack_begin();
    for (uint32_t i = 1; i < units; i++) {
        pack_unit('x');
    }
    if (is_odd) {
        pack(3, packer.width);
        pack_word();
    }
    pack(2, packer.width);
    pack(0, 6);
    int rc = decode(span_of(packer.text, packer.n), OUT_MAX, &got);
    assert_int_equal(rc, packer.words <= LZ64_WORDS ? 0 : BH_E_TOO_BIG);
    assert_true(rc != 0 || got.n == units + is_odd);
}

static void test_words_have_a_limit(void **state) {
    (void)state;
    for (uint32_t units = LZ64_WORDS / 2 - 3; units < LZ64_WORDS / 2 + 2; units++) {
        check_words(units, false);
        check_words(units, true);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_not_lz64),
        cmocka_unit_test(test_noise),
        cmocka_unit_test(test_a_bomb_ends_at_the_room),
        cmocka_unit_test(test_words_have_a_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
