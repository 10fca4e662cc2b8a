/* keeper.h - keeps a rank's adapters as the coordinator wishes: what is missing
 * is fetched by hash through the store, what is no longer wished is dropped,
 * all beside a rank that computes.
 *
 * Owns: a thread, and a store object of its own over the worker's folder.
 * Threads: all calls from any. An adapter that cannot be had is tried again
 * every second; the log says why. */
#ifndef HTH_WORKER_KEEPER_H
#define HTH_WORKER_KEEPER_H

#include <stdbool.h>
#include <stdint.h>

#include "net/message.h"
#include "worker/adapters.h"
#include "worker/store.h"
#include "worker/uplink.h"

struct hth_keeper;

struct hth_keeper_opts {
    struct hth_uplink *uplink; /* borrowed for life */
    struct hth_store_opts store;
    void (*changed)(void *ctx); /* the number of hth_keeper_has() did */
    void *ctx;
};

HTH_MUST_CHECK int hth_keeper_start(struct hth_keeper **out,
                                    const struct hth_keeper_opts *opts,
                                    struct hth_err *err);
void hth_keeper_stop(struct hth_keeper *k); /* NULL is fine */

/* The list of a LOAD command, which is copied. */
void hth_keeper_wish(struct hth_keeper *k, const struct hth_msg_command *cmd);
/* Whose adapters (NULL: nobody's). Waits until the former ones are let alone.
 * What they hold is found out anew. */
void hth_keeper_serve(struct hth_keeper *k, struct hth_adapters *a);
/* The number of the list that the rank has in full; 0: none. */
uint64_t hth_keeper_has(struct hth_keeper *k);
/* The present list was tried at least once for this rank. */
bool hth_keeper_tried(struct hth_keeper *k);

#endif
