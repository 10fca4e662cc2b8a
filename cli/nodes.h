/* nodes.h - the devices of a cluster as a table, for people. */
#ifndef HTH_CLI_NODES_H
#define HTH_CLI_NODES_H

#include "net/message.h"

/* State, one line per device, and why where something is wrong. */
void hth_nodes_put(const struct hth_msg_nodes *nodes, struct hth_buf *out);

#endif
