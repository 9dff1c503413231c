/*
 * Times as people write them and as answers print them: UTC always. Conversion between days and dates: Howard Hinnant's
 * "chrono-Compatible Low-Level Date Algorithms" (days_from_civil and civil_from_days).
 */
#include <string.h>

#include "cli/cli.h"
#include "os/clock.h"

static int64_t days_from_civil(int64_t y, unsigned m, unsigned d) {
    y -= m <= 2;
    int64_t era = (y >= 0 ? y : y - 399) / 400;
    unsigned yoe = (unsigned)(y - era * 400);
    unsigned doy = (153 * (m > 2 ? m - 3 : m + 9) + 2) / 5 + d - 1;
    unsigned doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    return era * 146097 + (int64_t)doe - 719468;
}

static bool digits(const char **at, unsigned count, unsigned *ret_value) {
    unsigned value = 0;
    for (unsigned i = 0; i < count; i++) {
        if ((*at)[i] < '0' || (*at)[i] > '9') {
            return false;
        }
        value = value * 10 + (unsigned)((*at)[i] - '0');
    }
    *at += count;
    *ret_value = value;
    return true;
}

/* "-7d", "-24h", "-30m": that long ago. */
static bool relative(const char *text, uint64_t *ret_ms) {
    uint64_t n = 0;
    size_t size = strlen(text);
    if (size < 3 || !span_to_u64(span_of(text + 1, size - 2), &n) || n > 1000000) {
        return false;
    }
    uint64_t unit = 0;
    switch (text[size - 1]) {
    case 'd':
        unit = 86400000;
        break;
    case 'h':
        unit = 3600000;
        break;
    case 'm':
        unit = 60000;
        break;
    case 's':
        unit = 1000;
        break;
    default:
        return false;
    }
    *ret_ms = os_wall_us() / 1000 - n * unit;
    return true;
}

bool cli_time(const char *text, uint64_t *ret_ms) {
    unsigned y = 0;
    unsigned mo = 0;
    unsigned d = 0;
    unsigned h = 0;
    unsigned mi = 0;
    unsigned s = 0;
    unsigned ms = 0;
    if (strcmp(text, "now") == 0) {
        *ret_ms = os_wall_us() / 1000;
        return true;
    }
    if (text[0] == '-') {
        return relative(text, ret_ms);
    }
    if (!digits(&text, 4, &y) || *text++ != '-' || !digits(&text, 2, &mo) || *text++ != '-' ||
        !digits(&text, 2, &d)) {
        return false;
    }
    if (*text == 'T' || *text == ' ') {
        text++;
        if (!digits(&text, 2, &h) || *text++ != ':' || !digits(&text, 2, &mi)) {
            return false;
        }
        if (*text == ':') {
            text++;
            if (!digits(&text, 2, &s)) {
                return false;
            }
        }
        if (*text == '.') {
            text++;
            if (!digits(&text, 3, &ms)) {
                return false;
            }
        }
    }
    if (*text == 'Z') {
        text++;
    }
    if (*text != '\0' || y < 1970 || mo < 1 || mo > 12 || d < 1 || d > 31 || h > 23 || mi > 59 ||
        s > 59) {
        return false;
    }
    uint64_t minutes = ((uint64_t)days_from_civil(y, mo, d) * 24 + h) * 60 + mi;
    *ret_ms = (minutes * 60 + s) * 1000 + ms;
    return true;
}

void cli_time_text(uint64_t ms, char out[32]) {
    int64_t z = (int64_t)(ms / 86400000) + 719468;
    int64_t era = z / 146097;
    unsigned doe = (unsigned)(z - era * 146097);
    unsigned yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    unsigned doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    unsigned mp = (5 * doy + 2) / 153;
    unsigned day = doy - (153 * mp + 2) / 5 + 1;
    unsigned month = mp < 10 ? mp + 3 : mp - 9;
    int64_t year = (int64_t)yoe + era * 400 + (month <= 2);
    unsigned rest = (unsigned)(ms / 1000 % 86400);
    (void)snprintf(out, 32, "%04d-%02u-%02uT%02u:%02u:%02uZ", (int)year, month, day, rest / 3600,
                   rest / 60 % 60, rest % 60);
}
