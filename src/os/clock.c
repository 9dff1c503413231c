#define _GNU_SOURCE
#include "os/clock.h"

#include <errno.h>
#include <time.h>

#include "base/check.h"

static uint64_t read_clock_us(clockid_t clock) {
    struct timespec now;
    int failed = clock_gettime(clock, &now);
    check(failed == 0);
    return (uint64_t)now.tv_sec * 1000000U + (uint64_t)now.tv_nsec / 1000U;
}

static uint64_t real_wall_us(void) {
    return read_clock_us(CLOCK_REALTIME);
}

static uint64_t real_mono_us(void) {
    return read_clock_us(CLOCK_MONOTONIC);
}

static void real_sleep_us(uint64_t us) {
    struct timespec left = {(time_t)(us / 1000000U), (long)(us % 1000000U) * 1000L};
    while (nanosleep(&left, &left) != 0 && errno == EINTR) {
    }
}

static const struct os_clock_ops real_clock = {real_wall_us, real_mono_us, real_sleep_us};
static const struct os_clock_ops *clock_ops = &real_clock;

uint64_t os_wall_us(void) {
    return clock_ops->wall_us();
}

uint64_t os_mono_us(void) {
    return clock_ops->mono_us();
}

void os_sleep_us(uint64_t us) {
    clock_ops->sleep_us(us);
}

void os_clock_install(const struct os_clock_ops *ops) {
    clock_ops = ops != NULL ? ops : &real_clock;
}
