/* cluster_loop.h - what cluster.c (the loop) offers cluster_open.c. */
#ifndef HTH_COORDINATOR_CLUSTER_LOOP_H
#define HTH_COORDINATOR_CLUSTER_LOOP_H

#include "coordinator/cluster_internal.h"

#define QUIET_MS 150u /* for last answers to leave */

int hth__loop_init(struct hth_cluster *c, struct hth_err *err);
int hth__loop_start(struct hth_cluster *c, struct hth_err *err);
/* Tell clients and workers, take nothing more; the loop still runs. */
void hth__loop_quiet(struct hth_cluster *c);
/* End the loop thread; nobody may call back any more. */
void hth__loop_end(struct hth_cluster *c);
/* An address of this machine that other devices can reach. */
void hth__cluster_host(const struct hth_cluster *c, char *dst, size_t size);

#endif
