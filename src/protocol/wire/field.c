/*
 * What values of reserved fields look like. Each pattern is a set of bytes and a length, plus a
 * little structure where the type has some; nothing here backtracks.
 */
#include "base/check.h"
#include "base/compiler.h"
#include "base/date.h"
#include "protocol/protocol.h"

enum {
    ID_MAX = 255,
    WORD_MAX = 40,
    LABEL_MAX = 64,
    FAMILY_VERSION_MAX = 17,
    VERSION_MAX = 32,
    NAME_MAX = 128,
    QUERY_MAX = 255,
    HOST_MAX = 253,
    EMAIL_MAX = 254,
    URL_MAX = 4096
};

static bool is_digit(uint8_t c) {
    return c >= '0' && c <= '9';
}

static bool is_letter(uint8_t c) {
    return (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
}

#define B(c) ASCII_BIT(c)
static const struct ascii_set scheme_bytes = ASCII_WORDS(B('+') | B('-') | B('.'), 0);
static const struct ascii_set host_bytes =
    ASCII_WORDS(B('.') | B('-') | B(':'), B('_') | B('[') | B(']'));
static const struct ascii_set word_bytes = ASCII_WORDS(B('.') | B('-') | B(':'), B('_'));
static const struct ascii_set label_bytes = ASCII_WORDS(
    B(' ') | B('.') | B('-') | B('+') | B('/') | B(':') | B('(') | B(')') | B(','), B('_'));
static const struct ascii_set version_bytes = ASCII_WORDS(B('.') | B('-') | B('+'), B('_'));
static const struct ascii_set language_bytes = ASCII_WORDS(B('-'), B('_'));
static const struct ascii_set timezone_bytes =
    ASCII_WORDS(B('/') | B('+') | B('-') | B(':'), B('_'));
#undef B

/* min..max bytes of the set. */
static bool all_in(struct span s, size_t min, size_t max, const struct ascii_set *set) {
    if (s.n < min || s.n > max) {
        return false;
    }
    bool good = true;
    for (size_t i = 0; i < s.n; i++) {
        good &= ascii_in(set, s.p[i]);
    }
    return good;
}

/* Not zero if one of eight bytes is below 0x20, or is 0x7F. */
static uint64_t controls_in(uint64_t word) {
    const uint64_t ones = UINT64_C(0x0101010101010101);
    uint64_t del = word ^ ones * 0x7F;
    return (((word - ones * 0x20) & ~word) | ((del - ones) & ~del)) & ones * 0x80;
}

static bool is_plain(struct span s, size_t min, size_t max) {
    if (s.n < min || s.n > max) {
        return false;
    }
    if (s.n >= 8) {
        uint64_t found = controls_in(get_u64(s.p + s.n - 8));
        for (size_t i = 0; i + 8 < s.n; i += 8) {
            found |= controls_in(get_u64(s.p + i));
        }
        return found == 0;
    }
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] < 0x20 || s.p[i] == 0x7F) {
            return false;
        }
    }
    return true;
}

static bool is_version(struct span s) {
    for (size_t i = 0; i < s.n; i++) {
        if (!is_digit(s.p[i]) && s.p[i] != '.') {
            return false;
        }
    }
    return s.n != 0;
}

/* A family alone, or with a version behind it ("Chrome 126.0"). */
static bool is_family(struct span s) {
    static const struct span families[] = {
#define FAMILY(name) {(const uint8_t *)(name), sizeof(name) - 1},
#include "protocol/wire/families.def"
#undef FAMILY
    };
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) {
        size_t n = families[i].n;
        if (s.n < n || s.p[0] != families[i].p[0] || !span_starts(s, families[i])) {
            continue;
        }
        if (s.n == n ||
            (s.n <= n + FAMILY_VERSION_MAX && s.p[n] == ' ' && is_version(span_from(s, n + 1)))) {
            return true;
        }
    }
    return false;
}

/* SDKs write this where a page was opened without a referrer. */
static bool is_direct(struct span s) {
    return s.n == 0 || span_is(s, "$direct");
}

static bool is_url(struct span s) {
    if (is_direct(s)) {
        return true;
    }
    size_t colon = span_find_byte(s, ':');
    if (colon == SIZE_MAX || colon == 0 || colon > 20 || !is_letter(s.p[0]) || s.n > URL_MAX) {
        return false;
    }
    return all_in(span_cut(s, 0, colon), 1, 20, &scheme_bytes) &&
           span_starts(span_from(s, colon), SPAN_LIT("://")) && is_plain(s, 1, URL_MAX) &&
           span_find_byte(s, ' ') == SIZE_MAX;
}

/* A word without a dot is no domain: it may be anything, in base64 as well. */
static bool is_host(struct span s) {
    bool has_parts = span_find_byte(s, '.') != SIZE_MAX || span_find_byte(s, ':') != SIZE_MAX;
    return is_direct(s) || span_is(s, "localhost") ||
           (has_parts && all_in(s, 1, HOST_MAX, &host_bytes));
}

static bool is_ipv4(struct span s) {
    unsigned parts = 1;
    unsigned digits = 0;
    unsigned value = 0;
    for (size_t i = 0; i < s.n; i++) {
        if (is_digit(s.p[i])) {
            value = value * 10 + (unsigned)(s.p[i] - '0');
            if (++digits > 3 || value > 255) {
                return false;
            }
        } else if (s.p[i] == '.' && digits > 0) {
            parts++;
            digits = 0;
            value = 0;
        } else {
            return false;
        }
    }
    return parts == 4 && digits > 0;
}

static bool is_ipv6(struct span s) {
    unsigned colons = 0;
    for (size_t i = 0; i < s.n; i++) {
        bool hex = is_digit(s.p[i]) || ((s.p[i] | 0x20) >= 'a' && (s.p[i] | 0x20) <= 'f');
        colons += s.p[i] == ':';
        if (!hex && s.p[i] != ':' && s.p[i] != '.') {
            return false;
        }
    }
    return s.n <= 45 && colons >= 2 && colons <= 8;
}

static bool is_email(struct span s) {
    size_t sign = span_find_byte(s, '@');
    if (sign == SIZE_MAX || sign == 0 || s.n > EMAIL_MAX || !is_plain(s, 3, EMAIL_MAX)) {
        return false;
    }
    struct span domain = span_from(s, sign + 1);
    return domain.n >= 3 && span_find_byte(domain, '@') == SIZE_MAX &&
           span_find_byte(domain, '.') != SIZE_MAX && span_find_byte(s, ' ') == SIZE_MAX;
}

static bool is_package(struct span s) {
    if (s.n == 0 || s.p[0] != '@') {
        return all_in(s, 1, WORD_MAX, &word_bytes);
    }
    size_t slash = span_find_byte(s, '/');
    return slash != SIZE_MAX && all_in(span_cut(s, 1, slash - 1), 1, WORD_MAX, &version_bytes) &&
           all_in(span_from(s, slash + 1), 1, WORD_MAX, &version_bytes);
}

static bool is_library(struct span s) {
    size_t slash = span_find_byte(s, '/');
    struct span version = slash != SIZE_MAX ? span_from(s, slash + 1) : SPAN_NONE;
    return version.n > 0 && is_digit(version.p[0]) &&
           all_in(version, 1, VERSION_MAX, &version_bytes) &&
           all_in(span_cut(s, 0, slash), 1, WORD_MAX, &word_bytes);
}

static bool is_phone(struct span s) {
    unsigned digits = 0;
    for (size_t i = 0; i < s.n; i++) {
        digits += is_digit(s.p[i]);
        if (!is_digit(s.p[i]) && (s.p[i] == 0 || strchr("+-(). /x", s.p[i]) == NULL)) {
            return false;
        }
    }
    return s.n <= 32 && digits >= 5 && digits <= 15;
}

static bool is_country(struct span s) {
    return s.n == 2 && s.p[0] >= 'A' && s.p[0] <= 'Z' && s.p[1] >= 'A' && s.p[1] <= 'Z';
}

static bool is_number_text(struct span s) {
    double value;
    return json_number(s, &value);
}

static bool string_fits(enum field_type type, struct span s) {
    int64_t ms;
    switch (type) {
    case TYPE_ANY:
        return true;
    case TYPE_NUMBER:
        return is_number_text(s);
    case TYPE_ID:
        return is_plain(s, 0, ID_MAX);
    case TYPE_TIME:
        return field_time_ms(JSON_STRING, s, &ms);
    case TYPE_WORD:
        return all_in(s, 1, WORD_MAX, &word_bytes);
    case TYPE_FAMILY:
        return is_family(s);
    case TYPE_LABEL:
        return all_in(s, 1, LABEL_MAX, &label_bytes);
    case TYPE_PACKAGE:
        return is_package(s);
    case TYPE_LIBRARY:
        return is_library(s);
    case TYPE_DASH:
        return span_is(s, "-");
    case TYPE_VERSION:
        return all_in(s, 1, VERSION_MAX, &version_bytes);
    case TYPE_URL:
        return is_url(s);
    case TYPE_PATH:
        return s.n > 0 && s.p[0] == '/' && is_plain(s, 1, URL_MAX);
    case TYPE_URL_PART:
        return s.n == 0 || ((s.p[0] == '?' || s.p[0] == '#') && is_plain(s, 1, URL_MAX));
    case TYPE_HOST:
        return is_host(s);
    case TYPE_IP:
        return is_ipv4(s) || is_ipv6(s);
    case TYPE_COUNTRY:
        return is_country(s);
    case TYPE_LANGUAGE:
        return all_in(s, 2, 16, &language_bytes);
    case TYPE_TIMEZONE:
        return all_in(s, 1, 40, &timezone_bytes);
    case TYPE_EMAIL:
        return is_email(s);
    case TYPE_PHONE:
        return is_phone(s);
    case TYPE_NAME:
        return is_plain(s, 1, NAME_MAX);
    case TYPE_QUERY:
        return is_plain(s, 0, QUERY_MAX);
    case TYPE_NAMES:
        return is_plain(s, 1, ID_MAX);
    case TYPE_OBJECT:
    case TYPE_TEXT:
    case TYPE_BOOL:
        break;
    }
    return false;
}

static bool number_fits(enum field_type type, struct span raw) {
    int64_t ms;
    if (type == TYPE_TIME) {
        return field_time_ms(JSON_NUMBER, raw, &ms);
    }
    return type == TYPE_NUMBER || type == TYPE_ID || type == TYPE_VERSION || type == TYPE_ANY;
}

bool field_fits(const struct field *field, enum json_kind kind, struct span value) {
    enum field_type type = (enum field_type)field->type;
    switch (kind) {
    case JSON_NULL:
        return true;
    case JSON_TRUE:
    case JSON_FALSE:
        return type == TYPE_BOOL || type == TYPE_ANY;
    case JSON_NUMBER:
        return number_fits(type, value);
    case JSON_STRING:
        return string_fits(type, value);
    case JSON_OBJECT:
        return type == TYPE_OBJECT;
    case JSON_ARRAY:
        return true;
    case JSON_KEY:
        break;
    }
    unreachable_because("a key is not a value");
}

/* `count` digits as a number; false when one is none. */
static bool take_digits(struct span *s, unsigned count, int64_t *ret) {
    int64_t value = 0;
    if (s->n < count) {
        return false;
    }
    for (unsigned i = 0; i < count; i++) {
        if (!is_digit(s->p[i])) {
            return false;
        }
        value = value * 10 + (s->p[i] - '0');
    }
    *s = span_from(*s, count);
    *ret = value;
    return true;
}

static bool take_byte(struct span *s, const char *any_of) {
    if (s->n == 0 || s->p[0] == 0 || strchr(any_of, s->p[0]) == NULL) {
        return false;
    }
    *s = span_from(*s, 1);
    return true;
}

static bool take_zone(struct span *s, int64_t *ret_minutes) {
    *ret_minutes = 0;
    if (s->n == 0 || take_byte(s, "Zz")) {
        return true;
    }
    bool west = s->p[0] == '-';
    int64_t hours = 0;
    int64_t minutes = 0;
    if (!take_byte(s, "+-") || !take_digits(s, 2, &hours)) {
        return false;
    }
    (void)take_byte(s, ":");
    if (s->n > 0 && !take_digits(s, 2, &minutes)) {
        return false;
    }
    *ret_minutes = (west ? -1 : 1) * (hours * 60 + minutes);
    return hours < 24 && minutes < 60;
}

/* Milliseconds of the day after "T": HH:MM[:SS[.fraction]][zone]. */
static bool take_time_of_day(struct span *s, int64_t *ret_ms) {
    int64_t hour = 0;
    int64_t minute = 0;
    int64_t second = 0;
    int64_t ms = 0;
    int64_t zone = 0;
    if (!take_digits(s, 2, &hour) || !take_byte(s, ":") || !take_digits(s, 2, &minute)) {
        return false;
    }
    if (take_byte(s, ":") && !take_digits(s, 2, &second)) {
        return false;
    }
    if (take_byte(s, ".,")) {
        int64_t scale = 100;
        for (; s->n > 0 && is_digit(s->p[0]); *s = span_from(*s, 1), scale /= 10) {
            ms += (s->p[0] - '0') * scale;
        }
    }
    if (!take_zone(s, &zone) || hour > 24 || minute > 59 || second > 60) {
        return false;
    }
    *ret_ms = ((hour * 60 + minute - zone) * 60 + second) * 1000 + ms;
    return true;
}

static bool iso8601_ms(struct span s, int64_t *ret_ms) {
    struct date date = {0};
    int64_t ms = 0;
    if (!take_digits(&s, 4, &date.year) || !take_byte(&s, "-") ||
        !take_digits(&s, 2, &date.month) || !take_byte(&s, "-") || !take_digits(&s, 2, &date.day) ||
        date.month < 1 || date.month > 12 || date.day < 1 || date.day > 31) {
        return false;
    }
    if (take_byte(&s, "Tt ") && !take_time_of_day(&s, &ms)) {
        return false;
    }
    *ret_ms = date_to_days(date) * 86400000 + ms;
    return s.n == 0;
}

bool field_time_ms(enum json_kind kind, struct span value, int64_t *ret_ms) {
    /* Above this a count of seconds would be in the year 5138. */
    const double seconds_max = 1e11;
    double number;
    if (kind == JSON_STRING && iso8601_ms(value, ret_ms)) {
        return true;
    }
    if ((kind != JSON_NUMBER && kind != JSON_STRING) || !json_number(value, &number) ||
        !(number >= 0 && number < 1e15)) {
        return false;
    }
    double ms = number > seconds_max ? number : number * 1000;
    *ret_ms = (int64_t)(ms + 0.5);
    return true;
}
