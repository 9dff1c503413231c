/*
 * Numbers: the text of a token as integer or double.
 *
 * A token is digits and a power of ten. Most fit the exact case (fewer than 2^53, power within
 * ±22), where one multiplication or division of two exact doubles is correctly rounded; the rest
 * goes through strtod.
 */
#include <math.h>
#include <stdlib.h>

#include "base/compiler.h"
#include "engine/json/json_int.h"

/* More than 768 significant digits cannot change a double, except by being there at all. */
enum { DIGITS_MAX = 800, POWER_BOUND = 100000 };

struct decimal {
    bool negative;
    bool more;      /* non-zero digits beyond those kept */
    unsigned count; /* digits kept, no leading zeros */
    int64_t power;  /* value = 0.digits * 10^power, or digits as integer * 10^(power - count) */
    uint8_t digits[DIGITS_MAX];
};

static bool is_digit(uint8_t c) {
    return c >= '0' && c <= '9';
}

static void keep_digit(struct decimal *d, uint8_t digit, bool fraction) {
    if (d->count == 0 && digit == '0') {
        d->power -= fraction;
        return;
    }
    d->power += !fraction;
    if (d->count < DIGITS_MAX) {
        d->digits[d->count++] = digit;
    } else {
        d->more |= digit != '0';
    }
}

/* At the byte after e: the power, cut off where it no longer matters. */
static bool exponent_read(struct span raw, size_t *i, int64_t *ret_exponent) {
    bool down = *i < raw.n && raw.p[*i] == '-';
    *i += down || (*i < raw.n && raw.p[*i] == '+');
    size_t first = *i;
    int64_t exponent = 0;
    for (; *i < raw.n && is_digit(raw.p[*i]); ++*i) {
        exponent = exponent < INT32_MAX / 10 ? exponent * 10 + (raw.p[*i] - '0') : exponent;
    }
    *ret_exponent = down ? -exponent : exponent;
    return *i > first;
}

/* False when `raw` is not a number of RFC 8259. */
static bool decimal_read(struct span raw, struct decimal *d) {
    size_t i = 0;
    d->negative = i < raw.n && raw.p[i] == '-';
    i += d->negative;
    size_t first = i;
    for (; i < raw.n && is_digit(raw.p[i]); i++) {
        keep_digit(d, raw.p[i], false);
    }
    if (i == first || (raw.p[first] == '0' && i - first > 1)) {
        return false;
    }
    if (i < raw.n && raw.p[i] == '.') {
        first = ++i;
        for (; i < raw.n && is_digit(raw.p[i]); i++) {
            keep_digit(d, raw.p[i], true);
        }
        if (i == first) {
            return false;
        }
    }
    if (i < raw.n && (raw.p[i] | 0x20) == 'e') {
        int64_t exponent = 0;
        i++;
        if (!exponent_read(raw, &i, &exponent)) {
            return false;
        }
        d->power += exponent;
    }
    return i == raw.n;
}

static void decimal_trim(struct decimal *d) {
    while (d->count > 0 && d->digits[d->count - 1] == '0') {
        d->count--;
    }
}

static uint64_t decimal_integer(const struct decimal *d) {
    uint64_t value = 0;
    for (unsigned i = 0; i < d->count; i++) {
        value = value * 10 + (uint64_t)(d->digits[i] - '0');
    }
    return value;
}

static double decimal_slow(const struct decimal *d) {
    char text[DIGITS_MAX + 32];
    struct buf b = buf_of(text, sizeof text - 1);
    buf_put_str(&b, "0.");
    buf_put(&b, d->digits, d->count);
    if (d->more) {
        buf_put_byte(&b, '1');
    }
    buf_put_byte(&b, 'e');
    int64_t power = d->power > POWER_BOUND ? POWER_BOUND : d->power;
    buf_put_i64_dec(&b, power < -POWER_BOUND ? -POWER_BOUND : power);
    text[b.n] = '\0';
    /* The program never calls setlocale, so the decimal point is a point. */
    return strtod(text, NULL);
}

bool json_number(struct span raw, double *ret_value) {
    static const double tens[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                  1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                  1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    struct decimal d;
    d.count = 0;
    d.power = 0;
    d.more = false;
    if (!decimal_read(raw, &d)) {
        return false;
    }
    decimal_trim(&d);
    double value = 0;
    int64_t exponent = d.power - (int64_t)d.count;
    if (d.count > 0) {
        if (d.count <= 15 && !d.more && exponent >= -22 && exponent <= 22) {
            double whole = (double)decimal_integer(&d);
            value = exponent < 0 ? whole / tens[-exponent] : whole * tens[exponent];
        } else {
            value = decimal_slow(&d);
        }
    }
    if (!isfinite(value)) {
        return false;
    }
    *ret_value = d.negative ? -value : value;
    return true;
}

bool json_integer(struct span raw, int64_t *ret_value) {
    struct decimal d;
    d.count = 0;
    d.power = 0;
    d.more = false;
    if (!decimal_read(raw, &d)) {
        return false;
    }
    decimal_trim(&d);
    if (d.count == 0 && !d.more) {
        *ret_value = 0;
        return true;
    }
    /* 19 digits fit a u64; a fraction or a digit too many is not exact. */
    if (d.more || d.power > 19 || d.power < (int64_t)d.count) {
        return false;
    }
    uint64_t value = decimal_integer(&d);
    for (int64_t left = d.power - (int64_t)d.count; left > 0; left--) {
        value *= 10;
    }
    if (value > (uint64_t)INT64_MAX + d.negative) {
        return false;
    }
    *ret_value = d.negative ? (int64_t)(0 - value) : (int64_t)value;
    return true;
}
