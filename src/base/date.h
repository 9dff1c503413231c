/*
 * Dates: a day's number and back, in the proleptic Gregorian calendar, UTC; and as ISO 8601. Days count from
 * 1970-01-01 = 0 and may be negative. After Howard Hinnant, "chrono-Compatible Low-Level Date
 * Algorithms": years begin in March, so that the leap day is the last.
 * Any thread; pure.
 */
#ifndef BH_BASE_DATE_H
#define BH_BASE_DATE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"

struct date {
    int64_t year;
    int64_t month; /* 1..12 */
    int64_t day;   /* 1..31 */
};

/* A day beyond its month's end is one of the next month. */
static inline int64_t date_to_days(struct date date) {
    int64_t year = date.year - (date.month <= 2);
    int64_t era = (year >= 0 ? year : year - 399) / 400;
    int64_t year_of_era = year - era * 400;
    int64_t month = date.month + (date.month > 2 ? -3 : 9);
    int64_t day_of_year = (153 * month + 2) / 5 + date.day - 1;
    int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    return era * 146097 + day_of_era - 719468;
}

static inline struct date date_of_days(int64_t days) {
    days += 719468;
    int64_t era = (days >= 0 ? days : days - 146096) / 146097;
    int64_t day_of_era = days - era * 146097;
    int64_t year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t march_month = (5 * day_of_year + 2) / 153;
    struct date date = {.year = year_of_era + era * 400,
                        .month = march_month + (march_month < 10 ? 3 : -9),
                        .day = day_of_year - (153 * march_month + 2) / 5 + 1};
    date.year += date.month <= 2;
    return date;
}

enum { DATE_DAY_MS = 86400000 };

/* The day on which this millisecond is, before 1970 too. */
static inline int64_t date_days_of_ms(int64_t ms) {
    return (ms - (ms < 0 ? DATE_DAY_MS - 1 : 0)) / DATE_DAY_MS;
}

/* 2026-03-01; the year is not negative. */
void date_put(int64_t days, struct buf *out);
/* 2026-03-01T12:30:00Z, or ...:00.000Z. */
void date_put_time(int64_t ms, bool has_ms, struct buf *out);

#endif
