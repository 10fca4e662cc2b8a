/* clock.h - monotonic time. Thread-safe, never fails. */
#ifndef HTH_BASE_CLOCK_H
#define HTH_BASE_CLOCK_H

#include <stdint.h>

uint64_t hth_now_ns(void);    /* monotonic, since an arbitrary start */
uint64_t hth_now_ms(void);    /* the same clock in milliseconds */
uint64_t hth_wall_ms(void);   /* Unix time in milliseconds */
uint64_t hth_thread_ns(void); /* of processor time, the calling thread's */
void hth_sleep_ms(uint32_t delay_ms); /* returns early only on a signal */

/* Tell the CPU that this is a spin loop. */
static inline void hth_cpu_relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

#endif
