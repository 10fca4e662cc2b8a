/* speeds.h - measured speeds, remembered in the state directory, so that the
 * plan of the same devices is the same plan after every restart. */
#ifndef HTH_COORDINATOR_SPEEDS_H
#define HTH_COORDINATOR_SPEEDS_H

#include <stdint.h>

/* The speed to plan with: the remembered one if the device then had as many
 * threads and measured within a factor of two of now; else now's, which is
 * remembered. state_dir NULL: now's. Never fails: what cannot be written is
 * measured again. One thread. */
double hth_speed_kept(const char *state_dir, const char *device,
                      uint32_t threads, double measured);

#endif
