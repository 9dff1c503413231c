#include "base/date.h"

static void put_digits(struct buf *out, int64_t value, unsigned digits) {
    uint8_t text[4];
    for (unsigned i = digits; i > 0; i--) {
        text[i - 1] = (uint8_t)('0' + value % 10);
        value /= 10;
    }
    buf_put(out, text, digits);
}

void date_put(int64_t days, struct buf *out) {
    struct date date = date_of_days(days);
    if (date.year > 9999) {
        buf_put_i64_dec(out, date.year);
    } else {
        put_digits(out, date.year, 4);
    }
    buf_put_byte(out, '-');
    put_digits(out, date.month, 2);
    buf_put_byte(out, '-');
    put_digits(out, date.day, 2);
}

void date_put_time(int64_t ms, bool has_ms, struct buf *out) {
    int64_t days = date_days_of_ms(ms);
    int64_t of_day = ms - days * DATE_DAY_MS;
    date_put(days, out);
    buf_put_byte(out, 'T');
    put_digits(out, of_day / 3600000, 2);
    buf_put_byte(out, ':');
    put_digits(out, of_day / 60000 % 60, 2);
    buf_put_byte(out, ':');
    put_digits(out, of_day / 1000 % 60, 2);
    if (has_ms) {
        buf_put_byte(out, '.');
        put_digits(out, of_day % 1000, 3);
    }
    buf_put_byte(out, 'Z');
}
