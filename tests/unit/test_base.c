/* Base: bytes, arena, ring, hashes and errors, at and beyond their limits. */
/* depends: os base */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/bytes.h"
#include "base/check.h"
#include "base/date.h"
#include "base/errors.h"
#include "base/hash.h"
#include "base/ring.h"
#include "os/thread.h"

static uint64_t random_state = 20261124;

static uint64_t next_random(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static void spans_are_cut_compared_and_searched(void **state) {
    (void)state;
    struct span text = SPAN_LIT("Content-Length: 12");
    assert_true(span_is(span_cut(text, 0, 7), "Content"));
    assert_true(span_is(span_cut(text, 16, 99), "12"));
    assert_int_equal(span_cut(text, 99, 1).n, 0);
    assert_int_equal(span_from(text, text.n).n, 0);
    assert_true(span_starts(text, SPAN_LIT("Content-")));
    assert_true(span_starts(text, SPAN_NONE));
    assert_false(span_starts(SPAN_LIT("Con"), SPAN_LIT("Cont")));
    assert_true(span_equal_nocase(SPAN_LIT("content-LENGTH"), span_cut(text, 0, 14)));
    assert_false(span_equal_nocase(SPAN_LIT("@"), SPAN_LIT("`"))); /* 32 apart, but no letters */
    assert_false(span_equal_nocase(SPAN_LIT("["), SPAN_LIT("{")));
    assert_true(span_equal(SPAN_NONE, SPAN_LIT("")));
    assert_int_equal(span_find_byte(text, ':'), 14);
    assert_int_equal(span_find_byte(text, 'x'), SIZE_MAX);
    assert_int_equal(span_find_byte(SPAN_NONE, 'x'), SIZE_MAX);
    assert_int_equal(span_find(text, SPAN_LIT("Len")), 8);
    assert_int_equal(span_find(SPAN_LIT("aaab"), SPAN_LIT("aab")), 1);
    assert_int_equal(span_find(SPAN_LIT("ab"), SPAN_LIT("abc")), SIZE_MAX);
    assert_int_equal(span_find(SPAN_LIT("ab"), SPAN_NONE), 0);
    assert_true(span_is(span_trim(SPAN_LIT(" \t\r\n a b \n")), "a b"));
    assert_int_equal(span_trim(SPAN_LIT(" \t ")).n, 0);
}

static void decimals_are_exact_or_refused(void **state) {
    (void)state;
    static const char *const bad[] = {"",
                                      "-1",
                                      "+1",
                                      " 1",
                                      "1 ",
                                      "0x1",
                                      "18446744073709551616",
                                      "99999999999999999999",
                                      "184467440737095516150",
                                      "1a"};
    uint64_t value = 7;
    for (size_t i = 0; i < BH_COUNT(bad); i++) {
        assert_false(span_to_u64(span_str(bad[i]), &value));
        assert_int_equal(value, 7);
    }
    assert_true(span_to_u64(SPAN_LIT("18446744073709551615"), &value));
    assert_true(value == UINT64_MAX);
    assert_true(span_to_u64(SPAN_LIT("0"), &value));
    assert_int_equal(value, 0);
    uint8_t memory[64];
    for (int i = 0; i < 1000; i++) {
        uint64_t number = next_random() >> next_random() % 64;
        struct buf b = buf_of(memory, sizeof memory);
        char expected[64];
        buf_put_u64_dec(&b, number);
        assert_true(span_to_u64(buf_span(&b), &value));
        assert_true(value == number);
        b = buf_of(memory, sizeof memory);
        buf_put_i64_dec(&b, (int64_t)number);
        (void)snprintf(expected, sizeof expected, "%lld", (long long)number);
        assert_true(span_is(buf_span(&b), expected));
    }
    struct buf b = buf_of(memory, sizeof memory);
    buf_put_i64_dec(&b, INT64_MIN);
    assert_true(span_is(buf_span(&b), "-9223372036854775808"));
}

static void a_full_buffer_stays_full_and_is_never_passed(void **state) {
    (void)state;
    uint8_t memory[16];
    memset(memory, 0xee, sizeof memory);
    struct buf b = buf_of(memory, 8);
    buf_put_str(&b, "1234567");
    assert_false(b.full);
    buf_put_str(&b, "89");
    assert_true(b.full);
    buf_put_byte(&b, '8'); /* would fit, but something before it is missing */
    assert_true(span_is(buf_span(&b), "1234567"));
    b = buf_of(memory, 8);
    buf_put_u64(&b, 1);
    assert_false(b.full);
    buf_put_byte(&b, 0);
    assert_true(b.full);
    b = buf_of(memory, 8);
    buf_printf(&b, "%d", 1234567);
    assert_false(b.full);
    b = buf_of(memory, 8);
    buf_printf(&b, "%s", "12345678"); /* no room for the terminating zero */
    assert_true(b.full);
    b = buf_of(memory, 3);
    buf_put_hex(&b, "\xab\xcd", 2);
    assert_true(b.full);
    for (size_t i = 8; i < sizeof memory; i++) {
        assert_int_equal(memory[i], 0xee);
    }
    b = buf_of(memory, 0);
    buf_put_span(&b, SPAN_NONE);
    assert_false(b.full);
}

static void a_short_reader_stays_short_and_reads_zeros(void **state) {
    (void)state;
    struct reader r =
        reader_of(SPAN_LIT("\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f"));
    assert_int_equal(read_u8(&r), 0x01);
    assert_int_equal(read_u16(&r), 0x0302);
    assert_int_equal(read_u32(&r), 0x07060504);
    assert_true(read_u64(&r) == UINT64_C(0x0f0e0d0c0b0a0908));
    assert_false(r.short_);
    assert_int_equal(reader_take(&r, 0).n, 0);
    assert_false(r.short_);
    assert_int_equal(read_u8(&r), 0);
    assert_true(r.short_);
    r = reader_of(SPAN_LIT("abc"));
    assert_int_equal(read_u32(&r), 0);
    assert_int_equal(read_u8(&r), 0);
    assert_true(r.short_);
    uint8_t bytes[14];
    put_u16(bytes, 0x1122);
    put_u32(bytes + 2, 0x33445566);
    put_u64(bytes + 6, UINT64_C(0x778899aabbccddee));
    assert_memory_equal(bytes, "\x22\x11\x66\x55\x44\x33\xee\xdd\xcc\xbb\xaa\x99\x88\x77",
                        sizeof bytes);
}

static void varints_have_one_spelling(void **state) {
    (void)state;
    uint8_t memory[16];
    for (int i = 0; i < 2000; i++) {
        uint64_t number = i < 64 ? UINT64_C(1) << i : next_random() >> next_random() % 64;
        struct buf b = buf_of(memory, sizeof memory);
        buf_put_varint(&b, number);
        assert_in_range(b.n, 1, 10);
        struct reader r = reader_of(buf_span(&b));
        assert_true(read_varint(&r) == number);
        assert_false(r.short_);
        assert_int_equal(r.n, 0);
        r = reader_of(span_of(memory, b.n - 1));
        assert_int_equal(read_varint(&r), 0);
        assert_true(r.short_);
    }
    const struct span bad[] = {
        SPAN_LIT("\x80\x00"),                                 /* 0 in two bytes */
        SPAN_LIT("\xff\x00"),                                 /* 127 in two bytes */
        SPAN_LIT("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"), /* 2^65 - 1 */
        SPAN_LIT("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x81\x00"),
        SPAN_LIT("\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01"),
    };
    for (size_t i = 0; i < BH_COUNT(bad); i++) {
        struct reader r = reader_of(bad[i]);
        assert_int_equal(read_varint(&r), 0);
        assert_true(r.short_);
    }
    struct reader r = reader_of(SPAN_LIT("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"));
    assert_true(read_varint(&r) == UINT64_MAX);
}

/* RFC 3720, B.4, and the check value of the catalogues. */
static void crc32c_matches_rfc3720_and_its_twin(void **state) {
    (void)state;
    uint8_t bytes[300];
    memset(bytes, 0, 32);
    assert_int_equal(crc32c(bytes, 32), 0x8a9136aa);
    memset(bytes, 0xff, 32);
    assert_int_equal(crc32c(bytes, 32), 0x62a8ab43);
    for (uint8_t i = 0; i < 32; i++) {
        bytes[i] = i;
    }
    assert_int_equal(crc32c(bytes, 32), 0x46dd794e);
    assert_int_equal(crc32c("123456789", 9), 0xe3069283);
    assert_int_equal(crc32c(NULL, 0), 0);
    for (size_t n = 0; n < sizeof bytes; n++) {
        for (size_t i = 0; i < n; i++) {
            bytes[i] = (uint8_t)next_random();
        }
        size_t cut = n != 0 ? next_random() % n : 0;
        assert_int_equal(crc32c(bytes, n), crc32c_scalar_more(0, bytes, n));
        assert_int_equal(crc32c_more(crc32c(bytes, cut), bytes + cut, n - cut), crc32c(bytes, n));
        assert_int_equal(crc32c_scalar_more(crc32c(bytes, cut), bytes + cut, n - cut),
                         crc32c(bytes, n));
    }
}

/* Not a cryptographic promise, only that no bit and no length is ignored. */
static void hash64_depends_on_every_bit_length_and_seed(void **state) {
    (void)state;
    uint8_t bytes[40];
    memset(bytes, 0x55, sizeof bytes);
    for (size_t n = 0; n <= sizeof bytes; n++) {
        uint64_t hash = hash64(bytes, n, 1);
        assert_true(hash != hash64(bytes, n, 2));
        assert_true(n == sizeof bytes || hash != hash64(bytes, n + 1, 1));
        for (size_t bit = 0; bit < n * 8; bit++) {
            bytes[bit / 8] ^= (uint8_t)(1U << bit % 8);
            assert_true(hash != hash64(bytes, n, 1));
            bytes[bit / 8] ^= (uint8_t)(1U << bit % 8);
        }
    }
    uint8_t zeros[32] = {0};
    for (size_t n = 1; n < sizeof zeros; n++) {
        assert_true(hash64(zeros, n, 0) != hash64(zeros, n + 1, 0));
    }
}

static void an_arena_is_aligned_and_sticky(void **state) {
    (void)state;
    static _Alignas(16) uint8_t block[256];
    struct arena arena;
    arena_init(&arena, block, sizeof block);
    size_t taken = 0;
    uint8_t *before = block;
    for (size_t n = 1; !arena.full; n += 5) {
        uint8_t *at = (uint8_t *)arena_take(&arena, n);
        if (at != NULL) {
            assert_int_equal((uintptr_t)at % 16, 0);
            assert_true(at >= before && at + n <= block + sizeof block);
            before = at + n;
            taken++;
        }
    }
    assert_true(taken > 3);
    assert_null(arena_take(&arena, 1));
    arena_init(&arena, block, sizeof block);
    assert_false(arena.full);
    assert_null(arena_take(&arena, SIZE_MAX));
    assert_true(arena.full);
}

enum { MESSAGES = 200000 };

static struct ring shared_ring;

static void produce(void *context) {
    (void)context;
    for (uint64_t i = 1; i <= MESSAGES; i++) {
        while (!ring_push(&shared_ring, i * 3)) {
            (void)usleep(1);
        }
    }
}

static void a_ring_hands_over_all_in_order(void **state) {
    (void)state;
    uint64_t slots[8];
    uint64_t message = 0;
    ring_init(&shared_ring, slots, BH_COUNT(slots));
    assert_true(ring_is_empty(&shared_ring));
    assert_false(ring_pop(&shared_ring, &message));
    for (uint64_t i = 0; i < 8; i++) {
        assert_true(ring_push(&shared_ring, i));
    }
    assert_false(ring_push(&shared_ring, 8));
    for (uint64_t i = 0; i < 8; i++) {
        assert_true(ring_pop(&shared_ring, &message));
        assert_int_equal(message, i);
    }
    struct os_thread producer;
    assert_int_equal(os_thread_start(&producer, "producer", 0, produce, NULL), 0);
    for (uint64_t i = 1; i <= MESSAGES; i++) {
        while (!ring_pop(&shared_ring, &message)) {
            (void)usleep(1);
        }
        assert_int_equal(message, i * 3);
    }
    os_thread_join(&producer);
    assert_true(ring_is_empty(&shared_ring));
}

static void dates_follow_the_calendar_and_lead_back(void **state) {
    (void)state;
    static const struct {
        struct date date;
        int64_t days;
    } known[] = {{{1970, 1, 1}, 0},      {{1969, 12, 31}, -1},      {{2000, 2, 29}, 11016},
                 {{1900, 3, 1}, -25508}, {{2100, 3, 1}, 47541},     {{2026, 11, 9}, 20766},
                 {{0, 3, 1}, -719468},   {{9999, 12, 31}, 2932896}, {{2026, 2, 31}, 20515}};
    for (size_t i = 0; i < BH_COUNT(known); i++) {
        assert_int_equal(date_to_days(known[i].date), known[i].days);
    }
    /* Day after day: the next one of the month, or the first of the next month, and back. */
    struct date before = date_of_days(-800000);
    for (int64_t days = -799999; days < 3000000; days++) {
        struct date date = date_of_days(days);
        bool is_next =
            date.year == before.year && date.month == before.month && date.day == before.day + 1;
        bool is_first = date.day == 1 && before.day >= 28 &&
                        date.year * 12 + date.month == before.year * 12 + before.month + 1;
        if ((!is_next && !is_first) || date.day > 31 || date_to_days(date) != days) {
            fail_msg("day %lld", (long long)days);
        }
        before = date;
    }
}

static void times_are_written_in_iso_8601(void **state) {
    (void)state;
    static const struct {
        int64_t ms;
        bool has_ms;
        const char *text;
    } known[] = {
        {0, true, "1970-01-01T00:00:00.000Z"},
        {-1, true, "1969-12-31T23:59:59.999Z"},
        {951868799012, true, "2000-02-29T23:59:59.012Z"},
        {951868799012, false, "2000-02-29T23:59:59Z"},
        {253402300800000, false, "10000-01-01T00:00:00Z"},
    };
    for (size_t i = 0; i < BH_COUNT(known); i++) {
        uint8_t memory[32];
        struct buf out = buf_of(memory, sizeof memory);
        date_put_time(known[i].ms, known[i].has_ms, &out);
        assert_true(span_is(buf_span(&out), known[i].text));
    }
}

static void hexadecimal_digits_have_a_value(void **state) {
    (void)state;
    for (int c = 0; c < 256; c++) {
        const char *digits = "0123456789abcdef0123456789ABCDEF";
        const char *at = c != 0 ? strchr(digits, c) : NULL;
        assert_int_equal(hex_digit_value((uint8_t)c), at != NULL ? (at - digits) % 16 : -1);
    }
}

static void errors_say_where(void **state) {
    (void)state;
    struct err err = {0};
    assert_int_equal(err_set(&err, BH_E_IO, "cannot write %s", "x"), BH_E_IO);
    assert_string_equal(err.text, "cannot write x");
    assert_int_equal(err.code, BH_E_IO);
    assert_int_equal(err_set_at(&err, BH_E_CONFIG, "plan.yaml", 3, 9, "unknown word"), BH_E_CONFIG);
    assert_string_equal(err.file, "plan.yaml");
    assert_int_equal(err.line, 3);
    assert_int_equal(err.column, 9);
    assert_int_equal(err_set(NULL, BH_E_IO, "nobody reads this"), BH_E_IO);
    assert_string_equal(bh_error_text(BH_E_CORRUPT), "stored bytes have rotted");
    assert_string_equal(bh_error_text(-9999), "unknown error");
    assert_string_equal(bh_error_text(0), "no error");
}

static void a_failed_check_ends_the_process(void **state) {
    (void)state;
    pid_t child = fork();
    if (child == 0) {
        (void)close(STDERR_FILENO); /* the message is not for the test's reader */
        check(next_random() == 0);
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(spans_are_cut_compared_and_searched),
        cmocka_unit_test(decimals_are_exact_or_refused),
        cmocka_unit_test(a_full_buffer_stays_full_and_is_never_passed),
        cmocka_unit_test(a_short_reader_stays_short_and_reads_zeros),
        cmocka_unit_test(varints_have_one_spelling),
        cmocka_unit_test(crc32c_matches_rfc3720_and_its_twin),
        cmocka_unit_test(hash64_depends_on_every_bit_length_and_seed),
        cmocka_unit_test(an_arena_is_aligned_and_sticky),
        cmocka_unit_test(a_ring_hands_over_all_in_order),
        cmocka_unit_test(dates_follow_the_calendar_and_lead_back),
        cmocka_unit_test(times_are_written_in_iso_8601),
        cmocka_unit_test(hexadecimal_digits_have_a_value),
        cmocka_unit_test(errors_say_where),
        cmocka_unit_test(a_failed_check_ends_the_process),
    };
    return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
