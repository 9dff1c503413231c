/* Times as people write them and as answers print them: UTC always. */
#include <string.h>

#include "base/date.h"
#include "cli/cli.h"
#include "os/clock.h"

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
    int64_t days = date_to_days((struct date){y, mo, d});
    if (date_of_days(days).day != d) {
        return false; /* 31 June */
    }
    uint64_t minutes = ((uint64_t)days * 24 + h) * 60 + mi;
    *ret_ms = (minutes * 60 + s) * 1000 + ms;
    return true;
}

void cli_time_text(uint64_t ms, char out[32]) {
    struct buf text = buf_of(out, 31);
    date_put_time((int64_t)ms, false, &text);
    out[text.n] = 0;
}
