/* clock.c - monotonic time from POSIX clocks. */
#include "base/clock.h"

#include <time.h>

static uint64_t read_ns(clockid_t id)
{
    struct timespec ts;

    clock_gettime(id, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

uint64_t hth_now_ns(void)
{
    return read_ns(CLOCK_MONOTONIC);
}

uint64_t hth_now_ms(void)
{
    return read_ns(CLOCK_MONOTONIC) / 1000000u;
}

uint64_t hth_wall_ms(void)
{
    return read_ns(CLOCK_REALTIME) / 1000000u;
}

void hth_sleep_ms(uint32_t delay_ms)
{
    struct timespec ts = {.tv_sec = delay_ms / 1000u,
                          .tv_nsec = (long)(delay_ms % 1000u) * 1000000L};

    nanosleep(&ts, NULL);
}

uint64_t hth_thread_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}
