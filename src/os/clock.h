/*
 * Time: wall microseconds since 1970 UTC for records, monotonic for deadlines. A test may install
 * its own clock. Any thread.
 */
#ifndef BH_OS_CLOCK_H
#define BH_OS_CLOCK_H

#include <stdint.h>

struct os_clock_ops {
    uint64_t (*wall_us)(void);
    uint64_t (*mono_us)(void);
    void (*sleep_us)(uint64_t us);
};

uint64_t os_wall_us(void);
uint64_t os_mono_us(void);
void os_sleep_us(uint64_t us);
/* For tests, before any thread starts. NULL restores the real clock. */
void os_clock_install(const struct os_clock_ops *ops);

#endif
